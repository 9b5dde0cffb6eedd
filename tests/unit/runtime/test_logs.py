"""Log lines cannot be forged by what is logged."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from runtime.logs import LONGEST, LineFormatter, configure

PLAIN, AS_JSON = LineFormatter(as_json=False), LineFormatter(as_json=True)


def record(message: str, *words: object, error: BaseException | None = None) -> logging.LogRecord:
    info = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord("penumbra.test", logging.WARNING, __file__, 1, message, words, info)


HOSTILE = [
    pytest.param("ok\n2024-01-01T00:00:00+0000 INFO worker all is well", r"ok\n2024", id="line feed"),
    pytest.param("ok\r\nmore", r"ok\r\nmore", id="carriage return and line feed"),
    pytest.param("\x1b[2J\x1b[31mred", r"\x1b[2J\x1b[31mred", id="terminal commands"),
    pytest.param("a\x00b\x07", r"a\x00b\x07", id="NUL and bell"),
    pytest.param("a\u2028b\u2029c\x85d", r"a\u2028b\u2029c\x85d", id="the other line ends"),
    pytest.param("abc\u202edcba", r"abc\u202edcba", id="text that runs backwards"),
    pytest.param("half \ud800", r"half \ud800", id="half a character"),
    pytest.param("\x9b31m", r"\x9b31m", id="terminal commands in eight bits"),
]


@pytest.mark.parametrize(("message", "shown"), HOSTILE)
@pytest.mark.parametrize("as_argument", [False, True])
def test_what_is_not_printable_is_escaped(message: str, shown: str, as_argument: bool) -> None:
    line = PLAIN.format(record("%s", message) if as_argument else record(message))
    assert shown in line
    assert line.isprintable()
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize(("message", "shown"), HOSTILE)
def test_json_is_one_line_that_reads_back(message: str, shown: str) -> None:
    line = AS_JSON.format(record("%s", message))
    assert line.isascii()
    assert len(line.splitlines()) == 1
    read = json.loads(line)
    assert read["message"] == message
    assert (read["level"], read["logger"]) == ("warning", "penumbra.test")
    assert set(read) == {"at", "level", "logger", "message"}


def failed() -> ValueError:
    try:
        raise ValueError("bad\n2024-01-01T00:00:00+0000 INFO forged")
    except ValueError as error:
        return error


def test_an_exceptions_text_forges_no_line_either() -> None:
    line = PLAIN.format(record("it failed", error=failed()))
    assert len(line.splitlines()) == 1
    assert r"ValueError: bad\n2024-01-01" in line
    read = json.loads(AS_JSON.format(record("it failed", error=failed())))
    assert read["error"].endswith("INFO forged")
    assert read["message"] == "it failed"


@pytest.mark.parametrize("message", ["x" * 100_000, "\x00" * 100_000, "\U000e0001" * 100_000])
def test_a_line_has_a_longest_length(message: str) -> None:
    assert len(PLAIN.format(record(message))) <= LONGEST
    assert len(json.loads(AS_JSON.format(record(message)))["message"]) == LONGEST


def test_a_long_error_keeps_its_end() -> None:
    error = ValueError("y" * 10_000 + "the end")
    assert json.loads(AS_JSON.format(record("failed", error=error)))["error"].endswith("the end")


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    quiet = {name: logging.getLogger(name).level for name in ("rq.worker", "httpx", "httpcore")}
    yield logger
    logger.handlers[:], logger.level = handlers, level
    for name, before in quiet.items():
        logging.getLogger(name).setLevel(before)


def test_logging_goes_to_standard_error_in_the_chosen_form(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure("info", as_json=True)
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    assert handler.stream is sys.stderr
    logging.getLogger("penumbra.test").info("hello %s", "wor\nld")
    logging.getLogger("penumbra.test").debug("not this")
    logging.getLogger("rq.worker").info("nor this")
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert json.loads(line)["message"] == "hello wor\nld"
