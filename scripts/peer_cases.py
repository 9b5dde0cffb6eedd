"""Compare the position rule with the exits two public backtesting engines gave on the same candles.

``python -m scripts.peer_cases FOLDER`` reads the candles in FOLDER and the cases in ``FOLDER/oracle``. Each difference
must carry a name: a rule that SPEC 9 settles otherwise than the peer. One without a name fails the run.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from pyarrow import parquet
from rich.console import Console
from rich.table import Table

from phantom.advance import advance
from phantom.book import follow_batch
from phantom.position import Closed, ExitReason, Position, Terms
from signals.candle import Candle
from signals.signal import Side
from signals.timeframe import timeframe_ms

PEER_CASES = Path("oracle", "barrier_peer_cases.parquet")
AMBIGUOUS_CASES = Path("oracle", "ambiguous_5m_resolved_by_1m.parquet")
UNRESOLVED = "unresolved_1m"
"""A reference candle whose own minutes hold both levels: still an assumed loss."""
_COLUMNS = ("ts", "open", "high", "low", "close")


class Rule(StrEnum):
    """Where the house decides otherwise than a peer, and says so."""

    TARGET_GAP = "target gap: fills at the target here, at the open there"
    TIMEOUT_PRICE = "timeout: exits at entry here, at the market there; the mark price is theirs"
    TIMEOUT_INSTANT = "timeout: the deadline candle's close here, the next candle's open there"
    NO_FILL = "entry candle opens beyond a level: no fill here, an exit there"


@dataclass(frozen=True)
class Series:
    """Candles of one file as arrays, and one at a time."""

    step_ms: int
    ts: npt.NDArray[np.int64]
    open: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    close: npt.NDArray[np.float64]

    @classmethod
    def read(cls, path: Path) -> Series:
        """Read ``SYMBOL_TIMEFRAME.parquet``."""
        table = parquet.read_table(path, columns=list(_COLUMNS))
        return cls(timeframe_ms(path.stem.rpartition("_")[2]), *(table[name].to_numpy() for name in _COLUMNS))

    @cached_property
    def candles(self) -> Sequence[Candle]:
        """Every row as a value."""
        rows = zip(*(getattr(self, name).tolist() for name in _COLUMNS), strict=True)
        return [Candle(*row) for row in rows]

    def index(self, ts: int) -> int:
        """Row of the candle that opens at ``ts``."""
        at = int(np.searchsorted(self.ts, ts))
        if at == len(self.ts) or self.ts[at] != ts:
            raise click.ClickException(f"no candle opens at {ts}")
        return at


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerCase:
    """One trade and the exit a peer gave it."""

    convention: str
    side: Side
    entry_ts: int
    entry: float
    stop_loss: float
    take_profit: float
    max_bars: int
    exit_ts: int
    exit_price: float
    exit_type: str

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> PeerCase:
        """A row of the reference file."""
        return cls(
            convention=row["convention"],
            side=Side.parse(row["side"]),
            entry_ts=row["entry_ts"],
            entry=row["entry_price"],
            stop_loss=row["sl"],
            take_profit=row["tp"],
            max_bars=row["max_bars"],
            exit_ts=row["exit_ts"],
            exit_price=row["exit_price"],
            exit_type=row["exit_type"],
        )

    def __str__(self) -> str:
        return f"{self.convention} {self.side.word} entered {self.entry_ts}, out by {self.exit_type} at {self.exit_ts}"

    @property
    def at_open(self) -> bool:
        """Whether the trade enters and times out at opens (A) rather than at closes (B)."""
        return self.convention.startswith("A")

    def terms(self, series: Series) -> Terms:
        """Our terms that let the same candles decide: entry candle, deadline candle, no first target."""
        entered = series.index(self.entry_ts)
        first = entered if self.at_open else entered + 1
        # A's timeout at the open of candle entry + max_bars is the close of the one before.
        last = entered + self.max_bars - (1 if self.at_open else 0)
        return Terms(
            side=self.side,
            entry=self.entry,
            stop_loss=self.stop_loss,
            take_profit=self.take_profit,
            first_target=None,
            entry_ms=int(series.ts[first]),
            deadline_ms=int(series.ts[last]) + series.step_ms,
            step_ms=series.step_ms,
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """How one case compares; ``rules`` explain what differs, ``unexplained`` says what nobody explains."""

    candle_equal: bool
    price_equal: bool
    rules: tuple[Rule, ...] = ()
    unexplained: str = ""


@dataclass(slots=True)
class Tally:
    """Counts over the cases of one convention."""

    cases: int = 0
    candle_equal: int = 0
    price_equal: int = 0
    rules: Counter[Rule] = field(default_factory=Counter)
    unexplained: list[str] = field(default_factory=list)

    def add(self, comparison: Comparison) -> None:
        """Count one case."""
        self.cases += 1
        self.candle_equal += comparison.candle_equal
        self.price_equal += comparison.price_equal
        self.rules.update(comparison.rules)
        if comparison.unexplained:
            self.unexplained.append(comparison.unexplained)


def follow(terms: Terms, candles: Iterable[Candle], finer: Sequence[Candle] = ()) -> Position | Closed:
    """Step the rule over candles until it closes the position or they end."""
    position: Position | Closed = Position.open(terms)
    for candle in candles:
        if isinstance(position, Closed):
            break
        position = advance(position, candle, finer)
    return position


def compare(case: PeerCase, series: Series) -> Comparison:
    """Our exit beside the peer's, with a name for each difference."""
    terms = case.terms(series)
    first, last = series.index(terms.entry_ms), series.index(case.entry_ts) + case.max_bars + 1
    ours = follow(terms, series.candles[first:last])
    if not isinstance(ours, Closed):
        return Comparison(candle_equal=False, price_equal=False, unexplained=f"{case}: still open here")
    batch = follow_batch([terms], *(getattr(series, name)[first:last] for name in _COLUMNS))
    candle_equal = ours.track.last_ts == case.exit_ts
    price_equal = ours.exit_price == case.exit_price
    if repr(batch) != repr([ours]):  # a price that was never known is NaN, which equals nothing
        return Comparison(candle_equal, price_equal, unexplained=f"{case}: in a batch {batch[0]}")
    # A timeout's exit is its entry here: that a peer's price is the same proves nothing, its mark does.
    if candle_equal and price_equal and ours.reason == case.exit_type and ours.mark_price is None:
        return Comparison(candle_equal, price_equal)
    rules = _explain(case, series, ours)
    return Comparison(
        candle_equal, price_equal, rules, "" if rules else f"{case}: here {ours.reason} at {ours.exit_ms}"
    )


def _explain(case: PeerCase, series: Series, ours: Closed) -> tuple[Rule, ...]:
    """The rules that make our exit and the peer's both right; none when they do not fit exactly."""
    terms, sign = ours.terms, ours.terms.side.value
    here, there = series.index(ours.track.last_ts), series.index(case.exit_ts)
    their_open = float(series.open[there])
    found: tuple[Rule, ...] = ()
    if ours.reason is ExitReason.TP and case.exit_type == "tp":
        beyond = here == there and sign * their_open > sign * terms.take_profit
        if beyond and ours.exit_price == terms.take_profit and case.exit_price == their_open:
            found = (Rule.TARGET_GAP,)
    elif ours.reason is ExitReason.TIMEOUT and case.exit_type == "timeout" and ours.exit_price == terms.entry:
        if case.at_open and there == here + 1 and case.exit_price == their_open:
            found = (Rule.TIMEOUT_INSTANT, Rule.TIMEOUT_PRICE)
        elif not case.at_open and here == there and ours.mark_price == case.exit_price:
            found = (Rule.TIMEOUT_PRICE,)
    elif ours.reason is ExitReason.NO_FILL:
        outside = not sign * terms.stop_loss < sign * their_open < sign * terms.take_profit
        if here == there and outside and case.exit_price in (their_open, terms.stop_loss):
            found = (Rule.NO_FILL,)
    return found


def compare_all(folder: Path) -> dict[str, Tally]:
    """Every case of the reference file, by convention."""
    rows = parquet.read_table(folder / PEER_CASES).to_pylist()
    series = {name: Series.read(folder / f"{name}.parquet") for name in sorted({row["file"] for row in rows})}
    tallies: dict[str, Tally] = {}
    for row in rows:
        case = PeerCase.of(row)
        tallies.setdefault(case.convention, Tally()).add(compare(case, series[row["file"]]))
    return tallies


def resolve_all(folder: Path) -> Tally:
    """Every ambiguous five-minute candle, resolved by its one-minute candles."""
    rows = parquet.read_table(folder / AMBIGUOUS_CASES).to_pylist()
    minutes = {name: Series.read(folder / f"{name}_1m.parquet") for name in sorted({row["file_1m"] for row in rows})}
    tally = Tally()
    for row in rows:
        tally.add(_resolve(row, minutes[row["file_1m"]]))
    return tally


def _resolve(row: Mapping[str, Any], minutes: Series) -> Comparison:
    opened, step = row["bar_5m_ts"], timeframe_ms("5m")
    start, end = np.searchsorted(minutes.ts, [opened, opened + step])
    terms = Terms(
        side=Side.parse(row["side"]),
        entry=row["entry_price"],
        stop_loss=row["sl"],
        take_profit=row["tp"],
        first_target=None,
        entry_ms=opened,
        deadline_ms=opened + step,
        step_ms=step,
    )
    candle = Candle(opened, row["open"], row["high"], row["low"], row["close"])
    told = minutes.index(row["first_touch_1m_ts"])
    known = row["first_touch"] != UNRESOLVED
    expected = (row["first_touch"] if known else ExitReason.SL.value, not known, known)
    # Alone an assumed loss; the minute of the first touch settles it, and what follows changes nothing.
    agrees = (
        _ending(follow(terms, [candle])) == ("sl", True, False)
        and _ending(follow(terms, [candle], minutes.candles[start:told])) == ("sl", True, False)
        and _ending(follow(terms, [candle], minutes.candles[start : told + 1])) == expected
        and _ending(follow(terms, [candle], minutes.candles[start:end])) == expected
    )
    return Comparison(agrees, agrees, unexplained="" if agrees else f"{row['file_1m']} {opened}: not {expected}")


def _ending(position: Position | Closed) -> tuple[str, bool, bool] | None:
    """Exit reason, whether it was assumed, whether a finer series decided it; none while open."""
    return (position.reason.value, position.ambiguous, position.resolved) if isinstance(position, Closed) else None


def _table(title: str, tally: Tally, *, priced: bool) -> Table:
    table = Table("", "cases", title=title)
    table.columns[1].justify = "right"
    table.add_row("cases", str(tally.cases))
    table.add_row("exit candle equal" if priced else "as the minutes show", str(tally.candle_equal))
    if priced:
        table.add_row("exit price equal", str(tally.price_equal))
    for rule, count in sorted(tally.rules.items()):
        table.add_row(rule.value, str(count))
    table.add_row("unexplained", str(len(tally.unexplained)))
    return table


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(folder: Path) -> None:
    """Compare every reference case in FOLDER with the position rule."""
    console = Console()
    peers, resolved = compare_all(folder), resolve_all(folder)
    for convention, tally in sorted(peers.items()):
        console.print(_table(convention, tally, priced=True))
    console.print(_table("two levels in one candle, resolved by a finer series", resolved, priced=False))
    unexplained = [line for tally in (*peers.values(), resolved) for line in tally.unexplained]
    for line in unexplained[:20]:
        console.print(line, style="red", highlight=False, markup=False)
    if unexplained:
        sys.exit(1)


if __name__ == "__main__":
    main()
