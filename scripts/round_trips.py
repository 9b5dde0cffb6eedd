"""``python -m scripts.round_trips``: what a decision and a close cost in Redis, counted on a real server."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import click
from rich.console import Console
from rich.table import Table

from persistence.connection import connect
from persistence.redis_store import RedisStore
from persistence.store import ClockKind
from runtime import embedded
from runtime.follow import Follower
from runtime.service import Service
from runtime.shelf import Shelf
from signals.candle import Candle
from signals.profile import DEFAULT_PROFILES

STEP_MS = 300_000
START_MS = 1_704_067_200_000
UNCOUNTED = {"config|resetstat", "config", "hello", "client|setinfo", "client"}


@dataclass(frozen=True, slots=True)
class Cost:
    """What one use case did: sends that waited for a reply, commands in them, and commands the scripts ran inside."""

    what: str
    round_trips: int
    sent: int
    inside_scripts: int


def measure(redis_url: str) -> list[Cost]:
    """Run each use case once on warm scripts and count."""
    client = connect(redis_url)
    store = RedisStore(client, "roundtrips")
    store.create(ClockKind.DATA, now_ms=0)
    # As a worker serves: with a shelf, though nothing lies on it yet.
    service = Service(store, DEFAULT_PROFILES, shelf=Shelf(store, None))
    follower = Follower(store, DEFAULT_PROFILES)
    for index in range(3):
        _feed(store, follower, index, high=100.4)
    service.judge(_signal("warm", score_high=True))
    service.claim("warm", "bench")
    costs = [
        _count(store, "decision: phantom", lambda: service.judge(_signal("refused", score_high=False))),
        _count(store, "decision: execute", lambda: service.judge(_signal("taken", score_high=True))),
        _count(store, "the same id again", lambda: service.judge(_signal("taken", score_high=True))),
        _count(store, "claim", lambda: service.claim("taken", "bench")),
        _count(store, "candle, nothing ends", lambda: _feed(store, follower, 3, high=100.5)),
    ]
    quiet = _count(store, "candle, three open", lambda: _feed(store, follower, 4, high=100.5))
    closing = _count(store, "candle that ends three", lambda: _feed(store, follower, 5, high=105.0))
    report = {"signal_id": "taken", "price": 104.0, "ts": START_MS + 6 * STEP_MS, "reason": "tp"}
    each = Cost(
        "one close (a third of the difference)",
        (closing.round_trips - quiet.round_trips) // 3,
        (closing.sent - quiet.sent) // 3,
        (closing.inside_scripts - quiet.inside_scripts) // 3,
    )
    return [*costs, quiet, closing, each, _count(store, "close report", lambda: service.close(report))]


def _signal(name: str, *, score_high: bool) -> dict[str, object]:
    good = {"trend_slope_pct": 6.0, "ema_stack_score": 60.0, "break_dist_atr": 0.3, "range_expansion": 1.3}
    features = {"atr_pct": 0.4, **(good if score_high else {})}
    return {
        "id": name, "strategy": "trend", "symbol": "BTCUSDT", "side": "long", "entry": 100.0, "tp": 104.0, "sl": 98.0,
        "ts": START_MS + 3 * STEP_MS, "timeframe": "1h", "tag": name, "features": features,
    }  # fmt: skip


def _feed(store: RedisStore, follower: Follower, index: int, *, high: float) -> None:
    candle = Candle(START_MS + index * STEP_MS, 100.0, high, 99.5, 100.0, 1.0)
    store.advance_clock(candle.ts + STEP_MS)
    follower.candle("BTCUSDT", "5m", candle)


def _count(store: RedisStore, what: str, work: Callable[[], object]) -> Cost:
    client = store.client
    client.config_resetstat()
    with _counted(client) as sent:
        work()
    stats = cast("dict[str, dict[str, Any]]", client.info("commandstats"))
    ran = sum(row["calls"] for name, row in stats.items() if name.removeprefix("cmdstat_") not in UNCOUNTED)
    return Cost(what, len(sent), sum(sent), ran - sum(sent))


@contextmanager
def _counted(client: Any) -> Iterator[list[int]]:
    """Every send of the client's connections: how many commands went with each."""
    sends: list[int] = []
    kind = client.connection_pool.connection_class
    original = kind.send_packed_command

    def counting(self: Any, command: Any, *args: Any, **kwargs: Any) -> Any:
        packed = b"".join(command) if isinstance(command, list) else command
        sends.append(_commands(packed))
        return original(self, command, *args, **kwargs)

    kind.send_packed_command = counting
    try:
        yield sends
    finally:
        kind.send_packed_command = original


def _commands(packed: bytes) -> int:
    """How many commands a packed request holds."""
    count = position = 0
    while position < len(packed):
        end = packed.index(b"\r\n", position)
        arguments, position = int(packed[position + 1 : end]), end + 2
        for _ in range(arguments):
            end = packed.index(b"\r\n", position)
            position = end + 2 + int(packed[position + 1 : end]) + 2
        count += 1
    return count


@click.command()
@click.option("--redis-url", default=None, help="an empty server to count on; default: an embedded one")
def main(redis_url: str | None) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        url = redis_url or embedded.start_valkey(Path(folder)).url
        try:
            costs = measure(url)
        finally:
            if redis_url is None:
                embedded.stop_valkey(Path(folder))
    table = Table("use case", "round trips", "commands sent", "commands inside scripts", title="Redis per use case")
    for cost in costs:
        table.add_row(cost.what, str(cost.round_trips), str(cost.sent), str(cost.inside_scripts))
    Console().print(table)


if __name__ == "__main__":
    main()
