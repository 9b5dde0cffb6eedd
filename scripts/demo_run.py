"""``penumbra demo``: a strategy engine plays history through a real queue, worker, follower, relay and record."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from lab.console import print_summary
from lab.fidelity import fidelity_of
from lab.learned import learning_of
from lab.page import write_page
from lab.recorded import trades_of
from lab.replay import Replayed, payload_of
from lab.summary import RunInfo, Summary, summarise
from lab.trade import Trade
from lab.twins import Twins, twins_of
from market.candles import Candles
from market.exchange import fetch_candles
from market.generated import generate
from market.reference_strategies import OpenGuard, StrategySettings
from persistence.record import Head
from persistence.store import ClockKind
from phantom.advance import advance
from phantom.position import Closed, Position, terms_for
from runtime import embedded
from runtime.clock import pause, stopwatch
from runtime.reconcile import reconciled
from runtime.settings import Settings
from runtime.wiring import Wiring
from scripts.processes import Processes
from scripts.replay_run import Scene, print_breakers, run_info
from scripts.sources import Series, profile_for, read_series, strategy_settings, strategy_signals
from signals.errors import Permanent, Transient
from signals.profile import Profile
from signals.reasons import Reason
from signals.signal import Signal
from signals.timeday import iso_utc
from worker.client import Client

SYMBOL = "BTCUSDT"
HISTORY_CANDLES = 30_000
GENERATED_CANDLES = 36_000
SHOWN_EVERY = 25
ANSWER_S = 20.0
DRAIN_S = 60.0
TRAINING_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What the command line said."""

    candles: tuple[Path, ...] = ()
    strategy: str = "scalp"
    timeframe: str | None = None
    max_signals: int = 400
    out: Path = Path("reports")
    seed: int = 7
    offline: bool = False
    keep: bool = False


@dataclass(frozen=True, slots=True)
class _Source:
    series: Series
    kind: Literal["files", "exchange", "generated"]
    detail: str
    seed: int | None = None


def run_demo(options: DemoOptions, console: Console | None = None) -> Summary:
    """Start everything, play, report, stop."""
    console = console or Console()
    began = stopwatch()
    settings = Settings.load()
    console.rule("[bold]Penumbra: a signal gate that also learns from what it refuses")
    source = _candles(options, settings.data_dir / "history", console)
    strategy = strategy_settings(options.strategy, options.timeframe)
    series = _one_symbol(source.series)
    signals = strategy_signals(options.strategy, series, strategy)
    series, signals = _enough(series, signals, options.max_signals)
    profile = profile_for(settings.profile(options.strategy), series)
    console.print(f"[bold]candles[/]  {source.kind}: {source.detail}", highlight=False)
    console.print(
        f"         {series.symbols[0]} {series.timeframe}, {iso_utc(int(series.tracking[0].ts[0]))[:10]} to "
        f"{iso_utc(int(series.tracking[0].ts[-1]))[:10]}, {len(signals)} proposals of the {options.strategy} strategy",
        highlight=False,
    )
    wiring = _fresh_namespace(settings)
    console.print(
        f"[bold]servers[/]  {_servers(settings)}; namespace {wiring.namespace}, its clock is the candles",
        highlight=False,
    )
    try:
        with Processes(settings.data_dir / "logs" / wiring.namespace, _environment(wiring, profile)) as processes:
            for name in ("worker", "relay", "follow", "train"):
                processes.start(name, [name, "--namespace", wiring.namespace])
            console.print("[bold]running[/]  worker, relay, follower, trainer: a process each\n", highlight=False)
            engine = _Engine(wiring, profile, strategy, console)
            engine.play(series, signals, processes)
            trades, twins, head = _recorded(wiring, processes)
    finally:
        _close(settings, keep=options.keep, console=console)
    scene = Scene(profile, series, signals, strategy, limits=True, breakers=settings.breakers.built())
    replayed = _replayed(scene)
    run = _run_info(options, strategy, series, profile, replayed, source)
    run = replace(run, record_head=head.hash, record_facts=head.links)
    learning = learning_of(profile, replayed.history, trades, seed=1)
    summary = summarise(trades, seed=1, run=run, learning=learning, fidelity=fidelity_of(twins, seed=1))
    page = _write(summary, options.out / f"demo-{options.strategy}.html")
    console.print()
    print_summary(summary, console)
    _say_goodbye(console, trades, head, replayed, page, stopwatch() - began, options)
    return summary


def _candles(options: DemoOptions, cache: Path, console: Console) -> _Source:
    """The path given, else public history when the network allows, else a generated market; says which."""
    if options.candles:
        series = read_series(options.candles)
        for complaint in series.complaints:
            console.print(f"[yellow]left out or missing[/] {complaint}", highlight=False)
        return _Source(series, "files", ", ".join(str(path) for path in options.candles))
    if not options.offline:
        try:
            candles = fetch_candles(SYMBOL, "5m", HISTORY_CANDLES, cache)
            return _Source(_as_series(candles), "exchange", f"public history of {SYMBOL}, kept in {cache}")
        except (Transient, Permanent) as error:
            console.print(f"no public history ({str(error)[:50]}…)", highlight=False, style="dim")
    candles = generate(options.seed, symbol="GENUSDT", timeframe="5m", candles=GENERATED_CANDLES)
    detail = f"seed {options.seed}, a fair market with regimes, fat tails and gaps: no strategy has an edge in it"
    return _Source(_as_series(candles), "generated", detail, options.seed)


def _as_series(candles: Candles) -> Series:
    return Series((candles,), (), ())


def _one_symbol(series: Series) -> Series:
    first = series.tracking[0]
    return Series((first,), tuple(finer for finer in series.finer if finer.symbol == first.symbol), ())


def _enough(series: Series, signals: list[Signal], most: int) -> tuple[Series, list[Signal]]:
    """Candles up to the last signal that is shown, and until all of them must have ended."""
    if len(signals) <= most:
        return series, signals
    kept = signals[:most]
    end_ms = kept[-1].ts + 4 * 86_400_000
    return replace(series, tracking=tuple(candles.between(0, end_ms) for candles in series.tracking)), kept


def _fresh_namespace(settings: Settings) -> Wiring:
    """A namespace nobody has used: the clock of a namespace never goes back."""
    number = 1
    while True:
        wiring = Wiring(settings, namespace=f"demo-{number}")
        wiring.record.migrate()
        if not wiring.store.exists() and wiring.record.is_empty():
            wiring.ensure_namespace(ClockKind.DATA)
            return wiring
        wiring.record.close()
        number += 1


def _servers(settings: Settings) -> str:
    own = [
        name for name, url in (("Redis", settings.redis.url), ("Postgres", settings.postgres.url)) if url is not None
    ]
    started = [name for name in ("Redis", "Postgres") if name not in own]
    parts = [f"your own {' and '.join(own)}"] if own else []
    if started:
        names = {"Redis": "Valkey", "Postgres": "Postgres"}
        parts.append(f"embedded {' and '.join(names[name] for name in started)} in {settings.data_dir}")
    return ", ".join(parts)


def _environment(wiring: Wiring, profile: Profile) -> dict[str, str]:
    """What the children must know: where the servers and the signing key are, and the same tracking series."""
    inherited = {
        "PENUMBRA_DATA_DIR": str(wiring.settings.data_dir.resolve()),
        f"PENUMBRA_PROFILES__{profile.name.upper()}__TRACKING_TIMEFRAME": profile.tracking_timeframe,
    }
    root = str(Path(__file__).parent.parent)
    return inherited | {"PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}


class _Engine:
    """A strategy engine with a paper broker: asks, claims, fills at the signal's price, reports its exits."""

    def __init__(self, wiring: Wiring, profile: Profile, strategy: StrategySettings, console: Console) -> None:
        self.profile = profile
        self.console = console
        self.client = Client(
            wiring.redis_url,
            namespace=wiring.namespace,
            queue=wiring.settings.queue.name,
            engine="demo",
            profiles=wiring.profiles | {profile.name: profile},
        )
        self._guard = OpenGuard()
        self._one_open = strategy.one_open
        self._open: dict[str, tuple[Position, bool]] = {}
        self._answers: Counter[str] = Counter()
        self._shown = 0

    def play(self, series: Series, signals: list[Signal], processes: Processes) -> None:
        """Every candle when it closes, every signal at its own moment."""
        candles, place, fed = series.tracking[0], 0, "0-0"
        for candle in candles:
            closes_ms = candle.ts + candles.step_ms
            while place < len(signals) and signals[place].ts < closes_ms:
                processes.check()
                if not self.client.await_followed(fed):
                    raise Transient("the follower does not keep up")
                self._signal(signals[place])
                place += 1
            fed = self.client.candle(candles.symbol, candles.timeframe, candle)
            for signal_id, (position, executed) in list(self._open.items()):
                after = advance(position, candle)
                if isinstance(after, Closed):
                    self._closed(signal_id, after, executed, fed)
                else:
                    self._open[signal_id] = (after, executed)
        self.client.await_followed(fed)

    def _signal(self, signal: Signal) -> None:
        if self._one_open and not self._guard.admit(signal):
            return
        answer = self.client.ask(payload_of(signal), ANSWER_S)
        if answer is None:
            self.console.print(f"no answer to {signal.id}: no trade", style="yellow", highlight=False)
            self._guard.closed(signal.id)
            return
        action = str(answer["action"])
        self._answers[action] += 1
        if answer["position_id"] is None:
            self._guard.closed(signal.id)
            return
        executed = action == "execute" and self.client.claim(signal.id) is Reason.CLAIM_GO
        if executed:
            self.client.report_fill(
                signal.id, price=signal.entry, ts=signal.ts, quantity=1.0, venue_id=f"f-{signal.id}"[:64]
            )
        self._open[signal.id] = (Position.open(terms_for(signal, self.profile)), executed)
        self._show(signal, answer)

    def _show(self, signal: Signal, answer: dict[str, object]) -> None:
        number = sum(self._answers.values())
        if number > 12 and number % SHOWN_EVERY:
            return
        colour = "green" if answer["action"] == "execute" else "blue"
        self.console.print(
            f"{_moment(signal.ts)}  {signal.side.word:5} {signal.entry:<9.6g} score {answer['score']:>3}/"
            f"{answer['threshold']} {answer['bucket']!s:16} [{colour}]{answer['action']!s:8}[/]"
            f"{float(str(answer['latency_ms'])):4.1f} ms",
            highlight=False,
        )

    def _closed(self, signal_id: str, closed: Closed, executed: bool, fed: str) -> None:  # noqa: FBT001
        del self._open[signal_id]
        self._guard.closed(signal_id)
        if executed:
            # The follower first: its twin of this position is what the report is compared with.
            self.client.await_followed(fed)
            if closed.entered:
                self.client.report_close(
                    signal_id,
                    price=closed.exit_price,
                    ts=closed.exit_ms,
                    quantity=1.0,
                    reason=closed.reason.value,
                    venue_id=f"c-{signal_id}"[:64],
                )
            else:
                self.client.report_fill(signal_id, price=closed.exit_price, ts=closed.exit_ms, quantity=0.0)
        self._await_training(fed)
        self._shown += 1
        if self._shown <= 12 or self._shown % SHOWN_EVERY == 0:
            kind = "executed" if executed else "phantom"
            colour = {"win": "green", "loss": "red"}.get(closed.outcome.value, "yellow")
            self.console.print(
                f"{_moment(closed.exit_ms)}        {kind:8} [{colour}]{closed.outcome.value:7}[/] "
                f"{round(closed.gross_r, 2) + 0.0:+.2f} R (best +{closed.mfe_r:.2f}, worst −{closed.mae_r:.2f})",
                highlight=False,
            )

    def _await_training(self, fed: str) -> None:
        """Let a boundary be answered before time goes on: the clock of this market runs a thousand times too fast."""
        self.client.await_followed(fed)
        store, name = self.client.store, self.profile.name
        deadline = stopwatch() + TRAINING_S
        before = store.training(name)
        if not before.owes:
            return
        while store.training(name).owes:
            if stopwatch() > deadline:
                raise Transient("the trainer does not keep up")
            pause(0.02)
        after = store.training(name)
        if after.table != before.table:
            self.console.print(
                f"[bold magenta]thresholds[/] of the heuristic learned from {after.table_count} outcomes",
                highlight=False,
            )
        if not before.due:
            return
        came_to = f"bundle {after.bundle[:12]}" if after.bundle and after.bundle != before.bundle else "no better model"
        self.console.print(
            f"[bold magenta]trained[/] on {before.completed} outcomes: {came_to}, next at {after.next_at}",
            highlight=False,
        )


def _moment(ts_ms: int) -> str:
    return iso_utc(ts_ms)[:16].replace("T", " ")


def _recorded(wiring: Wiring, processes: Processes) -> tuple[list[Trade], Twins, Head]:
    """Wait until the relay has carried every fact to Postgres, then read the trades from there.

    A report on a record that does not agree with the live state, or is not what was written, would be worth nothing.
    """
    deadline = stopwatch() + DRAIN_S
    while wiring.client.xlen(wiring.store.keys.outbox()) > 0:
        processes.check()
        if stopwatch() > deadline:
            raise Transient("the relay does not keep up")
        pause(0.05)
    agreed = reconciled(wiring.store, wiring.record)
    if not agreed.clean:
        raise Permanent(f"live state and record do not agree: {agreed}")
    trades, twins = trades_of(wiring.record.facts()), twins_of(wiring.record.facts())
    wiring.record.close()
    return trades, twins, Head(agreed.audit.links, agreed.audit.head)


def _close(settings: Settings, *, keep: bool, console: Console) -> None:
    if keep:
        console.print("servers are left running; stop them with: penumbra down", highlight=False)
    else:
        embedded.stop(settings.data_dir)


def _run_info(
    options: DemoOptions,
    strategy: StrategySettings,
    series: Series,
    profile: Profile,
    replayed: Replayed,
    source: _Source,
) -> RunInfo:
    run = run_info(options.strategy, strategy, series, profile, replayed, limits=True)
    return replace(run, source=source.kind, source_detail=source.detail, source_seed=source.seed)


def _replayed(scene: Scene) -> Replayed:
    """The same candles and signals through the same code in memory, with limits and the learner as live."""
    from learning.fit import fit_candidate  # noqa: PLC0415 - brings scikit-learn, which the live path leaves apart

    return scene.play(fit=fit_candidate)


def _write(summary: Summary, page: Path) -> Path:
    page.parent.mkdir(parents=True, exist_ok=True)
    write_page(summary, page)
    return page


def same_story(recorded: list[Trade], replayed: Replayed) -> bool:
    """Whether the live path and a replay of the same candles tell the same trades."""
    return _story(recorded) == _story(list(replayed.trades))


def _story(trades: list[Trade]) -> set[tuple[object, ...]]:
    return {
        (
            trade.signal_id,
            trade.kind,
            trade.outcome,
            trade.exit_reason,
            trade.exit_ts,
            trade.gross_r,
            str(trade.bucket),
            trade.score,
            trade.threshold,
        )
        for trade in trades
    }


def _say_goodbye(
    console: Console,
    trades: list[Trade],
    head: Head,
    replayed: Replayed,
    page: Path,
    seconds: float,
    options: DemoOptions,
) -> None:
    same = same_story(trades, replayed)
    verdict = "[green]identical[/]" if same else "[red]different[/]"
    console.print(
        f"\nThe same candles replayed in memory through the same code: {len(replayed.trades)} trades, {verdict} to the "
        "ones in Postgres.",
        highlight=False,
    )
    console.print(
        f"Record and live state agree; {head.links} facts, audit chain head {head.hash}",
        highlight=False,
        soft_wrap=True,
    )
    print_breakers(replayed, console)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for what, how in (
        ("report", str(page)),
        ("took", f"{seconds:.0f} s"),
        ("your own candles", f"./scripts/demo path/to/BTCUSDT_5m.parquet --strategy {options.strategy}"),
        ("history, no servers", ".venv/bin/penumbra replay --candles path/to/folder --strategy trend --timeframe 1h"),
        ("plug in an engine", "README.md, “Plug in an engine”"),
    ):
        table.add_row(f"[bold]{what}[/]", how)
    console.print(table)
