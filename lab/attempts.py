"""What a replay's learner did: every attempt with its figures, and fits shared between runs on the same outcomes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from lab.trade import DAY_MS, BoolArray, FloatArray, IntArray
from learning.example import Example, data_hash
from learning.metrics import Metrics
from learning.promote import Decline, Declined
from persistence.memory_store import MemoryStore
from qscore.table import ThresholdBook
from runtime.trained import Trained
from scorer.schema import Schema

EMPTY = "{}"
"""The tables of a strategy that has learned none."""

if TYPE_CHECKING:
    from learning.fit import Candidate, FitSettings


class Fit(Protocol):
    """What makes a candidate of examples."""

    def __call__(
        self, examples: Sequence[Example], schema: Schema, *, seed: int, settings: FitSettings
    ) -> Candidate | Declined:
        """Fit one candidate."""
        ...


class SharedFits:
    """Fits each set of outcomes once, whichever run asks for it.

    A fit is a function of its examples, seed and settings. Runs under other thresholds see the same outcomes until
    the first bundle answers; from then on an executed outcome weighs 1.0 and a refused one 0.8, and their fits part.
    The key holds everything an example says, so nothing is shared that could differ.
    """

    def __init__(self, fit: Fit) -> None:
        self._fit = fit
        self._known: dict[tuple[str, str, int, str], Candidate | Declined] = {}
        self.made = 0

    def __call__(
        self, examples: Sequence[Example], schema: Schema, *, seed: int, settings: FitSettings
    ) -> Candidate | Declined:
        """Fit one candidate, or remember it."""
        key = (data_hash(examples), schema.hash, seed, repr(settings))
        if key not in self._known:
            self._known[key] = self._fit(examples, schema, seed=seed, settings=settings)
            self.made += 1
        return self._known[key]


def rules_only(
    examples: Sequence[Example], schema: Schema, *, seed: int, settings: FitSettings
) -> Candidate | Declined:
    """The learner of the run that keeps to the heuristic: every boundary is answered, no model ever comes."""
    del examples, schema, seed, settings
    return Declined(Decline.RULES_ONLY, "this run keeps to the heuristic")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OutOfFold:
    """What a candidate said about records its heads had not seen, shape ``(n,)`` each; days of exit since 1970."""

    probability: FloatArray
    won: BoolArray
    day: IntArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Attempt:
    """One attempt at training. ``at_ms`` in UTC epoch ms, ``count`` and ``next_at`` in decisive outcomes.

    ``judged`` are the figures the decision to publish rests on (the heads before calibration); none when training
    never came so far.
    """

    number: int
    at_ms: int
    count: int
    next_at: int
    address: str
    reason: str
    detail: str
    judged: Metrics | None
    source: str
    trained_base_rate: float | None
    out_of_fold: OutOfFold | None = field(default=None, repr=False)

    @property
    def published(self) -> bool:
        """Whether it came to a bundle."""
        return self.address != ""


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """Everything a learner did. ``books`` are the threshold tables in force from a moment on, UTC epoch ms."""

    attempts: tuple[Attempt, ...] = ()
    books: tuple[tuple[int, ThresholdBook], ...] = ()

    @property
    def book(self) -> ThresholdBook:
        """The tables in force at the end."""
        return self.books[-1][1] if self.books else ThresholdBook()


class Watch:
    """Stands beside a learner: hands it its fits and notes what each attempt came to."""

    def __init__(self, fit: Fit) -> None:
        self._fit = fit
        self._last: Candidate | Declined | None = None
        self._attempts: list[Attempt] = []
        self._books: list[tuple[int, ThresholdBook]] = []
        self._shown = EMPTY

    @property
    def history(self) -> History:
        """What was noted so far."""
        return History(tuple(self._attempts), tuple(self._books))

    def fit(
        self, examples: Sequence[Example], schema: Schema, *, seed: int, settings: FitSettings
    ) -> Candidate | Declined:
        """Fit one candidate, and keep it for the note."""
        self._last = self._fit(examples, schema, seed=seed, settings=settings)
        return self._last

    def trained(self, strategy: str, trained: Trained | None, store: MemoryStore) -> None:
        """Note an attempt that has just been settled, and the tables where they changed; none was only tables."""
        text = store.state.strings.get(store.keys.qcal(strategy, "thr"), EMPTY)
        if text != self._shown:
            self._shown = text
            self._books.append((store.now_ms(), ThresholdBook.from_json(json.loads(text))))
        if trained is not None:
            self._note(trained, store.now_ms())

    def _note(self, trained: Trained, now_ms: int) -> None:
        found, self._last = self._last, None
        candidate = None if found is None or isinstance(found, Declined) else found
        self._attempts.append(
            Attempt(
                number=trained.attempt,
                at_ms=now_ms,
                count=trained.count,
                next_at=trained.next_at,
                address=trained.address,
                reason=trained.reason,
                detail=trained.detail,
                judged=_judged(found),
                source="" if candidate is None else candidate.source,
                trained_base_rate=None if candidate is None else candidate.wins / candidate.n,
                out_of_fold=None if candidate is None or not trained.address else _out_of_fold(candidate),
            )
        )


def _judged(found: Candidate | Declined | None) -> Metrics | None:
    """What the decision to publish rests on: the heads before calibration."""
    if found is None:
        return None
    return found.metrics if isinstance(found, Declined) else found.raw_metrics


def _out_of_fold(candidate: Candidate) -> OutOfFold:
    records = [record for record in candidate.records if record.decisive]
    return OutOfFold(
        probability=np.array([record.score / 100.0 for record in records], dtype=np.float64),
        won=np.array([record.won for record in records], dtype=np.bool_),
        day=np.array([record.exit_ms // DAY_MS for record in records], dtype=np.int64),
    )
