"""A bundle on its way through untrusted places: what comes back is what was sent, or nothing."""

from __future__ import annotations

import hmac
import json
import math
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learning.fit import Candidate, fit_candidate
from scorer import container
from scorer.bundle import (
    Bundle,
    BundleFault,
    BundleParts,
    BundleRefused,
    NotAsked,
    Scored,
    Unscorable,
    address,
    pack,
    unpack,
)
from scorer.calibration import Beta, Isotonic
from scorer.container import key_id
from scorer.schema import SCALP, Schema
from tests.support.lessons import KEY, OTHER_KEY, SMALL, lessons

HEADER = struct.Struct("<8sHHIQ")
THRESHOLDS = {"qscore": {"us|normal": 61, "off|low": 100}, "ev": 58.5}


@pytest.fixture(scope="module")
def candidate() -> Candidate:
    found = fit_candidate(lessons(120, edge=3.0), SCALP, seed=7, settings=replace(SMALL, network_from=100))
    assert isinstance(found, Candidate)
    return found


@pytest.fixture(scope="module")
def parts(candidate: Candidate) -> BundleParts:
    return candidate.parts(thresholds=THRESHOLDS, created_at_ms=1_700_000_000_123)


@pytest.fixture(scope="module")
def data(parts: BundleParts) -> bytes:
    return pack(parts, KEY)


def opened(
    data: bytes, key: bytes | tuple[bytes, ...] = KEY, strategy: str = "scalp", schema_hash: str = SCALP.hash
) -> Bundle:
    return unpack(data, key, strategy=strategy, schema_hash=schema_hash)


def refused(data: bytes, **asked: Any) -> BundleFault:
    with pytest.raises(BundleRefused) as caught:
        opened(data, **asked)
    assert caught.value.code == caught.value.fault.value
    return caught.value.fault


def resealed(data: bytes, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> bytes:
    """What a faulty or newer trainer with the right key would have written."""
    manifest, arrays = container.unseal(data, KEY)
    loose = {name: array.copy() for name, array in arrays.items()}
    change(manifest, loose)
    return container.seal(manifest, loose, KEY)


def signed(manifest: bytes, body: bytes = b"", *, version: int = container.VERSION, reserved: int = 0) -> bytes:
    head = HEADER.pack(container.MAGIC, version, reserved, len(manifest), len(body)) + manifest + body
    head += bytes.fromhex(key_id(KEY))
    return head + hmac.digest(hmac.digest(KEY, b"penumbra|bundle|v2", "sha256"), head, "sha256")


# --- what comes back


def test_neighbours_come_back_as_they_were(candidate: Candidate, data: bytes) -> None:
    vector = SCALP.vector(lessons(1)[0].features)
    told = opened(data).neighbours(vector, 2**52)
    assert told is not None
    assert candidate.neighbours is not None
    assert told == candidate.neighbours.ask(candidate.encoding.row(vector), 2**52)
    # The very signal the pool was made of is its own nearest; asked at its own moment it is not there yet.
    assert told.nearest[0].distance == 0.0
    first = lessons(1)[0]
    assert opened(data).neighbours(vector, first.entry_ms) is None


def test_a_bundle_may_keep_no_neighbours(parts: BundleParts) -> None:
    alone = opened(pack(replace(parts, neighbours=None), KEY))
    assert alone.neighbours(SCALP.vector(lessons(1)[0].features), 2**52) is None


def test_what_comes_back_is_what_was_sent(parts: BundleParts, data: bytes) -> None:
    bundle = opened(data)
    back = bundle.parts
    assert bundle.address == address(data)
    assert len(bundle.address) == 64
    assert pack(back, KEY) == data
    assert back.schema == parts.schema
    assert back.thresholds == THRESHOLDS
    assert (back.strategy, back.data_hash, back.created_at_ms) == ("scalp", parts.data_hash, 1_700_000_000_123)
    assert (back.first_ms, back.last_ms) == (parts.first_ms, parts.last_ms)
    assert back.versions["scikit-learn"].count(".") == 2
    assert back.settings["heads"]["boosting_rate"] == 0.08
    assert back.metrics["served"]["n"] == len(lessons(120, edge=3.0))
    assert sum(back.importance.values()) == pytest.approx(1.0)
    assert back.ensemble.members == ("forest", "boosting", "network")


def test_it_scores_as_the_candidate_does(candidate: Candidate, data: bytes) -> None:
    bundle = opened(data)
    assert isinstance(candidate.calibrator, Isotonic)
    vectors = [SCALP.vector(example.features) for example in lessons(50, seed=99)]
    for vector in vectors:
        raw = candidate.ensemble.win_probability(candidate.encoding.row(vector))
        wanted = float(candidate.calibrator.apply(np.asarray(raw)))
        assert candidate.venn_abers is not None
        bounds = candidate.venn_abers.bounds(raw)
        assert bundle.score(vector) == Scored(round(100.0 * wanted, 4), wanted, "ensemble", (), bounds)
    assert bundle.score_all(vectors) == [bundle.score(vector) for vector in vectors]
    assert len({bundle.score(vector) for vector in vectors}) > 5


@pytest.mark.parametrize("calibrator", [None, Beta(1.25, 0.75, -0.1), Beta(1.0, 1.0, 0.0)])
def test_other_calibrators_survive_the_journey(parts: BundleParts, calibrator: Beta | None) -> None:
    bundle = opened(pack(replace(parts, calibrator=calibrator), KEY))
    assert bundle.parts.calibrator == calibrator
    said = bundle.score(SCALP.vector(lessons(1)[0].features))
    assert isinstance(said, Scored)
    assert said.source == ("ensemble_raw" if calibrator is None else "ensemble")
    assert (said.win_probability is None) == (calibrator is None)


def test_the_same_parts_give_the_same_bytes(parts: BundleParts, data: bytes) -> None:
    assert pack(parts, KEY) == data
    assert pack(parts, OTHER_KEY) != data


def test_arrays_are_read_without_a_copy_and_cannot_be_written(data: bytes) -> None:
    value = opened(data).parts.ensemble.trees.value
    assert not value.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        value[0] = 1.0


# --- missing and broken


def test_more_missing_than_a_tenth_is_not_asked(data: bytes) -> None:
    bundle = opened(data)
    features = dict(lessons(1)[0].features)
    assert SCALP.allowed_missing == 1
    one = SCALP.vector(features | {"atr_pct": None})
    two = SCALP.vector(features | {"atr_pct": math.nan, "volume_ratio": "high"})
    said = bundle.score(one)
    assert isinstance(said, Scored)
    assert said.missing == ("atr_pct",)
    assert bundle.score(two) == NotAsked(("atr_pct", "volume_ratio"))
    assert bundle.score_all([two, one, two]) == [bundle.score(two), said, bundle.score(two)]


@pytest.mark.parametrize(
    "bad", [math.nan, math.inf, -math.inf, 1e300, -1e300, pytest.param(10**400, id="huge"), True, "1.0", None]
)
@pytest.mark.parametrize("name", ["atr_pct", "vwap_dist_atr", "ema_slope_fast"])
def test_a_bad_number_is_a_missing_one(data: bytes, name: str, bad: Any) -> None:
    bundle = opened(data)
    features = dict(lessons(1)[0].features)
    with_bad, without = bundle.score(SCALP.vector(features | {name: bad})), features.copy()
    del without[name]
    assert with_bad == bundle.score(SCALP.vector(without))
    assert isinstance(with_bad, Scored)
    assert with_bad.missing == (name,)


def test_an_unknown_level_is_a_missing_one(data: bytes) -> None:
    bundle = opened(data)
    features = dict(lessons(1)[0].features)
    said = bundle.score(SCALP.vector(features | {"symbol_cluster": "NEVERSEEN"}))
    blank = bundle.score(SCALP.vector(features | {"symbol_cluster": None}))
    assert isinstance(said, Scored)
    assert isinstance(blank, Scored)
    assert said.score == blank.score
    assert (said.missing, blank.missing) == ((), ("symbol_cluster",))


def test_a_model_that_says_no_number_gives_no_score(parts: BundleParts) -> None:
    class Broken:
        def apply(self, probability: Any) -> Any:
            return probability * math.nan

    bundle = Bundle(replace(parts, calibrator=Broken()), "")  # type: ignore[arg-type]
    vector = SCALP.vector(lessons(1)[0].features)
    assert isinstance(bundle.score(vector), Unscorable)
    assert isinstance(bundle.score_all([vector])[0], Unscorable)


def test_a_vector_of_another_shape_gives_no_score(data: bytes) -> None:
    vector = SCALP.vector(lessons(1)[0].features)
    assert isinstance(opened(data).score(replace(vector, values=vector.values[:-1])), Unscorable)


# --- what is refused


def test_each_flipped_byte_is_refused(data: bytes) -> None:
    places = sorted({*range(24), *np.linspace(24, len(data) - 1, 64).astype(int).tolist()})
    assert len(places) >= 80
    for place in places:
        for bit in (0x01, 0x80):
            bent = bytearray(data)
            bent[place] ^= bit
            refused(bytes(bent))


def test_truncation_and_additions_are_refused(data: bytes) -> None:
    for length in (0, 1, 7, 8, 23, 24, 25, 100, len(data) // 2, len(data) - 33, len(data) - 31, len(data) - 1):
        assert refused(data[:length]) is BundleFault.CORRUPT
    for extra in (b"\0", b"x" * 32):
        assert refused(data + extra) is BundleFault.CORRUPT


def test_an_unsigned_bundle_is_refused(data: bytes) -> None:
    assert refused(data[:-40]) is BundleFault.UNSIGNED
    assert refused(data[:-32]) is BundleFault.UNSIGNED
    assert refused(data[:-32] + bytes(32)) is BundleFault.UNSIGNED


def test_another_key_is_refused_and_named(data: bytes) -> None:
    assert refused(data, key=OTHER_KEY) is BundleFault.SIGNATURE
    with pytest.raises(BundleRefused, match=f"signed with key {key_id(KEY)}, known here: {key_id(OTHER_KEY)}"):
        opened(data, key=OTHER_KEY)
    assert key_id(KEY) != key_id(OTHER_KEY)
    assert not {key_id(KEY)[:8], key_id(OTHER_KEY)[:8]} & {KEY.hex()[:8], OTHER_KEY.hex()[:8]}


def test_after_a_rotation_old_bundles_are_served_and_new_ones_signed_anew(parts: BundleParts, data: bytes) -> None:
    rotated = pack(parts, OTHER_KEY)
    for bundle in (data, rotated):
        assert unpack(bundle, (OTHER_KEY, KEY), strategy="scalp", schema_hash=SCALP.hash).parts.strategy == "scalp"
    assert refused(data, key=(OTHER_KEY,)) is BundleFault.SIGNATURE
    assert refused(data, key=()) is BundleFault.SIGNATURE


def test_naming_a_known_key_is_not_signing_with_it(data: bytes) -> None:
    content = data[:-40] + bytes.fromhex(key_id(OTHER_KEY))
    assert refused(content + data[-32:], key=(OTHER_KEY, KEY)) is BundleFault.SIGNATURE
    forged = hmac.digest(hmac.digest(KEY, b"penumbra|bundle|v2", "sha256"), content, "sha256")
    assert refused(content + forged, key=(OTHER_KEY, KEY)) is BundleFault.SIGNATURE


def test_a_tag_made_with_the_same_key_for_another_purpose_is_refused(data: bytes) -> None:
    content = data[:-32]
    right = hmac.digest(hmac.digest(KEY, b"penumbra|bundle|v2", "sha256"), content, "sha256")
    assert content + right == data
    assert refused(content + hmac.digest(KEY, content, "sha256")) is BundleFault.SIGNATURE
    other = hmac.digest(hmac.digest(KEY, b"penumbra|claim|v1", "sha256"), content, "sha256")
    assert refused(content + other) is BundleFault.SIGNATURE


@pytest.mark.parametrize("short", [b"", b"x" * 31])
def test_a_short_key_is_refused(parts: BundleParts, data: bytes, short: bytes) -> None:
    with pytest.raises(ValueError, match="32"):
        pack(parts, short)
    with pytest.raises(ValueError, match="32"):
        opened(data, key=short)


def test_another_strategy_is_refused(data: bytes) -> None:
    assert refused(data, strategy="trend") is BundleFault.STRATEGY


def test_another_schema_is_refused(data: bytes) -> None:
    first, second, *others = SCALP.features
    for features in (
        (second, first, *others),
        (replace(first, name="renamed"), second, *others),
        (second, *others),
    ):
        assert refused(data, schema_hash=Schema("scalp", 1, features).hash) is BundleFault.SCHEMA
    assert refused(data, schema_hash=replace(SCALP, version=2).hash) is BundleFault.SCHEMA


@pytest.mark.parametrize("version", [0, 1, 2, 3, 5, 65_535])
def test_another_format_version_is_refused(data: bytes, version: int) -> None:
    head = bytearray(data)
    struct.pack_into("<H", head, 8, version)
    assert refused(bytes(head)) is BundleFault.VERSION
    assert refused(signed(b"{}", version=version)) is BundleFault.VERSION


def test_an_oversized_bundle_is_refused(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "MAX_BYTES", len(data) - 1)
    assert refused(data) is BundleFault.CORRUPT


@pytest.mark.parametrize(
    "manifest",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="no object"),
        pytest.param(b"{}", id="no array index"),
        pytest.param(b'{"arrays":[]}', id="nothing in it"),
        pytest.param(b'{"arrays":[],"arrays":[]}', id="a key twice"),
        pytest.param(b'{"arrays":[],"metrics":NaN}', id="NaN"),
        pytest.param(b"[" * 100_000, id="a depth bomb"),
        pytest.param(b"\xff\xfe{}", id="no text"),
        pytest.param(b'{"arrays":[{"name":"a","type":"|O","shape":[1],"at":0}]}', id="an object array"),
        pytest.param(b'{"arrays":[{"name":"a","type":"<f8","shape":[2],"at":0}]}', id="beyond its section"),
        pytest.param(b'{"arrays":[{"name":"a","type":"<f8","shape":[1],"at":-8}]}', id="before its section"),
        pytest.param(b'{"arrays":[{"name":"a","type":"<f8","shape":[1],"at":4}]}', id="unaligned"),
        pytest.param(b'{"arrays":[{"name":"a","type":"<f8","shape":[-1],"at":0}]}', id="a negative size"),
        pytest.param(b'{"arrays":[{"name":"a","type":"<f8","shape":[99999,99999],"at":0}]}', id="an overflow"),
        pytest.param(b'{"arrays":[{"name":"a","type":"<f8","shape":[1,1,1],"at":0}]}', id="three dimensions"),
    ],
)
def test_signed_nonsense_is_refused(manifest: bytes) -> None:
    assert refused(signed(manifest, bytes(8))) is BundleFault.CORRUPT


def test_a_used_reserved_field_is_refused() -> None:
    assert refused(signed(b'{"arrays":[]}', reserved=1)) is BundleFault.CORRUPT


def put(name: str, place: int | tuple[int, int], value: float) -> Callable[[dict[str, Any], dict[str, Any]], object]:
    def change(_: dict[str, Any], arrays: dict[str, Any]) -> None:
        arrays[name][place] = value

    return change


BENDS = [
    pytest.param(put("trees.left", 0, 10**9), id="a child far outside"),
    pytest.param(put("trees.left", 0, -5), id="a negative child"),
    pytest.param(put("trees.feature", 0, 10**6), id="a feature far outside"),
    pytest.param(put("trees.roots", 0, 3), id="a root moved"),
    pytest.param(put("trees.value", 0, math.nan), id="a NaN leaf"),
    pytest.param(put("trees.threshold", 0, math.nan), id="a NaN threshold"),
    pytest.param(put("isotonic.raw", 0, 2.0), id="knots out of order"),
    pytest.param(put("isotonic.calibrated", 0, math.nan), id="a NaN level"),
    pytest.param(put("encoding.medians", 0, math.inf), id="an infinite median"),
    pytest.param(put("encoding.kept", 0, 99), id="a kept column far outside"),
    pytest.param(put("network.bias0", 0, math.inf), id="an infinite bias"),
    pytest.param(put("standard.scale", 0, -1.0), id="a negative scale"),
    pytest.param(lambda m, a: m["ensemble"].update(width=3), id="another width"),
    pytest.param(lambda m, a: m["ensemble"].update(n_forest=0), id="no forest"),
    pytest.param(lambda m, a: m["ensemble"].update(rate="inf"), id="an infinite rate"),
    pytest.param(lambda m, a: m["ensemble"].update(init="0x1p9999"), id="a start no float can hold"),
    pytest.param(lambda m, a: m["encoding"].update(allowed_missing=99), id="everything may be missing"),
    pytest.param(lambda m, a: m["schema"]["features"].pop(), id="a feature less"),
    pytest.param(lambda m, a: m["calibrator"].update(kind="pickle"), id="an unknown calibrator"),
    pytest.param(lambda m, a: a.update({"golden.rows": a["golden.rows"][:, 1:]}), id="golden rows of another width"),
    pytest.param(put("records.heuristic", 0, 101.0), id="a heuristic part above 100"),
    pytest.param(put("records.ensemble", 0, math.nan), id="no ensemble part"),
    pytest.param(put("records.ensemble", 0, -1.0), id="a negative ensemble part"),
    pytest.param(put("records.won", 0, 2), id="an outcome that is none"),
    pytest.param(put("records.net_r", 0, math.inf), id="an infinite result"),
    pytest.param(put("records.bucket", 0, 99), id="a bucket that is not listed"),
    pytest.param(put("records.bucket", 0, -2), id="a bucket below none"),
    pytest.param(lambda m, a: m["records"].update(buckets=["moon|low"] * 16), id="a bucket that does not exist"),
    pytest.param(lambda m, a: m["records"]["buckets"].append(m["records"]["buckets"][0]), id="a bucket twice"),
    pytest.param(lambda m, a: a.update({"records.won": a["records.won"][1:]}), id="an outcome less"),
    pytest.param(lambda m, a: a.update({"records.won": a["records.net_r"]}), id="outcomes of another type"),
    pytest.param(lambda m, a: a.update({"trees.value": a["trees.left"]}), id="an array of another type"),
    pytest.param(put("records.decisive", 0, 2), id="neither decisive nor not"),
    pytest.param(lambda m, a: a["records.decisive"].fill(0), id="a win that was not decisive"),
    pytest.param(put("records.weight", 0, 0.0), id="a record that counts for nothing"),
    pytest.param(put("records.weight", 0, math.nan), id="a weight that is no number"),
    pytest.param(put("records.exit_ms", 0, 1.0), id="a label that ends before it begins"),
    pytest.param(put("venn_abers.edges", 0, math.nan), id="an edge nowhere"),
    pytest.param(put("venn_abers.low", 0, 0.9999999), id="bounds that fall"),
    pytest.param(put("venn_abers.high", -1, 1.0), id="a certain bound"),
    pytest.param(lambda m, a: a.update({"venn_abers.low": a["venn_abers.low"][1:]}), id="a bound less"),
    pytest.param(put("neighbours.points", (0, 0), math.nan), id="a neighbour nowhere"),
    pytest.param(put("neighbours.points", (0, 0), 5.0), id="a neighbour out of bounds"),
    pytest.param(put("neighbours.ending", 0, 3), id="a neighbour with another ending"),
    pytest.param(put("neighbours.exit_ms", 0, 2.0**53), id="neighbours out of order"),
    pytest.param(lambda m, a: m["neighbours"]["ids"].pop(), id="a neighbour without a name"),
    pytest.param(lambda m, a: m["neighbours"].update(bandwidth="nan"), id="a kernel that is none"),
    pytest.param(lambda m, a: m["neighbours"].update(k=10**9), id="too many neighbours"),
]


@pytest.mark.parametrize("bend", BENDS)
def test_numbers_out_of_bounds_are_refused_though_signed(
    data: bytes, bend: Callable[[dict[str, Any], dict[str, Any]], object]
) -> None:
    assert refused(resealed(data, bend)) is BundleFault.BOUNDS


@pytest.mark.parametrize(
    "gone",
    [
        "strategy",
        "schema",
        "encoding",
        "ensemble",
        "calibrator",
        "metrics",
        "settings",
        "records",
        "neighbours",
        "venn_abers",
    ],
)
def test_a_manifest_with_a_hole_is_refused(data: bytes, gone: str) -> None:
    assert refused(resealed(data, lambda m, a: m.pop(gone))) is BundleFault.CORRUPT


def test_a_machine_that_computes_something_else_does_not_serve(data: bytes) -> None:
    assert resealed(data, lambda m, a: None) == data
    bend = put("golden.expected", 3, 0.123)
    assert refused(resealed(data, bend)) is BundleFault.GOLDEN
    assert refused(resealed(data, put("golden.expected", 0, math.nan))) is BundleFault.GOLDEN
    empty = resealed(
        data,
        lambda m, a: a.update({name: a[name][:0] for name in ("golden.rows", "golden.expected")}),
    )
    assert refused(empty) is BundleFault.GOLDEN


def test_a_forged_library_version_changes_nothing_but_its_label(data: bytes) -> None:
    # No library object is loaded, so a version can be wrong without harm: the golden rows decide.
    forged = opened(resealed(data, lambda m, a: m["versions"].update({"scikit-learn": "0.1"})))
    vector = SCALP.vector(lessons(1)[0].features)
    assert forged.score(vector) == opened(data).score(vector)


def test_what_cannot_be_written(parts: BundleParts) -> None:
    with pytest.raises(ValueError, match="JSON"):
        pack(replace(parts, thresholds={"ev": math.nan}), KEY)
    with pytest.raises(TypeError, match="not JSON"):
        pack(replace(parts, thresholds={"ev": object()}), KEY)
    with pytest.raises(TypeError, match="float64 or int32"):
        container.seal({}, {"a": np.array(["x"])}, KEY)
    with pytest.raises(ValueError, match="size"):
        container.seal({}, {str(n): np.zeros(1) for n in range(container.MAX_ARRAYS + 1)}, KEY)


# --- nothing in it runs


class Canary:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_a_pickle_is_never_run(tmp_path: Path, data: bytes) -> None:
    canary = tmp_path / "ran"
    evil = pickle.dumps(Canary(canary))
    manifest = json.dumps({"arrays": [{"name": "a", "type": "<f8", "shape": [len(evil) // 8], "at": 0}]}).encode()
    for attempt in (evil, data[:24] + evil, signed(evil), signed(manifest, evil), container.MAGIC + evil):
        refused(attempt)
    assert not canary.exists()
    pickle.loads(evil)  # noqa: S301 - the control: the canary does sing
    assert canary.exists()


def test_serving_needs_no_trainer() -> None:
    script = (
        "import sys, scorer.bundle; "
        "print([name for name in sys.modules if name.split('.')[0] in "
        "('sklearn', 'scipy', 'joblib', 'threadpoolctl', 'learning')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
