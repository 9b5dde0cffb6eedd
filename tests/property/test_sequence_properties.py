"""Laws about order, spelling and thresholds: shuffled is straight, printing is reading, tighter is never looser."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from decision.decide import Action, ScoreSource, Scoring, decide
from phantom.sequence import CandleSequence
from qscore.threshold import static_threshold
from signals.bucket import Bucket, Session, VolatilityRegime
from signals.candle import Candle
from signals.context import Context, regime_by_rank
from signals.parse import canonical_json, decode_json, identify, parse_signal
from signals.profile import DEFAULT_PROFILES, TREND, RunMode
from signals.reasons import Reason
from signals.signal import Signal
from tests.support.laws import LAW
from tests.support.payloads import payload
from tests.support.positions import STEP, follow, same
from tests.support.walks import terms_along, walks


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[int, list[Candle], list[Candle]]:
    """A window, a series with holes, and the same series with none later than the window allows.

    The first candle stays first: before it nothing tells what is missing.
    """
    window = draw(st.integers(0, 6))
    candles = draw(walks())
    delays = [0] + [draw(st.integers(0, window)) for _ in candles[1:]]
    order = sorted(range(len(candles)), key=lambda i: (i + delays[i], -i))
    return window, candles, [candles[i] for i in order]


def put_in_order(window: int, candles: list[Candle]) -> tuple[list[Candle], CandleSequence]:
    sequence = CandleSequence(STEP, window)
    out = [ready for candle in candles for ready in sequence.push(candle)]
    return out + list(sequence.flush()), sequence


@LAW
@given(arrivals())
def test_shuffled_within_the_window_is_straight(arrived: tuple[int, list[Candle], list[Candle]]) -> None:
    window, candles, shuffled = arrived
    out, sequence = put_in_order(window, shuffled)
    assert out == candles
    holes = sum(later.ts != earlier.ts + STEP for earlier, later in itertools.pairwise(candles))
    assert sequence.counts == ({Reason.CANDLE_GAP: holes} if holes > 0 else {})


@LAW
@given(arrivals(), st.data())
def test_positions_end_alike_in_order_and_shuffled(
    arrived: tuple[int, list[Candle], list[Candle]], data: st.DataObject
) -> None:
    window, candles, shuffled = arrived
    terms = data.draw(terms_along(candles))
    assert same(follow(terms, put_in_order(window, shuffled)[0]), follow(terms, candles))


@LAW
@given(arrivals(), st.data())
def test_copies_and_corrections_change_nothing(
    arrived: tuple[int, list[Candle], list[Candle]], data: st.DataObject
) -> None:
    window, candles, shuffled = arrived
    fates = st.sampled_from(["alone", "twice", "corrected", "announced"])
    noisy = []
    for candle in shuffled:
        fate = data.draw(fates)
        forming = Candle(candle.ts, *candle.prices, final=False)
        noisy += [forming, candle] if fate == "announced" else [candle]
        noisy += [candle] if fate == "twice" else []
        noisy += [Candle(candle.ts, 1.0, 200.0, 1.0, 1.0)] if fate == "corrected" else []
    out, sequence = put_in_order(window, noisy)
    assert out == candles
    assert sum(sequence.counts.values()) - sequence.counts[Reason.CANDLE_GAP] == len(noisy) - len(shuffled)


@LAW
@given(st.lists(st.integers(0, 30), max_size=60), st.integers(0, 6))
def test_whatever_arrives_leaves_in_order_once(places: list[int], window: int) -> None:
    arrived = [Candle(place * STEP, 1.0, 1.0, 1.0, 1.0) for place in places]
    out, sequence = put_in_order(window, arrived)
    times = [candle.ts for candle in out]
    assert times == sorted(set(times))
    lost = sequence.counts.total() - sequence.counts[Reason.CANDLE_GAP]
    assert len(out) + lost == len(arrived)


# --- spelling

NAMES = st.text("abcdefghijklmnopqrstuvwxyzABC0123456789_.:-", min_size=1, max_size=12)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53) + 1, 2**53 - 1)


@st.composite
def payloads(draw: st.DrawFn) -> dict[str, object]:
    """Good payloads of every kind."""
    direction = draw(st.sampled_from(["long", "short"]))
    sign = 1.0 if direction == "long" else -1.0
    entry = draw(st.floats(1e-6, 1e6))
    risk = entry * draw(st.floats(0.01, 0.5))
    reward = min(risk * draw(st.floats(0.2, 40.0)), entry * 0.9 if sign < 0 else math.inf)
    optional: dict[str, object] = {
        "id": draw(NAMES),
        "tp1": entry + sign * reward * draw(st.floats(0.1, 0.9)),
        "features": draw(st.dictionaries(NAMES, NUMBERS | st.none() | NAMES, max_size=5)),
        "session": draw(st.sampled_from([session.value for session in Session])),
        "volatility_regime": draw(st.sampled_from(["zombieland", *VolatilityRegime])),
        "timeframe": draw(st.sampled_from(["30s", "5m", "1h"])),
        "tag": draw(NAMES),
    }
    left_out = draw(st.sets(st.sampled_from(sorted(optional))))
    levels = {"entry": entry, "sl": entry - sign * risk, "tp": entry + sign * reward}
    return payload(
        direction,
        strategy=draw(st.sampled_from(sorted(DEFAULT_PROFILES))),
        ts=draw(st.integers(1, 253_402_300_799_999)),
        **levels,
        **{name: ... if name in left_out else value for name, value in optional.items()},
    )


@LAW
@given(payloads())
def test_what_is_printed_reads_back(sent: dict[str, object]) -> None:
    text = canonical_json(sent)
    again = decode_json(text.encode())
    found = parse_signal(sent, DEFAULT_PROFILES)
    assert isinstance(found, Signal), found
    assert parse_signal(again, DEFAULT_PROFILES) == found
    assert canonical_json(again) == text
    assert identify(again) == identify(sent)


JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@LAW
@given(JSON | st.dictionaries(st.sampled_from([*Signal.__slots__, "x"]), JSON, max_size=16))
def test_no_payload_raises(sent: object) -> None:
    parse_signal(sent, DEFAULT_PROFILES)
    assert len(identify(sent)[1]) == 64


# --- tighter is never looser

SCORES = st.floats(0.0, 100.0) | st.just(math.nan)


@LAW
@given(SCORES, st.floats(0.0, 100.0), st.floats(0.0, 100.0), st.sampled_from(list(RunMode)), st.booleans())
def test_a_higher_threshold_never_accepts_more(
    score: float, one: float, other: float, mode: RunMode, may: bool
) -> None:
    low, high = sorted((one, other))
    assert static_threshold(low).passes(score) >= static_threshold(high).passes(score)
    profile = replace(TREND, run_mode=mode, heuristic_may_execute=may)
    context = Context(Bucket(Session.US, VolatilityRegime.LOW), volatility_known=True)
    scoring = Scoring(score=score, source=ScoreSource.HEURISTIC, heuristic_score=score)
    loose, tight = (decide(scoring, static_threshold(value), context, profile) for value in (low, high))
    assert (loose.enforced is Action.EXECUTE) >= (tight.enforced is Action.EXECUTE)
    assert (loose.want is Action.EXECUTE) >= (tight.want is Action.EXECUTE)


@LAW
@given(st.lists(st.floats(0.0, 10.0), min_size=100, max_size=130), st.floats(0.0, 10.0), st.floats(0.0, 10.0))
def test_more_volatility_is_never_a_calmer_regime(history: list[float], one: float, other: float) -> None:
    order = list(VolatilityRegime)
    calm, wild = (order.index(regime_by_rank(value, history)[0]) for value in sorted((one, other)))
    assert calm <= wild
