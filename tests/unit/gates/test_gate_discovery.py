"""Discovery: the pipeline by filters, noise that is found at most as often as said, and a pair that is there."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gates.bits import Packed
from gates.combinations import combinations_of, ranked, solos_of
from gates.discovery import DAY_MS, MaxT, Pipeline, TimeOrdered, max_t, shift_sizes
from gates.evaluate import Verdicts
from gates.intervals import pooled_z
from gates.variables import VARIABLES

NAMES = tuple(variable.name for variable in VARIABLES)


def world(
    n: int, seed: int, *, pair: float = 0.0, together: float = 0.0, missing: float = 0.0
) -> tuple[Verdicts, np.ndarray, np.ndarray]:
    """Ten signals a day; outcomes hang together by ``together``; the first two variables share ``pair`` points."""
    rng = np.random.default_rng(seed)
    passed = rng.normal(size=(28, n)) < rng.uniform(-0.6, 0.6, size=(28, 1))
    known = rng.random((28, n)) >= missing
    noise, latent = rng.normal(size=n), np.zeros(n)
    for place in range(n):
        before = latent[place - 1] if place > 0 else 0.0
        latent[place] = together * before + math.sqrt(1.0 - together**2) * noise[place]
    share = np.array([0.5 * math.erfc(-value / math.sqrt(2.0)) for value in latent])
    won = share < 0.45 + pair * (passed[0] & passed[1])
    at_ms = np.arange(n, dtype=np.int64) * (DAY_MS // 10)
    return Verdicts(NAMES, passed & known, known), won, at_ms


def searched(n: int, seed: int, shifts: int = 100, **kind: float) -> MaxT:
    trades = TimeOrdered.of(*world(n, seed, **kind))
    return max_t(Pipeline(trades), rng=np.random.default_rng(seed), shifts=shifts)


@pytest.mark.parametrize("missing", [0.0, 0.15])
@pytest.mark.parametrize("top", [10, None])
def test_the_pipeline_looks_where_the_report_looks(missing: float, top: int | None) -> None:
    told, won, at_ms = world(400, 3, missing=missing)
    looked = Pipeline(TimeOrdered.of(told, won, at_ms), top=top).look(won)
    packed = Packed.of(told, won)
    solos = solos_of(packed)
    names = NAMES if top is None else ranked(solos)[:top]
    wanted: list[tuple[str, ...]] = [(solo.name,) for solo in solos]
    wanted += [item.members for item in combinations_of(packed, VARIABLES, solos, names)]
    assert [tuple(NAMES[place] for place in row if place >= 0) for row in looked.members.tolist()] == wanted
    for row, z in zip(looked.members.tolist(), looked.z.tolist(), strict=True):
        chosen = [place for place in row if place >= 0]
        passing, known = told.passed[chosen].all(axis=0), told.known[chosen].all(axis=0)
        failing = known & ~passing
        if min(passing.sum(), failing.sum()) < 20:
            assert math.isnan(z)
            continue
        counts = (won[passing].sum(), passing.sum(), won[failing].sum(), failing.sum())
        assert z == pytest.approx(float(pooled_z(*(np.array([count]) for count in counts))[0]))


def test_noise_is_seldom_a_discovery() -> None:
    # 40 worlds at 5 %: more than 7 would happen once in five hundred times.
    assert sum(float(np.nanmin(searched(300, seed).p)) < 0.05 for seed in range(40)) <= 7


def test_noise_that_hangs_together_is_seldom_a_discovery() -> None:
    assert sum(float(np.nanmin(searched(300, seed, together=0.5).p)) < 0.05 for seed in range(40)) <= 7


def test_a_pair_that_is_there_is_found() -> None:
    found = 0
    for seed in range(12):
        told = searched(1_000, seed, pair=0.18)
        hits = told.looked.members[told.p < 0.05]
        found += any({place for place in row if place >= 0} == {0, 1} for row in hits.tolist())
    # Power about .65: fewer than 3 of 12 would happen once in five hundred times.
    assert found >= 3


def test_a_shift_moves_every_outcome_by_a_day() -> None:
    at_ms = np.sort(np.random.default_rng(1).integers(0, 20 * DAY_MS, size=300))
    sizes = shift_sizes(at_ms, 1_000, np.random.default_rng(0))
    assert len(sizes) == len(set(sizes.tolist())) > 100
    for size in sizes.tolist():
        moved = at_ms[np.roll(np.arange(300), size)]
        ahead, behind = at_ms[size:] - moved[size:], moved[:size] - at_ms[:size]
        assert min(int(ahead.min()), int(behind.min())) >= DAY_MS


@pytest.mark.parametrize(("n", "apart_ms"), [(0, 1), (1, 1), (50, 1_000)])
def test_too_short_a_time_finds_nothing(n: int, apart_ms: int) -> None:
    rng = np.random.default_rng(2)
    passed = rng.random((28, n)) < 0.5
    won = passed[0].copy()
    trades = TimeOrdered.of(Verdicts(NAMES, passed, np.ones_like(passed)), won, np.arange(n, dtype=np.int64) * apart_ms)
    told = max_t(Pipeline(trades), rng=rng)
    assert told.shifts == 0
    assert told.floor == 1.0
    assert all(math.isnan(p) or p == 1.0 for p in told.p.tolist())


def test_the_same_seed_gives_the_same_p() -> None:
    assert np.array_equal(searched(400, 5).p, searched(400, 5).p, equal_nan=True)


def test_no_p_lies_below_what_the_shifts_can_show() -> None:
    told = searched(1_000, 1, pair=0.5, shifts=50)
    assert float(np.nanmin(told.p)) == told.floor == 1 / 51


def test_time_must_not_run_backwards() -> None:
    told, won, at_ms = world(50, 1)
    with pytest.raises(ValueError, match="order of time"):
        TimeOrdered.of(told, won, at_ms[::-1].copy())
