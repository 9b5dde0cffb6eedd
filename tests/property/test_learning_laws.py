"""Laws of splitting, calibrating and scoring, over generated labels and forecasts."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from learning.calibrate import fit_for
from learning.metrics import auc, measure, wilson
from learning.split import Walk, folds
from scorer.compiled import Trees
from scorer.container import AnyArray, BundleRefused, seal, unseal
from scorer.ensemble import Ensemble
from signals.method import Method
from tests.support.laws import LAW
from tests.support.lessons import KEY

LABELS = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 120)), min_size=1, max_size=60).map(
    lambda pairs: sorted(((start, start + life) for start, life in pairs), key=lambda label: label[1])
)
FORECASTS = st.lists(st.tuples(st.floats(0.0, 1.0), st.booleans()), min_size=2, max_size=80)


def overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


@LAW
@given(LABELS, st.integers(2, 6), st.sampled_from(Walk), st.integers(0, 100))
def test_no_training_label_overlaps_a_test_label(
    labels: list[tuple[int, int]], n_blocks: int, walk: Walk, embargo: int
) -> None:
    entry, exit_ = zip(*labels, strict=True)
    split = folds(entry, exit_, n_blocks=n_blocks, walk=walk, embargo_ms=embargo)
    assert [place for fold in split for place in fold.test.tolist()] == list(range(len(labels)))
    for fold in split:
        tests = [labels[place] for place in fold.test.tolist()]
        last = max(end for _, end in tests)
        removed = set(range(len(labels))) - set(fold.test.tolist()) - set(fold.train.tolist())
        assert not set(fold.train.tolist()) & set(fold.test.tolist())
        for place in fold.train.tolist():
            assert not any(overlap(labels[place], test) for test in tests)
            assert walk is Walk.BLOCKED or labels[place][1] < min(begin for begin, _ in tests)
        for place in removed:
            # Nothing goes without a reason: overlap, the embargo, or the future of an expanding walk.
            later = place > fold.test[-1]
            assert (
                any(overlap(labels[place], test) for test in tests)
                or (later and labels[place][0] <= last + embargo)
                or (later and walk is not Walk.BLOCKED)
                or (walk is Walk.ROLLING and place < fold.test[0] - len(labels) // n_blocks)
            )


@LAW
@given(FORECASTS, st.sampled_from(Method))
def test_a_calibrator_never_falls_and_is_never_certain(forecasts: list[tuple[float, bool]], method: Method) -> None:
    raw, won = np.array([p for p, _ in forecasts]), np.array([w for _, w in forecasts])
    if won.all() or not won.any():
        return
    calibrator = fit_for(method)(raw, won)
    said = calibrator.apply(np.unique(np.concatenate((raw, np.linspace(0.0, 1.0, 50)))))
    assert np.all(np.diff(said) >= -1e-12)
    assert said.min() > 0.0
    assert said.max() < 1.0


@LAW
@given(FORECASTS)
def test_figures_stay_in_their_ranges(forecasts: list[tuple[float, bool]]) -> None:
    p, won = np.array([p for p, _ in forecasts]), np.array([w for _, w in forecasts])
    found = measure(p, won)
    assert 0.0 <= found.brier <= 1.0
    assert found.brier_skill <= 1.0
    assert found.log_loss >= 0.0
    assert found.base_log_loss <= np.log(2) + 1e-12
    assert sum(entry.n for entry in found.curve) == found.n
    for entry in found.curve:
        assert 0.0 <= entry.win_rate_low <= entry.win_rate <= entry.win_rate_high <= 1.0
        assert entry.low - 1e-9 <= entry.mean_probability <= entry.high + 1e-9
    if found.auc is None:
        assert won.all() or not won.any()
    else:
        mirrored = auc(1.0 - p, won)
        ties = len(np.unique(1.0 - p)) == len(np.unique(p))
        assert mirrored is not None
        # 1 − p can merge forecasts that differ by less than a rounding.
        assert not ties or abs(found.auc + mirrored - 1.0) < 1e-9


@LAW
@given(st.integers(1, 1000), st.integers(0, 1000))
def test_wilson_bounds_hold_the_share_and_mirror(n: int, wins: int) -> None:
    wins = min(wins, n)
    low, high = wilson(wins, n)
    assert 0.0 <= low <= wins / n <= high <= 1.0
    mirrored = wilson(n - wins, n)
    assert abs(low + mirrored[1] - 1.0) < 1e-12


@st.composite
def forests(draw: st.DrawFn) -> tuple[Ensemble, np.random.Generator]:
    """Random trees of random shape over three columns."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    feature: list[int] = []
    threshold: list[float] = []
    left: list[int] = []
    value: list[float] = []
    roots: list[int] = []
    for tree in range(draw(st.integers(2, 5))):
        start = len(left)
        roots.append(start)
        queue, count = [0], 1
        while queue:
            queue.pop(0)
            split = count < 30 and rng.random() < 0.6
            left.append(start + count if split else len(left))
            feature.append(int(rng.integers(3)) if split else 0)
            threshold.append(float(np.round(rng.normal(), 1)) if split else np.inf)
            value.append(float(rng.random()) if tree == 0 else float(rng.normal()))
            if split:
                queue += [0, 0]
                count += 2
    trees = Trees(
        feature=np.array(feature, dtype=np.int32),
        threshold=np.array(threshold),
        left=np.array(left, dtype=np.int32),
        value=np.array(value),
        roots=np.array(roots, dtype=np.int32),
    )
    return Ensemble(width=3, trees=trees, n_forest=1, init=0.1, rate=0.5), rng


def walked(trees: Trees, root: int, row: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    node = root
    while trees.left[node] != node:
        goes_left = float(np.float32(row[trees.feature[node]])) <= float(trees.threshold[node])
        node = int(trees.left[node]) + (0 if goes_left else 1)
    return float(trees.value[node])


@LAW
@given(forests())
def test_all_trees_at_once_equal_one_node_at_a_time(world: tuple[Ensemble, np.random.Generator]) -> None:
    ensemble, rng = world
    # Rounded like the thresholds, so that rows often lie exactly on them.
    matrix = np.round(rng.normal(size=(40, 3)), 1)
    said = ensemble.win_probabilities(matrix)
    assert said.tolist() == [ensemble.win_probability(row) for row in matrix]
    for row, probability in zip(matrix, said.tolist(), strict=True):
        values = [walked(ensemble.trees, int(root), row) for root in ensemble.trees.roots]
        boosted = 1.0 / (1.0 + np.exp(-(0.1 + 0.5 * sum(values[1:]))))
        assert abs(probability - (values[0] + boosted) / 2.0) < 1e-12


ARRAYS = st.dictionaries(
    st.text(min_size=1, max_size=8),
    st.one_of(
        st.lists(st.floats(allow_nan=False), max_size=9).map(lambda v: np.array(v, dtype=np.float64)),
        st.lists(st.integers(-(2**31), 2**31 - 1), max_size=9).map(lambda v: np.array(v, dtype=np.int32)),
    ),
    max_size=5,
)
MANIFESTS = st.dictionaries(
    st.text(max_size=8).filter(lambda name: name != "arrays"),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=5,
)


@LAW
@given(MANIFESTS, ARRAYS, st.data())
def test_a_sealed_file_comes_back_whole_or_not_at_all(
    manifest: dict[str, object], arrays: dict[str, AnyArray], data: st.DataObject
) -> None:
    sealed = seal(manifest, arrays, KEY)
    back, found = unseal(sealed, KEY)
    assert back == manifest
    assert {name: array.tolist() for name, array in found.items()} == {n: a.tolist() for n, a in arrays.items()}
    place, mask = data.draw(st.integers(0, len(sealed) - 1)), data.draw(st.integers(1, 255))
    bent = bytearray(sealed)
    bent[place] ^= mask
    try:
        unseal(bytes(bent), KEY)
    except BundleRefused:
        return
    raise AssertionError(f"byte {place} may change")
