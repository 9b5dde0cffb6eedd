"""What the heads are told of each record: a win, a loss, or a share of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from learning.labels import honest_labels
from signals.method import Method

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

NEARLY = 0.05
"""A share this close to 0 or 1 is that: a second row for it would count in the leaves of a tree like any other."""


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """Rows for a fit: ``place`` int64 (m,) of the record, ``won`` bool (m,), ``weight`` float64 (m,), > 0.

    A record told as a share of both comes twice, as a win and as a loss; its weights add up to its own.
    """

    place: IntArray
    won: BoolArray
    weight: FloatArray


def targets(
    won: BoolArray,
    decisive: BoolArray,
    net_r: FloatArray,
    buckets: Sequence[str | None],
    weight: FloatArray,
    *,
    method: Method,
) -> Targets:
    """What heads learn of records of both kinds.

    Parameters
    ----------
    won, decisive : ndarray of bool, shape (n,)
    net_r : ndarray of shape (n,), in R after costs; of a timeout that of its mark price
    buckets : sequence of length n, ``session|volatility`` or none
    weight : ndarray of shape (n,), > 0
    method : ``spec``: won or lost, and a timeout, where there is one, by the sign of its mark. ``evidence``: the share
        u = (R + L) / (W + L) of each, clipped to [0, 1] since a weight cannot be negative; thresholds do not clip.
        W and L are those of these records.

    Returns
    -------
    Targets; decisive records in their order under ``spec``

    Raises
    ------
    ValueError : if the shapes differ

    Source: STATISTICS 8.3.
    """
    if not won.shape == decisive.shape == net_r.shape == weight.shape:
        raise ValueError("one outcome, one result and one weight for each record")
    places = np.arange(len(won), dtype=np.int64)
    label = honest_labels(net_r, won, decisive, buckets) if method is Method.EVIDENCE else None
    if label is None:
        return Targets(places, np.where(decisive, won, net_r > 0.0), weight)
    share = np.clip(label, 0.0, 1.0)
    share = np.where(share <= NEARLY, 0.0, np.where(share >= 1.0 - NEARLY, 1.0, share))
    as_win, as_loss = share > 0.0, share < 1.0
    place = np.concatenate((places[as_win], places[as_loss]))
    told = np.arange(len(place)) < int(as_win.sum())
    counted = np.concatenate(((share * weight)[as_win], ((1.0 - share) * weight)[as_loss]))
    # In the order of the records: heads draw by position, and without shares they must draw what they always did.
    order = np.argsort(place, kind="stable")
    return Targets(place[order], told[order], counted[order])


def centred(probability: FloatArray, mean: float) -> FloatArray:
    """Move all log-odds by one step so that the mean of the probabilities is the one given.

    Parameters
    ----------
    probability : ndarray of shape (n,), in [0, 1]; kept 1e-6 away from 0 and 1
    mean : in (0, 1); at its ends the probabilities are returned as they are

    Returns
    -------
    ndarray of shape (n,), in (0, 1), in the same order
    """
    if not 0.0 < mean < 1.0 or len(probability) == 0:
        return probability
    inside = np.clip(probability, 1e-6, 1.0 - 1e-6)
    odds = np.log(inside) - np.log1p(-inside)
    low, high = -40.0, 40.0
    for _ in range(80):
        step = (low + high) / 2.0
        low, high = (step, high) if float(np.mean(_logistic(odds + step))) < mean else (low, step)
    return _logistic(odds + high)


def _logistic(odds: FloatArray) -> FloatArray:
    return 1.0 / (1.0 + np.exp(-odds))
