"""Every promise is put to the test in every run, in a few worlds; the full run is for the published figures."""

from __future__ import annotations

import pytest

from lab.coverage.check import Size
from lab.coverage.studies import SUBJECTS, Subject, chosen
from signals.errors import Permanent

SEED = 1


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: f"{subject.item}-{subject.name.replace(' ', '-')}")
def test_a_promise_holds_in_a_few_worlds(subject: Subject) -> None:
    checks = list(subject.study(Size.SMALL, SEED))
    assert checks
    assert [f"{check.name}: {check.measured:g}, band {check.band}" for check in checks if not check.holds] == []
    assert {check.item for check in checks} == {subject.item}
    assert len({check.name for check in checks}) == len(checks)


def test_studies_are_in_order_and_told_apart() -> None:
    assert [subject.item for subject in SUBJECTS] == sorted(subject.item for subject in SUBJECTS)
    assert len({subject.name for subject in SUBJECTS}) == len(SUBJECTS)


def test_promises_are_chosen_by_number() -> None:
    assert chosen(()) == SUBJECTS
    assert {subject.item for subject in chosen((1, 1))} == {1}
    with pytest.raises(Permanent, match="no study of 99"):
        chosen((1, 99))
