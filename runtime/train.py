"""The use case behind every boundary: read the outcomes, fit, learn the thresholds, sign, publish; or say why not.

Imported by the training process and by replays only: it brings scikit-learn, which a serving process never loads.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Protocol

from learning.example import Example, examples
from learning.fit import Candidate, FitSettings, fit_candidate
from learning.incumbent import live_skill
from learning.patterns import brief_patterns
from learning.promote import Declined
from persistence.store import PublishCommand, PublishStatus, Store, TableCommand, Training
from qscore.table import ScoredRecord, ThresholdBook, ThresholdTable
from qscore.threshold import TABLE_RECORDS
from runtime.beside import heads_of
from runtime.outcomes import covered_by_both, learned_from, weighting_of, weights_of
from runtime.tables import INTERVALS, book_for, heuristic_table, read_table, spelled
from runtime.trained import Trained
from scorer.bundle import address, pack, unpack
from scorer.schema import SCHEMAS, Schema
from signals.errors import Invalid, Transient
from signals.labelling import Maturity
from signals.method import Method
from signals.parse import canonical_json, printable
from signals.profile import Profile, ThresholdPolicy

FAILED = "LEARN_FAILED"
NO_SCHEMA = "LEARN_NO_SCHEMA"
SEED = 20_240_101
"""Of every fit: chance in training is a setting, not an event."""
DETAIL_LENGTH = 256
log = logging.getLogger(__name__)

KeepBundle = Callable[[str, bytes], None]


class Fit(Protocol):
    """What makes a candidate of examples: ``learning.fit.fit_candidate``, or one that shares its results."""

    def __call__(
        self, examples: Sequence[Example], schema: Schema, *, seed: int, settings: FitSettings
    ) -> Candidate | Declined:
        """Fit one candidate."""
        ...


class Trainer:
    """Trains the strategies of one namespace, one attempt at a time.

    ``keep`` stores a bundle's bytes where they outlive Redis, before any pointer names them. ``beside``: whether what
    is forecast beside the win is learned too; it decides nothing.
    """

    def __init__(
        self,
        store: Store,
        profiles: Mapping[str, Profile],
        key: bytes,
        *,
        keep: KeepBundle = lambda _address, _data: None,
        seed: int = SEED,
        settings: FitSettings | None = None,
        fit: Fit | None = None,
        beside: bool = True,
    ) -> None:
        self.store = store
        self.profiles = dict(profiles)
        self._key = key
        self._keep = keep
        self._seed = seed
        self._settings = settings or FitSettings()
        self._shared_fit = fit
        self._beside = beside
        self._seen: dict[str, tuple[str, ThresholdPolicy]] = {}

    def due(self) -> list[str]:
        """Strategies that are owed something: an attempt at their boundary, or the heuristic's first thresholds."""
        return [name for name in self.profiles if self._owes(name, self.store.training(name))]

    def _owes(self, strategy: str, training: Training) -> bool:
        return training.owes or self._outdated(strategy, training)

    def _outdated(self, strategy: str, training: Training) -> bool:
        """Whether the heuristic's thresholds in force were learned under another policy, and there is news to learn.

        A number of outcomes teaches one table: two trainers with different settings cannot overwrite each other for
        ever.
        """
        if training.table is None or training.completed <= training.table_count:
            return False
        policy = self.profiles[strategy].threshold_policy
        if self._seen.get(strategy) != (training.table, policy):
            known = self._in_force(strategy, training)
            if known is not None and known.fits(policy):
                self._seen[strategy] = (training.table, policy)
        return self._seen.get(strategy) != (training.table, policy)

    def _in_force(self, strategy: str, training: Training) -> ThresholdTable | None:
        text = None if training.table is None else self.store.table(strategy, training.table)
        if training.table is None or text is None:
            return None
        try:
            return read_table(training.table, text)
        except (Invalid, ValueError, RecursionError):
            # The workers say so where an operator looks; here it is one that must be learned anew.
            return None

    def answer(self, strategy: str) -> Trained | None:
        """Give a strategy what it is owed, thresholds first, then its boundary's attempt.

        None when no attempt was owed, or another trainer has answered the boundary meanwhile.
        """
        training = self.store.training(strategy)
        if training.table_due or self._outdated(strategy, training):
            self._owed_table(strategy, training.completed)
        if not training.due:
            return None
        number = self.store.begin_training(strategy, now_ms=self.store.now_ms(), boundary=training.next_at)
        return self._train(strategy, number) if number > 0 else None

    def attempt(self, strategy: str) -> Trained:
        """Train a strategy on all its outcomes so far. Whatever goes wrong keeps the incumbent and is recorded."""
        return self._train(strategy, self.store.begin_training(strategy, now_ms=self.store.now_ms()))

    def _train(self, strategy: str, number: int) -> Trained:
        profile = self.profiles[strategy]
        count = self.store.training(strategy).completed
        base = Trained(strategy, number, count, profile.next_training_at(count))
        known: list[Example] = []
        incumbent: dict[str, object] | None = None
        try:
            outcomes = self.outcomes(strategy)
            known = [example for example in outcomes if example.decisive]
            incumbent = self._incumbent(strategy)
            # Before the attempt is settled or published: killed between the two, both are done again.
            self._set_table(strategy, count, self._rules(strategy, outcomes))
            found = self._fit(profile, outcomes)
        except Transient:
            raise
        except Exception as error:
            # An attempt that fails is an attempt: without its next boundary the loop would never train again.
            log.exception("training %s failed", strategy)
            return self._settle(base, FAILED, f"{type(error).__name__}: {error}", looked_at(base, known))
        declined = found if isinstance(found, Declined) else None
        looked = looked_at(base, known, declined) | {"incumbent": incumbent}
        if isinstance(found, Declined):
            return self._settle(base, found.reason, found.detail, looked)
        return self._publish(base, profile, found, looked)

    def _owed_table(self, strategy: str, count: int) -> None:
        detail = ""
        try:
            table = self._rules(strategy, self.outcomes(strategy))
        except Transient:
            raise
        except Exception as error:
            # Recorded as an empty table, or it would be owed again for ever; the next attempt learns it anew.
            log.exception("thresholds of %s cannot be learned", strategy)
            empty = heuristic_table((), self.profiles[strategy].threshold_policy)
            table, detail = empty, printable(f"{type(error).__name__}: {error}", DETAIL_LENGTH)
        self._set_table(strategy, count, table, detail)

    def _rules(self, strategy: str, outcomes: list[Example]) -> ThresholdTable:
        profile, training = self.profiles[strategy], self.store.training(strategy)
        before = self._in_force(strategy, training)
        decided = _as_decided(outcomes, profile)
        return heuristic_table(decided, profile.threshold_policy, drawn=INTERVALS, incumbent=before)

    def _set_table(self, strategy: str, count: int, table: ThresholdTable, detail: str = "") -> None:
        if count < TABLE_RECORDS:
            return
        address, text = spelled(table)
        self.store.set_table(
            TableCommand(
                strategy=strategy,
                count=count,
                address=address,
                table=text,
                detail=detail,
                now_ms=self.store.now_ms(),
            )
        )

    def _fit(self, profile: Profile, known: list[Example]) -> Candidate | Declined:
        schema = SCHEMAS[profile.features]
        rows = profile.max_training_rows
        settings = replace(
            self._settings,
            calibration=profile.method.calibration,
            ensemble=profile.method.ensemble,
            max_rows=rows or None,
            neighbours=profile.neighbours,
            labels=profile.method.labels,
            weighting=weighting_of(profile),
        )
        fit = fit_candidate if self._shared_fit is None else self._shared_fit
        return fit(known, schema, seed=self._seed, settings=settings)

    def examples(self, strategy: str) -> list[Example]:
        """Every win and loss so far, corrections laid over them; a timeout that was corrected to one is one."""
        return [example for example in self._closed(strategy) if example.decisive]

    def outcomes(self, strategy: str) -> list[Example]:
        """What the profile's labels make of everything that closed: the right cohorts, timeouts at their marks."""
        profile = self.profiles[strategy]
        entries: list[int] = []
        if profile.method.labels is Method.EVIDENCE and profile.labelling.maturity is Maturity.WEIGHTS:
            entries = [position.entry_ms for position in self.store.open_positions(strategy)]
        return learned_from(self._closed(strategy), profile, now_ms=self.store.now_ms(), open_entry_ms=entries)

    def _rows(self, strategy: str) -> tuple[list[dict[str, Any]], dict[str, Mapping[str, Any] | None]]:
        rows, laid = self.store.trades(strategy)
        corrections: dict[str, Mapping[str, Any] | None] = {
            name: json.loads(text) if text else None for name, text in laid.items()
        }
        return [json.loads(row) for row in rows], corrections

    def _closed(self, strategy: str) -> list[Example]:
        profile = self.profiles[strategy]
        rows, corrections = self._rows(strategy)
        return covered_by_both(
            *(
                examples(
                    kept,
                    corrections,
                    drop_ambiguous=profile.labelling.drop_ambiguous,
                    timeouts=profile.takes_timeouts,
                    fill=profile.fill,
                )
                for kept in (rows, [json.loads(row) for row in self.store.timeouts(strategy)])
            )
        )

    def _incumbent(self, strategy: str) -> dict[str, object] | None:
        """How the bundle in force has done since it was published; said aloud once it is worse than the base rate."""
        bundle = self.store.training(strategy).bundle
        manifest = None if bundle is None else self.store.manifests(strategy).get(bundle)
        if bundle is None or manifest is None:
            return None
        told: dict[str, Any] = json.loads(manifest)
        rows, corrections = self._rows(strategy)
        # A correction that takes an outcome out leaves nothing to judge by.
        laid = [
            row | dict(corrections[row["id"]] or {"outcome": None}) if row["id"] in corrections else row for row in rows
        ]
        skill = live_skill(laid, bundle=bundle, base=told["wins"] / told["n"])
        if skill is not None and skill.absent:
            log.warning("bundle %s of %s has no skill since it was published: %s", bundle[:12], strategy, skill)
        return {"bundle": bundle, "skill": None if skill is None else skill.record}

    def _settle(self, base: Trained, reason: str, detail: str, looked: Mapping[str, object]) -> Trained:
        shown = printable(detail, DETAIL_LENGTH)
        settled = self.store.settle(
            base.strategy,
            base.attempt,
            reason=reason,
            detail=shown,
            next_at=base.next_at,
            now_ms=self.store.now_ms(),
            body=canonical_json({**looked, "reason": reason, "detail": shown}),
        )
        return replace(base, reason=reason, detail=shown, fenced=not settled)

    def _publish(self, base: Trained, profile: Profile, candidate: Candidate, looked: Mapping[str, object]) -> Trained:
        book = book_for(
            ThresholdBook(),
            candidate.part_records,
            candidate.source,
            profile.blend,
            profile.threshold_policy,
            drawn=INTERVALS,
        )
        now_ms = self.store.now_ms()
        heads, told = heads_of(self.store, profile, seed=self._seed) if self._beside else (None, {})
        parts = replace(candidate.parts(thresholds=book.as_json(), created_at_ms=now_ms), heads=heads)
        data = pack(parts, self._key)
        # Read back as a worker will: what cannot be served is never published.
        bundle = unpack(data, self._key, strategy=profile.name, schema_hash=candidate.schema.hash)
        name = address(data)
        self._keep(name, data)
        self.store.put_bundle(name, data)
        status = self.store.publish(
            PublishCommand(
                strategy=profile.name,
                attempt=base.attempt,
                address=name,
                trained_count=base.count,
                next_at=base.next_at,
                network=candidate.ensemble.network is not None,
                tables=",".join(canonical_json(table.as_json()) for table in book.tables),
                manifest=canonical_json({**looked, **manifest_of(candidate, bundle.source), "heads": told}),
                now_ms=now_ms,
            )
        )
        fenced = status is PublishStatus.FENCED
        return replace(base, address="" if fenced else name, fenced=fenced)


def _as_decided(outcomes: Sequence[Example], profile: Profile) -> list[ScoredRecord]:
    """Outcomes with the heuristic's score as it was recorded with the decision."""
    return [
        ScoredRecord(
            heuristic=example.heuristic_score,
            ensemble=None,
            won=example.won,
            net_r=example.net_r,
            bucket=example.bucket,
            decisive=example.decisive,
            weight=weight,
            entry_ms=example.entry_ms,
            exit_ms=example.exit_ms,
        )
        for example, weight in zip(outcomes, weights_of(outcomes, profile), strict=True)
    ]


def looked_at(base: Trained, known: list[Example], declined: Declined | None = None) -> dict[str, object]:
    """What every attempt leaves behind, so that importance and patterns can be read over time."""
    try:
        patterns = brief_patterns(known)
    except Invalid:
        # A row that cannot be grouped has failed the attempt already; its end must still be recorded.
        log.exception("patterns of %s cannot be told", base.strategy)
        patterns = {}
    return {
        "attempt": base.attempt,
        "count": base.count,
        "importance": None if declined is None or declined.importance is None else dict(declined.importance),
        "patterns": patterns,
        "ensemble": None if declined is None or declined.ensemble is None else dict(declined.ensemble),
    }


def manifest_of(candidate: Candidate, source: str) -> dict[str, object]:
    """What is worth showing of a bundle: where it came from and how it did out of fold."""
    return {
        "source": source,
        "n": candidate.n,
        "wins": candidate.wins,
        "timeouts": candidate.timeouts,
        "n_eff": candidate.n_eff,
        "data": candidate.data_hash,
        "schema": candidate.schema.hash,
        "first_ms": candidate.first_ms,
        "last_ms": candidate.last_ms,
        "metrics": candidate.metrics.record,
        "reliability": None if candidate.reliability is None else candidate.reliability.record,
        "other_reliability": None if candidate.other_reliability is None else candidate.other_reliability.record,
        "ladder": None if candidate.ladder is None else asdict(candidate.ladder),
        "neighbours": None if candidate.neighbours_metrics is None else candidate.neighbours_metrics.record,
        "ensemble": candidate.standing.record,
        "ensemble_twin": None if candidate.twin is None else candidate.twin.record,
        "importance": dict(candidate.importance),
        "members": list(candidate.ensemble.members),
        "versions": dict(candidate.versions),
    }
