"""A gate report on a terminal: the verdict first, then tables that fit a hundred columns."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, Group
from rich.panel import Panel
from rich.text import Text

from lab import gate_words as words
from lab.console import WIDTH
from lab.gates import GateAnswer
from lab.tables import add_row, titled_table


def print_gates(answer: GateAnswer, console: Console) -> None:
    """Print a report; nothing in it is read as markup."""
    width = min(WIDTH, console.width)
    told = [Text(words.verdict(answer), style=f"bold {'green' if words.marked(answer) == 'edge' else 'yellow'}")]
    told += [
        Text(f"• {remark}", style="bold red" if remark in words.leaks(answer) else "")
        for remark in words.remarks(answer)
    ]
    title = Text(f"gates of {answer.profile}, {answer.window.words}, {answer.source}")
    console.print(Panel(Group(*told), title=title, title_align="left", width=width))
    if answer.report.n == 0:
        return
    _table("What may become hard gates", words.HONEST_HEADINGS, words.honest_rows(answer), console, width)
    _table("Every variable alone, surest first", words.SOLO_HEADINGS, words.solo_rows(answer), console, width, 12)
    for what, rows in (("Pairs", answer.pairs), ("Triplets", answer.triplets)):
        shown = words.combination_rows(rows[: words.SHOWN])
        more = f", {words.SHOWN} of {len(rows):,}, surest first" if len(rows) > words.SHOWN else ""
        title_words = f"{what} of {words.combined_words(answer)}{more}"
        _table(title_words, words.COMBINATION_HEADINGS, shown, console, width, 13)
    _table("The sixteen states of the original four", words.BITMAP_HEADINGS, words.bitmap_rows(answer), console, width)
    _table("Month by month", words.trend_headings(answer), words.trend_rows(answer), console, width)
    _table("The founding report's list: hunches, each one of thousands of looks", ("", "hunch"),
           words.hunch_rows(answer), console, width)  # fmt: skip
    for footnote in words.FOOTNOTES:
        console.print(Text(footnote, style="dim"), width=width)


def _table(
    title: str, headings: words.Cells, rows: Iterable[tuple[str, ...]], console: Console, width: int, first: int = 11
) -> None:
    table = titled_table(title, *headings, first_width=first)
    for row in rows:
        add_row(table, *row)
    if table.row_count > 0:
        table.width = width
        console.print(table)
