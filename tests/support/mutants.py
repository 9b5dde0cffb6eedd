"""The product with one thing wrong, and for each the check that notices: a mutant nobody kills is a hole."""

from __future__ import annotations
import __future__

import importlib
import inspect
import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import redis

from decision.decide import Action
from persistence import scripts
from persistence.connection import connect, text
from persistence.keys import Keys
from persistence.outbox import Relay
from persistence.record import AppendReport
from persistence.redis_store import RedisStore
from persistence.store import ClockKind, CloseHow, CommitStatus, Fact, PublishCommand, PublishStatus
from phantom.advance import advance
from phantom.position import Closed, Outcome, Position
from runtime.judge import Judge
from runtime.shelf import Shelf
from signals.reasons import Reason
from signals.signal import Side
from tests.support.positions import START, candle, terms
from tests.support.races import RACES, race
from tests.support.scenario import KEY, PROFILE, T0, QuickTrainer, candidate, signal
from tests.support.stores import DAY, HOUR, claimed, ending, held, outbox, phantom
from tests.support.wire import answers_awaited, tapped

AGES = 31 * DAY


class Caught(AssertionError):  # noqa: N818
    """A check found what it looks for. Anything else that goes wrong under a mutant is no kill."""


class Killed(BaseException):
    """This process is dead: nothing in it may notice."""


def must(rule: str, holds: object) -> None:
    """Say which rule is broken."""
    if not holds:
        raise Caught(rule)


@dataclass(slots=True)
class Ground:
    """A server and a name nobody else uses."""

    redis_url: str
    name: str
    stack: ExitStack

    def client(self) -> redis.Redis:
        client = connect(self.redis_url)
        self.stack.callback(client.close)
        return client

    def store(self, name: str = "") -> RedisStore:
        """A store in a namespace that has been created."""
        store = RedisStore(self.client(), f"{self.name}{name}")
        store.create(ClockKind.DATA, now_ms=T0)
        store.register(PROFILE.name, "{}", "70", first_training=3, now_ms=T0)
        store.register("trend", "{}", "70", first_training=2, now_ms=T0)
        store.advance_clock(T0)
        return store


Killer = Callable[[Ground], None]


# --- checks


def no_order_breaks(name: str) -> Killer:
    """One pair of workers in every order."""
    pair = next(pair for pair in RACES if pair.name == name)

    def check(ground: Ground) -> None:
        tally = race(ground.redis_url, pair, ground.name, until_wrong=True)
        must("; ".join(tally.wrong[:2]), not tally.wrong)

    check.__name__ = f"every order of {name}"
    return check


def a_stale_close_is_refused(ground: Ground) -> None:
    store = ground.store()
    store.decide(phantom("a"))
    seen = held(store, "a")
    store.touch(seen, '{"last_ts":1}', 1, now_ms=T0)
    must("a close computed from an older track must not land", store.close(ending(seen)) is CommitStatus.STALE)


def a_stale_touch_is_refused(ground: Ground) -> None:
    store = ground.store()
    store.decide(phantom("a"))
    seen = held(store, "a")
    store.touch(seen, '{"last_ts":2}', 2, now_ms=T0)
    must("a checkpoint never goes back", store.touch(seen, '{"last_ts":1}', 1, now_ms=T0) is CommitStatus.STALE)


def a_close_said_again_changes_nothing(ground: Ground) -> None:
    store = ground.store()
    position = claimed(store, "a")
    command = replace(ending(position), how=CloseHow.REPORT, report_id="r")
    store.close(command)
    before = outbox(store.client, store.keys)
    store.close(command)
    must("closed once", outbox(store.client, store.keys) == before)
    must("counted once", store.training("trend").completed == 1)


def no_control_key_is_halt(ground: Ground) -> None:
    store = ground.store()
    judge = Judge(store, {PROFILE.name: PROFILE})
    must("with a key it executes", judge.judge(signal("a", 0)).action is Action.EXECUTE)
    store.client.delete(store.keys.control())
    must("without one it does not", judge.judge(signal("b", 0)).action is Action.PHANTOM)


def a_late_claim_is_refused(ground: Ground) -> None:
    store = ground.store()
    answer = Judge(store, {PROFILE.name: PROFILE}).judge(signal("a", 0))
    late = (answer.expires_at or 0) + 1
    must("refused a millisecond late", store.claim("a", "e", now_ms=late) is Reason.CLAIM_EXPIRED)


def another_content_is_a_conflict(ground: Ground) -> None:
    judge = Judge(ground.store(), {PROFILE.name: PROFILE})
    judge.judge(signal("a", 0))
    answer = judge.judge(signal("a", 0, tp=103.0))
    must("never the first one's execute", answer.action is Action.REJECTED)


def answers_are_forgotten_in_time(ground: Ground) -> None:
    store = ground.store()
    store.decide(phantom("a"))
    store.close(ending(held(store, "a")))
    store.prune(T0 + HOUR + AGES)
    must("nothing of it is left", store.decision("a") is None and store.position("a") is None)


def a_boundary_passed_while_training_is_asked_for(ground: Ground) -> None:
    store = ground.store()

    def won(*names: str) -> None:
        for name in names:
            store.decide(phantom(name))
            store.close(ending(held(store, name)))

    won("a", "b")
    attempt = store.begin_training("trend", now_ms=T0)
    won("c", "d", "e")
    store.settle("trend", attempt, reason="LEARN_AUC", detail="", next_at=4, now_ms=T0)
    won("f")
    asked = [fact.id for fact in outbox(store.client, store.keys) if fact.kind == "retrain"]
    must(f"one request for each boundary: {asked}", asked == ["retrain:trend:2", "retrain:trend:4"])


def a_zombie_is_fenced(ground: Ground) -> None:
    store = ground.store()
    zombie = _publication(store.begin_training("trend", now_ms=T0), "old")
    fresh = _publication(store.begin_training("trend", now_ms=T0), "new")
    store.publish(fresh)
    must("its publish is refused", store.publish(zombie) is PublishStatus.FENCED)
    must("the newer one stays", store.training("trend").bundle == "new")


def _publication(attempt: int, address: str) -> PublishCommand:
    return PublishCommand(
        strategy="trend",
        attempt=attempt,
        address=address,
        trained_count=2,
        next_at=4,
        network=False,
        tables="{}",
        manifest="{}",
        now_ms=T0,
    )


class _Die:
    """A tap that ends the process, as far as anybody in it can tell."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.count = 0

    def sending(self, kind: str, what: str) -> None:
        self.count += 1
        if self.count == self.at:
            raise Killed

    def answered(self, kind: str, what: str) -> None:
        pass


def deaths(work: Callable[[int], object], after: Callable[[int], None]) -> int:
    """Die before each command of some work in turn, each time looking at what is left; returns how many there were."""
    at = 0
    while True:
        at += 1
        tap = _Die(at)
        # Set-up is not what dies.
        finished = work_dies(work, at, tap)
        after(at)
        if finished:
            return at - 1


def work_dies(work: Callable[[int], object], at: int, tap: _Die) -> bool:
    """Whether some work came to its end."""
    with suppress(Killed), answers_awaited(), tapped(tap):
        work(at)
        return True
    return False


def no_death_leaves_half_a_bundle(ground: Ground) -> None:
    candidate()
    stores: dict[int, RedisStore] = {}
    kept: set[str] = set()

    def work(at: int) -> None:
        trainer = QuickTrainer(stores[at], {PROFILE.name: PROFILE}, KEY, keep=lambda address, _data: kept.add(address))
        trainer.attempt(PROFILE.name)

    def after(at: int) -> None:
        look = RedisStore(ground.client(), stores[at].keys.namespace)
        address = look.training(PROFILE.name).bundle
        whole = address is None or (look.bundle(address) is not None and address in kept)
        must("what is in force is there", whole)
        kept.clear()
        stores[at + 1] = ground.store(f"-{at + 1}")

    stores[1] = ground.store("-1")
    must("there were deaths", deaths(work, after) >= 4)


class _Sink:
    """A record that outlives whoever writes to it, and can be out of reach of a dead one."""

    def __init__(self) -> None:
        self.facts: dict[str, Fact] = {}

    def append(self, facts: Sequence[Fact]) -> AppendReport:
        new = [fact for fact in facts if fact.id not in self.facts]
        self.facts |= {fact.id: fact for fact in new}
        return AppendReport(len(new), len(facts) - len(new), ())


class _DeadlySink(_Sink):
    def __init__(self, inner: _Sink) -> None:
        self.inner = inner

    def append(self, facts: Sequence[Fact]) -> AppendReport:
        raise Killed


def no_death_of_the_relay_strands_a_fact(ground: Ground) -> None:
    client, keys, sink = ground.client(), Keys(ground.name), _Sink()
    written = 0

    def write() -> None:
        nonlocal written
        for _ in range(3):
            written += 1
            entry: Any = {"seq": written, "id": f"control:{written}", "kind": "control", "at": 1, "body": "{}"}
            client.xadd(keys.outbox(), entry)

    def relay(record: _Sink) -> Relay:
        made = Relay(ground.client(), keys, record)
        made.ensure_group()
        return made

    def after(_at: int) -> None:
        survivor = relay(sink)
        for _ in range(3):
            survivor.cycle()
        must(f"all {written} facts are on record, not {len(sink.facts)}", len(sink.facts) == written)
        must("nothing is left in the stream", client.xlen(keys.outbox()) == 0)
        write()
        ready[:] = [relay(sink)]

    ready = [relay(sink)]
    write()
    must("there were deaths", deaths(lambda _at: ready[0].cycle(), after) >= 4)
    with suppress(Killed):
        relay(_DeadlySink(sink)).cycle()
    after(0)


def no_number_is_no_confidence(ground: Ground) -> None:
    store = ground.store()
    trained = QuickTrainer(store, {PROFILE.name: PROFILE}, KEY).attempt(PROFILE.name)
    must("there is a bundle", trained.address)
    judge = Judge(store, {PROFILE.name: PROFILE}, watch=lambda: 0.0, shelf=Shelf(store, KEY))
    with patch("scorer.ensemble.Ensemble.win_probability", lambda _self, _row: math.nan):
        answer = judge.judge(signal("a", 0))
    must("what no model can score executes nothing", answer.action is Action.PHANTOM)
    must("and says so", Reason.MODEL_DEGRADED in answer.reasons)


def another_schemas_bundle_is_refused(ground: Ground) -> None:
    store = ground.store()
    made = candidate()
    other = replace(made.schema, version=made.schema.version + 1)
    with patch("tests.support.scenario.candidate", lambda: replace(made, schema=other)):
        trainer = QuickTrainer(store, {PROFILE.name: PROFILE}, KEY)
        # The trainer itself reads back what it packed, by the same schema.
        must("it was published", trainer.attempt(PROFILE.name).address)
    judge = Judge(store, {PROFILE.name: PROFILE}, watch=lambda: 0.0, shelf=Shelf(store, KEY))
    answer = judge.judge(signal("a", 0))
    must("it is not served", Reason.MODEL_DEGRADED in answer.reasons)


def a_tie_is_a_loss(ground: Ground) -> None:
    opened = terms(Side.LONG)
    ended = advance(Position.open(opened), candle(Side.LONG, "100 105 97 104", START))
    must("stop first", isinstance(ended, Closed) and ended.outcome is Outcome.LOSS)


# --- mutants


def close_and_look(store: RedisStore, keys: dict[str, str], args: dict[str, str | int]) -> CommitStatus:
    """Close without asking for training, then look at the counter whether it is time."""
    strategy = str(args["strategy"])
    status = CommitStatus(text(store._run("close", keys | {"training": store.keys.training("nobody")}, args)))
    if store.training(strategy).completed % store.training(strategy).next_at == 0:
        seq = int(store.client.hincrby(store.keys.meta(), "seq", 1))
        entry: Any = {"seq": seq, "kind": "retrain", "id": f"retrain:{strategy}:{seq}", "at": 1, "body": "{}"}
        boundary = store.training(strategy).next_at
        store.client.xadd(store.keys.outbox(), entry | {"strategy": strategy, "boundary": boundary, "count": boundary})
        store.client.hset(store.keys.training(strategy), "requested", boundary)
    return status


@dataclass(frozen=True, slots=True)
class Mutant:
    """A change of one script or function by its text, and its killer.

    ``where`` is ``name.lua`` or ``module:function``; ``seen_as`` are further names the function goes by.
    """

    name: str
    where: str
    old: str
    new: str
    killer: Killer
    seen_as: tuple[str, ...] = ()
    more: tuple[tuple[str, str], ...] = ()

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The product with this change in it."""
        with ExitStack() as stack:
            if self.where.endswith(".lua"):
                stack.enter_context(patch.object(scripts, "source", self._script(scripts.source)))
            else:
                module, _, path = self.where.partition(":")
                changed = self._function(importlib.import_module(module), path)
                for name in (self.where, *self.seen_as):
                    stack.enter_context(patch(name.replace(":", "."), changed))
            yield

    def changed(self, source: str) -> str:
        """The text with the change; a pattern that is not there any more is an error, not a survivor."""
        for old, new in ((self.old, self.new), *self.more):
            if old not in source:
                raise LookupError(f"mutant {self.name}: {old!r} is not in {self.where}")
            source = source.replace(old, new, 1)
        return source

    def _script(self, source: Callable[[str], str]) -> Callable[[str], str]:
        return lambda name: self.changed(source(name)) if f"{name}.lua" == self.where else source(name)

    def _function(self, module: Any, path: str) -> object:
        found: Any = module
        for part in path.split("."):
            found = getattr(found, part)
        source = self.changed(textwrap.dedent(inspect.getsource(found)))
        made: dict[str, object] = {}
        code = compile(source, f"<mutant {self.name}>", "exec", flags=__future__.annotations.compiler_flag)
        exec(code, found.__globals__, made)  # noqa: S102
        return made[found.__name__]


_TURN = "self._deliver_apart(entries, turn)\n    self._settle(turn)"
_ACK_FIRST = (
    "turn.done = [entry.id for entry in entries]; self._settle(turn); turn.done = []\n"
    "    self._deliver_apart(entries, turn)"
)
_KEEP = "    self._keep(name, data)\n    self.store.put_bundle(name, data)\n"
_FENCED = "    fenced = status is"
_OUTSIDE = (
    "import importlib\n    return importlib.import_module('tests.support.mutants').close_and_look(self, keys, args)"
)
_BARE = "if not (0.0 <= raw <= 1.0 and math.isfinite(said) and 0.0 <= said <= 1.0):"

MUTANTS = (
    Mutant("no compare-and-set in close", "close.lua", "version ~= A.v", "false", a_stale_close_is_refused),
    Mutant("no compare-and-set in touch", "touch.lua", "known[2] ~= A.v", "false", a_stale_touch_is_refused),
    Mutant(
        "no closed check", "close.lua", "status == 'closed'", "false", no_order_breaks("close/close, two reports")
    ),
    Mutant("forgets to mark closed", "close.lua", "'status', 'closed', ", "", a_close_said_again_changes_nothing),
    Mutant("no replay recognised", "decide.lua", "#known > 0", "false", no_order_breaks("decide/decide, one id")),
    Mutant("another content recognised", "decide.lua", "entry.fp ~= A.fp", "false", another_content_is_a_conflict),
    Mutant("ledger not written", "decide.lua", "redis.call('ZADD', K.ledger, A.now, A.sid)\nif K.bar and",
           "if K.bar and",
           answers_are_forgotten_in_time),
    Mutant("limits not looked at", "decide.lua", "check[2] >= limit", "false",
           no_order_breaks("decide/decide, last slot")),
    Mutant("missing control is ON", "decide.lua", "held[1] = 'MODE_MISSING'", "mode = 'ON'",
           no_control_key_is_halt),
    Mutant("halt not looked at", "decide.lua", "held[1] = 'MODE_HALT'", "held[1] = nil",
           no_order_breaks("halt/decide")),
    Mutant("claim without owner", "claim.lua", "entry.claimed_by ~= A.engine", "false",
           no_order_breaks("claim/claim, two engines")),
    Mutant("claim by another id", "claim.lua", "(entry.claimed_as or A.sid) ~= A.asked", "false",
           no_order_breaks("claim/claim, two ids of a candle")),
    Mutant("claim after the halt", "claim.lua", "mode ~= 'ON' and mode ~= 'ML_OFF'", "false",
           no_order_breaks("halt/claim")),
    Mutant("claim without expiry", "claim.lua", "int(A.now) > int(entry.expires)", "false", a_late_claim_is_refused),
    Mutant("boundary asked for at one count only", "close.lua", "int(count) >= int(boundary)",
           "int(count) == int(boundary)", a_boundary_passed_while_training_is_asked_for),
    Mutant("boundary looked at from outside", "persistence.redis_store:RedisStore.close",
           'return CommitStatus(text(self._run("close", keys, args)))', _OUTSIDE,
           no_order_breaks("close/close at a boundary")),
    Mutant("publish not fenced", "publish.lua", "int(known[3]) >= int(A.attempt)", "false", a_zombie_is_fenced),
    Mutant("pointer before bytes", "runtime.train:Trainer._publish", _KEEP, "", no_death_leaves_half_a_bundle,
           more=((_FENCED, _KEEP + _FENCED),)),
    Mutant("acknowledged before the commit", "persistence.outbox:Relay.cycle", _TURN, _ACK_FIRST,
           no_death_of_the_relay_strands_a_fact),
    Mutant("acknowledged and trimmed apart", "persistence.outbox:Relay._settle", "pipe.xack(", "self._client.xack(",
           no_death_of_the_relay_strands_a_fact),
    Mutant("relay reads what is new only", "persistence.outbox:Relay._read",
           "(self._own_pending, self._abandoned, self._new)", "(self._new,)", no_death_of_the_relay_strands_a_fact),
    Mutant("clamped instead of checked", "scorer.bundle:Bundle._answer", _BARE,
           "said = max(0.0, min(1.0, said))\n    if False:", no_number_is_no_confidence),
    Mutant("any schema's bundle", "scorer.bundle:unpack", "signed_schema != schema_hash", "False",
           another_schemas_bundle_is_refused, ("runtime.shelf:unpack",)),
    Mutant("the better half of a tie", "phantom.advance:_inside", "return _both_touched(terms, track, candle, finer)",
           "return _won(terms, track, candle, adverse)", a_tie_is_a_loss),
)  # fmt: skip
