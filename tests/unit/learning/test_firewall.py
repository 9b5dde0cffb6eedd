"""What the firewall lets through and what it names, row by row and column by column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from learning.example import Example
from learning.firewall import (
    Columns,
    Leaked,
    auc_alone,
    changed_vectors,
    guard,
    late_values,
    leaks_of,
    refuse,
    telltale_columns,
    unknown_columns,
)
from learning.fit import Candidate, fit_candidate
from learning.metrics import Metrics
from learning.promote import Decline, Declined
from scorer.schema import EXIT_NAMES, SCALP, Feature, Schema
from signals.leak import Leak
from signals.reasons import Reason
from tests.support.lessons import MINUTE_MS, SMALL, lessons

N = 40
RNG = np.random.default_rng(5)
WON = np.arange(N) % 3 == 0
NET_R = np.where(WON, RNG.gamma(4.0, 0.4, N), -RNG.gamma(9.0, 0.11, N))
NOISE = RNG.standard_normal(N)


def told(values: Sequence[float | None] | np.ndarray[Any, Any]) -> str:
    columns = Columns({"x": np.array(values, dtype=np.float64)}, {})
    found = telltale_columns(columns, WON, NET_R)
    assert all((leak.feature, leak.reason) == ("x", Reason.LEAK_SUSPECT) for leak in found)
    return found[0].detail if found else ""


@pytest.mark.parametrize(
    ("values", "why"),
    [
        pytest.param(NOISE, "", id="noise"),
        pytest.param(np.full(N, 3.0), "", id="a constant"),
        pytest.param(np.full(N, np.nan), "", id="never there"),
        pytest.param(WON.astype(float), "separates all 40", id="the label"),
        pytest.param(-7.0 * WON, "separates all 40", id="the label turned"),
        pytest.param(np.exp(NET_R), "separates all 40", id="a monotone function of the result"),
        pytest.param(np.where(NOISE > 1.5, np.nan, WON), "separates all", id="the label with holes"),
        pytest.param(np.where(WON, NOISE, np.nan), "absence alone", id="there on wins only"),
        pytest.param(np.where(WON, np.nan, 1.0), "absence alone", id="there on losses only"),
        pytest.param(np.where(WON, 5.0, np.where(np.arange(N) % 2 == 0, 4.0, 6.0)), "each of its 3 values",
                     id="a function of the outcome that is not monotone"),
        pytest.param(NOISE + 2.0 * WON, "", id="as good as a very good feature: it passes"),
    ],
)  # fmt: skip
def test_a_column_that_gives_the_outcome_away(values: np.ndarray[Any, Any], why: str) -> None:
    assert (why in told(values)) if why else (told(values) == "")


def test_one_exception_does_not_hide_the_label() -> None:
    # 13 wins, 27 losses, one loss above all wins: 13 of 351 pairs are wrong.
    hidden = np.where(WON, 1.0, 0.0) + 0.001 * NOISE
    hidden[1] = 2.0
    assert told(hidden) == ""
    many = np.tile(WON, 20)
    columns = Columns({"x": np.where(many, 1.0, 0.0) + 0.001 * np.arange(len(many))}, {})
    columns.numbers["x"][1] = 5.0
    (leak,) = telltale_columns(columns, many, np.tile(NET_R, 20))
    assert "AUC 0.99" in leak.detail


def test_the_rank_of_the_result_where_all_won_or_lost_by_little() -> None:
    # Breakeven stops lose nothing and count as losses: the result does not separate, and is still the result.
    rng = np.random.default_rng(3)
    result = rng.standard_normal(200)
    won = (result > 0.0) ^ (rng.random(200) < 0.08)
    (leak,) = telltale_columns(Columns({"x": result**3}, {}), won, result)
    assert "rank correlation +1.0000" in leak.detail


def test_below_twenty_rows_nothing_is_suspected() -> None:
    for rows, found in ((19, 0), (20, 1)):
        won = np.arange(rows) % 2 == 0
        columns = Columns({"x": won.astype(float)}, {"w": ["a" if one else "b" for one in won]})
        leaks = telltale_columns(columns, won, np.where(won, 1.0, -1.0))
        assert len(leaks) == 2 * found


def test_words_of_many_kinds_are_pure_by_luck() -> None:
    each_its_own = [f"w{place}" for place in range(N)]
    by_outcome = ["up" if one else None for one in WON]
    columns = Columns({}, {"each": each_its_own, "said": by_outcome})
    assert [leak.feature for leak in telltale_columns(columns, WON, NET_R)] == ["said"]


@pytest.mark.parametrize(("values", "auc"), [(WON * 1.0, 1.0), (WON * -1.0, 0.0), (np.ones(N), 0.5)])
def test_auc_of_one_column(values: np.ndarray[Any, Any], auc: float) -> None:
    assert auc_alone(values, WON) == auc
    assert auc_alone(values[:19], WON[:19]) is None
    assert auc_alone(values, np.ones(N, dtype=np.bool_)) is None


@pytest.mark.parametrize("name", EXIT_NAMES)
def test_columns_of_the_exit_are_refused_by_name(name: str) -> None:
    (leak,) = unknown_columns((*SCALP.names, name, name), SCALP)
    assert leak == Leak(feature=name, reason=Reason.LEAK_EXIT_ONLY, known="at the exit")
    with pytest.raises(Leaked, match=f"{name}.*is known at the exit, but needed at the decision"):
        refuse((leak,))


def test_columns_that_nobody_declared_are_refused() -> None:
    (leak,) = unknown_columns(("atr_pct", "tomorrow"), SCALP)
    assert (leak.feature, leak.reason) == ("tomorrow", Reason.LEAK_UNKNOWN_COLUMN)
    assert unknown_columns(SCALP.names, SCALP) == ()
    refuse(())


def stamped(example: Example, **late_ms: int) -> Example:
    stamps = {f"{name}_known_ms": example.ts + late for name, late in late_ms.items()}
    return replace(example, features={**example.features, **stamps})


def test_late_values_say_which_when_and_how_many() -> None:
    given = lessons(4)
    late = [stamped(given[0], atr_pct=5, body_ratio=9), stamped(given[1], atr_pct=1_500), stamped(given[2], atr_pct=0)]
    (leak,) = late_values([*late, given[3]], SCALP)
    assert (leak.feature, leak.reason) == ("atr_pct", Reason.LEAK_LATE)
    assert leak.detail == "1,500 ms too late; 2 rows"
    assert leak.known > leak.needed
    assert late_values(given, SCALP) == ()


def hashed(example: Example) -> Example:
    return replace(example, vector_hash=SCALP.vector_hash(SCALP.vector(example.features)))


def vectors(given: Sequence[Example]) -> list[Any]:
    return [SCALP.vector(example.features) for example in given]


def test_changed_rows_are_counted_and_named() -> None:
    given = [hashed(example) for example in lessons(6)]
    assert changed_vectors(given, vectors(given), SCALP) == ()
    # One was changed after its decision; one has no hash, one that of another schema: neither proves anything.
    changed = [
        replace(given[0], features={**given[0].features, "atr_pct": 9.0}),
        replace(given[1], vector_hash=None, features={}),
        replace(given[2], vector_hash="01760b24:00", features={}),
        *given[3:],
    ]
    (leak,) = changed_vectors(changed, vectors(changed), SCALP)
    assert (leak.reason, leak.feature) == (Reason.LEAK_REBUILT, "vector")
    assert leak.detail == "1 of 4 rows hold other features than their decisions saw: s00000"


def test_an_honest_set_passes() -> None:
    given = [hashed(example) for example in lessons(60)]
    guard(given, vectors(given), SCALP)
    guard([], [], SCALP)
    assert leaks_of(given, vectors(given), SCALP) == ()


def test_a_leak_as_young_as_the_newest_rows_is_seen() -> None:
    given = lessons(300)
    engine = [
        replace(one, features={**one.features, "volume_ratio": one.won + 0.001 * place})
        for place, one in enumerate(given[-100:])
    ]
    mixed = [*given[:-100], *engine]
    (leak,) = leaks_of(mixed, vectors(mixed), SCALP)
    assert (leak.feature, leak.detail) == ("volume_ratio", "among the newest, it alone separates all 100 outcomes")
    # Two values among 200 others: each of them goes with one outcome a hundred times, which is no luck.
    plain = [replace(one, features={**one.features, "volume_ratio": float(one.won)}) for one in given[:100]]
    mixed = [*plain, *given[100:]]
    (leak,) = leaks_of(mixed, vectors(mixed), SCALP)
    assert leak.detail == "each of its 202 values goes with one outcome only, over 300 rows"


# --- the end of a fit

POISONED = Schema("scalp", 2, (*SCALP.features, Feature(name="inside")))


def poisoned(make: Callable[[Example], float]) -> list[Example]:
    return [replace(one, features={**one.features, "inside": make(one)}) for one in lessons(120, edge=3.0)]


@pytest.mark.parametrize(
    ("make", "code"),
    [
        pytest.param(lambda one: float(one.won), Decline.LEAK_SUSPECT, id="poison"),
        pytest.param(lambda one: 2.0 - one.net_r, Decline.LEAK_SUSPECT, id="the result turned"),
        pytest.param(lambda one: float(int(one.id[1:]) % 7), None, id="something else"),
    ],
)
def test_a_poisoned_fit_is_declined_by_the_columns_name(make: Callable[[Example], float], code: Decline | None) -> None:
    found = fit_candidate(poisoned(make), POISONED, seed=1, settings=SMALL)
    if code is None:
        assert isinstance(found, Candidate)
    else:
        assert isinstance(found, Declined)
        assert found.code is code
        assert found.detail.startswith(
            "inside (LEAK_SUSPECT) is known with the outcome, by all appearances, but needed"
        )
        assert len(found.detail) < 256


def test_late_and_changed_rows_end_a_fit() -> None:
    given = [hashed(example) for example in lessons(60, edge=3.0)]
    assert isinstance(fit_candidate(given, SCALP, seed=1, settings=SMALL), Candidate)
    late = fit_candidate([stamped(given[0], rsi=9), stamped(given[1], atr_pct=1), *given[2:]], SCALP, seed=1)
    assert isinstance(late, Declined)
    assert (late.code, late.detail[:20]) == (Decline.LEAK, "atr_pct (LEAK_LATE) ")
    other = replace(given[0], features={**given[0].features, "volume_ratio": 0.125})
    changed = fit_candidate([other, *given[1:]], SCALP, seed=1)
    assert isinstance(changed, Declined)
    assert (changed.code, "s00000" in changed.detail) == (Decline.REBUILT, True)


def test_what_is_certain_names_the_decline() -> None:
    leaks = [Leak(feature="a", reason=reason, known="later") for reason in (Reason.LEAK_SUSPECT, Reason.LEAK_REBUILT)]
    assert Leaked(leaks).declined.code is Decline.LEAK
    assert Leaked(leaks[:1]).declined.code is Decline.LEAK_SUSPECT
    assert Leaked(leaks[1:]).declined.code is Decline.REBUILT


def test_random_labels_teach_nothing() -> None:
    measured: list[float] = []

    def look(metrics: Metrics) -> Declined | None:
        assert metrics.auc is not None
        measured.append(metrics.auc)
        return Declined(Decline.AUC, "looked at")

    for seed in range(6):
        # Twenty labels are alive at any time, as if a trade were opened with every bar and held for twenty.
        overlapping = lessons(200, edge=0.0, seed=seed, apart_ms=MINUTE_MS // 2)
        fit_candidate(overlapping, SCALP, seed=seed, settings=SMALL, rule=look)
    assert len(measured) == 6
    assert 0.45 <= float(np.mean(measured)) <= 0.55
