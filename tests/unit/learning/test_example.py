"""From closed facts to examples: what is taken, what is corrected, in which order."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from learning.example import Example, data_hash, examples
from scorer.schema import SCALP, TREND
from signals.errors import Invalid
from signals.profile import FillRule, Kind
from signals.signal import Side
from tests.support.lessons import closed_rows


@pytest.fixture
def body(closed_body: Callable[..., str]) -> Callable[..., dict[str, Any]]:
    def build(signal_id: str = "a", **changes: Any) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(closed_body(signal_id, **changes))
        return read

    return build


def test_the_body_of_a_close(body: Callable[..., dict[str, Any]]) -> None:
    (one,) = examples([body(kind="executed")])
    assert (one.id, one.strategy, one.symbol, one.side) == ("a", "trend", "BTCUSDT", Side.LONG)
    assert (one.won, one.kind, one.weight) == (True, Kind.EXECUTED, 1.0)
    assert (one.ts, one.entry_ms, one.exit_ms) == (1_700_000_000_000, 1_700_000_100_000, 1_700_000_700_000)
    # Two R less ten basis points of 100 at a risk of 2.
    assert one.gross_r == 2.0
    assert one.net_r == pytest.approx(1.95)
    assert (one.bucket, one.score, one.heuristic_score, one.score_source) == ("us|normal", 71.25, 71.25, "heuristic")
    assert examples([body(kind="phantom")])[0].weight == 0.8


@pytest.mark.parametrize(
    ("outcome", "taken"), [("win", 1), ("loss", 1), ("timeout", 0), ("no_fill", 0), ("no_data", 0)]
)
def test_decisive_outcomes_only(body: Callable[..., dict[str, Any]], outcome: str, taken: int) -> None:
    assert len(examples([body(outcome=outcome)])) == taken


def test_what_is_not_learned_need_not_be_readable(body: Callable[..., dict[str, Any]]) -> None:
    assert examples([body(outcome="no_data", net_r=None, exit_ms=None)]) == []


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        pytest.param({}, ("us", "normal"), id="from the bucket"),
        pytest.param({"session": None}, ("us", "normal"), id="sent empty"),
        pytest.param({"session": "asian"}, ("asian", "normal"), id="sent"),
        pytest.param({"session": "mars"}, (None, "normal"), id="sent and unknown: missing, not replaced"),
        pytest.param({"volatility_regime": "extreme"}, ("us", "extreme"), id="regime sent"),
    ],
)
def test_session_and_regime(
    body: Callable[..., dict[str, Any]], sent: dict[str, Any], read: tuple[str | None, str]
) -> None:
    (one,) = examples([body(features={"atr_pct": 0.7} | sent)])
    assert TREND.vector(one.features).categories == read


def test_the_cluster_is_the_symbol_unless_sent(body: Callable[..., dict[str, Any]]) -> None:
    place = [feature.name for feature in SCALP.categories].index("symbol_cluster")
    (plain,) = examples([body(features={})])
    (sent,) = examples([body(features={"symbol_cluster": "majors"})])
    assert SCALP.vector(plain.features).categories[place] == "BTCUSDT"
    assert SCALP.vector(sent.features).categories[place] == "majors"


def test_without_a_bucket_the_categories_are_missing(body: Callable[..., dict[str, Any]]) -> None:
    (one,) = examples([body(features={}, bucket=None)])
    assert {"session", "volatility_regime"} <= set(TREND.vector(one.features).missing)


def test_order_is_exit_then_decision_then_id(body: Callable[..., dict[str, Any]]) -> None:
    rows = [
        body("d", exit_ms=1_700_000_900_000),
        body("c", ts=1_700_000_000_500),
        body("b"),
        body("a"),
        body("e", exit_ms=1_700_000_600_000),
    ]
    assert [one.id for one in examples(rows)] == ["e", "a", "b", "c", "d"]


def test_corrections(body: Callable[..., dict[str, Any]]) -> None:
    rows = [body("kept"), body("turned"), body("gone"), body("revived", outcome="timeout"), body("timed")]
    corrections: dict[str, Any] = {
        "turned": {"outcome": "loss", "net_r": -1.1, "id": "renamed"},
        "gone": None,
        "revived": {"outcome": "win"},
        "timed": {"outcome": "timeout"},
        "unknown": {"outcome": "win"},
    }
    found = {one.id: one for one in examples(rows, corrections)}
    assert {name: one.won for name, one in found.items()} == {"kept": True, "turned": False, "revived": True}
    assert found["turned"].net_r == -1.1
    assert rows[1]["outcome"] == "win"


def test_one_id_counts_once(body: Callable[..., dict[str, Any]]) -> None:
    assert [one.won for one in examples([body("a"), body("a", won=False), body("a")])] == [True]


def test_ambiguous_losses_can_be_left_out(body: Callable[..., dict[str, Any]]) -> None:
    rows = [body("a", won=False, ambiguous=True), body("b", won=False)]
    assert [one.id for one in examples(rows)] == ["a", "b"]
    assert [one.id for one in examples(rows, drop_ambiguous=True)] == ["b"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"net_r": math.nan}, "net_r"),
        ({"net_r": math.inf}, "net_r"),
        ({"net_r": 10**400}, "net_r"),
        ({"gross_r": True}, "gross_r"),
        ({"gross_r": "1"}, "gross_r"),
        ({"exit_ms": 1.5}, "exit_ms"),
        ({"exit_ms": 0}, "exit_ms"),
        ({"kind": "imagined"}, "kind"),
        ({"side": "up"}, "side"),
        ({"features": []}, "features"),
        ({"score": "high"}, "score"),
        ({"strategy": None}, "strategy"),
        ({"id": ""}, "id"),
    ],
)
def test_a_decisive_row_that_no_close_wrote_is_loud(
    body: Callable[..., dict[str, Any]], changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        examples([body() | changes])
    assert caught.value.field == field


def test_a_missing_field_is_named(body: Callable[..., dict[str, Any]]) -> None:
    row = body()
    del row["net_r"]
    with pytest.raises(Invalid, match="FIELD_MISSING at net_r"):
        examples([row])


@pytest.mark.parametrize("outcome", ["no_fill", "no_data"])
def test_what_was_never_in_the_market_becomes_no_example(body: Callable[..., dict[str, Any]], outcome: str) -> None:
    with pytest.raises(Invalid, match="outcome"):
        Example.from_closed(body(outcome=outcome))
    assert examples([body(outcome=outcome)], timeouts=True) == []


def test_the_hash_knows_every_field_and_no_order() -> None:
    given = examples(closed_rows(6))
    first = data_hash(given)
    assert data_hash(reversed(given)) == first
    # A loss: what timed out has not won, and each change is made alone.
    place = next(number for number, example in enumerate(given) if not example.won)
    one, others = given[place], given[:place] + given[place + 1 :]
    changes: dict[str, Any] = {
        "id": "other",
        "strategy": "other",
        "symbol": "OTHER",
        "side": Side(-one.side.value),
        "features": dict(one.features) | {"atr_pct": 0.125},
        "won": not one.won,
        "kind": Kind.PHANTOM if one.kind is Kind.EXECUTED else Kind.EXECUTED,
        "gross_r": 9.0,
        "net_r": 9.0,
        "ts": one.ts - 1,
        "entry_ms": one.entry_ms - 1,
        "exit_ms": one.exit_ms + 1,
        "bucket": None,
        "score": 1.0,
        "heuristic_score": 1.0,
        "score_source": "ensemble",
        "win_probability": 0.5,
        "ambiguous": True,
        "vector_hash": "01760b24:0",
        "timed_out": True,
        "target_r": 2.0,
        "seen_weight": 1.5,
    }
    assert set(changes) == set(Example.__dataclass_fields__)
    hashes = {data_hash([replace(one, **{name: value}), *others]) for name, value in changes.items()}
    assert len(hashes | {first}) == len(changes) + 1


def test_the_hash_survives_what_json_does_not_know() -> None:
    (one,) = examples(closed_rows(1))
    odd = [replace(one, features={"atr_pct": value}) for value in (math.nan, math.inf, None, "nan")]
    assert len({data_hash([example]) for example in odd}) == 4


@pytest.mark.parametrize(
    ("exit_ms", "start_ms"),
    [
        pytest.param(1_700_000_100_000, 1_700_000_100_000, id="with the first candle"),
        pytest.param(1_700_000_060_000, 1_700_000_000_000, id="before it: from the signal on"),
        pytest.param(1_699_999_999_000, 1_699_999_999_000, id="by a clock that is behind"),
    ],
)
def test_an_engine_that_is_out_before_the_twin_is_in(
    body: Callable[..., dict[str, Any]], exit_ms: int, start_ms: int
) -> None:
    (one,) = examples([body(kind="executed", how="report", exit_ms=exit_ms)])
    assert (one.entry_ms, one.exit_ms) == (start_ms, exit_ms)


def test_a_timeout_is_worth_its_mark(body: Callable[..., dict[str, Any]]) -> None:
    # A long from 100 with the stop at 98: one percent up is half an R, and costs are what the close took off.
    row = body(outcome="timeout", gross_r=0.0, net_r=-0.05, mark_pnl_percent=1.0, mark_price=101.0, entry_slip_r=0.25)
    assert examples([row]) == []
    (one,) = examples([row], timeouts=True)
    assert (one.timed_out, one.decisive, one.won) == (True, False, False)
    assert (one.gross_r, one.net_r) == pytest.approx((0.5, 0.45))
    # Filled at the next open it was bought a quarter of an R dearer.
    (dearer,) = examples([row], timeouts=True, fill=FillRule.NEXT_OPEN)
    assert dearer.net_r == pytest.approx(0.2)
    # The engine's own exit at the deadline has a result and needs no mark.
    (own,) = examples([row | {"mark_pnl_percent": None, "gross_r": 0.3, "net_r": 0.25}], timeouts=True)
    assert (own.gross_r, own.net_r) == pytest.approx((0.3, 0.25))
    with pytest.raises(Invalid, match="sl"):
        examples([row | {"sl": 100.0}], timeouts=True)


def test_an_ambiguous_loss_knows_its_target(body: Callable[..., dict[str, Any]]) -> None:
    row = body(outcome="loss", gross_r=-1.0, net_r=-1.05, ambiguous=True)
    (one,) = examples([row])
    assert one.target_r == pytest.approx(1.95)
    assert examples([row | {"ambiguous": False}])[0].target_r is None
