"""Bring a Postgres to the record's newest shape: numbered files, each applied once, never edited afterwards."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

import psycopg
from psycopg import errors, sql

from persistence.queries import query
from signals.errors import Permanent
from signals.parse import sha256_hex

WRITER = "penumbra_writer"
_FILE = re.compile(r"\d{4}_[a-z0-9_]+\.sql")
_log = logging.getLogger(__name__)


class MigrationRefused(Permanent):
    """The database cannot be brought to the newest shape; the message says what a person has to do."""


def migrate(
    connection: psycopg.Connection[Any], *, folder: Traversable | None = None, writer: str = WRITER
) -> tuple[str, ...]:
    """Apply what has not been applied; returns the names of the files that were.

    ``connection`` is in autocommit mode and belongs to the schema's owner, not to the writer.
    """
    files = _files(folder or resources.files("persistence") / "migrations")
    with _locked(connection):
        _ensure_writer(connection, writer)
        _ensure_schema(connection)
        applied = dict(connection.execute(query("applied_migrations")).fetchall())
        _check_history(applied, files)
        fresh = [name for name in files if name not in applied]
        for name in fresh:
            with connection.transaction():
                connection.execute(files[name])
                connection.execute(query("note_migration"), {"name": name, "sha256": sha256_hex(files[name])})
            _log.info("applied migration %s", name)
    return tuple(fresh)


def _files(folder: Traversable) -> dict[str, bytes]:
    found = sorted((item for item in folder.iterdir() if _FILE.fullmatch(item.name)), key=lambda item: item.name)
    # A checkout may have turned the line ends; that is not an edit.
    return {item.name: item.read_bytes().replace(b"\r\n", b"\n") for item in found}


@contextmanager
def _locked(connection: psycopg.Connection[Any]) -> Iterator[None]:
    connection.execute(query("lock_migrations"))
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute(query("unlock_migrations"))


def _ensure_writer(connection: psycopg.Connection[Any], writer: str) -> None:
    """See that the application's role exists and that this login may take it on.

    Roles belong to the server and not to the database, so a migration that ran once does not settle this: the
    database may since have been restored into another server.
    """
    user, exists, member = _standing(connection, writer)
    if member:
        return
    role, login = sql.Identifier(writer), sql.Identifier(user)
    try:
        if not exists:
            # Another database of the same server may be doing the same: its lock is not ours.
            with _already_there():
                connection.execute(sql.SQL("create role {} nologin").format(role))
        connection.execute(sql.SQL("grant {} to {}").format(role, login))
    except errors.InsufficientPrivilege as error:
        create = "" if exists else f"CREATE ROLE {writer} NOLOGIN; "
        raise MigrationRefused(
            f'this Postgres does not let "{user}" set up the role {writer}, under which Penumbra may only insert and '
            f'select. Ask its administrator to run once: {create}GRANT {writer} TO "{user}";'
        ) from error


@contextmanager
def _already_there() -> Iterator[None]:
    try:
        yield
    except (errors.DuplicateObject, errors.UniqueViolation):
        return


def _standing(connection: psycopg.Connection[Any], writer: str) -> tuple[str, bool, bool]:
    found = connection.execute(query("role_standing"), {"role": writer}).fetchone()
    if found is None:
        raise MigrationRefused("Postgres does not say who we are")
    return found[0], found[1], found[2]


def _ensure_schema(connection: psycopg.Connection[Any]) -> None:
    found = connection.execute(query("schema_exists")).fetchone()
    schema, table = found or (False, False)
    try:
        with connection.transaction():
            if not schema:
                connection.execute(query("create_schema"))
            if not table:
                connection.execute(query("create_migrations"))
    except errors.InsufficientPrivilege as error:
        raise MigrationRefused(
            "this Postgres does not let us create the schema penumbra and its tables. Ask its administrator to run "
            f"once: GRANT CREATE ON DATABASE {connection.info.dbname} TO {connection.info.user};"
        ) from error


def _check_history(applied: dict[str, str], files: dict[str, bytes]) -> None:
    for name, digest in applied.items():
        if name not in files:
            raise MigrationRefused(f"the database has migration {name}, which this version does not know: it is newer")
        if sha256_hex(files[name]) != digest:
            raise MigrationRefused(f"migration {name} was changed after it had been applied; add a new file instead")
