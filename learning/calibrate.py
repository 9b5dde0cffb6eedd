"""From out-of-fold forecasts to a calibrator, and to figures it cannot have bought by seeing the answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np
import numpy.typing as npt

from learning.metrics import SMALLEST
from learning.rungs import (
    UNCHANGED,
    check_rows,
    fit_beta,
    fit_centred_isotonic,
    fit_isotonic,
    fit_platt,
    fit_quadratic,
    fit_spline,
)
from learning.split import Fold, folds
from scorer.calibration import Calibrator
from signals.method import Method

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

FROM_BETA = 300
FROM_SPLINE = 2_000
INNER_BLOCKS = 5
BEYOND_DOUBT = 1.0
"""Standard errors by which a rung must cost less than no calibration: few rows must not talk a map into being."""


@dataclass(frozen=True, slots=True, eq=False)
class Lives:
    """When the label of each row lived: ``entry_ms`` and ``exit_ms``, int64 of shape (n,), exits not descending."""

    entry_ms: IntArray
    exit_ms: IntArray

    def at(self, places: IntArray) -> Lives:
        """Those of some rows."""
        return Lives(self.entry_ms[places], self.exit_ms[places])


class CalibratorFit(Protocol):
    """Makes a calibrator of out-of-fold rows in the order of their exits."""

    def __call__(self, raw: FloatArray, won: BoolArray, lives: Lives | None = None, /) -> Calibrator:
        """Fit one."""
        ...


Rung = Callable[[FloatArray, BoolArray], Calibrator]
RUNGS: Mapping[str, Rung] = MappingProxyType(
    {
        "platt": fit_platt,
        "beta": fit_beta,
        "quadratic": fit_quadratic,
        "spline": fit_spline,
        "centred_isotonic": fit_centred_isotonic,
        "isotonic": fit_isotonic,
    }
)
NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which rung was taken, and what each would have cost: mean log-loss in nats on rows it had not seen.

    ``doubt`` is how many standard errors the rung costs less than no calibration, paired row by row; 0 when none was
    taken because none could be measured.
    """

    rung: str
    log_loss: Mapping[str, float]
    doubt: float


def ladder(n: int) -> tuple[str, ...]:
    """The rungs that are tried at this number of rows.

    Parameters
    ----------
    n : count of out-of-fold rows

    Source: STATISTICS 6 (re-analysis of CalArena, arXiv:2605.30188): below 300 Platt or nothing, then beta and
    quadratic, from 2,000 on curves. The specified isotonic map is tried from 2,000 on as well and so demotes itself.
    """
    if n < FROM_BETA:
        return ("platt",)
    if n < FROM_SPLINE:
        return ("platt", "beta", "quadratic")
    return tuple(RUNGS)


def choose(raw: FloatArray, won: BoolArray, lives: Lives | None = None) -> Choice:
    """Pick the rung whose forecasts of rows it had not seen cost least, or none unless that is beyond doubt.

    Parameters
    ----------
    raw : ndarray of shape (n,), out-of-fold probabilities in [0, 1], in the order of exits
    won : ndarray of bool, shape (n,), both classes
    lives : of the rows' labels, so that inner blocks are purged; without them blocks are only in order

    Raises
    ------
    ValueError : if the shapes differ or a class is absent

    Source: STATISTICS 6: paired log-loss, "none" among the candidates.
    """
    check_rows(raw, won)
    places = np.arange(len(raw), dtype=np.int64)
    known = Lives(places, places) if lives is None else lives
    split = folds(known.entry_ms.tolist(), known.exit_ms.tolist(), n_blocks=INNER_BLOCKS)
    said = {name: _unseen(raw, won, split, RUNGS[name]) for name in ladder(len(raw))}
    lost = {name: _losses(found, won) for name, found in said.items() if found is not None}
    plain = _losses(raw, won)
    told = {NONE: float(plain.mean())} | {name: float(loss.mean()) for name, loss in lost.items()}
    # Of equals the earlier rung, which has fewer numbers.
    best = min(lost, key=lambda name: told[name], default=NONE)
    if best == NONE:
        return Choice(rung=NONE, log_loss=told, doubt=0.0)
    saved = plain - lost[best]
    error = float(saved.std(ddof=1)) / float(np.sqrt(len(saved)))
    doubt = float(saved.mean()) / error if error > 0.0 else 0.0
    return Choice(rung=best if doubt > BEYOND_DOUBT else NONE, log_loss=told, doubt=doubt)


def fit_by_evidence(raw: FloatArray, won: BoolArray, lives: Lives | None = None, /) -> Calibrator:
    """The rung that is worth it on these rows; the map that changes nothing when none is.

    Parameters
    ----------
    raw : ndarray of shape (n,), out-of-fold probabilities in [0, 1], in the order of exits
    won : ndarray of bool, shape (n,), both classes
    lives : of the rows' labels

    Raises
    ------
    ValueError : if the shapes differ or a class is absent

    Source: as ``choose``.
    """
    chosen = choose(raw, won, lives).rung
    return UNCHANGED if chosen == NONE else RUNGS[chosen](raw, won)


def fit_as_specified(raw: FloatArray, won: BoolArray, lives: Lives | None = None, /) -> Calibrator:
    """The isotonic map, whatever it costs.

    Parameters
    ----------
    raw, won : as ``fit_isotonic``
    lives : not needed

    Source: SPEC 6.
    """
    del lives
    return fit_isotonic(raw, won)


def fit_for(method: Method) -> CalibratorFit:
    """The fit of a method.

    Parameters
    ----------
    method : ``spec`` (isotonic) or ``evidence`` (the ladder)
    """
    return fit_as_specified if method is Method.SPEC else fit_by_evidence


def cross_calibrated(
    raw: FloatArray,
    won: BoolArray,
    split: Sequence[Fold],
    fit: CalibratorFit,
    *,
    min_class: int,
    lives: Lives | None = None,
    decisive: BoolArray | None = None,
) -> FloatArray | None:
    """Calibrate each block by a calibrator fitted on the other blocks' rows, purged as the heads were.

    Parameters
    ----------
    raw : ndarray of shape (n,), out-of-fold probabilities, NaN where a fold gave no row
    won : ndarray of bool, shape (n,)
    split : the folds the heads were trained on
    fit : how a calibrator is made from out-of-fold rows
    min_class : fewest wins, and fewest losses, each calibrator needs
    lives : of the rows' labels, for a fit that splits its rows once more
    decisive : ndarray of bool, shape (n,), which rows a calibrator may learn from; all, by default

    Returns
    -------
    ndarray of shape (n,), NaN where ``raw`` is; none if a block's calibrator would have too few rows

    Source: STATISTICS 6 and 8.2.
    """
    out = np.full(len(raw), np.nan)
    answered = np.isfinite(raw)
    taught = answered if decisive is None else answered & decisive
    for fold in split:
        test, train = fold.test[answered[fold.test]], fold.train[taught[fold.train]]
        if len(test) == 0:
            continue
        wins = int(won[train].sum())
        if min(wins, len(train) - wins) < min_class:
            return None
        inner = None if lives is None else lives.at(train)
        out[test] = fit(raw[train], won[train], inner).apply(raw[test])
    return out


def _unseen(raw: FloatArray, won: BoolArray, split: Sequence[Fold], rung: Rung) -> FloatArray | None:
    """What a rung says of each block when it is fitted on the others; none where one of them holds one class only."""
    out = np.empty(len(raw))
    for fold in split:
        seen = won[fold.train]
        if len(seen) == 0 or bool(seen.all()) or not bool(seen.any()):
            return None
        out[fold.test] = rung(raw[fold.train], seen).apply(raw[fold.test])
    return out


def _losses(said: FloatArray, won: BoolArray) -> FloatArray:
    inside = np.clip(said, SMALLEST, 1.0 - SMALLEST)
    return np.asarray(-np.log(np.where(won, inside, 1.0 - inside)), dtype=np.float64)
