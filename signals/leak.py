"""A feature that was not known when it was needed: which one, known when, needed when."""

from __future__ import annotations

from dataclasses import dataclass

from signals.reasons import Reason
from signals.timeday import iso_utc

STAMP_SUFFIX = "_known_ms"
"""A feature ``x`` may be sent with ``x_known_ms``: the UTC epoch millisecond from which its value was known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """One feature that would carry the future into a decision or a model.

    ``known`` and ``needed`` are fit to show: a moment, or words like ``after the exit``; ``detail`` is the evidence.
    """

    feature: str
    reason: Reason
    known: str
    needed: str = "at the decision"
    detail: str = ""

    @property
    def sentence(self) -> str:
        """The explanation in one line."""
        evidence = f": {self.detail}" if self.detail else ""
        return f"{self.feature} ({self.reason.value}) is known {self.known}, but needed {self.needed}{evidence}"


def late(name: str, known_ms: float, needed_ms: int) -> Leak | None:
    """The leak of a value that was known only after it was needed; none when it was known in time."""
    if known_ms <= needed_ms:
        return None
    return Leak(
        feature=name,
        reason=Reason.LEAK_LATE,
        known=iso_utc(int(known_ms)),
        needed=iso_utc(needed_ms),
        detail=f"{known_ms - needed_ms:,.0f} ms too late",
    )
