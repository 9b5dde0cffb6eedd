"""From outcomes and paths to forecasts in the answer: trained with the bundle, served by it, deciding nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from learning.fit import FitSettings
from learning.members import HeadSettings
from persistence.memory_store import MemoryStore
from runtime.judge import Judge
from runtime.shelf import Shelf
from runtime.train import Trainer
from scorer.bundle import BundleFault, BundleRefused, Golden, pack, unpack
from scorer.heads import ALWAYS, PROBABILITIES, VALUES
from scorer.schema import SCALP
from tests.support.loop import KEY, PROFILE, World

N = 700
TINY = FitSettings(heads=HeadSettings(forest_trees=8, boosting_trees=8), network_from=10_000)
"""Of the score: the heads beside it have their own sizes."""


@pytest.fixture(scope="module")
def world() -> World:
    made = World(MemoryStore("t"), seed=4)
    # Signals every five minutes for two days: few enough to be quick, and several days to be judged by.
    made.live(N)
    return made


@pytest.fixture(scope="module")
def address(world: World) -> str:
    return trainer(world).attempt("scalp").address


def trainer(world: World, *, heads: bool = False) -> Trainer:
    profile = replace(PROFILE, heads=heads, neighbours=0)
    return Trainer(world.store, {"scalp": profile}, KEY, settings=TINY)


def test_return_and_risk_come_with_every_bundle_and_into_every_answer(world: World, address: str) -> None:
    manifest = json.loads(world.store.manifests("scalp")[address])
    assert tuple(sorted(manifest["heads"])) == tuple(sorted(ALWAYS))
    for told in manifest["heads"].values():
        assert "reason" not in told
        assert told["skill_low"] > 0.0
        assert told["train_ms"][0] < told["validation_ms"][0] < told["validation_ms"][1]
        assert "curve" not in told
    strong, weak = world.ask(0.9), None
    world.candle(won=True)
    weak = world.ask(0.1)
    world.candle(won=False)
    assert float(str(strong["expected_return_r"])) > 0.5 > 0.0 > float(str(weak["expected_return_r"]))
    assert float(str(strong["p_stop"])) < 0.35 < 0.65 < float(str(weak["p_stop"]))
    body = json.loads(world.store.decision(str(weak["signal_id"])).body)  # type: ignore[union-attr]
    assert body["heads"]["p_stop"] == weak["p_stop"]
    assert body["heads"]["expected_return_r_se"] > 0.0


def test_what_they_say_decides_nothing(world: World, address: str) -> None:
    data = world.store.bundle(address)
    assert data is not None
    bundle = unpack(data, KEY, strategy="scalp", schema_hash=SCALP.hash)
    assert bundle.parts.heads is not None
    silent = pack(replace(bundle.parts, heads=None), KEY)
    without = unpack(silent, KEY, strategy="scalp", schema_hash=SCALP.hash)
    vector = SCALP.vector({**world.features(0.9), "session": "us", "volatility_regime": "low", "symbol_cluster": "x"})
    assert without.tell(vector) is None
    assert without.score(vector) == bundle.score(vector)
    assert bundle.tell(vector) is not None


def test_a_bundle_whose_heads_compute_something_else_is_refused(world: World, address: str) -> None:
    data = world.store.bundle(address)
    assert data is not None
    parts = unpack(data, KEY, strategy="scalp", schema_hash=SCALP.hash).parts
    assert isinstance(parts.golden, Golden)
    assert parts.heads is not None
    wrong = pack(replace(parts, heads=replace(parts.heads, golden=parts.heads.golden + 1e-6)), KEY)
    with pytest.raises(BundleRefused) as refused:
        unpack(wrong, KEY, strategy="scalp", schema_hash=SCALP.hash)
    assert refused.value.fault is BundleFault.GOLDEN


def test_heads_that_fail_in_service_leave_the_decision_as_it_was(
    world: World, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("scorer.heads.HeadSet.tell", broken)
    world.judge = Judge(world.store, {"scalp": PROFILE}, watch=lambda: 0.0, shelf=Shelf(world.store, KEY))
    answer = world.ask(0.9)
    world.candle(won=True)
    assert (answer["bundle"], answer["expected_return_r"], answer["p_stop"]) == (address, None, None)
    assert answer["action"] == "execute"


def test_paths_are_learned_when_the_profile_says_so(world: World, address: str) -> None:
    assert len(world.store.paths("scalp")) >= N - 120
    other = trainer(world, heads=True).attempt("scalp").address
    assert other != address
    manifest = json.loads(world.store.manifests("scalp")[other])
    assert set(manifest["heads"]) == {*VALUES, *PROBABILITIES}
    # Where the price goes in the next hours is chance in this world, and no head says otherwise at any length.
    assert sum("reason" not in told for name, told in manifest["heads"].items() if name not in ALWAYS) <= 2


def test_heads_that_cannot_be_fitted_cost_no_bundle(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("runtime.beside.head_rows", broken)
    trained = trainer(world).attempt("scalp")
    assert trained.address
    assert json.loads(world.store.manifests("scalp")[trained.address])["heads"] == {}
