"""``penumbra coverage``: simulations with known truth to a page, a table, and an exit status."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

import click
from rich.console import Console

from lab.coverage.check import Check, Size
from lab.coverage.measured import Coverage, measure_coverage
from lab.coverage.page import bounds, figure, verdict, write_coverage
from lab.coverage.studies import Subject, chosen
from lab.tables import add_row, titled_table
from runtime.chance import secret_bytes
from scripts.learning import console

SEED_BYTES = 4
BROKEN = 1


def run_coverage(
    items: Sequence[int], *, full: bool, seed: int, fresh: bool, jobs: int, out: Path, as_json: bool
) -> int:
    """Measure, print, and write the page; 0 when every check holds."""
    subjects = chosen(items)
    drawn = int.from_bytes(secret_bytes(SEED_BYTES), "big") if fresh else seed
    progress = Console(stderr=True)
    size = Size.FULL if full else Size.SMALL
    progress.print(f"{len(subjects)} studies, {size.value}, seed {drawn}", highlight=False)
    started = monotonic()

    def told(subject: Subject, checks: tuple[Check, ...]) -> None:
        held = sum(check.holds for check in checks)
        progress.print(
            f"{subject.item:>2}. {subject.name}: {held} of {len(checks)} hold, {monotonic() - started:.0f} s",
            highlight=False,
            markup=False,
        )

    coverage = measure_coverage(subjects, size, drawn, jobs=jobs, told=told)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_coverage(coverage, out)
    if as_json:
        click.echo(json.dumps(coverage.record, indent=2))
    else:
        print_coverage(coverage, console())
    progress.print(f"page {out}", highlight=False)
    return 0 if coverage.holds else BROKEN


def print_coverage(coverage: Coverage, console: Console) -> None:
    """Every check as a row."""
    table = titled_table(verdict(coverage), "promise", "check", "measured", "95 %", "band", "n", "holds")
    for finding in coverage.findings:
        for check in finding.checks:
            add_row(
                table,
                f"{check.item}. {finding.name}",
                check.name,
                figure(check.measured),
                bounds(check),
                check.band,
                f"{check.n:,}",
                "yes" if check.holds else "NO",
                style="" if check.holds else "bold red",
            )
    console.print(table)
