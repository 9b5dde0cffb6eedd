"""A signal's score by the models in force, down the chain: champion, previous bundle, heuristic, neutral."""

from __future__ import annotations

import logging
from dataclasses import replace

from decision.decide import ScoreSource, Scoring
from qscore.table import ThresholdTable
from runtime.clock import Stopwatch
from runtime.shelf import Served, Shelved
from scorer.blend import blend
from scorer.bundle import NotAsked, Scored, Unscorable
from scorer.heads import Told
from scorer.neighbours import Neighbours
from scorer.schema import Vector
from signals.profile import Profile
from signals.signal import Signal

log = logging.getLogger(__name__)


def by_model(
    signal: Signal, vector: Vector, profile: Profile, served: Served, plain: Scoring, watch: Stopwatch
) -> tuple[Scoring, ThresholdTable | None]:
    """The score of the first sound bundle, and the table it is compared by; none when the heuristic stands in.

    A champion that did not answer leaves its fault in the scoring: what stands in for it may not execute.
    """
    fault = served.fault
    for shelved in (served.champion, served.previous):
        if shelved is None:
            continue
        started = watch()
        found = _asked(shelved, vector)
        late_ms = (watch() - started) * 1000.0
        if isinstance(found, Scored) and late_ms <= profile.score_budget_ms:
            scoring = _blended(found, shelved, profile, plain, fault)
            shown = replace(scoring, neighbours=_neighbours(shelved, vector, signal.ts), told=_told(shelved, vector))
            return shown, shelved.table
        fault = fault or _why(found, late_ms)
    missing = (*plain.missing, *(name for name in vector.missing if name not in plain.missing))
    return (
        Scoring(
            score=plain.score,
            source=ScoreSource.HEURISTIC,
            heuristic_score=plain.heuristic_score,
            missing=missing,
            fault=fault or "no bundle answered",
        ),
        None,
    )


def _asked(shelved: Shelved, vector: Vector) -> Scored | NotAsked | Unscorable:
    try:
        return shelved.bundle.score(vector)
    except Exception as error:
        # Whatever a model does, the signal gets an answer; only a time limit of the job may pass through here.
        log.exception("bundle %s failed", shelved.bundle.address[:12])
        return Unscorable(f"{type(error).__name__}: {error}"[:200])


def _neighbours(shelved: Shelved, vector: Vector, at_ms: int) -> Neighbours | None:
    try:
        return shelved.bundle.neighbours(vector, at_ms)
    except Exception:
        # They are shown and nothing more: without them the decision is the same.
        log.exception("neighbours of bundle %s failed", shelved.bundle.address[:12])
        return None


def _told(shelved: Shelved, vector: Vector) -> Told | None:
    try:
        return shelved.bundle.tell(vector)
    except Exception:
        # Shown and nothing more, like the neighbours.
        log.exception("heads of bundle %s failed", shelved.bundle.address[:12])
        return None


def _why(found: Scored | NotAsked | Unscorable, late_ms: float) -> str:
    if isinstance(found, NotAsked):
        return f"{len(found.missing)} features are missing"
    if isinstance(found, Unscorable):
        return found.detail
    return f"the score took {late_ms:.0f} ms"


def _blended(found: Scored, shelved: Shelved, profile: Profile, plain: Scoring, fault: str | None) -> Scoring:
    score = blend(plain.heuristic_score, found.score, profile.blend)
    return Scoring(
        score=score,
        source=ScoreSource(found.source),
        heuristic_score=plain.heuristic_score,
        win_probability=found.win_probability,
        bundle=shelved.bundle.address,
        missing=found.missing,
        model_score=found.score,
        fault=fault,
        win_bounds=found.bounds,
    )
