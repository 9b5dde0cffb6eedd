"""The fidelity of phantoms, and results at size, on a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from lab import fidelity_words as words
from lab.fidelity import Fidelity
from lab.sizing import Sizing
from lab.tables import add_row, titled_table


def print_fidelity(found: Fidelity | None, console: Console, width: int) -> None:
    """Print the sentences and, where twins test anything, the tables; a replay has no finding of its own."""
    told = (words.BY_REPLAY,) if found is None else words.sentences(found)
    style = "yellow" if found is not None and found.flagged and not found.by_construction else ""
    console.print(
        Panel(Text("\n".join(told), style=style), title="Fidelity of phantoms", title_align="left", width=width)
    )
    if found is None or found.by_construction or found.filled.bias_r.n == 0:
        return
    _table("Live against twin, net R", words.RESIDUAL_HEADINGS, words.residual_rows(found), console, width)
    _table("What the difference goes with", words.TERM_HEADINGS, words.term_rows(found), console, width)
    _table("What was refused", words.BELOW_HEADINGS, words.below_rows(found), console, width)
    console.print(Text(words.FOOTNOTE, style="dim"))


def print_sizing(found: Sizing, console: Console, width: int) -> None:
    """Print results at size beside unit R."""
    _table("Executed trades by size", words.SIZE_HEADINGS, words.size_rows(found), console, width)
    for sentence in (words.size_sentence(found), *words.explored_sentence(found)):
        console.print(Text(sentence), width=width)


def _table(
    title: str, headings: tuple[str, ...], rows: Iterable[tuple[str, ...]], console: Console, width: int
) -> None:
    table = titled_table(title, *headings)
    for row in rows:
        add_row(table, *row)
    if table.row_count > 0:
        table.width = width
        console.print(table)
