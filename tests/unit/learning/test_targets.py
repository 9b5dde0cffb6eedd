"""What heads are told: the founding labels untouched, shares of a win and a loss where labels are by evidence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from learning.fit import Candidate, fit_candidate
from learning.labels import Weighting
from learning.targets import centred, targets
from scorer.schema import SCALP
from signals.errors import Invalid
from signals.method import Method
from tests.support.lessons import SMALL, lessons

NET = np.array([2.0, -1.0, 0.5, -0.5, 5.0, 1.9])
WON = np.array([True, False, False, False, False, True])
DECISIVE = np.array([True, True, False, False, False, True])
WEIGHT = np.array([1.0, 0.8, 1.0, 0.5, 1.0, 1.0])


def test_the_specified_targets_are_wins_losses_and_signs() -> None:
    found = targets(WON, DECISIVE, NET, [None] * 6, WEIGHT, method=Method.SPEC)
    assert found.place.tolist() == list(range(6))
    assert found.won.tolist() == [True, False, True, False, True, True]
    assert found.weight.tolist() == WEIGHT.tolist()


def test_targets_by_evidence_share_a_record_out() -> None:
    found = targets(WON, DECISIVE, NET, [None] * 6, WEIGHT, method=Method.EVIDENCE)
    # W = 1.95, L = 1: u = (R + 1) / 2.95, clipped, and within a twentieth of an end the end itself.
    shares = [1.0, 0.0, 1.5 / 2.95, 0.5 / 2.95, 1.0, 1.0]
    wins, losses = np.zeros(6), np.zeros(6)
    np.add.at(wins, found.place[found.won], found.weight[found.won])
    np.add.at(losses, found.place[~found.won], found.weight[~found.won])
    assert wins.tolist() == pytest.approx([share * weight for share, weight in zip(shares, WEIGHT, strict=True)])
    assert (wins + losses).tolist() == pytest.approx(WEIGHT.tolist())
    assert len(found.place) == 8
    # Where W and L cannot be told there is no scale.
    alone = targets(WON[:1], DECISIVE[:1], NET[:1], [None], WEIGHT[:1], method=Method.EVIDENCE)
    assert (alone.place.tolist(), alone.won.tolist()) == ([0], [True])
    with pytest.raises(ValueError, match="one outcome"):
        targets(WON, DECISIVE[:2], NET, [None] * 6, WEIGHT, method=Method.SPEC)


def test_centred_moves_the_mean_and_keeps_the_order() -> None:
    said = np.array([0.05, 0.2, 0.2, 0.6, 0.0])
    found = centred(said, 0.5)
    assert float(found.mean()) == pytest.approx(0.5)
    assert np.argsort(found, kind="stable").tolist() == np.argsort(said, kind="stable").tolist()
    assert centred(said, 1.0) is said
    assert len(centred(said[:0], 0.5)) == 0


def fitted(timed_out: int, **changes: object) -> Candidate:
    known = lessons(240)
    place = [*range(0, 240, 240 // timed_out)][:timed_out] if timed_out else []
    given = [
        replace(one, won=False, timed_out=True, net_r=0.4 if one.won else -0.3) if number in place else one
        for number, one in enumerate(known)
    ]
    found = fit_candidate(given, SCALP, seed=1, settings=replace(SMALL, neighbours=0, **changes))  # type: ignore[arg-type]
    assert isinstance(found, Candidate)
    return found


def test_constant_payoffs_and_no_weights_leave_the_bundle_as_it_was() -> None:
    spec, evidence = fitted(0), fitted(0, labels=Method.EVIDENCE)
    assert [one.score for one in spec.records] == [one.score for one in evidence.records]
    assert spec.n_eff == evidence.n_eff


def test_timeouts_are_scored_and_weighed_but_judge_nobody() -> None:
    found = fitted(60, labels=Method.EVIDENCE, weighting=Weighting())
    assert (found.n, found.timeouts) == (180, 60)
    told = found.part_records
    late = told.decisive == 0
    assert late.any()
    assert not told.won[late].any()
    assert set(told.net_r[late].tolist()) <= {0.4, -0.3}
    assert found.metrics.n == int((~late).sum())
    assert 0.0 < found.n_eff < 240
    assert len(set(told.weight.tolist())) > 10
    assert found.parts(thresholds={}, created_at_ms=1).metrics["timeouts"] == 60


def test_what_timed_out_has_not_won() -> None:
    (one,) = (example for example in lessons(1))
    with pytest.raises(Invalid, match="timed out"):
        replace(one, won=True, timed_out=True)
