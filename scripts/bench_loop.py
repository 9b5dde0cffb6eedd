"""``penumbra bench loop``: what a turn of the learning loop costs, from an outcome to the next decision."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import click

from scripts import bench, bench_fit, bench_path, bench_serving
from signals.errors import Permanent

SIZES = (100, 300, 1_000, 3_000)
FEWEST = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopOptions:
    """What the command line said. Sizes and boundary in decisive outcomes."""

    sizes: tuple[int, ...] = SIZES
    boundary: int = 100
    rounds: int = 5
    repeats: int = 200
    launches: int = 5
    as_json: bool = False


def sizes_from(text: str) -> tuple[int, ...]:
    """Sizes as they are written on the command line."""
    parts = [part.strip().replace("_", "") for part in text.split(",")]
    sizes = tuple(int(part) for part in parts if part.isdecimal())
    if len(sizes) != len(parts) or min(sizes, default=0) < FEWEST:
        raise Permanent(f"--sizes: whole numbers from {FEWEST}, comma-separated, not {text!r}")
    return sizes


def run_loop(options: LoopOptions) -> list[bench.Row]:
    """Measure, print, and fail where two sides do not say the same."""
    if not options.as_json:
        click.echo(bench.machine_line())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = folder / "bundle"
        # The path first: nothing else has warmed or filled this process yet.
        path = bench_path.measure(folder, boundary=options.boundary, rounds=options.rounds)
        fits = [row for size in options.sizes for row in bench_fit.measure(size, repeats=options.repeats, keep=bundle)]
        serving = bench_serving.measure(bundle, options.sizes[-1], launches=options.launches)
    rows = [*fits, *serving, *path]
    if options.as_json:
        bench.echo(rows)
    else:
        bench.show(rows, "the learning loop; sizes in decisive outcomes, less is better")
    bench.require_agreement(rows)
    return rows
