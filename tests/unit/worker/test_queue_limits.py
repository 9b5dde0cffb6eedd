"""Time limits, the sweep's rules and what a worker refuses to be."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import fakeredis
import pytest
from rq import Queue
from rq.executions import Execution
from rq.job import JobStatus
from rq.timeouts import JobTimeoutException, UnixSignalDeathPenalty

from signals.errors import Permanent, Refusal
from signals.reasons import Reason
from worker.queue import GateWorker, JobDeathPenalty, JobTimedOut, Sweeper, open_queue


class NoService:
    """For workers that never work."""

    def judge(self, payload: object) -> dict[str, object]:
        raise AssertionError(payload)

    def refuse(self, raw: bytes, refusal: Refusal) -> dict[str, object]:
        raise AssertionError(refusal)

    def give_up(self, payload: object, reason: Reason) -> dict[str, object]:
        raise AssertionError(payload, reason)


@pytest.fixture
def redis() -> Iterator[Any]:
    with fakeredis.FakeRedis(version=(7,)) as connection:
        yield connection


@pytest.fixture
def alarm() -> Iterator[None]:
    before = signal.getsignal(signal.SIGALRM)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def swallowing_scorer(seconds: float) -> str:
    """The mistake a time limit must survive: everything is caught and answered."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(Exception):
            time.sleep(0.01)
    return "execute"


@pytest.mark.usefixtures("alarm")
def test_a_time_out_cannot_be_swallowed() -> None:
    with pytest.raises(JobTimedOut, match=r"0\.05 s"), JobDeathPenalty(0.05):
        swallowing_scorer(2.0)


@pytest.mark.usefixtures("alarm")
def test_control_the_stock_time_out_is_swallowed() -> None:
    with UnixSignalDeathPenalty(1, JobTimeoutException):  # type: ignore[no-untyped-call]
        assert swallowing_scorer(1.2) == "execute"


@pytest.mark.usefixtures("alarm")
def test_the_alarm_fires_once() -> None:
    def cleaning_up() -> None:
        try:
            swallowing_scorer(2.0)
        finally:
            # Longer than the limit: what cleans up or records the failure must not be interrupted.
            time.sleep(0.1)
            signal.raise_signal(signal.SIGALRM)
            cleaned.append(True)

    cleaned: list[bool] = []
    with pytest.raises(JobTimedOut), JobDeathPenalty(0.03):
        cleaning_up()
    assert cleaned


@pytest.mark.usefixtures("alarm")
def test_a_late_alarm_hits_nothing() -> None:
    with JobDeathPenalty(0.05):
        pass
    time.sleep(0.08)
    # One that was already on its way when the job ended, too.
    signal.raise_signal(signal.SIGALRM)


@pytest.mark.parametrize("names", [[], ["a", "b"], ["a", "a"]], ids=["none", "two", "the same twice"])
def test_a_worker_serves_exactly_one_queue(redis: Any, names: list[str]) -> None:
    with pytest.raises(Permanent, match="exactly one queue"):
        GateWorker(names, connection=redis, service=NoService())
    with pytest.raises(Permanent, match="exactly one queue"):
        GateWorker([Queue(name, connection=redis) for name in names], connection=redis, service=NoService())


@pytest.mark.parametrize("limit", ["failure_ttl_s", "job_timeout_s", "sweep_interval_s", "liveness_s"])
def test_intervals_are_positive(redis: Any, limit: str) -> None:
    limits: dict[str, Any] = {limit: 0}
    with pytest.raises(ValueError, match="at least 1"):
        GateWorker("signals", connection=redis, service=NoService(), **limits)


def start(redis: Any, job_id: str = "j1", owner: str = "w1", *, seconds_left: float = 90, remember: bool = True) -> str:
    """A job as RQ leaves it between start and end."""
    queue = open_queue(redis, "signals")
    redis.hset(f"rq:job:{job_id}", mapping={"data": b"[]", "status": "started", "worker_name": owner})
    execution = Execution("e1", job_id, redis, worker_name=owner)
    if remember:
        redis.hset(execution.key, mapping=execution.serialize())
    else:
        redis.hdel(f"rq:job:{job_id}", "worker_name")
    redis.zadd(queue.started_job_registry.key, {execution.composite_key: time.time() + seconds_left})
    redis.zadd(f"rq:executions:{job_id}", {"e1": 1})
    return job_id


def live(redis: Any, name: str = "w1") -> None:
    redis.hset(f"rq:worker:{name}", "state", "busy")
    redis.expire(f"rq:worker:{name}", 10)


def queued(redis: Any) -> list[bytes]:
    found: list[bytes] = redis.lrange("rq:queue:signals", 0, -1)
    return found


def traces(redis: Any) -> list[bytes]:
    """Where a job in flight is listed; empty once it is nowhere."""
    return [*redis.zrange("rq:wip:signals", 0, -1), *redis.lrange("rq:queue:signals:intermediate", 0, -1)]


def test_a_job_of_a_dead_worker_goes_to_the_head(redis: Any) -> None:
    start(redis)
    redis.rpush("rq:queue:signals:intermediate", "j1")
    redis.rpush("rq:queue:signals", "later")
    assert Sweeper(open_queue(redis, "signals")).sweep() == ("j1",)
    assert queued(redis) == [b"j1", b"later"]
    assert traces(redis) == []
    assert redis.hget("rq:job:j1", "status") == JobStatus.QUEUED.value.encode()
    assert redis.hget("rq:job:j1", "gate_returns") == b"1"
    assert not redis.exists("rq:execution:j1:e1")
    assert redis.zrange("rq:executions:j1", 0, -1) == []


def test_a_job_of_a_living_worker_is_left_alone(redis: Any) -> None:
    start(redis)
    redis.rpush("rq:queue:signals:intermediate", "j1")
    live(redis)
    sweeper = Sweeper(open_queue(redis, "signals"))
    assert [sweeper.sweep() for _ in range(3)] == [(), (), ()]
    assert queued(redis) == []
    assert len(traces(redis)) == 2


@pytest.mark.parametrize("how", ["said goodbye", "has no pulse"])
def test_a_worker_key_alone_is_no_life(redis: Any, how: str) -> None:
    start(redis)
    live(redis)
    if how == "said goodbye":
        redis.hset("rq:worker:w1", "death", "now")
    else:
        redis.persist("rq:worker:w1")
    assert Sweeper(open_queue(redis, "signals")).sweep() == ("j1",)


def test_an_execution_long_past_its_limit_is_abandoned_whoever_lives(redis: Any) -> None:
    start(redis, seconds_left=-5)
    live(redis)
    assert Sweeper(open_queue(redis, "signals")).sweep() == ("j1",)


def test_the_job_remembers_its_worker_when_the_execution_has_expired(redis: Any) -> None:
    start(redis)
    redis.delete("rq:execution:j1:e1")
    live(redis)
    sweeper = Sweeper(open_queue(redis, "signals"))
    assert [sweeper.sweep(), sweeper.sweep()] == [(), ()]
    redis.delete("rq:worker:w1")
    assert sweeper.sweep() == ("j1",)


@pytest.mark.parametrize("started", [False, True], ids=["popped, never started", "started, worker unknown"])
def test_a_job_without_owner_is_returned_by_the_second_pass(redis: Any, started: bool) -> None:
    if started:
        start(redis, remember=False)
    else:
        redis.hset("rq:job:j1", mapping={"data": b"[]", "status": "queued"})
        redis.rpush("rq:queue:signals:intermediate", "j1")
    sweeper = Sweeper(open_queue(redis, "signals"))
    assert sweeper.sweep() == ()
    assert queued(redis) == []
    assert sweeper.sweep() == ("j1",)
    assert queued(redis) == [b"j1"]
    assert traces(redis) == []
    assert sweeper.sweep() == ()


def test_a_job_that_runs_again_elsewhere_is_not_returned_for_its_old_entry(redis: Any) -> None:
    start(redis, owner="dead")
    again = Execution("e2", "j1", redis, worker_name="w1")
    redis.hset(again.key, mapping=again.serialize())
    redis.zadd("rq:wip:signals", {again.composite_key: time.time() + 90})
    live(redis)
    sweeper = Sweeper(open_queue(redis, "signals"))
    assert sweeper.sweep() == ()
    # It ends: RQ removes its own entry, the old one is unlisted.
    redis.hset("rq:job:j1", "status", "finished")
    redis.zrem("rq:wip:signals", again.composite_key)
    assert sweeper.sweep() == ()
    assert traces(redis) == []


def test_of_two_sweepers_one_returns_it(redis: Any) -> None:
    start(redis)
    first, second = (Sweeper(open_queue(redis, "signals")) for _ in range(2))
    assert (first.sweep(), second.sweep()) == (("j1",), ())
    assert queued(redis) == [b"j1"]


@pytest.mark.parametrize("status", ["finished", "failed", "stopped", "canceled"])
def test_a_job_that_has_ended_is_only_unlisted(redis: Any, status: str) -> None:
    start(redis)
    redis.hset("rq:job:j1", "status", status)
    assert Sweeper(open_queue(redis, "signals")).sweep() == ()
    assert (queued(redis), traces(redis)) == ([], [])


def test_forged_entries_are_unlisted_and_harm_nothing(redis: Any) -> None:
    redis.zadd("rq:wip:signals", {b"\xff": 1, "a:b:c": 1, "text:e": 1, "": 1})
    redis.set("rq:job:text", "not a hash")
    redis.rpush("rq:queue:signals:intermediate", "nobody", "x y", b"\xff")
    sweeper = Sweeper(open_queue(redis, "signals"))
    assert [sweeper.sweep(), sweeper.sweep()] == [(), ()]
    assert (queued(redis), traces(redis)) == ([], [])


@pytest.mark.parametrize("garbage", ["x", "9" * 400, "-1", "1e3"])
def test_a_forged_count_of_returns_starts_at_nought(redis: Any, garbage: str) -> None:
    start(redis)
    redis.hset("rq:job:j1", "gate_returns", garbage)
    redis.delete("rq:executions:j1")
    redis.set("rq:executions:j1", "not a set")
    assert Sweeper(open_queue(redis, "signals")).sweep() == ("j1",)
    assert redis.hget("rq:job:j1", "gate_returns") == b"1"


def test_a_returned_job_is_watched_anew(redis: Any) -> None:
    sweeper = Sweeper(open_queue(redis, "signals"))
    redis.hset("rq:job:j1", mapping={"data": b"[]", "status": "queued"})
    redis.rpush("rq:queue:signals", "j1")
    for returns in (b"1", b"2", b"3"):
        redis.lmove("rq:queue:signals", "rq:queue:signals:intermediate")
        assert (sweeper.sweep(), sweeper.sweep()) == ((), ("j1",))
        assert redis.hget("rq:job:j1", "gate_returns") == returns
