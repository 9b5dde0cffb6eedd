"""``penumbra leaks`` on a namespace with a record, and on candles alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis
from click.testing import CliRunner, Result

from market.generated import generate
from persistence.outbox import Relay
from persistence.redis_store import RedisStore
from runtime.embedded import EmbeddedServers
from runtime.settings import Settings
from runtime.wiring import Wiring
from scripts.cli import main
from tests.support.loop import KEY, World


def penumbra(*words: str) -> Result:
    return CliRunner().invoke(main, list(words), catch_exceptions=False)


def test_an_audit_of_a_recorded_life(
    servers: EmbeddedServers,
    postgres_dsn: str,
    redis_client: redis.Redis,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PENUMBRA_REDIS_URL", servers.redis_url)
    monkeypatch.setenv("PENUMBRA_POSTGRES_URL", postgres_dsn)
    monkeypatch.setenv("PENUMBRA_SIGNING_KEY", KEY.decode())
    monkeypatch.setenv("PENUMBRA_NAMESPACE", namespace)
    monkeypatch.chdir(tmp_path)
    world = World(RedisStore(redis_client, namespace))
    assert penumbra("migrate").exit_code == 0
    world.live(60)
    refused = world.ask(0.5, features={"atr_pct": 1.0, "atr_pct_known_ms": 4_000_000_000_000})
    assert (refused["reasons"], refused["field"]) == (["LEAK_LATE"], "features.atr_pct")
    wiring = Wiring(Settings.load())
    relay = Relay(wiring.client, wiring.store.keys, wiring.record)
    while relay.cycle().backlog.pending or wiring.client.xlen(wiring.store.keys.outbox()):
        pass
    wiring.close()

    found = penumbra("leaks", "scalp", "--json")
    told = json.loads(found.output)
    assert (found.exit_code, told["holds"], told["leaks"]) == (0, True, [])
    for part in ("decisions", "closed"):
        assert (told[part]["checked"], told[part]["equal"], told[part]["unknown"]) == (60, 60, 0)
    assert told["outcomes"] == 60
    page = penumbra("leaks", "scalp").output
    assert "nothing leaks" in page
    assert "60 of 60 equal" in page


def test_features_of_candles_cut_at_each_signal(tmp_path: Path) -> None:
    candles = generate(3, symbol="GENUSDT", timeframe="5m", candles=2_500)
    columns = {name: getattr(candles, name) for name in ("open", "high", "low", "close", "volume")}
    pq.write_table(pa.table({"ts": np.asarray(candles.ts), **columns}), tmp_path / "GENUSDT_5m.parquet")
    found = penumbra("leaks", "scalp", "--no-record", "--candles", str(tmp_path), "--samples", "3", "--json")
    told = json.loads(found.output)
    rows = {row["feature"]: row for row in told["features"]}
    assert (found.exit_code, rows["atr_pct"]["compared"], rows["atr_pct"]["different"]) == (0, 3, 0)
    assert rows["mae"]["verdict"] == "refused"
