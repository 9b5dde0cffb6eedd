"""What a strategy engine in Python calls: submit, wait, claim, report. Plain RQ producers need none of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import redis
from rq import Queue
from rq.job import Job
from rq.results import Result
from rq.serializers import JSONSerializer

from persistence.candle_feed import CandleFeed, place_order
from persistence.connection import COMMAND_TIMEOUT_S, as_failure, connect
from persistence.redis_store import RedisStore
from runtime.clock import pause, stopwatch
from runtime.report import ReportReply
from runtime.service import Service
from signals.candle import Candle
from signals.parse import identify
from signals.profile import DEFAULT_PROFILES, Profile
from signals.reasons import Reason
from signals.signal import LATEST_TS, SYMBOL_PATTERN, require
from signals.timeframe import timeframe_ms
from worker.follow import candle_text

JOB = "worker.jobs.process_signal"
RESULT_TTL_S = 500
WAIT_AT_ONCE_S = 0.2
"""How long one command waits for a result: a server that hangs is noticed this much later than by other commands."""
log = logging.getLogger(__name__)


def queue_name(namespace: str, name: str = "signals") -> str:
    """The queue of a namespace: the default one has the plain name."""
    return f"{namespace}.{name}" if namespace else name


@dataclass(frozen=True, slots=True)
class Ticket:
    """A submitted signal: the id it will be answered under, its content's fingerprint and the job that carries it."""

    signal_id: str
    fingerprint: str
    job: Job


class Client:
    """An engine's connection to one namespace. No answer means no trade."""

    def __init__(
        self,
        redis_url: str,
        *,
        namespace: str = "",
        queue: str = "signals",
        engine: str = "engine",
        profiles: Mapping[str, Profile] = DEFAULT_PROFILES,
        timeout_s: float = COMMAND_TIMEOUT_S,
    ) -> None:
        self.engine = engine
        connection = connect(redis_url, timeout_s=timeout_s)
        self.store = RedisStore(connection, namespace)
        self.feed = CandleFeed(connection, self.store.keys)
        self._service = Service(self.store, profiles)
        self._queue = Queue(queue_name(namespace, queue), connection=connection, serializer=JSONSerializer)
        self._waiting = connect(redis_url, timeout_s=timeout_s + WAIT_AT_ONCE_S)

    def submit(self, signal: Mapping[str, object]) -> Ticket:
        """Put a signal on the queue and return at once."""
        try:
            job = self._queue.enqueue(JOB, dict(signal), result_ttl=RESULT_TTL_S)
        except redis.RedisError as error:
            raise as_failure(error) from error
        return Ticket(*identify(signal), job)

    def wait(self, ticket: Ticket, timeout_s: float = 5.0) -> dict[str, object] | None:
        """Wait for the answer; none when it has not come in time, and no answer means no trade."""
        deadline, key = stopwatch() + timeout_s, Result.get_key(ticket.job.id)  # type: ignore[no-untyped-call]
        result, left = None, timeout_s
        try:
            while result is None and left > 0.0:
                wait_ms = max(1, round(1000 * min(left, WAIT_AT_ONCE_S)))
                if self._waiting.xread({key: "0-0"}, count=1, block=wait_ms):
                    result = ticket.job.latest_result()
                left = deadline - stopwatch()
        except redis.RedisError as error:
            raise as_failure(error) from error
        if result is not None and result.return_value is not None:
            return cast("dict[str, object]", result.return_value)
        # The job may have died after its commit: the ledger has the answer then, unless it is one to other content.
        recorded = self.store.decision(ticket.signal_id)
        if recorded and recorded.signal_id == ticket.signal_id and recorded.fingerprint != ticket.fingerprint:
            return None
        return self.answer(ticket.signal_id)

    def ask(self, signal: Mapping[str, object], timeout_s: float = 5.0) -> dict[str, object] | None:
        """Submit and wait."""
        return self.wait(self.submit(signal), timeout_s)

    def answer(self, signal_id: str) -> dict[str, object] | None:
        """The recorded answer to an id."""
        return self._service.answer(signal_id)

    def claim(self, signal_id: str) -> Reason:
        """Ask for the go; send the order only on ``CLAIM_GO``. After ``CLAIM_UNSAFE`` it may be asked for again."""
        return self._service.claim(signal_id, self.engine)

    def report_fill(self, signal_id: str, **report: object) -> ReportReply:
        """Report a fill: price, ts, and when known quantity, fee, currency, venue_id. Quantity 0: not filled."""
        return self._service.fill({"signal_id": signal_id, **report})

    def report_close(self, signal_id: str, **report: object) -> ReportReply:
        """Report a close: price, ts, reason (tp, sl, timeout, manual), and when known quantity, fee, venue_id."""
        return self._service.close({"signal_id": signal_id, **report})

    def candle(self, symbol: str, timeframe: str, candle: Candle) -> str:
        """Hand on a candle; returns its place in the feed. Only a closed one moves positions and a data clock."""
        step_ms = timeframe_ms(timeframe)
        # A data clock never goes back: one candle with seconds or microseconds for ts would stop it for ever.
        require(SYMBOL_PATTERN.fullmatch(symbol) is not None, Reason.FIELD_FORMAT, "symbol")
        require(0 <= candle.ts <= LATEST_TS - step_ms, Reason.FIELD_RANGE, "ts", "epoch milliseconds")
        known_ms = candle.ts + step_ms if candle.final else candle.ts
        return self.store.feed(symbol, timeframe, candle_text(candle), known_ms)

    def await_followed(self, place: str, timeout_s: float = 30.0) -> bool:
        """Wait until the follower has taken the candle at a place."""
        wanted, deadline = place_order(place), stopwatch() + timeout_s
        while place_order(self.feed.followed_to()) < wanted:
            if stopwatch() > deadline:
                return False
            pause(0.002)
        return True
