"""``penumbra replay``: files to signals to decisions to a report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from lab.console import print_summary
from lab.page import write_page
from lab.replay import Learner, Replay, Replayed
from lab.summary import RunInfo, Summary, summarise
from market.reference_strategies import OpenGuard, StrategySettings
from persistence.memory_store import MemoryStore
from runtime.follow import VOLATILITY_TIMEFRAMES
from runtime.settings import Settings
from runtime.trained import Trained
from scripts.sources import Series, profile_for, read_series, strategy_settings, strategy_signals
from signals.profile import Clamping, Profile
from signals.signal import Signal


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """What the command line said."""

    paths: tuple[Path, ...]
    strategy: str
    timeframe: str | None = None
    tracking: str | None = None
    atr_stop: float | None = None
    cooldown: int | None = None
    limits: bool = False
    learn: bool = False
    growth: float | None = None
    clamp: str | None = None
    threshold: float | None = None
    seed: int = 1
    out: Path = Path("reports")
    as_json: bool = False


@dataclass(frozen=True, slots=True)
class ReplayOutcome:
    """A finished replay with its figures."""

    replayed: Replayed
    summary: Summary
    digest: str
    page: Path | None


def run_replay(options: ReplayOptions) -> ReplayOutcome:
    """Replay, print, and write the page."""
    console = Console(stderr=options.as_json)
    series = read_series(options.paths, options.tracking)
    for complaint in series.complaints:
        console.print(f"[yellow]left out or missing[/] {complaint}", highlight=False)
    settings = strategy_settings(options.strategy, options.timeframe, options.atr_stop, options.cooldown)
    profile = profile_for(Settings.load().profile(options.strategy), series, options.threshold)
    if options.growth is not None:
        profile = replace(profile, retrain_growth=options.growth)
    if options.clamp is not None:
        profile = replace(profile, clamp=Clamping(options.clamp))
    with _bar(console, quiet=options.as_json) as bar:
        signals = strategy_signals(options.strategy, series, settings)
        task = bar.add_task(f"{len(signals)} proposals", total=series.candle_count)
        replayed = play(profile, series, signals, settings, limits=options.limits, learn=options.learn, bar=(bar, task))
    run = run_info(options.strategy, settings, series, profile, replayed, limits=options.limits)
    summary = summarise(replayed.trades, seed=options.seed, run=run)
    page = options.out / f"replay-{options.strategy}-{settings.timeframe}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    write_page(summary, page)
    outcome = ReplayOutcome(replayed, summary, summary.digest(), page)
    if options.as_json:
        click.echo(json.dumps(as_json(outcome), indent=2))
    else:
        print_summary(summary, console)
        print_trained(replayed.trained, console)
        console.print(
            f"signals answered {replayed.answers}, held back because one was open {replayed.skipped}, ", end=""
        )
        console.print(f"rejected {dict(replayed.rejected) or 0}, still open at the end {replayed.still_open}")
        console.print(f"report {page}", highlight=False)
    return outcome


def _bar(console: Console, *, quiet: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=quiet)


def play(
    profile: Profile,
    series: Series,
    signals: list[Signal],
    settings: StrategySettings,
    *,
    limits: bool,
    learn: bool = False,
    bar: tuple[Progress, object] | None = None,
) -> Replayed:
    """The replay itself, one open signal per symbol and side when the strategy asks for it."""
    guard = OpenGuard()
    replay = Replay(
        profile,
        limits=limits,
        admit=guard.admit if settings.one_open else lambda _signal: True,
        on_end=guard.closed,
        # Of no more than live would know: a regime that only a replay can tell would be another gate.
        volatility_timeframes=tuple(name for name in VOLATILITY_TIMEFRAMES if name == settings.timeframe),
        learner_for=_trainer if learn else None,
    )
    waiting = 0

    def step(count: int) -> None:
        nonlocal waiting
        waiting += count
        if bar is not None and waiting >= 2_000:
            bar[0].advance(bar[1], waiting)  # type: ignore[arg-type]  # rich's TaskID is a NewType of int
            waiting = 0

    return replay.run(series.tracking, signals, finer=series.finer, progress=step)


def _trainer(store: MemoryStore, profiles: Mapping[str, Profile], key: bytes) -> Learner:
    # Only a replay that learns needs scikit-learn.
    from runtime.train import Trainer  # noqa: PLC0415

    return Trainer(store, profiles, key)


def print_trained(trained: Sequence[Trained], console: Console) -> None:
    """Every attempt of the learner, and what it came to."""
    if not trained:
        return
    table = Table("attempt", "outcomes", "next at", "came to")
    for attempt in trained:
        came_to = attempt.address[:12] if attempt.address else f"{attempt.reason}: {attempt.detail}"
        table.add_row(str(attempt.attempt), str(attempt.count), str(attempt.next_at), came_to)
    console.print(table)


def run_info(
    strategy: str,
    settings: StrategySettings,
    series: Series,
    profile: Profile,
    replayed: Replayed,
    *,
    limits: bool,
) -> RunInfo:
    """What the report says about where its numbers come from."""
    return RunInfo(
        strategy=strategy,
        timeframe=settings.timeframe,
        symbols=series.symbols,
        first_ts=min(int(candles.ts[0]) for candles in series.tracking),
        last_ts=max(int(candles.close_ts[-1]) for candles in series.tracking),
        source="files",
        source_detail=f"{series.timeframe} candles, stop {settings.atr_stop:g} ATR",
        profile=profile.name,
        limits=limits,
        threshold_source=f"{'learned, else ' if replayed.trained else ''}static {profile.static_threshold:g}",
        clamp=(
            f"{profile.clamp.value} for model scores, 60-95 for heuristic ones"
            if replayed.trained
            else "none: a static threshold is not clamped"
        ),
        decisions_hash=replayed.decisions_hash,
    )


def as_json(outcome: ReplayOutcome) -> dict[str, object]:
    """Everything the run found, for machines."""
    replayed = outcome.replayed
    return {
        "digest": outcome.digest,
        "answers": replayed.answers,
        "skipped_one_open": replayed.skipped,
        "rejected": dict(replayed.rejected),
        "still_open": replayed.still_open,
        "trained": [asdict(attempt) for attempt in replayed.trained],
        "candles": dict(replayed.candle_counts),
        "page": str(outcome.page),
        **outcome.summary.rounded(),
    }
