"""The worker under its parent: native code that holds everything up, a crash, and the parent's own end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from persistence.redis_store import RedisStore
from persistence.store import ClockKind
from runtime.clock import pause, stopwatch
from runtime.embedded import EmbeddedServers
from runtime.service import Service
from signals.errors import Permanent
from tests.support.scene import FREE, T0, payload
from worker.supervise import Supervisor, Told

ROOT = Path(__file__).parents[2]
LIMIT_S = 1

# The parent, and with a pipe to tell it the child, whose scorer is as bad as the signal's tag says.
PROGRAM = """
    import os, sys
    from persistence.connection import connect
    from persistence.redis_store import RedisStore
    from runtime.service import Service
    from scripts.stopping import stop_on_signals
    from tests.support.scene import FREE
    from worker.queue import GateWorker
    from worker.serve import serve
    from worker.supervise import Supervisor, teller

    url, namespace, limit_s, script = sys.argv[1:5]

    class Bad(Service):
        def judge(self, payload):
            if payload["tag"] == "native":
                sum(range(10**15))  # one native loop that holds the interpreter: no alarm, no other thread
            if payload["tag"] == "crash":
                os.abort()
            return super().judge(payload)

    if "--watched" not in sys.argv:
        command = [sys.executable, "-c", script, url, namespace, limit_s, script]
        Supervisor(command, connect(url, timeout_s=5.0)).run(stop_on_signals())
    else:
        queue = connect(url, timeout_s=20.0)
        service = Bad(RedisStore(connect(url, timeout_s=5.0), namespace), {"trend": FREE})
        tell = teller(int(sys.argv[-1]))
        serve(lambda: GateWorker("s", connection=queue, service=service, job_timeout_s=int(limit_s), tell=tell))
"""


@pytest.fixture
def store(redis_client: redis.Redis, namespace: str) -> RedisStore:
    made = RedisStore(redis_client, namespace)
    made.create(ClockKind.DATA, now_ms=T0)
    made.advance_clock(T0)
    return made


@pytest.fixture
def parent(servers: EmbeddedServers, store: RedisStore, namespace: str) -> Iterator[subprocess.Popen[bytes]]:
    script = textwrap.dedent(PROGRAM)
    code = [sys.executable, "-c", script, servers.redis_url, namespace, str(LIMIT_S), script]
    process = subprocess.Popen(code, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield process
    process.terminate()
    process.wait(timeout=20)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def until(true: Callable[[], object], seconds: float) -> float:
    began = stopwatch()
    while not true():
        assert stopwatch() - began < seconds, "waited in vain"
        pause(0.02)
    return stopwatch() - began


def sent(redis_client: redis.Redis, name: str, tag: str) -> Job:
    queue = Queue("s", connection=redis_client, serializer=JSONSerializer)
    return queue.enqueue("worker.jobs.process_signal", payload(name, tag=tag))


def test_native_code_that_holds_the_interpreter_is_killed_and_answered_for(
    parent: subprocess.Popen[bytes], redis_client: redis.Redis, store: RedisStore, capsys: pytest.CaptureFixture[str]
) -> None:
    good = sent(redis_client, "good", "fine")
    until(lambda: good.latest_result() is not None, 30.0)
    (child,) = children(parent.pid)
    stuck, after = sent(redis_client, "stuck", "native"), sent(redis_client, "after", "fine")
    until(lambda: stuck.get_status() == "started", 5.0)
    gone_s = until(lambda: not Path(f"/proc/{child}").exists(), LIMIT_S + 5.0)
    answered_s = gone_s + until(lambda: stuck.latest_result() is not None, 30.0 - gone_s)
    answer = stuck.return_value()
    assert answer is not None
    assert (answer["action"], answer["reasons"][0]) == ("phantom", "SCORE_TIMEOUT")
    decision = store.decision("stuck")
    assert decision is not None
    assert decision.action == "phantom"
    until(lambda: after.latest_result() is not None, 10.0)
    with capsys.disabled():
        print(f"{{'limit': {LIMIT_S}, 'killed after': {gone_s:.1f}, 'answered after': {answered_s:.1f}}}")


def test_a_crash_is_tried_again_then_a_dead_letter_with_a_record(
    parent: subprocess.Popen[bytes], redis_client: redis.Redis, store: RedisStore
) -> None:
    crash = sent(redis_client, "crash", "crash")
    until(lambda: crash.get_status() == "failed", 60.0)
    assert "died 4 times" in str(crash.latest_result().exc_string)  # type: ignore[union-attr]
    answer = Service(store, {"trend": FREE}).answer("crash")
    assert answer is not None
    assert answer["action"] == "phantom"
    assert "SCORE_CRASHED" in str(answer["reasons"])
    # The worker lives.
    good = sent(redis_client, "good", "fine")
    until(lambda: good.latest_result() is not None, 20.0)


def test_no_worker_outlives_its_parent(parent: subprocess.Popen[bytes], redis_client: redis.Redis) -> None:
    good = sent(redis_client, "good", "fine")
    until(lambda: good.latest_result() is not None, 30.0)
    (child,) = children(parent.pid)
    os.kill(parent.pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{child}").exists(), 20.0)


def test_a_parent_that_has_loaded_the_models_refuses(
    redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", os)
    with pytest.raises(Permanent, match="sklearn is loaded"):
        Supervisor(["false"], redis_client).run(lambda: False)


def test_serving_loads_no_model_library() -> None:
    code = "import sys, runtime.wiring, worker.queue, worker.serve, worker.supervise; print('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True).stdout == b"False\n"


def test_what_a_child_tells_comes_in_pieces() -> None:
    told = Told()
    for piece in (b"bor", b"n w1\nbegin j1 ", b"0\n"):
        told.take(piece)
    assert (told.name, told.job, told.overdue()) == ("w1", "j1", True)
    told.take(b"end\n")
    assert not told.overdue()
