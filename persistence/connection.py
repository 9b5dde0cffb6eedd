"""Our own Redis client: short timeouts and no silent re-sends."""

from __future__ import annotations

import re
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from persistence.store import StateMissing
from signals.errors import Permanent, Transient

COMMAND_TIMEOUT_S = 0.25
"""An engine must hear within half a second that nobody answers: one command may use half of that."""
PATIENT_TIMEOUT_S = 30.0
"""For what an operator waits for: rebuilding, and the reads and writes of a training."""
PASSING = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.BusyLoadingError,
    redis.ReadOnlyError,
    redis.OutOfMemoryError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
)
# What the client has no class for arrives as text that begins with the server's word for it.
PASSING_WORDS = frozenset({"BUSY", "MISCONF", "LOADING", "READONLY", "OOM", "MASTERDOWN", "NOREPLICAS", "TRYAGAIN"})
CLUSTERED = (redis.exceptions.AskError, redis.exceptions.ClusterCrossSlotError)  # AskError is the parent of MOVED
REFUSED = (
    redis.AuthenticationError,
    redis.exceptions.AuthorizationError,
    redis.exceptions.NoPermissionError,
)
_WORD = re.compile(r"(?:^|caused error: )([A-Z]+)\b")


def connect(url: str, *, timeout_s: float = COMMAND_TIMEOUT_S) -> redis.Redis:
    """A client that sends every command at most once.

    The library's default retries ten times; a reply lost after the commit would then apply a write twice. Our scripts
    recognise a replay, but nothing else in the client may rely on that.
    """
    return redis.Redis.from_url(
        url, retry=Retry(NoBackoff(), 0), socket_timeout=timeout_s, socket_connect_timeout=timeout_s
    )


def appendfsync(client: redis.Redis) -> str | None:
    """The server's sync policy, or none where it may not be asked: a role of ours may not, and asking is an alarm."""
    if client.connection_pool.connection_kwargs.get("username") not in (None, "", "default"):
        return None
    try:
        found = cast("dict[Any, Any]", client.config_get("appendfsync"))
    except redis.ResponseError:
        return None
    return {text(name): text(value) for name, value in found.items()}.get("appendfsync")


def as_failure(error: redis.RedisError) -> Transient | Permanent:
    """Whether the same command may succeed later."""
    said = str(error)
    if said.startswith("NOSTATE"):
        return StateMissing(said)
    if isinstance(error, CLUSTERED):
        return Permanent("redis: this is a cluster, where a script cannot reach all its keys: name a single primary")
    word = _WORD.search(said)
    # A wrong password is a kind of connection error to the client, but waiting does not mend it.
    passes = isinstance(error, PASSING) or (word is not None and word[1] in PASSING_WORDS)
    kind = Transient if passes and not isinstance(error, REFUSED) else Permanent
    return kind(f"redis: {type(error).__name__}: {error}")


def text(value: bytes | str) -> str:
    """A reply as text, whatever the client was told about decoding."""
    return value.decode("utf-8") if isinstance(value, bytes) else value
