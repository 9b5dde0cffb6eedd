"""The processes of a namespace under a supervisor that starts again what dies, and that can be told to hurt them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runtime.clock import pause, stopwatch

FIRST_BACKOFF_S = 0.2
LONGEST_BACKOFF_S = 5.0
QUIET_S = 20.0
"""A child that ran so long has earned a first back-off again."""
STOP_S = 15.0


@dataclass(slots=True)
class _Child:
    name: str
    command: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = None
    began_s: float = 0.0
    backoff_s: float = FIRST_BACKOFF_S
    due_s: float = 0.0
    hurt: bool = False


@dataclass(slots=True)
class Fleet:
    """Children by name. ``ended`` counts exits nobody here asked for, by name and status."""

    folder: Path
    environment: Mapping[str, str]
    ended: Counter[str] = field(default_factory=Counter)
    starts: Counter[str] = field(default_factory=Counter)
    _children: dict[str, _Child] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def add(self, name: str, module: str, arguments: Sequence[str]) -> None:
        """Start a child and keep it alive from now on."""
        with self._lock:
            child = _Child(name, (sys.executable, "-m", module, *arguments))
            self._children[name] = child
            self._start(child)

    def _start(self, child: _Child) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{child.name}.log").open("ab") as out:
            child.process = subprocess.Popen(  # noqa: S603 - our own modules
                child.command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env={**os.environ, **self.environment}
            )
        child.began_s = stopwatch()
        child.hurt = False
        self.starts[child.name] += 1

    def supervise(self) -> None:
        """Notice who has ended, and start them again when their back-off is over."""
        with self._lock:
            for child in self._children.values():
                if child.process is None:
                    if stopwatch() >= child.due_s:
                        self._start(child)
                    continue
                status = child.process.poll()
                if status is None:
                    continue
                if not child.hurt:
                    self.ended[f"{child.name.split('-')[0]}:{status}"] += 1
                lived = stopwatch() - child.began_s
                child.backoff_s = FIRST_BACKOFF_S if lived > QUIET_S or child.hurt else child.backoff_s * 2.0
                child.process, child.due_s = None, stopwatch() + min(child.backoff_s, LONGEST_BACKOFF_S)

    def names(self, kind: str) -> list[str]:
        """Names of the children of a kind: ``worker`` has several."""
        return sorted(name for name in self._children if name.split("-")[0] == kind)

    def kill(self, name: str) -> bool:
        """SIGKILL; false when it is not running just now."""
        return self._send(name, signal.SIGKILL, hurt=True)

    def send(self, name: str, number: signal.Signals) -> bool:
        """Any other signal; false when it is not running just now."""
        return self._send(name, number, hurt=False)

    def _send(self, name: str, number: signal.Signals, *, hurt: bool) -> bool:
        with self._lock:
            child = self._children[name]
            if child.process is None or child.process.poll() is not None:
                return False
            child.process.send_signal(number)
            child.hurt = child.hurt or hurt
            return True

    def stop(self) -> None:
        """Wake and end all, gently first."""
        with self._lock:
            running = [child.process for child in self._children.values() if child.process is not None]
            for process in running:
                for number in (signal.SIGCONT, signal.SIGTERM):
                    if process.poll() is None:
                        process.send_signal(number)
            deadline = stopwatch() + STOP_S
            for process in running:
                while process.poll() is None and stopwatch() < deadline:
                    pause(0.02)
                if process.poll() is None:
                    process.kill()
                process.wait()
            self._children.clear()
