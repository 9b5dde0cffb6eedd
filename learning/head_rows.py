"""What heads learn from: endings, timeouts by their marks, joined with where the price went after the entry."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from learning.example import EXECUTED_WEIGHT, PHANTOM_WEIGHT
from phantom.reach import HORIZONS, LEVELS_R, NEVER, Path, path_from
from scorer.encoding import model_features
from scorer.heads import DIRECTION, EXPECTED_RETURN, P_STOP, STRENGTH, Way, reach_name
from signals.errors import Invalid
from signals.profile import Kind
from signals.reasons import Reason
from signals.signal import FeatureValue

ENTERED = frozenset({"win", "loss", "timeout"})
LARGEST_LEARNED_R = 10.0
"""Results beyond count as this much: one wild print must not turn a regression."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadRow:
    """One signal that entered the market, and what is known of it by now. Times in UTC epoch ms.

    ``net_r`` is after costs, of a timeout by its mark; ``stopped`` whether the stop ended it, wherever it then lay.
    Both are known from ``exit_ms`` on. ``path`` is known from ``path_ms`` on; none while it is not, or has a hole.
    """

    id: str
    features: Mapping[str, FeatureValue]
    kind: Kind
    ts: int
    entry_ms: int
    exit_ms: int
    net_r: float
    stopped: bool
    path: Path | None = None
    path_ms: int = 0

    @property
    def weight(self) -> float:
        """How much it counts in a fit, and in a fit only."""
        return EXECUTED_WEIGHT if self.kind is Kind.EXECUTED else PHANTOM_WEIGHT


def head_rows(
    rows: Iterable[Mapping[str, Any]],
    paths: Iterable[str],
    corrections: Mapping[str, Mapping[str, Any] | None] | None = None,
) -> list[HeadRow]:
    """Join endings and paths by id, in the order of the signals.

    Parameters
    ----------
    rows : bodies of closes; one that comes again under the same id is taken once, the first time
    paths : recorded paths without a hole, as JSON
    corrections : by id, fields that replace those of the row; ``None`` takes the row out

    Raises
    ------
    Invalid : if a row or path is not one that was recorded
    """
    known = {str(told["id"]): told for told in map(json.loads, paths)}
    found: dict[str, HeadRow] = {}
    for row in rows:
        name = str(row["id"])
        corrected = (corrections or {}).get(name, {})
        if name in found or corrected is None:
            continue
        whole = {**row, **corrected}
        if whole.get("outcome") in ENTERED:
            found[name] = _row(name, whole, known.get(name))
    return sorted(found.values(), key=lambda row: (row.ts, row.id))


def _row(name: str, row: Mapping[str, Any], told: Mapping[str, Any] | None) -> HeadRow:
    try:
        net_r = float(row["net_r"])
        mark_percent = row.get("mark_pnl_percent")
        if row["outcome"] == "timeout" and mark_percent is not None:
            # The book closes it at its entry, for its costs; the market would have paid the mark.
            net_r += float(mark_percent) / 100.0 * float(row["entry"]) / abs(float(row["entry"]) - float(row["sl"]))
        if not math.isfinite(net_r):
            raise Invalid(Reason.FIELD_NOT_FINITE, "net_r", name)
        bucket = row.get("bucket")
        entry_ms, exit_ms = int(row["entry_ms"]), int(row["exit_ms"])
        return HeadRow(
            id=name,
            features=model_features(row["features"], bucket=bucket, symbol=str(row["symbol"])),
            kind=Kind(row["kind"]),
            ts=int(row["ts"]),
            # An engine can be out before the candle its twin enters on.
            entry_ms=min(entry_ms, exit_ms),
            exit_ms=exit_ms,
            net_r=max(-LARGEST_LEARNED_R, min(LARGEST_LEARNED_R, net_r)),
            stopped=row["exit_reason"] == "sl",
            path=None if told is None else path_from(told),
            path_ms=0 if told is None else int(told["known_ms"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise Invalid(Reason.FIELD_TYPE, "row", f"{name}: {error!r}") from error


@dataclass(frozen=True, slots=True)
class Target:
    """What one head forecasts: its value for a row (none where there is none), and whether the path must be known."""

    name: str
    of: Callable[[HeadRow], float | None]
    by_path: bool

    def end_ms(self, row: HeadRow) -> int:
        """From when on the label is known, UTC epoch ms."""
        return row.path_ms if self.by_path else row.exit_ms


def _reach(level: int, horizon: int, way: Way) -> Callable[[HeadRow], float | None]:
    def reached(row: HeadRow) -> float | None:
        if row.path is None:
            return None
        ahead, behind = (row.path.reached(level, horizon, in_favour=side) for side in (True, False))
        return float({Way.ANY: ahead or behind, Way.WITH: ahead, Way.AGAINST: behind}[way])

    return reached


def _direction(row: HeadRow) -> float | None:
    """Which way the second level was reached first; none where it never was. One candle for both counts as against."""
    if row.path is None:
        return None
    ahead, behind = row.path.with_at[-1], row.path.against_at[-1]
    if ahead == behind == NEVER:
        return None
    return float(ahead != NEVER and (behind == NEVER or ahead < behind))


def _targets() -> dict[str, Target]:
    found = [
        Target(EXPECTED_RETURN, lambda row: row.net_r, by_path=False),
        Target(P_STOP, lambda row: float(row.stopped), by_path=False),
        Target(STRENGTH, lambda row: None if row.path is None else _bounded(row.path.strength_r()), by_path=True),
        Target(DIRECTION, _direction, by_path=True),
    ]
    found += [
        Target(reach_name(int(LEVELS_R[level]), HORIZONS[horizon], way), _reach(level, horizon, way), by_path=True)
        for level in range(len(LEVELS_R))
        for horizon in range(len(HORIZONS))
        for way in Way
    ]
    return {target.name: target for target in found}


def _bounded(value: float) -> float:
    return max(-LARGEST_LEARNED_R, min(LARGEST_LEARNED_R, value))


TARGETS: Mapping[str, Target] = MappingProxyType(_targets())
"""By name of the head."""
