"""What learning did in a replay: forecasts against outcomes, thresholds and how they moved, attempts, placebos."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lab.attempts import Attempt, History
from lab.compare import Setting
from lab.figures import VERDICT_COST_BPS
from lab.heads import HeadFigures
from lab.placebo import Placebo, gate_of, shuffled_lift
from lab.statistics import (
    RESAMPLES,
    UNKNOWN,
    BoolArray,
    Estimate,
    FloatArray,
    IntArray,
    percentile_interval,
    resample_days,
)
from lab.trade import Trade, TradeTable
from learning.head_report import Comparison
from learning.metrics import Bin, Metrics, measure
from learning.reliability import Reliability, reliability
from qscore.row import TableRow
from qscore.table import HEURISTIC, ThresholdBook, ThresholdTable
from qscore.threshold import OPEN, SEED, Clamp
from signals.profile import Clamping, Profile

SCORE_QUANTILES = (0.10, 0.25, 0.50, 0.75, 0.90)
WEEK_MS = 7 * 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Forecasts:
    """How good a set of win probabilities was. Scores are in [0, 100], everything else as in ``learning.metrics``.

    ``brier_skill`` is against the base rate of these very outcomes, which no forecaster could know: the strict
    reading. ``known_base_brier`` is the Brier score of the win rate known when the bundle was made.
    """

    n: int
    n_days: int
    wins: int
    base_rate: float
    mean_probability: float
    brier: float
    base_brier: float
    brier_skill: Estimate
    known_base_brier: float
    log_loss: float
    base_log_loss: float
    auc: float | None
    score_quantiles: tuple[float, ...]
    curve: tuple[Bin, ...]
    reliability: Reliability
    probability: FloatArray
    won: BoolArray


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleFigures:
    """One bundle: in force from ``from_ms`` until ``until_ms`` (none: to the end), UTC epoch ms.

    ``out_of_sample`` holds the signals it decided after it came into force; none until one of them was decided.
    """

    address: str
    source: str
    trained_on: int
    from_ms: int
    until_ms: int | None
    out_of_sample: Forecasts | None
    out_of_fold: Forecasts | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdRow:
    """A threshold at the end: what it was learned from, what the clamp made of it, and how sure it is.

    ``interval`` is its 90 % bootstrap interval before the clamp. What only the evidence method tells (effective number
    of records, their share in the curve near the threshold, the chance that it breaks even there) is none in a row of
    the seed rule; ``certified_from`` is the score above which wins are shown to pay, none without a badge.
    """

    bucket: str
    n: int
    wins: int
    losses: int
    mean_win_r: float | None
    mean_loss_r: float | None
    p_min: float | None
    threshold: float
    unclamped: float
    closed: bool
    clamp: str
    source: str
    note: str
    interval: tuple[int, int] | None = None
    effective_n: float | None = None
    own_weight: float | None = None
    reached: float | None = None
    certified_from: int | None = None
    shrunk: bool = False
    held: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFigures:
    """One table in force at the end; ``w`` is the ensemble's share in the scores it is for.

    ``rows`` are by the ``method`` in force, ``beside`` the same situations by the other one; ``m`` is how many
    pseudo-records of the common curve the evidence method gave each situation, ``inf`` for the curve alone.
    """

    score_source: str
    w: float
    clamp: str
    records: int
    method: str
    m: str
    rows: tuple[ThresholdRow, ...]
    beside: tuple[ThresholdRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdMove:
    """Thresholds of one kind of score and bucket, in effect from each moment on; none where none was learned."""

    score_source: str
    bucket: str
    at_ms: tuple[int, ...]
    threshold: tuple[float | None, ...]
    n: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFigures:
    """One attempt at training and what it came to; ``skill`` and ``auc`` are those it was judged by, out of fold."""

    number: int
    at_ms: int
    count: int
    next_at: int
    bundle: str
    reason: str
    detail: str
    log_loss: float | None
    base_log_loss: float | None
    skill: float | None
    auc: float | None

    @property
    def published(self) -> bool:
        """Whether it came to a bundle."""
        return self.bundle != ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learning:
    """The learning part of a report. ``out_of_sample`` pools all bundles, each on the signals it decided itself.

    ``heads`` are the forecasts beside the score, each as it stood at its decision; ``ablations`` compare families of
    features on the whole run, walking forward.
    """

    growth: float
    retrain_every: int
    static_threshold: float
    clamp: str
    attempts: tuple[AttemptFigures, ...]
    bundles: tuple[BundleFigures, ...]
    out_of_sample: Forecasts | None
    tables: tuple[TableFigures, ...]
    moves: tuple[ThresholdMove, ...]
    placebos: tuple[Placebo, ...]
    settings: tuple[Setting, ...]
    heads: tuple[HeadFigures, ...] = ()
    ablations: tuple[Comparison, ...] = ()

    @property
    def published(self) -> int:
        """How many attempts came to a bundle."""
        return sum(attempt.published for attempt in self.attempts)


def learning_of(
    profile: Profile,
    history: History,
    trades: Sequence[Trade],
    *,
    seed: int,
    settings: Sequence[Setting] = (),
    heads: Sequence[HeadFigures] = (),
    ablations: Sequence[Comparison] = (),
) -> Learning:
    """Reduce what a learner did, and what became of the signals it decided, to figures."""
    table = TradeTable.of(trades)
    figures = _Figures(table, seed)
    attempts = history.attempts
    return Learning(
        growth=profile.retrain_growth,
        retrain_every=profile.retrain_every,
        static_threshold=profile.static_threshold,
        clamp=profile.clamp.value,
        attempts=tuple(_attempt(attempt) for attempt in attempts),
        bundles=figures.bundles(attempts),
        out_of_sample=figures.pooled({attempt.address: attempt for attempt in attempts if attempt.published}),
        tables=tuple(_table(found, profile) for found in history.book.tables if found.overall is not None),
        moves=_moves(history.books, profile),
        placebos=figures.placebos(),
        settings=tuple(settings),
        heads=tuple(heads),
        ablations=tuple(ablations),
    )


def out_of_sample_of(history: History, trades: Sequence[Trade], *, seed: int) -> Forecasts | None:
    """Forecasts of every bundle of a run, each on the signals it decided itself; none where no bundle decided any."""
    published = {attempt.address: attempt for attempt in history.attempts if attempt.published}
    return _Figures(TradeTable.of(trades), seed).pooled(published)


def clamp_of(score_source: str, profile: Profile) -> Clamp:
    """The clamp in effect for one kind of score."""
    return SEED if score_source == HEURISTIC or profile.clamp is Clamping.SEED else OPEN


def _attempt(attempt: Attempt) -> AttemptFigures:
    judged = attempt.judged
    return AttemptFigures(
        number=attempt.number,
        at_ms=attempt.at_ms,
        count=attempt.count,
        next_at=attempt.next_at,
        bundle=attempt.address,
        reason=attempt.reason,
        detail=attempt.detail,
        log_loss=None if judged is None else judged.log_loss,
        base_log_loss=None if judged is None else judged.base_log_loss,
        skill=None if judged is None else judged.brier_skill,
        auc=None if judged is None else judged.auc,
    )


def _table(found: ThresholdTable, profile: Profile) -> TableFigures:
    clamp = clamp_of(found.score_source, profile)
    return TableFigures(
        score_source=found.score_source,
        w=found.w,
        clamp=str(clamp),
        records=found.records,
        method=found.policy.method.value,
        m="" if found.evidence is None else f"{found.evidence.m:g}",
        rows=tuple(_row(row) for row in found.rows(clamp)),
        beside=tuple(_row(row) for row in found.rows(clamp, found.policy.method.other)),
    )


def _row(row: TableRow) -> ThresholdRow:
    return ThresholdRow(
        bucket=row.bucket,
        n=row.n,
        wins=row.wins,
        losses=row.losses,
        mean_win_r=row.mean_win_r,
        mean_loss_r=row.mean_loss_r,
        p_min=row.p_min,
        threshold=row.threshold.value,
        unclamped=row.threshold.unclamped,
        closed=row.threshold.closed,
        clamp=str(row.clamp),
        source=row.source.value,
        note=row.note,
        interval=row.interval,
        effective_n=row.effective_n,
        own_weight=row.own_weight,
        reached=row.reached,
        certified_from=row.certified_from,
        shrunk=row.shrunk,
        held=row.held,
    )


def _moves(books: Sequence[tuple[int, ThresholdBook]], profile: Profile) -> tuple[ThresholdMove, ...]:
    """Every bucket's threshold from each moment on at which its table changed."""
    changed: dict[str, list[tuple[int, ThresholdTable]]] = {}
    for at_ms, book in books:
        for found in book.tables:
            kept = changed.setdefault(found.score_source, [])
            if found.overall is not None and (not kept or kept[-1][1] != found):
                kept.append((at_ms, found))
    moves = []
    for source, kept in sorted(changed.items()):
        clamp = clamp_of(source, profile)
        told = [(at_ms, {row.bucket: row for row in found.rows(clamp)}) for at_ms, found in kept]
        names = dict.fromkeys(name for _, rows in told for name in rows)
        moves += [
            ThresholdMove(
                score_source=source,
                bucket=name,
                at_ms=tuple(at_ms for at_ms, _ in told),
                threshold=tuple(rows[name].threshold.value if name in rows else None for _, rows in told),
                n=tuple(rows[name].n if name in rows else 0 for _, rows in told),
            )
            for name in names
        ]
    return tuple(moves)


@dataclass(frozen=True, slots=True)
class _Figures:
    """The parts over one run's trades."""

    table: TradeTable
    seed: int

    def _rng(self, label: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, zlib.crc32(label.encode())])

    def bundles(self, attempts: Sequence[Attempt]) -> tuple[BundleFigures, ...]:
        """Every published bundle, in order, on the signals that it and no other decided."""
        published = [attempt for attempt in attempts if attempt.published]
        ends: list[int | None] = [*(attempt.at_ms for attempt in published), None]
        return tuple(
            BundleFigures(
                address=attempt.address,
                source=attempt.source,
                trained_on=attempt.count,
                from_ms=attempt.at_ms,
                until_ms=until,
                out_of_sample=self.pooled({attempt.address: attempt}),
                out_of_fold=self._out_of_fold(attempt),
            )
            for attempt, until in zip(published, ends[1:], strict=True)
        )

    def pooled(self, made_by: dict[str, Attempt]) -> Forecasts | None:
        """Forecasts of the given bundles on decided signals, each as it stood when the signal came."""
        rows = [
            (trade.forecast, trade.outcome == "win", int(day), made_by[trade.bundle].trained_base_rate)
            for trade, day in zip(self.table.trades, self.table.day.tolist(), strict=True)
            if trade.decisive and trade.bundle is not None and trade.bundle in made_by and trade.forecast is not None
        ]
        if not rows:
            return None
        return self._forecasts(
            np.array([row[0] for row in rows], dtype=np.float64),
            np.array([row[1] for row in rows], dtype=np.bool_),
            np.array([row[2] for row in rows], dtype=np.int64),
            np.array([math.nan if row[3] is None else row[3] for row in rows], dtype=np.float64),
        )

    def _out_of_fold(self, attempt: Attempt) -> Forecasts | None:
        found, rate = attempt.out_of_fold, attempt.trained_base_rate
        if found is None or rate is None or len(found.won) == 0:
            return None
        return self._forecasts(found.probability, found.won, found.day, np.full(len(found.won), rate))

    def _forecasts(self, probability: FloatArray, won: BoolArray, day: IntArray, known: FloatArray) -> Forecasts:
        found: Metrics = measure(probability, won)
        n_days = len(np.unique(day))
        quantiles = np.quantile(100.0 * probability, SCORE_QUANTILES)
        return Forecasts(
            n=found.n,
            n_days=n_days,
            wins=found.wins,
            base_rate=found.base_rate,
            mean_probability=float(np.mean(probability)),
            brier=found.brier,
            base_brier=found.base_rate * (1.0 - found.base_rate),
            brier_skill=self._skill(probability, won, day, found.brier_skill),
            known_base_brier=float(np.mean((known - won) ** 2)),
            log_loss=found.log_loss,
            base_log_loss=found.base_log_loss,
            auc=found.auc,
            score_quantiles=tuple(map(float, quantiles)),
            curve=found.curve,
            reliability=reliability(probability, won),
            probability=probability,
            won=won,
        )

    def _skill(self, probability: FloatArray, won: BoolArray, day: IntArray, value: float) -> Estimate:
        """Brier skill with an interval from resampled days; every resample has its own base rate."""
        columns = np.stack([(probability - won) ** 2, won.astype(np.float64), np.ones(len(won))], axis=1)
        totals, n_days = resample_days(day, columns, rng=self._rng("brier skill"), resamples=RESAMPLES)
        rate = totals[:, 1] / totals[:, 2]
        with np.errstate(invalid="ignore", divide="ignore"):
            draws = 1.0 - totals[:, 0] / totals[:, 2] / (rate * (1.0 - rate))
        return Estimate(value, percentile_interval(draws, n_days), UNKNOWN, len(won), n_days)

    def placebos(self) -> tuple[Placebo, ...]:
        """Scores dealt out anew: over each bundle's whole time, within weeks, and for the model's own scores."""
        table = self.table
        decisive = table.decisive
        net = table.net_r(VERDICT_COST_BPS)[decisive]
        by_model = np.array([trade.forecast is not None for trade in table.trades], dtype=np.bool_)[decisive]
        whole, weekly = gate_of(table).where(decisive), gate_of(table, block_ms=WEEK_MS).where(decisive)
        tried = [("all scores", net, whole), ("all scores, within weeks", net, weekly)]
        if bool(by_model.any()) and not bool(by_model.all()):
            tried.append(("model scores only", net[by_model], whole.where(by_model)))
        return tuple(
            shuffled_lift(name, values, gate, cost_bps=VERDICT_COST_BPS, rng=self._rng(name))
            for name, values, gate in tried
        )
