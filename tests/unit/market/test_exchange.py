"""Fetching candles, against a server of our own on the loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from market.exchange import fetch_candles
from signals.errors import Invalid, Permanent, Transient

M5 = 300_000
START = 1_704_067_200_000


class Exchange:
    """What the server says and what it was asked."""

    def __init__(self) -> None:
        self.count = 2_500
        self.status = 200
        self.body: bytes | None = None
        self.asked: list[dict[str, str]] = []
        self.endpoint = ""

    def klines(self, query: dict[str, str]) -> bytes:
        if self.body is not None:
            return self.body
        end = int(query.get("endTime", START + self.count * M5))
        rows = [i for i in range(self.count) if START + i * M5 <= end][-int(query["limit"]) :]
        return json.dumps([self.kline(i) for i in rows]).encode()

    @staticmethod
    def kline(index: int) -> list[object]:
        return [
            START + index * M5,
            "100.1",
            "102.5",
            "99.9",
            f"{100.5 + index % 7 / 10}",
            "3.25",
            0,
            "0",
            1,
            "0",
            "0",
            "0",
        ]


@pytest.fixture
def exchange(monkeypatch: pytest.MonkeyPatch) -> Iterator[Exchange]:
    monkeypatch.setenv("no_proxy", "*")
    state = Exchange()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            state.asked.append(query)
            body = state.klines(query)
            self.send_response(state.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.endpoint = f"http://127.0.0.1:{server.server_port}/api/v3/klines"
        yield state
        server.shutdown()
        thread.join()


def test_the_last_closed_candles(exchange: Exchange, tmp_path: Path) -> None:
    candles = fetch_candles("BTCUSDT", "5m", 10, tmp_path, endpoint=exchange.endpoint)
    # Number 2,499 is still forming.
    assert candles.ts.tolist() == [START + i * M5 for i in range(2_489, 2_499)]
    assert candles.at(0).prices == (100.1, 102.5, 99.9, 100.5 + 2_489 % 7 / 10)
    assert candles.at(0).volume == 3.25
    assert exchange.asked == [{"symbol": "BTCUSDT", "interval": "5m", "limit": "11"}]


def test_many_candles_come_in_pages(exchange: Exchange, tmp_path: Path) -> None:
    candles = fetch_candles("BTCUSDT", "5m", 2_200, tmp_path, endpoint=exchange.endpoint)
    assert candles.ts.tolist() == [START + i * M5 for i in range(299, 2_499)]
    assert [query["limit"] for query in exchange.asked] == ["1000", "1000", "201"]
    assert "endTime" not in exchange.asked[0]


def test_a_young_market_gives_what_it_has(exchange: Exchange, tmp_path: Path) -> None:
    exchange.count = 40
    assert len(fetch_candles("NEWUSDT", "5m", 100, tmp_path, endpoint=exchange.endpoint)) == 39
    exchange.count = 1
    with pytest.raises(Transient, match="no candles"):
        fetch_candles("NEWERUSDT", "5m", 100, tmp_path, endpoint=exchange.endpoint)


def test_the_cache_is_asked_first(exchange: Exchange, tmp_path: Path) -> None:
    first = fetch_candles("BTC/USDT", "5m", 50, tmp_path / "new", endpoint=exchange.endpoint)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["BTCUSDT_5m.csv"]
    again = fetch_candles("BTC/USDT", "5m", 30, tmp_path / "new", endpoint=exchange.endpoint)
    assert again.symbol == "BTC/USDT"
    assert list(again) == list(first)[-30:]
    assert len(exchange.asked) == 1
    fetch_candles("BTC/USDT", "5m", 60, tmp_path / "new", endpoint=exchange.endpoint)
    assert len(exchange.asked) == 2
    fetch_candles("BTC/USDT", "5m", 10, tmp_path / "new", endpoint=exchange.endpoint, refresh=True)
    assert len(exchange.asked) == 3


@pytest.mark.parametrize("status", [403, 418, 429, 451, 500, 503])
def test_another_time_another_answer(exchange: Exchange, tmp_path: Path, status: int) -> None:
    exchange.status = status
    with pytest.raises(Transient, match=str(status)):
        fetch_candles("BTCUSDT", "5m", 10, tmp_path, endpoint=exchange.endpoint)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [400, 404])
def test_what_the_exchange_does_not_know(exchange: Exchange, tmp_path: Path, status: int) -> None:
    exchange.status = status
    with pytest.raises(Permanent, match="refuses"):
        fetch_candles("NOPE", "5m", 10, tmp_path, endpoint=exchange.endpoint)


@pytest.mark.parametrize(
    "body",
    [b"<html>Please log in</html>", b"{}", b"[1, 2]", b'[["soon", 1, 1, 1, 1, 1]]', b"[" * 100_000, b"[[1,2,3]]"],
    ids=lambda body: body[:12].decode(),
)
def test_an_answer_that_is_none(exchange: Exchange, tmp_path: Path, body: bytes) -> None:
    exchange.body = body
    with pytest.raises(Transient):
        fetch_candles("BTCUSDT", "5m", 10, tmp_path, endpoint=exchange.endpoint)


def test_impossible_candles_are_left_out(exchange: Exchange, tmp_path: Path) -> None:
    rows = [Exchange.kline(i) for i in range(4)]
    rows[1][2] = "1.0"
    exchange.body = json.dumps(rows).encode()
    candles = fetch_candles("BTCUSDT", "5m", 10, tmp_path, endpoint=exchange.endpoint)
    assert candles.ts.tolist() == [START, START + 2 * M5]


def test_a_server_that_walks_in_circles_is_left(exchange: Exchange, tmp_path: Path) -> None:
    exchange.body = json.dumps([Exchange.kline(i) for i in range(1_000)]).encode()
    candles_wanted = 1_500
    with pytest.raises(Transient, match="repeats"):
        fetch_candles("BTCUSDT", "5m", candles_wanted, tmp_path, endpoint=exchange.endpoint)


def test_nobody_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(Transient, match="cannot be reached"):
        fetch_candles("BTCUSDT", "5m", 10, tmp_path, endpoint="http://127.0.0.1:9/klines")


@pytest.mark.parametrize(
    ("symbol", "timeframe", "limit", "endpoint"),
    [
        ("../etc", "5m", 10, "http://127.0.0.1:9"),
        ("BTCUSDT", "5x", 10, "http://127.0.0.1:9"),
        ("BTCUSDT", "5m", 0, "http://127.0.0.1:9"),
        ("BTCUSDT", "5m", 10, "file:///etc/passwd"),
    ],
)
def test_what_cannot_be_asked(tmp_path: Path, symbol: str, timeframe: str, limit: int, endpoint: str) -> None:
    with pytest.raises(Invalid):
        fetch_candles(symbol, timeframe, limit, tmp_path, endpoint=endpoint)
