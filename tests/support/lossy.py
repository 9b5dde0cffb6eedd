"""A proxy in front of Redis that loses one request, or one reply whose request took effect."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from tests.support.wire import command_name

Loss = Literal["request", "reply"]
PATIENCE_S = 30.0
_AGGREGATES = {b"*": 1, b"~": 1, b">": 1, b"%": 2, b"|": 2}
_BULKS = frozenset({b"$", b"=", b"!"})


class Lines:
    """Whole protocol messages from a socket, as the bytes they came in."""

    def __init__(self, source: socket.socket) -> None:
        self._source = source
        self._held = b""

    def message(self) -> bytes:
        """The next message; empty when the other side is gone."""
        try:
            return self._take()
        except (EOFError, OSError):
            return b""

    def _take(self) -> bytes:
        line = self._line()
        kind, rest = line[:1], line[1:-2]
        if kind in _AGGREGATES:
            parts = [line, *(self._take() for _ in range(max(int(rest), 0) * _AGGREGATES[kind]))]
            # An attribute stands before the reply it belongs to.
            return b"".join(parts) + (self._take() if kind == b"|" else b"")
        if kind in _BULKS and int(rest) >= 0:
            return line + self._exactly(int(rest) + 2)
        return line

    def _line(self) -> bytes:
        while (end := self._held.find(b"\r\n")) < 0:
            self._more()
        line, self._held = self._held[: end + 2], self._held[end + 2 :]
        return line

    def _exactly(self, size: int) -> bytes:
        while len(self._held) < size:
            self._more()
        taken, self._held = self._held[:size], self._held[size:]
        return taken

    def _more(self) -> None:
        piece = self._source.recv(65_536)
        if not piece:
            raise EOFError
        self._held += piece


class LossyProxy:
    """Forwards command after command, and loses what it was told to at the one it was told to."""

    def __init__(self, server_path: str, path: Path) -> None:
        self._server_path = server_path
        self._at = 0
        self._loss: Loss = "request"
        self.url = f"unix://{path}?db=0"
        self.seen: list[str] = []
        self.lost = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, at: int, loss: Loss) -> None:
        """Count from here on, and lose the command with this number; 0 loses none."""
        self.seen = []
        self.lost = 0
        self._at, self._loss = at, loss

    def close(self) -> None:
        """Take no more connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            client.settimeout(PATIENCE_S)
            server.settimeout(PATIENCE_S)
            server.connect(self._server_path)
            asked, answered = Lines(client), Lines(server)
            with contextlib.suppress(OSError):
                while (command := asked.message()) and self._forward(command, client, server, answered):
                    pass

    def _forward(self, command: bytes, client: socket.socket, server: socket.socket, answered: Lines) -> bool:
        # One client at a time tells a story, so counting needs no lock.
        self.seen.append(command_name(command))
        losing = len(self.seen) == self._at
        self.lost += losing
        if losing and self._loss == "request":
            return False
        server.sendall(command)
        reply = answered.message()
        if losing or not reply:
            return False
        client.sendall(reply)
        return True


@contextmanager
def lossy(redis_url: str, folder: Path) -> Iterator[LossyProxy]:
    """A proxy before a server that listens on a unix socket."""
    proxy = LossyProxy(urlsplit(redis_url).path, folder / "proxy.sock")
    proxy.arm(0, "request")
    try:
        yield proxy
    finally:
        proxy.close()


def losses(
    proxy: LossyProxy, loss: Loss, tell: Callable[[str], object], wrong: Callable[[str], list[str]], *, name: str
) -> tuple[int, int, dict[str, list[str]]]:
    """Lose each command once; returns how many there are, how many were lost and what went wrong where."""
    proxy.arm(0, loss)
    tell(f"{name}-cold")
    sent = list(proxy.seen)
    lost, found = 0, {}
    for number, command in enumerate(sent, 1):
        proxy.arm(number, loss)
        tell(f"{name}-{number}")
        lost += proxy.lost == 1
        proxy.arm(0, loss)
        if differs := wrong(f"{name}-{number}"):
            found[f"{number} {command}"] = differs
    return len(sent), lost, found
