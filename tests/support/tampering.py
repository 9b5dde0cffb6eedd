"""What a superuser can do to the record behind every grant and trigger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

TABLES = ("facts", "audit_chain", "phantom_trades")


@contextmanager
def triggers_off(owner: psycopg.Connection[Any]) -> Iterator[None]:
    """As a replica that replays: triggers that are not ``always`` do not fire in it."""
    for table in TABLES:
        owner.execute(sql.SQL("alter table penumbra.{} enable trigger append_only").format(sql.Identifier(table)))
    owner.execute("set session_replication_role = replica")
    try:
        yield
    finally:
        owner.execute("set session_replication_role = origin")
        for table in TABLES:
            owner.execute(
                sql.SQL("alter table penumbra.{} enable always trigger append_only").format(sql.Identifier(table))
            )


def tamper(owner: psycopg.Connection[Any], namespace: str, *statements: str) -> None:
    """Run statements on a namespace, ``%(n)s``, and its facts ``claimed:s1`` to ``claimed:s99``, ``%(s1)s`` and so on.

    Each must touch at least one row, or nothing was tampered with.
    """
    named = {"n": namespace} | {f"s{number}": f"claimed:s{number}" for number in range(1, 100)}
    with triggers_off(owner), owner.transaction():
        for statement in statements:
            done = owner.execute(statement.encode(), named)
            if done.rowcount < 1:
                raise LookupError(f"touched nothing: {statement}")
