"""Trainer processes that are killed, stopped, slow or two at once: one bundle for a boundary, and no boundary lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from persistence.record import Record
from persistence.redis_store import RedisStore
from persistence.store import Fact
from runtime.clock import pause, stopwatch
from runtime.embedded import EmbeddedServers
from scorer.bundle import address, unpack
from scorer.schema import SCALP
from tests.support.loop import KEY, World
from tests.support.staged_trainer import STAGES, Orders
from tests.support.stores import outbox

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = stopwatch() + PATIENCE_S
    while not condition():
        if stopwatch() > deadline:
            pytest.fail(f"not within {PATIENCE_S:.0f} s: {what}")
        pause(0.01)


class Scene:
    """A world that learns, its record, and trainers as processes."""

    def __init__(self, store: RedisStore, redis_url: str, dsn: str, folder: Path) -> None:
        self.store = store
        self.world = World(store)
        self.record = Record(dsn, store.keys.namespace)
        self.record.migrate()
        self._redis_url, self._dsn, self._folder = redis_url, dsn, folder
        self.children: list[Child] = []

    def trainer(self, stage: str = "", deed: str = "") -> Child:
        name = f"trainer{len(self.children)}"
        orders = Orders(
            redis_url=self._redis_url,
            postgres_dsn=self._dsn,
            namespace=self.store.keys.namespace,
            journal=str(self._folder / f"{name}.journal"),
            stage=stage,
            deed=deed,
            gate=str(self._folder / f"{name}.gate"),
        )
        child = Child(orders, self._folder / f"{name}.log")
        self.children.append(child)
        return child

    def facts(self, kind: str) -> list[Fact]:
        return [fact for fact in outbox(self.store.client, self.store.keys) if fact.kind == kind]

    def verdicts(self) -> list[tuple[int, int]]:
        """Count and next boundary of every bundle that came into force."""
        return [(int(fact.fields["count"]), int(fact.fields["next"])) for fact in self.facts("published")]

    def assert_sound(self) -> None:
        """Whatever happened: nothing is pointed at that cannot be served, here or after a rebuild."""
        training = self.store.training("scalp")
        named = {training.bundle, training.previous, *self.store.manifests("scalp")} - {None}
        for name in named:
            data = self.store.bundle(str(name))
            assert data is not None, "the pointer names bytes that are not there"
            assert address(data) == name
            unpack(data, KEY, strategy="scalp", schema_hash=SCALP.hash)
            assert self.record.bundle(str(name)) == data
        # Attempts are counted one by one, and a boundary has at most one verdict.
        attempts = [int(fact.fields["attempt"]) for fact in self.facts("training")]
        assert attempts == list(range(1, training.attempt + 1))
        boundaries = [fact.fields["boundary"] for fact in self.facts("retrain")]
        assert len(boundaries) == len(set(boundaries))
        assert len(self.facts("published")) + len(self.facts("untrained")) <= len(boundaries)


class Child:
    """One trainer process and its journal."""

    def __init__(self, orders: Orders, log: Path) -> None:
        self.orders = orders
        self._journal, self._log = Path(orders.journal), log
        with log.open("wb") as out:
            command = [sys.executable, "-m", "tests.support.staged_trainer", orders.written()]
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, stdin=subprocess.DEVNULL)

    def journal(self) -> list[str]:
        return self._journal.read_text().splitlines() if self._journal.exists() else []

    def stages(self) -> list[str]:
        return [line.partition(" ")[0] for line in self.journal()]

    def until(self, stage: str, times: int = 1) -> None:
        def reached() -> bool:
            assert self.process.poll() is None, self._log.read_text("utf-8", "replace")[-800:]
            return self.stages().count(stage) >= times

        until(reached, f"{stage} in {self._journal.name}: {self.journal()}")

    def assert_killed(self, stage: str) -> None:
        assert self.process.wait(PATIENCE_S) == -signal.SIGKILL, self._log.read_text("utf-8", "replace")[-800:]
        assert self.stages()[-1] == stage, "it died elsewhere"

    def open_gate(self) -> None:
        Path(self.orders.gate).touch()

    def end(self) -> None:
        self.process.terminate()
        assert self.process.wait(PATIENCE_S) == 0, self._log.read_text("utf-8", "replace")[-800:]
        assert self.stages()[-1] == "ended"


@pytest.fixture
def scene(
    servers: EmbeddedServers, postgres_dsn: str, redis_client: redis.Redis, namespace: str, tmp_path: Path
) -> Iterator[Scene]:
    made = Scene(RedisStore(redis_client, namespace), servers.redis_url, postgres_dsn, tmp_path)
    yield made
    for child in made.children:
        if child.process.poll() is None:
            child.process.kill()
            child.process.wait()
    made.record.close()


def served(scene: Scene) -> Callable[[], bool]:
    return lambda: scene.store.training("scalp").bundle is not None


def test_a_trainer_that_nothing_happens_to(scene: Scene) -> None:
    # The clean run: its stages are those at which the others are killed.
    scene.world.live(50)
    child = scene.trainer()
    until(served(scene), "a bundle")
    child.until("published")
    child.end()
    assert child.stages() == ["ready", *STAGES, "ended"]
    assert scene.verdicts() == [(50, 100)]
    scene.assert_sound()


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_trainer_is_one_attempt_and_its_boundary_still_gets_one_bundle(scene: Scene, stage: str) -> None:
    scene.world.live(50)
    scene.trainer(stage, "kill").assert_killed(stage)

    training = scene.store.training("scalp")
    published = stage == "published"
    assert training.attempt == (0 if stage == "due" else 1)
    assert (training.bundle is not None, training.due, training.next_at) == (
        published,
        not published,
        100 if published else 50,
    )
    scene.assert_sound()

    again = scene.trainer()
    until(served(scene), "a bundle")
    again.until("ready")
    first = scene.store.training("scalp")
    assert (first.next_at, first.due) == (100, False)
    # Up to the next boundary: whoever would train the first one twice has done it by then.
    scene.world.live(50)
    until(lambda: scene.store.training("scalp").bundle != first.bundle, "the second bundle")
    again.until("published", times=1 if published else 2)
    again.end()

    last = scene.store.training("scalp")
    lost = 0 if stage in ("due", "published") else 1
    assert scene.verdicts() == [(50, 100), (100, 150)]
    assert (last.attempt, last.next_at, last.previous, last.due) == (2 + lost, 150, first.bundle, False)
    assert [fact.fields["boundary"] for fact in scene.facts("retrain")] == ["50", "100"]
    assert scene.world.ask(0.9)["bundle"] == last.bundle
    scene.assert_sound()


def test_a_zombie_reaches_its_publish_and_is_fenced(scene: Scene) -> None:
    scene.world.live(50)
    zombie = scene.trainer("stored", "stop")
    _, status = os.waitpid(zombie.process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    assert os.WSTOPSIG(status) == signal.SIGSTOP
    assert zombie.stages()[-1] == "stored"

    # Later outcomes, a later attempt: its bundle is another one.
    scene.world.live(5)
    second = scene.trainer()
    until(served(scene), "the bundle of the second attempt")
    second.until("published")
    in_force = scene.store.training("scalp")

    os.kill(zombie.process.pid, signal.SIGCONT)
    zombie.until("published")
    assert zombie.journal()[-1] == "published 1 50 FENCED"
    assert second.journal()[-1] == "published 2 55 DONE"
    zombie.end()
    second.end()
    assert scene.store.training("scalp") == in_force
    assert zombie.journal()[-3].split()[1] not in scene.store.manifests("scalp")
    assert scene.verdicts() == [(55, 105)]
    scene.assert_sound()


def test_boundaries_that_pass_during_a_slow_fit_become_one(scene: Scene) -> None:
    scene.world.live(50)
    slow = scene.trainer("fitting", "hold")
    slow.until("fitting")
    # The boundaries at 100 and 150 pass while it is busy with the outcomes up to 50.
    scene.world.live(120)
    assert [fact.fields["boundary"] for fact in scene.facts("retrain")] == ["50"]
    assert scene.store.training("scalp").bundle is None
    slow.open_gate()
    until(served(scene), "the slow bundle")
    first = scene.store.training("scalp")
    assert (first.completed, first.next_at, first.due) == (170, 100, False)

    scene.world.live(1)
    until(lambda: scene.store.training("scalp").bundle != first.bundle, "the bundle that makes up for it")
    slow.until("published", times=2)
    slow.end()
    last = scene.store.training("scalp")
    assert [fact.fields["boundary"] for fact in scene.facts("retrain")] == ["50", "100"]
    # The newest wins and knows every outcome; what was passed over can be read from the two boundaries.
    assert scene.verdicts() == [(50, 100), (171, 221)]
    assert (last.attempt, last.next_at, last.previous) == (2, 221, first.bundle)
    assert json.loads(scene.store.manifests("scalp")[str(last.bundle)])["n"] == 171
    scene.assert_sound()


@pytest.mark.parametrize("earlier_is_first", [True, False])
def test_two_trainers_at_once_give_one_bundle(scene: Scene, earlier_is_first: bool) -> None:
    scene.world.live(50)
    both = []
    for _ in range(2):
        # One after the other, so that their attempts have these numbers.
        both.append(scene.trainer("fitting", "hold"))
        both[-1].until("fitting")
    assert scene.store.training("scalp").attempt == 2
    first, second = both if earlier_is_first else reversed(both)
    for child, said in ((first, "DONE"), (second, "FENCED")):
        child.open_gate()
        child.until("published")
        assert child.journal()[-1] == f"published {both.index(child) + 1} 50 {said}"
    training = scene.store.training("scalp")
    assert scene.verdicts() == [(50, 100)]
    assert (training.previous, training.next_at, training.due) == (None, 100, False)
    scene.assert_sound()

    # The next boundary is theirs to run for.
    scene.world.live(50)
    until(lambda: scene.store.training("scalp").next_at == 150, "the next boundary's verdict")
    for child in both:
        child.end()
    assert scene.verdicts() == [(50, 100), (100, 150)]
    scene.assert_sound()


def test_a_trainer_that_looked_before_and_begins_after_the_verdict(scene: Scene) -> None:
    scene.world.live(50)
    late = scene.trainer("due", "hold")
    late.until("due")
    quick = scene.trainer()
    quick.until("published")
    late.open_gate()
    # It has looked again by the time it is told to stop: the next boundary is the first it trains for.
    quick.end()
    scene.world.live(50)
    late.until("published")
    late.end()
    assert late.stages() == ["ready", "due", *STAGES, "ended"]
    assert scene.verdicts() == [(50, 100), (100, 150)]
    assert scene.store.training("scalp").attempt == 2
    scene.assert_sound()
