"""How one way of making an ensemble stands: figures on rows its heads had not seen, and the gate that reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from learning.metrics import Metrics
from learning.promote import Decline, Declined
from learning.skill import Skill
from scorer.ensemble import Stack
from signals.method import Method


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Standing:
    """One method's forecasts before calibration.

    ``blocked`` judges heads that knew every other block, ``walk_forward`` and ``skill`` those that knew earlier ones
    only; ``members`` each head alone, blocked. ``stack`` is none where the heads count alike.
    """

    method: Method
    blocked: Metrics
    members: dict[str, Metrics]
    walk_forward: Metrics | None
    skill: Skill | None
    stack: Stack | None

    @property
    def record(self) -> dict[str, Any]:
        """The same as JSON values; of a head alone only what tells it from another."""
        alone = {
            name: {"brier_skill": one.brier_skill, "log_loss": one.log_loss, "auc": one.auc}
            for name, one in self.members.items()
        }
        stack = self.stack
        return {
            "method": self.method.value,
            "blocked": self.blocked.record,
            "members": alone,
            "walk_forward": None if self.walk_forward is None else self.walk_forward.record,
            "skill": None if self.skill is None else self.skill.record,
            "weights": None if stack is None else dict(zip(self.members, stack.weights.tolist(), strict=True)),
            "trust": None if stack is None else stack.trust,
            "base": None if stack is None else stack.base,
        }


@dataclass(frozen=True, slots=True)
class SkillGate:
    """The rule of the evidence: published once the lower bound of skill, walking forward, is above 0.

    Until then the incumbent stays, and where there is none the heuristic answers.

    Source: STATISTICS 9 (5); SPEC 6 (who may execute).
    """

    skill: Skill | None

    def __call__(self, metrics: Metrics) -> Declined | None:
        """Decide whether a candidate may be published.

        Parameters
        ----------
        metrics : Metrics of out-of-fold forecasts, kept with a refusal
        """
        if self.skill is None:
            return Declined(Decline.UNMEASURED, "too few outcomes to walk forward over", metrics)
        if not self.skill.shown:
            return Declined(Decline.NO_SKILL, str(self.skill), metrics)
        return None
