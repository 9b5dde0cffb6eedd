"""What the use cases give the breakers: latencies, slips, candles seen, a signal's confidence; and the silent feed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from decision.decide import Action
from lab.replay import Replay, payload_of
from persistence.breakers import LARGEST_LATENCY_US, LARGEST_SLIP_MICRO
from persistence.memory_store import MemoryStore
from persistence.store import ClockKind, DecideCommand, DecideReply
from runtime.judge import Judge
from signals.breaker import NO_BREAKERS, Thresholds
from signals.errors import Refusal
from signals.parse import parse_signal
from signals.profile import DEFAULT_PROFILES, TREND
from signals.reasons import Reason
from signals.signal import Signal
from tests.support.scene import FREE, HOUR, STEP, T0, Scene, bar, payload, short

STALE = replace(NO_BREAKERS, stale_periods=3)


def reasons(scene: Scene, name: str, **changes: Any) -> tuple[Action, set[Reason]]:
    answer = scene.ask(payload(name, **changes))
    told = {reason for reason in answer.reasons if reason.name.startswith(("BREAKER", "DATA"))}
    return answer.action, told


# --- the silent feed


def test_a_silent_feed_is_flagged_at_its_limit_and_not_before() -> None:
    scene = Scene(live=True)
    scene.store.configure_breakers(STALE, now_ms=T0)
    scene.memory.wall_ms = T0 + STEP
    assert reasons(scene, "never", ts=T0 + STEP)[1] == {Reason.DATA_STALE_FEED, Reason.DATA_STALE_BREAKERS}
    scene.play("100 101 99 100")
    assert reasons(scene, "fresh", ts=T0 + STEP) == (Action.EXECUTE, set())
    limit = T0 + STEP + 3 * STEP
    scene.pass_time(limit)
    assert reasons(scene, "last", ts=limit) == (Action.EXECUTE, set())
    assert not any("feed" in fact.fields["name"] for fact in scene.facts("breaker"))
    scene.pass_time(limit + 1)
    assert scene.facts("breaker")[-1].fields["name"] == f"stale_feed:BTCUSDT|{STEP}"
    assert reasons(scene, "late", ts=limit + 1) == (Action.PHANTOM, {Reason.DATA_STALE_FEED})
    # What is open still ends by its deadline, candle or not.
    deadline = scene.position("late").deadline_ms
    scene.pass_time(deadline + 25 * HOUR)
    assert not scene.position("late").open
    assert scene.result("late")["outcome"] == "no_data"


def test_a_feed_that_speaks_again_clears() -> None:
    scene = Scene(live=True)
    scene.store.configure_breakers(STALE, now_ms=T0)
    scene.memory.wall_ms = T0 + STEP
    scene.play("100 101 99 100")
    scene.pass_time(T0 + HOUR)
    assert reasons(scene, "late", ts=T0 + HOUR)[0] is Action.PHANTOM
    scene.feed([bar(place) for place in range(1, 12)])
    assert reasons(scene, "again", ts=T0 + HOUR) == (Action.EXECUTE, set())
    assert [fact.fields["change"] for fact in scene.facts("breaker") if "feed" in fact.fields["name"]] == [
        "tripped",
        "cleared",
    ]


def test_a_dead_follower_is_noticed_though_candles_are_long() -> None:
    hourly = replace(FREE, tracking_timeframe="1h")
    scene = Scene(hourly, live=True)
    scene.store.configure_breakers(replace(STALE, watch_every_s=60), now_ms=T0)
    scene.memory.wall_ms = T0 + HOUR
    scene.feed([replace(bar(0), ts=T0)], timeframe="1h")
    for minutes, expected in ((3, set()), (4, {Reason.DATA_STALE_BREAKERS})):
        scene.memory.wall_ms = T0 + HOUR + minutes * 60_000
        assert reasons(scene, f"m{minutes}", ts=scene.memory.wall_ms)[1] == expected
    scene.follower.sweep(scene.memory.wall_ms)
    assert reasons(scene, "alive", ts=scene.memory.wall_ms) == (Action.EXECUTE, set())


# --- latencies


class Listening:
    """Notes the commands that reach a store."""

    def __init__(self, store: MemoryStore) -> None:
        self.commands: list[DecideCommand] = []
        self.failing = False
        inner: Callable[[DecideCommand], DecideReply] = store.decide

        def decide(command: DecideCommand) -> DecideReply:
            self.commands.append(command)
            if self.failing:
                raise OSError("no server")
            return inner(command)

        store.decide = decide  # type: ignore[method-assign]


def timed(clock: ClockKind, moments: list[float]) -> tuple[Judge, Listening, MemoryStore]:
    store = MemoryStore(wall_ms=T0)
    store.create(clock, now_ms=T0)
    store.advance_clock(T0)
    heard = Listening(store)
    ticks = iter(moments)
    return Judge(store, {"trend": FREE}, watch=lambda: next(ticks)), heard, store


def test_each_commit_tells_what_the_ones_before_it_took() -> None:
    judge, heard, store = timed(ClockKind.LIVE, [0.0, 0.010, 1.0, 1.020, 2.0, 2.030, 3.0, 3.5, 4.0, 4.1])
    for name in "aba":
        judge.judge(payload(name))
    heard.failing = True
    with pytest.raises(OSError, match="no server"):
        judge.judge(payload("lost"))
    heard.failing = False
    judge.judge(payload("c"))
    # The repetition took 30 ms and decided nothing; the failure took what nobody will know.
    assert [command.latencies_us for command in heard.commands] == [(), (10_000,), (20_000,), (20_000,), (20_000,)]
    assert list(store.breaker_inputs(now_ms=T0).latencies) == ["20000", "10000"]


@pytest.mark.parametrize("took", [math.nan, -1.0, math.inf])
def test_a_watch_that_stands_still_or_jumps_does_not_look_fast(took: float) -> None:
    judge, heard, _ = timed(ClockKind.LIVE, [0.0, took, 1.0, 1.0])
    judge.judge(payload("a"))
    judge.judge(payload("b"))
    assert heard.commands[-1].latencies_us == (LARGEST_LATENCY_US,)


def test_on_a_data_clock_decisions_take_no_time() -> None:
    judge, heard, _ = timed(ClockKind.DATA, [0.0, 9.0, 9.0, 18.0])
    judge.judge(payload("a"))
    judge.judge(payload("b"))
    assert [command.latencies_us for command in heard.commands] == [(), ()]


# --- slips


@pytest.mark.parametrize(
    ("made", "price", "slip", "expected"),
    [
        (
            payload,
            100.5,
            250_000,
            25_000,
        ),  # a long paid 0.5 more on a risk of 2; half of 10 basis points of 100 is 0.05
        (payload, 99.5, -250_000, 25_000),
        (short, 99.5, 250_000, 25_000),
        (short, 100.5, -250_000, 25_000),
        (payload, 100.0, 0, 25_000),
        (payload, 1e15, LARGEST_SLIP_MICRO, 25_000),
    ],
)
def test_a_fill_tells_its_slip(made: Callable[..., dict[str, object]], price: float, slip: int, expected: int) -> None:
    scene = Scene(replace(FREE, costs_bps=10.0))
    scene.ask(made("s1"))
    assert scene.store.claim("s1", "me", now_ms=T0) is Reason.CLAIM_GO
    assert scene.reports.fill({"signal_id": "s1", "price": price, "ts": T0, "quantity": 1.0}).accepted
    (fact,) = scene.facts("fill")
    assert (int(fact.fields["slip"]), int(fact.fields["expected"])) == (slip, expected)


# --- confidence


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (0.0, None),
        (0.6, None),
        (1, None),
        (None, None),
        (-0.1, Reason.FIELD_RANGE),
        (1.1, Reason.FIELD_RANGE),
        ("high", Reason.FIELD_TYPE),
        (True, Reason.FIELD_TYPE),
        (math.nan, Reason.FIELD_NOT_FINITE),
        (math.inf, Reason.FIELD_NOT_FINITE),
    ],
)
def test_a_signals_confidence_is_checked(sent: object, reason: Reason | None) -> None:
    found = parse_signal(payload(regime_confidence=sent), DEFAULT_PROFILES)
    if reason is None:
        assert isinstance(found, Signal)
        assert found.regime_confidence == sent
        assert payload_of(found).get("regime_confidence") == sent
    else:
        assert isinstance(found, Refusal)
        assert (found.reason, found.field) == (reason, "regime_confidence")


def test_a_doubtful_regime_leaves_a_heuristic_alone() -> None:
    scene = Scene()
    scene.store.configure_breakers(replace(NO_BREAKERS, regime_confidence=0.6), now_ms=T0)
    assert reasons(scene, "a", regime_confidence=0.59) == (Action.EXECUTE, {Reason.BREAKER_REGIME_CONFIDENCE})
    assert reasons(scene, "b", regime_confidence=0.6) == (Action.EXECUTE, set())


# --- replay


@pytest.mark.parametrize("limits", [False, True])
def test_a_replay_applies_breakers_only_when_it_is_asked_to(limits: bool) -> None:
    replay = Replay(TREND, limits=limits, breakers=Thresholds(drawdown_r=7.0))
    entry = replay.store.breaker_inputs(now_ms=0).entry
    assert entry["limit_drawdown_r"] == ("7000000" if limits else "0")
    assert entry["limit_periods"] == ("3" if limits else "0")
