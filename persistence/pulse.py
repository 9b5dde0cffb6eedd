"""What an observer sees of a namespace from outside: how far its streams have come, and whether the server answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis

from persistence.candle_feed import place_order
from persistence.connection import as_failure, text
from persistence.keys import Keys

BEGINNING = "0-0"


class Pulse:
    """Reads only, except for the one thing an operator may do to a server without asking: empty its script cache."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def _ask(self, command: Callable[[], Any]) -> Any:
        try:
            return command()
        except redis.RedisError as error:
            raise as_failure(error) from error

    def last_fact(self) -> str:
        """Place of the newest fact that ever entered the outbox."""
        found = self._ask(lambda: self.client.xinfo_stream(self.keys.outbox()))
        return text(found["last-generated-id"])

    def facts_waiting(self) -> int:
        """Facts in the outbox."""
        return int(self._ask(lambda: self.client.xlen(self.keys.outbox())))

    def carried(self, place: str) -> bool:
        """Whether every fact up to a place has left the outbox."""
        entries = self._ask(lambda: self.client.xrange(self.keys.outbox(), count=1))
        return not entries or place_order(text(entries[0][0])) > place_order(place)

    def forget_scripts(self) -> None:
        """Empty the server's script cache."""
        self._ask(self.client.script_flush)

    def memory_bytes(self) -> int:
        """Memory the server uses."""
        return int(self._ask(lambda: self.client.info("memory"))["used_memory"])

    def version(self) -> str:
        """The server's name and version."""
        found = self._ask(lambda: self.client.info("server"))
        return f"{found.get('server_name', 'redis')} {found.get('valkey_version', found['redis_version'])}"

    def dead_letters(self) -> int:
        """Facts no sink could take."""
        return int(self._ask(lambda: self.client.xlen(self.keys.dead())))
