"""What the live state says at one moment, as far as it can be checked against itself and against the record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from persistence.connection import as_failure, text
from persistence.keys import STATE_PREFIXES, Keys
from persistence.outbox import Entry, entries_until, fact_from
from persistence.rows import BadFact
from persistence.scripts import Scripts
from persistence.store import Fact

NO_NUMBER = -(2**53)


@dataclass(frozen=True, slots=True)
class Place:
    """What is known of a position; empty words where its hash, or a field of it, is not there."""

    status: str
    sim: str
    kind: str
    symbol: str
    strategy: str
    sid: str
    prefix: str
    deadline: str
    seq: str
    claimed_by: str
    unclaimed: str
    bar: str


@dataclass(frozen=True, slots=True)
class Learning:
    """One strategy's counters and where it stands with its training."""

    completed: int
    closed_total: int
    outcomes: Mapping[str, int]
    trades: int
    training: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Survey:
    """The live state at one moment. Sorted sets are mappings from member to score; ``newest`` is the outbox's end."""

    meta: Mapping[str, str]
    open: Mapping[str, Mapping[str, int]]
    due: Mapping[str, int]
    executed: Mapping[str, int]
    unreported: Mapping[str, int]
    claims: Mapping[str, int]
    symbols: Mapping[str, int]
    follow: Mapping[str, Mapping[str, int]]
    places: Mapping[str, Place]
    strategies: Mapping[str, Learning]
    newest: str

    @property
    def seq(self) -> int:
        """Sequence number of the last fact committed."""
        return whole(self.meta.get("seq", "0"))


def survey(client: redis.Redis, keys: Keys, strategies: Iterable[str], *, thorough: bool) -> Survey:
    """Look at everything at once; ``thorough`` also finds what no set knows of, by the names of keys."""
    symbols: list[str] = []
    members: list[str] = []
    if thorough:
        symbols = _tails(client, keys.follow(""))
        for prefix in STATE_PREFIXES:
            members += [keys.member(prefix, name) for name in _tails(client, keys.position(prefix, ""))]
    args: dict[str, str | int] = {
        "head": keys.by_member(""),
        "follow": keys.follow(""),
        "sig": keys.signal(""),
        "symbols": "\n".join(symbols),
        "members": "\n".join(members),
        "strategies": "\n".join(strategies),
    }
    for name in strategies:
        args |= {
            f"completed:{name}": keys.completed_trades(name),
            f"closed_total:{name}": keys.closed_total(name),
            f"outcomes:{name}": keys.outcomes(name),
            f"trades:{name}": keys.trades(name),
            f"training:{name}": keys.training(name),
        }
    named = {
        "meta": keys.meta(),
        "outbox": keys.outbox(),
        **{f"open_{prefix}": keys.open(prefix) for prefix in STATE_PREFIXES},
        "due": keys.due(),
        "executed": keys.executed(),
        "unreported": keys.unreported(),
        "claims": keys.claims(),
        "symbols": keys.executed_symbols(),
    }
    meta, sets, claims, symbols, follows, places, learning, newest = Scripts(client).call("survey", named, args)
    first, second, due, executed, unreported = map(_scores, sets)
    return Survey(
        meta=_pairs(meta),
        open=dict(zip(STATE_PREFIXES, (first, second), strict=True)),
        due=due,
        executed=executed,
        unreported=unreported,
        claims=_scores(claims),
        symbols=_scores(symbols),
        follow={text(symbol): _scores(flat) for symbol, flat in follows},
        places={text(member): Place(*map(text, found)) for member, found in places},
        strategies={text(name): _learning(*rest) for name, *rest in learning},
        newest=text(newest),
    )


def undrained(client: redis.Redis, keys: Keys, newest: str) -> list[Fact]:
    """Facts up to an entry that are still in the outbox; what holds no fact is the relay's business."""
    found: list[Fact] = []
    try:
        for entry in entries_until(client, keys, newest):
            found += _fact(entry)
    except redis.RedisError as error:
        raise as_failure(error) from error
    return found


def _fact(entry: Entry) -> Iterable[Fact]:
    try:
        return (fact_from(entry),)
    except BadFact:
        return ()


def _tails(client: redis.Redis, head: str) -> list[str]:
    """What follows a head, in every key that has it."""
    try:
        return sorted(text(name)[len(head) :] for name in client.scan_iter(match=f"{head}*", count=1_000))
    except redis.RedisError as error:
        raise as_failure(error) from error


def _learning(completed: Any, closed_total: Any, outcomes: Any, trades: Any, training: Any) -> Learning:
    return Learning(
        completed=whole(completed),
        closed_total=whole(closed_total),
        outcomes=_scores(outcomes),
        trades=int(trades),
        training=_pairs(training),
    )


def whole(value: bytes | str) -> int:
    """A counter, 0 when it is not there, and what no counter can be when somebody wrote something else into it."""
    try:
        return int(text(value) or "0")
    except ValueError:
        return NO_NUMBER


def _pairs(flat: Sequence[bytes | str]) -> dict[str, str]:
    words = [text(word) for word in flat]
    return dict(zip(words[::2], words[1::2], strict=True))


def _scores(flat: Sequence[bytes | str]) -> dict[str, int]:
    return {name: whole(value) for name, value in _pairs(flat).items()}
