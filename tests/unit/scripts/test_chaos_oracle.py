"""The judge of a chaos run must see what it is there to see: each planted loss under its own name, and no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from persistence.memory_store import MemoryStore
from persistence.store import ClockKind, Fact, Mode
from phantom.position import Closed, terms_for
from runtime.follow import Follower
from runtime.service import Service
from scripts.chaos.engine import Flight, Stage
from scripts.chaos.figures import LIVE_FAULTS_PER_MINUTE, ZEROS, Spread, Verdict, verdict
from scripts.chaos.market import STEP_MS, Market
from scripts.chaos.oracle import Findings, Record, judge
from signals.parse import parse_signal
from signals.profile import Limits, Profile, RunMode
from signals.reasons import Reason
from signals.signal import Signal

START_MS = 1_704_067_200_000
SECONDS = 120
PROFILE = Profile(
    name="trend", timeout_ms=30_000, tp1_r=1.6, tracking_timeframe="1s", run_mode=RunMode.OBSERVE,
    limits=Limits(executes_per_minute=0, per_symbol=0),
)  # fmt: skip


@dataclass(slots=True)
class Run:
    flights: dict[str, Flight]
    market: Market
    store: MemoryStore
    facts: list[Fact]

    def judged(self) -> Findings:
        return judge(
            self.flights, self.market, SECONDS, Record.of(self.facts), self.store.state.dump(), self.store.keys
        )


@pytest.fixture
def run() -> Run:
    """Twelve signals, every third unclaimed, one HALT and back, through the real service and follower."""
    market = Market.of(2, begins_ms=START_MS, seconds=SECONDS, seed=5, gap_share=0.02)
    store = MemoryStore("chaos")
    store.create(ClockKind.DATA, now_ms=START_MS)
    store.register("trend", "{}", "70", now_ms=START_MS)
    service, follower = Service(store, {"trend": PROFILE}), Follower(store, {"trend": PROFILE}, window=3)
    flights: dict[str, Flight] = {}
    for second in range(SECONDS):
        for symbol in market.symbols:
            if second not in market.gaps(symbol):
                follower.candle(symbol, "1s", market.candle(symbol, second))
        if second % 5 == 0 and 10 <= second < 70:
            flight = _flight(market, second, len(flights))
            flights[flight.id] = flight
            if second == 40:
                service.set_mode(Mode.HALT, actor="test", reason="drill")
            flight.answer = service.judge(flight.payload)
            if second == 40:
                service.set_mode(Mode.ON, actor="test", reason="over")
            if len(flights) % 3 and service.claim(flight.id, "left") is Reason.CLAIM_GO:
                flight.go.add("left")
    follower.flush()
    _report(service, flights)
    return Run(flights, market, store, list(store.facts))


def _flight(market: Market, second: int, number: int) -> Flight:
    symbol, now_ms = market.symbols[number % 2], START_MS + (second + 1) * STEP_MS
    entry = market.candle(symbol, second).close
    payload: dict[str, object] = {
        "id": f"trend-{number}", "strategy": "trend", "symbol": symbol, "side": "long", "entry": entry,
        "sl": round(entry * 0.995, 6), "tp": round(entry * 1.01, 6), "ts": now_ms, "features": {"atr_pct": 0.4},
    }  # fmt: skip
    parsed = parse_signal(payload, {"trend": PROFILE})
    assert isinstance(parsed, Signal)
    terms = terms_for(parsed, PROFILE)
    return Flight(f"trend-{number}", payload, symbol, now_ms, resting=False, terms=terms, stage=Stage.DONE)


def _report(service: Service, flights: dict[str, Flight]) -> None:
    for flight in flights.values():
        if flight.go:
            price, ts = flight.terms.entry, flight.terms.entry_ms + STEP_MS
            reply = service.close(
                {"signal_id": flight.id, "price": price, "ts": ts, "quantity": 1.0, "reason": "manual"}
            )
            assert reply.accepted
            flight.reported = True


def test_a_sound_run_shows_nothing(run: Run) -> None:
    actions = [str(flight.answer["action"]) for flight in run.flights.values() if flight.answer is not None]
    assert (actions.count("execute"), actions.count("phantom")) == (11, 1)
    assert sum(len(flight.go) for flight in run.flights.values()) >= 6
    assert sum(fact.kind == "closed" for fact in run.facts) == len(run.flights)
    assert run.judged().counts == {}


def _kind(run: Run, kind: str, how: str = "") -> int:
    return next(
        place
        for place, fact in enumerate(run.facts)
        if fact.kind == kind and (not how or fact.fields.get("how") == how)
    )


def _drop(kind: str, how: str = "") -> Callable[[Run], None]:
    def plant(run: Run) -> None:
        del run.facts[_kind(run, kind, how)]

    return plant


def _again(kind: str) -> Callable[[Run], None]:
    def plant(run: Run) -> None:
        fact = run.facts[_kind(run, kind)]
        run.facts.append(replace(fact, seq=len(run.facts) + 1, id=f"{fact.id}:again"))

    return plant


def _other_exit(run: Run) -> None:
    place = _kind(run, "closed", "simulation")
    body = json.loads(run.facts[place].body) | {"exit_price": 1.0}
    run.facts[place] = replace(run.facts[place], body=json.dumps(body))


def _other_engine(run: Run) -> None:
    next(flight for flight in run.flights.values() if flight.go).go.add("right")


def _other_answer(run: Run) -> None:
    flight = next(flight for flight in run.flights.values() if flight.answer is not None and flight.go)
    assert flight.answer is not None
    flight.answer["action"] = "phantom"


def _late_claim(run: Run) -> None:
    place = next(place for place, fact in enumerate(run.facts) if fact.fields.get("mode") == "HALT")
    run.facts.insert(place + 1, run.facts.pop(_kind(run, "claimed")))


def _counter(run: Run) -> None:
    run.store.state.strings[run.store.keys.completed_trades("trend")] = "99"


def _stranger(run: Run) -> None:
    run.flights.pop("trend-3")


@pytest.mark.parametrize(
    ("plant", "name"),
    [
        pytest.param(_drop("decision"), "lost", id="a decision is missing"),
        pytest.param(_drop("closed", "simulation"), "lost", id="an outcome is missing"),
        pytest.param(_drop("claimed"), "lost", id="a claim that got a GO is missing"),
        pytest.param(_drop("closed", "report"), "lost", id="an accepted report is missing"),
        pytest.param(_again("closed"), "duplicate", id="an outcome twice"),
        pytest.param(_again("claimed"), "double_claims", id="a claim twice"),
        pytest.param(_other_exit, "wrong", id="another exit than the candles give"),
        pytest.param(_other_engine, "double_claims", id="two engines were told to go"),
        pytest.param(_other_answer, "changed_answer", id="the engine was told otherwise"),
        pytest.param(_late_claim, "execute_after_halt", id="a claim after a halt"),
        pytest.param(_counter, "counter_drift", id="a counter of its own"),
        pytest.param(_stranger, "invented", id="a story nobody sent"),
    ],
)  # fmt: skip
def test_a_planted_fault_is_seen(run: Run, plant: Callable[[Run], None], name: str) -> None:
    plant(run)
    found = run.judged()
    assert found.counts[name] > 0, dict(found.counts)
    assert name in ZEROS


def test_the_market_has_gaps_and_is_the_same_for_one_seed() -> None:
    one, two = (Market.of(1, begins_ms=0, seconds=500, seed=3, gap_share=0.05) for _ in range(2))
    assert one.delivered("CH0000", 500) == two.delivered("CH0000", 500)
    assert 5 <= len(one.gaps("CH0000")) <= 60
    assert len(one.delivered("CH0000", 500)) == 500 - len(one.gaps("CH0000"))


def test_quantiles_by_nearest_rank() -> None:
    assert Spread.of([]) == Spread(0, None, None, None, None)
    assert Spread.of([3.0, 1.0, 2.0, 4.0]) == Spread(4, 3.0, 4.0, 4.0, 4.0)


def test_verdicts() -> None:
    enough = round(LIVE_FAULTS_PER_MINUTE * 30)
    assert verdict({}, {}, {"kill_worker": 5}, enough, 30.0) == (Verdict.PASSED, ())
    assert verdict({}, {}, {"kill_worker": 5}, enough - 1, 30.0)[0] is Verdict.INVALID
    assert verdict({}, {}, {"kill_worker": 5, "halt": 0}, enough, 30.0)[0] is Verdict.INVALID
    assert verdict({"lost": 1}, {}, {"kill_worker": 0}, 0, 30.0) == (Verdict.FAILED, ("lost 1",))
    assert verdict({}, {"kill_relay": 2}, {"kill_worker": 5}, enough, 30.0)[0] is Verdict.FAILED


def test_closed_is_what_the_engine_reports(run: Run) -> None:
    # Guards the fixture: reports end positions that the simulation would have ended otherwise.
    assert any(isinstance(flight.closed, Closed) for flight in run.flights.values()) is False
    assert sum(fact.fields.get("how") == "report" for fact in run.facts if fact.kind == "closed") >= 6
