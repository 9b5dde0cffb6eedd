"""The stream candles travel in, between whoever has them and the follower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis

from persistence.connection import as_failure, text
from persistence.keys import Keys


@dataclass(frozen=True, slots=True)
class FedCandle:
    """A candle as it lies in the stream; nothing in it has been checked yet."""

    place: str
    symbol: str
    timeframe: str
    candle: str


class CandleFeed:
    """The reading side of the candle stream."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def read(self, after: str, *, count: int, block_ms: int) -> Sequence[FedCandle]:
        """Candles after a place, oldest first; waits up to ``block_ms`` for the first."""
        try:
            reply = self.client.xread({self.keys.candles(): after}, count=count, block=block_ms or None)
        except redis.RedisError as error:
            raise as_failure(error) from error
        return [_fed(place, fields) for place, fields in _entries(reply)]

    def mark(self, place: str) -> None:
        """Say how far the follower has come."""
        try:
            self.client.hset(self.keys.follower(), "cursor", place)
        except redis.RedisError as error:
            raise as_failure(error) from error

    def followed_to(self) -> str:
        """How far the follower has come."""
        try:
            return text(cast("bytes | None", self.client.hget(self.keys.follower(), "cursor")) or b"0-0")
        except redis.RedisError as error:
            raise as_failure(error) from error

    def trim(self, place: str) -> None:
        """Drop everything up to and including a place."""
        milliseconds, _, number = place.partition("-")
        try:
            self.client.xtrim(self.keys.candles(), minid=f"{milliseconds}-{int(number) + 1}", approximate=False)
        except redis.RedisError as error:
            raise as_failure(error) from error


def place_order(place: str) -> tuple[int, int]:
    """A stream place as something that can be compared."""
    milliseconds, _, number = place.partition("-")
    return int(milliseconds), int(number)


def _entries(reply: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    if not reply:
        return []
    if isinstance(reply, dict):
        # RESP3 nests the batches of one stream in a list.
        batches = next(iter(reply.values()))
        return [entry for batch in batches for entry in batch] if batches and isinstance(batches[0], list) else batches
    return cast("list[tuple[bytes, dict[bytes, bytes]]]", reply[0][1])


def _fed(place: bytes, fields: dict[bytes, bytes]) -> FedCandle:
    # Anybody who reaches Redis can add an entry: its names, too, are bytes of any kind.
    words = {name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in fields.items()}
    return FedCandle(text(place), words.get("symbol", ""), words.get("timeframe", ""), words.get("candle", ""))
