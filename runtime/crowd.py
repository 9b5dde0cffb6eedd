"""How many phantoms a symbol carries: a health figure, not a limit, for nothing is at risk but the machine."""

from __future__ import annotations

import logging

WARNING_ABOVE = 50
CRITICAL_ABOVE = 100
log = logging.getLogger(__name__)


class CrowdWatch:
    """Says once when a symbol's open phantoms cross a level, and again only after they fell below it (SPEC 8)."""

    def __init__(self) -> None:
        self._levels: dict[str, int] = {}

    def see(self, symbol: str, phantoms: int) -> None:
        """Take the present number."""
        level = logging.CRITICAL if phantoms > CRITICAL_ABOVE else logging.WARNING if phantoms > WARNING_ABOVE else 0
        if level > self._levels.get(symbol, 0):
            log.log(level, "%s: %d open phantoms", symbol, phantoms)
        self._levels[symbol] = level
