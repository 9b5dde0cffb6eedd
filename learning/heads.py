"""Many small boosted models over the same signals: each walks forward, is calibrated, and speaks only if it helped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
from threadpoolctl import threadpool_limits

from learning.compile import boosted_start, boosted_trees, joined
from learning.head_report import FEW, HeadReport, Validation, losses, report_of
from learning.head_rows import TARGETS, HeadRow, Target
from learning.members import AGREEMENT, Disagreement, seed_for
from learning.rungs import fit_platt
from learning.split import Walk, folds
from scorer.calibration import Beta, logistic
from scorer.encoding import Encoding
from scorer.heads import ALWAYS, PROBABILITIES, VALUES, Head, HeadSet, Line
from scorer.schema import Ablation, Schema, Vector

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

DAY_MS = 86_400_000
GOLDEN_ROWS = 16
MOST_SLOPE = 2.0
FEWEST_FOR_LINE = 30
FEWEST_FOR_PLATT = 10
"""Fewest earlier answers, for probabilities of either class, that a calibrator is fitted on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadFit:
    """How heads are fitted. Counts in rows; ``n_blocks`` in time, the first of which is trained on only.

    ``names`` are the heads to try. One with fewer than ``min_rows`` labels, or ``min_class`` of either, is not.
    """

    names: tuple[str, ...] = ALWAYS
    ablation: Ablation = Ablation.FULL
    n_blocks: int = 6
    min_rows: int = 150
    min_class: int = 20
    rate: float = 0.08
    subsample: float = 0.7


@dataclass(frozen=True, slots=True, eq=False)
class _Labelled:
    """Rows with a label for one head, in the order in which the labels became known."""

    rows: tuple[HeadRow, ...]
    vectors: tuple[Vector, ...]
    truth: FloatArray
    end_ms: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class _Walked:
    """Raw answers and the means known then, NaN where none; the blocks answered; first and last moment trained on."""

    raw: FloatArray
    known: FloatArray
    blocks: tuple[IntArray, ...]
    train_ms: tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class _Final:
    report: HeadReport
    model: Any | None = None
    calibrator: Beta | Line | None = None


class MultiHead:
    """Fits all heads of one strategy.

    Parameters
    ----------
    settings : HeadFit
    seed : int

    Attributes
    ----------
    heads_ : HeadSet with the heads that showed skill; none when no head did
    reports_ : tuple of HeadReport, one for each head tried

    Source: founding document 003 (heads, walk-forward only), 002 (expected return, risk); STATISTICS 5 and 6.
    """

    def __init__(self, settings: HeadFit | None = None, *, seed: int = 0) -> None:
        self.settings = HeadFit() if settings is None else settings
        self.seed = seed

    def fit(self, rows: Sequence[HeadRow], schema: Schema) -> Self:
        """Fit every head on the rows whose label it knows.

        Parameters
        ----------
        rows : HeadRows of one strategy; in any order they give the same heads
        schema : what the heads read

        Raises
        ------
        Disagreement : if the compiled heads differ from the trained ones
        """
        ordered = sorted(rows, key=lambda row: (row.ts, row.id))
        shown = schema.names_of(self.settings.ablation)
        read = [(row, _blinded(schema.vector(row.features), schema, shown)) for row in ordered]
        usable = [(row, vector) for row, vector in read if _full_enough(row, schema)]
        # Sums in another order, by another number of threads, end in other last digits.
        with threadpool_limits(limits=1):
            self._fit(usable, schema)
        return self

    def _fit(self, usable: Sequence[tuple[HeadRow, Vector]], schema: Schema) -> None:
        self.heads_: HeadSet | None = None
        if not usable:
            self.reports_ = tuple(HeadReport(name=name, n=0, reason=FEW) for name in self.settings.names)
            return
        encoding = Encoding.fit(schema, [vector for _, vector in usable])
        found = [self._head(TARGETS[name], usable, schema, encoding) for name in self.settings.names]
        self.reports_ = tuple(one.report for one in found)
        matrix = encoding.matrix([vector for _, vector in usable])
        self.heads_ = _head_set(found, encoding, matrix, self.settings)

    def _head(
        self, target: Target, usable: Sequence[tuple[HeadRow, Vector]], schema: Schema, encoding: Encoding
    ) -> _Final:
        data = _labelled(target, usable)
        value = target.name in VALUES
        if self._few(data.truth, value=value):
            return _Final(HeadReport(name=target.name, n=len(data.truth), reason=FEW))
        walked = self._walk(target, data, schema)
        raw, answered = walked.raw, np.flatnonzero(np.isfinite(walked.raw))
        if self._few(data.truth[answered], value=value):
            return _Final(HeadReport(name=target.name, n=len(data.truth), reason=FEW))
        validation = _validation(data, walked, value=value)
        if len(validation.said) == 0:
            return _Final(HeadReport(name=target.name, n=len(data.truth), reason=FEW))
        entries = {row.id: (row.entry_ms, end) for row, end in zip(data.rows, data.end_ms.tolist(), strict=True)}
        seen = [entries[name] for name in validation.ids]
        report = report_of(
            target.name,
            validation,
            n=len(data.truth),
            fitted_ms=(min(entry for entry, _ in entries.values()), int(data.end_ms[-1])),
            train_ms=walked.train_ms,
            validation_ms=(min(entry for entry, _ in seen), max(end for _, end in seen)),
            value=value,
        )
        calibrator: Beta | Line
        if value:
            calibrator = fit_line(raw[answered], data.truth[answered], _days(data, answered))
        else:
            calibrator = fit_platt(raw[answered], data.truth[answered] > 0.5)
        if not report.served:
            return _Final(report)
        model = self._boosted(
            encoding.matrix(data.vectors),
            data,
            seed_for(self.seed, target.name, "final"),
            n=len(data.truth),
            value=value,
        )
        return _Final(report, model, calibrator)

    def _few(self, truth: FloatArray, *, value: bool) -> bool:
        if len(truth) < self.settings.min_rows // 2:
            return True
        return not value and _fewer(truth) < self.settings.min_class

    def _walk(self, target: Target, data: _Labelled, schema: Schema) -> _Walked:
        """Answers to each block by models of earlier labels only, none for the first."""
        value = target.name in VALUES
        raw, known = np.full(len(data.truth), np.nan), np.full(len(data.truth), np.nan)
        entries = [row.entry_ms for row in data.rows]
        blocks, dates = list[IntArray](), (0, 0)
        split = folds(entries, data.end_ms.tolist(), n_blocks=self.settings.n_blocks, walk=Walk.EXPANDING)
        for fold in split:
            train = fold.train
            if len(train) < self.settings.min_rows // 3 or self._one_class(data.truth[train], value=value):
                continue
            # Medians and levels are of the training rows as well.
            local = Encoding.fit(schema, [data.vectors[place] for place in train.tolist()])
            part = _at(data, train)
            model = self._boosted(
                local.matrix(part.vectors),
                part,
                seed_for(self.seed, target.name, "block", fold.block),
                n=len(data.truth),
                value=value,
            )
            test = local.matrix([data.vectors[place] for place in fold.test.tolist()])
            raw[fold.test] = _said(model, test)
            known[fold.test] = _known_mean(part.truth, value=value)
            blocks.append(fold.test)
            dates = (min(entries[place] for place in train.tolist()), int(data.end_ms[train[-1]]))
        return _Walked(raw, known, tuple(blocks), dates)

    def _one_class(self, truth: FloatArray, *, value: bool) -> bool:
        return not value and _fewer(truth) < self.settings.min_class // 4

    def _boosted(self, matrix: FloatArray, data: _Labelled, seed: int, *, n: int, value: bool) -> Any:
        """Small and slow trees, more of them as rows come: by the size of the whole, so that blocks say as much."""
        sizes: dict[str, Any] = {
            "n_estimators": int(np.clip(n // 12, 40, 150)),
            "max_depth": 2 if n < 2_000 else 3,
            "min_samples_leaf": max(10, n // 60),
            "learning_rate": self.settings.rate,
            "subsample": self.settings.subsample,
            "max_features": 0.4,
            "random_state": seed,
        }
        weight = np.array([row.weight for row in data.rows], dtype=np.float64)
        if value:
            return GradientBoostingRegressor(**sizes).fit(matrix, data.truth, sample_weight=weight)
        return GradientBoostingClassifier(**sizes).fit(matrix, data.truth > 0.5, sample_weight=weight)


def ablation_reports(
    rows: Sequence[HeadRow], schema: Schema, *, seed: int, names: tuple[str, ...] = (*VALUES, *PROBABILITIES)
) -> dict[Ablation, tuple[HeadReport, ...]]:
    """The reports of every head under every ablation, on the same rows and seed.

    Parameters
    ----------
    rows, schema, seed : as ``MultiHead`` takes them
    names : heads to try, all by default
    """
    return {
        ablation: MultiHead(HeadFit(names=names, ablation=ablation), seed=seed).fit(rows, schema).reports_
        for ablation in Ablation
    }


def fit_line(raw: FloatArray, truth: FloatArray, day: IntArray) -> Line:
    """Least squares of results on forecasts, the slope held to [0, 2]: few and slow trees say too little on purpose.

    Parameters
    ----------
    raw, truth : ndarrays of shape (n,), in R, n >= 2
    day : ndarray of int, shape (n,): the independent observations

    Source: shrinkage of forecasts, Copas (1983), JRSS B 45(3), 311-354; clustered variance as in
    ``learning.patterns.day_interval``.
    """
    centre, level = float(raw.mean()), float(truth.mean())
    spread = raw - centre
    power = float(spread @ spread)
    slope = float(np.clip(float(spread @ (truth - level)) / power, 0.0, MOST_SLOPE)) if power > 1e-12 else 0.0
    rest = truth - level - slope * spread
    _, place = np.unique(day, return_inverse=True)
    n_days = int(place.max()) + 1
    grow = n_days / max(n_days - 1, 1)
    by_day = np.bincount(place, weights=rest)
    tilted = np.bincount(place, weights=rest * spread)
    return Line(
        centre=centre,
        level=level,
        slope=slope,
        level_var=float(by_day @ by_day) * grow / len(truth) ** 2,
        slope_var=float(tilted @ tilted) * grow / power**2 if power > 1e-12 else 0.0,
    )


def _full_enough(row: HeadRow, schema: Schema) -> bool:
    return len(schema.vector(row.features).missing) <= schema.allowed_missing


def _blinded(vector: Vector, schema: Schema, shown: frozenset[str]) -> Vector:
    """The vector with what an ablation hides taken out, as if nobody had ever sent it; it counts as missing nowhere."""
    values = np.where([feature.name in shown for feature in schema.numbers], vector.values, np.nan)
    words = tuple(
        word if feature.name in shown else None
        for word, feature in zip(vector.categories, schema.categories, strict=True)
    )
    return Vector(values, words, vector.missing)


def _labelled(target: Target, usable: Sequence[tuple[HeadRow, Vector]]) -> _Labelled:
    found = [(row, vector, label) for row, vector in usable if (label := target.of(row)) is not None]
    found.sort(key=lambda one: (target.end_ms(one[0]), one[0].ts, one[0].id))
    return _Labelled(
        tuple(row for row, _, _ in found),
        tuple(vector for _, vector, _ in found),
        np.array([label for _, _, label in found], dtype=np.float64),
        np.array([target.end_ms(row) for row, _, _ in found], dtype=np.int64),
    )


def _at(data: _Labelled, places: IntArray) -> _Labelled:
    chosen = places.tolist()
    return _Labelled(
        tuple(data.rows[place] for place in chosen),
        tuple(data.vectors[place] for place in chosen),
        data.truth[places],
        data.end_ms[places],
    )


def _days(data: _Labelled, places: IntArray) -> IntArray:
    return np.array([data.rows[place].ts // DAY_MS for place in places.tolist()], dtype=np.int64)


def _known_mean(truth: FloatArray, *, value: bool) -> float:
    # One record of doubt keeps a rate inside (0, 1): its log-loss must stay finite.
    return float(truth.mean()) if value else float((truth.sum() + 0.5) / (len(truth) + 1.0))


def _validation(data: _Labelled, walked: _Walked, *, value: bool) -> Validation:
    """Answers calibrated by what had been validated and was known before each block began."""
    raw, known = walked.raw, walked.known
    said = np.full(len(raw), np.nan)
    entry = np.array([row.entry_ms for row in data.rows], dtype=np.int64)
    answered = np.isfinite(raw)
    for block in walked.blocks:
        before = np.flatnonzero(answered & (data.end_ms < entry[block].min()))
        if value:
            if len(before) >= FEWEST_FOR_LINE:
                said[block] = fit_line(raw[before], data.truth[before], _days(data, before)).apply(raw[block])
        elif _fewer(data.truth[before]) >= FEWEST_FOR_PLATT:
            said[block] = fit_platt(raw[before], data.truth[before] > 0.5).apply(raw[block])
    told = np.flatnonzero(np.isfinite(said))
    mine, theirs = (losses(one, data.truth[told], value=value) for one in (said[told], known[told]))
    return Validation(
        tuple(data.rows[place].id for place in told.tolist()),
        said[told],
        known[told],
        data.truth[told],
        theirs - mine,
        _days(data, told),
    )


def _fewer(truth: FloatArray) -> int:
    """Size of the smaller class."""
    hits = int(np.count_nonzero(truth > 0.5))
    return min(hits, len(truth) - hits)


def _said(model: Any, matrix: FloatArray) -> FloatArray:
    """What scikit-learn says before calibration: a value, or the probability of the event."""
    if isinstance(model, GradientBoostingRegressor):
        return np.asarray(model.predict(matrix), dtype=np.float64)
    return logistic(model.decision_function(matrix))


def _head_set(found: Sequence[_Final], encoding: Encoding, matrix: FloatArray, settings: HeadFit) -> HeadSet | None:
    served = [one for one in found if one.model is not None and one.calibrator is not None]
    if not served:
        return None
    trees = [boosted_trees(one.model) for one in served]
    starts = [boosted_start(one.model) for one in served]
    picked = np.unique(np.linspace(0, len(matrix) - 1, GOLDEN_ROWS).astype(np.int64))

    def trained(rows: FloatArray) -> FloatArray:
        return np.stack([_said(one.model, rows) for one in served], axis=1)

    golden_rows = np.ascontiguousarray(matrix[picked])
    made = HeadSet(
        encoding=encoding,
        ablation=settings.ablation,
        trees=joined([tree for part in trees for tree in part]),
        heads=tuple(
            Head(
                name=one.report.name,
                n_trees=len(part),
                init=init,
                rate=rate,
                calibrator=calibrator,
                figures=one.report.record,
            )
            for one, part, (init, rate) in zip(served, trees, starts, strict=True)
            if (calibrator := one.calibrator) is not None
        ),
        golden_rows=golden_rows,
        golden=trained(golden_rows),
        declined={one.report.name: one.report.record for one in found if not one.report.served},
    )
    probed = matrix[:: max(1, len(matrix) // 512)]
    if not np.all(np.abs(made.raw(probed) - trained(probed)) <= AGREEMENT):
        raise Disagreement("the arrays of the heads say something else than the trees they were made of")
    return made
