"""Servers that outlive whoever started them.

A daemon inherits an open, locked file: the kernel frees the lock when the last of its processes is gone, so "is it
alive?" never depends on a process id that somebody else may have by now.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.clock import pause, stopwatch
from signals.errors import Permanent

if sys.platform != "win32":  # where the caller says no before any of this is needed
    import fcntl
    import pwd

POLL_S = 0.01
GENTLE_STOP_S = 30.0
HARD_STOP_S = 10.0
LOG_TAIL_CHARS = 800
SERVICE_ACCOUNTS = ("postgres", "nobody", "_postgres")


class EmbeddedUnavailable(Permanent):
    """The private servers cannot run here; the message says why and what to set instead."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"{reason.rstrip('.')}. To use servers of your own, set PENUMBRA_REDIS_URL and PENUMBRA_POSTGRES_URL."
        )


@dataclass(frozen=True, slots=True)
class Account:
    """The user a daemon runs as; ``dropped`` when that is not the user who asks."""

    uid: int
    gid: int
    dropped: bool

    @classmethod
    def current(cls) -> Account:
        """Whom a new daemon should run as: ourselves, or an existing unprivileged user when we are root."""
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid(), dropped=False)
        for name in SERVICE_ACCOUNTS:
            with contextlib.suppress(KeyError):
                entry = pwd.getpwnam(name)
                return cls(entry.pw_uid, entry.pw_gid, dropped=True)
        raise EmbeddedUnavailable(f"Running as root and none of the users {', '.join(SERVICE_ACCOUNTS)} exists")

    @property
    def has_name(self) -> bool:
        """Whether the user database knows this uid; initdb asks it."""
        try:
            pwd.getpwuid(self.uid)
        except KeyError:
            return False
        return True

    def run(
        self,
        command: Sequence[str | Path],
        *,
        home: Path,
        log: int = subprocess.PIPE,
        keep: tuple[int, ...] = (),
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end as this user, in a new session, with nothing of the caller's environment."""
        return subprocess.run(  # noqa: S603 - programs of the wheels and /bin/sh, arguments as a list
            [os.fspath(part) for part in command],
            check=False,
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=keep,
            start_new_session=True,
            umask=0o077,
            user=self.uid if self.dropped else None,
            group=self.gid if self.dropped else None,
            extra_groups=[] if self.dropped else None,
        )

    def can_enter(self, folder: Path) -> bool:
        """Whether this user may pass through a folder and all above it."""
        if not self.dropped:
            return True
        try:
            return self.run(["/bin/sh", "-c", 'cd -- "$1"', "sh", folder], home=folder).returncode == 0
        except OSError as error:  # containers that map one user only
            raise EmbeddedUnavailable(
                f"Running as root and unable to become uid {self.uid} ({error.strerror})"
            ) from error

    def own(self, path: Path) -> None:
        """Hand over something that is ours."""
        if self.dropped:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def make_folder(self, path: Path) -> None:
        """Make a folder only this user can enter; somebody else's is left as it is."""
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        # New, made by a starter that was killed before it handed it over, or restored from a copy.
        if self.dropped and path.lstat().st_uid == os.geteuid():
            for part in (path, *path.rglob("*")):
                self.own(part)


@contextlib.contextmanager
def mutex(path: Path) -> Iterator[None]:
    """Let one process at a time through; the kernel lets go for one that dies."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _arguments(pid: int) -> list[str]:
    """Command line of a process; empty when there is none, or only a zombie."""
    if sys.platform == "linux":
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return []
        return [os.fsdecode(part) for part in line.split(b"\0")] if line else []
    shown = subprocess.run(["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True)  # noqa: S603, PLW1510
    return shown.stdout.split()


@dataclass(frozen=True, slots=True)
class Daemon:
    """One server of one data folder. Calls on the same daemon must be serialised by ``mutex``.

    ``marks`` are arguments of its command line that no other process has; ``pid_files`` are where it writes its
    process id, most trusted first; ``stops`` are the signals that end it, gentlest first.
    """

    name: str
    program: str
    account: Account
    folder: Path
    marks: tuple[str, ...]
    pid_files: tuple[Path, ...]
    stops: tuple[signal.Signals, ...]

    @property
    def log(self) -> Path:
        """Where the server writes what it has to say."""
        return self.folder / "server.log"

    def _claim(self) -> int | None:
        """Take the life lock, or none while a process of the server holds it."""
        descriptor = os.open(self.folder / "alive.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    @property
    def alive(self) -> bool:
        """Whether any process of the server runs, orphans of a killed one included."""
        if not self.folder.is_dir():
            return False
        descriptor = self._claim()
        if descriptor is None:
            return True
        os.close(descriptor)
        return False

    @property
    def pid(self) -> int | None:
        """The server's process id, if one of its pid files names a process that is this very server."""
        for path in self.pid_files:
            with contextlib.suppress(OSError, ValueError, IndexError):
                pid = int(path.read_text().split(maxsplit=1)[0])
                if self.recognises(pid):
                    return pid
        return None

    def recognises(self, pid: int) -> bool:
        """Whether a process is this server: its program serving our folder, not a reused process id."""
        arguments = _arguments(pid)
        return bool(arguments) and Path(arguments[0]).name == self.program and not set(self.marks).isdisjoint(arguments)

    def launch(self, command: Sequence[str | Path]) -> None:
        """Start the server as a child of init, holding the life lock."""
        descriptor = self._claim()
        if descriptor is None:
            raise EmbeddedUnavailable(f"{self.name} in {self.folder} is still running")
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            # Through a shell that exits at once: a server that is killed later must not stay behind as our zombie,
            # which Postgres would take for a living postmaster.
            self.account.run(["/bin/sh", "-c", '"$@" &', "sh", *command], home=self.folder, log=log, keep=(descriptor,))
        finally:
            os.close(log)
            os.close(descriptor)

    def settles(self, ready: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until the running server is ready, or gone (false); one that is neither in time is an error."""
        end = stopwatch() + timeout_s
        while not ready():
            if not self.alive:
                return False
            if stopwatch() > end:
                raise EmbeddedUnavailable(f"{self.name} is not ready after {timeout_s:g} s: {self.last_words()}")
            pause(POLL_S)
        return True

    def last_words(self) -> str:
        """End of the server's log, for a message."""
        try:
            return self.log.read_text(errors="replace")[-LOG_TAIL_CHARS:].strip() or "it wrote nothing"
        except OSError:
            return "it has no log"

    def end(self, pid: int | None = None) -> bool:
        """Stop the server and wait until its last process is gone; true when it had to be forced."""
        for number in self.stops:
            target = self.pid if pid is None else pid
            if target is not None:
                self._send(target, number)
            forced = number is not self.stops[0]
            end = stopwatch() + (HARD_STOP_S if forced else GENTLE_STOP_S)
            while stopwatch() < end:
                # A server whose folder was deleted holds a lock nobody can see: watch its process as well.
                if not self.alive and (target is None or not self.recognises(target)):
                    return forced
                pause(POLL_S)
        raise EmbeddedUnavailable(f"{self.name} in {self.folder} does not end; see {self.log}")

    def _send(self, pid: int, number: signal.Signals) -> None:
        """Signal the server, and never a stranger that has its process id by now."""
        with contextlib.suppress(ProcessLookupError):
            handle = _hold(pid)
            try:
                if not self.recognises(pid):
                    return
                if handle is None:
                    os.kill(pid, number)
                elif sys.platform == "linux":
                    signal.pidfd_send_signal(handle, number)
            finally:
                if handle is not None:
                    os.close(handle)


def _hold(pid: int) -> int | None:
    """Open a handle that means this process and no later one; none where the system has no such thing."""
    if sys.platform == "linux" and hasattr(os, "pidfd_open"):
        try:
            return os.pidfd_open(pid)
        except ProcessLookupError:
            raise
        except OSError:  # kernels before 5.3, and containers that forbid the call
            return None
    return None
