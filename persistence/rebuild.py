"""Recreate the live state in Redis from the record: the fold of all facts, in HALT until a person says otherwise.

While it runs the namespace has no ``meta`` key, and without it every script refuses to commit: nothing can be added to
a state that is being replaced, and a rebuild that is killed half-way leaves a namespace that does nothing until the
next one has finished.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import redis

from persistence.audit import missing_head
from persistence.connection import as_failure, text
from persistence.keys import STATE_PREFIXES, Keys
from persistence.outbox import Relay, confirmed_head, forget_head
from persistence.record import Record
from persistence.state import State
from persistence.store import ClockKind, Fact, Mode
from signals.errors import Permanent

ACTOR = "rebuild"
BATCH = 500
_OF_A_POSITION = frozenset({"claimed", "unclaimed", "touched", "fill", "closed", "corrected", "path"})
Item = TypeVar("Item")
_log = logging.getLogger(__name__)


class RebuildRefused(Permanent):
    """Rebuilding now would lose something or surprise somebody; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildReport:
    """What was put back. ``orphans`` are facts whose beginning the record does not have; they were left out."""

    facts: int
    drained: int
    missing: int
    orphans: tuple[str, ...]
    pruned: int
    keys: int
    open_positions: int
    epoch: int
    generation: int
    last_at_ms: int

    def __str__(self) -> str:
        parts = [
            f"{self.facts} facts ({self.drained} of them still in the outbox before)",
            f"{self.keys} keys, {self.open_positions} open positions, {self.pruned} forgotten by age",
            f"epoch {self.epoch}, mode HALT, generation {self.generation}",
        ]
        if self.missing > 0:
            parts.append(f"{self.missing} sequence numbers are not in the record")
        if self.orphans:
            parts.append(f"left out: {', '.join(self.orphans[:10])}")
        return "; ".join(parts)


@dataclass(slots=True)
class Fold:
    """The state after all facts, and what was noticed on the way."""

    state: State
    facts: int = 0
    missing: int = 0
    last_seq: int = 0
    last_at_ms: int = 0
    rebuilds: int = 0
    orphans: list[str] = field(default_factory=list)


def rebuild(client: redis.Redis, keys: Keys, record: Record, *, force: bool = False) -> RebuildReport:
    """Replace the namespace's live state by the fold of its facts.

    Refuses while the namespace is not in HALT, while facts wait in the dead letters, and when the record has the
    middle of a story without its beginning; ``force`` does it all the same.
    """
    try:
        with record.lock(ACTOR):
            meta = _fence(client, keys, force=force)
            try:
                # Before anything is added to a record that may have lost its end.
                _check_head(client, keys, record, force=force)
                drained = _drain(client, keys, record)
                _check_dead(client, keys, force=force)
                folded = fold(record.facts(), keys)
                _check_whole(folded, keys, force=force)
            except BaseException:
                _unfence(client, keys, meta)
                raise
            _restore_bundles(client, keys, record, folded)
            return _replace(client, keys, folded, drained, int(meta.get("epoch", "0")))
    except redis.RedisError as error:
        raise as_failure(error) from error


# --- the fence


def _fence(client: redis.Redis, keys: Keys, *, force: bool) -> dict[str, str]:
    """Take the meta key away, unless somebody switches the mode meanwhile; returns what it held."""
    watching: Any = client.pipeline(transaction=True)
    with watching as pipe:
        pipe.watch(keys.control(), keys.meta())
        mode = _hash(pipe, keys.control()).get("mode")
        if mode is not None and mode != Mode.HALT and not force:
            raise RebuildRefused(
                f"the namespace is {mode}: run `penumbra halt` first, so that nobody acts on a state that is replaced"
            )
        meta = _hash(pipe, keys.meta())
        pipe.multi()
        pipe.delete(keys.meta())
        try:
            pipe.execute()
        except redis.WatchError as error:
            raise RebuildRefused("something was committed just now: try again") from error
    return meta


def _unfence(client: redis.Redis, keys: Keys, meta: dict[str, str]) -> None:
    if not meta:
        return
    try:
        content: Any = meta
        client.hset(keys.meta(), mapping=content)
    except redis.RedisError:
        # Without it nothing trades, which is where a failed rebuild should leave things.
        _log.exception("the namespace stays without its meta key: run `penumbra rebuild` again")


# --- before the fold


def _drain(client: redis.Redis, keys: Keys, record: Record) -> int:
    """Carry what is still in the outbox into the record: it is nowhere else."""
    relay = Relay(client, keys, record)
    relay.ensure_group()
    drained = 0
    while True:
        report = relay.cycle(BATCH)
        drained += report.inserted
        if report.pending + report.lag == 0:
            return drained
        if report.read == 0:
            raise RebuildRefused(
                f"another consumer of the outbox holds {report.pending} facts that are not in Postgres yet: "
                "try again in a minute"
            )


def _check_dead(client: redis.Redis, keys: Keys, *, force: bool) -> None:
    dead = client.xlen(keys.dead())
    if dead > 0 and not force:
        raise RebuildRefused(
            f"{dead} facts in {keys.dead()} never reached Postgres and would be missing: look at them first, then "
            "delete them or use --force"
        )


def _check_head(client: redis.Redis, keys: Keys, record: Record, *, force: bool) -> None:
    """A record that once held more than it does now makes a poorer state than the one it would replace."""
    confirmed = confirmed_head(client, keys)
    gone = None if confirmed is None else missing_head(record, confirmed)
    if gone is None:
        return
    if not force:
        raise RebuildRefused(
            f"{gone.detail}: put back a newer copy of it, or use --force to go on without what is lost"
        )
    forget_head(client, keys)


def _check_whole(folded: Fold, keys: Keys, *, force: bool) -> None:
    if "clock" not in folded.state.hash(keys.meta()):
        raise RebuildRefused(f"the record does not know the namespace {keys.namespace or '(default)'}")
    if folded.orphans and not force:
        raise RebuildRefused(
            f"the record has no beginning to {len(folded.orphans)} facts, {folded.orphans[0]} first: find out what was "
            "lost, or use --force to leave them out"
        )


# --- the fold


def fold(facts: Iterable[Fact], keys: Keys) -> Fold:
    """Let every fact take effect, then forget what is older than thirty days before the last one."""
    folded = Fold(State(keys))
    # After a roll-back of Redis a later fact of a story can carry an earlier number than its beginning.
    early: defaultdict[str, list[Fact]] = defaultdict(list)
    for fact in facts:
        folded.facts += 1
        folded.missing += max(0, fact.seq - folded.last_seq - 1)
        folded.last_seq = max(folded.last_seq, fact.seq)
        folded.last_at_ms = max(folded.last_at_ms, fact.at_ms)
        folded.rebuilds += fact.kind == "control" and fact.fields.get("by") == ACTOR
        signal_id = fact.fields.get("sid", "")
        if _lacks_beginning(folded.state, fact):
            early[signal_id].append(fact)
            continue
        _apply(folded.state, fact)
        waiting = early.pop(signal_id, ()) if signal_id else ()
        for later in waiting:
            if _lacks_beginning(folded.state, later):
                early[signal_id].append(later)
            else:
                _apply(folded.state, later)
    folded.orphans = [fact.id for waiting in early.values() for fact in waiting]
    return folded


def _lacks_beginning(state: State, fact: Fact) -> bool:
    keys, signal_id = state.keys, fact.fields.get("sid", "")
    if fact.kind == "conflict":
        return keys.signal(signal_id) not in state.hashes
    if fact.kind not in _OF_A_POSITION:
        return False
    if fact.kind == "claimed" and keys.signal(signal_id) not in state.hashes:
        return True
    return keys.position(fact.fields.get("prefix", STATE_PREFIXES[0]), signal_id) not in state.hashes


def _apply(state: State, fact: Fact) -> None:
    try:
        state.apply(fact)
    except (KeyError, ValueError) as error:
        raise RebuildRefused(f"fact {fact.id} of kind {fact.kind} cannot take effect: {error!r}") from error


# --- the new state


def _replace(client: redis.Redis, keys: Keys, folded: Fold, drained: int, epoch: int) -> RebuildReport:
    state = folded.state
    pruned = state.prune(folded.last_at_ms)
    clock = _clock(client, keys, state)
    now_ms = max(clock, folded.last_at_ms) if _is_data(keys, state) else clock
    control = _halt(client, keys, folded, now_ms)
    state.apply(control)
    state.hash(keys.meta())["epoch"] = str(max(epoch, 1 + folded.rebuilds) + 1)
    # From here on only a finished rebuild brings the namespace back.
    _delete_owned(client, keys)
    written = _write(client, state, but=frozenset({keys.meta(), keys.control()}))
    pipe = client.pipeline(transaction=True)
    if _is_data(keys, state) and now_ms > clock:
        pipe.set(keys.market_clock(), now_ms)
    for key in (keys.control(), keys.meta()):
        content: Any = state.hash(key)
        pipe.hset(key, mapping=content)
    entry: Any = {"seq": control.seq, "kind": control.kind, "id": control.id, "at": control.at_ms, "body": control.body}
    pipe.xadd(keys.outbox(), entry | control.fields)
    pipe.execute()
    report = RebuildReport(
        facts=folded.facts,
        drained=drained,
        missing=folded.missing,
        orphans=tuple(folded.orphans),
        pruned=pruned,
        keys=written + 2,
        open_positions=sum(len(state.zset(keys.open(prefix))) for prefix in STATE_PREFIXES),
        epoch=int(state.hash(keys.meta())["epoch"]),
        generation=int(control.fields["gen"]),
        last_at_ms=folded.last_at_ms,
    )
    _log.warning("rebuilt: %s", report)
    return report


def _is_data(keys: Keys, state: State) -> bool:
    return state.hash(keys.meta())["clock"] == ClockKind.DATA


def _clock(client: redis.Redis, keys: Keys, state: State) -> int:
    if _is_data(keys, state):
        return int(client.get(keys.market_clock()) or 0)
    seconds, microseconds = client.time()
    return seconds * 1000 + microseconds // 1000


def _halt(client: redis.Redis, keys: Keys, folded: Fold, now_ms: int) -> Fact:
    """The fact that puts the namespace into HALT; its generation is one nobody has confirmed."""
    known = folded.state.hash(keys.control()).get("gen", "0")
    generation = max(int(known), int(_hash(client, keys.control()).get("gen", "0"))) + 1
    fields = {
        "mode": Mode.HALT.value,
        "gen": str(generation),
        "by": ACTOR,
        "reason": f"rebuilt from {folded.facts} facts",
    }
    return Fact(folded.last_seq + 1, f"control:{generation}", "control", now_ms, fields, "{}")


def _restore_bundles(client: redis.Redis, keys: Keys, record: Record, folded: Fold) -> None:
    """The bytes behind every pointer, before the pointers: what is in force and what it would go back to."""
    wanted = {
        address
        for entry in folded.state.hashes.values()
        for address in (entry.get("bundle"), entry.get("previous"))
        if "attempt" in entry and address
    }
    for address in sorted(wanted):
        data = record.bundle(address)
        # Without its bytes the model fails and says so at every decision: refused, not lost.
        if data is not None:
            client.set(keys.bundle_bytes(address), data)


def _delete_owned(client: redis.Redis, keys: Keys) -> None:
    pattern = f"{keys.namespace}:*" if keys.namespace else "*"
    owned = (name for name in client.scan_iter(match=pattern, count=1_000) if keys.owns(text(name)))
    for batch in _batches(owned):
        client.unlink(*batch)


def _write(client: redis.Redis, state: State, *, but: frozenset[str]) -> int:
    """Write every key except some; returns how many."""
    written: set[str] = set()
    for batch in _batches(_commands(state)):
        pipe: Any = client.pipeline(transaction=False)
        for command, key, *values in batch:
            if key not in but:
                pipe.execute_command(command, key, *values)
                written.add(key)
        pipe.execute()
    return len(written)


def _commands(state: State) -> Iterator[tuple[str, ...]]:
    """Redis commands that write a state, none of them large."""
    for key, value in state.strings.items():
        yield "SET", key, value
    for key, entry in state.hashes.items():
        for pairs in _batches(entry.items()):
            yield "HSET", key, *(word for pair in pairs for word in pair)
    for key, items in state.lists.items():
        for part in _batches(items):
            yield "RPUSH", key, *part
    for key, scores in state.zsets.items():
        for members in _batches(scores.items()):
            yield "ZADD", key, *(word for member, score in members for word in (str(score), member))


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    running = iter(items)
    while batch := list(islice(running, BATCH)):
        yield batch


def _hash(client: redis.Redis, key: str) -> dict[str, str]:
    found: Any = client.hgetall(key)
    return {text(name): text(value) for name, value in found.items()}
