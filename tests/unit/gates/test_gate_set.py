"""Hard gates as a file: read back as written, and refused where it says something else than it means."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from gates.gate_set import GateSet, Requires, gate_set_of
from gates.variables import VARIABLES, declared
from signals.errors import Invalid

WIDE = {"ts15": 65.0, "volume_ratio": 1.4, "bb_width_pct": 2.0}
OWN = declared([{"name": "calm", "when": [{"feature": "atr_pct", "below": 0.5}]}], VARIABLES)


def gates(**changes: Any) -> GateSet:
    given: dict[str, Any] = {
        "profile": "scalp",
        "gates": (("htf", "vol"), ("bb_width_70p",)),
        "quantiles": {("bb_width_pct", 0.70): 1.9},
    }
    return GateSet(**(given | changes))


@pytest.mark.parametrize(
    ("features", "any_passes", "all_pass", "by", "missing"),
    [
        pytest.param(WIDE, True, True, ("htf+vol", "bb_width_70p"), (), id="both"),
        pytest.param(WIDE | {"bb_width_pct": 1.85}, True, False, ("htf+vol",), (), id="below the learned quantile"),
        pytest.param(WIDE | {"ts15": 10.0}, True, False, ("bb_width_70p",), (), id="one member fails"),
        pytest.param({"ts15": 65.0, "volume_ratio": 1.0, "bb_width_pct": 1.0}, False, False, (), (), id="neither"),
        pytest.param({"bb_width_pct": 2.0}, True, False, ("bb_width_70p",), ("htf", "vol"), id="one cannot be told"),
        pytest.param({}, False, False, (), ("htf", "vol", "bb_width_70p"), id="nothing is known"),
        pytest.param({"bb_width_pct": math.nan}, False, False, (), ("htf", "vol", "bb_width_70p"), id="no number"),
    ],
)
def test_what_a_set_lets_through(
    features: dict[str, float], any_passes: bool, all_pass: bool, by: tuple[str, ...], missing: tuple[str, ...]
) -> None:
    told = gates().passage(features)
    assert (told.passed, told.by, told.missing) == (any_passes, by, missing)
    assert gates(requires=Requires.ALL).passage(features).passed is all_pass


def test_what_is_written_is_read_back() -> None:
    mine = gates(variables=(*VARIABLES, *OWN), gates=(("htf", "calm"),), note="June")
    back = GateSet.from_record(mine.as_record())
    assert back.hash == mine.hash
    assert back.as_record() == mine.as_record()
    features = {"ts15": 65.0, "atr_pct": 0.4}
    assert back.passage(features) == mine.passage(features)
    assert back.passage(features).passed


def test_a_hand_written_file_needs_little() -> None:
    told = GateSet.from_record({"version": 1, "profile": "scalp", "gates": [["htf", "vol"]]})
    assert told.requires is Requires.ANY
    assert told.passage({"ts15": 60.0, "volume_ratio": 1.3}).passed


def test_a_file_means_what_its_variables_said_when_it_was_written() -> None:
    record = gates(gates=(("htf",),)).as_record()
    record["variables"][0]["when"][0]["at_least"] = 90.0
    del record["hash"]
    assert not GateSet.from_record(record).passage({"ts15": 65.0}).passed


def test_sets_that_decide_alike_are_one() -> None:
    assert gates(note="a").hash == gates(note="b").hash
    assert gates().hash != gates(requires=Requires.ALL).hash
    assert gates().hash != gates(quantiles={("bb_width_pct", 0.70): 2.0}).hash
    # A quantile nobody asks for decides nothing.
    assert gates().hash == gates(quantiles={("bb_width_pct", 0.70): 1.9, ("atr_pct", 0.5): 1.0}).hash


def changed(**entries: Any) -> Callable[[dict[str, Any]], None]:
    return lambda record: record.update(entries)


@pytest.mark.parametrize(
    "bend",
    [
        pytest.param(changed(version=2), id="another version"),
        pytest.param(changed(requires="some"), id="another requirement"),
        pytest.param(changed(gates=[]), id="no gate"),
        pytest.param(changed(gates=[[]]), id="an empty gate"),
        pytest.param(changed(gates=[["htf"], ["htf"]]), id="a gate twice"),
        pytest.param(changed(gates=[["htf", "htf"]]), id="a member twice"),
        pytest.param(changed(gates=[["moon"]]), id="an unknown variable"),
        pytest.param(changed(gates="htf"), id="text"),
        pytest.param(changed(gates=[[1]]), id="a number"),
        pytest.param(changed(profile=None), id="no profile"),
        pytest.param(changed(quantiles={"bb_width_pct|0.7": math.nan}), id="a quantile that is no number"),
        pytest.param(changed(quantiles={"bb_width_pct": 1.0}), id="a quantile of nothing"),
        pytest.param(changed(quantiles=[1.0]), id="a list of quantiles"),
        pytest.param(changed(variables=[1]), id="a variable that is none"),
        pytest.param(changed(threshold=1), id="a word too many"),
        pytest.param(changed(gates=[["vol"]]), id="another gate under the old hash"),
    ],
)
def test_a_file_that_means_something_else_is_refused(bend: Callable[[dict[str, Any]], None]) -> None:
    record = gates().as_record()
    bend(record)
    with pytest.raises(Invalid):
        GateSet.from_record(record)


@pytest.mark.parametrize("record", [None, [], "gates", 3])
def test_what_is_no_mapping_is_refused(record: object) -> None:
    with pytest.raises(Invalid):
        GateSet.from_record(record)


def test_there_is_no_set_of_nothing() -> None:
    with pytest.raises(Invalid):
        gate_set_of("scalp", (), VARIABLES, {})
