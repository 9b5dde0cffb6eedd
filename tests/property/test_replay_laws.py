"""Laws of a replay: order of input means nothing, symbols do not meddle, and the rule alone says the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import event, given
from hypothesis import strategies as st

from lab.replay import Replay, Replayed
from lab.trade import Trade
from market.candles import Candles
from phantom.position import Closed, Position, terms_for
from runtime.follow import Follower
from signals.candle import Candle
from signals.profile import TREND, FillRule, Profile
from signals.signal import Side, Signal
from tests.support.laws import LAW
from tests.support.positions import START, STEP, follow
from tests.support.scene import BAD, GOOD, Scene, payload
from tests.support.walks import walks

EIGHTH = 0.125
SYMBOLS = ("AAA", "BBB")


@st.composite
def plans(draw: st.DrawFn, symbol: str, candles: list[Candle]) -> list[Signal]:
    """Signals anywhere along a walk, and shortly after it."""
    made = []
    for number in range(draw(st.integers(0, 6))):
        candle = candles[draw(st.integers(0, len(candles) - 1))]
        side = draw(st.sampled_from(list(Side)))
        risk = draw(st.integers(2, 24)) * EIGHTH
        reward = risk * draw(st.sampled_from([0.5, 1.0, 1.5, 3.0]))
        made.append(
            Signal(
                id=f"{symbol}-{number}",
                strategy="trend",
                symbol=symbol,
                side=side,
                entry=candle.open,
                sl=candle.open - side.value * risk,
                tp=candle.open + side.value * reward,
                ts=candle.ts + draw(st.sampled_from([0, 0, 1, 5_001, STEP - 1, STEP])),
                features=dict(draw(st.sampled_from([GOOD, BAD]))),
                tag=draw(st.sampled_from([None, "x"])),
            )
        )
    return made


@st.composite
def histories(draw: st.DrawFn) -> tuple[Profile, dict[str, list[Candle]], list[Signal]]:
    """A profile, two walks with holes, and signals on both."""
    profile = replace(
        TREND,
        timeout_ms=draw(st.sampled_from([1, 3, 10, 100])) * STEP,
        tp1_r=draw(st.sampled_from([None, 0.6, 1.6])),
        fill=draw(st.sampled_from(list(FillRule))),
    )
    found = {symbol: draw(walks(most=25)) for symbol in SYMBOLS}
    return profile, found, [signal for symbol in SYMBOLS for signal in draw(plans(symbol, found[symbol]))]


def run(profile: Profile, found: dict[str, list[Candle]], signals: Sequence[Signal]) -> tuple[Replay, Replayed]:
    replay = Replay(profile)
    replay.store._keep_facts = True
    return replay, replay.run([Candles.of(symbol, "5m", candles) for symbol, candles in found.items()], signals)


def by_id(trades: Sequence[Trade]) -> dict[str, Trade]:
    return {trade.signal_id: trade for trade in trades}


@LAW
@given(histories(), st.randoms(use_true_random=False))
def test_the_order_of_the_input_means_nothing(
    history: tuple[Profile, dict[str, list[Candle]], list[Signal]], dice: object
) -> None:
    profile, found, signals = history
    shuffled = list(signals)
    dice.shuffle(shuffled)  # type: ignore[attr-defined]
    _, straight = run(profile, found, signals)
    _, turned = run(profile, dict(reversed(found.items())), shuffled)
    assert turned.decisions_hash == straight.decisions_hash
    assert by_id(turned.trades) == by_id(straight.trades)
    assert (turned.still_open, turned.candle_counts) == (straight.still_open, straight.candle_counts)


@LAW
@given(histories())
def test_without_limits_a_symbol_does_not_know_of_the_other(
    history: tuple[Profile, dict[str, list[Candle]], list[Signal]],
) -> None:
    profile, found, signals = history
    _, together = run(profile, found, signals)
    alone: dict[str, Trade] = {}
    for symbol, candles in found.items():
        own = [signal for signal in signals if signal.symbol == symbol]
        alone |= by_id(run(profile, {symbol: candles}, own)[1].trades)
    joint = by_id(together.trades)
    assert {name: joint[name] for name in alone} == alone
    # The other symbol's candles only tell for longer that this one has gone silent.
    assert {joint[name].outcome for name in joint.keys() - alone.keys()} <= {"no_data"}


@LAW
@given(histories())
def test_every_trade_is_what_the_rule_alone_makes_of_its_candles(
    history: tuple[Profile, dict[str, list[Candle]], list[Signal]],
) -> None:
    profile, found, signals = history
    replay, replayed = run(profile, found, signals)
    trades = by_id(replayed.trades)
    for signal in signals:
        state = follow(Position.open(terms_for(signal, profile)), found[signal.symbol])
        trade = trades.get(signal.id)
        if not isinstance(state, Closed):
            assert trade is None or trade.outcome == "no_data"
            continue
        event(state.outcome.value)
        assert trade is not None
        assert (trade.outcome, trade.exit_reason, trade.gross_r) == (state.outcome, state.reason, state.gross_r)
        assert (trade.mfe_r, trade.mae_r, trade.mark_r) == (state.mfe_r, state.mae_r, state.mark_r)
        if trade.outcome != "no_data":
            assert trade.exit_ts == state.exit_ms
    answered = {fact.fields["sid"] for fact in replay.store.facts if fact.kind == "decision"}
    assert answered == {signal.id for signal in signals}
    assert len(trades) + replayed.still_open == len(signals)
    closed = [fact.fields["sid"] for fact in replay.store.facts if fact.kind == "closed"]
    assert sorted(closed) == sorted(trades)


@LAW
@given(walks(most=15, holes=False), st.data())
def test_shuffled_within_the_window_with_copies_and_restarts_the_result_is_the_orderly_one(
    candles: list[Candle], data: st.DataObject
) -> None:
    window = data.draw(st.integers(1, 4))
    arrivals: list[Candle] = [candles[0]]
    rest = candles[1:]
    while rest:
        # The next expected candle is never further back than the window allows.
        place = data.draw(st.integers(0, min(window, len(rest)) - 1))
        arrivals.append(rest.pop(place if rest.index(min(rest, key=_ts)) + window > place else 0))
        if data.draw(st.booleans()):
            arrivals.append(data.draw(st.sampled_from(arrivals)))
    orderly, shuffled = (Scene(window=len(candles) + 1, checkpoint_every=3) for _ in range(2))
    for scene in (orderly, shuffled):
        entry = candles[0].open
        scene.open("p", good=False, ts=START, entry=entry, sl=entry - 2.0, tp=entry + 3.0)
        scene.open("e", claim=True, ts=START, side="short", entry=entry, sl=entry + 2.0, tp=entry - 3.0)
    orderly.feed(candles)
    restart_at = data.draw(st.integers(0, len(arrivals)))
    shuffled.feed(arrivals[:restart_at])
    shuffled.follower = shuffled.new_follower()
    shuffled.feed(arrivals)
    shuffled.follower.flush()
    assert shuffled.memory.dump() == orderly.memory.dump()


def _ts(candle: Candle) -> int:
    return candle.ts


@LAW
@given(walks(most=20), st.integers(0, 20))
def test_a_candle_handed_over_twice_in_a_row_is_taken_once(candles: list[Candle], place: int) -> None:
    once, twice = Scene(window=0), Scene(window=0)
    entry = candles[0].open
    for scene in (once, twice):
        scene.ask(payload("p", good=False, ts=START, entry=entry, sl=entry - 2.0, tp=entry + 3.0))
    repeated = [*candles[: place + 1], *candles[place : place + 1], *candles[place + 1 :]]
    assert once.feed(candles) == twice.feed(repeated)
    assert once.memory.dump() == twice.memory.dump()
    assert isinstance(once.follower, Follower)
