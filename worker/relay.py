"""The relay's loop: carry what there is, wait when there is nothing, back off while a server is away."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable

from persistence.outbox import Backlog, Relay
from runtime.clock import Stopwatch, pause, stopwatch
from signals.errors import Permanent, Transient

FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 3.0
SHORTEST_STEP_S = 0.02
CHECK_EVERY_S = 300.0
SHOW_EVERY = 50
"""Turns after which the backlog is shown even when it has not changed."""
_log = logging.getLogger(__name__)


def run(
    relay: Relay,
    stop: Callable[[], bool],
    poll_ms: int = 200,
    *,
    max_batch: int = 500,
    wait: Callable[[float], None] = pause,
    check: Callable[[], None] = lambda: None,
    watch: Stopwatch = stopwatch,
) -> None:
    """Relay until ``stop`` says so. What passes is waited for, for ever; what does not is raised.

    ``check`` compares both sides: at first, now and then, and after every failure, because a server that comes back
    may come back from an older day.
    """
    board = _Board(relay)
    failures = 0
    checked_s = -math.inf
    while not stop():
        try:
            if watch() - checked_s >= CHECK_EVERY_S:
                _compare(check)
                checked_s = watch()
            report = relay.cycle(max_batch)
        except Transient as error:
            failures += 1
            checked_s = -math.inf
            # At doubling distances: an hour without Postgres is a few lines, not hundreds.
            if failures & (failures - 1) == 0:
                _log.warning("relay waits, failure %d: %s", failures, error)
            board.show(None, str(error))
            _wait(backoff_s(failures), poll_ms / 1000, stop, wait)
            continue
        if failures > 0:
            _log.info("relay works again after %d failures", failures)
        failures = 0
        board.show(report.backlog, "")
        if report.read < max_batch or report.inserted + report.replayed == 0:
            wait(poll_ms / 1000)


def _compare(check: Callable[[], None]) -> None:
    """Whatever the comparison found, the facts on their way still belong into the record."""
    try:
        check()
    except Permanent as error:
        _log.critical("live state and record could not be compared: %s", error)


class _Board:
    """Shows how far the sink is behind, when that has changed or has not been shown for a while."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._shown: tuple[Backlog, str] | None = None
        self._turns = 0

    def show(self, backlog: Backlog | None, trouble: str) -> None:
        self._turns += 1
        # The board is for people; the relay does not stop because it cannot be written.
        with contextlib.suppress(Transient):
            now = (backlog or self._relay.backlog(), trouble)
            if now != self._shown or self._turns % SHOW_EVERY == 0:
                self._relay.publish(*now)
                self._shown = now


def _wait(seconds: float, step_s: float, stop: Callable[[], bool], wait: Callable[[float], None]) -> None:
    """Wait in short steps, so that a stop is heard."""
    while seconds > 0.0 and not stop():
        step = min(max(step_s, SHORTEST_STEP_S), seconds)
        wait(step)
        seconds -= step


def backoff_s(failures: int) -> float:
    """Seconds to wait after so many failures in a row: doubling, and few enough to be back soon after a server is."""
    return min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(failures - 1, 16))
