"""A trainer process that journals the stages of every attempt and does at one of them what its test says.

``python -m tests.support.staged_trainer ORDERS`` with the orders as JSON; everything else is the real thing: the loop
of ``penumbra train``, real servers, real fits of small heads.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from learning.example import Example
from learning.fit import Candidate, fit_candidate
from learning.metrics import Metrics
from learning.promote import Declined, promote
from persistence.connection import connect
from persistence.record import Record
from persistence.redis_store import RedisStore
from persistence.store import PublishCommand, PublishStatus
from runtime.clock import pause
from runtime.train import SEED, Trainer
from scorer.schema import SCHEMAS
from scripts.stopping import stop_on_signals
from signals.profile import Profile
from tests.support.lessons import SMALL
from tests.support.loop import KEY, PROFILES
from worker.train import run

STAGES = ("due", "fitting", "kept", "stored", "published")
"""Seen to be due and no attempt begun; between the folds and the final heads; bytes in Postgres; bytes in Redis too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """Where to find things and what to do: at ``stage`` of the first attempt ``kill``, ``stop`` or ``hold``."""

    redis_url: str
    postgres_dsn: str
    namespace: str
    journal: str
    stage: str = ""
    deed: str = ""
    gate: str = ""

    def written(self) -> str:
        """The orders as one argument."""
        return json.dumps(asdict(self))


class Stages:
    """The journal, and the deed at its stage."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._done = False

    def reach(self, stage: str, detail: str = "") -> None:
        """Write the stage down, then do what was ordered there, once."""
        self.note(f"{stage} {detail}".strip())
        if stage != self._orders.stage or self._done:
            return
        self._done = True
        if self._orders.deed == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self._orders.deed == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif self._orders.deed == "hold":
            while not Path(self._orders.gate).exists():
                pause(0.01)

    def note(self, line: str) -> None:
        """One line, on its way to the disk before anything can happen to this process."""
        with Path(self._orders.journal).open("a") as journal:
            journal.write(line + "\n")


class StagedStore(RedisStore):
    """The store, with stages around what a trainer writes."""

    stages: Stages

    def begin_training(self, strategy: str, *, now_ms: int, boundary: int | None = None) -> int:
        """Begin an attempt."""
        self.stages.reach("due")
        return super().begin_training(strategy, now_ms=now_ms, boundary=boundary)

    def put_bundle(self, address: str, data: bytes) -> None:
        """Keep a bundle's bytes."""
        self.stages.reach("kept")
        super().put_bundle(address, data)

    def publish(self, command: PublishCommand) -> PublishStatus:
        """Move the pointer."""
        self.stages.reach("stored", command.address)
        status = super().publish(command)
        self.stages.reach("published", f"{command.attempt} {command.trained_count} {status.value}")
        return status


class StagedTrainer(Trainer):
    """The trainer, with a stage inside its fit."""

    stages: Stages

    def _fit(self, profile: Profile, known: list[Example]) -> Candidate | Declined:
        def judged(metrics: Metrics) -> Declined | None:
            # Called when the heads of the folds are there and the final ones are not.
            self.stages.reach("fitting")
            return promote(metrics)

        return fit_candidate(known, SCHEMAS[profile.features], seed=SEED, settings=self._settings, rule=judged)


def main(orders: Orders, stop: Callable[[], bool]) -> None:
    """Train until told to stop."""
    stages = Stages(orders)
    with connect(orders.redis_url) as client:
        store = StagedStore(client, orders.namespace)
        store.stages = stages
        record = Record(orders.postgres_dsn, orders.namespace)
        trainer = StagedTrainer(store, PROFILES, KEY, keep=record.put_bundle, settings=SMALL)
        trainer.stages = stages
        stages.note("ready")
        run(trainer, stop)
        record.close()
    stages.note("ended")


if __name__ == "__main__":
    main(Orders(**json.loads(sys.argv[1])), stop_on_signals())
