"""The score-shuffle placebo: the same thresholds over scores that belong to other signals. Its lift must vanish."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lab.statistics import RESAMPLES, TIE, UNKNOWN, BoolArray, FloatArray, IntArray, Interval
from lab.trade import Trade, TradeTable
from signals.profile import Kind

BARRING = ("LIMIT_", "BREAKER_", "DATA_STALE_", "MODE_", "MODEL_DEGRADED", "HEURISTIC_FORBIDDEN")
"""How reasons begin that refuse whatever the score is."""
ROWS = 256
"""Permutations drawn at once."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gate:
    """What a gate compared, shape ``(n_trades,)`` each.

    ``open`` is false where no score would have let the signal through: a closed threshold, a limit, a failed model.
    ``stratum`` numbers the groups within which scores are of one kind and may change places.
    """

    score: FloatArray
    threshold: FloatArray
    open: BoolArray
    stratum: IntArray

    @property
    def accepted(self) -> BoolArray:
        """What passes."""
        return self.open & (self.score >= self.threshold)

    def where(self, mask: BoolArray) -> Gate:
        """The part of it that a mask keeps."""
        return Gate(
            score=self.score[mask], threshold=self.threshold[mask], open=self.open[mask], stratum=self.stratum[mask]
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Placebo:
    """Lift of the gate in R beside its lift under shuffled scores. ``null`` holds the shuffles, ``(permutations,)``.

    ``p`` is the share of shuffles that lift as much or more, with the +1 correction; NaN where shuffling changes
    nothing. ``interval`` holds the middle 95 % of the shuffles. ``strata`` counts the groups scores stayed in.
    """

    name: str
    cost_bps: float
    n: int
    n_executed: int
    strata: int
    lift: float
    placebo_mean: float
    interval: Interval
    p: float
    permutations: int
    null: FloatArray


def gate_of(table: TradeTable, *, block_ms: int | None = None) -> Gate:
    """Read back what the gate compared.

    Scores of the heuristic and of each bundle are kinds of their own: one must not meet the other's threshold. With
    ``block_ms`` they also stay in their block of time.
    """
    trades = table.trades
    barred = [trade.threshold_closed or _refused_anyway(trade) for trade in trades]
    kinds = [
        f"{trade.score_source}|{trade.bundle or ''}|{trade.ts // block_ms if block_ms is not None else ''}"
        for trade in trades
    ]
    stratum = np.unique(np.array(kinds, dtype=np.str_), return_inverse=True)[1] if kinds else np.empty(0)
    return Gate(
        score=np.array([trade.score for trade in trades], dtype=np.float64),
        threshold=np.array([trade.threshold for trade in trades], dtype=np.float64),
        open=~np.array(barred, dtype=np.bool_),
        stratum=stratum.astype(np.int64),
    )


def _refused_anyway(trade: Trade) -> bool:
    """Whether something else than the score held the signal back."""
    passed_in_vain = trade.kind is not Kind.EXECUTED and trade.score >= trade.threshold
    return passed_in_vain or any(reason.startswith(BARRING) for reason in trade.reasons)


def shuffled_lift(
    name: str,
    values: FloatArray,
    gate: Gate,
    *,
    cost_bps: float,
    rng: np.random.Generator,
    permutations: int = RESAMPLES,
) -> Placebo:
    """Deal the scores out anew within their strata, many times, and compare each with the same thresholds.

    What is left of the lift is what the thresholds alone choose (a bucket that is nearly closed, a bundle that
    refuses more); what is gone is what the score knew.
    """
    if values.shape != gate.score.shape:
        raise ValueError("expected one result per score")
    accepted = gate.accepted
    n, taken = len(values), int(np.count_nonzero(accepted))
    strata = len(np.unique(gate.stratum))
    nothing = Placebo(
        name=name, cost_bps=cost_bps, n=n, n_executed=taken, strata=strata, lift=math.nan, placebo_mean=math.nan,
        interval=UNKNOWN, p=math.nan, permutations=0, null=np.empty(0),
    )  # fmt: skip
    if taken in (0, n):
        return nothing
    overall = float(np.mean(values))
    value = float(np.mean(values[accepted])) - overall
    null = _null(values, gate, rng, permutations) - overall
    # A shuffle that lets nothing through has no mean.
    null = null[np.isfinite(null)]
    if len(null) < 2 or float(np.ptp(null)) <= TIE:
        return nothing
    as_much = int(np.count_nonzero(null >= value - TIE))
    low, high = np.quantile(null, (0.025, 0.975))
    return Placebo(
        name=name,
        cost_bps=cost_bps,
        n=n,
        n_executed=taken,
        strata=strata,
        lift=value,
        placebo_mean=float(np.mean(null)),
        interval=Interval(float(low), float(high)),
        p=(1 + as_much) / (len(null) + 1),
        permutations=len(null),
        null=null,
    )


def _null(values: FloatArray, gate: Gate, rng: np.random.Generator, permutations: int) -> FloatArray:
    """Mean result of what passes under shuffled scores, shape (permutations,)."""
    order = np.argsort(gate.stratum, kind="stable")
    score, threshold = gate.score[order], gate.threshold[order]
    open_, result = gate.open[order], values[order]
    _, starts = np.unique(gate.stratum[order], return_index=True)
    ends = [*starts[1:].tolist(), len(order)]
    means = np.empty(permutations)
    for begin in range(0, permutations, ROWS):
        rows = min(ROWS, permutations - begin)
        sums, counts = np.zeros(rows), np.zeros(rows)
        for start, end in zip(starts.tolist(), ends, strict=True):
            dealt = rng.permuted(np.broadcast_to(score[start:end], (rows, end - start)), axis=1)
            passed = (dealt >= threshold[start:end]) & open_[start:end]
            sums += passed @ result[start:end]
            counts += np.count_nonzero(passed, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            means[begin : begin + rows] = sums / counts
    return means
