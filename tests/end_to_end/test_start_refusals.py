"""No process starts on a server that may forget, evict, refuse to write, or holds another version's state."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from persistence import preflight
from persistence.keys import Keys
from runtime import embedded
from runtime.settings import Settings
from runtime.wiring import Wiring
from scripts.cli import main

COMMANDS = ["worker", "relay", "follow", "train", "migrate", "rebuild"]
SERVICES = [name for name in COMMANDS if name != "rebuild"]


@pytest.fixture
def wiring(
    servers_folder: Path, servers: Any, postgres_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Wiring]:
    """A Redis of this test's own: it is spoilt."""
    monkeypatch.setenv("PENUMBRA_POSTGRES_URL", postgres_dsn)
    monkeypatch.setenv("PENUMBRA_REDIS_URL", embedded.start_valkey(tmp_path / "own").url)
    monkeypatch.setenv("PENUMBRA_REDIS__TIMEOUT_MS", "5000")
    monkeypatch.setenv("PENUMBRA_SIGNING_KEY", hashlib.sha256(b"of this test").hexdigest())
    monkeypatch.chdir(tmp_path)
    made = Wiring(Settings.load())
    yield made
    made.close()
    embedded.remove(tmp_path / "own")


def refusal(*words: str) -> str:
    result = CliRunner().invoke(main, list(words))
    assert result.exit_code == 2, result.output
    return result.output


def test_every_command_refuses_with_the_mend(wiring: Wiring) -> None:
    wiring.ensure_namespace()
    spoils = {
        ("appendonly", "no"): "set appendonly yes",
        ("maxmemory-policy", "allkeys-lru"): "set maxmemory-policy noeviction",
        ("appendfsync", "no"): "set appendfsync always",
    }
    for (setting, value), mend in spoils.items():
        kept = str(wiring.client.config_get(setting)[setting])
        wiring.client.config_set(setting, value)
        assert [mend in refusal(name) for name in COMMANDS] == [True] * len(COMMANDS), setting
        wiring.client.config_set(setting, kept)


def test_the_state_of_another_version_is_left_alone(wiring: Wiring) -> None:
    wiring.ensure_namespace()
    wiring.client.hset(wiring.store.keys.meta(), "schema", "0")
    before = dict(wiring.store.dump())
    for name in SERVICES:
        said = refusal(name)
        assert "schema 0" in said
        assert "penumbra rebuild" in said
    assert dict(wiring.store.dump()) == before


def test_a_replica_is_refused(wiring: Wiring, servers: Any) -> None:
    wiring.ensure_namespace()
    wiring.client.replicaof("127.0.0.1", 1)
    for name in COMMANDS:
        assert "replica of 127.0.0.1" in refusal(name)
    wiring.client.replicaof("NO", "ONE")
    wiring.ensure_namespace()


class Told:
    """A server that says this of itself."""

    def __init__(self, **info: object) -> None:
        self._info = {"aof_enabled": 1, "maxmemory_policy": "noeviction", "aof_last_write_status": "ok"} | info

    @property
    def connection_pool(self) -> Any:
        return SimpleNamespace(connection_kwargs={})

    def info(self) -> dict[str, object]:
        return self._info

    def config_get(self, _name: str) -> dict[str, str]:
        return {"appendfsync": "always"}

    def hget(self, *_: str) -> None:
        if self._info.get("loading"):
            pytest.fail("a server that is loading answers nothing but INFO")


@pytest.mark.parametrize(
    ("info", "mend"),
    [
        ({"loading": 1}, "start again when it has finished"),
        ({"aof_last_write_status": "err"}, "free space on its disk"),
        ({"role": "slave", "master_host": "db1"}, "name the primary"),
    ],
)
def test_what_a_server_says_of_itself(info: dict[str, object], mend: str) -> None:
    told: Any = Told(**info)
    with pytest.raises(preflight.UnfitServer, match=mend):
        preflight.check_server(told, Keys())


@pytest.mark.parametrize(("used", "warned"), [(84, False), (85, True)])
def test_a_server_that_is_nearly_full_is_warned_of(used: int, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    told: Any = Told(maxmemory=100, used_memory=used)
    with caplog.at_level(logging.WARNING):
        preflight.check_server(told, Keys())
    assert ("raise maxmemory" in caplog.text) == warned
