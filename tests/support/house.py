"""A namespace with a life behind it, on real servers, and what keeps its record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import redis

from decision.decide import Action
from persistence.keys import Keys
from persistence.outbox import Relay
from persistence.reconcile import ReconcileReport, reconcile
from persistence.record import Record
from persistence.redis_store import RedisStore
from persistence.store import ClockKind, CloseHow, CommitStatus, DecideReply, PublishCommand
from signals.reasons import Reason
from tests.support.stores import HOUR, SECOND, T0, UNLIMITED, ending, held, signal

SWEEP_MS = 15 * 60_000


@dataclass
class House:
    """A namespace with a life behind it, on real servers."""

    client: redis.Redis
    store: RedisStore
    record: Record
    body: Callable[..., str]

    @property
    def keys(self) -> Keys:
        return self.store.keys

    def relay(self) -> None:
        relay = Relay(self.client, self.keys, self.record)
        while (report := relay.cycle()).pending + report.lag > 0:
            pass
        assert report.backlog.dead == 0

    def open(self, name: str, *, claim: bool = False, **changes: Any) -> DecideReply:
        now_ms = self.store.now_ms()
        want = Action.EXECUTE if claim else changes.pop("want", Action.PHANTOM)
        changes = {"limits": UNLIMITED, "now_ms": now_ms, "deadline_ms": now_ms + HOUR, "ttl_ms": 10 * SECOND} | changes
        reply = self.store.decide(replace(signal(name, **changes), want=want))
        if claim:
            assert self.store.claim(name, "desk", now_ms=now_ms) is Reason.CLAIM_GO
        return reply

    def close(self, name: str, *, won: bool = True, outcome: str = "", how: CloseHow = CloseHow.SIMULATION) -> None:
        position = held(self.store, name)
        outcome = outcome or ("win" if won else "loss")
        learned = outcome in ("win", "loss")
        result = self.body(name, won=won, strategy=position.strategy, kind=position.kind.value)
        command = ending(
            position, now_ms=self.store.now_ms(), how=how, outcome=outcome, learned=learned, win=won, result=result
        )
        assert self.store.close(replace(command, report_id="r" if how is CloseHow.REPORT else "")) is CommitStatus.DONE

    def live(self) -> None:
        """A bit of everything that can be open, closed, claimed, lapsed and learned."""
        for strategy in ("trend", "scalp"):
            self.store.register(strategy, "{}", "70", first_training=3, now_ms=self.store.now_ms())
        for number in range(4):
            self.open(f"p{number}", bar=f"bar{number}")
            self.open(f"e{number}", claim=True, symbol="ETHUSDT" if number % 2 else "BTCUSDT")
        self.open("s0", prefix="scalp_phantom", strategy="scalp")
        self.open("s1", prefix="scalp_phantom", strategy="scalp", claim=True)
        self.open("waits", want=Action.EXECUTE, bar="b")
        self.open("lapsed", want=Action.EXECUTE)
        self.open("ended", want=Action.EXECUTE)
        self.open("refused", want=Action.REJECTED)
        for name in ("p0", "p1"):
            self.close(name, won=name == "p1")
        self.close("p2", outcome="timeout")
        self.close("e0", how=CloseHow.REPORT)
        # Its report came first, its twin runs on; the other's twin has ended and its report is awaited.
        self.store.touch(held(self.store, "e1"), "{}", T0, now_ms=self.store.now_ms(), result='{"twin":1}')
        # A simulation that ends while its claim is pending keeps the claim until it is closed.
        self.store.touch(held(self.store, "ended"), "{}", T0, now_ms=self.store.now_ms(), result='{"twin":1}')
        self.store.advance_clock(self.store.now_ms() + 11 * SECOND)
        for name in ("lapsed", "ended"):
            assert self.store.lapse(name, now_ms=self.store.now_ms())
        self.open("fresh", want=Action.EXECUTE)
        self.publish()

    def publish(self) -> None:
        now_ms = self.store.now_ms()
        attempt = self.store.begin_training("trend", now_ms=now_ms)
        self.store.publish(
            PublishCommand(
                strategy="trend",
                attempt=attempt,
                address="a" * 64,
                trained_count=3,
                next_at=53,
                network=False,
                tables="{}",
                manifest="{}",
                now_ms=now_ms,
            )
        )

    def check(self, *, fast: bool = False) -> ReconcileReport:
        return reconcile(self.client, self.keys, self.record, sweep_ms=SWEEP_MS, fast=fast)

    def clean(self) -> ReconcileReport:
        for fast in (True, False):
            report = self.check(fast=fast)
            assert report.clean, str(report)
        return report


def built(client: redis.Redis, record: Record, body: Callable[..., str]) -> House:
    """A namespace created and lived in; nothing of it has reached the record yet."""
    store = RedisStore(client, record.namespace)
    store.create(ClockKind.DATA, now_ms=T0)
    store.advance_clock(T0)
    house = House(client, store, record, body)
    house.live()
    return house
