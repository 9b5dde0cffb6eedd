"""Heads beside the score where the truth is known: silent on noise, speaking where there is something, and how near."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from lab.coverage.check import Check, Size, inside, rate
from learning.head_report import losses
from learning.head_rows import HeadRow
from learning.heads import HeadFit, MultiHead
from phantom.reach import HORIZON, Path
from scorer.heads import EXPECTED_RETURN, P_STOP
from scorer.schema import SCALP
from signals.profile import Kind

ITEM = 12
HOUR_MS = 3_600_000
NAMES = (EXPECTED_RETURN, P_STOP, "reach_1r_60_with")
TOLD_BY = "atr_pct"
"""The only feature that says anything, where anything is said."""
WEAK, PLAIN = 0.0, 0.6
FEW, ENOUGH = 400, 900


def study(size: Size, seed: int) -> Iterable[Check]:
    """Share of heads that speak on noise and where there is skill, and whether their return is what comes."""
    rng = np.random.default_rng([seed, 812])
    worlds = {Size.SMALL: (8, 3), Size.FULL: (330, 120)}[size]
    spoke = sum(
        report.served
        for _ in range(worlds[0])
        for report in MultiHead(HeadFit(names=NAMES), seed=_seed(rng)).fit(world(rng, FEW, WEAK), SCALP).reports_
    )
    yield rate(ITEM, "heads that speak on noise", spoke, worlds[0] * len(NAMES), high=0.05)
    found = 0
    spared, near = list[float](), list[bool]()
    for _ in range(worlds[1]):
        made = MultiHead(HeadFit(names=NAMES), seed=_seed(rng)).fit(world(rng, ENOUGH, PLAIN), SCALP)
        found += sum(report.served for report in made.reports_)
        told = _returns(made, world(rng, 1_500, PLAIN))
        if told is not None:
            spared.append(told[0])
            near.append(told[1])
    yield rate(ITEM, "heads that speak where there is skill", found, worlds[1] * len(NAMES), low=0.9)
    yield inside(
        ITEM, "squared error spared on fresh signals", float(np.mean(spared)) if spared else 0.0, low=0.0, n=len(spared)
    )
    yield rate(ITEM, "mean return within two standard errors, best fifth", sum(near), len(near), low=0.85)


def _returns(made: MultiHead, fresh: Sequence[HeadRow]) -> tuple[float, bool] | None:
    """Share of squared error that forecasts of fresh signals spare, and whether the best fifth's mean was as told."""
    if made.heads_ is None:
        return None
    told = [made.heads_.tell(SCALP.vector(row.features)) for row in fresh]
    said = np.array([np.nan if one is None else one.said.get(EXPECTED_RETURN, np.nan) for one in told])
    if not np.all(np.isfinite(said)):
        return None
    truth = np.array([row.net_r for row in fresh])
    error = np.array([one.error[EXPECTED_RETURN] for one in told if one is not None])
    best = np.argsort(said)[-len(said) // 5 :]
    # The fresh signals are a sample as well.
    chance = truth[best].std() / np.sqrt(len(best))
    distance = abs(float(truth[best].mean() - said[best].mean()))
    mean = np.full(len(truth), truth.mean())
    share = 1.0 - float(losses(said, truth, value=True).mean() / losses(mean, truth, value=True).mean())
    return share, distance <= 2.0 * float(np.hypot(error[best].mean(), chance))


def world(rng: np.random.Generator, n: int, edge: float) -> list[HeadRow]:
    """Hourly signals whose price goes ``edge`` standard deviations further for each one of a single feature."""
    rows = []
    numbers = rng.normal(size=(n, len(SCALP.numbers)))
    names = [feature.name for feature in SCALP.numbers]
    pull = edge * numbers[:, names.index(TOLD_BY)] + rng.normal(size=n)
    for place in range(n):
        moved, entry = float(pull[place]), place * HOUR_MS
        rows.append(
            HeadRow(
                id=f"s{place}",
                features={**dict(zip(names, numbers[place].tolist(), strict=True)), **_PLACE},
                kind=Kind.PHANTOM,
                ts=entry,
                entry_ms=entry,
                exit_ms=entry + 2 * HOUR_MS,
                net_r=max(-1.0, min(2.0, moved)),
                stopped=moved < -0.5,
                path=Path(HORIZON, entry, (20 if moved > 0.5 else 0, 0), (20 if moved < -0.5 else 0, 0)),
                path_ms=entry + 10 * HOUR_MS,
            )
        )
    return rows


_PLACE = {"session": "us", "volatility_regime": "low", "symbol_cluster": "x"}


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))
