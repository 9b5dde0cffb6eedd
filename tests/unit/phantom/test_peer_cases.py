"""The position rule beside two public engines: 1,130 trades on real candles where those are at hand, and a few always.

The reference data are located by ``PENUMBRA_REFERENCE_DATA``; the project neither holds nor needs them.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from scripts.peer_cases import PeerCase, Rule, Series, compare, compare_all, main, resolve_all
from signals.signal import Side

FOLDER = os.environ.get("PENUMBRA_REFERENCE_DATA")
needs_data = pytest.mark.skipif(FOLDER is None, reason="PENUMBRA_REFERENCE_DATA names no folder of reference candles")
STEP, START = 300_000, 1_704_067_200_000
A, B = "A_next_open", "B_signal_close"


@needs_data
def test_every_difference_has_a_name() -> None:
    tallies = compare_all(Path(str(FOLDER)))
    assert {name: tally.cases for name, tally in tallies.items()} == {A: 563, B: 567}
    for tally in tallies.values():
        assert tally.unexplained == []
    # B lets the same candle decide as we do: no exit may lie elsewhere. A's timeouts lie one open later.
    assert tallies[B].candle_equal == tallies[B].cases
    assert tallies[A].candle_equal == tallies[A].cases - tallies[A].rules[Rule.TIMEOUT_INSTANT]
    for tally in tallies.values():
        named = sum(tally.rules[rule] for rule in (Rule.TARGET_GAP, Rule.TIMEOUT_PRICE, Rule.NO_FILL))
        assert tally.price_equal == tally.cases - named
        assert tally.price_equal > 0.6 * tally.cases


@needs_data
def test_minutes_settle_every_candle_they_can() -> None:
    tally = resolve_all(Path(str(FOLDER)))
    assert (tally.cases, tally.unexplained) == (240, [])


@needs_data
def test_the_module_says_so() -> None:
    result = CliRunner().invoke(main, [str(FOLDER)])
    assert result.exit_code == 0, result.output
    assert result.output.count("unexplained") == 3


# --- always: what such an engine would do, worked by hand on ten candles. A long from 100, stop 98, target 104.

CALM = (100.0, 101.0, 99.0, 100.5)


def series(**special: tuple[float, float, float, float]) -> Series:
    """Ten calm candles, some replaced: ``c3`` is the one at place 3."""
    rows = np.array([special.get(f"c{place}", CALM) for place in range(10)])
    return Series(STEP, START + STEP * np.arange(10), rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3])


def case(convention: str, exit_type: str, exit_at: int, exit_price: float) -> PeerCase:
    """Entered at candle 2, five candles long at most."""
    return PeerCase(
        convention=convention,
        side=Side.LONG,
        entry_ts=START + 2 * STEP,
        entry=100.0,
        stop_loss=98.0,
        take_profit=104.0,
        max_bars=5,
        exit_ts=START + exit_at * STEP,
        exit_price=exit_price,
        exit_type=exit_type,
    )


@pytest.mark.parametrize(
    ("convention", "candles", "theirs", "rules"),
    [
        (A, {"c4": (100, 101, 97, 99)}, ("sl", 4, 98.0), ()),
        (B, {"c4": (100, 101, 97, 99)}, ("sl", 4, 98.0), ()),
        (A, {"c4": (96, 97, 95, 96)}, ("sl", 4, 96.0), ()),
        (A, {"c4": (100, 105, 97, 99)}, ("sl", 4, 98.0), ()),
        (A, {"c4": (100, 105, 99, 104)}, ("tp", 4, 104.0), ()),
        # A includes the entry candle, B begins after it.
        (A, {"c2": (100, 101, 97, 99)}, ("sl", 2, 98.0), ()),
        (B, {"c2": (100, 110, 90, 99), "c3": (100, 105, 99, 104)}, ("tp", 3, 104.0), ()),
        # A times out at the open of candle 7, B at the close of candle 7.
        (A, {"c7": (101.5, 102, 97, 98)}, ("timeout", 7, 101.5), (Rule.TIMEOUT_INSTANT, Rule.TIMEOUT_PRICE)),
        (B, {"c7": (100, 102, 99, 101.75)}, ("timeout", 7, 101.75), (Rule.TIMEOUT_PRICE,)),
        (B, {"c7": (100, 105, 99, 101.75)}, ("tp", 7, 104.0), ()),
        (A, {"c4": (106, 107, 105, 106)}, ("tp", 4, 106.0), (Rule.TARGET_GAP,)),
        (B, {"c3": (97, 98, 96, 97)}, ("sl", 3, 97.0), (Rule.NO_FILL,)),
        (B, {"c3": (105, 106, 97, 98)}, ("sl", 3, 98.0), (Rule.NO_FILL,)),
    ],
)
def test_differences_by_hand(
    convention: str,
    candles: dict[str, tuple[float, float, float, float]],
    theirs: tuple[str, int, float],
    rules: tuple[Rule, ...],
) -> None:
    found = compare(case(convention, *theirs), series(**candles))
    assert (found.rules, found.unexplained) == (rules, "")
    assert found.price_equal == (rules == ())
    assert found.candle_equal == (Rule.TIMEOUT_INSTANT not in rules)


@pytest.mark.parametrize(
    ("convention", "candles", "theirs"),
    [
        pytest.param(A, {"c4": (100, 105, 97, 99)}, ("tp", 4, 104.0), id="target before stop"),
        pytest.param(A, {"c4": (100, 101, 97, 99)}, ("sl", 5, 98.0), id="a candle late"),
        pytest.param(A, {"c4": (100, 101, 97, 99)}, ("sl", 4, 97.0), id="another price"),
        pytest.param(A, {"c4": (106, 107, 105, 106)}, ("tp", 4, 107.0), id="a gap filled at the high"),
        pytest.param(A, {"c4": (103, 105, 102, 104)}, ("tp", 4, 103.0), id="filled at an open that is no gap"),
        pytest.param(B, {}, ("timeout", 7, 100.0), id="a mark that is not the close"),
        pytest.param(B, {}, ("timeout", 6, 100.5), id="a timeout before its time"),
        pytest.param(A, {}, ("timeout", 8, 100.0), id="a timeout after its time"),
        pytest.param(B, {"c3": (97, 98, 96, 97)}, ("sl", 3, 99.0), id="no fill, and a price from nowhere"),
        pytest.param(A, {}, ("tp", 4, 104.0), id="a target never touched"),
    ],
)
def test_what_no_rule_explains_is_found(
    convention: str, candles: dict[str, tuple[float, float, float, float]], theirs: tuple[str, int, float]
) -> None:
    assert compare(case(convention, *theirs), series(**candles)).unexplained
