"""``penumbra breakers``: what each one reads, its limit, whether it is armed, and when it turned."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass

import click
from rich.console import Console
from rich.table import Table

from persistence.breakers import RESETTABLE, TRIP, Panel, generation
from persistence.store import MICRO
from runtime.wiring import Wiring
from signals.errors import Permanent
from signals.timeday import iso_utc

EXIT_LOOK_FIRST = 2
EFFECTS = {
    "drawdown_r": ("R", "block"),
    "drawdown_money": ("money", "block"),
    "losing_streak": ("losses", "rules only"),
    "order_rate": ("orders/s", "block"),
    "slippage": ("R in 20 fills", "rules only"),
    "latency": ("ms", "rules only"),
    "regime_confidence": ("0-1, of each signal", "rules only"),
    "stale_feed": ("s", "block"),
    "stale_breakers": ("s", "block"),
    "daily_loss_r": ("R", "block"),
    "daily_loss_money": ("money", "block"),
}
_SCALES = {"R": MICRO, "money": MICRO, "R in 20 fills": MICRO, "ms": 1_000, "s": 1_000, "0-1, of each signal": MICRO}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A breaker as people read it. ``since_ms`` is when it tripped, ``confirm`` what a reset must name."""

    name: str
    state: str
    value: float | None
    limit: float
    unit: str
    effect: str
    unarmed: str
    since_ms: int | None
    confirm: int | None


@dataclass(frozen=True, slots=True)
class Turn:
    """A transition that was recorded."""

    at_ms: int
    name: str
    change: str
    value: float
    limit: float
    unit: str
    by: str


@dataclass(frozen=True, slots=True)
class Report:
    """Breakers now, the generation of all of them, and the last hundred transitions, newest first."""

    generation: int | None
    breakers: tuple[Row, ...]
    history: tuple[Turn, ...]

    def as_dict(self) -> dict[str, object]:
        """Plain JSON-able form."""
        return asdict(self)


def report(wiring: Wiring) -> Report:
    """Read the breakers of a namespace; without their state there is nothing to show and everything is blocked."""
    now_ms = wiring.store.now_ms()
    inputs = wiring.store.breaker_inputs(now_ms=now_ms)
    panel = Panel(inputs)
    history = tuple(_turn(line) for line in inputs.history)
    if not panel.intact:
        return Report(None, (), history)
    panel.watch(now_ms)
    shown = {reading.name for reading in panel.readings}
    for name, profile in sorted(wiring.profiles.items()):
        if f"daily_loss_r:{name}" not in shown:
            limits = round(profile.limits.daily_loss_r * MICRO), round(profile.limits.daily_loss_money * MICRO)
            panel.daily_loss(name, limits)
    rows: list[Row] = []
    for reading in panel.readings:
        if any(row.name == reading.name for row in rows):
            continue
        kept = inputs.entry.get(TRIP + reading.name)
        unit, effect = EFFECTS[reading.name.partition(":")[0]]
        rows.append(
            Row(
                name=reading.name,
                state="tripped" if reading.tripped else "not armed" if reading.unarmed else "clear",
                value=_scaled(reading.value, unit),
                limit=_scaled(reading.limit, unit),
                unit=unit,
                effect=effect,
                unarmed="" if reading.tripped else reading.unarmed,
                since_ms=int(kept.split(":")[2]) if kept is not None and reading.tripped else None,
                confirm=generation(inputs.entry, reading.name) if reading.name in RESETTABLE else None,
            )
        )
    rows.insert(min(5, len(rows)), _confidence(int(inputs.entry["limit_confidence"])))
    return Report(int(inputs.entry["gen"]), tuple(rows), history)


def _confidence(limit: int) -> Row:
    """A signal brings its own confidence: there is nothing to trip between signals."""
    unit, effect = EFFECTS["regime_confidence"]
    return Row(
        name="regime_confidence",
        state="per signal" if limit else "not armed",
        value=None,
        limit=_scaled(limit, unit),
        unit=unit,
        effect=effect,
        unarmed="" if limit else "off",
        since_ms=None,
        confirm=None,
    )


def _scaled(value: int, unit: str) -> float:
    return value / _SCALES[unit] if unit in _SCALES else value


def _turn(line: str) -> Turn:
    at, name, change, value, limit, by = line.split(" ", 5)
    unit, _ = EFFECTS[name.partition(":")[0]]
    return Turn(int(at), name, change, _scaled(int(value), unit), _scaled(int(limit), unit), unit, by)


def print_report(found: Report, console: Console) -> None:
    """Two tables: now, and what happened."""
    if found.generation is None:
        console.print("[red]the state of the breakers is missing: nothing executes. Run: penumbra rebuild[/]")
    table = Table("breaker", "state", "value", "limit", "unit", "effect", "why not armed, or since")
    for row in found.breakers:
        colour = {"tripped": "red", "clear": "green"}.get(row.state, "dim")
        since = row.unarmed if row.since_ms is None else f"since {iso_utc(row.since_ms)}"
        value = "" if row.value is None else f"{row.value:g}"
        table.add_row(row.name, f"[{colour}]{row.state}[/]", value, f"{row.limit:g}", row.unit, row.effect, since)
    console.print(table)
    if found.history:
        turns = Table("when", "breaker", "change", "value", "limit", "unit", "by")
        for turn in found.history:
            when, value = iso_utc(turn.at_ms), f"{turn.value:g}"
            turns.add_row(when, turn.name, turn.change, value, f"{turn.limit:g}", turn.unit, turn.by)
        console.print(turns)


def reset(wiring: Wiring, name: str, confirm: int | None, *, actor: str) -> str:
    """Let a breaker count anew, after the generation has been looked at: riskier takes two steps."""
    if name not in RESETTABLE:
        raise Permanent(f"{name} clears by itself; these can be reset: {', '.join(RESETTABLE)}")
    found = report(wiring)
    if found.generation is None:
        raise Permanent("the state of the breakers is missing: run `penumbra rebuild`")
    row = next(row for row in found.breakers if row.name == name)
    if confirm is None or confirm != row.confirm:
        click.echo(f"{name} is {row.state}: {row.value:g} {row.unit}, limit {row.limit:g}")
        click.echo(f"To let it count anew: penumbra breakers reset {name} --confirm {row.confirm}")
        sys.exit(EXIT_LOOK_FIRST if confirm is not None else 0)
    store = wiring.store
    if not store.reset_breaker(name, actor=actor, expected=confirm, now_ms=store.now_ms()):
        raise Permanent("it turned meanwhile: look again")
    return f"{name} counts anew"
