"""The judge over a store in memory: every bad input is answered and recorded, and the next good one is served."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from decision.answer import Answer
from decision.decide import Action
from persistence.store import ClockKind, CloseHow, Mode, VolatilityUpdate
from runtime.judge import Judge, answer_from
from runtime.service import Service
from signals.errors import Refusal
from signals.profile import SCALP, TREND, Limits, RunMode
from signals.reasons import Reason
from tests.support.scene import FREE, GOOD, HOUR, STEP, SYMBOL, T0, UNLIMITED, Scene, payload, short
from tests.support.stores import ending

NAN, INF = math.nan, math.inf


@pytest.fixture
def scene() -> Scene:
    return Scene(live=True)


def circle() -> dict[str, object]:
    made = payload("round")
    made["features"] = made
    return made


BAD_INPUTS = [
    pytest.param(payload(sl=100.5), Reason.GEOMETRY_STOP, "sl", id="long stop above entry"),
    pytest.param(payload(sl=100.0), Reason.GEOMETRY_STOP, "sl", id="stop at entry"),
    pytest.param(short(sl=99.5), Reason.GEOMETRY_STOP, "sl", id="short stop below entry"),
    pytest.param(payload(tp=99.0), Reason.GEOMETRY_TARGET, "tp", id="long target below entry"),
    pytest.param(payload(tp=100.0), Reason.GEOMETRY_TARGET, "tp", id="target at entry"),
    pytest.param(short(tp=101.0), Reason.GEOMETRY_TARGET, "tp", id="short target above entry"),
    pytest.param(payload(tp1=100.0), Reason.GEOMETRY_TP1, "tp1", id="first target at entry"),
    pytest.param(payload(tp1=104.0), Reason.GEOMETRY_TP1, "tp1", id="first target at target"),
    pytest.param(short(tp1=100.5), Reason.GEOMETRY_TP1, "tp1", id="short first target above entry"),
    pytest.param(payload(tp=100.1), Reason.GEOMETRY_REWARD_RISK, "tp", id="reward a twentieth of the risk"),
    pytest.param(payload(tp=201.0), Reason.GEOMETRY_REWARD_RISK, "tp", id="reward more than fifty risks"),
    pytest.param(payload(entry=NAN), Reason.FIELD_NOT_FINITE, "entry", id="entry NaN"),
    pytest.param(payload(tp=INF), Reason.FIELD_NOT_FINITE, "tp", id="target infinite"),
    pytest.param(payload(sl=-INF), Reason.FIELD_NOT_FINITE, "sl", id="stop minus infinity"),
    pytest.param(payload(tp1=NAN), Reason.FIELD_NOT_FINITE, "tp1", id="first target NaN"),
    pytest.param(payload(entry=10**400), Reason.FIELD_NOT_FINITE, "entry", id="integer beyond floats"),
    pytest.param(payload(features={"rsi": NAN}), Reason.FIELD_NOT_FINITE, "features.rsi", id="feature NaN"),
    pytest.param(payload(features={"rsi": True}), Reason.FIELD_TYPE, "features.rsi", id="feature true"),
    pytest.param(payload(features=[1.0]), Reason.FIELD_TYPE, "features", id="features a list"),
    pytest.param(
        payload(features={f"f{i}": 0.0 for i in range(257)}), Reason.FEATURES_TOO_MANY, "features", id="257 features"
    ),
    pytest.param(payload(sl=-1.0), Reason.FIELD_RANGE, "sl", id="negative price"),
    pytest.param(payload(entry=0.0), Reason.FIELD_RANGE, "entry", id="price zero"),
    pytest.param(payload(entry=True), Reason.FIELD_TYPE, "entry", id="price true"),
    pytest.param(payload(entry="100"), Reason.FIELD_TYPE, "entry", id="price text"),
    pytest.param(payload(entry=...), Reason.FIELD_MISSING, "entry", id="no price"),
    pytest.param(payload(ts=...), Reason.FIELD_MISSING, "ts", id="no time"),
    pytest.param(payload(ts="2024-01-01T00:00:00"), Reason.FIELD_FORMAT, "ts", id="time without offset"),
    pytest.param(payload(ts=T0 + 0.5), Reason.FIELD_FORMAT, "ts", id="half a millisecond"),
    pytest.param(payload(ts=0), Reason.FIELD_RANGE, "ts", id="time zero"),
    pytest.param(payload(strategy="nosuch"), Reason.STRATEGY_UNKNOWN, "strategy", id="unknown strategy"),
    pytest.param(payload(strategy=7), Reason.FIELD_TYPE, "strategy", id="strategy a number"),
    pytest.param(payload(stop=98.0), Reason.FIELD_UNKNOWN, "stop", id="unknown field"),
    pytest.param(payload(side="buy"), Reason.FIELD_FORMAT, "side", id="unknown side"),
    pytest.param(payload(session="lunar"), Reason.FIELD_FORMAT, "session", id="unknown session"),
    pytest.param(payload(volatility_regime="wild"), Reason.FIELD_FORMAT, "volatility_regime", id="unknown regime"),
    pytest.param(payload(timeframe="5 minutes"), Reason.FIELD_FORMAT, "timeframe", id="unknown timeframe"),
    pytest.param(payload(tag="a b"), Reason.FIELD_FORMAT, "tag", id="tag with a space"),
    pytest.param(payload(symbol="BTC USDT\r\n"), Reason.FIELD_FORMAT, "symbol", id="symbol with a line end"),
    pytest.param(payload("x" * 65), Reason.FIELD_FORMAT, "id", id="id of 65"),
    pytest.param(payload("\u202eevil"), Reason.FIELD_FORMAT, "id", id="id that runs backwards"),
    pytest.param(payload("\ud800"), Reason.FIELD_FORMAT, "id", id="half a character"),
    pytest.param({"\x00\x1b[2J": 1}, Reason.FIELD_UNKNOWN, r"\x00\x1b[2J", id="control characters for a name"),
    pytest.param({1: 2, "entry": 1.0}, Reason.FIELD_UNKNOWN, "1", id="a number for a name"),
    pytest.param([payload()], Reason.PAYLOAD_NOT_OBJECT, "payload", id="a list"),
    pytest.param(None, Reason.PAYLOAD_NOT_OBJECT, "payload", id="nothing"),
    pytest.param("long BTC", Reason.PAYLOAD_NOT_OBJECT, "payload", id="a sentence"),
    pytest.param(circle(), Reason.FIELD_TYPE, "features.features", id="a circle"),
]


@pytest.mark.parametrize(("bad", "reason", "field"), BAD_INPUTS)
def test_a_bad_input_is_answered_recorded_and_survived(scene: Scene, bad: Any, reason: Reason, field: str) -> None:
    answer = scene.ask(bad)
    assert (answer.action, answer.reasons, answer.field) == (Action.REJECTED, (reason,), field)
    assert answer.position_id is None
    assert answer.score is None
    (fact,) = scene.facts("decision")
    assert (fact.fields["action"], fact.fields["reasons"]) == ("rejected", reason.value)
    told = json.loads(fact.body)
    assert told["field"] == field
    assert told["payload"].isprintable()
    assert told["payload"]
    assert scene.store.position(answer.signal_id) is None
    assert scene.ask(bad).as_dict() | {"latency_ms": 0} == answer.as_dict() | {"latency_ms": 0}
    assert len(scene.facts("decision")) == 1
    assert scene.ask(payload("next")).action is Action.EXECUTE


def test_every_geometry_and_field_code_is_among_the_bad_inputs() -> None:
    """The table above must not lose a code without somebody noticing."""
    seen = {case.values[1] for case in BAD_INPUTS}
    wanted = {reason for reason in Reason if reason.value.startswith(("GEOMETRY_", "FIELD_"))}
    assert wanted <= seen


def test_a_refused_id_is_counted_under_its_reason_and_creates_no_key_of_an_unknown_strategy(scene: Scene) -> None:
    scene.ask(payload(strategy="nosuch"))
    scene.ask(payload("b", sl=101.0))
    keys = set(scene.store.dump())
    assert not [key for key in keys if "nosuch" in key]
    assert scene.store.dump()["phantom:blocked:20240101"] == {"STRATEGY_UNKNOWN": "1", "GEOMETRY_STOP": "1"}


def test_a_refused_scalp_counts_under_the_prefix_of_its_profile(scene: Scene) -> None:
    scene.ask(payload(strategy="scalp", sl=101.0))
    assert scene.store.dump()["scalp_phantom:blocked:20240101"] == {"GEOMETRY_STOP": "1"}


def test_only_the_beginning_of_a_huge_refused_payload_is_kept(scene: Scene) -> None:
    scene.ask({"x" * 9_000: 1})
    (fact,) = scene.facts("decision")
    assert 4_000 < len(json.loads(fact.body)["payload"]) <= 4_096


def test_bytes_that_never_became_a_payload_have_one_answer(scene: Scene) -> None:
    refusal = Refusal(Reason.PAYLOAD_NOT_JSON, "payload", "line 1 column 2")
    first, again = (scene.judge.refuse(b'{"id": \xff\x00}', refusal) for _ in range(2))
    assert (first.action, first.reasons, first.field) == (Action.REJECTED, (Reason.PAYLOAD_NOT_JSON,), "payload")
    assert first.detail == "line 1 column 2"
    assert again.signal_id == first.signal_id
    (fact,) = scene.facts("decision")
    assert json.loads(fact.body)["payload"].startswith('{"id": \\\\xff')
    assert scene.judge.refuse(b"other", refusal).signal_id != first.signal_id


# --- age


@pytest.mark.parametrize(
    ("offset_ms", "changes", "reason"),
    [
        pytest.param(-120_000, {}, None, id="exactly the age of a signal without a timeframe"),
        pytest.param(-120_001, {}, Reason.SIGNAL_EXPIRED, id="one millisecond older"),
        pytest.param(-30_000, {"timeframe": "5m"}, None, id="thirty seconds with 5m"),
        pytest.param(-30_001, {"timeframe": "5m"}, Reason.SIGNAL_EXPIRED, id="more than thirty seconds with 5m"),
        pytest.param(-15_000, {"timeframe": "1m"}, None, id="a quarter of a minute"),
        pytest.param(-15_001, {"timeframe": "1m"}, Reason.SIGNAL_EXPIRED, id="more than a quarter of a minute"),
        pytest.param(2_000, {}, None, id="two seconds ahead"),
        pytest.param(2_001, {}, Reason.SIGNAL_CLOCK, id="more than two seconds ahead"),
        pytest.param(253_402_300_799_999 - T0, {}, Reason.SIGNAL_CLOCK, id="the last millisecond of year 9999"),
    ],
)
def test_the_age_of_a_signal(scene: Scene, offset_ms: int, changes: dict[str, Any], reason: Reason | None) -> None:
    answer = scene.ask(payload(ts=T0 + offset_ms, **changes))
    if reason is None:
        assert answer.action is Action.EXECUTE
        assert answer.field is None
    else:
        assert (answer.action, answer.reasons[0], answer.field) == (Action.REJECTED, reason, "ts")
        assert answer.position_id is None
        assert scene.facts("decision")[0].fields["blocked"] == reason.value


def test_a_profile_may_set_the_age() -> None:
    scene = Scene(replace(FREE, max_age_ms=1_000), live=True)
    assert scene.ask(payload("a", ts=T0 - 1_000)).action is Action.EXECUTE
    assert scene.ask(payload("b", ts=T0 - 1_001)).reasons[0] is Reason.SIGNAL_EXPIRED


def test_a_late_repetition_gets_the_first_answer_not_an_expiry(scene: Scene) -> None:
    first = scene.ask(payload())
    scene.memory.wall_ms += HOUR
    assert scene.ask(payload()).as_dict() | {"latency_ms": 0} == first.as_dict() | {"latency_ms": 0}


# --- identity


def test_the_same_signal_again_gets_the_same_answer_but_for_the_latency(scene: Scene) -> None:
    first, again = scene.ask(payload()), scene.ask(payload(entry=100, ts="2024-01-01T01:00:00+01:00"))
    assert first.latency_ms is not None
    assert again.reasons[0] is Reason.SIGNAL_CONFLICT  # another spelling of the time is other content
    again = scene.ask(payload(entry=100))  # whole floats and integers are the same content
    assert again.as_dict() | {"latency_ms": 0} == first.as_dict() | {"latency_ms": 0}
    assert len(scene.facts("opened")) == 1


def test_the_same_id_with_other_content_is_a_conflict_and_the_first_is_kept(scene: Scene) -> None:
    first = scene.ask(payload())
    for _ in range(2):
        answer = scene.ask(payload(tp=106.0))
        assert answer.action is Action.REJECTED
        assert answer.reasons == (Reason.SIGNAL_CONFLICT, *first.reasons)
        assert (answer.field, answer.expires_at) == ("id", None)
    assert len(scene.facts("conflict")) == 1
    assert json.loads(scene.position().terms)["tp"] == 104
    assert scene.ask(payload()).action is Action.EXECUTE


def test_ids_are_one_namespace_across_strategies(scene: Scene) -> None:
    scene.ask(payload())
    assert scene.ask(payload(strategy="range")).reasons[0] is Reason.SIGNAL_CONFLICT


def test_without_an_id_the_content_is_the_id(scene: Scene) -> None:
    first = scene.ask(payload(id=...))
    assert len(first.signal_id) == 64
    assert scene.ask(payload(id=...)).signal_id == first.signal_id
    assert scene.ask(payload(id=..., tp=105.0)).signal_id != first.signal_id


def test_a_second_signal_of_a_bar_gets_the_first_answer(scene: Scene) -> None:
    first = scene.ask(payload("a", timeframe="5m"))
    for _ in range(2):
        second = scene.ask(payload("b", timeframe="5m", entry=100.1, ts=T0 + 1_000))
        assert second.action is Action.EXECUTE
        assert second.reasons == (*first.reasons, Reason.DUPLICATE_BAR)
        assert (second.signal_id, second.position_id) == ("b", "a")
        assert second.decided_at == first.decided_at
    assert scene.store.position("b") is None
    assert len(scene.facts("opened")) == 1
    later = Service(scene.store, scene.profiles).answer("b")
    assert later is not None
    assert later["reasons"] == [*map(str, first.reasons), "DUPLICATE_BAR"]
    assert later["position_id"] == "a"


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"tag": "second"}, id="tag"),
        pytest.param({"timeframe": "15m"}, id="timeframe"),
        pytest.param({"symbol": "ETHUSDT"}, id="symbol"),
        pytest.param({"strategy": "range"}, id="strategy"),
        pytest.param({"side": "short", "sl": 102.0, "tp": 96.0}, id="side"),
        pytest.param({"timeframe": ...}, id="no timeframe"),
    ],
)
def test_another_bet_is_not_the_same_bar(scene: Scene, other: dict[str, Any]) -> None:
    scene.ask(payload("a", timeframe="5m"))
    answer = scene.ask(payload("b", **{"timeframe": "5m"} | other))
    assert Reason.DUPLICATE_BAR not in answer.reasons
    assert answer.position_id == "b"


def test_the_next_candle_is_another_bar_and_a_refused_signal_takes_none(scene: Scene) -> None:
    assert scene.ask(payload("old", timeframe="5m", ts=T0 - HOUR)).action is Action.REJECTED
    assert scene.ask(payload("refused", timeframe="5m", sl=101.0)).action is Action.REJECTED
    assert Reason.DUPLICATE_BAR not in scene.ask(payload("a", timeframe="5m")).reasons
    scene.memory.wall_ms += STEP
    assert Reason.DUPLICATE_BAR not in scene.ask(payload("b", timeframe="5m", ts=T0 + STEP)).reasons


# --- score and context


def test_an_answer_tells_how_it_came_about(scene: Scene) -> None:
    answer = scene.ask(payload(volatility_regime="goldilocks_2", session="us"))
    assert answer.as_dict() == {
        "signal_id": "s1",
        "action": "execute",
        "reasons": ["SCORE_PASSED", "MODEL_ABSENT"],
        "decided_at": T0,
        "score": 90,
        "win_probability": None,
        "threshold": 70,
        "threshold_source": "static",
        "score_source": "heuristic",
        "bucket": "us|high",
        "size_multiplier": 1,
        "explored": False,
        "propensity": None,
        "expected_return_r": None,
        "p_stop": None,
        "bundle": None,
        "position_id": "s1",
        "expires_at": T0 + 10_000,
        "latency_ms": 1.0,
        "field": None,
        "detail": None,
    }


def test_a_low_score_is_followed_as_a_phantom(scene: Scene) -> None:
    answer = scene.ask(payload(good=False))
    assert (answer.action, answer.score, answer.expires_at) == (Action.PHANTOM, 50, None)
    assert answer.reasons[0] is Reason.SCORE_BELOW_THRESHOLD
    assert scene.position().kind.value == "phantom"
    assert scene.store.claim("s1", "engine", now_ms=T0) is Reason.CLAIM_NOT_EXECUTE


def test_missing_features_are_named(scene: Scene) -> None:
    answer = scene.ask(payload(features={"ema_stack_score": 60.0, "break_dist_atr": None, "range_expansion": "much"}))
    assert Reason.FEATURES_MISSING in answer.reasons
    assert answer.score == 60
    body = json.loads(scene.facts("decision")[0].body)
    assert body["missing"] == ["trend_slope_pct", "break_dist_atr", "range_expansion", "atr_pct"]
    assert body["features"]["range_expansion"] == "much"
    assert Reason.FEATURES_MISSING not in scene.ask(payload("b")).reasons


def history(scene: Scene, count: int, symbol: str = SYMBOL, timeframe: str = "5m") -> None:
    updates = [VolatilityUpdate(timeframe, float(value), str) for value in range(1, count + 1)]
    scene.store.push_volatility(symbol, updates)


@pytest.mark.parametrize(
    ("atr_pct", "regime"),
    [
        pytest.param(25.0, "low", id="24 of 100 lie lower"),
        pytest.param(26.0, "normal", id="25 of 100"),
        pytest.param(75.0, "normal", id="74 of 100: equal values are not lower"),
        pytest.param(75.5, "high", id="75 of 100"),
        pytest.param(95.0, "high", id="94 of 100"),
        pytest.param(95.5, "extreme", id="95 of 100"),
        pytest.param(None, "extreme", id="not sent: the last of the history, 99 of 100"),
    ],
)
def test_the_volatility_regime_is_a_rank_in_the_symbols_history(
    scene: Scene, atr_pct: float | None, regime: str
) -> None:
    history(scene, 100)
    history(scene, 500, symbol="ETHUSDT")
    history(scene, 500, timeframe="1h")
    answer = scene.ask(payload(timeframe="5m", session="us", features={**GOOD, "atr_pct": atr_pct}))
    assert answer.bucket == f"us|{regime}"
    assert Reason.CONTEXT_VOLATILITY_UNKNOWN not in answer.reasons


@pytest.mark.parametrize("timeframe", ["5m", "15m", ...])
def test_too_short_a_history_is_normal_and_flagged(scene: Scene, timeframe: object) -> None:
    history(scene, 99)
    answer = scene.ask(payload(timeframe=timeframe, session="us", features={**GOOD, "atr_pct": 99.5}))
    assert answer.bucket == "us|normal"
    assert Reason.CONTEXT_VOLATILITY_UNKNOWN in answer.reasons
    assert json.loads(scene.facts("decision")[0].body)["volatility_known"] is False


@pytest.mark.parametrize(
    ("moment", "session"),
    [
        # New York changes its clocks weeks before and after London: the same UTC time lies in different sessions.
        pytest.param("2024-03-08T13:30", "european", id="before New York's spring: 08:30 there"),
        pytest.param("2024-03-11T13:30", "us", id="after it: 09:30"),
        pytest.param("2024-03-28T07:30", "asian", id="before London's spring: 07:30 there, 16:30 in Tokyo"),
        pytest.param("2024-04-01T07:30", "european", id="after it: 08:30"),
        pytest.param("2024-10-25T07:30", "european", id="before London's autumn"),
        pytest.param("2024-10-28T07:30", "asian", id="after it"),
        pytest.param("2024-11-01T13:30", "us", id="before New York's autumn"),
        pytest.param("2024-11-04T13:30", "european", id="after it"),
        pytest.param("2024-07-01T20:00", "off", id="New York has just closed"),
        pytest.param("2024-07-01T19:59", "us", id="the minute before"),
        pytest.param("2024-07-06T15:00", "us", id="crypto has no weekend"),
    ],
)
def test_the_session_follows_the_exchanges_own_clocks(scene: Scene, moment: str, session: str) -> None:
    ts = int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp() * 1000)
    scene.memory.wall_ms = ts
    bucket = scene.ask(payload(ts=ts)).bucket
    assert bucket is not None
    assert bucket.partition("|")[0] == session


# --- mode


def set_mode(scene: Scene, mode: Mode) -> None:
    scene.store.set_mode(mode, actor="op", reason="test", now_ms=scene.store.now_ms())


def test_halt_makes_phantoms_and_says_what_would_have_been(scene: Scene) -> None:
    set_mode(scene, Mode.HALT)
    answer = scene.ask(payload())
    assert answer.action is Action.PHANTOM
    assert answer.reasons[:3] == (Reason.MODE_HALT, Reason.SCORE_PASSED, Reason.MODEL_ABSENT)
    assert scene.position().open
    set_mode(scene, Mode.ON)
    assert scene.ask(payload()).action is Action.PHANTOM  # the first answer
    assert scene.ask(payload("b")).action is Action.EXECUTE


def test_a_halt_between_the_answer_and_the_claim_revokes_it(scene: Scene) -> None:
    scene.ask(payload("a"))
    scene.ask(payload("b"))
    service = Service(scene.store, scene.profiles)
    assert service.claim("a", "engine") is Reason.CLAIM_GO
    service.set_mode(Mode.HALT, actor="op", reason="test")
    assert service.claim("b", "engine") is Reason.CLAIM_REVOKED
    # Asked again after the halt, also what was given is refused: nothing new may leave now.
    assert service.claim("a", "engine") is Reason.CLAIM_REVOKED
    assert service.claim("a", "another") is Reason.CLAIM_TAKEN


def test_ml_off_leaves_the_heuristic(scene: Scene) -> None:
    set_mode(scene, Mode.ML_OFF)
    answer = scene.ask(payload())
    assert answer.action is Action.EXECUTE
    assert answer.reasons[:3] == (Reason.MODE_ML_OFF, Reason.SCORE_PASSED, Reason.MODEL_ABSENT)
    assert scene.store.claim("s1", "engine", now_ms=T0) is Reason.CLAIM_GO


def test_a_missing_mode_never_executes(scene: Scene) -> None:
    del scene.memory.state.hashes["ml:ctl"]
    answer = scene.ask(payload())
    assert (answer.action, answer.reasons[0]) == (Action.PHANTOM, Reason.MODE_MISSING)


def test_a_wiped_namespace_says_no_and_writes_nothing(scene: Scene) -> None:
    for table in (scene.memory.state.strings, scene.memory.state.hashes, scene.memory.state.zsets):
        table.clear()
    before = len(scene.memory.facts)
    for answer in (
        scene.ask(payload()),
        scene.ask(payload("b", sl=101.0)),
        scene.judge.refuse(b"x", Refusal(Reason.PAYLOAD_NOT_JSON, "payload")),
    ):
        assert (answer.action, answer.reasons) == (Action.REJECTED, (Reason.MODE_MISSING,))
        assert answer.position_id is None
        assert "not been created" in str(answer.detail)
    assert len(scene.memory.facts) == before
    assert scene.store.dump() == {}


# --- limits


def limited(**limits: Any) -> Scene:
    return Scene(replace(TREND, limits=replace(UNLIMITED, **limits)), live=True)


def ask(scene: Scene, name: str, symbol: str = SYMBOL, good: bool = True) -> Answer:
    return scene.ask(payload(name, symbol=symbol, good=good, ts=scene.memory.wall_ms))


def test_the_limit_of_open_positions_counts_executed_ones_only() -> None:
    scene = limited(open_positions=2)
    ask(scene, "phantom", good=False)
    assert [ask(scene, name).action.value for name in "abc"] == ["execute", "execute", "phantom"]
    refused = ask(scene, "d")
    assert refused.reasons[:3] == (Reason.LIMIT_OPEN_POSITIONS, Reason.SCORE_PASSED, Reason.MODEL_ABSENT)
    assert scene.store.dump()["phantom:blocked:20240101"] == {"SCORE_BELOW_THRESHOLD": "1", "LIMIT_OPEN_POSITIONS": "2"}


def test_the_limit_per_symbol() -> None:
    scene = limited(per_symbol=1)
    assert ask(scene, "a").action is Action.EXECUTE
    assert ask(scene, "b").reasons[0] is Reason.LIMIT_SYMBOL_POSITIONS
    assert ask(scene, "c", "ETHUSDT").action is Action.EXECUTE


def test_the_rate_of_executes_is_counted_over_the_last_minute() -> None:
    scene = limited(executes_per_minute=2)
    assert [ask(scene, name).action.value for name in "abc"] == ["execute", "execute", "phantom"]
    scene.memory.wall_ms += 59_999
    assert ask(scene, "d").reasons[0] is Reason.LIMIT_EXECUTE_RATE
    scene.memory.wall_ms += 1
    assert ask(scene, "e").action is Action.EXECUTE


def lose(scene: Scene, name: str, r: float, money: float = 0.0) -> None:
    ask(scene, name)
    scene.store.claim(name, "engine", now_ms=scene.memory.wall_ms)
    command = ending(
        scene.position(name),
        how=CloseHow.REPORT,
        report_id="r",
        now_ms=scene.memory.wall_ms,
        r_micro=round(-r * 1e6),
        money_micro=round(-money * 1e6),
    )
    scene.store.close(command)


@pytest.mark.parametrize(
    ("limits", "losses", "reason"),
    [
        pytest.param({"daily_loss_r": 3.0}, (1.5, 0.0), Reason.LIMIT_DAILY_LOSS_R, id="in R"),
        pytest.param({"daily_loss_money": 300.0}, (0.0, 150.0), Reason.LIMIT_DAILY_LOSS_MONEY, id="in money"),
    ],
)
def test_the_daily_loss_blocks_at_its_limit_until_midnight(
    limits: dict[str, float], losses: tuple[float, float], reason: Reason
) -> None:
    scene = limited(**limits)
    lose(scene, "a", *losses)
    assert ask(scene, "b").action is Action.EXECUTE
    lose(scene, "c", *losses)
    refused = ask(scene, "d")
    assert (refused.action, refused.reasons[0]) == (Action.PHANTOM, reason)
    scene.memory.wall_ms = T0 + 24 * HOUR
    assert ask(scene, "e").action is Action.EXECUTE


def test_too_many_tracked_positions_are_refused_and_recorded() -> None:
    scene = Scene(replace(TREND, limits=Limits(tracked_positions=1)), live=True)
    ask(scene, "a", good=False)
    refused = ask(scene, "b", good=False)
    assert (refused.action, refused.reasons[0]) == (Action.REJECTED, Reason.LIMIT_TRACKED_POSITIONS)
    assert refused.position_id is None


def test_all_reasons_are_told_also_those_after_the_first(scene: Scene) -> None:
    scene = limited(open_positions=1, per_symbol=1, executes_per_minute=1)
    ask(scene, "a")
    set_mode(scene, Mode.HALT)
    answer = scene.ask(payload("b", ts=T0 - HOUR))
    assert [str(reason) for reason in answer.reasons[:5]] == [
        "SIGNAL_EXPIRED", "MODE_HALT", "LIMIT_OPEN_POSITIONS", "LIMIT_SYMBOL_POSITIONS", "LIMIT_EXECUTE_RATE",
    ]  # fmt: skip
    assert answer.action is Action.REJECTED


# --- run modes


@pytest.mark.parametrize(("mode", "code"), [(RunMode.OBSERVE, Reason.RUN_OBSERVE), (RunMode.SHADOW, Reason.RUN_SHADOW)])
def test_observe_and_shadow_skip_the_threshold_and_nothing_else(mode: RunMode, code: Reason) -> None:
    scene = Scene(replace(FREE, run_mode=mode, limits=replace(UNLIMITED, per_symbol=1)), live=True)
    answer = scene.ask(payload("a", good=False))
    assert answer.action is Action.EXECUTE
    assert answer.reasons[:3] == (Reason.SCORE_BELOW_THRESHOLD, Reason.MODEL_ABSENT, code)
    assert json.loads(scene.facts("decision")[0].body)["enforced"] == "phantom"
    assert scene.ask(payload("b", sl=101.0)).action is Action.REJECTED
    assert scene.ask(payload("c", ts=T0 - HOUR)).reasons[0] is Reason.SIGNAL_EXPIRED
    assert scene.ask(payload("d")).reasons[0] is Reason.LIMIT_SYMBOL_POSITIONS
    set_mode(scene, Mode.HALT)
    halted = scene.ask(payload("e", symbol="ETHUSDT"))
    assert (halted.action, halted.reasons[0]) == (Action.PHANTOM, Reason.MODE_HALT)


@pytest.mark.parametrize("mode", list(RunMode))
def test_a_forbidden_heuristic_never_executes(mode: RunMode) -> None:
    scene = Scene(replace(FREE, heuristic_may_execute=False, run_mode=mode), live=True)
    answer = scene.ask(payload())
    assert answer.action is Action.PHANTOM
    assert Reason.HEURISTIC_FORBIDDEN in answer.reasons
    set_mode(scene, Mode.ML_OFF)
    assert scene.ask(payload("b")).action is Action.PHANTOM


def test_a_threshold_is_reached_at_equality() -> None:
    scene = Scene(replace(FREE, static_threshold=90.0), live=True)
    assert scene.ask(payload("a")).action is Action.EXECUTE
    assert scene.ask(payload("b", features={**GOOD, "trend_slope_pct": 4.99})).action is Action.PHANTOM


# --- terms


def test_the_terms_of_a_position_follow_from_the_signals_own_time() -> None:
    scene = Scene(FREE, SCALP, live=True)
    scene.memory.wall_ms = T0 + 60_000
    on_time, late = scene.open("a", ts=T0 + 5_000), scene.open("b", ts=T0 + 5_001)
    assert (on_time.entry_ms, late.entry_ms) == (T0, T0 + STEP)
    assert late.deadline_ms == T0 + STEP + 36 * HOUR
    assert json.loads(late.terms)["tp1"] == 103.2
    mirrored = scene.open("c", side="short", sl=102.0, tp=96.0)
    assert json.loads(mirrored.terms)["tp1"] == 96.8
    scalp = scene.open("d", strategy="scalp")
    assert (json.loads(scalp.terms)["tp1"], scalp.deadline_ms) == (None, T0 + 24 * HOUR)
    assert scalp.prefix == "scalp_phantom"
    ranged = scene.open("e", strategy="range", tp1=101.0)
    assert json.loads(ranged.terms)["tp1"] == 101


def test_the_recorded_answer_of_a_refusal_can_be_asked_for(scene: Scene) -> None:
    scene.ask(payload("old", ts=T0 - HOUR))
    scene.ask(payload("wrong", sl=101.0))
    decision = scene.store.decision("old")
    assert decision is not None
    assert answer_from(decision, asked="old").field == "ts"
    service = Service(scene.store, scene.profiles)
    told = service.answer("wrong")
    assert told is not None
    assert (told["field"], told["latency_ms"]) == ("sl", None)
    assert service.answer("never") is None


def test_the_clock_of_a_data_namespace_is_its_candles() -> None:
    scene = Scene()
    assert scene.store.clock_kind() is ClockKind.DATA
    scene.store.advance_clock(T0 + HOUR)
    assert scene.ask(payload("a")).reasons[0] is Reason.SIGNAL_EXPIRED
    assert scene.ask(payload("b", ts=T0 + HOUR)).action is Action.EXECUTE


def test_a_judge_keeps_its_own_profiles() -> None:
    scene = Scene(live=True)
    profiles = dict(scene.profiles)
    judge = Judge(scene.store, profiles)
    profiles.clear()
    assert judge.judge(payload()).action is Action.EXECUTE
