"""How property tests run here: the same examples on every machine, none of them timed."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]

LAW = settings(derandomize=True, deadline=None, database=None, max_examples=150, suppress_health_check=_SLOW)
HEAVY_LAW = settings(LAW, max_examples=25)
