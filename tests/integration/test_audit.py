"""The hash chain on a real Postgres: it grows whoever is killed, cannot fork, and names the first row that is wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from psycopg import conninfo, errors, sql

from persistence.audit import Broken, verify
from persistence.keys import Keys
from persistence.migrate import WRITER, migrate
from persistence.outbox import Relay, confirmed_head
from persistence.record import Head, Record, as_failure
from persistence.rows import GENESIS
from persistence.store import Fact
from signals.errors import Transient
from tests.support.tampering import tamper

AT = 1_700_000_000_000


@pytest.fixture
def record(postgres_dsn: str, namespace: str) -> Iterator[Record]:
    record = Record(postgres_dsn, namespace)
    record.migrate()
    yield record
    record.close()


@pytest.fixture
def owner(postgres_dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        yield connection


def fact(number: int, engine: str = "desk") -> Fact:
    fields = {"sid": f"s{number}", "prefix": "phantom", "engine": engine}
    # An odd body, so that lengths in characters and in bytes differ.
    return Fact(number, f"claimed:s{number}", "claimed", AT + number, fields, '{"why":"µ→ø"}')


def facts(first: int, last: int) -> list[Fact]:
    return [fact(number) for number in range(first, last + 1)]


def whole(record: Record, links: int) -> str:
    report = verify(record)
    assert (report.broken, report.links, report.whole) == (None, links, True)
    assert report.head == record.head().hash
    return report.head


# --- how it grows


def test_the_chain_grows_with_the_record(record: Record) -> None:
    assert whole(record, 0) == GENESIS
    first = record.append(facts(1, 3))
    assert first.head == Head(3, whole(record, 3))
    second = record.append([fact(2), fact(9), fact(5)])
    assert second.head == Head(5, whole(record, 5))
    # In the order of recording, whatever the numbers say: gaps are normal.
    assert [link.seq for link, _ in record.chain()] == [1, 2, 3, 9, 5]
    assert record.append([fact(2)]).head is None
    assert record.append([fact(2, "thief")]).conflicts == 1
    whole(record, 5)


def test_namespaces_have_chains_of_their_own(record: Record, postgres_dsn: str, namespace: str) -> None:
    other = Record(postgres_dsn, f"{namespace}-2")
    record.append(facts(1, 2))
    other.append(facts(1, 2))
    assert whole(record, 2) != whole(other, 2)
    other.close()


def test_nothing_of_a_batch_that_fails_is_chained(record: Record) -> None:
    record.append(facts(1, 2))
    bad = Fact(4, "claimed:x", "claimed", AT, {}, '{"a":NaN}')
    with pytest.raises(Exception, match="json"):
        record.append([fact(3), bad])
    whole(record, 2)


def test_more_links_than_are_read_at_once(record: Record) -> None:
    record.append(facts(1, 4_500))
    whole(record, 4_500)


def test_writers_that_race_make_one_chain(postgres_dsn: str, namespace: str, record: Record) -> None:
    start = threading.Barrier(4)
    failures: list[Exception] = []

    def write(nth: int) -> None:
        mine = Record(postgres_dsn, namespace)
        start.wait()
        try:
            # Each batch overlaps with another writer's: the same facts arrive twice.
            for first in range(1, 200, 10):
                mine.append([fact(number) for number in range(first + 5 * nth, first + 5 * nth + 12)])
        except Exception as error:
            failures.append(error)
        mine.close()

    writers = [threading.Thread(target=write, args=(nth,)) for nth in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failures == []
    whole(record, record.count())
    assert record.count() > 200


def test_a_fork_is_impossible_and_a_race_is_passing(
    record: Record, owner: psycopg.Connection[Any], namespace: str
) -> None:
    record.append(facts(1, 3))
    fork = """
        insert into penumbra.audit_chain
        select namespace, 9, 'claimed:s9', 9, prev, 'x' from penumbra.audit_chain where namespace = %s and link = 2
    """
    with pytest.raises(errors.UniqueViolation) as caught:
        owner.execute(fork, [namespace])
    assert isinstance(as_failure(caught.value), Transient)


def test_killed_after_every_commit_and_delivered_again(
    redis_client: redis.Redis, record: Record, namespace: str
) -> None:
    class Dying(Record):
        def append(self, facts: Any) -> Any:
            record.append(facts)
            raise SystemExit

    keys = Keys(namespace)
    for number in range(1, 31):
        entry: Any = {"seq": number, "kind": "claimed", "id": f"claimed:s{number}", "at": AT, "body": "{}", "sid": "s"}
        redis_client.xadd(keys.outbox(), entry)
    for _ in range(4):
        with pytest.raises(SystemExit):
            Relay(redis_client, keys, Dying("", namespace)).cycle(7)
    survivor = Relay(redis_client, keys, record)
    replayed = 0
    while (report := survivor.cycle(7)).read > 0:
        replayed += report.replayed
    assert replayed > 0
    assert confirmed_head(redis_client, keys) == Head(30, whole(record, 30))


# --- who may not touch it


def test_the_writer_may_add_and_no_more(record: Record, owner: psycopg.Connection[Any]) -> None:
    record.append(facts(1, 1))
    owner.execute(sql.SQL("set role {}").format(sql.Identifier(WRITER)))
    for statement in ("alter table penumbra.audit_chain disable trigger all", "drop table penumbra.audit_chain"):
        with pytest.raises(errors.InsufficientPrivilege):
            owner.execute(statement.encode())


def test_playing_a_replica_does_not_get_past_the_trigger(
    record: Record, owner: psycopg.Connection[Any], namespace: str
) -> None:
    record.append(facts(1, 2))
    owner.execute("set session_replication_role = replica")
    with pytest.raises(errors.InsufficientPrivilege, match="append-only"):
        owner.execute("update penumbra.audit_chain set hash = 'x' where namespace = %s", [namespace])
    whole(record, 2)


# --- what a superuser cannot hide

FORGED = """
    insert into penumbra.facts (namespace, id, seq, kind, at_ms, fields, body, sha256)
    select namespace, 'claimed:x', 44, kind, at_ms, fields, body, sha256
    from penumbra.facts where namespace = %(n)s and id = %(s4)s
"""
TAMPERED = {
    "a body edited": (
        ["update penumbra.facts set body = '{}' where namespace = %(n)s and id = %(s4)s"],
        ("edited", "claimed:s4", 4),
    ),
    "a moment edited": (
        ["update penumbra.facts set at_ms = at_ms + 1 where namespace = %(n)s and id = %(s4)s"],
        ("edited", "claimed:s4", 4),
    ),
    "a digest edited": (
        ["update penumbra.facts set sha256 = 'x' where namespace = %(n)s and id = %(s4)s"],
        ("edited", "claimed:s4", 4),
    ),
    "when it came edited": (
        [
            """
            update penumbra.facts set recorded_at = recorded_at - interval '1 us'
            where namespace = %(n)s and id = %(s4)s
            """
        ],
        ("edited", "claimed:s4", 4),
    ),
    "a number nobody had": (
        ["update penumbra.facts set seq = 400 where namespace = %(n)s and id = %(s4)s"],
        ("edited", "claimed:s4", 4),
    ),
    "two edited": (
        ["update penumbra.facts set kind = 'x' where namespace = %(n)s and id in (%(s7)s, %(s4)s)"],
        ("edited", "claimed:s4", 4),
    ),
    "the first removed": (
        ["delete from penumbra.facts where namespace = %(n)s and id = %(s1)s"],
        ("removed", "claimed:s1", 1),
    ),
    "a fact removed": (
        ["delete from penumbra.facts where namespace = %(n)s and id = %(s4)s"],
        ("removed", "claimed:s4", 4),
    ),
    "the last removed": (
        ["delete from penumbra.facts where namespace = %(n)s and id = %(s8)s"],
        ("removed", "claimed:s8", 8),
    ),
    # Without a trace of the row, the next one is the first that is wrong.
    "a fact and its link removed": (
        [
            "delete from penumbra.facts where namespace = %(n)s and id = %(s4)s",
            "delete from penumbra.audit_chain where namespace = %(n)s and id = %(s4)s",
        ],
        ("removed", "claimed:s5", 5),
    ),
    "and the others moved up": (
        [
            "delete from penumbra.facts where namespace = %(n)s and id = %(s4)s",
            "delete from penumbra.audit_chain where namespace = %(n)s and id = %(s4)s",
            "update penumbra.audit_chain set link = link + 100 where namespace = %(n)s and link > 4",
            "update penumbra.audit_chain set link = link - 101 where namespace = %(n)s and link > 100",
        ],
        ("removed", "claimed:s5", 5),
    ),
    "a link removed": (
        ["delete from penumbra.audit_chain where namespace = %(n)s and id = %(s8)s"],
        ("inserted", "claimed:s8", 8),
    ),
    "numbers swapped": (
        ["update penumbra.facts set seq = 9 - seq where namespace = %(n)s and seq in (4, 5)"],
        ("swapped", "claimed:s4", 4),
    ),
    "places swapped": (
        [
            "update penumbra.audit_chain set link = link + 100 where namespace = %(n)s and link in (4, 5)",
            "update penumbra.audit_chain set link = 109 - link where namespace = %(n)s and link > 100",
        ],
        ("swapped", "claimed:s5", 5),
    ),
    "ids swapped": (
        [
            "update penumbra.facts set id = 'x' where namespace = %(n)s and id = %(s4)s",
            "update penumbra.facts set id = 'claimed:s4' where namespace = %(n)s and id = %(s5)s",
            "update penumbra.facts set id = 'claimed:s5' where namespace = %(n)s and id = 'x'",
        ],
        ("swapped", "claimed:s4", 4),
    ),
    "a fact inserted": (
        [
            FORGED,
        ],
        ("inserted", "claimed:x", 44),
    ),
    "a fact and a link inserted": (
        [
            FORGED,
            "update penumbra.audit_chain set link = link + 100 where namespace = %(n)s and link >= 4",
            "update penumbra.audit_chain set link = link - 99 where namespace = %(n)s and link > 100",
            "insert into penumbra.audit_chain values (%(n)s, 4, 'claimed:x', 44, 'y', 'z')",
        ],
        ("inserted", "claimed:x", 44),
    ),
}


@pytest.mark.parametrize(("statements", "expected"), TAMPERED.values(), ids=TAMPERED)
def test_the_first_wrong_row_is_named(
    record: Record,
    owner: psycopg.Connection[Any],
    namespace: str,
    statements: list[str],
    expected: tuple[str, str, int],
) -> None:
    record.append(facts(1, 8))
    whole(record, 8)
    tamper(owner, namespace, *statements)
    broken = verify(record).broken
    assert isinstance(broken, Broken)
    assert (broken.what, broken.id, broken.seq) == expected


TRADES = {
    "a win made of a loss": (
        "update penumbra.phantom_trades set outcome = 'win' where namespace = %(n)s and id = 'l1'",
        "edited",
        "l1",
    ),
    "a result bettered": (
        "update penumbra.phantom_trades set realized_rr = 0.0 where namespace = %(n)s and id = 'l1'",
        "edited",
        "l1",
    ),
    "a feature bettered": (
        """
        update penumbra.phantom_trades set features_json = jsonb_set(features_json, '{atr_pct}', '0.5')
        where namespace = %(n)s and id = 'l1'
        """,
        "edited",
        "l1",
    ),
    "a loss removed": ("delete from penumbra.phantom_trades where namespace = %(n)s and id = 'l1'", "removed", "l1"),
    "a win invented": (
        "update penumbra.phantom_trades set namespace = %(n)s where namespace = %(n)s || '-2' and id = 'foreign'",
        "inserted",
        "foreign",
    ),
}


@pytest.mark.parametrize(("statement", "what", "name"), TRADES.values(), ids=TRADES)
def test_trade_rows_are_held_against_their_closes(
    record: Record,
    postgres_dsn: str,
    namespace: str,
    owner: psycopg.Connection[Any],
    closed_body: Callable[..., str],
    statement: str,
    what: str,
    name: str,
) -> None:
    def closed(number: int, trade: str, *, won: bool) -> Fact:
        return Fact(number, f"closed:{trade}", "closed", AT + number, {"sid": trade}, closed_body(trade, won=won))

    record.append([closed(1, "w1", won=True), closed(2, "l1", won=False)])
    other = Record(postgres_dsn, f"{namespace}-2")
    other.append([closed(1, "foreign", won=True)])
    other.close()
    whole(record, 2)
    tamper(owner, namespace, statement)
    broken = verify(record).broken
    assert broken is not None
    assert (broken.what, broken.id) == (what, f"phantom_trades {name}")


CUT = (
    "delete from penumbra.facts where namespace = %(n)s and seq > 5",
    "delete from penumbra.audit_chain where namespace = %(n)s and seq > 5",
)


def test_a_head_kept_outside_tells_a_cut_end(record: Record, owner: psycopg.Connection[Any], namespace: str) -> None:
    record.append(facts(1, 8))
    published = record.head()
    assert verify(record, expect_head=published.hash, expected=published).whole
    tamper(owner, namespace, *CUT)
    whole(record, 5)  # by itself a shorter chain is a whole chain
    for report in (verify(record, expect_head=published.hash), verify(record, expected=published)):
        assert report.broken is not None
        assert report.broken.what == "truncated"
    # Growing a new end does not bring the old head back.
    record.append(facts(20, 25))
    assert verify(record, expect_head=published.hash).broken is not None
    assert verify(record, expected=published).broken is not None
    whole(record, 11)


def test_an_old_head_stays_in_the_chain(record: Record) -> None:
    heads = [record.append([fact(number)]).head for number in range(1, 6)]
    for head in heads:
        assert head is not None
        assert verify(record, expect_head=head.hash, expected=head).whole
    assert verify(record, expect_head="0" * 63 + "1").broken is not None


def test_the_relay_does_not_forget_a_head_that_was_lost(
    redis_client: redis.Redis, record: Record, owner: psycopg.Connection[Any], namespace: str
) -> None:
    keys = Keys(namespace)

    def carry(*numbers: int) -> None:
        for number in numbers:
            entry: Any = {"seq": number, "kind": "claimed", "id": f"claimed:s{number}", "at": AT, "body": "{}"}
            redis_client.xadd(keys.outbox(), entry)
        Relay(redis_client, keys, record).cycle()

    carry(*range(1, 9))
    before = confirmed_head(redis_client, keys)
    tamper(owner, namespace, *CUT)
    carry(9)
    assert confirmed_head(redis_client, keys) == before
    assert record.head().links == 6


def test_the_last_links_alone(record: Record, owner: psycopg.Connection[Any], namespace: str) -> None:
    record.append(facts(1, 50))
    assert verify(record, last=10).whole
    tamper(owner, namespace, "update penumbra.facts set body = '{}' where namespace = %(n)s and id = %(s7)s")
    assert verify(record, last=10).whole
    assert not verify(record).whole
    tamper(owner, namespace, "update penumbra.facts set body = '{}' where namespace = %(n)s and id = %(s45)s")
    assert not verify(record, last=10).whole


# --- databases from before the chain


@pytest.fixture
def before_chain(postgres_dsn: str, owner: psycopg.Connection[Any], namespace: str, tmp_path: Path) -> str:
    owner.execute(sql.SQL("create database {} template template0").format(sql.Identifier(namespace)))
    dsn = conninfo.make_conninfo(postgres_dsn, dbname=namespace)
    for item in (resources.files("persistence") / "migrations").iterdir():
        if item.name < "0004":
            (tmp_path / item.name).write_bytes(item.read_bytes())
    with psycopg.connect(dsn, autocommit=True) as connection:
        assert len(migrate(connection, folder=tmp_path)) == 3
    return dsn


INSERT = """
    insert into penumbra.facts (namespace, id, seq, kind, at_ms, fields, body, sha256)
    values (%s, %s, %s, 'claimed', %s, '{"a":"µ"}', '{"why": "→, 5:x,"}', 'digest')
"""


def test_an_existing_record_is_chained(before_chain: str) -> None:
    with psycopg.connect(before_chain, autocommit=True) as connection:
        for number in (1, 2, 5, 3):
            for place in ("", "other"):
                connection.execute(INSERT, [place, f"claimed:µ{number}", number, AT])
    old = Record(before_chain, "")
    assert "0004_audit_chain.sql" in old.migrate()
    # The hashes SQL made are the ones Python checks.
    whole(old, 4)
    assert [link.seq for link, _ in old.chain()] == [1, 2, 5, 3]
    old.append(facts(6, 7))
    whole(old, 6)
    other = Record(before_chain, "other")
    whole(other, 4)
    other.close()
    old.close()


def test_memory_does_not_grow_with_the_record(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk holds two rows at a time: it never asks for a list."""
    record.append(facts(1, 30))
    held: list[int] = []
    chain: Callable[..., Any] = record.chain

    def counted(after: int = 0) -> Any:
        for number, row in enumerate(chain(after)):
            held.append(number)
            yield row

    monkeypatch.setattr(record, "chain", counted)
    seen: list[int] = []
    step = verify.__globals__["_Walk"].step

    def watched(walk: Any, row: Any, following: Any) -> Any:
        seen.append(len(held) - walk.links)
        return step(walk, row, following)

    monkeypatch.setattr(verify.__globals__["_Walk"], "step", watched)
    assert verify(record).whole
    assert max(seen) == 2
