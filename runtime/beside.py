"""What a bundle forecasts beside the win, learned from what the store knows by now.

Imported by the trainer only: it brings scikit-learn.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from learning.head_rows import HeadRow, head_rows
from learning.heads import HeadFit, MultiHead
from persistence.store import Store
from scorer.heads import ALWAYS, PROBABILITIES, VALUES, HeadSet
from scorer.schema import SCHEMAS
from signals.errors import Transient
from signals.profile import Profile

log = logging.getLogger(__name__)


def heads_of(store: Store, profile: Profile, *, seed: int) -> tuple[HeadSet | None, dict[str, Any]]:
    """The heads that showed skill, and dates and figures of each that was tried; nothing when they cannot be fitted.

    Only what is recorded by now can teach: a path is recorded when its horizon has passed.
    """
    names = (*VALUES, *PROBABILITIES) if profile.heads else ALWAYS
    try:
        fitted = MultiHead(HeadFit(names=names), seed=seed).fit(_rows(store, profile), SCHEMAS[profile.features])
    except Transient:
        raise
    except Exception:
        # They decide nothing: a bundle without them is worth more than no bundle.
        log.exception("heads of %s cannot be fitted", profile.name)
        return None, {}
    # Without their curves, which the bundle itself carries: this is kept in memory for every bundle.
    return fitted.heads_, {
        report.name: {name: value for name, value in report.record.items() if name != "curve"}
        for report in fitted.reports_
    }


def _rows(store: Store, profile: Profile) -> list[HeadRow]:
    # Timeouts too, under either method of labels: a head that never saw one would forecast a market without them.
    decided, laid = store.trades(profile.name)
    closed = [*decided, *store.timeouts(profile.name)]
    corrections = {name: json.loads(text) if text else None for name, text in laid.items()}
    known = head_rows(map(json.loads, closed), store.paths(profile.name), corrections)
    return known[-profile.max_training_rows :] if profile.max_training_rows else known
