"""Who may do what on the Redis: one table of roles, written as the server's ACL file.

A script runs with the rights of whoever calls it, command by command. So a role that only claims and reports needs the
commands of those scripts on just their keys, and ``EVALSHA`` without a way to bring in scripts of its own: it can run
what a worker has loaded and nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from persistence.keys import STATE_PREFIXES, Keys

ANY = "*"
OUR_FAMILIES = ("ml", "phantom", "scalp_phantom", "qcal", "market")
CONNECTION = ("hello", "auth", "ping", "quit", "reset", "select", "client|setinfo", "client|setname", "time")
TRANSACTION = ("multi", "exec", "discard", "unwatch")
# What every script asks of its keys before it writes, and what plain reads of the state need.
LOOKS = ("type", "exists", "get", "hget", "hgetall", "hmget", "hexists", "zcard", "zcount", "zscore")
SCRIPTS = ("+evalsha", "+script|load", "+script|exists")
# Of the commands that read and write, those that concern the server and everybody on it.
NEVER = ("-@admin", "-@dangerous", "-@pubsub", "-script|flush", "-script|kill", "-function")


class Role(StrEnum):
    """Who connects. The follower has the worker's role: both carry positions through their life."""

    ENGINE = "engine"
    WORKER = "worker"
    RELAY = "relay"
    TRAINER = "trainer"
    OPERATOR = "operator"
    DASH = "dash"


@dataclass(frozen=True, slots=True)
class Grant:
    """Commands on keys; ``reads`` may only be read, whatever the command."""

    commands: tuple[str, ...]
    keys: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()

    def rule(self) -> str:
        """As the server writes it."""
        commands = [word if word[0] in "+-" else f"+{word}" for word in self.commands]
        return " ".join([*(f"~{key}" for key in self.keys), *(f"%R~{key}" for key in self.reads), *commands])


def grants(role: Role, keys: Keys, queue: str) -> tuple[Grant, ...]:
    """What a role may do in one namespace, whose queue has this name."""
    families = tuple(keys.family(word) for word in OUR_FAMILIES)
    bundles, jobs = keys.bundle_bytes(ANY), "rq:*"
    match role:
        case Role.ENGINE:
            return _engine(keys, queue)
        case Role.WORKER:
            return (
                Grant(("+@read", "+@write", "+@transaction", "+eval", *SCRIPTS, *NEVER), (*families, jobs), (bundles,)),
                # RQ looks its own address up in the list of clients and warns when it may not.
                Grant(("info", "client|list")),
            )
        case Role.RELAY:
            return _relay(keys)
        case Role.TRAINER:
            return _trainer(keys)
        case Role.OPERATOR:
            return (
                Grant(("+@read", "+@write", "+@transaction", *SCRIPTS, *NEVER), (*families, bundles, jobs)),
                Grant(("info",)),
            )
        case Role.DASH:
            return (Grant(("+@read", *NEVER), reads=(*families, jobs)), Grant(("info",)))


def _engine(keys: Keys, queue: str) -> tuple[Grant, ...]:
    """Put signals on one queue, read answers, claim, report, feed candles."""
    positions = tuple(keys.position(prefix, ANY) for prefix in STATE_PREFIXES)
    open_, closed = (tuple(of(prefix) for prefix in STATE_PREFIXES) for of in (keys.open, keys.closed))
    answers, counters = keys.signal(ANY), (keys.closed_total(ANY), keys.completed_trades(ANY))
    lists = (keys.trades(ANY), keys.timeouts(ANY), keys.win_rate(ANY), keys.breaker_history(), keys.slips())
    hashes = (keys.executed_symbols(), keys.day(ANY), keys.outcomes(ANY), keys.metrics(ANY), keys.breakers())
    waiting = (keys.claims(), keys.unreported(), keys.claimed())
    sets = (*waiting, keys.executed(), keys.due(), keys.follow(ANY), *open_, *closed)
    learning = (keys.training(ANY), keys.corrections(ANY))
    streams = (keys.outbox(), keys.candles())
    # Whether HALT is in force, what the clock says: to be seen by a script, never to be written by it.
    seen = (keys.control(), keys.meta(), keys.market_clock(), keys.follower(), keys.market_seen(), keys.latencies())
    touched = (*positions, answers, *counters, *lists, *hashes, *sets, *learning, *streams, *seen)
    job, result = "rq:job:*", "rq:results:*"
    return (
        # RQ asks for the server's version, and a claim whether the log is synced. Not for CONFIG: it shows passwords.
        Grant((*TRANSACTION, "info", "waitaof", "wait")),
        Grant(("sadd",), ("rq:queues",)),
        Grant(("rpush", "lpush"), (f"rq:queue:{queue}",)),
        Grant(("hset", "expire", "persist", "hget", "hgetall", "exists"), (job,)),
        Grant(("xrevrange", "xread", "exists"), reads=(result,)),
        Grant(("evalsha",), touched),
        Grant((*LOOKS, "xread", "llen", "lrange"), reads=touched),
        Grant(("hset",), (*positions, answers, *learning, keys.breakers())),
        Grant(("hdel",), (keys.breakers(),)),
        Grant(("hincrby",), (keys.meta(), *hashes)),
        Grant(("zadd", "zrem"), sets),
        Grant(("zremrangebyscore",), (keys.claimed(),)),
        Grant(("incr",), counters),
        Grant(("rpush", "lpush", "ltrim"), lists),
        Grant(("xadd",), streams),
        Grant(("set",), (keys.market_clock(),)),
    )


def _relay(keys: Keys) -> tuple[Grant, ...]:
    """Carry the outbox away, see whether live state and record agree, and halt when they do not."""
    outbox, dead, boards = keys.outbox(), keys.dead(), keys.sink(ANY)
    families = tuple(keys.family(word) for word in OUR_FAMILIES)
    return (
        Grant((*TRANSACTION, "info")),
        Grant(("xgroup|create", "xreadgroup", "xautoclaim", "xpending", "xack", "xtrim", "xinfo|groups"), (outbox,)),
        Grant(("xadd", "xlen", "exists"), (dead,)),
        Grant(("hset", "hdel", "hmget"), (boards,)),
        # A script that only looks needs the right to be called on what it looks at; what it does is judged apart.
        Grant(SCRIPTS, families),
        Grant(("+@read", *NEVER), reads=families),
        # The halt: one script, and stopping is never a right too many.
        Grant(("hset",), (keys.control(),)),
        Grant(("hincrby",), (keys.meta(),)),
        Grant(("xadd",), (outbox,)),
    )


def _trainer(keys: Keys) -> tuple[Grant, ...]:
    """Read outcomes and which positions are still open, publish bundles."""
    training, bundles = keys.training(ANY), keys.bundles(ANY)
    learned, attempts = keys.tables(ANY), keys.attempts(ANY)
    scalars = tuple(keys.scalar(ANY, name) for name in ("nn_enabled", "last_train_count", "last_train_ts"))
    tables = tuple(keys.qcal(ANY, name) for name in ("thr", "last_train_count"))
    switches = (keys.meta(), keys.control(), keys.breakers())
    known = (*switches, keys.market_clock(), keys.profile(ANY), keys.completed_trades(ANY))
    touched = (training, bundles, learned, attempts, *scalars, *tables, keys.outbox(), keys.meta())
    waiting = tuple(key for prefix in STATE_PREFIXES for key in (keys.open(prefix), keys.position(prefix, ANY)))
    outcomes = (keys.trades(ANY), keys.timeouts(ANY), keys.corrections(ANY))
    return (
        Grant((*TRANSACTION, "info")),
        Grant(("set", "get"), (keys.bundle_bytes(ANY),)),
        Grant(("evalsha",), touched),
        Grant((*LOOKS, "lrange", "zrange"), reads=(*touched, *known, *outcomes, *waiting, keys.paths(ANY))),
        Grant(("hset",), (training, bundles, learned, attempts)),
        Grant(("hdel",), (learned,)),
        Grant(("hincrby",), (training, keys.meta())),
        Grant(("set",), (*scalars, *tables)),
        Grant(("xadd",), (keys.outbox(),)),
    )


def acl_file(passwords: Mapping[Role, str], keys: Keys, queue: str) -> str:
    """The server's ACL file: nobody gets in without a role, and passwords stand in it as hashes only."""
    lines = ["user default off nopass -@all resetkeys resetchannels"]
    for role in Role:
        digest = hashlib.sha256(passwords[role].encode()).hexdigest()
        selectors = " ".join(f"({grant.rule()})" for grant in grants(role, keys, queue))
        root = Grant(("-@all", *CONNECTION)).rule()
        lines.append(f"user {role.value} on sanitize-payload #{digest} resetkeys resetchannels {root} {selectors}")
    return "\n".join(lines) + "\n"
