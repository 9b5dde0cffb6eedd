"""Every look with its doubts beside it, and how far it has come: hunch, discovered, confirmed, live."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from gates.adjusted import Effect, adjusted_effect, design_of
from gates.bits import Kernel, Packed, count_words
from gates.combinations import ENOUGH, TOP, Counted, counted, trend
from gates.days import DayResampler, MeanR
from gates.discovery import LEVEL, SHIFTS, SMALLEST_CELL, MaxT, Pipeline, TimeOrdered, max_t
from gates.evaluate import Quantiles, Verdicts, evaluate
from gates.intervals import ExactTest, Interaction, Interval, fisher, interaction, newcombe, shrunk, wilson, z_of
from gates.variables import ORIGINAL, Variable, nested

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

EARLIER: Final = 0.6
"""Share of the signals, by time, on which discoveries are made; the rest is kept to confirm them."""
SEPARATED: Final = 20
"""Signals from which on a perfect separation is a leak rather than luck."""
DAY_MS: Final = 86_400_000


class Standing(StrEnum):
    """How far a gate has come, each step on evidence the one before had not seen."""

    NOTHING = "nothing"
    HUNCH = "hunch"
    """The founding report's rule says so: one of thousands of looks."""
    DISCOVERED = "discovered"
    """Corrected for every look of the whole pipeline, on the earlier part."""
    CONFIRMED = "confirmed"
    """Tested anew on later signals that the search never saw, corrected for the number of discoveries."""
    LIVE = "live"
    """In force, and its results since then alone would convince who doubted."""


class Verdict(StrEnum):
    """What keeps a report from recommending anything; stable codes."""

    OK = "OK"
    NO_TRADES = "GATES_NO_TRADES"
    ONE_CLASS = "GATES_ONE_CLASS"
    TOO_FEW = "GATES_TOO_FEW"
    TOO_SHORT = "GATES_TOO_SHORT"
    """The signals span too little time to shift outcomes by a day."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GateTrades:
    """Decided signals in the order of time.

    ``columns``: features by name, (n,), in the trade's direction, NaN where missing; ``won``: bool (n,); ``net_r``:
    (n,), in R after costs; ``at_ms``: int64 (n,), moment of the signal, UTC epoch ms, not descending; ``score``: (n,),
    in [0, 100], NaN where none; ``bucket``: int64 (n,), any codes.

    Raises
    ------
    ValueError : if shapes differ, time runs backwards or a result is not finite
    """

    columns: Mapping[str, FloatArray]
    won: BoolArray
    net_r: FloatArray
    at_ms: IntArray
    score: FloatArray
    bucket: IntArray

    def __post_init__(self) -> None:
        shape = self.won.shape
        if len(shape) != 1 or any(
            column.shape != shape
            for column in (self.net_r, self.at_ms, self.score, self.bucket, *self.columns.values())
        ):
            raise ValueError("one value of each kind for each signal")
        if bool(np.any(np.diff(self.at_ms) < 0)):
            raise ValueError("signals come in the order of time")
        if not bool(np.all(np.isfinite(self.net_r))):
            raise ValueError("results are finite")

    def __len__(self) -> int:
        """Decided signals."""
        return len(self.won)

    def part(self, places: slice) -> GateTrades:
        """The signals of a stretch of time."""
        return GateTrades(
            columns={name: column[places] for name, column in self.columns.items()},
            won=self.won[places],
            net_r=self.net_r[places],
            at_ms=self.at_ms[places],
            score=self.score[places],
            bucket=self.bucket[places],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One look, with every doubt beside it. Rates in [0, 1], results in R, p-values in (0, 1].

    The counts, rates and results are those of all signals of the report; ``p_corrected`` is that of the earlier part,
    NaN where a cell was too small to be looked at there, and ``p_later`` that of the later part, corrected by Holm over
    the discoveries, NaN for what was not discovered. ``shrunk_delta`` is what is left of the delta after the noise of
    all solos (or all combinations of one size) is taken out of their spread.
    """

    members: tuple[str, ...]
    n: int
    wins: int
    failing: int
    failing_wins: int
    missing: int
    win_rate_interval: Interval
    delta_interval: Interval
    exact: ExactTest | None
    p_corrected: float
    p_later: float
    shrunk_delta: float
    shrunk_interval: Interval
    result: MeanR
    adjusted: Effect
    expected: float | None = None
    synergy: float | None = None
    nested: bool = False
    interaction: Interaction | None = None
    p_interaction: float = math.nan
    leak_suspect: bool = False
    standing: Standing = Standing.NOTHING

    @property
    def win_rate(self) -> float:
        """Of the signals that pass."""
        return self.wins / self.n if self.n > 0 else math.nan

    @property
    def delta(self) -> float:
        """Win rate passing minus failing."""
        return self.win_rate - self.failing_wins / self.failing if self.failing > 0 else math.nan

    @property
    def true_synergy(self) -> bool:
        """Whether both interaction intervals exclude 0 after correction for all interactions looked at."""
        return self.p_interaction < LEVEL and self.interaction is not None and self._both_exclude_zero

    @property
    def _both_exclude_zero(self) -> bool:
        found, z = self.interaction, z_of(0.95)
        return found is not None and abs(found.log_odds_z) > z and abs(found.additive_z) > z

    @property
    def honest(self) -> bool:
        """Whether it may go into a set of hard gates: discovered or better, and its signals made money after costs."""
        found = self.standing in (Standing.DISCOVERED, Standing.CONFIRMED, Standing.LIVE)
        return found and not self.leak_suspect and self.result.interval.low > 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """The monthly deltas of one variable, oldest first, NaN where a month had too little, and where they point."""

    name: str
    months: tuple[str, ...]
    deltas: tuple[float, ...]
    n: tuple[int, ...]

    @property
    def trend(self) -> str:
        """``improving``, ``degrading``, ``stable`` or ``unknown``."""
        return trend(self.deltas)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport:
    """Everything one report says. ``split_ms`` is where the later part begins, none when there was no search.

    ``searched`` is the null distribution and the corrected looks of the earlier part.
    """

    verdict: Verdict
    n: int
    wins: int
    first_ms: int
    last_ms: int
    split_ms: int | None
    counted: Counted
    solos: tuple[Row, ...]
    combinations: tuple[Row, ...]
    months: tuple[Month, ...]
    quantiles: Quantiles
    searched: MaxT | None = field(default=None, compare=False)

    @property
    def rows(self) -> tuple[Row, ...]:
        """Every look."""
        return (*self.solos, *self.combinations)

    @property
    def discovered(self) -> tuple[Row, ...]:
        """What was discovered, confirmed or not."""
        return tuple(row for row in self.rows if row.standing in (Standing.DISCOVERED, Standing.CONFIRMED))

    @property
    def honest(self) -> tuple[Row, ...]:
        """What may become hard gates."""
        return tuple(row for row in self.rows if row.honest)

    @property
    def leaks(self) -> tuple[Row, ...]:
        """What separates wins from losses too well to be known beforehand."""
        return tuple(row for row in self.rows if row.leak_suspect)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSettings:
    """How a report searches: variables combined, resamples, the share of time that is searched."""

    top: int | None = TOP
    shifts: int = SHIFTS
    earlier: float = EARLIER
    seed: int = 1

    def __post_init__(self) -> None:
        if not (0.0 < self.earlier <= 1.0 and self.shifts >= 0 and (self.top is None or self.top >= 1)):
            raise ValueError("a share of the time in (0, 1], shifts and a number of variables")


def gate_report(
    trades: GateTrades,
    variables: Sequence[Variable],
    quantiles: Quantiles,
    *,
    settings: ReportSettings | None = None,
    original: Sequence[str] = ORIGINAL,
    kernel: Kernel = count_words,
) -> GateReport:
    """Analyse decided signals.

    Parameters
    ----------
    trades : GateTrades
    variables : sequence of Variable
    quantiles : where quantiles stand, learned on signals before these
    settings : ReportSettings
    original : variables whose states are listed
    kernel : which implementation counts

    Returns
    -------
    GateReport; hostile input gives a verdict and no recommendation, never an exception

    Source: SPEC 11; STATISTICS 3.
    """
    settings = ReportSettings() if settings is None else settings
    verdicts = verdicts_of(trades, variables, quantiles)
    seen = counted(Packed.of(verdicts, trades.won), variables, original=original, top=settings.top, kernel=kernel)
    search = _Search(trades, variables, verdicts, settings)
    looks = _Looks(trades, verdicts, seen, search)
    solos = looks.solos()
    return GateReport(
        verdict=search.verdict,
        n=len(trades),
        wins=int(np.count_nonzero(trades.won)),
        first_ms=int(trades.at_ms[0]) if len(trades) else 0,
        last_ms=int(trades.at_ms[-1]) if len(trades) else 0,
        split_ms=search.split_ms,
        counted=seen,
        solos=solos,
        combinations=looks.combinations(),
        months=_months(trades, verdicts),
        quantiles=dict(quantiles),
        searched=search.found,
    )


def verdicts_of(trades: GateTrades, variables: Sequence[Variable], quantiles: Quantiles) -> Verdicts:
    """What each variable says of each signal, also of none and of signals without any feature.

    Parameters
    ----------
    trades : GateTrades
    variables : sequence of Variable
    quantiles : as in ``evaluate``

    Returns
    -------
    Verdicts of shape (n_variables, n)
    """
    if len(trades) > 0 and trades.columns:
        return evaluate(variables, trades.columns, quantiles)
    unknown = np.zeros((len(variables), len(trades)), dtype=np.bool_)
    return Verdicts(tuple(variable.name for variable in variables), unknown, unknown)


class _Search:
    """Discovery on the earlier part, confirmation on the later one."""

    def __init__(
        self, trades: GateTrades, variables: Sequence[Variable], verdicts: Verdicts, settings: ReportSettings
    ) -> None:
        self.names = verdicts.names
        self.at = round(len(trades) * settings.earlier)
        self.verdict = _verdict(trades, self.at)
        self.found: MaxT | None = None
        self.split_ms: int | None = None
        self._p: dict[tuple[str, ...], float] = {}
        self._later: dict[tuple[str, ...], float] = {}
        self._together: dict[tuple[str, ...], float] = {}
        if self.verdict is not Verdict.OK:
            return
        rng = np.random.default_rng(settings.seed)
        early = slice(0, self.at)
        part = Verdicts(self.names, verdicts.passed[:, early], verdicts.known[:, early])
        inside = np.array([[nested(one, other) for other in variables] for one in variables], dtype=np.bool_)
        ordered = TimeOrdered.of(part, trades.won[early], trades.at_ms[early])
        pipeline = Pipeline(ordered, top=settings.top, nested=inside)
        self.found = max_t(pipeline, rng=rng, shifts=settings.shifts)
        if self.found.floor >= LEVEL:
            self.verdict = Verdict.TOO_SHORT
            return
        self.split_ms = int(trades.at_ms[self.at]) if self.at < len(trades) else None
        told = zip(
            self.found.looked.members.tolist(), self.found.p.tolist(), self.found.p_together.tolist(), strict=True
        )
        for members, p, together in told:
            self._p[self._named(members)], self._together[self._named(members)] = p, together
        self._confirm(trades, verdicts)

    def _named(self, members: Sequence[int]) -> tuple[str, ...]:
        return tuple(self.names[place] for place in members if place >= 0)

    def p(self, members: tuple[str, ...]) -> float:
        """Corrected p on the earlier part; NaN for what was not looked at there."""
        return self._p.get(members, math.nan)

    def together(self, members: tuple[str, ...]) -> float:
        """Corrected p of the interaction on the earlier part; NaN for what was not looked at there."""
        return self._together.get(members, math.nan)

    def later(self, members: tuple[str, ...]) -> float:
        """Holm-corrected p on the later part; NaN for what was not discovered."""
        return self._later.get(members, math.nan)

    def _confirm(self, trades: GateTrades, verdicts: Verdicts) -> None:
        """A one-sided exact test of each discovery on the signals the search never saw, corrected by Holm."""
        place = {name: number for number, name in enumerate(self.names)}
        found: list[tuple[float, tuple[str, ...]]] = []
        for members, p in self._p.items():
            if not p < LEVEL:
                continue
            chosen = [place[name] for name in members]
            passed = verdicts.passed[chosen, self.at :].all(axis=0)
            failing = verdicts.known[chosen, self.at :].all(axis=0) & ~passed
            won = trades.won[self.at :]
            counts = (int((passed & won).sum()), int(passed.sum()), int((failing & won).sum()), int(failing.sum()))
            found.append((_one_sided(*counts), members))
        worst = 0.0
        for rank, (p, members) in enumerate(sorted(found)):
            worst = max(worst, min(1.0, p * (len(found) - rank)))
            self._later[members] = worst


def _verdict(trades: GateTrades, at: int) -> Verdict:
    if len(trades) == 0:
        return Verdict.NO_TRADES
    if bool(trades.won.all()) or not bool(trades.won.any()):
        return Verdict.ONE_CLASS
    if at < 2 * ENOUGH:
        return Verdict.TOO_FEW
    return Verdict.OK


def _one_sided(wins: int, n: int, other_wins: int, other_n: int) -> float:
    """Chance of at least so many wins among those that pass, were it all one rate: exact."""
    if n == 0 or other_n == 0:
        return 1.0
    total, everyone = wins + other_wins, n + other_n
    scale = _log_choose(everyone, total)
    told = (
        math.exp(_log_choose(n, k) + _log_choose(other_n, total - k) - scale)
        for k in range(wins, min(n, total) + 1)
        if total - k <= other_n
    )
    return min(1.0, math.fsum(told))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


class _Looks:
    """Rows of a report."""

    def __init__(self, trades: GateTrades, verdicts: Verdicts, seen: Counted, search: _Search) -> None:
        self._trades, self._verdicts, self._seen, self._search = trades, verdicts, seen, search
        self._place = {name: number for number, name in enumerate(verdicts.names)}
        rng = np.random.default_rng([search.at, 1])
        self._results = DayResampler(trades.at_ms // DAY_MS, trades.net_r, rng=rng)
        self._held = design_of(trades.score, trades.bucket)
        self._leaking: frozenset[str] = frozenset()

    def solos(self) -> tuple[Row, ...]:
        """One row for each variable."""
        rows = [self._row((solo.name,)) for solo in self._seen.solos]
        self._leaking = frozenset(row.members[0] for row in rows if row.leak_suspect)
        return _with_shrunk(rows)

    def combinations(self) -> tuple[Row, ...]:
        """One row for each pair and triplet that was combined."""
        rows = [
            self._row(item.members, expected=item.expected, synergy=item.synergy, inside=item.nested)
            for item in self._seen.combinations
        ]
        pairs = _with_shrunk([row for row in rows if len(row.members) == 2])
        return (*pairs, *_with_shrunk([row for row in rows if len(row.members) == 3]))

    def _row(
        self,
        members: tuple[str, ...],
        *,
        expected: float | None = None,
        synergy: float | None = None,
        inside: bool = False,
    ) -> Row:
        chosen = [self._place[name] for name in members]
        passed = np.asarray(self._verdicts.passed[chosen].all(axis=0))
        known = np.asarray(self._verdicts.known[chosen].all(axis=0))
        failing, won = known & ~passed, self._trades.won
        n, wins = int(passed.sum()), int((passed & won).sum())
        others, other_wins = int(failing.sum()), int((failing & won).sum())
        p, later = self._search.p(members), self._search.later(members)
        separated = (wins, other_wins) in ((n, 0), (0, others))
        # A combination with a leak in it knows the outcome as well, whatever its other members dilute.
        leak = (separated and min(n, others) > 0 and n + others >= SEPARATED) or not self._leaking.isdisjoint(members)
        return Row(
            members=members,
            n=n,
            wins=wins,
            failing=others,
            failing_wins=other_wins,
            missing=len(self._trades) - n - others,
            win_rate_interval=wilson(wins, n),
            delta_interval=newcombe(wins, n, other_wins, others),
            exact=fisher(wins, n, other_wins, others) if min(n, others) > 0 else None,
            p_corrected=p,
            p_later=later,
            shrunk_delta=math.nan,
            shrunk_interval=Interval(math.nan, math.nan),
            result=self._results.of(passed, known),
            adjusted=adjusted_effect(passed[known], won[known], self._held[known]),
            expected=expected,
            synergy=synergy,
            nested=inside,
            interaction=None if len(members) == 1 or inside else self._interaction(chosen),
            p_interaction=self._search.together(members),
            leak_suspect=leak,
            standing=_standing(p, later, hunch=self._is_hunch(members), leak=leak),
        )

    def _is_hunch(self, members: tuple[str, ...]) -> bool:
        found = self._seen.hunches
        return members == found.best or (len(members) == 1 and members[0] in found.enable)

    def _interaction(self, chosen: Sequence[int]) -> Interaction | None:
        passed, known = self._verdicts.passed[chosen], self._verdicts.known[chosen].all(axis=0)
        code = np.zeros(passed.shape[1], dtype=np.int64)
        for row in passed:
            code = 2 * code + row
        shape = (2,) * len(chosen)
        n = np.bincount(code[known], minlength=2 ** len(chosen)).reshape(shape)
        if int(n.min()) < SMALLEST_CELL:
            return None
        wins = np.bincount(code[known & self._trades.won], minlength=2 ** len(chosen)).reshape(shape)
        return interaction(wins, n)


def _standing(p: float, later: float, *, hunch: bool, leak: bool) -> Standing:
    if leak:
        return Standing.NOTHING
    if p < LEVEL:
        return Standing.CONFIRMED if later < LEVEL else Standing.DISCOVERED
    return Standing.HUNCH if hunch else Standing.NOTHING


def _with_shrunk(rows: Sequence[Row]) -> tuple[Row, ...]:
    z = z_of(0.95)
    delta = np.array([row.delta for row in rows], dtype=np.float64)
    se = np.array([(row.delta_interval.high - row.delta_interval.low) / (2.0 * z) for row in rows], dtype=np.float64)
    smaller, less = shrunk(delta, se)
    return tuple(
        replace(row, shrunk_delta=value, shrunk_interval=Interval(value - z * error, value + z * error))
        for row, value, error in zip(rows, smaller.tolist(), less.tolist(), strict=True)
    )


def _months(trades: GateTrades, verdicts: Verdicts) -> tuple[Month, ...]:
    """Delta of every variable in every UTC month; NaN unless both sides have twenty signals."""
    month = trades.at_ms.astype("datetime64[ms]").astype("datetime64[M]")
    names = np.unique(month)
    found = []
    for place, name in enumerate(verdicts.names):
        deltas, sizes = [], []
        for one in names:
            there = month == one
            passed, known = verdicts.passed[place] & there, verdicts.known[place] & there
            failing = known & ~passed
            n, others = int(passed.sum()), int(failing.sum())
            sizes.append(n)
            if min(n, others) < ENOUGH:
                deltas.append(math.nan)
                continue
            deltas.append(int((passed & trades.won).sum()) / n - int((failing & trades.won).sum()) / others)
        found.append(Month(name=name, months=tuple(map(str, names)), deltas=tuple(deltas), n=tuple(sizes)))
    return tuple(found)
