"""What a policy wishes for, put in the place of what the gate wanted, and what limits and breakers leave of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from decision.decide import Action
from persistence.memory_store import MemoryStore
from persistence.store import DecideCommand, DecideReply, DecideStatus
from signals.reasons import Reason

Wishes = Mapping[str, bool]
"""Whether a policy wants to execute, by signal id."""
RULES_ALONE = "RULES_ALONE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limited:
    """A policy under limits and breakers: the signals let through, and why wanted ones were not, by reason."""

    accepted: frozenset[str]
    refused: Mapping[str, int]


def wishing(command: DecideCommand, wish: bool | None) -> DecideCommand:  # noqa: FBT001 - a wish is one or none
    """A decision as another policy would have it; without a wish as the gate itself."""
    if wish is None:
        return command
    # A policy that is tried is no model: ML_OFF and rules-only breakers have nothing to take away from it.
    action = Action.EXECUTE if wish else Action.PHANTOM
    return replace(command, want=action, alternative=action, ensemble=False, explored=False)


class WishStore(MemoryStore):
    """A store for a replay in which a policy's wishes stand in the place of the gate's own, where there are any."""

    def __init__(self, wishes: Wishes) -> None:
        super().__init__("replay", keep_facts=False)
        self._wishes = wishes
        self._executed: set[str] = set()
        self._refused: Counter[str] = Counter()

    def decide(self, command: DecideCommand) -> DecideReply:
        """Commit the policy's wish in the place of the gate's."""
        if command.want is Action.REJECTED:
            return super().decide(command)
        command = wishing(command, self._wishes.get(command.signal_id))
        wants = command.want is Action.EXECUTE
        reply = super().decide(command)
        if reply.status is DecideStatus.DONE and reply.decision.action is Action.EXECUTE:
            self._executed.add(command.signal_id)
        elif reply.status is DecideStatus.DONE and wants:
            barred = [reason.value for reason in reply.decision.reasons if reason not in command.reasons]
            self._refused[barred[0] if barred else RULES_ALONE] += 1
        return reply

    def claim(self, signal_id: str, engine: str, *, now_ms: int) -> Reason:
        """Ask for the go; a position without one is not executed."""
        said = super().claim(signal_id, engine, now_ms=now_ms)
        if said is not Reason.CLAIM_GO:
            self._executed.discard(signal_id)
            self._refused[said.value] += 1
        return said

    def limited(self) -> Limited:
        """What the replay let through."""
        return Limited(accepted=frozenset(self._executed), refused=dict(self._refused))
