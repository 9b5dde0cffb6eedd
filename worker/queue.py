"""Strict intake: producers use stock RQ, and nothing they can write is trusted, imported or unpickled."""

from __future__ import annotations

import faulthandler
import json
import logging
import re
import signal
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from types import FrameType, MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from rq import Queue, SimpleWorker, worker_registration
from rq.exceptions import DeserializationError, NoSuchJobError
from rq.executions import Execution, ExecutionRegistry
from rq.job import Job, JobStatus
from rq.timeouts import BaseDeathPenalty
from rq.utils import now, utcparse

from signals.errors import Invalid, Permanent, Refusal, Transient
from signals.parse import MAX_PAYLOAD_BYTES, MAX_PAYLOAD_DEPTH, decode_json, printable
from signals.reasons import Reason
from worker import jobs
from worker.jobs import Judging, Reporting

if TYPE_CHECKING:
    from redis import Redis
    from redis.client import Pipeline

__all__ = ["ALLOWED_JOBS", "AllowlistJob", "GateQueue", "GateWorker", "JobTimedOut", "Judging", "StrictSerializer"]

log = logging.getLogger(__name__)

SIGNAL_JOB = "worker.jobs.process_signal"
ALLOWED_JOBS: Mapping[str, Callable[[object], dict[str, object]]] = MappingProxyType(
    {SIGNAL_JOB: jobs.process_signal, "worker.jobs.gate_report_job": jobs.gate_report_job}
)
# Not a mistake of a producer but somebody else's code: it is kept for inspection instead of answered.
DEAD_LETTERED = frozenset({Reason.PAYLOAD_PICKLED, Reason.JOB_NOT_ALLOWED})

MAX_JOB_BYTES = MAX_PAYLOAD_BYTES
# RQ wraps the payload as [function, instance, [payload], {}]: two levels around it.
MAX_JOB_DEPTH = MAX_PAYLOAD_DEPTH + 2
# Every pickle protocol RQ has ever written starts with this opcode; it is not UTF-8, so no JSON can.
PICKLE_MARK = b"\x80"

TRANSIENT_RETRIES = 2
# A server that is busy, full or just restarting; all of it is well within a job's limit and a signal's life.
TRANSIENT_PAUSES_S = (0.1, 0.2, 0.4, 0.8)
# A job that kills its worker must not kill every worker after it.
MAX_RETURNS = 3
OVERRUN_GRACE_S = 3.0
"""After a job's limit, how long its answer may take to be recorded; then the process that runs it ends."""
LAST_RESORT_S = 1.0
STDERR = 2

_JOB_ID = re.compile(rb"[A-Za-z0-9_-]{1,256}")
_STARTED_ENTRY = re.compile(rb"[A-Za-z0-9_-]{1,256}:[A-Za-z0-9_-]{1,64}")
_MAX_FIELD_BYTES = 1024
# The server copies a value into its script engine to cut it; beyond this size even the beginning is not read.
_MAX_CUT_BYTES = 16 * 1024 * 1024
_RETURNS_FIELD = "gate_returns"
_OVERRAN_FIELD = "gate_overran"
_SCAN_LIMIT = 1000

# Reads wanted fields of a hash, each cut by the server: (true length, beginning) per field, or nothing.
_READ_BOUNDED = """
local found = {}
if redis.call('TYPE', KEYS[1])['ok'] ~= 'hash' then return found end
local keep, give_up = tonumber(ARGV[1]), tonumber(ARGV[2])
for i = 3, #ARGV do
  local size = redis.call('HSTRLEN', KEYS[1], ARGV[i])
  local value = ''
  if size <= give_up then value = redis.call('HGET', KEYS[1], ARGV[i]) end
  if value and size > keep then value = string.sub(value, 1, keep) end
  found[#found + 1] = size
  found[#found + 1] = value
end
return found
"""

# One atomic step: a sweeper that dies half way must not lose the job, and only one of two sweepers may return it.
_GIVE_BACK = """
local held = redis.call('LREM', KEYS[2], 0, ARGV[1])
if ARGV[2] ~= '' then
  held = held + redis.call('ZREM', KEYS[1], ARGV[2])
  redis.call('DEL', KEYS[5])
  redis.pcall('ZREM', KEYS[6], ARGV[3])
end
if held == 0 or redis.call('TYPE', KEYS[4])['ok'] ~= 'hash' then return 0 end
local status = redis.call('HGET', KEYS[4], 'status')
if status == 'finished' or status == 'failed' or status == 'stopped' or status == 'canceled' then return 0 end
local returns = string.match(redis.call('HGET', KEYS[4], ARGV[4]) or '0', '^%d%d?%d?$') or '0'
redis.call('HSET', KEYS[4], 'status', 'queued', ARGV[4], returns + 1)
redis.call('LPUSH', KEYS[3], ARGV[1])
return 1
"""

# Writes on what is there only: a hash that comes into being here would never expire.
_BURY = """
if redis.call('TYPE', KEYS[1])['ok'] == 'hash' then redis.call('HSET', KEYS[1], 'death', redis.call('TIME')[1]) end
if redis.call('TYPE', KEYS[2])['ok'] == 'hash' then redis.call('HSET', KEYS[2], ARGV[1], '1') end
return 1
"""


class StrictSerializer:
    """RQ serializer: JSON without NaN on the way out, strict and bounded JSON on the way in."""

    @staticmethod
    def dumps(value: object, /) -> bytes:
        """Encode; a value JSON cannot carry exactly raises."""
        return json.dumps(value, allow_nan=False).encode("utf-8")

    @staticmethod
    def loads(data: bytes, /) -> object:
        """Decode, or raise ``Invalid`` with the reason."""
        return decode_json(data, max_bytes=MAX_JOB_BYTES, max_depth=MAX_JOB_DEPTH)


def inflate(wire: bytes, stored_bytes: int) -> bytes:
    """Decompress a job's stored data without ever holding more than the limit; raises ``Invalid``."""
    if stored_bytes > MAX_JOB_BYTES:
        raise Invalid(Reason.PAYLOAD_TOO_LARGE, "payload", f"{stored_bytes} bytes stored, {MAX_JOB_BYTES} allowed")
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(wire, MAX_JOB_BYTES + 1)
    except zlib.error:
        # RQ's own rule: what is not zlib was stored plain.
        return wire
    if len(data) > MAX_JOB_BYTES:
        raise Invalid(Reason.PAYLOAD_TOO_LARGE, "payload", f"more than {MAX_JOB_BYTES} bytes inflated")
    if not stream.eof or stream.unused_data:
        raise Invalid(Reason.PAYLOAD_NOT_JSON, "payload", "compressed data cut short or followed by other bytes")
    return data


def open_envelope(data: bytes) -> tuple[str, object]:
    """Decode RQ's ``[function, instance, args, kwargs]`` into an allowed name and its one payload."""
    if data.startswith(PICKLE_MARK):
        raise Invalid(Reason.PAYLOAD_PICKLED, "payload", "producers must use RQ's JSONSerializer")
    envelope = StrictSerializer.loads(data)
    if not isinstance(envelope, list) or len(envelope) != 4:
        raise Invalid(Reason.PAYLOAD_ARITY, "payload", "not [function, instance, args, kwargs]")
    name, instance, args, kwargs = envelope
    if not isinstance(name, str) or name not in ALLOWED_JOBS:
        raise Invalid(Reason.JOB_NOT_ALLOWED, "function", printable(str(name)))
    if instance is not None:
        raise Invalid(Reason.JOB_NOT_ALLOWED, "instance", type(instance).__name__)
    if not isinstance(args, list) or len(args) != 1:
        raise Invalid(Reason.PAYLOAD_ARITY, "args", "exactly one positional payload")
    if not isinstance(kwargs, dict) or kwargs:
        raise Invalid(Reason.PAYLOAD_ARITY, "kwargs", "no keyword arguments")
    return name, args[0]


def _like(pattern: bytes) -> Callable[[bytes], bool]:
    compiled = re.compile(pattern)
    return lambda value: compiled.fullmatch(value) is not None


def _is_moment(value: bytes) -> bool:
    try:
        utcparse(value.decode("ascii"))
    except ValueError:
        return False
    return True


# All that is ever read from a job's hash besides its data, with the form it must have to be believed. Callbacks,
# webhooks, meta, results, dependencies and retry intervals are absent on purpose: each is a door, none is needed.
_BELIEVED: Mapping[str, Callable[[bytes], bool]] = MappingProxyType(
    {
        "created_at": _is_moment,
        "enqueued_at": _is_moment,
        "started_at": _is_moment,
        "ended_at": _is_moment,
        "last_heartbeat": _is_moment,
        "status": frozenset(status.value.encode() for status in JobStatus).__contains__,
        "description": _like(rb"[ -~]{1,256}"),
        "worker_name": _like(rb"[A-Za-z0-9_.:-]{1,128}"),
        "timeout": _like(rb"[1-9][0-9]{0,6}"),
        "result_ttl": _like(rb"-1|[0-9]{1,7}"),
        "failure_ttl": _like(rb"-1|[0-9]{1,8}"),
        "ttl": _like(rb"[1-9][0-9]{0,7}"),
        "retries_left": _like(rb"[0-9]"),
        "number_of_retries": _like(rb"[0-9]"),
    }
)
_WANTED = ("data", *_BELIEVED, _RETURNS_FIELD, _OVERRAN_FIELD)


class AllowlistJob(Job):
    """An RQ job that runs allowed functions on one strictly decoded payload, and reads nothing else."""

    def __init__(self, id: str | None = None, connection: Redis | None = None, serializer: object = None) -> None:  # noqa: A002, ARG002 - RQ's names; no other serializer is accepted
        super().__init__(id, connection, StrictSerializer)
        self.returns = 0
        self.overran = False
        self._unreadable: Invalid | None = None

    def refresh(self) -> None:
        """Read the hash, every field cut by the server."""
        reply = cast(
            "list[Any]",
            self.connection.eval(_READ_BOUNDED, 1, self.key, str(MAX_JOB_BYTES + 1), str(_MAX_CUT_BYTES), *_WANTED),
        )
        sizes, values = reply[::2], reply[1::2]
        found = {name: value for name, value in zip(_WANTED, values, strict=bool(values)) if value is not None}
        if "data" not in found:
            raise NoSuchJobError(f"No such job: {self.key}")
        self.restore(found, stored_bytes=sizes[0])

    @classmethod
    def fetch_many(cls, job_ids: Iterable[str], connection: Redis, serializer: object = None) -> list[Job | None]:  # noqa: ARG003
        """Fetch one by one: RQ's own bulk read has no bound on size."""

        def fetch(job_id: str) -> Job | None:
            try:
                return cls.fetch(job_id, connection=connection)
            except NoSuchJobError:
                return None

        return [fetch(job_id) for job_id in job_ids]

    def restore(self, raw_data: Mapping[str, bytes], *, stored_bytes: int | None = None) -> None:
        """Take over the believable fields and the inflated data; never raises for what they contain."""
        clean: dict[str, bytes] = {"data": b""}
        for name, believable in _BELIEVED.items():
            value = raw_data.get(name)
            if value is not None and len(value) <= _MAX_FIELD_BYTES and believable(value):
                clean[name] = value
        super().restore(clean)
        returns = raw_data.get(_RETURNS_FIELD, b"0")
        self.returns = int(returns) if re.fullmatch(rb"[0-9]{1,3}", returns) else 0
        self.overran = raw_data.get(_OVERRAN_FIELD) == b"1"
        wire = raw_data["data"]
        self._unreadable = None
        try:
            self.data = inflate(wire, len(wire) if stored_bytes is None else stored_bytes)
        except Invalid as error:
            self._unreadable = error
            # What is saved back with the job is this beginning: a bomb does not stay in Redis.
            self.data = wire[:MAX_JOB_BYTES]

    def _open(self) -> tuple[str, object]:
        if self._unreadable is not None:
            raise self._unreadable
        return open_envelope(self.data)

    def _deserialize_data(self) -> None:
        try:
            name, payload = self._open()
        except Invalid as error:
            raise DeserializationError(str(error)) from error
        self._func_name, self._instance, self._args, self._kwargs = name, None, (payload,), {}

    @property
    def func_name(self) -> str | None:
        """The function's name once decoded: RQ logs it before the job's time limit runs, so it decodes nothing."""
        return self._func_name if isinstance(self._func_name, str) else "undecoded"

    @func_name.setter
    def func_name(self, value: str) -> None:
        self._func_name = value

    @property
    def func(self) -> Callable[[object], dict[str, object]]:
        """The allowed function, looked up and never imported by name."""
        return ALLOWED_JOBS[self._open()[0]]

    @property
    def success_callback(self) -> None:
        """None, whatever the hash says."""

    @property
    def failure_callback(self) -> None:
        """None, whatever the hash says."""

    @property
    def stopped_callback(self) -> None:
        """None, whatever the hash says."""

    def _execute(self) -> dict[str, object]:
        try:
            answer = self._within_limit()
            # RQ would store an answer it cannot encode as the text "Unserializable return value", and call it success.
            StrictSerializer.dumps(answer)
        except Permanent:
            self.retries_left = None
            raise
        except Transient:
            if self.retries_left is None:
                self.retries_left = TRANSIENT_RETRIES
            raise
        return answer

    def _within_limit(self) -> dict[str, object]:
        try:
            return self._patiently()
        except JobTimedOut as error:
            log.error("job %s: %s", self.id, error)  # noqa: TRY400 - where it was broken off says little
            # The alarm may have come between a command and its reply.
            self.connection.connection_pool.disconnect(inuse_connections=False)
            return self._answer(Reason.SCORE_TIMEOUT)

    def _patiently(self) -> dict[str, object]:
        for pause_s in TRANSIENT_PAUSES_S:
            try:
                return self._answer(Reason.SCORE_TIMEOUT if self.overran else None)
            except Transient as error:
                log.warning("job %s waits %.1f s: %s", self.id, pause_s, error)
                time.sleep(pause_s)
        return self._answer(Reason.SCORE_TIMEOUT if self.overran else None)

    def _answer(self, unscored: Reason | None) -> dict[str, object]:
        # RQ reads these to log a failure; nothing may be decoded outside the time limit that runs here.
        self._args, self._kwargs = (), {}
        try:
            name, payload = self._open()
        except Invalid as error:
            answer = jobs.service().refuse(self.data, Refusal.of(error))
            if error.reason in DEAD_LETTERED:
                raise
            return answer
        if name != SIGNAL_JOB:
            return self._report(name, payload, unscored)
        if self.returns > MAX_RETURNS:
            jobs.service().give_up(payload, Reason.SCORE_CRASHED)
            # An operator who requeues it from the failed registry starts counting anew.
            self.connection.hdel(self.key, _RETURNS_FIELD)
            raise Permanent(f"its worker died {self.returns} times while it ran")
        return ALLOWED_JOBS[name](payload) if unscored is None else jobs.service().give_up(payload, unscored)

    def _report(self, name: str, payload: object, unscored: Reason | None) -> dict[str, object]:
        """A job that is no signal: nobody waits for its answer, so that its end is a failure and no refusal."""
        if unscored is not None:
            raise Permanent(f"{name} took longer than its limit")
        if self.returns > MAX_RETURNS:
            self.connection.hdel(self.key, _RETURNS_FIELD)
            raise Permanent(f"its worker died {self.returns} times while it ran")
        return ALLOWED_JOBS[name](payload)


class JobTimedOut(BaseException):
    """The job's time is over. Not an ``Exception``: a scorer that catches those must not swallow it and answer."""


class JobDeathPenalty(BaseDeathPenalty):
    """Raise ``JobTimedOut`` in the main thread when the time is over, once."""

    def __init__(self, timeout: float, exception: type[BaseException] = JobTimedOut, **_: object) -> None:  # noqa: ARG002 - RQ asks for its own, an Exception
        super().__init__(timeout, JobTimedOut)  # type: ignore[no-untyped-call]
        self._armed = False

    def __exit__(self, *_: object) -> None:
        self.cancel_death_penalty()

    def setup_death_penalty(self) -> None:
        """Start the alarm."""
        signal.signal(signal.SIGALRM, self._fire)
        self._armed = True
        signal.setitimer(signal.ITIMER_REAL, self._timeout)

    def cancel_death_penalty(self) -> None:
        """Disarm first: an alarm already on its way then finds nothing to do. The handler stays, the default kills."""
        self._armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _fire(self, _signum: int, _frame: FrameType | None) -> None:
        if self._armed:
            # Once: a second alarm would hit the code that records the first.
            self._armed = False
            raise JobTimedOut(f"job exceeded its limit of {self._timeout} s")


class GateQueue(Queue):
    """The one queue of signals, as its workers see it."""

    job_class = AllowlistJob

    @classmethod
    def dequeue_any(  # type: ignore[override]
        cls, queues: Iterable[GateQueue], timeout: int | None, connection: Redis, **_: object
    ) -> tuple[AllowlistJob, GateQueue] | None:
        """Take the next job that exists; an id that is no id is recorded and dropped, never a reason to stop."""
        (queue,) = queues
        while True:
            popped = cls.lmove(connection, queue.key, timeout)
            if popped is None:
                return None
            job = queue._fetch_popped(popped[1])  # noqa: SLF001 - itself
            if job is not None:
                return job, queue

    def _fetch_popped(self, job_id: bytes) -> AllowlistJob | None:
        if _JOB_ID.fullmatch(job_id) is None:
            shown = printable(job_id[:64].decode("utf-8", "replace"))
            self._drop(job_id, "malformed id")
            try:
                jobs.service().refuse(job_id[:MAX_JOB_BYTES], Refusal(Reason.JOB_NOT_ALLOWED, "job_id", shown))
            except Transient:
                log.exception("a malformed job id could not be recorded: %s", shown)
            return None
        try:
            job = cast("AllowlistJob", self.job_class.fetch(job_id.decode("ascii"), connection=self.connection))
        except NoSuchJobError:
            self._drop(job_id, "its hash is gone")
            return None
        # The hash is the producer's word; registries and the intermediate list are those of the queue it came from.
        job.origin = self.name
        return job

    def _drop(self, job_id: bytes, why: str) -> None:
        log.warning("dropped job %r from queue %s: %s", job_id[:64], self.name, why)
        self.connection.lrem(self.intermediate_queue_key, 0, cast("str", job_id))

    def enqueue_dependents(self, job: Job, *_: object, **__: object) -> None:
        """Release nothing: dependents are jobs of unknown origin, and a signal's answer is read, not chained."""
        if self.connection.exists(job.dependents_key):
            log.error("job %s has dependents; this queue does not release them", job.id)


def open_queue(connection: Redis, name: str) -> GateQueue:
    """The queue as workers and in-house producers open it; other producers use stock RQ with JSONSerializer."""
    return GateQueue(
        name,
        connection=connection,
        job_class=AllowlistJob,
        serializer=StrictSerializer,
        death_penalty_class=JobDeathPenalty,
    )


def bury(connection: Redis, worker_name: str, overran: str | None = None) -> None:
    """Say that a worker is dead, so that nobody waits for its pulse, and which job outlasted its limit in it."""
    worker_key = SimpleWorker.redis_worker_namespace_prefix + worker_name
    connection.eval(_BURY, 2, worker_key, AllowlistJob.key_for(overran or ""), _OVERRAN_FIELD)


class Sweeper:
    """Returns jobs whose worker died to the head of the queue.

    RQ 2.12 itself would leave them for the job's timeout + 60 s and then *fail* them, or, caught between pop and
    start, for two maintenance passes and more than a minute. Running one twice is safe: the service recognises it.
    """

    def __init__(self, queue: GateQueue) -> None:
        self.queue = queue
        self._ownerless: frozenset[str] = frozenset()

    def sweep(self) -> tuple[str, ...]:
        """One pass; returns the ids put back. A job without a known owner is put back by the second pass to see it."""
        started = self._started()
        alive = self._alive({owner for owner, _ in started.values() if owner is not None})
        running: set[str] = set()
        abandoned: dict[str, str] = {}
        ownerless: dict[str, str] = {}
        for entry, (owner, expired) in started.items():
            job_id = entry.partition(":")[0]
            if expired or (owner is not None and owner not in alive):
                abandoned[job_id] = entry
            elif owner is None:
                ownerless[job_id] = entry
            else:
                running.add(job_id)
        for job_id in self._popped():
            if job_id not in running and job_id not in abandoned:
                ownerless.setdefault(job_id, "")
        abandoned |= {job_id: entry for job_id, entry in ownerless.items() if job_id in self._ownerless}
        self._ownerless = frozenset(ownerless) - abandoned.keys()
        # One that runs again elsewhere keeps its old entry until it has ended; then the entry is only unlisted.
        gone = {job_id: entry for job_id, entry in abandoned.items() if job_id not in running}
        return tuple(job_id for job_id, entry in gone.items() if self._give_back(job_id, entry))

    def _started(self) -> dict[str, tuple[str | None, bool]]:
        """Entries of the started registry, each with its worker's name and whether its time ran out long ago."""
        connection = self.queue.connection
        registry = self.queue.started_job_registry
        scored = cast("list[tuple[bytes, float]]", connection.zrange(registry.key, 0, _SCAN_LIMIT - 1, withscores=True))
        forged = [entry for entry, _ in scored if _STARTED_ENTRY.fullmatch(entry) is None]
        if forged:
            connection.zrem(registry.key, *forged)
        entries = {entry.decode("ascii"): score for entry, score in scored if entry not in forged}
        if not entries:
            return {}
        # The server's clock, as for the keys' expiry.
        now_s = connection.time()[0]
        with connection.pipeline(transaction=False) as pipe:
            for entry in entries:
                job_id, _, execution_id = entry.partition(":")
                pipe.hget(Execution(execution_id, job_id, connection).key, "worker_name")
                pipe.hget(AllowlistJob.key_for(job_id), "worker_name")
            names = pipe.execute(raise_on_error=False)
        owners = zip(names[::2], names[1::2], strict=True)
        return {
            entry: (_first_name(*pair), score < now_s)
            for (entry, score), pair in zip(entries.items(), owners, strict=True)
        }

    def _popped(self) -> list[str]:
        connection = self.queue.connection
        ids = cast("list[bytes]", connection.lrange(self.queue.intermediate_queue_key, 0, _SCAN_LIMIT - 1))
        for job_id in ids:
            if _JOB_ID.fullmatch(job_id) is None:
                connection.lrem(self.queue.intermediate_queue_key, 0, cast("str", job_id))
        return [job_id.decode("ascii") for job_id in ids if _JOB_ID.fullmatch(job_id) is not None]

    def _alive(self, names: set[str]) -> frozenset[str]:
        ordered = sorted(names)
        with self.queue.connection.pipeline(transaction=False) as pipe:
            for name in ordered:
                key = SimpleWorker.redis_worker_namespace_prefix + name
                # No expiry means no pulse: a late write re-created the key of a worker that is gone.
                pipe.ttl(key)
                pipe.hexists(key, "death")
            reply = pipe.execute(raise_on_error=False)
        pairs = zip(ordered, reply[::2], reply[1::2], strict=True)
        return frozenset(name for name, ttl_s, died in pairs if isinstance(ttl_s, int) and ttl_s >= 0 and died == 0)

    def _give_back(self, job_id: str, entry: str) -> bool:
        queue = self.queue
        execution_id = entry.partition(":")[2]
        returned = queue.connection.eval(
            _GIVE_BACK,
            6,
            queue.started_job_registry.key,
            queue.intermediate_queue_key,
            queue.key,
            AllowlistJob.key_for(job_id),
            Execution(execution_id, job_id, queue.connection).key,
            ExecutionRegistry(job_id, queue.connection).key,
            job_id,
            entry,
            execution_id,
            _RETURNS_FIELD,
        )
        if returned:
            log.warning("job %s returned to queue %s: its worker is gone", job_id, queue.name)
        return bool(returned)


def _first_name(*found: object) -> str | None:
    names = [value.decode("utf-8", "replace") for value in found if isinstance(value, bytes) and value]
    return names[0] if names else None


class GateWorker(SimpleWorker):
    """Works off one queue in its own process: no fork, no scheduler, no remote commands.

    No fork: native threads that were started before one are missing after it, and the first that waits for them hangs.
    """

    death_penalty_class = JobDeathPenalty
    queue_class = GateQueue
    job_class = AllowlistJob
    log_result_lifespan = False
    # RQ's minute of back-off would outlast every signal that waits.
    max_connection_wait_time = 2.0

    def __init__(
        self,
        queues: str | Queue | Sequence[str | Queue],
        *,
        connection: Redis,
        service: Judging,
        name: str | None = None,
        result_ttl_s: int = 500,
        failure_ttl_s: int = 86_400,
        job_timeout_s: int = 10,
        sweep_interval_s: int = 5,
        liveness_s: int = 10,
        upkeep: Callable[[], None] | None = None,
        tell: Callable[[str], None] = lambda _line: None,
        reporter: Reporting | None = None,
    ) -> None:
        listed = [queues] if isinstance(queues, (str, Queue)) else list(queues)
        if len(listed) != 1:
            # With two, RQ pops by BLPOP, and a job popped by a worker that dies is lost.
            raise Permanent(f"a worker serves exactly one queue, got {len(listed)}: start one for each")
        if min(failure_ttl_s, job_timeout_s, sweep_interval_s, liveness_s) < 1:
            raise ValueError("intervals are whole seconds, at least 1")
        self.service, self.reporter = service, reporter
        self.upkeep = upkeep
        self._tell = tell
        self.failure_ttl_s = failure_ttl_s
        self.job_timeout_s = job_timeout_s
        self.sweep_interval_s = sweep_interval_s
        self.liveness_s = liveness_s
        self._pulse_stopped = threading.Event()
        self._pulse: threading.Thread | None = None
        self._next_sweep_at = 0.0
        queue = open_queue(connection, listed[0] if isinstance(listed[0], str) else listed[0].name)
        super().__init__(
            [queue],
            name=name,
            connection=connection,
            default_result_ttl=result_ttl_s,
            maintenance_interval=15,
            worker_ttl=30,
            job_monitoring_interval=5,
            log_job_description=False,
            serializer=StrictSerializer,
        )
        self._sweeper = Sweeper(queue)

    def run(self, *, burst: bool = False) -> bool:
        """Work until SIGTERM, or in a burst until the queue is empty; true if any job was processed."""
        return self.work(burst=burst)

    def work(self, *args: Any, **kwargs: Any) -> bool:
        """RQ's loop with the service bound, and the process's signal handlers put back afterwards."""
        with ExitStack() as stack:
            stack.enter_context(jobs.serving(self.service, self.reporter))
            for signum in (signal.SIGINT, signal.SIGTERM):
                stack.callback(signal.signal, signum, signal.getsignal(signum))
            return super().work(*args, **kwargs)

    @property
    def stopped_on_request(self) -> bool:
        """Whether a signal asked for the end; false after the loop ended means it gave up, for instance on Redis."""
        return self._shutdown_requested_date is not None

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run one job under this worker's limits; a producer may ask for less time, not for more."""
        asked_s = self.job_timeout_s if job.timeout is None else job.timeout
        job.timeout = min(asked_s, self.job_timeout_s)
        # Stock RQ keeps failures for a year, and a producer could ask for ever.
        kept_s = self.failure_ttl_s if job.failure_ttl is None or job.failure_ttl < 0 else job.failure_ttl
        job.failure_ttl = min(kept_s, self.failure_ttl_s)
        limit_s = job.timeout + OVERRUN_GRACE_S
        self._tell(f"begin {job.id} {limit_s}")
        # Native code notices no alarm, and may let no other thread run either: the parent ends this process, and where
        # there is none, a watch that needs no interpreter. Dying is safe: the sweep gives the job to the next worker.
        faulthandler.dump_traceback_later(limit_s + LAST_RESORT_S, exit=True, file=STDERR)
        try:
            super().execute_job(job, queue)
        finally:
            faulthandler.cancel_dump_traceback_later()
            self._tell("end")

    def request_force_stop(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Ignore a second signal: RQ would break the running job and file it as failed. It ends soon by its limit."""
        self.log.warning("already stopping after the running job, %d s at most", self.job_timeout_s)

    def subscribe(self) -> None:
        """Listen to no commands: whoever can publish could otherwise stop this worker."""

    @property
    def dequeue_timeout(self) -> int:
        """How long one blocking pop lasts; short enough to keep the sweep on time."""
        return self.sweep_interval_s

    @property
    def should_run_maintenance_tasks(self) -> bool:
        """Whether a sweep is due, which is more often than RQ's own maintenance."""
        return time.monotonic() >= self._next_sweep_at

    def run_maintenance_tasks(self) -> None:
        """Sweep, do what else was asked for, and at RQ's interval forget expired entries."""
        self.sweep()
        if self.upkeep is not None:
            # What passes is tried again by the next pass; it is no reason to stop answering signals.
            with suppress(Transient):
                self.upkeep()
        if super().should_run_maintenance_tasks:
            self.clean_registries()

    def sweep(self) -> tuple[str, ...]:
        """Return abandoned jobs to the queue; the ids returned."""
        self._next_sweep_at = time.monotonic() + self.sweep_interval_s
        return self._sweeper.sweep()

    def clean_registries(self) -> None:
        """Forget expired results. Abandoned jobs are the sweep's matter: RQ's cleanup would fail them."""
        queue = self.queues[0]
        queue.finished_job_registry.cleanup()
        queue.failed_job_registry.cleanup()
        worker_registration.clean_worker_registry(queue)
        self.last_cleaned_at = now()  # type: ignore[assignment]  # RQ leaves it untyped

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:  # noqa: ARG002
        """Promise life for ``liveness_s`` only, whatever RQ asks: a dead worker's key must expire soon."""
        super().heartbeat(self.liveness_s, pipeline)

    def register_birth(self) -> None:
        """Enter the list of workers and start the pulse."""
        super().register_birth()  # type: ignore[no-untyped-call]
        self._tell(f"born {self.name}")
        self._pulse_stopped.clear()
        self._pulse = threading.Thread(target=self._beat_until_stopped, name=f"pulse-{self.name}", daemon=True)
        self._pulse.start()

    def register_death(self) -> None:
        """Stop the pulse first: a late beat would raise the dead."""
        self._pulse_stopped.set()
        if self._pulse is not None:
            self._pulse.join()
        super().register_death()  # type: ignore[no-untyped-call]

    def _beat_until_stopped(self) -> None:
        while not self._pulse_stopped.wait(self.liveness_s / 4):
            try:
                self._beat()
            except Exception as error:  # noqa: BLE001 - no outage of any kind may end the pulse of a living worker
                self.log.warning("heartbeat failed: %r", error)

    def _beat(self) -> None:
        with self.connection.pipeline() as pipe:
            self.heartbeat(pipeline=pipe)
            newly_set, *_ = pipe.execute()
            if newly_set:
                # The key had expired, for instance while the machine slept: enter the list again.
                pipe.hset(self.key, mapping=self.serialize())
                worker_registration.register(self, pipe)
                pipe.expire(self.key, self.liveness_s)
                pipe.execute()
