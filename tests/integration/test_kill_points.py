"""A worker killed before and after every command it sends: each signal is resolved all the same, and once.

The script below runs alone in its own process and forks one child for every point: a child must not inherit threads.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import redis
from rq import Queue
from rq.serializers import JSONSerializer

from persistence.redis_store import RedisStore
from persistence.store import ClockKind
from runtime.clock import pause
from runtime.embedded import EmbeddedServers
from runtime.service import Service
from tests.support.scene import FREE, T0, payload
from tests.support.stores import outbox
from worker.queue import GateWorker

ROOT = Path(__file__).parents[2]
FEWEST_POINTS = 15

CHILDREN = """
    import json, logging, os, signal, sys
    from redis.connection import AbstractConnection
    from persistence.connection import connect
    from persistence.redis_store import RedisStore
    from runtime.service import Service
    from tests.support.scene import FREE
    from worker.queue import GateWorker

    url, namespace, points = sys.argv[1], sys.argv[2], int(sys.argv[3])
    logging.disable(logging.CRITICAL)

    def work(queue, at, when):
        sent = 0
        send = AbstractConnection.send_packed_command

        def counting(self, *args, **kwargs):
            nonlocal sent
            sent += 1
            if when == "before" and sent == at:
                os.kill(os.getpid(), signal.SIGKILL)
            send(self, *args, **kwargs)
            if when == "after" and sent == at:
                # Until the server has taken it, or an unsent command would be counted as a sent one.
                self.can_read(timeout=1.0)
                os.kill(os.getpid(), signal.SIGKILL)

        service = Service(RedisStore(connect(url, timeout_s=10.0), namespace), {"trend": FREE})
        gate = GateWorker(queue, connection=connect(url, timeout_s=20.0), service=service, liveness_s=1)
        AbstractConnection.send_packed_command = counting
        gate._beat_until_stopped = lambda: None  # its own commands would make the count depend on time
        gate.run(burst=True)
        return sent

    def child(queue, at, when):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(writing, str(work(queue, at, when)).encode())
            finally:
                os._exit(0)
        os.close(writing)
        _, status = os.waitpid(pid, 0)
        told = os.read(reading, 20).decode()
        os.close(reading)
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else -int(told or 0)

    child("warm", 0, "never")  # loads the scripts, which nobody after it has to
    clean = -child("clean", 0, "never")
    ends = {"clean": clean}
    for when in ("before", "after"):
        for at in range(1, min(clean, points) + 1):
            ends[f"{when}-{at}"] = child(f"{when}-{at}", at, when)
    print(json.dumps(ends))
"""


def test_killed_at_any_command_the_signal_is_resolved(
    servers: EmbeddedServers, redis_client: redis.Redis, namespace: str
) -> None:
    store = RedisStore(redis_client, namespace)
    store.create(ClockKind.DATA, now_ms=T0)
    store.advance_clock(T0)
    most = 120
    names = ["warm", "clean", *(f"{when}-{at}" for when in ("before", "after") for at in range(1, most + 1))]
    jobs = {
        name: Queue(name, connection=redis_client, serializer=JSONSerializer).enqueue(
            "worker.jobs.process_signal", payload(name)
        )
        for name in names
    }
    code = [sys.executable, "-c", textwrap.dedent(CHILDREN), servers.redis_url, namespace, str(most)]
    ended = json.loads(subprocess.run(code, cwd=ROOT, capture_output=True, check=True, timeout=120, text=True).stdout)
    points = ended.pop("clean")
    assert FEWEST_POINTS < points < most
    assert len(ended) == 2 * points
    # Every child was killed where it should be, by the kill and by nothing else.
    assert set(ended.values()) == {9}
    # What a dead worker promised of its life runs out; the sweep of whoever works next finds the rest.
    pause(1.2)
    lost = []
    for name in ended:
        gate = GateWorker(name, connection=redis_client, service=Service(store, {"trend": FREE}))
        gate.sweep()
        gate.sweep()
        gate.run(burst=True)
        result = jobs[name].latest_result()
        if result is None or result.return_value is None or result.return_value["action"] != "execute":
            lost.append(name)
    assert lost == []
    facts = [fact.id for fact in outbox(redis_client, store.keys) if fact.kind in ("decision", "opened")]
    assert len(facts) == len(set(facts)) == 2 * (len(ended) + 2)
