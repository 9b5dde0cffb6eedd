"""Heads whose sizes follow from how many outcomes there are, and a linear one among them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from learning.members import HeadSettings, Members, seed_for
from scorer.compiled import Standard, as_trained

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

ROWS_PER_LEAF = 60
"""A leaf holds a sixtieth of the rows: a market in which a sixtieth behaves by its own rules is a story."""
LOW_RATE = 0.03
BOOSTED_LEAVES = 6
ROWS_PER_ROUND = 40
FEWEST_ROUNDS = 10
BINS = 32
"""Places a column may be cut at: finer ones cost more to find than a market of little signal can pay for."""
LEAF_RIDGE = 5.0
"""Records that draw every boosted leaf towards no change."""
LOG_ODDS_VARIANCE = 0.3
"""What all columns together are expected to move the log-odds of a win, before any was seen: an AUC of about 0.65."""
NETWORK_RIDGE = 30.0
"""Prior precision of a weight of the network, in records."""
NETWORK_ROUNDS = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What the heads may be made of, from the number of rows: counts, ``ridge`` of the linear head in its own unit."""

    leaf: int
    forest_trees: int
    rounds: int
    ridge: float
    units: int

    @classmethod
    def of(cls, n_rows: int, width: int, settings: HeadSettings) -> Sizes:
        """The sizes for a design.

        Parameters
        ----------
        n_rows, width : its shape
        settings : those of the specified heads, which these never exceed

        Source: STATISTICS 9 (regularised defaults scaled to n).
        """
        return cls(
            leaf=max(settings.forest_leaf, round(n_rows / ROWS_PER_LEAF)),
            # Trees with large leaves are much alike: half as many say the same.
            forest_trees=max(1, settings.forest_trees // 2),
            rounds=min(settings.boosting_trees, max(FEWEST_ROUNDS, n_rows // ROWS_PER_ROUND)),
            ridge=LOG_ODDS_VARIANCE / width,
            units=max(1, settings.hidden[0] // 2),
        )


class RegularisedHeads:
    """Forest, histogram-boosted trees, linear head and, if asked for, a small network.

    Parameters
    ----------
    settings : HeadSettings, the sizes not to be exceeded
    with_network : whether the network takes part
    seed : int

    Attributes
    ----------
    sizes_ : Sizes, members_ : Members

    Source: STATISTICS 9. The histogram engine: Ke et al. (2017), NeurIPS 30.
    """

    def __init__(self, settings: HeadSettings, *, with_network: bool, seed: int) -> None:
        self.settings = settings
        self.with_network = with_network
        self.seed = seed

    def fit(self, matrix: FloatArray, won: BoolArray, weight: FloatArray) -> RegularisedHeads:
        """Train the heads; returns itself.

        Parameters
        ----------
        matrix : ndarray of shape (n, width), finite
        won : ndarray of bool, shape (n,), both classes
        weight : ndarray of shape (n,), > 0; enters the fit of every head and nothing else
        """
        sizes = Sizes.of(matrix.shape[0], matrix.shape[1], self.settings)
        forest = RandomForestClassifier(
            n_estimators=sizes.forest_trees,
            max_depth=self.settings.forest_depth,
            min_samples_leaf=sizes.leaf,
            random_state=seed_for(self.seed, "forest"),
            n_jobs=1,
        ).fit(matrix, won, sample_weight=weight)
        boosting = HistGradientBoostingClassifier(
            max_iter=sizes.rounds,
            learning_rate=LOW_RATE,
            max_leaf_nodes=BOOSTED_LEAVES,
            min_samples_leaf=sizes.leaf,
            max_bins=BINS,
            l2_regularization=LEAF_RIDGE,
            # It would hold back a random tenth, whose labels overlap those it is trained on.
            early_stopping=False,
            random_state=seed_for(self.seed, "boosting"),
        ).fit(as_trained(matrix), won, sample_weight=weight)
        standard = Standard.fit(matrix)
        design = standard.apply(matrix)
        # Newton's method: the last digits do not depend on where a search happened to stop.
        linear = LogisticRegression(C=sizes.ridge, solver="newton-cholesky", tol=1e-8, max_iter=100).fit(
            design, won, sample_weight=weight
        )
        network = None
        if self.with_network:
            network = MLPClassifier(
                hidden_layer_sizes=(sizes.units,),
                alpha=NETWORK_RIDGE,
                solver="lbfgs",
                max_iter=min(NETWORK_ROUNDS, self.settings.network_epochs),
                random_state=seed_for(self.seed, "network"),
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                network.fit(design, won, sample_weight=weight)
        self.sizes_ = sizes
        self.members_ = Members(forest, boosting, network, standard, linear)
        return self
