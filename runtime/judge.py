"""The use case behind every signal: gather, decide, commit, answer."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from decision.answer import Answer
from decision.decide import Action, ScoreSource, Scoring, Verdict, decide, score_without_model
from decision.shape import could_be_explored, shape, size_in_force, was_explored
from persistence.breakers import LATENCIES_KEPT, confidence_micro, latency_us
from persistence.store import (
    ClockKind,
    DecideCommand,
    DecideReply,
    DecideStatus,
    Decision,
    StateMissing,
    Store,
)
from phantom.position import Position, terms_for
from phantom.record import terms_record, track_record
from qscore.threshold import SEED, Threshold, static_threshold
from runtime.chance import draw_for
from runtime.clock import Stopwatch, stopwatch
from runtime.score import by_model
from runtime.shelf import Shelf
from runtime.tables import untold
from scorer.encoding import model_features
from scorer.heuristic import heuristic_score
from scorer.schema import SCHEMAS, Vector
from signals.bucket import Bucket
from signals.context import DEFAULT_SESSIONS, Context, SessionWindow, regime_by_rank, session_at
from signals.errors import Refusal
from signals.parse import canonical_json, identify, parse_signal, printable, sha256_hex
from signals.profile import Clamping, Profile
from signals.reasons import Reason
from signals.signal import LATEST_TS, Signal
from signals.timeframe import floor_ts, timeframe_ms

DAY_MS = 86_400_000
KEPT_OF_REFUSED = 4_096
"""How much of a refused payload is kept for audit, as escaped text."""


class Judge:
    """Answers signals of one namespace."""

    def __init__(
        self,
        store: Store,
        profiles: Mapping[str, Profile],
        *,
        sessions: Sequence[SessionWindow] = DEFAULT_SESSIONS,
        watch: Stopwatch = stopwatch,
        shelf: Shelf | None = None,
    ) -> None:
        self.store = store
        self.profiles = dict(profiles)
        self.sessions = tuple(sessions)
        self._watch = watch
        self._shelf = shelf
        # A commit cannot time itself: each one carries what the decisions before it took, newest first.
        self._untold: deque[int] = deque(maxlen=LATENCIES_KEPT)

    def judge(self, payload: object) -> Answer:
        """Answer a payload: the first answer for its id, for ever."""
        return self._judged(payload, None)

    def give_up(self, payload: object, reason: Reason) -> Answer:
        """Answer a payload whose score never came: by the heuristic for the record, and a phantom."""
        return self._judged(payload, reason)

    def _judged(self, payload: object, unscored: Reason | None) -> Answer:
        started = self._watch()
        signal_id, fingerprint = identify(payload)
        try:
            parsed = parse_signal(payload, self.profiles)
            if isinstance(parsed, Refusal):
                reply = self.store.decide(self._refused(signal_id, fingerprint, parsed, payload))
            else:
                reply = self._decided(self._command(parsed, fingerprint, unscored))
        except StateMissing as missing:
            return self._without_state(signal_id, started, missing)
        answer = self._answer(signal_id, reply, started)
        if reply.status is DecideStatus.DONE and self.store.clock_kind() is ClockKind.LIVE:
            self._untold.appendleft(latency_us(math.nan if answer.latency_ms is None else answer.latency_ms))
        return answer

    def _decided(self, command: DecideCommand) -> DecideReply:
        reply = self.store.decide(command)
        if reply.status is DecideStatus.DONE:
            self._untold.clear()
        return reply

    def refuse(self, raw: bytes, refusal: Refusal) -> Answer:
        """Record and answer bytes that never became a payload; the same bytes get the same answer."""
        started = self._watch()
        fingerprint = sha256_hex(raw)
        shown = raw[:KEPT_OF_REFUSED].decode("utf-8", "backslashreplace")
        try:
            reply = self.store.decide(self._refused(fingerprint, fingerprint, refusal, shown))
        except StateMissing as missing:
            return self._without_state(fingerprint, started, missing)
        return self._answer(fingerprint, reply, started)

    def _without_state(self, signal_id: str, started: float, missing: StateMissing) -> Answer:
        # Nothing to record into: say no, and let the engine resend once the namespace is rebuilt.
        return Answer(
            signal_id=signal_id,
            action=Action.REJECTED,
            reasons=(Reason.MODE_MISSING,),
            decided_at=0,
            detail=str(missing),
            latency_ms=self._elapsed_ms(started),
        )

    def _refused(self, signal_id: str, fingerprint: str, refusal: Refusal, payload: object) -> DecideCommand:
        shown = payload if isinstance(payload, str) else _shown(payload)
        strategy = payload.get("strategy") if isinstance(payload, Mapping) else None
        profile = self.profiles.get(strategy) if isinstance(strategy, str) else None
        body = {
            "id": signal_id,
            "field": printable(refusal.field, 128),
            "detail": printable(refusal.detail, 256),
            "payload": printable(shown, KEPT_OF_REFUSED),
        }
        return DecideCommand(
            now_ms=self.store.now_ms(),
            signal_id=signal_id,
            fingerprint=fingerprint,
            want=Action.REJECTED,
            reasons=(refusal.reason,),
            body=canonical_json(body),
            strategy=profile.name if profile else "",
            prefix=profile.state_prefix if profile else "phantom",
        )

    def context(self, signal: Signal) -> Context:
        """The bucket a signal falls into."""
        # On the last day of the calendar a clock east of Greenwich has no date; such a signal is refused for its age.
        session = signal.session or session_at(min(signal.ts, LATEST_TS - DAY_MS), self.sessions)
        if signal.volatility_regime is not None:
            return Context(Bucket(session, signal.volatility_regime), volatility_known=True)
        history = self.store.volatility(signal.symbol, signal.timeframe) if signal.timeframe else ()
        sent = signal.number("atr_pct")
        current = sent if math.isfinite(sent) or not history else history[-1]
        regime, known = regime_by_rank(current, history)
        return Context(Bucket(session, regime), volatility_known=known)

    def _command(self, signal: Signal, fingerprint: str, unscored: Reason | None) -> DecideCommand:
        profile = self.profiles[signal.strategy]
        context = self.context(signal)
        schema = SCHEMAS[profile.features]
        # Read once: what the model is asked about is what the hash is of.
        vector = schema.vector(model_features(signal.features, bucket=str(context.bucket), symbol=signal.symbol))
        if unscored is None:
            scoring, threshold, without_model = self._scored(signal, profile, context, vector)
        else:
            # Nor may ML_OFF let it execute: late truth is worse than none.
            plain = score_without_model(heuristic_score(signal, profile.heuristic))
            scoring, without_model = replace(plain, fault=unscored.value), None
            threshold = static_threshold(profile.static_threshold)
        verdict = decide(scoring, threshold, context, profile, without_model=without_model)
        if unscored is not None:
            reasons = (unscored, *verdict.reasons)
            verdict = replace(verdict, reasons=reasons, alternative_reasons=reasons)
        verdict = shape(verdict, profile, draw=draw_for(signal.id, "explore"))
        terms = terms_for(signal, profile)
        return DecideCommand(
            now_ms=self.store.now_ms(),
            signal_id=signal.id,
            fingerprint=fingerprint,
            strategy=signal.strategy,
            symbol=signal.symbol,
            prefix=profile.state_prefix,
            want=verdict.want,
            reasons=verdict.reasons,
            alternative=verdict.alternative,
            alternative_reasons=verdict.alternative_reasons,
            # What was drawn against its score is claimed under the stricter rules, whoever gave the score.
            ensemble=scoring.source is not ScoreSource.HEURISTIC or verdict.explored,
            explored=verdict.explored,
            bar=_bar(signal),
            signal_ms=signal.ts,
            max_age_ms=profile.max_signal_age_ms(signal.timeframe),
            ttl_ms=profile.decision_ttl_ms,
            body=canonical_json(_body(signal, verdict, profile.costs_bps, schema.vector_hash(vector))),
            terms=canonical_json(terms_record(terms)),
            track=canonical_json(track_record(Position.open(terms).track)),
            entry_ms=terms.entry_ms,
            deadline_ms=terms.deadline_ms,
            step_ms=terms.step_ms,
            limits=profile.limits,
            confidence_micro=None if signal.regime_confidence is None else confidence_micro(signal.regime_confidence),
            latencies_us=tuple(self._untold),
        )

    def _scored(
        self, signal: Signal, profile: Profile, context: Context, vector: Vector
    ) -> tuple[Scoring, Threshold, tuple[Scoring, Threshold] | None]:
        """The score with the threshold it meets, and what the heuristic alone would be compared with."""
        plain = score_without_model(heuristic_score(signal, profile.heuristic))
        if self._shelf is None:
            rules = untold(profile.threshold_policy)
            return plain, rules.lookup(context.bucket, SEED, profile.static_threshold), None
        served = self._shelf.serve(profile, self.store.training(profile.name))
        bucket, own = context.bucket, profile.static_threshold
        alone = served.rules.lookup(bucket, SEED, own)
        if served.rules_fault is not None:
            # Thresholds were learned and cannot be read: a lower one standing in for them could let a signal through.
            plain = replace(plain, fault=served.rules_fault)
        if not served.has_model:
            return plain, alone, None
        scoring, table = by_model(signal, vector, profile, served, plain, self._watch)
        if table is None:
            return scoring, alone, (plain, alone)
        clamp = SEED if profile.clamp is Clamping.SEED else table.key.default_clamp
        scoring = replace(scoring, break_even=table.break_even(bucket))
        return scoring, table.lookup(bucket, clamp, own), (plain, alone)

    def _answer(self, asked: str, reply: DecideReply, started: float) -> Answer:
        return answer_from(reply.decision, asked=asked, status=reply.status, latency_ms=self._elapsed_ms(started))

    def _elapsed_ms(self, started: float) -> float:
        return round((self._watch() - started) * 1000.0, 3)


def _shown(payload: object) -> str:
    try:
        return json.dumps(payload, default=repr, sort_keys=True)
    except (ValueError, TypeError, RecursionError):
        # Only a caller inside the process can hand over mixed keys or a circle.
        return repr(payload)


def _bar(signal: Signal) -> str | None:
    """What makes two signals the same bet on the same candle, whatever their ids."""
    if signal.timeframe is None:
        return None
    candle = floor_ts(signal.ts, timeframe_ms(signal.timeframe))
    # By its length: 60m and 1h are one candle.
    length = str(timeframe_ms(signal.timeframe))
    parts = (signal.strategy, signal.symbol, signal.side.word, length, str(candle), signal.tag or "")
    return "|".join(parts)


def _body(signal: Signal, verdict: Verdict, costs_bps: float, vector_hash: str) -> dict[str, object]:
    """What is recorded of a decision besides what the commit itself decides."""
    scoring, context = verdict.scoring, verdict.context
    return {
        "id": signal.id,
        "strategy": signal.strategy,
        "symbol": signal.symbol,
        "side": signal.side.word,
        "entry": signal.entry,
        "tp": signal.tp,
        "sl": signal.sl,
        "tp1": signal.tp1,
        "ts": signal.ts,
        "timeframe": signal.timeframe,
        "tag": signal.tag,
        "features": dict(signal.features),
        "vector_hash": vector_hash,
        "regime_confidence": signal.regime_confidence,
        "score": scoring.score,
        "heuristic_score": scoring.heuristic_score,
        "score_source": scoring.source.value,
        "win_probability": scoring.win_probability,
        "win_bounds": None if scoring.win_bounds is None else list(scoring.win_bounds),
        "threshold": verdict.threshold.value,
        "threshold_source": verdict.threshold.source.value,
        "threshold_closed": verdict.threshold.closed,
        "bucket": str(context.bucket),
        "volatility_known": context.volatility_known,
        "missing": list(scoring.missing),
        "break_even": scoring.break_even,
        "size_multiplier": verdict.size_multiplier,
        "explored": verdict.explored,
        "propensity": verdict.propensity,
        "costs_bps": costs_bps,
        "expected_return_r": None if scoring.told is None else scoring.told.expected_return_r,
        "p_stop": None if scoring.told is None else scoring.told.p_stop,
        "heads": None if scoring.told is None else scoring.told.record,
        "bundle": scoring.bundle,
        "model_score": scoring.model_score,
        "model_fault": scoring.fault,
        "neighbours": None if scoring.neighbours is None else scoring.neighbours.record(),
        "enforced": verdict.enforced.value,
    }


def answer_from(
    decision: Decision, *, asked: str, status: DecideStatus = DecideStatus.REPLAY, latency_ms: float | None = None
) -> Answer:
    """The answer a recorded decision gives to whoever asks for it."""
    body: dict[str, Any] = json.loads(decision.body)
    action, reasons, field, expires = decision.action, decision.reasons, body.get("field"), decision.expires_at
    if status is DecideStatus.CONFLICT:
        # The first answer stands for the first content; acting on it with another content would be a different trade.
        action, reasons, field, expires = Action.REJECTED, (Reason.SIGNAL_CONFLICT, *reasons), "id", None
    elif status is DecideStatus.DUPLICATE_BAR or asked != decision.signal_id:
        reasons = (*reasons, Reason.DUPLICATE_BAR)
    elif Reason.SIGNAL_EXPIRED in reasons or Reason.SIGNAL_CLOCK in reasons:
        field = "ts"
    drawn = could_be_explored(body, decision.reasons)
    return Answer(
        signal_id=asked,
        action=action,
        reasons=reasons,
        decided_at=decision.decided_at,
        score=body.get("score"),
        win_probability=body.get("win_probability"),
        threshold=body.get("threshold"),
        threshold_source=body.get("threshold_source"),
        score_source=body.get("score_source"),
        bucket=body.get("bucket"),
        size_multiplier=size_in_force(body, decision.reasons),
        explored=was_explored(body, decision.reasons),
        propensity=body["propensity"] if drawn else None,
        expected_return_r=body.get("expected_return_r"),
        p_stop=body.get("p_stop"),
        bundle=body.get("bundle"),
        position_id=decision.signal_id if decision.has_position else None,
        expires_at=expires,
        latency_ms=latency_ms,
        field=field,
        detail=body.get("detail"),
    )
