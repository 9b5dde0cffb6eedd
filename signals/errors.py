"""Failures that may cross a room: retry helps, or it does not."""

from __future__ import annotations

from dataclasses import dataclass

from signals.reasons import Reason


class PenumbraError(Exception):
    """Base of every error raised on purpose."""


class Transient(PenumbraError):  # noqa: N818 - the two kinds are the field's words
    """The same call may succeed later: a lost connection, a server that is starting."""


class Permanent(PenumbraError):  # noqa: N818
    """The same call will fail again: it goes to the dead letters."""


class Invalid(Permanent):
    """A value that breaks a rule of its type; says which rule and which field."""

    def __init__(self, reason: Reason, field: str, detail: str = "") -> None:
        super().__init__(f"{reason.value} at {field}: {detail}" if detail else f"{reason.value} at {field}")
        self.reason = reason
        self.field = field
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Refusal:
    """An expected no: the reason code, the field that broke it, and what was seen, fit to show a person."""

    reason: Reason
    field: str
    detail: str = ""

    @classmethod
    def of(cls, error: Invalid) -> Refusal:
        """Turn the error of a value type into the value an answer carries."""
        return cls(error.reason, error.field, error.detail)
