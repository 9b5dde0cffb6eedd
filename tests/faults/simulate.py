"""A day of trading in no time: workers, followers, relay, trainer, feed, engine and operator, with faults.

    python -m tests.faults.simulate --seeds 1000            # as many as you like
    python -m tests.faults.simulate --from 4711 --seeds 1   # a seed that failed, again
    python -m tests.faults.simulate --seeds 60 --mutant close-twice

Every third seed has no faults, every third one in a hundred commands, every third one in ten. What must come out is
computed from what went in, by the position rule alone; the store is only asked whether it agrees.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

import scorer.bundle
import worker.follow
import worker.relay
import worker.train
from persistence import memory_store
from persistence.candle_feed import FedCandle
from persistence.connection import connect
from persistence.keys import Keys
from persistence.memory_store import MemoryStore
from persistence.outbox import Relay
from persistence.record import AppendReport
from persistence.redis_store import RedisStore
from persistence.rows import digest
from persistence.state import State
from persistence.store import ClockKind, CloseCommand, CommitStatus, Fact, Mode
from phantom.position import Closed, Outcome
from runtime.clock import stopwatch
from runtime.follow import Follower
from runtime.judge import Judge
from runtime.report import Reports
from runtime.shelf import Shelf
from signals.errors import Transient
from signals.profile import Limits, Profile
from signals.reasons import Reason
from tests.support.market_day import MarketDay, Plan, close_report, market_day, simulated
from tests.support.scenario import KEY, PROFILE, T0, QuickTrainer
from tests.support.world import Door, OutboxDouble, World
from worker.follow import FollowLoop, candle_text

CHANCES = (0.0, 0.01, 0.1)
MINUTE = 60_000
FIRST, EVERY = 4, 5
LIMITS = Limits(open_positions=4, per_symbol=3, executes_per_minute=2, daily_loss_r=0, daily_loss_money=0)
DAY_PROFILE: Profile = replace(
    PROFILE, timeout_ms=12 * 5 * MINUTE, first_training_at=FIRST, retrain_every=EVERY, limits=LIMITS
)
PROFILES = {DAY_PROFILE.name: DAY_PROFILE}
NAME = DAY_PROFILE.name
LONGEST_AGE_MS = 120_000
MUTANTS = ("close-twice", "missing-is-on", "retrain-outside")


@dataclass(slots=True)
class Result:
    """What came of one seed. ``broken`` are the laws that did not hold."""

    seed: int
    chance: float
    broken: list[str]
    faults: Counter[str]
    on_live_work: int
    restarts: int
    seen: Counter[str]


class _Feed:
    """The candle stream and how far the follower says it has come."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.entries: list[FedCandle] = []
        self.cursor = "0-0"

    def read(self, after: str, *, count: int, block_ms: int) -> Sequence[FedCandle]:
        place = int(after.partition("-")[0])
        if place >= len(self.entries):
            self.world.sleep(MINUTE)
        return self.entries[place : place + count]

    def mark(self, place: str) -> None:
        self.cursor = place

    def followed_to(self) -> str:
        return self.cursor

    def trim(self, place: str) -> None:
        """Nothing is trimmed: a day is short."""


class _Record:
    """The record as a mapping: a fact once, a second content beside it."""

    def __init__(self) -> None:
        self.facts: dict[str, Fact] = {}
        self.conflicts = 0
        self.replayed = 0

    def append(self, facts: Sequence[Fact]) -> AppendReport:
        new = [fact for fact in facts if fact.id not in self.facts]
        known = [fact for fact in facts if fact.id in self.facts]
        differing = tuple(fact.id for fact in known if digest(fact) != digest(self.facts[fact.id]))
        self.facts |= {fact.id: fact for fact in new}
        self.conflicts += len(differing)
        self.replayed += len(known) - len(differing)
        return AppendReport(len(new), len(known) - len(differing), differing)


class _RetrainOutside(MemoryStore):
    """A store that looks for a boundary after the commit, in a command of its own."""

    def _request_training(self, strategy: str, now_ms: int) -> None:
        pass

    def look(self, now_ms: int) -> None:
        known = self.training(NAME)
        if known.completed == known.next_at:
            super()._request_training(NAME, now_ms)


@dataclass(slots=True)
class Log:
    """What was asked for and what was answered, as those outside saw it."""

    submitted: dict[str, int] = field(default_factory=dict)
    answers: defaultdict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    claims: defaultdict[str, list[tuple[str, Reason]]] = field(default_factory=lambda: defaultdict(list))
    reports: defaultdict[str, list[tuple[int, float, Reason]]] = field(default_factory=lambda: defaultdict(list))
    switched: list[tuple[str, int, int]] = field(default_factory=list)
    control_lost: int | None = None
    written: dict[int, int] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


class Simulation:
    """One seed."""

    def __init__(self, seed: int, *, mutant: str = "", redis_url: str = "") -> None:
        self.day: MarketDay = market_day(seed)
        self.world = World(seed, CHANCES[seed % len(CHANCES)], T0)
        self.mutant = mutant
        self.log = Log()
        self.feed = _Feed(self.world)
        self.record = _Record()
        self.bundles: dict[str, bytes] = {}
        self.queue: list[Plan] = []
        self.store, self.stream = self._servers(seed, redis_url)
        self.keys: Keys = self.store.keys
        self._seq = 0
        self.world.after = self._stamp

    def _servers(self, seed: int, redis_url: str) -> tuple[Any, Any]:
        if redis_url:
            client = connect(redis_url)
            return RedisStore(client, f"sim{seed}"), client
        store = _RetrainOutside() if self.mutant == "retrain-outside" else MemoryStore()
        return store, OutboxDouble(store.facts, self.world, store.keys.outbox())

    def _stamp(self) -> None:
        """Remember at which step each fact was written."""
        if isinstance(self.store, MemoryStore):
            last = len(self.store.facts)
        else:
            last = int(self.store.client.hget(self.keys.meta(), "seq") or 0)
        for seq in range(self._seq + 1, last + 1):
            self.log.written[seq] = self.world.steps
        self._seq = last

    def door(self, *, mortal: bool = True) -> Any:
        own: dict[str, Any] = {
            # The time of day is the world's, on any server.
            "now_ms": lambda: self.world.now_ms,
            "clock_kind": lambda: ClockKind.LIVE,
        }
        door = Door(self.world, self.store, mortal=mortal, own=own)
        if self.mutant == "retrain-outside":

            def close(command: CloseCommand) -> CommitStatus:
                done: CommitStatus = self.world.command("close", lambda: self.store.close(command), mortal=mortal)
                if done is CommitStatus.DONE:
                    self.world.command("look", lambda: self.store.look(command.now_ms), mortal=mortal)
                return done

            own["close"] = close
            door = Door(self.world, self.store, mortal=mortal, own=own)
        return door

    # --- the processes

    def worker(self) -> None:
        door = self.door()
        judge = Judge(door, PROFILES, watch=lambda: 0.0, shelf=Shelf(door, KEY))
        while True:
            if not self.queue:
                self.world.await_bell()
                continue
            plan = self.queue.pop(0)
            try:
                answer = judge.judge(plan.payload)
            except Transient:
                self.queue.append(plan)
                self.world.sleep(100)
            except BaseException:
                # What a dead worker held comes back to the queue.
                self.queue.append(plan)
                raise
            else:
                self.log.answers[plan.id].append(answer)

    def follow(self) -> None:
        door = self.door()
        follower = Follower(door, PROFILES, checkpoint_every=4, volatility_timeframes=())
        FollowLoop(door, Door(self.world, self.feed), follower).run(lambda: False)  # type: ignore[arg-type]

    def relay(self) -> None:
        client = Door(self.world, self.stream)
        relay = Relay(client, self.keys, Door(self.world, self.record))  # type: ignore[arg-type]
        relay.ensure_group()
        worker.relay.run(relay, lambda: False, poll_ms=MINUTE, wait=self._wait)

    def relay_again(self) -> None:
        """The relay, started again also when it could not even begin."""
        while True:
            try:
                self.relay()
            except Transient:
                self.world.sleep(1_000)

    def train(self) -> None:
        door = self.door()

        def keep(address: str, data: bytes) -> None:
            self.world.command("keep", lambda: self.bundles.update({address: data}))

        trainer = QuickTrainer(door, PROFILES, KEY, keep=keep)
        worker.train.run(trainer, lambda: False, wait=lambda _s: self.world.sleep(12_000))

    def _wait(self, seconds: float) -> None:
        self.world.sleep(max(int(seconds * 1_000), 1))

    def feeding(self) -> None:
        for arrival in self.day.arrivals:
            self._until(arrival.at_ms)
            text = candle_text(arrival.candle)
            self.feed.entries.append(FedCandle(f"{len(self.feed.entries) + 1}-0", arrival.symbol, "5m", text))

    def engine(self, plan: Plan) -> None:
        door, reports = self.door(mortal=False), None
        self._until(plan.sent_ms)
        self.log.submitted[plan.id] = self.world.now_ms
        for _ in range(3):
            self._enqueue(plan)
            self.world.sleep(self.world.rng.randint(100, 3_000))
        while not self.log.answers[plan.id]:
            self.world.sleep(2_000)
        if self.log.answers[plan.id][0].action != "execute":
            return
        went = False
        for engine in plan.engines:
            go = self._again(lambda: door.claim(plan.id, engine, now_ms=self.world.now_ms))  # noqa: B023
            self.log.claims[plan.id].append((engine, go))
            went = went or go is Reason.CLAIM_GO
        if not went:
            return
        reports = Reports(door)
        if plan.fills:
            fill = {"signal_id": plan.id, "price": plan.payload["entry"], "quantity": 1.0, "ts": plan.sent_ms}
            self._again(lambda: reports.fill(fill))
        for at_ms, price in plan.reports:
            self._until(at_ms)
            reply = self._again(lambda: reports.close(close_report(plan, at_ms, price)))  # noqa: B023
            self.log.reports[plan.id].append((at_ms, price, reply.reason))

    def operator(self) -> None:
        door = self.door(mortal=False)
        for at_ms, word in self.day.switches:
            self._until(at_ms)
            if self.log.control_lost is not None:
                return
            began = self.world.steps
            self._again(
                lambda: door.set_mode(Mode(word), actor="me", reason="drill", now_ms=self.world.now_ms)  # noqa: B023
            )
            self.log.switched.append((word, began, self.world.steps))

    def vandal(self) -> None:
        """Somebody deletes the control key."""
        if self.day.control_lost_ms is None:
            return
        self._until(max(self.day.control_lost_ms, self.day.switches[-1][0] + 30 * MINUTE))
        if isinstance(self.store, MemoryStore):
            self.store.state.hashes.pop(self.keys.control())
        else:
            self.store.client.delete(self.keys.control())
        self.log.control_lost = self.world.steps
        # Signals come after it as well, or nobody would see what it does.
        for number in range(4):
            self.world.sleep(MINUTE)
            plan = self.day.plans[0]
            ts = self.world.now_ms - 1_000
            payload = {**plan.payload, "id": f"v{number}", "ts": ts, "timeframe": None}
            self.log.submitted[f"v{number}"] = ts
            self._enqueue(replace(plan, payload={k: v for k, v in payload.items() if v is not None}))

    def _enqueue(self, plan: Plan) -> None:
        self.queue.append(plan)
        self.world.ring()

    def _until(self, at_ms: int) -> None:
        if at_ms > self.world.now_ms:
            self.world.sleep(at_ms - self.world.now_ms)

    def _again(self, step: Callable[[], Any]) -> Any:
        while True:
            try:
                return step()
            except Transient:
                self.world.sleep(500)

    # --- one day

    def run(self) -> Result:
        self.store.create(ClockKind.LIVE, now_ms=T0)
        self.store.register(NAME, "{}", "70", first_training=FIRST, now_ms=T0)
        with _timeless(self.world):
            for _ in range(3):
                self.world.spawn(self.worker)
            for main in (self.follow, self.follow, self.relay_again, self.train):
                # The second follower should not be there, as after a failed restart.
                self.world.spawn(main)
            for main in (self.feeding, self.operator, self.vandal):
                self.world.spawn(main, mortal=False)
            for plan in self.day.plans:
                self.world.spawn(functools.partial(self.engine, plan), mortal=False)
            self.world.run(self.day.ends_ms)
            # Then nothing fails any more, and everything must come to rest.
            self.world.chance = 0.0
            self.world.run(self.day.ends_ms + 60 * MINUTE)
            broken = Judgement(self).broken()
            self.world.end()
        if not isinstance(self.store, MemoryStore):
            self.store.client.close()
        return Result(
            self.world.seed,
            CHANCES[self.world.seed % len(CHANCES)],
            broken,
            self.world.faults,
            self.world.on_live_work,
            self.world.restarts,
            self.log.counts,
        )


@contextmanager
def _timeless(world: World) -> Iterator[None]:
    """The world's time wherever the product would look at a clock or wait, and each bundle unpacked once."""
    unpacked: dict[tuple[bytes, str, str], Any] = {}
    unpack = scorer.bundle.unpack

    def once(data: bytes, key: bytes, *, strategy: str, schema_hash: str) -> Any:
        known = (data, strategy, schema_hash)
        if known not in unpacked:
            unpacked[known] = unpack(data, key, strategy=strategy, schema_hash=schema_hash)
        return unpacked[known]

    with ExitStack() as stack:
        stack.enter_context(patch("worker.follow.stopwatch", lambda: world.now_ms / 1_000))
        stack.enter_context(patch("worker.follow.pause", lambda seconds: world.sleep(int(seconds * 1_000))))
        stack.enter_context(patch("runtime.shelf.unpack", once))
        yield


class Judgement:
    """What must be true of a day, from what went in."""

    def __init__(self, day: Simulation) -> None:
        self.it = day
        self.log = day.log
        self.facts = sorted(day.record.facts.values(), key=lambda fact: fact.seq)
        self.by_kind: defaultdict[str, dict[str, Fact]] = defaultdict(dict)
        for fact in self.facts:
            if "sid" in fact.fields:
                self.by_kind[fact.kind][fact.fields["sid"]] = fact
        self.wrong: list[str] = []

    def must(self, rule: str, holds: object) -> None:
        if not holds:
            self.wrong.append(rule)

    def broken(self) -> list[str]:
        self._on_record()
        for sid in self.log.submitted:
            self._signal(sid)
        self._counters()
        self._limits()
        self._windows()
        self._requests()
        return self.wrong

    def _on_record(self) -> None:
        store, record = self.it.store, self.it.record
        seqs = [fact.seq for fact in self.facts]
        self.must(f"facts {len(seqs)} of {self.it._seq} on record, each once", seqs == [*range(1, self.it._seq + 1)])
        self.must("no fact came with two contents", record.conflicts == 0)
        self.must("the outbox is empty", self.it.stream.xlen(self.it.keys.outbox()) == 0)
        self.must("no dead letters", self.it.stream.xlen(self.it.keys.dead()) == 0)
        folded = State(self.it.keys)
        for fact in self.facts:
            folded.apply(fact)
        live, sum_of_facts = dict(store.dump()), folded.dump()
        if self.log.control_lost is not None:
            sum_of_facts.pop(self.it.keys.control(), None)
        differing = [key for key in {*live, *sum_of_facts} if live.get(key) != sum_of_facts.get(key)]
        self.must(f"the state is the fold of its facts, but for {differing[:3]}", not differing)
        address = store.training(NAME).bundle
        whole = address is None or (store.bundle(address) is not None and address in self.it.bundles)
        self.must("the bundle in force is there", whole)
        self.log.counts["facts"] += len(seqs)
        self.log.counts["redelivered"] += record.replayed
        self.log.counts["bundles"] += sum(fact.kind == "published" for fact in self.facts)

    def _signal(self, sid: str) -> None:
        answers, decision = self.log.answers[sid], self.by_kind["decision"].get(sid)
        self.must(f"{sid} was answered", answers)
        alias = self.by_kind["alias"].get(sid)
        if decision is None:
            self.must(f"{sid} is on record", alias)
            return
        told = {(answer.action, answer.decided_at) for answer in answers}
        self.must(f"{sid} had one answer, not {told}", told == {(decision.fields["action"], decision.at_ms)})
        self.log.counts[decision.fields["action"]] += 1
        body = json.loads(decision.body)
        if decision.fields["action"] == "rejected":
            late = decision.at_ms - int(body["ts"]) > DAY_PROFILE.max_signal_age_ms(body["timeframe"])
            self.must(f"{sid} was refused for its age alone", late)
            return
        if decision.fields["action"] == "execute":
            self.must(f"{sid} passed its threshold", body["score"] >= body["threshold"])
        if sid.startswith("s"):
            self._ending(sid)

    def _ending(self, sid: str) -> None:
        plan = next(plan for plan in self.it.day.plans if plan.id == sid)
        closed = self.by_kind["closed"].get(sid)
        # Another id for the same candle may have claimed and reported for it: one order, whoever sends it.
        names = [sid, *(name for name, fact in self.by_kind["alias"].items() if fact.fields["first"] == sid)]
        goes = {(name, engine) for name in names for engine, go in self.log.claims[name] if go is Reason.CLAIM_GO}
        self.must(f"{sid} was given to one engine, not {goes}", len(goes) <= 1)
        self.must(f"{sid} is claimed by whom it was given to", bool(goes) <= (sid in self.by_kind["claimed"]))
        if closed is None:
            self.must(f"{sid} has come to an end", False)
            return
        body = json.loads(closed.body)
        expected = simulated(plan.payload, DAY_PROFILE, self.it.day.truth[str(plan.payload["symbol"])])
        if expected is None:
            self.must(f"{sid} ends in the market", False)
            return
        reported = [(price, reason) for name in names for _, price, reason in self.log.reports[name]]
        if sid not in self.by_kind["claimed"]:
            self._as_simulated(sid, body, expected, "simulation")
        elif closed.fields["how"] == "report":
            self.must(f"{sid} ended as reported", reported and body["exit_price"] == reported[0][0])
        else:
            self._as_simulated(sid, body, expected, "unreported")
            self.must(f"{sid} waited for its report", closed.at_ms >= body["deadline_ms"] + 60 * MINUTE)
        corrections = sum(fact.kind == "corrected" and fact.fields["sid"] == sid for fact in self.facts)
        distinct = len({price for price, _ in reported})
        self.must(f"{sid} was corrected once for each later report",
                  corrections == max(0, distinct - (closed.fields["how"] == "report")))  # fmt: skip
        self.log.counts[f"closed by {closed.fields['how']}"] += 1

    def _as_simulated(self, sid: str, body: dict[str, Any], expected: Closed, how: str) -> None:
        got = (body["outcome"], body["exit_reason"], body["exit_price"], body["exit_ms"], body["how"])
        wanted = (expected.outcome, expected.reason, expected.exit_price, expected.exit_ms, how)
        self.must(f"{sid} ended as {wanted}, not {got}", got == wanted)

    def _counters(self) -> None:
        closed = [fact for fact in self.facts if fact.kind == "closed"]
        outcomes = Counter(json.loads(fact.body)["outcome"] for fact in closed)
        decisive = sum(outcomes[one.value] for one in Outcome if one.decisive)
        opened = [fact.fields["sid"] for fact in self.facts if fact.kind == "opened"]
        ended = Counter(fact.fields["sid"] for fact in closed)
        self.must(
            "what was opened was closed, once",
            ended == Counter(name for name in opened if ended[name] or name[0] == "s"),
        )
        state = dict(self.it.store.dump())
        self.must("closed_total is exact", state[self.it.keys.closed_total(NAME)] == str(len(closed)))
        self.must("completed is exact", self.it.store.training(NAME).completed == decisive)
        self.must("one row for each", len(self.it.store.trades(NAME)[0]) == decisive)
        counted: Any = state.get(self.it.keys.outcomes(NAME), {})
        self.must("outcomes are exact", counted == {name: str(count) for name, count in outcomes.items()})

    def _limits(self) -> None:
        open_now: dict[str, str] = {}
        executed: list[int] = []
        for fact in self.facts:
            it = fact.fields
            if fact.kind == "opened" and it["position_kind"] == "executed":
                open_now[it["sid"]] = it["symbol"]
                executed.append(fact.at_ms)
                recent = sum(at > fact.at_ms - MINUTE for at in executed)
                self.must(f"{it['sid']} within the limit of open positions", len(open_now) <= LIMITS.open_positions)
                most = max(Counter(open_now.values()).values())
                self.must(f"{it['sid']} within the limit of its symbol", most <= LIMITS.per_symbol)
                self.must(f"{it['sid']} within the limit of a minute", recent <= LIMITS.executes_per_minute)
            elif fact.kind in ("unclaimed", "closed"):
                open_now.pop(it["sid"], None)
        self.log.counts["held by a limit"] += sum(
            "LIMIT_" in fact.fields["reasons"] for fact in self.facts if fact.kind == "decision"
        )

    def _windows(self) -> None:
        """No execute and no go between a halt that was answered and the next switch that was sent."""
        windows = []
        for place, (word, _, answered) in enumerate(self.log.switched):
            later = self.log.switched[place + 1 :]
            until = later[0][1] if later else sys.maxsize
            if word == "HALT":
                windows.append((answered, until))
        if self.log.control_lost is not None:
            windows.append((self.log.control_lost, sys.maxsize))
        for fact in self.facts:
            at = self.log.written.get(fact.seq, 0)
            acts = fact.kind == "claimed" or (fact.kind == "decision" and fact.fields["action"] == "execute")
            halted = any(began < at < until for began, until in windows)
            self.must(f"no {fact.id} after a halt", not (acts and halted))
            self.log.counts["decided in a halt"] += fact.kind == "decision" and halted

    def _requests(self) -> None:
        """One request for each boundary, in the commit of the outcome that reached it."""
        boundary, asked, count = FIRST, 0, 0
        expected: list[str] = []
        for fact in self.facts:
            if fact.kind == "closed":
                count += fact.fields["learned"] == "1"
                if fact.fields["learned"] == "1" and count >= boundary != asked:
                    asked = boundary
                    expected.append(f"retrain:{NAME}:{boundary}")
            elif fact.kind in ("published", "untrained"):
                boundary = int(fact.fields["next"])
        found = [fact.id for fact in self.facts if fact.kind == "retrain"]
        self.must(f"requests {expected}, not {found}", found == expected)
        self.log.counts["requests"] += len(found)


@contextmanager
def broken_by(mutant: str) -> Iterator[None]:
    """The store in memory with one thing wrong."""
    with ExitStack() as stack:
        if mutant == "close-twice":
            refused = {CommitStatus.REPLAY, CommitStatus.STALE}
            sound = memory_store._close_refused

            def forgetful(known: Any, command: CloseCommand) -> CommitStatus | None:
                found = sound(known, command)
                return None if found in refused else found

            stack.enter_context(patch("persistence.memory_store._close_refused", forgetful))
        elif mutant == "missing-is-on":
            checked = MemoryStore._checked

            def trusting(self: MemoryStore, command: Any) -> Any:
                if self.control() is not None:
                    return checked(self, command)
                self.state.hashes[self.keys.control()] = {"mode": "ON"}
                try:
                    return checked(self, command)
                finally:
                    self.state.hashes.pop(self.keys.control())

            stack.enter_context(patch.object(MemoryStore, "_checked", trusting))
        yield


def simulate(seed: int, *, mutant: str = "", redis_url: str = "") -> Result:
    """One seed."""
    with broken_by(mutant):
        return Simulation(seed, mutant=mutant, redis_url=redis_url).run()


@dataclass(slots=True)
class Tally:
    """All seeds together."""

    seeds: int = 0
    failed: dict[int, list[str]] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    on_live_work: int = 0
    restarts: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def add(self, result: Result) -> None:
        self.seeds += 1
        self.faults += result.faults
        self.on_live_work += result.on_live_work
        self.restarts += result.restarts
        self.seen += result.seen
        if result.broken:
            self.failed[result.seed] = result.broken

    @property
    def valid(self) -> bool:
        """Whether enough went wrong to say anything: a calm sea tests no ship."""
        kinds = ("request lost", "reply lost", "killed before", "killed after")
        return self.on_live_work > max(100, self.seeds) and all(self.faults[kind] > 0 for kind in kinds)

    def __str__(self) -> str:
        word = "INVALID: too few faults" if not self.valid else "FAILED" if self.failed else "passed"
        return (
            f"{word}: {self.seeds} seeds, {len(self.failed)} failed, faults {dict(self.faults)}, "
            f"{self.on_live_work} on live work, {self.restarts} restarts, {dict(self.seen)}, {self.seconds:.0f} s"
        )


def simulate_many(seeds: Sequence[int], *, mutant: str = "", redis_url: str = "", enough: int = sys.maxsize) -> Tally:
    """Seed after seed, until so many have failed."""
    tally = Tally()
    began = stopwatch()
    for seed in seeds:
        tally.add(simulate(seed, mutant=mutant, redis_url=redis_url))
        if len(tally.failed) >= enough:
            break
    tally.seconds = stopwatch() - began
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--from", type=int, default=0, dest="first")
    parser.add_argument("--mutant", choices=MUTANTS, default="")
    parser.add_argument("--redis", default="", help="on this server instead of in memory")
    wanted = parser.parse_args()
    logging.disable(logging.ERROR)
    tally = simulate_many(
        range(wanted.first, wanted.first + wanted.seeds), mutant=wanted.mutant, redis_url=wanted.redis
    )
    for seed, broken in tally.failed.items():
        print(f"seed {seed}: {'; '.join(broken[:4])}")
    print(tally)
    return 0 if tally.valid and not tally.failed else 1


if __name__ == "__main__":
    sys.exit(main())
