"""A feature with a stamp: known in time, or the signal is refused with which, when and by how much."""

from __future__ import annotations

from typing import Any

import pytest

from signals.errors import Refusal
from signals.leak import Leak, late
from signals.parse import parse_signal
from signals.profile import DEFAULT_PROFILES
from signals.reasons import Reason
from signals.signal import Signal

TS = 1_700_000_000_000


def sent(**features: Any) -> Signal | Refusal:
    payload = {"id": "a", "strategy": "scalp", "symbol": "BTCUSDT", "side": "long", "entry": 100.0, "tp": 104.0,
               "sl": 98.0, "ts": TS, "features": features}  # fmt: skip
    return parse_signal(payload, DEFAULT_PROFILES)


@pytest.mark.parametrize("stamp", [TS, TS - 1, 100_000_000_000, None, float(TS)])
def test_what_was_known_in_time_passes(stamp: float | None) -> None:
    found = sent(atr_pct=0.5, atr_pct_known_ms=stamp)
    assert isinstance(found, Signal)
    assert found.features["atr_pct"] == 0.5


def test_a_late_value_is_refused_with_both_moments() -> None:
    found = sent(atr_pct=0.5, atr_pct_known_ms=TS + 60_000)
    assert found == Refusal(
        Reason.LEAK_LATE,
        "features.atr_pct",
        "atr_pct (LEAK_LATE) is known 2023-11-14T22:14:20.000+00:00, but needed 2023-11-14T22:13:20.000+00:00: "
        "60,000 ms too late",
    )


@pytest.mark.parametrize("stamp", [TS // 1000, 0, -1, "2023-11-14", 1e15])
def test_a_stamp_that_is_no_moment_is_refused(stamp: object) -> None:
    found = sent(atr_pct=0.5, atr_pct_known_ms=stamp)
    assert isinstance(found, Refusal)
    assert (found.reason, found.field) == (Reason.FIELD_RANGE, "features.atr_pct_known_ms")


def test_the_sentence_of_a_leak() -> None:
    assert late("x", TS, TS) is None
    leak = Leak(feature="mfe", reason=Reason.LEAK_EXIT_ONLY, known="at the exit")
    assert leak.sentence == "mfe (LEAK_EXIT_ONLY) is known at the exit, but needed at the decision"
