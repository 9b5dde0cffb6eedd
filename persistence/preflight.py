"""What must be true of a server before anything is started on it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

import redis

from persistence.connection import appendfsync, as_failure, text
from persistence.keys import Keys
from persistence.store import SCHEMA_VERSION
from signals.errors import Permanent

FULL_SHARE = 0.85
_log = logging.getLogger(__name__)


class UnfitServer(Permanent):
    """The server may forget, evict or refuse what it was given; the message says how to mend it."""


def check_server(client: redis.Redis, keys: Keys, *, any_schema: bool = False) -> None:
    """Refuse a server that what it acknowledged may not survive on, or that holds the state of another version.

    With ``any_schema`` an old state is let through: to a rebuild, which replaces it.
    """
    try:
        info = cast("Mapping[str, Any]", client.info())
        for unfit in (_not_ready(info), _forgetful(info), _never_synced(client)):
            if unfit:
                raise UnfitServer(unfit)
        # Not before: a server that is loading answers nothing but INFO.
        found = client.hget(keys.meta(), "schema")
    except redis.RedisError as error:
        raise as_failure(error) from error
    schema = None if found is None else text(cast("bytes", found))
    if schema not in (None, SCHEMA_VERSION) and not any_schema:
        raise UnfitServer(
            f"Redis holds state of schema {schema}, and this version reads schema {SCHEMA_VERSION}: "
            "run `penumbra halt` and `penumbra rebuild`, or the version that wrote it"
        )
    _warn_when_full(info)


def _not_ready(info: Mapping[str, Any]) -> str | None:
    if int(info.get("loading", 0)) != 0:
        return "Redis is still loading its data: start again when it has finished"
    if info.get("role", "master") != "master":
        return (
            f"Redis is a replica of {info.get('master_host', 'another server')}: name the primary in PENUMBRA_REDIS_URL"
        )
    return None


def _forgetful(info: Mapping[str, Any]) -> str | None:
    if int(info.get("aof_enabled", 0)) != 1:
        return "Redis keeps no append-only file: set appendonly yes"
    if info.get("aof_last_write_status", "ok") != "ok":
        return "Redis cannot write its append-only file: free space on its disk and look into its log"
    if info.get("maxmemory_policy") != "noeviction":
        return f"Redis may evict ({info.get('maxmemory_policy')}): set maxmemory-policy noeviction"
    return None


def _never_synced(client: redis.Redis) -> str | None:
    # Where it is not ours to ask, a claim still says no when it is not sure.
    if appendfsync(client) == "no":
        return "Redis never syncs its append-only file: set appendfsync always, or at least everysec"
    return None


def _warn_when_full(info: Mapping[str, Any]) -> None:
    limit, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    if limit > 0 and used >= FULL_SHARE * limit:
        _log.warning(
            "Redis uses %d of %d bytes: at 100 %% it takes no more signals; raise maxmemory or give it less to keep",
            used,
            limit,
        )
