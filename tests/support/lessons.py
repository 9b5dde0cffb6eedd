"""Closed positions whose outcomes depend on their features as far as a test says."""

from __future__ import annotations

from typing import Any

import numpy as np

from learning.example import Example, examples
from learning.fit import FitSettings
from learning.members import HeadSettings
from scorer.schema import SCALP, Schema

START_MS = 1_700_000_000_000
MINUTE_MS = 60_000
SMALL = FitSettings(
    heads=HeadSettings(forest_trees=12, forest_depth=4, boosting_trees=10, hidden=(6, 3), network_epochs=20),
    beside=False,
)
"""Heads small enough for a unit test and no twin beside them; every rule is that of the full size."""
KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))


def closed_rows(
    n: int, *, edge: float = 2.0, seed: int = 1, schema: Schema = SCALP, apart_ms: int = 10 * MINUTE_MS
) -> list[dict[str, Any]]:
    """Bodies of ``closed`` facts. ``edge`` is how strongly the first two numbers move the log-odds of a win."""
    rng = np.random.default_rng(seed)
    rows = []
    for place in range(n):
        values = rng.normal(size=len(schema.numbers))
        won = bool(rng.random() < 1.0 / (1.0 + np.exp(-edge * (values[0] + 0.5 * values[1]))))
        features: dict[str, Any] = {f.name: float(v) for f, v in zip(schema.numbers, values, strict=True)}
        regime = ("low", "normal", "high", "extreme")[int(rng.integers(4))]
        session = ("us", "european", "asian", "off")[int(rng.integers(4))]
        entry_ms = START_MS + place * apart_ms
        rows.append(
            {
                "id": f"s{place:05d}",
                "strategy": "scalp",
                "symbol": ("BTCUSDT", "ETHUSDT", "SOLUSDT")[int(rng.integers(3))],
                "side": "long" if rng.random() < 0.5 else "short",
                "features": features,
                "outcome": "win" if won else "loss",
                "kind": "executed" if rng.random() < 0.3 else "phantom",
                "gross_r": 1.5 if won else -1.0,
                "net_r": 1.45 if won else -1.05,
                "ts": entry_ms - 1_000,
                "entry_ms": entry_ms,
                "exit_ms": entry_ms + int(rng.integers(1, 4)) * 5 * MINUTE_MS,
                "bucket": f"{session}|{regime}",
                "score": 60.0,
                "heuristic_score": 50.0 + 5.0 * float(rng.integers(0, 8)),
                "score_source": "heuristic",
                "ambiguous": False,
            }
        )
    return rows


def lessons(n: int, **world: Any) -> list[Example]:
    """The same as Examples."""
    return examples(closed_rows(n, **world))
