"""One trade's money by hand, and its columns."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from lab.trade import DAY_MS, TradeTable
from signals.errors import Invalid
from signals.profile import Kind
from signals.signal import Side
from tests.unit.lab.synthetic_trades import START, lost, trade, world


# Entry 100, risk 2: ten basis points are 0.10 in price, 0.05 R.
@pytest.mark.parametrize(
    ("changes", "bps", "net", "next_open"),
    [
        pytest.param({}, 0.0, 2.0, 2.0, id="free"),
        pytest.param({}, 10.0, 1.95, 2.0, id="ten points"),
        pytest.param({"entry_slip_r": 0.25}, 10.0, 1.95, 1.75, id="opened a quarter R worse"),
        pytest.param({"entry_slip_r": -0.25}, 0.0, 2.0, 2.25, id="opened better"),
        pytest.param({"outcome": "loss", "exit_reason": "sl", "gross_r": -1.0}, 10.0, -1.05, -1.0, id="stopped"),
        pytest.param(
            {"outcome": "timeout", "exit_reason": "timeout", "gross_r": 0.0, "mark_r": 0.7, "entry_slip_r": 0.3},
            10.0,
            -0.05,
            0.0,
            id="timeout pays costs, keeps the book's 0 R",
        ),
        pytest.param({"outcome": "no_fill", "exit_reason": "", "gross_r": 0.0}, 10.0, 0.0, 0.0, id="no position"),
        pytest.param({"side": Side.SHORT}, 10.0, 1.95, 2.0, id="short alike"),
    ],
)
def test_money(changes: dict[str, Any], bps: float, net: float, next_open: float) -> None:
    one = trade(**changes)
    assert one.net_r(bps) == pytest.approx(net, abs=1e-12)
    assert one.gross_next_open_r == pytest.approx(next_open, abs=1e-12)
    table = TradeTable.of([one])
    assert table.net_r(bps)[0] == pytest.approx(net, abs=1e-12)
    assert table.gross_next_open_r[0] == pytest.approx(next_open, abs=1e-12)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"risk": 0.0}, "risk"),
        ({"risk": math.nan}, "risk"),
        ({"entry": math.inf}, "entry"),
        ({"gross_r": math.nan}, "gross_r"),
        ({"mark_r": math.inf}, "mark_r"),
        ({"outcome": "won"}, "outcome"),
        ({"exit_ts": START - 1}, "exit_ts"),
    ],
)
def test_an_impossible_trade_is_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        trade(**changes)
    assert caught.value.field == field


def test_columns_are_ordered_by_time_and_say_what_the_trades_say() -> None:
    rows = world(3, n=200)
    table = TradeTable.of(rows[::-1])
    assert [row.signal_id for row in table.trades] == [
        row.signal_id for row in sorted(rows, key=lambda row: (row.ts, row.signal_id))
    ]
    assert np.array_equal(table.executed, [row.kind is Kind.EXECUTED for row in table.trades])
    assert np.array_equal(table.decisive, [row.decisive for row in table.trades])
    assert np.array_equal(table.closed, [row.filled for row in table.trades])
    assert np.allclose(table.net_r(7.0), [row.net_r(7.0) for row in table.trades])
    assert np.array_equal(np.isnan(table.mark_r), [row.mark_r is None for row in table.trades])


def test_the_day_is_the_utc_day_of_the_entry() -> None:
    table = TradeTable.of([trade(0, entry_ts=START + DAY_MS - 1), trade(1, entry_ts=START + DAY_MS)])
    assert (table.day - START // DAY_MS).tolist() == [0, 1]


def test_no_trades_make_an_empty_table() -> None:
    table = TradeTable.of([])
    assert len(table) == 0
    assert table.decisive.shape == (0,)
    assert table.net_r(10.0).shape == (0,)


def test_a_stopped_trade_is_decisive() -> None:
    assert lost().decisive
    assert not trade(outcome="timeout", exit_reason="timeout").decisive
