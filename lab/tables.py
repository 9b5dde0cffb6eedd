"""A titled table on a terminal, in the style of the report."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text


def titled_table(title: str, *columns: str, first_width: int = 11) -> Table:
    """An empty table; the first column is words, the rest figures. A hundred columns must hold them all."""
    table = Table(
        title=Text(title, style="bold"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for index, column in enumerate(columns):
        first = index == 0
        table.add_column(
            Text(column),
            justify="left" if first else "right",
            overflow="fold",
            min_width=first_width if first else None,
        )
    return table


def add_row(table: Table, *cells: str, style: str = "") -> None:
    """Add a row of plain words: a symbol or a tag must never be read as markup."""
    table.add_row(*(Text(cell, style=style) for cell in cells))
