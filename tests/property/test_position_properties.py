"""Laws of the position rule, over random walks with gaps in price and time."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phantom.advance import advance
from phantom.book import follow_batch
from phantom.position import Closed, Outcome, Position, Terms
from phantom.record import closed_from, closed_record, position_from, terms_from, terms_record, track_record
from signals.candle import Candle
from signals.errors import Invalid
from signals.parse import canonical_json
from signals.signal import Side
from tests.support.laws import LAW
from tests.support.positions import START, STEP, follow, path, same, terms
from tests.support.walks import MIRROR, journeys, mirrored_candle, mirrored_terms, terms_along, walks

Journey = tuple[Terms, list[Candle]]


def batch(terms: Sequence[Terms], candles: Sequence[Candle]) -> list[Closed | Position]:
    ts, final = [candle.ts for candle in candles], [candle.final for candle in candles]
    prices = np.array([candle.prices for candle in candles], dtype=np.float64).reshape(-1, 4)
    columns = (prices[:, 0], prices[:, 1], prices[:, 2], prices[:, 3])
    return follow_batch(terms, np.array(ts, dtype=np.int64), *columns, np.array(final, dtype=np.bool_))


# --- one rule for both sides


@LAW
@given(journeys())
def test_mirror_symmetry(journey: Journey) -> None:
    terms, candles = journey
    seen = follow(terms, candles)
    mirrored = follow(mirrored_terms(terms), map(mirrored_candle, candles))
    assert type(mirrored) is type(seen)
    for name in ("stop", "best", "worst"):
        assert getattr(mirrored.track, name) == MIRROR - getattr(seen.track, name)
    for name in ("last_ts", "filled", "tp1_ms", "be_moved", "candles"):
        assert getattr(mirrored.track, name) == getattr(seen.track, name)
    if isinstance(seen, Closed) and isinstance(mirrored, Closed):
        assert mirrored.exit_price == MIRROR - seen.exit_price
        names = (
            "outcome reason exit_ms gap ambiguous resolved late_mark gross_r mfe_r mae_r mark_r entry_slip_r tp1_hit"
        )
        for name in names.split():
            assert getattr(mirrored, name) == getattr(seen, name)


# --- batch = stream


@LAW
@given(st.data())
def test_batch_equals_stream(data: st.DataObject) -> None:
    candles = data.draw(walks())
    many = data.draw(st.lists(terms_along(candles), min_size=1, max_size=5))
    for one, found in zip(many, batch(many, candles), strict=True):
        assert same(found, follow(one, candles))


@LAW
@given(st.data())
def test_batch_equals_stream_when_the_series_is_a_mess(data: st.DataObject) -> None:
    candles = data.draw(walks())
    position = data.draw(terms_along(candles))
    disturb: Callable[[Candle], list[Candle]] = lambda candle: data.draw(  # noqa: E731 - one candle, one fate
        st.sampled_from(
            [
                [candle],
                [candle, candle],
                [Candle(candle.ts, *candle.prices, final=False), candle],
                [Candle(candle.ts + 1, *candle.prices), candle],
                [candle, Candle(candle.ts - 3 * STEP, *candle.prices)],
                [Candle(candle.ts, 1.0, 200.0, 1.0, 1.0, final=False)],
                [candle, Candle(candle.ts, 1.0, 200.0, 1.0, 1.0)],
            ]
        )
    )
    mess = [piece for candle in candles for piece in disturb(candle)]
    assert same(batch([position], mess)[0], follow(position, mess))


@pytest.mark.parametrize("seed", range(4))
def test_batch_equals_stream_on_long_walks_of_ordinary_floats(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = 1_500
    opened = 100.0 * np.exp(np.cumsum(rng.normal(0, 0.004, count)))
    body = opened * np.exp(rng.normal(0, 0.004, count))
    high = np.maximum(opened, body) * np.exp(np.abs(rng.normal(0, 0.003, count)))
    low = np.minimum(opened, body) * np.exp(-np.abs(rng.normal(0, 0.003, count)))
    ts = START + STEP * np.cumsum(rng.choice([1, 1, 1, 1, 1, 1, 1, 2, 40], count)).astype(np.int64)
    many = []
    for place in rng.integers(0, count, 60).tolist():
        side = Side.LONG if rng.random() < 0.5 else Side.SHORT
        risk, reward = float(rng.uniform(0.3, 6.0)), float(rng.uniform(0.3, 9.0))
        target = None if rng.random() < 0.4 else opened[place] + side * reward * float(rng.uniform(0.1, 0.9))
        many.append(
            Terms(
                side=side,
                entry=float(opened[place]),
                stop_loss=float(opened[place] - side * risk),
                take_profit=float(opened[place] + side * reward),
                first_target=None if target is None else float(target),
                entry_ms=int(ts[place]),
                deadline_ms=int(ts[place]) + int(rng.integers(1, 300)) * STEP,
                step_ms=STEP,
            )
        )
    rows = zip(ts.tolist(), opened.tolist(), high.tolist(), low.tolist(), body.tolist(), strict=True)
    candles = [Candle(*row) for row in rows]
    found = follow_batch(many, ts, opened, high, low, body)
    assert all(same(one, follow(each, candles)) for one, each in zip(found, many, strict=True))
    # Enough of everything, or the comparison above says little.
    ends = [one.outcome for one in found if isinstance(one, Closed)]
    assert {Outcome.WIN, Outcome.LOSS, Outcome.TIMEOUT} <= set(ends)
    assert any(isinstance(one, Closed) and one.late_mark for one in found)


def test_a_batch_of_nothing() -> None:
    waiting = terms(Side.LONG)
    assert batch([], []) == []
    assert batch([], path(Side.LONG, "100 101 99 100")) == []
    assert same(batch([waiting], [])[0], Position.open(waiting))


def test_positions_of_other_steps_take_other_candles() -> None:
    candles = path(Side.LONG, *["100 101 99 100"] * 3, "100 104 100 104")
    many = [terms(Side.LONG, step_ms=step) for step in (STEP, 3 * STEP, STEP // 2)]
    found = batch(many, candles)
    assert [same(one, follow(each, candles)) for one, each in zip(found, many, strict=True)] == [True] * 3
    assert [one.track.candles for one in found] == [4, 2, 4]


def test_a_batch_refuses_what_is_no_series() -> None:
    ts, ones = np.array([START], dtype=np.int64), np.ones(1)
    with pytest.raises(ValueError, match="shape"):
        follow_batch([], ts, ones, ones, ones, np.ones(2))
    with pytest.raises(ValueError, match="shape"):
        follow_batch([], ts, ones, ones, ones, ones, np.ones(2, dtype=np.bool_))
    for place, level in enumerate((2.0, np.inf, 0.0, np.nan)):
        bad = [np.array([level]) if place == other else ones for other in range(4)]
        with pytest.raises(Invalid, match="CANDLE_IMPOSSIBLE"):
            follow_batch([], ts, bad[0], bad[1], bad[2], bad[3])


# --- what never happens


@LAW
@given(journeys(), st.data())
def test_a_closed_position_never_reopens(journey: Journey, data: st.DataObject) -> None:
    terms, candles = journey
    known = batch([terms], candles[: data.draw(st.integers(0, len(candles)))])[0]
    whole = batch([terms], candles)[0]
    if isinstance(known, Closed):
        assert same(whole, known)


@LAW
@given(journeys())
def test_excursions_start_at_nothing_and_only_grow(journey: Journey) -> None:
    terms, candles = journey
    state: Position | Closed = Position.open(terms)
    reached = (0.0, 0.0)
    for candle in candles:
        if isinstance(state, Closed):
            break
        state = advance(state, candle)
        track = state.track
        now = (terms.in_r(track.best), -terms.in_r(track.worst))
        assert now[0] >= reached[0] >= 0.0
        assert now[1] >= reached[1] >= 0.0
        reached = now
    if isinstance(state, Closed):
        assert (state.mfe_r, state.mae_r) == reached
        assert state.mfe_r <= terms.in_r(terms.take_profit)


@LAW
@given(journeys())
def test_a_loss_never_exceeds_the_stop_or_the_gap(journey: Journey) -> None:
    terms, candles = journey
    end = follow(terms, candles)
    if not isinstance(end, Closed) or end.outcome is not Outcome.LOSS:
        return
    sign, stop = terms.side.value, end.track.stop
    opened = next(candle.open for candle in candles if candle.ts == end.track.last_ts)
    assert end.exit_price == (opened if end.gap else stop)
    assert sign * end.exit_price >= min(sign * stop, sign * opened)
    assert end.gap == (sign * opened < sign * stop)
    assert terms.in_r(end.exit_price) <= 0.0
    assert end.mae_r >= -terms.in_r(end.exit_price)


@LAW
@given(journeys())
def test_a_win_is_the_target_and_a_timeout_is_nothing(journey: Journey) -> None:
    terms, candles = journey
    end = follow(terms, candles)
    if not isinstance(end, Closed):
        return
    if end.outcome is Outcome.WIN:
        assert end.exit_price == terms.take_profit
        assert end.tp1_hit
    elif end.outcome is not Outcome.LOSS:
        assert (end.exit_price, end.gross_r) == (terms.entry, 0.0)
    assert (end.mark_price is not None) == (end.outcome is Outcome.TIMEOUT)
    assert end.exit_ms > terms.entry_ms


@LAW
@given(journeys())
def test_break_even_is_the_only_place_a_stop_moves_to(journey: Journey) -> None:
    terms, candles = journey
    state: Position | Closed = Position.open(terms)
    for candle in candles:
        if isinstance(state, Closed):
            break
        before = state.track
        state = advance(state, candle)
        if state.track.stop != before.stop:
            assert (before.stop, state.track.stop) == (terms.stop_loss, terms.entry)
            assert state.track.be_moved
            assert not before.be_moved


# --- written down and read back


@LAW
@given(journeys(), st.sampled_from([0.0, 5.0, 12.5]))
def test_records_read_back(journey: Journey, costs_bps: float) -> None:
    terms, candles = journey
    state = follow(terms, candles)
    plain = json.loads(canonical_json(terms_record(state.terms)))
    assert terms_from(plain) == terms
    if isinstance(state, Closed):
        ending = json.loads(canonical_json(closed_record(state, costs_bps)))
        assert same(closed_from(terms_from(plain), ending), state)
        assert ending["net_r"] == pytest.approx(state.gross_r - (terms.cost_r(costs_bps) if state.entered else 0.0))
    else:
        assert same(position_from(plain, json.loads(canonical_json(track_record(state.track)))), state)


@LAW
@given(journeys(), st.data())
def test_a_position_may_be_written_down_between_any_two_candles(journey: Journey, data: st.DataObject) -> None:
    terms, candles = journey
    cut = data.draw(st.integers(0, len(candles)))
    state = follow(terms, candles[:cut])
    if isinstance(state, Position):
        text = canonical_json([terms_record(state.terms), track_record(state.track)])
        state = position_from(*json.loads(text))
        assert same(follow(state, candles[cut:]), follow(terms, candles))
