"""One promise, measured in worlds whose truth is known, and the band it must lie in."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from scipy.stats import beta, binom

REJECTED_AT = 0.001
"""A rate fails only when an exact test says that luck alone would not do it once in a thousand times."""


class Size(StrEnum):
    """How many worlds: a few in every test run, or enough to publish."""

    SMALL = "small"
    FULL = "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What was measured, unitless unless the name says so, and whether it holds.

    ``item`` is the promise's number in the list of acceptance tests; ``n`` how many worlds or draws it rests on.
    ``hits`` of a rate are the worlds that counted; other figures have none.
    """

    item: int
    name: str
    measured: float
    low: float
    high: float
    n: int
    holds: bool
    hits: int | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Exact 95 % bounds of a rate (Clopper and Pearson); none for a figure that is not one."""
        if self.hits is None:
            return None
        hits, misses = self.hits, self.n - self.hits
        low = 0.0 if hits == 0 else float(beta.ppf(0.025, hits, misses + 1))
        high = 1.0 if misses == 0 else float(beta.ppf(0.975, hits + 1, misses))
        return low, high

    @property
    def band(self) -> str:
        """The band as a reader writes it."""
        if math.isinf(self.low) and math.isinf(self.high):
            return "any"
        if math.isinf(self.low):
            return f"<= {self.high:g}"
        if math.isinf(self.high):
            return f">= {self.low:g}"
        return f"{self.low:g} to {self.high:g}" if self.low != self.high else f"= {self.low:g}"


def inside(
    item: int, name: str, measured: float, *, low: float = -math.inf, high: float = math.inf, n: int = 1
) -> Check:
    """A figure that must lie in its band, ends included; what is no number does not."""
    return Check(item=item, name=name, measured=measured, low=low, high=high, n=n, holds=bool(low <= measured <= high))


def rate(item: int, name: str, hits: int, n: int, *, low: float = 0.0, high: float = 1.0) -> Check:
    """A share of independent worlds: it fails when even the nearest rate of the band would hardly ever give it."""
    share = hits / n
    too_low = binom.cdf(hits, n, low) <= REJECTED_AT if share < low else False
    too_high = binom.sf(hits - 1, n, high) <= REJECTED_AT if share > high else False
    return Check(
        item=item,
        name=name,
        measured=share,
        low=low,
        high=high,
        n=n,
        holds=not bool(too_low) and not bool(too_high),
        hits=hits,
    )


class Study(Protocol):
    """A simulation: the same size and seed give the same checks."""

    def __call__(self, size: Size, seed: int) -> Iterable[Check]:
        """Run it."""
        ...
