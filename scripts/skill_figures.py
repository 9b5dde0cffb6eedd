"""``python -m scripts.skill_figures``: the specified ensemble, that of the evidence and all their heads, out of sample.

In a simulated market of little, drifting signal (``lab.coverage.skill``): Brier skill over the base rate of the next
ten thousand outcomes and AUC, before calibration and without the gate, as means over worlds with a 90 % interval.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table
from scipy.stats import t as student
from threadpoolctl import threadpool_limits

from lab.coverage.skill import NEXT_ROWS, World, judged, low_signal_world
from learning.example import Example
from learning.fit import FitSettings
from learning.members import fit_members, members_of, seed_for
from learning.metrics import Metrics, auc, measure
from scorer.encoding import Encoding
from scorer.schema import TREND
from scripts.learning import console
from signals.method import Method

SIZES = {500: 8, 2_000: 4, 10_000: 3}
"""Outcomes to learn from, and how many worlds of that size are drawn."""
SEED = 20_240_101


def specified(given: Sequence[Example], later: Sequence[Example]) -> dict[str, Metrics]:
    """The specified ensemble and its heads on later rows; only the final heads are trained, nothing is gated."""
    vectors = [TREND.vector(example.features) for example in given]
    encoding, settings = Encoding.fit(TREND, vectors), FitSettings()
    with_network = len(given) >= settings.network_from
    with threadpool_limits(limits=1):
        members = fit_members(
            encoding.matrix(vectors),
            np.array([example.won for example in given]),
            np.array([example.weight for example in given]),
            settings=settings.heads,
            with_network=with_network,
            seed=seed_for(SEED, "final"),
        )
    said = members.probabilities(encoding.matrix([TREND.vector(example.features) for example in later]))
    won = np.array([example.won for example in later])
    names = members_of(Method.SPEC, with_network=with_network)
    alone = {f"spec: {name}": measure(said[:, place], won) for place, name in enumerate(names)}
    return {"spec: mean of its heads": measure(said.mean(axis=1), won), **alone}


def by_evidence(given: Sequence[Example], later: Sequence[Example]) -> dict[str, Metrics]:
    """The ensemble by evidence and its heads on the same rows."""
    whole, alone = judged(given, later, Method.EVIDENCE, seed=SEED)
    return {"evidence: stacked and shrunk": whole, **{f"evidence: {name}": one for name, one in alone.items()}}


def figures(n: int, worlds: int, seed: int) -> dict[str, dict[str, object]]:
    """Mean skill in percent with its interval, and mean AUC, of every way over worlds of one size."""
    found: dict[str, list[Metrics]] = {}
    best: list[float] = []
    for number in range(worlds):
        world: World = low_signal_world(n + NEXT_ROWS, np.random.default_rng((seed, n, number)))
        given, later = world.examples[:n], world.examples[n:]
        best.append(auc(world.truth[n:], np.array([one.won for one in later])) or 0.5)
        for name, one in {**specified(given, later), **by_evidence(given, later)}.items():
            found.setdefault(name, []).append(one)
    rows = {name: _row([one.brier_skill for one in ones], [one.auc for one in ones]) for name, ones in found.items()}
    return {**rows, "truth": {"worlds": worlds, "auc": float(np.mean(best))}}


def _row(skills: list[float], aucs: list[float | None]) -> dict[str, object]:
    n, mean = len(skills), 100.0 * float(np.mean(skills))
    reach = 100.0 * float(student.ppf(0.95, n - 1) * np.std(skills, ddof=1) / np.sqrt(n)) if n > 1 else float("inf")
    known = [0.5 if value is None else value for value in aucs]
    return {"worlds": n, "skill_pct": mean, "low": mean - reach, "high": mean + reach, "auc": float(np.mean(known))}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seed", default=SEED, show_default=True, help="Of the worlds.")
@click.option("--size", "sizes", type=click.Choice([str(n) for n in SIZES]), multiple=True, help="One size alone.")
@click.option("--json", "into", type=click.Path(path_type=Path), help="Every digit to a file.")
def main(seed: int, sizes: tuple[str, ...], into: Path | None) -> None:
    """Print skill and AUC of every ensemble and head."""
    told = {n: figures(n, worlds, seed) for n, worlds in SIZES.items() if not sizes or str(n) in sizes}
    for n, rows in told.items():
        table = Table("forecast", "worlds", "skill %", "90 %", "AUC", box=SIMPLE_HEAD, title=f"{n} outcomes")
        for name, row in rows.items():
            spread = f"{row['low']:+.1f} to {row['high']:+.1f}" if "low" in row else "–"
            skill = f"{row['skill_pct']:+.1f}" if "skill_pct" in row else "–"
            table.add_row(name, str(row["worlds"]), skill, spread, f"{row['auc']:.3f}")
        console().print(table)
    if into is not None:
        into.write_text(json.dumps(told, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
