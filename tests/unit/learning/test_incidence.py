"""Cumulative incidence against tables worked by hand and the slow definition."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learning.incidence import CAUSES, Incidence, code_of, incidence, resampled_shares

IntArray = npt.NDArray[np.int64]
TWO = ("tp", "sl")


def made(*rows: tuple[int, int]) -> Incidence:
    """Of (life, code) pairs."""
    life, code = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    return incidence(life, code, TWO)


def test_a_table_worked_by_hand() -> None:
    # Five positions: target at 1, open at 2, stop at 3, target and stop both at 4.
    found = made((1, 1), (2, 0), (3, 2), (4, 1), (4, 2))
    assert (found.life_ms.tolist(), found.at_risk.tolist()) == ([1, 3, 4], [5, 3, 2])
    # S: 1, 4/5, 4/5·2/3 = 8/15. Targets: 1/5, then 8/15·1/2; stops: 4/5·1/3, then 8/15·1/2.
    assert found.share[0].tolist() == pytest.approx([1 / 5, 1 / 5, 1 / 5 + 4 / 15])
    assert found.share[1].tolist() == pytest.approx([0.0, 4 / 15, 8 / 15])
    assert [found.at("tp", life) for life in (0, 1, 3, 99)] == pytest.approx([0.0, 0.2, 0.2, 7 / 15])
    assert (found.open_at(0), found.open_at(3)) == pytest.approx((1.0, 8 / 15))
    assert found.open_at(4) == pytest.approx(0.0)
    assert (found.n, found.n_open) == (5, 1)


def test_one_minus_kaplan_meier_says_too_much() -> None:
    found = made((1, 1), (2, 2), (3, 1), (4, 2))
    # Targets with stops as censored: 1 − 3/4·1/2 = 5/8; of all four only two reached it.
    assert found.at("tp", 4) == pytest.approx(0.5)
    assert found.at("tp", 4) < 1.0 - 3 / 4 * 1 / 2


def naive(life: list[int], code: list[int], cause: int, at: int) -> float:
    """Aalen–Johansen spelled out: over ends up to ``at``, still open before times the share that ends so."""
    share, still = 0.0, 1.0
    for moment in sorted({one for one, kind in zip(life, code, strict=True) if kind > 0 and one <= at}):
        risk = sum(one >= moment for one in life)
        here = [kind for one, kind in zip(life, code, strict=True) if one == moment and kind > 0]
        share += still * here.count(cause) / risk
        still *= 1.0 - len(here) / risk
    return share


ROWS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=1, max_size=30)


@settings(max_examples=200, deadline=None)
@given(ROWS, st.integers(0, 13))
def test_it_is_its_definition(rows: list[tuple[int, int]], at: int) -> None:
    found, life, code = made(*rows), [one for one, _ in rows], [kind for _, kind in rows]
    for cause, name in enumerate(TWO, start=1):
        assert found.at(name, at) == pytest.approx(naive(life, code, cause, at), abs=1e-12)
        low, high = found.interval(name, at)
        assert 0.0 <= low <= found.at(name, at) + 1e-12
        assert found.at(name, at) <= high + 1e-12 <= 1.0 + 2e-12
    assert -1e-12 <= found.open_at(at) <= 1.0
    assert np.all(np.diff(found.share, axis=1) >= 0.0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 2)), min_size=2, max_size=40), st.integers(0, 12))
def test_without_open_positions_it_is_a_share_with_the_error_of_one(rows: list[tuple[int, int]], at: int) -> None:
    found, n = made(*rows), len(rows)
    place = int(np.searchsorted(found.life_ms, at, side="right")) - 1
    for cause, name in enumerate(TWO, start=1):
        share = sum(kind == cause and one <= at for one, kind in rows) / n
        assert found.at(name, at) == pytest.approx(share)
        # The last end of all leaves nobody at risk; the delta method then loses the terms that divide by them.
        if place >= 0 and found.at_risk[place] > sum(one == found.life_ms[place] for one, _ in rows):
            assert float(found.error[cause - 1, place]) == pytest.approx((share * (1 - share) / n) ** 0.5, abs=1e-9)


def test_a_resample_of_every_group_once_is_the_estimate() -> None:
    class Once:
        def integers(self, _low: int, _high: int, size: tuple[int, int]) -> IntArray:
            return np.tile(np.arange(size[1]), (size[0], 1))

    rng = np.random.default_rng(3)
    life, code = rng.integers(0, 9, 60), rng.integers(0, 3, 60)
    found = incidence(life, code, TWO)
    draws = resampled_shares(life, code, 2, np.arange(60), 7, rng=Once(), resamples=2)  # type: ignore[arg-type]
    assert draws[0].tolist() == pytest.approx([found.at("tp", 7), found.at("sl", 7)])
    spread = resampled_shares(life, code, 2, np.arange(60) // 6, 7, rng=rng, resamples=400)
    assert spread.mean(axis=0) == pytest.approx([found.at("tp", 7), found.at("sl", 7)], abs=0.03)


def test_words() -> None:
    assert [code_of(word) for word in ("tp", "sl", "timeout", "manual")] == [1, 2, 3, 4]
    assert CAUSES[code_of("manual") - 1] == "other"
    for life, code in (([-1], [1]), ([1], [3])):
        with pytest.raises(ValueError, match="lives are not negative"):
            made(*zip(life, code, strict=True))
    with pytest.raises(ValueError, match="one life"):
        incidence(np.array([1]), np.array([1, 1]), TWO)
    empty = incidence(np.array([], dtype=np.int64), np.array([], dtype=np.int64), TWO)
    assert (empty.at("tp", 5), empty.open_at(5), empty.n) == (0.0, 1.0, 0)
