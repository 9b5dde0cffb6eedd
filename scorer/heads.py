"""What is forecast beside the win: return, risk, strength, and how far the price will go, each by boosted trees.

They are shown and recorded. A head that showed no skill on records it had not seen is not here: it says nothing rather
than noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from scorer.calibration import Beta, logistic
from scorer.compiled import LARGEST_VALUE, Trees, as_trained
from scorer.encoding import Category, Encoding
from scorer.ensemble import LARGEST_INPUT
from scorer.schema import Ablation, Vector

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]

EXPECTED_RETURN: Final = "expected_return_r"
P_STOP: Final = "p_stop"
STRENGTH: Final = "strength_r"
DIRECTION: Final = "direction"
TRADEABLE: Final = "tradeable"
"""The second level is reached, either way, within the longest horizon: the same event as one of the reach heads."""
GOLDEN_TOLERANCE: Final = 1e-9
HORIZONS: Final = (60, 120)
LEVELS_R: Final = (1, 2)
MAX_HEADS: Final = 32


class Way(StrEnum):
    """Which way a level is reached."""

    ANY = "any"
    WITH = "with"
    AGAINST = "against"


def reach_name(level_r: int, horizon: int, way: Way) -> str:
    """Name of a reach head, as ``reach_1r_60_with``.

    Parameters
    ----------
    level_r : distance from entry in R
    horizon : tracking candles from entry on
    way : Way
    """
    return f"reach_{level_r}r_{horizon}_{way.value}"


_REACHES: Final = tuple((level, horizon, way) for level in LEVELS_R for horizon in HORIZONS for way in Way)
REACH: Final = tuple(reach_name(*one) for one in _REACHES)
"""Names of all reach heads."""
PROBABILITIES: Final = (P_STOP, DIRECTION, *REACH)
VALUES: Final = (EXPECTED_RETURN, STRENGTH)
ALWAYS: Final = (EXPECTED_RETURN, P_STOP)
"""Heads that need no path after the exit."""


def _implied() -> BoolArray:
    """Whether reaching the row's event implies the column's: nearer, later, or by whichever way."""
    return np.array(
        [
            [
                low <= high and long >= short and other in (way, Way.ANY)
                for low, long, other in _REACHES
            ]
            for high, short, way in _REACHES
        ],
        dtype=np.bool_,
    )  # fmt: skip


_IMPLIES: Final = _implied()


def coherent(said: Mapping[str, float]) -> dict[str, float]:
    """Make reach probabilities obey logic: what implies another event is no likelier than it.

    Each becomes the middle between the largest said of anything that implies it and the smallest said of anything it
    implies: both are monotone, so is their middle, and what was coherent stays as it was. Either way is no likelier
    than both ways together.

    Parameters
    ----------
    said : probabilities in [0, 1] by name, any of ``REACH``; others are passed through

    Returns
    -------
    A new mapping with the same names
    """
    places = [place for place, name in enumerate(REACH) if name in said]
    if not places:
        return dict(said)
    raw = np.array([said[REACH[place]] for place in places], dtype=np.float64)
    implies = _IMPLIES[np.ix_(places, places)]
    floor = np.max(np.where(implies, raw[:, None], -np.inf), axis=0, initial=-np.inf)
    ceiling = np.min(np.where(implies, raw[None, :], np.inf), axis=1, initial=np.inf)
    found = dict(said) | {
        REACH[place]: value for place, value in zip(places, ((floor + ceiling) / 2.0).tolist(), strict=True)
    }
    for level in LEVELS_R:
        for horizon in HORIZONS:
            either, ahead, behind = (reach_name(level, horizon, way) for way in Way)
            if {either, ahead, behind} <= found.keys():
                found[either] = min(found[either], found[ahead] + found[behind])
    # What was cut takes down with it whatever implies it.
    capped = np.array([found[REACH[place]] for place in places], dtype=np.float64)
    lowest = np.min(np.where(implies, capped[None, :], np.inf), axis=1, initial=np.inf)
    return found | {REACH[place]: value for place, value in zip(places, lowest.tolist(), strict=True)}


@dataclass(frozen=True, slots=True)
class Line:
    """A value forecast drawn towards the mean by what out-of-fold records showed: mean and its standard error.

    ``level + slope·(x − centre)``, with ``level_var`` the variance of the level and ``slope_var`` that of the slope,
    days being the independent observations; ``slope`` >= 0. Levels in the unit of the value.

    Raises
    ------
    ValueError : if a number is not finite, or a slope or variance negative
    """

    centre: float
    level: float
    slope: float
    level_var: float
    slope_var: float

    def __post_init__(self) -> None:
        numbers = (self.centre, self.level, self.slope, self.level_var, self.slope_var)
        if not (all(abs(number) <= LARGEST_VALUE for number in numbers) and min(numbers[2:]) >= 0.0):
            raise ValueError("a line of finite numbers, slope and variances not negative")

    def apply(self, raw: FloatArray) -> FloatArray:
        """Forecasts, element by element; NaN stays NaN.

        Parameters
        ----------
        raw : ndarray, any shape, in the unit of the value
        """
        return np.asarray(self.level + self.slope * (raw - self.centre), dtype=np.float64)

    def error(self, raw: FloatArray) -> FloatArray:
        """Standard errors of those forecasts as means, in the unit of the value.

        Parameters
        ----------
        raw : ndarray, any shape
        """
        return np.sqrt(self.level_var + self.slope_var * (raw - self.centre) ** 2)


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """One forecast: trees summed, times ``rate``, onto ``init`` (log-odds or R), then calibrated.

    ``n_trees`` of the set's trees are its own. ``figures`` are JSON values: dates of training and validation, metrics.

    Raises
    ------
    ValueError : if the name is unknown, the calibrator of the wrong kind, or a number out of range
    """

    name: str
    n_trees: int
    init: float
    rate: float
    calibrator: Beta | Line
    figures: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.name not in (*PROBABILITIES, *VALUES):
            raise ValueError(f"no head is called {self.name!r}")
        if isinstance(self.calibrator, Line) != (self.name in VALUES):
            raise ValueError(f"{self.name}: a probability has a calibrator, a value a line")
        if not (self.n_trees >= 1 and abs(self.init) <= LARGEST_VALUE and 0.0 < self.rate <= 1.0):
            raise ValueError(f"{self.name}: trees, start and rate")


@dataclass(frozen=True, slots=True)
class Told:
    """What the heads say of one signal: probabilities in [0, 1] and values in R by name, and values' standard errors.

    Only heads that answer are named.
    """

    said: Mapping[str, float]
    error: Mapping[str, float]

    @property
    def expected_return_r(self) -> float | None:
        """Expected net result in R, a timeout by its mark."""
        return self.said.get(EXPECTED_RETURN)

    @property
    def p_stop(self) -> float | None:
        """Probability that the stop ends it, wherever the stop then lies."""
        return self.said.get(P_STOP)

    @property
    def record(self) -> dict[str, float]:
        """Plain form: every answer by name, standard errors as ``…_se``, and ``tradeable``."""
        told = dict(self.said) | {f"{name}_se": value for name, value in self.error.items()}
        same = told.get(reach_name(LEVELS_R[-1], HORIZONS[-1], Way.ANY))
        return told if same is None else told | {TRADEABLE: same}


@dataclass(frozen=True, slots=True, eq=False)
class HeadSet:
    """All heads of one bundle over one encoding.

    ``trees`` hold every head's trees end to end in the order of ``heads``. ``golden_rows``: shape (n, width);
    ``golden``: shape (n, n_heads), what the trainer's own estimators said there before calibration. ``declined`` says
    of the others why they do not answer, by name.

    Raises
    ------
    ValueError : if the parts do not fit each other
    """

    encoding: Encoding
    ablation: Ablation
    trees: Trees
    heads: tuple[Head, ...]
    golden_rows: FloatArray
    golden: FloatArray
    declined: Mapping[str, Any] = field(default_factory=dict)
    _ends: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        names = {head.name for head in self.heads}
        if not 1 <= len(self.heads) <= MAX_HEADS or len(names) != len(self.heads):
            raise ValueError("heads: one at least, each once")
        ends = tuple(np.cumsum([head.n_trees for head in self.heads]).tolist())
        if ends[-1] != len(self.trees.roots):
            raise ValueError("heads: their trees are not all the trees")
        if self.trees.n_features > self.encoding.width:
            raise ValueError("heads: a tree asks for a column that a row does not have")
        if self.golden_rows.ndim != 2 or self.golden_rows.shape[1] != self.encoding.width:
            raise ValueError("heads: golden rows of another width")
        if self.golden.shape != (len(self.golden_rows), len(self.heads)) or len(self.golden_rows) == 0:
            raise ValueError("heads: golden rows and answers do not fit")
        object.__setattr__(self, "_ends", ends)

    def raw(self, matrix: FloatArray) -> FloatArray:
        """What each head says before calibration: shape (n_rows, n_heads), NaN for rows that are not plausible.

        Parameters
        ----------
        matrix : ndarray of shape (n_rows, width)

        Raises
        ------
        ValueError : if the matrix has another width
        """
        if matrix.ndim != 2 or matrix.shape[1] != self.encoding.width:
            raise ValueError(f"a matrix of {matrix.shape}, not (n, {self.encoding.width})")
        out = np.full((len(matrix), len(self.heads)), math.nan)
        for place in np.flatnonzero((np.abs(matrix) <= LARGEST_INPUT).all(axis=1)).tolist():
            # Row by row, so that no answer depends on who else is asked.
            leaves = self.trees.leaf_values(as_trained(matrix[place]))
            start = 0
            for column, (head, end) in enumerate(zip(self.heads, self._ends, strict=True)):
                flow = head.init + head.rate * float(leaves[start:end].sum())
                out[place, column] = flow if head.name in VALUES else float(logistic(np.asarray(flow)))
                start = end
        return out

    def tell(self, vector: Vector) -> Told | None:
        """What the heads say of one signal; none when more is missing than a model may be asked with.

        Parameters
        ----------
        vector : Vector, read by the schema the encoding was learned with
        """
        if not self.encoding.readable(vector):
            return None
        raw = self.raw(self.encoding.row(vector)[None, :])[0]
        said, error = dict[str, float](), dict[str, float]()
        for head, value in zip(self.heads, raw, strict=True):
            told = float(head.calibrator.apply(np.asarray(value)))
            # Before anything compares it: what is no number is not said.
            if not math.isfinite(told):
                continue
            said[head.name] = told
            if isinstance(head.calibrator, Line):
                error[head.name] = float(head.calibrator.error(np.asarray(value)))
        return Told(coherent(said), error)

    def verified(self) -> bool:
        """Whether this machine computes what the trainer's did."""
        return bool(np.all(np.abs(self.raw(self.golden_rows) - self.golden) <= GOLDEN_TOLERANCE))

    # --- as a bundle carries them

    @property
    def record(self) -> dict[str, object]:
        """Everything but the arrays, as JSON values."""
        encoding = self.encoding
        return {
            "ablation": self.ablation.value,
            "encoding": {
                "number_names": list(encoding.number_names),
                "categories": [[one.name, list(one.levels), one.ordered] for one in encoding.categories],
            },
            "heads": [
                {
                    "name": head.name,
                    "n_trees": head.n_trees,
                    # As text: canonical JSON folds whole floats into integers.
                    "init": head.init.hex(),
                    "rate": head.rate.hex(),
                    "calibrator": _calibrator_record(head.calibrator),
                    "figures": dict(head.figures),
                }
                for head in self.heads
            ],
            "declined": dict(self.declined),
        }

    @property
    def arrays(self) -> dict[str, FloatArray | IntArray]:
        """The arrays by the names they have in a bundle."""
        return {
            "heads.kept": self.encoding.kept,
            "heads.medians": self.encoding.medians,
            "heads.feature": self.trees.feature,
            "heads.threshold": self.trees.threshold,
            "heads.left": self.trees.left,
            "heads.value": self.trees.value,
            "heads.roots": self.trees.roots,
            "heads.golden_rows": self.golden_rows,
            "heads.golden": self.golden,
        }

    @classmethod
    def read(cls, record: Mapping[str, Any], arrays: Mapping[str, Any], whole: Encoding) -> HeadSet:
        """Read what a bundle carries.

        Parameters
        ----------
        record : mapping, as ``record`` gives it, parsed from JSON
        arrays : by name, as ``arrays`` gives them
        whole : the bundle's own encoding, for what every encoding of one schema shares

        Raises
        ------
        KeyError, TypeError, ValueError : if something is missing, of another type or out of bounds
        """
        told = record["encoding"]
        return cls(
            encoding=Encoding(
                names=whole.names,
                n_numbers=whole.n_numbers,
                number_names=tuple(str(name) for name in told["number_names"]),
                kept=_array(arrays, "heads.kept", np.int32, 1),
                medians=_array(arrays, "heads.medians", np.float64, 1),
                categories=tuple(
                    Category(str(name), tuple(str(level) for level in levels), bool(ordered))
                    for name, levels, ordered in told["categories"]
                ),
                allowed_missing=whole.allowed_missing,
            ),
            ablation=Ablation(record["ablation"]),
            trees=Trees(
                feature=_array(arrays, "heads.feature", np.int32, 1),
                threshold=_array(arrays, "heads.threshold", np.float64, 1),
                left=_array(arrays, "heads.left", np.int32, 1),
                value=_array(arrays, "heads.value", np.float64, 1),
                roots=_array(arrays, "heads.roots", np.int32, 1),
            ),
            heads=tuple(_head(one) for one in record["heads"]),
            golden_rows=_array(arrays, "heads.golden_rows", np.float64, 2),
            golden=_array(arrays, "heads.golden", np.float64, 2),
            declined=dict(record["declined"]),
        )


def figures_of(heads: HeadSet | None, names: Iterable[str]) -> dict[str, Any]:
    """Dates and metrics by head, and why a head does not answer.

    Parameters
    ----------
    heads : HeadSet or none
    names : heads to tell of, as far as they are known
    """
    if heads is None:
        return {}
    known = {head.name: head.figures for head in heads.heads} | dict(heads.declined)
    return {name: dict(known[name]) for name in names if name in known}


def _head(record: Mapping[str, Any]) -> Head:
    return Head(
        name=str(record["name"]),
        n_trees=int(record["n_trees"]),
        init=float.fromhex(record["init"]),
        rate=float.fromhex(record["rate"]),
        calibrator=_calibrator(record["calibrator"]),
        figures=dict(record["figures"]),
    )


_LINE: Final = ("centre", "level", "slope", "level_var", "slope_var")
_BETA: Final = ("rise", "fall", "shift")


def _calibrator_record(calibrator: Beta | Line) -> dict[str, str]:
    names: Sequence[str] = _LINE if isinstance(calibrator, Line) else _BETA
    return {name: float(getattr(calibrator, name)).hex() for name in names}


def _calibrator(record: Mapping[str, Any]) -> Beta | Line:
    names = _LINE if _LINE[0] in record else _BETA
    numbers = [float.fromhex(record[name]) for name in names]
    return Line(*numbers) if names is _LINE else Beta(*numbers)


def _array(arrays: Mapping[str, Any], name: str, kind: type[np.generic], dimensions: int) -> Any:
    array = arrays[name]
    if array.dtype != kind or array.ndim != dimensions:
        raise ValueError(f"{name}: {kind.__name__} in {dimensions} dimensions")
    return cast("Any", array)
