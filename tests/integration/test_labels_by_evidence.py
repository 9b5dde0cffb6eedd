"""Timeouts on their way to the learner: closed, kept apart, marked, cut off until their cohort is grown, corrected."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from learning.fit import FitSettings
from persistence.memory_store import MemoryStore
from persistence.store import TRADES_KEPT
from runtime.follow import Follower
from runtime.outcomes import covered_by_both, horizon_ms, learned_from, weights_of
from runtime.train import Trainer
from scorer.bundle import unpack
from scorer.schema import SCALP
from signals.candle import Candle
from signals.errors import Invalid
from signals.labelling import Labelling, Maturity
from signals.method import SPECIFIED, Method
from signals.profile import Profile
from tests.support.lessons import lessons
from tests.support.loop import KEY, PROFILE, SMALL, START_MS, STEP_MS, World

SHORT = replace(PROFILE, timeout_ms=STEP_MS)
"""The deadline is the close of the first candle: what no barrier ended is marked there."""
HONEST = replace(SHORT, method=replace(SPECIFIED, labels=Method.EVIDENCE))


def trainer_for(world: World, profile: Profile) -> Trainer:
    return Trainer(world.store, {"scalp": profile}, KEY, settings=FitSettings(heads=SMALL, neighbours=0))


def live(world: World, count: int) -> None:
    """A strong impulse wins or drifts up, a weak one loses or drifts down; four in ten are still there at the close."""
    world.judge.profiles["scalp"] = SHORT
    world.follower = Follower(world.store, {"scalp": SHORT})
    for _ in range(count):
        strong = bool(world.rng.random() < 0.5)
        world.ask(0.9 if strong else 0.1)
        if world.rng.random() < 0.6:
            world.candle(bool(world.rng.random() < (0.8 if strong else 0.2)))
            continue
        ts, close = START_MS + world.index * STEP_MS, 100.6 if strong else 99.4
        world.follower.candle("BTCUSDT", "5m", Candle(ts, 100.0, 100.7, 99.3, close, 1.0))
        world.index += 1


@pytest.fixture(scope="module")
def lived() -> World:
    world = World(MemoryStore("labels"))
    live(world, 260)
    return world


def test_timeouts_come_with_their_marks_and_the_specified_learner_sees_none(lived: World) -> None:
    honest, plain = trainer_for(lived, HONEST), trainer_for(lived, SHORT)
    rows = [json.loads(row) for row in lived.store.timeouts("scalp")]
    assert {row["outcome"] for row in rows} == {"timeout"}
    assert len(rows) + lived.store.training("scalp").completed == 260
    assert plain.outcomes("scalp") == plain.examples("scalp")
    assert all(one.decisive for one in plain.examples("scalp"))
    late = [one for one in honest.outcomes("scalp") if one.timed_out]
    # A close at 100.6 or 99.4 with a stop a point away.
    assert {round(one.net_r, 9) for one in late} == {0.6, -0.6}
    assert {float(str(one.features["impulse_ratio"])) > 0.5 for one in late if one.net_r > 0.0} == {True}
    cut = lived.store.now_ms() - horizon_ms(HONEST)
    assert max(one.entry_ms for one in honest.outcomes("scalp")) <= cut
    assert max(one.entry_ms for one in plain.examples("scalp")) > cut


def test_a_bundle_by_evidence_carries_timeouts_and_weights(lived: World) -> None:
    trained = trainer_for(lived, HONEST).attempt("scalp")
    assert trained.address, trained
    data = lived.store.bundle(trained.address)
    assert data is not None
    records = unpack(data, KEY, strategy="scalp", schema_hash=SCALP.hash).parts.records
    late = records.decisive == 0
    assert 20 < int(late.sum()) < len(records)
    assert np.ptp(records.weight) > 0.0
    assert float(records.ensemble[late & (records.net_r > 0)].mean()) > float(
        records.ensemble[late & (records.net_r < 0)].mean()
    )
    plain = trainer_for(lived, SHORT).attempt("scalp")
    data = lived.store.bundle(plain.address)
    assert data is not None
    spec = unpack(data, KEY, strategy="scalp", schema_hash=SCALP.hash).parts.records
    assert (spec.decisive == 1).all()
    assert (spec.weight == 1.0).all()


def test_a_timeout_that_a_report_made_a_win_is_one() -> None:
    world = World(MemoryStore("corrected"))
    live(world, 40)
    row = json.loads(world.store.timeouts("scalp")[0])
    won = row | {"outcome": "win", "net_r": 2.0, "gross_r": 2.0, "exit_reason": "tp"}
    trades = world.store.trades
    before = len(trainer_for(world, SHORT).examples("scalp"))
    world.store.trades = lambda strategy: (  # type: ignore[method-assign]
        trades(strategy)[0], {row["id"]: json.dumps(won)}
    )  # fmt: skip
    after = trainer_for(world, SHORT).examples("scalp")
    assert len(after) == before + 1
    assert next(one for one in after if one.id == row["id"]).won


# --- which outcomes


DAY = 86_400_000


def test_cohorts_windows_and_weights() -> None:
    known = lessons(60, apart_ms=DAY)
    now = known[-1].exit_ms + 1
    evidence = replace(SPECIFIED, labels=Method.EVIDENCE)

    def taken(**labelling: object) -> list[str]:
        profile = replace(PROFILE, method=evidence, labelling=Labelling(**labelling))  # type: ignore[arg-type]
        return [one.id for one in learned_from(known, profile, now_ms=now, open_entry_ms=[now - 5 * DAY])]

    everything = [one.id for one in known]
    # A day and a bit until a scalp's deadline and the grace of its report.
    assert taken() == everything[:-2]
    assert taken(maturity=Maturity.OFF) == everything
    assert taken(maturity=Maturity.OFF, window_days=10.5) == everything[-11:]
    assert learned_from(known, PROFILE, now_ms=now) == known
    windowed = replace(PROFILE, labelling=Labelling(window_days=10.5))
    assert [one.id for one in learned_from(known, windowed, now_ms=now)] == everything[-11:]
    profile = replace(PROFILE, method=evidence, labelling=Labelling(maturity=Maturity.WEIGHTS))
    slow = [*known[:-1], replace(known[-1], entry_ms=known[-1].exit_ms - 10 * DAY)]
    seen = [one.seen_weight for one in learned_from(slow, profile, now_ms=now, open_entry_ms=[now - 5 * DAY])]
    # Of two that lived or were watched for five days one was lost from sight: the other stands for both.
    assert seen == pytest.approx([1.0] * 59 + [2.0])
    assert learned_from([], profile, now_ms=now) == []


def test_what_records_count_for() -> None:
    known = lessons(10, apart_ms=DAY)
    assert weights_of(known, PROFILE) == [1.0] * 10
    profile = replace(PROFILE, method=replace(SPECIFIED, labels=Method.EVIDENCE))
    told = weights_of([replace(known[0], seen_weight=2.0), *known[1:]], profile)
    plain = weights_of(known, profile)
    assert told[0] == pytest.approx(2.0 * plain[0])
    assert plain[0] < plain[-1]
    assert sum(plain) == pytest.approx(10.0)


def test_two_lists_count_from_where_both_reach_back(monkeypatch: pytest.MonkeyPatch) -> None:
    known = lessons(12, apart_ms=DAY)
    trades, timeouts = known[4:], known[:4]
    assert covered_by_both(trades, timeouts) == known
    monkeypatch.setattr("runtime.outcomes.TRADES_KEPT", 8)
    assert TRADES_KEPT > 8
    # The list of trades is full: what it forgot lies before its first row.
    assert covered_by_both(trades, timeouts) == trades


def test_settings_of_labels_are_held_to_their_range() -> None:
    for name in ("window_days", "half_life_days", "size_exponent"):
        for value in (-1.0, float("nan"), 1e9):
            changes: dict[str, Any] = {name: value}
            with pytest.raises(Invalid, match=name):
                Labelling(**changes)
    taking = replace(PROFILE, labelling=Labelling(learn_from_timeouts=True))
    refusing = replace(HONEST, labelling=Labelling(learn_from_timeouts=False))
    assert [one.takes_timeouts for one in (PROFILE, HONEST, taking, refusing)] == [False, True, True, False]
