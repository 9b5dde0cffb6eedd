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
from signals.method import Method
from signals.profile import Clamping
from signals.timeday import iso_utc

SHORT = 12
PAGE_WIDTH = 190


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
    refused = refusals(wiring, strategy)
    for address, text in wiring.store.manifests(strategy).items():
        manifest: dict[str, Any] = json.loads(text)
        standing = {training.bundle: "champion", training.previous: "previous"}.get(address, "")
        why = [f"{row['code']} {row['detail']}".strip() for row in refused if row["address"] == address]
        rows.append({"bundle": address, "standing": standing, "refused": why, **manifest})
    return sorted(rows, key=lambda row: (row["last_ms"], row["bundle"]))


def refusals(wiring: Wiring, strategy: str) -> list[dict[str, Any]]:
    """What workers refused to serve, when first and why, oldest first; ``in_force`` while a pointer still names it."""
    training = wiring.store.training(strategy)
    named = {training.bundle, training.previous, training.table}
    rows = []
    for place, told in wiring.store.refusals(strategy).items():
        (address, _, code), (at, _, detail) = place.partition("|"), told.partition(" ")
        rows.append(
            {"address": address, "code": code, "at_ms": int(at), "detail": detail, "in_force": address in named}
        )
    return sorted(rows, key=lambda row: (row["at_ms"], row["address"], row["code"]))


def print_refusals(rows: list[dict[str, Any]], console: Console) -> None:
    """The refusals as lines, those of what is in force first to meet the eye."""
    for row in rows:
        style = "bold red" if row["in_force"] else "dim"
        console.print(
            f"refused by a worker: {row['address'][:SHORT]} {row['code']} since {iso_utc(row['at_ms'])[:16]} "
            f"{row['detail']}" + (" (still in force)" if row["in_force"] else ""),
            style=style,
            highlight=False,
        )


def print_models(rows: list[dict[str, Any]], console: Console) -> None:
    """The bundles as a table."""
    table = Table(
        "bundle",
        "standing",
        "n",
        "n eff",
        "wins",
        "timeouts",
        "trained up to",
        "source",
        "AUC",
        "Brier skill",
        "debiased ECE",
        "calibration",
        "ensemble",
        "skill walking forward",
        "its twin",
        box=SIMPLE_HEAD,
    )
    for row in rows:
        metrics = row["metrics"]
        table.add_row(
            row["bundle"][:SHORT],
            row["standing"],
            str(row["n"]),
            # Bundles from before this was measured say nothing of it.
            f"{row['n_eff']:.0f}" if "n_eff" in row else "–",
            str(row["wins"]),
            str(row.get("timeouts", 0)),
            iso_utc(row["last_ms"])[:16],
            row["source"],
            _figure(metrics.get("auc")),
            _figure(metrics.get("brier_skill")),
            _figure((row.get("reliability") or {}).get("debiased_ece")),
            str((row.get("ladder") or {}).get("rung", "–")),
            (row.get("ensemble") or {}).get("method", "–"),
            _skill(row.get("ensemble")),
            _skill(row.get("ensemble_twin")),
        )
    console.print(table if rows else "no bundle has been published")
    if rows:
        # Of the bundle in force; each one has its own in the JSON.
        served = next((row for row in rows if row["standing"] == "champion"), rows[-1])
        _print_heads(served, console)


def _print_heads(row: dict[str, Any], console: Console) -> None:
    """What the bundle forecasts beside the win: validated when and how well, or why it says nothing."""
    if not row.get("heads"):
        return
    names = ("head", "validated", "from", "to", "skill, %", "95 % by days", "AUC", "Brier", "ECE", "")
    table = Table(*names, box=SIMPLE_HEAD, title=f"beside the win, bundle {row['bundle'][:SHORT]}")
    for name, told in row["heads"].items():
        began, ended = told.get("validation_ms") or (None, None)
        low, high = told.get("skill_low"), told.get("skill_high")
        table.add_row(
            name,
            str(told.get("n_validation", 0)),
            "–" if began is None else iso_utc(began)[:10],
            "–" if ended is None else iso_utc(ended)[:10],
            _figure(_hundred(told.get("skill"))),
            "–" if low is None or high is None else f"{100.0 * low:+.2f} … {100.0 * high:+.2f}",
            *(_figure(told.get(figure)) for figure in ("auc", "brier", "ece")),
            told.get("reason") or "answers",
        )
    console.print(table)


def _hundred(value: float | None) -> float | None:
    return None if value is None else 100.0 * value


def _skill(standing: dict[str, Any] | None) -> str:
    """Skill over the base rate of heads that knew the past only, with its bounds."""
    skill = None if standing is None else standing["skill"]
    if skill is None:
        return "–"
    bounds = (f"{100.0 * skill[name]:+.1f}" if skill[name] is not None else "?" for name in ("low", "high"))
    return f"{100.0 * skill['skill']:+.1f} % ({' to '.join(bounds)})"


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
    """Every learned threshold by both methods, what it was learned from, how sure it is, and the clamp in effect."""
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
                "closed": row.threshold.closed,
                "clamp": str(clamp),
                "note": row.note,
                "method": row.method.value,
                "in_force": row.in_force,
                "interval": None if row.interval is None else list(row.interval),
                "certified_from": row.certified_from,
                "effective_n": row.effective_n,
                # JSON has no infinity: the common curve alone.
                "m": None if row.m is None else f"{row.m:g}",
                "own_weight": row.own_weight,
                "reached": row.reached,
                "shrunk": row.shrunk,
                "held": row.held,
            }
            for method in (table.policy.method, table.policy.method.other)
            for row in table.rows(clamp, method)
        ]
    return rows


def print_thresholds(rows: list[dict[str, Any]], static: float, console: Console) -> None:
    """The thresholds as a table."""
    names = ("scores", "bucket", "n", "wins", "losses", "W", "L", "p_min", "threshold", "interval", "clamp", "note")
    if not rows:
        console.print(f"no threshold has been learned: the static one, {static:g}, is in force")
    for method, in_force in dict.fromkeys((row["method"], row["in_force"]) for row in rows):
        more = ("m", "effective_n", "own_weight", "reached", "certified_from") if method == Method.EVIDENCE else ()
        table = Table(
            *(HEADINGS.get(name, name) for name in (*names, *more)),
            box=SIMPLE_HEAD,
            title=f"method {method}, {'in force' if in_force else 'beside it: decides nothing'}",
        )
        for row in rows:
            if row["method"] == method:
                table.add_row(*(_shown(row, name) for name in (*names, *more)))
        console.print(table)


HEADINGS = {"interval": "90 %", "effective_n": "eff. n", "own_weight": "own", "certified_from": "badge"}


def _shown(row: dict[str, Any], name: str) -> str:
    value = row[name]
    if name == "interval":
        return "–" if value is None else f"{value[0]}–{value[1]}"
    if name == "threshold":
        moved = "" if row["unclamped"] == value else f" ({row['unclamped']:g})"
        return f"{value:g}{moved}" + (", nothing passes" if row["closed"] else "") + (", held" if row["held"] else "")
    if value is None:
        return "–"
    return f"{value:.0f}" if name == "effective_n" else f"{value:.3f}" if isinstance(value, float) else str(value)


def patterns(wiring: Wiring, strategy: str) -> dict[str, Any]:
    """Rolling figures, win rate and mean R by situation over all outcomes, and what each attempt looked at."""
    # They bring scipy, which the other commands do without.
    from learning.example import examples  # noqa: PLC0415
    from learning.patterns import find_patterns  # noqa: PLC0415
    from learning.rolling import rolling  # noqa: PLC0415

    rows, laid = wiring.store.trades(strategy)
    # A timeout that a later report made a win or a loss is one; as they were recorded they are not told here.
    late = [row for row in wiring.store.timeouts(strategy) if json.loads(row)["id"] in laid]
    read = {row["id"]: row for row in map(json.loads, (*rows, *late))}
    corrected = {name: json.loads(text) if text else None for name, text in laid.items()}
    gone = {name for name, row in corrected.items() if row is None}
    found = find_patterns(
        [corrected.get(name) or row for name, row in read.items() if name not in gone],
    )
    return {
        "rolling": rolling(examples(read.values(), corrected)).record,
        "counters": dict(sorted(wiring.store.metrics(strategy).items())),
        "patterns": found.record,
        "rows": found.text_rows,
        "importance": importance(wiring, strategy),
    }


def importance(wiring: Wiring, strategy: str) -> list[dict[str, Any]]:
    """What every attempt at training looked at, oldest first: by its bundle, or the reason why there is none."""
    rows = [
        {
            "attempt": row["attempt"],
            "n": row["n"],
            "bundle": row["bundle"],
            "reason": None,
            "importance": row["importance"],
            "patterns": row["patterns"],
        }
        for row in models(wiring, strategy)
    ]
    for text in wiring.store.attempts(strategy).values():
        body: dict[str, Any] = json.loads(text)
        if "attempt" in body:
            rows.append(
                {"bundle": None, "n": body["count"]}
                | {name: body[name] for name in ("attempt", "reason", "importance", "patterns")}
            )
    return sorted(rows, key=lambda row: int(row["attempt"]))


def print_patterns(found: dict[str, Any], console: Console) -> None:
    """Rolling figures and patterns as tables, and the leading features of every attempt."""
    if not found["rows"]:
        console.print("no outcome has been recorded yet")
        return
    from learning.patterns import HEADINGS  # noqa: PLC0415

    _print_rolling(found["rolling"], console)
    table = Table(*HEADINGS, box=SIMPLE_HEAD)
    for row in found["rows"]:
        table.add_row(*map(str, row))
    console.print(table)
    for attempt in found["importance"]:
        leading = sorted((attempt["importance"] or {}).items(), key=lambda item: -item[1])[:8]
        came_to = attempt["bundle"][:SHORT] if attempt["bundle"] else attempt["reason"]
        said = ", ".join(f"{name} {share:.2f}" for name, share in leading) or "no heads were trained"
        console.print(f"attempt {attempt['attempt']}, {came_to} ({attempt['n']}): {said}", highlight=False)


def _print_rolling(record: dict[str, Any], console: Console) -> None:
    names = ("rolling", "n", "win rate", "95 %", "mean R", "95 % by days", "95 % iid")
    table = Table(*names, box=SIMPLE_HEAD, title=f"the last {record['window']} outcomes")
    rates = {"all": record["whole"], **record["kinds"]}
    rates |= {f"score {band}": rate for band, rate in record["bands"].items()}
    for name, rate in rates.items():
        table.add_row(
            name,
            str(rate["n"]),
            f"{100.0 * rate['win_rate']:.1f} %",
            f"{100.0 * rate['win_rate_low']:.0f} % … {100.0 * rate['win_rate_high']:.0f} %",
            _signed(rate["mean_r"]),
            _between(rate["mean_r_low_days"], rate["mean_r_high_days"]),
            _between(rate["mean_r_low_iid"], rate["mean_r_high_iid"]),
        )
    console.print(table)
    said = record["forecasts"]
    if said is None:
        console.print("no calibrated win probability among them", highlight=False)
    else:
        console.print(
            f"Brier of {said['n']} recorded win probabilities {said['brier']:.4f}, of their base rate "
            f"{said['base_brier']:.4f}, skill {_figure(said['skill'])}",
            highlight=False,
        )


def _signed(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}"


def _between(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"{_signed(low)} … {_signed(high)}"


def echo(data: object) -> None:
    """Data as JSON."""
    click.echo(json.dumps(data, indent=2, sort_keys=True))
