"""What the studies measured, as one value that a page and a machine read."""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import scipy
import sklearn

from lab.coverage.check import Check, Size
from lab.coverage.studies import Subject
from runtime.version import __version__

DIGITS = 6
Told = Callable[[Subject, tuple[Check, ...]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One subject and its checks."""

    item: int
    name: str
    checks: tuple[Check, ...]

    @property
    def holds(self) -> bool:
        """Whether every check holds; a study that checks nothing proves nothing."""
        return len(self.checks) > 0 and all(check.holds for check in self.checks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Every promise that was put to the test: under which seed, how thoroughly, with which versions."""

    findings: tuple[Finding, ...]
    size: Size
    seed: int
    versions: Mapping[str, str]

    @property
    def checks(self) -> tuple[Check, ...]:
        """All of them, in the order of the promises."""
        return tuple(check for finding in self.findings for check in finding.checks)

    @property
    def holds(self) -> bool:
        """Whether all of them hold."""
        return all(finding.holds for finding in self.findings)

    @property
    def record(self) -> dict[str, object]:
        """The same as JSON values; an open end of a band is ``null``, and so is what is no number."""
        return {
            "items": [_line(finding, check) for finding in self.findings for check in finding.checks],
            "holds": self.holds,
            "size": self.size.value,
            "seed": self.seed,
            "versions": dict(self.versions),
        }


def measure_coverage(
    subjects: Iterable[Subject],
    size: Size,
    seed: int,
    *,
    jobs: int = 1,
    told: Told = lambda _subject, _checks: None,
) -> Coverage:
    """Run the studies; the same subjects, size and seed give the same coverage, however many run at once."""
    findings = []
    for subject, checks in _run(tuple(subjects), size, seed, jobs):
        told(subject, checks)
        findings.append(Finding(item=subject.item, name=subject.name, checks=checks))
    return Coverage(findings=tuple(findings), size=size, seed=seed, versions=_versions())


def _run(
    subjects: tuple[Subject, ...], size: Size, seed: int, jobs: int
) -> Iterator[tuple[Subject, tuple[Check, ...]]]:
    if jobs == 1:
        for subject in subjects:
            yield subject, _study(subject, size, seed)
        return
    # A fork after scikit-learn has started threads can hang: the children begin anew.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running = [(subject, pool.submit(_study, subject, size, seed)) for subject in subjects]
        for subject, future in running:
            yield subject, future.result()


def _study(subject: Subject, size: Size, seed: int) -> tuple[Check, ...]:
    return tuple(subject.study(size, seed))


def _line(finding: Finding, check: Check) -> dict[str, object]:
    bounds = check.interval
    return {
        "item": check.item,
        "subject": finding.name,
        "name": check.name,
        "measured": _number(check.measured),
        "interval": None if bounds is None else [_number(end) for end in bounds],
        "band": check.band,
        "low": _number(check.low),
        "high": _number(check.high),
        "n": check.n,
        "holds": check.holds,
    }


def _number(value: float) -> float | None:
    return round(float(value), DIGITS) if math.isfinite(value) else None


def _versions() -> dict[str, str]:
    return {
        "penumbra": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "scikit-learn": sklearn.__version__,
    }
