"""What an outcome is counted under while no training is due: the groups of patterns that a close knows by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from signals.bucket import Bucket

HOUR_MS = 3_600_000


def groups_of(result: Mapping[str, Any]) -> tuple[str, ...]:
    """``dimension|group`` for hour of day (UTC, of the signal), session and volatility; what is unknown is left out."""
    found = []
    ts, bucket = result.get("ts"), result.get("bucket")
    if isinstance(ts, int) and not isinstance(ts, bool):
        found.append(f"hour|{ts // HOUR_MS % 24:02d}")
    if isinstance(bucket, str):
        try:
            known = Bucket.parse(bucket)
        except ValueError:
            return tuple(found)
        found += [f"session|{known.session.value}", f"volatility|{known.volatility.value}"]
    return tuple(found)
