"""The store on Redis or Valkey: every commit is one script call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, cast

import redis

from persistence.breakers import FIELDS
from persistence.connection import as_failure, text
from persistence.durability import is_on_disk
from persistence.keys import STATE_PREFIXES, Keys
from persistence.preflight import check_server
from persistence.records import decision_from, forgotten, opened_in_order, position_from, training_from
from persistence.redis_breaker_store import RedisBreakers
from persistence.scripts import Scripts
from persistence.store import (
    CLOCK_SKEW_MS,
    RETENTION_MS,
    SCHEMA_VERSION,
    TRADES_KEPT,
    UNREPORTED_GRACE_MS,
    WIN_RATE_WINDOW,
    ClockKind,
    CloseCommand,
    CommitStatus,
    Control,
    DecideCommand,
    DecideReply,
    DecideStatus,
    Decision,
    Mode,
    PublishCommand,
    PublishStatus,
    StateMissing,
    StoredPosition,
    TableCommand,
    Training,
    VolatilityUpdate,
    micro,
)
from signals.context import VOLATILITY_HISTORY
from signals.reasons import Reason
from signals.timeday import utc_day

Reply = TypeVar("Reply")
PRUNE_BATCH = 500


class RedisStore(RedisBreakers):
    """State of one namespace in Redis; facts leave through the outbox stream."""

    def __init__(
        self, client: redis.Redis, namespace: str = "", *, on_disk: Callable[[redis.Redis], bool] = is_on_disk
    ) -> None:
        self.keys = Keys(namespace)
        self.client = client
        self._on_disk = on_disk
        self._scripts = Scripts(client)
        self._clock: ClockKind | None = None

    def _ask(self, command: Callable[[], object]) -> Any:
        try:
            return command()
        except redis.RedisError as error:
            raise as_failure(error) from error

    def _run(
        self, name: str, keys: Mapping[str, str], args: Mapping[str, str | int], *, on: redis.Redis | None = None
    ) -> Any:
        # Only creation may write into an empty namespace; everything else must find it created.
        spelled = {"meta": self.keys.meta(), "outbox": self.keys.outbox(), **keys}
        return self._scripts.call(name, spelled, args, on=on)

    def _hash(self, key: str) -> dict[str, str]:
        return _texts(self._ask(lambda: self.client.hgetall(key)))

    # --- the namespace and its clock

    def create(self, clock: ClockKind, *, now_ms: int) -> ClockKind:
        args: dict[str, str | int] = {"schema": SCHEMA_VERSION, "clock": clock.value, "now": now_ms}
        args["breakers"] = ",".join(FIELDS)
        keys = {"ctl": self.keys.control(), "breakers": self.keys.breakers()}
        return ClockKind(text(self._run("create", keys, args)))

    def exists(self) -> bool:
        return bool(self._ask(lambda: self.client.exists(self.keys.meta())))

    def check_server(self, *, any_schema: bool = False) -> None:
        """Refuse a server that may forget, evict or is not ours to write to."""
        check_server(self.client, self.keys, any_schema=any_schema)

    def offer_scripts(self) -> None:
        """See that whoever may only run scripts finds them, also after the server has forgotten them."""
        self._scripts.offer()

    def clock_kind(self) -> ClockKind:
        if self._clock is None:
            found = self._ask(lambda: self.client.hget(self.keys.meta(), "clock"))
            if found is None:
                raise StateMissing("the namespace has not been created: run `penumbra migrate`, or `penumbra rebuild`")
            self._clock = ClockKind(text(found))
        return self._clock

    def now_ms(self) -> int:
        if self.clock_kind() is ClockKind.DATA:
            return int(self._ask(lambda: self.client.get(self.keys.market_clock())) or 0)
        return self.server_ms()

    def server_ms(self) -> int:
        """The server's own time."""
        seconds, microseconds = self._ask(self.client.time)
        return int(seconds) * 1000 + int(microseconds) // 1000

    def advance_clock(self, now_ms: int) -> None:
        # In Redis the feed script moves the clock together with the candle that moved it.
        if self.clock_kind() is ClockKind.DATA and now_ms > self.now_ms():
            self._ask(lambda: self.client.set(self.keys.market_clock(), now_ms))

    def feed(self, symbol: str, timeframe: str, candle: str, closes_ms: int) -> str:
        """Hand a closed candle to the follower; returns its place in the stream."""
        keys = {"candles": self.keys.candles(), "clock": self.keys.market_clock()}
        args: dict[str, str | int] = {"symbol": symbol, "timeframe": timeframe, "candle": candle, "closes": closes_ms}
        return text(self._run("feed", keys, args))

    def register(self, strategy: str, settings: str, threshold: str, *, first_training: int = 30, now_ms: int) -> None:
        # Asked before the script asks: a process that changes nothing needs no right to change it.
        known = self._ask(lambda: self.client.hget(self.keys.profile(strategy), "settings"))
        if known is not None and text(known) == settings:
            return
        keys = {
            "training": self.keys.training(strategy),
            "profile": self.keys.profile(strategy),
            "threshold": self.keys.scalar(strategy, "threshold"),
            "completed": self.keys.completed_trades(strategy),
            "closed_total": self.keys.closed_total(strategy),
            "nn_enabled": self.keys.scalar(strategy, "nn_enabled"),
            "trained": self.keys.scalar(strategy, "last_train_count"),
            "qcal_thr": self.keys.qcal(strategy, "thr"),
            "qcal_trained": self.keys.qcal(strategy, "last_train_count"),
        }
        args: dict[str, str | int] = {
            "strategy": strategy,
            "settings": settings,
            "threshold": threshold,
            "first": first_training,
            "now": now_ms,
        }
        self._run("register", keys, args)

    # --- decide, claim, lapse

    def decide(self, command: DecideCommand) -> DecideReply:
        day = utc_day(command.now_ms)
        keys = {
            "ctl": self.keys.control(),
            "sig": self.keys.signal(command.signal_id),
            "ledger": self.keys.ledger(),
            "pos": self.keys.position(command.prefix, command.signal_id),
            "open_phantom": self.keys.open("phantom"),
            "open_scalp_phantom": self.keys.open("scalp_phantom"),
            "follow": self.keys.follow(command.symbol),
            "awaited": self.keys.awaited(command.symbol),
            "due": self.keys.due(),
            "executed": self.keys.executed(),
            "symbols": self.keys.executed_symbols(),
            "executes": self.keys.executes(),
            "claims": self.keys.claims(),
            "blocked": self.keys.blocked(command.prefix, day),
            **self._standing_keys(command.now_ms),
        }
        if command.bar:
            keys["bar"] = self.keys.bar(command.bar)
        status, first, flat = self._run("decide", keys, _decide_args(command, day))
        first = text(first)
        # An alias, or the first answer of a bar, lives under another id than the one that was asked for.
        elsewhere = first != command.signal_id
        decision = self._first(first) if elsewhere else decision_from(first, _pairs(flat))
        return DecideReply(DecideStatus(text(status)), decision)

    def _first(self, signal_id: str) -> Decision:
        entry = self._hash(self.keys.signal(signal_id))
        return decision_from(signal_id, entry) if entry else forgotten(signal_id)

    def claim(self, signal_id: str, engine: str, *, now_ms: int) -> Reason:
        try:
            # One socket for the write and for the question after it: a server answers for the writes of a socket.
            with self.client.client() as pinned:  # type: ignore[no-untyped-call]
                reason = self._claim(pinned, signal_id, engine, now_ms, asked=signal_id)
                safe = reason is not Reason.CLAIM_GO or self._on_disk(pinned)
        except redis.RedisError as error:
            raise as_failure(error) from error
        return reason if safe else Reason.CLAIM_UNSAFE

    def _claim(self, pinned: redis.Redis, signal_id: str, engine: str, now_ms: int, *, asked: str) -> Reason:
        keys = {
            **self._both_positions(signal_id),
            "ctl": self.keys.control(),
            "sig": self.keys.signal(signal_id),
            "claims": self.keys.claims(),
            "unreported": self.keys.unreported(),
            **self._standing_keys(now_ms),
        }
        args: dict[str, str | int] = {
            "sid": signal_id,
            "engine": engine,
            "skew": CLOCK_SKEW_MS,
            "asked": asked,
            "now": now_ms,
            "grace": UNREPORTED_GRACE_MS,
        }
        reply = [text(part) for part in self._run("claim", keys, args, on=pinned)]
        return self._claim(pinned, reply[1], engine, now_ms, asked=asked) if reply[0] == "ALIAS" else Reason(reply[0])

    def _both_positions(self, signal_id: str) -> dict[str, str]:
        return {f"pos_{prefix}": self.keys.position(prefix, signal_id) for prefix in STATE_PREFIXES}

    def lapse(self, signal_id: str, *, now_ms: int) -> bool:
        keys = {
            **self._both_positions(signal_id),
            "sig": self.keys.signal(signal_id),
            "claims": self.keys.claims(),
            "executed": self.keys.executed(),
            "symbols": self.keys.executed_symbols(),
        }
        return bool(self._run("lapse", keys, {"sid": signal_id, "now": now_ms}))

    # --- touch, close, fill, correct

    def _position_args(self, prefix: str, signal_id: str, now_ms: int) -> dict[str, str | int]:
        member = self.keys.member(prefix, signal_id)
        return {"sid": signal_id, "prefix": prefix, "member": member, "now": now_ms}

    def touch(
        self, position: StoredPosition, track: str, last_ts: int, *, now_ms: int, result: str | None = None
    ) -> CommitStatus:
        keys = {
            "pos": self.keys.position(position.prefix, position.signal_id),
            "follow": self.keys.follow(position.symbol),
            "due": self.keys.due(),
        }
        args = self._position_args(position.prefix, position.signal_id, now_ms) | {
            "v": position.version,
            "last_ts": last_ts,
            "track": track,
            "done": 0 if result is None else 1,
            "result": result or "{}",
        }
        return CommitStatus(text(self._run("touch", keys, args)))

    def close(self, command: CloseCommand) -> CommitStatus:
        day = utc_day(command.now_ms)
        keys = {
            "pos": self.keys.position(command.prefix, command.signal_id),
            "follow": self.keys.follow(command.symbol),
            "due": self.keys.due(),
            "open": self.keys.open(command.prefix),
            "closed": self.keys.closed(command.prefix),
            "executed": self.keys.executed(),
            "symbols": self.keys.executed_symbols(),
            "unreported": self.keys.unreported(),
            "claims": self.keys.claims(),
            "day": self.keys.day(day),
            "closed_total": self.keys.closed_total(command.strategy),
            "completed": self.keys.completed_trades(command.strategy),
            "outcomes": self.keys.outcomes(command.strategy),
            "trades": self.keys.trades(command.strategy),
            "timeouts": self.keys.timeouts(command.strategy),
            "win_rate": self.keys.win_rate(command.strategy),
            "training": self.keys.training(command.strategy),
            "metrics": self.keys.metrics(command.strategy),
            **self._breaker_keys(),
        }
        args = self._position_args(command.prefix, command.signal_id, command.now_ms) | {
            "strategy": command.strategy,
            "symbol": command.symbol,
            "v": command.version,
            "how": command.how.value,
            "outcome": command.outcome,
            "result": command.result,
            "track": command.track,
            "learned": int(command.learned),
            "win": int(command.win),
            "r_micro": command.r_micro,
            "money_micro": command.money_micro,
            "day": day,
            "report": command.report_id,
            "groups": ",".join(command.groups),
            "trades_kept": TRADES_KEPT,
            "win_rate_window": WIN_RATE_WINDOW,
        }
        return CommitStatus(text(self._run("close", keys, args)))

    def fill(
        self,
        signal_id: str,
        prefix: str,
        fill_id: str,
        body: str,
        *,
        now_ms: int,
        slip_micro: int | None = None,
        expected_micro: int = 0,
    ) -> CommitStatus:
        keys = {"pos": self.keys.position(prefix, signal_id), "slips": self.keys.slips(), **self._breaker_keys()}
        args = self._position_args(prefix, signal_id, now_ms) | {
            "fill": fill_id,
            "body": body,
            "slip": "" if slip_micro is None else slip_micro,
            "expected": expected_micro,
        }
        return CommitStatus(text(self._run("fill", keys, args)))

    def correct(
        self,
        position: StoredPosition,
        report_id: str,
        result: str,
        *,
        learned: bool,
        now_ms: int,
        timed_out: bool = False,
    ) -> CommitStatus:
        keys = {
            "pos": self.keys.position(position.prefix, position.signal_id),
            "corrections": self.keys.corrections(position.strategy),
        }
        args = self._position_args(position.prefix, position.signal_id, now_ms) | {
            "strategy": position.strategy,
            "report": report_id,
            "learned": int(learned),
            "timed_out": int(timed_out),
            "result": result,
        }
        return CommitStatus(text(self._run("correct", keys, args)))

    # --- the price's path after an entry

    def record_path(self, position: StoredPosition, path: str, *, known: bool, now_ms: int) -> CommitStatus:
        keys = {
            "pos": self.keys.position(position.prefix, position.signal_id),
            "awaited": self.keys.awaited(position.symbol),
            "paths": self.keys.paths(position.strategy),
            "metrics": self.keys.metrics(position.strategy),
        }
        args = self._position_args(position.prefix, position.signal_id, now_ms) | {
            "strategy": position.strategy,
            "symbol": position.symbol,
            "path": path,
            "known": int(known),
            "paths_kept": TRADES_KEPT,
        }
        return CommitStatus(text(self._run("path", keys, args)))

    def paths(self, strategy: str) -> Sequence[str]:
        return [text(row) for row in self._ask(lambda: self.client.lrange(self.keys.paths(strategy), 0, -1))]

    def awaiting_path(self, symbol: str) -> Sequence[StoredPosition]:
        return self._members(self._ask(lambda: self.client.zrange(self.keys.awaited(symbol), 0, -1)))

    # --- learning

    def training(self, strategy: str) -> Training:
        pipe = self.client.pipeline(transaction=True)
        pipe.hgetall(self.keys.training(strategy))
        pipe.get(self.keys.completed_trades(strategy))
        entry, completed = self._ask(pipe.execute)
        return training_from(_texts(entry), None if completed is None else text(completed))

    def begin_training(self, strategy: str, *, now_ms: int, boundary: int | None = None) -> int:
        keys = {"training": self.keys.training(strategy)}
        args: dict[str, str | int] = {"strategy": strategy, "boundary": boundary or "", "now": now_ms}
        return int(self._run("begin", keys, args))

    def publish(self, command: PublishCommand) -> PublishStatus:
        name = command.strategy
        keys = {
            **self._thresholds_keys(name),
            "bundles": self.keys.bundles(name),
            "nn_enabled": self.keys.scalar(name, "nn_enabled"),
            "trained": self.keys.scalar(name, "last_train_count"),
            "trained_ts": self.keys.scalar(name, "last_train_ts"),
            "qcal_trained": self.keys.qcal(name, "last_train_count"),
        }
        args: dict[str, str | int] = {
            "strategy": name,
            "attempt": command.attempt,
            "address": command.address,
            "count": command.trained_count,
            "next": command.next_at,
            "network": int(command.network),
            "tables": command.tables,
            "manifest": command.manifest,
            "now": command.now_ms,
        }
        return PublishStatus(text(self._run("publish", keys, args)))

    def _thresholds_keys(self, strategy: str) -> dict[str, str]:
        return {
            "training": self.keys.training(strategy),
            "tables": self.keys.tables(strategy),
            "qcal_thr": self.keys.qcal(strategy, "thr"),
        }

    def set_table(self, command: TableCommand) -> bool:
        name = command.strategy
        keys = self._thresholds_keys(name) | {"qcal_trained": self.keys.qcal(name, "last_train_count")}
        args: dict[str, str | int] = {
            "strategy": name,
            "count": command.count,
            "address": command.address,
            "table": command.table,
            "detail": command.detail,
            "now": command.now_ms,
        }
        return bool(self._run("table", keys, args))

    def table(self, strategy: str, address: str) -> str | None:
        found = self._ask(lambda: self.client.hget(self.keys.tables(strategy), address))
        return None if found is None else text(found)

    def refuse(self, strategy: str, address: str, *, code: str, detail: str, now_ms: int) -> bool:
        args: dict[str, str | int] = {
            "strategy": strategy,
            "address": address,
            "code": code,
            "detail": detail,
            "now": now_ms,
        }
        return bool(self._run("refuse", {"refusals": self.keys.refusals(strategy)}, args))

    def refusals(self, strategy: str) -> Mapping[str, str]:
        return self._hash(self.keys.refusals(strategy))

    def attempts(self, strategy: str) -> Mapping[str, str]:
        return self._hash(self.keys.attempts(strategy))

    def metrics(self, strategy: str) -> Mapping[str, int]:
        return {name: int(count) for name, count in self._hash(self.keys.metrics(strategy)).items()}

    def settle(
        self, strategy: str, attempt: int, *, reason: str, detail: str, next_at: int, now_ms: int, body: str = "{}"
    ) -> bool:
        args: dict[str, str | int] = {
            "strategy": strategy,
            "attempt": attempt,
            "reason": reason,
            "detail": detail,
            "next": next_at,
            "body": body,
            "now": now_ms,
        }
        keys = {"training": self.keys.training(strategy), "attempts": self.keys.attempts(strategy)}
        return bool(self._run("settle", keys, args))

    def point(self, strategy: str, address: str, *, expected: str, actor: str, now_ms: int) -> bool:
        keys = self._thresholds_keys(strategy) | {"bundles": self.keys.bundles(strategy)}
        args: dict[str, str | int] = {
            "strategy": strategy,
            "address": address,
            "expected": expected,
            "by": actor,
            "now": now_ms,
        }
        return bool(self._run("point", keys, args))

    def manifests(self, strategy: str) -> Mapping[str, str]:
        return self._hash(self.keys.bundles(strategy))

    def put_bundle(self, address: str, data: bytes) -> None:
        self._ask(lambda: self.client.set(self.keys.bundle_bytes(address), data))

    def bundle(self, address: str) -> bytes | None:
        return cast("bytes | None", self._ask(lambda: self.client.get(self.keys.bundle_bytes(address))))

    def trades(self, strategy: str) -> tuple[Sequence[str], Mapping[str, str]]:
        rows = self._ask(lambda: self.client.lrange(self.keys.trades(strategy), 0, -1))
        return [text(row) for row in rows], self._hash(self.keys.corrections(strategy))

    def timeouts(self, strategy: str) -> Sequence[str]:
        rows = self._ask(lambda: self.client.lrange(self.keys.timeouts(strategy), 0, -1))
        return [text(row) for row in rows]

    # --- control

    def set_mode(self, mode: Mode, *, actor: str, reason: str, now_ms: int, expected: int | None = None) -> Control:
        args = {
            "mode": mode.value,
            "by": actor,
            "reason": reason,
            "now": now_ms,
            "expected": "" if expected is None else expected,
        }
        found = _control(_pairs(self._run("control", {"ctl": self.keys.control()}, args)))
        if found is None:
            raise StateMissing("no control key: create the namespace or rebuild it first")
        return found

    def control(self) -> Control | None:
        return _control(self._hash(self.keys.control()))

    # --- reading

    def decision(self, signal_id: str) -> Decision | None:
        entry = self._hash(self.keys.signal(signal_id))
        if entry.get("alias"):
            return self.decision(entry["alias"])
        return decision_from(signal_id, entry) if entry else None

    def position(self, signal_id: str) -> StoredPosition | None:
        for prefix in STATE_PREFIXES:
            entry = self._hash(self.keys.position(prefix, signal_id))
            if entry:
                return position_from(entry)
        return None

    def _members(self, members: Iterable[bytes | str]) -> list[StoredPosition]:
        named = [text(member) for member in members]
        if not named:
            return []
        pipe = self.client.pipeline(transaction=False)
        for member in named:
            pipe.hgetall(self.keys.by_member(member))
        # A position can be pruned between the two reads; it then has nothing left to follow.
        return [position_from(entry) for entry in map(_texts, self._ask(pipe.execute)) if entry]

    def open_positions(self, strategy: str) -> Sequence[StoredPosition]:
        pipe = self.client.pipeline(transaction=True)
        for prefix in STATE_PREFIXES:
            pipe.zrange(self.keys.open(prefix), 0, -1)
        members = [member for found in self._ask(pipe.execute) for member in found]
        return opened_in_order(self._members(members), strategy)

    def following(self, symbol: str, after_seq: int) -> Sequence[StoredPosition]:
        key = self.keys.follow(symbol)
        return self._members(self._ask(lambda: self.client.zrangebyscore(key, f"({after_seq}", "+inf")))

    def followed_symbols(self) -> Sequence[str]:
        members = [text(member) for member in self._ask(lambda: self.client.zrange(self.keys.due(), 0, -1))]
        return sorted({position.symbol for position in self._members(members)})

    def overdue_claims(self, now_ms: int) -> Sequence[str]:
        key = self.keys.claims()
        return [text(name) for name in self._ask(lambda: self.client.zrangebyscore(key, "-inf", f"({now_ms}"))]

    def unreported(self, now_ms: int) -> Sequence[StoredPosition]:
        key = self.keys.unreported()
        return self._members(self._ask(lambda: self.client.zrangebyscore(key, "-inf", now_ms)))

    def overdue(self, before_ms: int) -> Sequence[StoredPosition]:
        key = self.keys.due()
        return self._members(self._ask(lambda: self.client.zrangebyscore(key, "-inf", before_ms)))

    def push_volatility(self, symbol: str, updates: Sequence[VolatilityUpdate]) -> None:
        if not updates:
            return
        pipe = self.client.pipeline(transaction=True)
        for update in updates:
            if update.atr_pct is not None:
                key = self.keys.volatility(symbol, update.timeframe)
                pipe.rpush(key, repr(update.atr_pct))
                pipe.ltrim(key, -VOLATILITY_HISTORY, -1)
            pipe.hset(self.keys.volatility_state(symbol), update.timeframe, update.state())
        self._ask(pipe.execute)

    def volatility_states(self, symbol: str) -> Mapping[str, str]:
        return self._hash(self.keys.volatility_state(symbol))

    def volatility(self, symbol: str, timeframe: str) -> Sequence[float]:
        key = self.keys.volatility(symbol, timeframe)
        return [float(value) for value in self._ask(lambda: self.client.lrange(key, 0, -1))]

    def count_candle(self, symbol: str, timeframe: str, reason: Reason, ts: int) -> None:
        name = f"{symbol}|{timeframe}|{reason.value}"
        pipe = self.client.pipeline(transaction=False)
        pipe.hincrby(self.keys.follower(), name, 1)
        pipe.hset(self.keys.follower(), f"last:{name}", ts)
        self._ask(pipe.execute)

    def candle_counts(self) -> Mapping[str, int]:
        counts = self._hash(self.keys.follower())
        return {name: int(count) for name, count in counts.items() if "|" in name and not name.startswith("last:")}

    def prune(self, now_ms: int) -> int:
        before = f"({now_ms - RETENTION_MS}"
        forgotten = 0
        for prefix in STATE_PREFIXES:
            key = self.keys.closed(prefix)
            for member in self._ask(partial(self.client.zrangebyscore, key, "-inf", before, 0, PRUNE_BATCH)):
                forgotten += self._prune_position(text(member), key)
        ledger = self.keys.ledger()
        for name in self._ask(lambda: self.client.zrangebyscore(ledger, "-inf", before, 0, PRUNE_BATCH)):
            forgotten += self._prune_answer(text(name), ledger)
        return forgotten

    def _prune_position(self, member: str, closed: str) -> int:
        key = self.keys.by_member(member)
        symbol = self._ask(lambda: self.client.hget(key, "symbol"))
        keys = {"pos": key, "closed": closed, "awaited": self.keys.awaited("" if symbol is None else text(symbol))}
        return int(self._run("prune", keys, {"what": "position", "member": member}))

    def _prune_answer(self, signal_id: str, ledger: str) -> int:
        key = self.keys.signal(signal_id)
        keys = {**self._both_positions(signal_id), "sig": key, "ledger": ledger}
        bar = self._ask(lambda: self.client.hget(key, "bar"))
        if bar:
            keys["bar"] = self.keys.bar(text(bar))
        return int(self._run("prune", keys, {"what": "answer", "sid": signal_id}))

    def dump(self) -> Mapping[str, object]:
        names = [text(name) for name in self._ask(lambda: list(self.client.scan_iter(match="*", count=1000)))]
        return {name: self._value(name) for name in sorted(names) if self.keys.owns(name)}

    def _value(self, key: str) -> object:
        kind = text(self._ask(lambda: self.client.type(key)))
        if kind == "hash":
            return self._hash(key)
        if kind == "list":
            return [text(item) for item in self._ask(lambda: self.client.lrange(key, 0, -1))]
        if kind == "zset":
            pairs = cast(
                "list[tuple[bytes, float]]", self._ask(lambda: self.client.zrange(key, 0, -1, withscores=True))
            )
            return {text(member): int(score) for member, score in pairs}
        return text(self._ask(lambda: self.client.get(key)))


def _decide_args(command: DecideCommand, day: str) -> dict[str, str | int]:
    limits = command.limits
    return {
        "sid": command.signal_id,
        "fp": command.fingerprint,
        "strategy": command.strategy,
        "symbol": command.symbol,
        "prefix": command.prefix,
        "want": command.want.value,
        "reasons": ",".join(command.reasons),
        "alternative": command.alternative.value,
        "alternative_reasons": ",".join(command.alternative_reasons),
        "ensemble": int(command.ensemble),
        "explored": int(command.explored),
        "bar": command.bar or "",
        "signal_ms": command.signal_ms,
        "max_age": command.max_age_ms,
        "skew": CLOCK_SKEW_MS,
        "now": command.now_ms,
        "ttl": command.ttl_ms,
        "day": day,
        "body": command.body,
        "terms": command.terms,
        "track": command.track,
        "entry_ms": command.entry_ms,
        "deadline": command.deadline_ms,
        "step": command.step_ms,
        "limit_open": limits.open_positions,
        "limit_symbol": limits.per_symbol,
        "limit_rate": limits.executes_per_minute,
        "limit_r": micro(limits.daily_loss_r),
        "limit_money": micro(limits.daily_loss_money),
        "limit_tracked": limits.tracked_positions,
        "limit_outbox": limits.outbox_entries,
        "confidence": -1 if command.confidence_micro is None else command.confidence_micro,
        "latencies": ",".join(str(latency) for latency in command.latencies_us),
    }


def _texts(entry: Mapping[bytes | str, bytes | str]) -> dict[str, str]:
    return {text(name): text(value) for name, value in entry.items()}


def _pairs(flat: Sequence[bytes | str] | Mapping[bytes | str, bytes | str]) -> dict[str, str]:
    if isinstance(flat, Mapping):
        return _texts(flat)
    words = [text(word) for word in flat]
    return dict(zip(words[::2], words[1::2], strict=True))


def _control(entry: Mapping[str, str]) -> Control | None:
    if not entry:
        return None
    return Control(Mode(entry["mode"]), int(entry["gen"]), entry["by"], entry["reason"], int(entry["at"]))
