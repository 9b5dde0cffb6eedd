"""Gate reports as people get them: windows, what is left out, luck, words, tables, a page, JSON, and the file."""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console

from gates.gate_set import GateSet, Requires
from gates.report import GateTrades, ReportSettings, Verdict
from gates.variables import VARIABLES, Comparison, Condition, Variable
from lab import gate_json, gate_words
from lab.gate_console import print_gates
from lab.gate_json import as_json
from lab.gate_page import draw_gates, render_gate_page
from lab.gates import Chosen, GateAnswer, Left, Material, Slot, Window, answer, luck_of, material
from lab.whatif_case import cases_of
from persistence.memory_store import MemoryStore
from scripts.gates_run import needed, variables_of, write_gates
from signals.errors import Invalid, Permanent
from tests.support.loop import START_MS, STEP_MS, World
from tests.unit.gates.test_gate_report import market

FEW = ReportSettings(shifts=100)
DAY = 86_400_000
LEAK = Variable(name="leak", group="own", conditions=(Condition(feature="told", test=Comparison.AT_LEAST, limit=0.5),))


def told_of(trades: GateTrades, *, dear: float = 0.05, **changes: Any) -> GateAnswer:
    made = Material(
        trades=trades,
        net_r_at_10_bp=trades.net_r - dear,
        quantiles={},
        earlier=12,
        left=Left(not_asked_for=3, undecided=2, unsettled=1),
    )
    options: dict[str, Any] = {"profile": "scalp", "source": "a test", "settings": FEW} | changes
    return answer(made, Window.everything(10**12), **options)


@cache
def paired() -> GateAnswer:
    return told_of(market(2_000, 1, pair=0.25))


@cache
def noise() -> GateAnswer:
    return told_of(market(400, 1))


def empty() -> GateTrades:
    return replace_columns(market(1, 1).part(slice(0, 0)))


def replace_columns(trades: GateTrades, **columns: Any) -> GateTrades:
    return replace(trades, columns={**trades.columns, **columns})


def printed(told: GateAnswer) -> str:
    console = Console(width=100, file=io.StringIO())
    print_gates(told, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


# --- windows and slots


def test_windows() -> None:
    assert Window.month("2024-02") == Window(
        words="the month 2024-02", from_ms=1_706_745_600_000, to_ms=1_709_251_200_000
    )
    assert Window.month("2024-12").to_ms == 1_735_689_600_000
    assert (Window.days(2, 5 * DAY).from_ms, Window.days(9, 5 * DAY).from_ms) == (3 * DAY, 0)
    for word in ("2024", "2024-13", "24-01", "2024-01-01", ""):
        with pytest.raises(Permanent, match="no month"):
            Window.month(word)


def test_slots() -> None:
    day, week = Slot.parse("2024-07-01"), Slot.parse("2024-W27")
    assert day.begins_ms == week.begins_ms == 1_719_792_000_000
    assert day.window(30).to_ms - day.window(30).from_ms == 30 * DAY
    assert day.window(30).to_ms == day.begins_ms
    # The first days of a year may belong to the last week of the one before.
    assert Slot.parse("2020-W53").begins_ms == 1_609_113_600_000
    for word in ("2024-7-01", "2024-W54", "2023-W53", "2024-W00", "2024-02-30", "2024-W2٧", "today", "", "2024-W 7",
                 "2024-07-1 "):  # fmt: skip
        with pytest.raises(Permanent, match="no day"):
            Slot.parse(word)


# --- from the record


@cache
def lived() -> MemoryStore:
    store = MemoryStore()
    World(store).live(600)
    return store


def laid(window: Window, **options: Any) -> Material:
    store = lived()
    told: dict[str, Any] = {"profile": "scalp", "chosen": Chosen.ALL, "known_until_ms": store.now_ms()} | options
    return material(store.facts, cases_of(store.facts), window, **told)


def test_everything_that_was_decided_is_there_once_and_in_order() -> None:
    store = lived()
    found = laid(Window.everything(store.now_ms() + 1))
    assert len(found.trades) == 600
    assert found.trades.at_ms.tolist() == [START_MS + place * STEP_MS for place in range(600)]
    assert found.left == Left(not_asked_for=0, undecided=0, unsettled=0)
    strong = found.trades.columns["impulse_ratio"] > 0.5
    assert found.trades.won[strong].mean() > 0.7 > 0.3 > found.trades.won[~strong].mean()
    # From 100 with a stop at 99: ten basis points are a tenth of an R.
    assert np.allclose(found.trades.net_r - found.net_r_at_10_bp, 0.1)
    assert set(np.round(found.trades.net_r, 9)) == {2.0, -1.0}
    dear = laid(Window.everything(store.now_ms() + 1), costs_bps=5.0)
    assert np.allclose(found.trades.net_r - dear.trades.net_r, 0.05)


def test_kinds_share_the_signals_among_them() -> None:
    window = Window.everything(lived().now_ms() + 1)
    phantoms, executed = laid(window, chosen=Chosen.PHANTOM), laid(window, chosen=Chosen.EXECUTED)
    assert len(phantoms.trades) + len(executed.trades) == 600
    assert (phantoms.left.not_asked_for, executed.left.not_asked_for) == (len(executed.trades), len(phantoms.trades))
    assert len(laid(window, profile="trend").trades) == 0


def test_signals_too_young_to_be_settled_are_left_out_however_they_ended() -> None:
    now_ms = lived().now_ms()
    found = laid(Window.everything(now_ms + 1), settled_after_ms=100 * STEP_MS)
    assert found.left.unsettled == 600 - len(found.trades)
    assert int(found.trades.at_ms.max()) + 100 * STEP_MS <= now_ms
    earlier = laid(Window.everything(now_ms), known_until_ms=START_MS + 50 * STEP_MS)
    assert len(earlier.trades) == 50


def test_quantiles_come_from_before_the_window_or_not_at_all() -> None:
    window = Window(words="later", from_ms=START_MS + 100 * STEP_MS, to_ms=START_MS + 400 * STEP_MS)
    found = laid(window)
    assert (len(found.trades), found.earlier) == (300, 100)
    before = laid(Window(words="before", to_ms=window.from_ms)).trades.columns["bb_width_pct"]
    expected = float(np.quantile(before, 0.6, method="higher"))
    assert found.quantiles["bb_width_pct", 0.6] == expected
    less = laid(Window(words="later", from_ms=START_MS + 99 * STEP_MS, to_ms=window.to_ms))
    assert (less.earlier, dict(less.quantiles)) == (99, {})
    told = answer(found, window, profile="scalp", source="x", settings=FEW)
    assert any("learned on 100 signals before" in remark for remark in gate_words.remarks(told))
    told = answer(less, window, profile="scalp", source="x", settings=FEW)
    assert any("fallbacks (60 % at 1.5" in remark for remark in gate_words.remarks(told))


# --- luck


def test_luck_counts_as_the_founding_rule_counts() -> None:
    trades = market(700, 4, main=0.12)
    told = told_of(trades)
    assert told.luck.found == len(told.report.counted.hunches.enable) > 0
    assert told.luck.shifts == 400
    assert told.luck.low <= told.luck.expected <= told.luck.high


def test_luck_by_hand() -> None:
    """Four days of forty signals: one variable passes on the first two, and only there is anything won."""
    n, at_ms = 160, np.arange(160, dtype=np.int64) * (DAY // 40)
    passed = np.zeros((1, n), dtype=np.bool_)
    passed[0, :80] = True
    won = np.zeros(n, dtype=np.bool_)
    won[:80] = True
    found = luck_of(passed, np.ones_like(passed), won, at_ms, seed=1)
    # Shifts by 41 to 119 keep at most half of the wins where they were: no win rate of 60 %.
    assert (found.found, found.expected, found.high) == (1, 0.0, 0.0)
    assert 0 < found.shifts < 160
    none = luck_of(passed[:, :0], passed[:, :0], won[:0], at_ms[:0], seed=1)
    assert (none.found, none.shifts) == (0, 0)
    assert math.isnan(none.expected)


# --- words


def test_a_pair_that_is_there() -> None:
    said = gate_words.verdict(paired())
    assert re.match(
        r"\d+ of \d+ looks at 2,000 decided phantoms are discovered, \d+ confirmed on later signals; ", said
    )
    assert "may become" in said
    text = printed(paired())
    assert "What may become hard gates" in text
    assert "true" in text
    assert "nested" in text
    assert max(map(len, text.splitlines())) <= 100
    # The pair that is there, or its tighter twin, is the surest of its size.
    assert set(paired().pairs[0].members) in ({"htf", "micro_seq"}, {"htf_070", "micro_seq"})


def test_nothing_discovered_is_said_plainly() -> None:
    assert gate_words.verdict(noise()).startswith("Nothing is discovered: of ")
    assert "corrected p of" in gate_words.verdict(noise())
    text = printed(noise())
    assert "What may become hard gates" not in text
    assert "Hunches: the founding rule enables" in text
    assert max(map(len, text.splitlines())) <= 100
    assert len(gate_words.bitmap_rows(noise())) == 16


def test_costs_that_take_a_gate_away_are_said_first() -> None:
    told = told_of(market(2_000, 1, pair=0.25), dear=5.0)
    assert "(at 10 bp round trip that of 0)" in gate_words.verdict(told)
    assert any("no longer above 0" in remark for remark in gate_words.remarks(told))


def test_trends_are_month_by_month() -> None:
    trades = market(2_000, 1, pair=0.25)
    rows = gate_words.trend_rows(told_of(trades))
    assert {row[-1] for row in rows} <= {"improving", "degrading", "stable"}
    assert len(rows) > 0
    assert len(gate_words.trend_headings(paired())) == len(rows[0]) == 6


def test_what_knows_the_outcome_is_called_a_leak_and_never_recommended(tmp_path: Path) -> None:
    trades = market(1_000, 2)
    told = told_of(replace_columns(trades, told=trades.won * 1.0), variables=(*VARIABLES, LEAK))
    assert gate_words.remarks(told)[0].startswith("LEAK_SUSPECT: leak separates")
    assert "LEAK" in printed(told)
    assert not any("leak" in row.members for row in told.report.honest)
    assert ["leak"] in as_json(told)["leak_suspects"]
    assert "<strong>LEAK_SUSPECT" in render_gate_page(told)
    with pytest.raises(Permanent, match="nothing in this report is honest"):
        write_gates(told, tmp_path / "gates.yaml")
    assert not (tmp_path / "gates.yaml").exists()


HOSTILE = {
    "no trades": (empty(), Verdict.NO_TRADES),
    "one": (market(1, 3), Verdict.ONE_CLASS),
    "ten": (market(10, 3), Verdict.TOO_FEW),
    "one class": (replace(market(300, 3), won=np.zeros(300, dtype=np.bool_)), Verdict.ONE_CLASS),
    "all at once": (replace(market(300, 3), at_ms=np.zeros(300, dtype=np.int64)), Verdict.TOO_SHORT),
    "constant": (replace_columns(market(300, 3), **{name: np.ones(300) for name in market(1, 3).columns}), Verdict.OK),
    "missing": (replace(market(300, 3), columns={}), Verdict.OK),
    "mostly missing": (market(300, 3, missing=0.97), Verdict.OK),
    "no number": (
        replace_columns(market(300, 3), ts15=np.full(300, np.inf), qscore=np.full(300, np.nan)),
        Verdict.OK,
    ),
    "no score": (replace(market(300, 3), score=np.full(300, np.nan)), Verdict.OK),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_input_gives_a_clear_report_and_no_recommendation(name: str, tmp_path: Path) -> None:
    trades, verdict = HOSTILE[name]
    told = told_of(trades)
    assert told.report.verdict is verdict
    assert told.report.honest == ()
    said = gate_words.verdict(told)
    assert said.startswith("Nothing")
    assert said[:30] in printed(told)
    assert "Nothing" in render_gate_page(told)
    json.dumps(as_json(told), allow_nan=False)
    with pytest.raises(Permanent, match="nothing in this report is honest"):
        write_gates(told, tmp_path / "gates.yaml")


def test_features_that_never_came_are_named() -> None:
    trades = market(300, 3)
    told = told_of(replace(trades, columns={k: v for k, v in trades.columns.items() if k != "qscore"}))
    assert told.silent == ("q_040", "q_050", "q_060", "q_070")
    assert any("No signal brought what q_040" in remark for remark in gate_words.remarks(told))


# --- page and JSON


def test_the_page_is_alone_drawn_and_escaped() -> None:
    payload = "<img src=x onerror=alert(1)>"
    page = render_gate_page(replace(paired(), source=payload, profile=payload))
    assert payload not in page
    assert page.count("<svg role=") == 4
    assert page.count("<figcaption>") == 4
    assert len(re.findall("<caption>", page)) == len(re.findall("<table>", page)) >= 6
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert "<script" not in page
    assert "default-src 'none'" in page
    assert page == render_gate_page(replace(paired(), source=payload, profile=payload))


def test_pictures_say_in_words_what_they_show() -> None:
    delta, null, synergy, trends = draw_gates(paired())
    assert "Discovered among them: " in delta.caption
    assert "of the shifts have one as good" in null.caption
    assert "htf + micro_seq" in synergy.caption
    assert re.search(r"improving|degrading|stable", trends.caption)


def test_json_has_every_figure_under_documented_names() -> None:
    told = as_json(paired())
    documented = set(re.findall(r"\w+", gate_json.__doc__ or ""))
    assert set(told) <= documented
    assert set(told["rows"][0]) <= documented
    assert set(told["rows"][0]["net_r"]) <= documented
    assert len(told["rows"]) == 28 + 45 + 120
    assert told["looks"] <= len(told["rows"])
    assert len(told["null"]) == 100
    pair = next(row for row in told["rows"] if set(row["members"]) == {"htf", "micro_seq"})
    assert pair["honest"]
    assert pair["true_synergy"]
    assert pair["members"] in told["honest"]
    assert pair["win_rate"] == pytest.approx(pair["wins"] / pair["n"], abs=1e-5)
    assert pair["net_r"]["mean"] - pair["net_r_at_10_bp"]["mean"] == pytest.approx(0.05, abs=1e-5)
    assert told["said"][0] == gate_words.verdict(paired())
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    everything = as_json(told_of(market(60, 1), settings=ReportSettings(top=None, shifts=20)))
    assert len(everything["rows"]) == 28 + 378 + 3_276


# --- the file of hard gates


def test_honest_gates_are_written_with_their_evidence_and_read_back(tmp_path: Path) -> None:
    told, path = paired(), tmp_path / "new" / "gates.yaml"
    write_gates(told, path)
    text = path.read_text("utf-8")
    comment = [line for line in text.splitlines() if line.startswith("# ")]
    assert "a test, everything recorded" in comment[0]
    found = GateSet.from_record(yaml.safe_load(text))
    assert (found.profile, found.requires) == ("scalp", Requires.ANY)
    for gate in found.gates:
        assert any(line.startswith(f"#   {' + '.join(gate)}: ") and " at 10 bp" in line for line in comment)
    honest = {row.members for row in told.report.honest}
    assert set(found.gates) <= honest
    # Lists stand in the order of the set, not of the alphabet.
    assert list(yaml.safe_load(text))[:3] == ["version", "profile", "requires"]


def test_gates_that_others_contain_change_nothing() -> None:
    told = paired()
    kept = needed(told.report.honest, told.variables)
    assert 0 < len(kept) < len(told.report.honest)
    small = GateSet(profile="scalp", gates=tuple(row.members for row in kept))
    large = GateSet(profile="scalp", gates=tuple(row.members for row in told.report.honest)[:64])
    rng = np.random.default_rng(1)
    for _ in range(200):
        features = {name: float(column[0]) for name, column in market(1, int(rng.integers(10**6))).columns.items()}
        assert large.passage(features).passed <= small.passage(features).passed
        by = {"+".join(row.members) for row in told.report.honest}
        assert set(small.passage(features).by) <= by


def test_of_two_gates_that_are_one_the_first_is_kept() -> None:
    rows = {row.members: row for row in told_of(market(200, 1)).report.rows}
    body, tighter = rows["body_040",], rows["body_060",]
    assert needed([tighter, body], VARIABLES) == [body]
    assert needed([body, body], VARIABLES) == [body, body]
    both = replace(body, members=("body_040", "body_060"))
    assert needed([tighter, both], VARIABLES) == [tighter]
    assert needed([both, tighter], VARIABLES) == [both]


@pytest.mark.parametrize("suffix", ["toml", "yaml"])
def test_own_variables(tmp_path: Path, suffix: str) -> None:
    text = {
        "toml": '[[variables]]\nname = "calm"\nwhen = [{feature = "atr_pct", below = 0.4}]\n',
        "yaml": "variables:\n- name: calm\n  when:\n  - {feature: atr_pct, below: 0.4}\n",
    }[suffix]
    path = tmp_path / f"own.{suffix}"
    path.write_text(text)
    *house, own = variables_of(path)
    assert tuple(house) == VARIABLES == variables_of(None)
    assert (own.name, str(own), own.group) == ("calm", "atr_pct < 0.4", "own")


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("a.toml", "variables = 3", Permanent),
        ("a.toml", "[[", Permanent),
        ("a.yaml", "a: [", Permanent),
        ("a.yaml", "", Permanent),
        ("a.yaml", "!!python/object/apply:os.system ['true']", Permanent),
        ("a.yaml", "[" * 3_000, Permanent),
        ("a.yaml", "- {name: htf, when: [{feature: a, below: 1}]}", Invalid),
        ("a.yaml", "- {name: own, when: [{feature: a, below: .nan}]}", Invalid),
        ("a.yaml", "- 3", Permanent),
    ],
)
def test_own_variables_are_read_with_suspicion(tmp_path: Path, name: str, text: str, error: type[Permanent]) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(error):
        variables_of(path)
