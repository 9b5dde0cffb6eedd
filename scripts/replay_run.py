"""``penumbra replay``: files to signals to decisions to a report."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from lab.attempts import Fit, SharedFits, Watch, rules_only
from lab.compare import SettingRun, compare
from lab.console import print_summary
from lab.heads import head_figures, outcomes_of
from lab.learned import Learning, learning_of, out_of_sample_of
from lab.page import write_page
from lab.replay import Learner, LearnerFor, Replay, Replayed
from lab.summary import RunInfo, Summary, summarise
from lab.verified import Verified, from_candles, sample
from learning.head_report import Comparison, compare_ablations
from learning.head_rows import head_rows
from market.reference_strategies import OpenGuard, StrategySettings
from persistence.memory_store import MemoryStore
from qscore.threshold import SEED as SEED_CLAMP
from runtime.follow import VOLATILITY_TIMEFRAMES, Ended
from runtime.settings import Settings
from runtime.trained import Trained
from scorer.schema import SCHEMAS
from scripts.sources import Series, profile_for, read_series, strategy_settings, strategy_signals
from signals.breaker import DEFAULT_THRESHOLDS, Thresholds
from signals.method import EVIDENT, HONEST, SPECIFIED, Method, Methods
from signals.profile import Clamping, Profile
from signals.signal import Signal

RULES = "heuristic alone"
VARIANTS: tuple[tuple[str, Methods, Clamping], ...] = (
    ("specified, open", SPECIFIED, Clamping.OPEN),
    (f"specified, {SEED_CLAMP}", SPECIFIED, Clamping.SEED),
    ("by evidence", EVIDENT, Clamping.OPEN),
    ("by evidence, honest labels", HONEST, Clamping.OPEN),
)
"""What every replay that learns shows side by side, besides the heuristic alone."""
OWN = "as configured"
VERIFIED = 12
"""Decisions whose features are computed anew from the candles of their moment."""
SHOWN_EVERY = 2_000
"""Candles between two moves of the progress bar."""


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
    method: str | None = None
    labels: str | None = None
    threshold: float | None = None
    seed: int = 1
    verify: int = VERIFIED
    out: Path = Path("reports")
    as_json: bool = False


@dataclass(frozen=True, slots=True)
class ReplayOutcome:
    """A finished replay with its figures."""

    replayed: Replayed
    summary: Summary
    digest: str
    page: Path


def run_replay(options: ReplayOptions) -> ReplayOutcome:
    """Replay, print, and write the page."""
    console = Console(stderr=options.as_json)
    outcome = replayed_as(options, console)
    replayed, summary, page = outcome.replayed, outcome.summary, outcome.page
    page.parent.mkdir(parents=True, exist_ok=True)
    write_page(summary, page)
    if options.as_json:
        click.echo(json.dumps(as_json(outcome), indent=2))
    else:
        print_summary(summary, console)
        console.print(
            f"signals answered {replayed.answers}, held back because one was open {replayed.skipped}, ", end=""
        )
        console.print(f"rejected {dict(replayed.rejected) or 0}, still open at the end {replayed.still_open}")
        print_breakers(replayed, console)
        print_verified(replayed, console)
        console.print(f"report {page}", highlight=False)
    return outcome


def replayed_as(options: ReplayOptions, console: Console) -> ReplayOutcome:
    """Replay as the options say, with its figures; nothing is written."""
    series = read_series(options.paths, options.tracking)
    for complaint in series.complaints:
        console.print(f"[yellow]left out or missing[/] {complaint}", highlight=False)
    settings = strategy_settings(options.strategy, options.timeframe, options.atr_stop, options.cooldown)
    loaded = Settings.load()
    profile = profile_for(loaded.profile(options.strategy), series, options.threshold)
    if options.growth is not None:
        profile = replace(profile, retrain_growth=options.growth)
    if options.clamp is not None:
        profile = replace(profile, clamp=Clamping(options.clamp))
    profile = replace(profile, method=_asked(profile.method, options))
    with _bar(console, quiet=options.as_json) as bar:
        signals = strategy_signals(options.strategy, series, settings)
        runs = 1 + len(variants(profile)) if options.learn else 1
        task = bar.add_task(f"{len(signals)} proposals", total=runs * series.candle_count)
        breakers = loaded.breakers.built()
        scene = Scene(
            profile,
            series,
            signals,
            settings,
            limits=options.limits,
            breakers=breakers,
            bar=(bar, task),
            verify=options.verify,
        )
        replayed, learning = scene.learn(options.seed) if options.learn else (scene.play(), None)
    run = run_info(options.strategy, settings, series, profile, replayed, limits=options.limits)
    summary = summarise(replayed.trades, seed=options.seed, run=run, learning=learning, waiting=replayed.waiting)
    page = options.out / f"replay-{options.strategy}-{settings.timeframe}.html"
    return ReplayOutcome(replayed, summary, summary.digest(), page)


def _asked(method: Methods, options: ReplayOptions) -> Methods:
    """The profile's methods, with what the command line says laid over them."""
    if options.method is not None:
        steps = Method(options.method)
        method = replace(method, thresholds=steps, calibration=steps, ensemble=steps)
    return method if options.labels is None else replace(method, labels=Method(options.labels))


def _bar(console: Console, *, quiet: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=quiet)


@dataclass(frozen=True, slots=True)
class Scene:
    """Candles and signals that can be played under several profiles.

    One open signal per symbol and side, when the strategy asks for it, does not depend on the gate: refused signals
    are followed as well, so every run answers the same signals.
    """

    profile: Profile
    series: Series
    signals: list[Signal]
    settings: StrategySettings
    limits: bool = False
    breakers: Thresholds = DEFAULT_THRESHOLDS
    bar: tuple[Progress, TaskID] | None = None
    verify: int = 0

    def play(
        self,
        profile: Profile | None = None,
        fit: Fit | None = None,
        *,
        beside: bool = False,
        on_ended: Callable[[Ended], None] = lambda _ended: None,
    ) -> Replayed:
        """One replay; with ``fit`` it learns as it goes, and ``beside`` the win what else is forecast."""
        guard = OpenGuard()
        watch = None if fit is None else Watch(fit)
        replay = Replay(
            self.profile if profile is None else profile,
            limits=self.limits,
            breakers=self.breakers,
            admit=guard.admit if self.settings.one_open else lambda _signal: True,
            on_end=guard.closed,
            # Of no more than live would know: a regime that only a replay can tell would be another gate.
            volatility_timeframes=tuple(name for name in VOLATILITY_TIMEFRAMES if name == self.settings.timeframe),
            learner_for=None if watch is None else _trainer_with(watch, beside=beside),
            on_ended=on_ended,
            on_trained=_nothing if watch is None else watch.trained,
        )
        waiting = 0

        def step(count: int) -> None:
            nonlocal waiting
            waiting += count
            if self.bar is not None and waiting >= SHOWN_EVERY:
                self.bar[0].advance(self.bar[1], waiting)
                waiting = 0

        replayed = replay.run(self.series.tracking, self.signals, finer=self.series.finer, progress=step)
        replayed = replace(replayed, vectors_from_candles=self._from_candles(replay))
        return replayed if watch is None else replace(replayed, history=watch.history)

    def _from_candles(self, replay: Replay) -> Verified:
        answered = [signal for signal in self.signals if replay.body(signal.id) is not None]
        bodies = (replay.body(signal.id) for signal in sample(answered, self.verify))
        schema = SCHEMAS[self.profile.features]
        return from_candles(schema, (body for body in bodies if body), self.series.tracking, self.settings)

    def learn(self, seed: int, fit: Fit | None = None) -> tuple[Replayed, Learning]:
        """The same signals under the heuristic alone and every variant; the profile's own run is reported."""
        from learning.fit import fit_candidate  # noqa: PLC0415 - only a replay that learns needs scikit-learn

        fits = SharedFits(fit_candidate if fit is None else fit)
        # By the specified thresholds whatever the profile says: what the others are measured against stays the same.
        played = [(RULES, self.play(replace(self.profile, method=SPECIFIED), rules_only), False)]
        own = (self.profile.method, self.profile.clamp)
        results: list[Mapping[str, Any]] = []
        for name, method, clamp in variants(self.profile):
            reported = (method, clamp) == own
            keep = results.append if reported else _forget
            # Heads decide nothing: the runs beside the reported one would be the same with them.
            found = self.play(
                replace(self.profile, method=method, clamp=clamp), fits, beside=reported, on_ended=_results(keep)
            )
            played.append((name, found, reported))
        runs = [_setting_run(name, found, seed, reported=reported) for name, found, reported in played]
        replayed = next(found for _, found, reported in played if reported)
        settings = compare(runs, seed=seed)
        return replayed, learning_of(
            self.profile,
            replayed.history,
            replayed.trades,
            seed=seed,
            settings=settings,
            heads=head_figures(outcomes_of(results, replayed.paths)),
            ablations=self._ablations(results, replayed.paths, seed) if self.profile.heads else (),
        )

    def _ablations(self, results: Sequence[Mapping[str, Any]], paths: Sequence[str], seed: int) -> list[Comparison]:
        """What each family of features is worth, on everything the run saw."""
        from learning.heads import ablation_reports  # noqa: PLC0415 - only a replay that learns needs scikit-learn

        rows = head_rows(results, paths)
        return compare_ablations(ablation_reports(rows, SCHEMAS[self.profile.features], seed=seed))


def _setting_run(name: str, found: Replayed, seed: int, *, reported: bool) -> SettingRun:
    forecasts = out_of_sample_of(found.history, found.trades, seed=seed)
    return SettingRun(
        name=name,
        trades=found.trades,
        bundles=sum(attempt.published for attempt in found.history.attempts),
        decisions_hash=found.decisions_hash,
        reported=reported,
        skill=None if forecasts is None else forecasts.brier_skill,
        auc=None if forecasts is None else forecasts.auc,
    )


def variants(profile: Profile) -> tuple[tuple[str, Methods, Clamping], ...]:
    """The variants shown side by side, and the profile's own where it is none of them."""
    if any((profile.method, profile.clamp) == (method, clamp) for _, method, clamp in VARIANTS):
        return VARIANTS
    return (*VARIANTS, (OWN, profile.method, profile.clamp))


def _nothing(_strategy: str, _trained: Trained | None, _store: MemoryStore) -> None:
    """A run without a learner has nothing to note."""


def _forget(_result: Mapping[str, Any]) -> None:
    """A run that is not reported keeps no endings."""


def _results(keep: Callable[[Mapping[str, Any]], None]) -> Callable[[Ended], None]:
    return lambda ended: keep(ended.result)


def _trainer_with(watch: Watch, *, beside: bool) -> LearnerFor:
    def made(store: MemoryStore, profiles: Mapping[str, Profile], key: bytes) -> Learner:
        from runtime.train import Trainer  # noqa: PLC0415 - only a replay that learns needs scikit-learn

        return Trainer(store, profiles, key, fit=watch.fit, beside=beside)

    return made


def print_breakers(replayed: Replayed, console: Console) -> None:
    """Which breakers turned how often, when limits were applied."""
    if replayed.breakers:
        told = ", ".join(f"{name} {times}×" for name, times in sorted(replayed.breakers.items()))
        console.print(f"breakers {told}", highlight=False)


def print_verified(replayed: Replayed, console: Console) -> None:
    """How many vectors rebuild, and every feature of those that do not."""
    for name, found in (
        ("its own record", replayed.vectors),
        ("candles cut at its moment", replayed.vectors_from_candles),
    ):
        if found.checked + found.unknown > 0:
            style = "" if found.holds else "bold red"
            console.print(f"vectors rebuilt from {name}: {found}", style=style, highlight=False)
        for mismatch in found.mismatches:
            console.print(f"  {mismatch}", style="red", highlight=False, markup=False)


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
        "breakers": dict(replayed.breakers),
        "trained": [asdict(attempt) for attempt in replayed.trained],
        "candles": dict(replayed.candle_counts),
        "vectors": replayed.vectors.record,
        "vectors_from_candles": replayed.vectors_from_candles.record,
        "page": str(outcome.page),
        **outcome.summary.rounded(),
    }
