"""The rule of the breakers: what each one reads, when it trips, and what that means for an order.

``lua/breakers.lua`` is the same rule inside the scripts; the store battery compares both. Everything is whole numbers:
millionths of R, of money and of ratios, microseconds, milliseconds, counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from persistence.breaker_store import Inputs
from persistence.store import CLOCK_SKEW_MS, MICRO, micro
from signals.breaker import Thresholds
from signals.reasons import Reason

SECOND_MS = 1_000
SLIPS_KEPT = 20
LATENCIES_KEPT = 100
HISTORY_KEPT = 100
LARGEST_LATENCY_US = 10**15
LARGEST_SLIP_MICRO = 10**12
TRIP = "trip:"
WATCHED = "watched"
LIMITS = (
    "drawdown_r",
    "drawdown_share",
    "starting_equity",
    "losing_streak",
    "order_rate",
    "slippage",
    "slippage_floor",
    "confidence",
    "latency",
    "periods",
    "watch",
)
COUNTERS = ("gen", "equity_r", "high_r", "equity_money", "high_money", "streak", "slips", "slip_sum", "slip_expected")
FIELDS = (*COUNTERS, *(f"limit_{name}" for name in LIMITS))
"""Every field is there from the beginning: a hash that lacks one has been tampered with and blocks."""
RESETTABLE = ("drawdown_r", "drawdown_money", "losing_streak", "slippage")
_WHOLE = re.compile(r"-?\d{1,16}")


def whole_limits(thresholds: Thresholds) -> dict[str, int]:
    """Thresholds as the whole numbers scripts compare; none that is set rounds to 0, which would be off."""
    scaled = {
        "drawdown_r": thresholds.drawdown_r * MICRO,
        "drawdown_share": thresholds.drawdown_percent / 100.0 * MICRO,
        "starting_equity": thresholds.starting_equity * MICRO,
        "losing_streak": thresholds.losing_streak,
        "order_rate": thresholds.orders_per_second,
        "slippage": thresholds.slippage_ratio * MICRO,
        "slippage_floor": thresholds.slippage_floor_r * MICRO,
        "confidence": thresholds.regime_confidence * MICRO,
        "latency": thresholds.latency_ms * 1_000,
        "periods": thresholds.stale_periods,
        "watch": thresholds.watch_every_s * SECOND_MS,
    }
    return {name: max(1, round(value)) if value > 0 else 0 for name, value in scaled.items()}


def confidence_micro(confidence: float) -> int:
    """A confidence in whole millionths, never rounded up past what was sent."""
    rounded = round(confidence * MICRO)
    return rounded - 1 if rounded / MICRO > confidence else rounded


def latency_us(milliseconds: float) -> int:
    """A measured latency in microseconds; what is no duration counts as the longest."""
    if not 0.0 <= milliseconds <= LARGEST_LATENCY_US / 1_000:
        return LARGEST_LATENCY_US
    return round(milliseconds * 1_000)


def slip_micro(slip_r: float) -> int:
    """An adverse slip in whole millionths of R; what is no number counts as the worst."""
    if math.isnan(slip_r):
        return LARGEST_SLIP_MICRO
    return micro(max(-LARGEST_SLIP_MICRO / MICRO, min(LARGEST_SLIP_MICRO / MICRO, slip_r)))


def whole(text: str | None) -> bool:
    """Whether a stored word is a whole number."""
    return text is not None and _WHOLE.fullmatch(text) is not None


def share(amount: int, ratio_micro: int) -> int:
    """A fraction of a non-negative amount, rounded down."""
    return amount * ratio_micro // MICRO


def p99(latencies: Sequence[str]) -> int | None:
    """The 99th of a hundred latencies by size; none before there are a hundred."""
    if len(latencies) < LATENCIES_KEPT:
        return None
    known = sorted(max(0, int(text)) if whole(text) else LARGEST_LATENCY_US for text in latencies[:LATENCIES_KEPT])
    return known[LATENCIES_KEPT - 2]


def feed_field(symbol: str, step_ms: int) -> str:
    """Under which name the last candle of a tracking series is remembered."""
    return f"{symbol}|{step_ms}"


@dataclass(frozen=True, slots=True)
class Reading:
    """One breaker as it stands. ``unarmed`` says why it cannot trip; ``value`` and ``limit`` are whole numbers."""

    name: str
    tripped: bool
    value: int
    limit: int
    unarmed: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """A reason against an order: it blocks, or it takes the model's word away."""

    reason: Reason
    blocks: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """For whom the breakers are asked: the symbol, its candles' length, now, and the signal's own confidence."""

    symbol: str
    step_ms: int
    now_ms: int
    confidence: int | None = None


class Panel:
    """One look at the breakers. ``turned`` are the readings that differ from what is recorded."""

    def __init__(self, inputs: Inputs) -> None:
        self._in = inputs
        self.entry = inputs.entry
        self.intact = intact(inputs.entry)
        self.readings: list[Reading] = []

    @property
    def turned(self) -> list[Reading]:
        """Breakers whose state is not the recorded one; without an intact record nothing can be said."""
        recorded = self.entry if self.intact else None
        if recorded is None:
            return []
        return [reading for reading in self.readings if reading.tripped != (TRIP + reading.name in recorded)]

    def _limit(self, name: str) -> int:
        return int(self.entry[f"limit_{name}"])

    def _number(self, name: str) -> int:
        return int(self.entry[name])

    def read(self, name: str, value: int, limit: int, tripped: bool, unarmed: str = "") -> bool:  # noqa: FBT001
        """Note a reading."""
        self.readings.append(Reading(name, tripped, value, limit, unarmed))
        return tripped

    def _latched(self, name: str, value: int, limit: int, unarmed: str = "") -> bool:
        tripped = limit > 0 and (TRIP + name in self.entry or value >= limit)
        return self.read(name, value, limit, tripped, unarmed)

    def drawdown_r(self) -> bool:
        """Loss from the high water of executed equity, in R; stays tripped until it is reset."""
        value, limit = self._number("high_r") - self._number("equity_r"), self._limit("drawdown_r")
        return self._latched("drawdown_r", value, limit, "" if limit > 0 else "off")

    def drawdown_money(self) -> bool:
        """The same as a share of the money there was at the high water."""
        start, high = self._limit("starting_equity"), self._number("high_money")
        limit = share(start + high, self._limit("drawdown_share")) if start > 0 else 0
        unarmed = "" if limit > 0 else "off" if start > 0 else "no starting_equity is set"
        return self._latched("drawdown_money", high - self._number("equity_money"), limit, unarmed)

    def losing_streak(self) -> bool:
        """Executed losses since the last win."""
        value, limit = self._number("streak"), self._limit("losing_streak")
        return self.read("losing_streak", value, limit, 0 < limit <= value, "" if limit > 0 else "off")

    def slippage(self) -> bool:
        """Adverse slip of the last twenty fills against what their costs allow."""
        ratio, expected, slips = self._limit("slippage"), self._number("slip_expected"), self._number("slips")
        unarmed = ""
        if ratio == 0:
            unarmed = "off"
        elif slips < SLIPS_KEPT:
            unarmed = f"{slips} of {SLIPS_KEPT} fills"
        elif expected <= 0:
            unarmed = "nothing is expected: costs_bps and slippage_floor_r are 0"
        value, limit = self._number("slip_sum"), share(max(0, expected), ratio)
        return self.read("slippage", value, limit, not unarmed and value >= limit, unarmed)

    def order_rate(self) -> bool:
        """Claims of the last second."""
        value, limit = self._in.orders, self._limit("order_rate")
        return self.read("order_rate", value, limit, 0 < limit <= value, "" if limit > 0 else "off")

    def latency(self) -> bool:
        """The slowest but one of the last hundred decisions."""
        limit = self._limit("latency")
        value = p99(self._in.latencies) if limit > 0 else None
        if value is None:
            known = f"{len(self._in.latencies)} of {LATENCIES_KEPT} decisions"
            return self.read("latency", 0, limit, tripped=False, unarmed=known if limit > 0 else "off")
        return self.read("latency", value, limit, value > limit)

    def _stale(self, stamp: str | None, allowed_ms: int, now_ms: int) -> tuple[bool, int]:
        if stamp is None or not whole(stamp):
            return True, 0
        age = now_ms - int(stamp)
        # A moment that has not come yet says nothing about what is known now.
        return age > allowed_ms or age < -CLOCK_SKEW_MS, age

    def feed(self, symbol: str, step_ms: int, now_ms: int) -> bool:
        """Whether the symbol's last tracking candle is too old to trade on."""
        periods, name = self._limit("periods"), feed_field(symbol, step_ms)
        stamp = self._in.seen.get(name)
        stale, age = self._stale(stamp, periods * step_ms, now_ms)
        stale = stale and periods > 0
        # Symbols nobody ever fed are refused but not listed: anybody can make up names.
        if stamp is not None:
            self.read(f"stale_feed:{name}", age, periods * step_ms, stale, "" if periods > 0 else "off")
        return stale

    def inputs_stale(self, step_ms: int, now_ms: int) -> bool:
        """Whether the follower, which keeps what breakers read up to date, has been silent for too long."""
        periods, interval = self._limit("periods"), self._limit("watch")
        # On a data clock time comes in candles.
        interval = max(interval, step_ms) if self._in.data_clock else interval
        stale, age = self._stale(self._in.seen.get(WATCHED), periods * interval, now_ms)
        stale = stale and periods > 0
        return self.read("stale_breakers", age, periods * interval, stale, "" if periods > 0 else "off")

    def own(self) -> None:
        """Read what closes and fills move."""
        if self.intact:
            for reading in (self.drawdown_r, self.drawdown_money, self.losing_streak, self.slippage):
                reading()

    def standing(self, asked: Asked) -> list[Standing]:
        """All reasons against an order, in the order of the control table."""
        if not self.intact:
            return [Standing(Reason.BREAKER_MISSING, blocks=True)]
        confidence = asked.confidence
        found = (
            (self.drawdown_r(), Reason.BREAKER_DRAWDOWN_R, True),
            (self.drawdown_money(), Reason.BREAKER_DRAWDOWN_MONEY, True),
            (self.losing_streak(), Reason.BREAKER_LOSING_STREAK, False),
            (self.order_rate(), Reason.LIMIT_ORDER_RATE, True),
            (self.slippage(), Reason.BREAKER_SLIPPAGE, False),
            (
                confidence is not None and confidence < self._limit("confidence"),
                Reason.BREAKER_REGIME_CONFIDENCE,
                False,
            ),
            (self.latency(), Reason.BREAKER_LATENCY, False),
            (self.feed(asked.symbol, asked.step_ms, asked.now_ms), Reason.DATA_STALE_FEED, True),
            (self.inputs_stale(asked.step_ms, asked.now_ms), Reason.DATA_STALE_BREAKERS, True),
        )
        return [Standing(reason, blocks) for tripped, reason, blocks in found if tripped]

    def daily_loss(self, strategy: str, limits: tuple[int, int]) -> tuple[bool, bool]:
        """Whether a strategy's limits in R and in money are reached by the day's losses."""
        names = (f"daily_loss_r:{strategy}", f"daily_loss_money:{strategy}")
        r, money = (
            self.read(name, loss, limit, 0 < limit <= loss, "" if limit > 0 else "off")
            for name, limit, loss in zip(names, limits, self._in.losses, strict=True)
        )
        return r, money

    def watch(self, now_ms: int) -> None:
        """Read everything that time alone can turn, and every series that was ever fed."""
        if not self.intact:
            return
        self.own()
        self.order_rate()
        self.latency()
        for name in sorted(self._in.seen):
            symbol, mark, step = name.rpartition("|")
            if mark and whole(step):
                self.feed(symbol, int(step), now_ms)
        self._read_days()
        self.inputs_stale(0, now_ms)

    def _read_days(self) -> None:
        """A strategy's daily loss clears when the day does."""
        for field_name in sorted(self.entry):
            name = field_name.removeprefix(TRIP)
            head = name.partition(":")[0]
            if field_name.startswith(TRIP) and head in ("daily_loss_r", "daily_loss_money"):
                limit, loss = int(self.entry[field_name].split(":")[1]), self._in.losses[head == "daily_loss_money"]
                self.read(name, loss, limit, loss >= limit)


def generation(entry: Mapping[str, str], name: str) -> int:
    """What a person who looked at a breaker confirms: the generation of its trip, else of all breakers."""
    return int(entry.get(TRIP + name, entry["gen"]).rpartition(":")[2])


def intact(entry: Mapping[str, str] | None) -> bool:
    """Whether the breakers' hash holds all it must."""
    return entry is not None and all(whole(entry.get(name)) for name in FIELDS)
