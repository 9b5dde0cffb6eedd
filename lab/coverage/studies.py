"""Every study there is: a promise gets its study by a line here, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from lab.coverage import calibration, fidelity, heads, labels, leaks, simulator, skill, thresholds
from lab.coverage.check import Study
from signals.errors import Permanent


class Subject(NamedTuple):
    """What is studied: the number of its promise in the list of acceptance tests, a name, and the simulation."""

    item: int
    name: str
    study: Study


SUBJECTS: tuple[Subject, ...] = (
    Subject(1, "leak firewall", leaks.study),
    Subject(2, "pooled thresholds", thresholds.study),
    Subject(3, "honest labels", labels.study),
    Subject(4, "paired simulator", simulator.study),
    Subject(5, "phantom fidelity", fidelity.study),
    Subject(7, "calibration by evidence", calibration.study),
    Subject(12, "ensemble with skill", skill.study),
    Subject(12, "ensemble with skill, many outcomes", skill.study_of_many_outcomes),
    Subject(12, "heads beside the score", heads.study),
)
"""In the order of their numbers."""


def chosen(items: Iterable[int]) -> tuple[Subject, ...]:
    """The studies of some promises, all without any; a number that has none is refused."""
    wanted = set(items)
    known = {subject.item for subject in SUBJECTS}
    if wanted - known:
        unknown = ", ".join(map(str, sorted(wanted - known)))
        raise Permanent(f"no study of {unknown}; there are {', '.join(map(str, sorted(known)))}")
    return tuple(subject for subject in SUBJECTS if not wanted or subject.item in wanted)
