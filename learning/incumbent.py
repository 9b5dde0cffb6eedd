"""How the bundle in force has done since it was published: outcomes that no choice of it can have seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from learning.skill import Skill, brier_skill

_DECISIVE = {"win": True, "loss": False}


def live_skill(rows: Iterable[Mapping[str, Any]], *, bundle: str, base: float) -> Skill | None:
    """Brier skill of a bundle's recorded scores over the base rate of its own training rows.

    Its bounds hold at every look, so that they may be read again after each outcome.

    Parameters
    ----------
    rows : bodies of ``closed`` facts, corrections laid over them; those that another bundle scored are left out
    bundle : address of the bundle
    base : win rate of its training rows, in [0, 1]

    Returns
    -------
    Skill, or none while no decisive outcome carries its score

    Source: STATISTICS 4.1 and 9 (5).
    """
    mine = [
        row
        for row in rows
        if row.get("bundle") == bundle and row.get("outcome") in _DECISIVE and _is_score(row.get("model_score"))
    ]
    if not mine:
        return None
    mine.sort(key=lambda row: (row["exit_ms"], row["id"]))
    exit_ms = np.array([row["exit_ms"] for row in mine], dtype=np.int64)
    # An engine can be out before the first candle its twin enters on.
    entry_ms = np.minimum(np.array([row["entry_ms"] for row in mine], dtype=np.int64), exit_ms)
    return brier_skill(
        np.array([row["model_score"] for row in mine], dtype=np.float64) / 100.0,
        np.full(len(mine), base),
        np.array([_DECISIVE[row["outcome"]] for row in mine], dtype=np.bool_),
        entry_ms=entry_ms,
        exit_ms=exit_ms,
        symbol=tuple(str(row["symbol"]) for row in mine),
    )


def _is_score(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0.0 <= value <= 100.0
