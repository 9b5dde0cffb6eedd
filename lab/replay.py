"""History through the live code: the same judge, the same follower, a store in memory and a clock of candles."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from decision.answer import Answer
from decision.decide import Action
from lab.attempts import History
from lab.endings import OpenPosition
from lab.recorded import shape_of
from lab.trade import Trade
from lab.verified import VectorCheck, Verified
from market.candles import Candles
from persistence.memory_store import MemoryStore
from persistence.store import ClockKind
from runtime.follow import Ended, Follower
from runtime.judge import Judge
from runtime.report import Reports
from runtime.shelf import Shelf
from runtime.trained import Trained
from scorer.schema import SCHEMAS
from signals.breaker import DEFAULT_THRESHOLDS, NO_BREAKERS, Thresholds
from signals.bucket import Bucket
from signals.candle import Candle
from signals.errors import Permanent
from signals.parse import canonical_json
from signals.profile import Kind, Limits, Profile
from signals.reasons import Reason
from signals.signal import Signal

UNLIMITED = Limits(
    open_positions=0,
    per_symbol=0,
    executes_per_minute=0,
    daily_loss_r=0.0,
    daily_loss_money=0.0,
    tracked_positions=1_000_000,
)
ENGINE = "replay"

REPLAY_KEY = b"replayed bundles never leave memory"
"""Signs what a replay trains: the same container, checked the same way, for nobody else."""


class Learner(Protocol):
    """What trains inside a replay: the live trainer, handed in so that a replay without it needs no scikit-learn."""

    def due(self) -> list[str]:
        """Strategies that are owed thresholds or an attempt."""
        ...

    def answer(self, strategy: str) -> Trained | None:
        """Give one what it is owed; none when that was no attempt."""
        ...


LearnerFor = Callable[[MemoryStore, Mapping[str, Profile], bytes], Learner]
Admit = Callable[[Signal], bool]
Progress = Callable[[int], None]
OnTrained = Callable[[str, Trained | None, MemoryStore], None]


@dataclass(frozen=True, slots=True)
class Replayed:
    """Everything a replay found. ``decisions_hash`` covers every answer in order.

    ``breakers`` counts turns, like ``drawdown_r tripped``, among the last hundred; ``paths`` are the recorded ones.
    ``vectors`` compares what every decision saw with what its record rebuilds to.
    """

    trades: tuple[Trade, ...]
    answers: int
    rejected: Mapping[str, int]
    still_open: int
    waiting: tuple[OpenPosition, ...]
    skipped: int
    candle_counts: Mapping[str, int]
    decisions_hash: str
    trained: tuple[Trained, ...] = ()
    history: History = field(default_factory=History)
    breakers: Mapping[str, int] = field(default_factory=dict)
    paths: tuple[str, ...] = ()
    vectors: Verified = field(default_factory=Verified)
    vectors_from_candles: Verified = field(default_factory=Verified)


class Replay:
    """One run over history.

    ``admit`` decides at a signal's own moment whether the strategy sends it at all (one open signal per symbol and
    side); ``limits`` applies limits and ``breakers`` as live would; ``on_end`` is told when a position ends;
    ``on_ended`` is told how; ``on_answer`` and ``on_trained`` let a caller watch. ``store`` is an empty one of the
    caller's: one that keeps its facts, or that answers for another policy.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        limits: bool = False,
        breakers: Thresholds = DEFAULT_THRESHOLDS,
        admit: Admit = lambda _signal: True,
        on_end: Callable[[str], None] = lambda _signal_id: None,
        on_answer: Callable[[Signal, Answer], None] = lambda _signal, _answer: None,
        on_ended: Callable[[Ended], None] = lambda _ended: None,
        volatility_timeframes: Sequence[str] = ("5m", "15m", "1h", "4h"),
        learner_for: LearnerFor | None = None,
        on_trained: OnTrained = lambda _strategy, _trained, _store: None,
        store: MemoryStore | None = None,
    ) -> None:
        self.profile = profile if limits else replace(profile, limits=UNLIMITED)
        self._admit, self._on_end, self._on_answer, self._on_trained = admit, on_end, on_answer, on_trained
        self._on_ended = on_ended
        profiles = {profile.name: self.profile}
        self.store = MemoryStore("replay", keep_facts=False) if store is None else store
        self.store.create(ClockKind.DATA, now_ms=0)
        self.store.configure_breakers(breakers if limits else NO_BREAKERS, now_ms=0)
        self.store.register(
            profile.name,
            "{}",
            f"{profile.static_threshold:g}",
            first_training=profile.first_training_at,
            now_ms=0,
        )
        # Models are judged as they stand at each signal: a bundle exists from the outcome that trained it on.
        shelf = None if learner_for is None else Shelf(self.store, REPLAY_KEY)
        self._learner = None if learner_for is None else learner_for(self.store, profiles, REPLAY_KEY)
        self._trained: list[Trained] = []
        self._judge = Judge(self.store, profiles, watch=lambda: 0.0, shelf=shelf)
        # History lies in order: nothing is waited for, or signals after a gap would see the candles before it only.
        self._follower = Follower(self.store, profiles, window=0, volatility_timeframes=volatility_timeframes)
        self._reports = Reports(self.store)
        self._hash = hashlib.sha256()
        self._vectors = VectorCheck(SCHEMAS[profile.features])
        self._trades: list[Trade] = []
        self._rejected: Counter[str] = Counter()
        self._answers = self._skipped = 0

    def run(
        self,
        tracking: Sequence[Candles],
        signals: Sequence[Signal],
        *,
        finer: Sequence[Candles] = (),
        progress: Progress = lambda _candles: None,
    ) -> Replayed:
        """Play candles and signals in the order of time; a signal sees every candle closed by its own moment."""
        self._check(tracking)
        waiting = sorted(signals, key=lambda signal: (signal.ts, signal.symbol, signal.id))
        place = 0
        for closes_ms, _, _, _, symbol, timeframe, candle in heapq.merge(
            *(_closings(rank, candles) for rank, candles in enumerate((*finer, *tracking)))
        ):
            while place < len(waiting) and waiting[place].ts < closes_ms:
                self._signal(waiting[place])
                place += 1
            for ended in self._follower.candle(symbol, timeframe, candle):
                self._ended(ended)
            self._learn()
            progress(1)
        for signal in waiting[place:]:
            self._signal(signal)
        for ended in self._follower.flush():
            self._ended(ended)
        return self._replayed()

    def _learn(self) -> None:
        if self._learner is None:
            return
        for strategy in self._learner.due():
            trained = self._learner.answer(strategy)
            if trained is not None:
                self._trained.append(trained)
            self._on_trained(strategy, trained, self.store)

    def _check(self, tracking: Sequence[Candles]) -> None:
        for candles in tracking:
            if candles.step_ms != self.profile.tracking_ms:
                raise Permanent(
                    f"{candles.symbol}: positions are tracked on {self.profile.tracking_timeframe} candles, "
                    f"these are {candles.timeframe}"
                )

    def _signal(self, signal: Signal) -> None:
        if not self._admit(signal):
            self._skipped += 1
            return
        # Live, a signal is judged at its own moment; it need not be one at which a candle closes.
        self.store.advance_clock(signal.ts)
        answer = self._judge.judge(payload_of(signal))
        self._answers += 1
        self._hash.update(canonical_json(_decision_line(answer)).encode())
        body = self.body(signal.id)
        if body is not None:
            self._vectors.decision(body)
        refused = answer.action is Action.REJECTED
        if refused or answer.position_id != signal.id:
            # Another signal's answer for the same bar opens nothing either.
            self._rejected[answer.reasons[0].value if refused else Reason.DUPLICATE_BAR.value] += 1
            self._on_end(signal.id)
        elif answer.executes:
            self.store.claim(signal.id, ENGINE, now_ms=self.store.now_ms())
        self._on_answer(signal, answer)

    def body(self, signal_id: str) -> dict[str, Any] | None:
        """What was recorded of a decision with a score; none of a refusal, or of another signal's answer."""
        decision = self.store.decision(signal_id)
        if decision is None or decision.signal_id != signal_id:
            return None
        body: dict[str, Any] = json.loads(decision.body)
        return body if "features" in body else None

    def _ended(self, ended: Ended) -> None:
        closed, stored = ended.closed, ended.position
        if ended.twin and closed.entered:
            # The replay is its own engine: what the simulation says happened is what it reports.
            self._reports.close(
                {
                    "signal_id": stored.signal_id,
                    "price": closed.exit_price,
                    "ts": closed.exit_ms,
                    "reason": closed.reason.value,
                    "venue_id": f"{ENGINE}-{stored.signal_id}"[:64],
                }
            )
        elif ended.twin:
            nothing = {"signal_id": stored.signal_id, "price": closed.exit_price, "ts": closed.exit_ms, "quantity": 0.0}
            self._reports.fill(nothing)
        self._trades.append(trade_of(ended))
        self._on_ended(ended)
        self._on_end(stored.signal_id)

    def _replayed(self) -> Replayed:
        open_now = sum(
            len(self.store.state.zsets.get(self.store.keys.follow(symbol), {})) for symbol in self._symbols()
        )
        turns = self.store.breaker_inputs(now_ms=self.store.now_ms()).history
        return Replayed(
            trades=tuple(self._trades),
            answers=self._answers,
            rejected=dict(self._rejected),
            still_open=open_now,
            waiting=self._waiting(),
            skipped=self._skipped,
            candle_counts=self.store.candle_counts(),
            decisions_hash=self._hash.hexdigest(),
            trained=tuple(self._trained),
            breakers=Counter(" ".join(line.split(" ")[1:3]) for line in turns),
            paths=tuple(self.store.paths(self.profile.name)),
            vectors=self._vectors.verified,
        )

    def _waiting(self) -> tuple[OpenPosition, ...]:
        """Positions in the market when the candles ended; one that enters with the next candle is not."""
        now_ms = self.store.now_ms()
        found = self.store.open_positions(self.profile.name)
        return tuple(
            OpenPosition(one.entry_ms, now_ms - one.entry_ms, one.kind is Kind.EXECUTED)
            for one in found
            if now_ms > one.entry_ms
        )

    def _symbols(self) -> Sequence[str]:
        return self.store.followed_symbols()


_Closing = tuple[int, int, int, int, str, str, Candle]


def _closings(rank: int, candles: Candles) -> Iterator[_Closing]:
    """Closing moments of a series; finer series come first so that they are at hand when a candle is ambiguous."""
    step_ms = candles.step_ms
    for index, candle in enumerate(candles):
        yield candle.ts + step_ms, step_ms, rank, index, candles.symbol, candles.timeframe, candle


def payload_of(signal: Signal) -> dict[str, object]:
    """A signal as an engine would put it on the queue."""
    payload: dict[str, object] = {
        "id": signal.id,
        "strategy": signal.strategy,
        "symbol": signal.symbol,
        "side": signal.side.word,
        "entry": signal.entry,
        "tp": signal.tp,
        "sl": signal.sl,
        "ts": signal.ts,
        "features": dict(signal.features),
    }
    optional: Mapping[str, object | None] = {
        "tp1": signal.tp1,
        "session": signal.session and signal.session.value,
        "volatility_regime": signal.volatility_regime and signal.volatility_regime.value,
        "regime_confidence": signal.regime_confidence,
        "timeframe": signal.timeframe,
        "tag": signal.tag,
    }
    return payload | {name: value for name, value in optional.items() if value is not None}


def _decision_line(answer: Answer) -> dict[str, object]:
    plain = answer.as_dict()
    plain.pop("latency_ms")
    if plain["propensity"] is None:
        # Where nothing could be explored the line stays what it was before anything could.
        del plain["explored"], plain["propensity"]
    # What is shown beside the score decides nothing, and only the reported run has it: the same decisions, one hash.
    return plain | {"expected_return_r": None, "p_stop": None}


def trade_of(ended: Ended) -> Trade:
    """The report's row of an ended position."""
    result, closed, terms = ended.result, ended.closed, ended.closed.terms
    stored = ended.position
    return Trade(
        signal_id=stored.signal_id,
        strategy=stored.strategy,
        symbol=stored.symbol,
        side=terms.side,
        kind=Kind.EXECUTED if ended.twin else stored.kind,
        ts=result["ts"],
        entry_ts=terms.entry_ms,
        exit_ts=max(closed.exit_ms, terms.entry_ms),
        outcome=closed.outcome.value,
        exit_reason=closed.reason.value,
        entry=terms.entry,
        risk=terms.risk,
        reward_to_risk=abs(terms.take_profit - terms.entry) / terms.risk,
        gross_r=closed.gross_r,
        bucket=Bucket.parse(result["bucket"]),
        score=result["score"],
        threshold=result["threshold"],
        entry_slip_r=closed.entry_slip_r,
        mfe_r=closed.mfe_r,
        mae_r=closed.mae_r,
        mark_r=closed.mark_r,
        ambiguous=closed.ambiguous,
        gap=closed.gap,
        late_mark=closed.late_mark,
        tp1_hit=closed.tp1_hit,
        tag=result.get("tag"),
        reasons=tuple(str(reason) for reason in ended.reasons),
        score_source=result["score_source"],
        bundle=result["bundle"],
        win_probability=result["win_probability"],
        model_score=result["model_score"],
        # Facts from before this was recorded say nothing of it.
        threshold_closed=result.get("threshold_closed") is True,
        **shape_of(result, ended.reasons),
    )
