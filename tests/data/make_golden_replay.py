"""Writes ``golden_replay.json``: what replays of generated markets decide and how their trades end.

Run ``python -m tests.data.make_golden_replay`` after a change that is meant to alter them, and say in the commit why.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from lab.replay import Replay, Replayed
from lab.trade import Trade
from market.candles import Candles
from market.generated import generate
from market.reference_strategies import DEFAULT_SETTINGS, OpenGuard, proposals
from signals.profile import DEFAULT_PROFILES, Kind

FILE = Path(__file__).with_name("golden_replay.json")
CASES = (("trend", 14_000, False), ("scalp", 5_000, False), ("scalp", 5_000, True))
"""Strategy, candles per symbol, whether limits are on."""
DIGITS = 6


def markets(count: int) -> list[Candles]:
    """Two symbols with gaps, outages and changing volatility."""
    return [generate(seed, symbol=f"GEN{seed}USDT", candles=count, gaps=True) for seed in (11, 12)]


def play(strategy: str, series: Sequence[Candles], *, limits: bool) -> Replayed:
    """A replay as the command runs it: one open signal per symbol and side."""
    guard = OpenGuard()
    profile = DEFAULT_PROFILES[strategy]
    replay = Replay(
        replace(profile, limits=replace(profile.limits, open_positions=1)),
        limits=limits,
        admit=guard.admit,
        on_end=guard.closed,
        volatility_timeframes=(DEFAULT_SETTINGS[strategy].timeframe,),
    )
    return replay.run(series, [signal for candles in series for signal in proposals(strategy, candles)])


def figures(trades: Iterable[Trade]) -> dict[str, object]:
    """Counts and means to six digits: no platform's last bit may matter."""
    rows = list(trades)
    mean = math.fsum(trade.gross_r for trade in rows) / len(rows) if rows else 0.0
    return {
        "trades": len(rows),
        "outcomes": dict(sorted(Counter(trade.outcome for trade in rows).items())),
        "mean_gross_r": round(mean, DIGITS),
        "mean_mfe_r": round(math.fsum(trade.mfe_r for trade in rows) / max(len(rows), 1), DIGITS),
    }


def golden() -> list[dict[str, object]]:
    """What the file holds."""
    told: list[dict[str, object]] = []
    for strategy, count, limits in CASES:
        replayed = play(strategy, markets(count), limits=limits)
        told.append(
            {
                "strategy": strategy,
                "limits": limits,
                "decisions_hash": replayed.decisions_hash,
                "answers": replayed.answers,
                "skipped": replayed.skipped,
                "still_open": replayed.still_open,
                "candles": dict(replayed.candle_counts),
                "endings": [_ending(trade) for trade in replayed.trades],
                "all": figures(replayed.trades),
                "executed": figures(trade for trade in replayed.trades if trade.kind is Kind.EXECUTED),
            }
        )
    return told


def _ending(trade: Trade) -> str:
    return f"{trade.signal_id} {trade.kind.value} {trade.outcome} {trade.exit_reason} {trade.exit_ts}"


if __name__ == "__main__":
    FILE.write_text(json.dumps(golden(), indent=1) + "\n")
