"""Commands around the learning loop: train, look at bundles and thresholds, move between bundles."""

from __future__ import annotations

import getpass
import json
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from qscore.table import ThresholdBook
from qscore.threshold import OPEN, SEED
from runtime.wiring import Wiring
from signals.errors import Permanent
from signals.profile import Clamping
from signals.timeday import iso_utc

SHORT = 12


def train_once(wiring: Wiring, strategy: str) -> dict[str, object]:
    """One attempt now, whether or not a boundary was reached."""
    trained = wiring.trainer().attempt(strategy)
    return {
        "strategy": trained.strategy,
        "attempt": trained.attempt,
        "count": trained.count,
        "next_at": trained.next_at,
        "bundle": trained.address or None,
        "reason": trained.reason or None,
        "detail": trained.detail or None,
    }


def models(wiring: Wiring, strategy: str) -> list[dict[str, Any]]:
    """Published bundles, oldest first, with the ones in force marked."""
    training = wiring.store.training(strategy)
    rows: list[dict[str, Any]] = []
    for address, text in wiring.store.manifests(strategy).items():
        manifest: dict[str, Any] = json.loads(text)
        standing = {training.bundle: "champion", training.previous: "previous"}.get(address, "")
        rows.append({"bundle": address, "standing": standing, **manifest})
    return sorted(rows, key=lambda row: (row["last_ms"], row["bundle"]))


def print_models(rows: list[dict[str, Any]], console: Console) -> None:
    """The bundles as a table."""
    table = Table("bundle", "standing", "n", "wins", "trained up to", "source", "AUC", "Brier skill")
    for row in rows:
        metrics = row["metrics"]
        table.add_row(
            row["bundle"][:SHORT],
            row["standing"],
            str(row["n"]),
            str(row["wins"]),
            iso_utc(row["last_ms"])[:16],
            row["source"],
            _figure(metrics.get("auc")),
            _figure(metrics.get("brier_skill")),
        )
    console.print(table if rows else "no bundle has been published")


def _figure(value: object) -> str:
    return f"{value:+.3f}" if isinstance(value, float) else "–"


def move(wiring: Wiring, strategy: str, address: str | None) -> str:
    """Put another published bundle in force; without an address the previous one. Returns its address."""
    training = wiring.store.training(strategy)
    known = wiring.store.manifests(strategy)
    if training.bundle is None:
        raise Permanent(f"{strategy} has no bundle in force")
    wanted = training.previous if address is None else _only(list(known), address)
    if wanted is None:
        raise Permanent(f"{strategy} has no previous bundle")
    moved = wiring.store.point(
        strategy,
        wanted,
        expected=training.bundle,
        actor=f"cli:{getpass.getuser()}",
        now_ms=wiring.store.now_ms(),
    )
    if not moved:
        raise Permanent(f"{wanted[:SHORT]} is already in force, or another bundle came meanwhile: look again")
    return wanted


def _only(addresses: list[str], start: str) -> str:
    found = [address for address in addresses if address.startswith(start)]
    if len(found) != 1:
        raise Permanent(f"{len(found)} published bundles begin with {start!r}")
    return found[0]


def thresholds(wiring: Wiring, strategy: str) -> list[dict[str, Any]]:
    """Every learned threshold with what it was learned from and the clamp in effect."""
    profile = wiring.settings.profile(strategy)
    text = wiring.store.client.get(wiring.store.keys.qcal(strategy, "thr"))
    record = json.loads(text) if text else {}
    book = ThresholdBook.from_json(record) if record else ThresholdBook()
    rows = []
    for table in book.tables:
        model = table.w > 0.0
        clamp = OPEN if model and profile.clamp is Clamping.OPEN else SEED
        rows += [
            {
                "scores": table.score_source,
                "w": table.w,
                "bucket": row.bucket,
                "n": row.n,
                "wins": row.wins,
                "losses": row.losses,
                "W": row.mean_win_r,
                "L": row.mean_loss_r,
                "p_min": row.p_min,
                "threshold": row.threshold.value,
                "unclamped": row.threshold.unclamped,
                "clamp": str(clamp),
                "note": row.note,
            }
            for row in table.rows(clamp)
        ]
    return rows


def print_thresholds(rows: list[dict[str, Any]], static: float, console: Console) -> None:
    """The thresholds as a table."""
    names = ("scores", "bucket", "n", "wins", "losses", "W", "L", "p_min", "threshold", "unclamped", "clamp", "note")
    table = Table(*names)
    for row in rows:
        table.add_row(*(f"{row[name]:.3f}" if isinstance(row[name], float) else str(row[name]) for name in names))
    console.print(table if rows else f"no threshold has been learned: the static one, {static:g}, is in force")


def echo(data: object) -> None:
    """Data as JSON."""
    click.echo(json.dumps(data, indent=2, sort_keys=True))
