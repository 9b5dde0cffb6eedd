"""``penumbra leaks``: which feature is known when, and does every recorded decision still rebuild."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

from lab.leaks import LeakAudit, audit, compared_again, recorded
from lab.tables import add_row, titled_table
from market.reference_strategies import DEFAULT_SETTINGS
from persistence.record import Record
from scorer.schema import SCHEMAS
from scripts.learning import console
from scripts.sources import read_series
from signals.profile import Profile

LEAKING = 1


def run_leaks(profile: Profile, record: Record | None, candles: Sequence[Path], *, samples: int, as_json: bool) -> int:
    """Audit one profile; 0 when nothing leaks and everything rebuilds."""
    schema = SCHEMAS[profile.features]
    told = None if record is None else recorded(record.facts(), profile.name)
    again = None
    if candles:
        series = read_series(candles).tracking
        again = compared_again(schema.name, series, DEFAULT_SETTINGS[schema.name], samples)
    found = audit(profile.name, schema, told, again)
    if as_json:
        click.echo(json.dumps(found.record, indent=2))
    else:
        print_audit(found, console())
    return 0 if found.holds else LEAKING


def print_audit(found: LeakAudit, console: Console) -> None:
    """Every feature as a row, then the decisions, then what speaks against them."""
    title = f"{found.strategy}: features of schema {found.schema}, all needed when the signal's candle closes"
    names = ("feature", "used by", "known", "side", "source", "look-back", "AUC alone", "cut = whole", "verdict")
    table = titled_table(title, *names, first_width=16)
    for row in found.features:
        add_row(
            table,
            row.feature,
            row.use,
            row.known,
            row.direction,
            row.source,
            "–" if row.look_back is None else str(row.look_back),
            "–" if row.auc is None else f"{row.auc:.3f}",
            f"{row.compared - row.different} of {row.compared}" if row.compared else "–",
            row.verdict,
            style="" if row.sound else "bold red",
        )
    console.print(table)
    console.print(f"decisions rebuilt from their records: {found.decisions}", highlight=False)
    console.print(f"closed positions against their decisions: {found.closed}", highlight=False)
    for mismatch in (*found.decisions.mismatches, *found.closed.mismatches):
        console.print(f"  {mismatch}", style="red", highlight=False, markup=False)
    console.print(f"outcomes looked at as training rows: {found.outcomes:,}", highlight=False)
    for leak in found.leaks:
        console.print(f"  {leak.sentence}", style="bold red", highlight=False, markup=False)
    if found.holds:
        console.print("nothing leaks")
