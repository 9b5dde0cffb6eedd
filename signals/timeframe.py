"""Candle lengths: ``5m`` in settings and signals, milliseconds in arithmetic."""

from __future__ import annotations

import re

from signals.errors import Invalid
from signals.reasons import Reason

_PATTERN = re.compile(r"([1-9][0-9]{0,3})([smhdw])")
_UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}


def timeframe_ms(text: str, field: str = "timeframe") -> int:
    """Length of a candle in milliseconds, from ``30s``, ``5m``, ``1h``, ``1d``, ``1w``."""
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise Invalid(Reason.FIELD_FORMAT, field, "expected a number and one of s m h d w, like 5m")
    return int(match[1]) * _UNIT_MS[match[2]]


def floor_ts(ts: int, step_ms: int) -> int:
    """Open time of the candle that holds ``ts``; both in epoch milliseconds."""
    return ts - ts % step_ms
