"""One namespace's use cases behind one door: what the queue, the client and the command line call."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from persistence.store import Control, Mode, Store
from runtime.judge import Judge, answer_from
from runtime.report import ReportReply, Reports
from runtime.shelf import Shelf
from signals.errors import Refusal
from signals.profile import Profile
from signals.reasons import Reason


class Service:
    """Judge, claim, report, control: safe to call any number of times with the same words."""

    def __init__(
        self,
        store: Store,
        profiles: Mapping[str, Profile],
        *,
        shelf: Shelf | None = None,
        reset: Callable[[], object] = lambda: None,
    ) -> None:
        self.store = store
        self._reset = reset
        self._judge = Judge(store, profiles, shelf=shelf)
        self._reports = Reports(store)

    def judge(self, payload: object) -> dict[str, object]:
        """Answer a decoded payload."""
        return self._judge.judge(payload).as_dict()

    def refuse(self, raw: bytes, refusal: Refusal) -> dict[str, object]:
        """Record and answer bytes that never became a payload."""
        return self._judge.refuse(raw, refusal).as_dict()

    def give_up(self, payload: object, reason: Reason) -> dict[str, object]:
        """Answer a payload whose score never came."""
        # Broken off anywhere, also between a command and its reply: the next command would be given that reply.
        self._reset()
        return self._judge.give_up(payload, reason).as_dict()

    def answer(self, signal_id: str) -> dict[str, object] | None:
        """The recorded answer to an id, or none."""
        decision = self.store.decision(signal_id)
        return None if decision is None else answer_from(decision, asked=signal_id).as_dict()

    def claim(self, signal_id: str, engine: str) -> Reason:
        """Ask for the go before an order is sent; anything but ``CLAIM_GO`` means: send nothing.

        ``CLAIM_UNSAFE``: the claim stands, but whether it would survive a power cut is not known; ask again.
        """
        return self.store.claim(signal_id, engine, now_ms=self.store.now_ms())

    def fill(self, report: object) -> ReportReply:
        """Take a fill report."""
        return self._reports.fill(report)

    def close(self, report: object) -> ReportReply:
        """Take a close report."""
        return self._reports.close(report)

    def set_mode(self, mode: Mode, *, actor: str, reason: str, expected: int | None = None) -> Control:
        """Change the mode; with ``expected`` only while that generation is in force."""
        return self.store.set_mode(mode, actor=actor, reason=reason, now_ms=self.store.now_ms(), expected=expected)
