"""Limits and the switch under real processes that race: the commit is the only place a check can hold."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import redis

from persistence.redis_store import RedisStore
from persistence.store import ClockKind, Mode
from runtime.clock import pause, stopwatch
from runtime.embedded import EmbeddedServers
from signals.breaker import NO_BREAKERS
from tests.support.racer import NOW, RACERS, ROUNDS
from tests.support.stores import outbox

ROOT = Path(__file__).parents[2]
DECISIONS = 400
"""Of each process; with eight of them thousands."""


def racers(url: str, namespace: str, kind: str, how: str) -> list[subprocess.Popen[str]]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.racer", url, namespace, kind, f"racer{number}", how],
            env=environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(RACERS)
    ]


def finished(processes: list[subprocess.Popen[str]]) -> list[int]:
    told = []
    for process in processes:
        with process:
            out, _ = process.communicate(timeout=240)
        assert process.returncode == 0
        told.append(int(out))
    return told


def begun(client: redis.Redis, namespace: str, orders_per_second: int = 0) -> RedisStore:
    store = RedisStore(client, namespace)
    store.create(ClockKind.DATA, now_ms=NOW)
    assert store.configure_breakers(replace(NO_BREAKERS, orders_per_second=orders_per_second), now_ms=NOW)
    return store


@pytest.mark.parametrize("kind", ["open", "symbol", "rate", "orders"])
def test_eight_processes_and_one_slot(
    servers: EmbeddedServers, redis_client: redis.Redis, namespace: str, kind: str
) -> None:
    for number in range(ROUNDS):
        begun(redis_client, f"{namespace}-{number}", orders_per_second=int(kind == "orders"))
    won = finished(racers(servers.redis_url, namespace, kind, "scripted"))
    assert sum(won) == ROUNDS, "each round has one winner, no more and no less"


@pytest.mark.parametrize("kind", ["open", "symbol", "rate", "orders"])
def test_a_check_outside_the_commit_is_overrun(
    servers: EmbeddedServers, redis_client: redis.Redis, namespace: str, kind: str
) -> None:
    for number in range(ROUNDS):
        begun(redis_client, f"{namespace}-{number}")
    won = finished(racers(servers.redis_url, namespace, kind, "mutant"))
    assert sum(won) > ROUNDS, "the race above would have shown nothing"


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_executes_after_a_halt(
    servers: EmbeddedServers, redis_client: redis.Redis, namespace: str, seed: int
) -> None:
    store = begun(redis_client, namespace)
    moment = int(np.random.default_rng(seed).integers(150, RACERS * DECISIONS // 3))
    processes = racers(servers.redis_url, namespace, "load", str(DECISIONS))
    deadline = stopwatch() + 120
    while redis_client.zcard(store.keys.executes()) < moment:
        assert stopwatch() < deadline
        pause(0.001)
    store.set_mode(Mode.HALT, actor="test", reason="fire", now_ms=NOW)
    given = finished(processes)
    facts = outbox(redis_client, store.keys)
    halted = next(fact.seq for fact in facts if fact.kind == "control" and fact.fields["mode"] == "HALT")
    executes = [fact.seq for fact in facts if fact.kind == "decision" and fact.fields["action"] == "execute"]
    claims = [fact.seq for fact in facts if fact.kind == "claimed"]
    assert sum(fact.kind == "decision" for fact in facts) == RACERS * DECISIONS
    assert len(executes) > 100
    assert sum(fact.kind == "decision" and fact.seq > halted for fact in facts) > 100, "the halt came too late to tell"
    assert max(executes) < halted
    assert max(claims) < halted
    assert sum(given) == len(claims)
