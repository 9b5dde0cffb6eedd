"""What the stock scheduler and the stock worker lose when they are killed: the baseline of the other rigs."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest


def enumerate_points(story: str) -> dict[str, Any]:
    # In a process of its own: the stock parts may warn, and this one has connections that must not be forked.
    command = [sys.executable, "-m", "tests.faults.stock_scheduler", "--json", "--story", story]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])[story]
    # The rig itself: a clean run keeps the job, and a process died by SIGKILL before each of its commands.
    assert report["clean"] == "once"
    assert report["not_killed"] == []
    assert report["tested"] == len(report["sites"]) == len(report["fates"])
    return report


@pytest.mark.skipif(
    importlib.util.find_spec("rq_scheduler") is None,
    reason="rq-scheduler is not locked: its crontab has no wheel; see tests/faults/stock_scheduler.py",
)
def test_a_killed_stock_scheduler_repeats_or_loses_a_periodic_job() -> None:
    report = enumerate_points("scheduler")
    fates = Counter(report["fates"].values())
    assert len(report["sites"]) >= 8
    assert fates["once"] > 0
    assert fates["duplicate"] + fates["lost"] >= 1


def test_a_killed_stock_worker_loses_a_job_of_two_queues_but_not_of_one() -> None:
    one, two = enumerate_points("worker-one"), enumerate_points("worker-two")
    assert "BLMOVE" in one["sites"]
    assert "BLPOP" in two["sites"]
    assert Counter(one["fates"].values())["lost"] == 0
    assert Counter(two["fates"].values())["lost"] >= 1
