"""Exploration and bands through the judge: drawn by the id, held back by the state, told in the answer."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from decision.answer import Answer
from decision.decide import Action
from lab.whatif_sequence import replay_ledger
from learning.example import examples
from persistence.memory_store import MemoryStore
from persistence.store import Mode
from runtime.chance import draw_for
from runtime.judge import Judge
from runtime.shelf import Shelf
from signals.breaker import NO_BREAKERS
from signals.profile import Limits
from signals.reasons import Reason
from tests.support.loop import KEY, PROFILE, World
from tests.support.scene import FREE, HOUR, T0, Scene, payload
from tests.support.stores import created, in_memory

RATE = 0.05
EXPLORING = replace(FREE, explore_rate=RATE, explore_size=0.2)
BELOW = Reason.SCORE_BELOW_THRESHOLD


def named(drawn: bool) -> str:
    """An id that is drawn at the rate, or one that is not."""
    return next(
        name for name in (f"x{number}" for number in range(1_000)) if (draw_for(name, "explore") < RATE) is drawn
    )


DRAWN, OTHER = named(drawn=True), named(drawn=False)


def scene(**changes: Any) -> Scene:
    return Scene(replace(EXPLORING, **changes))


def test_draws_are_uniform_and_belong_to_the_signal() -> None:
    draws = [draw_for(f"signal-{number}", "explore") for number in range(4_000)]
    assert draws == [draw_for(f"signal-{number}", "explore") for number in range(4_000)]
    assert all(0.0 <= draw < 1.0 for draw in draws)
    tenths = [sum(place / 10 <= draw < (place + 1) / 10 for draw in draws) for place in range(10)]
    assert all(330 < count < 470 for count in tenths)
    assert draw_for("s", "explore") != draw_for("s", "another purpose")


def test_a_drawn_refusal_is_answered_as_an_execute_at_the_least_size() -> None:
    here = scene()
    answer = here.ask(payload(DRAWN, good=False))
    assert (answer.action, answer.size_multiplier, answer.explored, answer.propensity) == (
        Action.EXECUTE, 0.2, True, RATE,
    )  # fmt: skip
    assert answer.reasons[:2] == (Reason.SCORE_EXPLORED, BELOW)
    other = here.ask(payload(OTHER, good=False))
    assert (other.action, other.size_multiplier, other.explored, other.propensity) == (
        Action.PHANTOM, 1, False, RATE,
    )  # fmt: skip
    passed = here.ask(payload("p1"))
    assert (passed.action, passed.size_multiplier, passed.explored, passed.propensity) == (
        Action.EXECUTE, 1, False, None,
    )  # fmt: skip
    body = json.loads(here.facts("decision")[0].body)
    assert (body["size_multiplier"], body["explored"], body["propensity"]) == (0.2, True, RATE)
    assert here.ask(payload(DRAWN, good=False)).as_dict() | {"latency_ms": 0} == answer.as_dict() | {"latency_ms": 0}


def test_nothing_is_explored_by_default() -> None:
    answer = Scene().ask(payload(DRAWN, good=False))
    assert (answer.action, answer.explored, answer.propensity) == (Action.PHANTOM, False, None)


def halted(here: Scene) -> None:
    here.store.set_mode(Mode.HALT, actor="me", reason="", now_ms=T0)


def switched_off(here: Scene) -> None:
    here.store.set_mode(Mode.ML_OFF, actor="me", reason="", now_ms=T0)


def one_open(here: Scene) -> None:
    here.open("first", claim=True)


def doubted(here: Scene) -> None:
    here.store.configure_breakers(replace(NO_BREAKERS, regime_confidence=0.6), now_ms=T0)


@pytest.mark.parametrize(
    ("before", "changes", "sent", "why"),
    [
        pytest.param(halted, {}, {}, Reason.MODE_HALT, id="halt"),
        pytest.param(switched_off, {}, {}, Reason.MODE_ML_OFF, id="ml_off"),
        pytest.param(one_open, {"limits": Limits(open_positions=1)}, {}, Reason.LIMIT_OPEN_POSITIONS, id="limit"),
        pytest.param(
            doubted, {}, {"regime_confidence": 0.5}, Reason.BREAKER_REGIME_CONFIDENCE, id="a breaker of rules only"
        ),
    ],
)
def test_the_state_holds_back_what_was_drawn(before: Any, changes: Any, sent: Any, why: Reason) -> None:
    here = scene(**changes)
    before(here)
    answer = here.ask(payload(DRAWN, good=False, **sent))
    assert (answer.action, answer.explored, answer.propensity) == (Action.PHANTOM, False, None)
    assert why in answer.reasons
    assert here.store.claim(DRAWN, "e", now_ms=T0) is Reason.CLAIM_NOT_EXECUTE
    # What was not drawn could not have been either: a propensity would be wrong.
    assert here.ask(payload(OTHER, good=False, **sent)).propensity is None


def test_an_expired_signal_is_rejected_all_the_same() -> None:
    here = scene()
    here.memory.advance_clock(T0 + HOUR)
    answer = here.ask(payload(DRAWN, good=False))
    assert (answer.action, answer.explored, answer.propensity) == (Action.REJECTED, False, None)


def test_an_unclaimed_one_is_revoked_with_the_model_though_the_heuristic_gave_its_score() -> None:
    here = scene()
    here.ask(payload(DRAWN, good=False))
    here.ask(payload("plain"))
    switched_off(here)
    assert here.store.claim(DRAWN, "e", now_ms=T0) is Reason.CLAIM_REVOKED
    assert here.store.claim("plain", "e", now_ms=T0) is Reason.CLAIM_GO


def test_explored_positions_use_up_the_limits() -> None:
    here = scene(limits=Limits(open_positions=1))
    here.open(DRAWN, good=False, claim=True)
    assert Reason.LIMIT_OPEN_POSITIONS in here.ask(payload("next")).reasons


def test_an_explored_outcome_teaches_like_any_executed_one() -> None:
    here = scene()
    here.open(DRAWN, good=False, claim=True)
    here.reports.close({"signal_id": DRAWN, "price": 104.0, "ts": T0 + HOUR, "reason": "tp"})
    assert here.number("completed_trades") == 1
    (example,) = examples([here.result(DRAWN)])
    assert (example.weight, example.won, example.kind.value) == (1.0, True, "executed")


# --- bands, with a model


@pytest.fixture(scope="module")
def heads() -> World:
    """A strategy whose champion has seen 150 outcomes."""
    world = World(created(in_memory("bands")))
    world.live(150)
    world.trainer.attempt("scalp")
    return world


def banded(world: World, impulse: float, name: str, **changes: Any) -> Answer:
    """The answer of the same bundle under bands, to a signal at the world's moment."""
    profile = replace(PROFILE, bands=True, **changes)
    judge = Judge(world.store, {"scalp": profile}, watch=lambda: 0.0, shelf=Shelf(world.store, KEY))
    sent = {
        "id": name, "strategy": "scalp", "symbol": "BTCUSDT", "side": "long", "entry": 100.0, "tp": 102.0, "sl": 99.0,
        "ts": world.store.now_ms(), "features": world.features(impulse),
    }  # fmt: skip
    return judge.judge(sent)


def test_bands_read_the_models_probability_and_the_tables_break_even(heads: World) -> None:
    strong, weak = banded(heads, 0.95, "strong"), banded(heads, 0.05, "weak")
    decision = heads.store.decision("strong")
    assert decision is not None
    # Two to one without costs: a win in three pays.
    assert json.loads(decision.body)["break_even"] == pytest.approx(1 / 3)
    assert (strong.action, strong.size_multiplier) == (Action.EXECUTE, 1.0)
    assert weak.win_probability is not None
    assert weak.win_probability < 1 / 4
    assert (weak.action, weak.size_multiplier) == (Action.PHANTOM, 0.0)


def test_a_banded_record_plays_again_exactly(heads: World) -> None:
    answers = [banded(heads, impulse, f"again-{impulse}") for impulse in (0.05, 0.3, 0.5, 0.7, 0.95)]
    assert isinstance(heads.store, MemoryStore)
    facts = heads.store.facts
    assert replay_ledger(facts, {"scalp": replace(PROFILE, bands=True)}).differences == ()
    # Without bands the replay tells of what they changed, and of nothing else.
    plain = replay_ledger(facts, {"scalp": PROFILE}).differences
    bands = {Reason.BAND_HALF, Reason.BAND_BELOW}
    changed = {answer.signal_id for answer in answers if not bands.isdisjoint(answer.reasons)}
    assert changed
    assert {one.signal_id for one in plain} == changed
