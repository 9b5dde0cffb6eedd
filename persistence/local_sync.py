"""Sync the log of a server on this very machine: a sync is of the file, no matter which process wrote it.

Under ``everysec`` the server would take up to a second for it, and for other servers there is no quicker way. Who
answers at the other end of a unix socket, and which files that process has open, the kernel says.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
from pathlib import Path
from typing import Any

import redis

_PEER = struct.Struct("iII")


def sync_log(connection: redis.Redis) -> bool:
    """Sync the append-only files the peer of a pinned connection has open; false where that cannot be done."""
    pid = _peer(connection)
    if pid is None:
        return False
    try:
        logs = [entry for entry, target in _open_files(pid) if target.endswith(".aof")]
        for entry in logs:
            # One that is being replaced may be gone by now: the server syncs such a file before it closes it.
            with contextlib.suppress(FileNotFoundError):
                _sync(entry)
    except OSError:
        return False
    return len(logs) > 0


def _peer(connection: redis.Redis) -> int | None:
    """Process id of the server, when the pinned connection is a unix socket."""
    pinned: Any = connection.connection
    sock = getattr(pinned, "_sock", None)
    if sys.platform != "linux" or not isinstance(sock, socket.socket) or sock.family != socket.AF_UNIX:
        return None
    pid, _uid, _gid = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return int(pid) if pid > 0 else None


def _open_files(pid: int) -> list[tuple[Path, str]]:
    """Entries of a process's descriptors with what they lead to."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append((entry, str(entry.readlink())))
    return found


def _sync(entry: Path) -> None:
    # Through the descriptor's own entry: it leads to the file itself, whatever its name means to us.
    descriptor = os.open(entry, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
