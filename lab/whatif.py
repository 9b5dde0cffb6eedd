"""What if another gate had stood here? Every policy on the same recorded signals, executed and refused.

>>> from lab.whatif import StaticThreshold, read_facts, what_if
>>> found = what_if(read_facts(facts), [StaticThreshold(65.0)])  # doctest: +SKIP
>>> found.value("threshold 65").verdict.difference.interval  # doctest: +SKIP
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lab.day_blocks import Band, simultaneous_band
from lab.fixed_b import Days
from lab.statistics import BoolArray, FloatArray, Interval
from lab.trade import DAY_MS
from lab.whatif_case import Case, Cases, cases_of
from lab.whatif_nested import Nested, nested_best
from lab.whatif_policy import (
    AlwaysTake,
    Answered,
    Choice,
    Current,
    HeuristicAlone,
    LearnedTable,
    OtherBundle,
    OtherProfile,
    Policy,
    StaticThreshold,
)
from lab.whatif_sequence import Ledger
from lab.whatif_value import Value, value_of
from lab.whatif_wish import Limited
from signals.errors import Permanent

__all__ = [
    "DEFAULT_GRID",
    "AlwaysTake",
    "Answered",
    "Case",
    "Cases",
    "Current",
    "Curve",
    "HeuristicAlone",
    "LearnedTable",
    "OtherBundle",
    "OtherProfile",
    "Policy",
    "StaticThreshold",
    "WhatIf",
    "read_facts",
    "what_if",
]

COSTS_BPS = (0.0, 5.0, 10.0)
VERDICT_BPS = 10.0
DEFAULT_GRID = tuple(float(value) for value in range(0, 100, 5))
SHORT_SPAN_DAYS = 365
"""Less than a year has seen one kind of market."""

read_facts = cases_of


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """Net R per signal over a grid of thresholds, shape ``(n_thresholds,)``, with bounds for the whole curve at once.

    ``difference`` is the same of each threshold minus the current gate.
    """

    thresholds: FloatArray
    accepted: FloatArray
    disagree: FloatArray
    value: Band
    difference: Band
    current: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WhatIf:
    """The answer: the current gate first, then every other policy in the order given.

    ``score_kinds`` counts recorded scores by source: a threshold compares them as one. ``ledger`` is the replay of the
    record by the live code, where facts were at hand; ``limited`` says that limits and breakers were applied.
    """

    cases: Cases
    values: tuple[Value, ...]
    curve: Curve | None
    nested: Nested | None
    ledger: Ledger | None
    limited: bool
    verdict_bps: float
    costs_bps: tuple[float, ...]
    seed: int
    score_kinds: Mapping[str, int]

    @property
    def current(self) -> Value:
        """The gate that stood there."""
        return self.values[0]

    def value(self, name: str) -> Value:
        """One policy's figures; raises ``KeyError`` for a name that was not asked for."""
        for found in self.values:
            if found.name == name:
                return found
        raise KeyError(name)

    @property
    def span_days(self) -> int:
        """UTC days from the first entry to the last, both included."""
        days = self.cases.day
        return int(days.max() - days.min()) + 1 if len(days) > 0 else 0

    @property
    def short_span(self) -> bool:
        """Whether the record is too short to have seen more than one regime."""
        return self.span_days < SHORT_SPAN_DAYS


def what_if(
    cases: Cases,
    policies: Sequence[Policy],
    *,
    grid: Sequence[float] = DEFAULT_GRID,
    costs_bps: Sequence[float] = COSTS_BPS,
    verdict_bps: float = VERDICT_BPS,
    seed: int = 1,
    ledger: Ledger | None = None,
    limits: Mapping[str, Limited] | None = None,
) -> WhatIf:
    """Evaluate policies on recorded signals, each paired with the current gate.

    Parameters
    ----------
    cases : Cases, of one strategy or several
    policies : each with a name of its own; ``Current`` is added in front
    grid : thresholds in [0, 100] of the curve and of the nested search; none draws no curve
    costs_bps : round-trip costs in basis points; ``verdict_bps`` is added to them
    seed : of every resample
    ledger : what replaying the record gave, shown with the answer
    limits : by policy name, which of its signals limits and breakers let through; the current gate among them.
        Policies without an entry are left out: their signals would not have met the limits they compete under.

    Raises
    ------
    Permanent : if there is no case, or two policies share a name
    """
    if len(cases) == 0:
        raise Permanent("the record holds no signal that was decided and has ended")
    costs = tuple(sorted({*costs_bps, verdict_bps}))
    chosen: dict[str, Choice] = {}
    for policy in (Current(), *policies):
        if policy.name in chosen:
            raise Permanent(f"two policies are called {policy.name!r}")
        if limits is None or policy.name in limits:
            chosen[policy.name] = _under(limits, policy, cases)
    current = chosen[Current().name].accepted
    values = [
        value_of(
            name,
            cases,
            choice,
            current,
            costs_bps=costs,
            verdict_bps=verdict_bps,
            rng=_rng(seed, name),
            limited=None if limits is None else limits[name].refused,
        )
        for name, choice in chosen.items()
    ]
    net = cases.net_r(verdict_bps)
    adjusted = _adjusted(cases, list(chosen.values()), current, net, _rng(seed, "all policies"))
    curve, nested = (None, None) if limits is not None else _over(cases, grid, current, net, seed)
    kinds, counts = np.unique(np.array([case.trade.score_source for case in cases.rows]), return_counts=True)
    return WhatIf(
        cases=cases,
        values=tuple(replace(value, adjusted=interval) for value, interval in zip(values, adjusted, strict=True)),
        curve=curve,
        nested=nested,
        ledger=ledger,
        limited=limits is not None,
        verdict_bps=verdict_bps,
        costs_bps=costs,
        seed=seed,
        score_kinds={str(kind): int(count) for kind, count in zip(kinds, counts, strict=True)},
    )


def _rng(seed: int, label: str) -> np.random.Generator:
    # A stream per label: another policy in the comparison must not move the resamples of this one.
    return np.random.default_rng([seed, zlib.crc32(label.encode())])


def _under(limits: Mapping[str, Limited] | None, policy: Policy, cases: Cases) -> Choice:
    choice = policy.choose(cases)
    if limits is None:
        return choice
    through = limits[policy.name].accepted
    kept = np.array([case.trade.signal_id in through for case in cases.rows], dtype=np.bool_)
    return replace(choice, accepted=kept)


def _adjusted(
    cases: Cases, choices: Sequence[Choice], current: BoolArray, net: FloatArray, rng: np.random.Generator
) -> list[Interval]:
    """Intervals of all differences at once. A signal somebody was trained on counts for nobody's difference there."""
    gained = np.stack(
        [(choice.accepted.astype(np.float64) - current) * net * ~choice.trained_on for choice in choices], axis=1
    )
    usable = np.stack([~choice.trained_on for choice in choices], axis=1).mean(axis=0)
    band = simultaneous_band(Days.of(cases.day, gained), rng=rng)
    found = []
    for place, share in enumerate(usable.tolist()):
        interval = band.at(place)
        # The mean is per signal that counts, as the policy's own difference is.
        found.append(
            Interval(interval.low / share, interval.high / share) if interval.known and share > 0 else interval
        )
    return found


def _over(
    cases: Cases, grid: Sequence[float], current: BoolArray, net: FloatArray, seed: int
) -> tuple[Curve | None, Nested | None]:
    thresholds = np.array(sorted(set(grid)), dtype=np.float64)
    if len(thresholds) == 0:
        return None, None
    accepted = np.stack([StaticThreshold(float(value)).choose(cases).accepted for value in thresholds], axis=1)
    won = accepted * net[:, None]
    against = won - (current * net)[:, None]
    curve = Curve(
        thresholds=thresholds,
        accepted=accepted.sum(axis=0),
        disagree=(accepted != current[:, None]).sum(axis=0),
        value=simultaneous_band(Days.of(cases.day, won), rng=_rng(seed, "curve")),
        difference=simultaneous_band(Days.of(cases.day, against), rng=_rng(seed, "curve of differences")),
        current=float(np.mean(current * net)),
    )
    nested = nested_best(
        thresholds=thresholds,
        results=net,
        accepted=accepted,
        current=current,
        day=cases.day,
        known_day=cases.table.exit_ts // DAY_MS,
    )
    return curve, nested
