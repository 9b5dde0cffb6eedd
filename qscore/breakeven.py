"""The win probability that breaks even, where a market situation has too few wins or losses to tell it by itself."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import numpy.typing as npt

from qscore.curve import expit
from qscore.outcomes import NOWHERE, PLACES

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

FEW: Final = 5
"""With fewer wins or losses than this a situation's break-even is shrunk towards that of the others."""
TOLD: Final = 2
"""With fewer than this it has no spread, and says nothing at all."""
LEAST_VARIANCE: Final = 1e-6
"""Of a log ratio: payoffs of one size have no spread, and would outweigh everything."""
ROW_ALL: Final = PLACES
"""Row of all records together, after the places."""


@dataclass(frozen=True, slots=True, eq=False)
class BreakEven:
    """Break-even of each place and of all records together, shape (n_sets, 18) each.

    ``p_min`` in [0, 1] is the one in force, ``own`` that of the place's own records (NaN without both sides),
    ``shrunk`` says where they differ in kind; ``win_r`` and ``loss_r`` are W and L in R (NaN without any), ``size_r``
    is W + L as labels are scaled by. ``closed``: wins that are no accident do not pay.
    """

    p_min: FloatArray
    own: FloatArray
    shrunk: BoolArray
    win_r: FloatArray
    loss_r: FloatArray
    size_r: FloatArray
    closed: BoolArray
    pooled: BoolArray
    """Shape (n_sets,): whether all records together have wins that pay and losses that cost."""

    def where(self, kept: BoolArray) -> BreakEven:
        """Some of the sets.

        Parameters
        ----------
        kept : ndarray of bool, shape (n_sets,)
        """
        return BreakEven(*(getattr(self, field.name)[kept] for field in fields(self)))


def break_evens(payoff: FloatArray, pieces: FloatArray) -> BreakEven:
    """Break-even by place, small ones shrunk towards the common ratio of loss to win size.

    z_b = log(L_b / W_b) with v_b = s_W²/(n_W W_b²) + s_L²/(n_L L_b²); the spread tau² between places by DerSimonian and
    Laird; z~_b = (tau² z_b + v_b mu)/(tau² + v_b) and p_min = expit(z~_b). A place with fewer than 2 wins or losses, or
    whose wins or losses are not above zero on average, takes mu. Places with 5 of each keep their own ratio, unless
    their losses cost nothing: to believe that would open them altogether.

    Parameters
    ----------
    payoff : ndarray of shape (n_sets, 2, 17, 3): weight, weighted results and squared results of wins and of losses
        (these counted positive), in R
    pieces : ndarray of shape (n_sets, 2, 17), how many wins and losses

    Source: STATISTICS 1.2; DerSimonian, Laird (1986), Controlled Clinical Trials 7(3), 177-188.
    """
    sums = np.concatenate([payoff, payoff.sum(axis=2, keepdims=True)], axis=2)
    number = np.concatenate([pieces, pieces.sum(axis=2, keepdims=True)], axis=2)
    weight = sums[..., 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums[..., 1] / weight
        spread = np.maximum(sums[..., 2] / weight - mean**2, 0.0) * number / np.maximum(number - 1.0, 1.0)
        win_r, loss_r = mean[:, 0], mean[:, 1]
        whole = (number[:, 0] > 0) & (number[:, 1] > 0)
        told = np.all(number >= TOLD, axis=1) & (win_r > 0.0) & (loss_r > 0.0)
        z = np.where(told, np.log(np.where(told, loss_r, 1.0) / np.where(told, win_r, 1.0)), 0.0)
        relative = np.where(told[:, None], spread / (number * mean**2), 0.0)
        variance = np.maximum(relative.sum(axis=1), LEAST_VARIANCE)
        plain = np.where(win_r > 0.0, np.where(loss_r > 0.0, loss_r / (win_r + loss_r), 0.0), 1.0)
        own = np.where(whole, plain, np.nan)
    centre, between = _common(z[:, :NOWHERE], variance[:, :NOWHERE], told[:, :NOWHERE])
    pooled = told[:, ROW_ALL]
    # No place tells its ratio, but all together do: then that is what they have in common.
    centre = np.where(np.any(told[:, :NOWHERE], axis=1), centre, z[:, ROW_ALL])
    centre, between = centre[:, None], between[:, None]
    drawn = np.where(told, (between * z + variance * centre) / (between + variance), centre)
    enough = np.all(number >= FEW, axis=1)
    closed = (number[:, 0] >= FEW) & (win_r <= 0.0)
    shrunk = ~(enough & told) & ~closed
    shrunk[:, ROW_ALL] = False
    # Records without a situation are judged with the whole, of which they are a part and nothing else.
    p_min = np.where(shrunk, expit(drawn), own)
    size = np.where(shrunk | closed, np.nan, win_r + loss_r)
    p_min[:, NOWHERE], size[:, NOWHERE] = p_min[:, ROW_ALL], size[:, ROW_ALL]
    shrunk[:, NOWHERE] = closed[:, NOWHERE] = False
    size = np.where(np.isfinite(size) & (size > 0.0), size, size[:, ROW_ALL:])
    return BreakEven(p_min, own, shrunk, win_r, loss_r, size, closed, pooled)


def _common(z: FloatArray, variance: FloatArray, told: BoolArray) -> tuple[FloatArray, FloatArray]:
    """The mean of log ratios and the variance between them, shape (n_sets,) each."""
    precision = np.where(told, 1.0 / variance, 0.0)
    total = precision.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.sum(precision * z, axis=1) / total
        excess = np.sum(precision * (z - mean[:, None]) ** 2, axis=1) - (told.sum(axis=1) - 1)
        room = total - np.sum(precision**2, axis=1) / total
        between = np.where((told.sum(axis=1) > 1) & (room > 0.0), np.maximum(excess / room, 0.0), 0.0)
        again = np.where(told, 1.0 / (variance + between[:, None]), 0.0)
        return np.nan_to_num(np.sum(again * z, axis=1) / again.sum(axis=1)), np.nan_to_num(between)
