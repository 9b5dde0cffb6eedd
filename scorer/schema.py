"""Which features a model may see, in which order: fixed per profile, named, typed, versioned, hashed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from signals.bucket import Session, VolatilityRegime
from signals.errors import Invalid
from signals.reasons import Reason
from signals.signal import FeatureValue, Side

FloatArray = npt.NDArray[np.float64]

EXIT_NAMES = (
    "tp1_hit",
    "be_moved",
    "runner_hit",
    "time_to_tp1_sec",
    "time_to_exit_sec",
    "one_r_hit",
    "two_r_hit",
    "mfe",
    "mae",
)
"""Known only after the outcome: recorded with the position, and no model's input under any declaration."""
SCHEMA_DIGITS, VECTOR_DIGITS = 8, 16
_EXIT_ONLY = "known only at exit: it cannot be a model's input"
LARGEST_PLAUSIBLE = 1e12
"""A larger magnitude is a defect of the sender: it would drown every other input of a linear model."""


class Kind(StrEnum):
    """What a feature's value is."""

    NUMBER = "number"
    CATEGORY = "category"


class Known(StrEnum):
    """When a feature's value is known. A model may only see what is known at entry."""

    ENTRY = "entry"
    EXIT = "exit"


class Direction(StrEnum):
    """How a value seen on the chart turns into the trade's direction, so that one model serves both sides."""

    NONE = "none"
    """The same for both sides."""
    SIGN = "sign"
    """Multiplied by the side: slopes, histograms, the sign of a body."""
    AROUND_50 = "around_50"
    """50 + side·(x − 50): oscillators between 0 and 100."""
    AROUND_HALF = "around_half"
    """x for a long, 1 − x for a short: a place between two edges."""
    SWAP = "swap"
    """A short takes the partner's value: upper and lower wick, touches of either edge."""
    SIDED = "sided"
    """Computed for the side of the trade in the first place: what the set-up says."""


class Family(StrEnum):
    """What kind of knowledge a feature is, for ablations: the chart, how the market trades, or the surroundings."""

    TA = "ta"
    """Trend, oscillators, levels, patterns: what is drawn on a chart."""
    MECHANICS = "mechanics"
    """Volume, ranges, volatility, candle anatomy: who pushes, how hard, and how much it takes."""
    CONTEXT = "context"
    """When and where: hour, session, regime, symbol. Every ablation has it."""


class Ablation(StrEnum):
    """Which families a model is shown."""

    TA = "ta"
    MECHANICS = "mechanics"
    FULL = "full"

    @property
    def families(self) -> frozenset[Family]:
        """The families it keeps."""
        if self is Ablation.FULL:
            return frozenset(Family)
        return frozenset({Family(self.value), Family.CONTEXT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One feature: name, type, when it is known, how it follows the trade's direction.

    ``low`` and ``high`` are the range the formula can take (documentation and tests; a value outside is
    not refused). ``levels`` are the categories known beforehand, in order when ``ordered``; empty means
    that training finds them. ``partner`` names the other feature of a swapped pair. ``family`` sorts features for
    ablations; it changes nothing about how a vector is read and so is no part of the hash.
    """

    name: str
    kind: Kind = Kind.NUMBER
    known: Known = Known.ENTRY
    direction: Direction = Direction.NONE
    low: float = -math.inf
    high: float = math.inf
    levels: tuple[str, ...] = ()
    ordered: bool = False
    partner: str = ""
    family: Family = Family.TA

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise Invalid(Reason.FIELD_RANGE, self.name, "low must lie below high")
        if (self.direction is Direction.SWAP) != (self.partner != ""):
            raise Invalid(Reason.FIELD_RANGE, self.name, "a swapped feature names its partner, others have none")

    @property
    def canonical(self) -> dict[str, object]:
        """The definition as plain JSON values; an open end of the range is ``null``."""
        return {
            "name": self.name,
            "kind": self.kind.value,
            "known": self.known.value,
            "direction": self.direction.value,
            "low": self.low if math.isfinite(self.low) else None,
            "high": self.high if math.isfinite(self.high) else None,
            "levels": list(self.levels),
            "ordered": self.ordered,
            "partner": self.partner,
        }

    def turned(self, value: float, partner: float, side: Side) -> float:
        """Turn a number from the chart's direction into the trade's.

        Parameters
        ----------
        value : this feature as the chart shows it, in its own unit; NaN stays NaN
        partner : the partner's value; only a swapped feature looks at it
        side : direction of the trade

        Returns
        -------
        The value in the trade's direction, same unit; a second turn with the same side gives the first back.
        """
        sign = side.value
        match self.direction:
            case Direction.SIGN:
                # 0.0 · −1 is −0.0, which prints and hashes differently from 0.0.
                return sign * value + 0.0
            case Direction.AROUND_50:
                return 50.0 * (1 - sign) + sign * value
            case Direction.AROUND_HALF:
                return 0.5 * (1 - sign) + sign * value
            case Direction.SWAP:
                return value if sign > 0 else partner
            case Direction.NONE | Direction.SIDED:
                return value


@dataclass(frozen=True, slots=True)
class Vector:
    """One signal's features as a schema reads them.

    ``values``: shape (n_numbers,), the numeric features in schema order, NaN where missing.
    ``categories``: one per categorical feature in schema order, ``None`` where missing.
    ``missing``: names of every feature of the schema that could not be read, in schema order.
    """

    values: FloatArray
    categories: tuple[str | None, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Schema:
    """The ordered features of one profile. Only what is known at entry can be built into one.

    ``names`` are all of them in order; ``numbers`` are the columns of ``Vector.values`` and ``categories`` the places
    of ``Vector.categories``. ``hash`` is the sha256 (hex) of the canonical JSON of name, version and features: a model
    refuses another hash.

    Raises
    ------
    Invalid : if a feature is known only at exit, a name comes twice, or a swapped partner is not there
    """

    name: str
    version: int
    features: tuple[Feature, ...]
    names: tuple[str, ...] = field(init=False, repr=False, compare=False)
    numbers: tuple[Feature, ...] = field(init=False, repr=False, compare=False)
    categories: tuple[Feature, ...] = field(init=False, repr=False, compare=False)
    hash: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = tuple(feature.name for feature in self.features)
        for feature in self.features:
            if feature.known is not Known.ENTRY:
                raise Invalid(Reason.LEAK_EXIT_ONLY, feature.name, _EXIT_ONLY)
            if feature.partner != "" and feature.partner not in names:
                raise Invalid(Reason.FIELD_MISSING, feature.partner, f"the partner of {feature.name}")
        for name in names:
            # Under another declaration it would still be the outcome.
            if name in EXIT_NAMES:
                raise Invalid(Reason.LEAK_EXIT_ONLY, name, _EXIT_ONLY)
        if len(set(names)) != len(names):
            raise Invalid(Reason.FIELD_RANGE, "features", "a name comes twice")
        if self.version < 1:
            raise Invalid(Reason.FIELD_RANGE, "version", "starts at 1")
        content = {"name": self.name, "version": self.version, "features": [f.canonical for f in self.features]}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "numbers", tuple(f for f in self.features if f.kind is Kind.NUMBER))
        object.__setattr__(self, "categories", tuple(f for f in self.features if f.kind is Kind.CATEGORY))
        object.__setattr__(self, "hash", hashlib.sha256(text.encode()).hexdigest())

    @property
    def allowed_missing(self) -> int:
        """How many features may be missing before the model is not asked: a tenth of them, at least one."""
        return max(1, len(self.features) // 10)

    def names_of(self, ablation: Ablation) -> frozenset[str]:
        """Names of the features an ablation keeps.

        Parameters
        ----------
        ablation : Ablation
        """
        return frozenset(feature.name for feature in self.features if feature.family in ablation.families)

    def vector(self, features: Mapping[str, FeatureValue]) -> Vector:
        """Read the features of one signal, strictly.

        A number must be an int or float (a bool is not one), finite and at most 1e12 in magnitude; a category must
        be non-empty text and, where the schema lists levels, one of them. Anything else counts as missing; names
        that the schema does not know are ignored.

        Parameters
        ----------
        features : mapping of names to values, as stored with the decision

        Returns
        -------
        Vector : values of shape (n_numbers,), in each feature's own unit
        """
        values = np.asarray([_number(features.get(feature.name)) for feature in self.numbers], dtype=np.float64)
        words = tuple(_word(features.get(feature.name), feature.levels) for feature in self.categories)
        read = dict(zip((f.name for f in self.numbers), np.isfinite(values).tolist(), strict=True))
        read |= {f.name: word is not None for f, word in zip(self.categories, words, strict=True)}
        return Vector(values, words, tuple(name for name in self.names if not read[name]))

    def vector_hash(self, vector: Vector) -> str:
        """What a vector holds, in 25 characters: eight of the schema's hash, a colon, 16 of the content's sha256 (hex).

        Equal for vectors that no model could tell apart, and only for those: every bit of every number counts, but
        for the sign of a zero; a missing value is one however it came about.

        Parameters
        ----------
        vector : Vector that this schema has read
        """
        # Adding zero turns −0.0, which JSON does not keep, into 0.0.
        content = hashlib.sha256((vector.values + 0.0).astype("<f8").tobytes())
        content.update(json.dumps(vector.categories, separators=(",", ":")).encode())
        return f"{self.hash[:SCHEMA_DIGITS]}:{content.hexdigest()[:VECTOR_DIGITS]}"

    def same_schema(self, recorded: str) -> bool:
        """Whether a recorded hash is one of this very schema's vectors; others cannot be compared.

        Parameters
        ----------
        recorded : text that ``vector_hash`` gave, then or now
        """
        return recorded.startswith(f"{self.hash[:SCHEMA_DIGITS]}:")


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    # The comparison comes first: it is exact for any int, while float() of a huge one overflows.
    return float(value) if -LARGEST_PLAUSIBLE <= value <= LARGEST_PLAUSIBLE else math.nan


def _word(value: object, levels: tuple[str, ...]) -> str | None:
    if not isinstance(value, str) or value == "":
        return None
    return value if levels == () or value in levels else None


def _ratio(name: str, high: float = math.inf, family: Family = Family.TA) -> Feature:
    return Feature(name=name, low=0.0, high=high, family=family)


def _flow(name: str, high: float = math.inf) -> Feature:
    return _ratio(name, high, Family.MECHANICS)


def _signed(name: str, size: float = math.inf) -> Feature:
    return Feature(name=name, direction=Direction.SIGN, low=-size, high=size)


def _sided(name: str, low: float = -math.inf, high: float = math.inf) -> Feature:
    return Feature(name=name, direction=Direction.SIDED, low=low, high=high)


def _swapped(name: str, partner: str, high: float = math.inf, family: Family = Family.TA) -> Feature:
    return Feature(name=name, direction=Direction.SWAP, partner=partner, low=0.0, high=high, family=family)


def _category(name: str, levels: tuple[str, ...] = (), *, ordered: bool = False) -> Feature:
    return Feature(name=name, kind=Kind.CATEGORY, levels=levels, ordered=ordered, family=Family.CONTEXT)


_SESSION = _category("session", tuple(session.value for session in Session))
_REGIME = _category("volatility_regime", tuple(regime.value for regime in VolatilityRegime), ordered=True)
_UPPER_WICK = _swapped("upper_wick_ratio", "lower_wick_ratio", 1.0, Family.MECHANICS)
_LOWER_WICK = _swapped("lower_wick_ratio", "upper_wick_ratio", 1.0, Family.MECHANICS)
_RSI = Feature(name="rsi", direction=Direction.AROUND_50, low=0.0, high=100.0)
_QSCORE = _sided("qscore", 0.0, 100.0)
_BODY_RATIO = _flow("body_ratio", 1.0)
_REWARD_TO_RISK = _sided("reward_to_risk", 0.0)
_VOLUME_TREND = Feature(name="volume_trend", low=-1.0, family=Family.MECHANICS)

TREND = Schema(
    "trend",
    1,
    (
        _flow("atr_pct"),
        _sided("break_dist_atr"),
        _sided("retrace_depth_atr", 0.0),
        _sided("confirm_candles", 0.0),
        _signed("ema_stack_score", 100.0),
        _flow("range_expansion"),
        _signed("trend_slope_pct"),
        _sided("div_ok", 0.0, 1.0),
        _sided("div_score", 0.0, 100.0),
        _sided("div_rsi_delta", -100.0, 100.0),
        _sided("div_tsi_delta", -200.0, 200.0),
        _sided("protective_pivot_present", 0.0, 1.0),
        _ratio("ts15", 100.0),
        _ratio("ts60", 100.0),
        _flow("rc15", 100.0),
        _flow("rc60", 100.0),
        _QSCORE,
        _RSI,
        _signed("macd_hist"),
        _ratio("adx", 100.0),
        _flow("volume_ratio"),
        _VOLUME_TREND,
        _flow("vwap_dist_atr"),
        _flow("bb_width_pct"),
        _BODY_RATIO,
        _UPPER_WICK,
        _LOWER_WICK,
        _signed("ema_slope_fast"),
        _signed("ema_slope_slow"),
        _REWARD_TO_RISK,
        _ratio("hour_of_day", 23.0, Family.CONTEXT),
        _ratio("day_of_week", 6.0, Family.CONTEXT),
        _SESSION,
        _REGIME,
    ),
)

RANGE = Schema(
    "range",
    1,
    (
        _flow("range_width_atr"),
        Feature(name="range_pos", direction=Direction.AROUND_HALF),
        _swapped("touches_high", "touches_low"),
        _swapped("touches_low", "touches_high"),
        _ratio("mid_dist_atr"),
        _sided("rejection_wick", 0.0, 1.0),
        _flow("bb_width_pct"),
        _RSI,
        _ratio("adx", 100.0),
        _flow("atr_pct"),
        _flow("volume_ratio"),
        _VOLUME_TREND,
        _flow("vwap_dist_atr"),
        _BODY_RATIO,
        _REWARD_TO_RISK,
        _ratio("range_age_bars"),
        _ratio("ts60", 100.0),
        _flow("rc60", 100.0),
        _SESSION,
        _REGIME,
    ),
)

SCALP = Schema(
    "scalp",
    1,
    (
        _flow("atr_pct"),
        _flow("bb_width_pct"),
        _flow("impulse_ratio"),
        _signed("ema_slope_fast"),
        _signed("ema_slope_slow"),
        _flow("volume_ratio"),
        _UPPER_WICK,
        _LOWER_WICK,
        _flow("vwap_dist_atr"),
        _SESSION,
        _category("symbol_cluster"),
        _REGIME,
    ),
)

SCHEMAS: Mapping[str, Schema] = MappingProxyType({schema.name: schema for schema in (TREND, RANGE, SCALP)})
"""By profile name (``Profile.features``)."""

STORED_ONLY: Mapping[str, tuple[Feature, ...]] = MappingProxyType(
    {
        "trend": (),
        "range": (),
        "scalp": (
            _BODY_RATIO,
            _signed("body_sign", 1.0),
            _ratio("ts15", 100.0),
            _signed("ema_dir_15m", 1.0),
            _QSCORE,
            _sided("micro_seq_aligned", 0.0, 1.0),
            _flow("bb_width_rank", 1.0),
        ),
    }
)
"""Stored with the signal for the gates and the heuristic, never fed to a model. By profile name."""

EXIT_ONLY: tuple[Feature, ...] = tuple(Feature(name=name, known=Known.EXIT, low=0.0) for name in EXIT_NAMES)
"""Known only after the outcome: recorded, and refused by every schema."""
