"""The summary on a terminal."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from lab.console import print_summary
from lab.summary import Summary, summarise
from lab.trade import Trade
from tests.unit.lab.synthetic_trades import RUN, trade, world


def printed(summary: Summary, width: int = 100) -> str:
    stream = io.StringIO()
    print_summary(summary, Console(file=stream, width=width, color_system=None, legacy_windows=False))
    return stream.getvalue()


@pytest.mark.parametrize("trades", [[], [trade(0)], world(1, n=400)], ids=["none", "one", "many"])
def test_it_fits_a_hundred_columns_and_begins_with_the_verdict(trades: list[Trade]) -> None:
    summary = summarise(trades, seed=1, run=RUN)
    lines = printed(summary, width=160).splitlines()
    assert max(cell_len(line) for line in lines) <= 100
    first_words = " ".join(summary.verdict.split()[:4])
    assert first_words in lines[1]
    assert summary.digest() in lines[-1]


def test_every_headline_figure_is_on_one_line() -> None:
    summary = summarise(world(1), seed=1, run=RUN)
    lines = printed(summary).splitlines()
    row = next(line for line in lines if line.strip().startswith("executed"))
    group = summary.headline.executed
    low, high = group.verdict.mean_r.day.low, group.verdict.mean_r.day.high
    for figure in (f"{group.n:,}", f"{100 * group.win_rate.value:.1f} %", f"{low:+.2f}", f"{high:+.2f}"):
        assert figure.replace("-", "−") in row


def test_markup_in_a_name_is_only_text() -> None:
    rows = world(1, n=60, symbol="[bold red]X[/]")
    assert "[bold red]X[/]" in printed(summarise(rows, seed=1, run=RUN))
