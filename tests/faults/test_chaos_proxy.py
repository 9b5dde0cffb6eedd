"""The proxy of a chaos run, before a real server: what it cuts before, what after, and what it lets through."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from persistence.connection import connect
from runtime.clock import pause, stopwatch
from runtime.embedded import EmbeddedServers


@pytest.fixture
def start(servers: EmbeddedServers, tmp_path: Path) -> Iterator[Callable[[float], tuple[str, subprocess.Popen[bytes]]]]:
    made: list[subprocess.Popen[bytes]] = []

    def proxy(share: float) -> tuple[str, subprocess.Popen[bytes]]:
        upstream = servers.redis_url.removeprefix("unix://").split("?", 1)[0]
        socket, status = tmp_path / "p.sock", tmp_path / "cuts.json"
        process = subprocess.Popen(
            [sys.executable, "-m", "scripts.chaos.proxy", str(socket), upstream, str(share), "1", str(status)],
            cwd=Path(__file__).parents[2],
        )
        made.append(process)
        deadline = stopwatch() + 20.0
        while not (socket.exists() and status.exists()):
            assert stopwatch() < deadline, "the proxy did not come up"
            pause(0.01)
        return f"unix://{socket}", process

    yield proxy
    for process in made:
        process.terminate()
        assert process.wait(10) == 0


def test_it_forwards_until_told_to_cut_and_then_cuts_both_ways(
    start: Callable[[float], tuple[str, subprocess.Popen[bytes]]], redis_client: redis.Redis, tmp_path: Path
) -> None:
    url, process = start(0.5)
    with connect(url) as client:
        assert [client.incr("calm") for _ in range(50)] == list(range(1, 51))
        process.send_signal(signal.SIGUSR1)
        answered = failed = 0
        deadline = stopwatch() + 60.0
        # A greeting may be cut as well as a command: what counts is that each command was answered, done or neither.
        while failed < 40 or answered < 5:
            assert stopwatch() < deadline, (answered, failed)
            try:
                client.incr("cut")
                answered += 1
            except redis.ConnectionError:
                failed += 1
        process.send_signal(signal.SIGUSR2)
        pause(0.6)
        counts = json.loads((tmp_path / "cuts.json").read_text())
    done = int(redis_client.get("cut") or 0)
    assert counts["requests"] > 0
    assert counts["replies"] > 0
    # Done without an answer: the case that a client which sends again by itself would apply twice.
    assert answered < done <= answered + failed


def test_a_stock_client_applies_twice_through_it(
    start: Callable[[float], tuple[str, subprocess.Popen[bytes]]], redis_client: redis.Redis
) -> None:
    url, process = start(0.1)
    with redis.Redis(unix_socket_path=url.removeprefix("unix://")) as stock:
        stock.ping()
        process.send_signal(signal.SIGUSR1)
        for _ in range(60):
            stock.incr("stock")
    # Each was answered once, and nobody was told that some were done twice.
    assert int(redis_client.get("stock") or 0) > 60
