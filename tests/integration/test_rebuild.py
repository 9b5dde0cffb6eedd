"""Redis wiped and put back from the record: the same state, key by key, in HALT."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import redis

from decision.decide import Action
from persistence import rebuild as rebuilding
from persistence.keys import STATE_PREFIXES, Keys
from persistence.memory_store import MemoryStore
from persistence.outbox import Relay
from persistence.rebuild import RebuildRefused, fold, rebuild
from persistence.record import Record
from persistence.redis_store import RedisStore
from persistence.store import (
    RETENTION_MS,
    ClockKind,
    CloseCommand,
    CloseHow,
    CommitStatus,
    DecideCommand,
    Fact,
    Mode,
    PublishCommand,
    StateMissing,
    Store,
    StoredPosition,
    TableCommand,
)
from signals.profile import Limits
from signals.reasons import Reason

AT = 1_700_000_000_000
HOUR_MS = 3_600_000
TRACK = '{"last_ts":1}'


@pytest.fixture
def keys(namespace: str) -> Keys:
    return Keys(namespace)


@pytest.fixture
def record(postgres_dsn: str, namespace: str) -> Iterator[Record]:
    record = Record(postgres_dsn, namespace)
    record.migrate()
    yield record
    record.close()


@pytest.fixture
def store(redis_client: redis.Redis, namespace: str) -> RedisStore:
    store = RedisStore(redis_client, namespace)
    store.create(ClockKind.DATA, now_ms=AT)
    store.advance_clock(AT)
    return store


class Story:
    """A seeded sequence of commands of every kind, sent to a store in the order of time."""

    def __init__(self, store: Store, seed: int, body: Callable[..., str]) -> None:
        self.store, self.body = store, body
        self.chance = random.Random(seed)  # noqa: S311 - a test's dice
        self.now_ms = AT
        self.signals: list[str] = []
        self.claimed: list[str] = []
        self.done: Counter[str] = Counter()

    def play(self, steps: int) -> None:
        for name in ("trend", "scalp"):
            # Boundaries within reach, so that a story asks for training.
            self.store.register(name, "{}", "70", first_training=2, now_ms=self.now_ms)
        acts = (
            [self.decide] * 6
            + [self.touch] * 4
            + [self.claim] * 3
            + [self.close] * 4
            + [self.lapse, self.fill, self.fill, self.correct, self.correct, self.mode, self.register]
            + [self.learn, self.learn]
        )
        for _ in range(steps):
            # Now and then days pass, so that something is old enough to be forgotten.
            days = self.chance.random() < 0.08
            self.now_ms += 86_400_000 if days else self.chance.choice([40, 900, 2_000, 4_000])
            self.store.advance_clock(self.now_ms)
            act = self.chance.choice(acts)
            if act():
                self.done[act.__name__] += 1

    def _some(self, *, claimed: bool = False) -> StoredPosition | None:
        names = self.claimed[-4:] if claimed else self.signals[-25:]
        return self.store.position(self.chance.choice(names)) if names else None

    def decide(self) -> bool:
        new = self.chance.random() < 0.85 or not self.signals
        signal_id = f"s{len(self.signals)}" if new else self.chance.choice(self.signals)
        scalp = self.chance.random() < 0.3
        want = self.chance.choice([Action.EXECUTE, Action.EXECUTE, Action.PHANTOM, Action.REJECTED])
        reply = self.store.decide(
            DecideCommand(
                now_ms=self.now_ms,
                signal_id=signal_id,
                fingerprint=self.chance.choice("ab") * 64,
                want=want,
                reasons=(Reason.SCORE_PASSED,) if want is Action.EXECUTE else (Reason.SCORE_BELOW_THRESHOLD,),
                body=json.dumps({"id": signal_id, "score": self.chance.random() * 100}),
                strategy="scalp" if scalp else "trend",
                symbol=self.chance.choice(["BTCUSDT", "ETHUSDT"]),
                prefix="scalp_phantom" if scalp else "phantom",
                alternative=Action.PHANTOM,
                alternative_reasons=(Reason.SCORE_BELOW_THRESHOLD,),
                bar=f"trend|{self.now_ms // 2_000}" if self.chance.random() < 0.6 else None,
                signal_ms=self.now_ms - self.chance.choice([0, 0, 0, 5_000]),
                max_age_ms=2_000,
                ttl_ms=10_000,
                entry_ms=self.now_ms,
                deadline_ms=self.now_ms + HOUR_MS,
                step_ms=300_000,
                terms='{"entry":100.0}',
                track='{"last_ts":0}',
                limits=Limits(open_positions=6, per_symbol=4, executes_per_minute=3),
            )
        )
        if new:
            self.signals.append(signal_id)
        self.done[reply.status.value] += 1
        return True

    def claim(self) -> bool:
        if not self.signals:
            return False
        name = self.chance.choice(self.signals[-3:])
        engine = self.chance.choice(["desk", "other"])
        if self.store.claim(name, engine, now_ms=self.now_ms) is not Reason.CLAIM_GO:
            return False
        self.claimed.append(name)
        return True

    def lapse(self) -> bool:
        overdue = self.store.overdue_claims(self.now_ms)
        return sum(self.store.lapse(name, now_ms=self.now_ms) for name in overdue) > 0

    def touch(self) -> bool:
        position = self._some()
        if position is None:
            return False
        over = self.body(position.signal_id) if position.claimed_by and self.chance.random() < 0.3 else None
        track = json.dumps({"last_ts": self.now_ms})
        return self.store.touch(position, track, self.now_ms, now_ms=self.now_ms, result=over) is CommitStatus.DONE

    def close(self) -> bool:
        position = self._some(claimed=self.chance.random() < 0.4)
        if position is None:
            return False
        won = self.chance.random() < 0.4
        how = CloseHow.SIMULATION
        if position.claimed_by is not None:
            how = self.chance.choice([CloseHow.REPORT, CloseHow.UNREPORTED])
        status = self.store.close(
            CloseCommand(
                now_ms=self.now_ms,
                signal_id=position.signal_id,
                prefix=position.prefix,
                strategy=position.strategy,
                symbol=position.symbol,
                version=position.version,
                how=how,
                outcome="win" if won else "loss",
                result=self.body(position.signal_id, won=won, kind=position.kind.value, strategy=position.strategy),
                track=TRACK,
                learned=self.chance.random() < 0.8,
                win=won,
                r_micro=1_500_000 if won else -1_000_000,
                money_micro=self.chance.choice([0, -7]),
                report_id=f"r{self.now_ms}" if how is CloseHow.REPORT else "",
            )
        )
        self.done[f"close {how.value}"] += status is CommitStatus.DONE
        return status is CommitStatus.DONE

    def fill(self) -> bool:
        position = self._some(claimed=True)
        if position is None:
            return False
        fill_id = f"f{self.chance.randrange(3)}"
        status = self.store.fill(position.signal_id, position.prefix, fill_id, '{"price":100.25}', now_ms=self.now_ms)
        return status is CommitStatus.DONE

    def correct(self) -> bool:
        position = self._some(claimed=True)
        if position is None:
            return False
        learned = self.chance.random() < 0.7
        body = self.body(position.signal_id, won=False)
        status = self.store.correct(position, f"c{self.now_ms}", body, learned=learned, now_ms=self.now_ms)
        return status is CommitStatus.DONE

    def learn(self) -> bool:
        name, address = self.chance.choice(["trend", "scalp"]), self.chance.choice("abc")
        known, now_ms = self.store.training(name), self.now_ms
        act = self.chance.randrange(5)
        if act == 0:
            count = known.table_count + self.chance.randrange(2)
            command = TableCommand(
                strategy=name, count=count, address=f"t{address}", table='{"z": 1.50,  "a":2}', now_ms=now_ms
            )
            return self.store.set_table(command)
        if act == 1:
            return self.store.refuse(name, address, code=f"X{self.now_ms}", detail="why", now_ms=now_ms)
        if act == 2:
            return self.store.point(name, address, expected=known.bundle or "", actor="op", now_ms=now_ms)
        number = self.store.begin_training(name, now_ms=now_ms)
        following = known.completed + 3
        if act == 3:
            return self.store.settle(
                name, number, reason="LEARN_AUC", detail="", next_at=following, now_ms=now_ms, body='{"n":1}'
            )
        self.store.publish(
            PublishCommand(
                strategy=name,
                attempt=number,
                address=address,
                trained_count=known.completed,
                next_at=following,
                network=False,
                tables=f'{{"of":"{address}"}}',
                manifest="{}",
                now_ms=now_ms,
            )
        )
        return True

    def mode(self) -> bool:
        wanted = self.chance.choice([Mode.ON, Mode.ON, Mode.ML_OFF])
        self.store.set_mode(wanted, actor="op", reason="told", now_ms=self.now_ms)
        return True

    def register(self) -> bool:
        name, settings = self.chance.choice(["trend", "scalp"]), json.dumps({"x": self.chance.randrange(3)})
        self.store.register(name, settings, self.chance.choice(["70", "72.5"]), now_ms=self.now_ms)
        return True


def halted(store: Store, now_ms: int) -> None:
    store.set_mode(Mode.HALT, actor="op", reason="to rebuild", now_ms=now_ms)


def wipe(client: redis.Redis, keys: Keys) -> None:
    """Delete the whole namespace: state, outbox, market."""
    for name in client.scan_iter(match=f"{keys.namespace}:*"):
        client.delete(name)


def comparable(dump: Mapping[str, object], keys: Keys) -> dict[str, object]:
    """A dump without what a rebuild changes on purpose: the control key, and seq and epoch of the meta key."""
    kept = {name: value for name, value in dump.items() if name not in (keys.control(), keys.meta())}
    meta: Any = dump[keys.meta()]
    return kept | {keys.meta(): {name: value for name, value in meta.items() if name not in ("seq", "epoch")}}


def relayed(client: redis.Redis, keys: Keys, record: Record) -> None:
    relay = Relay(client, keys, record)
    while (report := relay.cycle()).pending + report.lag > 0:
        pass
    assert report.backlog.dead == 0


EVERY_KIND = {
    *("created", "control", "profile", "decision", "opened", "alias", "conflict", "claimed", "unclaimed", "touched"),
    *("fill", "closed", "corrected", "retrain", "training", "published", "untrained", "pointed", "table", "refused"),
}


@pytest.mark.parametrize("seed", range(4))
def test_a_wiped_redis_comes_back_key_by_key(
    redis_client: redis.Redis, store: RedisStore, keys: Keys, record: Record, closed_body: Callable[..., str], seed: int
) -> None:
    story = Story(store, seed, closed_body)
    story.play(800)
    halted(store, story.now_ms)
    relayed(redis_client, keys, record)
    while store.prune(story.now_ms) > 0:
        pass
    before = comparable(store.dump(), keys)
    seq = int(str(redis_client.hget(keys.meta(), "seq"), "ascii"))  # type: ignore[arg-type]
    # The story is worth telling: it has every kind of fact, open and forgotten positions.
    assert {fact.kind for fact in record.facts()} == EVERY_KIND
    assert {"REPLAY", "CONFLICT", "DUPLICATE_BAR", "close report", "close unreported"} <= set(story.done)

    wipe(redis_client, keys)
    with pytest.raises(StateMissing):
        store.set_mode(Mode.ON, actor="op", reason="too early", now_ms=story.now_ms)
    report = rebuild(redis_client, keys, record)
    after = store.dump()
    assert comparable(after, keys) == before
    assert (report.facts, report.missing, report.orphans, report.drained) == (seq, 0, (), 0)
    assert (report.epoch, report.last_at_ms, report.keys) == (2, story.now_ms, len(after))
    assert report.pruned > 0
    assert report.open_positions == sum(redis_client.zcard(keys.open(prefix)) for prefix in STATE_PREFIXES) > 0
    assert store.following("BTCUSDT", 0)
    assert redis_client.hmget(keys.meta(), "seq", "epoch") == [str(seq + 1).encode(), b"2"]
    assert store.now_ms() == story.now_ms


def test_it_ends_in_halt_and_says_so_in_the_record(
    redis_client: redis.Redis, store: RedisStore, keys: Keys, record: Record
) -> None:
    relayed(redis_client, keys, record)
    wipe(redis_client, keys)
    report = rebuild(redis_client, keys, record)
    control = store.control()
    assert control is not None
    assert (control.mode, control.generation, control.actor) == (Mode.HALT, 2, "rebuild")
    assert report.generation == 2
    relayed(redis_client, keys, record)
    *_, last = record.facts()
    assert (last.kind, last.fields["mode"], last.fields["by"], last.at_ms) == ("control", "HALT", "rebuild", AT)
    # One hand on the switch is enough again.
    assert store.set_mode(Mode.ON, actor="op", reason="looked", now_ms=AT, expected=2).generation == 3


def test_a_second_rebuild_changes_nothing_but_epoch_and_generation(
    redis_client: redis.Redis, store: RedisStore, keys: Keys, record: Record, closed_body: Callable[..., str]
) -> None:
    Story(store, 9, closed_body).play(120)
    halted(store, AT)
    relayed(redis_client, keys, record)
    first = rebuild(redis_client, keys, record)
    after_first = comparable(store.dump(), keys)
    second = rebuild(redis_client, keys, record)
    assert comparable(store.dump(), keys) == after_first
    assert (second.epoch, second.generation, second.drained) == (first.epoch + 1, first.generation + 1, 1)
    wipe(redis_client, keys)
    third = rebuild(redis_client, keys, record, force=True)  # the second's own fact went with the wipe
    assert comparable(store.dump(), keys) == after_first
    assert third.facts == second.facts


def opened(store: RedisStore) -> StoredPosition:
    store.decide(
        DecideCommand(
            now_ms=AT,
            signal_id="a",
            fingerprint="f" * 64,
            want=Action.PHANTOM,
            reasons=(Reason.SCORE_BELOW_THRESHOLD,),
            body="{}",
            strategy="trend",
            symbol="BTCUSDT",
            signal_ms=AT,
            max_age_ms=1_000,
            deadline_ms=AT + HOUR_MS,
        )
    )
    position = store.position("a")
    assert position is not None
    store.touch(position, TRACK, AT, now_ms=AT)
    (position,) = store.following("BTCUSDT", 0)
    return position


def test_open_positions_are_followed_on(
    redis_client: redis.Redis, store: RedisStore, keys: Keys, record: Record, closed_body: Callable[..., str]
) -> None:
    before = opened(store)
    relayed(redis_client, keys, record)
    wipe(redis_client, keys)
    rebuild(redis_client, keys, record)
    (after,) = store.following("BTCUSDT", 0)
    assert after == before
    assert store.touch(after, '{"last_ts":2}', AT + 5, now_ms=AT + 5) is CommitStatus.DONE
    (now,) = store.following("BTCUSDT", 0)
    closing = CloseCommand(
        now_ms=AT + 9,
        signal_id="a",
        prefix="phantom",
        strategy="trend",
        symbol="BTCUSDT",
        version=now.version,
        how=CloseHow.SIMULATION,
        outcome="win",
        result=closed_body(),
        track=TRACK,
        learned=True,
        win=True,
    )
    assert store.close(closing) is CommitStatus.DONE
    relayed(redis_client, keys, record)
    assert record.count_conflicts() == 0
    assert [fact.seq for fact in record.facts()] == list(range(1, record.count() + 1))


# --- what it refuses


def test_it_waits_for_halt(redis_client: redis.Redis, store: RedisStore, keys: Keys, record: Record) -> None:
    relayed(redis_client, keys, record)
    before = store.dump()
    with pytest.raises(RebuildRefused, match="penumbra halt"):
        rebuild(redis_client, keys, record)
    assert store.dump() == before
    assert rebuild(redis_client, keys, record, force=True).generation == 2


def test_a_missing_control_key_is_halt(
    redis_client: redis.Redis, store: RedisStore, keys: Keys, record: Record
) -> None:
    relayed(redis_client, keys, record)
    redis_client.delete(keys.control())
    rebuild(redis_client, keys, record)
    assert store.control() is not None


def test_an_unknown_namespace_is_refused(redis_client: redis.Redis, keys: Keys, record: Record) -> None:
    with pytest.raises(RebuildRefused, match=f"does not know the namespace {keys.namespace}"):
        rebuild(redis_client, keys, record, force=True)
    assert not redis_client.exists(keys.meta())


def test_what_is_still_in_the_outbox_is_carried_first(
    redis_client: redis.Redis, store: RedisStore, keys: Keys, record: Record
) -> None:
    opened(store)
    halted(store, AT)
    assert record.is_empty()
    report = rebuild(redis_client, keys, record)
    assert (report.drained, report.facts) == (6, 6)
    assert len(store.following("BTCUSDT", 0)) == 1


def test_facts_another_consumer_holds_are_waited_for(
    redis_client: redis.Redis, store: RedisStore, keys: Keys, record: Record
) -> None:
    halted(store, AT)
    Relay(redis_client, keys, record).ensure_group()
    redis_client.xreadgroup("postgres", "another", {keys.outbox(): ">"})
    before = store.dump()
    with pytest.raises(RebuildRefused, match="another consumer"):
        rebuild(redis_client, keys, record)
    assert store.dump() == before


def test_dead_letters_are_looked_at_first(
    redis_client: redis.Redis, store: RedisStore, keys: Keys, record: Record
) -> None:
    halted(store, AT)
    redis_client.xadd(keys.dead(), {"id": "closed:x"})
    before = store.dump()
    with pytest.raises(RebuildRefused, match="1 facts in"):
        rebuild(redis_client, keys, record)
    assert store.dump() == before
    rebuild(redis_client, keys, record, force=True)


def test_a_story_without_its_beginning(
    redis_client: redis.Redis, store: RedisStore, keys: Keys, record: Record
) -> None:
    fields = {"sid": "ghost", "prefix": "phantom", "engine": "desk"}
    record.append([Fact(90, "claimed:ghost", "claimed", AT, fields, "{}")])
    halted(store, AT)
    before = store.dump()
    with pytest.raises(RebuildRefused, match="no beginning to 1 facts, claimed:ghost"):
        rebuild(redis_client, keys, record)
    assert store.dump() == before
    report = rebuild(redis_client, keys, record, force=True)
    assert (report.orphans, report.missing) == (("claimed:ghost",), 86)
    assert "left out: claimed:ghost" in str(report)
    assert not redis_client.exists(keys.position("phantom", "ghost"))


def test_a_fact_of_a_newer_version_is_refused(
    redis_client: redis.Redis, store: RedisStore, keys: Keys, record: Record
) -> None:
    record.append([Fact(90, "telepathy:1", "telepathy", AT, {}, "{}")])
    halted(store, AT)
    before = store.dump()
    with pytest.raises(RebuildRefused, match="telepathy"):
        rebuild(redis_client, keys, record, force=True)
    assert store.dump() == before


def test_two_at_once_are_refused(redis_client: redis.Redis, store: RedisStore, keys: Keys, record: Record) -> None:
    halted(store, AT)
    with record.lock("rebuild"), pytest.raises(Exception, match="another rebuild"):
        rebuild(redis_client, keys, record)
    assert store.exists()


def test_nothing_can_be_committed_while_it_runs(
    redis_client: redis.Redis, store: RedisStore, keys: Keys, postgres_dsn: str
) -> None:
    class Busy(Record):
        """A follower tries to go on just after the outbox was drained: its fact would be lost."""

        tried = 0

        def facts(self) -> Iterator[Fact]:
            self.tried += 1
            with pytest.raises(StateMissing):
                store.touch(position, '{"last_ts":2}', AT, now_ms=AT)
            with pytest.raises(StateMissing):
                store.set_mode(Mode.ON, actor="op", reason="impatient", now_ms=AT)
            return super().facts()

    position = opened(store)
    halted(store, AT)
    record = Busy(postgres_dsn, keys.namespace)
    rebuild(redis_client, keys, record)
    record.close()
    assert record.tried == 1
    assert store.following("BTCUSDT", 0) == [position]


def test_a_switch_thrown_in_the_last_moment_stops_it(
    redis_client: redis.Redis, store: RedisStore, keys: Keys, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    halted(store, AT)
    read = rebuilding._hash

    def read_then_switched(client: Any, key: str) -> dict[str, str]:
        found = read(client, key)
        if key == keys.control():
            store.set_mode(Mode.ON, actor="op", reason="just now", now_ms=AT)
        return found

    monkeypatch.setattr(rebuilding, "_hash", read_then_switched)
    with pytest.raises(RebuildRefused, match="try again"):
        rebuild(redis_client, keys, record)
    assert store.exists()
    control = store.control()
    assert control is not None
    assert control.mode is Mode.ON


def test_a_rebuild_killed_half_way_leaves_a_namespace_that_does_nothing(
    redis_client: redis.Redis,
    store: RedisStore,
    keys: Keys,
    record: Record,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened(store)
    halted(store, AT)
    before = comparable(store.dump(), keys)
    with monkeypatch.context() as patch:
        patch.setattr("persistence.rebuild._write", _killed)
        with pytest.raises(SystemExit):
            rebuild(redis_client, keys, record)
    assert not store.exists()
    with pytest.raises(StateMissing):
        store.decide(_any_decision())
    rebuild(redis_client, keys, record)
    assert comparable(store.dump(), keys) == before


def _killed(*_: object, **__: object) -> int:
    raise SystemExit


def _any_decision() -> DecideCommand:
    return DecideCommand(
        now_ms=AT, signal_id="b", fingerprint="f" * 64, want=Action.PHANTOM, reasons=(Reason.SCORE_PASSED,), body="{}"
    )


# --- what it leaves alone


def test_market_queue_and_neighbours_stay(
    redis_client: redis.Redis, store: RedisStore, keys: Keys, record: Record
) -> None:
    opened(store)
    store.feed("BTCUSDT", "5m", "{}", AT + 60_000)
    redis_client.rpush(keys.volatility("BTCUSDT", "5m"), "1.5")
    redis_client.set("ml:ctl", "of the default namespace")
    redis_client.set(f"{keys.namespace}-b:ml:ctl", "of a neighbour")
    redis_client.set(f"{keys.namespace}:rq:queue", "of the queue")
    halted(store, AT)
    others = {
        name: redis_client.dump(name)
        for name in redis_client.scan_iter()
        if not keys.owns(name.decode()) and b"outbox" not in name
    }
    assert len(others) == 6
    rebuild(redis_client, keys, record)
    assert {name: redis_client.dump(name) for name in others} == others
    assert store.now_ms() == AT + 60_000  # a clock that is ahead of the facts does not go back


def test_the_default_namespace_does_not_touch_the_others(redis_client: redis.Redis, postgres_dsn: str) -> None:
    record, keys = Record(postgres_dsn), Keys()
    default, other = RedisStore(redis_client), RedisStore(redis_client, "other")
    for store in (default, other):
        store.create(ClockKind.LIVE, now_ms=AT)
        opened(store)
        halted(store, AT)
    before, neighbour = comparable(default.dump(), keys), other.dump()
    rebuild(redis_client, keys, record)
    assert comparable(default.dump(), keys) == before
    assert other.dump() == neighbour
    assert not redis_client.exists(keys.market_clock())  # a live clock is the server's
    record.close()


# --- the fold


def test_old_answers_and_positions_are_forgotten_relative_to_the_last_fact(closed_body: Callable[..., str]) -> None:
    memory = MemoryStore("x")
    memory.create(ClockKind.DATA, now_ms=AT)
    story = Story(memory, 3, closed_body)
    story.play(100)
    memory.set_mode(Mode.HALT, actor="op", reason="late", now_ms=story.now_ms + 3 * RETENTION_MS)
    folded = fold(memory.facts, memory.keys)
    assert folded.state.dump() == memory.dump()
    assert folded.state.prune(folded.last_at_ms) > 0
    assert folded.state.zsets[memory.keys.closed("phantom")] == {}
    assert folded.state.zsets[memory.keys.open("phantom")]


def test_a_later_fact_that_carries_an_earlier_number(closed_body: Callable[..., str]) -> None:
    memory = MemoryStore("x")
    memory.create(ClockKind.DATA, now_ms=AT)
    Story(memory, 5, closed_body).play(300)
    facts = list(memory.facts)
    # As after a roll-back: stories whose beginning has a higher number than what followed.
    beginnings = [fact for fact in facts if fact.kind in ("decision", "opened")]
    rest = [fact for fact in facts if fact not in beginnings and fact.kind not in ("alias", "conflict")]
    expected = fold([*(fact for fact in facts if fact.kind not in ("alias", "conflict"))], memory.keys)
    shuffled = fold([*rest, *beginnings], memory.keys)
    assert shuffled.orphans == []
    assert len([fact for fact in rest if fact.fields.get("sid")]) > 20
    for key in (memory.keys.open("phantom"), memory.keys.closed("phantom"), memory.keys.executed()):
        assert shuffled.state.zsets.get(key) == expected.state.zsets.get(key)
    for key, entry in expected.state.hashes.items():
        if ":pos:" in key or key == memory.keys.executed_symbols():
            assert shuffled.state.hashes[key] == entry
