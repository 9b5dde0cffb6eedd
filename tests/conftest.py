"""What tests share: real private servers, one pair for each test process, and names nobody else uses."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from psycopg import conninfo, sql

from persistence.connection import connect
from phantom.position import Closed, ExitReason, Outcome, Terms, Track
from phantom.record import closed_record, terms_record
from runtime import embedded
from runtime.embedded import EmbeddedServers
from signals.parse import canonical_json
from signals.signal import Side

_PARTS = itertools.count()


@pytest.fixture(scope="session")
def servers_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data folder of ``servers``, for tests that stop and start one of them; they leave both running."""
    folder = tmp_path_factory.mktemp("servers") / "data"
    yield folder
    embedded.remove(folder)


@pytest.fixture(scope="session")
def servers(servers_folder: Path) -> EmbeddedServers:
    """A Valkey and a Postgres of this test process."""
    return embedded.start(servers_folder)


@pytest.fixture
def redis_client(servers: EmbeddedServers) -> Iterator[redis.Redis]:
    """Our own client on an empty Valkey."""
    # Patient, because a test machine may be busy; what is tested about time brings a client of its own.
    with connect(servers.redis_url, timeout_s=10.0) as client:
        client.flushall()
        yield client


@pytest.fixture(scope="module")
def postgres_dsn(servers: EmbeddedServers, request: pytest.FixtureRequest) -> str:
    """Address of a database that is this module's own, and empty at first."""
    # A module's tests may come in two parts, with others between: each part begins anew.
    name = f"test_{_short(request.node.nodeid)}_{next(_PARTS)}"
    with psycopg.connect(servers.postgres_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {} template template0").format(sql.Identifier(name)))
    return conninfo.make_conninfo(servers.postgres_dsn, dbname=name)


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    """A namespace that is this test's own, the same in every run."""
    return f"t{_short(request.node.nodeid)}"


def _short(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:12]


@pytest.fixture(scope="session")
def closed_body() -> Callable[..., str]:
    """A builder of the body a ``closed`` fact carries: a long from 100, stop 98, target 104, unless told otherwise."""
    return _closed_body


def _closed_body(signal_id: str = "a", *, won: bool = True, kind: str = "phantom", **changes: Any) -> str:
    terms = Terms(
        side=Side.LONG,
        entry=100.0,
        stop_loss=98.0,
        take_profit=104.0,
        first_target=103.2,
        entry_ms=1_700_000_100_000,
        deadline_ms=1_700_086_500_000,
        step_ms=300_000,
    )
    track = Track(
        1_700_000_400_000, 98.0, 103.5, 99.0, filled=True, entry_open=100.5, tp1_ms=1_700_000_700_000, candles=2
    )
    closed = Closed(
        terms=terms,
        track=track,
        outcome=Outcome.WIN if won else Outcome.LOSS,
        reason=ExitReason.TP if won else ExitReason.SL,
        exit_price=104.0 if won else 98.0,
        exit_ms=1_700_000_700_000,
    )
    body = {
        "id": signal_id,
        "strategy": "trend",
        "symbol": "BTCUSDT",
        **terms_record(terms),
        "kind": kind,
        "ts": 1_700_000_000_000,
        "tag": None,
        "timeframe": "5m",
        "features": {"atr_pct": 0.7, "session": "us", "rsi": None},
        "score": 71.25,
        "score_source": "heuristic",
        "heuristic_score": 71.25,
        "win_probability": None,
        "threshold": 70.0,
        "threshold_source": "static",
        "bucket": "us|normal",
        "bundle": None,
        "unclaimed": False,
        "how": "simulation",
        **closed_record(closed, costs_bps=10.0),
    }
    return canonical_json(body | changes)
