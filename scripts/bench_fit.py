"""One size of the loop's own work: fit, bundle, open, score, beside scikit-learn's own estimators.

``measure`` runs every size in a process of its own, so that its peak of memory is that size's.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from learning.fit import Candidate, FitSettings, fit_candidate
from learning.members import AGREEMENT, Members, fit_members, seed_for
from learning.promote import Declined
from qscore.table import ThresholdBook
from runtime.clock import stopwatch
from runtime.tables import INTERVALS, book_for
from runtime.train import SEED
from scorer.bundle import SCORE_DIGITS, Bundle, Scored, pack, unpack
from scorer.schema import SCALP, Vector
from scripts.bench import Row, interleaved, percentile, timed
from scripts.bench_memory import peak_mb
from scripts.bench_serving import KEY
from scripts.bench_world import STRATEGY, plays
from signals.errors import Permanent
from signals.profile import SCALP as PROFILE

FloatArray = npt.NDArray[np.float64]
START_MS = 1_704_067_200_000
BATCH = 256
OURS_MORE = 20
"""Our calls for each of scikit-learn's: a tail needs many, and theirs are a hundred times as long."""
# PERFORMANCE.md: section 5 for the retrain as specified, section 2 for a compiled kernel.
RETRAIN_GOAL_S = {1_000: 8.7, 10_000: 93.6}
ONE_GOAL_US, ONE_P99_GOAL_US, BATCH_GOAL_US = 11.9, 53.5, 16.6


@dataclass(frozen=True, slots=True)
class Sides:
    """The bundle as a worker opens it, and the very heads it was made of as scikit-learn keeps them."""

    bundle: Bundle
    members: Members

    def ours(self, vector: Vector) -> float:
        """One probability by the bundle."""
        return _said(self.bundle.score(vector))

    def ours_all(self, vectors: list[Vector]) -> FloatArray:
        """Many probabilities by the bundle."""
        return np.array([_said(found) for found in self.bundle.score_all(vectors)])

    def theirs(self, vectors: list[Vector]) -> FloatArray:
        """The same from the same features, with ``predict_proba`` for the heads."""
        parts = self.bundle.parts
        raw = self.members.probabilities(parts.encoding.matrix(vectors)).mean(axis=1)
        # Without a calibrator the bundle says a rounded score and no probability.
        return np.round(raw * 100.0, SCORE_DIGITS) / 100.0 if parts.calibrator is None else parts.calibrator.apply(raw)


def _said(found: object) -> float:
    if not isinstance(found, Scored):
        raise Permanent(f"no score: {found}")
    return found.score / 100.0 if found.win_probability is None else found.win_probability


def measure(size: int, *, repeats: int, keep: Path | None = None) -> list[Row]:
    """The rows of one size; with ``keep`` its bundle's bytes are left there."""
    command = [sys.executable, "-m", "scripts.bench_fit", str(size), str(repeats), str(keep or "")]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)  # noqa: S603 - our own module
    if done.returncode != 0:
        raise Permanent(f"measuring {size} outcomes failed: {done.stderr.strip()[-400:]}")
    return [Row(**row) for row in json.loads(done.stdout)]


def rows(size: int, *, repeats: int, keep: Path | None = None) -> list[Row]:
    """Measure one size in this process."""
    world = plays(START_MS, seed=1)
    examples = [next(world).example for _ in range(size)]
    before_mb = peak_mb()
    started = stopwatch()
    candidate = fit_candidate(examples, SCALP, seed=SEED)
    if isinstance(candidate, Declined):
        raise Permanent(f"{size} outcomes: {candidate.reason}: {candidate.detail}")
    book = ThresholdBook()
    policy = PROFILE.threshold_policy
    book = book_for(book, candidate.part_records, candidate.source, PROFILE.blend, policy, drawn=INTERVALS)
    thresholds = book.as_json()
    data = pack(candidate.parts(thresholds=thresholds, created_at_ms=START_MS), KEY)
    retrain_s, after_mb = stopwatch() - started, peak_mb()
    if keep is not None:
        keep.write_bytes(data)
    vectors = [SCALP.vector(example.features) for example in sorted(examples, key=lambda example: example.order)]
    members, heads_s = _heads(candidate, vectors, examples)
    opened = [timed(partial(_open, data)) for _ in range(20)]
    sides = Sides(_open(data), members)
    matrix = candidate.encoding.matrix(vectors)
    same_heads = _close(
        sides.bundle.parts.ensemble.win_probabilities(matrix), members.probabilities(matrix).mean(axis=1)
    )
    exact = np.array_equal(
        sides.bundle.parts.ensemble.win_probabilities(matrix), candidate.ensemble.win_probabilities(matrix)
    )
    return [
        Row(
            work="retrain, against one fit of its heads", size=size, ours=retrain_s, baseline=heads_s, unit="s",
            goal=RETRAIN_GOAL_S.get(size), agree=same_heads,
        ),
        Row(
            work="peak memory of a retrain, against before it", size=size, ours=after_mb, baseline=before_mb,
            unit="MB", agree=same_heads,
        ),
        Row(work="bundle", size=size, ours=len(data) / 1e3, unit="kB", agree=exact),
        Row(work="open and verify a bundle", size=size, ours=percentile(opened, 50) * 1e3, unit="ms", agree=exact),
        *_scores(size, sides, vectors, repeats),
    ]  # fmt: skip


def _open(data: bytes) -> Bundle:
    bundle = unpack(data, KEY, strategy=STRATEGY, schema_hash=SCALP.hash)
    ThresholdBook.from_json(bundle.parts.thresholds)
    return bundle


def _heads(candidate: Candidate, vectors: list[Vector], examples: list[Any]) -> tuple[Members, float]:
    """The final heads once more, by the seed and the rows they were fitted with."""
    settings = FitSettings()
    ordered = sorted(examples, key=lambda example: example.order)
    matrix = candidate.encoding.matrix(vectors)
    won = np.array([example.won for example in ordered], dtype=np.bool_)
    weight = np.array([example.weight for example in ordered])
    started = stopwatch()
    with threadpool_limits(limits=1):
        members = fit_members(
            matrix,
            won,
            weight,
            settings=settings.heads,
            with_network=len(won) >= settings.network_from,
            seed=seed_for(SEED, "final"),
        )
    return members, stopwatch() - started


def _scores(size: int, sides: Sides, vectors: list[Vector], repeats: int) -> list[Row]:
    one = vectors[-1]
    many = [vectors[place % len(vectors)] for place in range(BATCH)]
    heads, row = sides.bundle.parts.ensemble, sides.bundle.parts.encoding.row(one)
    wanted = sides.theirs(many)
    agree_one = _close(np.array([sides.ours(vector) for vector in many]), wanted)
    agree_many = _close(sides.ours_all(many), wanted)
    mine, theirs = interleaved(
        lambda: sides.ours(one), lambda: sides.theirs([one]), repeats=repeats, ours_more=OURS_MORE
    )
    bare, their_bare = interleaved(
        lambda: heads.win_probability(row),
        lambda: sides.members.probabilities(row[None, :]),
        repeats=max(3, repeats // 5),
        ours_more=OURS_MORE,
    )
    batch, their_batch = interleaved(
        lambda: sides.ours_all(many), lambda: sides.theirs(many), repeats=max(3, repeats // 5)
    )
    each, their_each = [taken / BATCH for taken in batch], [taken / BATCH for taken in their_batch]
    return [
        _beside("one score p50", size, mine, theirs, 50, ONE_GOAL_US, agree=agree_one),
        _beside("one score p99", size, mine, theirs, 99, ONE_P99_GOAL_US, agree=agree_one),
        _beside("its heads alone p50", size, bare, their_bare, 50, None, agree=agree_one),
        _beside(f"each of {BATCH} scores at once", size, each, their_each, 50, BATCH_GOAL_US, agree=agree_many),
    ]


def _beside(
    work: str, size: int, ours: list[float], theirs: list[float], share: float, goal: float | None, *, agree: bool
) -> Row:
    return Row(
        work=f"{work}, against predict_proba",
        size=size,
        ours=percentile(ours, share) * 1e6,
        baseline=percentile(theirs, share) * 1e6,
        unit="µs",
        goal=goal,
        agree=agree,
    )


def _close(ours: FloatArray, theirs: FloatArray) -> bool:
    return bool(np.all(np.abs(ours - theirs) <= AGREEMENT))


if __name__ == "__main__":
    kept = Path(sys.argv[3]) if sys.argv[3] else None
    sys.stdout.write(json.dumps([asdict(row) for row in rows(int(sys.argv[1]), repeats=int(sys.argv[2]), keep=kept)]))
