"""Which gates the record, or a replay, speaks for: decided signals of a window to a report with every doubt."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gates.combinations import ENOUGH, HUNCH_DELTA, HUNCH_N, HUNCH_WIN_RATE
from gates.days import DayResampler, MeanR
from gates.discovery import DAY_MS, shift_sizes
from gates.evaluate import columns_of, learn_quantiles
from gates.report import GateReport, GateTrades, ReportSettings, Row, gate_report, verdicts_of
from gates.variables import VARIABLES, Comparison, Variable
from lab.whatif_case import Case, Cases
from persistence.store import Fact
from signals.errors import Permanent
from signals.profile import Kind
from signals.signal import FeatureValue

VERDICT_BPS: Final = 10.0
"""Round trip at which every result is told a second time, whatever the profile's own costs are."""
ENOUGH_EARLIER: Final = 100
"""Signals before the window from which on its quantiles are learned instead of assumed."""
LUCKY_SHIFTS: Final = 400

BoolArray = NDArray[np.bool_]


class Chosen(StrEnum):
    """Whose outcomes are read. Phantoms by default: only they say what refusing was worth."""

    PHANTOM = "phantom"
    EXECUTED = "executed"
    ALL = "all"

    def takes(self, kind: Kind) -> bool:
        """Whether positions of a kind are read."""
        return self is Chosen.ALL or kind.value == self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Signals from ``from_ms`` on and before ``to_ms``, UTC epoch ms; ``words`` is how it was asked for."""

    words: str
    from_ms: int = 0
    to_ms: int

    @classmethod
    def everything(cls, now_ms: int) -> Window:
        """All signals up to a moment."""
        return cls(words="everything recorded", to_ms=now_ms)

    @classmethod
    def days(cls, days: int, now_ms: int) -> Window:
        """The last so many days before a moment."""
        return cls(words=f"the last {days} days", from_ms=max(0, now_ms - days * DAY_MS), to_ms=now_ms)

    @classmethod
    def month(cls, word: str) -> Window:
        """A UTC month like ``2024-06``."""
        try:
            first = datetime.strptime(word, "%Y-%m").replace(tzinfo=UTC)
        except ValueError:
            raise Permanent(f"{word!r} is no month like 2024-06") from None
        after = (first + timedelta(days=31)).replace(day=1)
        return cls(words=f"the month {first:%Y-%m}", from_ms=_ms(first), to_ms=_ms(after))


@dataclass(frozen=True, slots=True)
class Slot:
    """A UTC day (``2024-06-30``) or an ISO week (``2024-W26``) that has one report: the days before it begins.

    What ended before it began is known from its first moment on, so the same slot gives the same report whenever it
    is asked for.
    """

    word: str
    begins_ms: int

    @classmethod
    def parse(cls, word: str) -> Slot:
        """Read a slot's word; raises for anything else."""
        try:
            if len(word) == 8 and word[4:6] == "-W" and word.isascii():
                begins = datetime.fromisocalendar(int(word[:4]), int(word[6:]), 1)
            elif len(word) == 10:
                begins = datetime.strptime(word, "%Y-%m-%d")  # noqa: DTZ007 - made UTC below
            else:
                raise ValueError(word)
        except ValueError:
            raise Permanent(f"{word!r} is no day like 2024-06-30 and no week like 2024-W26") from None
        found = cls(word, _ms(begins.replace(tzinfo=UTC)))
        # A day has one name: what is read loosely would have two reports.
        if word not in (f"{begins:%Y-%m-%d}", f"{begins:%G-W%V}"):
            raise Permanent(f"{word!r} is no day like 2024-06-30 and no week like 2024-W26")
        return found

    def window(self, days: int) -> Window:
        """The days before it begins."""
        told = Window.days(days, self.begins_ms)
        return Window(words=f"{days} days before {self.word}", from_ms=told.from_ms, to_ms=told.to_ms)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Signals of the window that are not in the report, and why: none of it is chosen by how it came out."""

    not_asked_for: int
    """Executed ones where phantoms are read, and the other way round."""
    undecided: int
    """Timeouts and what never filled: no barrier decided them."""
    unsettled: int
    """So young that signals like them are still open: the ended ones among them are the fast ones only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What a report is made of. ``earlier`` counts the signals before the window that the quantiles were learned on."""

    trades: GateTrades
    net_r_at_10_bp: NDArray[np.float64]
    quantiles: Mapping[tuple[str, float], float]
    earlier: int
    left: Left


@dataclass(frozen=True, slots=True, kw_only=True)
class Luck:
    """How many variables the founding rule enables, and how many it does where nothing can be true.

    ``expected`` is the mean over outcomes that were shifted in time, ``low`` and ``high`` hold nineteen of twenty of
    them; NaN where the signals span too little time to shift.
    """

    found: int
    expected: float
    low: float
    high: float
    shifts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GateAnswer:
    """A report with where it came from. ``at_10_bp`` holds the results of every look at ten basis points."""

    profile: str
    source: str
    window: Window
    chosen: Chosen
    costs_bps: float
    settings: ReportSettings
    variables: tuple[Variable, ...]
    earlier: int
    left: Left
    report: GateReport
    luck: Luck
    at_10_bp: Mapping[tuple[str, ...], MeanR] = field(repr=False)

    @property
    def ranked(self) -> tuple[Row, ...]:
        """The solos, by the lower bound of the shrunk delta, then by the delta; those with too little come last."""
        return tuple(sorted(self.report.solos, key=_rank))

    @property
    def pairs(self) -> tuple[Row, ...]:
        """Pairs in the same order."""
        return self._combined(2)

    @property
    def triplets(self) -> tuple[Row, ...]:
        """Triplets in the same order."""
        return self._combined(3)

    @property
    def silent(self) -> tuple[str, ...]:
        """Variables whose features no signal brought."""
        return tuple(row.members[0] for row in self.report.solos if row.missing == self.report.n > 0)

    @property
    def best(self) -> Row | None:
        """The look with the smallest corrected p."""
        told = [row for row in self.report.rows if row.p_corrected == row.p_corrected]
        return min(told, key=lambda row: (row.p_corrected, -row.delta), default=None)

    def _combined(self, size: int) -> tuple[Row, ...]:
        return tuple(sorted((row for row in self.report.combinations if len(row.members) == size), key=_rank))


def _rank(row: Row) -> tuple[int, float, float]:
    if not math.isfinite(row.shrunk_interval.low) or not math.isfinite(row.delta):
        return 2, 0.0, -row.n
    # A handful of signals is shrunk to almost nothing, which would put it above what was looked at.
    return int(min(row.n, row.failing) < ENOUGH), -row.shrunk_interval.low, -row.delta


def material(
    facts: Iterable[Fact],
    cases: Cases,
    window: Window,
    *,
    profile: str,
    variables: Sequence[Variable] = VARIABLES,
    chosen: Chosen = Chosen.PHANTOM,
    costs_bps: float = 0.0,
    known_until_ms: int,
    settled_after_ms: int = 0,
) -> Material:
    """Lay out the decided signals of a profile and a window in the order of time.

    ``known_until_ms`` is the moment of the report and ``settled_after_ms`` how long a position may stay open: a signal
    counts only when that was over by then, or quick endings would be read before slow ones. Quantiles are those of all
    signals before the window.
    """
    own = (case for case in cases.rows if case.trade.strategy == profile)
    there = [case for case in own if window.from_ms <= case.trade.ts < window.to_ms]
    asked = [case for case in there if chosen.takes(case.trade.kind)]
    settled = [
        case
        for case in asked
        if case.trade.ts + settled_after_ms <= known_until_ms and case.trade.exit_ts <= known_until_ms
    ]
    decided = [case for case in settled if case.trade.decisive]
    earlier = _features_before(facts, profile, window.from_ms)
    quantiles: Mapping[tuple[str, float], float] = {}
    if len(earlier) >= ENOUGH_EARLIER:
        quantiles = learn_quantiles(variables, columns_of(earlier, variables))
    return Material(
        trades=_trades(decided, variables, costs_bps),
        net_r_at_10_bp=_net_r(decided, VERDICT_BPS),
        quantiles=quantiles,
        earlier=len(earlier),
        left=Left(
            not_asked_for=len(there) - len(asked),
            undecided=len(settled) - len(decided),
            unsettled=len(asked) - len(settled),
        ),
    )


def _features_before(facts: Iterable[Fact], profile: str, from_ms: int) -> list[Mapping[str, FeatureValue]]:
    """Features of every signal with a score before a moment, ended or not."""
    found = []
    for fact in facts if from_ms > 0 else ():
        if fact.kind == "decision" and fact.fields.get("strategy") == profile:
            body = json.loads(fact.body)
            if "features" in body and body["ts"] < from_ms:
                found.append(body["features"])
    return found


def _trades(decided: Sequence[Case], variables: Sequence[Variable], costs_bps: float) -> GateTrades:
    buckets = {name: code for code, name in enumerate(sorted({str(case.trade.bucket) for case in decided}))}
    return GateTrades(
        columns=columns_of([case.signal.features for case in decided], variables),
        won=np.array([case.trade.outcome == "win" for case in decided], dtype=np.bool_),
        net_r=_net_r(decided, costs_bps),
        at_ms=np.array([case.trade.ts for case in decided], dtype=np.int64),
        score=np.array([case.trade.score for case in decided], dtype=np.float64),
        bucket=np.array([buckets[str(case.trade.bucket)] for case in decided], dtype=np.int64),
    )


def _net_r(decided: Sequence[Case], costs_bps: float) -> NDArray[np.float64]:
    return np.array([case.trade.net_r(costs_bps) for case in decided], dtype=np.float64)


def answer(
    found: Material,
    window: Window,
    *,
    profile: str,
    source: str,
    chosen: Chosen = Chosen.PHANTOM,
    costs_bps: float = 0.0,
    variables: Sequence[Variable] = VARIABLES,
    settings: ReportSettings | None = None,
) -> GateAnswer:
    """Make the report; hostile material gives one that says so and recommends nothing."""
    settings = ReportSettings() if settings is None else settings
    trades = found.trades
    report = gate_report(trades, variables, found.quantiles, settings=settings)
    verdicts = verdicts_of(trades, variables, found.quantiles)
    place = {name: number for number, name in enumerate(verdicts.names)}
    # The draws of the report itself, so that only the costs differ.
    rng = np.random.default_rng([round(len(trades) * settings.earlier), 1])
    days = DayResampler(trades.at_ms // DAY_MS, found.net_r_at_10_bp, rng=rng)
    at_10_bp: dict[tuple[str, ...], MeanR] = {}
    for row in report.rows:
        members = [place[name] for name in row.members]
        passed = np.asarray(verdicts.passed[members].all(axis=0))
        known = np.asarray(verdicts.known[members].all(axis=0))
        at_10_bp[row.members] = days.of(passed, known)
    return GateAnswer(
        profile=profile,
        source=source,
        window=window,
        chosen=chosen,
        costs_bps=costs_bps,
        settings=settings,
        variables=tuple(variables),
        earlier=found.earlier,
        left=found.left,
        report=report,
        luck=luck_of(verdicts.passed, verdicts.known, trades.won, trades.at_ms, seed=settings.seed),
        at_10_bp=at_10_bp,
    )


def luck_of(
    passed: BoolArray,
    known: BoolArray,
    won: BoolArray,
    at_ms: NDArray[np.int64],
    *,
    seed: int,
    shifts: int = LUCKY_SHIFTS,
) -> Luck:
    """Count what the founding rule enables, and what it enables when the outcomes are shifted in time.

    ``passed`` and ``known`` are of shape (n_variables, n), ``won`` and ``at_ms`` of shape (n,) in the order of time.
    """
    n, failing = passed.sum(axis=1), (known & ~passed).sum(axis=1)
    # One product of matrices for all variables: each shift is one column of outcomes.
    sizes = shift_sizes(at_ms, shifts, np.random.default_rng([seed, 2])).tolist()
    outcomes = np.array([won, *(np.roll(won, size) for size in sizes)], dtype=np.float64).T
    wins, other = passed.astype(np.float64) @ outcomes, (known & ~passed).astype(np.float64) @ outcomes
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = wins / n[:, None]
        enabled = (rate - other / failing[:, None] > HUNCH_DELTA) & (rate >= HUNCH_WIN_RATE) & (n >= HUNCH_N)[:, None]
    counts = enabled.sum(axis=0)
    null = counts[1:]
    low, high = (float("nan"), float("nan")) if len(null) == 0 else np.quantile(null, (0.025, 0.975)).tolist()
    return Luck(
        found=int(counts[0]),
        expected=float(null.mean()) if len(null) > 0 else float("nan"),
        low=low,
        high=high,
        shifts=len(null),
    )


def quantile_words(answer: GateAnswer) -> tuple[tuple[str, float, float, bool], ...]:
    """Each quantile that a variable reads: feature, share, where it stands, and whether it was learned."""
    found = {}
    for variable in answer.variables:
        for condition in variable.conditions:
            if condition.test is Comparison.QUANTILE:
                key = (condition.feature, condition.limit)
                known = answer.report.quantiles.get(key)
                found[key] = (*key, condition.fallback if known is None else known, known is not None)
    return tuple(found.values())


def standings(answer: GateAnswer) -> Counter[str]:
    """How many looks stand where."""
    return Counter(row.standing.value for row in answer.report.rows)
