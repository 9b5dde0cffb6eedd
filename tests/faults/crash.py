"""Kill a process at every command to Redis and every statement to Postgres, and let a second one tell the story again.

    python -m tests.faults.crash --when after            # on private servers of its own
    python -m tests.faults.crash --story naive           # what the same kills do to a careless design

The parent opens no connection and starts no thread, so every point costs two forks and no import.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from persistence.record import Record
from runtime import embedded
from runtime.clock import stopwatch
from tests.support.naive import Naive
from tests.support.scenario import Gate, Scenario, candidate
from tests.support.wire import answers_awaited, tapped

When = Literal["before", "after"]
STORIES: dict[str, Callable[[], Scenario]] = {"gate": Gate, "naive": Naive}


@dataclass(slots=True)
class Report:
    """What was tried and what came of it. ``sites`` says what a clean run sends, ``tested`` where a process died."""

    story: str
    when: str
    total: int = 0
    sites: Counter[str] = field(default_factory=Counter)
    tested: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    not_killed: list[int] = field(default_factory=list)
    wrong: dict[str, list[str]] = field(default_factory=dict)
    facts: Counter[str] = field(default_factory=Counter)
    redelivered: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        stages = ", ".join(f"{stage} {self.tested[stage]}/{total}" for stage, total in self.sites.items())
        return (
            f"{self.story}: kill -9 {self.when} {sum(self.tested.values())}/{self.total} points ({stages}), "
            f"{len(self.wrong)} went wrong, {self.redelivered} facts delivered twice, {self.seconds:.0f} s"
        )


class _Killer:
    """A tap that counts, and kills this process at one place."""

    def __init__(self, shared: mmap.mmap, when: When, at: int) -> None:
        self.shared = shared
        self.when = when
        self.at = at
        self.stage = ""
        self.sites: list[tuple[str, str, str]] = []

    def sending(self, kind: str, what: str) -> None:
        self.sites.append((self.stage, kind, what))
        # Where the parent can read it when this process is no more.
        self.shared[:8] = len(self.sites).to_bytes(8, "little")
        if self.when == "before" and len(self.sites) == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def answered(self, kind: str, what: str) -> None:
        if self.when == "after" and len(self.sites) == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


class Enumerator:
    """Tells one scenario in children that die at a chosen place."""

    def __init__(self, scenario: Scenario, redis_url: str, dsn: str, when: When) -> None:
        self.scenario = scenario
        self.servers = (redis_url, dsn)
        self.when: When = when
        self.reached = mmap.mmap(-1, 8)

    def run(self, *, only: int | None = None) -> Report:
        """Every point, or one of them."""
        report = Report(self.scenario.name, self.when)
        began = stopwatch()
        self._clean("warm")  # loads scripts and makes tables: not what the others will send
        sites, clean = self._clean("cold")
        _, second = self._clean("twin")
        if self.scenario.wrong(clean, second):
            raise RuntimeError(f"two clean runs differ: {self.scenario.wrong(clean, second)}")
        report.total = len(sites)
        report.sites = Counter(stage for stage, _, _ in sites)
        report.kinds = Counter(kind for _, kind, _ in sites)
        report.facts = Counter(fact[2] for fact in clean.get("facts", ()))
        for number, (stage, kind, what) in enumerate(sites, 1):
            if only in (None, number):
                self._point(report, number, f"{stage} {number} {kind} {what}", stage, clean)
        report.seconds = stopwatch() - began
        return report

    def _clean(self, name: str) -> tuple[list[tuple[str, str, str]], dict[str, Any]]:
        status, found = in_child(lambda: self._told(f"{self.scenario.name}-{self.when}-{name}", 0))
        if status != 0 or found is None:
            raise RuntimeError(f"the clean run of {self.scenario.name} failed with status {status}")
        return [(stage, kind, what) for stage, kind, what in found["sites"]], found["outcome"]

    def _point(self, report: Report, number: int, label: str, stage: str, clean: dict[str, Any]) -> None:
        namespace = f"{self.scenario.name}-{self.when}-{number}"
        status, _ = in_child(lambda: self._told(namespace, number))
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if not killed or int.from_bytes(self.reached[:8], "little") != number:
            report.not_killed.append(number)
            return
        report.tested[stage] += 1
        status, found = in_child(lambda: self._recovered(namespace))
        if status != 0 or found is None:
            report.wrong[label] = [f"the second process ended with status {status}"]
            return
        report.redelivered += found["seen"].get("replayed", 0)
        wrong = found["half"] + self.scenario.wrong(clean, found["outcome"])
        if wrong:
            report.wrong[label] = wrong

    def _told(self, namespace: str, at: int) -> dict[str, Any]:
        tap = _Killer(self.reached, self.when, at)

        def stage(name: str) -> None:
            tap.stage = name

        with ExitStack() as stack:
            if self.when == "after":
                stack.enter_context(answers_awaited())
            stack.enter_context(tapped(tap))
            self.scenario.tell(*self.servers, namespace, stage)
        return {"sites": tap.sites, "outcome": self.scenario.outcome(*self.servers, namespace)}

    def _recovered(self, namespace: str) -> dict[str, Any]:
        half = self.scenario.half_done(*self.servers, namespace)
        seen = self.scenario.tell(*self.servers, namespace, lambda _stage: None)
        return {"half": half, "seen": seen, "outcome": self.scenario.outcome(*self.servers, namespace)}


def in_child(work: Callable[[], dict[str, Any]]) -> tuple[int, dict[str, Any] | None]:
    """Do something in a forked process; returns its wait status and what it had to say."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.close(reading)
            with os.fdopen(writing, "w") as told:
                json.dump(work(), told)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as told:
        text = told.read()
    _, status = os.waitpid(pid, 0)
    return status, json.loads(text) if status == 0 else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--story", choices=sorted(STORIES), default="gate")
    parser.add_argument("--when", choices=("before", "after"), default="before")
    parser.add_argument("--redis")
    parser.add_argument("--postgres")
    parser.add_argument("--point", type=int, help="this one alone")
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    candidate()
    with ExitStack() as stack:
        redis_url, dsn = wanted.redis, wanted.postgres
        if redis_url is None or dsn is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "data"
            servers = embedded.start(folder)
            stack.callback(embedded.remove, folder)
            redis_url, dsn = servers.redis_url, servers.postgres_dsn
        # In a child, like everything that connects.
        in_child(lambda: {"migrated": Record(dsn).migrate()})
        report = Enumerator(STORIES[wanted.story](), redis_url, dsn, wanted.when).run(only=wanted.point)
    print(json.dumps({one.name: getattr(report, one.name) for one in fields(report)}) if wanted.json else report)
    if not wanted.json:
        for label, wrong in report.wrong.items():
            print(f"  {label}: {wrong[0]}")
    return 0 if not report.wrong and not report.not_killed else 1


if __name__ == "__main__":
    sys.exit(main())
