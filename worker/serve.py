"""A worker that outlives its Redis: it begins again when the connection is back."""

from __future__ import annotations

import logging
from collections.abc import Callable

import redis

from runtime.clock import pause
from worker.queue import GateWorker, bury

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
log = logging.getLogger(__name__)


def serve(make: Callable[[], GateWorker], *, wait: Callable[[float], None] = pause) -> None:
    """Work until a signal asks for the end. RQ's own loop ends whenever Redis does in the middle of a job."""
    pause_s, last = FIRST_PAUSE_S, None
    while True:
        gate = make()
        try:
            if last is not None:
                # What it held is ours to answer, and its pulse would be waited for.
                bury(gate.connection, last)
                last = None
            if gate.run():
                pause_s = FIRST_PAUSE_S
        except redis.RedisError as error:
            log.warning("the worker lost Redis: %s", error)
        if gate.stopped_on_request:
            return
        last = last or gate.name
        log.warning("the worker begins again in %.1f s", pause_s)
        wait(pause_s)
        pause_s = min(2.0 * pause_s, LONGEST_PAUSE_S)
