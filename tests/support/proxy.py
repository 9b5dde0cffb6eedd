"""A door in front of a server at which messages can be held up, lost, or answered by somebody else."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Fate = Literal["pass", "late", "lose reply", "lose request"] | bytes
"""What becomes of a request; bytes are sent back instead of asking the server."""


@dataclass
class Door:
    """Where clients connect, and how each request is treated: ``rule`` is asked with its bytes."""

    url: str
    rule: Callable[[bytes], Fate] = lambda _request: "pass"
    late_s: float = 0.0
    requests: int = 0

    def treat(self, request: bytes) -> Fate:
        self.requests += 1
        return self.rule(request)


@contextlib.contextmanager
def door(server: str, folder: Path) -> Iterator[Door]:
    """Open a door in front of a server that listens on a unix socket."""
    path = str(folder / "door")
    made, opened = Door(f"unix://{path}"), _Opened()
    listening = opened.take(socket.socket(socket.AF_UNIX))
    listening.bind(path)
    listening.listen(64)
    opened.begin(_accept, made, listening, server, opened)
    try:
        yield made
    finally:
        opened.close()


class _Opened:
    """Every socket and thread behind a door, so that none outlives it."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def take(self, sock: socket.socket) -> socket.socket:
        self._sockets.append(sock)
        return sock

    def begin(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def close(self) -> None:
        # Those that are waited on do not notice a mere close.
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=5.0)
        for sock in self._sockets:
            sock.close()


def _accept(made: Door, listening: socket.socket, server: str, opened: _Opened) -> None:
    with contextlib.suppress(OSError):
        while True:
            near = opened.take(listening.accept()[0])
            opened.begin(_carry, made, near, server, opened)


def _carry(made: Door, near: socket.socket, server: str, opened: _Opened) -> None:
    """One request after the other: a client of ours never sends a second before it has the first one's reply."""
    far = opened.take(socket.socket(socket.AF_UNIX))
    far.connect(server)
    held_s, lost = [0.0], threading.Event()
    opened.begin(_bring_back, near, far, held_s, lost)
    with contextlib.suppress(OSError):
        while request := near.recv(1 << 20):
            fate = made.treat(request)
            if isinstance(fate, bytes):
                near.sendall(fate)
                continue
            if fate == "lose request":
                break
            held_s[0] = made.late_s if fate == "late" else 0.0
            if fate == "lose reply":
                lost.set()
            far.sendall(request)
    for sock in (near, far):
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _bring_back(near: socket.socket, far: socket.socket, held_s: list[float], lost: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while reply := far.recv(1 << 20):
            if lost.is_set():
                near.shutdown(socket.SHUT_RDWR)
                return
            time.sleep(held_s[0])
            near.sendall(reply)
