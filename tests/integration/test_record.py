"""The record on a real Postgres: appended once, never changed, told apart from a replay."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import conninfo, errors, sql

from persistence.migrate import WRITER, MigrationRefused, migrate
from persistence.record import AppendReport, Record, RecordDamaged, as_failure
from persistence.rows import BadFact
from persistence.store import Fact
from signals.errors import Permanent, Transient

AT = 1_700_000_000_000
TABLES = ("facts", "fact_conflicts", "phantom_trades", "migrations", "audit_chain", "gate_reports")


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


def claimed(number: int, engine: str = "desk", **changes: Any) -> Fact:
    fields = {"sid": f"s{number}", "prefix": "phantom", "engine": engine}
    return replace(Fact(number, f"claimed:s{number}", "claimed", AT + number, fields, "{}"), **changes)


def closed(body: str, signal_id: str = "a", seq: int = 1, **changes: Any) -> Fact:
    fields = {
        "sid": signal_id,
        "prefix": "phantom",
        "position_kind": "phantom",
        "v": "2",
        "track": "{}",
        "day": "20231114",
    }
    return replace(Fact(seq, f"closed:{signal_id}", "closed", AT, fields, body), **changes)


def rows(owner: psycopg.Connection[Any], table: str, namespace: str) -> list[dict[str, Any]]:
    with owner.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        statement = sql.SQL("select * from penumbra.{} where namespace = %s").format(sql.Identifier(table))
        return cursor.execute(statement, [namespace]).fetchall()


# --- append and read


def test_facts_come_back_as_they_were_and_in_order(record: Record) -> None:
    facts = [
        Fact(1, "created:1", "created", AT, {"clock": "data"}, "{}"),
        Fact(
            2, "decision:ü", "decision", AT + 5, {"b": "2", "a": "1", "nul-free": "\t\"'\\%s {}"}, '{"z": 1.0, "a":[]}'
        ),
        Fact(2**53, "closed-to-be", "claimed", 0, {}, '{"x":1e-7,"x":2}'),
    ]
    assert record.is_empty()
    assert record.append(list(reversed(facts))) == AppendReport(3, 0, ())
    assert list(record.facts()) == facts
    assert (record.is_empty(), record.count(), record.last_seq()) == (False, 3, 2**53)


def test_nothing_to_append_needs_no_server() -> None:
    assert Record("host=/nowhere").append([]) == AppendReport(0, 0, ())


def test_more_facts_than_are_read_at_once(record: Record) -> None:
    facts = [claimed(number) for number in range(1, 4_501)]
    assert record.append(facts).inserted == 4_500
    assert list(record.facts()) == facts


def test_one_namespace_does_not_see_another(record: Record, postgres_dsn: str, namespace: str) -> None:
    other = Record(postgres_dsn, f"{namespace}-b")
    record.append([claimed(1)])
    assert other.is_empty()
    assert other.append([claimed(1, "other desk")]) == AppendReport(1, 0, ())
    assert [fact.fields["engine"] for fact in record.facts()] == ["desk"]
    other.close()


def test_a_replay_is_recognised_whatever_the_roll_back_changed(record: Record) -> None:
    first = claimed(1, fields={"engine": "desk", "expires": "5", "v": "3", "track": "{}", "last_ts": "1", "day": "d"})
    again = claimed(
        1,
        seq=40,
        at_ms=AT + 99,
        fields={"engine": "desk", "expires": "9", "v": "8", "track": "", "last_ts": "", "day": ""},
    )
    assert record.append([first]) == AppendReport(1, 0, ())
    assert record.append([first, again, claimed(2)]) == AppendReport(1, 2, ())
    assert record.count_conflicts() == 0
    assert next(record.facts()) == first


def test_another_content_is_kept_apart_and_the_first_one_stands(
    record: Record, owner: psycopg.Connection[Any], namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    record.append([claimed(1)])
    for _ in range(2):  # the relay may deliver the conflict twice as well
        assert record.append([claimed(1, "thief", seq=7)]) == AppendReport(0, 0, ("claimed:s1",))
    assert record.append([claimed(1, "second thief")]).conflicts == 1
    assert list(record.facts()) == [claimed(1)]
    kept = rows(owner, "fact_conflicts", namespace)
    assert sorted((row["fields"]["engine"], row["seq"]) for row in kept) == [("second thief", 1), ("thief", 7)]
    assert all(row["first_sha256"] != row["second_sha256"] for row in kept)
    assert record.count_conflicts() == 2
    assert "claimed:s1" in caplog.text


def test_an_id_twice_in_one_batch(record: Record) -> None:
    batch = [claimed(1), claimed(1), claimed(1, "thief"), claimed(2)]
    assert record.append(batch) == AppendReport(2, 1, ("claimed:s1",))
    assert list(record.facts()) == [claimed(1), claimed(2)]


def test_two_facts_with_one_number_stay_in_the_order_they_came(record: Record) -> None:
    record.append([claimed(3)])
    record.append([claimed(9, seq=3), claimed(1)])
    assert [fact.id for fact in record.facts()] == ["claimed:s1", "claimed:s3", "claimed:s9"]


# --- the trade row


def test_a_closed_fact_brings_its_trade_once(
    record: Record, owner: psycopg.Connection[Any], namespace: str, closed_body: Callable[..., str]
) -> None:
    body = closed_body("a", kind="executed", late_mark=True)
    for _ in range(2):
        record.append([closed(body)])
    (trade,) = rows(owner, "phantom_trades", namespace)
    assert (trade["id"], trade["outcome"], trade["was_executed"], trade["late_mark"]) == ("a", "win", True, True)
    assert trade["features_json"] == {"atr_pct": 0.7, "session": "us", "rsi": None}
    assert trade["realized_rr"] == json.loads(body)["net_r"]
    assert trade["created_at"] == trade["updated_at"]
    assert trade["created_at"].timestamp() * 1000 == AT


def test_a_closed_fact_without_a_key_is_refused_whole(
    record: Record, owner: psycopg.Connection[Any], namespace: str, closed_body: Callable[..., str]
) -> None:
    body = json.loads(closed_body())
    del body["mfe_r"]
    with pytest.raises(BadFact, match="'mfe_r'"):
        record.append([claimed(2), closed(json.dumps(body))])
    assert record.is_empty()
    assert rows(owner, "phantom_trades", namespace) == []


# --- data no table can hold


@pytest.mark.parametrize(
    "fact",
    [
        pytest.param(claimed(1, body='{"a":"\x00"}'), id="NUL"),
        pytest.param(claimed(1, body='{"a":"\\u0000"}'), id="escaped NUL"),
        pytest.param(claimed(1, fields={"a": "\x00"}), id="NUL in a field"),
        pytest.param(claimed(1, body='{"a":NaN}'), id="NaN"),
        pytest.param(claimed(1, body="{"), id="broken JSON"),
        pytest.param(claimed(1, body='{"a":"\\ud800"}'), id="half a character, escaped"),
        pytest.param(claimed(1, body='"\ud800"'), id="half a character"),
        pytest.param(claimed(1, fields={"a": "\ud800"}), id="half a character in a field"),
        pytest.param(claimed(1, seq=2**63), id="number too large"),
        pytest.param(claimed(1, seq=0), id="number too small"),
        pytest.param(claimed(1, at_ms=253_402_300_800_000), id="year 10000"),
        pytest.param(claimed(1, id="".join(chr(0x4E00 + n) for n in range(9_000))), id="id too long"),
    ],
)
def test_bad_data_is_the_datas_fault_and_leaves_nothing(record: Record, fact: Fact) -> None:
    with pytest.raises(BadFact):
        record.append([claimed(5), fact])
    assert record.is_empty()
    assert record.append([claimed(5)]).inserted == 1


# --- append-only


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    "statement",
    ["update penumbra.{} set {} = {}", "delete from penumbra.{}", "truncate penumbra.{}", "drop table penumbra.{}"],
)
def test_the_application_may_only_insert_and_select(
    record: Record, owner: psycopg.Connection[Any], table: str, statement: str
) -> None:
    record.append([claimed(1)])
    column = sql.Identifier({"migrations": "name", "gate_reports": "slot"}.get(table, "id"))
    owner.execute(sql.SQL("set role {}").format(sql.Identifier(WRITER)))
    with pytest.raises(errors.InsufficientPrivilege):
        owner.execute(_filled(statement, table, column))
    owner.execute(sql.SQL("select count(*) from penumbra.{}").format(sql.Identifier(table)))


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("role", ["origin", "replica"])
@pytest.mark.parametrize(
    "statement", ["update penumbra.{} set {} = {}", "delete from penumbra.{}", "truncate penumbra.{}"]
)
def test_the_owner_may_not_change_it_either(
    record: Record, owner: psycopg.Connection[Any], table: str, role: str, statement: str
) -> None:
    record.append([claimed(1)])
    owner.execute(sql.SQL("set session_replication_role = {}").format(sql.Literal(role)))
    column = sql.Identifier({"migrations": "name", "gate_reports": "slot"}.get(table, "id"))
    with pytest.raises(errors.InsufficientPrivilege, match="append-only"):
        owner.execute(_filled(statement, table, column))
    assert record.count() == 1


def _filled(statement: str, table: str, column: sql.Identifier) -> sql.Composed:
    parts = [sql.Identifier(table), column, column][: statement.count("{}")]
    return sql.SQL(statement).format(*parts)


def test_the_record_writes_as_the_writer(record: Record, owner: psycopg.Connection[Any]) -> None:
    record.append([claimed(1)])
    seen = "select usename from pg_stat_activity where application_name = 'penumbra' and query like 'COMMIT%'"
    assert owner.execute(seen).fetchall()  # the login is the user's own
    with record._connected() as connection:
        assert connection.execute("select current_user").fetchone() == (WRITER,)


def test_a_fact_changed_behind_our_back_is_found(
    record: Record, owner: psycopg.Connection[Any], namespace: str
) -> None:
    record.append([claimed(1), claimed(2), claimed(3)])
    owner.execute("alter table penumbra.facts disable trigger append_only")
    try:
        owner.execute(
            'update penumbra.facts set fields = \'{"engine":"thief"}\' where namespace = %s and seq = 2', [namespace]
        )
    finally:
        owner.execute("alter table penumbra.facts enable always trigger append_only")
    facts = record.facts()
    assert next(facts) == claimed(1)
    with pytest.raises(RecordDamaged, match="claimed:s2"):
        next(facts)


# --- the views


def test_views_show_what_people_ask_for(record: Record, owner: psycopg.Connection[Any], namespace: str) -> None:
    decided = {"sid": "s", "action": "phantom", "reasons": "LIMIT_OPEN_POSITIONS,SCORE_PASSED", "symbol": "X"}
    record.append(
        [
            Fact(1, "decision:s", "decision", AT, decided, '{"score":71.5,"side":"long","threshold":70}'),
            Fact(2, "control:2", "control", AT, {"mode": "HALT", "gen": "2", "by": "op", "reason": "why"}, "{}"),
            Fact(3, "corrected:s:r", "corrected", AT, {"sid": "s", "report": "r", "learned": "1"}, '{"net_r":-1.5}'),
        ]
    )
    (decision,) = rows(owner, "decisions", namespace)
    assert (decision["signal_id"], decision["score"], decision["reasons"]) == (
        "s",
        71.5,
        ["LIMIT_OPEN_POSITIONS", "SCORE_PASSED"],
    )
    (event,) = rows(owner, "control_events", namespace)
    assert (event["mode"], event["generation"], event["actor"]) == ("HALT", 2, "op")
    (correction,) = rows(owner, "trade_corrections", namespace)
    assert (correction["id"], correction["realized_rr"], correction["learned"]) == ("s", -1.5, True)


# --- connections that go


def test_a_lost_connection_is_passing_and_the_next_call_opens_another(
    record: Record, owner: psycopg.Connection[Any]
) -> None:
    record.append([claimed(1)])
    owner.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'penumbra'")
    with pytest.raises(Transient):
        record.append([claimed(2)])
    assert record.append([claimed(2)]).inserted == 1
    assert record.count() == 2


def test_a_server_that_is_not_there_is_passing(tmp_path: Path) -> None:
    with pytest.raises(Transient):
        Record(f"host={tmp_path}").count()


def test_an_address_nobody_can_read_shows_no_password() -> None:
    with pytest.raises(Permanent) as refused:
        Record("postgresql://me:secret@[oops/db").count()
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.SerializationFailure, Transient),
        (errors.DeadlockDetected, Transient),
        (errors.AdminShutdown, Transient),
        (errors.CannotConnectNow, Transient),
        (errors.DiskFull, Transient),
        (errors.TooManyConnections, Transient),
        (errors.QueryCanceled, Transient),
        (errors.LockNotAvailable, Transient),
        (errors.ReadOnlySqlTransaction, Transient),
        (errors.IoError, Transient),
        (psycopg.OperationalError, Transient),
        (psycopg.InterfaceError, Transient),
        (psycopg.DataError, BadFact),
        (errors.UntranslatableCharacter, BadFact),
        (errors.CheckViolation, BadFact),
        (errors.ProgramLimitExceeded, BadFact),
        (errors.UndefinedTable, Permanent),
        (errors.InsufficientPrivilege, Permanent),
        (errors.SyntaxError, Permanent),
    ],
)
def test_whose_fault_an_error_is(error: type[psycopg.Error], kind: type[Exception]) -> None:
    assert type(as_failure(error("x"))) is kind


# --- migrations


@pytest.fixture
def blank(servers_database: Callable[[str], str], namespace: str) -> str:
    return servers_database(namespace)


@pytest.fixture
def servers_database(postgres_dsn: str, owner: psycopg.Connection[Any]) -> Callable[[str], str]:
    def make(name: str) -> str:
        owner.execute(sql.SQL("create database {} template template0").format(sql.Identifier(name)))
        return conninfo.make_conninfo(postgres_dsn, dbname=name)

    return make


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.sql").write_text(text)
    return folder


def test_migrations_are_applied_once(blank: str) -> None:
    first = Record(blank)
    applied = first.migrate()
    assert applied[0] == "0001_record.sql"
    assert len(applied) >= 2
    assert first.migrate() == ()
    assert first.is_empty()
    first.close()


def test_only_what_is_new_is_applied(blank: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "m", **{"0001_one": "create table penumbra.one (a int);", "notes": "not a migration"})
    with psycopg.connect(blank, autocommit=True) as connection:
        assert migrate(connection, folder=folder) == ("0001_one.sql",)
        write(folder, **{"0002_two": "create table penumbra.two (a int); insert into penumbra.one values (1);"})
        assert migrate(connection, folder=folder) == ("0002_two.sql",)
        assert connection.execute("select a from penumbra.one").fetchall() == [(1,)]


def test_a_changed_file_is_refused_but_turned_line_ends_are_not(blank: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "m", **{"0001_one": "create table\npenumbra.one (a int);\n"})
    with psycopg.connect(blank, autocommit=True) as connection:
        migrate(connection, folder=folder)
        (folder / "0001_one.sql").write_bytes(b"create table\r\npenumbra.one (a int);\r\n")
        assert migrate(connection, folder=folder) == ()
        write(folder, **{"0001_one": "create table penumbra.one (a text);"})
        with pytest.raises(MigrationRefused, match=r"0001_one\.sql was changed"):
            migrate(connection, folder=folder)


def test_a_newer_database_is_refused(blank: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "m", **{"0001_one": "select 1;", "0002_two": "select 1;"})
    with psycopg.connect(blank, autocommit=True) as connection:
        migrate(connection, folder=folder)
        (folder / "0002_two.sql").unlink()
        with pytest.raises(MigrationRefused, match="newer"):
            migrate(connection, folder=folder)


def test_a_broken_migration_leaves_nothing_of_itself(blank: str, tmp_path: Path) -> None:
    folder = write(
        tmp_path / "m",
        **{
            "0001_one": "create table penumbra.one (a int);",
            "0002_two": "create table penumbra.two (a int); select 1/0;",
        },
    )
    with psycopg.connect(blank, autocommit=True) as connection:
        with pytest.raises(errors.DivisionByZero):
            migrate(connection, folder=folder)
        assert connection.execute(
            "select to_regclass('penumbra.one') is null, to_regclass('penumbra.two') is null"
        ).fetchone() == (False, True)
        write(folder, **{"0002_two": "create table penumbra.two (a int);"})
        assert migrate(connection, folder=folder) == ("0002_two.sql",)


def test_a_login_that_may_not_make_roles_is_told_what_to_ask_for(blank: str, owner: psycopg.Connection[Any]) -> None:
    owner.execute("drop role if exists modest")
    owner.execute("create role modest login")
    with psycopg.connect(conninfo.make_conninfo(blank, user="modest"), autocommit=True) as connection:
        with pytest.raises(MigrationRefused, match=r'CREATE ROLE absent NOLOGIN; GRANT absent TO "modest";'):
            migrate(connection, writer="absent")
        with pytest.raises(MigrationRefused, match=rf'once: GRANT {WRITER} TO "modest";'):
            migrate(connection)
        owner.execute(sql.SQL("grant {} to modest").format(sql.Identifier(WRITER)))
        with pytest.raises(MigrationRefused, match="GRANT CREATE ON DATABASE"):
            migrate(connection)
        owner.execute(sql.SQL("grant create on database {} to modest").format(sql.Identifier(connection.info.dbname)))
        assert migrate(connection)
    modest = Record(conninfo.make_conninfo(blank, user="modest"))
    assert modest.append([claimed(1)]).inserted == 1
    modest.close()


def test_a_database_without_the_tables_says_what_to_do(blank: str) -> None:
    record = Record(blank)
    with pytest.raises(Permanent, match="penumbra migrate"):
        record.count()
    record.close()


def test_a_lock_is_held_by_one(record: Record, postgres_dsn: str, namespace: str) -> None:
    same, other = Record(postgres_dsn, namespace), Record(postgres_dsn, f"{namespace}-b")
    with record.lock("rebuild"):
        with pytest.raises(Permanent, match="another rebuild"), same.lock("rebuild"):
            pass
        with other.lock("rebuild"), same.lock("something else"):
            pass
    with same.lock("rebuild"):
        pass


# --- gate reports


def test_a_slot_has_one_gate_report(record: Record, owner: psycopg.Connection[Any], postgres_dsn: str) -> None:
    assert record.gate_report("scalp", "2024-06-30") is None
    assert record.gate_reports() == []
    assert record.put_gate_report("scalp", "2024-06-30", '{"n": 1.50}')
    assert not record.put_gate_report("scalp", "2024-06-30", '{"n": 2}')
    assert record.put_gate_report("scalp", "2024-W26", "{}")
    assert record.put_gate_report("trend", "2024-06-30", "{}")
    kept = record.gate_report("scalp", "2024-06-30")
    assert kept is not None
    assert (kept.profile, kept.slot, kept.body) == ("scalp", "2024-06-30", '{"n": 1.50}')
    assert kept.created_at.endswith("Z")
    assert [(row.profile, row.slot) for row in record.gate_reports("scalp")] == [
        ("scalp", "2024-W26"),
        ("scalp", "2024-06-30"),
    ]
    assert len(record.gate_reports()) == 3
    other = Record(postgres_dsn, f"{record.namespace}-2")
    assert other.gate_reports() == []
    other.close()


@pytest.mark.parametrize(
    ("slot", "body"),
    [("2024-6-30", "{}"), ("2024-W5", "{}"), ("", "{}"), ("2024-06-30\n", "{}"), ("2024-06-30", "{"),
     ("2024-06-30", '{"a":NaN}'), ("2024-06-30", '{"a":"\\u0000"}')],
)  # fmt: skip
def test_what_is_no_slot_or_no_report_is_the_datas_fault(record: Record, slot: str, body: str) -> None:
    with pytest.raises(BadFact):
        record.put_gate_report("scalp", slot, body)
    assert record.gate_reports() == []
