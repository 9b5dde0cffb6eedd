"""Does every decision still rebuild: from its own record, and from the candles as they were at its moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from market.candles import Candles
from market.reference_strategies import StrategySettings, proposals
from scorer.rebuilt import Difference, Rebuilt, compared, differences, stored_vector
from scorer.schema import Schema
from signals.signal import Signal

LISTED = 20
"""Mismatches kept in full; the rest is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """A decision that does not rebuild, and every feature that differs.

    Without a difference the features are those that were stored and the hash itself is not theirs.
    """

    signal_id: str
    differences: tuple[Difference, ...] = ()

    def __str__(self) -> str:
        """Which features, both values."""
        told = ", ".join(map(str, self.differences)) or "its stored features are not those that were hashed"
        return f"{self.signal_id}: {told}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """How many vectors were compared and how many were equal, bit for bit; ``unknown`` ones had no hash to compare."""

    checked: int = 0
    equal: int = 0
    unknown: int = 0
    mismatches: tuple[Mismatch, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether all that could be compared were equal."""
        return self.equal == self.checked

    @property
    def record(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {
            "checked": self.checked,
            "equal": self.equal,
            "unknown": self.unknown,
            "mismatches": [
                {
                    "id": found.signal_id,
                    "features": [
                        {"feature": one.feature, "seen": one.seen, "rebuilt": one.rebuilt} for one in found.differences
                    ],
                }
                for found in self.mismatches
            ],
        }

    def __str__(self) -> str:
        """The counts in words."""
        unknown = f", {self.unknown} without a hash" if self.unknown else ""
        return f"{self.equal:,} of {self.checked:,} equal{unknown}"


@dataclass(slots=True)
class VectorCheck:
    """Counts comparisons as they come."""

    schema: Schema
    checked: int = 0
    equal: int = 0
    unknown: int = 0
    mismatches: list[Mismatch] = field(default_factory=list)

    def decision(self, body: Mapping[str, Any]) -> None:
        """Rebuild a decision from the features stored in its own body."""
        self._count(compared(self.schema, stored_vector(self.schema, body), body.get("vector_hash")), body, None)

    def against(self, body: Mapping[str, Any], other: Mapping[str, Any] | None) -> None:
        """Rebuild a decision from another source of the same features: a closed position, or candles; none is none."""
        if other is None:
            self._count(Rebuilt.DIFFERENT, body, {})
            return
        vector = stored_vector(self.schema, {**body, "features": other})
        self._count(compared(self.schema, vector, body.get("vector_hash")), body, other)

    def _count(self, found: Rebuilt, body: Mapping[str, Any], other: Mapping[str, Any] | None) -> None:
        if found is Rebuilt.UNKNOWN:
            self.unknown += 1
            return
        self.checked += 1
        self.equal += found is Rebuilt.EQUAL
        if found is Rebuilt.DIFFERENT and len(self.mismatches) < LISTED:
            seen = stored_vector(self.schema, body)
            told = (
                ()
                if other is None
                else differences(self.schema, seen, stored_vector(self.schema, {**body, "features": other}))
            )
            self.mismatches.append(Mismatch(signal_id=str(body.get("id")), differences=told))

    @property
    def verified(self) -> Verified:
        """What was counted so far."""
        return Verified(checked=self.checked, equal=self.equal, unknown=self.unknown, mismatches=tuple(self.mismatches))


def sample(signals: Sequence[Signal], most: int) -> list[Signal]:
    """At most so many of some signals, evenly spread over them, the last one included."""
    if most <= 0 or not signals:
        return []
    count = min(most, len(signals))
    step = len(signals) / count
    return [signals[round((place + 1) * step) - 1] for place in range(count)]


def from_candles(
    schema: Schema, bodies: Iterable[Mapping[str, Any]], series: Iterable[Candles], settings: StrategySettings
) -> Verified:
    """Compute the features of some decisions anew from the candles that were closed at their moments, and no others.

    ``bodies`` are those of decisions on a reference strategy's signals. Every indicator of the series is computed
    from its beginning each time: what remembers for ever must remember the same.
    """
    by_symbol = {candles.symbol: candles for candles in series}
    check = VectorCheck(schema)
    for body in bodies:
        known = by_symbol[body["symbol"]].closed_by(body["ts"])
        again = proposals(body["strategy"], known, None, settings)
        found = next((signal for signal in reversed(again) if signal.id == body["id"]), None)
        check.against(body, None if found is None else found.features)
    return check.verified
