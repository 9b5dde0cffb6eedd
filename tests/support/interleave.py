"""Two workers in every order their commands can come in.

Each worker runs in a thread of its own and stops before each command until it is let go, so one runs at a time. The
orders are walked depth first: a run follows a prefix of choices, then lets the first go who can; the next run changes
the last choice that was open. No count of commands is assumed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from redis.connection import AbstractConnection

Work = Callable[[], object]
Gates = Callable[[bytes], bool]
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Run:
    """One order: who went at each turn, and what each worker returned."""

    order: tuple[int, ...]
    results: tuple[Any, ...]


@dataclass(slots=True)
class _Worker:
    number: int
    work: Work
    gates: Gates
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    stopped: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    done: bool = False
    result: object = None
    error: BaseException | None = None

    def run(self) -> None:
        _here.worker = self
        self.go.acquire()
        try:
            self.result = self.work()
        except BaseException as error:
            self.error = error
        self.done = True
        self.stopped.release()

    def gate(self, packed: bytes) -> None:
        if self.gates(packed):
            self.stopped.release()
            self.go.acquire()

    def step(self) -> None:
        """Let it go until it stands before its next command, or is done."""
        self.go.release()
        if not self.stopped.acquire(timeout=PATIENCE_S):
            raise TimeoutError(f"worker {self.number} hangs")


class _Here(threading.local):
    worker: _Worker | None = None


_here = _Here()


@contextmanager
def _gated() -> Iterator[None]:
    send: Any = AbstractConnection.send_packed_command

    def gated_send(self: AbstractConnection, command: Any, check_health: bool = True) -> Any:
        packed = command if isinstance(command, bytes) else b"".join(bytes(part) for part in command)
        # Shaking hands changes nothing for the other.
        if _here.worker is not None and b"HELLO" not in packed[:24] and b"CLIENT" not in packed[:24]:
            _here.worker.gate(packed)
        return send(self, command, check_health)

    with patch.object(AbstractConnection, "send_packed_command", gated_send):
        yield


def every_order(scene: Callable[[int], tuple[Sequence[Work], Gates]]) -> Iterator[Run]:
    """Run a scene once in every order; ``scene`` sets one up, by its number.

    Its gates say before which commands a worker stops: reads of what the other cannot change need no stop.
    """
    prefix: list[int] = []
    number = 0
    with _gated():
        while True:
            run, open_choices = _one(*scene(number), prefix)
            number += 1
            yield run
            # The last place where the first worker went although the second could have.
            while open_choices and not open_choices[-1]:
                open_choices.pop()
            if not open_choices:
                return
            prefix = [*run.order[: len(open_choices) - 1], 1]


def _one(works: Sequence[Work], gates: Gates, prefix: Sequence[int]) -> tuple[Run, list[bool]]:
    workers = [_Worker(number, work, gates) for number, work in enumerate(works)]
    threads = [threading.Thread(target=worker.run, daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    order: list[int] = []
    open_choices: list[bool] = []
    # To the first command: what comes before it cannot matter to the other.
    for worker in workers:
        worker.step()
    while waiting := [worker.number for worker in workers if not worker.done]:
        chosen = prefix[len(order)] if len(order) < len(prefix) else waiting[0]
        if chosen not in waiting:
            raise RuntimeError(f"the workers are not deterministic: {prefix} cannot be followed")
        open_choices.append(chosen == 0 and len(waiting) == 2)
        order.append(chosen)
        workers[chosen].step()
    for thread in threads:
        thread.join()
    for worker in workers:
        if worker.error is not None:
            raise worker.error
    return Run(tuple(order), tuple(worker.result for worker in workers)), open_choices
