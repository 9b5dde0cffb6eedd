"""Our own client and scripts against late, lost, refused and repeated messages; the server behind the door is real."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from rq import Queue
from rq.serializers import JSONSerializer

from persistence.connection import COMMAND_TIMEOUT_S, as_failure, connect
from persistence.redis_store import RedisStore
from persistence.store import ClockKind
from runtime.clock import stopwatch
from runtime.embedded import EmbeddedServers
from runtime.service import Service
from signals.errors import Permanent, Transient
from signals.reasons import Reason
from tests.support.proxy import Door, Fate, door
from tests.support.scene import FREE, T0, payload
from tests.support.stores import outbox
from worker.queue import GateWorker, JobTimedOut

PROFILES = {"trend": FREE}
LATE_S = 0.6


@pytest.fixture
def entrance(servers: EmbeddedServers) -> Iterator[Door]:
    # A unix socket's path has 107 bytes at most.
    server = urlsplit(servers.redis_url).path
    with TemporaryDirectory(prefix="pd") as folder, door(server, Path(folder)) as made:
        yield made


@pytest.fixture
def store(redis_client: redis.Redis, namespace: str) -> RedisStore:
    made = RedisStore(redis_client, namespace)
    made.create(ClockKind.DATA, now_ms=T0)
    made.advance_clock(T0)
    return made


def about(word: bytes, fate: Fate) -> Any:
    """A rule for requests that contain a word."""
    return lambda request: fate if word in request else "pass"


def test_one_command_may_take_a_quarter_of_a_second() -> None:
    kept = connect("redis://127.0.0.1").connection_pool.connection_kwargs
    assert COMMAND_TIMEOUT_S == 0.25
    assert (kept["socket_timeout"], kept["socket_connect_timeout"]) == (0.25, 0.25)
    assert kept["retry"].get_retries() == 0


# --- late replies


def test_a_late_reply_is_never_taken_for_another(redis_client: redis.Redis, entrance: Door) -> None:
    redis_client.mset({"first": "1", "second": "2"})
    entrance.rule, entrance.late_s = about(b"first", "late"), LATE_S
    with connect(entrance.url) as client:
        began = stopwatch()
        with pytest.raises(redis.TimeoutError):
            client.get("first")
        assert stopwatch() - began < LATE_S
        assert [client.get("second") for _ in range(3)] == [b"2"] * 3
    # The control: whoever goes on with the connection is given the reply to the question before.
    with connect(entrance.url, timeout_s=2.0) as client:
        connection = client.connection_pool.get_connection()
        connection.send_command("GET", "first")
        connection.send_command("GET", "second")
        assert connection.read_response() == b"1"
        client.connection_pool.release(connection)


@pytest.mark.parametrize("mended", [True, False], ids=["as a job that timed out does", "control"])
def test_an_alarm_between_a_command_and_its_reply(
    redis_client: redis.Redis, entrance: Door, store: RedisStore, monkeypatch: pytest.MonkeyPatch, mended: bool
) -> None:
    redis_client.mset({"first": "1", "second": "2"})
    entrance.rule, entrance.late_s = about(b"first", "late"), 0.1
    with connect(entrance.url, timeout_s=2.0) as client:
        client.ping()
        parse, alarms = client.parse_response, iter([JobTimedOut("the time is over")])

        def interrupted(*args: Any, **options: Any) -> Any:
            for alarm in alarms:
                raise alarm
            return parse(*args, **options)

        monkeypatch.setattr(client, "parse_response", interrupted)
        with pytest.raises(JobTimedOut):
            client.get("first")
        pool = client.connection_pool
        service = Service(store, PROFILES, reset=lambda: pool.disconnect(inuse_connections=False))
        if mended:
            assert service.give_up(payload(), Reason.SCORE_TIMEOUT)["action"] == "phantom"
        assert client.get("second") == (b"2" if mended else b"1")


# --- lost messages


def test_what_redis_py_does_by_itself_would_count_twice(redis_client: redis.Redis, entrance: Door) -> None:
    first = itertools.count()
    entrance.rule = lambda request: "lose reply" if b"INCR" in request and next(first) == 0 else "pass"
    with connect(entrance.url) as client, pytest.raises(redis.ConnectionError):
        client.incr("ours")
    assert redis_client.get("ours") == b"1"
    first = itertools.count()
    with redis.Redis(unix_socket_path=urlsplit(entrance.url).path) as stock:
        stock.incr("theirs")
    assert redis_client.get("theirs") == b"2"


@pytest.mark.parametrize("fate", ["lose reply", "lose request"])
def test_a_message_lost_anywhere_is_applied_once(
    redis_client: redis.Redis, entrance: Door, store: RedisStore, namespace: str, fate: Fate
) -> None:
    def go(name: str, at: int | None) -> tuple[int, int]:
        """Judge and claim with the ``at``-th request lost; how many requests it took and how often it had to ask."""
        asked, lost = 0, 0
        with connect(entrance.url, timeout_s=2.0) as client:
            # Behind a door the server is nobody's neighbour, and asking for its sync takes more than a second.
            service = Service(RedisStore(client, namespace, on_disk=lambda pinned: bool(pinned.ping())), PROFILES)
            client.ping()
            counter = itertools.count()
            entrance.rule = lambda _request: fate if next(counter) == at else "pass"
            while True:
                asked += 1
                try:
                    answer = service.judge(payload(name))
                    claimed = service.claim(name, "e1")
                except Transient:
                    lost += 1
                    continue
                if claimed is not Reason.CLAIM_UNSAFE:
                    break
            assert (answer["action"], claimed) == ("execute", Reason.CLAIM_GO)
        entrance.rule = lambda _request: "pass"
        return next(counter), asked

    clean, asked = go("clean", None)
    assert (clean > 5, asked) == (True, 1)
    again = [go(f"s{at}", at)[1] for at in range(clean)]
    # Every lost message was noticed; connecting anew makes the later ones shift, so a few hit nothing.
    assert sum(again) >= 2 * clean - 3
    facts = Counter((fact.kind, fact.fields.get("sid")) for fact in outbox(redis_client, store.keys))
    names = ["clean", *(f"s{at}" for at in range(clean))]
    assert all(facts[kind, name] == 1 for name in names for kind in ("decision", "opened", "claimed"))


# --- refusals


PASSING = [
    "LOADING data",
    "READONLY replica",
    "BUSY a script",
    "OOM full",
    "MISCONF disk",
    "MASTERDOWN link",
    "TRYAGAIN",
]


@pytest.mark.parametrize("said", PASSING)
def test_a_server_that_cannot_now_is_asked_again(
    servers: EmbeddedServers, entrance: Door, store: RedisStore, namespace: str, said: str
) -> None:
    seen = itertools.count()
    with connect(entrance.url) as client:
        flaky = RedisStore(client, namespace)
        assert flaky.now_ms() == T0
        entrance.rule = lambda _request: f"-{said}\r\n".encode()
        with pytest.raises(Transient, match="redis: "):
            flaky.now_ms()
        # The worker waits it out, and the engine gets its answer.
        entrance.rule = lambda _request: f"-{said}\r\n".encode() if next(seen) < 2 else "pass"
        queue = Queue(
            f"{namespace}.signals", connection=connect(servers.redis_url, timeout_s=5.0), serializer=JSONSerializer
        )
        job = queue.enqueue("worker.jobs.process_signal", payload())
        GateWorker(
            queue.name, connection=connect(servers.redis_url, timeout_s=20.0), service=Service(flaky, PROFILES)
        ).run(burst=True)
        assert next(seen) > 2
    answer = job.return_value()
    assert answer is not None
    assert answer["action"] == "execute"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("MOVED 1 127.0.0.1:7001", "name a single primary"),
        ("NOAUTH Authentication required.", "Authentication"),
        ("WRONGPASS invalid", "Authentication"),
        ("NOPERM this user", "permissions|this user"),
        ("ERR unknown command", "unknown command"),
    ],
)
def test_a_server_that_never_will_is_refused_with_its_reason(
    entrance: Door, store: RedisStore, namespace: str, said: str, why: str
) -> None:
    entrance.rule = about(b"market:clock", f"-{said}\r\n".encode())
    with connect(entrance.url) as client, pytest.raises(Permanent, match=why):
        RedisStore(client, namespace).now_ms()


def test_a_word_inside_a_message_is_not_the_servers_word() -> None:
    assert isinstance(as_failure(redis.ResponseError("ERR the BUSY one")), Permanent)
    assert isinstance(as_failure(redis.ResponseError("BUSYGROUP exists")), Permanent)


def test_a_flushed_script_cache_goes_unnoticed(redis_client: redis.Redis, store: RedisStore) -> None:
    service = Service(store, PROFILES)
    service.judge(payload("warm"))
    refused = redis_client.info("errorstats").get("errorstat_NOSCRIPT", {"count": 0})["count"]
    redis_client.script_flush()
    assert service.judge(payload("a"))["action"] == "execute"
    redis_client.script_flush()
    assert service.claim("a", "e1") is Reason.CLAIM_GO
    redis_client.script_flush()
    assert service.judge(payload("a"))["action"] == "execute"
    assert redis_client.info("errorstats")["errorstat_NOSCRIPT"]["count"] - refused == 3
    facts = Counter(fact.id for fact in outbox(redis_client, store.keys) if fact.fields.get("sid") == "a")
    assert set(facts.values()) == {1}
    assert len(facts) == 3
