"""The position rule: one open position, one closed candle, one answer. Live, replay and backfill all call it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from phantom.position import NO_DATA_AFTER_MS, Closed, ExitReason, Outcome, Position, Terms, Track
from signals.candle import Candle


def advance(position: Position, candle: Candle, finer: Sequence[Candle] = ()) -> Position | Closed:
    """Carry an open position through one closed candle.

    Parameters
    ----------
    position : Position
    candle : Candle of the position's tracking series. A candle that is unfinished, misaligned, older than the entry
        or not newer than the last one applied changes nothing.
    finer : candles of a finer series inside ``candle``, oldest first; asked only which of stop and target came first
        when the candle holds both

    Returns
    -------
    Position with the candle applied (the same object when it changed nothing), or Closed

    Source: SPEC 9, in its order: gap through the stop, gap through the target, stop, target, first target, deadline.
    """
    terms, track = position.terms, position.track
    if not candle.final or candle.ts <= track.last_ts or candle.ts % terms.step_ms != 0:
        return position
    if candle.ts >= terms.deadline_ms + NO_DATA_AFTER_MS:
        return abandon(position, candle.ts)
    track = _seen(track, candle)
    sign = terms.side.value
    if not track.filled:
        beyond = not sign * terms.stop_loss < sign * candle.open < sign * terms.take_profit
        if beyond or candle.ts >= terms.deadline_ms:
            return _close(terms, track, candle, Outcome.NO_FILL, ExitReason.NO_FILL, terms.entry)
        track = replace(track, filled=True, entry_open=candle.open)
    elif candle.ts >= terms.deadline_ms:
        # The feed was silent through the deadline: nobody knows what the missing candles held.
        late = _close(terms, track, candle, Outcome.TIMEOUT, ExitReason.TIMEOUT, terms.entry)
        return replace(late, late_mark=True, mark_price=candle.open)
    return _inside(terms, track, candle, finer)


def abandon(position: Position, now_ms: int) -> Closed:
    """Give up a position that no candle has closed by its deadline plus a day."""
    terms = position.terms
    return Closed(terms, position.track, Outcome.NO_DATA, ExitReason.NO_DATA, terms.entry, now_ms)


def overdue(position: Position, now_ms: int) -> bool:
    """Whether ``now_ms`` is so late that a candle which could still close the position cannot be on its way."""
    return now_ms >= position.terms.deadline_ms + NO_DATA_AFTER_MS + position.terms.step_ms


def _inside(terms: Terms, track: Track, candle: Candle, finer: Sequence[Candle]) -> Position | Closed:
    sign = terms.side.value
    favourable, adverse = (candle.high, candle.low) if sign > 0 else (candle.low, candle.high)
    if sign * candle.open <= sign * track.stop:
        gapped = sign * candle.open < sign * track.stop
        return replace(_stopped(terms, track, candle, candle.open, candle.open), gap=gapped)
    if sign * candle.open >= sign * terms.take_profit:
        return _won(terms, track, candle, adverse)
    stop_touched = sign * adverse <= sign * track.stop
    target_touched = sign * favourable >= sign * terms.take_profit
    if stop_touched and target_touched:
        return _both_touched(terms, track, candle, finer)
    if stop_touched:
        return _stopped(terms, track, candle, track.stop, candle.open)
    if target_touched:
        return _won(terms, track, candle, adverse)
    track = _widened(track, sign, favourable, adverse)
    closes_ms = candle.ts + terms.step_ms
    if terms.first_target is not None and track.tp1_ms is None and sign * favourable >= sign * terms.first_target:
        # The stop moves from the next candle on: within this one the order of the prices is unknown.
        track = replace(track, tp1_ms=closes_ms, stop=terms.entry, be_moved=True)
    if closes_ms >= terms.deadline_ms:
        timed_out = _close(terms, track, candle, Outcome.TIMEOUT, ExitReason.TIMEOUT, terms.entry)
        return replace(timed_out, mark_price=candle.close)
    return Position(terms, track)


def _both_touched(terms: Terms, track: Track, candle: Candle, finer: Sequence[Candle]) -> Closed:
    """A candle hides its path: assume the loss unless a finer series shows which level came first."""
    sign = terms.side.value
    walked = track
    for piece in _unbroken(candle.ts, terms.step_ms, finer):
        favourable, adverse = (piece.high, piece.low) if sign > 0 else (piece.low, piece.high)
        gapped = sign * piece.open <= sign * track.stop
        stopped = gapped or sign * adverse <= sign * track.stop
        won = sign * favourable >= sign * terms.take_profit
        if sign * piece.open >= sign * terms.take_profit or (won and not stopped):
            return replace(_won(terms, walked, candle, adverse), resolved=True)
        if stopped and not (won and not gapped):
            price = piece.open if gapped else track.stop
            gap = gapped and sign * piece.open < sign * track.stop
            return replace(_stopped(terms, walked, candle, price, piece.open), gap=gap, resolved=True)
        if stopped:
            break
        walked = _widened(walked, sign, favourable, adverse)
    return replace(_stopped(terms, track, candle, track.stop, candle.open), ambiguous=True)


def _unbroken(opens_ms: int, step_ms: int, finer: Sequence[Candle]) -> Iterator[Candle]:
    """The finer pieces of a candle up to the first hole: what a missing piece held may have come first."""
    pieces = sorted((piece for piece in finer if opens_ms <= piece.ts < opens_ms + step_ms), key=lambda piece: piece.ts)
    piece_ms = min((after.ts - before.ts for before, after in pairwise(pieces)), default=0)
    for number, piece in enumerate(pieces):
        if not piece.final or piece.ts != opens_ms + number * piece_ms:
            return
        yield piece


def _seen(track: Track, candle: Candle) -> Track:
    # Built by position, like the next one: once per position and candle, ``replace`` would be the replay's main cost.
    return Track(
        candle.ts,
        track.stop,
        track.best,
        track.worst,
        track.filled,
        track.entry_open,
        track.tp1_ms,
        track.be_moved,
        track.candles + 1,
    )


def _widened(track: Track, sign: int, favourable: float, adverse: float) -> Track:
    best = favourable if sign * favourable > sign * track.best else track.best
    worst = adverse if sign * adverse < sign * track.worst else track.worst
    if best == track.best and worst == track.worst:
        return track
    return Track(
        track.last_ts,
        track.stop,
        best,
        worst,
        track.filled,
        track.entry_open,
        track.tp1_ms,
        track.be_moved,
        track.candles,
    )


def _stopped(terms: Terms, track: Track, candle: Candle, price: float, best_known: float) -> Closed:
    # Of the candle that stopped it only the open is known to have come before the stop.
    track = _widened(track, terms.side.value, best_known, price)
    return _close(terms, track, candle, Outcome.LOSS, ExitReason.SL, price)


def _won(terms: Terms, track: Track, candle: Candle, adverse: float) -> Closed:
    track = _widened(track, terms.side.value, terms.take_profit, adverse)
    if track.tp1_ms is None:
        track = replace(track, tp1_ms=candle.ts + terms.step_ms)
    return _close(terms, track, candle, Outcome.WIN, ExitReason.TP, terms.take_profit)


def _close(
    terms: Terms, track: Track, candle: Candle, outcome: Outcome, reason: ExitReason, exit_price: float
) -> Closed:
    return Closed(terms, track, outcome, reason, exit_price, candle.ts + terms.step_ms)
