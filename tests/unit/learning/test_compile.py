"""Boosted trees as arrays: they say what scikit-learn says, on the edge of a split too, or are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)

from learning.compile import boosted
from scorer.compiled import Boosted, as_trained

SMALL: dict[str, Any] = {"max_depth": 3, "learning_rate": 0.1, "random_state": 3}


def world() -> tuple[Any, Any]:
    rng = np.random.default_rng(5)
    matrix = as_trained(np.column_stack((rng.normal(size=(400, 3)), np.full(400, 7.0), rng.integers(0, 3, 400))))
    return matrix, matrix[:, 0] + 0.5 * matrix[:, 4] + rng.normal(size=400)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(GradientBoostingClassifier(n_estimators=20, **SMALL), id="classifier"),
        pytest.param(HistGradientBoostingClassifier(max_iter=20, **SMALL), id="bins, classes"),
        pytest.param(GradientBoostingRegressor(n_estimators=20, **SMALL), id="regressor"),
        pytest.param(HistGradientBoostingRegressor(max_iter=20, **SMALL), id="bins, numbers"),
    ],
)
def test_the_arrays_say_what_the_model_says(model: Any) -> None:
    matrix, target = world()
    classes = hasattr(model, "predict_proba")
    model.fit(matrix, target > 0.8 if classes else target, sample_weight=np.linspace(0.5, 1.0, 400))
    found = boosted(model)
    inner = np.flatnonzero(np.isfinite(found.trees.threshold))
    on = matrix[np.arange(len(inner)) % len(matrix)].copy()
    on[np.arange(len(inner)), found.trees.feature[inner]] = found.trees.threshold[inner]
    probed = np.concatenate((matrix, on))
    wanted = (model.decision_function if classes else model.predict)(as_trained(probed))
    assert np.abs(found.said(probed) - wanted).max() <= 1e-9
    assert np.ptp(wanted) > 0.5


def test_what_has_another_shape_is_refused() -> None:
    matrix, target = world()
    three = np.digitize(target, [0.0, 1.0])
    for model in (GradientBoostingClassifier(n_estimators=2), HistGradientBoostingClassifier(max_iter=2)):
        with pytest.raises(ValueError, match="more than one output"):
            boosted(model.fit(matrix, three))
    by_category = HistGradientBoostingRegressor(max_iter=5, categorical_features=[4]).fit(matrix, matrix[:, 4] == 1.0)
    with pytest.raises(ValueError, match="categories"):
        boosted(by_category)
    with pytest.raises(ValueError, match="no boosted trees"):
        boosted(RandomForestClassifier(n_estimators=2).fit(matrix, three))


@pytest.mark.parametrize(("init", "rate"), [(np.nan, 0.1), (1e16, 0.1), (0.0, 0.0), (0.0, 1.5), (0.0, np.nan)])
def test_a_start_or_a_rate_that_is_refused(init: float, rate: float) -> None:
    matrix, target = world()
    trees = boosted(GradientBoostingRegressor(n_estimators=2, **SMALL).fit(matrix, target)).trees
    with pytest.raises(ValueError, match="start and rate"):
        Boosted(trees, init, rate)
