"""What kill -9 does to the stock parts: rq-scheduler's pass over a due periodic job, and RQ's worker taking a job.

    python -m pip install --target FOLDER rq-scheduler==0.14.0      # crontab, which it needs, has no wheel to lock
    PYTHONPATH=FOLDER python -m tests.faults.stock_scheduler        # on a private Valkey of its own
    python -m tests.faults.stock_scheduler --story worker-two       # needs nothing that is not locked

The parent opens no connection: every point is one process that dies there and one that looks, or runs again.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import mmap
import os
import signal
import sys
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import redis
from rq import Queue, SimpleWorker

from runtime import embedded
from tests.faults.crash import in_child
from tests.support.wire import tapped

JOB = "periodic"
PERIOD_S = 3600
ONCE = "once"
DUPLICATE = "duplicate"
LOST = "lost"
NEVER = "never"


class Stock(Protocol):
    """A stock part at work: what is there before, what it does, and what became of the job."""

    name: str
    part: str

    def prepare(self, client: redis.Redis) -> None: ...

    def work(self, client: redis.Redis) -> None: ...

    def fate(self, client: redis.Redis) -> str: ...


class SchedulerPass:
    """One pass of rq-scheduler over one periodic job that is due; after a kill, a second scheduler's pass."""

    name = "scheduler"
    part = "rq-scheduler"

    def prepare(self, client: redis.Redis) -> None:
        due = datetime.now(UTC).replace(tzinfo=None) - timedelta(minutes=1)
        _scheduler(client).schedule(due, "math.sqrt", args=(4.0,), interval=PERIOD_S, id=JOB)

    def work(self, client: redis.Redis) -> None:
        _scheduler(client).run(burst=True)

    def fate(self, client: redis.Redis) -> str:
        # The dead scheduler's lock, which runs out after 70 s.
        client.delete("rq:scheduler_lock")
        self.work(client)
        pushed = Queue("default", connection=client).job_ids.count(JOB)
        if client.zscore("rq:scheduler:scheduled_jobs", JOB) is None:
            return LOST
        return {0: NEVER, 1: ONCE}.get(pushed, DUPLICATE)


class WorkerTakes:
    """A worker's first job, waited for on one queue or on two; lost is what no queue and no registry names."""

    part = "rq"

    def __init__(self, queues: int) -> None:
        self.name = f"worker-{'one' if queues == 1 else 'two'}"
        self.queues = ("high", "low")[:queues]

    def prepare(self, client: redis.Redis) -> None:
        Queue("high", connection=client).enqueue("math.sqrt", 4.0, job_id=JOB)

    def work(self, client: redis.Redis) -> None:
        queues = [Queue(name, connection=client) for name in self.queues]
        SimpleWorker(queues, connection=client, name="stock").work(max_jobs=1, logging_level="ERROR")

    def fate(self, client: redis.Redis) -> str:
        queue = Queue("high", connection=client)
        registries = (
            queue.started_job_registry,
            queue.finished_job_registry,
            queue.failed_job_registry,
            queue.scheduled_job_registry,
            queue.deferred_job_registry,
            queue.canceled_job_registry,
        )
        named = [*queue.job_ids, *queue.intermediate_queue.get_job_ids()]
        for registry in registries:
            named += registry.get_job_ids(cleanup=False)
        return ONCE if JOB in named else LOST


STORIES: dict[str, Stock] = {story.name: story for story in (SchedulerPass(), WorkerTakes(1), WorkerTakes(2))}


@dataclass(slots=True)
class Report:
    """What was tried and what became of the job; ``sites`` are the commands of a clean run, in order."""

    story: str
    part: str
    sites: list[str] = field(default_factory=list)
    clean: str = ""
    tested: int = 0
    not_killed: list[int] = field(default_factory=list)
    fates: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        counts = Counter(self.fates.values())
        words = ", ".join(
            f"{counts[fate]} {word}"
            for fate, word in ((DUPLICATE, "duplicates"), (LOST, "lost for ever"), (NEVER, "never enqueued"))
        )
        return f"{self.story} ({self.part}): kill -9 before {self.tested}/{len(self.sites)} commands, {words}"


class _Killer:
    """A tap that counts, and kills this process before one command."""

    def __init__(self, reached: mmap.mmap, at: int) -> None:
        self.reached = reached
        self.at = at
        self.sites: list[str] = []

    def sending(self, kind: str, what: str) -> None:
        self.sites.append(what)
        # Where the parent can read it when this process is no more.
        self.reached[:8] = len(self.sites).to_bytes(8, "little")
        if len(self.sites) == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def answered(self, kind: str, what: str) -> None: ...


def enumerate_points(story: Stock, url: str) -> Report:
    """Let the stock part die before each command of a clean run, once each."""
    reached = mmap.mmap(-1, 8)
    report = Report(story.name, f"{story.part} {version(story.part)}")
    clean = _must(in_child(lambda: _worked(story, url, reached, 0)))
    report.sites = clean["sites"]
    report.clean = _must(in_child(lambda: _looked(story, url)))["fate"]
    if _must(in_child(lambda: _worked(story, url, reached, 0))) != clean:
        raise RuntimeError(f"two clean runs of {story.name} differ")
    for number, what in enumerate(report.sites, 1):
        reached[:8] = bytes(8)
        status, _ = in_child(lambda at=number: _worked(story, url, reached, at))  # type: ignore[misc]
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if not killed or int.from_bytes(reached[:8], "little") != number:
            report.not_killed.append(number)
            continue
        report.tested += 1
        report.fates[f"{number} {what}"] = _must(in_child(lambda: _looked(story, url)))["fate"]
    return report


def _worked(story: Stock, url: str, reached: mmap.mmap, at: int) -> dict[str, Any]:
    with redis.Redis.from_url(url) as client:
        client.flushall()
        # Also opens the connection: its greeting is not a command of the stock part.
        story.prepare(client)
        tap = _Killer(reached, at)
        with tapped(tap):
            story.work(client)
    return {"sites": tap.sites}


def _looked(story: Stock, url: str) -> dict[str, Any]:
    with redis.Redis.from_url(url) as client:
        return {"fate": story.fate(client)}


def _must(told: tuple[int, dict[str, Any] | None]) -> dict[str, Any]:
    status, found = told
    if status != 0 or found is None:
        raise RuntimeError(f"a process that nobody kills ended with status {status}")
    return found


def _scheduler(client: redis.Redis) -> Any:
    # Not locked, so not imported where this module is.
    return importlib.import_module("rq_scheduler").Scheduler(connection=client)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--story", choices=sorted(STORIES), action="append", help="this one alone; may be repeated")
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    names = wanted.story or list(STORIES)
    if "scheduler" in names and importlib.util.find_spec("rq_scheduler") is None:
        parser.error("rq-scheduler is not installed: see --help, or name the other stories")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "data"
        # Always a server of its own: every point empties it.
        url = embedded.start_valkey(folder).url
        try:
            reports = [enumerate_points(STORIES[name], url) for name in names]
        finally:
            embedded.remove(folder)
    if wanted.json:
        print(json.dumps({report.story: asdict(report) for report in reports}))
    else:
        for report in reports:
            print(report)
            for site, fate in report.fates.items():
                if fate != ONCE:
                    print(f"  before {site}: {fate}")
    return 1 if any(report.not_killed for report in reports) else 0


if __name__ == "__main__":
    sys.exit(main())
