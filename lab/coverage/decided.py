"""Decisions as live makes them, candle by candle, and their vectors as the whole history gives them later."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from lab.replay import UNLIMITED, payload_of
from lab.verified import VectorCheck
from market.features import FeatureTable, directional, features
from market.generated import generate
from market.setup import Setup
from persistence.memory_store import MemoryStore
from persistence.store import ClockKind
from runtime.judge import Judge
from scorer.schema import SCHEMAS
from signals.breaker import NO_BREAKERS
from signals.profile import DEFAULT_PROFILES
from signals.signal import FeatureValue, Side, Signal

BASE_CANDLES: Mapping[str, tuple[str, int]] = MappingProxyType(
    {"trend": ("1h", 12), "range": ("15m", 3), "scalp": ("5m", 1)}
)
"""Timeframe of each strategy's signals, and how many five-minute candles one of them has."""
WARM: Mapping[str, int] = MappingProxyType({"trend": 560, "range": 2_200, "scalp": 1_660})
"""Signal candles until every feature of a strategy is warm, with some to spare."""
SPARE = 1.2
"""A market with gaps has fewer candles than it is given time for."""
SIDES = (Side.LONG, Side.SHORT)


def rebuilt_decisions(seed: int, count: int) -> tuple[int, int]:
    """How many of at least so many decisions have, by hash, the vector that the whole history gives; and how many were.

    Live sees the candles that are closed at its moment and no others, computes its features from them, and sends
    them through the judge; what is compared is what the judge recorded.
    """
    equal = checked = 0
    each = math.ceil(count / (len(BASE_CANDLES) * len(SIDES)))
    for strategy, (timeframe, parts) in BASE_CANDLES.items():
        candles = math.ceil(SPARE * parts * (WARM[strategy] + each))
        base = generate(seed, symbol="GENUSDT", candles=candles, gaps=True)
        check = VectorCheck(SCHEMAS[strategy])
        judge, store = _judge(strategy)
        whole = features(base.resample(timeframe), profile=strategy, base=base)
        for index in _places(whole, each):
            close_ms = int(whole.candles.close_ts[index])
            known = base.closed_by(close_ms)
            live = features(whole.candles.slice(0, index + 1), profile=strategy, base=known)
            store.advance_clock(close_ms)
            for side in SIDES:
                signal = _signal(strategy, live, len(live) - 1, side)
                judge.judge(payload_of(signal))
                decision = store.decision(signal.id)
                later = _signal(strategy, whole, index, side)
                check.against(_body(decision.body if decision else "{}"), later.features)
        equal, checked = equal + check.equal, checked + check.checked
    return equal, checked


def _judge(strategy: str) -> tuple[Judge, MemoryStore]:
    profile = replace(DEFAULT_PROFILES[strategy], limits=UNLIMITED)
    store = MemoryStore("decided", keep_facts=False)
    store.create(ClockKind.DATA, now_ms=0)
    store.configure_breakers(NO_BREAKERS, now_ms=0)
    store.register(strategy, "{}", "70", first_training=profile.first_training_at, now_ms=0)
    return Judge(store, {strategy: profile}, watch=lambda: 0.0), store


def _places(table: FeatureTable, count: int) -> list[int]:
    """So many different candles from the first warm one on, evenly spread."""
    places = np.unique(np.linspace(table.ready, len(table) - 1, count).astype(np.int64))
    if table.ready >= len(table) or len(places) < count:
        raise ValueError(f"{len(table)} candles, warm from {table.ready}, are too few for {count} decisions")
    found: list[int] = places.tolist()
    return found


def _signal(
    strategy: str,
    table: FeatureTable,
    index: int,
    side: Side,
) -> Signal:
    """A signal on any candle: entry at its close, two ATR to the stop and three to the target."""
    close, risk = float(table.candles.close[index]), 2.0 * float(table.columns["atr"][index])
    ts = int(table.candles.close_ts[index])
    setup = Setup(
        entry=close,
        stop=close - side.value * risk,
        target=close + side.value * 1.5 * risk,
        level=close - side.value * 0.1 * risk,
        extreme=close + side.value * 0.2 * risk,
        retrace=close - side.value * 0.4 * risk,
        confirm_candles=index % 8,
    )
    found: dict[str, FeatureValue] = dict(directional(table.row(index), side, setup))
    return Signal(
        id=f"{strategy}-{ts}-{side.word}",
        strategy=strategy,
        symbol=table.candles.symbol,
        side=side,
        entry=setup.entry,
        tp=setup.target,
        sl=setup.stop,
        ts=ts,
        features=found,
    )


def _body(text: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(text)
    return body
