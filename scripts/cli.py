"""The ``penumbra`` command: each subcommand starts something and imports what it needs only then."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runtime.version import __version__
from signals.errors import PenumbraError

if TYPE_CHECKING:
    from persistence.store import Mode
    from runtime.wiring import Wiring

EXIT_REFUSED = 2


class Commands(click.Group):
    """Errors raised on purpose become one clear line and exit status 2."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except PenumbraError as error:
            from runtime.secrecy import hidden

            # The words of a driver may repeat the address they could not use.
            click.secho(f"penumbra: {hidden(str(error), ctx.obj or ())}", fg="red", err=True)
            sys.exit(EXIT_REFUSED)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="%(version)s")
def main() -> None:
    """Penumbra, a self-learning signal gate for systematic traders."""


def _wiring(namespace: str | None) -> Wiring:
    from runtime.logs import configure
    from runtime.settings import Settings
    from runtime.wiring import Wiring

    settings = Settings.load()
    secrets = settings.secrets()
    click.get_current_context().find_root().obj = secrets
    configure(settings.log.level, as_json=settings.log.as_json, secrets=secrets)
    wiring = Wiring(settings, namespace=namespace)
    click.get_current_context().call_on_close(wiring.close)
    return wiring


namespace_option = click.option("--namespace", "-n", default=None, help="another namespace than the configured one")
json_option = click.option("--json", "as_json", is_flag=True, help="print data as JSON")


@main.command()
@click.argument("candles", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--strategy", type=click.Choice(["trend", "range", "scalp"]), default="scalp", show_default=True)
@click.option("--timeframe", default=None, help="signal timeframe; default: the strategy's own")
@click.option("--max-signals", default=400, show_default=True, type=click.IntRange(1, 100_000))
@click.option("--out", type=click.Path(path_type=Path), default=Path("reports"), show_default=True)
@click.option("--seed", default=7, show_default=True, help="of the generated market, when there is no other")
@click.option("--offline", is_flag=True, help="do not ask an exchange for history")
@click.option("--keep", is_flag=True, help="leave the servers running")
def demo(
    candles: tuple[Path, ...],
    strategy: str,
    timeframe: str | None,
    max_signals: int,
    out: Path,
    seed: int,
    offline: bool,
    keep: bool,
) -> None:
    """Play candles through a real queue, worker, follower and record, and write a report."""
    from scripts.demo_run import DemoOptions, run_demo

    options = DemoOptions(
        candles=candles,
        strategy=strategy,
        timeframe=timeframe,
        max_signals=max_signals,
        out=out,
        seed=seed,
        offline=offline,
        keep=keep,
    )
    run_demo(options)


@main.command()
@click.option("--candles", "paths", multiple=True, required=True, type=click.Path(exists=True, path_type=Path))
@click.argument("more", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--strategy", type=click.Choice(["trend", "range", "scalp"]), default="trend", show_default=True)
@click.option("--timeframe", default=None, help="signal timeframe; default: the strategy's own")
@click.option("--tracking", default=None, help="timeframe positions are tracked on; default: the finest given")
@click.option("--atr-stop", type=float, default=None, help="stop distance in ATR; default: the strategy's own")
@click.option("--cooldown", type=int, default=None, help="candles to wait after a signal of the same symbol and side")
@click.option("--limits", is_flag=True, help="apply limits as live would; default: the gate alone")
@click.option("--learn", is_flag=True, help="train as live would; a replay for rules alone and for each method")
@click.option("--growth", type=click.FloatRange(0, 10), default=None, help="retrain_growth instead of the profile's")
@click.option(
    "--clamp",
    type=click.Choice(["open", "seed"]),
    default=None,
    help="of learned model thresholds: the run that is reported",
)
@click.option(
    "--method",
    type=click.Choice(["spec", "evidence"]),
    default=None,
    help="of thresholds, calibration and ensemble: the run that is reported",
)
@click.option("--labels", type=click.Choice(["spec", "evidence"]), default=None, help="what counts as an outcome in it")
@click.option(
    "--threshold", type=click.FloatRange(0, 100), default=None, help="static threshold instead of the profile's"
)
@click.option("--seed", default=1, show_default=True, help="of every resample in the report")
@click.option(
    "--verify",
    type=click.IntRange(0),
    default=12,
    show_default=True,
    help="decisions whose features are computed anew from the candles of their moment",
)
@click.option("--out", type=click.Path(path_type=Path), default=Path("reports"), show_default=True)
@json_option
def replay(
    paths: tuple[Path, ...],
    more: tuple[Path, ...],
    strategy: str,
    timeframe: str | None,
    tracking: str | None,
    atr_stop: float | None,
    cooldown: int | None,
    limits: bool,
    learn: bool,
    growth: float | None,
    clamp: str | None,
    method: str | None,
    labels: str | None,
    threshold: float | None,
    seed: int,
    verify: int,
    out: Path,
    as_json: bool,
) -> None:
    """Replay a reference strategy over candle files and report what the gate was worth."""
    from scripts.replay_run import ReplayOptions, run_replay

    options = ReplayOptions(
        paths=(*paths, *more),
        strategy=strategy,
        timeframe=timeframe,
        tracking=tracking,
        atr_stop=atr_stop,
        cooldown=cooldown,
        limits=limits,
        learn=learn,
        growth=growth,
        clamp=clamp,
        method=method,
        labels=labels,
        threshold=threshold,
        seed=seed,
        verify=verify,
        out=out,
        as_json=as_json,
    )
    replayed = run_replay(options).replayed
    # A decision that cannot be rebuilt saw something that nobody can name: no figure of the run may be believed.
    sys.exit(0 if replayed.vectors.holds and replayed.vectors_from_candles.holds else 1)


@main.command()
@namespace_option
@click.option("--threshold", "thresholds", multiple=True, help="of the recorded score: 65, or a range like 40:95:5")
@click.option("--profile", "profiles", multiple=True, help="another profile on the recorded parts of each score")
@click.option("--bundle", "bundles", multiple=True, help="another bundle: its address begins so, or newest")
@click.option("--table", "tables", multiple=True, help="a bundle's learned thresholds for the recorded scores")
@click.option("--strategy", default=None, help="of the record, or the reference strategy that is replayed")
@click.option(
    "--candles", multiple=True, type=click.Path(exists=True, path_type=Path), help="replay these instead of the record"
)
@click.option("--timeframe", default=None, help="of replayed signals; default: the strategy's own")
@click.option("--tracking", default=None, help="timeframe replayed positions are tracked on; default: the finest given")
@click.option("--learn", is_flag=True, help="train in the replay as live would")
@click.option("--limits", is_flag=True, help="apply limits and breakers to every policy in its own order")
@click.option("--costs-bps", default=10.0, show_default=True, type=click.FloatRange(0, 1_000), help="of the verdict")
@click.option("--seed", default=1, show_default=True, help="of every resample")
@click.option("--html", type=click.Path(path_type=Path), default=None, help="write a page there")
@json_option
def whatif(
    namespace: str | None,
    thresholds: tuple[str, ...],
    profiles: tuple[str, ...],
    bundles: tuple[str, ...],
    tables: tuple[str, ...],
    strategy: str | None,
    candles: tuple[Path, ...],
    timeframe: str | None,
    tracking: str | None,
    learn: bool,
    limits: bool,
    costs_bps: float,
    seed: int,
    html: Path | None,
    as_json: bool,
) -> None:
    """Ask what another gate would have made of the recorded signals, executed and refused, beside the current one."""
    from scripts.whatif_run import WhatIfOptions, run_whatif

    options = WhatIfOptions(
        thresholds=thresholds,
        profiles=profiles,
        bundles=bundles,
        tables=tables,
        strategy=strategy,
        candles=candles,
        timeframe=timeframe,
        tracking=tracking,
        learn=learn,
        limits=limits,
        costs_bps=costs_bps,
        seed=seed,
        html=html,
        as_json=as_json,
    )
    run_whatif(options, lambda: _wiring(namespace))


@main.command()
@namespace_option
@click.option("--burst", is_flag=True, help="stop when the queue is empty")
@click.option("--alone", is_flag=True, help="in this very process, without a parent that watches and restarts it")
@click.option("--watched", type=int, default=None, hidden=True, help="a pipe to the parent")
def worker(namespace: str | None, burst: bool, alone: bool, watched: int | None) -> None:
    """Answer signals from the queue."""
    from functools import partial

    from scripts.stopping import stop_on_signals
    from worker.client import queue_name
    from worker.queue import GateWorker
    from worker.serve import serve
    from worker.supervise import Supervisor, teller

    wiring = _wiring(namespace)
    wiring.require_keys()
    wiring.ensure_namespace()
    wiring.reconcile_or_halt()
    if not burst and not alone and watched is None:
        command = [sys.executable, "-m", "scripts.cli", "worker", "--namespace", wiring.namespace]
        Supervisor(command, wiring.client).run(stop_on_signals())
        return
    queue = wiring.settings.queue
    make = partial(
        GateWorker,
        queue_name(wiring.namespace, queue.name),
        connection=wiring.queue_connection(),
        service=wiring.service,
        result_ttl_s=queue.result_ttl_s,
        failure_ttl_s=queue.failure_ttl_s,
        job_timeout_s=queue.job_timeout_s,
        upkeep=wiring.store.offer_scripts,
        tell=teller(watched) if watched is not None else lambda _line: None,
    )
    if burst:
        make().run(burst=True)
    else:
        serve(make)


@main.command()
@namespace_option
def relay(namespace: str | None) -> None:
    """Carry committed facts to Postgres."""
    from persistence.outbox import Relay
    from scripts.stopping import stop_on_signals
    from worker.relay import run

    wiring = _wiring(namespace)
    wiring.ensure_namespace()
    settings = wiring.settings.relay
    carrier = Relay(wiring.client, wiring.store.keys, wiring.record)
    run(carrier, stop_on_signals(), settings.poll_ms, max_batch=settings.batch, check=wiring.reconcile_or_halt)


@main.command()
@namespace_option
def follow(namespace: str | None) -> None:
    """Follow open positions through the candles that are fed."""
    from scripts.stopping import stop_on_signals
    from worker.follow import FollowLoop

    wiring = _wiring(namespace)
    wiring.ensure_namespace()
    FollowLoop(wiring.store, wiring.feed(), wiring.follower()).run(stop_on_signals())


@main.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@namespace_option
def feed(paths: tuple[Path, ...], namespace: str | None) -> None:
    """Feed candles from files to the follower, in the order of time."""
    from scripts.feed_run import feed_files

    fed = feed_files(_wiring(namespace), paths)
    click.echo(f"{fed} candles fed")


@main.command()
@namespace_option
@click.option("--clock", type=click.Choice(["live", "data"]), default="live", show_default=True)
def migrate(namespace: str | None, clock: str) -> None:
    """Bring Postgres up to date and create the namespace where there has never been one."""
    from persistence.store import ClockKind

    wiring = _wiring(namespace)
    wiring.ensure_namespace(ClockKind(clock))
    click.echo(f"namespace {wiring.namespace or '(default)'} is ready")


@main.command()
@namespace_option
@click.option("--force", is_flag=True, help="also out of HALT, and without what is lost")
def rebuild(namespace: str | None, force: bool) -> None:
    """Recreate the live state in Redis from the record in Postgres; ends in HALT."""
    from persistence import rebuild as rebuilding

    wiring = _wiring(namespace)
    wiring.record.migrate()
    wiring.store.check_server(any_schema=True)
    report = rebuilding.rebuild(wiring.patient_client, wiring.store.keys, wiring.record, force=force)
    click.echo(str(report))
    # A namespace from before there were breakers has no thresholds in its record.
    wiring.store.configure_breakers(wiring.settings.breakers.built(), now_ms=wiring.store.now_ms())
    click.echo("The namespace is in HALT. Look it over, then run: penumbra on")


@main.command("verify-audit")
@namespace_option
@click.option("--expect-head", default=None, help="a head printed earlier, by a report or by this command")
@json_option
def verify_audit(namespace: str | None, expect_head: str | None, as_json: bool) -> None:
    """Walk the record's hash chain; names the first row that is not what was recorded. Exit status 0 or 1."""
    from scripts.audit_run import run_verify

    sys.exit(run_verify(_wiring(namespace), expect_head=expect_head, as_json=as_json))


@main.command()
@namespace_option
@click.option("--repair", is_flag=True, help="halt and rebuild when a rule does not hold")
@json_option
def reconcile(namespace: str | None, repair: bool, as_json: bool) -> None:
    """Compare live state and record, rule by rule. Exit status 0 or 1."""
    from scripts.audit_run import run_reconcile

    sys.exit(run_reconcile(_wiring(namespace), repair=repair, as_json=as_json))


def _switch(namespace: str | None, mode: Mode, reason: str, expected: int | None = None) -> None:
    import getpass

    service = _wiring(namespace).service
    control = service.set_mode(mode, actor=f"cli:{getpass.getuser()}", reason=reason, expected=expected)
    click.echo(f"mode {control.mode.value}, generation {control.generation}: {control.reason}")


@main.command()
@click.argument("reason", nargs=-1)
@namespace_option
def halt(reason: tuple[str, ...], namespace: str | None) -> None:
    """Stop all executes at once; positions are still followed."""
    from persistence.store import Mode

    _switch(namespace, Mode.HALT, " ".join(reason) or "by hand")


confirm_option = click.option("--confirm", type=int, default=None, help="the generation you have looked at")


@main.command("ml-off")
@click.argument("reason", nargs=-1)
@namespace_option
@confirm_option
def ml_off(reason: tuple[str, ...], namespace: str | None, confirm: int | None) -> None:
    """Let the heuristic alone decide; unclaimed model decisions are revoked. Out of HALT it takes two steps."""
    from persistence.store import Mode

    _switch_up(namespace, Mode.ML_OFF, "ml-off", " ".join(reason) or "by hand", confirm)


@main.command()
@click.argument("reason", nargs=-1)
@namespace_option
@confirm_option
def on(reason: tuple[str, ...], namespace: str | None, confirm: int | None) -> None:
    """Let the gate execute again. Riskier, so it takes two steps: look, then confirm what you saw."""
    from persistence.store import Mode

    _switch_up(namespace, Mode.ON, "on", " ".join(reason) or "by hand", confirm)


def _switch_up(namespace: str | None, mode: Mode, command: str, reason: str, confirm: int | None) -> None:
    """Switch to a mode that may execute: from where less was allowed only after the generation has been looked at."""
    from persistence.store import Mode, StateMissing

    current = _wiring(namespace).store.control()
    if current is None:
        raise StateMissing("no control key: create the namespace or rebuild it first")
    safer = mode is Mode.ML_OFF and current.mode is not Mode.HALT
    if not safer and confirm != current.generation:
        click.echo(
            f"mode {current.mode.value} since generation {current.generation}, by {current.actor}: {current.reason}"
        )
        click.echo(f"To let it execute again: penumbra {command} --confirm {current.generation}")
        sys.exit(EXIT_REFUSED if confirm is not None else 0)
    _switch(namespace, mode, reason, expected=None if safer else confirm)


@main.group(invoke_without_command=True)
@namespace_option
@json_option
@click.pass_context
def breakers(ctx: click.Context, namespace: str | None, as_json: bool) -> None:
    """Show every breaker with value and limit, armed or not, and when it tripped."""
    ctx.obj = namespace
    if ctx.invoked_subcommand is None:
        from scripts import breakers as shown
        from scripts.learning import console, echo

        found = shown.report(_wiring(namespace))
        if as_json:
            echo(found.as_dict())
        else:
            shown.print_report(found, console())


@breakers.command("reset")
@click.argument("name")
@click.option("--confirm", type=int, default=None, help="the generation you have looked at")
@click.pass_obj
def reset_breaker(namespace: str | None, name: str, confirm: int | None) -> None:
    """Let a breaker count anew. Riskier, so it takes two steps: look, then confirm what you saw."""
    import getpass

    from scripts import breakers as shown

    click.echo(shown.reset(_wiring(namespace), name, confirm, actor=f"cli:{getpass.getuser()}"))


@main.command()
@namespace_option
def train(namespace: str | None) -> None:
    """Train whenever a boundary is reached; its own process, needs the extra `learning`."""
    from scripts.stopping import stop_on_signals
    from worker.train import run

    wiring = _wiring(namespace)
    wiring.ensure_namespace()
    run(wiring.trainer(), stop_on_signals())


@main.command()
@click.argument("strategy")
@namespace_option
def retrain(strategy: str, namespace: str | None) -> None:
    """Train a strategy now."""
    from scripts.learning import echo, train_once

    wiring = _wiring(namespace)
    wiring.settings.profile(strategy)
    echo(train_once(wiring, strategy))


@main.command()
@click.option("--candles", "paths", multiple=True, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--strategy", type=click.Choice(["trend", "range", "scalp"]), default="trend", show_default=True)
@click.option("--timeframe", default=None, help="signal timeframe; default: the strategy's own")
@click.option("--ablation", type=click.Choice(["ta", "mechanics", "full"]), default="full", show_default=True)
@click.option("--costs", type=click.FloatRange(0, 1_000), default=10.0, show_default=True, help="basis points")
@click.option("--seed", default=1, show_default=True, help="of every fit")
@json_option
def heads(
    paths: tuple[Path, ...],
    strategy: str,
    timeframe: str | None,
    ablation: str,
    costs: float,
    seed: int,
    as_json: bool,
) -> None:
    """Walk forward over candle files: what could be forecast beside the win, and which features it took."""
    from scorer.schema import Ablation
    from scripts.heads_run import HeadsOptions, run_heads

    options = HeadsOptions(
        paths=paths,
        strategy=strategy,
        timeframe=timeframe,
        ablation=Ablation(ablation),
        costs_bps=costs,
        seed=seed,
        as_json=as_json,
    )
    run_heads(options)


@main.command()
@click.argument("strategy")
@namespace_option
@json_option
def models(strategy: str, namespace: str | None, as_json: bool) -> None:
    """List the published bundles of a strategy, and what workers refused to serve."""
    from scripts import learning

    wiring = _wiring(namespace)
    rows = learning.models(wiring, strategy)
    if as_json:
        learning.echo(rows)
    else:
        learning.print_models(rows, learning.console())
        learning.print_refusals(learning.refusals(wiring, strategy), learning.console())


@main.command()
@click.argument("strategy")
@click.argument("bundle")
@namespace_option
def promote(strategy: str, bundle: str, namespace: str | None) -> None:
    """Put a published bundle in force, by the beginning of its address."""
    from scripts.learning import move

    click.echo(f"in force: {move(_wiring(namespace), strategy, bundle)}")


@main.command()
@click.argument("strategy")
@namespace_option
def rollback(strategy: str, namespace: str | None) -> None:
    """Go back to the bundle that was in force before."""
    from scripts.learning import move

    click.echo(f"in force: {move(_wiring(namespace), strategy, None)}")


@main.command()
@click.argument("strategy")
@namespace_option
@json_option
def patterns(strategy: str, namespace: str | None, as_json: bool) -> None:
    """Win rate and mean R by hour, session, volatility, volume and trend, and what the models looked at."""
    from scripts import learning

    wiring = _wiring(namespace)
    wiring.settings.profile(strategy)
    found = learning.patterns(wiring, strategy)
    if as_json:
        learning.echo(found)
    else:
        learning.print_patterns(found, learning.console())


@main.command()
@click.argument("strategy")
@namespace_option
@json_option
def outcomes(strategy: str, namespace: str | None, as_json: bool) -> None:
    """How positions end: target, stop, deadline, those still open counted as such; timeouts at their marks."""
    from scripts import learning
    from scripts import outcomes as told

    wiring = _wiring(namespace)
    wiring.settings.profile(strategy)
    found = told.outcomes(wiring, strategy)
    if as_json:
        learning.echo(found)
    else:
        told.print_outcomes(found, learning.console())


@main.command()
@click.argument("strategy")
@namespace_option
@json_option
def thresholds(strategy: str, namespace: str | None, as_json: bool) -> None:
    """Show the learned thresholds, what they were learned from, and the clamp in effect."""
    from scripts import learning

    wiring = _wiring(namespace)
    rows = learning.thresholds(wiring, strategy)
    if as_json:
        learning.echo(rows)
    else:
        learning.print_thresholds(rows, wiring.settings.profile(strategy).static_threshold, learning.console())


@main.command()
@namespace_option
@click.option("--strategy", default=None, help="one strategy instead of all")
@click.option("--seed", default=1, show_default=True, help="of every resample")
@click.option("--page", type=click.Path(path_type=Path, dir_okay=False), default=None, help="write it as a page too")
@json_option
def fidelity(namespace: str | None, strategy: str | None, seed: int, page: Path | None, as_json: bool) -> None:
    """Compare live results with their simulated twins, and say what refused signals would have earned live."""
    from scripts.fidelity_run import run_fidelity

    wiring = _wiring(namespace)
    if strategy is not None:
        wiring.settings.profile(strategy)
    run_fidelity(wiring, strategy=strategy, seed=seed, page=page, as_json=as_json)


@main.command()
@click.argument("strategy")
@namespace_option
@click.option("--candles", multiple=True, type=click.Path(exists=True, path_type=Path),
              help="compute the reference strategy's features again from candles cut at each signal")  # fmt: skip
@click.option("--samples", type=click.IntRange(1), default=12, show_default=True, help="signals of each candle file")
@click.option("--record/--no-record", default=True, show_default=True, help="look at the recorded decisions too")
@json_option
def leaks(
    strategy: str, namespace: str | None, candles: tuple[Path, ...], samples: int, record: bool, as_json: bool
) -> None:
    """Which feature is known when, and does every recorded decision still rebuild. Exit status 0 or 1."""
    from runtime.settings import Settings
    from scripts.leaks_run import run_leaks

    if record:
        wiring = _wiring(namespace)
        profile, facts = wiring.settings.profile(strategy), wiring.record
    else:
        profile, facts = Settings.load().profile(strategy), None
    sys.exit(run_leaks(profile, facts, candles, samples=samples, as_json=as_json))


@main.group(cls=Commands)
def gates() -> None:
    """Search decided signals for gates, with every doubt beside every number."""


def _top(_context: click.Context, _parameter: click.Parameter, word: str) -> int | None:
    if word == "all":
        return None
    if not word.isascii() or not word.isdigit() or not 1 <= int(word) <= 1_000:
        raise click.BadParameter("expected a number of variables, or all")
    return int(word)


@gates.command("report")
@namespace_option
@click.option("--profile", default="scalp", show_default=True)
@click.option("--days", type=click.IntRange(1, 36_500), default=None, help="signals of the last so many days")
@click.option("--month", default=None, help="signals of a UTC month, like 2024-06; default: everything")
@click.option("--kind", type=click.Choice(["phantom", "executed", "all"]), default="phantom", show_default=True)
@click.option("--top", default="10", show_default=True, callback=_top, help="variables combined, or all")
@click.option("--shifts", default=1_000, show_default=True, type=click.IntRange(20, 100_000), help="of the outcomes")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(0), help="of every resample")
@click.option(
    "--candles", multiple=True, type=click.Path(exists=True, path_type=Path), help="replay these instead of the record"
)
@click.option("--strategy", type=click.Choice(["trend", "range", "scalp"]), default=None, help="that is replayed")
@click.option("--tracking", default=None, help="timeframe replayed positions are tracked on; default: the finest given")
@click.option(
    "--variables",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=None,
    help="variables of your own beside the 28, TOML or YAML",
)
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), default=None, help="write a page there")
@click.option(
    "--write-gates",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="write the honest list there as hard gates, YAML; refused when nothing is honest",
)
@json_option
def gates_report(
    namespace: str | None,
    profile: str,
    days: int | None,
    month: str | None,
    kind: str,
    top: int | None,
    shifts: int,
    seed: int,
    candles: tuple[Path, ...],
    strategy: str | None,
    tracking: str | None,
    variables: Path | None,
    html: Path | None,
    write_gates: Path | None,
    as_json: bool,
) -> None:
    """Report which gates the decided signals of a window speak for, and how much of it luck would bring."""
    from scripts.gates_run import GatesOptions, run_gates

    options = GatesOptions(
        profile=profile,
        days=days,
        month=month,
        kind=kind,
        top=top,
        shifts=shifts,
        seed=seed,
        candles=candles,
        strategy=strategy,
        tracking=tracking,
        variables=variables,
        html=html,
        write_gates=write_gates,
        as_json=as_json,
    )
    run_gates(options, lambda: _wiring(namespace))


@gates.command("list")
@namespace_option
@click.option("--profile", default=None, help="one profile instead of all")
@json_option
def gates_list(namespace: str | None, profile: str | None, as_json: bool) -> None:
    """List the stored reports, one for each profile and slot."""
    from scripts.gates_run import list_slots

    list_slots(_wiring(namespace).record, profile=profile, as_json=as_json)


@gates.command("show")
@click.argument("slot")
@namespace_option
@click.option("--profile", default="scalp", show_default=True)
@json_option
def gates_show(slot: str, namespace: str | None, profile: str, as_json: bool) -> None:
    """Print the stored report of a slot: a day like 2024-06-30 or a week like 2024-W26."""
    from scripts.gates_run import show_slot

    show_slot(_wiring(namespace).record, profile, slot, as_json=as_json)


@main.command()
@click.argument("key")
@namespace_option
def state(key: str, namespace: str | None) -> None:
    """Print a piece of live state as JSON, also under its founding name, like phantom:active."""
    from persistence.views import view

    click.echo(json.dumps(view(_wiring(namespace).store, key), indent=2, sort_keys=True, ensure_ascii=False))


@main.command("show-config")
def show_config() -> None:
    """Print the settings in force, without secrets."""
    from runtime.settings import Settings

    click.echo(json.dumps(Settings.load().redacted(), indent=2))


@main.command("new-config")
def new_config() -> None:
    """Print an example penumbra.toml with every setting."""
    from runtime.settings import write_example

    click.echo(write_example(), nl=False)


@main.command()
@namespace_option
@click.option(
    "--out", type=click.Path(path_type=Path), default=None, help="write it there, for the owner's group to read"
)
def access(namespace: str | None, out: Path | None) -> None:
    """Print the ACL file for a Redis of your own: each role's password hashed, with the rights it needs."""
    from persistence.access import acl_file
    from persistence.keys import Keys
    from runtime.settings import Settings
    from runtime.signing import check_access
    from worker.client import queue_name

    settings = Settings.load()
    name = settings.namespace if namespace is None else namespace
    text = acl_file(check_access(settings), Keys(name), queue_name(name, settings.queue.name))
    if out is None:
        click.echo(text, nl=False)
        return
    new = out.with_name(f"{out.name}.new")
    new.touch(mode=0o640)
    new.write_text(text)
    new.replace(out)
    click.echo(f"{out}: {', '.join(role for role in settings.access.given())}")


@main.command("new-env")
def new_env() -> None:
    """Print an .env for the compose file with fresh secrets: umask 077; penumbra new-env > .env."""
    from runtime.chance import secret_bytes
    from signals.errors import Permanent

    example = Path(__file__).parents[1] / ".env.example"
    if not example.exists():
        raise Permanent(f"{example} is not there: run it from a checkout")
    for line in example.read_text("utf-8").splitlines():
        empty = line.endswith("=") and not line.startswith("#")
        click.echo(f"{line}{secret_bytes(24).hex()}" if empty else line)


@main.command()
def address() -> None:
    """Print where the live state answers: what an engine connects to. A password is not shown."""
    from runtime.secrecy import masked

    click.echo(masked(_wiring(None).redis_url))


@main.group(cls=Commands)
def bench() -> None:
    """Measure this machine; every figure stands beside a baseline of the same run."""


@bench.command("loop")
@click.option("--sizes", default="100,300,1000,3000", show_default=True, help="decisive outcomes, comma-separated")
@click.option("--boundary", default=100, show_default=True, type=click.IntRange(50, 5_000), help="of the first round")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1, 100), help="boundaries to pass")
@click.option("--repeats", default=200, show_default=True, type=click.IntRange(3, 100_000), help="of each score")
@click.option("--launches", default=5, show_default=True, type=click.IntRange(1, 100), help="of each fresh process")
@json_option
def bench_loop(sizes: str, boundary: int, rounds: int, repeats: int, launches: int, as_json: bool) -> None:
    """Fits, bundles, scores, and the time from an outcome to a decision with what was learned from it."""
    from scripts.bench_loop import LoopOptions, run_loop, sizes_from

    options = LoopOptions(
        sizes=sizes_from(sizes),
        boundary=boundary,
        rounds=rounds,
        repeats=repeats,
        launches=launches,
        as_json=as_json,
    )
    run_loop(options)


@main.command()
def down() -> None:
    """Stop the embedded servers; their data stays."""
    from runtime import embedded
    from runtime.settings import Settings

    report = embedded.stop(Settings.load().data_dir)
    click.echo(
        f"valkey {'stopped' if report.redis_stopped else 'was not running'}, "
        f"postgres {'stopped' if report.postgres_stopped else 'was not running'}"
    )


@main.command()
@click.option("--full", is_flag=True, help="as many worlds as the published figures rest on; default: a few")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="of every world")
@click.option("--fresh", is_flag=True, help="a seed that nobody chose; it is printed")
@click.option("--item", "items", type=int, multiple=True, help="only this promise, by its number; may be repeated")
@click.option("--jobs", type=click.IntRange(1, 64), default=1, show_default=True, help="studies at once")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default=Path("reports/coverage.html"),
              show_default=True)  # fmt: skip
@json_option
def coverage(full: bool, seed: int, fresh: bool, items: tuple[int, ...], jobs: int, out: Path, as_json: bool) -> None:
    """Check in simulated worlds with known truth whether the statistics keep their promises. Exit status 0 or 1."""
    from scripts.coverage_run import run_coverage

    if fresh and click.get_current_context().get_parameter_source("seed") is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--seed and --fresh contradict each other")
    sys.exit(run_coverage(items, full=full, seed=seed, fresh=fresh, jobs=jobs, out=out, as_json=as_json))


@main.command()
@click.option("--minutes", type=click.FloatRange(0.5, 1440), default=5.0, show_default=True)
@click.option("--seed", default=1, show_default=True, help="of the market, the load and the order of the faults")
@click.option("--load", type=click.Choice(["small", "normal", "design"]), default="normal", show_default=True)
@click.option("--fsync", type=click.Choice(["everysec", "always", "both"]), default="everysec", show_default=True)
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), default=None, help="keep data and logs here")
@click.option("--baseline", is_flag=True, help="put the stack that everybody writes first through the same, beside it")
@json_option
def chaos(minutes: float, seed: int, load: str, fsync: str, keep: Path | None, baseline: bool, as_json: bool) -> None:
    """Hurt real processes under load on servers of their own, and count what was lost; fails unless nothing was."""
    from scripts.chaos.run import ChaosOptions, run_command

    options = ChaosOptions(minutes=minutes, seed=seed, load=load, keep=keep, baseline=baseline)
    chosen = ("everysec", "always") if fsync == "both" else (fsync,)
    if not run_command(options, chosen, as_json=as_json):  # type: ignore[arg-type]  # click has checked the words
        sys.exit(1)


if __name__ == "__main__":
    main()
