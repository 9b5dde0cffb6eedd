"""The following process against a real server: candles of every kind in the stream, restarts, a wiped server."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import redis

from persistence.candle_feed import CandleFeed
from persistence.redis_store import RedisStore
from persistence.store import ClockKind, StateMissing, StoredPosition
from phantom.reach import HORIZON
from runtime.follow import Ended, Follower
from runtime.service import Service
from signals.candle import Candle
from signals.errors import Invalid, Transient
from signals.reasons import Reason
from tests.support.scene import FREE, HOUR, STEP, SYMBOL, T0, bar, payload
from worker import follow
from worker.follow import FollowLoop, candle_from_text, candle_text

PROFILES = {"trend": FREE}
NOTHING, TO_TARGET, TO_STOP = "100 101 99 100", "100 104.5 99.5 104", "100 100.5 97.5 98"


class Process:
    """A namespace with a follower of its own on a real server."""

    def __init__(self, client: redis.Redis, namespace: str, clock: ClockKind = ClockKind.DATA) -> None:
        self.client = client
        self.namespace = namespace
        self.store = RedisStore(client, namespace)
        self.store.create(clock, now_ms=T0)
        self.store.advance_clock(T0)
        self.told: list[Ended] = []
        self.loop = self.new_loop()

    def new_loop(self, **following: Any) -> FollowLoop:
        follower = Follower(self.store, PROFILES, **{"volatility_timeframes": ()} | following)
        feed = CandleFeed(self.client, self.store.keys)
        return FollowLoop(self.store, feed, follower, on_end=self.told.append)

    def open(self, name: str = "s1", *, good: bool = False, claim: bool = False, **changes: Any) -> None:
        answer = Service(self.store, PROFILES).judge(payload(name, good=good or claim, **changes))
        if answer["position_id"] is None:
            raise LookupError(answer["reasons"])
        if claim:
            self.store.claim(name, "engine", now_ms=self.store.now_ms())

    def send(self, candle: Candle, timeframe: str = "5m", symbol: str = SYMBOL) -> str:
        return self.store.feed(symbol, timeframe, candle_text(candle), candle.ts + STEP)

    def position(self, name: str = "s1") -> StoredPosition:
        found = self.store.position(name)
        if found is None:
            raise LookupError(name)
        return found

    def drain(self) -> int:
        taken = 0
        while (now := self.loop.cycle()) > 0:
            taken += now
        return taken

    def raw(self, **fields: bytes | str) -> None:
        self.client.xadd(self.store.keys.candles(), fields)  # type: ignore[arg-type]

    def length(self) -> int:
        return int(self.client.xlen(self.store.keys.candles()))


@pytest.fixture
def process(redis_client: redis.Redis, namespace: str) -> Process:
    return Process(redis_client, namespace)


def test_candles_in_the_stream_move_positions_to_their_end(process: Process) -> None:
    process.open()
    process.open("e", claim=True)
    for place, line in enumerate((NOTHING, "100 103.3 99.5 103", "103 104.5 101 104")):
        process.send(bar(place, line))
    assert process.drain() == 3
    assert {ended.position.signal_id: ended.twin for ended in process.told} == {"s1": False, "e": True}
    result = json.loads(process.position().result or "")
    assert (result["outcome"], result["tp1_hit"], result["exit_ms"]) == ("win", True, T0 + 3 * STEP)
    assert process.loop.cycle() == 0
    # Both are over; where the price goes from their entry is still to be seen.
    assert process.loop.follower.oldest_needed_ms() == T0


def test_a_restart_reads_everything_again_and_ends_nothing_twice(process: Process) -> None:
    process.open()
    process.open("e", claim=True)
    for place, line in enumerate((NOTHING, NOTHING, TO_STOP)):
        process.send(bar(place, line))
    process.drain()
    before = process.store.dump()
    process.loop = process.new_loop()
    assert process.drain() == 3
    assert process.store.dump() == before
    assert len(process.told) == 2


GOOD_TEXT = candle_text(bar(0))
BAD_CANDLES = [
    pytest.param({"candle": "not json"}, "CANDLE_IMPOSSIBLE", id="no JSON"),
    pytest.param({"candle": ""}, "CANDLE_IMPOSSIBLE", id="empty"),
    pytest.param({}, "CANDLE_IMPOSSIBLE", id="no candle at all"),
    pytest.param({"candle": "[" * 100_000}, "CANDLE_IMPOSSIBLE", id="a bomb of brackets"),
    pytest.param({"candle": "{}"}, "CANDLE_IMPOSSIBLE", id="an object"),
    pytest.param({"candle": "7"}, "CANDLE_IMPOSSIBLE", id="a number"),
    pytest.param({"candle": f"[{T0},1,1,1,1]"}, "CANDLE_IMPOSSIBLE", id="too short"),
    pytest.param({"candle": f"[{T0},1,1,1,1,1,1,true]"}, "CANDLE_IMPOSSIBLE", id="too long"),
    pytest.param({"candle": f"[{T0},NaN,101,99,100,1,true]"}, "CANDLE_IMPOSSIBLE", id="NaN"),
    pytest.param({"candle": f"[{T0},100,Infinity,99,100,1,true]"}, "CANDLE_IMPOSSIBLE", id="infinite"),
    pytest.param({"candle": f"[{T0},100,1e999,99,100,1,true]"}, "CANDLE_IMPOSSIBLE", id="overflowing"),
    pytest.param({"candle": f"[{T0},100,{'9' * 400},99,100,1,true]"}, "CANDLE_IMPOSSIBLE", id="400 digits"),
    pytest.param({"candle": f"[{T0},100,{'9' * 5000},99,100,1,true]"}, "CANDLE_IMPOSSIBLE", id="5000 digits"),
    pytest.param({"candle": f"[{T0},100,1e300,99,100,1,true]"}, "CANDLE_IMPOSSIBLE", id="a price beyond reason"),
    pytest.param({"candle": f"[{T0},100,99,101,100,1,true]"}, "CANDLE_IMPOSSIBLE", id="high below low"),
    pytest.param({"candle": f"[{T0},102,101,99,100,1,true]"}, "CANDLE_IMPOSSIBLE", id="open above high"),
    pytest.param({"candle": f"[{T0},0,101,0,100,1,true]"}, "CANDLE_IMPOSSIBLE", id="price zero"),
    pytest.param({"candle": f"[{T0},-1,101,-2,100,1,true]"}, "CANDLE_IMPOSSIBLE", id="negative price"),
    pytest.param({"candle": f"[{T0},100,101,99,100,-1,true]"}, "CANDLE_IMPOSSIBLE", id="negative volume"),
    pytest.param({"candle": f'[{T0},"100",101,99,100,1,true]'}, "CANDLE_IMPOSSIBLE", id="price as text"),
    pytest.param({"candle": f"[{T0},true,1,1,1,1,true]"}, "CANDLE_IMPOSSIBLE", id="price true"),
    pytest.param({"candle": f"[{T0},null,1,1,1,1,true]"}, "CANDLE_IMPOSSIBLE", id="price null"),
    pytest.param({"candle": "[true,100,101,99,100,1,true]"}, "CANDLE_IMPOSSIBLE", id="time true"),
    pytest.param({"candle": f"[{T0}.5,100,101,99,100,1,true]"}, "CANDLE_IMPOSSIBLE", id="time with a fraction"),
    pytest.param({"candle": f'["{T0}",100,101,99,100,1,true]'}, "CANDLE_IMPOSSIBLE", id="time as text"),
    pytest.param({"candle": f"[{T0 * 1000},100,101,99,100,1,true]"}, "CANDLE_IMPOSSIBLE", id="microseconds"),
    pytest.param({"candle": "[-300000,100,101,99,100,1,true]"}, "CANDLE_IMPOSSIBLE", id="before 1970"),
    pytest.param({"candle": f"[{T0},100,101,99,100,1,1]"}, "CANDLE_IMPOSSIBLE", id="final a number"),
    pytest.param({"candle": b"\xff\xfe\x00"}, "CANDLE_IMPOSSIBLE", id="bytes of no text"),
    pytest.param({"symbol": "btc usdt", "candle": GOOD_TEXT}, "FIELD_FORMAT", id="symbol"),
    pytest.param({"symbol": "A|B\r\n" * 50, "candle": GOOD_TEXT}, "FIELD_FORMAT", id="symbol of two lines"),
    pytest.param({"symbol": b"\xff", "candle": GOOD_TEXT}, "FIELD_FORMAT", id="symbol of no text"),
    pytest.param({"timeframe": "5 minutes", "candle": GOOD_TEXT}, "FIELD_FORMAT", id="timeframe"),
    pytest.param({"timeframe": "0m", "candle": GOOD_TEXT}, "FIELD_FORMAT", id="timeframe zero"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "reason"), BAD_CANDLES)
def test_a_bad_candle_is_counted_and_stops_nothing(process: Process, fields: dict[str, Any], reason: str) -> None:
    process.open()
    process.raw(**{"symbol": SYMBOL, "timeframe": "5m"} | fields)
    process.send(bar(0, TO_TARGET))
    assert process.drain() == 2
    assert [ended.closed.outcome.value for ended in process.told] == ["win"]
    ((name, count),) = ((n, c) for n, c in process.store.candle_counts().items() if n.endswith(reason))
    assert count == 1
    # What is not a symbol or a timeframe never becomes part of a name.
    assert name.split("|")[:2] in ([SYMBOL, "5m"], ["?", "5m"], ["?", "?"])


def test_an_entry_whose_names_are_no_text_stops_nothing(process: Process) -> None:
    process.open()
    process.client.xadd(process.store.keys.candles(), {b"\xff\xfe": b"\xff"})
    process.send(bar(0, TO_TARGET))
    assert process.drain() == 2
    assert len(process.told) == 1


@pytest.mark.parametrize("candle", [bar(0), bar(3, "1.5 2.25 1 1.75"), bar(1, final=False)])
def test_a_candle_travels_unchanged(candle: Candle) -> None:
    assert candle_from_text(candle_text(candle)) == candle
    with pytest.raises(Invalid):
        candle_from_text(candle_text(candle)[:-1])


def test_late_and_duplicate_candles_are_counted_under_their_series(process: Process) -> None:
    for place in (0, 1, 2, 1, 2):
        process.send(bar(place))
    process.send(bar(2, "100 102 99 100"))
    process.send(bar(3, final=False))
    process.drain()
    assert process.store.candle_counts() == {
        f"{SYMBOL}|5m|CANDLE_LATE": 1,
        f"{SYMBOL}|5m|CANDLE_DUPLICATE": 1,
        f"{SYMBOL}|5m|CANDLE_CORRECTED": 1,
        f"{SYMBOL}|5m|CANDLE_UNFINISHED": 1,
    }


# --- a live clock


@pytest.fixture
def live(redis_client: redis.Redis, namespace: str) -> Process:
    return Process(redis_client, namespace, ClockKind.LIVE)


def test_a_candle_from_the_future_makes_no_honest_one_late(live: Process) -> None:
    now = live.store.now_ms()
    opened = now - now % STEP - 10 * STEP
    live.open(ts=now)
    live.send(Candle(opened + 500 * STEP, 1.0, 1.0, 1.0, 1.0))
    live.send(Candle(opened, 100.0, 101.0, 99.0, 100.0))
    live.send(Candle(opened + STEP, 100.0, 101.0, 99.0, 100.0))
    assert live.drain() == 3
    assert live.store.candle_counts() == {f"{SYMBOL}|5m|CANDLE_UNFINISHED": 1}
    assert live.position().open


def test_time_alone_lapses_a_claim_without_any_candle(live: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROFILES, "trend", replace(FREE, decision_ttl_ms=1))
    live.open(good=True, ts=live.store.now_ms())
    monkeypatch.setattr(follow, "IDLE_SWEEP_S", 0.0)
    while live.position().kind.value == "executed":
        assert live.loop.cycle() == 0
    assert live.position().unclaimed


def test_after_an_outage_the_waiting_candles_come_first(live: Process) -> None:
    # Midnight of 2024 is years ago for a live clock: without its candles the position would be given up at once.
    live.open(ts=live.store.now_ms())
    key = live.store.keys.position("phantom", "s1")
    old = {name: str(T0 + more) for name, more in (("entry_ms", 0), ("deadline", 36 * HOUR))}
    terms = json.loads(live.position().terms) | {"entry_ms": T0, "deadline_ms": T0 + 36 * HOUR}
    track = json.loads(live.position().track) | {"last_ts": T0 - 1}
    old |= {"body": json.dumps(terms), "track": json.dumps(track)}
    live.client.hset(key, mapping=old)  # type: ignore[arg-type]
    live.client.zadd(live.store.keys.due(), {live.store.keys.member("phantom", "s1"): T0 + 36 * HOUR})
    for place, line in enumerate((NOTHING, NOTHING, TO_TARGET)):
        live.send(bar(place, line))
    assert live.loop.cycle() == 3
    assert live.position().outcome == "win"


# --- what goes wrong with the server


def stop_when(condition: Callable[[], bool], most: int = 200) -> Callable[[], bool]:
    turns = iter(range(most))

    def stop() -> bool:
        return condition() or next(turns, None) is None

    return stop


def test_a_connection_lost_in_the_middle_of_a_candle_is_made_up_for(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "pause", lambda _seconds: None)
    for name in "abc":
        process.open(name)
    close, left = process.store.close, [2]

    def fails_once(command: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise Transient("connection reset")
        return close(command)

    monkeypatch.setattr(process.store, "close", fails_once)
    for candle in (bar(0, TO_STOP), bar(1), bar(2)):
        process.send(candle)
    process.loop.run(stop_when(lambda: process.loop.feed.followed_to() == process.loop._cursor != "0-0"))
    assert [ended.position.signal_id for ended in process.told] == ["a", "b", "c"]
    assert {process.position(name).outcome for name in "abc"} == {"loss"}
    assert process.store.candle_counts() == {}


def test_a_wiped_server_is_noticed_and_following_begins_again(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "IDLE_SWEEP_S", 0.0)
    for name in "abcdef":
        process.open(name)
    process.send(bar(0))
    process.drain()
    process.client.flushall()
    with pytest.raises(StateMissing):
        process.loop.cycle()
    fresh = Process(process.client, process.namespace)
    # The new namespace counts its facts from one again: fewer than the follower has seen.
    fresh.open("new")
    for candle in (bar(0), bar(1, TO_TARGET)):
        fresh.send(candle)
    process.drain()
    assert [ended.position.signal_id for ended in process.told] == ["new"]
    assert fresh.position("new").outcome == "win"


def test_a_server_that_went_back_is_noticed_after_a_failure(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "pause", lambda _seconds: None)
    for name in "abcdef":
        process.open(name)
    places = [process.send(bar(place)) for place in range(3)]
    process.drain()
    following, seen = process.store.following, list[int]()

    def noted(symbol: str, after_seq: int) -> Any:
        seen.append(after_seq)
        return following(symbol, after_seq)

    monkeypatch.setattr(process.store, "following", noted)
    process.loop.feed.mark(places[0])
    process.loop.cycle()
    assert seen == []  # another loop may be behind us: without a failure that means nothing
    read, lost = process.loop.feed.read, iter([True])

    def breaks_once(*words: Any, **named: Any) -> Any:
        if next(lost, False):
            raise StateMissing("loading")
        return read(*words, **named)

    monkeypatch.setattr(process.loop.feed, "read", breaks_once)
    process.loop.run(stop_when(lambda: len(seen) == 3))
    assert seen[0] == 0
    assert process.loop._cursor == places[2]


def test_what_passing_does_not_explain_is_loud(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(process.loop.follower, "candle", broken)
    process.send(bar(0))
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        process.loop.run(lambda: False)


# --- trimming


def test_trimming_keeps_what_a_restart_needs(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "TRIM_EVERY", 20)
    process.loop = process.new_loop(checkpoint_every=10)
    for place in range(200):
        process.send(bar(place))
        if place == 99:
            process.drain()
            assert process.length() < 60  # nothing is followed: only a margin is kept
            process.open(ts=T0 + 100 * STEP)
    process.drain()
    kept = process.length()
    assert 64 < kept < 140
    stored = json.loads(process.position().track)
    first = process.loop.feed.read("0-0", count=1, block_ms=0)[0]
    assert json.loads(first.candle)[0] < stored["last_ts"] - 60 * STEP
    process.loop = process.new_loop(checkpoint_every=10)
    process.send(bar(200, TO_TARGET))
    assert process.drain() == kept + 1
    result = json.loads(process.position().result or "")
    assert (result["outcome"], result["candles"]) == ("win", 101)


def test_a_position_that_is_not_saved_keeps_its_candles(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "TRIM_EVERY", 20)
    process.open()
    process.loop = process.new_loop(checkpoint_every=10_000)
    for place in range(150):
        process.send(bar(place))
    process.drain()
    assert process.length() == 150
    process.loop = process.new_loop()
    process.send(bar(150, TO_STOP))
    process.drain()
    assert json.loads(process.position().result or "")["candles"] == 151


def test_reason_codes_of_the_stream_are_those_of_the_house(process: Process) -> None:
    process.raw(symbol=SYMBOL, timeframe="5m", candle="?")
    process.drain()
    assert {Reason(name.rpartition("|")[2]) for name in process.store.candle_counts()} == {Reason.CANDLE_IMPOSSIBLE}


def test_a_turn_that_took_candles_is_followed_at_once_by_the_next(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(follow, "pause", pauses.append)
    for place in range(6):
        process.send(bar(place))
    candle, calls = process.loop.follower.candle, iter(range(100))

    def every_other_breaks(*words: Any) -> Any:
        if next(calls) % 2:
            raise Transient("connection reset")
        return candle(*words)

    monkeypatch.setattr(process.loop.follower, "candle", every_other_breaks)
    process.loop.run(stop_when(lambda: process.loop._cursor == process.loop.feed.followed_to() != "0-0"))
    # Each turn takes one candle and then breaks: with doubling pauses that would be seconds.
    assert next(calls) >= 11
    assert pauses == []


def test_a_path_outlives_its_position_and_a_restart(process: Process) -> None:
    process.open()
    lines = [NOTHING, TO_STOP, *["98 104.5 98 104"], *[NOTHING] * (HORIZON - 3)]
    for place, line in enumerate(lines[:50]):
        process.send(bar(place, line))
    process.drain()
    assert not process.position().open
    process.loop = process.new_loop()
    for place, line in enumerate(lines[50:], start=50):
        process.send(bar(place, line))
    process.drain()
    (told,) = [json.loads(row) for row in process.store.paths("trend")]
    assert (told["id"], told["candles"], told["with_at"], told["against_at"]) == ("s1", HORIZON, [3, 3], [2, 0])
    assert process.store.awaiting_path(SYMBOL) == []
    assert process.loop.follower.oldest_needed_ms() is None
    before = process.store.dump()
    process.loop = process.new_loop()
    process.drain()
    assert process.store.dump() == before


def test_a_path_whose_candles_are_gone_is_unknown_and_counted(process: Process) -> None:
    process.open()
    for place in range(50):
        process.send(bar(place, TO_STOP if place == 1 else NOTHING))
    process.drain()
    process.client.xtrim(process.store.keys.candles(), maxlen=0)
    process.loop = process.new_loop()
    for place in range(50, HORIZON + 1):
        process.send(bar(place))
    process.drain()
    assert process.store.paths("trend") == []
    assert process.store.metrics("trend")["path|unknown|n"] == 1
    assert json.loads(process.position().path or "")["candles"] == HORIZON - 50
