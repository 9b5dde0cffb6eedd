"""The non-decreasing sequence nearest to cell means: pool adjacent violators, with exact comparisons for counts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def rising_means(sums: IntArray | FloatArray, weights: IntArray | FloatArray) -> FloatArray:
    """Weighted least-squares fit of cell means by a sequence that never falls.

    Parameters
    ----------
    sums : ndarray of shape (n_cells,), the sum of labels in each cell (wins, when the labels are 0 and 1)
    weights : ndarray of shape (n_cells,), > 0, how many labels each cell holds; cells without any are left out
        beforehand, since they have no mean

    Returns
    -------
    ndarray of shape (n_cells,), non-decreasing; in [0, 1] when 0 <= sums <= weights

    Raises
    ------
    ValueError : if the shapes differ, a value is not finite or a weight is not positive

    Source: Ayer, Brunk, Ewing, Reid, Silverman (1955), Annals of Mathematical Statistics 26(4), 641-647.
    """
    if sums.ndim != 1 or sums.shape != weights.shape:
        raise ValueError("expected one sum for each weight")
    if not (np.all(np.isfinite(sums)) and np.all(np.isfinite(weights)) and np.all(weights > 0)):
        raise ValueError("sums and weights must be finite, weights positive")
    blocks: list[tuple[float, float, int]] = []
    # Python's own numbers: the cross products of counts below are then whole and of any size, so exact.
    for total, weight in zip(sums.tolist(), weights.tolist(), strict=True):
        cells = 1
        while blocks and blocks[-1][0] * weight > total * blocks[-1][1]:
            before = blocks.pop()
            total, weight, cells = before[0] + total, before[1] + weight, before[2] + cells
        blocks.append((total, weight, cells))
    means = np.array([total / weight for total, weight, _ in blocks], dtype=np.float64)
    return np.repeat(means, [cells for _, _, cells in blocks])
