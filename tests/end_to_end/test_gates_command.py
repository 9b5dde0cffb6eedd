"""``penumbra gates`` from candles and from a record in Postgres, and the job that keeps a report of each slot."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis
import yaml
from click.testing import CliRunner, Result
from playwright.sync_api import sync_playwright
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from gates.gate_set import GateSet
from market.generated import generate
from persistence.memory_store import MemoryStore
from persistence.record import Record
from persistence.redis_store import RedisStore
from persistence.store import ClockKind
from runtime.embedded import EmbeddedServers
from scripts.cli import main
from scripts.gates_run import SlotReporter
from signals.errors import Permanent, Refusal
from signals.profile import DEFAULT_PROFILES
from signals.reasons import Reason
from tests.support.loop import KEY, START_MS, World
from worker.queue import MAX_RETURNS, GateWorker

JOB = "worker.jobs.gate_report_job"
DAY = 86_400_000
LIVED = 2_000
"""Signals, one every five minutes: almost seven days from 2024-01-01."""
PAYLOAD = "<img src=x onerror=document.title='taken'>"


def penumbra(*words: str) -> Result:
    return CliRunner().invoke(main, ["gates", *words], catch_exceptions=False)


def told(*words: str) -> dict[str, Any]:
    found = penumbra("report", *words, "--json", "--shifts", "60")
    assert found.exit_code == 0, found.output
    parsed: dict[str, Any] = json.loads(found.stdout)
    return parsed


@pytest.fixture(scope="module")
def store() -> MemoryStore:
    made = MemoryStore()
    World(made).live(LIVED)
    return made


@pytest.fixture
def record(
    store: MemoryStore,
    servers: EmbeddedServers,
    redis_client: redis.Redis,
    postgres_dsn: str,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Record]:
    monkeypatch.setenv("PENUMBRA_REDIS_URL", servers.redis_url)
    monkeypatch.setenv("PENUMBRA_POSTGRES_URL", postgres_dsn)
    monkeypatch.setenv("PENUMBRA_SIGNING_KEY", KEY.decode())
    monkeypatch.setenv("PENUMBRA_NAMESPACE", namespace)
    monkeypatch.chdir(tmp_path)
    made = Record(postgres_dsn, namespace)
    made.migrate()
    made.append(store.facts)
    yield made
    made.close()


# --- from candles


def test_a_replay_to_figures_and_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    candles = generate(3, symbol="GENUSDT", timeframe="5m", candles=6_000)
    columns = {name: getattr(candles, name) for name in ("open", "high", "low", "close", "volume")}
    file, page = tmp_path / "GENUSDT_5m.parquet", tmp_path / "out" / "gates.html"
    pq.write_table(pa.table({"ts": np.asarray(candles.ts), **columns}), file)
    (tmp_path / "own.yaml").write_text("- {name: calm, when: [{feature: atr_pct, below: 0.5}]}")
    found = told("--candles", str(file), "--kind", "all", "--variables", "own.yaml", "--html", str(page))
    assert found["source"] == "replay of scalp 5m, 1 symbol"
    assert found["n"] > 10
    assert len(found["variables"]) == 29
    assert found["said"][0].startswith("Nothing ")
    assert found["silent"] == ["q_040", "q_050", "q_060", "q_070"]
    assert "<!DOCTYPE html>" in page.read_text("utf-8")
    refused = penumbra("report", "--candles", str(file), "--write-gates", "gates.yaml")
    assert (refused.exit_code, "nothing in this report is honest" in refused.output) == (2, True)
    assert "Nothing" in refused.output
    assert not Path("gates.yaml").exists()
    other = penumbra("report", "--candles", str(file), "--strategy", "trend")
    assert (other.exit_code, "is judged by the profile trend" in other.output) == (2, True)


# --- from the record


def test_what_the_record_speaks_for_becomes_a_file_of_gates(record: Record, tmp_path: Path) -> None:
    file = tmp_path / "gates.yaml"
    found = penumbra("report", "--kind", "all", "--shifts", "60", "--write-gates", str(file))
    assert found.exit_code == 0
    assert "What may become hard gates" in found.output
    made = GateSet.from_record(yaml.safe_load(file.read_text("utf-8")))
    assert made.gates == (("impulse_040",),)
    assert made.passage({"impulse_ratio": 0.9}).passed
    assert not made.passage({"impulse_ratio": 0.1}).passed
    # Heavy impulses are executed here: what was refused says less.
    whole, refused, executed = (told("--kind", kind) for kind in ("all", "phantom", "executed"))
    assert refused["n"] + executed["n"] == whole["n"]
    assert whole["left_out"]["unsettled"] == pytest.approx(288, abs=1)
    assert whole["source"] == f"record of {record.namespace}"


def test_windows_of_the_record(record: Record, redis_client: redis.Redis) -> None:
    month = told("--month", "2024-01", "--kind", "all")
    assert month["n"] == told("--kind", "all")["n"]
    days = told("--days", "5", "--kind", "all")
    # Five days back, and a day at their end that is not settled; the moment itself counts.
    assert days["n"] == 4 * 288 + 1
    assert all(entry["learned"] for entry in days["quantiles"])
    # The live clock knows better than the last fact how late it is.
    live = RedisStore(redis_client, record.namespace)
    live.create(ClockKind.DATA, now_ms=START_MS)
    live.advance_clock(START_MS + 10 * DAY)
    assert told("--days", "5", "--kind", "all")["n"] == LIVED - 5 * 288
    assert told("--days", "2", "--kind", "all")["n"] == 0
    assert days["signals_before"] == LIVED - 5 * 288
    empty = told("--month", "2023-01")
    assert (empty["n"], empty["verdict"], empty["honest"]) == (0, "GATES_NO_TRADES", [])
    assert penumbra("report", "--month", "2023-01").exit_code == 0
    for words, why in (
        (("--month", "2024-1-1"), "no month"),
        (("--month", "2024-01", "--days", "3"), "name one"),
        (("--profile", "nosuch"), "nosuch"),
        (("--top", "0"), "a number of variables, or all"),
    ):
        refused = penumbra("report", *words)
        assert (refused.exit_code, why in refused.output) == (2, True), refused.output


# --- one report of each slot


class Silent:
    """A service for a worker that gets no signals here."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    def judge(self, payload: object) -> dict[str, object]:
        raise AssertionError(payload)

    def refuse(self, raw: bytes, refusal: Refusal) -> dict[str, object]:
        self.asked.append(refusal)
        return {"action": "rejected", "reasons": [refusal.reason.value]}

    def give_up(self, payload: object, reason: Reason) -> dict[str, object]:
        raise AssertionError(payload, reason)


def work(
    client: redis.Redis, name: str, reporter: SlotReporter | None, *payloads: object, returns: int = 0
) -> list[Job]:
    queue = Queue(name, connection=client, serializer=JSONSerializer)
    jobs = [queue.enqueue(JOB, payload) for payload in payloads]
    for job in jobs:
        client.hset(job.key, "gate_returns", str(returns))
    worker = GateWorker(name, connection=client, service=Silent(), reporter=reporter, job_timeout_s=60)
    worker.run(burst=True)
    return [Job.fetch(job.id, connection=client, serializer=JSONSerializer) for job in jobs]


def returned(job: Job) -> dict[str, Any]:
    found = job.return_value()
    assert isinstance(found, dict), job.get_status(refresh=False)
    return found


def test_a_slot_is_reported_once(record: Record, redis_client: redis.Redis, namespace: str) -> None:
    reporter = SlotReporter(record, DEFAULT_PROFILES, lambda: START_MS + 9 * DAY)
    asked = {"profile": "scalp", "slot": "2024-01-08"}
    first, second, week = work(redis_client, f"{namespace}-reports", reporter, asked, asked,
                               asked | {"slot": "2024-W02"})  # fmt: skip
    one, other, weekly = (returned(job) for job in (first, second, week))
    assert (one["stored"], other["stored"], weekly["stored"]) == (True, False, True)
    assert other | {"stored": True} == one
    assert one["n"] > 100
    # The week begins with that very day: it looks at the same signals.
    assert {**weekly, "slot": "2024-01-08", "said": ""} == {**one, "said": ""}
    kept = record.gate_report("scalp", "2024-01-08")
    assert kept is not None
    body = json.loads(kept.body)
    assert body["kind"] == "phantom"
    assert body["window"]["to_ms"] == START_MS + 7 * DAY
    assert body["last_ms"] <= START_MS + 6 * DAY
    listed = penumbra("list")
    assert (listed.exit_code, len(listed.output.splitlines())) == (0, 2)
    assert json.loads(penumbra("show", "2024-01-08", "--json").stdout) == body
    shown = penumbra("show", "2024-W02").output
    assert body["said"][1] in shown
    rows = json.loads(penumbra("list", "--json", "--profile", "scalp").stdout)
    assert {row["slot"] for row in rows} == {"2024-01-08", "2024-W02"}
    assert penumbra("list", "--profile", "trend").output == "no gate report has been stored\n"
    assert penumbra("show", "2024-01-09").exit_code == 2


def test_what_comes_later_does_not_change_a_slot(record: Record, store: MemoryStore) -> None:
    reporter = SlotReporter(record, DEFAULT_PROFILES, lambda: START_MS + 9 * DAY)
    cut = [fact for fact in store.facts if fact.at_ms <= START_MS + 5 * DAY]
    assert len(cut) < len(store.facts)
    earlier = Record(record._dsn, f"{record.namespace}-cut")
    earlier.append(cut)
    then = SlotReporter(earlier, DEFAULT_PROFILES, lambda: START_MS + 5 * DAY)
    for told_by, kept_in in ((reporter, record), (then, earlier)):
        assert told_by.gate_report("scalp", "2024-01-06")["stored"]
        assert kept_in.gate_report("scalp", "2024-01-06") is not None
    bodies = [json.loads(one.body) for one in (record.gate_report("scalp", "2024-01-06"),
                                               earlier.gate_report("scalp", "2024-01-06")) if one]  # fmt: skip
    assert bodies[0] | {"source": ""} == bodies[1] | {"source": ""}
    earlier.close()


def test_what_is_no_report_fails_and_stores_nothing(record: Record, redis_client: redis.Redis, namespace: str) -> None:
    reporter = SlotReporter(record, DEFAULT_PROFILES, lambda: START_MS + 3 * DAY)
    good = {"profile": "scalp", "slot": "2024-01-02"}
    bad = [good | {"slot": "2024-01-05"}, good | {"slot": "2024"}, good | {"profile": "nosuch"}, good | {"slot": 3},
           {"slot": "2024-01-02"}, good | {"more": 1}, "scalp"]  # fmt: skip
    jobs = work(redis_client, f"{namespace}-reports", reporter, *bad)
    assert {job.get_status(refresh=False).value for job in jobs} == {"failed"}
    with pytest.raises(Permanent, match="has not begun"):
        reporter.gate_report("scalp", "2024-01-05")
    # Nothing had ended before the first day began: a report that says so.
    (empty,) = work(redis_client, f"{namespace}-reports", reporter, good | {"slot": "2024-01-01"})
    assert returned(empty)["verdict"] == "GATES_NO_TRADES"
    assert [row.slot for row in record.gate_reports()] == ["2024-01-01"]
    # A worker of signals never searches, and a search that killed its workers is no signal to be given up.
    (signals,) = work(redis_client, f"{namespace}-signals", None, good)
    deadly = work(redis_client, f"{namespace}-reports", reporter, good, returns=MAX_RETURNS + 1)
    assert [job.get_status(refresh=False).value for job in (signals, *deadly)] == ["failed", "failed"]
    assert [row.slot for row in record.gate_reports()] == ["2024-01-01"]


# --- the page in a real browser


def _chromium() -> str | None:
    names = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    return os.environ.get("PENUMBRA_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@pytest.mark.skipif(_chromium() is None, reason="no Chromium: set PENUMBRA_CHROMIUM or install one")
def test_the_page_is_silent_alone_and_narrow_enough(tmp_path: Path) -> None:
    from lab.gate_page import write_gate_page  # noqa: PLC0415 - draws, and only here
    from tests.unit.gates.test_gate_report import market  # noqa: PLC0415
    from tests.unit.lab.test_gate_answer import told_of  # noqa: PLC0415

    file = tmp_path / "gates.html"
    write_gate_page(told_of(market(900, 1, pair=0.3), source=PAYLOAD), file)
    said: list[str] = []
    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=_chromium(), args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        for width, scheme in ((1280, "light"), (390, "dark"), (360, "light")):
            page = browser.new_page(
                viewport={"width": width, "height": 900}, color_scheme="dark" if scheme == "dark" else "light"
            )
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("request", lambda request: asked.append(request.url))
            page.goto(file.as_uri(), wait_until="load")
            assert page.title() == "Penumbra: gates of scalp"
            assert page.locator("figure svg").count() == 4
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.close()
        browser.close()
    assert said == []
    assert set(asked) == {file.as_uri()}
