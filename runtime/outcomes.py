"""Which outcomes a fit is made of: what has closed, as the profile's labels want it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from learning.example import Example
from learning.labels import DAY_MS, Weighting, censoring_weights, mature
from persistence.store import TRADES_KEPT, UNREPORTED_GRACE_MS
from signals.labelling import Maturity
from signals.method import Method
from signals.profile import Profile


def horizon_ms(profile: Profile) -> int:
    """The longest a position lives: its deadline, the candle that holds it, and the grace of an engine's report."""
    return profile.timeout_ms + profile.tracking_ms + UNREPORTED_GRACE_MS


def weighting_of(profile: Profile) -> Weighting | None:
    """What records count for besides their kind; none under the specified labels."""
    if profile.method.labels is Method.SPEC:
        return None
    told = profile.labelling
    return Weighting(uniqueness=told.uniqueness, half_life_days=told.half_life_days, size_exponent=told.size_exponent)


def weights_of(outcomes: Sequence[Example], profile: Profile) -> list[float]:
    """What each outcome counts for besides its kind."""
    weighting = weighting_of(profile)
    if weighting is None:
        return [1.0] * len(outcomes)
    found = weighting.weights(
        np.array([one.entry_ms for one in outcomes], dtype=np.int64),
        np.array([one.exit_ms for one in outcomes], dtype=np.int64),
        np.array([one.net_r for one in outcomes], dtype=np.float64),
    )
    return [weight * one.seen_weight for weight, one in zip(found.tolist(), outcomes, strict=True)]


def learned_from(
    known: Sequence[Example], profile: Profile, *, now_ms: int, open_entry_ms: Sequence[int] = ()
) -> list[Example]:
    """The outcomes to learn from, by the profile's window and maturity; timeouts are among them where it takes these.

    ``open_entry_ms`` are the entries of positions that still run: who waits for them is told by weights.
    """
    told, taken = profile.labelling, list(known)
    if told.window_days > 0.0:
        # By entry: a window of exits would hold the slow of one cohort and the fast of the next.
        taken = [example for example in taken if example.entry_ms >= now_ms - told.window_days * DAY_MS]
    if profile.method.labels is Method.SPEC or told.maturity is Maturity.OFF or not taken:
        return taken
    entry_ms = np.array([example.entry_ms for example in taken], dtype=np.int64)
    if told.maturity is Maturity.CUTOFF:
        grown = mature(entry_ms, horizon_ms=horizon_ms(profile), now_ms=now_ms)
        return [example for example, old in zip(taken, grown.tolist(), strict=True) if old]
    # An engine's clock can be ahead of ours; a life cannot end in the future.
    exit_ms = np.minimum([example.exit_ms for example in taken], max(now_ms, int(entry_ms.max())))
    waiting = np.array([entry for entry in open_entry_ms if entry <= now_ms], dtype=np.int64)
    ends = max(now_ms, int(exit_ms.max()))
    weights = censoring_weights(entry_ms, np.maximum(exit_ms, entry_ms), waiting, now_ms=ends)
    return [replace(one, seen_weight=weight) for one, weight in zip(taken, weights.tolist(), strict=True)]


def covered_by_both(trades: Sequence[Example], timeouts: Sequence[Example]) -> list[Example]:
    """Both lists from where both reach back to: each forgets its oldest rows on its own."""
    full = [rows for rows in (trades, timeouts) if len(rows) >= TRADES_KEPT]
    since = max((min(example.exit_ms for example in rows) for rows in full), default=0)
    return sorted((one for one in (*trades, *timeouts) if one.exit_ms >= since), key=lambda one: one.order)
