"""Promise 1: nothing that was not known at the decision can teach a model, and folds do not leak.

The world of the folds is noise that looks like a market: features that change slowly and know nothing, labels that
live for twenty bars and so overlap. Whoever shuffles such rows finds the future in the neighbours of each test row.

Source: STATISTICS 5, 8.1, 8.5 to 8.7 and 11 (item 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestClassifier

from lab.coverage.check import Check, Size, inside, rate
from lab.coverage.decided import rebuilt_decisions
from learning.example import Example
from learning.firewall import Columns as Shown
from learning.firewall import Leaked, guard, refuse, telltale_columns, unknown_columns
from learning.fit import FitSettings, fit_candidate
from learning.members import HeadSettings
from learning.metrics import Metrics, measure
from learning.promote import Decline, Declined
from learning.split import folds
from scorer.schema import EXIT_NAMES, EXIT_ONLY, SCALP, Feature, Schema
from signals.errors import Invalid
from signals.leak import STAMP_SUFFIX
from signals.profile import Kind
from signals.signal import FeatureValue, Side

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

BAR_MS = 300_000
LABEL_BARS = 20
FEATURES = 16
MEMORY = 0.97
"""Of a feature from one bar to the next: in twenty bars it has hardly moved."""
BLOCKS = 5
NOISE = (0.47, 0.53)
SHUFFLED = 0.8
FALSE_ALARMS = 0.001
"""Share of honest training sets that may be suspected."""
SETS = (20, 60, 300)
"""Rows of the training sets that are tried."""
START_MS = 1_700_000_000_000
HEADS = FitSettings(heads=HeadSettings(forest_trees=30, boosting_trees=30), network_from=10**9)
"""Of the whole fits: small, for what is measured is the split and not the skill."""


class _Sizes(NamedTuple):
    worlds: int
    rows: int
    trees: int
    shuffled: int
    shuffled_trees: int
    fits: int
    honest: int
    poisoned: int
    decisions: int


SIZES: Mapping[Size, _Sizes] = MappingProxyType(
    {
        Size.SMALL: _Sizes(16, 4_000, 6, 2, 30, 0, 60, 2, 60),
        Size.FULL: _Sizes(20, 4_000, 60, 20, 30, 20, 2_000, 20, 10_000),
    }
)


def study(size: Size, seed: int) -> list[Check]:
    """Noise through the folds, poison and honest sets through the firewall, decisions live and rebuilt."""
    sizes = SIZES[size]
    return [
        *_noise(sizes, seed),
        *_poison(sizes, seed),
        *_lifecycle(seed),
        _rebuilt(sizes, seed),
    ]


# --- (b) noise with overlapping labels


class _World(NamedTuple):
    matrix: FloatArray
    won: BoolArray
    entry_ms: IntArray
    exit_ms: IntArray


def _noise(sizes: _Sizes, seed: int) -> Iterator[Check]:
    purged, shuffled, fitted = [], [], []
    for number in range(sizes.worlds):
        rng = np.random.default_rng((seed, number))
        world = _world(rng, sizes.rows)
        split = folds(world.entry_ms.tolist(), world.exit_ms.tolist(), n_blocks=BLOCKS, embargo_ms=None)
        purged.append(_auc(world, [(fold.train, fold.test) for fold in split], sizes.trees, number))
        if number < sizes.shuffled:
            parts = np.array_split(rng.permutation(sizes.rows), BLOCKS)
            pairs = [(np.setdiff1d(np.arange(sizes.rows), part), part) for part in parts]
            shuffled.append(_auc(world, pairs, sizes.shuffled_trees, number))
        if number < sizes.fits:
            fitted.append(_reported(world, number))
    low, high = NOISE
    found, n = float(np.mean(purged)), len(purged)
    yield inside(1, "mean AUC on noise, purged and embargoed folds", found, low=low, high=high, n=n)
    yield inside(
        1, "mean AUC on the same noise, shuffled folds", float(np.mean(shuffled)), low=SHUFFLED, n=len(shuffled)
    )
    if fitted:
        found, n = float(np.mean(fitted)), len(fitted)
        yield inside(1, "mean AUC on noise that a whole fit reports", found, low=low, high=high, n=n)


def _world(rng: np.random.Generator, rows: int) -> _World:
    path = np.concatenate(([0.0], np.cumsum(rng.standard_normal(rows + LABEL_BARS))))
    shocks = rng.standard_normal((rows, FEATURES)) * np.sqrt(1.0 - MEMORY**2)
    matrix = np.empty_like(shocks)
    matrix[0] = rng.standard_normal(FEATURES)
    for bar in range(1, rows):
        matrix[bar] = MEMORY * matrix[bar - 1] + shocks[bar]
    entry_ms = START_MS + np.arange(rows, dtype=np.int64) * BAR_MS
    won = path[LABEL_BARS : LABEL_BARS + rows] > path[:rows]
    return _World(matrix, won, entry_ms, entry_ms + LABEL_BARS * BAR_MS)


def _auc(world: _World, pairs: list[tuple[IntArray, IntArray]], trees: int, number: int) -> float:
    """Of the forecasts of all test rows together, by the forest of the ensemble."""
    out = np.full(len(world.won), np.nan)
    for train, test in pairs:
        forest = RandomForestClassifier(trees, max_depth=8, min_samples_leaf=5, random_state=number, n_jobs=1)
        forest.fit(world.matrix[train], world.won[train])
        out[test] = forest.predict_proba(world.matrix[test])[:, 1]
    answered = np.isfinite(out)
    auc = measure(out[answered], world.won[answered]).auc
    return float("nan") if auc is None else auc


def _reported(world: _World, seed: int) -> float:
    """What a fit of the product measures out of fold; it ends there, whatever it was."""
    seen: list[float] = []

    def look(metrics: Metrics) -> Declined | None:
        seen.append(float("nan") if metrics.auc is None else metrics.auc)
        return Declined(Decline.UNMEASURED, "looked at")

    schema = _schema(FEATURES)
    examples = [
        _example(row, dict(zip(schema.names, values, strict=True)), won=bool(world.won[row]))
        for row, values in enumerate(world.matrix.tolist())
    ]
    fit_candidate(examples, schema, seed=seed, settings=HEADS, rule=look)
    return seen[0] if seen else float("nan")


# --- (a) poison


Poison = Callable[[np.random.Generator, BoolArray, FloatArray], list[FeatureValue]]


def _noisy(rng: np.random.Generator, won: BoolArray, net_r: FloatArray) -> list[FeatureValue]:
    del won
    # Ranks of the result, hardly disturbed: a correlation of about 0.999.
    noisy: list[FeatureValue] = (net_r + 0.02 * rng.standard_normal(len(net_r)) * net_r.std()).tolist()
    return noisy


POISONS: Mapping[str, Poison] = MappingProxyType(
    {
        "label": lambda _rng, won, _net_r: won.astype(float).tolist(),
        "label turned": lambda _rng, won, _net_r: (7.0 - 3.0 * won).tolist(),
        "result": lambda _rng, _won, net_r: net_r.tolist(),
        "monotone result": lambda _rng, _won, net_r: np.exp(-2.0 * net_r).tolist(),
        "nearly the result": _noisy,
        "absent on losses": lambda rng, won, _net_r: [float(rng.normal()) if one else None for one in won.tolist()],
    }
)


def _poison(sizes: _Sizes, seed: int) -> Iterator[Check]:
    caught = tried = 0
    clean = _schema(FEATURES, poison=True)
    for number in range(sizes.poisoned):
        rng = np.random.default_rng((seed, 1, number))
        for rows in SETS:
            won, net_r = _outcomes(rng, rows)
            for make in POISONS.values():
                tried += 1
                poison = make(rng, won, net_r)
                noise = rng.standard_normal((rows, FEATURES)).tolist()
                examples = [
                    _example(row, dict(zip(clean.names, [*noise[row], poison[row]], strict=True)), won=bool(won[row]),
                             net_r=float(net_r[row]))
                    for row in range(rows)
                ]  # fmt: skip
                caught += _declined(examples, clean)
    yield rate(1, "poisoned training sets refused, the column named", caught, tried, low=1.0)
    suspected = 0
    for number in range(sizes.honest):
        rng = np.random.default_rng((seed, 2, number))
        won, net_r = _outcomes(rng, SETS[number % len(SETS)])
        columns = Shown({f"x{place}": rng.standard_normal(len(won)) for place in range(34)}, {})
        suspected += len(telltale_columns(columns, won, net_r)) > 0
    yield rate(1, "honest training sets of 34 columns suspected", suspected, sizes.honest, high=FALSE_ALARMS)


def _outcomes(rng: np.random.Generator, rows: int) -> tuple[BoolArray, FloatArray]:
    """Wins and results of a set in which both happen at least five times."""
    won = rng.random(rows) < 0.45
    won[:5], won[5:10] = True, False
    net_r = np.where(won, rng.gamma(4.0, 0.4, rows), -rng.gamma(16.0, 1.0 / 16.0, rows))
    return won, net_r


def _declined(examples: list[Example], schema: Schema) -> bool:
    """Whether the set raises, a fit of it ends in a decline, and both name the one column."""
    try:
        guard(examples, [schema.vector(example.features) for example in examples], schema)
    except Leaked as leaked:
        found = fit_candidate(examples, schema, seed=1)
        named = {leak.feature for leak in leaked.leaks} == {"poison"}
        return named and isinstance(found, Declined) and found.code is Decline.LEAK_SUSPECT
    return False


def _schema(count: int, *, poison: bool = False) -> Schema:
    names = [f"x{place}" for place in range(count)] + (["poison"] if poison else [])
    return Schema("noise", 1, tuple(Feature(name=name) for name in names))


def _example(row: int, features: Mapping[str, FeatureValue], *, won: bool, net_r: float | None = None) -> Example:
    entry_ms = START_MS + row * BAR_MS
    result = (1.0 if won else -1.0) if net_r is None else net_r
    return Example(
        id=f"n{row:06d}",
        strategy="noise",
        symbol="NOISE",
        side=Side.LONG,
        features=features,
        won=won,
        kind=Kind.PHANTOM,
        gross_r=result,
        net_r=result,
        ts=entry_ms,
        entry_ms=entry_ms,
        exit_ms=entry_ms + LABEL_BARS * BAR_MS,
    )


# --- (c) what is known only at the exit, or too late


def _lifecycle(seed: int) -> Iterator[Check]:
    refused = sum(_no_schema(feature) and _no_schema(Feature(name=feature.name)) for feature in EXIT_ONLY)
    refused += sum(_no_column(name) for name in (*EXIT_NAMES, "tomorrow"))
    yield rate(1, "columns of the exit, or of nobody, refused", refused, 2 * len(EXIT_NAMES) + 1, low=1.0)
    rng = np.random.default_rng((seed, 3))
    caught = 0
    features = _schema(FEATURES).names
    for name in features:
        examples = [_example(row, _stamped(features, name, row), won=bool(rng.random() < 0.5)) for row in range(40)]
        schema = _schema(FEATURES)
        try:
            guard(examples, [schema.vector(example.features) for example in examples], schema)
        except Leaked as leaked:
            caught += [leak.feature for leak in leaked.leaks if leak.reason.value == "LEAK_LATE"] == [name]
    yield rate(1, "values stamped a millisecond too late refused", caught, len(features), low=1.0)


def _stamped(features: tuple[str, ...], late: str, row: int) -> dict[str, FeatureValue]:
    at_ms = START_MS + row * BAR_MS
    values: dict[str, FeatureValue] = {name: float((row * 7 + place) % 13) for place, name in enumerate(features)}
    stamps: dict[str, FeatureValue] = {
        name + STAMP_SUFFIX: at_ms + (1 if name == late and row == 39 else 0) for name in features
    }
    return values | stamps


def _no_schema(feature: Feature) -> bool:
    try:
        Schema("own", 1, (*SCALP.features, feature))
    except Invalid:
        return True
    return False


def _no_column(name: str) -> bool:
    try:
        refuse(unknown_columns((*SCALP.names, name), SCALP))
    except Leaked as leaked:
        return [leak.feature for leak in leaked.leaks] == [name]
    return False


# --- (d) decisions, live and rebuilt


def _rebuilt(sizes: _Sizes, seed: int) -> Check:
    equal, checked = rebuilt_decisions(seed, sizes.decisions)
    return rate(1, "live vector = vector rebuilt from the whole history, by hash", equal, checked, low=1.0)
