"""The heuristic's thresholds before, beside and without a bundle, on both stores."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import redis

from learning.promote import Decline, Declined
from persistence.memory_store import MemoryStore
from persistence.redis_store import RedisStore
from persistence.store import Mode, TableCommand
from qscore.table import ThresholdBook
from qscore.threshold import SEED
from runtime.judge import Judge
from runtime.shelf import Shelf
from runtime.tables import heuristic_table, spelled
from runtime.train import Trainer
from scorer.bundle import Bundle, Unscorable, unpack
from scorer.schema import SCALP
from signals.bucket import Bucket
from signals.errors import Transient
from signals.profile import ThresholdPolicy
from tests.support.loop import KEY, PROFILE, PROFILES, START_MS, STEP_MS, World

Patch = pytest.MonkeyPatch


@pytest.fixture(params=["memory", "redis"])
def world(request: pytest.FixtureRequest, redis_client: redis.Redis, namespace: str) -> World:
    return World(MemoryStore(namespace) if request.param == "memory" else RedisStore(redis_client, namespace))


@pytest.fixture
def declining(monkeypatch: Patch) -> None:
    """As on the reference candles: no candidate is ever good enough."""
    said = Declined(Decline.AUC, "AUC 0.41", importance={"impulse_ratio": 1.0})
    monkeypatch.setattr("runtime.train.fit_candidate", lambda *_, **__: said)


def facts(world: World, kind: str) -> list[str]:
    if isinstance(world.store, MemoryStore):
        return [fact.id for fact in world.store.facts if fact.kind == kind]
    assert isinstance(world.store, RedisStore)
    entries: Any = world.store.client.xrange(world.store.keys.outbox())
    return [entry[b"id"].decode() for _, entry in entries if entry[b"kind"] == kind.encode()]


def shown(world: World) -> ThresholdBook:
    text = world.store.dump()[world.store.keys.qcal("scalp", "thr")]  # type: ignore[attr-defined]
    return ThresholdBook.from_json(json.loads(str(text)))


@pytest.mark.usefixtures("declining")
def test_a_gate_whose_candidates_are_all_declined_learns_its_thresholds(world: World) -> None:
    world.live(49)
    assert (world.trainer.due(), world.ask(0.9)["threshold_source"]) == ([], "static")
    world.candle(won=True)
    assert world.trainer.due() == ["scalp"]
    trained = world.trainer.answer("scalp")
    assert trained is not None
    assert (trained.reason, trained.count) == ("LEARN_AUC", 50)
    assert world.trainer.due() == []
    # The judge that has been running all the time.
    answer = world.ask(0.9)
    assert (answer["score_source"], answer["bundle"]) == ("heuristic", None)
    assert answer["threshold_source"] in ("qscore", "ev")
    assert 60.0 <= float(str(answer["threshold"])) <= 95.0
    (table,) = shown(world).tables
    assert (table.records, table.score_source) == (50, "heuristic")
    assert table.overall is not None
    assert (table.overall.wins + table.overall.losses, facts(world, "table")) == (50, ["table:scalp:50"])
    world.candle(won=False)
    world.live(50)
    assert world.trainer.answer("scalp") is not None
    assert shown(world).tables[0].records == 101
    assert facts(world, "table") == ["table:scalp:50", "table:scalp:101"]


def test_thresholds_are_owed_at_fifty_whatever_the_boundary(world: World) -> None:
    # The first training of a trend comes at 30 and the next at 80; the table does not wait for it.
    world.live(30)
    number = world.store.begin_training("scalp", now_ms=world.store.now_ms())
    world.store.settle("scalp", number, reason="X", detail="", next_at=80, now_ms=world.store.now_ms())
    world.live(19)
    assert world.trainer.due() == []
    world.live(1)
    assert world.trainer.due() == ["scalp"]
    # A process killed before its commit has lost nothing: another one finds the same debt in the state.
    again = Trainer(world.store, PROFILES, KEY)
    assert again.due() == ["scalp"]
    assert again.answer("scalp") is None
    assert (again.due(), facts(world, "training")) == ([], ["training:scalp:1"])
    assert world.ask(0.9)["threshold_source"] in ("qscore", "ev")


@pytest.mark.usefixtures("declining")
def test_killed_between_the_table_and_the_end_of_the_attempt(world: World, monkeypatch: Patch) -> None:
    world.live(50)

    def killed(*_: object, **__: object) -> None:
        raise Transient("Redis is gone")

    with monkeypatch.context() as cut:
        cut.setattr(type(world.store), "settle", killed)
        with pytest.raises(Transient):
            world.trainer.answer("scalp")
    # The table is in force and the attempt is owed: both are asked for again, and only one is new.
    assert world.ask(0.9)["threshold_source"] in ("qscore", "ev")
    assert world.trainer.due() == ["scalp"]
    trained = world.trainer.answer("scalp")
    assert trained is not None
    assert (trained.attempt, trained.reason) == (2, "LEARN_AUC")
    assert (world.trainer.due(), facts(world, "table")) == ([], ["table:scalp:50"])


def test_killed_before_the_table(world: World, monkeypatch: Patch) -> None:
    world.live(50)

    def killed(*_: object, **__: object) -> None:
        raise Transient("Redis is gone")

    with monkeypatch.context() as cut:
        cut.setattr(type(world.store), "set_table", killed)
        with pytest.raises(Transient):
            world.trainer.answer("scalp")
    assert (facts(world, "table"), world.trainer.due()) == ([], ["scalp"])
    assert world.trainer.answer("scalp") is not None
    assert facts(world, "table") == ["table:scalp:50"]


def test_a_failing_attempt_still_learns_the_table(world: World, monkeypatch: Patch) -> None:
    world.live(60)

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no memory left")

    monkeypatch.setattr("runtime.train.fit_candidate", broken)
    trained = world.trainer.answer("scalp")
    assert trained is not None
    assert trained.reason == "LEARN_FAILED"
    assert world.store.training("scalp").table_count == 60
    body = json.loads(world.store.attempts("scalp")[str(trained.attempt)])
    assert (body["reason"], body["importance"], body["count"]) == ("LEARN_FAILED", None, 60)
    assert sum(n for name, (n, _, _) in body["patterns"].items() if name.startswith("session")) == 60


def test_records_nobody_can_read_leave_an_empty_table_and_no_endless_debt(world: World, monkeypatch: Patch) -> None:
    world.live(50)

    def unreadable(*_: object) -> None:
        raise ValueError("a row no close wrote")

    with monkeypatch.context() as bad:
        bad.setattr(world.trainer, "outcomes", unreadable)
        trained = world.trainer.answer("scalp")
        assert trained is not None
        assert trained.reason == "LEARN_FAILED"
        assert world.trainer.due() == []
    assert world.ask(0.9)["threshold_source"] == "static"
    world.candle(won=True)
    assert world.trainer.attempt("scalp").address
    assert shown(world).table("heuristic", 0.0).records == 51


def test_a_row_in_no_market_situation_fails_the_attempt_and_ends_it(world: World) -> None:
    world.live(60)
    rows, laid = world.store.trades("scalp")
    alien = json.dumps(json.loads(rows[0]) | {"bucket": "moon|low"})

    def with_an_alien(strategy: str) -> tuple[Sequence[str], Mapping[str, str]]:
        return [alien, *rows[1:]], laid

    world.store.trades = with_an_alien  # type: ignore[method-assign]
    trained = world.trainer.answer("scalp")
    assert trained is not None
    assert (trained.reason, world.trainer.due()) == ("LEARN_FAILED", [])
    assert json.loads(world.store.attempts("scalp")["1"])["patterns"] == {}
    assert world.store.training("scalp").table_count == 60
    assert world.ask(0.9)["threshold_source"] == "static"


def test_one_rule_for_corrections_and_kinds(world: World) -> None:
    world.live(55)
    rows, _ = world.store.trades("scalp")
    world.trainer.answer("scalp")
    before = shown(world).table("heuristic", 0.0)
    # Unteaching a row and turning another one around, as corrections do.
    flipped = json.loads(rows[1])
    flipped |= {"outcome": "loss" if flipped["outcome"] == "win" else "win", "net_r": -flipped["net_r"]}
    laid = {json.loads(rows[0])["id"]: "", flipped["id"]: json.dumps(flipped)}
    trades = world.store.trades
    world.live(1)
    world.store.trades = lambda strategy: (trades(strategy)[0], laid)  # type: ignore[method-assign]
    world.trainer.attempt("scalp")
    after = shown(world).table("heuristic", 0.0)
    assert (before.records, after.records) == (55, 55)
    assert before.as_json() != after.as_json()
    assert sum(example.won for example in world.trainer.examples("scalp")) == (
        after.overall.wins if after.overall else 0
    )


# --- who is compared with it


@pytest.fixture
def learned(world: World) -> World:
    world.live(140)
    assert world.trainer.attempt("scalp").address
    return world


def rules(world: World) -> float:
    """The heuristic's threshold for the next signal."""
    probe = world.ask(0.9)
    world.candle(won=True)
    return shown(world).table("heuristic", 0.0).lookup(Bucket.parse(str(probe["bucket"])), SEED, 70.0).value


def test_ml_off_and_a_degraded_model_meet_the_heuristics_own_table(learned: World, monkeypatch: Patch) -> None:
    expected = rules(learned)
    with monkeypatch.context() as bad:
        bad.setattr(Bundle, "score", lambda *_: Unscorable("the heads said nan"))
        degraded = learned.ask(0.9)
    assert (degraded["action"], degraded["threshold"]) == ("phantom", expected)
    assert degraded["threshold_source"] in ("qscore", "ev")
    assert "MODEL_DEGRADED" in degraded["reasons"]  # type: ignore[operator]
    learned.candle(won=True)

    # A heuristic that would pass its table may execute with the model off, and only then.
    store = learned.store
    store.set_mode(Mode.ML_OFF, actor="me", reason="drill", now_ms=store.now_ms())
    good = {"impulse_ratio": 1.2, "vwap_dist_atr": 0.2, "bb_width_rank": 0.9, "volume_ratio": 1.5}
    answer = learned.ask(1.2, features=learned.features(1.2) | good)
    passes = expected <= 85.0
    assert answer["action"] == ("execute" if passes else "phantom")


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda text: text[:-5], id="truncated"),
        pytest.param(lambda text: text.replace('"records":50', '"records":51'), id="altered"),
        pytest.param(lambda text: text.replace('"heuristic"', '"ensemble"'), id="for other scores"),
        pytest.param(lambda _: None, id="gone"),
        pytest.param(lambda _: "[" * 5_000, id="nested"),
    ],
)
def test_thresholds_that_cannot_be_read_let_nothing_through(
    redis_client: redis.Redis, namespace: str, spoil: Callable[[str], str | None], monkeypatch: Patch
) -> None:
    world = World(RedisStore(redis_client, namespace))
    world.live(50)
    monkeypatch.setattr("runtime.train.fit_candidate", lambda *_, **__: Declined(Decline.AUC, ""))
    world.trainer.answer("scalp")
    address = world.store.training("scalp").table
    assert address is not None
    text = world.store.table("scalp", address)
    assert text is not None
    key, bad = world.store.keys.tables("scalp"), spoil(text)  # type: ignore[attr-defined]
    if bad is None:
        redis_client.hdel(key, address)
    else:
        redis_client.hset(key, address, bad)
    good = {"impulse_ratio": 1.2, "vwap_dist_atr": 0.2, "bb_width_rank": 0.9, "volume_ratio": 1.5}
    for _ in range(2):
        answer = world.ask(1.2, features=world.features(1.2) | good)
        assert (answer["score"], answer["action"]) == (85, "phantom")
        assert "MODEL_DEGRADED" in answer["reasons"]  # type: ignore[operator]
        world.candle(won=True)
    assert list(world.store.refusals("scalp")) == [f"{address}|TABLE_REFUSED"]
    # The next one heals it, without a restart.
    assert world.store.set_table(_empty(world))
    assert "MODEL_DEGRADED" not in world.ask(0.9)["reasons"]  # type: ignore[operator]


def _empty(world: World) -> TableCommand:
    address, text = spelled(heuristic_table((), ThresholdPolicy()))
    return TableCommand(strategy="scalp", count=52, address=address, table=text, now_ms=world.store.now_ms())


def test_tables_are_fetched_when_they_change_and_never_else(world: World, monkeypatch: Patch) -> None:
    asked: list[str] = []
    fetch = type(world.store).table

    def counted(store: Any, strategy: str, address: str) -> str | None:
        asked.append(address)
        found = fetch(store, strategy, address)
        return None if found is None else str(found)

    monkeypatch.setattr(type(world.store), "table", counted)
    world.live(60)
    assert asked == []
    world.trainer.answer("scalp")
    # The trainer has looked up what it may only move with reason; who serves looks once.
    asked.clear()
    world.live(10)
    assert asked == [world.store.training("scalp").table]
    world.trainer.attempt("scalp")
    asked.clear()
    world.live(10)
    assert asked == [world.store.training("scalp").table]


@pytest.mark.parametrize("published", [False, True])
def test_a_decision_stays_at_four_round_trips(
    redis_client: redis.Redis, namespace: str, monkeypatch: Patch, *, published: bool
) -> None:
    world = World(RedisStore(redis_client, namespace))
    world.live(110)
    if not published:
        monkeypatch.setattr("runtime.train.fit_candidate", lambda *_, **__: Declined(Decline.AUC, ""))
    assert (world.trainer.attempt("scalp").address != "") == published
    world.live(3)
    ts = START_MS + world.index * STEP_MS
    world.store.advance_clock(ts)
    payload = {
        "id": "counted", "strategy": "scalp", "symbol": "BTCUSDT", "side": "long", "timeframe": "5m",
        "entry": 100.0, "tp": 102.0, "sl": 99.0, "ts": ts, "features": world.features(0.9),
    }  # fmt: skip
    sent: list[object] = []
    send: Any = redis.connection.AbstractConnection.send_packed_command

    def counted(connection: Any, command: Any, *args: Any, **options: Any) -> None:
        sent.append(command)
        send(connection, command, *args, **options)

    monkeypatch.setattr(redis.connection.AbstractConnection, "send_packed_command", counted)
    answer = world.judge.judge(payload)
    # The volatility history, the pointers, the clock, the commit.
    assert len(sent) == 4
    assert answer.threshold_source in ("qscore", "ev")


# --- other blends


def judge(world: World, **changes: Any) -> Judge:
    profile = replace(PROFILE, **changes)
    return Judge(world.store, {"scalp": profile}, watch=lambda: 0.0, shelf=Shelf(world.store, KEY))


def test_another_blend_learns_on_load_what_the_trainer_would_have(learned: World) -> None:
    address = learned.store.training("scalp").bundle
    assert address is not None
    data = learned.store.bundle(address)
    assert data is not None
    shelf = Shelf(learned.store, KEY)
    served = shelf.serve(replace(PROFILE, blend=0.3), learned.store.training("scalp"))
    assert served.champion is not None
    twin = World(MemoryStore("twin"))
    twin.trainer.profiles = {"scalp": replace(PROFILE, blend=0.3)}
    twin.live(140)
    other = twin.trainer.attempt("scalp").address
    own = unpack(twin.store.bundle(other) or b"", KEY, strategy="scalp", schema_hash=SCALP.hash)
    book = ThresholdBook.from_json(own.parts.thresholds)
    assert served.champion.table.records > 100
    assert served.champion.table == book.table(own.source, 0.3)
    learned.judge = judge(learned, blend=0.3)
    answer = learned.ask(0.9)
    assert answer["threshold_source"] in ("qscore", "ev")
    # Learned once: the same shelf hands out the same object.
    again = shelf.serve(replace(PROFILE, blend=0.3), learned.store.training("scalp"))
    assert again.champion is served.champion


def test_rules_only_compares_the_rules_number_under_the_rules_clamp(learned: World) -> None:
    learned.judge = judge(learned, blend=0.0)
    good = {"impulse_ratio": 1.2, "vwap_dist_atr": 0.2, "bb_width_rank": 0.9, "volume_ratio": 1.5}
    numbers = learned.features(1.2) | good
    answer = learned.ask(1.2, features=numbers)
    decision = learned.store.decision(str(answer["signal_id"]))
    assert decision is not None
    body = json.loads(decision.body)
    # The model is asked and recorded, and has no part in the number that is compared.
    assert (body["score"], body["heuristic_score"]) == (85, 85)
    assert body["model_score"] is not None
    assert answer["bundle"] == learned.store.training("scalp").bundle
    assert answer["threshold_source"] in ("qscore", "ev")
    assert 60.0 <= float(str(answer["threshold"])) <= 95.0
    learned.candle(won=True)
    # The full blend of the same signal has no floor: break-even of 2 R is one in three.
    learned.judge = judge(learned, blend=1.0)
    assert float(str(learned.ask(1.2, features=numbers)["threshold"])) < 60.0
