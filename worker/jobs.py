"""Entry points of the queue: unpack, call one use case, let what is unexpected be loud."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from signals.errors import Refusal
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


# RQ calls a job by name and passes nothing but the payload: the service arrives beside it. Set by `serving` alone.
_SERVICE: ContextVar[Judging] = ContextVar("penumbra_service")


@contextmanager
def serving(service: Judging) -> Iterator[None]:
    """Let the jobs run inside this block reach ``service``."""
    token = _SERVICE.set(service)
    try:
        yield
    finally:
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
