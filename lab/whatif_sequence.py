"""The record played again through the live commits: the ledger to the last digit, or another policy under limits.

What the outside world did (fills, reports, candles, the operator, the clock) comes from the facts; what the gate did
(score, comparison, checks, results, breakers, equity) is done again by the code that did it live.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import StrEnum
from typing import Any, TypeVar

from decision.decide import Action, ScoreSource, Scoring, Verdict, decide, score_without_model
from decision.shape import shape
from lab.whatif_case import signal_of
from lab.whatif_wish import RULES_ALONE, Limited, Wishes, wishing
from persistence.breakers import Panel, Standing, confidence_micro
from persistence.memory_store import MemoryStore
from persistence.store import (
    MICRO,
    ClockKind,
    CloseCommand,
    CloseHow,
    DecideCommand,
    Fact,
    StoredPosition,
    micro,
)
from phantom.position import Closed, Outcome
from phantom.record import closed_from, closed_record, terms_from
from qscore.threshold import SEED, Threshold, ThresholdSource
from runtime.chance import draw_for
from runtime.report import Reports
from runtime.tables import read_table, untold
from scorer.blend import blend
from scorer.heuristic import heuristic_score
from signals.bucket import Bucket
from signals.context import Context
from signals.errors import Permanent
from signals.profile import Kind, Profile
from signals.reasons import Reason
from signals.signal import Signal

_Settings = TypeVar("_Settings", bound=Any)
ENGINE = "what-if"
NEVER_OLD_MS = 1 << 60
OUTSIDE = (
    (Reason.DATA_STALE_FEED, True),
    (Reason.DATA_STALE_BREAKERS, True),
    (Reason.BREAKER_MISSING, True),
    (Reason.RECORD_BEHIND, True),
    (Reason.BREAKER_LATENCY, False),
)
"""Reasons no policy can change, and whether they block: how fast the machine was and what reached it."""
MADE_HERE = frozenset({"decision", "opened", "claimed", "unclaimed", "touched", "fill", "closed", "corrected"})
_UNSCORED = frozenset(Reason)
"""A fault that is a reason code is a job that was given up; a model's own faults are words."""
RESULT_FIELDS = (
    "outcome", "exit_reason", "exit_price", "exit_ms", "fill_price", "gross_r", "net_r", "gross_pnl_percent",
    "pnl_percent", "money", "entry_slip_r", "mfe_r", "mae_r", "kind", "unclaimed", "how",
)  # fmt: skip
"""What must come out again, to the last digit."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that did not come out as it is recorded."""

    signal_id: str
    what: str
    recorded: str
    replayed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """A record played again: how many of its signals came out the same in every decision and result.

    ``equity_r`` is the sum of executed results as the breakers count it, in whole millionths of R, replayed.
    """

    signals: int
    endings: int
    differences: tuple[Difference, ...]
    equity_r: float

    @property
    def reproduced(self) -> int:
        """Signals without any difference."""
        return self.signals - len({item.signal_id for item in self.differences if item.signal_id})

    @property
    def exact(self) -> bool:
        """Whether nothing differs."""
        return not self.differences


def replay_ledger(facts: Sequence[Fact], profiles: Mapping[str, Profile]) -> Ledger:
    """Play the record again under the policy that wrote it and compare everything that is money."""
    return _Sequence(profiles, None).run(facts).ledger()


def under_limits(facts: Sequence[Fact], profiles: Mapping[str, Profile], wishes: Wishes) -> Limited:
    """Play the record again with another policy's wishes under the limits and breakers that were in force.

    Signals without a wish (of another strategy, or not ended yet) are answered as the gate itself wanted. A signal the
    record refused is taken to be claimed at once and filled at its entry; one that an engine had and did not claim
    stays unclaimed.
    """
    return _Sequence(profiles, wishes).run(facts).limited()


class _RecordStore(MemoryStore):
    """The store in memory on the record's own clock; what only the outside knew is told to it."""

    def __init__(self) -> None:
        super().__init__(keep_facts=False)
        self.moment = 0
        self.outside: tuple[Standing, ...] = ()

    def now_ms(self) -> int:
        return self.moment

    def take(self, fact: Fact) -> None:
        """Let a recorded fact take effect as it stands."""
        self.state.apply(fact)

    def set_thresholds(self, fact: Fact) -> None:
        """Put recorded thresholds in force, without those that watch clocks and feeds: the record knows their word."""
        self.take(replace(fact, fields={**fact.fields, "limit_latency": "0", "limit_periods": "0"}))

    def equity_micro(self) -> int:
        """Executed results so far, as the breakers count them."""
        return int(self._breaker_entry().get("equity_r", "0"))

    def _standing(self, command: DecideCommand) -> tuple[Panel, list[Standing], list[str]]:
        panel, standing, daily = super()._standing(command)
        return panel, [*standing, *self.outside], daily


@dataclass(slots=True)
class _Sequence:
    profiles: Mapping[str, Profile]
    wishes: Wishes | None

    def run(self, facts: Sequence[Fact]) -> _Run:
        if not facts or facts[0].kind != "created":
            raise Permanent("the record does not begin with its namespace: it cannot be played again")
        run = _Run(self.profiles, self.wishes, {fact.fields["sid"]: fact for fact in facts if fact.kind == "opened"})
        for fact in facts:
            run.play(fact)
        return run


class _Run:
    """One pass over the record."""

    def __init__(self, profiles: Mapping[str, Profile], wishes: Wishes | None, opened: Mapping[str, Fact]) -> None:
        self.store = _RecordStore()
        self.reports = Reports(self.store)
        self.profiles = dict(profiles)
        self._wishes, self._opened = wishes, opened
        self._executed: set[str] = set()
        self._recorded: set[str] = set()
        self._unheard: set[str] = set()
        self._refused: Counter[str] = Counter()
        self._differences: list[Difference] = []
        self._signals = self._endings = self._equity = 0
        self._result: dict[str, Any] = {}

    def ledger(self) -> Ledger:
        """What came out of the policy that wrote the record."""
        return Ledger(
            signals=self._signals,
            endings=self._endings,
            differences=tuple(self._differences),
            equity_r=self.store.equity_micro() / MICRO,
        )

    def limited(self) -> Limited:
        """What limits let through."""
        return Limited(accepted=frozenset(self._executed - self._unheard), refused=dict(self._refused))

    def play(self, fact: Fact) -> None:
        """One fact in its turn."""
        self.store.moment = fact.at_ms
        if fact.kind not in MADE_HERE:
            self._outside(fact)
            return
        if fact.kind != "opened":
            getattr(self, f"_{fact.kind}")(fact, fact.fields["sid"])

    def _outside(self, fact: Fact) -> None:
        if fact.kind == "created":
            self.store.create(ClockKind(fact.fields["clock"]), now_ms=fact.at_ms)
        elif fact.kind == "thresholds":
            self.store.set_thresholds(fact)
        elif fact.kind != "breaker" or fact.fields["change"] == "reset":
            # Trips and clearings follow from what is played; a reset was somebody's hand.
            self.store.take(fact)
        if fact.kind == "profile":
            name = fact.fields["strategy"]
            self.profiles[name] = _profile(name, json.loads(fact.body), self.profiles.get(name))

    def _compare(self, signal_id: str, what: str, recorded: object, replayed: object) -> None:
        if recorded != replayed:
            self._differences.append(Difference(signal_id, what, repr(recorded), repr(replayed)))

    # --- the decision

    def _decision(self, fact: Fact, signal_id: str) -> None:
        self._signals += 1
        recorded = frozenset(filter(None, fact.fields["reasons"].split(",")))
        if fact.fields["action"] == Action.REJECTED:
            # What could not be judged, or came too late, no policy can answer.
            self.store.take(fact)
            return
        for overdue in self.store.overdue_claims(fact.at_ms):
            if overdue in self._unheard:
                self.store.lapse(overdue, now_ms=fact.at_ms)
        body: dict[str, Any] = json.loads(fact.body)
        profile = self._profile_of(body["strategy"])
        verdict = self._verdict(signal_of(body), body, profile)
        command = self._command(fact, body, profile, verdict)
        if self._wishes is not None:
            command = wishing(command, self._wishes.get(signal_id))
        self.store.outside = tuple(Standing(reason, blocks) for reason, blocks in OUTSIDE if reason in recorded)
        reply = self.store.decide(command).decision
        if fact.fields["action"] == Action.EXECUTE:
            self._recorded.add(signal_id)
        if reply.action is Action.EXECUTE:
            self._executed.add(signal_id)
            if signal_id not in self._recorded:
                self._claim(signal_id)
        elif command.want is Action.EXECUTE:
            barred = [reason.value for reason in reply.reasons if reason not in verdict.reasons]
            self._refused[barred[0] if barred else RULES_ALONE] += 1
        if self._wishes is None:
            self._compare(signal_id, "action", fact.fields["action"], reply.action.value)
            self._compare(signal_id, "reasons", sorted(recorded), sorted(reason.value for reason in reply.reasons))
            self._compare(signal_id, "expires", int(fact.fields["expires"]), reply.expires_at or 0)

    def _profile_of(self, strategy: str) -> Profile:
        if strategy not in self.profiles:
            raise Permanent(f"no profile {strategy!r} is configured or recorded")
        return self.profiles[strategy]

    def _verdict(self, signal: Signal, body: Mapping[str, Any], profile: Profile) -> Verdict:
        """Score and compare again what was recorded, and say where that gives something else."""
        rules = heuristic_score(signal, profile.heuristic)
        source, bucket = ScoreSource(body["score_source"]), Bucket.parse(body["bucket"])
        training = self.store.training(profile.name)
        alone = self._rules_threshold(profile, training.table, bucket)
        scoring = Scoring(
            score=body["score"],
            source=source,
            heuristic_score=body["heuristic_score"],
            win_probability=body["win_probability"],
            bundle=body["bundle"],
            missing=tuple(body["missing"]),
            model_score=body["model_score"],
            fault=body["model_fault"],
            break_even=body.get("break_even"),
        )
        plain = score_without_model(rules)
        threshold = Threshold(
            body["threshold"], ThresholdSource(body["threshold_source"]), closed=body["threshold_closed"]
        )
        if self._wishes is None:
            self._compare(signal.id, "heuristic score", body["heuristic_score"], rules.score)
            if source is ScoreSource.HEURISTIC:
                self._compare(signal.id, "score", body["score"], plain.score)
                if body["model_fault"] is None:
                    self._compare(signal.id, "threshold", threshold.value, alone.value)
            else:
                again = blend(rules.score, body["model_score"], profile.blend)
                self._compare(signal.id, "score", body["score"], again)
        context = Context(bucket, volatility_known=body["volatility_known"])
        if scoring.fault in _UNSCORED:
            # Its score never came: the reason stands first, and ML_OFF would not have helped.
            verdict = decide(scoring, threshold, context, profile)
            reasons = (Reason(scoring.fault), *verdict.reasons)
            verdict = replace(verdict, reasons=reasons, alternative_reasons=reasons)
        else:
            without = None if training.bundle is None else (plain, alone)
            verdict = decide(scoring, threshold, context, profile, without_model=without)
        return shape(verdict, profile, draw=draw_for(signal.id, "explore"))

    def _rules_threshold(self, profile: Profile, address: str | None, bucket: Bucket) -> Threshold:
        text = None if address is None else self.store.table(profile.name, address)
        if address is None or text is None:
            return untold(profile.threshold_policy).lookup(bucket, SEED, profile.static_threshold)
        return read_table(address, text).lookup(bucket, SEED, profile.static_threshold)

    def _command(self, fact: Fact, body: Mapping[str, Any], profile: Profile, verdict: Verdict) -> DecideCommand:
        it, opened = fact.fields, self._opened[fact.fields["sid"]]
        confidence = body["regime_confidence"]
        return DecideCommand(
            now_ms=fact.at_ms,
            signal_id=it["sid"],
            fingerprint=it["fp"],
            strategy=it["strategy"],
            symbol=it["symbol"],
            prefix=it["prefix"],
            want=verdict.want,
            reasons=verdict.reasons,
            alternative=verdict.alternative,
            alternative_reasons=verdict.alternative_reasons,
            ensemble=verdict.scoring.source is not ScoreSource.HEURISTIC or verdict.explored,
            explored=verdict.explored,
            bar=it["bar"] or None,
            signal_ms=min(body["ts"], fact.at_ms),
            max_age_ms=NEVER_OLD_MS,
            ttl_ms=int(it["expires"]) - fact.at_ms if it["expires"] != "0" else profile.decision_ttl_ms,
            body=fact.body,
            terms=opened.body,
            track=opened.fields["track"],
            entry_ms=int(opened.fields["entry_ms"]),
            deadline_ms=int(opened.fields["deadline"]),
            step_ms=int(opened.fields["step"]),
            limits=replace(
                profile.limits,
                daily_loss_r=int(it["limit_r"]) / MICRO,
                daily_loss_money=int(it["limit_money"]) / MICRO,
                # It was tracked, so there was room.
                tracked_positions=1_000_000,
            ),
            confidence_micro=None if confidence is None else confidence_micro(confidence),
        )

    # --- what followed

    def _claim(self, signal_id: str, engine: str = ENGINE) -> None:
        said = self.store.claim(signal_id, engine, now_ms=self.store.moment)
        if said is not Reason.CLAIM_GO:
            self._unheard.add(signal_id)
            self._refused[said.value] += 1
        if self._wishes is None:
            self._compare(signal_id, "claim", Reason.CLAIM_GO.value, said.value)

    def _claimed(self, fact: Fact, signal_id: str) -> None:
        if signal_id in self._executed:
            self._claim(signal_id, fact.fields["engine"])

    def _unclaimed(self, fact: Fact, signal_id: str) -> None:
        if signal_id in self._executed:
            self.store.lapse(signal_id, now_ms=fact.at_ms)

    def _held(self, signal_id: str) -> StoredPosition:
        found = self.store.position(signal_id)
        if found is None:
            raise Permanent(f"the record tells of a position {signal_id} that was never opened")
        return found

    def _as_recorded(self, signal_id: str) -> bool:
        """Whether an engine holds it here as one did in the record."""
        return signal_id in self._executed and signal_id in self._recorded and signal_id not in self._unheard

    def _touched(self, fact: Fact, signal_id: str) -> None:
        position, done = self._held(signal_id), fact.fields["done"] == "1"
        if not position.following:
            return
        if done and position.kind is Kind.PHANTOM:
            # Live, the end of a phantom's simulation is its end.
            self._close(position, json.loads(fact.body), CloseHow.SIMULATION)
            return
        result = fact.body if done else None
        self.store.touch(position, fact.fields["track"], int(fact.fields["last_ts"]), now_ms=fact.at_ms, result=result)

    def _fill(self, fact: Fact, signal_id: str) -> None:
        if self._as_recorded(signal_id):
            self._reported(json.loads(fact.body) | {"reason": None})

    def _reported(self, report: Mapping[str, Any]) -> None:
        said = {name: value for name, value in report.items() if value is not None}
        (self.reports.close if "reason" in said else self.reports.fill)(said)

    def _closed(self, fact: Fact, signal_id: str) -> None:
        position, body = self._held(signal_id), json.loads(fact.body)
        how = CloseHow(fact.fields["how"])
        if not position.open:
            return
        if position.kind is Kind.PHANTOM:
            if how is CloseHow.SIMULATION:
                self._close(position, body, how)
        elif self._as_recorded(signal_id):
            if how is CloseHow.REPORT:
                self._reported(body["report"])
            else:
                self._close(position, body, how)
        else:
            self._fill_at_entry(position, body)
        self._endings += 1
        if self._wishes is None:
            self._check_ending(fact, signal_id, body)

    def _check_ending(self, fact: Fact, signal_id: str, body: Mapping[str, Any]) -> None:
        position = self._held(signal_id)
        found: dict[str, Any] = json.loads(position.result or "{}")
        for name in RESULT_FIELDS:
            self._compare(signal_id, name, body.get(name), found.get(name))
        if fact.fields["position_kind"] == Kind.EXECUTED:
            self._equity += int(fact.fields["r_micro"])
            self._compare(signal_id, "equity", self._equity, self.store.equity_micro())

    def _corrected(self, fact: Fact, signal_id: str) -> None:
        if not self._as_recorded(signal_id):
            return
        body = json.loads(fact.body)
        self._reported(body["report"])
        if self._wishes is None:
            found = json.loads(self._held(signal_id).correction or "{}")
            for name in RESULT_FIELDS:
                self._compare(signal_id, f"corrected {name}", body.get(name), found.get(name))

    def _again(self, position: StoredPosition, body: Mapping[str, Any], how: CloseHow) -> tuple[Closed, dict[str, Any]]:
        """The ending of a simulation computed anew from where it stopped."""
        closed = closed_from(terms_from(json.loads(position.terms)), body)
        costs = body.get("costs_bps")
        story = {
            **body,
            **closed_record(closed, self._profile_of(position.strategy).costs_bps if costs is None else float(costs)),
            "kind": position.kind.value,
            "unclaimed": position.unclaimed,
            "how": how.value,
        }
        return closed, story

    def _close(self, position: StoredPosition, body: Mapping[str, Any], how: CloseHow) -> None:
        closed, story = self._again(position, body, how)
        self.store.close(
            CloseCommand(
                now_ms=self.store.moment,
                signal_id=position.signal_id,
                prefix=position.prefix,
                strategy=position.strategy,
                symbol=position.symbol,
                version=position.version,
                how=how,
                outcome=closed.outcome.value,
                result=json.dumps(story),
                track=position.track,
                learned=closed.outcome.decisive,
                win=closed.outcome is Outcome.WIN,
                r_micro=micro(float(story["net_r"])),
            )
        )

    def _fill_at_entry(self, position: StoredPosition, body: Mapping[str, Any]) -> None:
        """What the record only watched had been in the market: it ends as its simulation did, reported at once."""
        closed, story = self._again(position, body, CloseHow.UNREPORTED)
        track = json.dumps(body["track"])
        self.store.touch(position, track, closed.track.last_ts, now_ms=self.store.moment, result=json.dumps(story))
        if closed.outcome is Outcome.NO_DATA:
            self._close(self._held(position.signal_id), body, CloseHow.UNREPORTED)
            return
        report = {"signal_id": position.signal_id, "price": closed.exit_price, "ts": closed.exit_ms}
        self._reported(report | ({"reason": closed.reason.value} if closed.entered else {"quantity": 0.0}))


def _profile(name: str, said: Mapping[str, Any], known: Profile | None) -> Profile:
    """A profile as it was registered, as far as decisions and results depend on it."""
    if not said:
        # A replay registers its strategy without settings: it has them in hand.
        if known is None:
            raise Permanent(f"the record of {name!r} does not say its settings")
        return known
    base = known or Profile(name=name, timeout_ms=said["timeout_ms"], tp1_r=said["tp1_r"])
    return _told(base, said)


def _told(base: _Settings, said: Mapping[str, Any]) -> _Settings:
    """Settings as their record spells them; what it does not know yet stays as it is configured."""
    found: dict[str, Any] = {}
    for item in fields(base):
        if item.name in said:
            known, value = getattr(base, item.name), said[item.name]
            if isinstance(known, StrEnum):
                value = type(known)(value)
            elif is_dataclass(known) and not isinstance(known, type):
                value = _told(known, value)
            found[item.name] = value
    return replace(base, **found)
