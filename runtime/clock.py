"""The only door to the machine's clocks. Trading time comes from the store; this measures durations and waits."""

from __future__ import annotations

import time
from collections.abc import Callable

Stopwatch = Callable[[], float]


def stopwatch() -> float:
    """Seconds on a clock that never goes back, for durations only."""
    return time.perf_counter()


def wall_ms() -> int:
    """This machine's wall clock in epoch ms: for start-up before any server is there, and for people."""
    return time.time_ns() // 1_000_000


def pause(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)
