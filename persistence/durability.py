"""Whether what a connection has written would survive a power cut, asked of the server and not assumed.

``WAITAOF`` alone cannot say it: servers in the field acknowledge under ``everysec`` before they have synced (see the
decision note on claims). So its yes is necessary, and the server's own account of its background syncs is read too.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import redis

from persistence.connection import appendfsync
from persistence.local_sync import sync_log

LONGEST_WAIT_MS = 5_000
"""Of the server's time; two syncs that were both held up fit into it."""
STEP_MS = 100
"""How long one question may block: well within the time limit of a command."""
SYNC_PERIOD_MS = 1_000
TICK_MS = 150
"""The server looks at its clock ten times a second."""
MORE_REPLICAS_THAN_ANYBODY_HAS = 1_000
_log = logging.getLogger(__name__)


def is_on_disk(connection: redis.Redis) -> bool:
    """Wait until all that this one connection has written is on the disk; false when that is not sure in time.

    ``connection`` must be pinned to the socket of the write: a server answers for the writes of that socket only.
    """
    try:
        # First what needs no leave: a role that may not ask for the policy would be noted at each claim.
        if _written(connection) and sync_log(connection):
            return True
        policy = appendfsync(connection)
        if policy == "always":
            # The server syncs before it replies, and the reply to the write is here. Only a log that was switched on
            # just now, and is being written for the first time, has it still to come.
            seen = _syncing(connection)
            return seen.sound and (seen.quiet or _acknowledged(connection, policy))
        return policy != "no" and _acknowledged(connection, policy) and _synced_since(connection)
    except redis.RedisError as error:
        _log.warning("whether a claim is on the disk is unknown: %s", error)
        return False


def _written(connection: redis.Redis) -> bool:
    """Wait until the log's file has the write, which the server holds back while it syncs; false when it cannot."""
    quiet = False
    for _ in range(LONGEST_WAIT_MS // STEP_MS):
        seen = _syncing(connection)
        if not seen.sound or quiet:
            # Seen quiet the last time, the server has written since, before it replied; now it says how that went.
            return seen.sound
        quiet = seen.idle
        if not quiet:
            _let_pass(connection)
    return False


def _acknowledged(connection: redis.Redis, policy: str | None) -> bool:
    """Whether the server itself says so; an old one that cannot is believed when its policy is known."""
    for _ in range(LONGEST_WAIT_MS // STEP_MS):
        try:
            local, _replicas = _raw(connection, "WAITAOF", 1, 0, STEP_MS)
        except redis.ResponseError as error:
            return policy == "everysec" and "unknown command" in str(error).lower()
        if int(local) >= 1:
            return True
    return False


def _synced_since(connection: redis.Redis) -> bool:
    """Whether a background sync that began after now has ended.

    Between a moment without a running sync and a moment more than a period later, one must have begun, because the
    write is there to be synced; when none runs at the second moment it has ended. The second moment is looked at
    twice: only between two commands does the server come round to beginning what is due.
    """
    began_ms = quiet_ms = -1
    later = 0
    while True:
        seen = _syncing(connection)
        began_ms = seen.now_ms if began_ms < 0 else began_ms
        if not seen.sound or seen.now_ms - began_ms > LONGEST_WAIT_MS:
            return False
        if seen.quiet and quiet_ms < 0:
            quiet_ms = seen.now_ms
        elif seen.quiet and quiet_ms <= seen.now_ms - SYNC_PERIOD_MS - TICK_MS:
            later += 1
            if later == 2:
                return True
        _let_pass(connection)


@dataclass(frozen=True, slots=True)
class _Syncing:
    """What a server says of its log: whether it can write it, runs no sync of it, and does not replace it either."""

    now_ms: int
    sound: bool
    idle: bool
    quiet: bool


def _syncing(connection: redis.Redis) -> _Syncing:
    pipe = connection.pipeline(transaction=False)
    pipe.time()
    pipe.info("persistence")
    (seconds, microseconds), state = pipe.execute()
    sound = int(state["aof_enabled"]) == 1 and state["aof_last_write_status"] == "ok"
    # Of a log that is switched off the server says nothing more.
    idle = int(state.get("aof_pending_bio_fsync", 0)) == 0
    # While the log is rewritten its files change hands: a sync counted then may be of the other one.
    replaced = int(state["aof_rewrite_in_progress"]) + int(state["aof_rewrite_scheduled"]) > 0
    return _Syncing(int(seconds) * 1000 + int(microseconds) // 1000, sound, idle, idle and not replaced)


def _let_pass(connection: redis.Redis) -> None:
    # The server keeps the time: it waits in vain for this many replicas.
    _raw(connection, "WAIT", MORE_REPLICAS_THAN_ANYBODY_HAS, STEP_MS)


def _raw(connection: redis.Redis, *words: str | int) -> Any:
    return connection.execute_command(*words)  # type: ignore[no-untyped-call]
