"""The seed rule: from which score on did records of one market situation at least break even."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from qscore.isotonic import rising_means
from qscore.outcomes import TOP
from qscore.plain import LARGEST, PlainRow
from signals.errors import Invalid
from signals.reasons import Reason

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

TOLERANCE = 1e-12
"""P(win) this little below break-even counts as break-even: both come from divisions, and with 2:1 payoffs and one
win in three they are equal on paper. Far above the error of either, far below any difference records can show."""


class Note(StrEnum):
    """Why an estimate's threshold is what it is."""

    REACHED = "reached"
    """The ordinary case: from here on wins are frequent enough to pay for the losses."""
    NEVER_REACHED = "never_reached"
    NO_WINS = "no_wins"
    WINS_DO_NOT_PAY = "wins_do_not_pay"
    NO_LOSSES = "no_losses"
    LOSSES_COST_NOTHING = "losses_cost_nothing"

    @property
    def nothing_passes(self) -> bool:
        """Whether the records gave no score worth taking."""
        return self in (Note.NEVER_REACHED, Note.NO_WINS, Note.WINS_DO_NOT_PAY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What one set of records says about the threshold. ``threshold`` and ``note`` follow from the other fields.

    ``mean_win_r`` and ``mean_loss_r`` are W and L: mean net result of wins, and minus the mean net result of losses,
    in R (or percent, whichever the records were given in); none without a win or a loss. ``p_min`` in [0, 1] is the
    win probability that breaks even, none while either side is missing. ``cells`` are the whole scores that have
    records, ascending in 0..100, and ``probability`` the win probability at each, non-decreasing in [0, 1]; between
    cells the curve is linear, outside them flat.

    Raises
    ------
    ValueError : if the fields contradict each other or leave their ranges
    """

    wins: int
    losses: int
    mean_win_r: float | None
    mean_loss_r: float | None
    p_min: float | None
    cells: tuple[int, ...]
    probability: tuple[float, ...]
    threshold: int = field(init=False)
    note: Note = field(init=False)

    def __post_init__(self) -> None:
        if self.wins < 0 or self.losses < 0 or not 1 <= len(self.cells) <= self.n:
            raise ValueError("counts are not negative, and every cell has a record")
        if (self.mean_win_r is None) != (self.wins == 0) or (self.mean_loss_r is None) != (self.losses == 0):
            raise ValueError("a mean belongs to at least one record, and the other way round")
        if (self.p_min is None) != (self.wins == 0 or self.losses == 0):
            raise ValueError("break-even needs a win and a loss")
        # A NaN fails every comparison, so the rules are written as what must hold.
        if not all(abs(mean) <= LARGEST for mean in (self.mean_win_r, self.mean_loss_r) if mean is not None):
            raise ValueError("means must be finite")
        if not (self.p_min is None or 0.0 <= self.p_min <= 1.0):
            raise ValueError("p_min is a probability")
        cells, probability = np.asarray(self.cells), np.asarray(self.probability, dtype=np.float64)
        if cells.shape != probability.shape or not (np.all(np.diff(cells) > 0) and 0 <= cells[0] <= cells[-1] <= TOP):
            raise ValueError("cells ascend in 0..100, each with its probability")
        if not (np.all(np.diff(probability) >= 0.0) and probability[0] >= 0.0 and probability[-1] <= 1.0):
            raise ValueError("probabilities never fall and stay in [0, 1]")
        threshold, note = seed_rule(self.mean_win_r, self.mean_loss_r, self.p_min, self.curve)
        object.__setattr__(self, "threshold", threshold)
        object.__setattr__(self, "note", note)

    @property
    def n(self) -> int:
        """How many records it was learned from."""
        return self.wins + self.losses

    @property
    def nothing_passes(self) -> bool:
        """Whether the records gave no score worth taking: the threshold is then 100."""
        return self.note.nothing_passes

    @property
    def curve(self) -> FloatArray:
        """Win probability at each whole score, shape (101,), non-decreasing in [0, 1]."""
        return np.interp(np.arange(TOP + 1), self.cells, self.probability)

    def as_json(self) -> dict[str, Any]:
        """The estimate as plain JSON values, what follows from the rest included for the reader."""
        return {
            "n": self.n,
            "wins": self.wins,
            "losses": self.losses,
            "mean_win_r": self.mean_win_r,
            "mean_loss_r": self.mean_loss_r,
            "p_min": self.p_min,
            "threshold": self.threshold,
            "note": self.note.value,
            "cells": list(self.cells),
            "probability": list(self.probability),
        }

    @classmethod
    def from_json(cls, record: object) -> Self:
        """Read ``as_json`` back.

        Parameters
        ----------
        record : mapping, as parsed from JSON

        Raises
        ------
        Invalid : if a field is missing, of another type or out of range, or the threshold does not follow from the rest
        """
        row = PlainRow.of(record, "estimate")
        try:
            estimate = cls(
                wins=row.count("wins"),
                losses=row.count("losses"),
                mean_win_r=row.optional_number("mean_win_r"),
                mean_loss_r=row.optional_number("mean_loss_r"),
                p_min=row.optional_number("p_min"),
                cells=tuple(row.counts("cells")),
                probability=tuple(row.numbers("probability")),
            )
        except ValueError as error:
            raise Invalid(Reason.FIELD_RANGE, "estimate", str(error)) from error
        told = (row.count("n"), row.count("threshold"), row.text("note"))
        if told != (estimate.n, estimate.threshold, estimate.note.value):
            follows = f"n {estimate.n}, threshold {estimate.threshold}, {estimate.note.value}"
            raise Invalid(Reason.FIELD_RANGE, "threshold", f"the records give {follows}")
        return estimate


def estimate(scores: FloatArray, won: BoolArray, net_r: FloatArray) -> Estimate:
    """Apply the seed rule to one set of decisive outcomes, executed and phantom alike, unweighted.

    Win probability is isotonic over the whole scores ``floor(score)`` that have records, each weighted by its count,
    linear between them and flat outside. With W the mean net result of wins and L minus that of losses (a stop at
    break-even is a loss, with its zero), break-even lies at p_min = L / (W + L), and the threshold is the smallest
    whole score whose win probability reaches it (within 1e-12): 100 if none does, if nothing won or if W <= 0;
    else 0 if nothing lost or L <= 0. The order of the records does not matter, to the last bit.

    Parameters
    ----------
    scores : ndarray of shape (n,), in [0, 100], the very numbers that are compared with the threshold
    won : ndarray of bool, shape (n,)
    net_r : ndarray of shape (n,), results after costs in R; in percent if W and L are wanted in percent

    Returns
    -------
    Estimate

    Raises
    ------
    ValueError : if the shapes differ or are empty, a score leaves [0, 100], or a result is not finite or above 1e12

    Source: SPEC 7. For labels 0 and 1 it maximises the sum of (y − p_min) over the accepted records, which is their
    net result when wins and losses have one size each (STATISTICS 1.1).
    """
    if scores.ndim != 1 or len(scores) == 0 or not scores.shape == won.shape == net_r.shape:
        raise ValueError("expected one score, one outcome and one result for each of at least one record")
    if won.dtype != np.bool_:
        raise ValueError("outcomes must be booleans")
    if not np.all((scores >= 0.0) & (scores <= TOP)):
        raise ValueError("scores must lie in [0, 100]")
    if not np.all(np.abs(net_r) <= LARGEST):
        raise ValueError("results must be finite")
    whole = np.floor(scores).astype(np.int64)
    counts = np.bincount(whole, minlength=TOP + 1)
    cells = np.flatnonzero(counts)
    gain, loss = _mean(net_r[won]), _mean(-net_r[~won])
    return Estimate(
        wins=int(np.count_nonzero(won)),
        losses=int(np.count_nonzero(~won)),
        mean_win_r=gain,
        mean_loss_r=loss,
        p_min=None if gain is None or loss is None else break_even(gain, loss),
        cells=tuple(cells.tolist()),
        probability=tuple(rising_means(np.bincount(whole[won], minlength=TOP + 1)[cells], counts[cells]).tolist()),
    )


def seed_rule(
    mean_win_r: float | None, mean_loss_r: float | None, p_min: float | None, curve: FloatArray
) -> tuple[int, Note]:
    """The threshold of one set of records, and why.

    Parameters
    ----------
    mean_win_r, mean_loss_r : W and L, none without a win or a loss
    p_min : win probability that breaks even, in [0, 1]; none without either
    curve : ndarray of shape (101,), win probability at each whole score

    Source: SPEC 7.
    """
    # The order decides when both sides are odd: a situation whose wins lose money is never open.
    if mean_win_r is None:
        return TOP, Note.NO_WINS
    if mean_win_r <= 0.0:
        return TOP, Note.WINS_DO_NOT_PAY
    if mean_loss_r is None or p_min is None:
        return 0, Note.NO_LOSSES
    if mean_loss_r <= 0.0:
        return 0, Note.LOSSES_COST_NOTHING
    return first_reached(p_min, curve)


def first_reached(p_min: float, curve: FloatArray) -> tuple[int, Note]:
    """The smallest whole score whose win probability breaks even; 100, with the reason, if none does.

    Parameters
    ----------
    p_min : win probability that breaks even, in [0, 1]
    curve : ndarray of shape (101,), win probability at each whole score
    """
    reached = np.flatnonzero(curve >= p_min - TOLERANCE)
    return (int(reached[0]), Note.REACHED) if len(reached) > 0 else (TOP, Note.NEVER_REACHED)


def break_even(mean_win_r: float, mean_loss_r: float) -> float:
    """Win probability at which wins of size W pay for losses of size L: L / (W + L), in [0, 1].

    Parameters
    ----------
    mean_win_r : W, any unit; 1 is returned unless it is positive
    mean_loss_r : L, same unit; 0 is returned unless it is positive

    Source: SPEC 7.
    """
    if mean_win_r <= 0.0:
        return 1.0
    return mean_loss_r / (mean_win_r + mean_loss_r) if mean_loss_r > 0.0 else 0.0


def _mean(values: FloatArray) -> float | None:
    # An exactly rounded sum: the same records in another order must not move a threshold.
    return math.fsum(values.tolist()) / len(values) if len(values) > 0 else None
