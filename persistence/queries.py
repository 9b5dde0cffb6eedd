"""The SQL statements of ``queries.sql`` by name."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

_HEAD = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


@cache
def _statements() -> dict[str, bytes]:
    _, *parts = _HEAD.split((resources.files("persistence") / "queries.sql").read_text("utf-8"))
    # Bytes, because psycopg takes text for a query only when it stands in the program.
    return {name: body.strip().encode() for name, body in zip(parts[::2], parts[1::2], strict=True)}


def query(name: str) -> bytes:
    """The statement of a name."""
    return _statements()[name]
