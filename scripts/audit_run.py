"""``penumbra reconcile`` and ``penumbra verify-audit``: what they print, and the exit status."""

from __future__ import annotations

import json

import click

from persistence import rebuild as rebuilding
from persistence.audit import verify
from persistence.outbox import confirmed_head
from persistence.reconcile import RULES, ReconcileReport
from persistence.store import Mode
from runtime.reconcile import ACTOR, reconciled
from runtime.wiring import Wiring
from signals.errors import Permanent, Transient

BROKEN = 1


def run_verify(wiring: Wiring, *, expect_head: str | None, as_json: bool) -> int:
    """Walk the chain; 0 when it holds."""
    try:
        confirmed = confirmed_head(wiring.client, wiring.store.keys)
    except Transient as error:
        click.secho(f"without Redis, whose head is therefore not compared: {error}", fg="yellow", err=True)
        confirmed = None
    report = verify(wiring.record, expect_head=expect_head, expected=confirmed)
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2))
    elif report.broken is None:
        click.echo(f"{report.links} facts, every one as it was recorded\nhead {report.head}")
    else:
        click.secho(f"BROKEN, {report.broken}", fg="red")
        click.echo(f"{report.links} links hold, up to {report.head}")
    return 0 if report.whole else BROKEN


def run_reconcile(wiring: Wiring, *, repair: bool, as_json: bool) -> int:
    """Check every rule, with ``repair`` rebuild what does not hold and check again; 0 when all hold at the end."""
    report = reconciled(wiring.patient_store, wiring.record)
    if repair and not report.clean:
        if not as_json:
            _print(report)
        report = _repaired(wiring, report)
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2))
    else:
        _print(report)
    return 0 if report.clean else BROKEN


def _repaired(wiring: Wiring, report: ReconcileReport) -> ReconcileReport:
    """The exact repair is the fold of all facts; it needs a record that can be believed."""
    if "R8" in report.broken:
        raise Permanent(f"the record itself is not whole, nothing may be rebuilt from it: {report.audit.broken}")
    store = wiring.patient_store
    if store.control() is not None:
        store.set_mode(Mode.HALT, actor=ACTOR, reason=f"repair: {', '.join(report.broken)}", now_ms=store.now_ms())
    rebuilt = rebuilding.rebuild(wiring.patient_client, store.keys, wiring.record)
    click.echo(f"{rebuilt}\nThe namespace is in HALT. Look it over, then run: penumbra on", err=True)
    return reconciled(store, wiring.record)


def _print(report: ReconcileReport) -> None:
    for name, finding in report.findings.items():
        colour = "green" if finding.violations == 0 else "red"
        told = "holds" if finding.violations == 0 else f"{finding.violations} violations"
        click.echo(f"{name} {click.style(f'{told:14}', fg=colour)} {finding.checked:>7} checked  {RULES[name]}")
        for listed in finding.listed:
            click.echo(f"     {listed}")
        if finding.violations > len(finding.listed):
            click.echo(f"     and {finding.violations - len(finding.listed)} more")
    for remark in report.remarks:
        click.echo(f"note: {remark}")
    click.echo(f"at fact {report.seq}, {report.undrained} on their way to the record; chain head {report.audit.head}")
    if not report.clean:
        click.echo("To stop: penumbra halt. To make Redis exact again: penumbra rebuild")
