"""Where the servers of one data folder live, and the programs they run."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from runtime.daemon import Account, Daemon, EmbeddedUnavailable, mutex

DATABASE = USER = "penumbra"
PORT = 5432  # names the socket file only
LONGEST_SOCKET_PATH_BYTES = 103  # macOS; Linux allows four more
ELSEWHERE = Path("/var/lib")
RECORD = "servers.json"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the servers of one data folder live: ``home`` holds their data, ``run`` their sockets."""

    home: Path
    run: Path
    account: Account

    @property
    def valkey(self) -> Daemon:
        """The queue and live state."""
        folder = self.home / "valkey"
        return Daemon(
            name="Valkey",
            program="valkey-server",
            account=self.account,
            folder=folder,
            marks=(str(folder), str(self.valkey_socket)),
            pid_files=(folder / "server.pid",),
            stops=(signal.SIGTERM, signal.SIGKILL),
        )

    @property
    def postgres_socket(self) -> Path:
        """Where Postgres listens."""
        return self.run / f".s.PGSQL.{PORT}"

    @property
    def postgres(self) -> Daemon:
        """The record of facts."""
        folder = self.home / "postgres"
        return Daemon(
            name="Postgres",
            program="postgres",
            account=self.account,
            folder=folder,
            marks=(str(folder / "data"), str(self.run)),
            pid_files=(folder / "data" / "postmaster.pid", self.run / f".s.PGSQL.{PORT}.lock"),
            stops=(signal.SIGINT, signal.SIGQUIT, signal.SIGKILL),
        )

    @property
    def valkey_socket(self) -> Path:
        """Where Valkey listens."""
        return self.run / "valkey.sock"

    @property
    def redis_url(self) -> str:
        """Address of Valkey as redis-py and RQ take it."""
        return f"unix://{quote(str(self.valkey_socket))}?db=0"

    def dsn(self, database: str = DATABASE) -> str:
        """Address of a database as psycopg takes it."""
        return f"postgresql://{USER}@/{database}?host={quote(str(self.run))}&port={PORT}"


def resolved(folder: Path) -> Path:
    """One name for one folder, for its record and the name of its sockets' folder."""
    return folder.expanduser().resolve()


def delete(folder: Path) -> None:
    """Delete a folder of ours and all in it, if it is there."""
    if folder.exists():
        shutil.rmtree(folder)


@contextlib.contextmanager
def open_place(folder: Path) -> Iterator[Place]:
    """Open the place of a data folder, alone: one start, stop or look at a time."""
    if sys.platform == "win32":
        raise EmbeddedUnavailable("The private servers do not run on Windows")
    folder = resolved(folder)
    try:
        # Root lets others pass through a folder of its own making, for the servers run as somebody else.
        folder.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        with mutex(folder / "servers.lock"):
            yield _read_place(folder) or _new_place(folder)
    except OSError as error:
        raise EmbeddedUnavailable(f"{folder} cannot hold the servers' data ({error}); choose another folder") from error


def _read_place(folder: Path) -> Place | None:
    record = folder / RECORD
    if not record.exists():
        return None
    if record.stat().st_uid != os.geteuid():
        raise EmbeddedUnavailable(f"The servers in {folder} belong to uid {record.stat().st_uid}, not to us")
    try:
        told = json.loads(record.read_text())
        account = Account(int(told["uid"]), int(told["gid"]), dropped=int(told["uid"]) != os.geteuid())
        home, run, made_for = Path(told["home"] or folder), Path(told["run"]), Path(told["folder"])
    except (ValueError, KeyError, TypeError) as error:
        raise EmbeddedUnavailable(f"{record} is damaged ({error})") from error
    if not home.is_dir():
        raise EmbeddedUnavailable(f"{home}, where the data of {folder} was, is gone; delete {record} to begin anew")
    place = Place(home, run, account)
    if place.valkey.alive or place.postgres.alive:
        return place  # perhaps under a new name of the folder, or with its sockets swept away
    if run.is_dir() and (made_for == folder or home != folder):
        check_run_folder(run, account)
        return place
    # After a reboot, or in a copy of a folder: sockets of its own.
    return _write_place(folder, Place(home, _run_folder(folder, account), account))


def _new_place(folder: Path) -> Place:
    account = Account.current()
    home = folder
    if not account.can_enter(folder):
        try:
            home = Path(tempfile.mkdtemp(prefix="penumbra-", dir=ELSEWHERE))
        except OSError as error:
            raise EmbeddedUnavailable(f"uid {account.uid} cannot enter {folder}, nor can we use {ELSEWHERE}") from error
        account.own(home)
    try:
        return _write_place(folder, Place(home, _run_folder(folder, account), account))
    except BaseException:
        if home != folder:
            home.rmdir()
        raise


def _write_place(folder: Path, place: Place) -> Place:
    told = {
        "folder": str(folder),
        "home": None if place.home == folder else str(place.home),
        "run": str(place.run),
        "uid": place.account.uid,
        "gid": place.account.gid,
    }
    new = folder / f"{RECORD}.new"
    new.write_text(json.dumps(told, indent=1) + "\n")
    new.replace(folder / RECORD)
    return place


def _run_folder(folder: Path, account: Account) -> Path:
    """Make the folder of the sockets: a short path that depends on the data folder only."""
    name = f"penumbra-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}"
    for base in dict.fromkeys((Path(tempfile.gettempdir()), Path("/tmp"))):  # noqa: S108 - checked below
        run = base / name
        if len(os.fsencode(run / f".s.PGSQL.{PORT}.lock")) <= LONGEST_SOCKET_PATH_BYTES and account.can_enter(base):
            account.make_folder(run)
            check_run_folder(run, account)
            return run
    raise EmbeddedUnavailable(f"{tempfile.gettempdir()} and /tmp are too long or closed to uid {account.uid}")


def check_run_folder(run: Path, account: Account) -> None:
    """Refuse a folder that somebody else prepared for us, or can enter."""
    found = run.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != account.uid or stat.S_IMODE(found.st_mode) & 0o077:
        raise EmbeddedUnavailable(f"{run} is not a private folder of uid {account.uid}")


def find_program(place: Place, package: str, distribution: str, pattern: str) -> Path:
    """Find a server's program in its wheel, or in a copy where the wheel is closed to the server's user."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise EmbeddedUnavailable(f"{distribution} is not installed (there is no wheel of it for musl or Windows)")
    source = Path(spec.origin).parent
    found = next(iter(sorted(source.glob(pattern))), None)
    if found is None:
        raise EmbeddedUnavailable(f"{distribution} has no {pattern} for this platform")
    if _runs(place, found):
        return found
    copy = place.home / "programs" / f"{distribution}-{importlib.metadata.version(distribution)}"
    if not copy.exists():
        _copy_programs(source, found.relative_to(source).parts[0], copy)
    found = copy / source.name / found.relative_to(source)
    if not _runs(place, found):
        raise EmbeddedUnavailable(f"uid {place.account.uid} may not run {found}")
    return found


def _runs(place: Place, program: Path) -> bool:
    """Whether the servers' user can run a program; false when only permissions are in the way."""
    try:
        tried = place.account.run([program, "--version"], home=place.home)
    except PermissionError:
        return False
    except OSError as error:  # the loader of another libc, another processor
        raise EmbeddedUnavailable(f"{program} does not run on this system ({error.strerror})") from error
    if tried.returncode != 0:
        raise EmbeddedUnavailable(f"{program} does not run on this system: {tried.stdout.strip()}")
    return True


def _copy_programs(source: Path, branch: str, copy: Path) -> None:
    """Copy one branch of a wheel with the libraries beside it, keeping the layout its run paths expect."""
    partial = copy.with_name(f"{copy.name}.partial")
    delete(partial)
    partial.mkdir(parents=True)
    leave_out = shutil.ignore_patterns("include", "*.a", "__pycache__")
    shutil.copytree(source / branch, partial / source.name / branch, symlinks=True, ignore=leave_out)
    libraries = source.with_name(f"{source.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, partial / libraries.name, symlinks=True)
    for path in (copy.parent, partial, *partial.rglob("*")):
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))
    partial.rename(copy)
