"""One closed replay position with the decision that made it, alone and as columns."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from qscore.table import HEURISTIC
from signals.bucket import Bucket
from signals.errors import Invalid
from signals.profile import Kind
from signals.reasons import Reason
from signals.signal import Side

Outcome = Literal["win", "loss", "timeout", "no_fill", "no_data"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
DECISIVE: tuple[Outcome, ...] = ("win", "loss")
BARRIER_EXITS = ("tp", "sl")
DAY_MS = 86_400_000
BASIS_POINT = 1e-4

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
TextArray = NDArray[np.str_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """What became of one signal. Times in UTC epoch ms, prices in quote currency, ``_r`` in multiples of ``risk``.

    ``risk`` is the price distance of 1 R. ``mae_r`` is positive when the price went against the trade.
    ``gross_r`` follows the rule of the book: 0 for a timeout, whose market value is ``mark_r``.
    ``model_score`` is the ensemble's own part of ``score`` and ``bundle`` the one that gave it, as they stood at the
    decision; ``threshold_closed`` says that no score would have passed. R is of the unit position whatever its size:
    ``size_multiplier`` says how much of one was (for a phantom: would have been) in the market. ``explored`` trades
    were refused by their score alone and drawn; ``propensity`` is how probable that was, none where it was impossible.
    """

    signal_id: str
    strategy: str
    symbol: str
    side: Side
    kind: Kind
    ts: int
    entry_ts: int
    exit_ts: int
    outcome: Outcome
    exit_reason: str
    entry: float
    risk: float
    reward_to_risk: float
    gross_r: float
    bucket: Bucket
    score: float
    threshold: float
    entry_slip_r: float = 0.0
    mfe_r: float = 0.0
    mae_r: float = 0.0
    mark_r: float | None = None
    ambiguous: bool = False
    gap: bool = False
    late_mark: bool = False
    tp1_hit: bool = False
    tag: str | None = None
    reasons: tuple[str, ...] = ()
    score_source: str = HEURISTIC
    bundle: str | None = None
    win_probability: float | None = None
    model_score: float | None = None
    threshold_closed: bool = False
    size_multiplier: float = 1.0
    explored: bool = False
    propensity: float | None = None

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise Invalid(Reason.FIELD_FORMAT, "outcome", f"expected one of {', '.join(OUTCOMES)}")
        for name in ("entry", "risk", "reward_to_risk"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise Invalid(Reason.FIELD_RANGE, name, "must be finite and above 0")
        for name in ("gross_r", "entry_slip_r", "mfe_r", "mae_r", "score", "threshold"):
            if not math.isfinite(getattr(self, name)):
                raise Invalid(Reason.FIELD_NOT_FINITE, name)
        if self.mark_r is not None and not math.isfinite(self.mark_r):
            raise Invalid(Reason.FIELD_NOT_FINITE, "mark_r")
        if not 0.0 <= self.size_multiplier <= 1.0:
            raise Invalid(Reason.FIELD_RANGE, "size_multiplier", "0 to 1")
        if self.exit_ts < self.entry_ts:
            raise Invalid(Reason.FIELD_RANGE, "exit_ts", "before entry_ts")

    @property
    def forecast(self) -> float | None:
        """The model's win probability at the decision, in [0, 1]; none where no model answered."""
        if self.bundle is None or self.model_score is None:
            return None
        return self.win_probability if self.win_probability is not None else self.model_score / 100.0

    def cost_r(self, bps: float) -> float:
        """Cost of the round trip in R: basis points of the entry price over the risk."""
        return bps * BASIS_POINT * self.entry / self.risk

    def net_r(self, bps: float) -> float:
        """R after costs. A signal that never became a position costs nothing."""
        return self.gross_r - self.cost_r(bps) if self.filled else self.gross_r

    @property
    def filled(self) -> bool:
        """Whether there was a position with a known end."""
        return self.outcome not in ("no_fill", "no_data")

    @property
    def decisive(self) -> bool:
        """Whether a barrier decided the trade."""
        return self.outcome in DECISIVE

    @property
    def gross_next_open_r(self) -> float:
        """R when filled at the open of the first candle instead of at ``entry``; a timeout keeps the book's rule."""
        return self.gross_r - self.entry_slip_r if self.exit_reason in BARRIER_EXITS else self.gross_r


@dataclass(frozen=True, slots=True, eq=False)
class TradeTable:
    """The same trades as columns, ordered by signal time and id, so that the order of the input means nothing.

    Every array has shape ``(n_trades,)``. ``day`` counts UTC days of the entry since 1970; ``mark_r`` is NaN where
    there is none; ``cost_r_per_bp`` is the cost in R of one basis point; ``tag`` is empty where none was sent;
    ``size`` is the size multiplier, by which no other column is weighed.
    """

    trades: tuple[Trade, ...]
    symbol: TextArray
    side: IntArray
    bucket: TextArray
    tag: TextArray
    executed: BoolArray
    outcome: TextArray
    exit_reason: TextArray
    entry_ts: IntArray
    exit_ts: IntArray
    day: IntArray
    reward_to_risk: FloatArray
    gross_r: FloatArray
    gross_next_open_r: FloatArray
    cost_r_per_bp: FloatArray
    mfe_r: FloatArray
    mae_r: FloatArray
    mark_r: FloatArray
    ambiguous: BoolArray
    gap: BoolArray
    late_mark: BoolArray
    tp1_hit: BoolArray
    size: FloatArray
    explored: BoolArray

    @classmethod
    def of(cls, trades: Iterable[Trade]) -> TradeTable:
        """Lay trades out in columns."""
        rows = tuple(sorted(trades, key=lambda trade: (trade.ts, trade.signal_id)))

        def number(name: str) -> FloatArray:
            return np.array([getattr(row, name) for row in rows], dtype=np.float64)

        def whole(name: str) -> IntArray:
            return np.array([int(getattr(row, name)) for row in rows], dtype=np.int64)

        def flag(name: str) -> BoolArray:
            return np.array([getattr(row, name) for row in rows], dtype=np.bool_)

        def text(values: Iterable[str]) -> TextArray:
            return np.array([str(value) for value in values], dtype=np.str_)

        entry_ts = whole("entry_ts")
        return cls(
            trades=rows,
            symbol=text(row.symbol for row in rows),
            side=whole("side"),
            bucket=text(str(row.bucket) for row in rows),
            tag=text(row.tag or "" for row in rows),
            executed=np.array([row.kind is Kind.EXECUTED for row in rows], dtype=np.bool_),
            outcome=text(row.outcome for row in rows),
            exit_reason=text(row.exit_reason for row in rows),
            entry_ts=entry_ts,
            exit_ts=whole("exit_ts"),
            day=entry_ts // DAY_MS,
            reward_to_risk=number("reward_to_risk"),
            gross_r=number("gross_r"),
            gross_next_open_r=number("gross_next_open_r"),
            cost_r_per_bp=BASIS_POINT * number("entry") / number("risk"),
            mfe_r=number("mfe_r"),
            mae_r=number("mae_r"),
            mark_r=np.array([math.nan if row.mark_r is None else row.mark_r for row in rows], dtype=np.float64),
            ambiguous=flag("ambiguous"),
            gap=flag("gap"),
            late_mark=flag("late_mark"),
            tp1_hit=flag("tp1_hit"),
            size=number("size_multiplier"),
            explored=flag("explored"),
        )

    def __len__(self) -> int:
        return len(self.trades)

    @property
    def won(self) -> BoolArray:
        """Where the target was reached."""
        return np.equal(self.outcome, "win")

    @property
    def timed_out(self) -> BoolArray:
        """Where the deadline ended the trade."""
        return np.equal(self.outcome, "timeout")

    @property
    def decisive(self) -> BoolArray:
        """Where a barrier decided."""
        return self.won | np.equal(self.outcome, "loss")

    @property
    def closed(self) -> BoolArray:
        """Where there was a position with a known end: decisive or timed out."""
        return self.decisive | self.timed_out

    def net_r(self, bps: float) -> FloatArray:
        """R after costs; 0-cost where there was no position."""
        return self.gross_r - np.where(self.closed, bps * self.cost_r_per_bp, 0.0)
