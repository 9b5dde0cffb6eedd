"""The use case behind every candle: put it in order, advance the positions it moves, close what it ends."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from market.volatility import CandleAggregator, WilderAtr
from persistence.store import (
    ClockKind,
    CloseCommand,
    CloseHow,
    CommitStatus,
    Store,
    StoredPosition,
    VolatilityUpdate,
    micro,
)
from phantom.advance import abandon, advance, overdue
from phantom.position import NO_DATA_AFTER_MS, Closed, Position
from phantom.record import closed_from, closed_record, position_from, terms_from, track_record
from phantom.sequence import CandleSequence
from signals.candle import Candle
from signals.parse import canonical_json
from signals.profile import Kind, Profile
from signals.reasons import Reason
from signals.timeframe import timeframe_ms

KEPT_CANDLES = 64
"""Candles kept per series for positions that are read after their entry candle has passed."""
SWEEP_EVERY_MS = 15 * 60_000
ATTEMPTS = 5
WARM_UP = 10
"""Spans an average must have seen before its value counts (SPEC 5)."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A simulation that came to its end. ``twin``: the engine's position lives on, this is what it is measured by."""

    position: StoredPosition
    closed: Closed
    result: Mapping[str, Any]
    twin: bool
    reasons: tuple[Reason, ...]


@dataclass(slots=True)
class _Followed:
    stored: StoredPosition
    position: Position
    saved_candles: int = 0


@dataclass(slots=True)
class _Series:
    symbol: str
    timeframe: str
    step_ms: int
    sequence: CandleSequence
    recent: deque[Candle] = field(default_factory=lambda: deque(maxlen=KEPT_CANDLES))
    counted: dict[Reason, int] = field(default_factory=dict)


class Follower:
    """Follows the positions of one namespace through its candles."""

    def __init__(
        self,
        store: Store,
        profiles: Mapping[str, Profile],
        *,
        window: int = 3,
        checkpoint_every: int = 96,
        volatility_timeframes: Sequence[str] = ("5m", "15m", "1h", "4h"),
    ) -> None:
        self.store = store
        self.profiles = dict(profiles)
        self.window = window
        self.checkpoint_every = checkpoint_every
        self._tracking = {profile.tracking_ms for profile in self.profiles.values()}
        self._volatility_timeframes = tuple(volatility_timeframes)
        self._series: dict[tuple[str, int], _Series] = {}
        self._finer: dict[tuple[str, int], deque[Candle]] = {}
        self._books: dict[str, dict[str, _Followed]] = {}
        self._loaded_seq: dict[str, int] = {}
        self._volatility: dict[str, dict[str, tuple[CandleAggregator, WilderAtr]]] = {}
        self._swept_ms = -SWEEP_EVERY_MS

    def candle(self, symbol: str, timeframe: str, candle: Candle) -> list[Ended]:
        """Take a candle as it arrives and return the simulations it ended."""
        step_ms = timeframe_ms(timeframe)
        if step_ms not in self._tracking:
            self._keep_finer(symbol, step_ms, candle)
            return []
        series = self._series_of(symbol, timeframe, step_ms)
        ended: list[Ended] = []
        for ready in series.sequence.push(candle):
            ended += self._apply(series, ready)
        self._count(series, candle)
        return ended

    def flush(self) -> list[Ended]:
        """Accept every gap still waited for: the feed has ended."""
        return [
            ended
            for series in self._series.values()
            for ready in series.sequence.flush()
            for ended in self._apply(series, ready)
        ]

    def _series_of(self, symbol: str, timeframe: str, step_ms: int) -> _Series:
        key = (symbol, step_ms)
        if key not in self._series:
            self._series[key] = _Series(symbol, timeframe, step_ms, CandleSequence(step_ms, self.window))
        return self._series[key]

    def _keep_finer(self, symbol: str, step_ms: int, candle: Candle) -> None:
        longest = max(self._tracking)
        if step_ms < longest and candle.final:
            room = (longest // step_ms) * (self.window + 2)
            self._finer.setdefault((symbol, step_ms), deque(maxlen=room)).append(candle)

    def _finer_within(self, symbol: str, step_ms: int, ts: int) -> list[Candle]:
        """The finest pieces at hand of one tracking candle."""
        for finer_ms in sorted(size for name, size in self._finer if name == symbol and size < step_ms):
            pieces = [piece for piece in self._finer[symbol, finer_ms] if ts <= piece.ts < ts + step_ms]
            if pieces:
                return sorted(pieces, key=lambda piece: piece.ts)
        return []

    def _count(self, series: _Series, candle: Candle) -> None:
        for reason, total in series.sequence.counts.items():
            for _ in range(total - series.counted.get(reason, 0)):
                self.store.count_candle(series.symbol, series.timeframe, reason, candle.ts)
            series.counted[reason] = total

    # --- one candle in its turn

    def _apply(self, series: _Series, candle: Candle) -> list[Ended]:
        closes_ms = candle.ts + series.step_ms
        self.store.advance_clock(closes_ms)
        # On a data clock the feed may be ahead of us: this candle's close is the now it is followed in, as in a replay.
        live = self.store.clock_kind() is ClockKind.LIVE
        now_ms = self.store.now_ms() if live else closes_ms
        self.sweep(now_ms, seen_ms=closes_ms)
        ended = list(self._load(series, candle, now_ms))
        ended += self._advance_all(series, candle, now_ms)
        series.recent.append(candle)
        self._push_volatility(series, candle)
        return ended

    def _load(self, series: _Series, upto: Candle, now_ms: int) -> Iterator[Ended]:
        """Read positions opened since the last look, and bring them up to the candles already seen."""
        symbol = series.symbol
        for stored in self.store.following(symbol, self._loaded_seq.get(symbol, 0)):
            self._loaded_seq[symbol] = max(self._loaded_seq.get(symbol, 0), stored.seq)
            followed = _followed(stored)
            book = self._books.setdefault(symbol, {})
            book[stored.signal_id] = followed
            tracked = self._series.get((symbol, stored.step_ms))
            for candle in tuple(tracked.recent) if tracked is not None else ():
                ended = self._step(symbol, followed, candle, now_ms) if candle.ts < upto.ts else None
                if ended is not None:
                    yield ended
                if stored.signal_id not in book:
                    break

    def _advance_all(self, series: _Series, candle: Candle, now_ms: int) -> Iterator[Ended]:
        for followed in list(self._books.get(series.symbol, {}).values()):
            if followed.stored.step_ms == series.step_ms:
                ended = self._step(series.symbol, followed, candle, now_ms)
                if ended is not None:
                    yield ended

    def _step(self, symbol: str, followed: _Followed, candle: Candle, now_ms: int) -> Ended | None:
        before = followed.position
        after = advance(before, candle)
        if isinstance(after, Closed) and after.ambiguous:
            after = advance(before, candle, self._finer_within(symbol, followed.stored.step_ms, candle.ts))
        if isinstance(after, Closed):
            return self._finish(symbol, followed, after, now_ms)
        followed.position = after
        tp1_now = after.track.tp1_ms is not None and before.track.tp1_ms is None
        if tp1_now or after.track.candles - followed.saved_candles >= self.checkpoint_every:
            self._checkpoint(followed, now_ms)
        return None

    def _checkpoint(self, followed: _Followed, now_ms: int) -> None:
        track = followed.position.track
        text = canonical_json(track_record(track))
        for _ in range(ATTEMPTS):
            status = self.store.touch(followed.stored, text, track.last_ts, now_ms=now_ms)
            if status is not CommitStatus.STALE:
                break
            self._reread(followed)
        followed.stored = replace(followed.stored, version=followed.stored.version + 1, track=text)
        followed.saved_candles = track.candles

    def _reread(self, followed: _Followed) -> None:
        found = self.store.position(followed.stored.signal_id)
        if found is not None:
            followed.stored = found

    # --- the end of a simulation

    def _finish(self, symbol: str, followed: _Followed, closed: Closed, now_ms: int) -> Ended | None:
        if followed.stored.kind is Kind.EXECUTED:
            # Whether it was claimed or lapsed meanwhile decides whose outcome this is.
            self._reread(followed)
        ended = self._commit_end(followed, closed, now_ms)
        self._books[symbol].pop(followed.stored.signal_id, None)
        return ended

    def _commit_end(self, followed: _Followed, closed: Closed, now_ms: int) -> Ended | None:
        for _ in range(ATTEMPTS):
            stored = followed.stored
            if not stored.following:
                return None
            twin = stored.kind is Kind.EXECUTED
            result, reasons = self._result(stored, closed, CloseHow.SIMULATION)
            if twin:
                text = canonical_json(result)
                status = self.store.touch(
                    stored, result_track(closed), closed.track.last_ts, now_ms=now_ms, result=text
                )
            else:
                status = self.store.close(self._close_command(stored, closed, result, CloseHow.SIMULATION, now_ms))
            if status is CommitStatus.DONE:
                return Ended(stored, closed, result, twin, reasons)
            if status in (CommitStatus.REPLAY, CommitStatus.MISSING):
                return None
            self._reread(followed)
        return None

    def _result(
        self, stored: StoredPosition, closed: Closed, how: CloseHow
    ) -> tuple[dict[str, Any], tuple[Reason, ...]]:
        """The whole story of a position, and the reasons of the decision it began with."""
        decision = self.store.decision(stored.signal_id)
        known: dict[str, Any] = json.loads(decision.body) if decision is not None else {}
        story = {
            **known,
            **closed_record(closed, self.profiles[stored.strategy].costs_bps),
            "kind": stored.kind.value,
            "unclaimed": stored.unclaimed,
            "how": how.value,
            "entry_ms": stored.entry_ms,
            "deadline_ms": stored.deadline_ms,
        }
        return story, decision.reasons if decision is not None else ()

    def _close_command(
        self, stored: StoredPosition, closed: Closed, result: Mapping[str, Any], how: CloseHow, now_ms: int
    ) -> CloseCommand:
        return CloseCommand(
            now_ms=now_ms,
            signal_id=stored.signal_id,
            prefix=stored.prefix,
            strategy=stored.strategy,
            symbol=stored.symbol,
            version=stored.version,
            how=how,
            outcome=closed.outcome.value,
            result=canonical_json(result),
            track=result_track(closed),
            learned=closed.outcome.decisive,
            win=closed.outcome.value == "win",
            r_micro=micro(float(result["net_r"])),
        )

    # --- what time alone brings about

    def sweep(self, now_ms: int, *, seen_ms: int | None = None) -> None:
        """Lapse unclaimed executes; at intervals also close what no report and no candle will close.

        ``seen_ms`` is how far the candles have been followed, when more are waiting: after an outage the clock is far
        ahead of them, and a position is not without data while its candles lie in the feed.
        """
        seen_ms = now_ms if seen_ms is None else seen_ms
        for signal_id in self.store.overdue_claims(now_ms):
            if self.store.lapse(signal_id, now_ms=now_ms):
                self._after_lapse(signal_id, now_ms)
        if now_ms - self._swept_ms < SWEEP_EVERY_MS:
            return
        self._swept_ms = now_ms
        for stored in self.store.overdue(seen_ms - NO_DATA_AFTER_MS):
            self._give_up(stored, seen_ms)
        for stored in self.store.unreported(now_ms):
            if not stored.following:
                self._close_by_twin(stored, CloseHow.UNREPORTED, now_ms)

    def _after_lapse(self, signal_id: str, now_ms: int) -> None:
        stored = self.store.position(signal_id)
        if stored is None:
            return
        followed = self._books.get(stored.symbol, {}).get(signal_id)
        if followed is not None:
            followed.stored = stored
        if stored.open and not stored.following:
            # Its simulation ended while the claim was still pending: that ending is now the outcome.
            self._close_by_twin(stored, CloseHow.SIMULATION, now_ms)

    def _close_by_twin(self, stored: StoredPosition, how: CloseHow, now_ms: int) -> None:
        if stored.twin is None:
            return
        closed = closed_from(terms_from(json.loads(stored.terms)), json.loads(stored.twin))
        result, _ = self._result(stored, closed, how)
        self.store.close(self._close_command(stored, closed, result, how, now_ms))

    def _give_up(self, stored: StoredPosition, now_ms: int) -> None:
        followed = self._books.get(stored.symbol, {}).get(stored.signal_id) or _followed(stored)
        if overdue(followed.position, now_ms):
            self._books.setdefault(stored.symbol, {}).setdefault(stored.signal_id, followed)
            self._finish(stored.symbol, followed, abandon(followed.position, now_ms), now_ms)

    # --- the symbol's volatility history

    def _push_volatility(self, series: _Series, candle: Candle) -> None:
        states = self._volatility.get(series.symbol)
        if states is None:
            states = self._volatility[series.symbol] = self._volatility_states(series)
        updates = []
        for timeframe, (aggregator, atr) in states.items():
            if aggregator.step_ms != series.step_ms:
                continue
            next_aggregator, higher = aggregator.push(candle)
            if next_aggregator is aggregator:
                continue
            value = None
            for closed in higher:
                atr = atr.advance(closed.high, closed.low, closed.close)
                value = atr.atr_pct
            states[timeframe] = (next_aggregator, atr)
            # An average that still remembers its first candles would rank them instead of the market.
            settled = value is not None and math.isfinite(value) and atr.count >= WARM_UP * atr.period
            updates.append(_update(timeframe, value if settled else None, next_aggregator, atr))
        self.store.push_volatility(series.symbol, updates)

    def _volatility_states(self, series: _Series) -> dict[str, tuple[CandleAggregator, WilderAtr]]:
        kept = self.store.volatility_states(series.symbol)
        states = {}
        for timeframe in self._volatility_timeframes:
            higher_ms = timeframe_ms(timeframe)
            if higher_ms % series.step_ms:
                continue
            if timeframe in kept:
                aggregator, atr = json.loads(kept[timeframe])
                states[timeframe] = (CandleAggregator.from_json(aggregator), WilderAtr.from_json(atr))
            else:
                states[timeframe] = (CandleAggregator(series.step_ms, higher_ms), WilderAtr())
        return states

    # --- for the feed

    @property
    def longest_step_ms(self) -> int:
        """Length of the longest tracking candle."""
        return max(self._tracking)

    def oldest_needed_ms(self) -> int | None:
        """Open time of the oldest candle a restart would need, by the positions' last checkpoints."""
        needed = [
            json.loads(followed.stored.track)["last_ts"] for book in self._books.values() for followed in book.values()
        ]
        return min(needed) if needed else None


def _followed(stored: StoredPosition) -> _Followed:
    position = position_from(json.loads(stored.terms), json.loads(stored.track))
    return _Followed(stored, position, position.track.candles)


def result_track(closed: Closed) -> str:
    """The last track of a simulation, as the store keeps it."""
    return canonical_json(track_record(closed.track))


def _update(timeframe: str, atr_pct: float | None, aggregator: CandleAggregator, atr: WilderAtr) -> VolatilityUpdate:
    return VolatilityUpdate(timeframe, atr_pct, lambda: json.dumps([aggregator.to_json(), atr.to_json()]))
