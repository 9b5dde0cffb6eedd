"""From closed positions to a candidate: heads, calibrator, honest figures, or a reason why there is none."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy
import sklearn
from threadpoolctl import threadpool_limits

from learning.calibrate import Choice, Lives, choose, cross_calibrated, fit_for
from learning.example import Example, data_hash
from learning.firewall import Leaked, guard, refuse, unknown_columns
from learning.importance import feature_importance
from learning.labels import Weighting, effective_size
from learning.members import HeadSettings, Members, assert_agreement, compiled, fit_members, members_of, seed_for
from learning.metrics import Metrics, measure
from learning.promote import Decline, Declined, PromotionRule, promote
from learning.regularised import RegularisedHeads
from learning.reliability import Reliability, reliability
from learning.retrieval import NEIGHBOURS, NeighbourSearch, Past, RetrievalFigures, dummies_of, evaluate
from learning.skill import Skill, brier_skill, independent_rows
from learning.split import Fold, Walk, folds
from learning.stack import Stacking, cross_stacked
from learning.standing import SkillGate, Standing
from learning.targets import Targets, centred, targets
from learning.venn_abers import fit_venn_abers
from scorer.bundle import SCORE_DIGITS, BundleParts, Golden, SchemaName, Source
from scorer.calibration import Calibrator, VennAbers
from scorer.encoding import Encoding
from scorer.ensemble import Ensemble, Stack
from scorer.neighbours import Pool, endings
from scorer.recorded import PartRecords
from scorer.schema import Schema, Vector
from signals.method import Method

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

GOLDEN_ROWS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """How a fit is done. Counts in decisive outcomes or rows; ``embargo_ms`` in milliseconds,
    none for the longest label or 1 % of the span.

    ``calibration`` and ``ensemble`` pick the method in force; the other is measured beside it, of ensembles only while
    ``beside`` is set. ``stacked_network_from`` is in rows of a fold. ``max_rows`` keeps the newest only.
    ``neighbours`` is how many past signals each one is compared with; 0 keeps none. ``labels`` says what the heads are
    told of each record, ``weighting`` what it counts for besides its kind (none: nothing else).
    """

    heads: HeadSettings = field(default_factory=HeadSettings)
    network_from: int = 300
    calibrate_from: int = 50
    min_class: int = 5
    n_blocks: int = 5
    embargo_ms: int | None = None
    calibration: Method = Method.SPEC
    ensemble: Method = Method.SPEC
    stacked_network_from: int = 2_000
    beside: bool = True
    max_rows: int | None = None
    neighbours: int = NEIGHBOURS
    labels: Method = Method.SPEC
    weighting: Weighting | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRecord:
    """One past outcome with the score the candidate gives it out of fold: what thresholds are learned from.

    ``raw_probability`` is the mean of the heads, ``score`` in [0, 100] what would have been compared;
    ``heuristic_score``, ``recorded_score`` and ``recorded_source`` are those of the decision then. ``weight`` is what
    it counts for where records are weighted: its time and its uniqueness, never its kind.
    """

    id: str
    bucket: str | None
    block: int
    entry_ms: int
    exit_ms: int
    raw_probability: float
    score: float
    heuristic_score: float | None
    recorded_score: float | None
    recorded_source: str | None
    won: bool
    net_r: float
    decisive: bool = True
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """A model that passed: its parts, and what it said about records its heads had not seen.

    ``metrics`` judge what would be served, ``raw_metrics`` the heads together before calibration, ``other_metrics``
    the calibration method not in force, ``walk_forward`` heads that knew only earlier blocks, before calibration.
    ``standing`` tells the ensemble in force from its ``twin``, the method that is not. ``reliability`` and
    ``other_reliability`` tell how forecasts and outcomes agree under either method, ``ladder`` which rung the evidence
    is for. ``records`` are in the order of exits; folds with too few of a class have none.
    """

    strategy: str
    schema: Schema
    encoding: Encoding
    ensemble: Ensemble
    calibrator: Calibrator | None
    golden: Golden
    records: tuple[PastRecord, ...]
    metrics: Metrics
    raw_metrics: Metrics
    other_metrics: Metrics | None
    walk_forward: Metrics | None
    importance: Mapping[str, float]
    data_hash: str
    n: int
    wins: int
    first_ms: int
    last_ms: int
    seed: int
    settings: FitSettings
    network_converged: bool | None
    versions: Mapping[str, str]
    standing: Standing
    twin: Standing | None = None
    timeouts: int = 0
    n_eff: float = 0.0
    neighbours: Pool | None = None
    neighbours_metrics: RetrievalFigures | None = None
    reliability: Reliability | None = None
    other_reliability: Reliability | None = None
    ladder: Choice | None = None
    venn_abers: VennAbers | None = None

    @property
    def source(self) -> Source:
        """What its scores are called."""
        return "ensemble_raw" if self.calibrator is None else "ensemble"

    @property
    def part_records(self) -> PartRecords:
        """The parts of the records' scores as a bundle carries them."""
        return PartRecords.of(
            heuristic=[past.heuristic_score for past in self.records],
            ensemble=[past.score for past in self.records],
            won=[past.won for past in self.records],
            net_r=[past.net_r for past in self.records],
            decisive=[past.decisive for past in self.records],
            weight=[past.weight for past in self.records],
            bucket=[past.bucket for past in self.records],
            entry_ms=[past.entry_ms for past in self.records],
            exit_ms=[past.exit_ms for past in self.records],
        )

    def parts(self, *, thresholds: Mapping[str, Any], created_at_ms: int) -> BundleParts:
        """The candidate as parts of a bundle.

        Parameters
        ----------
        thresholds : JSON values, the tables learned from ``records``
        created_at_ms : UTC epoch ms
        """
        return BundleParts(
            strategy=self.strategy,
            schema=SchemaName.of(self.schema),
            encoding=self.encoding,
            ensemble=self.ensemble,
            calibrator=self.calibrator,
            golden=self.golden,
            records=self.part_records,
            neighbours=self.neighbours,
            venn_abers=self.venn_abers,
            data_hash=self.data_hash,
            first_ms=self.first_ms,
            last_ms=self.last_ms,
            created_at_ms=created_at_ms,
            metrics={
                "n": self.n,
                "wins": self.wins,
                "timeouts": self.timeouts,
                "n_eff": self.n_eff,
                "served": self.metrics.record,
                "raw": self.raw_metrics.record,
                "other_method": None if self.other_metrics is None else self.other_metrics.record,
                "walk_forward": None if self.walk_forward is None else self.walk_forward.record,
                "network_converged": self.network_converged,
                "reliability": _record(self.reliability),
                "other_reliability": _record(self.other_reliability),
                "ladder": None if self.ladder is None else asdict(self.ladder),
                "ensemble": self.standing.record,
                "ensemble_twin": None if self.twin is None else self.twin.record,
                "neighbours": None if self.neighbours_metrics is None else self.neighbours_metrics.record,
            },
            importance=self.importance,
            thresholds=thresholds,
            versions=self.versions,
            settings={"seed": self.seed, **asdict(self.settings)},
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Usable examples in the order of their exits, as columns."""

    examples: tuple[Example, ...]
    vectors: tuple[Vector, ...]
    won: BoolArray
    decisive: BoolArray
    net_r: FloatArray
    weight: FloatArray
    record_weight: FloatArray

    def taught(self, train: npt.NDArray[np.int64], method: Method) -> Targets:
        """What heads trained on some of the rows are told; places count within ``train``."""
        return targets(
            self.won[train],
            self.decisive[train],
            self.net_r[train],
            [self.examples[place].bucket for place in train.tolist()],
            self.weight[train],
            method=method,
        )

    @property
    def n_decisive(self) -> int:
        """How many of them were decided."""
        return int(self.decisive.sum())

    def few(self, train: npt.NDArray[np.int64], min_class: int) -> bool:
        """Whether some of the rows hold too few wins or losses; a timeout is neither."""
        wins = int(self.won[train].sum())
        return min(wins, int(self.decisive[train].sum()) - wins) < min_class

    @property
    def lives(self) -> Lives:
        """When each row's label lived."""
        return Lives(
            np.array([example.entry_ms for example in self.examples], dtype=np.int64),
            np.array([example.exit_ms for example in self.examples], dtype=np.int64),
        )

    @property
    def independent_share(self) -> float:
        """How many independent labels each is worth, in (0, 1]."""
        entry = np.array([example.entry_ms for example in self.examples], dtype=np.int64)
        exit_ = np.array([example.exit_ms for example in self.examples], dtype=np.int64)
        symbols = tuple(example.symbol for example in self.examples)
        return min(1.0, independent_rows(entry, exit_, symbols) / len(self.examples))

    def folds(self, settings: FitSettings, walk: Walk) -> list[Fold]:
        return folds(
            [example.entry_ms for example in self.examples],
            [example.exit_ms for example in self.examples],
            n_blocks=settings.n_blocks,
            walk=walk,
            embargo_ms=settings.embargo_ms,
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Fitted:
    encoding: Encoding
    members: Members
    matrix: FloatArray

    @property
    def importance(self) -> dict[str, float]:
        return feature_importance(self.encoding, self.members.importances)


@dataclass(frozen=True, slots=True, eq=False)
class _Answers:
    """What heads said to rows they had not seen, shape (n, n_members), NaN where none answered; ``base``, shape (n,),
    the win rate of the rows they were trained on; and the mean importance of their features, none without heads."""

    said: FloatArray
    base: FloatArray
    members: tuple[str, ...]
    importance: dict[str, float] | None

    @property
    def answered(self) -> BoolArray:
        return np.isfinite(self.base)


def fit_candidate(
    examples: Sequence[Example],
    schema: Schema,
    *,
    seed: int,
    settings: FitSettings | None = None,
    rule: PromotionRule | None = None,
) -> Candidate | Declined:
    """Train, calibrate and measure one candidate.

    The same examples, in any order and under any number of threads, and the same seed give the same candidate.

    Parameters
    ----------
    examples : outcomes of one strategy, timeouts at their marks among them where heads learn of these; features in each
        feature's own unit, results in R
    schema : what the model reads
    seed : int
    settings : FitSettings, those of SPEC 6 by default
    rule : whether the measured candidate may be published; by default ``promote``, or with the ensemble by evidence
        ``SkillGate``

    Returns
    -------
    Candidate, or Declined with a stable code

    Raises
    ------
    Disagreement : if the compiled heads differ from the trained ones

    Source: SPEC 5 and 6; STATISTICS 5, 6, 8 and 9.
    """
    settings = FitSettings() if settings is None else settings
    rows = _usable(examples, schema, settings)
    if isinstance(rows, Declined):
        return rows
    try:
        guard(rows.examples, rows.vectors, schema)
        # Sums in another order, by another number of threads, end in other last digits and so in another bundle.
        with threadpool_limits(limits=1):
            return _fit(rows, schema, seed, settings, rule)
    except Leaked as leaked:
        return leaked.declined


def _usable(examples: Sequence[Example], schema: Schema, settings: FitSettings) -> _Rows | Declined:
    ordered = sorted(examples, key=lambda example: example.order)
    strategies = {example.strategy for example in ordered}
    if len(strategies) > 1:
        return Declined(Decline.SCHEMA, f"examples of {len(strategies)} strategies: {', '.join(sorted(strategies))}")
    few = _too_few(ordered, settings)
    if few is not None:
        return few
    read = [(example, schema.vector(example.features)) for example in ordered]
    # A row on which the model would not be asked teaches nothing about those on which it is.
    kept = [(example, vector) for example, vector in read if len(vector.missing) <= schema.allowed_missing]
    if _too_few([example for example, _ in kept], settings) is not None:
        often = _often_missing([vector for _, vector in read])
        detail = f"{len(kept)} of {len(read)} records carry enough of schema {schema.name!r}; missing most: {often}"
        return Declined(Decline.SCHEMA, detail)
    if settings.max_rows is not None:
        kept = kept[-settings.max_rows :]
        few = _too_few([example for example, _ in kept], settings)
        if few is not None:
            return few
    return _rows([example for example, _ in kept], tuple(vector for _, vector in kept), settings)


def _rows(examples: Sequence[Example], vectors: tuple[Vector, ...], settings: FitSettings) -> _Rows:
    net_r = np.array([example.net_r for example in examples], dtype=np.float64)
    counted = np.array([example.seen_weight for example in examples], dtype=np.float64)
    if settings.weighting is not None:
        entry_ms = np.array([example.entry_ms for example in examples], dtype=np.int64)
        exit_ms = np.array([example.exit_ms for example in examples], dtype=np.int64)
        counted *= settings.weighting.weights(entry_ms, exit_ms, net_r)
    return _Rows(
        examples=tuple(examples),
        vectors=vectors,
        won=np.array([example.won for example in examples], dtype=np.bool_),
        decisive=np.array([example.decisive for example in examples], dtype=np.bool_),
        net_r=net_r,
        weight=counted * np.array([example.weight for example in examples], dtype=np.float64),
        record_weight=counted,
    )


def _too_few(examples: Sequence[Example], settings: FitSettings) -> Declined | None:
    wins = sum(example.won for example in examples)
    losses = sum(example.decisive for example in examples) - wins
    if min(wins, losses) == 0:
        return Declined(Decline.SINGLE_CLASS, f"{wins} wins and {losses} losses: nothing to tell apart")
    if min(wins, losses) < settings.min_class:
        return Declined(Decline.TOO_FEW, f"{wins} wins and {losses} losses, {settings.min_class} of each are needed")
    return None


def _often_missing(vectors: Sequence[Vector]) -> str:
    counts: dict[str, int] = {}
    for vector in vectors:
        for name in vector.missing:
            counts[name] = counts.get(name, 0) + 1
    return ", ".join(sorted(counts, key=lambda name: (-counts[name], name))[:5])


def _fit(
    rows: _Rows, schema: Schema, seed: int, settings: FitSettings, rule: PromotionRule | None
) -> Candidate | Declined:
    blocked, method = rows.folds(settings, Walk.BLOCKED), settings.ensemble
    known = _out_of_fold(rows, schema, blocked, seed, settings, method)
    raw = _together(known, rows, blocked, settings, method)
    # Timeouts get an answer as well, but who was right is known of decisive outcomes only.
    answered = np.isfinite(raw) & rows.decisive
    if not answered.any():
        return Declined(Decline.UNMEASURED, "no fold keeps enough of each class once overlapping labels are removed")
    served, calibrator = _calibrated(raw, rows, blocked, settings, settings.calibration)
    metrics, raw_metrics = measure(served[answered], rows.won[answered]), _judged(raw, rows, settings)
    # The evidence judges by it; the specified rule does not, and then its price is paid for a candidate only.
    ahead_of_rule = method is Method.EVIDENCE
    standing = _standing(rows, schema, seed, settings, method, known, blocked) if ahead_of_rule else None
    # The heads are judged before calibration. At 100 records a cross-fitted isotonic map costs more log-loss than an
    # AUC of 0.7 earns: judged after it, nearly every model with an edge was declined (measured in simulation).
    declined = _rule(rule, standing)(raw_metrics)
    if declined is not None:
        stood = None if standing is None else standing.record
        return replace(declined, importance=known.importance, ensemble=stood)
    standing = standing or _standing(rows, schema, seed, settings, method, known, blocked)
    final = _trained(
        rows,
        schema,
        np.arange(len(rows.won)),
        seed_for(seed, "final"),
        settings,
        method,
        with_network=_with_network(rows.n_decisive, settings, method),
    )
    ensemble = compiled(final.members, final.encoding.width, standing.stack)
    assert_agreement(ensemble, final.members, final.matrix)
    if float(np.ptp(ensemble.win_probabilities(final.matrix))) <= 1e-9:
        return Declined(Decline.CONSTANT, "the heads say the same about every record", metrics, known.importance)
    pool, neighbours_metrics = _neighbours(rows, schema, final, settings)
    other, other_calibrator = _calibrated(raw, rows, blocked, settings, settings.calibration.other)
    first, last, told = rows.examples[0], rows.examples[-1], np.flatnonzero(answered)
    return Candidate(
        strategy=first.strategy,
        schema=schema,
        encoding=final.encoding,
        ensemble=ensemble,
        calibrator=calibrator,
        golden=_golden(final, standing.stack),
        records=_records(rows, blocked, raw, served),
        metrics=metrics,
        raw_metrics=raw_metrics,
        other_metrics=None if other_calibrator is None else measure(other[answered], rows.won[answered]),
        walk_forward=standing.walk_forward,
        importance=final.importance,
        data_hash=data_hash(rows.examples),
        n=int(rows.decisive.sum()),
        wins=int(rows.won.sum()),
        first_ms=min(example.entry_ms for example in rows.examples),
        last_ms=last.exit_ms,
        seed=seed,
        settings=settings,
        network_converged=final.members.network_converged,
        versions=_versions(),
        standing=standing,
        twin=_twin(rows, schema, seed, settings, blocked) if settings.beside else None,
        timeouts=int((~rows.decisive).sum()),
        n_eff=effective_size(rows.weight),
        neighbours=pool,
        neighbours_metrics=neighbours_metrics,
        reliability=reliability(served[answered], rows.won[answered]),
        other_reliability=None if other_calibrator is None else reliability(other[answered], rows.won[answered]),
        ladder=None if calibrator is None else choose(raw[answered], rows.won[answered], rows.lives.at(told)),
        venn_abers=None if calibrator is None else fit_venn_abers(raw[answered], rows.won[answered]),
    )


def _rule(given: PromotionRule | None, standing: Standing | None) -> PromotionRule:
    if given is not None:
        return given
    return promote if standing is None else SkillGate(standing.skill)


def _with_network(n_rows: int, settings: FitSettings, method: Method) -> bool:
    """Whether a network takes part: by the size of the whole, so that fold heads have the members of the final model.

    In a stack it does once the rows of a blocked fold suffice, because its weight is learned from such folds.
    """
    if method is Method.SPEC:
        return n_rows >= settings.network_from
    return n_rows * (settings.n_blocks - 1) >= settings.stacked_network_from * settings.n_blocks


def _trained(
    rows: _Rows,
    schema: Schema,
    train: npt.NDArray[np.int64],
    seed: int,
    settings: FitSettings,
    method: Method,
    *,
    with_network: bool,
) -> _Fitted:
    # Medians and levels belong to the training rows as well: learned on all, they would carry the test block in.
    vectors = [rows.vectors[place] for place in train.tolist()]
    encoding = Encoding.fit(schema, vectors)
    refuse(unknown_columns(encoding.sources, schema))
    matrix, told = encoding.matrix(vectors), rows.taught(train, settings.labels)
    design = matrix[told.place]
    if method is Method.SPEC:
        heads = fit_members(
            design, told.won, told.weight, settings=settings.heads, with_network=with_network, seed=seed
        )
    else:
        learner = RegularisedHeads(settings.heads, with_network=with_network, seed=seed)
        heads = learner.fit(design, told.won, told.weight).members_
    return _Fitted(encoding, heads, matrix)


def _out_of_fold(
    rows: _Rows,
    schema: Schema,
    split: Sequence[Fold],
    seed: int,
    settings: FitSettings,
    method: Method,
    *,
    walk: Walk = Walk.BLOCKED,
) -> _Answers:
    with_network = _with_network(rows.n_decisive, settings, method)
    names = members_of(method, with_network=with_network)
    said, base = np.full((len(rows.won), len(names)), np.nan), np.full(len(rows.won), np.nan)
    told: list[dict[str, float]] = []
    for fold in split:
        if rows.few(fold.train, settings.min_class):
            continue
        # A walk begins with few rows. On those a stack's network would say what it never would in service.
        too_early = method is Method.EVIDENCE and walk is Walk.EXPANDING
        joins = with_network and not (too_early and len(fold.train) < settings.stacked_network_from)
        seed_of_fold = seed_for(seed, "block", fold.block)
        head = _trained(rows, schema, fold.train, seed_of_fold, settings, method, with_network=joins)
        test = head.encoding.matrix([rows.vectors[place] for place in fold.test.tolist()])
        answers = head.members.probabilities(test)
        if joins != with_network:
            # A head that is not there says what the others say on average: it moves neither pool nor weights.
            answers = np.insert(answers, names.index("network"), answers.mean(axis=1), axis=1)
        said[fold.test] = answers
        base[fold.test] = rows.won[fold.train].sum() / rows.decisive[fold.train].sum()
        told.append(head.importance)
    importance = {name: sum(one[name] for one in told) / len(told) for name in told[0]} if told else None
    return _Answers(said, base, names, importance)


def _together(
    answers: _Answers, rows: _Rows, split: Sequence[Fold], settings: FitSettings, method: Method
) -> FloatArray:
    """One forecast for each row, shape (n,), by weights that other blocks gave; NaN where there is none."""
    if method is Method.SPEC:
        return np.asarray(answers.said.mean(axis=1), dtype=np.float64)
    return cross_stacked(
        answers.said,
        rows.won,
        split,
        independent=rows.independent_share,
        min_class=settings.min_class,
        decisive=rows.decisive,
    )


def _standing(
    rows: _Rows,
    schema: Schema,
    seed: int,
    settings: FitSettings,
    method: Method,
    known: _Answers,
    blocked: Sequence[Fold],
) -> Standing:
    raw, answered, stack = _together(known, rows, blocked, settings, method), known.answered & rows.decisive, None
    if method is Method.EVIDENCE:
        stacking = Stacking().fit(known.said[answered], rows.won[answered], independent=rows.independent_share)
        stack = stacking.stack_
    walk_forward, skill = _ahead(rows, schema, seed, settings, method, known, blocked)
    return Standing(
        method=method,
        blocked=_judged(raw, rows, settings),
        members={name: _judged(known.said[:, place], rows, settings) for place, name in enumerate(known.members)},
        walk_forward=walk_forward,
        skill=skill,
        stack=stack,
    )


def _twin(rows: _Rows, schema: Schema, seed: int, settings: FitSettings, blocked: Sequence[Fold]) -> Standing | None:
    """How the method not in force stands. Its final heads are not fitted: nobody would ask them."""
    other = settings.ensemble.other
    known = _out_of_fold(rows, schema, blocked, seed, settings, other)
    if not (np.isfinite(_together(known, rows, blocked, settings, other)) & rows.decisive).any():
        return None
    return _standing(rows, schema, seed, settings, other, known, blocked)


def _calibrated(
    raw: FloatArray, rows: _Rows, split: Sequence[Fold], settings: FitSettings, method: Method
) -> tuple[FloatArray, Calibrator | None]:
    won = rows.won
    answered = np.isfinite(raw) & rows.decisive
    fit = fit_for(method)
    if int(answered.sum()) < settings.calibrate_from:
        return raw, None
    lives = rows.lives
    cross = cross_calibrated(raw, won, split, fit, min_class=settings.min_class, lives=lives, decisive=rows.decisive)
    # A calibrator whose effect cannot be measured on rows it has not seen is not served.
    return (
        (raw, None) if cross is None else (cross, fit(raw[answered], won[answered], lives.at(np.flatnonzero(answered))))
    )


def _judged(raw: FloatArray, rows: _Rows, settings: FitSettings) -> Metrics:
    """The heads before calibration, on decisive outcomes."""
    answered = np.isfinite(raw) & rows.decisive
    said, won = raw[answered], rows.won[answered]
    # Heads that were told of more than wins and losses speak of another base rate. What they are judged by is how
    # they tell decisive outcomes apart, so their log-odds are moved onto that of these first, all by the same step.
    if settings.labels is Method.EVIDENCE or not rows.decisive.all():
        said = centred(said, float(np.mean(won)))
    return measure(said, won)


def _ahead(
    rows: _Rows,
    schema: Schema,
    seed: int,
    settings: FitSettings,
    method: Method,
    known: _Answers,
    blocked: Sequence[Fold],
) -> tuple[Metrics | None, Skill | None]:
    """Figures of heads, and of weights, that knew earlier blocks only."""
    split = rows.folds(settings, Walk.EXPANDING)
    # The last block has nothing after it: its heads are the same in both walks and need no second training.
    same = [len(fold.train) == len(twin.train) for fold, twin in zip(split, blocked, strict=True)]
    unknown = [fold for fold, twin in zip(split, same, strict=True) if not twin]
    ahead = _out_of_fold(rows, schema, unknown, seed, settings, method, walk=Walk.EXPANDING)
    for fold, twin in zip(split, same, strict=True):
        if twin:
            ahead.said[fold.test], ahead.base[fold.test] = known.said[fold.test], known.base[fold.test]
    raw = _together(ahead, rows, split, settings, method)
    asked = np.flatnonzero(np.isfinite(raw) & rows.decisive)
    if len(asked) == 0:
        return None, None
    lived = [rows.examples[place] for place in asked.tolist()]
    # Not moved onto the base rate of these outcomes, which nobody knew then: skill is what was earned on the way.
    skill = brier_skill(
        raw[asked],
        ahead.base[asked],
        rows.won[asked],
        entry_ms=np.array([one.entry_ms for one in lived], dtype=np.int64),
        exit_ms=np.array([one.exit_ms for one in lived], dtype=np.int64),
        symbol=tuple(one.symbol for one in lived),
    )
    return _judged(raw, rows, settings), skill


def _neighbours(
    rows: _Rows, schema: Schema, final: _Fitted, settings: FitSettings
) -> tuple[Pool | None, RetrievalFigures | None]:
    """Past signals to compare with, in the design of the final heads, and how good they were walking forward."""
    if settings.neighbours == 0:
        return None, None
    examples = rows.examples
    past = Past(
        matrix=final.matrix,
        ending=endings([one.won for one in examples], [one.decisive for one in examples]),
        net_r=np.array([one.net_r for one in examples], dtype=np.float64),
        entry_ms=np.array([one.entry_ms for one in examples], dtype=np.int64),
        exit_ms=np.array([one.exit_ms for one in examples], dtype=np.int64),
        ids=tuple(one.id for one in examples),
        dummies=dummies_of(final.encoding.columns),
    )

    def design(train: npt.NDArray[np.int64]) -> tuple[FloatArray, BoolArray]:
        known = Encoding.fit(schema, [rows.vectors[place] for place in train.tolist()])
        return known.matrix(rows.vectors), dummies_of(known.columns)

    search = NeighbourSearch(k=settings.neighbours)
    return search.fit(past).pool_, evaluate(past, search, n_blocks=settings.n_blocks, design=design)


def _golden(final: _Fitted, stack: Stack | None) -> Golden:
    picked = np.unique(np.linspace(0, len(final.matrix) - 1, GOLDEN_ROWS).astype(np.int64))
    chosen = np.ascontiguousarray(final.matrix[picked])
    said = final.members.probabilities(chosen)
    return Golden(chosen, said.mean(axis=1) if stack is None else stack.pooled(said.T))


def _records(rows: _Rows, split: Sequence[Fold], raw: FloatArray, served: FloatArray) -> tuple[PastRecord, ...]:
    return tuple(
        PastRecord(
            id=example.id,
            bucket=example.bucket,
            block=fold.block,
            entry_ms=example.entry_ms,
            exit_ms=example.exit_ms,
            raw_probability=float(raw[place]),
            score=round(float(served[place]) * 100.0, SCORE_DIGITS),
            heuristic_score=example.heuristic_score,
            recorded_score=example.score,
            recorded_source=example.score_source,
            won=example.won,
            net_r=example.net_r,
            decisive=example.decisive,
            weight=float(rows.record_weight[place]),
        )
        for fold in split
        for place in fold.test.tolist()
        if np.isfinite(raw[place])
        for example in (rows.examples[place],)
    )


def _record(found: Reliability | None) -> dict[str, Any] | None:
    return None if found is None else found.record


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "scikit-learn": sklearn.__version__,
    }
