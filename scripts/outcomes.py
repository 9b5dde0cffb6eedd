"""``penumbra outcomes``: how a strategy's positions end, those still open counted as such."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from lab.statistics import Estimate, Interval, estimate_mean, percentile_interval
from lab.wording import mean_bounds, number, percent, signed
from learning.example import Example, examples
from learning.incidence import CAUSES, OPEN, code_of, incidence, resampled_shares
from learning.labels import DAY_MS, ambiguity_bounds, effective_size, uniqueness
from runtime.wiring import Wiring
from signals.profile import Kind, Profile

SEED, RESAMPLES = 1, 500
QUARTERS = (0.25, 0.5, 0.75, 1.0)
"""Parts of the deadline at which shares are told."""
HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class _Life:
    entry_ms: int
    life_ms: int
    cause: int
    kind: Kind


def outcomes(wiring: Wiring, strategy: str) -> dict[str, Any]:
    """Shares that ended at target, stop, deadline and otherwise, by kind; results with timeouts at their marks."""
    store, profile = wiring.store, wiring.settings.profile(strategy)
    rows, laid = store.trades(strategy)
    corrections: dict[str, Mapping[str, Any] | None] = {
        name: json.loads(text) if text else None for name, text in laid.items()
    }
    read = [json.loads(row) for row in (*rows, *store.timeouts(strategy))]
    known = examples(read, corrections, timeouts=True, fill=profile.fill)
    reasons = {row["id"]: str({**row, **(corrections.get(row["id"]) or {})}["exit_reason"]) for row in read}
    now_ms = store.now_ms()
    waiting = [
        _Life(one.entry_ms, now_ms - one.entry_ms, OPEN, one.kind)
        for one in store.open_positions(strategy)
        if now_ms > one.entry_ms
    ]
    groups = (("executed", Kind.EXECUTED), ("phantom", Kind.PHANTOM), ("all", None))
    found = {
        name: _group(
            [one for one in known if kind is None or one.kind is kind],
            [one for one in waiting if kind is None or one.kind is kind],
            reasons,
            profile,
        )
        for name, kind in groups
    }
    return {"strategy": strategy, "timeout_ms": profile.timeout_ms, "groups": found}


def _group(
    known: Sequence[Example], waiting: Sequence[_Life], reasons: Mapping[str, str], profile: Profile
) -> dict[str, Any] | None:
    if not known:
        return None
    lives = [
        *(_Life(one.entry_ms, one.exit_ms - one.entry_ms, code_of(reasons[one.id]), one.kind) for one in known),
        *waiting,
    ]
    life = np.array([one.life_ms for one in lives], dtype=np.int64)
    cause = np.array([one.cause for one in lives], dtype=np.int64)
    day = np.array([one.entry_ms // DAY_MS for one in lives], dtype=np.int64)
    rng, curve = np.random.default_rng(SEED), incidence(life, cause, CAUSES)
    # The deadline's candle ends after the deadline: the last stretch holds everything.
    longest = max(int(curve.life_ms[-1]), profile.timeout_ms)
    shares = []
    for part in QUARTERS:
        at_ms = longest if part == 1.0 else round(part * profile.timeout_ms)
        draws = resampled_shares(life, cause, len(CAUSES), day, at_ms, rng=rng, resamples=RESAMPLES)
        n_days = len(np.unique(day))
        told: dict[str, Any] = {"hours": at_ms / HOUR_MS, "open": max(0.0, curve.open_at(at_ms))}
        for place, name in enumerate(CAUSES):
            bounds = percentile_interval(draws[:, place], n_days)
            iid = Interval(*curve.interval(name, at_ms))
            told[name] = {
                "share": curve.at(name, at_ms),
                "low_days": bounds.low if bounds.known else None,
                "high_days": bounds.high if bounds.known else None,
                "low_iid": iid.low,
                "high_iid": iid.high,
            }
        shares.append(told)
    entry = np.array([one.entry_ms for one in known], dtype=np.int64)
    exit_ = np.array([one.exit_ms for one in known], dtype=np.int64)
    net = np.array([one.net_r for one in known], dtype=np.float64)
    decisive = np.array([one.decisive for one in known], dtype=np.bool_)
    doubtful = np.array([one.target_r is not None and not one.won for one in known], dtype=np.bool_)
    at_target = np.array([one.net_r if one.target_r is None else one.target_r for one in known], dtype=np.float64)
    bounds_r = ambiguity_bounds(net, np.maximum(at_target, net), doubtful)
    alone = uniqueness(entry, exit_)
    wins = sum(one.won for one in known)
    return {
        "n": len(lives),
        "n_open": len(waiting),
        "n_days": len(np.unique(day)),
        "n_eff": effective_size(alone),
        "n_alone": float(np.sum(alone)),
        "decisive": int(decisive.sum()),
        "win_rate_of_decisive": wins / int(decisive.sum()) if bool(decisive.any()) else None,
        "mean_r_of_decisive": _mean(estimate_mean(entry[decisive] // DAY_MS, net[decisive], rng=rng)),
        "mean_r_with_marks": _mean(estimate_mean(entry // DAY_MS, net, rng=rng)),
        "ambiguous": int(doubtful.sum()),
        "bounds_r": [bounds_r.stop_first_r, bounds_r.target_first_r],
        "incidence": shares,
    }


def _mean(one: Estimate) -> dict[str, float | int | None]:
    def known(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return {
        "value": known(one.value),
        "low_days": known(one.day.low),
        "high_days": known(one.day.high),
        "low_iid": known(one.iid.low),
        "high_iid": known(one.iid.high),
        "n": one.n,
        "n_days": one.n_days,
    }


def print_outcomes(found: Mapping[str, Any], console: Console) -> None:
    """The same as tables."""
    told = {name: group for name, group in found["groups"].items() if group is not None}
    if not told:
        console.print("no outcome has been recorded yet")
        return
    table = Table("positions", "by", "target", "stop", "timeout", "other", "open", box=SIMPLE_HEAD)
    for name, group in told.items():
        for share in group["incidence"]:
            cells = [_share(share[cause]) for cause in CAUSES]
            table.add_row(name, f"{share['hours']:.1f} h", *cells, percent(share["open"]))
    console.print(table)
    console.print("shares of all positions (95 % by days), open ones counted as not ended yet", style="dim")
    table = Table(
        "positions", "n", "open", "n eff", "sum of uniqueness", "win rate of decided", "mean R of decided",
        "mean R, timeouts at marks", "stop first, target first", box=SIMPLE_HEAD,
    )  # fmt: skip
    for name, group in told.items():
        rate, bounds = group["win_rate_of_decisive"], group["bounds_r"]
        table.add_row(
            name,
            f"{group['n']:,}",
            f"{group['n_open']:,}",
            number(group["n_eff"], 0),
            number(group["n_alone"], 0),
            "–" if rate is None else percent(rate),
            *(_r(group[key]) for key in ("mean_r_of_decisive", "mean_r_with_marks")),
            f"{signed(bounds[0])}, {signed(bounds[1])}",
        )
    console.print(table)


def _share(told: Mapping[str, float | None]) -> str:
    low, high = told["low_days"], told["high_days"]
    share = percent(float(told["share"] or 0.0))
    return share if low is None or high is None else f"{share} ({100.0 * low:.1f}–{100.0 * high:.1f} %)"


def _r(told: Mapping[str, Any]) -> str:
    if told["value"] is None:
        return "–"
    low, high = (math.nan if told[key] is None else told[key] for key in ("low_days", "high_days"))
    one = Estimate(told["value"], Interval(low, high), Interval(low, high), told["n"], told["n_days"])
    return f"{signed(one.value)} ({mean_bounds(one)})"
