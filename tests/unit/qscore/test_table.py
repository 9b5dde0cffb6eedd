"""Tables of thresholds: from how many records on, in which order they are asked, and whose scores they are for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from qscore.estimate import Note, estimate
from qscore.outcomes import BUCKETS
from qscore.table import ScoredRecord, TableKey, ThresholdBook, ThresholdTable, learn_table
from qscore.threshold import OPEN, SEED, Clamp, Threshold, ThresholdSource, static_threshold
from scorer.blend import Blend, blend
from signals.bucket import Bucket
from signals.errors import Invalid
from signals.reasons import Reason

US_HIGH, US_LOW, OFF_LOW = Bucket.parse("us|high"), Bucket.parse("us|low"), Bucket.parse("off|low")
FULL = TableKey("ensemble", 1.0)


def table(sizes: Mapping[str | None, int], *, key: TableKey = FULL, seed: int = 3) -> ThresholdTable:
    """Learned from so many records a bucket; higher scores win more often, wins pay 2 R."""
    rng = np.random.default_rng(seed)
    buckets = [bucket for bucket, size in sizes.items() for _ in range(size)]
    scores = rng.uniform(20.0, 80.0, len(buckets))
    won = rng.random(len(buckets)) * 100.0 < scores
    return learn_table(scores, won, np.where(won, 2.0, -1.0), buckets, score_source=key.score_source, w=key.w)


@pytest.mark.parametrize(
    ("sizes", "own", "overall"),
    [
        pytest.param({"us|high": 49}, set(), False, id="49 records: no table"),
        pytest.param({"us|high": 50}, {US_HIGH}, True, id="50 records"),
        pytest.param({"us|high": 20, "us|low": 19, "off|low": 11}, {US_HIGH}, True, id="20 in a bucket, 19 in another"),
        pytest.param({"us|high": 20, "us|low": 29}, set(), False, id="full buckets do not make a table"),
        pytest.param({None: 30, "us|low": 20}, {US_LOW}, True, id="records without a bucket count for the whole"),
        pytest.param({None: 50}, set(), True, id="no buckets at all"),
        pytest.param({}, set(), False, id="nothing"),
    ],
)
def test_from_how_many_records_on(sizes: dict[str | None, int], own: set[Bucket], *, overall: bool) -> None:
    found = table(sizes)
    assert set(found.buckets) == own
    assert (found.overall is not None) is overall
    assert found.records == sum(sizes.values())
    assert (found.rows(OPEN) == []) is not overall


def test_a_bucket_is_learned_from_its_own_records() -> None:
    rng = np.random.default_rng(5)
    scores, won = rng.uniform(0.0, 100.0, 60), rng.random(60) < 0.4
    net_r = np.where(won, 1.7, -1.1)
    buckets: list[str | None] = ["us|high" if place % 2 == 0 else "off|low" for place in range(60)]
    found = learn_table(scores, won, net_r, buckets, score_source="ensemble", w=1.0)
    assert found.buckets[US_HIGH] == estimate(scores[::2], won[::2], net_r[::2])
    assert found.buckets[OFF_LOW] == estimate(scores[1::2], won[1::2], net_r[1::2])
    assert found.overall == estimate(scores, won, net_r)


def test_priority_bucket_then_all_then_static() -> None:
    found = table({"us|high": 40, "us|low": 19})
    assert found.overall is not None
    own, over_all = found.buckets[US_HIGH].threshold, found.overall.threshold
    assert 0 < own < 60
    assert 0 < over_all < 60
    assert found.lookup(US_HIGH, OPEN, 70.0) == Threshold(own, ThresholdSource.QSCORE)
    assert found.lookup(US_LOW, OPEN, 70.0) == Threshold(over_all, ThresholdSource.EV)
    assert found.lookup(US_HIGH, SEED, 70.0) == Threshold(60.0, ThresholdSource.QSCORE, moved_from=own)
    assert found.lookup(US_LOW, SEED, 70.0) == Threshold(60.0, ThresholdSource.EV, moved_from=over_all)
    empty = table({"us|high": 49})
    assert empty.lookup(US_HIGH, SEED, 12.5) == static_threshold(12.5)
    assert empty.lookup(US_HIGH, Clamp(80.0, 90.0), 99.0) == static_threshold(99.0)


def test_a_situation_without_a_win_is_closed() -> None:
    n = 50
    found = learn_table(
        np.full(n, 99.0), np.zeros(n, dtype=np.bool_), np.full(n, -1.0), ["us|low"] * n, score_source="ensemble", w=1.0
    )
    threshold = found.lookup(US_LOW, OPEN, 70.0)
    assert (threshold.value, threshold.closed, threshold.passes(100.0)) == (100.0, True, False)
    assert found.lookup(US_HIGH, OPEN, 70.0).closed, "the estimate over all buckets says the same"
    assert [row.note for row in found.rows(OPEN)] == [Note.NO_WINS.value] * 2


def test_rows_for_a_reader() -> None:
    found = table({"us|low": 30, None: 5, "us|high": 20, "off|low": 3})
    rows = found.rows(SEED)
    assert [row.bucket for row in rows] == ["us|low", "us|high", "all"], "in the fixed order of buckets"
    assert [row.n for row in rows] == [30, 20, 58]
    low = rows[0]
    assert (low.wins + low.losses, low.mean_win_r, low.mean_loss_r, low.p_min) == (30, 2.0, 1.0, 1 / 3)
    assert low.threshold == found.lookup(US_LOW, SEED, 70.0)
    assert (low.threshold.value, low.threshold.clamped, str(low.clamp), low.note) == (60.0, True, "60–95", "reached")
    assert rows[2].threshold == found.lookup(OFF_LOW, SEED, 70.0)


@pytest.mark.parametrize(
    ("source", "w", "matches"),
    [("ensemble", 0.3, True), ("ensemble", 1.0, False), ("ensemble_raw", 0.3, False), ("heuristic", 0.3, False)],
)
def test_a_score_meets_its_own_table_only(source: str, w: float, *, matches: bool) -> None:
    assert table({None: 50}, key=TableKey("ensemble", 0.3)).matches(source, w) is matches


@pytest.mark.parametrize("w", [0.0, 0.3, 1.0])
def test_heuristic_scores_do_not_feel_the_blend(w: float) -> None:
    assert ThresholdTable(TableKey("heuristic", 0.0)).matches("heuristic", w)


@pytest.mark.parametrize(
    ("key", "clamp"),
    [
        (TableKey("heuristic", 0.0), SEED),
        (TableKey("ensemble", 0.0), SEED),
        (TableKey("ensemble", 0.1), OPEN),
        (TableKey("ensemble", 1.0), OPEN),
        (TableKey("ensemble_raw", 1.0), OPEN),
    ],
)
def test_the_floor_is_for_heuristic_scores(key: TableKey, clamp: Clamp) -> None:
    assert key.default_clamp == clamp


@pytest.mark.parametrize(("source", "w"), [("", 0.0), ("ensemble", -0.1), ("ensemble", math.nan), ("heuristic", 0.5)])
def test_keys_that_mean_nothing(source: str, w: float) -> None:
    with pytest.raises(ValueError, match=r"source|share"):
        TableKey(source, w)


def parts(n: int, *, seed: int = 11) -> list[ScoredRecord]:
    """Records whose heuristic and ensemble parts differ, and only the ensemble's tells wins from losses."""
    rng = np.random.default_rng(seed)
    heuristic, ensemble = rng.uniform(50.0, 90.0, n), np.round(rng.uniform(10.0, 70.0, n), 4)
    won = rng.random(n) * 100.0 < ensemble
    names = [str(BUCKETS[place]) for place in rng.integers(0, 2, n)]
    return [
        ScoredRecord(heuristic=float(h), ensemble=float(e), won=bool(y), net_r=2.0 if y else -1.0, bucket=name)
        for h, e, y, name in zip(heuristic, ensemble, won, names, strict=True)
    ]


@pytest.mark.parametrize("word", list(Blend))
def test_another_blend_learns_its_table_from_the_recorded_parts(word: Blend) -> None:
    records, w = parts(120), word.weight
    book = ThresholdBook().relearn(records, w, score_source="ensemble", blend=blend)
    finals = [round((1.0 - w) * (past.heuristic or 0.0) + w * (past.ensemble or 0.0), 4) for past in records]
    assert book.table("ensemble", w) == learn_table(
        np.array(finals),
        np.array([past.won for past in records]),
        np.array([past.net_r for past in records]),
        [past.bucket for past in records],
        score_source="ensemble",
        w=w,
    )
    assert book.table("ensemble", w).records == 120


def test_blends_have_different_tables_side_by_side() -> None:
    records = parts(200)
    book = ThresholdBook()
    for w in (1.0, 0.3):
        book = book.relearn(records, w, score_source="ensemble", blend=blend)
    book = book.relearn(records, 1.0, score_source="heuristic", blend=blend)
    keys = [table.key for table in book.tables]
    assert keys == [TableKey("ensemble", 0.3), TableKey("ensemble", 1.0), TableKey("heuristic", 0.0)]
    values = {key: book.table(key.score_source, key.w).lookup(BUCKETS[0], OPEN, 70.0).value for key in keys}
    assert len(set(values.values())) == 3
    again = book.relearn(records[:60], 1.0, score_source="ensemble", blend=blend)
    assert (len(again.tables), again.table("ensemble", 1.0).records) == (3, 60)
    assert book.table("ensemble", 1.0).records == 200, "the book in force is not touched"


def test_a_table_that_was_never_learned_leads_to_the_static_threshold() -> None:
    book = ThresholdBook().relearn(parts(60), 1.0, score_source="ensemble", blend=blend)
    assert book.table("ensemble", 0.5).lookup(BUCKETS[0], OPEN, 70.0) == static_threshold(70.0)
    assert book.table("ensemble_raw", 1.0).lookup(BUCKETS[0], OPEN, 70.0) == static_threshold(70.0)


def test_records_whose_score_cannot_be_told_are_left_out() -> None:
    records = parts(60)
    records = (
        [replace(past, heuristic=None) for past in records[:8]]
        + [replace(past, ensemble=None if place % 2 == 0 else math.nan) for place, past in enumerate(records[8:14])]
        + records[14:]
    )
    sizes = {}
    for w in (0.0, 0.5, 1.0):
        book = ThresholdBook().relearn(records, w, score_source="ensemble", blend=blend)
        sizes[w] = book.table("ensemble", w).records
    assert sizes == {0.0: 52, 0.5: 46, 1.0: 54}


def book_json() -> dict[str, Any]:
    records = parts(90)
    book = ThresholdBook().relearn(records, 1.0, score_source="ensemble", blend=blend)
    found: dict[str, Any] = book.relearn(records[:30], 0.0, score_source="heuristic", blend=blend).as_json()
    return found


def test_a_book_survives_json() -> None:
    record = book_json()
    book = ThresholdBook.from_json(json.loads(json.dumps(record, allow_nan=False)))
    assert book.as_json() == record
    assert [table.records for table in book.tables] == [90, 30]
    assert len(book.tables[0].buckets) == 2
    assert ThresholdBook.from_json({"tables": []}) == ThresholdBook()


def test_equal_tables_are_spelled_alike() -> None:
    found = table({"us|low": 30, "off|low": 20, "us|high": 20})
    turned = replace(found, buckets=dict(reversed(list(found.buckets.items()))))
    assert json.dumps(turned.as_json()) == json.dumps(found.as_json())
    assert json.dumps(ThresholdTable(TableKey("ensemble", 1)).as_json()["w"]) == "1.0"


def change(record: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    found: Any = record
    for step in path[:-1]:
        found = found[step]
    found[path[-1]] = value
    return record


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("tables",), {}, Reason.FIELD_TYPE),
        (("tables", 0), [], Reason.FIELD_TYPE),
        (("tables", 0, "method"), "guess", Reason.FIELD_RANGE),
        (("tables", 0, "score_source"), "", Reason.FIELD_RANGE),
        (("tables", 0, "score_source"), 3, Reason.FIELD_TYPE),
        (("tables", 0, "w"), 1.5, Reason.FIELD_RANGE),
        (("tables", 0, "w"), None, Reason.FIELD_TYPE),
        (("tables", 1, "w"), 1.0, Reason.FIELD_RANGE),
        (("tables", 0, "records"), 91, Reason.FIELD_RANGE),
        (("tables", 0, "records"), 49, Reason.FIELD_RANGE),
        (("tables", 0, "overall"), None, Reason.FIELD_RANGE),
        (("tables", 0, "overall", "threshold"), 12, Reason.FIELD_RANGE),
        (("tables", 0, "buckets"), [], Reason.FIELD_TYPE),
        (("tables", 0, "buckets", "us|low"), {}, Reason.FIELD_MISSING),
        (("tables", 0, "buckets", "mars|low"), {}, Reason.FIELD_RANGE),
        (("tables", 1, "records"), -1, Reason.FIELD_RANGE),
    ],
)
def test_a_book_is_checked_when_it_is_read(path: tuple[Any, ...], value: Any, reason: Reason) -> None:
    with pytest.raises(Invalid) as caught:
        ThresholdBook.from_json(change(book_json(), path, value))
    assert caught.value.reason is reason


def test_buckets_that_contradict_the_table_are_not_read() -> None:
    record = book_json()
    first = record["tables"][0]
    first["buckets"] = {str(bucket): first["buckets"]["us|low"] for bucket in BUCKETS}
    with pytest.raises(Invalid, match="more records than the table"):
        ThresholdBook.from_json(record)
    record = book_json()
    with pytest.raises(Invalid, match="same kind of score"):
        ThresholdBook.from_json({"tables": [record["tables"][0]] * 2})


def test_a_bucket_needs_its_records() -> None:
    found = table({"us|low": 60})
    small = estimate(np.full(19, 50.0), np.arange(19) < 9, np.where(np.arange(19) < 9, 1.0, -1.0))
    with pytest.raises(ValueError, match="20 records"):
        ThresholdTable(found.key, 60, found.overall, {US_LOW: small})


@pytest.mark.parametrize(
    ("scores", "buckets", "said"),
    [([50.0] * 60, ["us|low"] * 59, "one bucket"), ([50.0] * 60, ["us|none"] * 60, r"unknown buckets: us\|none")],
)
def test_records_that_do_not_fit_are_refused(scores: list[float], buckets: list[str | None], said: str) -> None:
    won = np.arange(60) < 30
    with pytest.raises(ValueError, match=said):
        learn_table(np.array(scores), won, np.where(won, 1.0, -1.0), buckets, score_source="ensemble", w=1.0)
