"""Compare live state and record before anything trades on them, and stop when they do not agree."""

from __future__ import annotations

import logging

from persistence.reconcile import ReconcileReport, reconcile
from persistence.record import Record
from persistence.redis_store import RedisStore
from persistence.store import Mode, StateMissing
from runtime.follow import SWEEP_EVERY_MS
from signals.errors import Permanent

ACTOR = "reconcile"
LONGEST_REASON = 300
log = logging.getLogger(__name__)


def reconciled(store: RedisStore, record: Record, *, fast: bool = False) -> ReconcileReport:
    """Check every rule and change nothing."""
    return reconcile(store.client, store.keys, record, sweep_ms=SWEEP_EVERY_MS, fast=fast)


def reconcile_or_halt(store: RedisStore, record: Record) -> ReconcileReport:
    """The check every executing process makes before it takes a signal: what does not agree does not trade.

    What cannot even be compared is raised, after the halt.
    """
    try:
        report = reconciled(store, record, fast=True)
    except StateMissing:
        raise
    except Permanent as error:
        _halt(store, str(error))
        raise
    for remark in report.remarks:
        log.warning("reconcile: %s", remark)
    if report.lost:
        # Without state there is nothing to halt and nothing trades; a rebuild under way looks the same.
        log.critical("reconcile: %s; run `penumbra rebuild`", report)
    elif not report.clean:
        _halt(store, str(report))
    return report


def _halt(store: RedisStore, why: str) -> None:
    reason = f"{why[:LONGEST_REASON]}; run `penumbra reconcile`, then `penumbra rebuild`"
    log.critical("reconcile: %s", reason)
    current = store.control()
    # Already stopped for this: another generation would only invalidate what an operator has looked at.
    if current is not None and not (current.mode is Mode.HALT and current.actor == ACTOR):
        store.set_mode(Mode.HALT, actor=ACTOR, reason=reason, now_ms=store.now_ms())
