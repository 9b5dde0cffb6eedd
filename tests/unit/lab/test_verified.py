"""Every decision of a replay rebuilds from its record, a sample from the candles; what does not is named."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lab.leaks import Recorded, audit, compared_again
from lab.replay import Replay
from lab.verified import VectorCheck, from_candles, sample
from market.candles import Candles
from market.columns import IntArray
from market.generated import generate
from market.reference_strategies import DEFAULT_SETTINGS, proposals
from persistence.memory_store import MemoryStore
from scorer.schema import SCALP
from signals.parse import canonical_json
from signals.profile import DEFAULT_PROFILES
from signals.signal import Signal

SETTINGS = DEFAULT_SETTINGS["scalp"]


@pytest.fixture(scope="module")
def market() -> Candles:
    return generate(4, symbol="GENUSDT", candles=6_000, gaps=True)


@pytest.fixture(scope="module")
def signals(market: Candles) -> list[Signal]:
    found = proposals("scalp", market)
    assert len(found) > 20
    return found


@pytest.fixture(scope="module")
def replay(market: Candles, signals: list[Signal]) -> Replay:
    made = Replay(DEFAULT_PROFILES["scalp"])
    found = made.run([market], signals)
    assert found.vectors.checked == found.answers == len(signals)
    assert found.vectors.holds
    return made


def bodies(replay: Replay, signals: list[Signal]) -> list[dict[str, Any]]:
    found = [replay.body(signal.id) for signal in signals]
    return [body for body in found if body is not None]


def test_a_replay_checks_every_scored_decision_and_no_refusal(market: Candles, signals: list[Signal]) -> None:
    late = replace(signals[0], id="late", features={**signals[0].features}, ts=signals[0].ts + 1)
    dated = {**late.features, "atr_pct_known_ms": float(late.ts)}
    made = Replay(DEFAULT_PROFILES["scalp"])
    found = made.run([market], [*signals, replace(late, features=dated, timeframe=None)])
    assert (found.vectors.checked, found.vectors.equal) == (len(signals) + 1, len(signals) + 1)
    assert str(found.vectors) == f"{len(signals) + 1} of {len(signals) + 1} equal"


def test_a_store_that_changes_a_feature_is_found_out(
    market: Candles, signals: list[Signal], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = MemoryStore.decision

    def tampered(self: MemoryStore, signal_id: str) -> Any:
        decision = honest(self, signal_id)
        if decision is None or signal_id != signals[3].id:
            return decision
        body = json.loads(decision.body)
        body["features"]["volume_ratio"] += 1e-12
        return replace(decision, body=canonical_json(body))

    monkeypatch.setattr(MemoryStore, "decision", tampered)
    found = Replay(DEFAULT_PROFILES["scalp"]).run([market], signals).vectors
    assert (found.holds, found.checked - found.equal) == (False, 1)
    (mismatch,) = found.mismatches
    assert mismatch.signal_id == signals[3].id
    assert "not those that were hashed" in str(mismatch)


def test_features_from_the_candles_of_their_moment(replay: Replay, market: Candles, signals: list[Signal]) -> None:
    some = bodies(replay, sample(signals, 5))
    found = from_candles(SCALP, some, [market], SETTINGS)
    assert (found.checked, found.equal, found.mismatches) == (5, 5, ())


def test_looking_ahead_is_named_with_both_values(
    replay: Replay, market: Candles, signals: list[Signal], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The record was made honestly; candles computed with a restated volume are another history.
    restated = Candles(
        market.symbol, market.timeframe, market.ts, market.open, market.high, market.low, market.close,
        np.where(market.volume > np.median(market.volume), market.volume * 1.001, market.volume),
    )  # fmt: skip
    found = from_candles(SCALP, bodies(replay, sample(signals, 4)), [restated], SETTINGS)
    assert not found.holds
    assert {one.feature for mismatch in found.mismatches for one in mismatch.differences} <= {
        "volume_ratio",
        "vwap_dist_atr",
    }
    one = next(one for mismatch in found.mismatches for one in mismatch.differences)
    assert str(one) == f"{one.feature} {one.seen!r} → {one.rebuilt!r}"
    record = found.record
    assert record["checked"] == 4
    assert record["mismatches"][0]["features"][0].keys() == {"feature", "seen", "rebuilt"}

    # A higher timeframe known before it has closed: the whole series knows more than the one that is cut.
    honest = Candles.resample_known

    def leaky(self: Candles, timeframe: str) -> tuple[Candles, IntArray]:
        higher, known_ms = honest(self, timeframe)
        return higher, known_ms if timeframe == self.timeframe else higher.ts

    monkeypatch.setattr(Candles, "resample_known", leaky)
    again = compared_again("scalp", [market], SETTINGS, 12)
    # Some signals do not come at all without the future: then every feature is another one.
    assert again["ts15"][1] > again["atr_pct"][1]
    told = audit("scalp", SCALP, None, {"ts15": again["ts15"], "atr_pct": (12, 0)})
    rows = {row.feature: row for row in told.features}
    assert (rows["ts15"].verdict, rows["atr_pct"].verdict, told.holds) == ("LEAK_REBUILT", "in time", False)


def test_a_decision_that_the_candles_do_not_give_is_no_match(replay: Replay, market: Candles) -> None:
    body = bodies(replay, proposals("scalp", market)[:1])[0]
    found = from_candles(SCALP, [{**body, "id": "another"}], [market], SETTINGS)
    assert (found.checked, found.equal) == (1, 0)
    assert {one.rebuilt for one in found.mismatches[0].differences} == {None}


@pytest.mark.parametrize(
    ("most", "places"), [(0, []), (1, [9]), (3, [2, 6, 9]), (10, list(range(10))), (99, list(range(10)))]
)
def test_a_sample_is_spread_and_ends_with_the_last(signals: list[Signal], most: int, places: list[int]) -> None:
    ten = signals[:10]
    assert sample(ten, most) == [ten[place] for place in places]
    assert sample([], 3) == []


def test_decisions_from_before_there_were_hashes_are_unknown(replay: Replay, signals: list[Signal]) -> None:
    check = VectorCheck(SCALP)
    for body in bodies(replay, signals[:3]):
        check.decision({name: value for name, value in body.items() if name != "vector_hash"})
    assert (check.verified.unknown, check.verified.checked, check.verified.holds) == (3, 0, True)
    assert str(check.verified) == "0 of 0 equal, 3 without a hash"


# --- the audit


def closed(body: dict[str, Any], *, won: bool) -> dict[str, Any]:
    ending = {"outcome": "win" if won else "loss", "gross_r": 1.5 if won else -1.0, "net_r": 1.4 if won else -1.1}
    return {**body, **ending, "kind": "phantom", "entry_ms": body["ts"], "exit_ms": body["ts"] + 600_000}


def test_an_audit_of_a_sound_record(replay: Replay, signals: list[Signal]) -> None:
    decisions = bodies(replay, signals)
    outcomes = [closed(body, won=place % 2 == 0) for place, body in enumerate(decisions)]
    found = audit("scalp", SCALP, Recorded(decisions, outcomes))
    assert found.holds
    assert (found.decisions.equal, found.closed.equal, found.outcomes) == (len(decisions),) * 3
    rows = {row.feature: row for row in found.features}
    assert (rows["mfe"].use, rows["mfe"].known, rows["mfe"].verdict) == ("never", "exit", "refused")
    assert (rows["ts15"].use, rows["ts15"].source, rows["ts15"].look_back) == (
        "gates only",
        "closed 15-minute candles",
        28,
    )
    assert rows["atr_pct"].auc is not None
    assert json.loads(json.dumps(found.record, allow_nan=False))["holds"] is True


def test_an_audit_names_what_changed_between_decision_and_close(replay: Replay, signals: list[Signal]) -> None:
    decisions = bodies(replay, signals)
    outcomes = [closed(body, won=place % 2 == 0) for place, body in enumerate(decisions)]
    outcomes[2] = {**outcomes[2], "features": {**outcomes[2]["features"], "bb_width_pct": 99.0}}
    found = audit("scalp", SCALP, Recorded(decisions, outcomes))
    assert (found.holds, found.decisions.holds, found.closed.holds) == (False, True, False)
    (mismatch,) = found.closed.mismatches
    (difference,) = mismatch.differences
    assert (difference.feature, difference.rebuilt) == ("bb_width_pct", 99.0)
    assert difference.seen == decisions[2]["features"]["bb_width_pct"]
    assert [leak.reason.value for leak in found.leaks] == ["LEAK_REBUILT"]


def test_an_audit_suspects_a_column_that_is_the_outcome(replay: Replay, signals: list[Signal]) -> None:
    # Written by an engine that knew the future, and hashed as it was seen: only its outcomes give it away.
    outcomes = []
    for place, body in enumerate(bodies(replay, signals)):
        poisoned = {**body, "vector_hash": None, "features": {**body["features"], "impulse_ratio": float(place % 2)}}
        outcomes.append(closed(poisoned, won=place % 2 == 1))
    found = audit("scalp", SCALP, Recorded((), outcomes))
    row = next(row for row in found.features if row.feature == "impulse_ratio")
    assert (row.verdict, row.auc, found.holds) == ("LEAK_SUSPECT", 1.0, False)
    assert "separates all" in found.leaks[0].sentence
