"""Whatever a text says, the record keeps it as it is and does not do it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from persistence.record import Record
from persistence.store import Fact

AT = 1_704_067_200_000
TABLES = ("facts", "fact_conflicts", "phantom_trades", "bundles", "migrations", "gate_reports")
SPICED = [
    "'; drop table penumbra.facts; --",
    '" or ""="',
    "\\'; select pg_sleep(100); --",
    "%s %(id)s {0} {id} $1 :id ?",
    "$$; delete from penumbra.facts; $$",
    "/* */ -- # ; \\\\ \\x00 \\u0000",
    "a\r\nb\tc\u2028d\u202ee\x1b[2J\x7f\x9b",
    "E'\\047' || chr(39) || U&'\\0027'",
    "ʼ ＇ ‘ ’ ´ \U0001f4a9 \ufeff",
]
# Postgres stores every character but NUL, and no half of one.
TEXT = st.one_of(
    st.sampled_from(SPICED),
    st.text(alphabet=st.sampled_from("'\"\\;-%(){}$:?*/ \n\r\tas"), max_size=40),
    st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60),
)


@pytest.fixture
def record(postgres_dsn: str, namespace: str) -> Iterator[Record]:
    made = Record(postgres_dsn, namespace)
    made.migrate()
    yield made
    made.close()


@pytest.fixture
def owner(postgres_dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        yield connection


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(TEXT, min_size=8, max_size=8))
@example(texts=[SPICED[place % len(SPICED)] for place in range(8)])
@example(texts=[SPICED[(place + 4) % len(SPICED)] for place in range(8)])
def test_every_text_comes_back_as_it_was(
    record: Record,
    owner: psycopg.Connection[Any],
    closed_body: Callable[..., str],
    namespace: str,
    texts: list[str],
) -> None:
    count = record.count()
    ident = f"{count}:{texts[0]}"
    words = {"symbol": texts[1], "strategy": texts[2], "exit_reason": texts[3], "how": texts[4], "bucket": texts[5]}
    body = closed_body(ident, **words, bundle=texts[6], features={texts[7]: texts[1]})
    fact = Fact(count + 1, f"closed:{ident}", "closed", AT, {f"n{texts[1]}": texts[2], "sid": ident}, body)
    other = Fact(count + 1, fact.id, "closed", AT, {**fact.fields, "more": texts[3]}, body)
    plain = Fact(count + 2, f"claimed:{ident}", texts[4], AT, {"engine": texts[5]}, json.dumps({texts[6]: texts[7]}))

    assert record.append([fact, plain]).inserted == 2
    assert record.append([fact]).replayed == 1
    assert record.append([other]).conflicting == (fact.id,)
    assert [found for found in record.facts() if found.seq > count] == [fact, plain]

    row = owner.execute(
        "select symbol, strategy_name, exit_reason, how, bucket, bundle, features_json from penumbra.phantom_trades "
        "where namespace = %s and id = %s",
        [namespace, ident],
    ).fetchone()
    assert row == (
        *(words[name] for name in ("symbol", "strategy", "exit_reason", "how", "bucket")),
        texts[6],
        {texts[7]: texts[1]},
    )
    conflict = owner.execute("select fields from penumbra.fact_conflicts where id = %s", [fact.id]).fetchone()
    assert conflict == (other.fields,)

    address = f"{count}{texts[0]}"
    record.put_bundle(address, texts[1].encode() or b"x")
    assert record.bundle(address) == (texts[1].encode() or b"x")
    report = json.dumps({texts[2]: texts[3]})
    assert record.put_gate_report(address, "2024-06-30", report)
    kept = record.gate_report(address, "2024-06-30")
    assert kept is not None
    assert (kept.profile, kept.body) == (address, report)
    standing = {name for (name,) in owner.execute("select tablename from pg_tables where schemaname = 'penumbra'")}
    assert standing >= set(TABLES)


def test_control_the_same_text_put_into_a_statement_is_not_kept(owner: psycopg.Connection[Any]) -> None:
    owner.execute("create table kept (word text)")
    lost = 0
    for word in SPICED:
        try:
            owner.execute(f"insert into kept values ('{word}')".encode())  # noqa: S608 - what it is about
        except psycopg.Error:
            lost += 1
            continue
        found = owner.execute("select word from kept order by ctid desc limit 1").fetchone()
        lost += found != (word,)
    assert lost >= 3
