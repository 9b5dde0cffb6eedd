"""The live state as the fold of its facts: what memory keeps, and what a rebuild writes into Redis.

Every change of durable state has exactly one fact, and ``State.apply`` is its only effect. The Redis scripts do the
same in Lua; the store battery compares both key by key.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field

from persistence import breaker_fold
from persistence.keys import STATE_PREFIXES, Keys
from persistence.store import RETENTION_MS, SCHEMA_VERSION, TRADES_KEPT, UNREPORTED_GRACE_MS, WIN_RATE_WINDOW, Fact

MINUTE_MS = 60_000


@dataclass(slots=True)
class State:
    """Redis-shaped tables: strings, hashes, lists and sorted sets by key."""

    keys: Keys
    strings: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, dict[str, str]] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)
    zsets: dict[str, dict[str, int]] = field(default_factory=dict)

    def apply(self, fact: Fact) -> None:
        """Let a fact take effect."""
        {
            "created": self._created,
            "control": self._control,
            "profile": self._profile,
            "decision": self._decision,
            "opened": self._opened,
            "alias": self._alias,
            "conflict": self._conflict,
            "claimed": self._claimed,
            "unclaimed": self._unclaimed,
            "touched": self._touched,
            "fill": self._fill,
            "closed": self._closed,
            "corrected": self._corrected,
            "path": self._path,
            "retrain": self._retrain,
            "training": self._training,
            "published": self._published,
            "untrained": self._untrained,
            "pointed": self._pointed,
            "table": self._table,
            "refused": self._refused,
            "thresholds": self._thresholds,
            "breaker": self._breaker,
        }[fact.kind](fact)
        self.hash(self.keys.meta())["seq"] = str(fact.seq)

    def hash(self, key: str) -> dict[str, str]:
        """The hash at a key, created when it is not there."""
        return self.hashes.setdefault(key, {})

    def zset(self, key: str) -> dict[str, int]:
        """The sorted set at a key, created when it is not there."""
        return self.zsets.setdefault(key, {})

    def dump(self) -> dict[str, object]:
        """Every non-empty key with its value, sorted sets as mappings."""
        tables: tuple[Mapping[str, object], ...] = (self.strings, self.hashes, self.lists, self.zsets)
        return {key: copy(value) for table in tables for key, value in table.items() if value not in ({}, [])}

    def _created(self, fact: Fact) -> None:
        self.hash(self.keys.meta()).update(
            schema=SCHEMA_VERSION, clock=fact.fields["clock"], created_at=str(fact.at_ms), epoch="1"
        )
        self.hash(self.keys.breakers()).update(breaker_fold.new_entry())

    def _thresholds(self, fact: Fact) -> None:
        breaker_fold.set_thresholds(self.hash(self.keys.breakers()), fact)

    def _breaker(self, fact: Fact) -> None:
        history = self.lists.setdefault(self.keys.breaker_history(), [])
        slips = self.lists.setdefault(self.keys.slips(), [])
        breaker_fold.turn(self.hash(self.keys.breakers()), history, slips, fact)

    def _control(self, fact: Fact) -> None:
        self.hash(self.keys.control()).update(
            mode=fact.fields["mode"],
            gen=fact.fields["gen"],
            by=fact.fields["by"],
            reason=fact.fields["reason"],
            at=str(fact.at_ms),
        )

    def _profile(self, fact: Fact) -> None:
        name = fact.fields["strategy"]
        self.hash(self.keys.profile(name)).update(settings=fact.body, at=str(fact.at_ms))
        self.strings[self.keys.scalar(name, "threshold")] = fact.fields["threshold"]
        self.hash(self.keys.training(name)).setdefault("next", fact.fields["first"])
        for key, value in (
            (self.keys.completed_trades(name), "0"),
            (self.keys.closed_total(name), "0"),
            (self.keys.scalar(name, "nn_enabled"), "0"),
            (self.keys.scalar(name, "last_train_count"), "0"),
            (self.keys.qcal(name, "thr"), "{}"),
            (self.keys.qcal(name, "last_train_count"), "0"),
        ):
            self.strings.setdefault(key, value)

    def _retrain(self, fact: Fact) -> None:
        self.hash(self.keys.training(fact.fields["strategy"]))["requested"] = fact.fields["boundary"]

    def _training(self, fact: Fact) -> None:
        self.hash(self.keys.training(fact.fields["strategy"]))["attempt"] = fact.fields["attempt"]

    def _published(self, fact: Fact) -> None:
        it = fact.fields
        name = it["strategy"]
        training = self.hash(self.keys.training(name))
        if training.get("bundle", it["address"]) != it["address"]:
            training["previous"] = training["bundle"]
        # Whoever is ready first ends every attempt begun so far: a boundary has one verdict.
        training.update(bundle=it["address"], published=it["attempt"], settled=training["attempt"], next=it["next"])
        self.hash(self.keys.bundles(name))[it["address"]] = fact.body
        self.strings[self.keys.scalar(name, "nn_enabled")] = it["network"]
        self.strings[self.keys.scalar(name, "last_train_count")] = it["count"]
        self.strings[self.keys.scalar(name, "last_train_ts")] = str(fact.at_ms)
        self.hash(self.keys.tables(name))[it["address"]] = it["tables"]
        self._show_thresholds(name)
        self.strings[self.keys.qcal(name, "last_train_count")] = it["count"]

    def _show_thresholds(self, name: str) -> None:
        """The founding key shows what scores are compared with: the model's own tables, then the heuristic's."""
        training, tables = self.hash(self.keys.training(name)), self.hash(self.keys.tables(name))
        shown = (tables.get(training.get(place, ""), "") for place in ("bundle", "table"))
        self.strings[self.keys.qcal(name, "thr")] = '{"tables":[' + ",".join(filter(None, shown)) + "]}"

    def _table(self, fact: Fact) -> None:
        it = fact.fields
        name = it["strategy"]
        training, tables = self.hash(self.keys.training(name)), self.hash(self.keys.tables(name))
        last = training.get("table")
        if last is not None and last != it["address"]:
            # A decision that has read the pointer just now still finds what it points to.
            before = training.get("table_before")
            if before is not None and before != it["address"]:
                tables.pop(before, None)
            training["table_before"] = last
        tables[it["address"]] = fact.body
        training.update(table=it["address"], table_count=it["count"])
        self._show_thresholds(name)
        self.strings[self.keys.qcal(name, "last_train_count")] = it["count"]

    def _refused(self, fact: Fact) -> None:
        it = fact.fields
        told = f"{fact.at_ms} {it['detail']}"
        self.hash(self.keys.refusals(it["strategy"]))[f"{it['address']}|{it['code']}"] = told

    def _untrained(self, fact: Fact) -> None:
        training = self.hash(self.keys.training(fact.fields["strategy"]))
        training.update(next=fact.fields["next"], settled=training["attempt"], why=fact.fields["reason"])
        self.hash(self.keys.attempts(fact.fields["strategy"]))[fact.fields["attempt"]] = fact.body

    def _pointed(self, fact: Fact) -> None:
        training = self.hash(self.keys.training(fact.fields["strategy"]))
        training.update(previous=training["bundle"], bundle=fact.fields["address"])
        training["moves"] = fact.fields["move"]
        self._show_thresholds(fact.fields["strategy"])

    def _decision(self, fact: Fact) -> None:
        entry = dict(fact.fields)
        signal_id = entry.pop("sid")
        blocked, day, bar = entry.pop("blocked"), entry.pop("day"), entry["bar"]
        self.hash(self.keys.signal(signal_id)).update(entry, body=fact.body, at=str(fact.at_ms))
        self.zset(self.keys.ledger())[signal_id] = fact.at_ms
        if bar and entry["pos"] == "1":
            self.strings[self.keys.bar(bar)] = signal_id
        if blocked:
            _add(self.hash(self.keys.blocked(entry["prefix"], day)), blocked, 1)

    def _opened(self, fact: Fact) -> None:
        terms = fact.fields
        signal_id, prefix, symbol = terms["sid"], terms["prefix"], terms["symbol"]
        member = self.keys.member(prefix, signal_id)
        # In a fact the plain word is the fact's own kind.
        position = {name: value for name, value in terms.items() if name not in ("expires", "position_kind")}
        position["kind"] = terms["position_kind"]
        position.update(status="open", sim="open", v="1", at=str(fact.at_ms), seq=str(fact.seq), body=fact.body)
        self.hashes[self.keys.by_member(member)] = position
        self.zset(self.keys.open(prefix))[member] = fact.seq
        self.zset(self.keys.follow(symbol))[member] = fact.seq
        self.zset(self.keys.awaited(symbol))[member] = fact.seq
        self.zset(self.keys.due())[member] = int(terms["deadline"])
        if terms["position_kind"] == "executed":
            self.zset(self.keys.executed())[member] = fact.seq
            _add(self.hash(self.keys.executed_symbols()), symbol, 1)
            self.zset(self.keys.claims())[signal_id] = int(terms["expires"])
            executes = self.zset(self.keys.executes())
            executes[signal_id] = fact.at_ms
            for old in [name for name, at in executes.items() if at <= fact.at_ms - MINUTE_MS]:
                del executes[old]

    def _alias(self, fact: Fact) -> None:
        signal_id = fact.fields["sid"]
        self.hash(self.keys.signal(signal_id)).update(
            fp=fact.fields["fp"], alias=fact.fields["first"], at=str(fact.at_ms)
        )
        self.zset(self.keys.ledger())[signal_id] = fact.at_ms

    def _conflict(self, fact: Fact) -> None:
        entry = self.hash(self.keys.signal(fact.fields["sid"]))
        entry["conflicts"] = entry.get("conflicts", "") + fact.fields["fp"] + ","

    def _claimed(self, fact: Fact) -> None:
        signal_id, prefix = fact.fields["sid"], fact.fields["prefix"]
        member = self.keys.member(prefix, signal_id)
        entry = self.hash(self.keys.signal(signal_id))
        entry["claimed_by"] = fact.fields["engine"]
        if "asked" in fact.fields:  # earlier claims do not say under which id
            entry["claimed_as"] = fact.fields["asked"]
        position = self.hash(self.keys.by_member(member))
        position.update(claimed_by=fact.fields["engine"], claimed_at=str(fact.at_ms))
        self.zset(self.keys.claims()).pop(signal_id, None)
        self.zset(self.keys.unreported())[member] = int(position["deadline"]) + UNREPORTED_GRACE_MS
        breaker_fold.count_order(self.zset(self.keys.claimed()), signal_id, fact.at_ms)

    def _unclaimed(self, fact: Fact) -> None:
        signal_id, prefix = fact.fields["sid"], fact.fields["prefix"]
        member = self.keys.member(prefix, signal_id)
        position = self.hash(self.keys.by_member(member))
        position.update(kind="phantom", unclaimed="1")
        # A simulation that ended first still has to be closed: its claim is swept until that is done.
        if position["sim"] == "open":
            self.zset(self.keys.claims()).pop(signal_id, None)
        self._free_limits(member, position["symbol"])

    def _free_limits(self, member: str, symbol: str) -> None:
        self.zset(self.keys.executed()).pop(member, None)
        _add(self.hash(self.keys.executed_symbols()), symbol, -1)

    def _touched(self, fact: Fact) -> None:
        member = self.keys.member(fact.fields["prefix"], fact.fields["sid"])
        position = self.hash(self.keys.by_member(member))
        position.update(track=fact.fields["track"], v=fact.fields["v"])
        if fact.fields["done"] == "1":
            position.update(sim="done", twin=fact.body)
            self._stop_following(member, position["symbol"])

    def _stop_following(self, member: str, symbol: str) -> None:
        self.zset(self.keys.follow(symbol)).pop(member, None)
        self.zset(self.keys.due()).pop(member, None)

    def _fill(self, fact: Fact) -> None:
        member = self.keys.member(fact.fields["prefix"], fact.fields["sid"])
        position = self.hash(self.keys.by_member(member))
        position["fill_ids"] = position.get("fill_ids", "") + fact.fields["fill"] + ","
        earlier = position.get("fills", "")
        position["fills"] = f"{earlier}\n{fact.body}" if earlier else fact.body
        slips = self.lists.setdefault(self.keys.slips(), [])
        breaker_fold.count_slip(self.hash(self.keys.breakers()), slips, fact.fields)

    def _closed(self, fact: Fact) -> None:
        it = fact.fields
        member = self.keys.member(it["prefix"], it["sid"])
        position = self.hash(self.keys.by_member(member))
        position.update(
            status="closed",
            v=it["v"],
            outcome=it["outcome"],
            how=it["how"],
            closed_at=str(fact.at_ms),
            result=fact.body,
        )
        if it["report"]:
            position["reports"] = position.get("reports", "") + it["report"] + ","
        if it["how"] != "report":
            if position["sim"] == "open":
                position["track"] = it["track"]
            position["sim"] = "done"
            self._stop_following(member, position["symbol"])
        self.zset(self.keys.open(it["prefix"])).pop(member, None)
        self.zset(self.keys.claims()).pop(it["sid"], None)
        self.zset(self.keys.closed(it["prefix"]))[member] = fact.at_ms
        if position["kind"] == "executed":
            self._free_limits(member, position["symbol"])
            self.zset(self.keys.unreported()).pop(member, None)
            day = self.hash(self.keys.day(it["day"]))
            _add(day, "r_micro", int(it["r_micro"]))
            _add(day, "money_micro", int(it["money_micro"]))
            breaker_fold.count_result(self.hash(self.keys.breakers()), it)
        self._count(it["strategy"], it, fact.body)

    def _count(self, strategy: str, it: Mapping[str, str], body: str) -> None:
        _increase(self.strings, self.keys.closed_total(strategy))
        _add(self.hash(self.keys.outcomes(strategy)), it["outcome"], 1)
        metrics, kind = self.hash(self.keys.metrics(strategy)), f"{it['position_kind']}|{it['outcome']}"
        _add(metrics, f"{kind}|n", 1)
        _add(metrics, f"{kind}|r_micro", int(it["r_micro"]))
        if it["learned"] == "1":
            _increase(self.strings, self.keys.completed_trades(strategy))
            trades = self.lists.setdefault(self.keys.trades(strategy), [])
            trades.append(body)
            del trades[:-TRADES_KEPT]
            rates = self.lists.setdefault(self.keys.win_rate(strategy), [])
            rates.insert(0, it["win"])
            del rates[WIN_RATE_WINDOW:]
            for group in filter(None, it["groups"].split(",")):
                _add(metrics, f"{group}|n", 1)
                _add(metrics, f"{group}|wins", int(it["win"]))
                _add(metrics, f"{group}|r_micro", int(it["r_micro"]))
        elif it["outcome"] == "timeout":
            timeouts = self.lists.setdefault(self.keys.timeouts(strategy), [])
            timeouts.append(body)
            del timeouts[:-TRADES_KEPT]

    def _corrected(self, fact: Fact) -> None:
        it = fact.fields
        position = self.hash(self.keys.by_member(self.keys.member(it["prefix"], it["sid"])))
        position["reports"] = position.get("reports", "") + it["report"] + ","
        position["correction"] = fact.body
        # Also a correction to something no learner takes: it unteaches the row. Earlier facts say nothing of timeouts.
        taken = "1" in (it["learned"], it.get("timed_out"))
        self.hash(self.keys.corrections(it["strategy"]))[it["sid"]] = fact.body if taken else ""

    def _path(self, fact: Fact) -> None:
        it = fact.fields
        member = self.keys.member(it["prefix"], it["sid"])
        self.hash(self.keys.by_member(member))["path"] = fact.body
        self.zset(self.keys.awaited(it["symbol"])).pop(member, None)
        known = it["known"] == "1"
        _add(self.hash(self.keys.metrics(it["strategy"])), f"path|{'known' if known else 'unknown'}|n", 1)
        # A path with a hole teaches nothing: it stays in the record and with its position only.
        if known:
            paths = self.lists.setdefault(self.keys.paths(it["strategy"]), [])
            paths.append(fact.body)
            del paths[:-TRADES_KEPT]

    def prune(self, now_ms: int) -> int:
        """Forget what is older than thirty days; derivable from the clock, so it needs no fact."""
        before = now_ms - RETENTION_MS
        forgotten = 0
        for prefix in STATE_PREFIXES:
            closed = self.zset(self.keys.closed(prefix))
            for member in [name for name, at in closed.items() if at < before]:
                # A twin that still runs keeps its position: the result is not complete yet.
                if self.hashes[self.keys.by_member(member)]["sim"] == "done":
                    symbol = self.hashes[self.keys.by_member(member)]["symbol"]
                    self.zset(self.keys.awaited(symbol)).pop(member, None)
                    del closed[member], self.hashes[self.keys.by_member(member)]
                    forgotten += 1
        ledger = self.zset(self.keys.ledger())
        for signal_id in [name for name, at in ledger.items() if at < before]:
            entry = self.hashes[self.keys.signal(signal_id)]
            if self.keys.by_member(self.keys.member(entry.get("prefix", "phantom"), signal_id)) in self.hashes:
                continue
            # A refused signal names a bar it never held.
            bar = self.keys.bar(entry["bar"]) if entry.get("bar") else ""
            if self.strings.get(bar) == signal_id:
                del self.strings[bar]
            del ledger[signal_id], self.hashes[self.keys.signal(signal_id)]
            forgotten += 1
        return forgotten


def _add(counters: dict[str, str], name: str, amount: int) -> None:
    counters[name] = str(int(counters.get(name, "0")) + amount)


def _increase(strings: dict[str, str], key: str) -> None:
    strings[key] = str(int(strings.get(key, "0")) + 1)
