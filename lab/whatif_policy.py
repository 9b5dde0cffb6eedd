"""Gates that could have stood in the place of the one that did: which recorded signals each would let through."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from decision.shape import band_multiplier
from lab.trade import BoolArray
from lab.whatif_case import Case, Cases
from qscore.table import ThresholdBook, ThresholdTable
from qscore.threshold import SEED, Threshold
from runtime.tables import book_for, untold
from scorer.blend import blend
from scorer.bundle import Bundle, Scored
from scorer.encoding import model_features
from scorer.heuristic import heuristic_score
from scorer.schema import SCHEMAS
from signals.profile import Clamping, Profile, RunMode
from signals.reasons import Reason

BundleFor = Callable[[str], Bundle | None]
SHORT = 12


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """What a policy does with each case, shape ``(n,)``.

    ``trained_on`` marks signals its model or its thresholds may have seen: they prove nothing for it. ``unknown``
    counts signals it could not judge, which it refuses.
    """

    accepted: BoolArray
    trained_on: BoolArray
    unknown: int = 0


class Policy(Protocol):
    """A gate to be tried on recorded signals."""

    @property
    def name(self) -> str:
        """How it is called, alone in its comparison."""
        ...

    def choose(self, cases: Cases) -> Choice:
        """Judge every case by what was known at its decision."""
        ...


def _choice(accepted: BoolArray, unknown: int = 0) -> Choice:
    return Choice(accepted, np.zeros(len(accepted), dtype=np.bool_), unknown)


@dataclass(frozen=True, slots=True)
class Current:
    """The gate as it was: what it wanted before mode, limits and breakers were asked."""

    name: str = "current"

    def choose(self, cases: Cases) -> Choice:
        """Read the record."""
        return _choice(cases.flags("wanted"))


@dataclass(frozen=True, slots=True)
class Answered:
    """What engines were told: the current gate after mode, limits and breakers."""

    name: str = "as answered"

    def choose(self, cases: Cases) -> Choice:
        """Read the record."""
        return _choice(cases.flags("answered"))


@dataclass(frozen=True, slots=True)
class AlwaysTake:
    """No gate."""

    name: str = "always-take"

    def choose(self, cases: Cases) -> Choice:
        """Take all."""
        return _choice(np.ones(len(cases), dtype=np.bool_))


@dataclass(frozen=True, slots=True)
class StaticThreshold:
    """One number for the score as it was recorded. A score that a failed model left behind passes nothing."""

    value: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.value <= 100.0:
            raise ValueError(f"a threshold lies in [0, 100], not {self.value}")

    @property
    def name(self) -> str:
        """Its number."""
        return f"threshold {self.value:g}"

    def choose(self, cases: Cases) -> Choice:
        """Compare."""
        score = np.array([case.trade.score for case in cases.rows], dtype=np.float64)
        return _choice(cases.flags("sound") & (score >= self.value))


@dataclass(frozen=True, slots=True)
class HeuristicAlone:
    """The rules with the thresholds that were in force for them at each decision, as under ML_OFF."""

    profiles: Mapping[str, Profile]
    name: str = "heuristic alone"

    def choose(self, cases: Cases) -> Choice:
        """Score by rules and compare."""
        tables = _Tables()
        accepted = [self._takes(case, tables) for case in cases.rows]
        return _choice(np.array(accepted, dtype=np.bool_))

    def _takes(self, case: Case, tables: _Tables) -> bool:
        profile = self.profiles[case.trade.strategy]
        return profile.heuristic_may_execute and _by_rules(case, profile, tables)


@dataclass(frozen=True, slots=True)
class OtherProfile:
    """The recorded parts of each score under another profile: its rules, blend, clamp, static threshold, run mode.

    A model's thresholds are those of the bundle that scored the signal, learned for this profile's blend from the
    parts that bundle remembers: nothing of the signal itself is in them.
    """

    profile: Profile
    bundle_for: BundleFor
    label: str = ""

    @property
    def name(self) -> str:
        """The profile's name."""
        return f"profile {self.label or self.profile.name}"

    def choose(self, cases: Cases) -> Choice:
        """Blend anew and compare."""
        tables = _Tables(self.bundle_for)
        found = [self._takes(case, tables) for case in cases.rows]
        return _choice(np.array([one is True for one in found], dtype=np.bool_), sum(one is None for one in found))

    def _takes(self, case: Case, tables: _Tables) -> bool | None:
        profile, trade = self.profile, case.trade
        if Reason.MODEL_DEGRADED in trade.reasons:
            return False
        if trade.bundle is None or trade.model_score is None:
            if not profile.heuristic_may_execute:
                return False
            return profile.run_mode is not RunMode.ENFORCE or _by_rules(case, profile, tables)
        if profile.run_mode is not RunMode.ENFORCE:
            return True
        table = tables.of_bundle(trade.bundle, profile)
        if table is None:
            return None
        score = blend(_rules_score(case, profile), trade.model_score, profile.blend)
        return _met(table, case, profile).passes(score) and not _banned(table, case, profile)


@dataclass(frozen=True, slots=True)
class OtherBundle:
    """Another bundle: every signal scored anew from its stored features and compared with the bundle's own table.

    Signals up to the last outcome it was trained on are marked: their labels, or what overlaps them, are in it.
    """

    bundle: Bundle
    profile: Profile

    @property
    def name(self) -> str:
        """The beginning of its address."""
        return f"bundle {self.bundle.address[:SHORT]}"

    def choose(self, cases: Cases) -> Choice:
        """Score and compare."""
        profile, bundle = self.profile, self.bundle
        table = _Tables().of(bundle, profile)
        schema = SCHEMAS[profile.features]
        vectors = [
            schema.vector(model_features(case.signal.features, bucket=str(case.trade.bucket), symbol=case.trade.symbol))
            for case in cases.rows
        ]
        found = bundle.score_all(vectors)
        accepted = [
            isinstance(one, Scored)
            and (
                profile.run_mode is not RunMode.ENFORCE
                or _met(table, case, profile).passes(blend(_rules_score(case, profile), one.score, profile.blend))
            )
            for one, case in zip(found, cases.rows, strict=True)
        ]
        unknown = sum(not isinstance(one, Scored) for one in found)
        return Choice(np.array(accepted, dtype=np.bool_), _seen(bundle, cases), unknown)


@dataclass(frozen=True, slots=True)
class LearnedTable:
    """A bundle's learned thresholds for the scores as they were recorded.

    A score meets only a table for its own kind: those of the rules keep theirs, those of another source are unknown.
    """

    bundle: Bundle
    profile: Profile

    @property
    def name(self) -> str:
        """The beginning of the bundle's address."""
        return f"table {self.bundle.address[:SHORT]}"

    def choose(self, cases: Cases) -> Choice:
        """Compare recorded scores with its thresholds."""
        tables = _Tables()
        table = tables.of(self.bundle, self.profile)
        accepted, unknown = [], 0
        for case in cases.rows:
            trade = case.trade
            if trade.score_source == table.score_source and trade.model_score is not None:
                score = blend(case.heuristic_score, trade.model_score, self.profile.blend)
                accepted.append(case.sound and _met(table, case, self.profile).passes(score))
            elif trade.bundle is None:
                accepted.append(case.sound and _by_rules(case, self.profile, tables))
            else:
                unknown += 1
                accepted.append(False)
        return Choice(np.array(accepted, dtype=np.bool_), _seen(self.bundle, cases), unknown)


def _seen(bundle: Bundle, cases: Cases) -> BoolArray:
    return np.array([case.trade.ts <= bundle.parts.last_ms for case in cases.rows], dtype=np.bool_)


def _rules_score(case: Case, profile: Profile) -> float:
    return heuristic_score(case.signal, profile.heuristic).score


def _met(table: ThresholdTable, case: Case, profile: Profile) -> Threshold:
    clamp = SEED if profile.clamp is Clamping.SEED else table.key.default_clamp
    return table.lookup(case.trade.bucket, clamp, profile.static_threshold)


def _banned(table: ThresholdTable, case: Case, profile: Profile) -> bool:
    """Whether the profile's bands make a phantom of it; what they only make smaller is accepted."""
    probability, p_min = case.trade.win_probability, table.break_even(case.trade.bucket)
    if not profile.bands or probability is None or p_min is None:
        return False
    return band_multiplier(probability, p_min) == 0.0


def _by_rules(case: Case, profile: Profile, tables: _Tables) -> bool:
    table = tables.of_rules(case.rules)
    static = profile.static_threshold
    met = (untold(profile.threshold_policy) if table is None else table).lookup(case.trade.bucket, SEED, static)
    return met.passes(_rules_score(case, profile))


@dataclass(slots=True)
class _Tables:
    """Threshold tables read once."""

    bundle_for: BundleFor = lambda _address: None
    _rules: dict[str, ThresholdTable] = field(default_factory=dict)
    _learned: dict[tuple[str, float], ThresholdTable | None] = field(default_factory=dict)

    def of_rules(self, text: str | None) -> ThresholdTable | None:
        """The heuristic's table as it was recorded; none while none was learned."""
        if text is None:
            return None
        if text not in self._rules:
            self._rules[text] = ThresholdTable.from_json(json.loads(text))
        return self._rules[text]

    def of_bundle(self, address: str, profile: Profile) -> ThresholdTable | None:
        """The table of a bundle that can be fetched, for a profile's blend."""
        key = (address, profile.blend)
        if key not in self._learned:
            bundle = self.bundle_for(address)
            self._learned[key] = None if bundle is None else self.of(bundle, profile)
        return self._learned[key]

    def of(self, bundle: Bundle, profile: Profile) -> ThresholdTable:
        """The table of a bundle for a profile's blend."""
        parts = bundle.parts
        known = ThresholdBook.from_json(parts.thresholds)
        book = book_for(known, parts.records, bundle.source, profile.blend, profile.threshold_policy)
        return book.table(bundle.source, profile.blend)
