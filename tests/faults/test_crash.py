"""A process killed at any command loses nothing, repeats nothing and leaves nothing half done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from runtime.embedded import EmbeddedServers

KINDS = {
    "created", "control", "profile", "decision", "opened", "alias", "conflict", "claimed", "unclaimed", "touched",
    "fill", "closed", "corrected", "retrain", "training", "published",
}  # fmt: skip
QUIET = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def enumerate_points(servers: EmbeddedServers, dsn: str, *words: str) -> dict[str, Any]:
    # In a process of its own: this one has connections and threads that must not be forked.
    command = [sys.executable, "-m", "tests.faults.crash", "--redis", servers.redis_url, "--postgres", dsn, "--json"]
    done = subprocess.run([*command, *words], capture_output=True, text=True, env={**os.environ, **QUIET}, timeout=600)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("when", ["before", "after"])
def test_no_kill_loses_or_repeats_anything(servers: EmbeddedServers, postgres_dsn: str, when: str) -> None:
    report = enumerate_points(servers, postgres_dsn, "--when", when)
    assert report["wrong"] == {}
    # The rig itself: every place of the clean run was tried, each process died there, by SIGKILL and nothing else.
    assert report["not_killed"] == []
    assert report["tested"] == report["sites"]
    assert sum(report["tested"].values()) == report["total"] > 150
    assert min(report["sites"][stage] for stage in ("decide", "claim", "close", "relay", "publish", "control")) >= 3
    assert report["kinds"]["postgres"] >= 15
    assert set(report["facts"]) >= KINDS
    # Row 3: some relay died between the commit in Postgres and the acknowledgement, and its facts came twice.
    assert report["redelivered"] > 0


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_same_kills_break_a_careless_design(servers: EmbeddedServers, postgres_dsn: str, when: str) -> None:
    report = enumerate_points(servers, postgres_dsn, "--story", "naive", "--when", when)
    assert report["not_killed"] == []
    assert sum(report["tested"].values()) == report["total"]
    assert len(report["wrong"]) >= 10
