"""From the outbox stream into the record: every fact once, whoever is killed in between.

An entry leaves the stream only after its fact is in Postgres, so a crash can only make it come twice, and the record
recognises what it has. Order does not matter on the way: the record sorts by sequence number.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, cast

import redis

from persistence.connection import as_failure, text
from persistence.keys import SINKS, Keys
from persistence.record import AppendReport, Head
from persistence.rows import BadFact
from persistence.store import Fact

TRIES = 3
ABANDONED_AFTER_MS = 60_000
CONSUMER = "relay"
PAGE = 1_000
_HEAD = ("seq", "id", "at", "body")
_log = logging.getLogger(__name__)
Reply = TypeVar("Reply")


class Sink(Protocol):
    """Where facts go: it takes all of them or none, and recognises those it has."""

    def append(self, facts: Sequence[Fact]) -> AppendReport:
        """Take facts; raises ``BadFact`` for what it can never take and ``Transient`` when it may work later."""
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the stream as it was read. ``content`` is empty when it was trimmed before it was delivered."""

    id: str
    content: Mapping[bytes | str, bytes | str]


@dataclass(frozen=True, slots=True)
class Backlog:
    """What has not reached the sink: delivered but not acknowledged, not delivered yet, given up."""

    pending: int
    lag: int
    dead: int
    oldest_ms: int | None


@dataclass(frozen=True, slots=True)
class CycleReport:
    """One turn of the relay. ``dead`` counts entries given up in this turn."""

    read: int
    inserted: int
    replayed: int
    conflicts: int
    dead: int
    backlog: Backlog

    @property
    def pending(self) -> int:
        """Entries delivered to the sink's group and not acknowledged."""
        return self.backlog.pending

    @property
    def lag(self) -> int:
        """Entries not delivered yet."""
        return self.backlog.lag


@dataclass(slots=True)
class _Turn:
    """What has become of the entries of one turn so far."""

    done: list[str] = field(default_factory=list)
    dead: list[tuple[Entry, str]] = field(default_factory=list)
    inserted: int = 0
    replayed: int = 0
    conflicts: int = 0
    head: Head | None = None


def fact_from(entry: Entry) -> Fact:
    """The fact an entry holds; raises ``BadFact`` when it holds none."""
    try:
        fields = {text(name): text(value) for name, value in entry.content.items()}
        seq, fact_id, at_ms, body = (fields.pop(name) for name in _HEAD)
        kind = fields.pop("kind")
        if kind != fact_id.partition(":")[0]:
            raise ValueError(f"{fact_id!r} does not begin with its kind {kind!r}")
        return Fact(int(seq), fact_id, kind, int(at_ms), fields, body)
    except (KeyError, ValueError) as error:
        raise BadFact(f"entry {entry.id} holds no fact: {type(error).__name__} {error}") from error


class Relay:
    """Carries facts from the outbox to one sink, as one consumer of the sink's group."""

    def __init__(
        self,
        client: redis.Redis,
        keys: Keys,
        record: Sink,
        sink: str = "postgres",
        *,
        consumer: str = CONSUMER,
        required: Sequence[str] = SINKS,
    ) -> None:
        self._client = client
        self._keys = keys
        self._record = record
        self._sink = sink
        self._consumer = consumer
        self._required = tuple(required)
        self._tries: Counter[str] = Counter()

    def _ask(self, command: Callable[[], Reply]) -> Reply:
        try:
            return command()
        except redis.RedisError as error:
            raise as_failure(error) from error

    def ensure_group(self) -> None:
        """Create the sink's group, from the first entry that is still there."""

        def create() -> None:
            try:
                self._client.xgroup_create(self._keys.outbox(), self._sink, id="0", mkstream=True)
            except redis.ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

        self._ask(create)

    def cycle(self, max_batch: int = 500) -> CycleReport:
        """Carry one batch. Entries whose fate is unknown come first, those of a dead consumer second, new ones last."""
        entries = self._read(max_batch)
        turn = _Turn()
        self._deliver_apart(entries, turn)
        self._settle(turn)
        return CycleReport(len(entries), turn.inserted, turn.replayed, turn.conflicts, len(turn.dead), self.backlog())

    # --- reading

    def _read(self, max_batch: int) -> list[Entry]:
        entries: dict[str, Entry] = {}
        for source in (self._own_pending, self._abandoned, self._new):
            wanted = max_batch - len(entries)
            if wanted > 0:
                entries |= {entry.id: entry for entry in self._ask(lambda: self._with_group(source, wanted))}  # noqa: B023
        return list(entries.values())

    def _with_group(self, source: Callable[[int], list[Entry]], wanted: int) -> list[Entry]:
        try:
            return source(wanted)
        except redis.ResponseError as error:
            # Redis was wiped under us.
            if not str(error).startswith("NOGROUP"):
                raise
            self.ensure_group()
            return source(wanted)

    def _own_pending(self, wanted: int) -> list[Entry]:
        return self._group_read("0", wanted)

    def _new(self, wanted: int) -> list[Entry]:
        return self._group_read(">", wanted)

    def _group_read(self, start: str, wanted: int) -> list[Entry]:
        streams: Any = {self._keys.outbox(): start}
        return list(_entries(self._client.xreadgroup(self._sink, self._consumer, streams, count=wanted)))

    def _abandoned(self, wanted: int) -> list[Entry]:
        reply = cast(
            "Sequence[Any]",
            self._client.xautoclaim(
                self._keys.outbox(), self._sink, self._consumer, ABANDONED_AFTER_MS, "0-0", count=wanted
            ),
        )
        return [Entry(text(entry_id), content) for entry_id, content in reply[1] if entry_id is not None]

    # --- delivering

    def _deliver_apart(self, entries: Sequence[Entry], turn: _Turn) -> None:
        suspects: list[tuple[Entry, Fact]] = []
        healthy: list[tuple[Entry, Fact]] = []
        for entry in entries:
            if not entry.content:
                _log.error("outbox entry %s was trimmed before it reached %s: its fact is lost", entry.id, self._sink)
                turn.done.append(entry.id)
                continue
            try:
                fact = fact_from(entry)
            except BadFact as error:
                self._refused(entry, error, turn)
                continue
            # What failed before goes alone, so that it does not break up the whole batch again.
            (suspects if entry.id in self._tries else healthy).append((entry, fact))
        self._deliver(healthy, turn)
        for suspect in suspects:
            self._deliver([suspect], turn)

    def _deliver(self, batch: Sequence[tuple[Entry, Fact]], turn: _Turn) -> None:
        if not batch:
            return
        try:
            report = self._record.append([fact for _, fact in batch])
        except BadFact as error:
            if len(batch) == 1:
                self._refused(batch[0][0], error, turn)
                return
            half = len(batch) // 2
            self._deliver(batch[:half], turn)
            self._deliver(batch[half:], turn)
            return
        turn.done += [entry.id for entry, _ in batch]
        turn.inserted += report.inserted
        turn.replayed += report.replayed
        turn.conflicts += report.conflicts
        turn.head = report.head or turn.head

    def _refused(self, entry: Entry, error: BadFact, turn: _Turn) -> None:
        self._tries[entry.id] += 1
        if self._tries[entry.id] < TRIES:
            _log.warning("outbox entry %s was refused, try %d of %d: %s", entry.id, self._tries[entry.id], TRIES, error)
            return
        _log.error("outbox entry %s goes to the dead letters: %s", entry.id, error)
        turn.dead.append((entry, str(error)))

    # --- settling

    def _settle(self, turn: _Turn) -> None:
        """Acknowledge and trim in one step: between two, a crash would leave entries nobody ever deletes."""
        leaving = turn.done + [entry.id for entry, _ in turn.dead]
        if not leaving:
            return
        outbox = self._keys.outbox()
        floor = self._ask(lambda: self._floor(frozenset(leaving)))
        known = None if turn.head is None else confirmed_head(self._client, self._keys, self._sink)
        pipe = self._client.pipeline(transaction=True)
        for entry, reason in turn.dead:
            letter: Any = {**entry.content, "dead_entry": entry.id, "dead_sink": self._sink, "dead_reason": reason}
            pipe.xadd(self._keys.dead(), letter)
        pipe.xack(outbox, self._sink, *leaving)
        if floor is not None:
            pipe.xtrim(outbox, minid=floor, approximate=False)
        if turn.head is not None and (known is None or turn.head.links > known.links):
            # Kept outside the record: a Postgres that was put back to an older day no longer has this link, and may
            # not hide that by growing a new end.
            seen: Any = {"links": turn.head.links, "head": turn.head.hash}
            pipe.hset(self._keys.sink(self._sink), mapping=seen)
        self._ask(pipe.execute)
        for entry_id in leaving:
            self._tries.pop(entry_id, None)

    def _floor(self, leaving: frozenset[str]) -> str | None:
        """The first entry some required sink still needs once ours have left; none when one has not even begun.

        Sinks only move forward, so a floor read before the transaction is at most too low.
        """
        groups = {text(group["name"]): group for group in self._groups()}
        if any(sink not in groups for sink in self._required):
            return None
        return min((self._needs(sink, groups[sink], leaving) for sink in self._required), key=_place, default=None)

    def _needs(self, sink: str, group: Mapping[str, Any], leaving: frozenset[str]) -> str:
        gone = leaving if sink == self._sink else frozenset[str]()
        if group["pending"]:
            pending = self._client.xpending_range(self._keys.outbox(), sink, "-", "+", count=len(gone) + 1)
            for entry in cast("Sequence[Mapping[str, Any]]", pending):
                if text(entry["message_id"]) not in gone:
                    return text(entry["message_id"])
        at_ms, number = _place(text(group["last-delivered-id"]))
        return f"{at_ms}-{number + 1}"

    def _groups(self) -> Sequence[Mapping[str, Any]]:
        return cast("Sequence[Mapping[str, Any]]", self._client.xinfo_groups(self._keys.outbox()))

    # --- standing

    def backlog(self) -> Backlog:
        """How far the sink is behind."""
        return self._ask(self._backlog)

    def _backlog(self) -> Backlog:
        outbox = self._keys.outbox()
        dead = self._client.xlen(self._keys.dead())
        if not self._client.exists(outbox):
            return Backlog(0, 0, dead, None)
        held = self._client.xlen(outbox)
        group = next((group for group in self._groups() if text(group["name"]) == self._sink), None)
        pending = 0 if group is None else int(group["pending"])
        # Redis does not know its lag after a deletion in the middle; then all that is not pending may be undelivered.
        known = None if group is None else group.get("lag")
        lag = held - pending if known is None else int(known)
        oldest = cast("Sequence[Any]", self._client.xrange(outbox, count=1)) if pending + lag > 0 else ()
        if not oldest:
            return Backlog(pending, lag, dead, None)
        seconds, microseconds = self._client.time()
        age_ms = seconds * 1000 + microseconds // 1000 - _place(text(oldest[0][0]))[0]
        return Backlog(pending, lag, dead, max(age_ms, 0))

    def publish(self, backlog: Backlog, trouble: str = "") -> None:
        """Show how far the sink is behind, and what is in its way."""
        shown: Any = {
            "pending": backlog.pending,
            "lag": backlog.lag,
            "dead": backlog.dead,
            "oldest_ms": "" if backlog.oldest_ms is None else backlog.oldest_ms,
            "trouble": trouble,
        }
        self._ask(lambda: self._client.hset(self._keys.sink(self._sink), mapping=shown))


def entries_until(client: redis.Redis, keys: Keys, last: str) -> Iterator[Entry]:
    """Entries still in the stream up to one, read in pieces."""
    start = "-"
    while True:
        page = cast("Sequence[Any]", client.xrange(keys.outbox(), start, last, count=PAGE))
        for entry_id, content in page:
            yield Entry(text(entry_id), content)
        if len(page) < PAGE:
            return
        start = f"({text(page[-1][0])}"


def confirmed_head(client: redis.Redis, keys: Keys, sink: str = "postgres") -> Head | None:
    """The record's chain head as the relay last saw it; none when it has not carried a fact yet."""
    try:
        links, found = cast("list[Any]", client.hmget(keys.sink(sink), "links", "head"))
    except redis.RedisError as error:
        raise as_failure(error) from error
    return None if links is None or found is None else Head(int(links), text(found))


def forget_head(client: redis.Redis, keys: Keys, sink: str = "postgres") -> None:
    """Accept the record as it stands."""
    client.hdel(keys.sink(sink), "links", "head")


def _entries(reply: Any) -> Iterable[Entry]:
    """Entries of one stream in any of the shapes the client has for them."""
    if not reply:
        return
    (found,) = reply.values() if isinstance(reply, Mapping) else [stream[1] for stream in reply]
    # The newer protocol wraps the entries once more.
    for entry_id, content in found[0] if found and isinstance(found[0], list) else found:
        yield Entry(text(entry_id), content or {})


def _place(entry_id: str) -> tuple[int, int]:
    at_ms, _, number = entry_id.partition("-")
    return int(at_ms), int(number)
