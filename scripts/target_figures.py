"""``python -m scripts.target_figures``: what heads should be told of a timeout, measured where the truth is known.

Walks between a stop at −1 R and a target at 2 R whose drift and volatility depend on six features, of which heads of
the forest and boosting kind learn: without timeouts, by the sign of the mark, or by shares of a win and a loss.
"""

from __future__ import annotations

from dataclasses import dataclass

import click
import numpy as np
from scipy.stats import rankdata

from learning.members import HeadSettings, fit_members
from learning.targets import Targets, targets
from signals.method import Method

HEADS = HeadSettings(forest_trees=60, forest_depth=6, boosting_trees=60)
STEPS, COST_R, FRESH, CHOOSING = 100, 0.05, 6_000, 2_000
WAYS = ("without timeouts", "sign of the mark", "shares")
WORLDS = {"timeouts like the rest": 0.0, "timeouts gain": 0.006, "timeouts lose": -0.006}
"""Drift a step of quiet signals, which seldom reach a barrier, beyond what their features say."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Features, whether the target was reached, whether any barrier was, and net R with timeouts at their marks."""

    features: np.ndarray[tuple[int, int], np.dtype[np.float64]]
    won: np.ndarray[tuple[int], np.dtype[np.bool_]]
    decisive: np.ndarray[tuple[int], np.dtype[np.bool_]]
    net_r: np.ndarray[tuple[int], np.dtype[np.float64]]


def drawn(rng: np.random.Generator, n: int, tilt: float) -> Drawn:
    """Walk ``n`` signals to a barrier or the deadline."""
    x = rng.normal(size=(n, 6))
    drift = 0.010 * x[:, 0] - 0.004 + 0.004 * x[:, 1] + np.where(x[:, 2] < 0.0, tilt, 0.0)
    step = 0.11 * np.exp(-0.25 + 0.5 * x[:, 2])
    at, won, lost = np.zeros(n), np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_)
    for _ in range(STEPS):
        going = ~(won | lost)
        at = np.where(going, at + drift + step * rng.normal(size=n), at)
        won |= going & (at >= 2.0)
        lost |= going & (at <= -1.0)
    gross = np.where(won, 2.0, np.where(lost, -1.0, at))
    return Drawn(x, won, won | lost, np.asarray(gross - COST_R, dtype=np.float64))


def told(world: Drawn, way: str) -> Targets:
    """What heads are told of a world."""
    weight = np.ones(len(world.won))
    if way == WAYS[0]:
        places = np.flatnonzero(world.decisive)
        return Targets(places, world.won[places], weight[places])
    method = Method.SPEC if way == WAYS[1] else Method.EVIDENCE
    return targets(world.won, world.decisive, world.net_r, [None] * len(weight), weight, method=method)


@click.command()
@click.option("--worlds", default=12, show_default=True)
@click.option("--signals", default=800, show_default=True)
def main(worlds: int, signals: int) -> None:
    """Compare three ways to tell heads of outcomes, on fresh signals of the same world."""
    click.echo(
        "| world | timeouts | heads are told | mean R a signal | rank correlation with R |\n|---|---|---|---|---|"
    )
    for number, (name, tilt) in enumerate(WORLDS.items()):
        value, rank, late = np.zeros((worlds, len(WAYS))), np.zeros((worlds, len(WAYS))), 0.0
        for place in range(worlds):
            rng = np.random.default_rng([place, number])
            known, fresh, choosing = (drawn(rng, n, tilt) for n in (signals, FRESH, CHOOSING))
            late += float(np.mean(~known.decisive)) / worlds
            for column, way in enumerate(WAYS):
                rows = told(known, way)
                heads = fit_members(
                    known.features[rows.place], rows.won, rows.weight, settings=HEADS, with_network=False, seed=1
                )
                score = heads.probabilities(fresh.features).mean(axis=1)
                # The same threshold rule for all: the best on signals that nobody learned from.
                tried = heads.probabilities(choosing.features).mean(axis=1)
                order = np.argsort(-tried)
                run = np.cumsum(choosing.net_r[order])
                best = int(np.argmax(run))
                limit = float(tried[order][best]) if run[best] > 0.0 else np.inf
                value[place, column] = float(np.where(score >= limit, fresh.net_r, 0.0).mean())
                rank[place, column] = float(np.corrcoef(rankdata(score), rankdata(fresh.net_r))[0, 1])
        for column, way in enumerate(WAYS):
            gain = value[:, column] - value[:, 0]
            error = float(gain.std(ddof=1)) / worlds**0.5
            more = "" if column == 0 else f" ({gain.mean():+.4f} ± {1.96 * error:.4f} over dropping)"
            click.echo(
                f"| {name} | {100 * late:.0f} % | {way} | {value[:, column].mean():.4f}{more} | "
                f"{rank[:, column].mean():.3f} |"
            )


if __name__ == "__main__":
    main()
