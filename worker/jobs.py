"""Entry points of the queue: unpack, call one use case, let what is unexpected be loud."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from signals.errors import Invalid, Permanent, Refusal
from signals.reasons import Reason


class Judging(Protocol):
    """The use cases the intake needs; both answers are JSON objects with ``action`` and ``reasons``."""

    def judge(self, payload: object) -> dict[str, object]:
        """Answer a decoded payload; the same payload again gets the same answer."""
        ...

    def refuse(self, raw: bytes, refusal: Refusal) -> dict[str, object]:
        """Record bytes that were never decoded into a signal and answer ``rejected``."""
        ...

    def give_up(self, payload: object, reason: Reason) -> dict[str, object]:
        """Record and answer a payload whose score never came: phantom, or the answer it has had before."""
        ...


class Reporting(Protocol):
    """The use case that a report's job needs."""

    def gate_report(self, profile: str, slot: str) -> dict[str, object]:
        """Compute and keep the gate report of a slot, once; the second time the kept one answers."""
        ...


# RQ calls a job by name and passes nothing but the payload: the services arrive beside it. Set by `serving` alone.
_SERVICE: ContextVar[Judging] = ContextVar("penumbra_service")

_REPORTER: ContextVar[Reporting | None] = ContextVar("penumbra_reporter", default=None)


@contextmanager
def serving(service: Judging, reporter: Reporting | None = None) -> Iterator[None]:
    """Let the jobs run inside this block reach ``service``, and ``reporter`` where this worker makes reports."""
    token, told = _SERVICE.set(service), _REPORTER.set(reporter)
    try:
        yield
    finally:
        _REPORTER.reset(told)
        _SERVICE.reset(token)


def service() -> Judging:
    """The service of the worker that runs this job."""
    try:
        return _SERVICE.get()
    except LookupError:
        raise RuntimeError("signal jobs run inside a GateWorker, which brings their service") from None


def process_signal(payload: object) -> dict[str, object]:
    """Judge one signal and return its answer, which RQ keeps as the job's result."""
    return service().judge(payload)


def gate_report_job(payload: object) -> dict[str, object]:
    """Report on the gates of ``{"profile": …, "slot": …}`` and return what was found in short."""
    if not isinstance(payload, dict) or payload.keys() != {"profile", "slot"}:
        raise Invalid(Reason.FIELD_FORMAT, "payload", "expected profile and slot")
    profile, slot = payload["profile"], payload["slot"]
    if not isinstance(profile, str) or not isinstance(slot, str):
        raise Invalid(Reason.FIELD_TYPE, "payload", "profile and slot are text")
    reporter = _REPORTER.get()
    if reporter is None:
        # A search takes seconds: a worker that answers signals must never be the one to do it.
        raise Permanent("this worker makes no reports")
    return reporter.gate_report(profile, slot)
