"""A closed position as the learner sees it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from scorer.encoding import model_features
from signals.errors import Invalid
from signals.parse import canonical_json, sha256_hex
from signals.profile import FillRule, Kind
from signals.reasons import Reason
from signals.signal import FeatureValue, Side

EXECUTED_WEIGHT = 1.0
PHANTOM_WEIGHT = 0.8
TIMEOUT = "timeout"
_DECISIVE = {"win": True, "loss": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One outcome and what was known when it was decided: decisive, or a timeout at its mark price.

    ``features`` are in the trade's direction, completed by session, volatility regime and cluster; times in UTC
    epoch milliseconds; ``gross_r`` and ``net_r`` in R; ``score`` and ``heuristic_score`` in [0, 100] and
    ``win_probability`` in [0, 1] as recorded then; ``vector_hash`` is that of what the model was shown, none in records
    from before it was kept. The label lives from ``entry_ms`` to ``exit_ms``, both included. One that ``timed_out`` has
    not ``won``; its results are those of its mark. ``target_r`` is what an ``ambiguous`` one would have made at its
    target, in R, net. ``seen_weight`` is one over the probability that its like had ended when it was taken, 1 unless
    somebody estimated it.
    """

    id: str
    strategy: str
    symbol: str
    side: Side
    features: Mapping[str, FeatureValue]
    won: bool
    kind: Kind
    gross_r: float
    net_r: float
    ts: int
    entry_ms: int
    exit_ms: int
    bucket: str | None = None
    score: float | None = None
    heuristic_score: float | None = None
    score_source: str | None = None
    win_probability: float | None = None
    ambiguous: bool = False
    vector_hash: str | None = None
    timed_out: bool = False
    target_r: float | None = None
    seen_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.timed_out and self.won:
            raise Invalid(Reason.FIELD_RANGE, "won", f"{self.id} timed out")
        if self.exit_ms < self.entry_ms:
            raise Invalid(Reason.FIELD_RANGE, "exit_ms", f"{self.id} ended before it began")

    @property
    def weight(self) -> float:
        """How much it counts in a fit, unitless: executed 1.0, phantom 0.8. In a fit only: nothing else is weighted."""
        return EXECUTED_WEIGHT if self.kind is Kind.EXECUTED else PHANTOM_WEIGHT

    @property
    def decisive(self) -> bool:
        """Whether it is a win or a loss."""
        return not self.timed_out

    @property
    def order(self) -> tuple[int, int, str]:
        """Its place in time: by exit, then decision, then id."""
        return (self.exit_ms, self.ts, self.id)

    @classmethod
    def from_closed(cls, row: Mapping[str, Any], *, fill: FillRule = FillRule.ENTRY) -> Example:
        """Read the body of a ``closed`` fact with a decisive outcome, or of a timeout.

        Parameters
        ----------
        row : mapping, the decision, the terms and the ending of one position
        fill : at which price the simulation enters; a mark is measured from there

        Raises
        ------
        Invalid : if a field is missing, of another type, or a number that must be finite is not
        """
        read = _Row(row)
        outcome = read.text("outcome")
        if outcome not in _DECISIVE and outcome != TIMEOUT:
            raise Invalid(Reason.FIELD_RANGE, "outcome", f"{outcome!r} teaches nothing")
        features = row.get("features")
        if not isinstance(features, Mapping):
            raise Invalid(Reason.FIELD_TYPE, "features", "expected an object")
        symbol, bucket = read.text("symbol"), read.optional_text("bucket")
        ts, entry_ms, exit_ms = read.whole("ts"), read.whole("entry_ms"), read.whole("exit_ms")
        if exit_ms < entry_ms and row.get("how") == "report":
            # An engine can be out before the first candle the twin enters on; its label began with the signal.
            entry_ms = min(ts, exit_ms)
        gross_r, net_r = read.number("gross_r"), read.number("net_r")
        if outcome == TIMEOUT and row.get("mark_pnl_percent") is not None:
            # The founding rule books a timeout at its entry price; what it was worth is its mark, less the same costs.
            mark_r = read.marked_r(fill)
            gross_r, net_r = mark_r, mark_r + (net_r - gross_r)
        return cls(
            id=read.text("id"),
            strategy=read.text("strategy"),
            symbol=symbol,
            side=Side.parse(read.text("side")),
            features=model_features(features, bucket=bucket, symbol=symbol),
            won=_DECISIVE.get(outcome, False),
            kind=read.kind(),
            gross_r=gross_r,
            net_r=net_r,
            ts=ts,
            entry_ms=entry_ms,
            exit_ms=exit_ms,
            bucket=bucket,
            score=read.optional_number("score"),
            heuristic_score=read.optional_number("heuristic_score"),
            score_source=read.optional_text("score_source"),
            win_probability=read.optional_number("win_probability"),
            ambiguous=row.get("ambiguous") is True,
            vector_hash=read.optional_text("vector_hash"),
            timed_out=outcome == TIMEOUT,
            target_r=read.target_r(gross_r - net_r),
        )


def examples(
    rows: Iterable[Mapping[str, Any]],
    corrections: Mapping[str, Mapping[str, Any] | None] | None = None,
    *,
    drop_ambiguous: bool = False,
    timeouts: bool = False,
    fill: FillRule = FillRule.ENTRY,
) -> list[Example]:
    """Outcomes in the order of their exits: decisive ones, and timeouts at their marks when asked for.

    Parameters
    ----------
    rows : bodies of ``closed`` facts; one that comes again under the same id is taken once, the first time
    corrections : by id, fields that replace those of the row; ``None`` takes the row out
    drop_ambiguous : leave out losses whose candle also touched the target
    timeouts : take positions that their deadline ended; what was never in the market or has no data is never taken
    fill : at which price the simulation enters

    Returns
    -------
    list of Example, by exit, then decision time, then id

    Raises
    ------
    Invalid : if a decisive row is not one that a close wrote

    Source: SPEC 9 (learning) and 10.
    """
    found: dict[str, Example] = {}
    for row in rows:
        signal_id = row.get("id")
        if not isinstance(signal_id, str) or signal_id == "":
            raise Invalid(Reason.FIELD_MISSING, "id", "a closed position without an id")
        if signal_id in found:
            continue
        corrected = {} if corrections is None else corrections.get(signal_id, {})
        if corrected is None:
            continue
        whole = {**row, **corrected, "id": signal_id}
        if whole.get("outcome") not in _DECISIVE and not (timeouts and whole.get("outcome") == TIMEOUT):
            continue
        example = Example.from_closed(whole, fill=fill)
        if not (drop_ambiguous and example.ambiguous):
            found[signal_id] = example
    return sorted(found.values(), key=lambda example: example.order)


def data_hash(given: Iterable[Example]) -> str:
    """What a model was trained on, as sha256 (hex): the same examples in any order give the same hash.

    Parameters
    ----------
    given : Examples
    """
    ordered = sorted(given, key=lambda example: example.order)
    return sha256_hex(canonical_json([_canonical(example) for example in ordered]))


def _canonical(example: Example) -> dict[str, object]:
    return {
        "id": example.id,
        "strategy": example.strategy,
        "symbol": example.symbol,
        "side": example.side.word,
        "features": {name: _spelled(value) for name, value in example.features.items()},
        "won": example.won,
        "kind": example.kind.value,
        "gross_r": example.gross_r,
        "net_r": example.net_r,
        "ts": example.ts,
        "entry_ms": example.entry_ms,
        "exit_ms": example.exit_ms,
        "bucket": example.bucket,
        "score": _spelled(example.score),
        "heuristic_score": _spelled(example.heuristic_score),
        "score_source": example.score_source,
        "win_probability": _spelled(example.win_probability),
        "ambiguous": example.ambiguous,
        "vector_hash": example.vector_hash,
        "timed_out": example.timed_out,
        "target_r": example.target_r,
        "seen_weight": example.seen_weight,
    }


def _spelled(value: object) -> object:
    # JSON knows neither NaN nor what a sender may have smuggled in; both must still hash to something stable.
    if value is None or isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return {"unreadable": repr(value)}


class _Row:
    """A row read with complaints that name the key."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self._row = row

    def _present(self, key: str) -> Any:
        if key not in self._row:
            raise Invalid(Reason.FIELD_MISSING, key, str(self._row.get("id")))
        return self._row[key]

    def text(self, key: str) -> str:
        value = self._present(key)
        if not isinstance(value, str):
            raise Invalid(Reason.FIELD_TYPE, key, "expected text")
        return value

    def optional_text(self, key: str) -> str | None:
        return None if self._row.get(key) is None else self.text(key)

    def number(self, key: str) -> float:
        value = self._present(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise Invalid(Reason.FIELD_TYPE, key, "expected a number")
        # The comparison is exact for any int, while float() of a huge one overflows; NaN fails it.
        if not abs(value) <= 1e300:
            raise Invalid(Reason.FIELD_NOT_FINITE, key)
        return float(value)

    def optional_number(self, key: str) -> float | None:
        return None if self._row.get(key) is None else self.number(key)

    def whole(self, key: str) -> int:
        value = self._present(key)
        if isinstance(value, bool) or not isinstance(value, int):
            raise Invalid(Reason.FIELD_TYPE, key, "expected whole epoch milliseconds")
        return value

    def marked_r(self, fill: FillRule) -> float:
        """What a timeout's mark price is worth, in R before costs."""
        slip = self.number("entry_slip_r") if fill is FillRule.NEXT_OPEN else 0.0
        return self.number("mark_pnl_percent") / 100.0 * self.number("entry") / self._risk() - slip

    def target_r(self, cost_r: float) -> float | None:
        """What an ambiguous loss would have made at its target, in R after costs; none for any other."""
        if self._row.get("ambiguous") is not True or "tp" not in self._row:
            return None
        return abs(self.number("tp") - self.number("entry")) / self._risk() - cost_r

    def _risk(self) -> float:
        risk = abs(self.number("entry") - self.number("sl"))
        if risk <= 0.0:
            raise Invalid(Reason.FIELD_RANGE, "sl", "no distance to the entry")
        return risk

    def kind(self) -> Kind:
        word = self.text("kind")
        if word not in (Kind.EXECUTED.value, Kind.PHANTOM.value):
            raise Invalid(Reason.FIELD_RANGE, "kind", word)
        return Kind(word)
