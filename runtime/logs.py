"""Log lines: one event a line, control characters escaped, plain or as JSON."""

from __future__ import annotations

import json
import logging
import sys

LONGEST = 2_000


class LineFormatter(logging.Formatter):
    """Text that cannot forge a second line: whatever is not printable is escaped, and the length is capped."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S%z")
        self.as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """One line for one record."""
        if self.as_json:
            fields = {
                "at": self.formatTime(record, self.datefmt),
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": record.getMessage()[:LONGEST],
            }
            if record.exc_info:
                fields["error"] = self.formatException(record.exc_info)[-LONGEST:]
            return json.dumps(fields)
        # Cut before and after: what is not printable grows when it is escaped.
        line = super().format(record)[:LONGEST]
        return "".join(mark if mark.isprintable() else repr(mark)[1:-1] for mark in line)[:LONGEST]


def configure(level: str, *, as_json: bool) -> None:
    """Send log lines to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(as_json=as_json))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # These libraries log addresses and every job at info.
    for name in ("rq.worker", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
