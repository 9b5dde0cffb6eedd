"""``penumbra gates``: which gates the record, or a replay, speaks for; reports of slots; and the file of hard gates."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml

from gates.combinations import TOP
from gates.discovery import SHIFTS
from gates.gate_set import MAX_GATES, gate_set_of
from gates.report import ReportSettings, Row
from gates.variables import VARIABLES, Variable, declared
from lab import gate_words as words
from lab.gate_console import print_gates
from lab.gate_json import as_json
from lab.gate_page import write_gate_page
from lab.gates import VERDICT_BPS, Chosen, GateAnswer, Slot, Window, answer, material
from lab.whatif_case import Cases, cases_of
from persistence.memory_store import MemoryStore
from persistence.record import Record
from persistence.rows import GateSlot
from persistence.store import Fact, StateMissing
from runtime.settings import Settings
from runtime.wiring import Wiring
from scripts.learning import console
from scripts.sources import profile_for, read_series, strategy_settings, strategy_signals
from scripts.whatif_run import Scene
from signals.errors import Permanent
from signals.parse import printable
from signals.profile import Profile
from signals.timeday import iso_utc

SLOT_DAYS = 30
"""Days before a slot that its report covers."""
MAX_DECLARATION_BYTES = 1_000_000
LONGEST_LINE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class GatesOptions:
    """What the command line said."""

    profile: str
    days: int | None = None
    month: str | None = None
    kind: str = "phantom"
    top: int | None = TOP
    shifts: int = SHIFTS
    seed: int = 1
    candles: tuple[Path, ...] = ()
    strategy: str | None = None
    tracking: str | None = None
    variables: Path | None = None
    html: Path | None = None
    write_gates: Path | None = None
    as_json: bool = False


@dataclass(frozen=True, slots=True)
class _Source:
    words: str
    facts: Sequence[Fact]
    cases: Cases
    profile: Profile
    now_ms: int


def run_gates(options: GatesOptions, wire: Callable[[], Wiring]) -> GateAnswer:
    """Report, print, and write what was asked for; ``wire`` connects to the record when that is the source."""
    if options.days is not None and options.month is not None:
        raise Permanent("--days and --month are two windows: name one")
    variables = variables_of(options.variables)
    source = _replayed(options) if options.candles else _recorded(options, wire())
    if options.month is not None:
        window = Window.month(options.month)
    elif options.days is not None:
        window = Window.days(options.days, source.now_ms)
    else:
        window = Window.everything(source.now_ms)
    found = _answer(
        source,
        window,
        variables,
        Chosen(options.kind),
        ReportSettings(top=options.top, shifts=options.shifts, seed=options.seed),
    )
    if options.html is not None:
        options.html.parent.mkdir(parents=True, exist_ok=True)
        write_gate_page(found, options.html)
    if options.as_json:
        click.echo(json.dumps(as_json(found), indent=2, allow_nan=False))
    else:
        terminal = console()
        print_gates(found, terminal)
        if options.html is not None:
            terminal.print(f"page {options.html}", highlight=False)
    if options.write_gates is not None:
        write_gates(found, options.write_gates)
        click.echo(f"gates {options.write_gates}", err=True)
    return found


def _answer(
    source: _Source,
    window: Window,
    variables: Sequence[Variable],
    chosen: Chosen,
    settings: ReportSettings,
) -> GateAnswer:
    profile = source.profile
    made = material(
        source.facts,
        source.cases,
        window,
        profile=profile.name,
        variables=variables,
        chosen=chosen,
        costs_bps=profile.costs_bps,
        known_until_ms=source.now_ms,
        settled_after_ms=profile.timeout_ms,
    )
    return answer(
        made,
        window,
        profile=profile.name,
        source=source.words,
        chosen=chosen,
        costs_bps=profile.costs_bps,
        variables=variables,
        settings=settings,
    )


def _recorded(options: GatesOptions, wiring: Wiring) -> _Source:
    profile = wiring.settings.profile(options.profile)
    try:
        now_ms = wiring.store.now_ms()
    except StateMissing:
        # A record without its live state, for instance a copy: its own last moment is as late as it knows.
        now_ms = 0
    return _of_record(wiring.record, profile, now_ms)


def _of_record(record: Record, profile: Profile, now_ms: int) -> _Source:
    facts = list(record.facts())
    if now_ms == 0:
        now_ms = max((fact.at_ms for fact in facts), default=0)
    where = record.namespace or "the default namespace"
    return _Source(f"record of {where}", facts, cases_of(facts).of_strategy(profile.name), profile, now_ms)


def _replayed(options: GatesOptions) -> _Source:
    """A replay of a reference strategy: the gate alone, so that every signal has its answer and its outcome."""
    strategy = options.strategy or options.profile
    loaded = Settings.load()
    series = read_series(options.candles, options.tracking)
    settings = strategy_settings(strategy, None)
    profile = profile_for(loaded.profile(options.profile), series)
    if profile.name != strategy:
        raise Permanent(f"a replay of {strategy} is judged by the profile {strategy}, not {profile.name}")
    signals = strategy_signals(strategy, series, settings)
    store = MemoryStore("replay")
    scene = Scene(profile=profile, series=series, signals=signals, settings=settings, breakers=loaded.breakers.built())
    scene.play(store, limits=False)
    facts = tuple(store.facts)
    symbols = len(series.symbols)
    told = f"replay of {strategy} {settings.timeframe}, {symbols} {'symbol' if symbols == 1 else 'symbols'}"
    return _Source(told, facts, cases_of(facts), profile, store.now_ms())


def variables_of(path: Path | None) -> tuple[Variable, ...]:
    """The variables of the house, and those a file declares under ``variables``, in TOML or YAML."""
    if path is None:
        return VARIABLES
    data = path.read_bytes()
    if len(data) > MAX_DECLARATION_BYTES:
        raise Permanent(f"{path}: {len(data):,} bytes are no list of variables")
    try:
        text = data.decode("utf-8")
        parsed: object = tomllib.loads(text) if path.suffix.lower() == ".toml" else yaml.safe_load(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, yaml.YAMLError, RecursionError) as error:
        raise Permanent(f"{path} cannot be read: {printable(str(error))}") from error
    rows = parsed.get("variables") if isinstance(parsed, Mapping) else parsed
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise Permanent(f"{path}: expected a list of variables, each with name and when")
    return (*VARIABLES, *declared(rows, VARIABLES))


def write_gates(found: GateAnswer, path: Path) -> None:
    """Write what is honest as a set of hard gates; refuses when nothing is."""
    honest = found.report.honest
    if not honest:
        raise Permanent(f"no gate is written to {path}: nothing in this report is honest. {words.verdict(found)}")
    kept = needed(honest, found.variables)[:MAX_GATES]
    note = printable(f"{found.source}, {found.window.words}, {found.chosen.value}", LONGEST_LINE)
    made = gate_set_of(found.profile, [row.members for row in kept], found.variables, found.report.quantiles, note=note)
    text = yaml.safe_dump(made.as_record(), sort_keys=False, allow_unicode=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*_header(found, kept, len(honest)), text]), encoding="utf-8", newline="\n")


def needed(honest: Sequence[Row], variables: Sequence[Variable]) -> list[Row]:
    """The honest gates without those that another one contains, surest first.

    A signal needs to pass one gate only: with htf in force, htf + vol lets nothing more through.
    """
    named = {variable.name: variable for variable in variables}

    def within(inner: Row, outer: Row) -> bool:
        return all(any(named[mine].implies(named[wanted]) for mine in inner.members) for wanted in outer.members)

    def twin(inner: Row, outer: Row) -> bool:
        return within(outer, inner) and honest.index(outer) > honest.index(inner)

    kept = [
        row
        for row in honest
        if not any(other is not row and within(row, other) and not twin(row, other) for other in honest)
    ]
    return sorted(kept, key=lambda row: -row.result.interval.low)


def _header(found: GateAnswer, kept: Sequence[Row], honest: int) -> list[str]:
    report = found.report
    days = f"{iso_utc(report.first_ms)[:10]} to {iso_utc(report.last_ms)[:10]}"
    lines = [
        f"Hard gates of {found.profile}, from a gate report: {found.source}, {found.window.words}.",
        f"{report.n:,} decided signals ({found.chosen.value}), {days}.",
        f"{words.looks_of(report):,} looks, each p corrected for all of them; seed {found.settings.seed}.",
        f"{honest} honest; left out is what another one lets through as well, and all beyond {MAX_GATES}.",
        "Discovered or better, and the 95 % interval of net R above 0. The evidence of each:",
        *(f"  {words.name(row)}: {_evidence(row, found)}" for row in kept),
    ]
    return [f"# {printable(line, LONGEST_LINE)}" for line in lines]


def _evidence(row: Row, found: GateAnswer) -> str:
    at = found.at_10_bp[row.members]
    return (
        f"{row.standing.value}, n {row.n:,}, won {row.win_rate:.1%} "
        f"({row.win_rate_interval.low:.1%} to {row.win_rate_interval.high:.1%}), "
        f"p {row.p_corrected:.3g}, later {row.p_later:.3g}, net {row.result.mean:+.3f} R "
        f"({row.result.interval.low:+.3f} to {row.result.interval.high:+.3f}) at {found.costs_bps:g} bp, "
        f"{at.mean:+.3f} R ({at.interval.low:+.3f} to {at.interval.high:+.3f}) at {VERDICT_BPS:g} bp"
    )


class SlotReporter:
    """Computes the report of a slot once and keeps it; the second time the kept one answers."""

    def __init__(self, record: Record, profiles: Mapping[str, Profile], now_ms: Callable[[], int]) -> None:
        self._record, self._profiles, self._now_ms = record, profiles, now_ms

    def gate_report(self, profile: str, slot: str) -> dict[str, object]:
        """What was found, in short; ``stored`` says whether this call wrote it."""
        found = self._profiles.get(profile)
        if found is None:
            raise Permanent(f"no profile {printable(profile)}")
        asked = Slot.parse(slot)
        standing = self._record.gate_report(profile, asked.word)
        if standing is not None:
            return _short(standing, stored=False)
        if asked.begins_ms > self._now_ms():
            raise Permanent(f"slot {asked.word} has not begun")
        source = _of_record(self._record, found, asked.begins_ms)
        told = _answer(source, asked.window(SLOT_DAYS), VARIABLES, Chosen.PHANTOM, ReportSettings())
        body = json.dumps(as_json(told), allow_nan=False)
        fresh = self._record.put_gate_report(profile, asked.word, body)
        kept = self._record.gate_report(profile, asked.word)
        if kept is None:
            raise Permanent(f"the report of {asked.word} is gone")
        return _short(kept, stored=fresh)


def _short(kept: GateSlot, *, stored: bool) -> dict[str, object]:
    body = json.loads(kept.body)
    return {
        "profile": kept.profile,
        "slot": kept.slot,
        "stored": stored,
        "verdict": body["verdict"],
        "said": body["said"][0],
        "n": body["n"],
        "discovered": len(body["discovered"]),
        "honest": body["honest"],
    }


def list_slots(record: Record, *, profile: str | None, as_json: bool) -> None:
    """Print the stored reports, newest slot first."""
    rows = record.gate_reports(profile)
    if as_json:
        click.echo(json.dumps([_short(row, stored=False) | {"created_at": row.created_at} for row in rows], indent=2))
        return
    for row in rows:
        told = _short(row, stored=False)
        click.echo(f"{row.profile}  {row.slot:<10}  n {told['n']}  discovered {told['discovered']}  {told['said']}")
    if not rows:
        click.echo("no gate report has been stored")


def show_slot(record: Record, profile: str, slot: str, *, as_json: bool) -> None:
    """Print one stored report: all of it as JSON, or what it says."""
    kept = record.gate_report(profile, Slot.parse(slot).word)
    if kept is None:
        raise Permanent(f"no gate report of {profile} for {slot}")
    body: dict[str, Any] = json.loads(kept.body)
    if as_json:
        click.echo(json.dumps(body, indent=2))
        return
    click.echo(f"gates of {kept.profile}, {body['window']['words']}, stored {kept.created_at}")
    for said in body["said"]:
        click.echo(f"• {said}")
    for row in body["rows"]:
        if row["standing"] != "nothing" or row["leak_suspect"]:
            standing = "LEAK_SUSPECT" if row["leak_suspect"] else row["standing"]
            rate = "–" if row["win_rate"] is None else f"{row['win_rate']:.1%}"
            click.echo(f"  {' + '.join(row['members'])}: {standing}, n {row['n']}, won {rate}")
