"""A stacked ensemble in a bundle: it comes back as it was, and hostile numbers in it are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from learning.fit import Candidate, fit_candidate
from scorer import container
from scorer.bundle import BundleFault, BundleParts, BundleRefused, Golden, pack, unpack
from scorer.ensemble import Stack
from scorer.schema import SCALP
from signals.method import Method
from tests.support.lessons import KEY, SMALL, lessons

STACKED = replace(SMALL, ensemble=Method.EVIDENCE, stacked_network_from=100, beside=False, neighbours=0)


@pytest.fixture(scope="module")
def candidate() -> Candidate:
    found = fit_candidate(lessons(150, edge=3.0), SCALP, seed=7, settings=STACKED, rule=lambda _: None)
    assert isinstance(found, Candidate)
    return found


@pytest.fixture(scope="module")
def parts(candidate: Candidate) -> BundleParts:
    return candidate.parts(thresholds={}, created_at_ms=1)


def opened(data: bytes) -> Any:
    return unpack(data, KEY, strategy="scalp", schema_hash=SCALP.hash)


def test_it_comes_back_as_it_was(candidate: Candidate, parts: BundleParts) -> None:
    data = pack(parts, KEY)
    back = opened(data)
    assert pack(back.parts, KEY) == data
    one, other = back.parts.ensemble, candidate.ensemble
    assert one.members == ("forest", "boosting", "network", "linear")
    assert one.stack is not None
    assert other.stack is not None
    assert one.stack.weights.tolist() == other.stack.weights.tolist()
    assert (one.stack.base, one.stack.trust) == (other.stack.base, other.stack.trust)
    vectors = [SCALP.vector(example.features) for example in lessons(40, seed=5)]
    matrix = candidate.encoding.matrix(vectors)
    assert one.win_probabilities(matrix).tolist() == other.win_probabilities(matrix).tolist()
    assert back.score_all(vectors) == [back.score(vector) for vector in vectors]


def sealed_anew(parts: BundleParts, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> bytes:
    manifest, arrays = container.unseal(pack(parts, KEY), KEY)
    loose, columns = json.loads(json.dumps(manifest)), {name: array.copy() for name, array in arrays.items()}
    change(loose, columns)
    return container.seal(loose, columns, KEY)


def weights(*words: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda manifest, _: manifest["ensemble"]["stack"].update(weights=list(words))


def stack(**changes: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda manifest, _: manifest["ensemble"]["stack"].update(changes)


def column(name: str, array: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda _, arrays: arrays.update({name: array})


HALF, QUARTER = (0.5).hex(), (0.25).hex()


def test_the_untouched_one_is_accepted(parts: BundleParts) -> None:
    assert sealed_anew(parts, lambda _m, _a: None) == pack(parts, KEY)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        pytest.param(weights(HALF, HALF, HALF, (-0.5).hex()), BundleFault.BOUNDS, id="a negative weight"),
        pytest.param(weights(HALF, HALF), BundleFault.BOUNDS, id="two weights for four heads"),
        pytest.param(weights("nan", QUARTER, QUARTER, QUARTER), BundleFault.BOUNDS, id="a weight that is no number"),
        pytest.param(weights("0x1p+99999", QUARTER), BundleFault.BOUNDS, id="a weight beyond the largest"),
        pytest.param(weights(*[HALF] * 4), BundleFault.BOUNDS, id="weights that sum to 2"),
        pytest.param(weights(0.25, 0.25, 0.25, 0.25), BundleFault.CORRUPT, id="weights that are no text"),
        pytest.param(weights(), BundleFault.BOUNDS, id="no weights"),
        pytest.param(stack(base="nan"), BundleFault.BOUNDS, id="a base that is no number"),
        pytest.param(stack(base=(1.5).hex()), BundleFault.BOUNDS, id="a base above 1"),
        pytest.param(stack(trust="inf"), BundleFault.BOUNDS, id="endless trust"),
        pytest.param(stack(trust=(-1.0).hex()), BundleFault.BOUNDS, id="negative trust"),
        pytest.param(stack(trust=None), BundleFault.CORRUPT, id="no trust"),
        pytest.param(lambda m, _: m["ensemble"].pop("stack"), BundleFault.CORRUPT, id="no word of a stack"),
        pytest.param(lambda m, _: m["ensemble"].pop("linear"), BundleFault.CORRUPT, id="no word of a line"),
        pytest.param(lambda m, _: m["ensemble"].update(linear=False), BundleFault.BOUNDS, id="a line taken out"),
        pytest.param(lambda m, _: m["ensemble"].update(stack=None), BundleFault.GOLDEN, id="a stack taken out"),
        pytest.param(weights(QUARTER, QUARTER, QUARTER, QUARTER), BundleFault.GOLDEN, id="other weights"),
        pytest.param(lambda _, a: a.pop("linear.weight"), BundleFault.CORRUPT, id="a line without weights"),
        pytest.param(column("linear.weight", np.full((3, 1), 1.0)), BundleFault.BOUNDS, id="of another width"),
        pytest.param(column("linear.bias", np.array([np.nan])), BundleFault.BOUNDS, id="a line through nowhere"),
        pytest.param(column("linear.bias", np.zeros(1, dtype=np.int32)), BundleFault.BOUNDS, id="a line of integers"),
        pytest.param(column("linear.bias", np.array([3.0])), BundleFault.GOLDEN, id="another line"),
    ],
)
def test_hostile_values_are_refused(
    parts: BundleParts, change: Callable[[dict[str, Any], dict[str, Any]], None], fault: BundleFault
) -> None:
    with pytest.raises(BundleRefused) as found:
        opened(sealed_anew(parts, change))
    assert found.value.fault is fault


def test_golden_rows_hold_what_the_stack_says(candidate: Candidate, parts: BundleParts) -> None:
    said = candidate.ensemble.win_probabilities(parts.golden.rows)
    assert np.abs(said - parts.golden.expected).max() <= 1e-9
    bent = replace(parts, golden=Golden(parts.golden.rows, parts.golden.expected + 1e-8))
    with pytest.raises(BundleRefused) as found:
        opened(pack(bent, KEY))
    assert found.value.fault is BundleFault.GOLDEN
    assert isinstance(candidate.ensemble.stack, Stack)
