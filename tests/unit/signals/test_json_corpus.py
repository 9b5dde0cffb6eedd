"""Bytes that are not, or only nearly, a signal: the decoder's answer to each."""

from __future__ import annotations

import contextlib
import time

import pytest

from signals.errors import Invalid
from signals.parse import decode_json
from signals.reasons import Reason

LIMIT = 65_536
TOO_LARGE, TOO_DEEP = Reason.PAYLOAD_TOO_LARGE, Reason.PAYLOAD_TOO_DEEP
NOT_JSON, NOT_FINITE = Reason.PAYLOAD_NOT_JSON, Reason.PAYLOAD_NOT_FINITE
DUPLICATE, RANGE = Reason.PAYLOAD_DUPLICATE_KEY, Reason.FIELD_RANGE

REFUSED = {
    "empty": (b"", NOT_JSON),
    "spaces": (b"   ", NOT_JSON),
    "a word": (b"signal", NOT_JSON),
    "cut off": (b'{"a": 1', NOT_JSON),
    "cut off in a string": (b'{"a": "b', NOT_JSON),
    "cut off in an escape": (b'{"a": "\\', NOT_JSON),
    "two values": (b"{}{}", NOT_JSON),
    "trailing comma": (b'{"a": 1,}', NOT_JSON),
    "single quotes": (b"{'a': 1}", NOT_JSON),
    "unquoted key": (b"{a: 1}", NOT_JSON),
    "comment": (b'{"a": 1 /* b */}', NOT_JSON),
    "plus sign": (b'{"a": +1}', NOT_JSON),
    "leading zero": (b'{"a": 01}', NOT_JSON),
    "hexadecimal": (b'{"a": 0x1}', NOT_JSON),
    "bare point": (b'{"a": .5}', NOT_JSON),
    "capital true": (b'{"a": True}', NOT_JSON),
    "raw newline in a string": (b'{"a": "\n"}', NOT_JSON),
    "raw NUL in a string": (b'{"a": "\x00"}', NOT_JSON),
    "NUL after the value": (b'{"a": 1}\x00', NOT_JSON),
    "bad escape": (b'{"a": "\\x41"}', NOT_JSON),
    "half an escape": (b'{"a": "\\u12"}', NOT_JSON),
    "closing what is not open": (b"]", NOT_JSON),
    "crossed brackets": (b'{"a": [1}]', NOT_JSON),
    "byte order mark": (b'\xef\xbb\xbf{"a": 1}', NOT_JSON),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), NOT_JSON),
    "UTF-32": ('{"a": 1}'.encode("utf-32"), NOT_JSON),
    "Latin-1": ('{"a": "é"}'.encode("latin-1"), NOT_JSON),
    "overlong UTF-8": (b'{"a": "\xc0\xaf"}', NOT_JSON),
    "an encoded surrogate": (b'{"a": "\xed\xa0\x80"}', NOT_JSON),
    "pickle": (b"\x80\x04\x95\x0b\x00\x00\x00", NOT_JSON),
    "NaN": (b'{"a": NaN}', NOT_FINITE),
    "Infinity": (b'{"a": Infinity}', NOT_FINITE),
    "minus Infinity": (b'{"a": -Infinity}', NOT_FINITE),
    "bare NaN": (b"NaN", NOT_FINITE),
    "1e999": (b'{"a": 1e999}', NOT_FINITE),
    "-1e999": (b'{"a": -1e999}', NOT_FINITE),
    "400 digits and a point": (b'{"a": ' + b"9" * 400 + b".0}", NOT_FINITE),
    "huge integer": (b'{"a": ' + b"9" * 5000 + b"}", RANGE),
    "an integer of 18 digits": (b'{"a": 123456789012345678}', RANGE),
    "the same key twice": (b'{"a": 1, "a": 1}', DUPLICATE),
    "the same key twice, inside": (b'{"a": {"b": 1, "b": 2}}', DUPLICATE),
    "the same key twice, in a list": (b'{"a": [{"b": 1, "b": 2}]}', DUPLICATE),
    "the same key, spelled otherwise": (b'{"a": 1, "\\u0061": 2}', DUPLICATE),
    "depth 5 of objects": (b'{"a":{"a":{"a":{"a":{}}}}}', TOO_DEEP),
    "depth 5 of lists": (b"[[[[[]]]]]", TOO_DEEP),
    "depth 5 of both": (b'[{"a":[{"a":[]}]}]', TOO_DEEP),
    "a bomb of brackets": (b"[" * LIMIT, TOO_DEEP),
    "a bomb of objects": (b'{"a":' * 10_000, TOO_DEEP),
    "one byte too many": (b'"' + b"a" * (LIMIT - 1) + b'"', TOO_LARGE),
    "a megabyte": (b" " * 1_000_000, TOO_LARGE),
}


@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED)
def test_refused(data: bytes, reason: Reason) -> None:
    with pytest.raises(Invalid) as caught:
        decode_json(data)
    assert caught.value.reason is reason


ACCEPTED = {
    "an object": (b'{"a": 1, "b": 1.5}', {"a": 1, "b": 1.5}),
    "depth 4": (b'{"a":{"a":{"a":{}}}}', {"a": {"a": {"a": {}}}}),
    "depth 4 of lists, side by side": (b"[[[[]],[[]]],[[[]]]]", [[[[]], [[]]], [[[]]]]),
    "brackets in a string are no depth": (b'{"a": "[[[[[[{{{{{"}', {"a": "[[[[[[{{{{{"}),
    "a quoted quote before brackets": (b'{"a": "\\"[[[[[["}', {"a": '"[[[[[['}),
    "a backslash at a string's end": (b'{"a": "\\\\", "b": []}', {"a": "\\", "b": []}),
    "exactly 64 KB": (b'"' + b"a" * (LIMIT - 2) + b'"', "a" * (LIMIT - 2)),
    "the same key in two objects": (b'[{"a": 1}, {"a": 2}]', [{"a": 1}, {"a": 2}]),
    "16 digits": (b"1234567890123456", 1234567890123456),
    "exponents": (b"[1e3, 1E-3, -2.5e+2]", [1000.0, 0.001, -250.0]),
    "underflow is zero": (b"1e-999", 0.0),
    "escaped NUL": (b'"\\u0000"', "\x00"),
    "right to left": ('"\u202e"'.encode(), "\u202e"),
    "lone surrogate by escape": (b'"\\ud800"', "\ud800"),
    "a pair of surrogates": (b'"\\ud83d\\ude00"', "\U0001f600"),
    "null": (b"null", None),
    "space around": (b' \t\r\n{"a": 1}\n', {"a": 1}),
}


@pytest.mark.parametrize(("data", "value"), ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(data: bytes, value: object) -> None:
    assert decode_json(data) == value


def test_limits_are_the_callers() -> None:
    assert decode_json(b"[[[[[]]]]]", max_depth=5) == [[[[[]]]]]
    with pytest.raises(Invalid, match="PAYLOAD_TOO_LARGE"):
        decode_json(b"[1]", max_bytes=2)


HOSTILE = {
    "escaped quotes without an end": b'"' + b'\\"' * 32_000,
    "escaped backslashes without an end": b'"' + b"\\\\" * 32_000,
    "quotes": b'"' * 65_000,
    "a quote and brackets": b'"[' * 32_000,
    "one escape after another": b'{"a": "' + b"\\" * 65_000,
    "keys": b"{" + b",".join(b'"%d":0' % i for i in range(7_000)) + b"}",
    "digits": b"9" * 65_000,
    "digits after a point": b"0." + b"9" * 65_000,
    "an exponent": b"1e" + b"9" * 65_000,
    "spaces": b" " * 65_536,
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_no_payload_within_the_limit_holds_a_worker_up(data: bytes) -> None:
    # Milliseconds when the work is linear; a second is a quadratic scan of 64 KB, on any machine.
    began = time.process_time()
    with contextlib.suppress(Invalid):
        decode_json(data)
    assert time.process_time() - began < 1.0
