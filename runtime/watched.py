"""Paths still being watched: told once their horizon has passed, from the candles that are still at hand.

Nothing is computed while a path runs: a candle costs a look at the path that ends next.
"""

from __future__ import annotations

import heapq
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from persistence.store import StoredPosition
from phantom.position import Terms
from phantom.reach import HORIZON, Path, path_end_ms, path_record, walk_batch
from phantom.record import terms_from
from signals.candle import Candle
from signals.parse import canonical_json


@dataclass(frozen=True, slots=True)
class Watched:
    """A position whose path is awaited, and the terms it is measured by."""

    stored: StoredPosition
    terms: Terms


@dataclass(slots=True)
class PathWatch:
    """The paths of one symbol's tracking series."""

    candles: deque[Candle] = field(default_factory=lambda: deque(maxlen=HORIZON + 1))
    _waiting: list[tuple[int, str, Watched]] = field(default_factory=list)
    _known: set[str] = field(default_factory=set)

    def await_path(self, stored: StoredPosition) -> None:
        """Watch a position's path from its entry on, unless it is recorded or watched already."""
        if stored.path is not None or stored.signal_id in self._known:
            return
        terms = terms_from(json.loads(stored.terms))
        self._known.add(stored.signal_id)
        heapq.heappush(self._waiting, (path_end_ms(terms), stored.signal_id, Watched(stored, terms)))

    def see(self, candle: Candle) -> None:
        """Keep a candle; one that comes again changes nothing."""
        if not self.candles or self.candles[-1].ts < candle.ts:
            self.candles.append(candle)

    def over(self, closes_ms: int) -> Iterator[Watched]:
        """Paths whose horizon has passed, the earliest first; one is let go only when the next is asked for."""
        while self._waiting and self._waiting[0][0] <= closes_ms:
            yield self._waiting[0][2]
            _, signal_id, _ = heapq.heappop(self._waiting)
            self._known.discard(signal_id)

    def path(self, watched: Watched) -> Path:
        """The path through the candles at hand: with a hole where they do not reach back to the entry."""
        ts, high, low = zip(*((candle.ts, candle.high, candle.low) for candle in self.candles), strict=True)
        # On arrays: a tenth of the time of going candle by candle, and the same to the last bit.
        (path,) = walk_batch([watched.terms], np.array(ts, dtype=np.int64), np.array(high), np.array(low))
        return path

    @property
    def oldest_entry_ms(self) -> int | None:
        """Open time of the oldest candle that a path still needs."""
        return self._waiting[0][0] - HORIZON * self._waiting[0][2].terms.step_ms if self._waiting else None


def path_row(stored: StoredPosition, terms: Terms, path: Path) -> str:
    """A path as it is recorded: whose it is, when it began, and from when on it was known."""
    told = {"id": stored.signal_id, "entry_ms": terms.entry_ms, "known_ms": path_end_ms(terms), **path_record(path)}
    return canonical_json(told)
