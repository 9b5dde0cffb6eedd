"""Replays that learn: what a report says of their models, in a market that can be known and in one that cannot."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from lab.attempts import History, SharedFits, Watch, rules_only
from lab.console import print_summary
from lab.learned import Learning, learning_of
from lab.page import render_page
from lab.replay import Replayed
from lab.summary import Summary, summarise
from lab.trade import TradeTable
from learning.metrics import measure
from qscore.threshold import OPEN
from scripts.replay_run import RULES, VARIANTS, Scene, run_info
from signals.bucket import Bucket
from signals.profile import Clamping, Kind
from tests.support.learned import PROFILE, ids, scene, small_fit
from tests.unit.lab.test_lab_page import Structure

PAYLOAD = "<img src=x onerror=alert(1)>"


@dataclasses.dataclass(frozen=True)
class Told:
    """A scene, the reported run and its learning part."""

    scene: Scene
    replayed: Replayed
    learning: Learning

    @property
    def summary(self) -> Summary:
        run = run_info("scalp", self.scene.settings, self.scene.series, PROFILE, self.replayed, limits=False)
        return summarise(self.replayed.trades, seed=1, run=run, learning=self.learning)


@pytest.fixture(scope="module")
def known() -> Told:
    found = scene(1, knows=True)
    return Told(found, *found.learn(1, small_fit))


@pytest.fixture(scope="module")
def noise() -> Told:
    found = scene(1, n=300, knows=False)
    return Told(found, *found.learn(1, small_fit))


# --- known truth


def test_where_the_score_knows_the_lift_is_there_and_vanishes_under_shuffled_scores(known: Told) -> None:
    by_name = {item.name: item for item in known.learning.settings}
    ensemble, rules = by_name["specified, open"], by_name[RULES]
    assert ensemble.lift.lift.day.low > 0.0
    assert ensemble.lift.random.p < 0.01
    assert ensemble.placebo.p < 0.01
    assert abs(ensemble.placebo.placebo_mean) < 0.1 * ensemble.placebo.lift
    assert ensemble.placebo.interval.low < 0.0 < ensemble.placebo.interval.high
    # The rule score of this world is blind.
    assert rules.lift.lift.day.holds(0.0)
    assert rules.lift.random.p > 0.05
    assert rules.placebo.p > 0.05
    assert ensemble.gain is not None
    assert ensemble.gain.day.low > 0.0
    assert known.learning.out_of_sample is not None
    assert known.learning.out_of_sample.brier_skill.day.low > 0.0
    assert "knows more than the base rate" in " ".join(known.summary.remarks)
    assert "The score knows which signals to take" in " ".join(known.summary.remarks)


def test_where_nothing_can_be_known_nothing_is_claimed(noise: Told) -> None:
    ensemble = next(item for item in noise.learning.settings if item.reported)
    assert ensemble.lift.lift.day.holds(0.0)
    assert ensemble.placebo.p > 0.05
    assert ensemble.placebo.interval.holds(ensemble.placebo.lift)
    # Two standard errors of what luck in the choice of buckets can give here; over many worlds it averages out.
    assert abs(ensemble.placebo.placebo_mean) < 0.2
    text = " ".join(noise.summary.remarks)
    assert "is not shown to know" in text
    assert "knows more than the base rate" not in text


# --- the settings side by side


def test_each_setting_is_the_replay_of_its_own(known: Told) -> None:
    """One command gives what three separate replays with trainers of their own give."""
    plain = known.scene
    alone = {
        RULES: plain.play(fit=rules_only),
        **{
            name: plain.play(replace(PROFILE, method=method, clamp=clamp), small_fit)
            for name, method, clamp in (VARIANTS[1], VARIANTS[-1])
        },
    }
    settings = [item for item in known.learning.settings if item.name in alone]
    assert {item.name: item.decisions_hash for item in settings} == {
        name: found.decisions_hash for name, found in alone.items()
    }
    for item in settings:
        table = TradeTable.of(alone[item.name].trades)
        assert item.split.executed.n == int(np.count_nonzero(table.executed & table.decisive))
        assert item.bundles == sum(attempt.published for attempt in alone[item.name].history.attempts)
    # The gate answers differently, yet every run sees the same signals end alike.
    assert len({item.decisions_hash for item in known.learning.settings}) >= 3
    # Where a bundle decided, the setting says how well it forecast what it had not seen.
    assert all((item.skill is None) == (item.by_model == 0) for item in known.learning.settings)
    assert plain.play().skipped > 20
    assert {tuple(ids(found)) for found in alone.values()} == {tuple(ids(known.replayed))}


def test_what_a_gate_executes_changes_what_is_learned_next(known: Told) -> None:
    """Why one pass over recorded scores would not do: an executed outcome weighs more in the next fit."""
    fits = SharedFits(small_fit)
    runs = [known.scene.play(replace(PROFILE, clamp=clamp), fits) for clamp in Clamping]
    first, second = ([attempt.address for attempt in run.history.attempts] for run in runs)
    before = next(place for place, address in enumerate(first) if address != "")
    # The profile's settings are no part of a bundle: until the first one answers, both runs learn the same.
    assert first[: before + 1] == second[: before + 1]
    assert first[before + 1 :] != second[before + 1 :]
    assert fits.made < len(first) + len(second)


def test_rules_only_publishes_nothing_and_still_counts_its_boundaries(known: Told) -> None:
    played = known.scene.play(fit=rules_only)
    assert [attempt.reason for attempt in played.history.attempts] == ["LEARN_RULES_ONLY"] * len(
        known.replayed.history.attempts
    )
    assert all(trade.bundle is None for trade in played.trades)


# --- as of


def test_forecasts_are_those_of_the_bundle_in_force_at_the_signal(known: Told) -> None:
    learning, trades = known.learning, known.replayed.trades
    assert len(learning.bundles) >= 3
    total = 0
    for bundle in learning.bundles:
        own = [trade for trade in trades if trade.bundle == bundle.address and trade.decisive]
        assert all(bundle.from_ms <= trade.ts for trade in own)
        assert all(bundle.until_ms is None or trade.ts <= bundle.until_ms for trade in own)
        assert bundle.out_of_sample is not None
        assert bundle.out_of_sample.n == len(own) > 0
        said = np.array([trade.forecast for trade in own], dtype=np.float64)
        won = np.array([trade.outcome == "win" for trade in own])
        assert bundle.out_of_sample.brier == pytest.approx(measure(said, won).brier)
        assert bundle.out_of_sample.base_brier == pytest.approx(np.mean(won) * (1 - np.mean(won)))
        total += len(own)
        assert bundle.out_of_fold is not None
        assert bundle.out_of_fold.n <= bundle.trained_on
    pooled = learning.out_of_sample
    assert pooled is not None
    assert pooled.n == total == sum(entry.n for entry in pooled.curve)
    assert all(entry.win_rate_low <= entry.win_rate <= entry.win_rate_high for entry in pooled.curve)


def test_out_of_fold_is_what_the_bundle_was_published_with(known: Told) -> None:
    published = [attempt for attempt in known.replayed.history.attempts if attempt.published]
    for attempt, bundle in zip(published, known.learning.bundles, strict=True):
        assert attempt.out_of_fold is not None
        assert bundle.out_of_fold is not None
        told = measure(attempt.out_of_fold.probability, attempt.out_of_fold.won)
        assert bundle.out_of_fold.log_loss == pytest.approx(told.log_loss)
        assert bundle.source in ("ensemble", "ensemble_raw")


def test_recorded_thresholds_are_those_of_the_tables_then_in_force(known: Told) -> None:
    """Every decision by a model met the threshold that the table published with it gives for its bucket."""
    books = {
        attempt.address: next(book for at_ms, book in known.replayed.history.books if at_ms == attempt.at_ms)
        for attempt in known.replayed.history.attempts
        if attempt.published
    }
    checked = 0
    for trade in known.replayed.trades:
        if trade.bundle is None:
            continue
        threshold = books[trade.bundle].table(trade.score_source, 1.0).lookup(trade.bucket, OPEN, 70.0)
        assert (trade.threshold, trade.threshold_closed) == (threshold.value, threshold.closed)
        assert (trade.kind is Kind.EXECUTED) == threshold.passes(trade.score)
        checked += 1
    assert checked > 200


def test_thresholds_at_the_end_and_how_they_moved(known: Told) -> None:
    last = known.replayed.history.book
    assert {table.score_source for table in known.learning.tables} == {table.score_source for table in last.tables}
    for table in known.learning.tables:
        assert table.clamp == ("60–95" if table.score_source == "heuristic" else "0–100")
        whole = next(row for row in table.rows if row.bucket == "all")
        assert whole.n == whole.wins + whole.losses == table.records
        assert whole.p_min == pytest.approx(1 / 3, abs=0.02)
        for row in table.rows:
            if row.bucket != "all":
                found = last.table(table.score_source, table.w).buckets[Bucket.parse(row.bucket)]
                assert (row.n, row.unclamped) == (found.n, found.threshold)
        (move,) = (m for m in known.learning.moves if (m.score_source, m.bucket) == (table.score_source, "all"))
        assert move.threshold[-1] == whole.threshold
        assert list(move.at_ms) == sorted(set(move.at_ms))
        assert move.n[-1] == whole.n


def test_attempts_tell_moment_outcomes_and_what_they_came_to(known: Told, noise: Told) -> None:
    for told in (known, noise):
        attempts = told.learning.attempts
        assert [attempt.count for attempt in attempts][:4] == [50, 100, 150, 225]
        assert [attempt.next_at for attempt in attempts][:3] == [100, 150, 225]
        for attempt in attempts:
            # Of all that had ended by its moment, and not one more.
            ended = sum(trade.decisive and trade.exit_ts <= attempt.at_ms for trade in told.replayed.trades)
            assert ended == attempt.count
            assert attempt.published == (attempt.reason == "")
            assert attempt.skill is not None
    assert any(not attempt.published for attempt in noise.learning.attempts)


# --- the first line, the page, the console, JSON


def without_model(told: Told) -> Summary:
    played = told.scene.play(fit=rules_only)
    learning = learning_of(PROFILE, played.history, played.trades, seed=1)
    run = run_info("scalp", told.scene.settings, told.scene.series, PROFILE, played, limits=False)
    return summarise(played.trades, seed=1, run=run, learning=learning)


def test_the_first_line_says_when_no_bundle_was_published(known: Told, noise: Told) -> None:
    summary = without_model(noise)
    assert summary.verdict.startswith(("No demonstrated edge", "No edge"))
    assert " No bundle was published in 4 attempts at training: the heuristic decided" in summary.verdict
    assert "No bundle" not in known.summary.verdict
    early = learning_of(PROFILE, History(), noise.replayed.trades, seed=1)
    assert "No training was due" in summarise([], seed=1, run=summary.run, learning=early).verdict


def printed(summary: Summary) -> str:
    stream = io.StringIO()
    print_summary(summary, Console(file=stream, width=160, color_system=None, legacy_windows=False))
    return stream.getvalue()


def test_the_console_fits_and_tells_every_part(known: Told, noise: Told) -> None:
    for summary in (known.summary, noise.summary, without_model(noise)):
        lines = printed(summary).splitlines()
        assert max(cell_len(line) for line in lines) <= 100
        text = "\n".join(lines)
        assert "Attempts at training" in text
        assert "Score-shuffle placebo" in text
    text = printed(known.summary)
    for part in (
        "The same signals under each setting",
        "Forecasts against outcomes",
        "Calibration out of sample",
        "p_min",
    ):
        assert part in text
    for item in known.learning.settings:
        assert f"{item.split.executed.n:,}" in text


def test_the_page_shows_every_part_and_stays_self_contained(known: Told) -> None:
    page = render_page(known.summary)
    structure = Structure(page)
    text = re.sub(r"\s+", " ", " ".join(structure.text))
    for part in ("The same signals under each setting", "Score-shuffle placebo", "Forecasts against outcomes",
                 "Thresholds over time", "Training over time", "Calibration of the model"):  # fmt: skip
        assert part in text
    for bundle in known.learning.bundles:
        assert f"Calibration of bundle {bundle.address[:12]}" in text
    assert not structure.named("script")
    assert page.count("<caption") == page.count("<table")
    pictures = [found for found in structure.named("svg") if "aria-hidden" not in found]
    assert len(pictures) == 17
    assert all(len(found["aria-label"] or "") > 40 for found in pictures)
    ids_ = [attributes["id"] for _, attributes in structure.elements if "id" in attributes]
    assert len(ids_) == len(set(ids_))
    assert len(page.encode()) < 900_000
    assert render_page(known.summary) == page


def test_a_page_without_a_model_and_one_with_a_payload(noise: Told) -> None:
    summary = without_model(noise)
    assert "nan" not in re.sub(r"<[^>]+>", " ", render_page(summary).split("</style>")[1]).lower().split()
    first, *rest = noise.learning.attempts
    hostile = replace(noise.learning, attempts=(replace(first, bundle="", reason=PAYLOAD, detail=PAYLOAD), *rest))
    structure = Structure(render_page(replace(noise.summary, learning=hostile)))
    assert not structure.named("img")
    assert "".join(structure.text).count(PAYLOAD) >= 2


def test_json_and_digest_carry_the_learning(known: Told) -> None:
    summary = known.summary
    rounded = summary.rounded()
    assert json.loads(json.dumps(rounded, allow_nan=False)) == rounded
    told = rounded["learning"]
    assert told["settings"][1]["split"]["executed"]["n"] == known.learning.settings[1].split.executed.n
    assert told["placebos"][0]["p"] == pytest.approx(known.learning.placebos[0].p, rel=1e-5)
    assert told["bundles"][0]["out_of_sample"]["curve"][0]["n"] > 0
    assert told["attempts"][0]["at_ms"] == known.learning.attempts[0].at_ms
    without = summarise(known.replayed.trades, seed=1, run=summary.run)
    assert "learning" not in without.rounded()
    assert without.digest() != summary.digest()
    assert summarise(known.replayed.trades[::-1], seed=1, run=summary.run, learning=known.learning).digest() == (
        summary.digest()
    )


def test_the_same_history_learns_the_same_again(noise: Told) -> None:
    again = noise.scene.learn(1, small_fit)[1]
    first = replace(noise.summary, learning=again)
    assert first.digest() == noise.summary.digest()


def test_a_watch_tells_nothing_of_a_fit_that_failed(noise: Told) -> None:
    def broken(*_args: object, **_settings: object) -> object:
        raise RuntimeError("out of memory")

    watch = Watch(broken)  # type: ignore[arg-type]
    played = noise.scene.play(fit=watch.fit)
    assert {attempt.reason for attempt in played.history.attempts} == {"LEARN_FAILED"}
    assert all(attempt.judged is None and not attempt.published for attempt in played.history.attempts)
