"""Commands around the learning loop: train, look at bundles and thresholds, move between bundles."""

from __future__ import annotations

import getpass
import json
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from qscore.table import ThresholdBook
from qscore.threshold import OPEN, SEED
from runtime.wiring import Wiring
from signals.errors import Permanent
from signals.profile import Clamping
from signals.timeday import iso_utc

SHORT = 12
PAGE_WIDTH = 140


def console() -> Console:
    """The terminal, or a page wide enough for every column where there is none."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=PAGE_WIDTH)


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
        "fenced": trained.fenced,
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
    table = Table("bundle", "standing", "n", "wins", "trained up to", "source", "AUC", "Brier skill", box=SIMPLE_HEAD)
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
    table = Table(*names, box=SIMPLE_HEAD)
    for row in rows:
        table.add_row(*(f"{row[name]:.3f}" if isinstance(row[name], float) else str(row[name]) for name in names))
    console.print(table if rows else f"no threshold has been learned: the static one, {static:g}, is in force")


def patterns(wiring: Wiring, strategy: str) -> dict[str, Any]:
    """Win rate and mean R by situation over all outcomes, and feature importance bundle by bundle."""
    from learning.patterns import find_patterns  # noqa: PLC0415 - brings scipy, which the other commands do without

    rows, laid = wiring.store.trades(strategy)
    read = {row["id"]: row for row in map(json.loads, rows)}
    read |= {name: json.loads(text) for name, text in laid.items() if text}
    gone = {name for name, text in laid.items() if not text}
    found = find_patterns([row for name, row in read.items() if name not in gone])
    importance = [
        {"bundle": row["bundle"], "n": row["n"], "importance": row["importance"]} for row in models(wiring, strategy)
    ]
    return {"patterns": found.record, "rows": found.text_rows, "importance": importance}


def print_patterns(found: dict[str, Any], console: Console) -> None:
    """The patterns as a table, and the leading features of every bundle."""
    if not found["rows"]:
        console.print("no outcome has been recorded yet")
        return
    from learning.patterns import HEADINGS  # noqa: PLC0415

    table = Table(*HEADINGS, box=SIMPLE_HEAD)
    for row in found["rows"]:
        table.add_row(*map(str, row))
    console.print(table)
    for bundle in found["importance"]:
        leading = sorted(bundle["importance"].items(), key=lambda item: -item[1])[:8]
        console.print(f"{bundle['bundle'][:SHORT]} ({bundle['n']}): " + ", ".join(f"{k} {v:.2f}" for k, v in leading))


def echo(data: object) -> None:
    """Data as JSON."""
    click.echo(json.dumps(data, indent=2, sort_keys=True))
