"""``penumbra replay --learn`` from files to figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from market.generated import generate
from scripts.cli import main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    candles = generate(3, symbol="GENUSDT", timeframe="5m", candles=9_000)
    columns = {name: getattr(candles, name) for name in ("open", "high", "low", "close", "volume")}
    pq.write_table(pa.table({"ts": np.asarray(candles.ts), **columns}), tmp_path / "GENUSDT_5m.parquet")
    return tmp_path


def replay(folder: Path, *words: str) -> str:
    wanted = ["replay", "--candles", str(folder), "--strategy", "scalp", "--out", str(folder), *words]
    found = CliRunner().invoke(main, wanted, catch_exceptions=False)
    assert found.exit_code == 0
    return found.stdout


NAMES = ["heuristic alone", "specified, open", "specified, 60–95", "by evidence", "by evidence, honest labels"]


def test_a_replay_that_learns_reports_every_method_and_the_heuristic(folder: Path) -> None:
    told = json.loads(replay(folder, "--learn", "--growth", "0.5", "--method", "spec", "--labels", "spec", "--json"))
    learning = told["learning"]
    assert [item["name"] for item in learning["settings"]] == NAMES
    assert [item["reported"] for item in learning["settings"]] == [False, True, False, False, False]
    assert {item["split"]["everything"]["n"] for item in learning["settings"]} == {told["headline"]["everything"]["n"]}
    assert len(learning["attempts"]) == len(told["trained"]) > 0
    assert learning["placebos"][0]["name"] == "all scores"
    if not any(attempt["bundle"] for attempt in learning["attempts"]):
        assert "No bundle was published" in told["verdict"]
    page = Path(told["page"]).read_text("utf-8")
    assert "The same signals under each setting" in page
    # What is asked for is what the rest of the report is about.
    asked = ("--method", "evidence", "--labels", "evidence")
    other = json.loads(replay(folder, "--learn", "--growth", "0.5", *asked, "--json"))["learning"]
    assert [item["reported"] for item in other["settings"]] == [False, False, False, False, True]
    assert [item["decisions_hash"] for item in other["settings"]] == [
        item["decisions_hash"] for item in learning["settings"]
    ]


def test_a_setting_of_its_own_is_shown_beside_the_others(folder: Path) -> None:
    asked = ("--method", "evidence", "--labels", "spec", "--clamp", "seed")
    told = json.loads(replay(folder, "--learn", "--growth", "2", *asked, "--json"))["learning"]
    assert [item["name"] for item in told["settings"]] == [*NAMES, "as configured"]
    assert [item["name"] for item in told["settings"] if item["reported"]] == ["as configured"]


def test_a_replay_without_a_learner_has_no_such_part(folder: Path) -> None:
    told = json.loads(replay(folder, "--json"))
    assert "learning" not in told
    assert "The same signals under each setting" not in Path(told["page"]).read_text("utf-8")
    assert "Attempts at training" not in replay(folder)
