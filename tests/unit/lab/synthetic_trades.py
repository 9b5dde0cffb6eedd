"""Trades with known truth for the tests of the lab: every draw from a seeded generator."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from lab.summary import RunInfo
from lab.trade import DAY_MS, Trade
from signals.bucket import Bucket, Session, VolatilityRegime
from signals.profile import Kind
from signals.signal import Side

START = 1_735_689_600_000  # 2025-01-01 00:00 UTC
HOUR_MS = 3_600_000

RUN = RunInfo(
    strategy="trend",
    timeframe="1h",
    symbols=("BTCUSDT", "ETHUSDT", "SOLUSDT"),
    first_ts=START,
    last_ts=START + 240 * DAY_MS,
    source="files",
    source_detail="3 files, 5m",
    profile="trend",
    limits=False,
    threshold_source="qscore",
    clamp="0-100",
    decisions_hash="c0ffee" * 10 + "abcd",
)

PLAIN = Trade(
    signal_id="t-0",
    strategy="trend",
    symbol="BTCUSDT",
    side=Side.LONG,
    kind=Kind.EXECUTED,
    ts=START,
    entry_ts=START,
    exit_ts=START + HOUR_MS,
    outcome="win",
    exit_reason="tp",
    entry=100.0,
    risk=2.0,
    reward_to_risk=2.0,
    gross_r=2.0,
    bucket=Bucket(Session.US, VolatilityRegime.NORMAL),
    score=80.0,
    threshold=60.0,
)


def trade(number: int = 0, **changes: Any) -> Trade:
    """A plain winning long of 2 R with some fields changed; ``number`` names it and sets it hours apart."""
    moved = {"signal_id": f"t-{number}", "ts": START + number * HOUR_MS, "entry_ts": START + number * HOUR_MS}
    changes = {**moved, **changes}
    changes.setdefault("exit_ts", changes["entry_ts"] + HOUR_MS)
    return dataclasses.replace(PLAIN, **changes)


def lost(number: int = 0, **changes: Any) -> Trade:
    """The same trade stopped out at one R."""
    return trade(number, **{"outcome": "loss", "exit_reason": "sl", "gross_r": -1.0, **changes})


def world(
    seed: int, *, n: int = 1_500, days: int = 240, skill: float = 0.0, edge: float = 0.0, symbol: str | None = None
) -> list[Trade]:
    """A market of 2 R targets whose days have moods.

    ``edge`` is the mean R of every signal before costs, ``skill`` how strongly the score knows the outcome.
    """
    rng = np.random.default_rng(seed)
    mood = rng.normal(0.0, 0.10, days)
    buckets = [Bucket(session, regime) for session in Session for regime in VolatilityRegime]
    weights = rng.dirichlet(np.full(len(buckets), 3.0))
    rows = []
    for number in range(n):
        day = int(rng.integers(days))
        chance = float(np.clip((1.0 + edge) / 3.0 + mood[day], 0.02, 0.98))
        entry_ts = START + day * DAY_MS + int(rng.integers(288)) * 300_000
        draw = float(rng.random())
        outcome = "win" if draw < chance * 0.93 else "timeout" if draw < chance * 0.93 + 0.07 else "loss"
        score = float(np.clip(rng.normal(60.0 + skill * (15.0 if outcome == "win" else -7.0), 12.0), 0.0, 100.0))
        executed = score >= 65.0
        risk = float(rng.uniform(0.4, 2.5))
        ambiguous = outcome == "loss" and rng.random() < 0.02
        extreme = float(rng.gamma(2.0, 0.35))
        rows.append(
            trade(
                number,
                symbol=symbol or RUN.symbols[int(rng.integers(3))],
                side=Side.LONG if rng.random() < 0.5 else Side.SHORT,
                kind=Kind.EXECUTED if executed else Kind.PHANTOM,
                ts=entry_ts,
                entry_ts=entry_ts,
                exit_ts=entry_ts + int(rng.gamma(2.0, 4.0) * HOUR_MS) + 300_000,
                outcome=outcome,
                exit_reason={"win": "tp", "loss": "sl", "timeout": "timeout"}[outcome],
                risk=risk,
                gross_r={"win": 2.0, "loss": -1.0, "timeout": 0.0}[outcome],
                mark_r=float(rng.normal(0.1, 0.5)) if outcome == "timeout" else None,
                mfe_r=2.0 if outcome == "win" else min(1.99, extreme),
                mae_r=1.0 if outcome == "loss" else min(0.99, extreme),
                entry_slip_r=float(rng.normal(0.0, 0.01)),
                ambiguous=ambiguous,
                bucket=buckets[int(rng.choice(len(buckets), p=weights))],
                score=score,
                threshold=65.0,
                reasons=("SCORE_PASSED",) if executed else ("SCORE_BELOW_THRESHOLD",),
                tag="pullback" if rng.random() < 0.3 else None,
            )
        )
    return rows
