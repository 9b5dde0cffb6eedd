"""Compare the live state with itself and with the record: nine rules, and that neither side is behind the other.

Both sides are read at one moment while traffic goes on: the state in one script, the record up to the sequence number
that the script saw. What the script saw and Postgres has not yet is still in the outbox, and is counted from there.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis

from persistence.audit import AuditReport, verify
from persistence.candle_feed import CandleFeed, place_order
from persistence.connection import as_failure, text
from persistence.keys import Keys
from persistence.outbox import confirmed_head
from persistence.record import Record, Standing
from persistence.state import State
from persistence.store import TRADES_KEPT, UNREPORTED_GRACE_MS, ClockKind, Fact, StateMissing
from persistence.survey import Learning, Place, Survey, survey, undrained, whole
from phantom.position import NO_DATA_AFTER_MS

LISTED = 20
FAST_LINKS = 1_000
DECISIVE = ("win", "loss")
LEARNING = frozenset({"profile", "retrain", "training", "published", "untrained", "pointed", "table"})
RULES: Mapping[str, str] = {
    "R0": "the record and Redis tell one story: neither is ahead of the other",
    "R1": "open positions, their indexes and the limits' counters agree both ways",
    "R2": "completed trades are the record's learned outcomes",
    "R3": "outcomes add up to all closes, and the decisive ones to completed trades",
    "R4": "the learner's rows are as many as completed trades",
    "R5": "no simulation runs long after its deadline while candles come",
    "R6": "no two open positions answer for one bar",
    "R7": "training boundaries and bundles in force are those of the facts",
    "R8": "the record's hash chain holds and reaches the head the relay saw",
    "R9": "positions open in the record are open in Redis",
}


@dataclass(slots=True)
class Finding:
    """What a rule looked at and what broke it; of many only the first are listed."""

    checked: int = 0
    violations: int = 0
    listed: list[str] = field(default_factory=list)

    def note(self, what: str) -> None:
        """Count a violation."""
        self.violations += 1
        if len(self.listed) < LISTED:
            self.listed.append(what)

    def require(self, holds: bool, what: str) -> None:  # noqa: FBT001 - reads as the sentence it is
        """Count something checked, and what is wrong when it does not hold."""
        self.checked += 1
        if not holds:
            self.note(what)


@dataclass(frozen=True, slots=True)
class ReconcileReport:
    """Every rule with what it found. ``remarks`` explain what was not held against anybody."""

    seq: int
    undrained: int
    findings: Mapping[str, Finding]
    remarks: tuple[str, ...]
    audit: AuditReport

    @property
    def broken(self) -> tuple[str, ...]:
        """Names of the rules that do not hold."""
        return tuple(name for name, finding in self.findings.items() if finding.violations > 0)

    @property
    def clean(self) -> bool:
        """Whether every rule holds."""
        return not self.broken

    @property
    def lost(self) -> bool:
        """Whether there was no state to compare."""
        return self.seq == 0

    def as_json(self) -> dict[str, object]:
        """The report as JSON-able values."""
        rules = {
            name: {
                "rule": RULES[name],
                "checked": finding.checked,
                "violations": finding.violations,
                "ids": finding.listed,
            }
            for name, finding in self.findings.items()
        }
        return {
            "clean": self.clean,
            "seq": self.seq,
            "undrained": self.undrained,
            "rules": rules,
            "remarks": list(self.remarks),
            "audit": self.audit.as_json(),
        }

    def __str__(self) -> str:
        if self.clean:
            return f"all rules hold at fact {self.seq}, {self.undrained} facts still on their way to the record"
        return "; ".join(f"{name} ({self.findings[name].violations}): {self._first(name)}" for name in self.broken)

    def _first(self, name: str) -> str:
        return ", ".join(self.findings[name].listed[:3])


def reconcile(client: redis.Redis, keys: Keys, record: Record, *, sweep_ms: int, fast: bool = False) -> ReconcileReport:
    """Check every rule; ``fast`` leaves out unknown position keys and all but the end of the chain.

    ``sweep_ms`` is how often overdue simulations are looked for.
    """
    # First: whatever the record has now, a Redis that has not gone back has counted already.
    recorded = record.last_seq()
    try:
        seen = survey(client, keys, record.strategies(), thorough=not fast)
    except StateMissing:
        if recorded == 0:
            raise
        return _lost(recorded)
    waiting = undrained(client, keys, seen.newest)
    standing = record.standing(seen.seq, [fact.id for fact in waiting])
    coming = [fact for fact in waiting if fact.id not in standing.known]
    findings = {name: Finding() for name in RULES}
    remarks: list[str] = []
    _ahead(findings["R0"], seen, standing, recorded)
    followed = _followed(seen)
    for member, place in seen.places.items():
        _indexed(findings["R1"], seen, followed, member, place)
    _counted(findings["R1"], seen)
    _learned(findings["R2"], seen, standing, coming)
    for name, learning in seen.strategies.items():
        _added_up(findings["R3"], name, learning)
        kept = min(TRADES_KEPT, learning.completed)
        findings["R4"].require(learning.trades == kept, f"{name}: {learning.trades} rows of {kept}")
    _swept(findings["R5"], seen, client, keys, sweep_ms, remarks)
    _bars(findings["R6"], seen)
    _boundaries(findings["R7"], seen, keys, standing, coming)
    audit = verify(record, expected=confirmed_head(client, keys), last=FAST_LINKS if fast else None)
    findings["R8"].require(audit.whole, str(audit.broken))
    _open_in_both(findings["R9"], seen, keys, standing, coming)
    return ReconcileReport(seen.seq, len(coming), findings, tuple(remarks), audit)


def _lost(recorded: int) -> ReconcileReport:
    findings = {name: Finding() for name in RULES}
    findings["R0"].require(False, f"the record goes to fact {recorded} and Redis has lost this namespace")  # noqa: FBT003
    return ReconcileReport(0, 0, findings, (), AuditReport(0, "", None))


def _ahead(finding: Finding, seen: Survey, standing: Standing, recorded: int) -> None:
    finding.require(
        recorded <= seen.seq,
        f"the record goes to fact {recorded} and Redis only to {seen.seq}: Redis went back to an older state",
    )
    epoch = whole(seen.meta.get("epoch", "0"))
    finding.require(
        epoch > standing.rebuilds,
        f"Redis is of epoch {epoch}, the record knows of {standing.rebuilds} rebuilds: a state from before one",
    )


def _followed(seen: Survey) -> Mapping[str, Sequence[str]]:
    """Under which symbols a position is followed."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for symbol, members in seen.follow.items():
        for member in members:
            found[member].append(symbol)
    return found


def _indexed(finding: Finding, seen: Survey, followed: Mapping[str, Sequence[str]], member: str, place: Place) -> None:
    """Both ways for one position: where its own fields say it belongs, and nowhere else."""
    executed = place.status == "open" and place.kind == "executed"
    deadline = whole(place.deadline)
    claim = place.sid in seen.claims
    owed = executed and not place.claimed_by
    # An unclaimed one whose simulation ended first keeps its claim until it is closed.
    may_claim = place.status == "open" and place.unclaimed == "1" and place.sim == "done"
    expected: list[tuple[str, Mapping[str, int], int | None]] = [
        ("due", seen.due, deadline if place.sim == "open" else None),
        ("executed", seen.executed, whole(place.seq) if executed else None),
        (
            "unreported",
            seen.unreported,
            deadline + UNREPORTED_GRACE_MS if executed and place.claimed_by else None,
        ),
    ]
    for prefix, members in seen.open.items():
        here = place.status == "open" and place.prefix == prefix
        expected.append((f"{prefix}:open", members, whole(place.seq) if here else None))
    following = place.symbol if place.sim == "open" else ""
    if following:
        mine = seen.follow.get(following, {})
        expected.append((f"follow:{following}", mine, whole(place.seq)))
    wrong = [name for name, members, score in expected if members.get(member) != score]
    wrong += [f"follow:{symbol}" for symbol in followed.get(member, ()) if symbol != following]
    if claim != owed and not (claim and may_claim):
        wrong.append("claims")
    if not place.status:
        wrong.append("no position")
    finding.require(not wrong, f"{member}: {', '.join(wrong)}")


def _counted(finding: Finding, seen: Survey) -> None:
    held = Counter(seen.places[member].symbol for member in seen.executed)
    for symbol in sorted(held.keys() | seen.symbols.keys()):
        count = seen.symbols.get(symbol, 0)
        finding.require(count == held[symbol], f"executed {symbol}: counted {count}, open {held[symbol]}")
    known = {place.sid for place in seen.places.values() if place.status == "open"}
    for sid in seen.claims:
        finding.require(sid in known, f"{sid}: a claim without an open position")


def _learned(finding: Finding, seen: Survey, standing: Standing, coming: Iterable[Fact]) -> None:
    learned: Counter[str] = Counter()
    for (strategy, _, counts), number in standing.closes.items():
        learned[strategy] += number * counts
    for fact in coming:
        if fact.kind == "closed" and fact.fields.get("learned") == "1":
            learned[fact.fields["strategy"]] += 1
    for name, learning in seen.strategies.items():
        completed = learning.completed
        finding.require(completed == learned[name], f"{name}: {completed} in Redis, {learned[name]} in the record")


def _added_up(finding: Finding, name: str, learning: Learning) -> None:
    total = sum(learning.outcomes.values())
    finding.require(total == learning.closed_total, f"{name}: {total} outcomes, {learning.closed_total} closes")
    decisive = sum(learning.outcomes.get(outcome, 0) for outcome in DECISIVE)
    finding.require(decisive == learning.completed, f"{name}: {decisive} decisive, {learning.completed} completed")


def _swept(finding: Finding, seen: Survey, client: redis.Redis, keys: Keys, sweep_ms: int, remarks: list[str]) -> None:
    try:
        seconds, microseconds = client.time()
        server_ms = seconds * 1_000 + microseconds // 1_000
        live = seen.meta.get("clock") != ClockKind.DATA
        now_ms = server_ms if live else int(client.get(keys.market_clock()) or 0)
        newest: Any = client.xrevrange(keys.candles(), count=1)
    except redis.RedisError as error:
        raise as_failure(error) from error
    before_ms = now_ms - NO_DATA_AFTER_MS - 2 * sweep_ms
    overdue = [member for member, deadline in seen.due.items() if deadline < before_ms]
    finding.checked += len(seen.due)
    last = place_order(text(newest[0][0])) if newest else (0, 0)
    behind = ""
    if place_order(CandleFeed(client, keys).followed_to()) < last:
        behind = "candles wait for the follower"
    elif live and last[0] < server_ms - 2 * sweep_ms:
        behind = "no candle has come for two sweeps"
    for member in overdue:
        if behind:
            remarks.append(f"{member} is overdue, but the feed of {seen.places[member].symbol} is behind: {behind}")
        else:
            finding.note(f"{member}: deadline {seen.due[member]}")
    del remarks[LISTED:]


def _bars(finding: Finding, seen: Survey) -> None:
    holders: defaultdict[str, list[str]] = defaultdict(list)
    for member, place in seen.places.items():
        if place.status == "open" and place.bar:
            holders[place.bar].append(member)
    for bar, members in holders.items():
        finding.require(len(members) == 1, f"{bar}: {', '.join(sorted(members))}")


def _boundaries(finding: Finding, seen: Survey, keys: Keys, standing: Standing, coming: Iterable[Fact]) -> None:
    state = State(keys)
    later = sorted((fact for fact in coming if fact.kind in LEARNING), key=lambda fact: fact.seq)
    for fact in (*standing.learning, *later):
        state.apply(fact)
    for name, learning in seen.strategies.items():
        facts = state.hash(keys.training(name))
        names = sorted(facts.keys() | learning.training.keys())
        wrong = [
            f"{field_} {learning.training.get(field_)} for {facts.get(field_)}"
            for field_ in names
            if learning.training.get(field_) != facts.get(field_)
        ]
        finding.require(not wrong, f"{name}: {', '.join(wrong)}")


def _open_in_both(finding: Finding, seen: Survey, keys: Keys, standing: Standing, coming: Iterable[Fact]) -> None:
    recorded = set(standing.open)
    for fact in sorted(coming, key=lambda fact: fact.seq):
        place = (fact.fields.get("prefix", ""), fact.fields.get("sid", ""))
        if fact.kind == "opened":
            recorded.add(place)
        elif fact.kind == "closed":
            recorded.discard(place)
    live = {
        (prefix, member.removeprefix(keys.member(prefix, "")))
        for prefix, members in seen.open.items()
        for member in members
    }
    finding.checked += len(live | recorded)
    for prefix, sid in sorted(recorded - live):
        finding.note(f"{prefix}:pos:{sid}: open in the record, not in Redis")
    for prefix, sid in sorted(live - recorded):
        finding.note(f"{prefix}:pos:{sid}: open in Redis, not in the record")
