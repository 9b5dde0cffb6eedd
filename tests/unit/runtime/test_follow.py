"""The follower over a store in memory: whatever arrives in whatever order, every position ends once and rightly."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from persistence.memory_store import MemoryStore
from persistence.store import CommitStatus, VolatilityUpdate
from phantom.position import NO_DATA_AFTER_MS
from runtime.follow import KEPT_CANDLES, Ended, Follower
from signals.candle import Candle
from signals.errors import Transient
from signals.profile import FillRule, Kind
from signals.reasons import Reason
from tests.support.scene import FREE, HOUR, STEP, SYMBOL, T0, Scene, bar, payload

NOTHING = "100 101 99 100"
TO_TP1 = "100 103.5 99.5 103"
TO_TARGET = "103 104.5 102 104"
TO_STOP = "100 100.5 97.5 98"
BOTH = "100 104.5 97.5 100"
DEADLINE = T0 + 36 * HOUR
JOURNEY = tuple(
    bar(place, line)
    for place, line in enumerate(
        (NOTHING, "100 102 99.5 101", "101 102 98.5 99", TO_TP1, "103 103.8 101 102", "102 103 100.5 101", TO_TARGET)
    )
)
"""First target in the fourth candle, target in the seventh, and nothing touches the moved stop between."""
AFTER = tuple(bar(place, "104 105 103 104") for place in range(7, 12))


def outcome(scene: Scene) -> dict[str, Any]:
    """What a position was and how it ended, and what was counted."""
    dump = {key: value for key, value in scene.memory.dump().items() if not key.endswith("meta")}
    return json.loads(json.dumps(dump))  # type: ignore[no-any-return]


def followed(candles: Iterable[Candle], *, good: bool = False, **following: Any) -> Scene:
    scene = Scene(**following)
    scene.open(good=good)
    scene.feed(candles)
    return scene


def with_(*changes: Callable[[list[Candle]], object]) -> list[Candle]:
    candles = [*JOURNEY, *AFTER]
    for change in changes:
        change(candles)
    return candles


WRONG = bar(2, "100 110 90 100")
"""Would touch everything, if it were applied."""

ARRIVALS = [
    pytest.param(with_(lambda c: c.insert(3, JOURNEY[2])), {"CANDLE_DUPLICATE": 1}, id="twice in a row"),
    pytest.param(with_(lambda c: c.insert(6, JOURNEY[5]), lambda c: c.insert(6, JOURNEY[5])), {"CANDLE_DUPLICATE": 2},
                 id="three times"),
    pytest.param(with_(lambda c: c.insert(5, JOURNEY[1])), {"CANDLE_LATE": 1}, id="an old one again"),
    pytest.param(with_(lambda c: c.insert(4, c.pop(2))), {}, id="two places late"),
    pytest.param(with_(lambda c: c.__setitem__(slice(1, 5), c[4:0:-1])), {}, id="four in reverse"),
    pytest.param(with_(lambda c: c.insert(3, WRONG)), {"CANDLE_CORRECTED": 1}, id="corrected"),
    pytest.param(with_(lambda c: c.insert(2, replace(WRONG, final=False))), {"CANDLE_UNFINISHED": 1}, id="unfinished"),
    pytest.param(with_(lambda c: c.insert(2, replace(WRONG, ts=WRONG.ts + 1))), {"CANDLE_MISALIGNED": 1},
                 id="misaligned"),
    pytest.param(with_(lambda c: c.extend([WRONG, JOURNEY[0]])), {"CANDLE_LATE": 2}, id="long after"),
]  # fmt: skip


@pytest.mark.parametrize(("arrivals", "counts"), ARRIVALS)
@pytest.mark.parametrize("good", [False, True], ids=["phantom", "executed"])
def test_any_arrival_gives_the_result_of_the_orderly_one(
    arrivals: Sequence[Candle], counts: dict[str, int], good: bool
) -> None:
    orderly, shuffled = followed([*JOURNEY, *AFTER], good=good), followed(arrivals, good=good)
    assert orderly.result()["outcome"] == "win"
    assert outcome(shuffled) == outcome(orderly)
    assert shuffled.counts() == counts
    assert not orderly.counts()


def test_a_gap_is_waited_for_then_accepted_and_what_comes_later_is_late() -> None:
    without = [candle for candle in (*JOURNEY, *AFTER) if candle.ts != T0 + 2 * STEP]
    orderly = followed(without, window=0)
    waiting = Scene()
    waiting.open(good=False)
    assert waiting.feed(without[:5]) == []
    track = json.loads(waiting.position().track)
    assert track["candles"] == 0  # three wait for the missing one: nothing has been saved
    late = followed([*without[:7], JOURNEY[2], *without[7:]])
    assert late.counts() == {"CANDLE_GAP": 1, "CANDLE_LATE": 1}
    assert orderly.counts() == {"CANDLE_GAP": 1}
    assert late.result() == orderly.result()
    assert late.result()["candles"] == 6


def test_a_gap_through_the_stop_exits_at_the_open() -> None:
    scene = followed([bar(0), bar(5, "95 96 94 95")], window=0)
    result = scene.result()
    assert (result["outcome"], result["exit_price"], result["gap"], result["ambiguous"]) == ("loss", 95, True, False)
    assert result["gross_r"] == -2.5


def test_what_waits_at_the_end_of_a_feed_is_taken_by_a_flush() -> None:
    scene = Scene()
    scene.open(good=False)
    assert scene.play(NOTHING) == []
    assert scene.feed([bar(3, TO_STOP)]) == []
    (ended,) = scene.follower.flush()
    assert ended.closed.outcome.value == "loss"
    assert scene.counts() == {"CANDLE_GAP": 1}
    assert scene.follower.flush() == []


def test_a_candle_older_than_the_entry_moves_nothing() -> None:
    scene = Scene()
    scene.open(good=False, ts=T0 - 100_000)  # enters at midnight
    assert scene.feed([bar(-1, BOTH)]) == []
    (ended,) = scene.play(TO_STOP)
    assert ended.closed.track.candles == 1


def test_candles_of_other_symbols_and_series_move_nothing() -> None:
    scene = Scene()
    scene.open(good=False)
    assert scene.feed([bar(0, TO_STOP)], symbol="ETHUSDT") == []
    assert scene.feed([bar(0, TO_STOP)], timeframe="15m") == []
    assert scene.feed([bar(0, TO_STOP)], timeframe="1m") == []
    assert scene.position().open
    assert len(scene.play(TO_STOP)) == 1


# --- restarts and repeats


def test_a_position_opened_after_its_entry_candle_is_caught_up() -> None:
    patient = replace(FREE, max_age_ms=HOUR)
    early = Scene(patient)
    early.open(good=False)
    early.feed(JOURNEY)
    late = Scene(patient)
    late.feed(JOURNEY[:5])
    late.open(good=False)
    late.feed(JOURNEY[5:])
    assert late.result() == early.result()
    ended = Scene(patient)
    ended.feed(JOURNEY)
    ended.open(good=False)
    (told,) = ended.feed(AFTER[:1])
    assert told.result == early.result()
    assert ended.feed(AFTER[1:]) == []


def test_only_so_many_candles_are_kept_for_latecomers() -> None:
    scene = Scene(replace(FREE, max_age_ms=24 * HOUR))
    scene.feed(bar(place) for place in range(KEPT_CANDLES + 10))
    scene.open(good=False)
    scene.feed([bar(KEPT_CANDLES + 10)])
    followed = scene.follower._books[SYMBOL]["s1"]
    assert followed.position.track.candles == KEPT_CANDLES + 1


@pytest.mark.parametrize("good", [False, True], ids=["phantom", "executed"])
@pytest.mark.parametrize("after", range(1, 12))
def test_a_restart_changes_nothing(after: int, good: bool) -> None:
    candles = [*JOURNEY, *AFTER]
    straight = Scene(checkpoint_every=2)
    broken = Scene(checkpoint_every=2)
    for scene in (straight, broken):
        scene.open(claim=good, good=good)
    straight.feed(candles)
    broken.feed(candles[:after])
    broken.follower = broken.new_follower()
    broken.feed(candles)
    assert outcome(broken) == outcome(straight)
    assert [fact.id for fact in broken.memory.facts] == [fact.id for fact in straight.memory.facts]


def test_a_checkpoint_is_written_every_so_many_candles_and_at_the_first_target() -> None:
    scene = Scene(checkpoint_every=4)
    scene.open(good=False)
    scene.feed(bar(place) for place in range(9))
    saved = [json.loads(fact.fields["track"])["candles"] for fact in scene.facts("touched")]
    assert saved == [4, 8]
    scene.feed([bar(9, TO_TP1), bar(10, "103 103.5 101 102")])
    (last,) = scene.facts("touched")[2:]
    track = json.loads(last.fields["track"])
    assert (track["candles"], track["tp1_ms"], track["stop"]) == (10, T0 + 10 * STEP, 100)
    # The position needs its last candle, its path every one from the entry on.
    assert scene.follower.oldest_needed_ms() == T0


def test_two_followers_on_one_store_make_one_outcome_each() -> None:
    scene = Scene(checkpoint_every=1)
    for name in "abc":
        scene.open(name, good=False)
    scene.open("x", claim=True)
    other = scene.new_follower()
    told: list[Ended] = []
    for candle in (*JOURNEY, *AFTER):
        told += scene.feed([candle])
        told += other.candle(SYMBOL, "5m", candle)
    assert sorted(ended.position.signal_id for ended in told) == ["a", "b", "c", "x"]
    assert scene.number("closed_total") == 3
    assert len(scene.facts("closed")) == 3
    versions = [int(fact.fields["v"]) for fact in scene.facts("touched") if fact.fields["sid"] == "a"]
    assert versions == sorted(set(versions))


def test_a_checkpoint_never_goes_back_behind_another_follower() -> None:
    scene = Scene(checkpoint_every=1)
    scene.open(good=False)
    ahead = scene.new_follower()
    scene.feed(JOURNEY[:1])
    for candle in JOURNEY[:3]:
        ahead.candle(SYMBOL, "5m", candle)
    scene.feed(JOURNEY[1:2])
    assert json.loads(scene.position().track)["last_ts"] == JOURNEY[2].ts
    scene.feed(JOURNEY[2:])
    assert scene.result()["outcome"] == "win"


class Failing(MemoryStore):
    """A store whose connection is lost once, at the n-th command, before or after the command took effect."""

    COMMANDS = frozenset(
        {"advance_clock", "now_ms", "overdue_claims", "lapse", "overdue", "unreported", "following", "touch", "close",
         "position", "decision", "awaiting_path", "record_path", "push_volatility", "count_candle", "clock_kind"}
    )  # fmt: skip

    def __init__(self, *, at: int, lost_reply: bool) -> None:
        super().__init__(wall_ms=T0)
        self.remaining, self.lost_reply, self.armed = at, lost_reply, False

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in Failing.COMMANDS or not self.armed:
            return found

        def command(*words: Any, **named: Any) -> Any:
            self.remaining -= 1
            if self.remaining != 0:
                return self.inside(found, words, named)
            if self.lost_reply:
                self.inside(found, words, named)
            raise Transient("connection lost")

        return command

    def inside(self, command: Callable[..., Any], words: Any, named: Any) -> Any:
        """Run a command whose own calls of others are not commands of the follower."""
        self.armed = False
        try:
            return command(*words, **named)
        finally:
            self.armed = True


def interrupted(at: int, *, lost_reply: bool, restart: bool) -> tuple[Scene, bool, list[Ended]]:
    """The journey with one failure; after it either the same candle again, or a new follower and all candles again."""
    store = Failing(at=at, lost_reply=lost_reply)
    scene = Scene(store=store, checkpoint_every=2, volatility_timeframes=("5m",))
    scene.memory = store
    store.create(scene_clock(), now_ms=T0)
    store.advance_clock(T0)
    scene.open("phantom", good=False)
    scene.open("executed", claim=True)
    scene.open("lapsed")
    store.armed = True
    candles, place, told = [*JOURNEY[:2], JOURNEY[1], *JOURNEY[2:], *AFTER], 0, []
    failed = False
    while place < len(candles):
        try:
            told += scene.follower.candle(SYMBOL, "5m", candles[place])
            place += 1
        except Transient:
            failed = True
            if restart:
                scene.follower, place = scene.new_follower(), 0
    return scene, failed, told


def scene_clock() -> Any:
    return Scene().store.clock_kind()


@pytest.mark.parametrize("lost_reply", [False, True], ids=["command lost", "reply lost"])
@pytest.mark.parametrize("restart", [False, True], ids=["same follower", "new follower"])
def test_a_connection_lost_at_any_command_changes_nothing(lost_reply: bool, restart: bool) -> None:
    clean, failed, told = interrupted(0, lost_reply=False, restart=False)
    assert not failed
    assert {ended.position.signal_id for ended in told} == {"phantom", "executed", "lapsed"}
    failures = 0
    while True:
        scene, failed, retold = interrupted(failures + 1, lost_reply=lost_reply, restart=restart)
        if not failed:
            break
        failures += 1
        assert outcome(scene) == outcome(clean), failures
        assert [fact.id for fact in scene.memory.facts] == [fact.id for fact in clean.memory.facts], failures
        if not restart:
            # Counters are for people: a lost reply may count a candle twice.
            assert scene.counts().keys() == clean.counts().keys(), failures
        if not lost_reply and not restart:
            assert retold == told, failures
    assert failures > 80


def test_a_follower_that_forgets_begins_like_a_new_one() -> None:
    scene = Scene()
    scene.open(good=False)
    scene.feed(JOURNEY[:5])
    scene.follower.forget()
    assert scene.follower.oldest_needed_ms() is None
    scene.feed([*JOURNEY, *AFTER])
    assert scene.result() == followed([*JOURNEY, *AFTER]).result()


# --- finer series

MINUTE = 60_000


def minutes(*lines: str) -> list[Candle]:
    """One-minute pieces of the first candle; ``-`` never came."""
    return [replace(bar(0, line), ts=T0 + place * MINUTE) for place, line in enumerate(lines) if line != "-"]


UP, DOWN, FLAT = "100 104.5 99 104", "100 100.5 97.5 98", "100 100.5 99.5 100"


@pytest.mark.parametrize(
    ("pieces", "exit_reason", "ambiguous", "resolved"),
    [
        pytest.param([], "sl", True, False, id="nothing finer: the loss is assumed"),
        pytest.param(minutes(FLAT, UP, DOWN, FLAT, FLAT), "tp", False, True, id="target first"),
        pytest.param(minutes(FLAT, DOWN, UP, FLAT, FLAT), "sl", False, True, id="stop first"),
        pytest.param(minutes(FLAT, BOTH, FLAT, FLAT, FLAT), "sl", True, False, id="both in one piece"),
        pytest.param(minutes("-", UP, DOWN, FLAT, FLAT), "sl", True, False, id="the first piece is missing"),
        pytest.param(minutes(FLAT, "-", UP, DOWN, FLAT), "sl", True, False, id="a hole before the touch"),
        pytest.param(minutes(FLAT, UP, "-", DOWN, FLAT), "tp", False, True, id="a hole after the touch"),
        pytest.param(minutes(FLAT, UP, DOWN)[::-1], "tp", False, True, id="out of order"),
        pytest.param([*minutes(FLAT, UP, DOWN), *minutes(DOWN)], "tp", False, True, id="the first copy counts"),
        pytest.param([replace(piece, final=False) for piece in minutes(FLAT, UP, DOWN)], "sl", True, False,
                     id="unfinished"),
    ],
)  # fmt: skip
def test_a_finer_series_decides_what_came_first(
    pieces: list[Candle], exit_reason: str, ambiguous: bool, resolved: bool
) -> None:
    scene = Scene()
    scene.open(good=False)
    scene.feed(pieces, timeframe="1m")
    scene.feed([bar(0, BOTH)])
    result = scene.result()
    assert (result["exit_reason"], result["ambiguous"], result["resolved"]) == (exit_reason, ambiguous, resolved)


def test_the_finest_series_is_asked_and_one_that_does_not_divide_is_not() -> None:
    scene = Scene()
    scene.open(good=False)
    scene.feed([replace(bar(0, DOWN), ts=T0)], timeframe="2m")
    scene.feed(minutes(UP), timeframe="1m")
    scene.feed([bar(0, BOTH)])
    assert scene.result()["exit_reason"] == "tp"
    other = Scene()
    other.open(good=False)
    other.feed([replace(bar(0, UP), ts=T0)], timeframe="2m")
    other.feed([bar(0, BOTH)])
    assert other.result()["ambiguous"] is True


def test_two_tracking_series_of_a_symbol_keep_to_their_own_positions() -> None:
    quick = replace(FREE, name="range", tracking_timeframe="1m", heuristic="trend")
    scene = Scene(FREE, quick)
    scene.feed(minutes(FLAT, UP), timeframe="1m")
    scene.open("slow", good=False)
    scene.open("quick", good=False, strategy="range", ts=T0 + MINUTE)
    # The five-minute candle reads both positions; the quick one must still see the minutes that opened after it did.
    scene.feed([bar(0, BOTH)])
    assert scene.result("quick")["exit_ms"] == T0 + 2 * MINUTE
    # And a tracking series that is finer than another one resolves for it.
    assert scene.result("slow")["exit_reason"] == "tp"
    assert scene.result("slow")["resolved"] is True


# --- who executes


def test_an_unclaimed_execute_goes_on_as_a_phantom_and_frees_its_limits() -> None:
    scene = Scene(replace(FREE, limits=replace(FREE.limits, open_positions=1)))
    scene.open()
    assert scene.ask(payload("b")).reasons[0] is Reason.LIMIT_OPEN_POSITIONS
    scene.play(NOTHING)
    stored = scene.position()
    assert (stored.kind, stored.unclaimed, stored.open) == (Kind.PHANTOM, True, True)
    assert scene.open("c", ts=T0 + STEP).kind is Kind.EXECUTED
    (ended,) = scene.play(TO_STOP, first=1)[:1]
    assert not ended.twin
    assert scene.result()["kind"] == "phantom"
    assert scene.result()["unclaimed"] is True
    assert scene.store.dump().get("ml:day:20240101") is None
    assert scene.number("completed_trades") == 3


def test_an_execute_lapses_a_moment_after_its_time_and_not_before() -> None:
    scene = Scene(live=True)
    scene.open()
    scene.pass_time(T0 + 10_000)
    assert scene.position().kind is Kind.EXECUTED
    scene.pass_time(T0 + 10_001)
    assert scene.position().kind is Kind.PHANTOM
    assert scene.store.claim("s1", "engine", now_ms=T0 + 10_001) is Reason.CLAIM_EXPIRED


def test_a_claim_that_lapses_after_the_simulation_has_ended_closes_the_phantom() -> None:
    slow = replace(FREE, decision_ttl_ms=HOUR, limits=replace(FREE.limits, open_positions=1))
    scene = Scene(slow)
    scene.open()
    (ended,) = scene.play(TO_STOP)
    assert ended.twin
    assert scene.position().open
    assert not scene.position().following
    assert scene.number("closed_total") == 0
    scene.play(*[NOTHING] * 12, first=1)
    assert scene.result()["outcome"] == "loss"
    assert scene.result()["how"] == "simulation"
    assert (scene.number("closed_total"), scene.number("completed_trades")) == (1, 1)
    assert scene.open("b", ts=T0 + 13 * STEP).kind is Kind.EXECUTED


def test_a_claimed_position_waits_for_its_report_and_keeps_its_twin() -> None:
    scene = Scene()
    scene.open(claim=True)
    (ended,) = scene.feed(JOURNEY)
    assert (ended.twin, ended.closed.outcome.value) == (True, "win")
    stored = scene.position()
    assert (stored.open, stored.following, stored.kind) == (True, False, Kind.EXECUTED)
    assert json.loads(stored.twin or "")["exit_price"] == 104
    assert (scene.number("closed_total"), scene.number("completed_trades")) == (0, 0)
    assert scene.feed(AFTER) == []


def test_without_a_report_the_twin_becomes_the_outcome_an_hour_after_the_deadline() -> None:
    scene = Scene(replace(FREE, costs_bps=10.0))
    scene.open(claim=True)
    scene.feed(JOURNEY)
    scene.pass_time(DEADLINE + HOUR - 1)
    assert scene.position().open
    scene.follower = scene.new_follower()  # the interval of the sweeps is not what is tested
    scene.pass_time(DEADLINE + HOUR)
    result = scene.result()
    assert (result["how"], result["kind"], result["outcome"]) == ("unreported", "executed", "win")
    assert result["net_r"] == pytest.approx(2.0 - 0.05)
    assert (scene.number("closed_total"), scene.number("completed_trades")) == (1, 1)
    day = scene.memory.dump()["ml:day:20240102"]
    assert day == {"r_micro": "1950000", "money_micro": "0"}
    assert scene.rates() == ["1"]


def test_a_timeout_is_counted_and_not_learned() -> None:
    scene = Scene(replace(FREE, timeout_ms=2 * STEP))
    scene.open(good=False)
    assert scene.play(NOTHING) == []
    (ended,) = scene.play("100 101 99 100.5", first=1)
    result = scene.result()
    assert ended.closed.outcome.value == "timeout"
    assert (result["gross_r"], result["mark_price"], result["mark_pnl_percent"]) == (0, 100.5, 0.5)
    assert (scene.number("closed_total"), scene.number("completed_trades")) == (1, 0)
    assert list(scene.rates()) == []
    assert scene.memory.dump()["ml:trend:outcomes"] == {"timeout": "1"}
    assert "ml:trend:trades" not in scene.memory.dump()


@pytest.mark.parametrize(
    ("last", "outcome_"),
    [
        pytest.param("100 104.5 99 100", "win", id="the target in the last candle"),
        pytest.param(TO_STOP, "loss", id="the stop in the last candle"),
        pytest.param(NOTHING, "timeout", id="neither"),
    ],
)
def test_stop_and_target_win_over_the_deadline_in_its_own_candle(last: str, outcome_: str) -> None:
    scene = Scene(replace(FREE, timeout_ms=2 * STEP))
    scene.open(good=False)
    scene.play(NOTHING, last)
    assert scene.result()["outcome"] == outcome_


def test_an_outage_through_the_deadline_is_marked_late() -> None:
    scene = Scene(replace(FREE, timeout_ms=2 * STEP), window=0)
    scene.open(good=False)
    scene.feed([bar(0), bar(7, "103 110 90 100")])
    result = scene.result()
    assert (result["outcome"], result["late_mark"], result["mark_price"]) == ("timeout", True, 103)


def test_without_candles_a_position_is_given_up_a_day_after_its_deadline() -> None:
    scene = Scene()
    scene.open(good=False)
    scene.play(NOTHING)
    assert scene.pass_time(DEADLINE + NO_DATA_AFTER_MS) == []
    scene.follower = scene.new_follower()
    (ended,) = scene.pass_time(DEADLINE + NO_DATA_AFTER_MS + STEP)
    assert ended.closed.outcome.value == "no_data"
    result = scene.result()
    assert (result["outcome"], result["exit_ms"]) == ("no_data", DEADLINE + NO_DATA_AFTER_MS)
    assert (scene.number("closed_total"), scene.number("completed_trades")) == (1, 0)


def test_another_symbols_candles_also_tell_that_a_symbol_is_silent() -> None:
    scene = Scene(window=0)
    scene.open(good=False)
    scene.feed([bar(0)], symbol="ETHUSDT")
    (ended,) = scene.feed([replace(bar(0), ts=DEADLINE + NO_DATA_AFTER_MS)], symbol="ETHUSDT")
    assert (ended.position.symbol, ended.closed.outcome.value) == (SYMBOL, "no_data")


def test_a_claimed_position_without_candles_and_report_ends_as_one() -> None:
    scene = Scene()
    scene.open(claim=True)
    scene.pass_time(DEADLINE + NO_DATA_AFTER_MS + STEP)
    assert scene.result()["outcome"] == "no_data"
    assert scene.result()["how"] == "unreported"
    assert scene.number("closed_total") == 1


def test_after_an_outage_waiting_candles_are_followed_before_anything_is_given_up() -> None:
    scene = Scene(live=True)
    scene.open(good=False)
    scene.memory.wall_ms = T0 + 30 * 24 * HOUR
    scene.follower = scene.new_follower()
    (ended,) = scene.feed(JOURNEY)
    assert ended.closed.outcome.value == "win"


def test_a_target_jumped_over_before_the_entry_is_no_fill() -> None:
    scene = Scene()
    scene.open("short", good=False, side="short", sl=102.0, tp=96.0)
    scene.open(good=False)
    assert {e.position.signal_id: e.closed.outcome.value for e in scene.play("105 106 104 105")} == {
        "short": "no_fill",
        "s1": "no_fill",
    }
    assert scene.number("completed_trades") == 0
    assert scene.result()["time_to_exit_sec"] is None


def test_counters_and_the_win_rate_list_newest_first() -> None:
    scene = Scene()
    scene.open("lost", good=False)
    scene.play(TO_STOP)
    scene.open("won", good=False, ts=T0 + STEP)
    scene.play("100 104.5 99 104", first=1)
    scene.open("be", good=False, ts=T0 + 2 * STEP)
    scene.play("100 103.3 99 103", "103 103.2 99.5 100", first=2)
    assert list(scene.rates()) == ["0", "1", "0"]
    assert (scene.number("closed_total"), scene.number("completed_trades")) == (3, 3)
    assert scene.memory.dump()["ml:trend:outcomes"] == {"loss": "2", "win": "1"}
    even = scene.result("be")
    assert (even["outcome"], even["exit_price"], even["gross_r"], even["tp1_hit"]) == ("loss", 100, 0, True)
    trades = [json.loads(row) for row in scene.memory.state.lists["ml:trend:trades"]]
    assert [(row["id"], row["outcome"]) for row in trades] == [("lost", "loss"), ("won", "win"), ("be", "loss")]
    assert trades[0]["features"]["atr_pct"] == 0
    assert {row["score"] for row in trades} == {50}


def test_a_position_whose_profile_has_gone_is_still_followed_to_its_end() -> None:
    scene = Scene(replace(FREE, costs_bps=10.0))
    scene.open(good=False)
    del scene.profiles["trend"]
    scene.follower = scene.new_follower()
    scene.play(TO_STOP)
    assert scene.result()["net_r"] == -1


def test_a_stop_a_hair_away_does_not_overflow_the_day() -> None:
    scene = Scene()
    scene.open(claim=True, sl=100.0 - 2e-14, tp=100.0 + 1e-13)
    scene.feed([bar(0, "100 100.00000000000001 100 100")])
    scene.feed([bar(1, "10 11 9 10")])
    scene.pass_time(DEADLINE + HOUR)
    day = scene.memory.dump()["ml:day:20240102"]
    assert isinstance(day, dict)
    assert int(day["r_micro"]) == -(10**15)
    assert scene.result()["gross_r"] < -1e14


def test_filling_at_the_next_open_is_counted_in_the_result() -> None:
    scene = Scene(replace(FREE, fill=FillRule.NEXT_OPEN))
    scene.open(good=False)
    scene.play("101 104.5 100.5 104")
    assert (scene.result()["gross_r"], scene.result()["entry_slip_r"]) == (1.5, 0.5)


# --- volatility


class Keeping(MemoryStore):
    """A store that outlives its follower: it keeps the running states, as Redis does."""

    def __init__(self) -> None:
        super().__init__(wall_ms=T0)
        self.states: dict[str, dict[str, str]] = {}
        self.fail_at = -1
        self.pushes = 0

    def push_volatility(self, symbol: str, updates: Sequence[VolatilityUpdate]) -> None:
        self.pushes += 1
        super().push_volatility(symbol, updates)
        for update in updates:
            self.states.setdefault(symbol, {})[update.timeframe] = update.state()
        if self.pushes == self.fail_at:
            raise Transient("reply lost")

    def volatility_states(self, symbol: str) -> dict[str, str]:
        return self.states.get(symbol, {})


def wavy(count: int) -> list[Candle]:
    return [bar(place, f"100 {101 + place % 7 / 10} {99 - place % 5 / 10} {100 + place % 3 / 10}") for place in
            range(count)]  # fmt: skip


def kept_history(store: Keeping, candles: Iterable[Candle], *, restart_every: int | None = None) -> list[float]:
    scene = Scene(store=store, volatility_timeframes=("5m", "15m"), window=0)
    store.create(scene_clock(), now_ms=T0)
    for place, candle in enumerate(candles):
        if restart_every is not None and place % restart_every == 0:
            scene.follower = scene.new_follower()
        try:
            scene.feed([candle])
        except Transient:
            scene.feed([candle])
    return [*store.volatility(SYMBOL, "5m"), -1.0, *store.volatility(SYMBOL, "15m")]


def test_the_volatility_history_survives_restarts_repeats_and_lost_replies() -> None:
    candles = wavy(500)
    straight = kept_history(Keeping(), candles)
    assert straight.index(-1.0) == 500 - 140 + 1  # ten spans of fourteen before the first value counts
    assert len(straight) > 361 + 20
    assert kept_history(Keeping(), candles, restart_every=7) == straight
    assert kept_history(Keeping(), [*candles[:300], *candles[200:]]) == straight
    for place in (150, 299, 300):
        failing = Keeping()
        failing.fail_at = place
        assert kept_history(failing, candles) == straight


def test_two_higher_candles_closed_at_once_are_both_in_the_history() -> None:
    candles = wavy(500)
    # A quarter of an hour without its last part is closed by the next candle; here that one completes its own quarter.
    missing = [candle for candle in candles if candle.ts not in (T0 + 452 * STEP, T0 + 453 * STEP, T0 + 454 * STEP)]
    whole, holed = (kept_history(Keeping(), series) for series in (candles, missing))
    assert len(holed[holed.index(-1.0) :]) == len(whole[whole.index(-1.0) :])


def test_a_state_of_another_tracking_timeframe_is_not_carried_on() -> None:
    store = Keeping()
    kept_history(store, wavy(30))
    minute = Scene(replace(FREE, tracking_timeframe="1m"), store=store, volatility_timeframes=("15m",))
    minute.profiles.pop("range")
    minute.profiles.pop("scalp")
    minute.follower = minute.new_follower()
    minute.feed([replace(bar(0), ts=T0 + 24 * HOUR)], timeframe="1m")
    aggregator, _ = json.loads(store.states[SYMBOL]["15m"])
    assert json.loads(aggregator)["step_ms"] == MINUTE


def test_a_stale_close_is_tried_again_on_what_is_there_now() -> None:
    scene = Scene()
    stored = scene.open(good=False)
    scene.feed(JOURNEY[:1])
    assert scene.store.touch(stored, stored.track, 0, now_ms=T0) is CommitStatus.DONE
    assert scene.store.touch(scene.position(), stored.track, 0, now_ms=T0) is CommitStatus.DONE
    (ended,) = scene.feed(JOURNEY[1:])
    assert ended.position.version == 4  # the first target wrote a checkpoint on top of both
    assert scene.number("closed_total") == 1


def test_the_longest_tracking_candle() -> None:
    store = MemoryStore()
    profiles = {"a": replace(FREE, name="a"), "b": replace(FREE, name="b", tracking_timeframe="1h")}
    assert Follower(store, profiles).longest_step_ms == HOUR


def test_a_crowd_of_phantoms_is_said_once_at_each_level(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(replace(FREE, max_age_ms=HOUR))
    steps: list[tuple[int, list[str]]] = [(50, []), (51, ["WARNING"]), (60, []), (101, ["CRITICAL"]), (102, [])]
    opened = 0
    for place, (wanted, said) in enumerate(steps):
        while opened < wanted:
            scene.open(f"s{opened}", good=False)
            opened += 1
        caplog.clear()
        scene.feed([bar(place, NOTHING)])
        assert [record.levelname for record in caplog.records if record.name == "runtime.crowd"] == said


def test_two_thousand_stops_in_one_candle_are_two_thousand_outcomes_and_one_request() -> None:
    crowd = 2_000
    scene = Scene(replace(FREE, limits=replace(FREE.limits, tracked_positions=crowd)))
    scene.store.register("trend", "{}", "70", first_training=50, now_ms=T0)
    for number in range(crowd):
        # Each another bet, or they would share the decision of their bar.
        scene.open(f"s{number}", good=False, tp=104.0 + number / 1_000)
    ended = scene.play(TO_STOP)
    closed = scene.facts("closed")
    assert len(ended) == len({fact.fields["sid"] for fact in closed}) == len(closed) == crowd
    assert (scene.number("closed_total"), scene.store.training("trend").completed) == (crowd, crowd)
    assert len(scene.rates()) == 200
    # Asked for in the commit of the fiftieth; the boundaries after it coalesce, for nobody has answered yet.
    (request,) = scene.facts("retrain")
    assert (request.fields["boundary"], request.fields["count"]) == ("50", "50")
    assert scene.store.training("trend").due
    assert scene.play(TO_STOP, first=1) == []
