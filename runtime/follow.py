"""The use case behind every candle: put it in order, advance the positions it moves, close what it ends."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
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
from phantom.position import NO_DATA_AFTER_MS, Closed, Outcome, Position
from phantom.record import closed_from, closed_record, position_from, terms_from, track_record
from phantom.sequence import CandleSequence
from runtime.counted import groups_of
from runtime.crowd import CrowdWatch
from runtime.watched import PathWatch, path_row
from signals.candle import Candle
from signals.parse import canonical_json
from signals.profile import Kind, Profile
from signals.reasons import Reason
from signals.timeframe import timeframe_ms

KEPT_CANDLES = 64
"""Candles kept per series for positions that are read after their entry candle has passed."""
VOLATILITY_TIMEFRAMES = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "12h", "1d")
"""Signal timeframes whose atr_pct history is kept; a signal on another one has an unknown regime, and says so."""
SWEEP_EVERY_MS = 15 * 60_000
ATTEMPTS = 5
WARM_UP = 10
"""Spans an average must have seen before its value counts (SPEC 5)."""
LARGEST_R = 1e9
"""A stop a hair from its entry makes any move absurdly many R; the day's counter holds 64 bits."""


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
    ready: deque[Candle] = field(default_factory=deque)
    arrived: Candle | None = None
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
        volatility_timeframes: Sequence[str] = VOLATILITY_TIMEFRAMES,
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
        self._crowd = CrowdWatch()
        self._paths: dict[tuple[str, int], PathWatch] = {}
        self._awaiting_read: set[str] = set()
        self._loaded_seq: dict[str, int] = {}
        self._volatility: dict[str, dict[str, tuple[CandleAggregator, WilderAtr]]] = {}
        self._swept_ms = -SWEEP_EVERY_MS
        self._ended: list[Ended] = []

    def candle(self, symbol: str, timeframe: str, candle: Candle) -> list[Ended]:
        """Take a candle as it arrives and return the simulations it ended.

        After an error the same candle is to be handed over again: what was left undone is done then.
        """
        step_ms = timeframe_ms(timeframe)
        self._keep_finer(symbol, step_ms, candle)
        if step_ms not in self._tracking:
            return []
        series = self._series_of(symbol, timeframe, step_ms)
        # A lost connection can leave candles that are in their turn but not applied; the sequence knows them already.
        if not (series.ready and candle == series.arrived):
            series.arrived = candle
            series.ready.extend(series.sequence.push(candle))
        self._drain(series)
        self._count(series, candle.ts)
        return self._told()

    def flush(self) -> list[Ended]:
        """Accept every gap still waited for: the feed has ended."""
        for series in self._series.values():
            series.ready.extend(series.sequence.flush())
            self._drain(series)
            if series.recent:
                self._count(series, series.recent[-1].ts)
        return self._told()

    def forget(self) -> None:
        """Drop everything in memory: the store and the stream are to be read anew."""
        for kept in (self._series, self._finer, self._books, self._loaded_seq, self._volatility, self._ended):
            kept.clear()
        self._paths.clear()
        self._awaiting_read.clear()
        self._swept_ms = -SWEEP_EVERY_MS

    def _told(self) -> list[Ended]:
        ended, self._ended = self._ended, []
        return ended

    def _drain(self, series: _Series) -> None:
        while series.ready:
            self._apply(series, series.ready[0])
            series.ready.popleft()

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
        """The finest pieces at hand of one tracking candle, up to the first hole: what came first is unknown beyond."""
        for finer_ms in sorted(size for name, size in self._finer if name == symbol and step_ms % size == 0):
            first: dict[int, Candle] = {}
            for piece in self._finer[symbol, finer_ms]:
                first.setdefault(piece.ts, piece)
            pieces = [first.get(opens) for opens in range(ts, ts + step_ms, finer_ms)]
            whole = list(takewhile(lambda piece: piece is not None, pieces))
            if finer_ms < step_ms and whole:
                return [piece for piece in whole if piece is not None]
        return []

    def _count(self, series: _Series, ts: int) -> None:
        for reason, total in series.sequence.counts.items():
            for _ in range(total - series.counted.get(reason, 0)):
                self.store.count_candle(series.symbol, series.timeframe, reason, ts)
            series.counted[reason] = total

    # --- one candle in its turn

    def _apply(self, series: _Series, candle: Candle) -> None:
        """Apply one candle. Every part can be repeated: a position ignores a candle it has seen."""
        closes_ms = candle.ts + series.step_ms
        self.store.advance_clock(closes_ms)
        # On a data clock the feed may be ahead of us: this candle's close is the now it is followed in, as in a replay.
        live = self.store.clock_kind() is ClockKind.LIVE
        now_ms = self.store.now_ms() if live else closes_ms
        self._sweep(now_ms, closes_ms)
        self._load(series.symbol, now_ms)
        for followed in list(self._books.get(series.symbol, {}).values()):
            if followed.stored.step_ms == series.step_ms:
                self._step(series.symbol, followed, candle, now_ms)
        self._end_paths(series, candle, now_ms)
        self._push_volatility(series, candle)
        # Last: from here on this candle counts as seen, with everything it moved.
        self.store.see_candle(series.symbol, series.step_ms, closes_ms, now_ms=now_ms)
        series.recent.append(candle)

    def _load(self, symbol: str, now_ms: int) -> None:
        """Read positions opened since the last look, and bring them up to the candles already seen."""
        if symbol not in self._awaiting_read:
            # Once: whatever opens from here on comes with the positions to follow.
            for stored in self.store.awaiting_path(symbol):
                self._watch(stored)
            self._awaiting_read.add(symbol)
        for stored in self.store.following(symbol, self._loaded_seq.get(symbol, 0)):
            self._watch(stored)
            followed = _followed(stored)
            book = self._books.setdefault(symbol, {})
            book[stored.signal_id] = followed
            tracked = self._series.get((symbol, stored.step_ms))
            for candle in tuple(tracked.recent) if tracked is not None else ():
                self._step(symbol, followed, candle, now_ms)
                if stored.signal_id not in book:
                    break
            # Only now: a position whose catching up broke off is read and caught up again.
            self._loaded_seq[symbol] = max(self._loaded_seq.get(symbol, 0), stored.seq)
        book = self._books.get(symbol, {})
        self._crowd.see(symbol, sum(followed.stored.kind is Kind.PHANTOM for followed in book.values()))

    def _watch(self, stored: StoredPosition) -> None:
        self._paths.setdefault((stored.symbol, stored.step_ms), PathWatch()).await_path(stored)

    def _end_paths(self, series: _Series, candle: Candle, now_ms: int) -> None:
        """Record the paths whose horizon ends here, whatever became of their positions."""
        watch = self._paths.setdefault((series.symbol, series.step_ms), PathWatch())
        watch.see(candle)
        for watched in watch.over(candle.ts + series.step_ms):
            path = watch.path(watched)
            row = path_row(watched.stored, watched.terms, path)
            self.store.record_path(watched.stored, row, known=path.known, now_ms=now_ms)

    def _step(self, symbol: str, followed: _Followed, candle: Candle, now_ms: int) -> None:
        before = followed.position
        after = advance(before, candle)
        if isinstance(after, Closed) and after.ambiguous:
            after = advance(before, candle, self._finer_within(symbol, followed.stored.step_ms, candle.ts))
        if isinstance(after, Closed):
            self._finish(symbol, followed, after, now_ms)
            return
        followed.position = after
        tp1_now = after.track.tp1_ms is not None and before.track.tp1_ms is None
        if tp1_now or after.track.candles - followed.saved_candles >= self.checkpoint_every:
            self._checkpoint(followed, now_ms)

    def _checkpoint(self, followed: _Followed, now_ms: int) -> None:
        track = followed.position.track
        text = canonical_json(track_record(track))
        for _ in range(ATTEMPTS):
            status = self.store.touch(followed.stored, text, track.last_ts, now_ms=now_ms)
            if status is CommitStatus.DONE:
                followed.stored = replace(followed.stored, version=followed.stored.version + 1, track=text)
            if status is not CommitStatus.STALE:
                break
            self._reread(followed)
            if _saved_ms(followed.stored) >= track.last_ts:
                break  # another follower is ahead of us: a checkpoint never goes back
        followed.saved_candles = track.candles

    def _reread(self, followed: _Followed) -> None:
        found = self.store.position(followed.stored.signal_id)
        if found is not None:
            followed.stored = found

    # --- the end of a simulation

    def _finish(self, symbol: str, followed: _Followed, closed: Closed, now_ms: int) -> None:
        if followed.stored.kind is Kind.EXECUTED:
            # Whether it was claimed or lapsed meanwhile decides whose outcome this is.
            self._reread(followed)
        if closed.outcome is Outcome.NO_DATA:
            # Whether a sweep or the symbol's next candle noticed first must not change the record.
            closed = replace(closed, exit_ms=followed.stored.deadline_ms + NO_DATA_AFTER_MS)
        ended = self._commit_end(followed, closed, now_ms)
        if ended is not None:
            self._ended.append(ended)
        self._books[symbol].pop(followed.stored.signal_id, None)

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
            **closed_record(closed, self._costs_bps(stored.strategy)),
            "kind": stored.kind.value,
            "unclaimed": stored.unclaimed,
            "how": how.value,
            "entry_ms": stored.entry_ms,
            "deadline_ms": stored.deadline_ms,
        }
        return story, decision.reasons if decision is not None else ()

    def _costs_bps(self, strategy: str) -> float:
        # A position may outlive its profile's place in the settings; it must still be followed to its end.
        profile = self.profiles.get(strategy)
        return 0.0 if profile is None else profile.costs_bps

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
            r_micro=micro(max(-LARGEST_R, min(LARGEST_R, float(result["net_r"])))),
            groups=groups_of(result),
        )

    # --- what time alone brings about

    def sweep(self, now_ms: int) -> list[Ended]:
        """Lapse unclaimed executes; at intervals also close what no report and no candle will close.

        To be called when no candle is waiting: what is overdue then has none.
        """
        self._sweep(now_ms, now_ms)
        self.store.watch_breakers(now_ms=now_ms)
        return self._told()

    def _sweep(self, now_ms: int, seen_ms: int) -> None:
        # ``seen_ms`` is how far the candles have been followed: after an outage the clock is far ahead of them, and a
        # position is not without data while its candles lie in the feed.
        for signal_id in self.store.overdue_claims(now_ms):
            if self.store.lapse(signal_id, now_ms=now_ms):
                self._after_lapse(signal_id, now_ms)
        if now_ms - self._swept_ms < SWEEP_EVERY_MS:
            return
        for stored in self.store.overdue(seen_ms - NO_DATA_AFTER_MS):
            self._give_up(stored, seen_ms, now_ms)
        for stored in self.store.unreported(now_ms):
            if not stored.following:
                self._close_by_twin(stored, CloseHow.UNREPORTED, now_ms)
        self._swept_ms = now_ms

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

    def _give_up(self, stored: StoredPosition, seen_ms: int, now_ms: int) -> None:
        followed = self._books.get(stored.symbol, {}).get(stored.signal_id) or _followed(stored)
        if overdue(followed.position, seen_ms):
            self._books.setdefault(stored.symbol, {}).setdefault(stored.signal_id, followed)
            self._finish(stored.symbol, followed, abandon(followed.position, seen_ms), now_ms)

    # --- the symbol's volatility history

    def _push_volatility(self, series: _Series, candle: Candle) -> None:
        # Taken out until the store has it: after an error the states are read again as they were kept.
        states = self._volatility.pop(series.symbol, None)
        if states is None:
            states = self._volatility_states(series)
        updates = []
        for timeframe, (aggregator, atr) in states.items():
            if aggregator.step_ms != series.step_ms:
                continue
            next_aggregator, higher = aggregator.push(candle)
            if next_aggregator is aggregator:
                continue
            values = []
            for closed in higher:
                atr = atr.advance(closed.high, closed.low, closed.close)
                value = atr.atr_pct
                # An average that still remembers its first candles would rank them instead of the market.
                if value is not None and math.isfinite(value) and atr.count >= WARM_UP * atr.period:
                    values.append(value)
            states[timeframe] = (next_aggregator, atr)
            updates += [_update(timeframe, value, next_aggregator, atr) for value in values or (None,)]
        self.store.push_volatility(series.symbol, updates)
        self._volatility[series.symbol] = states

    def _volatility_states(self, series: _Series) -> dict[str, tuple[CandleAggregator, WilderAtr]]:
        kept = self.store.volatility_states(series.symbol)
        states = {}
        for timeframe in self._volatility_timeframes:
            higher_ms = timeframe_ms(timeframe)
            if higher_ms % series.step_ms:
                continue
            states[timeframe] = (CandleAggregator(series.step_ms, higher_ms), WilderAtr())
            if timeframe in kept:
                aggregator, atr = json.loads(kept[timeframe])
                known = CandleAggregator.from_json(aggregator)
                # A state built from a tracking timeframe that no profile has any more would never move again.
                if known.step_ms in self._tracking:
                    states[timeframe] = (known, WilderAtr.from_json(atr))
        return states

    # --- for the feed

    @property
    def longest_step_ms(self) -> int:
        """Length of the longest tracking candle."""
        return max(self._tracking)

    def oldest_needed_ms(self) -> int | None:
        """Open time of the oldest candle a restart would need, by the positions' last checkpoints and open paths."""
        needed = [_saved_ms(followed.stored) for book in self._books.values() for followed in book.values()]
        needed += [entry for watch in self._paths.values() if (entry := watch.oldest_entry_ms) is not None]
        return min(needed) if needed else None


def _followed(stored: StoredPosition) -> _Followed:
    position = position_from(json.loads(stored.terms), json.loads(stored.track))
    return _Followed(stored, position, position.track.candles)


def _saved_ms(stored: StoredPosition) -> int:
    """Open time of the last candle the store knows a position to have seen."""
    return int(json.loads(stored.track)["last_ts"])


def result_track(closed: Closed) -> str:
    """The last track of a simulation, as the store keeps it."""
    return canonical_json(track_record(closed.track))


def _update(timeframe: str, atr_pct: float | None, aggregator: CandleAggregator, atr: WilderAtr) -> VolatilityUpdate:
    return VolatilityUpdate(timeframe, atr_pct, lambda: json.dumps([aggregator.to_json(), atr.to_json()]))
