"""The Lua scripts: loaded once, called with named keys and arguments."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import redis

from persistence.connection import as_failure
from signals.errors import Transient

NAMES = (
    "create",
    "register",
    "decide",
    "claim",
    "lapse",
    "touch",
    "close",
    "fill",
    "correct",
    "path",
    "control",
    "feed",
    "prune",
    "begin",
    "publish",
    "settle",
    "point",
    "survey",
    "table",
    "refuse",
    "configure",
    "reset",
    "watch",
)
WITH_BREAKERS = frozenset({"decide", "claim", "close", "fill", "configure", "reset", "watch"})
"""Scripts that read or move the breakers begin with their rule as well."""


@cache
def source(name: str) -> str:
    """A script's text with the shared head."""
    folder = resources.files("persistence") / "lua"
    heads = ("prelude", "breakers") if name in WITH_BREAKERS else ("prelude",)
    return "".join((folder / f"{part}.lua").read_text("utf-8") for part in (*heads, name))


class Scripts:
    """Callable scripts on one connection; a flushed script cache is refilled by the client."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._scripts = {name: client.register_script(source(name)) for name in NAMES}

    def offer(self) -> None:
        """Load what the server does not have: some roles may run the scripts and not bring them."""
        scripts = list(self._scripts.values())
        try:
            there = self._client.script_exists(*(script.sha for script in scripts))
            for script, known in zip(scripts, there, strict=True):
                if not known:
                    self._client.script_load(script.script)
        except redis.RedisError as error:
            raise as_failure(error) from error

    def call(
        self, name: str, keys: Mapping[str, str], args: Mapping[str, str | int], *, on: redis.Redis | None = None
    ) -> Any:
        """Run a script, ``on`` a pinned connection when given; Redis errors come out as failures of our own."""
        flat: list[str | int] = [",".join(keys)]
        for pair in args.items():
            flat += pair
        try:
            return self._scripts[name](keys=list(keys.values()), args=flat, client=on)
        except redis.exceptions.NoPermissionError as error:
            if "script|load" in str(error):
                raise Transient(f"redis: script {name} is not loaded yet, and this role may not load it") from error
            raise as_failure(error) from error
        except redis.RedisError as error:
            raise as_failure(error) from error
