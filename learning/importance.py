"""Which features the heads split on, by the names of the schema."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from scorer.encoding import Encoding

FloatArray = npt.NDArray[np.float64]


def feature_importance(encoding: Encoding, by_column: Sequence[FloatArray]) -> dict[str, float]:
    """Mean impurity importance of the tree heads, the columns of a category added up.

    Parameters
    ----------
    encoding : Encoding that wrote the design's columns
    by_column : for each head an ndarray of shape (width,), not negative

    Returns
    -------
    Share in [0, 1] of every feature of the schema, in its order, summing to 1; all 0 if no head ever split

    Raises
    ------
    ValueError : without heads, or if one has another width

    Source: Breiman (2001), Machine Learning 45(1), 5-32. Favours features with many values: a hint, not a test.
    """
    if len(by_column) == 0 or any(column.shape != (encoding.width,) for column in by_column):
        raise ValueError("one importance for each column, from one head at least")
    mean = np.mean(np.stack(by_column), axis=0)
    shares = dict.fromkeys(encoding.names, 0.0)
    for name, share in zip(encoding.sources, mean.tolist(), strict=True):
        shares[name] += share
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()} if total > 0.0 else shares
