"""``penumbra chaos``: real processes under load, hurt for minutes, then asked whether anything is missing."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from persistence.pulse import Pulse
from persistence.store import ClockKind
from runtime import embedded
from runtime.chance import secret_bytes
from runtime.clock import pause, stopwatch, wall_ms
from runtime.logs import configure
from runtime.settings import Settings
from runtime.wiring import Wiring
from scripts.chaos.baseline import run_baseline
from scripts.chaos.engine import Engine, Feed, Load
from scripts.chaos.faults import Fault, Striker
from scripts.chaos.figures import ZEROS, ChaosFigures, Spread, Verdict, verdict
from scripts.chaos.fleet import Fleet
from scripts.chaos.market import STEP_MS, Market
from scripts.chaos.oracle import Record, judge
from signals.errors import PenumbraError, Permanent
from worker.client import Client

NAMESPACE = "chaos"
TIMEOUT_MS = 45_000
WORKERS = 4
CLEAN_SHARE = 0.2
FAULT_EVERY_S = 2.0
RESET_SHARE = 0.01
GAP_SHARE = 0.002
QUIET_S = 300.0
WARM_S = 240.0
TURN_S = 0.05
LOADS = {
    "small": Load(signals_per_s=5.0, burst=50, burst_every_s=30, resting=200, traded=20, fed=20),
    "normal": Load(signals_per_s=5.0, burst=50, burst_every_s=30, resting=1_000, traded=50, fed=50),
    "design": Load(signals_per_s=5.0, burst=500, burst_every_s=60, resting=5_000, traded=200, fed=500),
}
"""RELIABLE means at design load; the smaller ones are for machines and minutes that are fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosOptions:
    """What the command line said."""

    minutes: float
    seed: int = 1
    load: str = "normal"
    fsync: embedded.Fsync = "everysec"
    keep: Path | None = None
    baseline: bool = False


@dataclass(slots=True)
class _Run:
    """Everything that is alive during a run."""

    options: ChaosOptions
    data: Path
    wiring: Wiring
    fleet: Fleet
    engine: Engine
    feed: Feed
    striker: Striker
    pulse: Pulse
    cuts: Path
    began_ms: int = 0
    struck_ms: int = 0
    calm_ms: int = 0

    def turn(self) -> None:
        """One look at everything."""
        self.fleet.supervise()
        self.striker.tend()
        self.striker.recoveries.look()
        for thread in (self.engine, self.feed):
            if thread.error is not None:
                raise Permanent(f"the {thread.name} of this run broke: {thread.error!r}")
        pause(TURN_S)


def run_chaos(options: ChaosOptions, console: Console) -> ChaosFigures:
    """Start everything, hurt it, let it come to rest, compare."""
    with _folder(options) as data, _alive(options, data) as run:
        _say(console, f"servers, proxy and {WORKERS + 3} processes in {data}; load {options.load}, {options.fsync}")
        _warm_up(run, console)
        _clean(run, console)
        _hurt(run, console)
        unresolved = _come_to_rest(run, console)
        run.fleet.stop()
        return _compare(run, unresolved)


def _say(console: Console, words: str) -> None:
    console.print(f"[bold]chaos[/]  {words}", highlight=False)


@contextmanager
def _folder(options: ChaosOptions) -> Iterator[Path]:
    data = options.keep or Path(tempfile.mkdtemp(prefix="penumbra-chaos-"))
    data.mkdir(parents=True, exist_ok=True)
    try:
        yield data
    finally:
        embedded.remove(data) if options.keep is None else embedded.stop(data)
        if options.keep is None:
            shutil.rmtree(data, ignore_errors=True)


@contextmanager
def _alive(options: ChaosOptions, data: Path) -> Iterator[_Run]:
    servers = embedded.start(data, fsync=options.fsync)
    sockets = Path(tempfile.mkdtemp(prefix="penumbra-proxy-"))
    environment = _environment(data, servers.postgres_dsn, f"unix://{sockets}/redis.sock")
    fleet = Fleet(data / "logs", environment)
    try:
        upstream = servers.redis_url.removeprefix("unix://").split("?", 1)[0]
        fleet.add("proxy", "scripts.chaos.proxy", [f"{sockets}/redis.sock", upstream, str(RESET_SHARE),
                                                   str(options.seed), f"{sockets}/cuts.json"])  # fmt: skip
        # Whoever judges looks past the proxy.
        settings = _settings({**environment, "PENUMBRA_REDIS_URL": servers.redis_url})
        wiring = Wiring(settings, namespace=NAMESPACE)
        wiring.ensure_namespace(ClockKind.LIVE)
        load = LOADS[options.load]
        seconds = int(options.minutes * 60 + WARM_S + QUIET_S + TIMEOUT_MS / 1000) + 60
        market = Market.of(
            load.fed, begins_ms=(wall_ms() // STEP_MS + 1) * STEP_MS, seconds=seconds, seed=options.seed,
            gap_share=GAP_SHARE,
        )  # fmt: skip
        _await_socket(sockets / "redis.sock", fleet)
        clients = [
            Client(environment["PENUMBRA_REDIS_URL"], namespace=NAMESPACE, engine=name, profiles=wiring.profiles)
            for name in ("left", "right")
        ]
        engine = Engine(market, load, clients, wiring.profiles, options.seed)
        feed_client = Client(environment["PENUMBRA_REDIS_URL"], namespace=NAMESPACE, profiles=wiring.profiles)
        feed = Feed(market, load.fed, feed_client, options.seed)
        pulse = Pulse(wiring.client, wiring.store.keys)
        striker = Striker(wiring, data, options.fsync, fleet, engine, feed, pulse, options.seed)
        yield _Run(options, data, wiring, fleet, engine, feed, striker, pulse, sockets / "cuts.json")
    finally:
        fleet.stop()
        shutil.rmtree(sockets, ignore_errors=True)


def _environment(data: Path, postgres: str, redis: str) -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    return {
        "PENUMBRA_DATA_DIR": str(data.resolve()),
        "PENUMBRA_REDIS_URL": redis,
        "PENUMBRA_POSTGRES_URL": postgres,
        "PENUMBRA_SIGNING_KEY": secret_bytes(24).hex(),
        "PENUMBRA_NAMESPACE": NAMESPACE,
        "PENUMBRA_LOG__LEVEL": "warning",
        **{f"PENUMBRA_PROFILES__TREND__{name}": value for name, value in _TREND.items()},
        **{f"PENUMBRA_PROFILES__RANGE__{name}": value for name, value in _RANGE.items()},
        **{f"PENUMBRA_PROFILES__SCALP__{name}": value for name, value in _TRACKED.items()},
        **{f"PENUMBRA_BREAKERS__{name}": value for name, value in _BREAKERS.items()},
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH")))),
    }


_TRACKED = {"TRACKING_TIMEFRAME": f"{STEP_MS // 1000}s"}
_LIMITS = {
    "LIMITS__OPEN_POSITIONS": "300",
    "LIMITS__PER_SYMBOL": "5",
    "LIMITS__EXECUTES_PER_MINUTE": "0",
    "LIMITS__DAILY_LOSS_R": "0",
    "LIMITS__DAILY_LOSS_MONEY": "0",
    "LIMITS__TRACKED_POSITIONS": "20000",
}
# A market without an edge under a gate told to take everything loses: its breakers would end the work that is struck.
# Silence is tolerated a little longer, since candles of one second are late on any busy machine.
_BREAKERS = {"DRAWDOWN_R": "0", "LOSING_STREAK": "0", "ORDERS_PER_SECOND": "50", "STALE_PERIODS": "60"}
# Every signal that no limit stops is executed: claims, fills and reports are where a loss would cost money.
_TREND = _TRACKED | _LIMITS | {
    "TIMEOUT_MS": str(TIMEOUT_MS), "RUN_MODE": "observe", "RETRAIN_GROWTH": "1.0", "MAX_TRAINING_ROWS": "200",
}  # fmt: skip
_RANGE = _TRACKED | _LIMITS | {"STATIC_THRESHOLD": "100"}


def _settings(environment: dict[str, str]) -> Settings:
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        return Settings.load()
    finally:
        os.environ.clear()
        os.environ.update(before)


def _await_socket(socket: Path, fleet: Fleet) -> None:
    deadline = stopwatch() + 10.0
    while not socket.exists():
        fleet.supervise()
        if stopwatch() > deadline:
            raise Permanent("the proxy does not come up: see proxy.log")
        pause(0.02)


# --- the phases


def _warm_up(run: _Run, console: Console) -> None:
    for number in range(WORKERS):
        # Without the parent that watches a worker: the kill must strike the process that holds the signal.
        run.fleet.add(f"worker-{number}", "scripts.cli", ["worker", "--alone"])
    for name in ("relay", "follow", "train"):
        run.fleet.add(name, "scripts.cli", [name])
    run.engine.rest()
    run.feed.start()
    run.engine.start()
    began = stopwatch()
    while run.engine.unfinished() or run.feed.second < run.feed.market.second_of(wall_ms()) - 2:
        run.turn()
        if stopwatch() - began > WARM_S:
            raise Permanent(
                f"not warm after {WARM_S:.0f} s: {len(run.engine.unfinished())} unanswered, the feed is at second "
                f"{run.feed.second} of {run.feed.market.second_of(wall_ms())}; a smaller --load fits this machine"
            )
    _say(console, f"warm after {stopwatch() - began:.0f} s, {run.engine.load.resting} positions rest")


def _clean(run: _Run, console: Console) -> None:
    run.began_ms = wall_ms()
    run.engine.begin()
    seconds = max(15.0, run.options.minutes * 60.0 * CLEAN_SHARE)
    _say(console, f"clean load for {seconds:.0f} s")
    deadline = stopwatch() + seconds
    while stopwatch() < deadline:
        run.turn()


def _hurt(run: _Run, console: Console) -> None:
    run.struck_ms = wall_ms()
    run.fleet.send("proxy", signal.SIGUSR1)
    seconds = max(20.0, run.options.minutes * 60.0 * (1.0 - CLEAN_SHARE))
    _say(console, f"a fault every {FAULT_EVERY_S:g} s for {seconds:.0f} s")
    deadline, next_s = stopwatch() + seconds, 0.0
    while stopwatch() < deadline:
        if stopwatch() >= next_s:
            next_s = stopwatch() + FAULT_EVERY_S
            run.striker.strike()
        run.turn()
    run.fleet.send("proxy", signal.SIGUSR2)
    run.striker.tend(everything=True)
    run.calm_ms = wall_ms()


def _come_to_rest(run: _Run, console: Console) -> int:
    """Wait until everything sent has come through; returns how much has not."""
    run.engine.sending = False
    _say(console, "no more faults; waiting for everything to come through")
    deadline = stopwatch() + QUIET_S
    last_entry_ms = max(
        (flight.terms.deadline_ms for flight in run.engine.flights.values() if not flight.resting), default=0
    )
    while stopwatch() < deadline:
        run.striker.switch_on()
        run.turn()
        busy = run.engine.unfinished() or wall_ms() < last_entry_ms + 5 * STEP_MS or run.striker.recoveries.pending
        try:
            if not busy and run.pulse.facts_waiting() == 0 and _followed(run):
                break
        except PenumbraError:
            continue
    run.feed.end()
    run.engine.end()
    while stopwatch() < deadline and not (_followed(run) and run.pulse.facts_waiting() == 0):
        run.turn()
    return len(run.engine.unfinished()) + run.pulse.facts_waiting()


def _followed(run: _Run) -> bool:
    feed = run.feed
    behind = feed.market.second_of(wall_ms()) - feed.second
    cursor = feed.client.feed.followed_to()
    return behind <= 2 and tuple(map(int, cursor.split("-"))) >= tuple(map(int, feed.place.split("-")))


# --- the figures


def _compare(run: _Run, unresolved: int) -> ChaosFigures:
    wiring, striker = run.wiring, run.striker
    # The connection it was opened with has gone down with the server.
    wiring.record.close()
    record = Record.of(wiring.record.facts())
    found = judge(run.engine.flights, run.feed.market, run.feed.second, record, wiring.store.dump(), wiring.store.keys)
    found.counts["unresolved"] = unresolved
    found.counts["conflicts"] = wiring.record.count_conflicts()
    found.counts["dead_letters"] = run.pulse.dead_letters()
    cuts = _cuts(run)
    injected = {fault.value: striker.injected[fault] for fault in Fault} | {Fault.PROXY_RESET.value: cuts["cut"]}
    live = {fault.value: striker.on_live_work[fault] for fault in Fault} | {Fault.PROXY_RESET.value: cuts["live"]}
    # Cut connections are many and cheap: they do not make a run valid.
    struck = sum(striker.on_live_work.values())
    outcome, reasons = verdict(found.counts, _named(striker.recoveries.never), injected, struck, run.options.minutes)
    return ChaosFigures(
        minutes=run.options.minutes,
        seed=run.options.seed,
        fsync=run.options.fsync,
        verdict=outcome,
        reasons=reasons,
        counts=found.counts,
        examples=found.examples,
        faults_injected=injected,
        faults_on_live_work=live,
        recovery={fault.value: Spread.of(seconds) for fault, seconds in striker.recoveries.seconds.items()},
        never_recovered=_named(striker.recoveries.never),
        latency={"clean": _latency(run, clean=True), "chaos": _latency(run, clean=False)},
        load=_load(run, record),
        restarts=dict(run.fleet.starts),
        unasked_exits=dict(run.fleet.ended),
        versions=_versions(run),
        logs=str(run.data / "logs") if run.options.keep else "",
    )


def _named(counts: Mapping[Fault, int]) -> dict[str, int]:
    return {fault.value: number for fault, number in counts.items()}


def _cuts(run: _Run) -> dict[str, int]:
    counted = json.loads(run.cuts.read_text())
    return {"cut": counted["requests"] + counted["replies"], "live": counted["live"]}


def _latency(run: _Run, *, clean: bool) -> dict[str, Spread]:
    """Milliseconds from sending to the decision, and of a claim, of signals sent in a phase."""
    first, last = (run.began_ms, run.struck_ms) if clean else (run.struck_ms, run.calm_ms)
    flights = [flight for flight in run.engine.flights.values() if first <= flight.sent_ms < last]
    return {
        "decide": Spread.of([float(flight.answer_ms) for flight in flights if flight.answer_ms is not None]),
        "claim": Spread.of([flight.claim_ms for flight in flights if flight.claim_ms is not None]),
    }


def _load(run: _Run, record: Record) -> dict[str, int | float]:
    flights, feed = list(run.engine.flights.values()), run.feed
    actions = Counter(str(flight.answer["action"]) for flight in flights if flight.answer is not None)
    reasons = Counter(
        str(reason)
        for flight in flights
        if flight.answer is not None and not flight.resting
        for reason in flight.answer["reasons"]
    )
    seconds = max(1, feed.second)
    return {
        "signals": len(flights),
        "duplicates_sent": run.engine.duplicates_sent,
        "candles": feed.sent,
        "candles_per_s": round(feed.sent / seconds, 1),
        "candles_twice": feed.duplicates,
        "candles_swapped": feed.swaps,
        "candles_sent_again": feed.retries,
        "facts": len(record.facts),
        **{f"answered_{action}": number for action, number in sorted(actions.items())},
        **{f"reason_{reason.lower()}": number for reason, number in sorted(reasons.items())},
        **{f"claim_{reason.lower()}": number for reason, number in sorted(run.engine.claims.items())},
        **{f"engine_failed_{what}": number for what, number in sorted(run.engine.failures.items())},
        **{f"report_{what.lower()}": number for what, number in sorted(run.engine.refused_reports.items())},
        "outcomes": sum(len(story.closed) for story in record.stories.values()),
        "trainings": sum(fact.kind == "training" for fact in record.facts),
        "bundles": sum(fact.kind == "published" for fact in record.facts),
        "switches": sum(fact.kind == "control" for fact in record.facts),
        "redis_bytes": run.pulse.memory_bytes(),
    }


def _versions(run: _Run) -> dict[str, str]:
    packages = {name: version(name) for name in ("redis", "rq", "psycopg")}
    return {
        "python": platform.python_version(),
        "cores": str(os.cpu_count()),
        "server": run.pulse.version(),
        "postgres": run.wiring.record.server_version(),
        **packages,
    }


# --- for people


def print_figures(figures: ChaosFigures, console: Console) -> None:
    """The run as tables: verdict, zeros, faults with recoveries, latencies."""
    colour = {"passed": "green", "failed": "red", "invalid": "yellow"}[figures.verdict.value]
    why = f": {'; '.join(figures.reasons)}" if figures.reasons else ""
    console.print(f"[bold {colour}]{figures.verdict.value.upper()}[/]{why}", highlight=False)
    zeros = Table("must be zero", "found")
    for name in ZEROS:
        zeros.add_row(name.replace("_", " "), str(figures.counts.get(name, 0)))
    console.print(zeros)
    faults = Table("fault", "injected", "on live work", "recovery p50 s", "p95 s", "max s")
    for name, number in figures.faults_injected.items():
        spread = figures.recovery.get(name, Spread.of([]))
        cells = (_cell(spread.p50), _cell(spread.p95), _cell(spread.max))
        faults.add_row(name.replace("_", " "), str(number), str(figures.faults_on_live_work[name]), *cells)
    console.print(faults)
    latencies = Table("latency, ms", "phase", "n", "p50", "p99", "max")
    for phase, spreads in figures.latency.items():
        for name, spread in spreads.items():
            latencies.add_row(name, phase, str(spread.n), _cell(spread.p50), _cell(spread.p99), _cell(spread.max))
    console.print(latencies)
    console.print("  ".join(f"{name} {number}" for name, number in figures.load.items()), highlight=False)
    for name, kept in figures.examples.items():
        for example in kept[:5]:
            console.print(f"[red]{name}[/] {example}", highlight=False)


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def run_command(options: ChaosOptions, settings_of: tuple[embedded.Fsync, ...], *, as_json: bool) -> bool:
    """Run for each setting of the append-only file; whether all passed."""
    console = Console(stderr=as_json)
    # The engine and the feed of the run live in this process, and complain at every fault.
    configure("error", as_json=False)
    runs = []
    for fsync in settings_of:
        figures = run_chaos(replace(options, fsync=fsync), console)
        runs.append(figures)
        print_figures(figures, console)
    stock = _stock(options, console) if options.baseline else {}
    if as_json:
        records = [figures.record for figures in runs]
        shown = records[0] if len(records) == 1 else {"runs": records}
        click.echo(json.dumps(shown | ({"baseline": stock} if stock else {}), indent=2))
    return all(figures.verdict is Verdict.PASSED for figures in runs)


def _stock(options: ChaosOptions, console: Console) -> dict[str, dict[str, int]]:
    """The stock stack, first untouched and then hurt: without the first the second would say nothing."""
    table = Table("stock stack", "signals", "kills", "lost", "duplicate", "counter drift", "record drift")
    found = {}
    for name, faults in (("clean", False), ("chaos", True)):
        with tempfile.TemporaryDirectory(prefix="penumbra-stock-") as data:
            minutes = options.minutes if faults else min(options.minutes, 1.0)
            run = run_baseline(Path(data), minutes=minutes, seed=options.seed, reset_share=RESET_SHARE, faults=faults)
        found[name] = run.record
        table.add_row(name, *(str(number) for number in run.record.values()))
    console.print(table)
    return found
