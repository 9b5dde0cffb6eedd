"""The benchmarks in their smallest form: that they measure what they say, not how fast."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from scripts.bench import Row, require_agreement
from scripts.bench_loop import sizes_from
from scripts.cli import main
from signals.errors import Permanent

COLUMNS = {"work", "size", "ours", "baseline", "unit", "ratio", "goal", "agree"}


def test_the_loop_is_measured_from_end_to_end() -> None:
    smallest = {"--sizes": "60", "--rounds": "1", "--boundary": "50", "--repeats": "3", "--launches": "1"}
    words = ["bench", "loop", "--json", *(word for pair in smallest.items() for word in pair)]
    done = CliRunner().invoke(main, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert {"cores", "python", "numpy", "scikit-learn"} <= found["machine"].keys()
    rows = {(row["work"].partition(", against")[0], row["size"]): row for row in found["rows"]}
    assert all(row.keys() == COLUMNS and row["agree"] is True for row in found["rows"])
    # A fit that another process disturbs can take longer alone than it took in the loop.
    assert all(row["ours"] >= 0.0 for row in found["rows"] if "beyond the fit" not in row["work"])
    fits = {
        "retrain", "peak memory of a retrain", "bundle", "open and verify a bundle", "one score p50", "one score p99",
        "its heads alone p50", "each of 256 scores at once", "import all that serves",
        "peak memory, a bundle opened and asked",
    }  # fmt: skip
    path = {
        "outcome to first decision with it", "of that, beyond the fit, p50", "of that, beyond the fit, max",
        "outcome to its request seen, p50", "request seen to published", "published to decided with, max",
    }  # fmt: skip
    assert {(work, 60) for work in fits} | {(work, 50) for work in path} <= rows.keys()
    for work in ("one score p50", "one score p99", "each of 256 scores at once", "import all that serves"):
        row = rows[work, 60]
        assert row["ratio"] == pytest.approx(row["baseline"] / row["ours"])


def test_a_wrong_answer_is_no_figure() -> None:
    right = Row(work="a", size=1, ours=2.0, baseline=6.0, unit="s", agree=True)
    assert right.ratio == 3.0
    require_agreement([right])
    with pytest.raises(Permanent, match="b at 7"):
        require_agreement([right, Row(work="b", size=7, ours=1.0, unit="s", agree=False)])


@pytest.mark.parametrize("text", ["", "100,", "49", "a", "-100", "100;300"])
def test_sizes_are_whole_numbers_a_fit_can_take(text: str) -> None:
    with pytest.raises(Permanent, match="--sizes"):
        sizes_from(text)
    assert sizes_from("100, 3_000") == (100, 3_000)
