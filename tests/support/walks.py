"""Random walks of candles with gaps in price and time, and terms to follow through them.

Every price is a multiple of an eighth between 0 and 250: sums and mirror images are exact.
"""

from __future__ import annotations

from hypothesis import strategies as st

from phantom.position import Terms
from signals.candle import Candle
from signals.profile import FillRule
from signals.signal import Side
from tests.support.positions import START, STEP

MIRROR = 250.0
"""A price p is seen from the other side as 250 - p."""
_EIGHTH = 0.125
_CENTRE = 1_000  # eighths: 125
_PULL = 40


@st.composite
def walks(draw: st.DrawFn, *, most: int = 40, holes: bool = True) -> list[Candle]:
    """Consecutive finished candles from ``START`` on; with ``holes`` some never came."""
    moves = draw(
        st.lists(
            st.tuples(
                st.sampled_from([0, 0, 0, 0, -30, 30, -9, 9, 3]),  # gap
                st.integers(-12, 12),  # body
                st.integers(0, 8),  # upper wick
                st.integers(0, 8),  # lower wick
                st.sampled_from([1, 1, 1, 1, 1, 1, 2, 3, 300]) if holes else st.just(1),
            ),
            min_size=1,
            max_size=most,
        )
    )
    candles, last, ts = [], _CENTRE, START
    for gap, body, upper, lower, steps in moves:
        # Held near the centre, so that neither the price nor its mirror image reaches 0.
        pull = -_PULL if last > _CENTRE + 400 else _PULL if last < _CENTRE - 400 else 0
        opened = last + gap + pull
        closes = opened + body
        high, low = max(opened, closes) + upper, min(opened, closes) - lower
        candles.append(Candle(ts, opened * _EIGHTH, high * _EIGHTH, low * _EIGHTH, closes * _EIGHTH))
        last, ts = closes, ts + steps * STEP
    return candles


@st.composite
def terms_along(draw: st.DrawFn, candles: list[Candle]) -> Terms:
    """Terms of a position that enters somewhere along a walk, at or near a price it trades at."""
    place = draw(st.integers(0, len(candles) - 1))
    side = draw(st.sampled_from(list(Side)))
    sign = side.value
    risk, reward = draw(st.integers(1, 40)), draw(st.integers(2, 60))
    entry = candles[place].open + draw(st.sampled_from([0, 0, 0, -1, 1, -4, 4, 10])) * _EIGHTH
    first = draw(st.none() | st.integers(1, reward - 1))
    # Mostly at a candle that is there; sometimes where none is.
    entry_ms = candles[place].ts + draw(st.sampled_from([0, 0, 0, STEP, -STEP]))
    lasts = draw(st.sampled_from([1, STEP - 1, STEP, STEP + 1, 2 * STEP, 5 * STEP, 20 * STEP, 400 * STEP]))
    return Terms(
        side=side,
        entry=entry,
        stop_loss=entry - sign * risk * _EIGHTH,
        take_profit=entry + sign * reward * _EIGHTH,
        first_target=None if first is None else entry + sign * first * _EIGHTH,
        entry_ms=entry_ms,
        deadline_ms=entry_ms + lasts,
        step_ms=STEP,
        fill=draw(st.sampled_from(list(FillRule))),
    )


@st.composite
def journeys(draw: st.DrawFn) -> tuple[Terms, list[Candle]]:
    """A walk and a position along it."""
    candles = draw(walks())
    return draw(terms_along(candles)), candles


def mirrored_candle(candle: Candle) -> Candle:
    """The same candle seen from the other side."""
    open_, high, low, close = (MIRROR - level for level in candle.prices)
    return Candle(candle.ts, open_, low, high, close, candle.volume, candle.final)


def mirrored_terms(terms: Terms) -> Terms:
    """The same position seen from the other side."""
    return Terms(
        side=Side(-terms.side.value),
        entry=MIRROR - terms.entry,
        stop_loss=MIRROR - terms.stop_loss,
        take_profit=MIRROR - terms.take_profit,
        first_target=None if terms.first_target is None else MIRROR - terms.first_target,
        entry_ms=terms.entry_ms,
        deadline_ms=terms.deadline_ms,
        step_ms=terms.step_ms,
        fill=terms.fill,
    )
