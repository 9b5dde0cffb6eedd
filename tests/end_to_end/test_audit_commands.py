"""``penumbra reconcile`` and ``penumbra verify-audit`` as an operator meets them; a worker that boots into trouble."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from click.testing import CliRunner, Result

from persistence.store import Mode
from runtime.clock import pause, stopwatch
from runtime.embedded import EmbeddedServers
from runtime.settings import Settings
from runtime.wiring import Wiring
from scripts.cli import main
from scripts.processes import Processes
from tests.support.house import House, built
from tests.support.tampering import tamper

P3 = "phantom:pos:p3"


@pytest.fixture
def house(
    servers: EmbeddedServers,
    postgres_dsn: str,
    redis_client: redis.Redis,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    closed_body: Callable[..., str],
) -> Iterator[House]:
    """A lived-in namespace that every command of this test finds."""
    monkeypatch.setenv("PENUMBRA_REDIS_URL", servers.redis_url)
    monkeypatch.setenv("PENUMBRA_POSTGRES_URL", postgres_dsn)
    monkeypatch.setenv("PENUMBRA_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PENUMBRA_NAMESPACE", namespace)
    monkeypatch.chdir(tmp_path)
    wiring = Wiring(Settings.load())
    wiring.record.migrate()
    made = built(redis_client, wiring.record, closed_body)
    made.relay()
    yield made
    wiring.close()


def penumbra(*words: str) -> Result:
    return CliRunner().invoke(main, list(words), catch_exceptions=False)


def until(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    deadline = stopwatch() + seconds
    while not condition():
        if stopwatch() > deadline:
            pytest.fail(f"not within {seconds:.0f} s: {what}")
        pause(0.005)


def _carried(house: House, more_than: int) -> bool:
    return house.record.count() > more_than


def mode(house: House) -> tuple[Mode, str]:
    control = house.store.control()
    assert control is not None
    return control.mode, control.actor


def test_reconcile_says_yes_no_and_repairs(house: House) -> None:
    clean = penumbra("reconcile")
    assert clean.exit_code == 0, clean.output
    assert clean.output.count(" holds  ") == 10
    house.client.zrem(house.keys.due(), P3)
    broken = penumbra("reconcile")
    assert broken.exit_code == 1
    assert f"{P3}: due" in broken.output
    assert "penumbra rebuild" in broken.output
    told = penumbra("reconcile", "--json")
    assert told.exit_code == 1
    found: dict[str, Any] = json.loads(told.stdout)
    assert (found["clean"], found["rules"]["R1"]["ids"]) == (False, [f"{P3}: due"])
    assert mode(house)[0] is Mode.ON  # looking changes nothing

    repaired = penumbra("reconcile", "--repair", "--json")
    assert repaired.exit_code == 0, repaired.output
    assert json.loads(repaired.stdout)["clean"] is True
    assert mode(house) == (Mode.HALT, "rebuild")
    house.clean()
    looked = penumbra("on")
    generation = looked.output.split()[-1]
    assert penumbra("on", "--confirm", generation).exit_code == 0
    assert mode(house)[0] is Mode.ON


def test_a_worker_checks_before_it_takes_a_signal(house: House) -> None:
    assert penumbra("worker", "--burst").exit_code == 0
    assert mode(house)[0] is Mode.ON
    house.client.zrem(house.keys.due(), P3)
    assert penumbra("worker", "--burst").exit_code == 0
    assert mode(house) == (Mode.HALT, "reconcile")


def test_verify_audit_says_yes_and_no(house: House, postgres_dsn: str, namespace: str) -> None:
    whole = penumbra("verify-audit")
    assert whole.exit_code == 0
    head = whole.stdout.split()[-1]
    told = json.loads(penumbra("verify-audit", "--json").stdout)
    assert told == {"whole": True, "links": house.record.count(), "head": head, "broken": None}
    house.open("later")
    house.relay()
    assert penumbra("verify-audit", "--expect-head", head).exit_code == 0
    assert penumbra("verify-audit", "--expect-head", "f" * 64).exit_code == 1
    with psycopg.connect(postgres_dsn, autocommit=True) as owner:
        tamper(owner, namespace, "update penumbra.facts set body = '{}' where namespace = %(n)s and id = 'opened:p3'")
    edited = penumbra("verify-audit")
    assert edited.exit_code == 1
    assert "BROKEN, edited: opened:p3 (seq" in edited.stdout
    # What is not whole is no ground to rebuild on.
    refused = penumbra("reconcile", "--repair")
    assert refused.exit_code == 2
    assert "nothing may be rebuilt from it" in refused.output
    assert mode(house)[0] is Mode.ON


def test_verify_audit_needs_no_redis(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENUMBRA_REDIS_URL", "redis://127.0.0.1:1/0")
    told = penumbra("verify-audit", "--json")
    assert told.exit_code == 0
    assert json.loads(told.stdout)["links"] == house.record.count()
    assert "without Redis" in told.stderr


def test_a_relay_killed_again_and_again_leaves_one_chain(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("PENUMBRA_RELAY__BATCH", "3")
    for number in range(400):
        house.open(f"k{number}")
    for run in range(4):
        before = house.record.count()
        with Processes(Path("logs"), {}) as processes:
            pid = processes.start(f"relay{run}", ["relay"])
            until(partial(_carried, house, before + 20), "the relay to carry something")
            os.kill(pid, signal.SIGKILL)
    left: Any = house.client.xlen(house.keys.outbox())
    assert left > 0  # it was killed at work
    house.relay()
    assert house.record.count() == house.clean().seq
    assert penumbra("verify-audit").exit_code == 0
    assert house.client.xlen(house.keys.outbox()) == 0
