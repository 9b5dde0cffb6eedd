"""The processes of a namespace as children: started together, watched, stopped together."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from runtime.clock import pause, stopwatch
from signals.errors import Permanent

STOP_S = 10.0


@dataclass(slots=True)
class _Child:
    name: str
    process: subprocess.Popen[bytes]
    log: Path


class Processes:
    """Children that run ``penumbra`` subcommands; whatever ends before it is told to is an error."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self._environment = {**os.environ, **environment, "PYTHONUNBUFFERED": "1"}
        self._children: list[_Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, name: str, arguments: Sequence[str]) -> int:
        """Start one; returns its process id."""
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / f"{name}.log"
        with log.open("ab") as out:
            command = [sys.executable, "-m", "scripts.cli", *arguments]
            process = subprocess.Popen(  # noqa: S603 - our own module
                command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=self._environment
            )
        self._children.append(_Child(name, process, log))
        return process.pid

    def check(self) -> None:
        """Raise when a child has ended by itself, with the end of its log."""
        for child in self._children:
            status = child.process.poll()
            if status is not None:
                tail = child.log.read_text("utf-8", "replace")[-800:]
                raise Permanent(f"the {child.name} ended with status {status}:\n{tail}")

    def stop(self) -> None:
        """Ask all to stop, wait, and kill what does not."""
        for child in self._children:
            child.process.terminate()
        deadline = stopwatch() + STOP_S
        for child in self._children:
            while child.process.poll() is None and stopwatch() < deadline:
                pause(0.02)
            if child.process.poll() is None:
                child.process.kill()
            child.process.wait()
        self._children.clear()
