"""One line of a threshold table, for a reader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from qscore.estimate import Estimate
from qscore.pooled import PooledEstimate, PooledTable
from qscore.threshold import Clamp, Threshold, ThresholdSource
from signals.method import Method

ALL: Final = "all"
"""How a row names the estimate over every bucket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """One line of a table: scores in [0, 100], W and L in the unit of the records (R), p_min in [0, 1].

    ``bucket`` is ``session|volatility`` or ``all``; ``threshold`` is the one in effect under ``clamp``, by ``method``;
    ``in_force`` says whether that method decides. ``interval`` is the 90 % bootstrap interval of the threshold before
    any clamp, none where none was drawn. What only the evidence method tells is none in a row of the seed rule:
    ``n`` counts timeouts there, ``effective_n`` is (Σw)²/Σw², ``m`` the pseudo-records of the common curve (infinite:
    the curve alone), ``own_weight`` the share of own records near the threshold, ``reached`` the chance that the curve
    breaks even there, ``held`` whether an earlier threshold stays in force, ``shrunk`` whether break-even is borrowed.
    ``certified_from`` is the lowest tested score above which wins are shown to pay; none without a badge.
    """

    bucket: str
    n: int
    wins: int
    losses: int
    mean_win_r: float | None
    mean_loss_r: float | None
    p_min: float | None
    threshold: Threshold
    clamp: Clamp
    note: str
    method: Method
    in_force: bool
    interval: tuple[int, int] | None = None
    effective_n: float | None = None
    m: float | None = None
    own_weight: float | None = None
    reached: float | None = None
    shrunk: bool = False
    held: bool = False
    certified_from: int | None = None

    @classmethod
    def of_seed(
        cls,
        bucket: str,
        found: Estimate,
        beside: PooledEstimate | None,
        threshold: Threshold,
        clamp: Clamp,
        *,
        in_force: bool,
    ) -> TableRow:
        """A row of the seed rule, with the interval and badge that were learned beside it."""
        return cls(
            bucket=bucket,
            n=found.n,
            wins=found.wins,
            losses=found.losses,
            mean_win_r=found.mean_win_r,
            mean_loss_r=found.mean_loss_r,
            p_min=found.p_min,
            threshold=threshold,
            clamp=clamp,
            note=found.note.value,
            method=Method.SPEC,
            in_force=in_force,
            interval=None if beside is None else beside.seed_interval,
            certified_from=None if beside is None else beside.certified_from,
        )

    @classmethod
    def of_evidence(
        cls,
        bucket: str,
        found: PooledEstimate,
        table: PooledTable,
        threshold: Threshold,
        clamp: Clamp,
        *,
        in_force: bool,
    ) -> TableRow:
        """A row of the evidence method."""
        return cls(
            bucket=bucket,
            n=found.n,
            wins=found.wins,
            losses=found.losses,
            mean_win_r=found.mean_win_r,
            mean_loss_r=found.mean_loss_r,
            p_min=found.p_min,
            threshold=threshold,
            clamp=clamp,
            note=found.note.value,
            method=Method.EVIDENCE,
            in_force=in_force,
            interval=found.interval,
            effective_n=found.effective_n,
            m=table.m,
            own_weight=found.own_weight,
            reached=found.reached,
            shrunk=found.shrunk,
            held=found.held is not None,
            certified_from=found.certified_from,
        )

    @property
    def source(self) -> ThresholdSource:
        """Whether the threshold is the bucket's own or that over all."""
        return self.threshold.source
