"""Breakers of the store in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace

from persistence.breaker_store import Inputs
from persistence.breakers import (
    LATENCIES_KEPT,
    RESETTABLE,
    SECOND_MS,
    WATCHED,
    Asked,
    Panel,
    Standing,
    feed_field,
    generation,
    intact,
    whole_limits,
)
from persistence.keys import Keys
from persistence.state import State
from persistence.store import ClockKind, DecideCommand, micro
from signals.breaker import Thresholds
from signals.reasons import Reason
from signals.timeday import utc_day


class MemoryBreakers:
    """The part of ``MemoryStore`` that keeps what breakers read and records what they do."""

    keys: Keys
    state: State

    def __init__(self) -> None:
        self._latencies: deque[str] = deque(maxlen=LATENCIES_KEPT)
        self._seen: dict[str, str] = {}

    def clock_kind(self) -> ClockKind:
        raise NotImplementedError

    def _commit(self, kind: str, fact_id: str, at_ms: int, fields: Mapping[str, str], body: str = "{}") -> None:
        raise NotImplementedError

    def _breaker_entry(self) -> Mapping[str, str]:
        return self.state.hashes.get(self.keys.breakers(), {})

    def configure_breakers(self, thresholds: Thresholds, *, now_ms: int) -> bool:
        self.clock_kind()
        entry = self._breaker_entry()
        if not intact(entry):
            return False
        wanted = {f"limit_{name}": str(value) for name, value in whole_limits(thresholds).items()}
        if any(entry[name] != value for name, value in wanted.items()):
            gen = str(int(entry["gen"]) + 1)
            self._commit("thresholds", f"thresholds:{gen}", now_ms, wanted | {"gen": gen})
        return True

    def reset_breaker(self, name: str, *, actor: str, expected: int, now_ms: int) -> bool:
        self.clock_kind()
        entry = self._breaker_entry()
        if not intact(entry) or name not in RESETTABLE or generation(entry, name) != expected:
            return False
        value = {
            "drawdown_r": int(entry["high_r"]) - int(entry["equity_r"]),
            "drawdown_money": int(entry["high_money"]) - int(entry["equity_money"]),
            "losing_streak": int(entry["streak"]),
            "slippage": int(entry["slip_sum"]),
        }[name]
        self._turn(name, "reset", value, 0, actor, now_ms)
        return True

    def see_candle(self, symbol: str, step_ms: int, closes_ms: int, *, now_ms: int) -> None:
        self._seen[feed_field(symbol, step_ms)] = str(closes_ms)
        self._seen[WATCHED] = str(now_ms)

    def watch_breakers(self, *, now_ms: int) -> None:
        self.clock_kind()
        self._seen[WATCHED] = str(now_ms)
        panel = Panel(self.breaker_inputs(now_ms=now_ms))
        panel.watch(now_ms)
        self._record_turned(panel, now_ms)

    def breaker_inputs(self, *, now_ms: int) -> Inputs:
        claimed = self.state.zsets.get(self.keys.claimed(), {})
        return Inputs(
            entry=self._breaker_entry(),
            orders=sum(at > now_ms - SECOND_MS for at in claimed.values()),
            latencies=tuple(self._latencies),
            seen=self._seen,
            losses=self._losses(now_ms),
            history=self.state.lists.get(self.keys.breaker_history(), ()),
            data_clock=self.clock_kind() is ClockKind.DATA,
        )

    def _losses(self, now_ms: int) -> tuple[int, int]:
        """What was lost today, in millionths of R and of money."""
        day = self.state.hashes.get(self.keys.day(utc_day(now_ms)), {})
        return -int(day.get("r_micro", "0")), -int(day.get("money_micro", "0"))

    def _standing(self, command: DecideCommand) -> tuple[Panel, list[Standing], list[str]]:
        """What the breakers say: their panel, what stands against an order, and the day's losses."""
        newer = tuple(str(latency) for latency in command.latencies_us)
        panel = Panel(self._with_latencies(self.breaker_inputs(now_ms=command.now_ms), newer))
        asked = Asked(
            symbol=command.symbol,
            step_ms=command.step_ms,
            now_ms=command.now_ms,
            confidence=command.confidence_micro,
        )
        standing = panel.standing(asked)
        limits = micro(command.limits.daily_loss_r), micro(command.limits.daily_loss_money)
        return panel, standing, self._daily_losses(panel, command.strategy, limits)

    def _daily_losses(self, panel: Panel, strategy: str, limits: tuple[int, int]) -> list[str]:
        reached = panel.daily_loss(strategy, limits)
        reasons = (Reason.LIMIT_DAILY_LOSS_R, Reason.LIMIT_DAILY_LOSS_MONEY)
        return [reason.value for reason, tripped in zip(reasons, reached, strict=True) if tripped]

    def _claim_held(self, entry: Mapping[str, str], position: Mapping[str, str], now_ms: int) -> Reason | None:
        """What the breakers say against an order now; between the decision and its order they may have tripped."""
        panel = Panel(self.breaker_inputs(now_ms=now_ms))
        asked = Asked(symbol=position["symbol"], step_ms=int(position["step"]), now_ms=now_ms)
        standing = panel.standing(asked)
        limits = int(entry.get("limit_r", "0")), int(entry.get("limit_money", "0"))
        daily = self._daily_losses(panel, entry["strategy"], limits)
        self._record_turned(panel, now_ms)
        for one in standing:
            # A claim asked for again is no new order.
            counts = one.reason is not Reason.LIMIT_ORDER_RATE or "claimed_by" not in entry
            if counts and (one.blocks or entry["ensemble"] == "1"):
                return one.reason
        return Reason(daily[0]) if daily else None

    def _slip(self, slip_micro: int | None, expected_micro: int) -> dict[str, str]:
        """A slip as a fill's fact tells it: what is expected is at least the floor."""
        entry = self._breaker_entry()
        if slip_micro is None or not intact(entry):
            return {"slip": "", "expected": ""}
        return {"slip": str(slip_micro), "expected": str(max(expected_micro, int(entry["limit_slippage_floor"])))}

    def _own_turned(self, now_ms: int) -> None:
        """Record what a close or a fill has turned."""
        panel = Panel(Inputs(entry=self._breaker_entry()))
        panel.own()
        self._record_turned(panel, now_ms)

    def _record_turned(self, panel: Panel, now_ms: int) -> None:
        for reading in panel.turned:
            change = "tripped" if reading.tripped else "cleared"
            self._turn(reading.name, change, reading.value, reading.limit, "gate", now_ms)

    def _turn(self, name: str, change: str, value: int, limit: int, by: str, now_ms: int) -> None:
        gen = str(int(self._breaker_entry()["gen"]) + 1)
        fields = {"name": name, "change": change, "value": str(value), "limit": str(limit), "gen": gen, "by": by}
        self._commit("breaker", f"breaker:{gen}", now_ms, fields)

    def _with_latencies(self, inputs: Inputs, newer: tuple[str, ...]) -> Inputs:
        return replace(inputs, latencies=(*newer, *inputs.latencies)[:LATENCIES_KEPT])
