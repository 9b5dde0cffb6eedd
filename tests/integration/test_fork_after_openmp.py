"""Boosted trees behind the real worker, and why nothing of it may fork once they have run."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import redis
from rq import Queue
from rq.serializers import JSONSerializer

from persistence.redis_store import RedisStore
from runtime.embedded import EmbeddedServers
from tests.support.loop import START_MS, STEP_MS, World

ROOT = Path(__file__).parents[2]
SIGNALS = 20
CAP_S = 60

WORKER = """
    import sys
    from persistence.connection import connect
    from persistence.redis_store import RedisStore
    from runtime.service import Service
    from runtime.shelf import Shelf
    from tests.support.loop import KEY, PROFILES
    from worker.queue import GateWorker

    url, namespace = sys.argv[1:]
    store = RedisStore(connect(url, timeout_s=10.0), namespace)
    service = Service(store, PROFILES, shelf=Shelf(store, KEY))
    GateWorker(f"{namespace}-signals", connection=connect(url, timeout_s=20.0), service=service).run(burst=True)
"""

FORKING = """
    import os, select, sys
    import numpy as np
    from sklearn.ensemble import HistGradientBoostingClassifier

    x = np.random.default_rng(1).normal(size=(2_000, 4))

    def use():
        HistGradientBoostingClassifier(max_iter=3).fit(x, x[:, 0] > 0).predict_proba(x)

    if sys.argv[1] == "warm":
        use()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        use()
        os.write(writing, b"done")
        os._exit(0)
    ready, _, _ = select.select([reading], [], [], float(sys.argv[2]))
    print("done" if ready else "hung")
    os.kill(child, 9)
    os.waitpid(child, 0)
"""


def test_a_worker_scores_twenty_signals_with_a_published_ensemble(
    servers: EmbeddedServers, redis_client: redis.Redis, namespace: str
) -> None:
    world = World(RedisStore(redis_client, namespace))
    world.live(140)
    address = world.trainer.attempt("scalp").address
    assert address
    queue = Queue(f"{namespace}-signals", connection=redis_client, serializer=JSONSerializer)
    ts = START_MS + world.index * STEP_MS
    world.store.advance_clock(ts)
    jobs = [
        queue.enqueue("worker.jobs.process_signal", {
            "id": f"q{number}", "strategy": "scalp", "symbol": f"S{number}USDT", "side": "long",
            "entry": 100.0, "tp": 102.0, "sl": 99.0, "ts": ts, "features": world.features(0.9),
        })
        for number in range(SIGNALS)
    ]  # fmt: skip
    code = [sys.executable, "-c", textwrap.dedent(WORKER), servers.redis_url, namespace]
    subprocess.run(code, cwd=ROOT, check=True, timeout=CAP_S, capture_output=True)
    answers = [job.return_value() or {} for job in jobs]
    assert [answer["bundle"] for answer in answers] == [address] * SIGNALS
    assert all(str(answer["score_source"]).startswith("ensemble") for answer in answers)


@pytest.mark.parametrize(("parent", "patience_s", "came"), [("cold", CAP_S, "done"), ("warm", 3, "hung")])
def test_control_a_child_of_a_parent_that_has_used_them_hangs(parent: str, patience_s: int, came: str) -> None:
    code = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(FORKING), parent, str(patience_s)]
    # Two threads on any machine: with one there is no pool that a fork could lose.
    told = subprocess.run(code, capture_output=True, check=True, text=True, env={"OMP_NUM_THREADS": "2"})
    assert told.stdout == f"{came}\n"
