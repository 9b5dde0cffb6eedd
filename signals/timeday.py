"""Calendar days in UTC, as the keys and reports name them."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_day(ts_ms: int) -> str:
    """``YYYYMMDD`` of a moment in UTC epoch milliseconds."""
    return datetime.fromtimestamp(ts_ms / 1000, tz=UTC).strftime("%Y%m%d")


def iso_utc(ts_ms: int) -> str:
    """ISO 8601 text of a moment, for people and for Postgres."""
    return datetime.fromtimestamp(ts_ms / 1000, tz=UTC).isoformat(timespec="milliseconds")
