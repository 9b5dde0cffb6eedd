"""Whether a candidate may take over: the rule behind which the Lab puts its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from learning.metrics import Metrics

LOG_LOSS_SLACK = 0.02
"""Nats that a candidate may be worse than the base rate (SPEC 6): less than that is noise at a few hundred records."""
LOWEST_AUC = 0.5


class Decline(StrEnum):
    """Why there is no new model: stable codes."""

    SINGLE_CLASS = "LEARN_SINGLE_CLASS"
    TOO_FEW = "LEARN_TOO_FEW"
    SCHEMA = "LEARN_SCHEMA"
    UNMEASURED = "LEARN_UNMEASURED"
    WORSE_THAN_BASE = "LEARN_WORSE_THAN_BASE"
    AUC = "LEARN_AUC"
    CONSTANT = "LEARN_CONSTANT"
    NO_SKILL = "LEARN_NO_SKILL"
    RULES_ONLY = "LEARN_RULES_ONLY"
    LEAK = "LEARN_LEAK"
    LEAK_SUSPECT = "LEAK_SUSPECT"
    REBUILT = "LEARN_REBUILT"


@dataclass(frozen=True, slots=True)
class Declined:
    """Training gave no model: the code, a sentence fit to show, and the figures as far as they were measured.

    ``importance`` is that of the fold heads, none when none were trained; ``ensemble`` tells as JSON values how a stack
    stood that showed no skill.
    """

    code: Decline
    detail: str
    metrics: Metrics | None = None
    importance: Mapping[str, float] | None = None
    ensemble: Mapping[str, Any] | None = None

    @property
    def reason(self) -> str:
        """The stable code as text."""
        return self.code.value


PromotionRule = Callable[[Metrics], Declined | None]


def promote(metrics: Metrics) -> Declined | None:
    """Decide on out-of-fold figures whether a candidate may be published.

    Parameters
    ----------
    metrics : Metrics of out-of-fold forecasts

    Returns
    -------
    None if it may, else why not; the incumbent then stays

    Source: SPEC 6.
    """
    if metrics.auc is None:
        return Declined(Decline.UNMEASURED, "the out-of-fold records hold one class only", metrics)
    # Written as what must hold: a figure that is no number declines.
    if not metrics.log_loss <= metrics.base_log_loss + LOG_LOSS_SLACK:
        detail = f"log-loss {metrics.log_loss:.4f} against {metrics.base_log_loss:.4f} of the base rate"
        return Declined(Decline.WORSE_THAN_BASE, detail, metrics)
    if not metrics.auc >= LOWEST_AUC:
        return Declined(Decline.AUC, f"AUC {metrics.auc:.3f}: it ranks losses above wins", metrics)
    return None
