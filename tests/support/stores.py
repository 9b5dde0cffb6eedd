"""Stores under test with their facts in reach, and the commands sent to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import fakeredis
import redis

from decision.decide import Action
from persistence.connection import text
from persistence.keys import Keys
from persistence.memory_store import MemoryStore
from persistence.redis_store import RedisStore
from persistence.store import (
    ClockKind,
    CloseCommand,
    CloseHow,
    CommitStatus,
    DecideCommand,
    Fact,
    Store,
    StoredPosition,
)
from signals.profile import Limits
from signals.reasons import Reason

T0 = 1_704_067_200_000  # 2024-01-01 00:00 UTC
SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
DEADLINE = T0 + 36 * HOUR
UNLIMITED = Limits(open_positions=0, per_symbol=0, executes_per_minute=0, daily_loss_r=0.0, daily_loss_money=0.0)
PASSED, BELOW = Reason.SCORE_PASSED, Reason.SCORE_BELOW_THRESHOLD

_RAW_OUTBOX = "return redis.call('XRANGE', KEYS[1], '-', '+')"


@dataclass(frozen=True, slots=True)
class Backend:
    """One implementation: the store, its facts so far, and a way to lose its control key."""

    store: Store
    facts: Callable[[], list[Fact]]
    forget_mode: Callable[[], object]

    @property
    def keys(self) -> Keys:
        """How its keys are spelled."""
        return self.store.keys  # type: ignore[attr-defined, no-any-return]


def in_memory(namespace: str = "") -> Backend:
    """The store in memory."""
    store = MemoryStore(namespace)
    return Backend(store, lambda: list(store.facts), lambda: store.state.hashes.pop(store.keys.control()))


def on_redis(client: redis.Redis, namespace: str = "") -> Backend:
    """The store on a server, real or not."""
    # The imitation keeps no log that could be synced.
    store = (
        RedisStore(client, namespace, on_disk=lambda _: True) if _imitated(client) else RedisStore(client, namespace)
    )
    return Backend(store, lambda: outbox(client, store.keys), lambda: client.delete(store.keys.control()))


def _imitated(client: redis.Redis) -> bool:
    return isinstance(client, fakeredis.FakeStrictRedis)


def outbox(client: redis.Redis, keys: Keys) -> list[Fact]:
    """Facts as they lie in the stream, pair by pair: a mapping would hide a name that comes twice."""
    # Through a script, because the client's own parser makes a mapping of each entry.
    entries: Any = client.eval(_RAW_OUTBOX, 1, keys.outbox())
    return [_fact([text(word) for word in flat]) for _, flat in entries]


def _fact(words: list[str]) -> Fact:
    head = dict(zip(words[0:10:2], words[1:10:2], strict=True))
    fields = dict(zip(words[10::2], words[11::2], strict=True))
    return Fact(int(head["seq"]), head["id"], head["kind"], int(head["at"]), fields, head["body"])


def snapshot(client: redis.Redis) -> Mapping[str, object]:
    """Everything on a server, streams included."""
    readers: dict[str, Callable[[str], object]] = {
        "string": client.get,
        "hash": client.hgetall,
        "list": lambda key: client.lrange(key, 0, -1),
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        "stream": lambda key: client.eval(_RAW_OUTBOX, 1, key),
    }
    names = sorted(text(name) for name in client.scan_iter(match="*", count=1000))
    return {name: readers[text(client.type(name))](name) for name in names}


def state_of(store: Store) -> dict[str, Any]:
    """The state now: the store in memory hands out its own tables, which change under whoever keeps them."""
    return deepcopy(dict(store.dump()))


def signal(signal_id: str, **changes: Any) -> DecideCommand:
    """A signal one second old that wants to execute; under ML_OFF it would be a phantom."""
    now_ms = changes.get("now_ms", T0 + SECOND)
    command = DecideCommand(
        now_ms=now_ms,
        signal_id=signal_id,
        fingerprint=f"print of {signal_id}",
        want=Action.EXECUTE,
        reasons=(PASSED, Reason.MODEL_ABSENT),
        body=f'{{"id":"{signal_id}"}}',
        strategy="trend",
        symbol="BTCUSDT",
        alternative=Action.PHANTOM,
        alternative_reasons=(BELOW,),
        signal_ms=now_ms - SECOND,
        max_age_ms=30 * SECOND,
        ttl_ms=10 * SECOND,
        entry_ms=T0,
        deadline_ms=DEADLINE,
        step_ms=300_000,
        terms=f'{{"terms":"{signal_id}"}}',
        track='{"last_ts":0}',
        limits=UNLIMITED,
    )
    return replace(command, **changes)


def phantom(signal_id: str, **changes: Any) -> DecideCommand:
    """A signal that is refused by its score and followed all the same."""
    return signal(signal_id, **({"want": Action.PHANTOM, "reasons": (BELOW,)} | changes))


def ending(position: StoredPosition, **changes: Any) -> CloseCommand:
    """A loss of one R that the learner takes, found by the simulation."""
    command = CloseCommand(
        now_ms=T0 + HOUR,
        signal_id=position.signal_id,
        prefix=position.prefix,
        strategy=position.strategy,
        symbol=position.symbol,
        version=position.version,
        how=CloseHow.SIMULATION,
        outcome="loss",
        result=f'{{"id":"{position.signal_id}","outcome":"loss"}}',
        track='{"last_ts":9}',
        learned=True,
        win=False,
        r_micro=-1_000_000,
        money_micro=-50_000_000,
        groups=("hour|09", "session|us", "volatility|low"),
    )
    return replace(command, **changes)


def created(backend: Backend, clock: ClockKind = ClockKind.DATA) -> Store:
    """The store with its namespace created."""
    backend.store.create(clock, now_ms=T0)
    return backend.store


def held(store: Store, signal_id: str) -> StoredPosition:
    """The position of a signal, which must be there."""
    found = store.position(signal_id)
    if found is None:
        raise LookupError(signal_id)
    return found


def claimed(store: Store, signal_id: str, **changes: Any) -> StoredPosition:
    """A position that was executed and claimed by engine ``e1``."""
    command = signal(signal_id, **changes)
    store.decide(command)
    go = store.claim(signal_id, "e1", now_ms=command.now_ms)
    if go is not Reason.CLAIM_GO:
        raise LookupError(f"{signal_id}: {go}")
    return held(store, signal_id)


def lose(store: Store, signal_id: str, *, r_micro: int, money_micro: int = 0, now_ms: int = T0 + HOUR) -> None:
    """Execute, claim and lose, as the engine reports it."""
    position = claimed(store, signal_id)
    done = store.close(
        ending(
            position,
            how=CloseHow.REPORT,
            report_id=f"close-{signal_id}",
            r_micro=r_micro,
            money_micro=money_micro,
            now_ms=now_ms,
        )
    )
    if done is not CommitStatus.DONE:
        raise LookupError(f"{signal_id}: {done}")
