"""The record in Postgres: append facts, read them back in order, never change one."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import conninfo, errors

from persistence.migrate import migrate
from persistence.queries import query
from persistence.rows import BadFact, digest, trade_row
from persistence.store import Fact
from signals.errors import Permanent, Transient
from signals.parse import canonical_json

READ_AHEAD = 2_000
CONNECT_TIMEOUT_S = 5
_log = logging.getLogger(__name__)

# Classes of SQLSTATE. The fault lies in the data: data exception, integrity, program limit (a key too long).
_DATA = frozenset({"22", "23", "54"})
# It will pass: connection, rolled back by the server, resources, object in use, operator, system.
_PASSING = frozenset({"08", "40", "53", "55", "57", "58"})
_READ_ONLY = "25006"  # a standby that is about to be promoted
# Half-open connections: noticed within these seconds instead of the kernel's quarter of an hour.
_KEEPALIVE = {"keepalives_idle": "5", "keepalives_interval": "2", "keepalives_count": "3", "tcp_user_timeout": "15000"}


class RecordDamaged(Permanent):
    """A fact in Postgres is not what was once written there."""


@dataclass(frozen=True, slots=True)
class AppendReport:
    """How many facts were new, how many were known, and the ids that came with another content."""

    inserted: int
    replayed: int
    conflicting: tuple[str, ...]

    @property
    def conflicts(self) -> int:
        """How many facts came with another content than the one that stands."""
        return len(self.conflicting)


def as_failure(error: psycopg.Error) -> Transient | Permanent:
    """Whether the same statement may succeed later, never, or never because of the data it carried."""
    said = f"postgres: {type(error).__name__}: {str(error).strip()}"
    state = error.sqlstate or ""
    if state[:2] in _DATA or (not state and isinstance(error, errors.DataError)):
        return BadFact(said)
    if state[:2] in _PASSING or state == _READ_ONLY:
        return Transient(said)
    # Without a state the server said nothing: the connection is gone.
    if not state and isinstance(error, errors.OperationalError | errors.InterfaceError):
        return Transient(said)
    if isinstance(error, errors.UndefinedTable | errors.InvalidSchemaName | errors.InsufficientPrivilege):
        return Permanent(f"{said}; bring the database to the newest shape with `penumbra migrate`")
    return Permanent(said)


class Record:
    """The facts of one namespace. One connection, opened when it is needed and again after it was lost."""

    def __init__(self, dsn: str, namespace: str = "") -> None:
        self.namespace = namespace
        self._dsn = dsn
        self._connection: psycopg.Connection[Any] | None = None

    def close(self) -> None:
        """Give the connection back; the next call opens another one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def migrate(self) -> tuple[str, ...]:
        """Bring the database to the newest shape; returns the names of the files that were applied."""
        with _translated(), _connect(self._dsn) as connection:
            return migrate(connection)

    # --- connections

    def _open(self) -> psycopg.Connection[Any]:
        connection = _connect(self._dsn)
        try:
            connection.execute(query("session"))
            connection.execute(query("become_writer"))
        except psycopg.Error as error:
            connection.close()
            failure = as_failure(error)
            if isinstance(failure, Transient):
                raise failure from error
            raise Permanent(
                f"this login cannot become the record's writer ({error}); run `penumbra migrate`"
            ) from error
        return connection

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[Any]]:
        if self._connection is None or self._connection.closed:
            self._connection = self._open()
        try:
            with _translated():
                yield self._connection
        except Transient:
            # Whatever was lost, a fresh connection knows nothing about it.
            self.close()
            raise

    # --- bundles

    def put_bundle(self, address: str, data: bytes) -> None:
        """Keep a bundle's bytes under their content address; the same address again changes nothing."""
        with self._connected() as connection:
            connection.execute(query("put_bundle"), {"namespace": self.namespace, "address": address, "data": data})

    def bundle(self, address: str) -> bytes | None:
        """A bundle's bytes."""
        with self._connected() as connection:
            found = connection.execute(query("bundle"), {"namespace": self.namespace, "address": address}).fetchone()
        return None if found is None else bytes(found[0])

    # --- writing

    def append(self, facts: Sequence[Fact]) -> AppendReport:
        """Record facts that are not known yet, all or none; with a ``closed`` fact goes its trade row.

        A known id with the same content is a replay, with another content a conflict: the first one stands, the
        second goes to ``fact_conflicts``. Raises ``BadFact`` when the data is at fault, ``Transient`` when the same
        call may succeed later; after either nothing has been written, unless only the answer to the commit was lost.
        """
        if not facts:
            return AppendReport(0, 0, ())
        digests = [digest(fact) for fact in facts]
        with self._connected() as connection, connection.transaction(), connection.cursor() as cursor:
            cursor.execute(query("append_facts"), self._columns(facts, digests))
            fresh = {row[0] for row in cursor.fetchall()}
            new: list[Fact] = []
            known: list[tuple[Fact, str]] = []
            for fact, sha256 in zip(facts, digests, strict=True):
                if fact.id in fresh:
                    # Only the first of two in one batch was inserted.
                    fresh.remove(fact.id)
                    new.append(fact)
                else:
                    known.append((fact, sha256))
            rows = [trade_row(self.namespace, fact) for fact in new if fact.kind == "closed"]
            if rows:
                cursor.executemany(query("append_trade"), rows)
            conflicting = self._compare(cursor, known)
        return AppendReport(len(new), len(known) - len(conflicting), conflicting)

    def _columns(self, facts: Sequence[Fact], digests: list[str]) -> dict[str, object]:
        return {
            "namespace": self.namespace,
            "ids": [fact.id for fact in facts],
            "seqs": [fact.seq for fact in facts],
            "kinds": [fact.kind for fact in facts],
            "ats": [fact.at_ms for fact in facts],
            "fields": [canonical_json(fact.fields) for fact in facts],
            "bodies": [fact.body for fact in facts],
            "digests": digests,
        }

    def _compare(self, cursor: psycopg.Cursor[Any], known: Sequence[tuple[Fact, str]]) -> tuple[str, ...]:
        if not known:
            return ()
        cursor.execute(query("digests"), {"namespace": self.namespace, "ids": [fact.id for fact, _ in known]})
        standing = dict(cursor.fetchall())
        differing = [(fact, sha256) for fact, sha256 in known if standing[fact.id] != sha256]
        for fact, sha256 in differing:
            _log.error("fact %s came again with another content; the first one stands", fact.id)
            cursor.execute(
                query("record_conflict"),
                {
                    "namespace": self.namespace,
                    "id": fact.id,
                    "kind": fact.kind,
                    "seq": fact.seq,
                    "at_ms": fact.at_ms,
                    "fields": canonical_json(fact.fields),
                    "body": fact.body,
                    "first": standing[fact.id],
                    "second": sha256,
                },
            )
        return tuple(fact.id for fact, _ in differing)

    # --- reading

    def facts(self) -> Iterator[Fact]:
        """Every fact in the order of its sequence number, read in pieces on a connection of its own.

        After a roll-back of Redis two facts can carry one number: then the one recorded first comes first.
        """
        with (
            _translated(),
            self._open() as connection,
            connection.transaction(),
            connection.cursor(name="facts_in_order") as cursor,
        ):
            cursor.itersize = READ_AHEAD
            cursor.execute(query("facts_in_order"), {"namespace": self.namespace})
            for seq, fact_id, kind, at_ms, fields, body, sha256 in cursor:
                fact = Fact(seq, fact_id, kind, at_ms, _fields(fact_id, fields), body)
                if digest(fact) != sha256:
                    raise RecordDamaged(f"fact {fact_id} no longer has the content it was recorded with")
                yield fact

    def is_empty(self) -> bool:
        """Whether nothing was ever recorded for this namespace."""
        return not self._value("has_facts")

    def last_seq(self) -> int:
        """The highest sequence number recorded, 0 when there is none."""
        return int(self._value("last_seq"))

    def count(self) -> int:
        """How many facts are recorded."""
        return int(self._value("count_facts"))

    def count_conflicts(self) -> int:
        """How many facts came again with another content."""
        return int(self._value("count_conflicts"))

    def server_version(self) -> str:
        """The server's version."""
        return str(self._value("server_version"))

    def _value(self, name: str) -> Any:
        with self._connected() as connection:
            row = connection.execute(query(name), {"namespace": self.namespace}).fetchone()
        if row is None:
            raise Permanent(f"postgres gave no row for {name}")
        return row[0]

    @contextmanager
    def lock(self, purpose: str) -> Iterator[None]:
        """Hold a purpose for this namespace alone; refuses when somebody else holds it, ends with the connection."""
        with self._open() as connection:
            name = f"penumbra {purpose} {self.namespace}"
            with _translated():
                found = connection.execute(query("try_lock"), {"name": name}).fetchone()
            if found is None or not found[0]:
                raise Permanent(f"another {purpose} of this namespace is under way")
            yield


def _connect(dsn: str) -> psycopg.Connection[Any]:
    try:
        wanted = {"connect_timeout": str(CONNECT_TIMEOUT_S), "application_name": "penumbra", **_KEEPALIVE}
        # The user's own settings in the address come first.
        said = conninfo.conninfo_to_dict(dsn)
        address = conninfo.make_conninfo(dsn, **{name: value for name, value in wanted.items() if name not in said})
    except psycopg.ProgrammingError as error:
        # Not the address itself: it may hold a password.
        raise Permanent("the address of Postgres cannot be read") from error
    try:
        return psycopg.connect(address, autocommit=True)
    except psycopg.OperationalError as error:
        # Also a wrong password: the server may be half-way through its own set-up, and nothing is lost by waiting.
        raise Transient(f"postgres: {str(error).strip()}") from error


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise as_failure(error) from error
    except UnicodeError as error:
        raise BadFact(f"not text: {error}") from error


def _fields(fact_id: str, text: str) -> dict[str, str]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise RecordDamaged(f"fact {fact_id} has no fields")
    return found
