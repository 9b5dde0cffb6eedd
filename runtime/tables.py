"""Which records a threshold table is learned from: the one rule for the trainer and for whoever serves."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable

from qscore.evidence import Drawn
from qscore.table import HEURISTIC, ScoredRecord, TableKey, ThresholdBook, ThresholdTable
from scorer.blend import blend
from scorer.recorded import PartRecords
from signals.parse import canonical_json, sha256_hex
from signals.profile import ThresholdPolicy

INTERVALS = Drawn(resamples=200, seed=20_240_102)
"""How a trainer draws the intervals that tables carry; who only serves a table draws none."""


def book_for(
    book: ThresholdBook,
    records: PartRecords,
    source: str,
    weight: float,
    policy: ThresholdPolicy,
    *,
    drawn: Drawn | None = None,
) -> ThresholdBook:
    """The book with the table of this blend under this policy, learned from the recorded parts if it has none.

    A table that was learned on other labels or in another mode than the policy puts in force is none.
    """
    known = next((table for table in book.tables if table.matches(source, weight)), None)
    if known is not None and known.fits(policy):
        return book.having(known.under(policy))
    return book.relearn(scored(records), weight, score_source=source, blend=blend, policy=policy, drawn=drawn)


def scored(records: PartRecords) -> list[ScoredRecord]:
    """Records of a bundle as the threshold rule takes them."""
    names = (*records.buckets, None)
    return [
        ScoredRecord(
            heuristic=None if math.isnan(heuristic) else heuristic,
            ensemble=ensemble,
            won=won == 1,
            net_r=net_r,
            bucket=names[bucket],
            decisive=decisive == 1,
            weight=weight,
            entry_ms=int(entry_ms),
            exit_ms=int(exit_ms),
        )
        for heuristic, ensemble, won, net_r, bucket, decisive, weight, entry_ms, exit_ms in zip(
            records.heuristic.tolist(),
            records.ensemble.tolist(),
            records.won.tolist(),
            records.net_r.tolist(),
            records.bucket.tolist(),
            records.decisive.tolist(),
            records.weight.tolist(),
            records.entry_ms.tolist(),
            records.exit_ms.tolist(),
            strict=True,
        )
    ]


def heuristic_table(
    records: Iterable[ScoredRecord],
    policy: ThresholdPolicy,
    *,
    drawn: Drawn | None = None,
    incumbent: ThresholdTable | None = None,
) -> ThresholdTable:
    """The heuristic's thresholds from the scores that were recorded with past decisions; empty below 50.

    The rules never change, so its table may be held to the one in force before; no bundle's may.
    """
    book = ThresholdBook().relearn(
        records, 0.0, score_source=HEURISTIC, blend=blend, policy=policy, drawn=drawn, incumbent=incumbent
    )
    return book.table(HEURISTIC, 0.0)


def untold(policy: ThresholdPolicy) -> ThresholdTable:
    """The heuristic's table while none was learned: the static threshold, closed where a badge is required."""
    return ThresholdTable(TableKey(HEURISTIC, 0.0), policy=policy)


def spelled(table: ThresholdTable) -> tuple[str, str]:
    """A table's content address and its text."""
    text = canonical_json(table.as_json())
    return sha256_hex(text), text


def read_table(address: str, text: str) -> ThresholdTable:
    """The heuristic's table behind an address.

    Raises ``Invalid`` or ``ValueError`` when it is another one, for other scores, or none.
    """
    if sha256_hex(text) != address:
        raise ValueError("its content belongs to another address")
    table = ThresholdTable.from_json(json.loads(text))
    if not table.matches(HEURISTIC, 0.0):
        raise ValueError(f"it is for {table.score_source} scores")
    return table
