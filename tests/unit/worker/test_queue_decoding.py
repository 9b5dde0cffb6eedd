"""What a job may contain: bytes in, payload or one refusal out; the hash believed field by field."""

from __future__ import annotations

import json
import os
import pickle
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any

import fakeredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rq import Queue
from rq.exceptions import DeserializationError, NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer

from signals.errors import Invalid, Permanent, Refusal, Transient
from signals.reasons import Reason
from worker import jobs
from worker.queue import (
    ALLOWED_JOBS,
    MAX_JOB_BYTES,
    MAX_RETURNS,
    TRANSIENT_RETRIES,
    AllowlistJob,
    StrictSerializer,
    inflate,
    open_envelope,
    open_queue,
)

NAME = "worker.jobs.process_signal"


class RecordingService:
    """Answers every payload, remembers every refusal."""

    def __init__(self, error: BaseException | None = None, answer: dict[str, object] | None = None) -> None:
        self.error = error
        self.answer = answer
        self.judged: list[object] = []
        self.given_up: list[tuple[object, Reason]] = []
        self.refused: list[tuple[bytes, Refusal]] = []

    def give_up(self, payload: object, reason: Reason) -> dict[str, object]:
        self.given_up.append((payload, reason))
        return {"action": "phantom", "reasons": [reason.value]}

    def judge(self, payload: object) -> dict[str, object]:
        self.judged.append(payload)
        if self.error is not None:
            raise self.error
        return {"action": "phantom"} if self.answer is None else self.answer

    def refuse(self, raw: bytes, refusal: Refusal) -> dict[str, object]:
        self.refused.append((raw, refusal))
        return {"action": "rejected", "reasons": [refusal.reason], "field": refusal.field}


@pytest.fixture
def redis() -> Iterator[Any]:
    with fakeredis.FakeRedis(version=(7,)) as connection:
        yield connection


def envelope(payload: object = 1, name: object = NAME, instance: object = None, **parts: Any) -> bytes:
    return json.dumps([name, instance, parts.get("args", [payload]), parts.get("kwargs", {})]).encode()


def nested(levels: int) -> object:
    return 1 if levels == 0 else [nested(levels - 1)]


def stored(redis: Any, data: bytes, **fields: object) -> AllowlistJob:
    redis.hset("rq:job:j1", mapping={"data": data, "created_at": "2026-01-02T03:04:05.000006Z", **fields})
    job = AllowlistJob.fetch("j1", connection=redis)
    assert isinstance(job, AllowlistJob)
    return job


def test_the_only_allowed_job_is_the_signal_entry() -> None:
    assert dict(ALLOWED_JOBS) == {NAME: jobs.process_signal, "worker.jobs.gate_report_job": jobs.gate_report_job}


@pytest.mark.parametrize(
    ("data", "reason", "field"),
    [
        pytest.param(pickle.dumps((NAME, None, (1,), {})), Reason.PAYLOAD_PICKLED, "payload", id="pickled"),
        pytest.param(pickle.dumps((NAME, None, (1,), {}), 0), Reason.PAYLOAD_NOT_JSON, "payload", id="pickle 0"),
        pytest.param(b"", Reason.PAYLOAD_NOT_JSON, "payload", id="empty"),
        pytest.param(b"\xff\xfe", Reason.PAYLOAD_NOT_JSON, "payload", id="not UTF-8"),
        pytest.param(b"{", Reason.PAYLOAD_NOT_JSON, "payload", id="cut"),
        pytest.param(envelope(nested(5)), Reason.PAYLOAD_TOO_DEEP, "payload", id="five levels in the payload"),
        pytest.param(b"[" * 60_000, Reason.PAYLOAD_TOO_DEEP, "payload", id="depth bomb"),
        pytest.param(b'["f",null,[{"a":1,"a":2}],{}]', Reason.PAYLOAD_DUPLICATE_KEY, "a", id="duplicate key"),
        pytest.param(b'["f",null,[NaN],{}]', Reason.PAYLOAD_NOT_FINITE, "payload", id="NaN"),
        pytest.param(b'["f",null,[-Infinity],{}]', Reason.PAYLOAD_NOT_FINITE, "payload", id="-Infinity"),
        pytest.param(b'["f",null,[1e999],{}]', Reason.PAYLOAD_NOT_FINITE, "payload", id="1e999"),
        pytest.param(b"{}", Reason.PAYLOAD_ARITY, "payload", id="an object"),
        pytest.param(b'["f",null,[1]]', Reason.PAYLOAD_ARITY, "payload", id="three parts"),
        pytest.param(envelope(name="os.system"), Reason.JOB_NOT_ALLOWED, "function", id="os.system"),
        pytest.param(envelope(name="worker.jobs.serving"), Reason.JOB_NOT_ALLOWED, "function", id="a neighbour"),
        pytest.param(envelope(name=None), Reason.JOB_NOT_ALLOWED, "function", id="no name"),
        pytest.param(envelope(name=[NAME]), Reason.JOB_NOT_ALLOWED, "function", id="a list for a name"),
        pytest.param(envelope(instance={}), Reason.JOB_NOT_ALLOWED, "instance", id="instance"),
        pytest.param(envelope(instance=0), Reason.JOB_NOT_ALLOWED, "instance", id="false instance"),
        pytest.param(envelope(args=[]), Reason.PAYLOAD_ARITY, "args", id="no payload"),
        pytest.param(envelope(args=[1, 2]), Reason.PAYLOAD_ARITY, "args", id="two payloads"),
        pytest.param(envelope(args={"payload": 1}), Reason.PAYLOAD_ARITY, "args", id="args an object"),
        pytest.param(envelope(kwargs={"payload": 1}), Reason.PAYLOAD_ARITY, "kwargs", id="keyword"),
        pytest.param(envelope(kwargs=[]), Reason.PAYLOAD_ARITY, "kwargs", id="kwargs a list"),
        pytest.param(envelope(kwargs=None), Reason.PAYLOAD_ARITY, "kwargs", id="kwargs null"),
    ],
)
def test_refused(data: bytes, reason: Reason, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        open_envelope(data)
    assert (caught.value.reason, caught.value.field) == (reason, field)


@pytest.mark.parametrize("payload", [1, None, {"entry": 1.5}, [], "text", nested(4)], ids=repr)
def test_opened(payload: object) -> None:
    # Whether it is a signal is the service's question; here only the bytes are judged.
    assert open_envelope(envelope(payload)) == (NAME, payload)


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_opened_or_refused(data: bytes) -> None:
    for wire in (data, zlib.compress(data), zlib.compress(data)[:-1], zlib.compress(data) + b"x"):
        try:
            name, _ = open_envelope(inflate(wire, len(wire)))
        except Invalid:
            continue
        assert name in ALLOWED_JOBS


def test_the_limit_is_exact() -> None:
    whole = b"x" * MAX_JOB_BYTES
    wire = zlib.compress(whole)
    assert inflate(wire, len(wire)) == whole
    longer = zlib.compress(whole + b"x")
    with pytest.raises(Invalid, match="PAYLOAD_TOO_LARGE"):
        inflate(longer, len(longer))
    assert inflate(whole, len(whole)) == whole
    with pytest.raises(Invalid, match="PAYLOAD_TOO_LARGE"):
        inflate(whole, len(whole) + 1)


@pytest.mark.parametrize(
    "wire",
    [zlib.compress(envelope())[:-1], zlib.compress(envelope()) + b"!", zlib.compress(b"")[:2], b""],
    ids=["cut", "trailing", "header only", "nothing"],
)
def test_broken_compression_is_refused(wire: bytes) -> None:
    with pytest.raises(Invalid, match="PAYLOAD_NOT_JSON"):
        inflate(wire, len(wire))


def test_plain_data_is_read_as_stock_rq_does() -> None:
    assert inflate(envelope(), len(envelope())) == envelope()


def test_a_bomb_never_unfolds() -> None:
    # 19 KB that inflate to 20 MB; the integration test uses ten times that.
    bomb = zlib.compress(b"\0" * 20_000_000, 9)
    tracemalloc.start()
    try:
        with pytest.raises(Invalid, match="PAYLOAD_TOO_LARGE"):
            inflate(bomb, len(bomb))
        _, capped = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        zlib.decompress(bomb)
        _, uncapped = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert capped < 500_000
    assert uncapped > 20_000_000


def test_serializer_is_strict_both_ways() -> None:
    assert StrictSerializer.loads(StrictSerializer.dumps({"a": [1.5, None]})) == {"a": [1.5, None]}
    for value in (float("nan"), float("inf"), b"bytes", {1}):
        with pytest.raises((ValueError, TypeError)):
            StrictSerializer.dumps(value)
    with pytest.raises(Invalid, match="PAYLOAD_TOO_LARGE"):
        StrictSerializer.loads(b" " * (MAX_JOB_BYTES + 1))


def test_no_other_serializer_is_accepted(redis: Any) -> None:
    assert AllowlistJob("a", connection=redis, serializer=JSONSerializer).serializer is StrictSerializer
    assert open_queue(redis, "signals").serializer is StrictSerializer


def test_a_stock_producer_is_understood(redis: Any) -> None:
    sent = Queue("signals", connection=redis, serializer=JSONSerializer).enqueue(NAME, {"entry": 1.5})
    job = AllowlistJob.fetch(sent.id, connection=redis)
    assert job.args == ({"entry": 1.5},)
    assert job.func is jobs.process_signal
    assert job.func_name == NAME
    assert job.timeout == 180
    with jobs.serving(service := RecordingService()):
        assert job.perform() == {"action": "phantom"}
    assert service.judged == [{"entry": 1.5}]


def test_forged_fields_are_not_believed(redis: Any) -> None:
    forged = {
        "success_callback_name": "os.abort",
        "failure_callback_name": "os.abort",
        "stopped_callback_name": "os.abort",
        "webhooks": json.dumps([{"url": "http://127.0.0.1/", "job_status": "finished"}]),
        "meta": pickle.dumps(1),
        "result": pickle.dumps(1),
        "exc_info": zlib.compress(b"x" * 1000),
        "dependency_ids": "[[[",
        "group_id": "nobody",
        "created_at": "yesterday",
        "last_heartbeat": b"\xff",
        "status": "abolished",
        "timeout": "1e9",
        "result_ttl": "forever",
        "failure_ttl": str(10**30),
        "retries_left": "99999",
        "retry_intervals": "{",
        "repeats_left": "7",
        "enqueue_at_front": "maybe",
        "worker_name": b"\xff\n",
        "description": b"line\nbreak",
    }
    job = stored(redis, envelope(), **forged)
    assert (job.success_callback, job.failure_callback, job.stopped_callback) == (None, None, None)
    assert (job.webhooks, job.meta, job._result, job._exc_info) == ([], {}, None, None)
    assert (job._dependency_ids, job.group_id, job.repeats_left, job.retry_intervals) == ([], None, None, None)
    assert (job.timeout, job.result_ttl, job.failure_ttl, job.retries_left) == (None, None, None, None)
    assert (job.worker_name, job.description, job.last_heartbeat) == (None, None, None)
    with jobs.serving(RecordingService()):
        assert job.perform() == {"action": "phantom"}


def test_control_stock_rq_chokes_on_the_same_hash(redis: Any) -> None:
    stored(redis, envelope(), created_at="yesterday")
    with pytest.raises(ValueError, match="yesterday"):
        Job.fetch("j1", connection=redis, serializer=JSONSerializer)


def test_honest_fields_are_kept(redis: Any) -> None:
    job = stored(
        redis, envelope(), timeout="7", result_ttl="-1", failure_ttl="60", retries_left="3", status="queued", ttl="9"
    )
    assert (job.timeout, job.result_ttl, job.failure_ttl, job.retries_left, job.ttl) == (7, -1, 60, 3, 9)
    assert job.get_status(refresh=False) == "queued"
    assert job.created_at.isoformat() == "2026-01-02T03:04:05.000006+00:00"


def test_a_field_too_long_to_be_honest_is_ignored(redis: Any) -> None:
    assert stored(redis, envelope(), description="d" * 5000).description is None


@pytest.mark.parametrize("create", ["nothing", "text", "no data"])
def test_what_is_no_job_does_not_exist(redis: Any, create: str) -> None:
    if create == "text":
        redis.set("rq:job:j1", "text")
    elif create == "no data":
        redis.hset("rq:job:j1", "last_heartbeat", "2026-01-02T03:04:05.000006Z")
    with pytest.raises(NoSuchJobError):
        AllowlistJob.fetch("j1", connection=redis)
    assert AllowlistJob.fetch_many(["j1"], redis) == [None]


def test_refused_data_is_answered_and_handed_over(redis: Any) -> None:
    job = stored(redis, zlib.compress(envelope(args=[])))
    with jobs.serving(service := RecordingService()):
        assert job.perform() == {"action": "rejected", "reasons": ["PAYLOAD_ARITY"], "field": "args"}
    assert service.refused == [
        (envelope(args=[]), Refusal(Reason.PAYLOAD_ARITY, "args", "exactly one positional payload"))
    ]
    assert service.judged == []
    with pytest.raises(DeserializationError, match="PAYLOAD_ARITY"):
        _ = stored(redis, envelope(args=[])).args


@pytest.mark.parametrize("size", [MAX_JOB_BYTES + 1, 300_000])
def test_oversized_data_is_cut_by_the_server(redis: Any, size: int) -> None:
    wire = os.urandom(size)
    job = stored(redis, wire)
    with jobs.serving(service := RecordingService()):
        job.perform()
    ((raw, refusal),) = service.refused
    assert raw == wire[:MAX_JOB_BYTES]
    assert refusal == Refusal(Reason.PAYLOAD_TOO_LARGE, "payload", f"{size} bytes stored, {MAX_JOB_BYTES} allowed")
    assert len(zlib.decompress(job.to_dict()["data"])) == MAX_JOB_BYTES


def test_of_giant_data_nothing_is_read(redis: Any) -> None:
    job = stored(redis, b"x" * (16 * 1024 * 1024 + 1))
    with jobs.serving(service := RecordingService()):
        job.perform()
    ((raw, refusal),) = service.refused
    assert (raw, refusal.reason) == (b"", Reason.PAYLOAD_TOO_LARGE)


@pytest.mark.parametrize(
    "data", [pickle.dumps((NAME, None, (1,), {})), envelope(name="os.system"), envelope(instance={"a": 1})]
)
def test_dead_letters_are_recorded_and_not_retried(redis: Any, data: bytes) -> None:
    job = stored(redis, zlib.compress(data), retries_left="3")
    with jobs.serving(service := RecordingService()), pytest.raises(Invalid):
        job.perform()
    assert [raw for raw, _ in service.refused] == [data]
    assert not job.should_retry


def test_a_transient_error_is_retried_even_if_the_producer_asked_for_nothing(redis: Any) -> None:
    job = stored(redis, envelope())
    with jobs.serving(RecordingService(Transient("Redis is gone"))), pytest.raises(Transient):
        job.perform()
    assert job.retries_left == TRANSIENT_RETRIES
    job = stored(redis, envelope(), retries_left="0")
    with jobs.serving(RecordingService(Transient("Redis is gone"))), pytest.raises(Transient):
        job.perform()
    assert not job.should_retry


@pytest.mark.parametrize("error", [ZeroDivisionError("bug"), Permanent("no"), KeyboardInterrupt()], ids=repr)
def test_anything_else_is_loud_and_not_retried(redis: Any, error: BaseException) -> None:
    job = stored(redis, envelope())
    with jobs.serving(RecordingService(error)), pytest.raises(type(error)):
        job.perform()
    assert not job.should_retry
    # RQ logs the arguments of a failed job: outside its time limit nothing is decoded for that.
    assert (job.func_name, job.args, job.kwargs) == ("undecoded", (), {})


def test_an_answer_json_cannot_carry_is_an_error_not_a_success(redis: Any) -> None:
    job = stored(redis, envelope())
    with jobs.serving(RecordingService(answer={"score": float("nan")})), pytest.raises(ValueError, match="not JSON"):
        job.perform()


def test_a_job_that_keeps_killing_workers_ends(redis: Any) -> None:
    assert stored(redis, envelope(), gate_returns=str(MAX_RETURNS)).returns == MAX_RETURNS
    with jobs.serving(service := RecordingService()):
        stored(redis, envelope(), gate_returns=str(MAX_RETURNS)).perform()
        with pytest.raises(Permanent, match="died 4 times"):
            stored(redis, envelope(), gate_returns=str(MAX_RETURNS + 1)).perform()
    assert len(service.judged) == 1
    # A dead letter, and an answer in the record all the same.
    assert service.given_up == [(1, Reason.SCORE_CRASHED)]
    # Requeued by an operator it starts anew.
    assert AllowlistJob.fetch("j1", connection=redis).returns == 0  # type: ignore[attr-defined]


def test_a_job_that_outlasted_its_limit_is_not_scored_again(redis: Any) -> None:
    with jobs.serving(service := RecordingService()):
        assert stored(redis, envelope(), gate_overran="1").perform()["reasons"] == ["SCORE_TIMEOUT"]
        assert stored(redis, envelope(), gate_overran="yes").perform() == {"action": "phantom"}
    assert (service.judged, service.given_up) == ([1], [(1, Reason.SCORE_TIMEOUT)])


def test_outside_a_worker_there_is_no_service() -> None:
    with pytest.raises(RuntimeError, match="GateWorker"):
        jobs.process_signal({})
    with jobs.serving(RecordingService()):
        assert jobs.process_signal({}) == {"action": "phantom"}
    with pytest.raises(RuntimeError, match="GateWorker"):
        jobs.service()
