"""A request that never arrived and a reply that was lost after its request took effect: asked again, it counts once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
import redis

from persistence.connection import connect
from persistence.record import Record
from runtime.embedded import EmbeddedServers
from tests.support.lossy import Loss, LossyProxy, losses, lossy
from tests.support.naive import Naive, stock_client
from tests.support.scenario import Gate, Scenario, candidate

LOSSES: list[Loss] = ["request", "reply"]


@pytest.fixture
def proxy(servers: EmbeddedServers) -> Iterator[LossyProxy]:
    # The path of a socket has to be short.
    with TemporaryDirectory(dir="/tmp") as folder, lossy(servers.redis_url, Path(folder)) as made:
        yield made


def lose_each(
    scenario: Scenario, servers: EmbeddedServers, dsn: str, proxy: LossyProxy, loss: Loss
) -> tuple[int, int, dict[str, list[str]]]:
    def tell(namespace: str) -> None:
        scenario.tell(proxy.url, dsn, namespace, lambda _stage: None)

    name = f"{scenario.name}-{loss}"
    tell(f"{name}-warm")  # scripts are loaded once for all
    tell(f"{name}-clean")
    clean = scenario.outcome(servers.redis_url, dsn, f"{name}-clean")
    return losses(
        proxy,
        loss,
        tell,
        lambda namespace: scenario.wrong(clean, scenario.outcome(servers.redis_url, dsn, namespace)),
        name=name,
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_no_lost_message_loses_or_repeats_anything(
    servers: EmbeddedServers, postgres_dsn: str, proxy: LossyProxy, loss: Loss
) -> None:
    candidate()
    record = Record(postgres_dsn)
    record.migrate()
    record.close()
    sent, lost, wrong = lose_each(Gate(), servers, postgres_dsn, proxy, loss)
    print(f"gate: {loss} lost at {lost}/{sent} commands, {len(wrong)} went wrong")
    assert wrong == {}
    assert lost == sent > 150


@pytest.mark.parametrize(("loss", "least"), [("request", 0), ("reply", 10)])
def test_lost_replies_break_a_careless_design(
    servers: EmbeddedServers, postgres_dsn: str, proxy: LossyProxy, loss: Loss, least: int
) -> None:
    with patch("redis.retry.sleep", lambda _s: None):
        sent, lost, wrong = lose_each(Naive(), servers, postgres_dsn, proxy, loss)
    print(f"naive: {loss} lost at {lost}/{sent} commands, {len(wrong)} went wrong")
    assert lost == sent
    assert len(wrong) >= least


def test_a_stock_client_counts_twice_and_ours_asks_once(redis_client: redis.Redis, proxy: LossyProxy) -> None:
    with stock_client(proxy.url) as stock, patch("redis.retry.sleep", lambda _s: None):
        stock.ping()
        proxy.arm(1, "reply")
        assert stock.incr("stock") == 2
        assert proxy.seen.count("INCRBY") == 2
    with connect(proxy.url) as ours:
        ours.ping()
        proxy.arm(1, "reply")
        with pytest.raises(redis.ConnectionError):
            ours.incr("ours")
        assert proxy.seen.count("INCRBY") == 1
    assert (redis_client.get("stock"), redis_client.get("ours")) == (b"2", b"1")
