"""From bytes to a signal: strict JSON, closed field list, one refusal with reason and field."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta

from signals.bucket import VIX_ALIASES, Session, VolatilityRegime
from signals.errors import Invalid, Refusal
from signals.profile import Profile
from signals.reasons import Reason
from signals.signal import ID_PATTERN, MAX_FEATURES, FeatureValue, Side, Signal, require

MAX_PAYLOAD_BYTES = 65_536
MAX_PAYLOAD_DEPTH = 4

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The closing quote is optional so that an unfinished string is taken once, not tried again from every quote in it.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{\]}]', re.DOTALL)
_SIGNAL_FIELDS = frozenset(field.name for field in fields(Signal))


def decode_json(data: bytes, *, max_bytes: int = MAX_PAYLOAD_BYTES, max_depth: int = MAX_PAYLOAD_DEPTH) -> object:
    """Decode JSON without the liberties of ``json.loads``: raises ``Invalid`` with the reason.

    Refused are: more bytes or deeper nesting than allowed (before anything is built), the same key twice in an
    object, ``NaN`` and ``Infinity``, numbers that overflow to infinity, bytes that are not UTF-8.
    """
    if len(data) > max_bytes:
        raise Invalid(Reason.PAYLOAD_TOO_LARGE, "payload", f"{len(data)} bytes, {max_bytes} allowed")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Invalid(Reason.PAYLOAD_NOT_JSON, "payload", f"not UTF-8 at byte {error.start}") from None
    _check_depth(text, max_depth)
    try:
        return json.loads(
            text,
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
            parse_float=_finite_float,
            parse_int=_finite_int,
        )
    except (ValueError, RecursionError) as error:
        detail = f"line {error.lineno} column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise Invalid(Reason.PAYLOAD_NOT_JSON, "payload", detail) from None


def _check_depth(text: str, max_depth: int) -> None:
    # Counted before parsing: the parser itself recurses, and a deep bomb must not reach it.
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        mark = match[0]
        if mark in "[{":
            depth += 1
            if depth > max_depth:
                raise Invalid(Reason.PAYLOAD_TOO_DEEP, "payload", f"deeper than {max_depth}")
        elif mark in "]}":
            depth -= 1


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            require(key not in seen, Reason.PAYLOAD_DUPLICATE_KEY, printable(key))
            seen.add(key)
    return found


def _refuse_constant(literal: str) -> float:
    raise Invalid(Reason.PAYLOAD_NOT_FINITE, "payload", literal)


def _finite_float(literal: str) -> float:
    value = float(literal)
    require(math.isfinite(value), Reason.PAYLOAD_NOT_FINITE, "payload", literal[:32])
    return value


def _finite_int(literal: str) -> int:
    # Beyond 2**53 a float no longer tells neighbours apart; nothing in a signal is that large.
    require(len(literal) <= 17, Reason.FIELD_RANGE, "payload", f"integer of {len(literal)} digits")
    return int(literal)


def printable(text: str, limit: int = 64) -> str:
    """Text that is safe to show and to store: control characters escaped, length capped."""
    shown = text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
    return shown[:limit]


def canonical_json(value: object) -> str:
    """The one spelling of a JSON value that ids and content comparison are built on.

    Keys sorted, no spaces, whole floats written as integers so that ``1`` and ``1.0`` are the same content.
    """
    return json.dumps(_folded(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _folded(value: object) -> object:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): _folded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_folded(item) for item in value]
    return value


def sha256_hex(content: str | bytes) -> str:
    """Content address of text or bytes."""
    return hashlib.sha256(content.encode("utf-8") if isinstance(content, str) else content).hexdigest()


def identify(payload: object) -> tuple[str, str]:
    """The id a payload is remembered under, and the fingerprint of its content.

    The engine's own id when it is well formed, else the fingerprint: even a refused payload has exactly one answer.
    """
    try:
        fingerprint = sha256_hex(canonical_json(payload))
    except (ValueError, TypeError, RecursionError):
        # Only a caller inside the process can hand over NaN or a foreign object: remember how it looks.
        fingerprint = sha256_hex(repr(payload))
    sent = payload.get("id") if isinstance(payload, Mapping) else None
    well_formed = isinstance(sent, str) and ID_PATTERN.fullmatch(sent) is not None
    return (str(sent) if well_formed else fingerprint), fingerprint


def parse_signal(payload: object, profiles: Mapping[str, Profile]) -> Signal | Refusal:
    """Build the signal a payload describes, or say which field broke which rule."""
    try:
        return _signal(payload, profiles)
    except Invalid as error:
        return Refusal.of(error)


def _signal(payload: object, profiles: Mapping[str, Profile]) -> Signal:
    if not isinstance(payload, Mapping):
        raise Invalid(Reason.PAYLOAD_NOT_OBJECT, "payload", type(payload).__name__)
    for name in payload:
        require(name in _SIGNAL_FIELDS, Reason.FIELD_UNKNOWN, printable(str(name)))
    signal_id = identify(payload)[0] if payload.get("id") is None else text_field(payload, "id")
    strategy = text_field(payload, "strategy")
    require(strategy in profiles, Reason.STRATEGY_UNKNOWN, "strategy", printable(strategy))
    return Signal(
        id=signal_id,
        strategy=strategy,
        symbol=text_field(payload, "symbol"),
        side=Side.parse(text_field(payload, "side")),
        entry=number_field(payload, "entry"),
        tp=number_field(payload, "tp"),
        sl=number_field(payload, "sl"),
        tp1=None if payload.get("tp1") is None else number_field(payload, "tp1"),
        ts=time_field(payload, "ts"),
        features=_features(payload.get("features")),
        session=_session(payload),
        volatility_regime=_regime(payload),
        regime_confidence=(
            None if payload.get("regime_confidence") is None else number_field(payload, "regime_confidence")
        ),
        timeframe=None if payload.get("timeframe") is None else text_field(payload, "timeframe"),
        tag=None if payload.get("tag") is None else text_field(payload, "tag"),
    )


def _present(payload: Mapping[str, object], name: str) -> object:
    value = payload.get(name)
    require(value is not None, Reason.FIELD_MISSING, name)
    return value


def text_field(payload: Mapping[str, object], name: str) -> str:
    """A required field that must be text."""
    value = _present(payload, name)
    if not isinstance(value, str):
        raise Invalid(Reason.FIELD_TYPE, name, f"expected text, got {type(value).__name__}")
    return value


def number_field(payload: Mapping[str, object], name: str) -> float:
    """A required field that must be a finite number; true and false are not numbers here."""
    return _number(_present(payload, name), name)


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Invalid(Reason.FIELD_TYPE, name, f"expected a number, got {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:
        raise Invalid(Reason.FIELD_NOT_FINITE, name) from None
    require(math.isfinite(number), Reason.FIELD_NOT_FINITE, name)
    return number


def time_field(payload: Mapping[str, object], name: str) -> int:
    """A required moment: UTC epoch milliseconds, or ISO 8601 with an offset."""
    value = _present(payload, name)
    if isinstance(value, str):
        return _iso_ms(value, name)
    number = _number(value, name)
    require(number.is_integer(), Reason.FIELD_FORMAT, name, "whole milliseconds")
    return int(number)


def _iso_ms(text: str, name: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
        # Without an offset the same text is a different moment on every machine.
        require(moment.tzinfo is not None, Reason.FIELD_FORMAT, name, "an ISO time needs its offset")
        return (moment - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        raise Invalid(Reason.FIELD_FORMAT, name, "epoch milliseconds or ISO 8601 with offset") from None


def _features(value: object) -> dict[str, FeatureValue]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise Invalid(Reason.FIELD_TYPE, "features", f"expected an object, got {type(value).__name__}")
    require(len(value) <= MAX_FEATURES, Reason.FEATURES_TOO_MANY, "features", f"{len(value)}")
    return {str(name): _feature(printable(str(name)), item) for name, item in value.items()}


def _feature(name: str, value: object) -> FeatureValue:
    return value if value is None or isinstance(value, str) else _number(value, f"features.{name}")


def _session(payload: Mapping[str, object]) -> Session | None:
    if payload.get("session") is None:
        return None
    word = text_field(payload, "session")
    try:
        return Session(word)
    except ValueError:
        raise Invalid(Reason.FIELD_FORMAT, "session", printable(word)) from None


def _regime(payload: Mapping[str, object]) -> VolatilityRegime | None:
    if payload.get("volatility_regime") is None:
        return None
    word = text_field(payload, "volatility_regime")
    try:
        return VIX_ALIASES.get(word) or VolatilityRegime(word)
    except ValueError:
        raise Invalid(Reason.FIELD_FORMAT, "volatility_regime", printable(word)) from None
