"""Poison all the way through a real queue, a real worker and the record: each gets its code, the next its answer."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import psycopg
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rq.job import Job
from rq.serializers import JSONSerializer

from persistence.connection import connect
from persistence.outbox import Relay
from persistence.record import Record
from persistence.redis_store import RedisStore
from persistence.store import ClockKind
from runtime.embedded import EmbeddedServers
from runtime.service import Service
from signals.parse import canonical_json
from tests.support.scene import FREE, T0, payload
from worker.queue import GateWorker

PROFILES = {"trend": FREE}
NAME = "worker.jobs.process_signal"


class Gate:
    """A worker on the real path, and whoever can write to its queue."""

    def __init__(self, servers: EmbeddedServers, client: redis.Redis, namespace: str) -> None:
        self.client = client
        self.store = RedisStore(client, namespace)
        self.store.create(ClockKind.DATA, now_ms=T0)
        self.store.advance_clock(T0)
        for profile in PROFILES.values():
            self.store.register(profile.name, canonical_json(asdict(profile)), "70", now_ms=T0)
        self.queue = f"{namespace}.signals"
        self.connection = connect(servers.redis_url, timeout_s=60.0)
        self.worker = GateWorker(self.queue, connection=self.connection, service=Service(self.store, PROFILES))
        self.sent = 0

    def send(self, data: bytes) -> dict[str, Any]:
        """Write a job by hand, let it be worked off; the answer, or none for a dead letter."""
        self.sent += 1
        job_id = f"poison-{self.sent}"
        self.client.hset(f"rq:job:{job_id}", mapping={"data": data, "created_at": "2026-01-02T03:04:05.000006Z"})
        self.client.rpush(f"rq:queue:{self.queue}", job_id)
        self.worker.run(burst=True)
        result = Job(job_id, connection=self.client, serializer=JSONSerializer).return_value()
        return result if isinstance(result, dict) else {}

    def ask(self, content: object) -> dict[str, Any]:
        return self.send(envelope(json.dumps(content).encode()))

    def names(self) -> set[str]:
        return {*self.store.dump()}


def envelope(content: bytes) -> bytes:
    return b'["%s",null,[%s],{}]' % (NAME.encode(), content)


@pytest.fixture
def gate(servers: EmbeddedServers, redis_client: redis.Redis, namespace: str) -> Iterator[Gate]:
    made = Gate(servers, redis_client, namespace)
    yield made
    made.connection.close()


def long(name: str, **changes: Any) -> bytes:
    return envelope(json.dumps(payload(name, **changes)).encode())


POISON = {
    "bad zlib": (b"\x78\x9cgarbage", "PAYLOAD_NOT_JSON"),
    "no JSON": (envelope(b"{'a': 1}"), "PAYLOAD_NOT_JSON"),
    "wrong arity": (b"[1]", "PAYLOAD_ARITY"),
    "a bomb of zeros": (zlib.compress(b"\0" * 20_000_000, 9), "PAYLOAD_TOO_LARGE"),
    "a bomb of brackets": (zlib.compress(b"[" * 60_000), "PAYLOAD_TOO_DEEP"),
    "64 KB + 1": (b"x" * 65_537, "PAYLOAD_TOO_LARGE"),
    "a key twice": (long("a1").replace(b'"id"', b'"side": "short", "id"'), "PAYLOAD_DUPLICATE_KEY"),
    "NaN": (long("a2").replace(b"104.0", b"NaN"), "PAYLOAD_NOT_FINITE"),
    "1e999": (long("a3").replace(b"104.0", b"1e999"), "PAYLOAD_NOT_FINITE"),
    "NUL in the id": (long("a\0b"), "FIELD_FORMAT"),
    "an id that runs backwards": (long("a\u202eb"), "FIELD_FORMAT"),
    "half a character in the id": (long("a\ud800"), "FIELD_FORMAT"),
    "a terminal command for a tag": (long("a4", tag="\x1b[2J"), "FIELD_FORMAT"),
    "a statement for a symbol": (long("a5", symbol="'; drop table facts; --"), "FIELD_FORMAT"),
    "markup for a symbol": (long("a6", symbol="<img src=x onerror=alert(1)>"), "FIELD_FORMAT"),
    "NUL for a feature's name": (long("a7", features={"\0": 1.0}), "FIELD_FORMAT"),
    "a feature that runs backwards": (long("a8", features={"x": "\u202e"}), "FIELD_FORMAT"),
    "a score of one's own": (long("a9", score=100), "FIELD_UNKNOWN"),
    "an unknown strategy": (long("a10", strategy="nosuch"), "STRATEGY_UNKNOWN"),
    "an unknown session": (long("a11", session="lunar"), "FIELD_FORMAT"),
    "no signal": (envelope(b'"' + b"a" * 1000 + b'"'), "PAYLOAD_NOT_OBJECT"),
}


@pytest.mark.parametrize(("data", "reason"), POISON.values(), ids=POISON)
def test_poison_gets_its_code_and_the_next_signal_its_answer(gate: Gate, data: bytes, reason: str) -> None:
    answer = gate.send(data)
    assert (answer["action"], answer["reasons"][0]) == ("rejected", reason)
    assert gate.ask(payload("next"))["action"] == "execute"


def test_the_record_takes_every_refusal(gate: Gate, postgres_dsn: str, namespace: str) -> None:
    for data, _ in POISON.values():
        gate.send(data)
    with psycopg.connect(postgres_dsn, autocommit=True) as owner:
        record = Record(postgres_dsn, namespace)
        record.migrate()
        relay = Relay(gate.client, gate.store.keys, record)
        relay.ensure_group()
        while relay.cycle().read > 0:
            pass
        record.close()
        told = owner.execute(
            "select reasons from penumbra.decisions where namespace = %s and action = 'rejected'", [namespace]
        ).fetchall()
    assert sorted({reasons[0] for (reasons,) in told}) == sorted({reason for _, reason in POISON.values()})
    assert relay.backlog().dead == 0


def test_an_unknown_strategy_makes_no_key_of_its_own(gate: Gate) -> None:
    before = gate.names()
    gate.ask(payload("a", strategy="nosuch"))
    refused = gate.names() - before
    assert [key for key in sorted(gate.names()) if "nosuch" in key] == []
    gate.ask(payload("b"))
    known = gate.names() - before - refused
    assert any("trend" in key or key.endswith(":b") for key in known), "control: a known one does make some"
    assert not any(":pos:a" in key for key in refused)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.one_of(
        st.binary(max_size=200), st.binary(max_size=200).map(zlib.compress), st.binary(max_size=80).map(envelope)
    )
)
def test_any_bytes_leave_a_worker_that_answers(gate: Gate, data: bytes) -> None:
    answer = gate.send(data)
    assert answer.get("action") in (None, "rejected")
    assert gate.ask(payload(f"good-{gate.sent}"))["action"] in ("execute", "phantom")
