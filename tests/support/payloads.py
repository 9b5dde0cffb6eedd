"""Payloads as an engine sends them."""

from __future__ import annotations

TS = 1_704_067_200_000


def payload(direction: str = "long", /, **changes: object) -> dict[str, object]:
    """A good payload with changes; ``...`` drops a field. Stop 2 and target 4 away from 100 on either side."""
    levels = {"sl": 98.0, "tp": 104.0} if direction == "long" else {"sl": 102.0, "tp": 96.0}
    made: dict[str, object] = {
        "id": "s-1",
        "strategy": "trend",
        "symbol": "BTCUSDT",
        "side": direction,
        "entry": 100.0,
        "ts": TS,
        **levels,
        **changes,
    }
    return {name: value for name, value in made.items() if value is not ...}
