"""``penumbra heads``: what could have been forecast beside the win, walking forward over candle files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from lab.replay import Replay
from learning.head_report import Comparison, HeadReport, compare_ablations
from learning.head_rows import HeadRow, head_rows
from learning.heads import ablation_reports
from market.reference_strategies import OpenGuard
from runtime.follow import VOLATILITY_TIMEFRAMES, Ended
from runtime.settings import Settings
from scorer.schema import SCHEMAS, Ablation, Schema
from scripts.learning import console as wide
from scripts.sources import profile_for, read_series, strategy_settings, strategy_signals
from signals.signal import Signal
from signals.timeday import iso_utc

COSTS_BPS = 10.0
"""Of the expected return: the cost the verdicts of every report are read at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadsOptions:
    """What the command line said."""

    paths: tuple[Path, ...]
    strategy: str
    timeframe: str | None = None
    ablation: Ablation = Ablation.FULL
    costs_bps: float = COSTS_BPS
    seed: int = 1
    as_json: bool = False


def run_heads(options: HeadsOptions) -> dict[str, Any]:
    """Replay, fit every head under every ablation, print what each was worth."""
    console = Console(stderr=True)
    rows, schema = rows_of(options, console)
    reports = ablation_reports(rows, schema, seed=options.seed)
    found = {
        "strategy": options.strategy,
        "rows": len(rows),
        "paths": sum(row.path is not None for row in rows),
        "costs_bps": options.costs_bps,
        "ablation": options.ablation.value,
        "heads": [report.record for report in reports[options.ablation]],
        "ablations": [one.record for one in compare_ablations(reports)],
    }
    if options.as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        print_heads(reports[options.ablation], wide())
        print_comparisons(compare_ablations(reports), wide())
    return found


def rows_of(options: HeadsOptions, console: Console) -> tuple[list[HeadRow], Schema]:
    """Every signal of the strategy that entered, timeouts too, with the path after it, by the live code."""
    series = read_series(options.paths)
    settings = strategy_settings(options.strategy, options.timeframe)
    profile = profile_for(Settings.load().profile(options.strategy), series)
    signals = strategy_signals(options.strategy, series, settings)
    console.print(f"{len(signals)} proposals on {series.candle_count:,} candles of {len(series.symbols)} symbols")
    guard, ended = OpenGuard(), list[dict[str, Any]]()

    def keep(end: Ended) -> None:
        result = dict(end.result)
        if end.closed.entered:
            result["net_r"] = end.closed.net_r(options.costs_bps)
        ended.append(result)

    def admit(signal: Signal) -> bool:
        return guard.admit(signal) if settings.one_open else True

    replay = Replay(
        profile,
        admit=admit,
        on_end=guard.closed,
        on_ended=keep,
        volatility_timeframes=tuple(name for name in VOLATILITY_TIMEFRAMES if name == settings.timeframe),
    )
    replay.run(series.tracking, signals, finer=series.finer)
    return head_rows(ended, replay.store.paths(profile.name)), SCHEMAS[profile.features]


def print_heads(reports: Sequence[HeadReport], console: Console) -> None:
    """One line for each head."""
    names = (
        "head",
        "n",
        "validated",
        "from",
        "mean",
        "skill, %",
        "95 % by days",
        "AUC",
        "Brier",
        "ECE / perfect",
        "MCE / perfect",
        "",
    )
    table = Table(*names, box=SIMPLE_HEAD)
    for report in reports:
        table.add_row(*head_cells(report.record))
    console.print(table)
    console.print(
        "Skill: how much less loss than the mean known at the time (log-loss, for R squared error), walking forward, "
        "calibrated by earlier blocks. Perfect: what the error would be by chance alone.",
        highlight=False,
    )


def head_cells(told: Mapping[str, Any]) -> tuple[str, ...]:
    """A head's figures as words."""
    low, high = told.get("skill_low"), told.get("skill_high")
    began = told.get("validation_ms")
    return (
        told["name"],
        f"{told['n']:,}",
        f"{told.get('n_validation', 0):,}",
        "–" if began is None else iso_utc(began[0])[:10],
        _figure(told.get("mean")),
        _percent(told.get("skill")),
        "–" if low is None or high is None else f"{_percent(low)} … {_percent(high)}",
        _figure(told.get("auc")),
        _figure(told.get("brier")),
        f"{_figure(told.get('ece'))} / {_figure(told.get('ece_null'))}",
        f"{_figure(told.get('mce'))} / {_figure(told.get('mce_null'))}",
        told.get("reason") or "answers",
    )


def print_comparisons(found: Sequence[Comparison], console: Console) -> None:
    """Full against each ablation, paired."""
    table = Table("head", "all features against", "n", "gain in loss", "95 % by days", box=SIMPLE_HEAD)
    for one in found:
        bounds = "–" if one.low is None or one.high is None else f"{one.low:+.5f} … {one.high:+.5f}"
        table.add_row(one.name, f"{one.worse} alone", f"{one.n:,}", f"{one.gain:+.5f}", bounds)
    console.print(table)


def _figure(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "–"


def _percent(value: object) -> str:
    return f"{100.0 * value:+.2f}" if isinstance(value, float) else "–"
