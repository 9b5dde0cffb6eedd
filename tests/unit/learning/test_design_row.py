"""One row of a design: numbers, ranks, levels, what is missing; and importance folded back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from learning.importance import feature_importance
from scorer.encoding import MAX_LEVELS, MISSING_RANK, Encoding
from scorer.schema import SCALP, Feature, Kind, Schema, Vector

TINY = Schema(
    "tiny",
    1,
    (
        Feature(name="a"),
        Feature(name="side_of_town", kind=Kind.CATEGORY),
        Feature(name="b"),
        Feature(name="size", kind=Kind.CATEGORY, levels=("small", "large"), ordered=True),
        Feature(name="c"),
    ),
)
ROWS: list[Mapping[str, Any]] = [
    {"a": 1.0, "b": 5.0, "side_of_town": "west", "size": "small"},
    {"a": 2.0, "b": None, "side_of_town": "east", "size": "large"},
    {"a": 9.0, "b": 5.0, "side_of_town": "west", "size": None},
]


def vector(features: Mapping[str, Any]) -> Vector:
    return TINY.vector(features)


@pytest.fixture
def encoding() -> Encoding:
    return Encoding.fit(TINY, [vector(row) for row in ROWS])


def test_columns(encoding: Encoding) -> None:
    # c was never there: it is dropped. Numbers first, then categories in the schema's order.
    assert encoding.columns == ("a", "b", "side_of_town=east", "side_of_town=west", "side_of_town=", "size")
    assert encoding.sources == ("a", "b", "side_of_town", "side_of_town", "side_of_town", "size")
    assert encoding.width == 6
    assert encoding.medians.tolist() == [2.0, 5.0]


@pytest.mark.parametrize(
    ("features", "row"),
    [
        pytest.param({"a": 4, "b": 7.0, "side_of_town": "east", "size": "large"}, [4, 7, 1, 0, 0, 1], id="all there"),
        pytest.param(
            {"a": 4, "b": 7.0, "side_of_town": "west", "size": "small"}, [4, 7, 0, 1, 0, 0], id="other levels"
        ),
        pytest.param({"a": math.nan, "b": math.inf}, [2, 5, 0, 0, 1, MISSING_RANK], id="medians and missing levels"),
        pytest.param({"side_of_town": "north"}, [2, 5, 0, 0, 1, MISSING_RANK], id="a level training never saw"),
        pytest.param({"size": "huge"}, [2, 5, 0, 0, 1, MISSING_RANK], id="a level the schema does not know"),
        pytest.param({"c": 1e9, "unknown": 3.0}, [2, 5, 0, 0, 1, MISSING_RANK], id="a dropped and an unknown name"),
    ],
)
def test_rows(encoding: Encoding, features: Mapping[str, Any], row: list[float]) -> None:
    assert encoding.row(vector(features)).tolist() == row


def test_matrix_is_row_by_row(encoding: Encoding) -> None:
    vectors = [vector(row) for row in ROWS]
    assert encoding.matrix(vectors).tolist() == [encoding.row(one).tolist() for one in vectors]
    assert encoding.matrix([]).shape == (0, 6)


def test_readable_is_a_tenth_or_one(encoding: Encoding) -> None:
    assert encoding.allowed_missing == 1
    assert encoding.readable(vector({"a": 1, "b": 1, "c": 1, "side_of_town": "x"}))
    assert not encoding.readable(vector({"a": 1, "b": 1, "c": 1}))


def test_a_vector_of_another_schema_is_refused(encoding: Encoding) -> None:
    with pytest.raises(ValueError, match="vector"):
        encoding.row(SCALP.vector({}))


def test_levels_are_limited_to_the_most_frequent() -> None:
    many = [vector({"a": 1.0, "side_of_town": f"town{n:03d}"}) for n in range(MAX_LEVELS + 10)]
    many += [vector({"a": 1.0, "side_of_town": "town073"})]
    found = Encoding.fit(TINY, many)
    levels = found.categories[0].levels
    assert len(levels) == MAX_LEVELS
    assert "town073" in levels
    assert "town063" not in levels
    assert Encoding.fit(TINY, many[::-1]).columns == found.columns


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(ValueError, match="row"):
        Encoding.fit(TINY, [])


def test_a_column_of_nothing_but_categories() -> None:
    found = Encoding.fit(TINY, [vector({"side_of_town": "west"})])
    assert found.columns == ("side_of_town=west", "side_of_town=", "size")


@pytest.mark.parametrize(
    "changes",
    [
        {"medians": np.array([1.0])},
        {"medians": np.array([1.0, math.nan])},
        {"kept": np.array([1, 0], dtype=np.int32)},
        {"kept": np.array([0, 3], dtype=np.int32)},
        {"kept": np.array([-1, 1], dtype=np.int32)},
        {"number_names": ("a", "other")},
        {"names": ("a", "a", "b", "size", "c")},
        {"allowed_missing": 0},
        {"allowed_missing": 6},
        {"n_numbers": 1},
    ],
)
def test_encodings_that_are_refused(encoding: Encoding, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        replace(encoding, **changes)


def test_importance_is_folded_back_to_the_names_of_the_schema(encoding: Encoding) -> None:
    forest, boosting = np.array([0.4, 0.0, 0.1, 0.2, 0.1, 0.2]), np.array([0.2, 0.0, 0.3, 0.4, 0.1, 0.0])
    found = feature_importance(encoding, [forest, boosting])
    assert tuple(found) == TINY.names
    assert found == pytest.approx({"a": 0.3, "side_of_town": 0.6, "b": 0.0, "size": 0.1, "c": 0.0})


def test_importance_of_heads_that_never_split(encoding: Encoding) -> None:
    assert set(feature_importance(encoding, [np.zeros(6)]).values()) == {0.0}


@pytest.mark.parametrize("given", [[], [np.ones(5)]])
def test_importance_of_another_width_is_refused(encoding: Encoding, given: list[Any]) -> None:
    with pytest.raises(ValueError, match="column"):
        feature_importance(encoding, given)
