"""``penumbra whatif`` from candles, and from a record in Postgres."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from market.generated import generate
from persistence.memory_store import MemoryStore
from persistence.record import Record
from runtime.embedded import EmbeddedServers
from scripts.cli import main
from scripts.whatif_run import grid_of
from signals.errors import Permanent
from tests.support.loop import KEY, World
from tests.support.scene import Scene
from tests.unit.lab.test_whatif_ledger import TIGHT, lived


def ask(*words: str) -> Any:
    found = CliRunner().invoke(main, ["whatif", *words, "--json"], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


@pytest.fixture
def candles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    made = generate(3, symbol="GENUSDT", timeframe="5m", candles=6_000)
    columns = {name: getattr(made, name) for name in ("open", "high", "low", "close", "volume")}
    pq.write_table(pa.table({"ts": np.asarray(made.ts), **columns}), tmp_path / "GENUSDT_5m.parquet")
    return tmp_path / "GENUSDT_5m.parquet"


def test_from_candles_to_figures_and_a_page(candles: Path) -> None:
    page = candles.parent / "whatif" / "page.html"
    told = ask("--candles", str(candles), "--strategy", "scalp", "--threshold", "75", "--threshold", "50:90:10",
               "--profile", "scalp", "--costs-bps", "5", "--html", str(page))  # fmt: skip
    names = [policy["name"] for policy in told["policies"]]
    assert names == ["current", "threshold 75", "profile scalp", "as answered", "always-take", "heuristic alone"]
    assert told["curve"]["thresholds"] == [50.0, 60.0, 70.0, 80.0, 90.0]
    assert (told["cost_bps"], told["costs_bps"]) == (5.0, [0.0, 5.0, 10.0])
    assert told["ledger"]["differences"] == []
    assert told["ledger"]["reproduced"] == told["ledger"]["signals"] >= told["signals"] > 20
    # The same profile on a record without a model is the gate itself.
    assert told["policies"][2]["against_current"]["n_disagree"] == 0
    assert "<!DOCTYPE html>" in page.read_text("utf-8")
    limited = ask("--candles", str(candles), "--strategy", "scalp", "--threshold", "50", "--limits")
    assert limited["limited"]
    assert limited["curve"] is None
    milder = next(policy for policy in limited["policies"] if policy["name"] == "threshold 50")
    always = next(policy for policy in told["policies"] if policy["name"] == "always-take")
    assert milder["accepted"]["total"] + sum(milder["refused_by_limits"].values()) == always["accepted"]["total"]


def test_from_a_record_in_postgres(
    servers: EmbeddedServers, postgres_dsn: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENUMBRA_REDIS_URL", servers.redis_url)
    monkeypatch.setenv("PENUMBRA_POSTGRES_URL", postgres_dsn)
    monkeypatch.setenv("PENUMBRA_DATA_DIR", str(tmp_path / "data"))
    for name, value in (("OPEN_POSITIONS", 2), ("PER_SYMBOL", 2), ("EXECUTES_PER_MINUTE", 3), ("DAILY_LOSS_R", 2.5)):
        monkeypatch.setenv(f"PENUMBRA_PROFILES__TREND__LIMITS__{name}", str(value))
    monkeypatch.setenv("PENUMBRA_PROFILES__TREND__COSTS_BPS", "7")
    monkeypatch.chdir(tmp_path)
    record = Record(postgres_dsn, namespace)
    record.migrate()
    record.append(lived(Scene(TIGHT)))
    record.close()
    told = ask("--namespace", namespace, "--threshold", "65")
    assert told["source"] == {"bundles": [], "kind": "record", "detail": f"record of {namespace}, trend"}
    assert told["ledger"]["differences"] == []
    assert told["ledger"]["reproduced"] == told["ledger"]["signals"]
    assert told["policies"][0]["accepted"]["executed"] >= 4
    limited = ask("--namespace", namespace, "--threshold", "65", "--limits")
    assert [policy["name"] for policy in limited["policies"]][:2] == ["current", "threshold 65"]
    assert limited["policies"][0]["refused_by_limits"]
    shown = CliRunner().invoke(main, ["whatif", "--namespace", namespace], catch_exceptions=False)
    assert "ledger reproduced: " in shown.stdout


def test_bundles_come_from_the_record_and_say_again_what_they_said(
    servers: EmbeddedServers, postgres_dsn: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENUMBRA_REDIS_URL", servers.redis_url)
    monkeypatch.setenv("PENUMBRA_POSTGRES_URL", postgres_dsn)
    monkeypatch.setenv("PENUMBRA_SIGNING_KEY", KEY.decode())
    for step in ("THRESHOLDS", "CALIBRATION", "ENSEMBLE"):
        monkeypatch.setenv(f"PENUMBRA_PROFILES__SCALP__METHOD__{step}", "spec")
    for name in ("OPEN_POSITIONS", "PER_SYMBOL", "EXECUTES_PER_MINUTE", "DAILY_LOSS_R", "DAILY_LOSS_MONEY"):
        monkeypatch.setenv(f"PENUMBRA_PROFILES__SCALP__LIMITS__{name}", "0")
    monkeypatch.chdir(tmp_path)
    store = MemoryStore()
    world = World(store)
    world.live(130)
    trained = world.trainer.answer("scalp")
    assert trained is not None
    world.live(60)
    record = Record(postgres_dsn, namespace)
    record.migrate()
    record.append(store.facts)
    record.put_bundle(trained.address, store.bundle(trained.address) or b"")
    record.close()
    short = trained.address[:12]
    told = ask("--namespace", namespace, "--bundle", "newest", "--table", short, "--profile", "scalp")
    assert told["source"]["bundles"] == [trained.address]
    assert told["ledger"]["reproduced"] == told["ledger"]["signals"] == 190
    policies = {policy["name"]: policy for policy in told["policies"]}
    bundle = policies[f"bundle {short}"]
    # The next signal came at the very moment the last lesson ended: it counts as seen.
    assert (bundle["n"], bundle["trained_on"]) == (59, 131)
    for name in (f"bundle {short}", f"table {short}", "profile scalp"):
        assert policies[name]["against_current"]["n_disagree"] == 0
    unknown = CliRunner().invoke(main, ["whatif", "--namespace", namespace, "--bundle", "zzz"])
    assert (unknown.exit_code, "0 bundles of scalp" in unknown.output) == (2, True)


def test_thresholds_alone_and_in_ranges() -> None:
    assert grid_of(["65", "40:95:5", "65", "70.5"]) == ([65.0, 70.5], [float(value) for value in range(40, 96, 5)])
    assert grid_of(["0:1:0.1"])[1][:4] == [0.0, 0.1, 0.2, 0.3]
    for word in ("101", "a", "9:1:1", "1:9:0", "1:2"):
        with pytest.raises(Permanent, match="neither a threshold"):
            grid_of([word])
