"""What a seed brings: candles as the market made and the feed sent them, signals, and what the engine will do."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from phantom.advance import advance
from phantom.position import Closed, Position, terms_for
from signals.candle import Candle
from signals.errors import Refusal
from signals.parse import parse_signal
from signals.profile import Profile
from tests.support.scenario import STEP_MS, T0, signal

SYMBOLS = ("BTCUSDT", "ETHUSDT")
TRADED = 24
"""Candles in which signals come."""
TAIL = 40
"""Candles after them: every deadline, and the hour after it in which a report may still come, lies within."""
GAP, TWICE, SWAPPED, LATE = 0.03, 0.06, 0.06, 0.02


@dataclass(frozen=True, slots=True)
class Arrival:
    """A candle on its way."""

    at_ms: int
    symbol: str
    candle: Candle


@dataclass(frozen=True, slots=True)
class Plan:
    """A signal, when it is first sent, and what the engine means to do if it may execute.

    ``reports`` are moments and prices of close reports; the first ends the position, another one corrects it.
    """

    payload: dict[str, object]
    sent_ms: int
    engines: tuple[str, ...]
    fills: bool
    reports: tuple[tuple[int, float], ...]

    @property
    def id(self) -> str:
        return str(self.payload["id"])


@dataclass(slots=True)
class MarketDay:
    """Everything a seed brings, drawn before anything happens."""

    arrivals: list[Arrival] = field(default_factory=list)
    truth: dict[str, list[Candle]] = field(default_factory=dict)
    plans: list[Plan] = field(default_factory=list)
    switches: list[tuple[int, str]] = field(default_factory=list)
    control_lost_ms: int | None = None

    @property
    def ends_ms(self) -> int:
        return T0 + (TRADED + TAIL) * STEP_MS


def market_day(seed: int) -> MarketDay:
    """The day of a seed."""
    rng = random.Random(seed * 7_919 + 1)  # noqa: S311
    day = MarketDay()
    for symbol in SYMBOLS:
        _candles(day, symbol, rng)
    day.arrivals.sort(key=lambda arrival: arrival.at_ms)
    for number in range(rng.randint(14, 26)):
        day.plans.append(_plan(f"s{number}", rng))
    day.plans.sort(key=lambda plan: plan.sent_ms)
    for _ in range(rng.randint(2, 5)):
        day.switches.append((T0 + rng.randint(0, TRADED * STEP_MS), rng.choice(("HALT", "ML_OFF", "ON", "ON"))))
    day.switches.sort()
    if rng.random() < 0.25:
        day.control_lost_ms = T0 + rng.randint(TRADED // 2, TRADED) * STEP_MS
    return day


def _candles(day: MarketDay, symbol: str, rng: random.Random) -> None:
    last, made = 100.0, []
    for place in range(TRADED + TAIL):
        close = min(max(last + rng.choice((-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0)), 90.0), 110.0)
        opened = last + rng.choice((0.0, 0.0, 0.0, 0.125, -0.125))
        high = max(opened, close) + rng.choice((0.0, 0.25, 0.5))
        low = min(opened, close) - rng.choice((0.0, 0.25, 0.5))
        made.append(Candle(T0 + place * STEP_MS, opened, high, low, close, 1.0))
        last = close
    truth, place = [], 0
    while place < len(made):
        one = made[place]
        due = one.ts + STEP_MS + rng.randint(0, 2_000)
        # Nobody can know that something came before the first, and the last few leave no time to notice.
        fate = rng.random() if 0 < place < len(made) - 14 else 0.5
        if fate < GAP:
            pass
        elif fate < GAP + LATE:
            # So late that its place has been given up.
            day.arrivals.append(Arrival(due + 12 * STEP_MS, symbol, one))
        elif fate < GAP + LATE + SWAPPED:
            day.arrivals.append(Arrival(due + STEP_MS + 3_000, symbol, one))
            truth.append(one)
        else:
            day.arrivals.append(Arrival(due, symbol, one))
            truth.append(one)
            if fate > 1.0 - TWICE:
                day.arrivals.append(Arrival(due + rng.randint(0, 2 * STEP_MS), symbol, one))
        place += 1
    day.truth[symbol] = truth


def _plan(name: str, rng: random.Random) -> Plan:
    candle, symbol = rng.randrange(TRADED), rng.choice(SYMBOLS)
    long = rng.random() < 0.5
    entry, risk, reward = 100.0 + rng.choice((-1.0, 0.0, 1.0)), rng.choice((1.0, 2.0, 6.0)), rng.choice((1.0, 2.0))
    sign = 1.0 if long else -1.0
    payload = signal(
        name,
        candle,
        strong=rng.random() < 0.7,
        symbol=symbol,
        side="long" if long else "short",
        entry=entry,
        sl=entry - sign * risk,
        tp=entry + sign * risk * reward,
        **({"timeframe": "5m"} if rng.random() < 0.2 else {}),
    )
    sent = T0 + candle * STEP_MS + rng.randint(0, 4_000)
    if rng.random() < 0.06:
        sent += 130_000  # older than any signal may be
    reports: list[tuple[int, float]] = []
    if rng.random() < 0.7:
        at = sent + rng.randint(1, 14) * STEP_MS + rng.randint(0, STEP_MS)
        reports.append((at, entry + sign * rng.choice((reward * risk, -risk, 0.25))))
        if rng.random() < 0.3:
            reports.append((at + rng.randint(0, 30) * 60_000, entry + sign * 0.125))
    engines: tuple[str, ...] = ("e1", "e2") if rng.random() < 0.3 else ("e1",)
    if rng.random() < 0.2:
        engines = ()
    return Plan(payload, sent, engines, rng.random() < 0.5, tuple(reports))


def simulated(payload: dict[str, object], profile: Profile, candles: Sequence[Candle]) -> Closed | None:
    """How a position ends by the rule alone, over the candles in their order."""
    parsed = parse_signal(payload, {profile.name: profile})
    if isinstance(parsed, Refusal):
        raise TypeError(str(parsed))
    position = Position.open(terms_for(parsed, profile))
    for candle in candles:
        state = advance(position, candle)
        if isinstance(state, Closed):
            return state
        position = state
    return None


def close_report(plan: Plan, at_ms: int, price: float) -> dict[str, Any]:
    """A report as the engine sends it; said again, it is the same."""
    return {"signal_id": plan.id, "price": price, "ts": at_ms, "reason": "manual", "quantity": 1.0}
