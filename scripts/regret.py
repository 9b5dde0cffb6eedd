"""Print what thresholds cost against the best ones: five worlds whose truth is known, four amounts of records."""

from __future__ import annotations

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table

from lab.coverage.thresholds import SIZES, STATIC, regret_table, regrets
from lab.coverage.worlds import World
from scripts.learning import console

HEADINGS = (
    "world",
    "n per bucket",
    "oracle, R/signal",
    f"static {STATIC}",
    "seed",
    "evidence",
    "evidence/seed",
    "± 1 se",
)


@click.command()
@click.option("--replications", default=150, show_default=True, help="worlds drawn for each line")
@click.option("--seed", default=1, show_default=True)
@click.option(
    "--world",
    "worlds",
    type=click.Choice([world.value for world in World]),
    multiple=True,
    help="all, if none is given",
)
def main(replications: int, seed: int, worlds: tuple[str, ...]) -> None:
    """Print regret in percent of what the best thresholds between 40 and 90 earn, per signal of 16 buckets."""
    table = Table(
        *HEADINGS, box=SIMPLE_HEAD, title=f"regret, % of oracle EV ({replications} worlds a line, seed {seed})"
    )
    for world in worlds or tuple(World):
        cells = [regrets(World(world), n, replications, seed) for n in SIZES]
        for line in regret_table(cells):
            table.add_row(*line)
    console().print(table)


if __name__ == "__main__":
    main()
