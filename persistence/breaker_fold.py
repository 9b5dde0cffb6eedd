"""What facts do to the breakers' tables: the part of the fold that ``State`` hands on."""

from __future__ import annotations

from collections.abc import Mapping

from persistence.breakers import FIELDS, HISTORY_KEPT, LIMITS, SECOND_MS, SLIPS_KEPT, TRIP, intact
from persistence.store import Fact


def new_entry() -> dict[str, str]:
    """The breakers of a new namespace: nothing counted, everything off until thresholds are set."""
    return dict.fromkeys(FIELDS, "0")


def set_thresholds(entry: dict[str, str], fact: Fact) -> None:
    """Put thresholds in force."""
    if entry:
        entry.update({f"limit_{name}": fact.fields[f"limit_{name}"] for name in LIMITS}, gen=fact.fields["gen"])


def turn(entry: dict[str, str], history: list[str], slips: list[str], fact: Fact) -> None:
    """Trip, clear or reset a breaker."""
    if not entry:
        return
    it = fact.fields
    entry["gen"] = it["gen"]
    if it["change"] == "tripped":
        entry[TRIP + it["name"]] = f"{it['value']}:{it['limit']}:{fact.at_ms}:{it['gen']}"
    else:
        entry.pop(TRIP + it["name"], None)
    if it["change"] == "reset":
        _rebase(entry, slips, it["name"])
    history.insert(0, " ".join((str(fact.at_ms), it["name"], it["change"], it["value"], it["limit"], it["by"])))
    del history[HISTORY_KEPT:]


def _rebase(entry: dict[str, str], slips: list[str], name: str) -> None:
    if name == "losing_streak":
        entry["streak"] = "0"
    elif name == "slippage":
        slips.clear()
        entry.update(slips="0", slip_sum="0", slip_expected="0")
    else:
        unit = name.removeprefix("drawdown_")
        entry[f"high_{unit}"] = entry[f"equity_{unit}"]


def count_result(entry: dict[str, str], it: Mapping[str, str]) -> None:
    """Let an executed result move equity, high water and streak."""
    if not intact(entry):
        return
    for unit in ("r", "money"):
        equity = int(entry[f"equity_{unit}"]) + int(it[f"{unit}_micro"])
        entry[f"equity_{unit}"] = str(equity)
        entry[f"high_{unit}"] = str(max(equity, int(entry[f"high_{unit}"])))
    # What lost money goes on with a streak, whatever it is called.
    if it["outcome"] == "loss" or int(it["r_micro"]) < 0:
        entry["streak"] = str(int(entry["streak"]) + 1)
    elif it["outcome"] == "win":
        entry["streak"] = "0"


def count_slip(entry: dict[str, str], slips: list[str], it: Mapping[str, str]) -> None:
    """Let a fill's slip into the window of the last twenty."""
    # Facts from before there were breakers say nothing about slips.
    if not it.get("slip") or not intact(entry):
        return
    slips.insert(0, f"{it['slip']}:{it['expected']}")
    del slips[SLIPS_KEPT:]
    pairs = [pair.split(":") for pair in slips]
    entry.update(
        slips=str(len(pairs)),
        slip_sum=str(sum(int(slip) for slip, _ in pairs)),
        slip_expected=str(sum(int(expected) for _, expected in pairs)),
    )


def count_order(claimed: dict[str, int], signal_id: str, at_ms: int) -> None:
    """Remember an order for a second."""
    claimed[signal_id] = at_ms
    for old in [name for name, at in claimed.items() if at <= at_ms - SECOND_MS]:
        del claimed[old]
