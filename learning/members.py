"""The heads as scikit-learn trains them, and the same heads as plain arrays."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from learning.compile import boosted_start, boosted_trees, breadth_first, joined
from scorer.compiled import Network, Standard, Trees, as_trained
from scorer.ensemble import Ensemble, Stack
from signals.errors import Permanent
from signals.method import Method

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

AGREEMENT = 1e-9
"""How far a compiled head may lie from the one it was made of, in probability."""


IMPORTANCE = "feature_importances_"


class Disagreement(Permanent):
    """The arrays say something else than the heads they were made of: nothing may be published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSettings:
    """Sizes of the heads (SPEC 6)."""

    forest_trees: int = 200
    forest_depth: int = 8
    forest_leaf: int = 5
    boosting_trees: int = 150
    boosting_depth: int = 3
    boosting_rate: float = 0.08
    hidden: tuple[int, ...] = (32, 16)
    network_epochs: int = 200


@dataclass(frozen=True, slots=True, eq=False)
class Members:
    """Fitted scikit-learn heads; ``network`` and ``linear`` read rows standardised by ``standard``."""

    forest: Any
    boosting: Any
    network: Any | None
    standard: Standard
    linear: Any | None = None

    def probabilities(self, matrix: FloatArray) -> FloatArray:
        """What scikit-learn says: shape (n_rows, n_members), forest, boosting, network, linear.

        Parameters
        ----------
        matrix : ndarray of shape (n_rows, width), finite
        """
        # Boosted trees are asked with the rounding they were grown on, whichever engine grew them.
        said = [_win_column(self.forest, matrix), _win_column(self.boosting, as_trained(matrix))]
        more = [head for head in (self.network, self.linear) if head is not None]
        said += [_win_column(head, self.standard.apply(matrix)) for head in more]
        return np.stack(said, axis=1)

    @property
    def importances(self) -> list[FloatArray]:
        """Impurity importance of the columns by each head that keeps one, shape (width,) each."""
        return [head.feature_importances_ for head in (self.forest, self.boosting) if hasattr(head, IMPORTANCE)]

    @property
    def network_converged(self) -> bool | None:
        """Whether the network stopped by itself; none without one."""
        return None if self.network is None else bool(self.network.n_iter_ < self.network.max_iter)


def members_of(method: Method, *, with_network: bool) -> tuple[str, ...]:
    """Names of a method's heads, in the order of ``Members.probabilities``.

    Parameters
    ----------
    method : ``spec``, or ``evidence`` with a linear head
    with_network : whether the network takes part
    """
    network, linear = ("network",) if with_network else (), ("linear",) if method is Method.EVIDENCE else ()
    return ("forest", "boosting", *network, *linear)


def seed_for(seed: int, *words: object) -> int:
    """A seed of its own for each head of each fold, from the seed of the whole fit.

    Parameters
    ----------
    seed : int
    words : what it is for

    Returns
    -------
    int in [0, 2**32)
    """
    text = "|".join(str(word) for word in (seed, *words))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def fit_members(
    matrix: FloatArray,
    won: BoolArray,
    weight: FloatArray,
    *,
    settings: HeadSettings,
    with_network: bool,
    seed: int,
) -> Members:
    """Train the heads.

    Parameters
    ----------
    matrix : ndarray of shape (n, width), finite
    won : ndarray of bool, shape (n,), both classes
    weight : ndarray of shape (n,), > 0; enters the fit of every head and nothing else
    with_network : whether the network takes part
    seed : int

    Source: SPEC 6.
    """
    forest = RandomForestClassifier(
        n_estimators=settings.forest_trees,
        max_depth=settings.forest_depth,
        min_samples_leaf=settings.forest_leaf,
        random_state=seed_for(seed, "forest"),
        n_jobs=1,
    ).fit(matrix, won, sample_weight=weight)
    boosting = GradientBoostingClassifier(
        n_estimators=settings.boosting_trees,
        max_depth=settings.boosting_depth,
        learning_rate=settings.boosting_rate,
        random_state=seed_for(seed, "boosting"),
    ).fit(matrix, won, sample_weight=weight)
    standard = Standard.fit(matrix)
    if not with_network:
        return Members(forest, boosting, None, standard)
    # No early stopping: it would hold back a random tenth, whose labels overlap those it is trained on.
    network = MLPClassifier(
        hidden_layer_sizes=settings.hidden,
        max_iter=settings.network_epochs,
        random_state=seed_for(seed, "network"),
    )
    with warnings.catch_warnings():
        # Reaching the last epoch is an expected end here; it is reported as a figure, not as a warning.
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(standard.apply(matrix), won, sample_weight=weight)
    return Members(forest, boosting, network, standard)


def compiled(members: Members, width: int, stack: Stack | None = None) -> Ensemble:
    """The same heads as arrays.

    Parameters
    ----------
    members : Members, fitted
    width : columns of the design
    stack : how the heads are weighed; equally and with full trust by default

    Raises
    ------
    ValueError : if a head is not of the kind this was written for
    """
    grown = [breadth_first(tree.tree_, _win_share(members.forest, tree.tree_)) for tree in members.forest.estimators_]
    if _win_place(members.boosting) != 1:
        raise ValueError("boosted trees that sum the log-odds of a loss")
    init, rate = boosted_start(members.boosting)
    trees = joined([*grown, *boosted_trees(members.boosting)])
    return Ensemble(
        width=width,
        trees=trees,
        n_forest=len(members.forest.estimators_),
        init=init,
        rate=rate,
        network=None if members.network is None else _network(members),
        linear=None if members.linear is None else _linear(members),
        stack=stack,
    )


def assert_agreement(ensemble: Ensemble, members: Members, matrix: FloatArray) -> None:
    """Refuse arrays that do not say what their heads say, head by head, on the rows given and at the heads' own splits.

    Parameters
    ----------
    ensemble : Ensemble, compiled from the members
    members : Members, fitted
    matrix : ndarray of shape (n_rows, width), finite

    Raises
    ------
    Disagreement : if any head differs by more than 1e-9 on any row
    """
    probed = np.concatenate((matrix, _on_the_edge(ensemble.trees, matrix)))
    said, wanted = ensemble.member_probabilities(probed), members.probabilities(probed)
    if said.shape != wanted.shape or not np.all(np.abs(said - wanted) <= AGREEMENT):
        worst = np.abs(said - wanted).max(axis=0) if said.shape == wanted.shape else said.shape
        raise Disagreement(f"{ensemble.members} differ by {worst}")


def _on_the_edge(trees: Trees, matrix: FloatArray) -> FloatArray:
    """Rows moved onto thresholds and one float32 step above them, where another rounding takes the other branch."""
    inner = np.flatnonzero(np.isfinite(trees.threshold))
    if len(inner) == 0 or len(matrix) == 0:
        return matrix[:0]
    # Every row meets a root, so those bite for certain; the sample reaches deeper splits by chance.
    picked = np.union1d(np.intersect1d(trees.roots, inner), inner[:: max(1, len(inner) // 256)])
    on = matrix[np.arange(len(picked)) % len(matrix)].copy()
    above = on.copy()
    places = np.arange(len(picked)), trees.feature[picked]
    on[places] = trees.threshold[picked]
    above[places] = np.nextafter(trees.threshold[picked].astype(np.float32), np.float32(np.inf))
    return np.concatenate((on, above))


def _win_share(forest: Any, tree: Any) -> FloatArray:
    share = tree.value[:, 0, _win_place(forest)]
    return np.asarray(np.clip(share, 0.0, 1.0), dtype=np.float64)


def _network(members: Members) -> Network:
    network: Any = members.network
    if network.out_activation_ != "logistic" or network.activation != "relu" or _win_place(network) != 1:
        raise ValueError("a network of another kind")
    return Network(
        members.standard,
        tuple(np.asarray(layer, dtype=np.float64) for layer in network.coefs_),
        tuple(np.asarray(layer, dtype=np.float64) for layer in network.intercepts_),
    )


def _linear(members: Members) -> Network:
    linear: Any = members.linear
    if _win_place(linear) != 1:
        raise ValueError("a linear head that sums the log-odds of a loss")
    weight = np.ascontiguousarray(linear.coef_.T, dtype=np.float64)
    return Network(members.standard, (weight,), (np.asarray(linear.intercept_, dtype=np.float64),))


def _win_place(head: Any) -> int:
    # Never by position: with one class, or another order of classes, column 1 is something else.
    return int(np.flatnonzero(np.asarray(head.classes_) == True)[0])  # noqa: E712 - element by element


def _win_column(head: Any, matrix: FloatArray) -> FloatArray:
    return np.asarray(head.predict_proba(matrix)[:, _win_place(head)], dtype=np.float64)
