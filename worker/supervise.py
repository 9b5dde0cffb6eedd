"""The parent of a worker: ends it when a job outlasts its limit, buries it when it has died, starts the next one.

It loads no model and answers nothing, so whatever kills its child leaves it alone.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

import redis

from runtime.clock import pause, stopwatch
from signals.errors import Permanent
from worker.queue import bury

TICK_S = 0.2
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
STEADY_S = 10.0
"""A child that lived this long did not die of its start."""
MODEL_LIBRARY = "sklearn"
log = logging.getLogger(__name__)


class Supervisor:
    """Keeps one child running that ``command`` starts; the child tells by a pipe what it is doing."""

    def __init__(self, command: Sequence[str], connection: redis.Redis) -> None:
        self._command = list(command)
        self._connection = connection
        self._due: list[tuple[str, str | None]] = []

    def run(self, stop: Callable[[], bool]) -> None:
        """Start children, one after the other, until ``stop`` says so."""
        if MODEL_LIBRARY in sys.modules:
            raise Permanent(f"{MODEL_LIBRARY} is loaded in the parent of a worker: its threads must be the child's own")
        pause_s = FIRST_PAUSE_S
        while not stop():
            began = stopwatch()
            status = self._one(stop)
            if stop():
                return
            pause_s = FIRST_PAUSE_S if stopwatch() - began > STEADY_S else min(2.0 * pause_s, LONGEST_PAUSE_S)
            log.error("the worker ended with status %d; the next one starts in %.1f s", status, pause_s)
            self._bury()
            waited = 0.0
            while waited < pause_s and not stop():
                pause(TICK_S)
                waited += TICK_S
            self._bury()

    def _one(self, stop: Callable[[], bool]) -> int:
        reading, writing = os.pipe()
        try:
            child = subprocess.Popen(  # noqa: S603 - our own module
                [*self._command, "--watched", str(writing)], stdin=subprocess.PIPE, pass_fds=(writing,)
            )
        finally:
            os.close(writing)
        told = Told()
        try:
            self._watch(child, reading, told, stop)
        finally:
            os.close(reading)
            if child.poll() is None and not stop():
                child.kill()
        status = child.wait()
        if child.stdin is not None:
            child.stdin.close()
        if told.name is not None and status != 0:
            self._due.append((told.name, told.overran))
        return status

    def _watch(self, child: subprocess.Popen[bytes], reading: int, told: Told, stop: Callable[[], bool]) -> None:
        """Until the child is gone: its end of the pipe closes with it, however it ends."""
        asked = False
        while True:
            ready, _, _ = select.select([reading], [], [], TICK_S)
            if ready:
                data = os.read(reading, 4096)
                if not data:
                    return
                told.take(data)
            if told.overdue():
                log.critical("job %s outlasts its limit in native code: the worker is killed", told.job)
                told.overran = told.job
                child.kill()
            if stop() and not asked:
                asked = True
                child.send_signal(signal.SIGTERM)

    def _bury(self) -> None:
        """Let the next child answer at once what the dead one held; when Redis is away its pulse runs out instead."""
        while self._due:
            name, overran = self._due[0]
            try:
                bury(self._connection, name, overran)
            except redis.RedisError as error:
                log.warning("the dead worker %s could not be buried: %s", name, error)
                return
            self._due.pop(0)


class Told:
    """What a child has told so far."""

    def __init__(self) -> None:
        self.name: str | None = None
        self.job: str | None = None
        self.overran: str | None = None
        self._until_s = 0.0
        self._rest = b""

    def take(self, data: bytes) -> None:
        """Read whole lines."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            match line.decode("ascii", "replace").split():
                case ["born", name]:
                    self.name = name
                case ["begin", job, limit_s]:
                    self.job, self._until_s = job, stopwatch() + float(limit_s)
                case ["end"]:
                    self.job = None

    def overdue(self) -> bool:
        """Whether the job it is at should have ended."""
        return self.job is not None and self.overran is None and stopwatch() > self._until_s


def teller(descriptor: int) -> Callable[[str], None]:
    """The child's side: how it tells its parent. It stops gently when the parent is gone."""

    def tell(line: str) -> None:
        try:
            os.write(descriptor, f"{line}\n".encode("ascii"))
        except BrokenPipeError:
            os.kill(os.getpid(), signal.SIGTERM)

    def outlive_nobody() -> None:
        # Standard input is a pipe nobody writes to: it ends with the parent.
        sys.stdin.buffer.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=outlive_nobody, name="parent", daemon=True).start()
    return tell
