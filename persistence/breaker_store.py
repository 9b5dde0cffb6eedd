"""What a store promises about breakers, and what it gives them to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from signals.breaker import Thresholds


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What the breakers read: their own hash, orders of the last second, latencies, the market as last seen.

    ``losses`` are the day's, in millionths of R and of money.
    """

    entry: Mapping[str, str]
    orders: int = 0
    latencies: Sequence[str] = ()
    seen: Mapping[str, str] = field(default_factory=dict)
    losses: tuple[int, int] = (0, 0)
    history: Sequence[str] = ()
    data_clock: bool = False


class BreakerStore(Protocol):
    """What a store promises about breakers."""

    def configure_breakers(self, thresholds: Thresholds, *, now_ms: int) -> bool:
        """Put thresholds in force; false when the breakers' state is missing, which only a rebuild mends."""
        ...

    def reset_breaker(self, name: str, *, actor: str, expected: int, now_ms: int) -> bool:
        """Begin a breaker's count anew, if the generation of its trip, or else of all, is the expected one."""
        ...

    def see_candle(self, symbol: str, step_ms: int, closes_ms: int, *, now_ms: int) -> None:
        """Remember the last candle followed of a tracking series, and that somebody is looking."""
        ...

    def watch_breakers(self, *, now_ms: int) -> None:
        """Say that somebody is looking, and record what time alone has turned."""
        ...

    def breaker_inputs(self, *, now_ms: int) -> Inputs:
        """Everything the breakers read."""
        ...
