"""One life of a namespace, told on real servers by the real parts; telling it again must change nothing.

Whoever tells it may be killed, cut off or raced anywhere: the next one tells it from the beginning, as an engine, a
queue and restarted processes would. A step that fails for a passing reason is taken again, as the product's loops do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from typing import Any, Protocol, TypeVar
from unittest.mock import patch

import redis

import worker.follow
import worker.relay
import worker.train
from learning.example import Example
from learning.fit import Candidate, FitSettings, fit_candidate
from learning.members import HeadSettings
from learning.promote import Declined
from persistence.candle_feed import CandleFeed
from persistence.connection import connect
from persistence.outbox import CycleReport, Relay
from persistence.rebuild import fold
from persistence.record import Record
from persistence.redis_store import RedisStore
from persistence.store import ClockKind, Mode
from runtime.follow import Follower
from runtime.service import Service
from runtime.shelf import Shelf
from runtime.train import Trainer
from scorer.schema import SCALP as SCHEMA
from signals.candle import Candle
from signals.errors import Transient
from signals.profile import SCALP, Clamping, Limits, Profile
from tests.support.lessons import lessons
from worker.follow import FollowLoop, candle_text

T0 = 1_704_067_200_000  # 2024-01-01 00:00 UTC
STEP_MS = 300_000
SYMBOL = "BTCUSDT"
KEY = b"k" * 32
TRIES = 50
BOUNDARY = 3
TINY = FitSettings(heads=HeadSettings(forest_trees=4, forest_depth=3, boosting_trees=4, hidden=(2,), network_epochs=2))
PROFILE: Profile = replace(
    SCALP,
    first_training_at=BOUNDARY,
    retrain_every=BOUNDARY,
    clamp=Clamping.OPEN,
    score_budget_ms=60_000.0,
    limits=Limits(open_positions=0, per_symbol=0, executes_per_minute=0, daily_loss_r=0, daily_loss_money=0),
)
PROFILES = {PROFILE.name: PROFILE}
STRONG: Mapping[str, float] = {
    "impulse_ratio": 1.4,
    "vwap_dist_atr": 0.3,
    "bb_width_rank": 0.8,
    "volume_ratio": 1.5,
}
"""Every rule of the scalp heuristic holds: 85 points. Without the first two, 65."""
Reply = TypeVar("Reply")
Stage = Callable[[str], None]


class Scenario(Protocol):
    """A story that can be told any number of times, and what it must have come to."""

    name: str

    def tell(self, redis_url: str, dsn: str, namespace: str, stage: Stage) -> dict[str, Any]:
        """Tell the whole story, naming each stage as it begins; returns what the tellers saw on the way."""
        ...

    def outcome(self, redis_url: str, dsn: str, namespace: str) -> dict[str, Any]:
        """Everything both servers hold of it, the namespace's name aside."""
        ...

    def wrong(self, clean: dict[str, Any], found: dict[str, Any]) -> list[str]:
        """In what a telling with faults came to something else than the clean one."""
        ...

    def half_done(self, redis_url: str, dsn: str, namespace: str) -> list[str]:
        """What must not be seen even before anybody has recovered anything."""
        ...


@cache
def candidate() -> Candidate:
    """A bundle's content, fitted once: the story is about how it is published, not how it is found."""
    found = fit_candidate(lessons(120, edge=4.0), SCHEMA, seed=1, settings=TINY)
    if isinstance(found, Declined):
        raise TypeError(f"declined: {found}")
    return found


class QuickTrainer(Trainer):
    """The real trainer but for the fit."""

    def _fit(self, profile: Profile, known: list[Example]) -> Candidate | Declined:
        return candidate()


class WatchedRelay(Relay):
    """The real relay, remembering what its turns came to."""

    last: CycleReport | None = None
    replayed = 0

    def cycle(self, max_batch: int = 500) -> CycleReport:
        self.last = None
        self.last = super().cycle(max_batch)
        self.replayed += self.last.replayed
        return self.last

    def drained(self) -> bool:
        """Whether the last turn left nothing behind."""
        return self.last is not None and self.last.pending + self.last.lag == 0


class WatchedLoop(FollowLoop):
    """The real loop, remembering whether its last turn found anything."""

    idle = False

    def cycle(self, *, block_ms: int = 0) -> int:
        self.idle = False
        taken = super().cycle(block_ms=0)
        self.idle = taken == 0
        return taken


def again(step: Callable[[], Reply]) -> Reply:
    """Take a step until it works: whoever gets no answer asks again."""
    for _ in range(TRIES - 1):
        try:
            return step()
        except Transient:
            continue
    return step()


def signal(name: str, candle: int, *, strong: bool = True, **changes: Any) -> dict[str, object]:
    """A long from 100 to 102 with a stop at 99 at the open of a candle, a second before it is judged."""
    made: dict[str, object] = {
        "id": name,
        "strategy": PROFILE.name,
        "symbol": SYMBOL,
        "side": "long",
        "entry": 100.0,
        "tp": 102.0,
        "sl": 99.0,
        "ts": T0 + candle * STEP_MS,
        "features": {**dict.fromkeys((number.name for number in SCHEMA.numbers), 0.5), **STRONG}
        if strong
        else dict.fromkeys((number.name for number in SCHEMA.numbers), 0.5),
    }
    return {field: value for field, value in (made | changes).items() if value is not ...}


def asked_once(pinned: redis.Redis) -> bool:
    """Whether a claim is on the disk, in one question: the real one asks as often as the disk is slow."""
    return bool(pinned.ping())


class Gate:
    """Signals, claims, fills, candles, closes, a correction, a boundary, a bundle, a halt, and all of it on record."""

    name = "gate"

    def tell(self, redis_url: str, dsn: str, namespace: str, stage: Stage) -> dict[str, Any]:
        with ExitStack() as stack:
            client = stack.enter_context(connect(redis_url))
            record = Record(dsn, namespace)
            stack.callback(record.close)
            # Durations decide when a loop sweeps and how long it waits: here no time passes.
            for name in ("worker.follow.stopwatch", "worker.follow.pause"):
                stack.enter_context(patch(name, lambda *_: 0.0))
            return _Teller(RedisStore(client, namespace, on_disk=asked_once), record, stage).tell()

    def outcome(self, redis_url: str, dsn: str, namespace: str) -> dict[str, Any]:
        with connect(redis_url) as client:
            store, record = RedisStore(client, namespace), Record(dsn, namespace)
            live = dict(store.dump())
            relay = Relay(client, store.keys, record)
            backlog = relay.backlog()
            found = {
                "state": _without(namespace, live),
                "facts": [[f.seq, f.id, f.kind, f.at_ms, dict(f.fields), f.body] for f in record.facts()],
                "conflicts": record.count_conflicts(),
                "left": [int(client.xlen(store.keys.outbox())), backlog.pending, backlog.lag, backlog.dead],
                # What a rebuild would write must be what is there.
                "rebuilt": _without(namespace, fold(record.facts(), store.keys).state.dump()),
                "trades": _trades(record),
                "bytes": _dangling(store, record),
            }
            record.close()
            return found

    def wrong(self, clean: dict[str, Any], found: dict[str, Any]) -> list[str]:
        wrong = []
        if found["rebuilt"] != found["state"]:
            wrong.append(f"a rebuild would differ: {_differing(found['state'], found['rebuilt'])}")
        # A trainer that was killed tries again under the next number: the rest must be the same without the numbers.
        view = _plain if _attempts(found) > _attempts(clean) else (lambda outcome: outcome)
        for part in clean:
            expected, got = view(clean)[part], view(found)[part]
            if expected != got:
                wrong.append(f"{part}: {_differing(expected, got)}")
        return wrong

    def half_done(self, redis_url: str, dsn: str, namespace: str) -> list[str]:
        with connect(redis_url) as client:
            record = Record(dsn, namespace)
            dangling = _dangling(RedisStore(client, namespace), record)
            record.close()
            return dangling


class _Teller:
    def __init__(self, store: RedisStore, record: Record, stage: Stage) -> None:
        self.store = store
        self.stage = stage
        self.service = Service(store, PROFILES, shelf=Shelf(store, KEY))
        follower = Follower(store, PROFILES, checkpoint_every=1, volatility_timeframes=("5m",))
        self.loop = WatchedLoop(store, CandleFeed(store.client, store.keys), follower)
        self.relay = WatchedRelay(store.client, store.keys, record)
        self.trainer = QuickTrainer(store, PROFILES, KEY, keep=record.put_bundle)

    def tell(self) -> dict[str, Any]:
        self.stage("create")
        again(lambda: self.store.create(ClockKind.DATA, now_ms=T0))
        again(lambda: self.store.register(PROFILE.name, "{}", "70", first_training=BOUNDARY, now_ms=T0))
        self.candle(0)
        self.open()
        self.candle(1)
        self.candle(2, "100 102.5 99.5 102")
        self.end()
        self.carry()
        self.learn()
        self.judge("f", 3)
        self.candle(3, "100 100 98 98.5")
        self.halt()
        self.candle(4, "98.5 98.7 97 98")
        self.carry()
        return {"replayed": self.relay.replayed}

    def open(self) -> None:
        self.judge("a", 1)
        self.judge("b", 1, strong=False, timeframe="5m", tag="x")
        self.judge("a", 1)
        self.judge("a", 1, tp=103.0)
        self.judge("c", 1, strong=False, timeframe="5m", tag="x")
        self.judge("d", 1)
        self.judge("e", 1, sl=101.0)
        self.stage("claim")
        for name, engine in (("a", "one"), ("a", "two"), ("b", "one")):
            again(lambda: self.service.claim(name, engine))  # noqa: B023
        fill = {"signal_id": "a", "price": 100.5, "quantity": 2.0, "venue_id": "v1", "ts": T0 + STEP_MS}
        again(lambda: self.service.fill(fill))

    def end(self) -> None:
        self.stage("close")
        close = {"signal_id": "a", "price": 102.0, "quantity": 2.0, "fee": 0.1, "ts": T0 + 3 * STEP_MS, "reason": "tp"}
        again(lambda: self.service.close(close))
        again(lambda: self.service.close(close | {"price": 101.5, "reason": "manual"}))

    def judge(self, name: str, candle: int, **changes: Any) -> None:
        self.stage("decide")
        again(lambda: self.service.judge(signal(name, candle, **changes)))

    def candle(self, place: int, ohlc: str = "100 100.5 99.5 100") -> None:
        self.stage("close")
        ts = T0 + place * STEP_MS
        opened, high, low, close = (float(word) for word in ohlc.split())
        text = candle_text(Candle(ts, opened, high, low, close, 1.0))
        again(lambda: self.store.feed(SYMBOL, "5m", text, ts + STEP_MS))
        self.loop.idle = False
        self.loop.run(lambda: self.loop.idle)

    def carry(self) -> None:
        self.stage("relay")
        again(self.relay.ensure_group)
        self.relay.last = None
        worker.relay.run(self.relay, self.relay.drained, wait=lambda _s: None)

    def learn(self) -> None:
        self.stage("publish")
        due = True

        def stop() -> bool:
            nonlocal due
            due = bool(again(self.trainer.due))
            return not due

        worker.train.run(self.trainer, stop, wait=lambda _s: None)

    def halt(self) -> None:
        self.stage("control")
        # Each switch names the generation it saw: said again, it changes nothing.
        self.switch(Mode.HALT, 1)
        self.judge("g", 4)
        self.stage("control")
        self.switch(Mode.ON, 2)

    def switch(self, mode: Mode, seen: int) -> None:
        again(lambda: self.service.set_mode(mode, actor="operator", reason="drill", expected=seen))


def _without(namespace: str, state: Mapping[str, object]) -> dict[str, object]:
    return {key.removeprefix(f"{namespace}:"): value for key, value in sorted(state.items())}


def _trades(record: Record) -> list[str]:
    return sorted(fact.body for fact in record.facts() if fact.kind == "closed")


def _dangling(store: RedisStore, record: Record) -> list[str]:
    """A pointer to a bundle whose bytes are not in both places."""
    address = store.training(PROFILE.name).bundle
    if address is None:
        return []
    places = {"Redis": store.bundle(address), "Postgres": record.bundle(address)}
    return [f"{address[:12]} is in force but not in {place}" for place, data in places.items() if data is None]


def _attempts(outcome: dict[str, Any]) -> int:
    return sum(fact[2] == "training" for fact in outcome["facts"])


_ATTEMPT = re.compile(r'"attempt":\d+,?')
_NUMBERS = frozenset({"attempt", "published", "settled", "seq", "from", "bound"})


def _plain(outcome: dict[str, Any]) -> dict[str, Any]:
    """An outcome without the numbers that count attempts and facts."""
    state = {key: _unnumbered(key, value) for key, value in outcome["state"].items() if not key.endswith(":attempts")}
    facts = sorted(
        [
            kind,
            _named(kind, fact_id),
            at_ms,
            _unnumbered("", fields),
            _ATTEMPT.sub("", body),
        ]
        for _, fact_id, kind, at_ms, fields, body in outcome["facts"]
        if kind != "training"
    )
    return outcome | {"state": state, "facts": facts, "rebuilt": None}


def _named(kind: str, fact_id: str) -> str:
    return fact_id.rpartition(":")[0] if kind in ("published", "untrained", "attempted") else fact_id


def _unnumbered(key: str, value: Any) -> Any:
    # Their scores are numbers of operations: one that is done twice moves all after it, and nothing else.
    if key.endswith((":open", "ml:executed")) or ":follow:" in key or ":awaited:" in key:
        return sorted(value)
    if isinstance(value, dict):
        # A bundle's manifest names the attempt it came of.
        kept = {name: word for name, word in value.items() if name not in _NUMBERS}
        return {name: _ATTEMPT.sub("", word) if isinstance(word, str) else word for name, word in kept.items()}
    return value


def _differing(expected: Any, got: Any) -> str:
    if isinstance(expected, dict) and isinstance(got, dict):
        keys = [key for key in sorted({*expected, *got}) if expected.get(key) != got.get(key)]
        return "; ".join(f"{key}: {expected.get(key)!r} became {got.get(key)!r}"[:300] for key in keys[:4])
    return f"{expected!r:.300} became {got!r:.300}"
