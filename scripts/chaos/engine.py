"""The strategy engine and the feed of a chaos run: they send, ask again, claim twice and report until it is taken."""

from __future__ import annotations

import threading
from collections import Counter, deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from phantom.advance import advance
from phantom.position import Closed, Position, Terms, terms_for
from runtime.clock import pause, stopwatch, wall_ms
from scripts.chaos.market import STEP_MS, Market
from signals.candle import Candle
from signals.errors import Permanent, Transient
from signals.parse import parse_signal
from signals.profile import Profile
from signals.reasons import Reason
from signals.signal import Signal
from worker.client import Client

RESEND_S, RESTING_RESEND_S = 5.0, 60.0
TURN_S = 0.01
CLAIMERS = 16
CLAIM_AGAIN_S = 0.25
STOP_SHARE, TARGET_SHARE = 0.005, 0.01
WIDE_SHARE = 0.5
"""Levels of a resting position: it is there to be carried, not to end."""
RACE_SHARE = 3
"""Every so many executes two engines claim at once."""
DUPLICATE_SHARE, SWAP_SHARE = 0.05, 0.01
SCORED = ("trend_slope_pct", "ema_stack_score", "break_dist_atr", "range_expansion", "atr_pct")


class Stage(StrEnum):
    """How far a signal has come for its engine."""

    SENT = "sent"
    ANSWERED = "answered"
    CLAIMED = "claimed"
    GIVEN_UP = "given_up"
    DONE = "done"


@dataclass(slots=True)
class Flight:
    """One signal on its way. ``closed`` is its broker's ending; ``in_doubt``: a claim may stand."""

    id: str
    payload: dict[str, object]
    symbol: str
    sent_ms: int
    resting: bool
    terms: Terms
    stage: Stage = Stage.SENT
    asked_s: float = 0.0
    answer: dict[str, Any] | None = None
    go: set[str] = field(default_factory=set)
    filled: bool = False
    closed: Closed | None = None
    reported: bool = False
    in_doubt: bool = False
    patience_s: float = RESEND_S
    answer_ms: int | None = None
    claim_ms: float | None = None
    claiming: Future[list[tuple[str, Reason]]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is sent: signals a second, a burst at intervals, resting positions first; symbols traded and fed."""

    signals_per_s: float
    burst: int
    burst_every_s: int
    resting: int
    traded: int
    fed: int


class Engine(threading.Thread):
    """Sends signals and sees each of them through; whatever does not answer is asked again."""

    def __init__(
        self, market: Market, load: Load, clients: list[Client], profiles: dict[str, Profile], seed: int
    ) -> None:
        super().__init__(name="engine", daemon=True)
        self.market, self.load, self.clients, self.profiles = market, load, clients, profiles
        self.flights: dict[str, Flight] = {}
        self.failures: Counter[str] = Counter()
        self.refused_reports: Counter[str] = Counter()
        self.claims: Counter[str] = Counter()
        self.duplicates_sent = 0
        self.sending = True
        self.error: BaseException | None = None
        self._ended = threading.Event()
        self._active: dict[str, Flight] = {}
        self._pool = ThreadPoolExecutor(CLAIMERS, thread_name_prefix="claim")
        self._chance = np.random.default_rng([seed, 77])
        self._number = 0
        self._began_s = 0.0
        self._sent_by_rate = 0
        self._bursts = 0

    # --- what others look at

    def unanswered(self) -> frozenset[str]:
        """Ids that wait for their answer now."""
        return frozenset(flight.id for flight in list(self._active.values()) if flight.stage is Stage.SENT)

    def unfinished(self) -> list[Flight]:
        """Flights whose engine still has something to do."""
        return list(self._active.values())

    def end(self) -> None:
        """Stop the thread."""
        self._ended.set()
        self.join()
        self._pool.shutdown()

    # --- the loop

    def run(self) -> None:
        """Send and see through until told to end."""
        try:
            while not self._ended.is_set():
                if self.sending:
                    self._send_due()
                for flight in list(self._active.values()):
                    self._carry_on(flight)
                pause(TURN_S)
        except BaseException as error:
            self.error = error
            raise

    def rest(self) -> None:
        """Send the resting positions; before the clock of the run begins."""
        for _ in range(self.load.resting):
            self._send("range", resting=True)

    def begin(self) -> None:
        """From now on signals are due."""
        self._began_s = stopwatch()
        self._sent_by_rate = self._bursts = 0

    def _send_due(self) -> None:
        if self._began_s == 0.0:
            return
        elapsed = stopwatch() - self._began_s
        due = int(elapsed * self.load.signals_per_s) - self._sent_by_rate
        # An engine that was held up does not catch up with history: the bets of then are not those of now.
        for _ in range(min(due, 50)):
            self._send("trend", resting=False)
        self._sent_by_rate += due
        if self.load.burst and elapsed >= (self._bursts + 0.5) * self.load.burst_every_s:
            self._bursts += 1
            for _ in range(self.load.burst):
                self._send("trend", resting=False)

    def _send(self, strategy: str, *, resting: bool) -> None:
        self._number += 1
        now_ms = wall_ms()
        symbol = self.market.symbols[int(self._chance.integers(self.load.traded))]
        last = self.market.candle(symbol, max(0, self.market.second_of(now_ms) - 1))
        payload = self._payload(strategy, symbol, last, now_ms, resting=resting)
        parsed = parse_signal(payload, self.profiles)
        if not isinstance(parsed, Signal):
            raise Permanent(f"the load made a signal nobody may send: {parsed}")
        flight = Flight(
            str(payload["id"]), payload, symbol, now_ms, resting, terms_for(parsed, self.profiles[strategy])
        )
        if resting:
            flight.patience_s = RESTING_RESEND_S
        self.flights[flight.id] = self._active[flight.id] = flight
        self._submit(flight)
        if self._chance.random() < DUPLICATE_SHARE:
            for _ in range(2):
                self.duplicates_sent += 1
                self._submit(flight)

    def _payload(self, strategy: str, symbol: str, last: Candle, now_ms: int, *, resting: bool) -> dict[str, object]:
        sign = 1 if self._chance.random() < 0.5 else -1
        stop, target = (WIDE_SHARE, WIDE_SHARE) if resting else (STOP_SHARE, TARGET_SHARE)
        features: dict[str, object] = {
            name: round(float(value), 4)
            for name, value in zip(
                SCORED, self._chance.uniform((0, 20, 0, 0.8, 0.1), (10, 90, 0.5, 1.8, 0.8)), strict=True
            )
        }
        return {
            "id": f"{strategy}-{self._number}",
            "strategy": strategy,
            "symbol": symbol,
            "side": "long" if sign > 0 else "short",
            "entry": last.close,
            "sl": round(last.close * (1 - sign * stop), 6),
            "tp": round(last.close * (1 + sign * target), 6),
            "ts": now_ms,
            "features": features,
        }

    def _submit(self, flight: Flight) -> None:
        flight.asked_s = stopwatch()
        try:
            self.clients[0].submit(flight.payload)
        except Transient:
            self.failures["submit"] += 1

    def _carry_on(self, flight: Flight) -> None:
        step = {
            Stage.SENT: self._await_answer,
            Stage.ANSWERED: self._claim,
            Stage.CLAIMED: self._trade,
            Stage.GIVEN_UP: self._not_traded,
        }[flight.stage]
        try:
            step(flight)
        except Transient:
            self.failures[flight.stage.value] += 1
        except Permanent as error:
            # A wiped server: to the engine it is one more reason to ask again.
            self.failures[f"{flight.stage.value}: {type(error).__name__}"] += 1
            pause(TURN_S)
        if flight.stage is Stage.DONE:
            self._active.pop(flight.id, None)

    def _await_answer(self, flight: Flight) -> None:
        flight.answer = self.clients[0].answer(flight.id)
        if flight.answer is None:
            if stopwatch() - flight.asked_s > flight.patience_s:
                # Ever more slowly: asking a busy gate again and again is how an engine keeps it busy.
                flight.patience_s *= 2.0
                self._submit(flight)
            return
        flight.answer_ms = int(str(flight.answer["decided_at"])) - flight.sent_ms
        flight.asked_s = 0.0
        flight.stage = Stage.ANSWERED if flight.answer["action"] == "execute" else Stage.DONE

    def _claim(self, flight: Flight) -> None:
        """Ask for the go. It waits for a disk: in a thread of its own, or everything else would wait with it."""
        if flight.claiming is None:
            if stopwatch() < flight.asked_s:
                return
            flight.asked_s = stopwatch() + CLAIM_AGAIN_S
            flight.claiming = self._pool.submit(self._ask_for_go, flight)
        if not flight.claiming.done():
            return
        asked, flight.claiming = flight.claiming, None
        try:
            replies = asked.result()
        except Transient:
            flight.in_doubt = True
            raise
        for engine, reason in replies:
            self.claims[reason.value] += 1
            flight.in_doubt = flight.in_doubt or reason is Reason.CLAIM_UNSAFE
            if reason is Reason.CLAIM_GO:
                flight.go.add(engine)
        if flight.go:
            flight.stage = Stage.CLAIMED
        elif all(reason in FINAL for _, reason in replies):
            flight.stage = Stage.GIVEN_UP if flight.in_doubt else Stage.DONE

    def _ask_for_go(self, flight: Flight) -> list[tuple[str, Reason]]:
        racing = int(flight.id.rsplit("-", 1)[1]) % RACE_SHARE == 0
        replies = []
        for client in self.clients if racing else self.clients[:1]:
            began = stopwatch()
            reason = client.claim(flight.id)
            if reason is Reason.CLAIM_GO:
                flight.claim_ms = (stopwatch() - began) * 1000.0
            replies.append((client.engine, reason))
        return replies

    def _trade(self, flight: Flight) -> None:
        """A paper broker: filled at entry, closed where the market of this run closes it."""
        if not flight.filled:
            self._report_fill(flight)
            return
        if flight.resting:
            flight.stage = Stage.DONE
            return
        if flight.closed is None:
            flight.closed = self._broker(flight)
            if flight.closed is None:
                return
        closed = flight.closed
        reply = self.clients[0].report_close(
            flight.id, price=closed.exit_price, ts=closed.exit_ms, quantity=1.0, reason=_word(closed),
            venue_id=f"c-{flight.id}",
        )  # fmt: skip
        if reply.accepted:
            flight.reported, flight.stage = True, Stage.DONE
        else:
            self.refused_reports[reply.reason.value] += 1

    def _not_traded(self, flight: Flight) -> None:
        """A claim may stand though no go was heard: say that nothing was bought, or it is waited for in vain."""
        reply = self.clients[0].report_fill(flight.id, price=flight.terms.entry, ts=flight.sent_ms, quantity=0.0)
        if not reply.accepted:
            self.refused_reports[reply.reason.value] += 1
        flight.stage = Stage.DONE

    def _report_fill(self, flight: Flight) -> None:
        reply = self.clients[0].report_fill(
            flight.id, price=flight.terms.entry, ts=flight.sent_ms, quantity=1.0, venue_id=f"f-{flight.id}"
        )
        if not reply.accepted:
            self.refused_reports[reply.reason.value] += 1
        flight.filled = True

    def _broker(self, flight: Flight) -> Closed | None:
        position = Position.open(flight.terms)
        first = self.market.second_of(flight.terms.entry_ms)
        for second in range(first, min(self.market.second_of(wall_ms()), self.market.seconds)):
            after = advance(position, self.market.candle(flight.symbol, second))
            if isinstance(after, Closed):
                return after
            position = after
        return None


FINAL = frozenset(
    {Reason.CLAIM_EXPIRED, Reason.CLAIM_REVOKED, Reason.CLAIM_NOT_EXECUTE, Reason.CLAIM_UNKNOWN, Reason.CLAIM_TAKEN}
)
"""Answers to a claim after which there is nothing to ask for."""


def _word(closed: Closed) -> str:
    """What a broker calls it; a fill beyond the levels was stopped out or taken at once."""
    return closed.reason.value if closed.entered else "manual"


class Feed(threading.Thread):
    """Delivers every second's candles, some twice, some in the wrong order, and never those in a gap."""

    def __init__(self, market: Market, fed: int, client: Client, seed: int) -> None:
        super().__init__(name="feed", daemon=True)
        self.market, self.client = market, client
        self.symbols = market.symbols[:fed]
        self.second = 0
        self.sent = self.duplicates = self.swaps = self.retries = 0
        self.place = "0-0"
        self.places: deque[tuple[float, str]] = deque(maxlen=10_000)
        self.error: BaseException | None = None
        self._chance = np.random.default_rng([seed, 78])
        self._ended = threading.Event()
        self._gaps = {symbol: market.gaps(symbol) for symbol in self.symbols}
        self._held: dict[str, Candle] = {}

    def end(self) -> None:
        """Stop the thread."""
        self._ended.set()
        self.join()

    def run(self) -> None:
        """Feed each second when it is over, until told to end."""
        try:
            while not self._ended.is_set():
                if self.second >= min(self.market.second_of(wall_ms()), self.market.seconds):
                    pause(TURN_S)
                    continue
                for symbol in self.symbols:
                    self._deliver(symbol, self.second)
                self.second += 1
                self.places.append((stopwatch(), self.place))
        except BaseException as error:
            self.error = error
            raise

    def _deliver(self, symbol: str, second: int) -> None:
        held = self._held.pop(symbol, None)
        candle = self.market.candle(symbol, second)
        if second not in self._gaps[symbol]:
            if held is None and self._chance.random() < SWAP_SHARE:
                # Its successor will overtake it.
                self._held[symbol] = candle
                self.swaps += 1
            else:
                self._push(symbol, candle)
                if self._chance.random() < SWAP_SHARE:
                    self.duplicates += 1
                    self._push(symbol, candle)
        if held is not None:
            self._push(symbol, held)

    def _push(self, symbol: str, candle: Candle) -> None:
        while not self._ended.is_set():
            try:
                self.place = self.client.candle(symbol, f"{STEP_MS // 1000}s", candle)
            except (Transient, Permanent):
                # Whether it arrived is not known; delivered twice it does no harm.
                self.retries += 1
                pause(0.05)
            else:
                self.sent += 1
                return
