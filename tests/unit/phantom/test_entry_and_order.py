"""When a position enters, and how a shuffled series is put back into order."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from phantom.position import Terms, entry_time
from phantom.sequence import CandleSequence
from signals.candle import Candle
from signals.errors import Invalid
from signals.reasons import Reason
from signals.signal import Side
from tests.support.positions import START, STEP, terms

SECOND = 1_000


@pytest.mark.parametrize(
    ("step_s", "grace_ms"),
    [
        pytest.param(10, 1_000, id="10 s: a tenth"),
        pytest.param(30, 3_000, id="30 s: a tenth"),
        pytest.param(50, 5_000, id="50 s: both bounds"),
        pytest.param(60, 5_000, id="1 m: five seconds"),
        pytest.param(300, 5_000, id="5 m: five seconds"),
        pytest.param(86_400, 5_000, id="1 d: five seconds"),
    ],
)
def test_the_grace_after_an_open(step_s: int, grace_ms: int) -> None:
    step = step_s * SECOND
    assert entry_time(START, step) == START
    assert entry_time(START + grace_ms, step) == START
    assert entry_time(START + grace_ms + 1, step) == START + step
    assert entry_time(START + step - 1, step) == START + step
    assert entry_time(START + step, step) == START + step


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"sl": 100.0}, "terms"),
        ({"sl": 105.0}, "terms"),
        ({"tp": 100.0}, "terms"),
        ({"tp1": 100.0}, "first_target"),
        ({"tp1": 104.0}, "first_target"),
        ({"tp1": 99.0}, "first_target"),
        ({"deadline_ms": START}, "deadline_ms"),
        ({"step_ms": 0}, "deadline_ms"),
    ],
)
@pytest.mark.parametrize("side", list(Side))
def test_terms_that_cannot_be(side: Side, change: dict[str, float], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        terms(side, **change)  # type: ignore[arg-type]
    assert caught.value.field == field


def test_terms_with_a_price_that_is_no_number() -> None:
    with pytest.raises(Invalid):
        Terms(
            side=Side.LONG,
            entry=float("nan"),
            stop_loss=98.0,
            take_profit=104.0,
            first_target=None,
            entry_ms=START,
            deadline_ms=START + STEP,
            step_ms=STEP,
        )


# --- order. Candles are named by their place; each has its own price.


def nth(place: float, bump: float = 0.0, *, final: bool = True) -> Candle:
    level = 100.0 + place + bump
    return Candle(START + int(place * STEP), level, level, level, level, final=final)


def push_all(sequence: CandleSequence, candles: Iterable[Candle]) -> list[float]:
    """Places of what comes out, in order."""
    return [(out.ts - START) / STEP for candle in candles for out in sequence.push(candle)]


@pytest.mark.parametrize(
    ("window", "arrivals", "out", "held", "counts"),
    [
        pytest.param(3, [0, 1, 2], [0, 1, 2], [], {}, id="straight"),
        pytest.param(3, [0, 2, 1, 3], [0, 1, 2, 3], [], {}, id="one overtakes"),
        pytest.param(3, [0, 4, 3, 2, 1], [0, 1, 2, 3, 4], [], {}, id="backwards within the window"),
        pytest.param(3, [0, 2, 3, 4], [0], [2, 3, 4], {Reason.CANDLE_GAP: 1}, id="waits for the missing one"),
        pytest.param(3, [0, 2, 3, 4, 5], [0, 2, 3, 4, 5], [], {Reason.CANDLE_GAP: 1}, id="gives up after the window"),
        pytest.param(
            3,
            [0, 2, 3, 4, 5, 1],
            [0, 2, 3, 4, 5],
            [],
            {Reason.CANDLE_GAP: 1, Reason.CANDLE_LATE: 1},
            id="comes after all",
        ),
        pytest.param(0, [0, 2, 1, 3], [0, 2, 3], [], {Reason.CANDLE_GAP: 1, Reason.CANDLE_LATE: 1}, id="no window"),
        pytest.param(2, [0, 0, 1, 1], [0, 1], [], {Reason.CANDLE_DUPLICATE: 2}, id="each twice"),
        pytest.param(2, [0, 2, 2, 1], [0, 1, 2], [], {Reason.CANDLE_DUPLICATE: 1}, id="a duplicate of one that waits"),
        pytest.param(1, [0, 2, 4, 6], [0, 2, 4], [6], {Reason.CANDLE_GAP: 3}, id="holes"),
        pytest.param(2, [5, 6], [5, 6], [], {}, id="begins anywhere"),
    ],
)
def test_order(window: int, arrivals: list[int], out: list[int], held: list[int], counts: dict[Reason, int]) -> None:
    sequence = CandleSequence(STEP, window)
    assert push_all(sequence, map(nth, arrivals)) == out
    assert [(candle.ts - START) / STEP for candle in sequence.flush()] == held
    assert sequence.counts == counts
    assert list(sequence.flush()) == []


def test_a_correction_is_counted_and_never_applied() -> None:
    sequence = CandleSequence(STEP, 2)
    assert push_all(sequence, [nth(0), nth(0, 0.5)]) == [0]
    assert push_all(sequence, [nth(2), nth(2, 0.5)]) == []
    assert [out.open for out in sequence.push(nth(1))] == [101.0, 102.0]
    assert sequence.counts == {Reason.CANDLE_CORRECTED: 2}


def test_what_can_never_have_a_turn() -> None:
    sequence = CandleSequence(STEP, 2)
    assert push_all(sequence, [nth(0), nth(1, final=False), nth(0.5), nth(-1)]) == [0]
    assert sequence.counts == {
        Reason.CANDLE_UNFINISHED: 1,
        Reason.CANDLE_MISALIGNED: 1,
        Reason.CANDLE_LATE: 1,
    }
    # The unfinished copy left nothing behind that the finished one could contradict.
    assert push_all(sequence, [nth(1)]) == [1]


def test_a_revised_volume_is_no_correction() -> None:
    sequence = CandleSequence(STEP, 2)
    again = Candle(START, 100.0, 100.0, 100.0, 100.0, volume=7.0)
    assert push_all(sequence, [nth(0), again]) == [0]
    assert sequence.counts == {Reason.CANDLE_DUPLICATE: 1}
