"""A trading signal as an engine sends it, validated where it is built."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType

from signals.bucket import Session, VolatilityRegime
from signals.errors import Invalid
from signals.leak import STAMP_SUFFIX, late
from signals.reasons import Reason
from signals.timeframe import timeframe_ms

FeatureValue = float | str | None

ID_PATTERN = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
SYMBOL_PATTERN = re.compile(r"[A-Z0-9._:/-]{1,32}")
STRATEGY_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,31}")
TAG_PATTERN = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
FEATURE_NAME_PATTERN = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
MAX_FEATURES = 256
MAX_FEATURE_TEXT = 64
REWARD_RISK_RANGE = (0.1, 50.0)
EARLIEST_TS, LATEST_TS = 0, 253_402_300_799_999  # 1970 to the end of year 9999, where datetime ends
EARLIEST_STAMP = 100_000_000_000  # 1973 in milliseconds, and the year 5138 in seconds


class Side(IntEnum):
    """Direction of a trade as a sign, so that both directions share one code path."""

    LONG = 1
    SHORT = -1

    @property
    def word(self) -> str:
        """``long`` or ``short``."""
        return "long" if self is Side.LONG else "short"

    @classmethod
    def parse(cls, text: str) -> Side:
        """Read ``long`` or ``short``."""
        if text == "long":
            return cls.LONG
        if text == "short":
            return cls.SHORT
        raise Invalid(Reason.FIELD_FORMAT, "side", "expected long or short")


def require(condition: bool, reason: Reason, field_name: str, detail: str = "") -> None:  # noqa: FBT001
    """Raise ``Invalid`` unless the rule holds."""
    if not condition:
        raise Invalid(reason, field_name, detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """A proposed trade. Prices in quote currency, ``ts`` in UTC epoch milliseconds."""

    id: str
    strategy: str
    symbol: str
    side: Side
    entry: float
    tp: float
    sl: float
    ts: int
    tp1: float | None = None
    features: Mapping[str, FeatureValue] = field(default_factory=dict)
    session: Session | None = None
    volatility_regime: VolatilityRegime | None = None
    regime_confidence: float | None = None
    timeframe: str | None = None
    tag: str | None = None

    def __post_init__(self) -> None:
        require(ID_PATTERN.fullmatch(self.id) is not None, Reason.FIELD_FORMAT, "id", "1-64 of A-Z a-z 0-9 _ . : -")
        require(STRATEGY_PATTERN.fullmatch(self.strategy) is not None, Reason.STRATEGY_UNKNOWN, "strategy")
        require(SYMBOL_PATTERN.fullmatch(self.symbol) is not None, Reason.FIELD_FORMAT, "symbol")
        require(EARLIEST_TS < self.ts <= LATEST_TS, Reason.FIELD_RANGE, "ts", "epoch milliseconds")
        for name, price in (("entry", self.entry), ("tp", self.tp), ("sl", self.sl)):
            require(math.isfinite(price), Reason.FIELD_NOT_FINITE, name)
            require(price > 0.0, Reason.FIELD_RANGE, name, "must be above 0")
        sign = self.side.value
        require(sign * self.sl < sign * self.entry, Reason.GEOMETRY_STOP, "sl", "the stop lies on the wrong side")
        require(sign * self.tp > sign * self.entry, Reason.GEOMETRY_TARGET, "tp", "the target lies on the wrong side")
        low, high = REWARD_RISK_RANGE
        reward_risk = abs(self.tp - self.entry) / abs(self.entry - self.sl)
        require(low <= reward_risk <= high, Reason.GEOMETRY_REWARD_RISK, "tp", f"reward/risk {reward_risk:.4g}")
        if self.tp1 is not None:
            require(math.isfinite(self.tp1), Reason.FIELD_NOT_FINITE, "tp1")
            between = sign * self.entry < sign * self.tp1 < sign * self.tp
            require(between, Reason.GEOMETRY_TP1, "tp1", "strictly between entry and tp")
        if self.regime_confidence is not None:
            require(math.isfinite(self.regime_confidence), Reason.FIELD_NOT_FINITE, "regime_confidence")
            require(0.0 <= self.regime_confidence <= 1.0, Reason.FIELD_RANGE, "regime_confidence", "0 to 1")
        if self.timeframe is not None:
            timeframe_ms(self.timeframe)
        if self.tag is not None:
            require(TAG_PATTERN.fullmatch(self.tag) is not None, Reason.FIELD_FORMAT, "tag")
        self._check_features()
        object.__setattr__(self, "features", MappingProxyType(dict(self.features)))

    def _check_features(self) -> None:
        require(len(self.features) <= MAX_FEATURES, Reason.FEATURES_TOO_MANY, "features", f"{len(self.features)}")
        for name, value in self.features.items():
            where = f"features.{name[:MAX_FEATURE_TEXT]}"
            require(FEATURE_NAME_PATTERN.fullmatch(name) is not None, Reason.FIELD_FORMAT, where)
            if isinstance(value, str):
                fits = len(value) <= MAX_FEATURE_TEXT and value.isprintable()
                require(fits, Reason.FIELD_FORMAT, where, "at most 64 printable characters")
            elif value is not None:
                require(math.isfinite(value), Reason.FIELD_NOT_FINITE, where)
            if name.endswith(STAMP_SUFFIX):
                self._check_stamp(name, value)

    def _check_stamp(self, name: str, value: FeatureValue) -> None:
        """A value must have been known when the signal came, or its future would be taken for the past."""
        if value is None:
            return
        # Seconds instead of milliseconds would look like 1970, and a late value like an early one.
        stamped = isinstance(value, (int, float)) and EARLIEST_STAMP <= value <= LATEST_TS
        require(stamped, Reason.FIELD_RANGE, f"features.{name}", "epoch milliseconds")
        feature = name.removesuffix(STAMP_SUFFIX)
        leak = late(feature, float(value), self.ts)
        if leak is not None:
            raise Invalid(leak.reason, f"features.{feature}", leak.sentence)

    @property
    def risk(self) -> float:
        """One R: the distance from entry to the initial stop, in price."""
        return abs(self.entry - self.sl)

    @property
    def reward_to_risk(self) -> float:
        """The target's distance in R."""
        return abs(self.tp - self.entry) / self.risk

    def number(self, name: str) -> float:
        """A feature as a number; NaN when it was not sent, is empty, or is a word."""
        value = self.features.get(name)
        return float(value) if isinstance(value, (int, float)) else math.nan
