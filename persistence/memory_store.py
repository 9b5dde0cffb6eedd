"""The store in memory: the same commits as the Redis scripts, for replay and as their oracle in tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from decision.decide import Action
from persistence.keys import STATE_PREFIXES, Keys
from persistence.memory_breaker_store import MemoryBreakers
from persistence.records import decision_from, forgotten, listed, opened_in_order, position_from, training_from
from persistence.state import MINUTE_MS, State
from persistence.store import (
    CLOCK_SKEW_MS,
    ClockKind,
    CloseCommand,
    CloseHow,
    CommitStatus,
    Control,
    DecideCommand,
    DecideReply,
    DecideStatus,
    Decision,
    Fact,
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
from signals.profile import Kind
from signals.reasons import Reason
from signals.timeday import utc_day


class MemoryStore(MemoryBreakers):
    """State and facts of one namespace in this process. ``wall_ms`` stands in for the server's clock."""

    def __init__(self, namespace: str = "", *, wall_ms: int = 0, keep_facts: bool = True) -> None:
        super().__init__()
        self.keys = Keys(namespace)
        self.state = State(self.keys)
        self.facts: list[Fact] = []
        self.wall_ms = wall_ms
        self._keep_facts = keep_facts
        self._clock_ms = 0
        self._volatility: dict[str, list[float]] = {}
        self._candle_counts: Counter[str] = Counter()
        self._bundles: dict[str, bytes] = {}

    # --- the namespace and its clock

    def create(self, clock: ClockKind, *, now_ms: int) -> ClockKind:
        if not self.exists():
            self._commit("created", "created:1", now_ms, {"clock": clock.value})
            self._control_fact(Mode.ON, 1, "system", "namespace created", now_ms)
        return self.clock_kind()

    def exists(self) -> bool:
        return bool(self.state.hashes.get(self.keys.meta()))

    def clock_kind(self) -> ClockKind:
        meta = self.state.hashes.get(self.keys.meta())
        if not meta:
            raise StateMissing("the namespace has not been created")
        return ClockKind(meta["clock"])

    def now_ms(self) -> int:
        return self._clock_ms if self.clock_kind() is ClockKind.DATA else self.wall_ms

    def advance_clock(self, now_ms: int) -> None:
        if self.clock_kind() is ClockKind.DATA:
            self._clock_ms = max(self._clock_ms, now_ms)

    def register(self, strategy: str, settings: str, threshold: str, *, first_training: int = 30, now_ms: int) -> None:
        known = self.state.hashes.get(self.keys.profile(strategy), {}).get("settings")
        if known != settings:
            self._commit(
                "profile",
                f"profile:{strategy}:{self._seq() + 1}",
                now_ms,
                {"strategy": strategy, "threshold": threshold, "first": str(first_training)},
                settings,
            )

    def _seq(self) -> int:
        return int(self.state.hashes.get(self.keys.meta(), {}).get("seq", "0"))

    def _commit(self, kind: str, fact_id: str, at_ms: int, fields: Mapping[str, str], body: str = "{}") -> None:
        if kind != "created":
            self.clock_kind()
        fact = Fact(self._seq() + 1, fact_id, kind, at_ms, fields, body)
        self.state.apply(fact)
        if self._keep_facts:
            self.facts.append(fact)

    # --- decide, claim, lapse

    def decide(self, command: DecideCommand) -> DecideReply:
        self.clock_kind()
        known = self.state.hashes.get(self.keys.signal(command.signal_id))
        if known:
            return self._known(command, known)
        if command.bar:
            first = self.state.strings.get(self.keys.bar(command.bar))
            if first is not None:
                fields = {"sid": command.signal_id, "fp": command.fingerprint, "first": first}
                self._commit("alias", f"alias:{command.signal_id}", command.now_ms, fields)
                return DecideReply(DecideStatus.DUPLICATE_BAR, self._decision_of(first))
        action, reasons, blocked, alone = self._checked(command)
        # Without the model its decisions are the heuristic's, and no claim may be revoked on its account.
        ensemble = command.ensemble and not alone
        expires = command.now_ms + command.ttl_ms if action is Action.EXECUTE else 0
        tracked = action is not Action.REJECTED
        self._commit(
            "decision",
            f"decision:{command.signal_id}",
            command.now_ms,
            {
                "sid": command.signal_id,
                "fp": command.fingerprint,
                "strategy": command.strategy,
                "symbol": command.symbol,
                "prefix": command.prefix,
                "action": action.value,
                "reasons": ",".join(reasons),
                "expires": str(expires),
                "ensemble": "1" if ensemble else "0",
                "pos": "1" if tracked else "0",
                "bar": command.bar or "",
                "limit_r": str(micro(command.limits.daily_loss_r)),
                "limit_money": str(micro(command.limits.daily_loss_money)),
                "blocked": blocked,
                "day": utc_day(command.now_ms),
            },
            command.body,
        )
        self._latencies.extendleft(str(latency) for latency in reversed(command.latencies_us))
        if tracked:
            self._open(command, Kind.EXECUTED if action is Action.EXECUTE else Kind.PHANTOM, expires)
        return DecideReply(DecideStatus.DONE, self._decision_of(command.signal_id))

    def _known(self, command: DecideCommand, known: Mapping[str, str]) -> DecideReply:
        first = known.get("alias") or command.signal_id
        if known["fp"] != command.fingerprint:
            seen = known.get("conflicts", "")
            if command.fingerprint not in seen and seen.count(",") < 16:
                fields = {"sid": command.signal_id, "fp": command.fingerprint}
                fact_id = f"conflict:{command.signal_id}:{command.fingerprint}"
                self._commit("conflict", fact_id, command.now_ms, fields, command.body)
            return DecideReply(DecideStatus.CONFLICT, self._decision_of(first))
        status = DecideStatus.DUPLICATE_BAR if known.get("alias") else DecideStatus.REPLAY
        return DecideReply(status, self._decision_of(first))

    def _checked(self, command: DecideCommand) -> tuple[Action, list[str], str, bool]:
        """The state's checks in SPEC 8's order.

        Returns the action, all reasons, the one that is counted, and whether the rules alone decided.
        """
        action, wanted = command.want, command.reasons
        found: list[str] = []
        refusing: list[str] = []
        alone = False
        if action is not Action.REJECTED:
            refused = self._age(command)
            tracked = sum(len(self.state.zsets.get(self.keys.open(prefix), {})) for prefix in STATE_PREFIXES)
            mode = self.state.hashes.get(self.keys.control(), {}).get("mode")
            noted = []
            if mode is None:
                noted.append(Reason.MODE_MISSING.value)
            elif mode == Mode.HALT:
                noted.append(Reason.MODE_HALT.value)
            panel, standing, daily = self._standing(command)
            limited = self._limits(command) + daily
            # What was drawn against its score stands on nothing that rules could stand in for.
            drawn = command.explored and mode != Mode.ML_OFF
            held = noted + [one.reason.value for one in standing if one.blocks or drawn] + limited
            noted += [one.reason.value for one in standing] + limited
            # Where the model's word does not count, its execute becomes what the rules alone say; a phantom stays one.
            asked = command.ensemble and action is Action.EXECUTE and not drawn
            doubted = asked and not all(one.blocks for one in standing)
            alone = mode == Mode.ML_OFF or doubted
            if alone:
                action, wanted = command.alternative, command.alternative_reasons
            full = [Reason.LIMIT_TRACKED_POSITIONS.value] if tracked >= command.limits.tracked_positions else []
            off = [Reason.MODE_ML_OFF.value] if mode == Mode.ML_OFF else []
            found, refusing = refused + off + noted + full, refused + held + full
            if refused or full:
                action = Action.REJECTED
            elif held:
                action = Action.PHANTOM
            self._record_turned(panel, command.now_ms)
        reasons = found + [reason.value for reason in wanted]
        # ML_OFF and breakers that leave it to the rules change who answers; they are not what refused.
        blocked = (*refusing, *(reason.value for reason in wanted))[0]
        return action, reasons, "" if action is Action.EXECUTE else blocked, alone

    def _age(self, command: DecideCommand) -> list[str]:
        if command.now_ms - command.signal_ms > command.max_age_ms:
            return [Reason.SIGNAL_EXPIRED.value]
        return [Reason.SIGNAL_CLOCK.value] if command.signal_ms - command.now_ms > CLOCK_SKEW_MS else []

    def _limits(self, command: DecideCommand) -> list[str]:
        # Without an outbox no record can be behind: ``outbox_entries`` has nothing to say here.
        limits = command.limits
        symbol_open = int(self.state.hashes.get(self.keys.executed_symbols(), {}).get(command.symbol, "0"))
        recent = self.state.zsets.get(self.keys.executes(), {}).values()
        rate = sum(at > command.now_ms - MINUTE_MS for at in recent)
        tripped = (
            (limits.open_positions, len(self.state.zsets.get(self.keys.executed(), {})), Reason.LIMIT_OPEN_POSITIONS),
            (limits.per_symbol, symbol_open, Reason.LIMIT_SYMBOL_POSITIONS),
            (limits.executes_per_minute, rate, Reason.LIMIT_EXECUTE_RATE),
        )
        return [reason.value for limit, used, reason in tripped if 0 < limit <= used]

    def _open(self, command: DecideCommand, kind: Kind, expires: int) -> None:
        self._commit(
            "opened",
            f"opened:{command.signal_id}",
            command.now_ms,
            {
                "sid": command.signal_id,
                "prefix": command.prefix,
                "strategy": command.strategy,
                "symbol": command.symbol,
                "position_kind": kind.value,
                "entry_ms": str(command.entry_ms),
                "deadline": str(command.deadline_ms),
                "step": str(command.step_ms),
                "track": command.track,
                "expires": str(expires),
            },
            command.terms,
        )

    def claim(self, signal_id: str, engine: str, *, now_ms: int) -> Reason:
        self.clock_kind()
        entry = self.state.hashes.get(self.keys.signal(signal_id))
        if entry and entry.get("alias"):
            return self._claim(entry["alias"], engine, now_ms, asked=signal_id)
        return self._claim(signal_id, engine, now_ms, asked=signal_id)

    def _claim(self, signal_id: str, engine: str, now_ms: int, *, asked: str) -> Reason:
        entry = self.state.hashes.get(self.keys.signal(signal_id))
        if not entry:
            return Reason.CLAIM_UNKNOWN
        if entry["action"] != Action.EXECUTE:
            return Reason.CLAIM_NOT_EXECUTE
        # Another id for the same candle is another order: it never shares a claim, not even its own engine's.
        if "claimed_by" in entry and (entry["claimed_by"], entry.get("claimed_as", signal_id)) != (engine, asked):
            return Reason.CLAIM_TAKEN
        position = self.state.hashes.get(self.keys.position(entry["prefix"], signal_id), {})
        if position.get("kind") != Kind.EXECUTED or position["status"] != "open" or now_ms > int(entry["expires"]):
            return Reason.CLAIM_EXPIRED
        mode = self.state.hashes.get(self.keys.control(), {}).get("mode")
        if mode not in (Mode.ON, Mode.ML_OFF) or (mode == Mode.ML_OFF and entry["ensemble"] == "1"):
            return Reason.CLAIM_REVOKED
        against = self._claim_held(entry, position, now_ms)
        if against is not None:
            return against
        if "claimed_by" in entry:
            return Reason.CLAIM_GO
        fields = {"sid": signal_id, "prefix": entry["prefix"], "engine": engine, "asked": asked}
        self._commit("claimed", f"claimed:{signal_id}", now_ms, fields)
        return Reason.CLAIM_GO

    def lapse(self, signal_id: str, *, now_ms: int) -> bool:
        self.clock_kind()
        expires = self.state.zsets.get(self.keys.claims(), {}).get(signal_id)
        if expires is None or now_ms <= expires:
            return False
        prefix = self.state.hashes[self.keys.signal(signal_id)]["prefix"]
        if self.state.hashes[self.keys.position(prefix, signal_id)].get("unclaimed") == "1":
            return True
        self._commit("unclaimed", f"unclaimed:{signal_id}", now_ms, {"sid": signal_id, "prefix": prefix})
        return True

    # --- touch, close, fill, correct

    def touch(
        self, position: StoredPosition, track: str, last_ts: int, *, now_ms: int, result: str | None = None
    ) -> CommitStatus:
        self.clock_kind()
        known = self.state.hashes.get(self.keys.position(position.prefix, position.signal_id))
        if known is None:
            return CommitStatus.MISSING
        if known["sim"] != "open":
            return CommitStatus.REPLAY
        if known["v"] != str(position.version):
            return CommitStatus.STALE
        version = str(position.version + 1)
        fields = {
            "sid": position.signal_id,
            "prefix": position.prefix,
            "v": version,
            "last_ts": str(last_ts),
            "track": track,
            "done": "0" if result is None else "1",
        }
        self._commit("touched", f"touched:{position.signal_id}:{version}", now_ms, fields, result or "{}")
        return CommitStatus.DONE

    def close(self, command: CloseCommand) -> CommitStatus:
        self.clock_kind()
        known = self.state.hashes.get(self.keys.position(command.prefix, command.signal_id))
        refused = _close_refused(known, command)
        if known is None or refused is not None:
            return refused or CommitStatus.MISSING
        version = str(int(known["v"]) + 1)
        fields = {
            "sid": command.signal_id,
            "prefix": command.prefix,
            "strategy": command.strategy,
            "v": version,
            "how": command.how.value,
            "outcome": command.outcome,
            "track": command.track,
            "learned": str(int(command.learned)),
            "win": str(int(command.win)),
            "r_micro": str(command.r_micro),
            "money_micro": str(command.money_micro),
            "day": utc_day(command.now_ms),
            "report": command.report_id,
            "position_kind": known["kind"],
            "groups": ",".join(command.groups),
        }
        self._commit("closed", f"closed:{command.signal_id}", command.now_ms, fields, command.result)
        if known["kind"] == Kind.EXECUTED:
            self._own_turned(command.now_ms)
        if command.learned:
            self._request_training(command.strategy, command.now_ms)
        return CommitStatus.DONE

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
        self.clock_kind()
        known = self.state.hashes.get(self.keys.position(prefix, signal_id))
        if known is None:
            return CommitStatus.MISSING
        if listed(known.get("fill_ids", ""), fill_id):
            return CommitStatus.REPLAY
        if known["kind"] != Kind.EXECUTED or "claimed_by" not in known:
            return CommitStatus.NOT_CLAIMED
        if known["status"] != "open":
            return CommitStatus.CLOSED
        fields = {"sid": signal_id, "prefix": prefix, "fill": fill_id, **self._slip(slip_micro, expected_micro)}
        self._commit("fill", f"fill:{signal_id}:{fill_id}", now_ms, fields, body)
        self._own_turned(now_ms)
        return CommitStatus.DONE

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
        self.clock_kind()
        known = self.state.hashes.get(self.keys.position(position.prefix, position.signal_id))
        if known is None:
            return CommitStatus.MISSING
        if listed(known.get("reports", ""), report_id):
            return CommitStatus.REPLAY
        if known["kind"] != Kind.EXECUTED or "claimed_by" not in known:
            return CommitStatus.NOT_CLAIMED
        if known["status"] != "closed":
            return CommitStatus.STALE
        fields = {
            "sid": position.signal_id,
            "prefix": position.prefix,
            "strategy": position.strategy,
            "report": report_id,
            "learned": str(int(learned)),
            "timed_out": str(int(timed_out)),
        }
        self._commit("corrected", f"corrected:{position.signal_id}:{report_id}", now_ms, fields, result)
        return CommitStatus.DONE

    # --- the price's path after an entry

    def record_path(self, position: StoredPosition, path: str, *, known: bool, now_ms: int) -> CommitStatus:
        self.clock_kind()
        entry = self.state.hashes.get(self.keys.position(position.prefix, position.signal_id))
        if entry is None:
            return CommitStatus.MISSING
        if "path" in entry:
            return CommitStatus.REPLAY
        fields = {
            "sid": position.signal_id,
            "prefix": position.prefix,
            "strategy": position.strategy,
            "symbol": position.symbol,
            "known": str(int(known)),
        }
        self._commit("path", f"path:{position.signal_id}", now_ms, fields, path)
        return CommitStatus.DONE

    def paths(self, strategy: str) -> Sequence[str]:
        return list(self.state.lists.get(self.keys.paths(strategy), []))

    def awaiting_path(self, symbol: str) -> Sequence[StoredPosition]:
        return self._members(list(self.state.zsets.get(self.keys.awaited(symbol), {})))

    # --- learning

    def _request_training(self, strategy: str, now_ms: int) -> None:
        """One request per boundary, in the commit that reaches it."""
        known = self.training(strategy)
        if 0 < known.next_at <= known.completed and known.requested != known.next_at:
            fields = {"strategy": strategy, "boundary": str(known.next_at), "count": str(known.completed)}
            self._commit("retrain", f"retrain:{strategy}:{known.next_at}", now_ms, fields)

    def training(self, strategy: str) -> Training:
        return training_from(
            self.state.hashes.get(self.keys.training(strategy), {}),
            self.state.strings.get(self.keys.completed_trades(strategy), "0"),
        )

    def begin_training(self, strategy: str, *, now_ms: int, boundary: int | None = None) -> int:
        self.clock_kind()
        known = self.training(strategy)
        if boundary is not None and known.next_at != boundary:
            return 0
        attempt = known.attempt + 1
        fields = {"strategy": strategy, "attempt": str(attempt)}
        self._commit("training", f"training:{strategy}:{attempt}", now_ms, fields)
        return attempt

    def publish(self, command: PublishCommand) -> PublishStatus:
        self.clock_kind()
        known = self.state.hashes.get(self.keys.training(command.strategy), {})
        if int(known.get("published", "0")) == command.attempt and known.get("bundle") == command.address:
            return PublishStatus.REPLAY
        if int(known.get("settled", "0")) >= command.attempt or command.attempt > int(known.get("attempt", "0")):
            return PublishStatus.FENCED
        fields = {
            "strategy": command.strategy,
            "attempt": str(command.attempt),
            "address": command.address,
            "count": str(command.trained_count),
            "next": str(command.next_at),
            "network": str(int(command.network)),
            "tables": command.tables,
        }
        fact_id = f"published:{command.strategy}:{command.attempt}"
        self._commit("published", fact_id, command.now_ms, fields, command.manifest)
        return PublishStatus.DONE

    def set_table(self, command: TableCommand) -> bool:
        self.clock_kind()
        if self.training(command.strategy).table_count >= command.count:
            return False
        fields = {
            "strategy": command.strategy,
            "count": str(command.count),
            "address": command.address,
            "detail": command.detail,
        }
        self._commit("table", f"table:{command.strategy}:{command.count}", command.now_ms, fields, command.table)
        return True

    def table(self, strategy: str, address: str) -> str | None:
        return self.state.hashes.get(self.keys.tables(strategy), {}).get(address)

    def refuse(self, strategy: str, address: str, *, code: str, detail: str, now_ms: int) -> bool:
        self.clock_kind()
        if f"{address}|{code}" in self.state.hashes.get(self.keys.refusals(strategy), {}):
            return False
        fields = {"strategy": strategy, "address": address, "code": code, "detail": detail}
        self._commit("refused", f"refused:{strategy}:{address}:{code}", now_ms, fields)
        return True

    def refusals(self, strategy: str) -> Mapping[str, str]:
        return dict(self.state.hashes.get(self.keys.refusals(strategy), {}))

    def attempts(self, strategy: str) -> Mapping[str, str]:
        return dict(self.state.hashes.get(self.keys.attempts(strategy), {}))

    def metrics(self, strategy: str) -> Mapping[str, int]:
        return {name: int(count) for name, count in self.state.hashes.get(self.keys.metrics(strategy), {}).items()}

    def settle(
        self, strategy: str, attempt: int, *, reason: str, detail: str, next_at: int, now_ms: int, body: str = "{}"
    ) -> bool:
        self.clock_kind()
        known = self.state.hashes.get(self.keys.training(strategy), {})
        if int(known.get("settled", "0")) >= attempt or attempt > int(known.get("attempt", "0")):
            return False
        fields = {
            "strategy": strategy,
            "attempt": str(attempt),
            "reason": reason,
            "detail": detail,
            "next": str(next_at),
        }
        self._commit("untrained", f"untrained:{strategy}:{attempt}", now_ms, fields, body)
        return True

    def point(self, strategy: str, address: str, *, expected: str, actor: str, now_ms: int) -> bool:
        self.clock_kind()
        known = self.state.hashes.get(self.keys.training(strategy), {})
        published = self.state.hashes.get(self.keys.bundles(strategy), {})
        if known.get("bundle", "") != expected or address not in published or address == expected:
            return False
        move = str(int(known.get("moves", "0")) + 1)
        fields = {"strategy": strategy, "address": address, "expected": expected, "by": actor, "move": move}
        self._commit("pointed", f"pointed:{strategy}:{move}", now_ms, fields)
        return True

    def manifests(self, strategy: str) -> Mapping[str, str]:
        return dict(self.state.hashes.get(self.keys.bundles(strategy), {}))

    def put_bundle(self, address: str, data: bytes) -> None:
        self._bundles[address] = data

    def bundle(self, address: str) -> bytes | None:
        return self._bundles.get(address)

    def trades(self, strategy: str) -> tuple[Sequence[str], Mapping[str, str]]:
        rows = self.state.lists.get(self.keys.trades(strategy), [])
        return rows, self.state.hashes.get(self.keys.corrections(strategy), {})

    def timeouts(self, strategy: str) -> Sequence[str]:
        return self.state.lists.get(self.keys.timeouts(strategy), [])

    # --- control

    def _control_fact(self, mode: Mode, generation: int, actor: str, reason: str, now_ms: int) -> None:
        fields = {"mode": mode.value, "gen": str(generation), "by": actor, "reason": reason}
        self._commit("control", f"control:{generation}", now_ms, fields)

    def set_mode(self, mode: Mode, *, actor: str, reason: str, now_ms: int, expected: int | None = None) -> Control:
        current = self.control()
        generation = 0 if current is None else current.generation
        if current is not None and (expected in (None, generation)):
            self._control_fact(mode, generation + 1, actor, reason, now_ms)
        found = self.control()
        if found is None:
            raise StateMissing("no control key: create the namespace or rebuild it first")
        return found

    def control(self) -> Control | None:
        known = self.state.hashes.get(self.keys.control())
        if not known:
            return None
        return Control(Mode(known["mode"]), int(known["gen"]), known["by"], known["reason"], int(known["at"]))

    # --- reading

    def _decision_of(self, signal_id: str) -> Decision:
        entry = self.state.hashes.get(self.keys.signal(signal_id))
        return decision_from(signal_id, entry) if entry else forgotten(signal_id)

    def decision(self, signal_id: str) -> Decision | None:
        known = self.state.hashes.get(self.keys.signal(signal_id))
        if known and known.get("alias"):
            return self.decision(known["alias"])
        return decision_from(signal_id, known) if known else None

    def position(self, signal_id: str) -> StoredPosition | None:
        for prefix in STATE_PREFIXES:
            known = self.state.hashes.get(self.keys.position(prefix, signal_id))
            if known:
                return position_from(known)
        return None

    def _members(self, members: Sequence[str]) -> list[StoredPosition]:
        return [position_from(self.state.hashes[self.keys.by_member(member)]) for member in members]

    def open_positions(self, strategy: str) -> Sequence[StoredPosition]:
        members = [member for prefix in STATE_PREFIXES for member in self.state.zsets.get(self.keys.open(prefix), {})]
        return opened_in_order(self._members(members), strategy)

    def following(self, symbol: str, after_seq: int) -> Sequence[StoredPosition]:
        running = self.state.zsets.get(self.keys.follow(symbol), {})
        # Insertion order is the order of sequence numbers: the newest tells whether there is anything new.
        if not running or next(reversed(running.values())) <= after_seq:
            return ()
        return self._members([member for member, seq in running.items() if seq > after_seq])

    def followed_symbols(self) -> Sequence[str]:
        due = self.state.zsets.get(self.keys.due(), {})
        return sorted({self.state.hashes[self.keys.by_member(member)]["symbol"] for member in due})

    def overdue_claims(self, now_ms: int) -> Sequence[str]:
        claims = self.state.zsets.get(self.keys.claims(), {})
        return _oldest_first(claims, now_ms - 1)

    def unreported(self, now_ms: int) -> Sequence[StoredPosition]:
        waiting = self.state.zsets.get(self.keys.unreported(), {})
        return self._members(_oldest_first(waiting, now_ms))

    def overdue(self, before_ms: int) -> Sequence[StoredPosition]:
        due = self.state.zsets.get(self.keys.due(), {})
        return self._members(_oldest_first(due, before_ms))

    def push_volatility(self, symbol: str, updates: Sequence[VolatilityUpdate]) -> None:
        for update in updates:
            if update.atr_pct is not None:
                history = self._volatility.setdefault(self.keys.volatility(symbol, update.timeframe), [])
                history.append(update.atr_pct)
                del history[:-VOLATILITY_HISTORY]

    def volatility_states(self, symbol: str) -> Mapping[str, str]:  # noqa: ARG002 - memory ends with its follower
        return {}

    def volatility(self, symbol: str, timeframe: str) -> Sequence[float]:
        return self._volatility.get(self.keys.volatility(symbol, timeframe), [])

    def count_candle(self, symbol: str, timeframe: str, reason: Reason, ts: int) -> None:  # noqa: ARG002 - for readers of Redis
        self._candle_counts[f"{symbol}|{timeframe}|{reason.value}"] += 1

    def candle_counts(self) -> Mapping[str, int]:
        return dict(self._candle_counts)

    def prune(self, now_ms: int) -> int:
        return self.state.prune(now_ms)

    def dump(self) -> Mapping[str, object]:
        return self.state.dump()


def _oldest_first(scores: Mapping[str, int], upto: int) -> list[str]:
    """Members up to a score, in the order a sorted set has them."""
    return sorted((name for name, score in scores.items() if score <= upto), key=lambda name: (scores[name], name))


def _close_refused(known: Mapping[str, str] | None, command: CloseCommand) -> CommitStatus | None:
    """Why a close must not take effect; the order is the script's."""
    if known is None:
        return CommitStatus.MISSING
    if known["status"] == "closed":
        return CommitStatus.REPLAY
    claimed = known["kind"] == Kind.EXECUTED and "claimed_by" in known
    if command.how is CloseHow.SIMULATION and known["kind"] == Kind.EXECUTED:
        return CommitStatus.EXECUTED
    if command.how is not CloseHow.SIMULATION and not claimed:
        return CommitStatus.NOT_CLAIMED
    if command.how is not CloseHow.REPORT and known["v"] != str(command.version):
        return CommitStatus.STALE
    return None
