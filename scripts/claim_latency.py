"""``python -m scripts.claim_latency``: how long a claim takes until it is on the disk, by policy and by way."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from persistence.connection import connect
from persistence.redis_store import RedisStore
from persistence.store import ClockKind
from runtime import embedded
from runtime.clock import stopwatch
from runtime.service import Service
from signals.errors import Permanent
from signals.profile import DEFAULT_PROFILES
from signals.reasons import Reason

START_MS = 1_704_067_200_000
GOOD = {"trend_slope_pct": 6.0, "ema_stack_score": 60.0, "break_dist_atr": 0.3, "range_expansion": 1.3, "atr_pct": 0.4}


def measure(url: str, namespace: str, claims: int) -> list[float]:
    """Milliseconds of so many claims, sorted."""
    with connect(url) as client:
        store = RedisStore(client, namespace)
        store.create(ClockKind.DATA, now_ms=0)
        service = Service(store, DEFAULT_PROFILES)
        took = []
        for number in range(claims):
            # A day apart each, so that no limit on positions or executes per minute is met.
            signal_id, ts = f"s{number}", START_MS + number * 86_400_000
            store.advance_clock(ts)
            service.judge(_signal(signal_id, ts, f"SYM{number}"))
            began = stopwatch()
            reason = service.claim(signal_id, "bench")
            took.append((stopwatch() - began) * 1000.0)
            if reason is not Reason.CLAIM_GO:
                raise Permanent(f"claim {number}: {reason}")
    return sorted(took)


def _signal(signal_id: str, ts: int, symbol: str) -> dict[str, object]:
    return {
        "id": signal_id, "strategy": "trend", "symbol": symbol, "side": "long", "entry": 100.0, "tp": 104.0,
        "sl": 98.0, "ts": ts, "features": GOOD,
    }  # fmt: skip


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@click.command()
@click.option("--claims", default=45, show_default=True, type=click.IntRange(2, 50), help="for each line")
@click.option("--slow-claims", default=10, show_default=True, type=click.IntRange(2, 50), help="where one takes long")
def main(claims: int, slow_claims: int) -> None:
    """Print the table."""
    table = Table("appendfsync", "server", "claims", "p50 ms", "p99 ms", title="A claim until its go")
    with tempfile.TemporaryDirectory() as folder:
        local = embedded.start_valkey(Path(folder)).url
        try:
            with connect(local) as client:
                port = _free_port()
                client.config_set("port", port)
                lines = [("everysec", "this machine", local, claims), ("always", "this machine", local, claims)]
                far = f"redis://127.0.0.1:{port}/0"
                lines += [("everysec", "by TCP", far, slow_claims), ("always", "by TCP", far, claims)]
                for number, (policy, where, url, count) in enumerate(lines):
                    client.config_set("appendfsync", policy)
                    took = measure(url, f"claims{number}", count)
                    p50, p99 = took[len(took) // 2], took[min(len(took) - 1, int(0.99 * len(took)))]
                    table.add_row(policy, where, str(count), f"{p50:.1f}", f"{p99:.1f}")
        finally:
            embedded.stop_valkey(Path(folder))
    Console().print(table)


if __name__ == "__main__":
    main()
