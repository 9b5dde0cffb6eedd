"""Which definition of a step is in force: the specified one, or the one the evidence is for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Method(StrEnum):
    """Which definition of a step is in force; the other one is computed beside it and shown."""

    SPEC = "spec"
    EVIDENCE = "evidence"

    @property
    def other(self) -> Method:
        """The twin that is shown beside it."""
        return Method.EVIDENCE if self is Method.SPEC else Method.SPEC


@dataclass(frozen=True, slots=True, kw_only=True)
class Methods:
    """The method of each step of learning: thresholds, calibration, heads, and what counts as an outcome.

    By default every step whose acceptance simulations hold goes by the evidence; what counts as an outcome stays the
    specification's.
    """

    thresholds: Method = Method.EVIDENCE
    calibration: Method = Method.EVIDENCE
    ensemble: Method = Method.EVIDENCE
    labels: Method = Method.SPEC

    @classmethod
    def all(cls, method: Method) -> Methods:
        """The same method for every step."""
        return cls(thresholds=method, calibration=method, ensemble=method, labels=method)


SPECIFIED = Methods.all(Method.SPEC)
"""Every step as the specification defines it."""
EVIDENT = Methods()
"""The default: the steps the evidence is for."""
HONEST = Methods.all(Method.EVIDENCE)
"""Every step by evidence, timeouts and the life of labels too."""
