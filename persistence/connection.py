"""Our own Redis client: short timeouts and no silent re-sends."""

from __future__ import annotations

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from persistence.store import StateMissing
from signals.errors import Permanent, Transient

COMMAND_TIMEOUT_S = 2.0
PASSING = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.BusyLoadingError,
    redis.ReadOnlyError,
    redis.OutOfMemoryError,
)


def connect(url: str, *, timeout_s: float = COMMAND_TIMEOUT_S) -> redis.Redis:
    """A client that sends every command at most once.

    The library's default retries ten times; a reply lost after the commit would then apply a write twice. Our scripts
    recognise a replay, but nothing else in the client may rely on that.
    """
    return redis.Redis.from_url(
        url, retry=Retry(NoBackoff(), 0), socket_timeout=timeout_s, socket_connect_timeout=timeout_s
    )


def as_failure(error: redis.RedisError) -> Transient | Permanent:
    """Whether the same command may succeed later."""
    if str(error).startswith("NOSTATE"):
        return StateMissing(str(error))
    kind = Transient if isinstance(error, PASSING) else Permanent
    return kind(f"redis: {type(error).__name__}: {error}")


def text(value: bytes | str) -> str:
    """A reply as text, whatever the client was told about decoding."""
    return value.decode("utf-8") if isinstance(value, bytes) else value
