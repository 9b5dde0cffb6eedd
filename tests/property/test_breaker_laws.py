"""Laws of the breakers: a tighter threshold never accepts more, whatever happened before."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from decision.decide import Action
from persistence.breakers import confidence_micro, latency_us, share, slip_micro, whole_limits
from persistence.memory_store import MemoryStore
from persistence.store import Store
from signals.breaker import NO_BREAKERS, Thresholds
from signals.reasons import Reason
from tests.support.stores import BELOW, HOUR, PASSED, UNLIMITED, in_memory, signal
from tests.support.stories import Author, begin

SMALLER_IS_TIGHTER = {
    "drawdown_r": (0.1, 6.0),
    "drawdown_percent": (0.1, 60.0),
    "losing_streak": (1, 8),
    "orders_per_second": (1, 5),
    "slippage_ratio": (0.1, 6.0),
    "latency_ms": (0.001, 0.1),
    "stale_periods": (1, 20),
}


def lived(seed: int) -> tuple[MemoryStore, int]:
    """A namespace with a past, breakers off."""
    backend = in_memory("t")
    now = begin(backend.store)
    for step in Author(seed).story(120):
        now += step.waits_ms
        step.run(backend.store, now)
    backend.store.configure_breakers(NO_BREAKERS, now_ms=now)
    # Off, they clear: what was tripped under other thresholds is not today's question.
    backend.store.decide(signal("clear", now_ms=now, signal_ms=now))
    if not isinstance(backend.store, MemoryStore):
        raise TypeError
    return backend.store, now


def pair(rng: np.random.Generator) -> tuple[Thresholds, Thresholds]:
    """A loose and a tight set, in everything at once; off is looser than anything."""
    loose, tight = {}, {}
    for name, (low, high) in SMALLER_IS_TIGHTER.items():
        whole = isinstance(low, int)
        one, other = sorted(float(value) for value in rng.uniform(low, high, 2))
        tight[name] = float(np.ceil(one)) if whole else one
        loose[name] = 0.0 if rng.random() < 0.2 else float(np.ceil(other)) if whole else other
    one, other = sorted(float(value) for value in rng.uniform(0.0, 1.0, 2))
    loose["regime_confidence"], tight["regime_confidence"] = one, other
    both = {"starting_equity": float(rng.choice([0.0, 500.0])), "watch_every_s": 60}
    return Thresholds(**loose, **both), Thresholds(**tight, **both)  # type: ignore[arg-type]


def outcomes(store: Store, thresholds: Thresholds, now: int, rng: np.random.Generator) -> list[tuple[Action, Reason]]:
    """Answers and claims of a few signals put to a copy of a past."""
    copy = deepcopy(store)
    copy.configure_breakers(thresholds, now_ms=now)
    found = []
    for number in range(4):
        alternative = Action.EXECUTE if rng.random() < 0.5 else Action.PHANTOM
        command = signal(
            f"new{number}",
            now_ms=now,
            signal_ms=now,
            deadline_ms=now + HOUR,
            ensemble=bool(rng.random() < 0.6),
            alternative=alternative,
            alternative_reasons=(PASSED if alternative is Action.EXECUTE else BELOW,),
            confidence_micro=int(rng.integers(0, 1_000_001)),
            limits=UNLIMITED,
        )
        # Each signal is asked of the same past: a taken one changes what the next may do.
        fresh = deepcopy(copy)
        action = fresh.decide(command).decision.action
        found.append((action, fresh.claim(command.signal_id, "e1", now_ms=now)))
    return found


@pytest.mark.parametrize("seed", range(40))
def test_a_tighter_threshold_never_accepts_more(seed: int) -> None:
    store, now = lived(seed)
    rng = np.random.default_rng(seed)
    for _ in range(10):
        loose, tight = pair(rng)
        draws = int(rng.integers(1 << 30))
        few = outcomes(store, tight, now, np.random.default_rng(draws))
        many = outcomes(store, loose, now, np.random.default_rng(draws))
        for (tight_action, tight_go), (loose_action, loose_go) in zip(few, many, strict=True):
            if tight_action is Action.EXECUTE:
                assert loose_action is Action.EXECUTE
            if tight_go is Reason.CLAIM_GO:
                assert loose_go is Reason.CLAIM_GO


def test_the_law_is_tried_on_both_answers() -> None:
    counted = {True: 0, False: 0}
    for seed in range(12):
        store, now = lived(seed)
        rng = np.random.default_rng(seed)
        loose, tight = pair(rng)
        for action, _ in (*outcomes(store, loose, now, rng), *outcomes(store, tight, now, rng)):
            counted[action is Action.EXECUTE] += 1
    assert min(counted.values()) > 5, counted


def test_every_threshold_is_in_the_law() -> None:
    apart = {"starting_equity", "slippage_floor_r", "watch_every_s", "regime_confidence"}
    assert {field.name for field in fields(Thresholds)} == set(SMALLER_IS_TIGHTER) | apart


@pytest.mark.parametrize("seed", range(5))
def test_a_share_is_exact(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for amount, ratio in zip(rng.integers(0, 1 << 52, 200), rng.integers(0, 1_000_001, 200), strict=True):
        exact = share(int(amount), int(ratio))
        assert exact * 1_000_000 <= int(amount) * int(ratio) < (exact + 1) * 1_000_000


def test_no_measure_that_is_no_number_lowers_risk() -> None:
    for bad in (float("nan"), float("inf"), -1.0, -float("inf")):
        assert latency_us(bad) > latency_us(60_000.0)
    assert slip_micro(float("nan")) == slip_micro(float("inf")) == slip_micro(1e300) > slip_micro(1e5)


def tiny_threshold(name: str) -> dict[str, Any]:
    return {name: 1e-12}


@pytest.mark.parametrize("name", [*SMALLER_IS_TIGHTER, "regime_confidence", "slippage_floor_r", "starting_equity"])
def test_no_threshold_that_is_set_is_rounded_off(name: str) -> None:
    off, tiny = whole_limits(NO_BREAKERS), whole_limits(replace(NO_BREAKERS, **tiny_threshold(name)))
    assert sum(off.values()) - off["watch"] == 0
    assert sum(tiny.values()) - tiny["watch"] == 1


def test_no_confidence_is_rounded_up() -> None:
    limit = whole_limits(replace(NO_BREAKERS, regime_confidence=0.6))["confidence"]
    for sent, below in ((0.6, False), (0.6 - 1e-12, True), (0.599_999_9, True), (0.600_000_1, False), (0.0, True)):
        assert (confidence_micro(sent) < limit) is below, sent
    assert all(confidence_micro(step / 100) == step * 10_000 for step in range(101))
