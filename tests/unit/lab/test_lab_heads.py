"""What the heads said at decisions, joined with what happened, as figures and as tables."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from lab.attempts import History
from lab.heads import HeadOutcome, head_figures, outcomes_of
from lab.learned import learning_of
from lab.learned_console import learning_tables
from lab.page import render_page
from lab.replay import Replayed
from lab.summary import summarise
from learning.head_report import Comparison
from phantom.reach import HORIZON, Path, path_record
from scripts.replay_run import Scene, run_info
from tests.support.learned import PROFILE, scene, small_fit
from tests.unit.learning.test_learning_heads import closed, rows_of


def told(edge: float, n: int = 200) -> list[HeadOutcome]:
    """Heads that know as much of the stop as ``edge`` says, and nothing else."""
    rng = np.random.default_rng(2)
    found = []
    for row in rows_of(n, edge=0.0):
        sure = 0.5 + edge * (0.4 if row.stopped else -0.4) + 0.05 * float(rng.normal())
        found.append(HeadOutcome(row, {"p_stop": float(np.clip(sure, 0.01, 0.99)), "expected_return_r": 0.4}))
    return found


def test_figures_are_those_of_what_was_said() -> None:
    value, stop = head_figures(told(1.0))
    assert (value.name, stop.name) == ("expected_return_r", "p_stop")
    assert stop.skill > 0.5
    assert stop.skill_low is not None
    assert stop.skill_low > 0.4
    assert stop.auc == pytest.approx(1.0)
    assert stop.ece is not None
    assert 0.0 < stop.ece < 0.15
    assert sum(entry.n for entry in stop.curve) == stop.n == 200
    # One number for all is no better than their mean, which nobody knew.
    assert value.skill < 0.0
    assert value.mean_said == pytest.approx(0.4)
    assert value.curve == ()
    assert value.brier is None


def test_what_knows_nothing_shows_no_skill_and_what_was_not_said_is_not_shown() -> None:
    _, stop = head_figures(told(0.0))
    assert stop.skill_low is not None
    assert stop.skill_low < 0.0 < 0.6 > (stop.auc or 1.0)
    assert head_figures([]) == ()
    waiting = [HeadOutcome(replace(one.row, path=None), {"reach_1r_60_any": 0.5}) for one in told(0.0, 5)]
    assert head_figures(waiting) == ()


def test_endings_and_paths_are_joined_with_what_was_said() -> None:
    path = Path(HORIZON, 9, (3, 0), (0, 0), (1.2, 1.2), (0.2, 0.2))
    text = json.dumps({"id": "a", "entry_ms": 10, "known_ms": 600} | path_record(path))
    (found,) = outcomes_of([closed(heads={"p_stop": 0.7}), closed(id="b", heads=None), closed(id="c")], [text])
    assert (found.row.id, found.row.path, found.said) == ("a", path, {"p_stop": 0.7})


def test_a_report_shows_them() -> None:
    played = scene(1, n=60, knows=True)
    replayed = played.play()
    learning = learning_of(
        PROFILE,
        History(),
        replayed.trades,
        seed=1,
        heads=head_figures(told(1.0)),
        ablations=(Comparison(name="p_stop", better="full", worse="ta", n=9, gain=0.01, low=None, high=None),),
    )
    run = run_info("scalp", played.settings, played.series, PROFILE, replayed, limits=False)
    summary = summarise(replayed.trades, seed=1, run=run, learning=learning)
    page = render_page(summary)
    assert all(words in page for words in ("Forecasts beside the score", "Calibration of p_stop", "What each family"))
    assert summary.rounded()["learning"]["heads"][1]["name"] == "p_stop"
    out = io.StringIO()
    for table in learning_tables(learning):
        Console(file=out, width=160).print(table)
    assert "ta alone" in out.getvalue()
    assert "expected_return_r" in out.getvalue()
    silent = render_page(replace(summary, learning=replace(learning, heads=(), ablations=())))
    assert "Forecasts beside the score" not in silent
    assert "What each family" not in silent


def test_only_the_reported_run_learns_them(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def watched(self: Scene, *_: object, beside: bool = False, **__: object) -> Replayed:
        asked.append(beside)
        return plain(self)

    plain = Scene.play
    monkeypatch.setattr(Scene, "play", watched)
    scene(1, n=40, knows=True).learn(1, small_fit)
    assert sum(asked) == 1 < len(asked)
