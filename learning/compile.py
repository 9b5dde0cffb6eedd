"""Trees as scikit-learn grows them, and the same trees as plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)

from scorer.compiled import Boosted, Trees

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Grown:
    """One tree, breadth first, places counted from its own root: shape (n_nodes,) each, as ``Trees`` lays them."""

    feature: npt.NDArray[np.int32]
    threshold: FloatArray
    left: npt.NDArray[np.int64]
    value: FloatArray


def breadth_first(tree: Any, value: FloatArray) -> Grown:
    """A tree of scikit-learn's in our order.

    Parameters
    ----------
    tree : with ``children_left`` and ``children_right`` (−1 at leaves), ``feature`` and ``threshold``
    value : ndarray of shape (n_nodes,), of each node in the tree's own order
    """
    return _in_order(tree.children_left, tree.children_right, tree.feature, tree.threshold, value)


def joined(grown: Sequence[Grown]) -> Trees:
    """Trees laid end to end.

    Parameters
    ----------
    grown : at least one tree, in the order in which they are to stand

    Raises
    ------
    ValueError : as ``Trees``
    """
    starts = np.cumsum([0, *(len(tree.left) for tree in grown)])[:-1]
    return Trees(
        feature=np.concatenate([tree.feature for tree in grown]),
        threshold=np.concatenate([tree.threshold for tree in grown]),
        left=np.concatenate([tree.left + start for tree, start in zip(grown, starts, strict=True)]).astype(np.int32),
        value=np.concatenate([tree.value for tree in grown]),
        roots=starts.astype(np.int32),
    )


def boosted(model: Any) -> Boosted:
    """Boosted trees of scikit-learn with one output, a number or the log-odds of a class, as arrays.

    A histogram model compares in double precision and ours in single, so it must have been fitted on values rounded
    by ``scorer.compiled.as_trained``; then both split alike.

    Parameters
    ----------
    model : fitted GradientBoosting or HistGradientBoosting, classifier of two classes or regressor

    Returns
    -------
    Boosted, whose ``said`` is the regressor's ``predict`` or the classifier's ``decision_function``

    Raises
    ------
    ValueError : if the model has more outputs, splits on categories, or is of another kind
    """
    trees = joined(boosted_trees(model))
    return Boosted(trees, *boosted_start(model))


def boosted_trees(model: Any) -> list[Grown]:
    """The trees of such a model alone.

    Parameters
    ----------
    model : as for ``boosted``

    Raises
    ------
    ValueError : as ``boosted``
    """
    match model:
        case GradientBoostingClassifier() | GradientBoostingRegressor():
            if model.estimators_.shape[1] != 1:
                raise ValueError("boosted trees with more than one output")
            return [breadth_first(one.tree_, one.tree_.value[:, 0, 0]) for one in model.estimators_[:, 0]]
        case HistGradientBoostingClassifier() | HistGradientBoostingRegressor():
            return [_histogram(stage) for stage in model._predictors]  # noqa: SLF001 - they are nowhere else
        case _:
            raise ValueError(f"no boosted trees: {type(model).__name__}")


def boosted_start(model: Any) -> tuple[float, float]:
    """Where the sum starts, and what each tree is multiplied by.

    Parameters
    ----------
    model : as for ``boosted``
    """
    match model:
        case GradientBoostingClassifier():
            share = float(model.init_.class_prior_[1])
            return float(np.log(share) - np.log1p(-share)), float(model.learning_rate)
        case GradientBoostingRegressor():
            return float(np.ravel(model.init_.constant_)[0]), float(model.learning_rate)
        case _:
            # A histogram model keeps its rate inside its leaves.
            return float(np.ravel(model._baseline_prediction)[0]), 1.0  # noqa: SLF001 - it is nowhere else


def _histogram(stage: Any) -> Grown:
    if len(stage) != 1:
        raise ValueError("boosted trees with more than one output")
    nodes = stage[0].nodes
    leaf = nodes["is_leaf"].astype(bool)
    if np.any(nodes["is_categorical"] != 0):
        raise ValueError("a split on categories")
    return _in_order(
        np.where(leaf, -1, nodes["left"].astype(np.int64)),
        np.where(leaf, -1, nodes["right"].astype(np.int64)),
        nodes["feature_idx"],
        nodes["num_threshold"],
        nodes["value"],
    )


def _in_order(lefts: Any, rights: Any, feature: Any, threshold: Any, value: Any) -> Grown:
    level = np.zeros(1, dtype=np.int64)
    levels = [level]
    while True:
        parents = level[lefts[level] >= 0]
        if len(parents) == 0:
            break
        level = np.stack((lefts[parents], rights[parents]), axis=1).ravel()
        levels.append(level)
    order = np.concatenate(levels)
    places = np.arange(len(order))
    new = np.empty(len(order), dtype=np.int64)
    new[order] = places
    inner = lefts[order] >= 0
    # Level by level, left before right: the right child is always the left one's neighbour.
    return Grown(
        feature=np.where(inner, feature[order], 0).astype(np.int32),
        threshold=np.where(inner, threshold[order], np.inf),
        left=np.where(inner, new[lefts[order]], places),
        value=np.asarray(value[order], dtype=np.float64),
    )
