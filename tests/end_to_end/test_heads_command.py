"""``penumbra heads`` from files to figures, and what ``penumbra models`` says of them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from rich.console import Console

from market.generated import generate
from scorer.heads import PROBABILITIES, VALUES
from scripts.cli import main
from scripts.learning import print_models

CANDLES = 6_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("candles")
    candles = generate(3, symbol="GENUSDT", timeframe="5m", candles=CANDLES)
    columns = {name: getattr(candles, name) for name in ("open", "high", "low", "close", "volume")}
    pq.write_table(pa.table({"ts": np.asarray(candles.ts), **columns}), made / "GENUSDT_5m.parquet")
    return made


def heads(folder: Path, *words: str) -> str:
    found = CliRunner().invoke(
        main, ["heads", "--candles", str(folder), "--strategy", "scalp", *words], catch_exceptions=False
    )
    assert found.exit_code == 0
    return found.stdout


def test_every_head_is_told_with_dates_and_figures_or_a_reason(folder: Path) -> None:
    told = json.loads(heads(folder, "--ablation", "mechanics", "--json"))
    assert told["ablation"] == "mechanics"
    assert [head["name"] for head in told["heads"]] == [*VALUES, *PROBABILITIES]
    # A signal near the end has no path yet; all others have one.
    assert 0 < told["rows"] - 10 <= told["paths"] <= told["rows"]
    for head in told["heads"]:
        assert head.get("reason", "") in ("", "HEAD_TOO_FEW", "HEAD_NO_SKILL")
        if head.get("n_validation"):
            assert head["skill_low"] <= head["skill"] <= head["skill_high"]
            assert head["train_ms"][0] < head["validation_ms"][1]
    assert {one["worse"] for one in told["ablations"]} <= {"ta", "mechanics"}
    assert json.loads(heads(folder, "--ablation", "mechanics", "--json")) == told


def test_it_is_printed_as_tables(folder: Path) -> None:
    told = heads(folder)
    assert "expected_return_r" in told
    assert "all features against" in told


def test_models_show_the_heads_of_the_bundle_in_force() -> None:
    figures = {"n_validation": 300, "validation_ms": [1_704_067_200_000, 1_706_745_600_000], "skill": 0.02}
    figures |= {"skill_low": 0.01, "skill_high": 0.03, "auc": 0.6, "brier": 0.2, "ece": 0.03}
    rows = [
        {"bundle": "b" * 64, "standing": "champion", "n": 500, "wins": 200, "last_ms": 1_706_745_600_000,
         "source": "ensemble", "metrics": {"auc": 0.6, "brier_skill": 0.01},
         "heads": {"p_stop": figures, "direction": {"reason": "HEAD_TOO_FEW"}}}
    ]  # fmt: skip
    out = io.StringIO()
    print_models(rows, Console(file=out, width=140))
    told = out.getvalue()
    assert "2024-01-01" in told
    assert "+1.00 … +3.00" in told
    assert "answers" in told
    assert "HEAD_TOO_FEW" in told
