"""The record in Postgres: append facts, read them back in order, never change one."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import conninfo, errors

from persistence.migrate import migrate
from persistence.queries import query
from persistence.rows import GENESIS, BadFact, GateSlot, Link, Stored, digest, link_from, link_hash, trade_row
from persistence.store import Fact
from signals.errors import Permanent, Transient
from signals.parse import canonical_json

READ_AHEAD = 2_000
CONNECT_TIMEOUT_S = 5
CHAIN_TABLE = "audit_chain"
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
class Head:
    """The newest link of the chain: how many facts it stands for, and the hash that stands for them."""

    links: int
    hash: str


@dataclass(frozen=True, slots=True)
class AppendReport:
    """How many facts were new, how many were known, and the ids that came with another content.

    ``head`` is the chain's after new facts, none when there were none.
    """

    inserted: int
    replayed: int
    conflicting: tuple[str, ...]
    head: Head | None = field(default=None, compare=False)

    @property
    def conflicts(self) -> int:
        """How many facts came with another content than the one that stands."""
        return len(self.conflicting)


@dataclass(frozen=True, slots=True)
class Standing:
    """What the record says up to a sequence number: closes by strategy, outcome and whether learned; open positions."""

    closes: Mapping[tuple[str, str, bool], int]
    open: frozenset[tuple[str, str]]
    learning: tuple[Fact, ...]
    rebuilds: int
    known: frozenset[str]


def as_failure(error: psycopg.Error) -> Transient | Permanent:
    """Whether the same statement may succeed later, never, or never because of the data it carried."""
    said = f"postgres: {type(error).__name__}: {str(error).strip()}"
    state = error.sqlstate or ""
    if isinstance(error, errors.UniqueViolation) and error.diag.table_name == CHAIN_TABLE:
        # Somebody without our lock was faster; the next try follows what they wrote.
        return Transient(said)
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

    # --- gate reports

    def put_gate_report(self, profile: str, slot: str, body: str) -> bool:
        """Keep the report of a slot, JSON; false when that slot has one already, which stands."""
        told = {"namespace": self.namespace, "profile": profile, "slot": slot, "body": body}
        with self._connected() as connection:
            return connection.execute(query("put_gate_report"), told).fetchone() is not None

    def gate_report(self, profile: str, slot: str) -> GateSlot | None:
        """The report of a slot."""
        told = {"namespace": self.namespace, "profile": profile, "slot": slot}
        with self._connected() as connection:
            found = connection.execute(query("gate_report"), told).fetchone()
        return None if found is None else GateSlot(*found)

    def gate_reports(self, profile: str | None = None) -> list[GateSlot]:
        """Stored reports of one profile or of all, the one stored last first."""
        with self._connected() as connection:
            found = connection.execute(
                query("gate_reports"), {"namespace": self.namespace, "profile": profile}
            ).fetchall()
        return [GateSlot(*row) for row in found]

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
            # One writer at a time, so that the chain has one end: the lock goes with the transaction.
            cursor.execute(query("lock_chain"), {"namespace": self.namespace})
            cursor.execute(query("append_facts"), self._columns(facts, digests))
            fresh = {fact_id: (recorded_us, position) for fact_id, position, recorded_us in cursor.fetchall()}
            new: list[Fact] = []
            stored: list[Stored] = []
            known: list[tuple[Fact, str]] = []
            for fact, sha256 in zip(facts, digests, strict=True):
                # Only the first of two in one batch was inserted.
                row = fresh.pop(fact.id, None)
                if row is None:
                    known.append((fact, sha256))
                    continue
                new.append(fact)
                fields = canonical_json(fact.fields)
                stored.append(Stored(fact.seq, fact.id, fact.kind, fact.at_ms, fields, fact.body, sha256, *row))
            rows = [trade_row(self.namespace, fact) for fact in new if fact.kind == "closed"]
            if rows:
                cursor.executemany(query("append_trade"), rows)
            head = self._chain(cursor, stored)
            conflicting = self._compare(cursor, known)
        return AppendReport(len(new), len(known) - len(conflicting), conflicting, head)

    def _chain(self, cursor: psycopg.Cursor[Any], stored: Sequence[Stored]) -> Head | None:
        """Link new facts to the chain in the transaction that brings them, so that no kill can come between."""
        if not stored:
            return None
        cursor.execute(query("chain_head"), {"namespace": self.namespace})
        number, last = cursor.fetchone() or (0, GENESIS)
        links: list[Link] = []
        for row in sorted(stored, key=lambda row: row.position):
            link = Link(number + 1, row.id, row.seq, last, link_hash(last, self.namespace, row))
            links.append(link)
            number, last = link.number, link.hash
        columns: dict[str, object] = {
            "namespace": self.namespace,
            "links": [link.number for link in links],
            "ids": [link.id for link in links],
            "seqs": [link.seq for link in links],
            "prevs": [link.prev for link in links],
            "hashes": [link.hash for link in links],
        }
        cursor.execute(query("append_links"), columns)
        return Head(number, last)

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

    def chain(self, after: int = 0) -> Generator[tuple[Link, Stored | None], None, None]:
        """Links after a number with the facts they stand for, read in pieces on a connection of its own."""
        with (
            _translated(),
            self._open() as connection,
            connection.transaction(),
            connection.cursor(name="chain_in_order") as cursor,
        ):
            # For a namespace the statistics do not know yet the planner would look every fact up in the wrong index.
            connection.execute(query("no_nested_loops"))
            cursor.itersize = READ_AHEAD
            cursor.execute(query("chain_in_order"), {"namespace": self.namespace, "after": after})
            yield from map(link_from, cursor)

    def trades(self) -> Generator[tuple[Fact, Mapping[str, Any] | None], None, None]:
        """Every close with the trade row that was made of it, read in pieces on a connection of its own."""
        with (
            _translated(),
            self._open() as connection,
            connection.transaction(),
            connection.cursor(name="trades_of_closes") as cursor,
        ):
            connection.execute(query("no_nested_loops"))
            cursor.itersize = READ_AHEAD
            cursor.execute(query("trades_of_closes"), {"namespace": self.namespace})
            columns = [column.name for column in cursor.description or ()][6:]
            for seq, fact_id, kind, at_ms, fields, body, *row in cursor:
                found = dict(zip(columns, row, strict=True))
                fact = Fact(seq, fact_id, kind, at_ms, _fields(fact_id, fields), body)
                yield fact, None if found["id"] is None else found

    def trade_of_nothing(self) -> str | None:
        """The first trade row that no close stands behind."""
        with self._connected() as connection:
            found = connection.execute(query("trades_of_nothing"), {"namespace": self.namespace}).fetchone()
        return None if found is None else str(found[0])

    def unchained(self) -> tuple[str, int] | None:
        """Id and sequence number of the first fact that no link stands for."""
        with self._connected() as connection, connection.transaction():
            connection.execute(query("no_nested_loops"))
            found = connection.execute(query("unchained"), {"namespace": self.namespace}).fetchone()
        return None if found is None else (found[0], found[1])

    def head(self) -> Head:
        """The newest link; of an empty chain what its first link will follow."""
        with self._connected() as connection:
            found = connection.execute(query("chain_head"), {"namespace": self.namespace}).fetchone()
        return Head(0, GENESIS) if found is None else Head(found[0], found[1])

    def link_hash(self, number: int) -> str | None:
        """The hash of a link, none when it is not there."""
        with self._connected() as connection:
            found = connection.execute(query("link_hash"), {"namespace": self.namespace, "link": number}).fetchone()
        return None if found is None else str(found[0])

    def links_of_seq(self, seq: int) -> int:
        """How many links stand for a fact with a sequence number."""
        with self._connected() as connection:
            found = connection.execute(query("links_of_seq"), {"namespace": self.namespace, "seq": seq}).fetchone()
        return 0 if found is None else int(found[0])

    # --- what the live state is compared with

    def strategies(self) -> list[str]:
        """Strategies that were ever registered."""
        with self._connected() as connection:
            found = connection.execute(query("strategies"), {"namespace": self.namespace}).fetchall()
        return [name for (name,) in found]

    def standing(self, seq: int, coming: Collection[str] = ()) -> Standing:
        """What the facts up to a number say, all read at one moment; ``coming`` are ids that may be known or not."""
        until = {"namespace": self.namespace, "seq": seq}
        with self._connected() as connection, connection.transaction(), connection.cursor() as cursor:
            cursor.execute(query("one_snapshot"))
            closes = cursor.execute(query("closes_until"), until).fetchall()
            open_ = cursor.execute(query("open_until"), until).fetchall()
            learning = cursor.execute(query("learning_until"), until).fetchall()
            rebuilds = cursor.execute(query("rebuilds"), until).fetchall()
            known = cursor.execute(query("known_ids"), {"namespace": self.namespace, "ids": list(coming)}).fetchall()
        return Standing(
            closes={(strategy, outcome, learned): count for strategy, outcome, learned, count in closes},
            open=frozenset((prefix, sid) for prefix, sid in open_),
            learning=tuple(
                Fact(number, fact_id, kind, at_ms, _fields(fact_id, fields), body)
                for number, fact_id, kind, at_ms, fields, body in learning
            ),
            rebuilds=int(rebuilds[0][0]),
            known=frozenset(fact_id for (fact_id,) in known),
        )

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
