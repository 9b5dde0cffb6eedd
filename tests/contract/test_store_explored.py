"""The promise of a store, exploration: what was drawn against its score is held by every breaker and limit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from decision.decide import Action
from persistence.store import DecideCommand, Mode, Store
from signals.breaker import NO_BREAKERS
from signals.profile import Limits
from signals.reasons import Reason
from tests.support.stores import BELOW, PASSED, SECOND, T0, Backend, signal

NOW = T0 + SECOND
DOUBT = Reason.BREAKER_REGIME_CONFIDENCE


def drawn(name: str, **changes: object) -> DecideCommand:
    """A refusal that was drawn; the rules alone would have executed, at full size."""
    given = {
        "ensemble": True,
        "explored": True,
        "reasons": (Reason.SCORE_EXPLORED, BELOW),
        "alternative": Action.EXECUTE,
        "alternative_reasons": (PASSED,),
    }
    return signal(name, **(given | changes))


def test_nothing_against_it_and_it_executes(store: Store) -> None:
    decision = store.decide(drawn("a")).decision
    assert (decision.action, decision.reasons) == (Action.EXECUTE, (Reason.SCORE_EXPLORED, BELOW))


def test_where_the_rules_decide_it_is_not_theirs_to_execute(backend: Backend, store: Store) -> None:
    store.configure_breakers(replace(NO_BREAKERS, regime_confidence=0.6), now_ms=T0)
    decision = store.decide(drawn("a", confidence_micro=500_000)).decision
    assert (decision.action, decision.reasons) == (Action.PHANTOM, (DOUBT, Reason.SCORE_EXPLORED, BELOW))
    (fact,) = (fact for fact in backend.facts() if fact.kind == "decision")
    assert fact.fields["blocked"] == DOUBT.value
    # One that its score let through is the rules' to answer.
    plain = drawn("b", confidence_micro=500_000, explored=False, reasons=(PASSED,))
    assert store.decide(plain).decision.action is Action.EXECUTE


def test_without_the_model_the_rules_answer(store: Store) -> None:
    store.configure_breakers(replace(NO_BREAKERS, regime_confidence=0.6), now_ms=T0)
    store.set_mode(Mode.ML_OFF, actor="me", reason="", now_ms=NOW)
    decision = store.decide(drawn("a", confidence_micro=500_000)).decision
    assert decision.action is Action.EXECUTE
    assert Reason.SCORE_EXPLORED not in decision.reasons
    assert store.claim("a", "e1", now_ms=NOW) is not Reason.CLAIM_REVOKED


@pytest.mark.parametrize("mode", [Mode.HALT, Mode.ML_OFF])
def test_an_unclaimed_one_is_revoked(store: Store, mode: Mode) -> None:
    store.decide(drawn("a"))
    store.set_mode(mode, actor="me", reason="", now_ms=NOW)
    assert store.claim("a", "e1", now_ms=NOW) is Reason.CLAIM_REVOKED


def test_limits_hold_it_and_count_it(store: Store) -> None:
    one = Limits(open_positions=1)
    assert store.decide(drawn("a", limits=one)).decision.action is Action.EXECUTE
    held = store.decide(drawn("b", limits=one)).decision
    assert (held.action, held.reasons[0]) == (Action.PHANTOM, Reason.LIMIT_OPEN_POSITIONS)
