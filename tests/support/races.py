"""Pairs that must not get into each other's way: how each is set up, and what must hold in whatever order they come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import redis

from decision.decide import Action
from persistence import scripts
from persistence.connection import connect
from persistence.redis_store import RedisStore
from persistence.state import State
from persistence.store import (
    ClockKind,
    CloseCommand,
    CommitStatus,
    DecideCommand,
    DecideReply,
    Fact,
    Mode,
    StoredPosition,
)
from runtime.follow import Follower
from runtime.judge import Judge
from runtime.report import Reports
from runtime.trained import Trained
from signals.candle import Candle
from signals.profile import Limits, Profile
from signals.reasons import Reason
from tests.support.interleave import Gates, Run, Work, every_order
from tests.support.scenario import KEY, PROFILE, STEP_MS, SYMBOL, T0, QuickTrainer, signal
from tests.support.stores import outbox

Seen = list[tuple[str, object]]


class Attentive(RedisStore):
    """A store that remembers in what order things were read and committed."""

    seen: Seen

    def position(self, signal_id: str) -> StoredPosition | None:
        found = super().position(signal_id)
        self.seen.append(("read", found is not None and found.open))
        return found

    def following(self, symbol: str, after_seq: int) -> Sequence[StoredPosition]:
        found = super().following(symbol, after_seq)
        self.seen += [("read", position.open) for position in found]
        return found

    def close(self, command: CloseCommand) -> CommitStatus:
        status = super().close(command)
        self.seen.append(("commit", status))
        return status

    def touch(self, position: StoredPosition, track: str, last_ts: int, **words: Any) -> CommitStatus:
        status = super().touch(position, track, last_ts, **words)
        self.seen.append(("commit", status))
        return status

    def decide(self, command: DecideCommand) -> DecideReply:
        reply = super().decide(command)
        self.seen.append(("commit", reply.status))
        return reply


@dataclass(slots=True)
class Stage:
    """One namespace with two workers' stores and one to look at it with."""

    one: Attentive
    two: Attentive
    look: RedisStore
    seen: Seen

    def facts(self, *kinds: str) -> list[Fact]:
        """Facts of some kinds, or all, in order."""
        return [fact for fact in outbox(self.look.client, self.look.keys) if not kinds or fact.kind in kinds]

    def both_read_before_a_commit(self) -> bool:
        """Whether two looked at an open position before anybody changed it."""
        first = next((place for place, (what, _) in enumerate(self.seen) if what == "commit"), len(self.seen))
        return sum(what == "read" and bool(value) for what, value in self.seen[:first]) >= 2

    def judge(self, store: RedisStore, profile: Profile = PROFILE) -> Judge:
        return Judge(store, {profile.name: profile}, watch=lambda: 0.0)

    def reports(self, store: RedisStore) -> Reports:
        return Reports(store)

    def follower(self, store: RedisStore) -> Follower:
        return Follower(store, {PROFILE.name: PROFILE}, checkpoint_every=1, volatility_timeframes=())

    def claimed(self, name: str) -> None:
        """An executed position that engine ``e`` has claimed."""
        self.judge(self.look).judge(signal(name, 0))
        if self.look.claim(name, "e", now_ms=T0) is not Reason.CLAIM_GO:
            raise LookupError(name)


Check = Callable[[Stage, Run], list[str]]
Setting = Callable[[Stage], tuple[Sequence[Work], Check]]
ENDS = Candle(T0, 100.0, 102.5, 99.5, 102.0)
QUIET = Candle(T0, 100.0, 100.5, 99.5, 100.0)


def on_positions(packed: bytes) -> bool:
    """Commands that touch a position, its signal, or the list of those that are followed."""
    return any(word in packed for word in (b":pos:", b":sig:", b":follow:"))


def on_counts(packed: bytes) -> bool:
    """The same, and commands that look at how many outcomes there are."""
    return on_positions(packed) or b":completed_trades" in packed


def on_learning(packed: bytes) -> bool:
    """Commands that change a strategy's learning."""
    return b"EVALSHA" in packed[:24] or b":bundle:" in packed


def anything(packed: bytes) -> bool:
    return True


def close_report(name: str, price: float = 102.0, reason: str = "tp") -> dict[str, object]:
    return {"signal_id": name, "price": price, "ts": T0 + STEP_MS, "reason": reason}


def _decide_same_id(stage: Stage) -> tuple[Sequence[Work], Check]:
    works = [lambda store=store: stage.judge(store).judge(signal("a", 0)) for store in (stage.one, stage.two)]

    def check(stage: Stage, run: Run) -> list[str]:
        one, two = (replace(answer, latency_ms=None) for answer in run.results)
        return _unless({
            "both have the same answer": one == two,
            "one decision": len(stage.facts("decision")) == 1,
            "one position": len(stage.facts("opened")) == 1,
        })  # fmt: skip

    return works, check


def _decide_last_slot(stage: Stage) -> tuple[Sequence[Work], Check]:
    tight = replace(PROFILE, limits=Limits(open_positions=1, per_symbol=0, executes_per_minute=0))
    works = [
        lambda store=store, name=name: stage.judge(store, tight).judge(signal(name, 0))
        for store, name in ((stage.one, "a"), (stage.two, "b"))
    ]

    def check(stage: Stage, run: Run) -> list[str]:
        actions = Counter(answer.action for answer in run.results)
        return _unless({"one slot, one execute": actions == {Action.EXECUTE: 1, Action.PHANTOM: 1}})

    return works, check


def _claim_two_engines(stage: Stage) -> tuple[Sequence[Work], Check]:
    stage.judge(stage.look).judge(signal("a", 0))
    works = [
        lambda store=store, engine=engine: store.claim("a", engine, now_ms=store.now_ms())
        for store, engine in ((stage.one, "e1"), (stage.two, "e2"))
    ]

    def check(stage: Stage, run: Run) -> list[str]:
        return _unless({
            "one go": Counter(run.results) == {Reason.CLAIM_GO: 1, Reason.CLAIM_TAKEN: 1},
            "one claim": len(stage.facts("claimed")) == 1,
        })  # fmt: skip

    return works, check


def _claim_two_ids(stage: Stage) -> tuple[Sequence[Work], Check]:
    for name in "ab":
        stage.judge(stage.look).judge(signal(name, 0, timeframe="5m", tag="x"))
    works = [
        lambda store=store, name=name: store.claim(name, "e", now_ms=store.now_ms())
        for store, name in ((stage.one, "a"), (stage.two, "b"))
    ]

    def check(stage: Stage, run: Run) -> list[str]:
        went = run.results.index(Reason.CLAIM_GO) if Reason.CLAIM_GO in run.results else 0
        said = stage.look.claim("ab"[went], "e", now_ms=T0)
        return _unless({
            "one go": Counter(run.results) == {Reason.CLAIM_GO: 1, Reason.CLAIM_TAKEN: 1},
            "whoever has it may hear it again": said is Reason.CLAIM_GO,
        })  # fmt: skip

    return works, check


def _claim_or_lapse(stage: Stage) -> tuple[Sequence[Work], Check]:
    stage.judge(stage.look).judge(signal("a", 0))
    expires = T0 + PROFILE.decision_ttl_ms
    works: list[Work] = [
        lambda: stage.one.claim("a", "e", now_ms=expires),
        lambda: [stage.two.lapse(name, now_ms=expires + 1) for name in stage.two.overdue_claims(expires + 1)],
    ]

    def check(stage: Stage, run: Run) -> list[str]:
        went, lapsed = len(stage.facts("claimed")), len(stage.facts("unclaimed"))
        return _unless(
            {"claimed or lapsed": went + lapsed == 1, "told so": (run.results[0] is Reason.CLAIM_GO) == went}
        )

    return works, check


def _close_two_reports(stage: Stage) -> tuple[Sequence[Work], Check]:
    stage.claimed("a")
    works = [
        lambda store=store, report=report: stage.reports(store).close(report).reason
        for store, report in ((stage.one, close_report("a")), (stage.two, close_report("a", 99.0, "sl")))
    ]

    def check(stage: Stage, run: Run) -> list[str]:
        return _unless({
            "one closes, one corrects": Counter(run.results)
            == {Reason.REPORT_ACCEPTED: 1, Reason.REPORT_CORRECTION: 1},
            "closed once": len(stage.facts("closed")) == 1,
            "counted once": stage.look.training(PROFILE.name).completed == 1,
        })  # fmt: skip

    return works, check


def _close_two_followers(stage: Stage) -> tuple[Sequence[Work], Check]:
    stage.judge(stage.look).judge(signal("a", 0, strong=False))
    works = [
        lambda store=store: len(stage.follower(store).candle(SYMBOL, "5m", ENDS)) for store in (stage.one, stage.two)
    ]

    def check(stage: Stage, run: Run) -> list[str]:
        return _unless({
            "told once": sum(run.results) == 1,
            "closed once": len(stage.facts("closed")) == 1,
            "counted once": stage.look.training(PROFILE.name).completed == 1,
            "one row": len(stage.look.trades(PROFILE.name)[0]) == 1,
        })  # fmt: skip

    return works, check


def _close_or_touch(stage: Stage) -> tuple[Sequence[Work], Check]:
    stage.claimed("a")
    works: list[Work] = [
        lambda: stage.reports(stage.one).close(close_report("a")).reason,
        lambda: stage.follower(stage.two).candle(SYMBOL, "5m", QUIET),
    ]

    def check(stage: Stage, run: Run) -> list[str]:
        found = stage.look.position("a")
        return _unless({
            "the report stands": run.results[0] is Reason.REPORT_ACCEPTED,
            "closed": found is not None and not found.open and found.how == "report",
            "the twin goes on": found is not None and found.following and len(stage.facts("touched")) == 1,
        })  # fmt: skip

    return works, check


def _open_or_close(stage: Stage) -> tuple[Sequence[Work], Check]:
    # The candle moves the clock; here the signal may be as old as that.
    patient = replace(PROFILE, max_age_ms=3_600_000)
    works: list[Work] = [
        lambda: stage.judge(stage.one, patient).judge(signal("a", 0, strong=False)).action,
        lambda: stage.follower(stage.two).candle(SYMBOL, "5m", ENDS),
    ]

    def check(stage: Stage, run: Run) -> list[str]:
        # Whoever missed it this time reads the candles again after a restart.
        stage.follower(stage.look).candle(SYMBOL, "5m", ENDS)
        kinds = [fact.kind for fact in stage.facts("opened", "closed")]
        found = stage.look.position("a")
        return _unless({
            "opened, then closed, once": kinds == ["opened", "closed"],
            "it stays closed": found is not None and not found.open,
        })  # fmt: skip

    return works, check


def _boundary_two_closes(stage: Stage) -> tuple[Sequence[Work], Check]:
    names = "abcd"
    for name in names:
        stage.claimed(name)
    for name in names[:2]:
        stage.reports(stage.look).close(close_report(name))
    # Two outcomes are counted; the boundary is three, and both of these reach it.
    works = [
        lambda store=store, name=name: stage.reports(store).close(close_report(name)).reason
        for store, name in ((stage.one, "c"), (stage.two, "d"))
    ]

    def check(stage: Stage, run: Run) -> list[str]:
        return _unless({
            "four outcomes": stage.look.training(PROFILE.name).completed == 4,
            "one request": [fact.fields["boundary"] for fact in stage.facts("retrain")] == ["3"],
        })  # fmt: skip

    return works, check


def _halt_or_decide(stage: Stage) -> tuple[Sequence[Work], Check]:
    works: list[Work] = [lambda: _halt(stage.one), lambda: stage.judge(stage.two).judge(signal("a", 0)).action]

    def check(stage: Stage, run: Run) -> list[str]:
        executed = run.results[1] is Action.EXECUTE
        return _unless({"no execute after the halt": executed == _before_the_halt(stage, "decision")})

    return works, check


def _halt_or_claim(stage: Stage) -> tuple[Sequence[Work], Check]:
    stage.judge(stage.look).judge(signal("a", 0))
    works: list[Work] = [
        lambda: _halt(stage.one),
        lambda: stage.two.claim("a", "e", now_ms=stage.two.now_ms()),
    ]

    def check(stage: Stage, run: Run) -> list[str]:
        went = run.results[1] is Reason.CLAIM_GO
        return _unless({"no go after the halt": went == _before_the_halt(stage, "claimed"), "or revoked": went or (
            run.results[1] is Reason.CLAIM_REVOKED)})  # fmt: skip

    return works, check


def _publish_twice(stage: Stage) -> tuple[Sequence[Work], Check]:
    def train(store: RedisStore) -> Trained:
        return QuickTrainer(store, {PROFILE.name: PROFILE}, KEY).attempt(PROFILE.name)

    works = [lambda store=store: train(store) for store in (stage.one, stage.two)]

    def check(stage: Stage, run: Run) -> list[str]:
        published = [int(fact.fields["attempt"]) for fact in stage.facts("published")]
        known = stage.look.training(PROFILE.name)
        fenced = sum(trained.fenced for trained in run.results)
        address = known.bundle or ""
        return _unless({
            "each attempt has its own number": {trained.attempt for trained in run.results} == {1, 2},
            "only forward, and somebody does": published and published == sorted({*published}),
            "what did not come in is told so": fenced == 2 - len(published),
            "the last one is in force": known.published_attempt == published[-1],
            "its bytes are there": stage.look.bundle(address) is not None,
        })  # fmt: skip

    return works, check


def _halt(store: RedisStore) -> int:
    return store.set_mode(Mode.HALT, actor="operator", reason="drill", now_ms=store.now_ms()).generation


def _before_the_halt(stage: Stage, kind: str) -> bool:
    halted = next(fact.seq for fact in stage.facts("control") if fact.fields["mode"] == Mode.HALT)
    return any(fact.seq < halted for fact in stage.facts(kind))


def _unless(rules: dict[str, Any]) -> list[str]:
    return [rule for rule, holds in rules.items() if not holds]


@dataclass(frozen=True, slots=True)
class Race:
    """A pair by name, before which commands it stops, and whether both can have read before either commits."""

    name: str
    setting: Setting
    gates: Gates = anything
    reads_first: bool = False


RACES = (
    Race("decide/decide, one id", _decide_same_id),
    Race("decide/decide, last slot", _decide_last_slot),
    Race("claim/claim, two engines", _claim_two_engines),
    Race("claim/claim, two ids of a candle", _claim_two_ids),
    Race("claim/lapse", _claim_or_lapse),
    Race("close/close, two reports", _close_two_reports, on_positions, reads_first=True),
    Race("close/close, two followers", _close_two_followers, on_positions, reads_first=True),
    Race("close/touch", _close_or_touch, on_positions, reads_first=True),
    Race("open/close, one id", _open_or_close),
    Race("close/close at a boundary", _boundary_two_closes, on_counts, reads_first=True),
    Race("halt/decide", _halt_or_decide),
    Race("halt/claim", _halt_or_claim),
    Race("publish/publish", _publish_twice, on_learning),
)


@dataclass(slots=True)
class Tally:
    """What came of all orders of a pair. ``read_first``: orders in which both had read before either committed."""

    name: str
    orders: int = 0
    lengths: Counter[tuple[int, int]] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    read_first: int = 0
    wrong_after_reading: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.name}: {self.orders} orders, {self.read_first} read before a commit, {len(self.wrong)} wrong"


def race(redis_url: str, pair: Race, name: str, *, until_wrong: bool = False) -> Tally:
    """Every order of a pair, or those up to the first wrong one, each in a namespace of its own."""
    tally = Tally(pair.name)
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(redis_url)) for _ in range(3)]
        for client in clients:
            client.ping()
        for script in scripts.NAMES:
            # Otherwise the first order alone would load them.
            clients[0].script_load(scripts.source(script))
        now: list[tuple[Stage, Check]] = []

        def scene(number: int) -> tuple[Sequence[Work], Gates]:
            stage = _set(clients, f"{name}-{number}")
            works, check = pair.setting(stage)
            stage.seen.clear()
            now[:] = [(stage, check)]
            return works, pair.gates

        for run in every_order(scene):
            ((stage, check),) = now
            tally.orders += 1
            tally.lengths[run.order.count(0), run.order.count(1)] += 1
            tally.outcomes[repr([getattr(result, "action", result) for result in run.results])] += 1
            first = stage.both_read_before_a_commit()
            wrong = check(stage, run) + _unfolded(stage)
            tally.read_first += first
            tally.wrong_after_reading += first and bool(wrong)
            if wrong:
                tally.wrong.append(f"{''.join(map(str, run.order))}: {', '.join(wrong)}")
                if until_wrong:
                    break
    return tally


def _set(clients: Sequence[redis.Redis], namespace: str) -> Stage:
    seen: Seen = []
    one, two = (Attentive(client, namespace, on_disk=lambda _client: True) for client in clients[:2])
    one.seen = two.seen = seen
    look = RedisStore(clients[2], namespace)
    look.create(ClockKind.DATA, now_ms=T0)
    look.register(PROFILE.name, "{}", "70", first_training=3, now_ms=T0)
    look.advance_clock(T0)
    for store in (one, two):
        store.clock_kind()
    return Stage(one, two, look, seen)


def _unfolded(stage: Stage) -> list[str]:
    """What is not the sum of its facts."""
    folded = State(stage.look.keys)
    for fact in stage.facts():
        folded.apply(fact)
    return _unless({"the state is the fold of its facts": folded.dump() == dict(stage.look.dump())})
