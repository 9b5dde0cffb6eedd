"""The evidence method: thresholds that borrow from other situations as far as held-out records say it pays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from qscore.badge import certified_from
from qscore.blend import ROWS, Cells, Fitted, best_weight
from qscore.breakeven import BreakEven, break_evens
from qscore.crossing import NEVER, crossings
from qscore.curve import redrawn
from qscore.estimate import break_even
from qscore.isotonic import rising_means
from qscore.outcomes import BUCKETS, NOWHERE, PLACES, SCORES, TOP, Outcomes, Tally
from qscore.pooled import ALONE, PooledEstimate, PooledTable
from signals.bucket import Bucket
from signals.method import Method
from signals.profile import ThresholdMode

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

BUCKET_RECORDS: Final = 20
"""From how many decisive records on a situation has a threshold of its own."""
NEAR: Final = 5
"""Score points on either side of a threshold within which records count as its own."""
CAUTION: Final = 0.8416212335729143
"""The 80 % quantile of the normal distribution: the lower curve lies so many standard errors below the mean."""
COVERAGE: Final = 0.90
DRAWN_AT_ONCE: Final = 2_000_000
"""Resampled records held in memory at one time."""
MOVED: Final = 2
"""A threshold that moves by less than this many points stays where it was."""
DIGITS: Final = 6
"""To which a curve that borrows is kept: it is read by people, and travels with every table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """How often records are drawn anew for the intervals, and by which seed."""

    resamples: int = 0
    seed: int = 0


def learn_pooled(
    outcomes: Outcomes,
    *,
    labels: Method = Method.SPEC,
    mode: ThresholdMode = ThresholdMode.BALANCED,
    drawn: Drawn | None = None,
    incumbent: PooledTable | None = None,
) -> PooledTable:
    """Learn thresholds by the evidence method.

    Records of all situations give one common curve (``curve.fit_curves``). Each situation's own records are joined by
    m pseudo-records of it, laid out like the scores of all records, and the isotonic fit of both takes the place of the
    seed rule's; m is one for all, the one under which held-out records gain most. m = 0 is the seed rule, break-even
    included. In mode ``spec`` m is 0.

    Parameters
    ----------
    outcomes : Outcomes, of both kinds, with at least one decisive one
    labels : ``spec``: 1 for a win, 0 for a loss, timeouts left out; ``evidence``: u = (R + L)/(W + L), timeouts counted
        with their marked results
    mode : which threshold is in force, for what is held
    drawn : how the 90 % interval of each threshold is drawn; none is, by default
    incumbent : what was in force for the very same kind of score until now; a threshold then moves only by 2 points or
        more, and only if held-out records gain by it. Never hand in what another bundle learned

    Raises
    ------
    ValueError : if no outcome is decisive

    Source: STATISTICS 1.2 and 1.4.
    """
    taken = outcomes if labels is Method.EVIDENCE else outcomes.of_decisive
    if not np.any(taken.decisive):
        raise ValueError("expected a decisive outcome")
    fitted = None if mode is ThresholdMode.SPEC else Fitted.of(taken, labels)
    tried = () if fitted is None else fitted.tried()
    m = ALONE if fitted is None else best_weight(tried)
    sizes = np.bincount(taken.place[taken.decisive], minlength=PLACES)
    rows = [place for place in range(NOWHERE) if sizes[place] >= BUCKET_RECORDS] + [PLACES]
    learner = _Learner(taken, labels, m, None if m == ALONE else fitted)
    seed_rule = _Learner(outcomes.of_decisive.unweighted, Method.SPEC, ALONE, None)
    intervals, of_seed = (_intervals(who, Drawn() if drawn is None else drawn) for who in (learner, seed_rule))
    found = {
        row: replace(learner.estimate(row), interval=intervals.get(row), seed_interval=of_seed.get(row)) for row in rows
    }
    table = PooledTable(
        labels=labels,
        mode=mode,
        m=m,
        tried=tried,
        overall=found[PLACES],
        buckets={BUCKETS[row]: estimate for row, estimate in found.items() if row != PLACES},
    )
    return table if incumbent is None or fitted is None else _held(table, incumbent, fitted)


@dataclass(frozen=True, slots=True)
class _Learner:
    """One set of outcomes under a chosen m; ``fitted`` is none where nothing is borrowed."""

    outcomes: Outcomes
    labels: Method
    m: float
    fitted: Fitted | None

    def estimate(self, row: int) -> PooledEstimate:
        inside = self.outcomes.inside(None if row == PLACES else row)
        lost = inside.decisive & ~inside.won
        gain, loss = _mean(inside, inside.won, 1.0), _mean(inside, lost, -1.0)
        plain = None if gain is None or loss is None else break_even(gain, loss)
        if self.fitted is None:
            p_min, shrunk = plain, False
            count, total = _own_cells(inside, self.labels, gain, loss)
            cells, near, own = np.flatnonzero(count), _near(count), np.ones(SCORES)
            curve = np.clip(rising_means(total[cells], count[cells]), 0.0, 1.0)
            whole = np.interp(np.arange(SCORES), cells, curve)
            error = _own_error(whole, near, near)
            digits = None
        else:
            even = self.fitted.even
            shrunk = bool(even.shrunk[0, row])
            p_min = float(even.p_min[0, row]) if shrunk or plain is None else plain
            whole, error, own = self._blended(row)
            cells, digits = np.arange(SCORES), DIGITS
        lower = np.maximum.accumulate(np.clip(whole - CAUTION * error, 0.0, 1.0))
        whole, lower = _rounded(whole, digits), _rounded(lower, DIGITS)
        kept = _knots(cells, whole, lower)
        weight = inside.weight
        found = PooledEstimate(
            wins=int(np.count_nonzero(inside.won)),
            losses=int(np.count_nonzero(lost)),
            timeouts=int(np.count_nonzero(~inside.decisive)),
            mean_win_r=gain,
            mean_loss_r=loss,
            p_min=p_min,
            shrunk=shrunk,
            pooled=self.fitted is not None,
            cells=tuple(kept.tolist()),
            probability=tuple(whole[kept].tolist()),
            lower=tuple(np.minimum(lower, whole)[kept].tolist()),
            effective_n=min(float(np.sum(weight) ** 2 / np.sum(weight**2)), float(len(inside))),
            own_weight=1.0,
            certified_from=None
            if p_min is None
            else certified_from(inside.cell.astype(np.float64), inside.won, weight, p_min),
        )
        at = found.threshold
        reached = None if p_min is None else _normal((float(whole[at]) - p_min) / max(float(error[at]), 1e-9))
        return replace(found, own_weight=float(own[at]), reached=reached)

    def _blended(self, row: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Curve, its standard error and the share of own records near each score, shape (101,) each."""
        fitted = self.fitted
        if fitted is None:
            raise ValueError("nothing is borrowed")
        cells, m = fitted.cells, self.m
        total, weight = cells.laid_on(fitted.curve, m)
        used = np.flatnonzero(weight[0, row] > 0.0)
        means = np.clip(rising_means(total[0, row, used], weight[0, row, used]), 0.0, 1.0)
        whole = np.interp(np.arange(SCORES), used, means)
        share = cells.shares[:1] if row == PLACES else np.eye(PLACES)[row : row + 1]
        spread = fitted.curves.spread(share)[0]
        near = _near(cells.count[0, row])
        lent = _near(cells.density[0])
        with np.errstate(invalid="ignore", divide="ignore"):
            own = np.zeros(SCORES) if math.isinf(m) else np.where(near + m * lent > 0, near / (near + m * lent), 0.0)
        # What own records and the common curve say is not independent, since the curve has seen the records: the
        # errors are added as if they always went together, which can only make the lower curve lower.
        error = (1.0 - own) * spread
        if not math.isinf(m):
            error = error + _own_error(whole, near, near + m * lent)
        return whole, error, own


def _intervals(learner: _Learner, drawn: Drawn) -> dict[int, tuple[int, int]]:
    """The 90 % interval of each row's threshold: records drawn anew, refitted, m and the variances as they are."""
    outcomes = learner.outcomes
    block = outcomes.blocks
    blocks = int(block.max()) + 1
    if drawn.resamples < 2 or blocks < 2:
        return {}
    rng = np.random.default_rng(drawn.seed)
    at_once = max(1, DRAWN_AT_ONCE // len(outcomes))
    told: list[IntArray] = []
    left = drawn.resamples
    while left > 0:
        times = rng.multinomial(blocks, np.full(blocks, 1.0 / blocks), size=min(left, at_once))
        told.append(_thresholds(learner, times[:, block].astype(np.float64), rng))
        left -= len(times)
    values = np.concatenate(told)
    if len(values) == 0:
        return {}
    tail = (1.0 - COVERAGE) / 2.0
    low = np.quantile(values, tail, axis=0, method="inverted_cdf")
    high = np.quantile(values, 1.0 - tail, axis=0, method="inverted_cdf")
    return {row: (int(low[row]), int(high[row])) for row in range(ROWS)}


def _thresholds(learner: _Learner, times: FloatArray, rng: np.random.Generator) -> IntArray:
    """Every row's threshold in each set of redrawn records, shape (n_sets, 18), 0..100."""
    tally = Tally.of(learner.outcomes, times)
    even = break_evens(tally.payoff, tally.pieces)
    if learner.fitted is None:
        cells = Cells.of(tally, _own_even(even), learner.labels)
        found = np.minimum(crossings(cells.total, cells.count, np.nan_to_num(even.own)), TOP)
        # As the seed rule has it: wins first, then losses.
        found = np.where(even.loss_r > 0.0, found, 0)
        return np.where(even.win_r > 0.0, found, TOP)
    sound = even.pooled
    cells = Cells.of(tally.where(sound), even.where(sound), learner.labels)
    curve = redrawn(learner.fitted.curves, cells.count[:, :PLACES], cells.total[:, :PLACES], rng)
    total, weight = cells.laid_on(cells.mixed(curve), learner.m)
    found = np.minimum(crossings(total, weight, even.p_min[sound]), TOP)
    return np.where(even.closed[sound], TOP, found)


def _held(table: PooledTable, incumbent: PooledTable, fitted: Fitted) -> PooledTable:
    """Keep the thresholds in force that moved too little, or by whose move held-out records would not have gained."""
    if (incumbent.labels, incumbent.mode) != (table.labels, table.mode) or fitted.folds == 0:
        return table
    start = fitted.starts(table.m, fitted.levels)
    new = fitted.gained(start, fitted.levels).sum(axis=(0, 2))

    def judged(row: int, found: PooledEstimate, before: PooledEstimate | None) -> PooledEstimate:
        if before is None or before.closed_in(table.mode) or found.closed_in(table.mode):
            return found
        value = before.in_force(table.mode)
        old = np.where(fitted.even.closed[1:, :, None], NEVER, np.full_like(start, value))
        gain = float(new[row] - fitted.gained(old, fitted.levels).sum(axis=(0, 2))[row])
        if value == found.in_force(table.mode) or (abs(value - found.in_force(table.mode)) >= MOVED and gain > 0.0):
            return found
        return replace(found, held=value)

    buckets: Mapping[Bucket, PooledEstimate] = {
        bucket: judged(BUCKETS.index(bucket), found, incumbent.buckets.get(bucket))
        for bucket, found in table.buckets.items()
    }
    return replace(table, overall=judged(PLACES, table.overall, incumbent.overall), buckets=buckets)


def _own_even(even: BreakEven) -> BreakEven:
    """Break-even as each row's own records tell it; where they tell none, the seed rule looks at no curve either."""
    size = even.win_r + even.loss_r
    return replace(even, p_min=np.nan_to_num(even.own), size_r=np.where(size > 0.0, size, 1.0))


def _own_cells(
    inside: Outcomes, labels: Method, gain: float | None, loss: float | None
) -> tuple[FloatArray, FloatArray]:
    """Weights and sums of labels by whole score, shape (101,) each, with the situation's own W and L."""
    count = _counted(inside.cell, inside.weight)
    if labels is Method.SPEC or gain is None or loss is None or not (gain > 0.0 and loss > 0.0):
        return count, _counted(inside.cell, inside.weight * inside.won)
    # A win or loss of the mean size has the label 1 or 0 to the last bit, as the seed rule has them.
    label = (inside.net_r + loss) / (gain + loss)
    return count, _counted(inside.cell, inside.weight * label)


def _counted(cell: IntArray, values: FloatArray) -> FloatArray:
    return np.bincount(cell, weights=values, minlength=SCORES).astype(np.float64)


def _mean(inside: Outcomes, side: npt.NDArray[np.bool_], sign: float) -> float | None:
    if not np.any(side):
        return None
    weight = inside.weight[side]
    return math.fsum((sign * weight * inside.net_r[side]).tolist()) / math.fsum(weight.tolist())


def _near(values: FloatArray) -> FloatArray:
    return np.convolve(values, np.ones(2 * NEAR + 1), mode="same")


def _own_error(curve: FloatArray, near: FloatArray, weight: FloatArray) -> FloatArray:
    """Standard error from own records near each score; where there is no record at all, nothing is known."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weight > 0.0, np.sqrt(near * curve * (1.0 - curve)) / weight, 1.0)


def _rounded(curve: FloatArray, digits: int | None) -> FloatArray:
    return curve if digits is None else np.round(curve, digits)


def _knots(cells: IntArray, curve: FloatArray, lower: FloatArray) -> IntArray:
    """The cells that are needed to draw both curves: those where either is not level on both sides."""
    both = np.stack([curve[cells], np.minimum(lower, curve)[cells]])
    same = np.all(np.diff(both, axis=1) == 0.0, axis=0)
    inner = np.concatenate([[False], same]) & np.concatenate([same, [False]])
    kept: IntArray = cells[~inner]
    return kept


def _normal(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2.0))
