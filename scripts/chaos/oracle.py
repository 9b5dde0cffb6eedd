"""What must be true after a chaos run, told from the input alone and compared with the record and the live state."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from persistence.keys import Keys
from persistence.rebuild import fold
from persistence.store import Fact
from phantom.advance import advance
from phantom.position import Closed, Position
from scripts.chaos.engine import Flight
from scripts.chaos.market import Market

KEPT = 20
"""Examples of each finding that are kept to look at."""


@dataclass(slots=True)
class Findings:
    """Counts of what must be zero, each with a few examples."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def note(self, name: str, example: str) -> None:
        """Count one."""
        self.counts[name] += 1
        if len(self.examples[name]) < KEPT:
            self.examples[name].append(example)


@dataclass(slots=True)
class Story:
    """All facts of one signal."""

    decisions: list[Fact] = field(default_factory=list)
    opened: list[Fact] = field(default_factory=list)
    claimed: list[Fact] = field(default_factory=list)
    fills: list[Fact] = field(default_factory=list)
    twins: list[Fact] = field(default_factory=list)
    closed: list[Fact] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Record:
    """The facts of a run, in order, and by signal."""

    facts: tuple[Fact, ...]
    stories: Mapping[str, Story]

    @classmethod
    def of(cls, facts: Iterable[Fact]) -> Record:
        """Sort the facts out."""
        kept = tuple(facts)
        stories: defaultdict[str, Story] = defaultdict(Story)
        for fact in kept:
            story = stories[fact.fields.get("sid", "")]
            if fact.kind == "decision":
                story.decisions.append(fact)
            elif fact.kind == "opened":
                story.opened.append(fact)
            elif fact.kind == "claimed":
                story.claimed.append(fact)
            elif fact.kind == "fill":
                story.fills.append(fact)
            elif fact.kind == "touched" and fact.fields["done"] == "1":
                story.twins.append(fact)
            elif fact.kind == "closed":
                story.closed.append(fact)
        return cls(kept, stories)


def judge(
    flights: Mapping[str, Flight], market: Market, seconds: int, record: Record, live: Mapping[str, object], keys: Keys
) -> Findings:
    """Compare what was sent and promised with what is recorded and held."""
    found = Findings()
    candles = {symbol: market.delivered(symbol, seconds) for symbol in {flight.symbol for flight in flights.values()}}
    for flight in flights.values():
        _answered(flight, record.stories.get(flight.id, Story()), found)
        _ended(flight, record.stories.get(flight.id, Story()), candles[flight.symbol], found)
    for signal_id in record.stories:
        if signal_id and signal_id not in flights:
            found.note("invented", signal_id)
    _control(record.facts, found)
    _state(record.facts, live, keys, found)
    return found


def _answered(flight: Flight, story: Story, found: Findings) -> None:
    if not story.decisions:
        found.note("lost", f"{flight.id}: no decision")
        return
    for name, facts in (("decision", story.decisions), ("position", story.opened), ("outcome", story.closed)):
        if len(facts) > 1:
            found.note("duplicate", f"{flight.id}: {len(facts)} times {name}")
    if flight.answer is not None and flight.answer["action"] != story.decisions[0].fields["action"]:
        found.note("changed_answer", f"{flight.id}: told {flight.answer['action']}")
    engines = {fact.fields["engine"] for fact in story.claimed} | flight.go
    if len(engines) > 1 or len(story.claimed) > 1:
        found.note("double_claims", f"{flight.id}: {sorted(engines)}")
    if flight.go and not story.claimed:
        found.note("lost", f"{flight.id}: the claim that got a GO")
    if flight.reported and not story.closed:
        found.note("lost", f"{flight.id}: the close report that was accepted")


def _ended(flight: Flight, story: Story, candles: list[Any], found: Findings) -> None:
    if not story.opened:
        return
    expected = _expected(flight, candles)
    simulated = [fact for fact in (*story.twins, *story.closed) if fact.fields.get("how") != "report"]
    if expected is None:
        if simulated:
            found.note("wrong", f"{flight.id}: ended, though no candle ends it")
        return
    if not simulated:
        found.note("lost", f"{flight.id}: the outcome {expected.outcome.value}")
        return
    told = json.loads(simulated[0].body)
    mine = (expected.outcome.value, expected.exit_price, expected.exit_ms)
    theirs = (told["outcome"], told["exit_price"], told["exit_ms"])
    if mine != theirs:
        found.note("wrong", f"{flight.id}: expected {mine}, recorded {theirs}")
    if not story.closed and (flight.reported or not flight.go):
        found.note("lost", f"{flight.id}: its close")


def _expected(flight: Flight, candles: list[Any]) -> Closed | None:
    position = Position.open(flight.terms)
    for candle in candles:
        if candle.ts < flight.terms.entry_ms:
            continue
        after = advance(position, candle)
        if isinstance(after, Closed):
            return after
        position = after
    return None


def _control(facts: Iterable[Fact], found: Findings) -> None:
    """Facts are numbered inside the commit: the order in which they took effect is no matter of clocks."""
    halted = False
    for fact in facts:
        if fact.kind == "control":
            halted = fact.fields["mode"] == "HALT"
        elif halted and fact.kind == "claimed":
            found.note("execute_after_halt", f"{fact.fields['sid']}: claimed")
        elif halted and fact.kind == "decision" and fact.fields["action"] == "execute":
            found.note("execute_after_halt", f"{fact.fields['sid']}: decided")


def _state(facts: Iterable[Fact], live: Mapping[str, object], keys: Keys, found: Findings) -> None:
    """The live state must be the fold of the recorded facts, key by key: every counter is one of them."""
    folded = fold(facts, keys).state.dump()
    for key in sorted(folded.keys() | live.keys()):
        if folded.get(key) != live.get(key):
            found.note("counter_drift", f"{key}: {str(folded.get(key))[:60]} recorded, {str(live.get(key))[:60]} held")
