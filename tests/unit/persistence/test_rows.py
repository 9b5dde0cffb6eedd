"""A closed fact as a row: every column by hand, every missing or wrong key by name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from persistence.queries import query
from persistence.rows import BadFact, digest, trade_row
from persistence.store import Fact

CLOSED_AT = 1_700_000_700_250


def closed(body: str) -> Fact:
    return Fact(9, "closed:a", "closed", CLOSED_AT, {"sid": "a", "position_kind": "phantom"}, body)


# Long from 100, stop 98, target 104, so one R is 2 and 10 bp of 100 are 0.05 R. Opened at 100.5: slip 0.25 R.
def test_every_column(closed_body: Callable[..., str]) -> None:
    row = trade_row("demo", closed(closed_body()))
    assert row == {
        "namespace": "demo",
        "id": "a",
        "symbol": "BTCUSDT",
        "side": "long",
        "entry": 100.0,
        "sl": 98.0,
        "tp": 104.0,
        "signal_time": datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
        "exit_time": datetime(2023, 11, 14, 22, 25, tzinfo=UTC),
        "outcome": "win",
        "pnl_percent": pytest.approx(3.9),
        "exit_reason": "tp",
        "strategy_name": "trend",
        "was_executed": False,
        "ml_score": 71.25,
        "realized_rr": pytest.approx(1.95),
        "features_json": '{"atr_pct":0.7,"rsi":null,"session":"us"}',
        "created_at": datetime(2023, 11, 14, 22, 25, 0, 250_000, tzinfo=UTC),
        "mfe": pytest.approx(1.75),
        "mae": pytest.approx(0.5),
        "tp1_hit": True,
        "be_moved": False,
        "runner_hit": True,
        "one_r_hit": True,
        "two_r_hit": False,
        "ambiguous": False,
        "gap": False,
        "late_mark": False,
        "unclaimed": False,
        "how": "simulation",
        "mark_price": None,
        "mark_pnl_percent": None,
        "gross_r": 2.0,
        "gross_pnl_percent": 4.0,
        "entry_slip_r": 0.25,
        "bundle": None,
        "threshold": 70.0,
        "bucket": "us|normal",
    }


def test_the_statement_takes_exactly_the_rows_columns(closed_body: Callable[..., str]) -> None:
    taken = re.findall(r"%\((\w+)\)s", query("append_trade").decode())
    assert set(taken) == set(trade_row("", closed(closed_body())))


def test_an_executed_one(closed_body: Callable[..., str]) -> None:
    assert trade_row("", closed(closed_body(kind="executed")))["was_executed"] is True


NEEDED = [
    *("id", "strategy", "symbol", "side", "kind", "entry", "sl", "tp", "ts", "features", "score", "threshold"),
    *("bucket", "bundle", "unclaimed", "how", "outcome", "exit_reason", "exit_ms", "gap", "ambiguous", "late_mark"),
    *("mark_price", "mark_pnl_percent", "gross_r", "net_r", "gross_pnl_percent", "pnl_percent", "entry_slip_r"),
    *("mfe_r", "mae_r", "tp1_hit", "be_moved", "runner_hit", "one_r_hit", "two_r_hit"),
]


@pytest.mark.parametrize("key", NEEDED)
def test_a_missing_key_is_named(key: str, closed_body: Callable[..., str]) -> None:
    body = json.loads(closed_body())
    del body[key]
    with pytest.raises(BadFact, match=f"closed:a.*'{key}'"):
        trade_row("", closed(json.dumps(body)))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param("symbol", 7, id="number for text"),
        pytest.param("entry", "100", id="text for number"),
        pytest.param("entry", True, id="true is not a number"),
        pytest.param("entry", 10**400, id="beyond a float"),
        pytest.param("gap", 1, id="number for a flag"),
        pytest.param("ts", 1.5, id="half a millisecond"),
        pytest.param("ts", 10**20, id="beyond the calendar"),
        pytest.param("features", [1], id="list for features"),
        pytest.param("bucket", 3, id="number for optional text"),
    ],
)
def test_a_wrong_value_is_named(key: str, value: object, closed_body: Callable[..., str]) -> None:
    body = json.loads(closed_body()) | {key: value}
    with pytest.raises(BadFact, match=f"'{key}'"):
        trade_row("", closed(json.dumps(body)))


@pytest.mark.parametrize("body", ["", "[1]", "{", "null", "[" * 100_000])
def test_a_body_that_is_no_object(body: str) -> None:
    with pytest.raises(BadFact, match="closed:a"):
        trade_row("", closed(body))


def test_features_that_json_does_not_know(closed_body: Callable[..., str]) -> None:
    body = closed_body().replace('"atr_pct":0.7', '"atr_pct":NaN')
    with pytest.raises(BadFact, match="features"):
        trade_row("", closed(body))


# What a roll-back of Redis changes in a fact, and what it must never change.
FIRST = Fact(5, "closed:a", "closed", 1_000, {"sid": "a", "v": "3", "track": "{}", "day": "20231114", "win": "1"}, "{}")


@pytest.mark.parametrize(
    ("again", "same"),
    [
        pytest.param(Fact(9, FIRST.id, FIRST.kind, 2_000, FIRST.fields, FIRST.body), True, id="later"),
        pytest.param(
            Fact(5, FIRST.id, FIRST.kind, 1_000, {**FIRST.fields, "v": "7", "track": "x", "day": "x"}, FIRST.body),
            True,
            id="after other checkpoints",
        ),
        pytest.param(Fact(5, FIRST.id, FIRST.kind, 1_000, {**FIRST.fields, "win": "0"}, FIRST.body), False, id="field"),
        pytest.param(Fact(5, FIRST.id, FIRST.kind, 1_000, FIRST.fields, '{"a":1}'), False, id="body"),
        pytest.param(Fact(5, FIRST.id, "corrected", 1_000, FIRST.fields, FIRST.body), False, id="kind"),
        pytest.param(Fact(5, FIRST.id, FIRST.kind, 1_000, {**FIRST.fields, "x": "1"}, FIRST.body), False, id="more"),
    ],
)
def test_what_makes_two_facts_the_same(again: Fact, *, same: bool) -> None:
    assert (digest(again) == digest(FIRST)) is same


def test_a_digest_refuses_what_is_not_text() -> None:
    with pytest.raises(BadFact):
        digest(Fact(1, "a", "closed", 1, {}, "\ud800"))
