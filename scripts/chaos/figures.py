"""The figures of a chaos run, and what they amount to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

ZEROS = (
    "lost",
    "duplicate",
    "wrong",
    "invented",
    "changed_answer",
    "execute_after_halt",
    "double_claims",
    "counter_drift",
    "unresolved",
    "conflicts",
    "dead_letters",
)
"""What a run must not show even once."""
LIVE_FAULTS_PER_MINUTE = 100 / 30
"""Fewer faults on live work than this, and a run has shown nothing."""


class Verdict(StrEnum):
    """How a run came out. ``invalid``: too little was hurt for the zeros to mean anything."""

    PASSED = "passed"
    FAILED = "failed"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Spread:
    """Quantiles of a measured duration, in the unit its name gives."""

    n: int
    p50: float | None
    p95: float | None
    p99: float | None
    max: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Nearest-rank quantiles; none of nothing."""
        ordered = sorted(values)
        if not ordered:
            return cls(0, None, None, None, None)

        def at(share: float) -> float:
            return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)

        return cls(len(ordered), at(0.50), at(0.95), at(0.99), round(ordered[-1], 3))

    @property
    def record(self) -> dict[str, float | int | None]:
        """The same as JSON values."""
        return {"n": self.n, "p50": self.p50, "p95": self.p95, "p99": self.p99, "max": self.max}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosFigures:
    """One run. Recovery in seconds by class of fault, latency in milliseconds by phase."""

    minutes: float
    seed: int
    fsync: str
    verdict: Verdict
    reasons: tuple[str, ...]
    counts: Mapping[str, int]
    examples: Mapping[str, Sequence[str]] = field(default_factory=dict)
    faults_injected: Mapping[str, int]
    faults_on_live_work: Mapping[str, int]
    recovery: Mapping[str, Spread]
    never_recovered: Mapping[str, int]
    latency: Mapping[str, Mapping[str, Spread]]
    load: Mapping[str, int | float]
    restarts: Mapping[str, int]
    unasked_exits: Mapping[str, int]
    versions: Mapping[str, str]
    logs: str

    @property
    def record(self) -> dict[str, Any]:
        """The same as JSON values; the promised zeros stand at the top."""
        return {
            "verdict": self.verdict.value,
            "reasons": list(self.reasons),
            **{name: self.counts.get(name, 0) for name in ZEROS},
            "faults_injected": {"total": sum(self.faults_injected.values()), **self.faults_injected},
            "faults_on_live_work": {"total": sum(self.faults_on_live_work.values()), **self.faults_on_live_work},
            "recovery": {name: spread.record for name, spread in self.recovery.items()},
            "never_recovered": dict(self.never_recovered),
            "latency": {
                phase: {name: spread.record for name, spread in spreads.items()}
                for phase, spreads in self.latency.items()
            },
            "load": dict(self.load),
            "restarts": dict(self.restarts),
            "unasked_exits": dict(self.unasked_exits),
            "examples": {name: list(kept) for name, kept in self.examples.items()},
            "minutes": self.minutes,
            "seed": self.seed,
            "fsync": self.fsync,
            "versions": dict(self.versions),
            "logs": self.logs,
        }


def verdict(
    counts: Mapping[str, int], never: Mapping[str, int], injected: Mapping[str, int], live: int, minutes: float
) -> tuple[Verdict, tuple[str, ...]]:
    """Whether the promises held, and whether the run could have shown otherwise."""
    broken = [f"{name} {counts[name]}" for name in ZEROS if counts.get(name, 0) > 0]
    broken += [f"{name}: work of {number} faults never came through" for name, number in never.items() if number > 0]
    if broken:
        return Verdict.FAILED, tuple(broken)
    needed = max(5, round(LIVE_FAULTS_PER_MINUTE * minutes))
    weak = [] if live >= needed else [f"{live} faults on live work, {needed} are needed"]
    weak += [f"no {name} was injected" for name, number in injected.items() if number == 0]
    return (Verdict.INVALID, tuple(weak)) if weak else (Verdict.PASSED, ())
