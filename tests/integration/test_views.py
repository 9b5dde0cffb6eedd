"""Founding names as JSON: put together from real keys, worked by hand."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import redis

from decision.decide import Action
from persistence.redis_store import RedisStore
from persistence.store import RETENTION_MS, ClockKind, CloseCommand, CloseHow, DecideCommand, StateMissing
from persistence.views import view
from signals.reasons import Reason

AT = 1_700_000_000_000


@pytest.fixture
def store(redis_client: redis.Redis, namespace: str) -> RedisStore:
    store = RedisStore(redis_client, namespace)
    store.create(ClockKind.DATA, now_ms=AT)
    store.advance_clock(AT)
    return store


def decide(store: RedisStore, signal_id: str, *, execute: bool = False, **changes: str) -> None:
    store.decide(
        DecideCommand(
            now_ms=AT,
            signal_id=signal_id,
            fingerprint="f" * 64,
            want=Action.EXECUTE if execute else Action.PHANTOM,
            reasons=(Reason.SCORE_PASSED if execute else Reason.SCORE_BELOW_THRESHOLD,),
            body="{}",
            strategy="trend",
            symbol=changes.get("symbol", "BTCUSDT"),
            prefix=changes.get("prefix", "phantom"),
            signal_ms=AT,
            max_age_ms=1_000,
            ttl_ms=10_000,
            deadline_ms=AT + 1_000,
            terms='{"side":"long","entry":100,"sl":98,"tp":104}',
            track='{"best":100}',
        )
    )
    if execute:
        store.claim(signal_id, "desk", now_ms=AT)


def close(
    store: RedisStore, signal_id: str, body: str, *, how: CloseHow = CloseHow.SIMULATION, at_ms: int = AT
) -> None:
    story = json.loads(body)
    store.close(
        CloseCommand(
            now_ms=at_ms,
            signal_id=signal_id,
            prefix="phantom",
            strategy="trend",
            symbol="BTCUSDT",
            version=1,
            how=how,
            outcome=story["outcome"],
            result=body,
            track="{}",
            learned=True,
            win=story["outcome"] == "win",
            report_id="first" if how is CloseHow.REPORT else "",
        )
    )


def test_active_positions_by_symbol(store: RedisStore) -> None:
    decide(store, "a")
    decide(store, "b", execute=True)
    decide(store, "c", symbol="ETHUSDT")
    decide(store, "d", prefix="scalp_phantom")
    shown = view(store, "phantom:active")
    assert isinstance(shown, dict)
    assert {symbol: [item["id"] for item in items] for symbol, items in shown.items()} == {
        "BTCUSDT": ["a", "b"],
        "ETHUSDT": ["c"],
    }
    assert shown["BTCUSDT"][1] == {
        "id": "b",
        "strategy": "trend",
        "symbol": "BTCUSDT",
        "side": "long",
        "entry": 100,
        "sl": 98,
        "tp": 104,
        "was_executed": True,
        "claimed_by": "desk",
        "unclaimed": False,
        "opened_at": AT,
        "version": 1,
        "track": {"best": 100},
    }
    scalp = view(store, "scalp_phantom:active")
    assert isinstance(scalp, dict)
    assert [item["id"] for item in scalp["BTCUSDT"]] == ["d"]
    json.dumps(shown, allow_nan=False)


def test_completed_positions_oldest_first_with_corrections(store: RedisStore, closed_body: Callable[..., str]) -> None:
    decide(store, "a", execute=True)
    decide(store, "b")
    close(store, "b", closed_body("b"), at_ms=AT + 5)
    close(store, "a", closed_body("a", kind="executed"), how=CloseHow.REPORT, at_ms=AT + 9)
    position = store.position("a")
    assert position is not None
    store.correct(position, "second", closed_body("a", won=False, kind="executed"), learned=True, now_ms=AT + 10)
    shown = view(store, "phantom:completed")
    assert isinstance(shown, list)
    told = [(item["id"], item["outcome"], item["was_executed"], item["closed_at"], item["corrected"]) for item in shown]
    assert told == [("b", "win", False, AT + 5, False), ("a", "loss", True, AT + 9, True)]
    assert shown[0]["net_r"] == json.loads(closed_body())["net_r"]
    assert view(store, "phantom:active") == {}
    store.advance_clock(AT + 6 + RETENTION_MS)
    later = view(store, "phantom:completed")
    assert isinstance(later, list)
    assert [item["id"] for item in later] == ["a"]


# Win of 1.95 R and 3.9 %; losses of -1.05 R and -2.1 % (10 bp of 100 are 0.05 R where R is 2).
def test_buckets_with_a_correction_and_an_unlearned_row(store: RedisStore, closed_body: Callable[..., str]) -> None:
    for name in "abcd":
        decide(store, name, execute=name in "cd")
    other = {"bucket": "asian|high"}
    close(store, "a", closed_body("a", **other))
    close(store, "b", closed_body("b", won=False, net_r=-2.05))
    close(store, "c", closed_body("c", kind="executed"), how=CloseHow.REPORT)
    close(store, "d", closed_body("d", won=False, **other), how=CloseHow.REPORT)
    for name, learned in (("c", True), ("d", False)):
        position = store.position(name)
        assert position is not None
        store.correct(position, "second", closed_body(name, won=False), learned=learned, now_ms=AT)
    assert view(store, "ml:trend:ev_buckets") == {
        "asian|high": {
            "wins": 1,
            "losses": 0,
            "average_win_r": pytest.approx(1.95),
            "average_loss_r": None,
            "average_win_percent": pytest.approx(3.9),
            "average_loss_percent": None,
        },
        "us|normal": {
            "wins": 0,
            "losses": 2,
            "average_win_r": None,
            "average_loss_r": pytest.approx(-1.55),
            "average_win_percent": None,
            "average_loss_percent": pytest.approx(-2.1),
        },
    }
    assert view(store, "ml:scalp:ev_buckets") == {}
    assert view(store, "phantom:wr:trend") == [0, 1, 0, 1]


def test_plain_keys(store: RedisStore, namespace: str) -> None:
    decide(store, "a")
    store.register("trend", '{"x":[1]}', "72.5", now_ms=AT)
    assert view(store, "ml:trend:threshold") == 72.5
    assert view(store, "ml:trend:completed_trades") == 0
    assert view(store, "qcal:trend:thr") == {}
    assert view(store, "ml:trend:profile") == {"settings": {"x": [1]}, "at": AT}
    assert view(store, "phantom:blocked:20231114") == {"SCORE_BELOW_THRESHOLD": 1}
    assert view(store, f"{namespace}:phantom:blocked:20231114") == {"SCORE_BELOW_THRESHOLD": 1}
    assert view(store, "phantom:open") == {"phantom:pos:a": 4}
    assert view(store, "ml:nothing") is None
    outbox = view(store, "ml:outbox")
    assert isinstance(outbox, list)
    assert [item["id"] for item in outbox] == ["created:1", "control:1", "decision:a", "opened:a", "profile:trend:5"]


def test_text_that_only_looks_like_a_number_stays_text(store: RedisStore) -> None:
    words = {"a": "1e5", "b": "007", "c": "-0", "d": "{oops", "e": "0.5", "f": "-12", "g": "", "h": "9" * 30}
    for name, word in words.items():
        store.client.hset(store.keys.profile("x"), name, word)
    assert view(store, "ml:x:profile") == words | {"e": 0.5, "f": -12}


def test_keys_that_are_not_ours(store: RedisStore, namespace: str) -> None:
    store.client.set(f"{namespace}:rq:job", b"x\x9c\xff")
    store.client.sadd(f"{namespace}:rq:workers", "b", "a")
    assert view(store, "rq:job") == "x\\x9c\\xff"
    assert view(store, "rq:workers") == ["a", "b"]


def test_a_namespace_that_is_not_there(redis_client: redis.Redis) -> None:
    with pytest.raises(StateMissing):
        view(RedisStore(redis_client, "nobody"), "phantom:completed")
