"""An audit of a profile's features and of every recorded decision: known when, needed when, and is it still so."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lab.verified import VectorCheck, Verified, sample
from learning.example import examples
from learning.firewall import Columns, auc_alone, leaks_of
from market.candles import Candles
from market.lookback import LOOK_BACK, LookBack
from market.reference_strategies import StrategySettings, proposals
from persistence.store import Fact
from scorer.schema import EXIT_ONLY, STORED_ONLY, Feature, Known, Schema
from signals.leak import Leak

MODEL, GATES, NEVER = "model", "gates only", "never"
AT_ENTRY, AT_EXIT = "candle close", "exit"
NEEDED = "at the decision"
IN_TIME, REFUSED = "in time", "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureAudit:
    """One feature: what may use it, when it is known and needed, and what speaks against it.

    ``look_back`` counts candles of the source. ``auc`` is that of the feature alone over the recorded outcomes, none
    without enough of them. Of ``compared`` values, computed again from the candles cut at the decision, ``different``
    were not the same bit for bit.
    """

    feature: str
    use: str
    known: str
    needed: str
    direction: str
    source: str
    look_back: int | None
    auc: float | None
    compared: int
    different: int
    verdict: str

    @property
    def sound(self) -> bool:
        """Whether nothing speaks against it."""
        return self.verdict in (IN_TIME, REFUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakAudit:
    """The features of one strategy's profile, its recorded decisions, and its outcomes as training rows."""

    strategy: str
    schema: str
    features: tuple[FeatureAudit, ...]
    decisions: Verified
    closed: Verified
    outcomes: int
    leaks: tuple[Leak, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing leaks and every vector rebuilds."""
        sound = all(row.sound for row in self.features)
        return sound and not self.leaks and self.decisions.holds and self.closed.holds

    @property
    def record(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {
            "strategy": self.strategy,
            "schema": self.schema,
            "holds": self.holds,
            "features": [asdict(row) for row in self.features],
            "decisions": self.decisions.record,
            "closed": self.closed.record,
            "outcomes": self.outcomes,
            "leaks": [{**asdict(leak), "reason": leak.reason.value, "sentence": leak.sentence} for leak in self.leaks],
        }


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the facts of a strategy say: bodies of its decisions that were scored, and of its closed positions."""

    decisions: Sequence[Mapping[str, Any]] = ()
    closed: Sequence[Mapping[str, Any]] = ()


Compared = Mapping[str, tuple[int, int]]
"""By feature, how many values were compared and how many differed."""


def recorded(facts: Iterable[Fact], strategy: str) -> Recorded:
    """The bodies of one strategy's decisions and closed positions; a correction replaces what it corrects."""
    decisions: dict[str, dict[str, Any]] = {}
    closed: dict[str, dict[str, Any]] = {}
    for fact in facts:
        if fact.kind not in ("decision", "closed", "corrected"):
            continue
        body: dict[str, Any] = json.loads(fact.body)
        # A refusal has no features and no score; it teaches nothing.
        if body.get("strategy") == strategy and "features" in body:
            (decisions if fact.kind == "decision" else closed)[fact.fields.get("sid", fact.id)] = body
    return Recorded(tuple(decisions.values()), tuple(closed.values()))


def audit(strategy: str, schema: Schema, told: Recorded | None = None, again: Compared | None = None) -> LeakAudit:
    """Audit one profile's schema, its record and what candles gave again."""
    told, again = told or Recorded(), again or {}
    decisions, closed = VectorCheck(schema), VectorCheck(schema)
    saw = {body["id"]: body for body in told.decisions}
    for body in told.decisions:
        decisions.decision(body)
    for body in told.closed:
        # Against the decision itself where it is at hand, so that a difference has a name.
        closed.against(
            {**saw.get(body["id"], body), "vector_hash": body.get("vector_hash")}, body.get("features") or {}
        )
    outcomes = examples(told.closed)
    vectors = [schema.vector(example.features) for example in outcomes]
    leaks = leaks_of(outcomes, vectors, schema)
    won = np.array([example.won for example in outcomes], dtype=np.bool_)
    alone = {}
    if vectors:
        alone = {name: auc_alone(values, won) for name, values in Columns.of(schema, vectors).numbers.items()}
    uses = [(feature, MODEL) for feature in schema.features]
    uses += [(feature, GATES) for feature in STORED_ONLY.get(schema.name, ())]
    uses += [(feature, NEVER) for feature in EXIT_ONLY]
    sources = LOOK_BACK.get(schema.name, {})
    return LeakAudit(
        strategy=strategy,
        schema=f"{schema.name}.{schema.version}",
        features=tuple(
            _feature(feature, use, sources.get(feature.name), alone.get(feature.name), again, leaks)
            for feature, use in uses
        ),
        decisions=decisions.verified,
        closed=closed.verified,
        outcomes=len(outcomes),
        leaks=leaks,
    )


def _feature(
    feature: Feature,
    use: str,
    source: LookBack | None,
    alone: float | None,
    again: Compared,
    leaks: Sequence[Leak],
) -> FeatureAudit:
    at_exit = feature.known is Known.EXIT
    compared, different = again.get(feature.name, (0, 0))
    verdict = REFUSED if at_exit else IN_TIME
    codes = [leak.reason.value for leak in leaks if leak.feature == feature.name]
    if codes:
        verdict = ", ".join(codes)
    elif different:
        verdict = "LEAK_REBUILT"
    return FeatureAudit(
        feature=feature.name,
        use=use,
        known=AT_EXIT if at_exit else AT_ENTRY,
        needed=NEEDED,
        direction=feature.direction.value,
        source="outcome" if at_exit else "" if source is None else source.origin.value,
        look_back=None if source is None else source.candles,
        auc=alone,
        compared=compared,
        different=different,
        verdict=verdict,
    )


def compared_again(strategy: str, series: Iterable[Candles], settings: StrategySettings, most: int) -> Compared:
    """Features of a reference strategy's signals on the whole series against the same from candles cut at each signal.

    At most ``most`` signals of each series, evenly spread. A feature that is there in one and not in the other differs.
    """
    counts: dict[str, tuple[int, int]] = {}
    for candles in series:
        for signal in sample(proposals(strategy, candles, None, settings), most):
            cut = proposals(strategy, candles.closed_by(signal.ts), None, settings)
            found = next((one for one in reversed(cut) if one.id == signal.id), None)
            then = {} if found is None else found.features
            for name in {*signal.features, *then}:
                compared, different = counts.get(name, (0, 0))
                counts[name] = (compared + 1, different + (signal.features.get(name) != then.get(name)))
    return counts
