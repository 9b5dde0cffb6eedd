"""The training process: looks for boundaries that were reached, trains, publishes. It serves nothing itself."""

from __future__ import annotations

import logging
from collections.abc import Callable

from persistence.store import StateMissing
from runtime.clock import pause
from runtime.train import Trainer
from runtime.trained import Trained
from signals.errors import Transient

POLL_S = 0.1
"""How often an idle trainer looks, two reads for each strategy: at a second this was most of what the loop adds."""
STEP_S = 0.1
LONGEST_PAUSE_S = 4.0
log = logging.getLogger(__name__)


def run(trainer: Trainer, stop: Callable[[], bool], *, wait: Callable[[float], None] = pause) -> None:
    """Train until ``stop`` says so. A boundary waits in the state, so nothing is lost while nobody trains."""
    pause_s = POLL_S
    log.info("waiting for boundaries")
    while not stop():
        try:
            for strategy in trainer.due():
                trained = trainer.answer(strategy)
                if trained is not None:
                    _say(trained)
            pause_s = POLL_S
        except (Transient, StateMissing) as error:
            log.warning("training pauses %.1f s: %s", pause_s, error)
            pause_s = min(2.0 * pause_s, LONGEST_PAUSE_S)
        left = pause_s
        while left > 0.0 and not stop():
            wait(STEP_S)
            left -= STEP_S


def _say(trained: Trained) -> None:
    if trained.fenced:
        log.warning("%s: attempt %d came too late", trained.strategy, trained.attempt)
    elif trained.address:
        log.info("%s: bundle %s from %d outcomes", trained.strategy, trained.address[:12], trained.count)
    else:
        log.info("%s: the incumbent stays, %s: %s", trained.strategy, trained.reason, trained.detail)
