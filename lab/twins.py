"""Live results paired with their simulated twins, and the refusals that could have been tried, out of a record."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from decision.shape import could_be_explored, was_explored
from persistence.store import CloseHow, Fact
from phantom.record import terms_from
from signals.bucket import Bucket
from signals.profile import Kind
from signals.signal import Side

DAY_MS = 86_400_000
EQUAL_R = 1e-9
SPREAD = "spread_bps"
"""The feature an engine may send with a signal to have twins looked at by the spread it saw."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """One executed signal, twice: as the engine reports it and as the candles tell it.

    Results in R of one unit after costs, a twin's timeout at its mark price. ``filled`` says that both had a position;
    where one had none its result is 0. ``book_r`` is the twin's by the rule of the book, where a timeout gives the
    entry back. ``entry_slip_r`` is how far the first candle opened beyond the entry,
    ``fill_slip_r`` how far the engine was filled beyond it; ``day`` counts UTC days of the entry since 1970.
    """

    signal_id: str
    strategy: str
    symbol: str
    side: Side
    bucket: Bucket
    day: int
    score: float
    live_r: float
    phantom_r: float
    book_r: float
    live_exit: str
    phantom_exit: str
    filled: bool
    entry_slip_r: float
    fill_slip_r: float
    spread_bps: float | None
    explored: bool
    propensity: float | None

    @property
    def residual_r(self) -> float:
        """What the market gave more than the simulation."""
        return self.live_r - self.phantom_r

    @property
    def echoed(self) -> bool:
        """Whether the engine reported what the simulation says, as a replay does."""
        return min(abs(self.residual_r), abs(self.live_r - self.book_r)) <= EQUAL_R


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A signal that its score alone refused and that nothing else stood against, with its phantom's result in R.

    ``propensity`` is how probable it was that it would be tried; none where the profile did not explore.
    """

    day: int
    bucket: Bucket
    score: float
    phantom_r: float
    entry_slip_r: float
    propensity: float | None


@dataclass(frozen=True, slots=True)
class Twins:
    """Every pair of a record, what is still missing and why, and the refusals to be judged by the pairs."""

    pairs: tuple[Twin, ...]
    refused: tuple[Refused, ...]
    counts: Mapping[str, int]


@dataclass(slots=True)
class _Story:
    decision: dict[str, Any] | None = None
    reasons: tuple[str, ...] = ()
    action: str = ""
    terms: dict[str, Any] | None = None
    twin: dict[str, Any] | None = None
    ending: dict[str, Any] | None = None
    claimed: bool = False


def twins_of(facts: Iterable[Fact], strategy: str | None = None) -> Twins:
    """Read them from facts, of one strategy or of all; a correction replaces the ending it corrects."""
    stories: dict[str, _Story] = {}
    for fact in facts:
        signal_id = fact.fields.get("sid", "")
        if fact.kind == "decision":
            story = stories.setdefault(signal_id, _Story())
            story.decision, story.action = json.loads(fact.body), fact.fields["action"]
            story.reasons = tuple(code for code in fact.fields["reasons"].split(",") if code)
        elif signal_id in stories:
            _told(stories[signal_id], fact)
    pairs: list[Twin] = []
    refused: list[Refused] = []
    counts: Counter[str] = Counter()
    for signal_id, story in stories.items():
        if story.terms is None or story.decision is None:
            continue
        if strategy is not None and story.decision.get("strategy") != strategy:
            continue
        drawn = was_explored(story.decision, story.reasons)
        counts["eligible"] += could_be_explored(story.decision, story.reasons)
        counts["explored"] += drawn
        if story.action == "execute":
            standing = _standing(story)
            counts[standing] += 1
            if standing == "paired":
                pairs.append(_pair(signal_id, story, story.terms, drawn=drawn))
        elif _by_score_alone(story):
            found = _refused(story, story.terms)
            refused += [found] if found is not None else []
    return Twins(tuple(pairs), tuple(refused), dict(counts))


def _told(story: _Story, fact: Fact) -> None:
    if fact.kind == "opened":
        story.terms = json.loads(fact.body)
    elif fact.kind == "claimed":
        story.claimed = True
    elif fact.kind == "touched" and fact.fields["done"] == "1":
        story.twin = json.loads(fact.body)
    elif fact.kind in ("closed", "corrected"):
        story.ending = json.loads(fact.body)


def _standing(story: _Story) -> str:
    """How far an executed signal has come on its way to a pair."""
    ending = story.ending
    if ending is None:
        return "waiting for a report" if story.claimed else "waiting for a claim"
    if ending["kind"] != Kind.EXECUTED.value:
        return "not claimed in time"
    if ending.get("how") != CloseHow.REPORT.value:
        return "never reported"
    if story.twin is None:
        return "twin still followed"
    return "without candles" if story.twin["outcome"] == "no_data" else "paired"


def _pair(signal_id: str, story: _Story, terms_record: dict[str, Any], *, drawn: bool) -> Twin:
    terms = terms_from(terms_record)
    known, live, twin = story.decision or {}, story.ending or {}, story.twin or {}
    bought, simulated = live["outcome"] != "no_fill", twin["outcome"] != "no_fill"
    return Twin(
        signal_id=signal_id,
        strategy=known["strategy"],
        symbol=known["symbol"],
        side=terms.side,
        bucket=Bucket.parse(known["bucket"]),
        day=terms.entry_ms // DAY_MS,
        score=known["score"],
        live_r=float(live["net_r"]) if bought else 0.0,
        phantom_r=marked_r(twin, terms_record) if simulated else 0.0,
        book_r=float(twin["net_r"]) if simulated else 0.0,
        live_exit=live["exit_reason"],
        phantom_exit=twin["exit_reason"],
        filled=bought and simulated,
        entry_slip_r=float(twin["entry_slip_r"]) if simulated else 0.0,
        fill_slip_r=float(live["entry_slip_r"]) if bought else 0.0,
        spread_bps=_spread(known),
        explored=drawn,
        propensity=known.get("propensity") if drawn else None,
    )


def marked_r(ending: Mapping[str, Any], terms_record: Mapping[str, Any]) -> float:
    """A simulated result after costs in R, a timeout at its mark: the market would not have given the entry back."""
    net = float(ending["net_r"])
    if ending["outcome"] != "timeout" or ending["mark_price"] is None:
        return net
    return net - float(ending["gross_r"]) + terms_from(terms_record).in_r(float(ending["mark_price"]))


def _spread(decision: Mapping[str, Any]) -> float | None:
    value = decision.get("features", {}).get(SPREAD)
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None


def _by_score_alone(story: _Story) -> bool:
    # A profile that never explores records no propensity; what it refuses by score alone is the same set.
    assumed = {**(story.decision or {}), "propensity": 0.0}
    return story.action == "phantom" and could_be_explored(assumed, story.reasons)


def _refused(story: _Story, terms_record: dict[str, Any]) -> Refused | None:
    known, ending = story.decision or {}, story.ending
    if ending is None or ending["outcome"] == "no_data":
        return None
    filled = ending["outcome"] != "no_fill"
    return Refused(
        day=terms_from(terms_record).entry_ms // DAY_MS,
        bucket=Bucket.parse(known["bucket"]),
        score=known["score"],
        phantom_r=marked_r(ending, terms_record) if filled else 0.0,
        entry_slip_r=float(ending["entry_slip_r"]) if filled else 0.0,
        propensity=known.get("propensity"),
    )
