"""Log lines: one event a line, control characters escaped, secrets hidden, plain or as JSON."""

from __future__ import annotations

import json
import logging
import math
import sys
import threading
from collections.abc import Collection, Iterator
from types import TracebackType

from runtime.secrecy import MASK, hidden, names_secret

LONGEST = 2_000
LONGEST_NAME = 64
MOST_FIELDS = 32
READ_AT_MOST = 65_536
"""Characters of a text that are looked at. Cut before it is searched, and searched before it is cut to ``LONGEST``."""
_OURS = frozenset({"at", "level", "logger", "message", "error", "stack"})
_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
QUIET = ("rq.worker", "httpx", "httpcore")
"""These libraries log addresses and every job at info."""


def escaped(text: str) -> str:
    """Text on one line that commands no terminal and reads in one direction."""
    return "".join(mark if mark.isprintable() else repr(mark)[1:-1] for mark in text)


class LineFormatter(logging.Formatter):
    """Text that cannot forge a second line and shows no secret.

    Whatever is not printable is escaped, the length of every field is capped, and known secrets as well as what has
    the form of one are hidden: in the message, its arguments, extra fields, exceptions and their causes.
    """

    def __init__(self, *, as_json: bool, secrets: Collection[str] = ()) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S%z")
        self.as_json = as_json
        self._secrets = tuple(secrets)

    def format(self, record: logging.LogRecord) -> str:
        """One line for one record."""
        head = {
            "at": self.formatTime(record, self.datefmt),
            "level": str(record.levelname).lower(),
            "logger": self._shown(str(record.name)),
            "message": self._shown(_message(record)),
        }
        tail = dict(self._trouble(record))
        if self.as_json:
            # DEL is ASCII and yet no character to print: JSON would let it through.
            return json.dumps({**head, **dict(self._extras(record)), **tail}, allow_nan=False).replace(
                "\x7f", "\\u007f"
            )
        extras = " ".join(f"{name}={value}" for name, value in self._extras(record))
        line = f"{head['at']} {record.levelname} {head['logger']} {head['message']}" + (f" {extras}" if extras else "")
        # Escaped after it is cut, since what is not printable grows: then cut again.
        return escaped("\n".join([line[:LONGEST], *tail.values()]))[:LONGEST]

    def _shown(self, text: str) -> str:
        return hidden(text[:READ_AT_MOST], self._secrets)[:LONGEST]

    def _trouble(self, record: logging.LogRecord) -> Iterator[tuple[str, str]]:
        # The end of a traceback says what happened.
        if record.exc_info:
            yield "error", hidden(self.formatException(record.exc_info)[-READ_AT_MOST:], self._secrets)[-LONGEST:]
        if record.stack_info:
            yield "stack", hidden(record.stack_info[-READ_AT_MOST:], self._secrets)[-LONGEST:]

    def _extras(self, record: logging.LogRecord) -> Iterator[tuple[str, str | int | float | bool | None]]:
        found = [name for name in vars(record) if name not in _PLAIN]
        for name in found[:MOST_FIELDS]:
            value = vars(record)[name]
            shown = self._shown(name)[:LONGEST_NAME]
            plain = (
                value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))
            )
            if names_secret(name):
                yield shown, MASK
            else:
                yield (f"extra_{shown}" if shown in _OURS else shown), value if plain else self._shown(_text(value))


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - the handler would print message and arguments as they are
        return f"{record.msg} (its arguments cannot be shown: {type(error).__name__})"


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - a value that cannot be shown must not cost the line
        return f"({type(value).__name__} cannot be shown: {type(error).__name__})"


def configure(level: str, *, as_json: bool, secrets: Collection[str] = ()) -> None:
    """Send log lines to standard error, and with them whatever ends the process or one of its threads."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(as_json=as_json, secrets=secrets))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    sys.excepthook = _log_end
    threading.excepthook = _log_thread_end


def _log_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Python's own words would be many lines, with everything in them."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        logging.getLogger("penumbra").critical("ended by an error", exc_info=(kind, error, trace))


def _log_thread_end(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is not None and not issubclass(ended.exc_type, SystemExit):
        name = "a thread" if ended.thread is None else ended.thread.name
        trouble = (ended.exc_type, ended.exc_value, ended.exc_traceback)
        logging.getLogger("penumbra").critical("%s ended by an error", name, exc_info=trouble)
