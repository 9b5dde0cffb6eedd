"""The answer an engine gets: one shape for every signal, whatever became of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from decision.decide import Action
from signals.reasons import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """SPEC 3. Times in epoch ms of the namespace's clock; ``latency_ms`` is wall time inside the worker.

    ``explored``: an execute that its score alone would have refused; ``propensity`` is how probable that was.
    ``field`` and ``detail`` are set on refusals: the field that broke a rule, and what was seen.
    """

    signal_id: str
    action: Action
    reasons: tuple[Reason, ...]
    decided_at: int
    score: float | None = None
    win_probability: float | None = None
    threshold: float | None = None
    threshold_source: str | None = None
    score_source: str | None = None
    bucket: str | None = None
    size_multiplier: float | None = None
    explored: bool = False
    propensity: float | None = None
    expected_return_r: float | None = None
    p_stop: float | None = None
    bundle: str | None = None
    position_id: str | None = None
    expires_at: int | None = None
    latency_ms: float | None = None
    field: str | None = None
    detail: str | None = None

    @property
    def executes(self) -> bool:
        """Whether the engine may claim this decision."""
        return self.action is Action.EXECUTE

    def as_dict(self) -> dict[str, object]:
        """Plain JSON-able form, in the order of the fields."""
        plain = asdict(self)
        plain["action"] = self.action.value
        plain["reasons"] = [reason.value for reason in self.reasons]
        return plain
