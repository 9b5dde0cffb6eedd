"""What goes wrong in a chaos run: a seeded order of faults, each done to something that was at work just then."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np

from persistence.pulse import Pulse
from persistence.store import Mode
from runtime import embedded
from runtime.clock import stopwatch
from runtime.wiring import Wiring
from scripts.chaos.engine import Engine, Feed
from scripts.chaos.fleet import Fleet
from signals.errors import PenumbraError


class Fault(StrEnum):
    """Classes of faults; ``proxy_reset`` happens all the time, the others one by one."""

    KILL_WORKER = "kill_worker"
    KILL_RELAY = "kill_relay"
    KILL_FOLLOWER = "kill_follower"
    KILL_TRAINER = "kill_trainer"
    STOP_PROCESS = "stop_process"
    REDIS_KILL = "redis_kill"
    REDIS_STOP = "redis_stop"
    POSTGRES_STOP = "postgres_stop"
    SCRIPT_FLUSH = "script_flush"
    HALT = "halt"
    PROXY_RESET = "proxy_reset"


WEIGHTS = {
    Fault.KILL_WORKER: 6,
    Fault.KILL_RELAY: 3,
    Fault.KILL_FOLLOWER: 3,
    Fault.KILL_TRAINER: 1,
    Fault.STOP_PROCESS: 2,
    Fault.REDIS_KILL: 1,
    Fault.REDIS_STOP: 1,
    Fault.POSTGRES_STOP: 1,
    Fault.SCRIPT_FLUSH: 1,
    Fault.HALT: 2,
}
STOP_S = 5.0
REDIS_STOP_S = 3.0
POSTGRES_STOP_S = 8.0
HALT_S = 3.0
RECOVERED_S = 120.0
"""Work that is not through by then counts as never."""


@dataclass(slots=True)
class Watch:
    """Work that was under way when a fault struck, and whether it has come through since."""

    fault: Fault
    began_s: float
    through: Callable[[], bool]


@dataclass(slots=True)
class Recoveries:
    """Seconds from each fault until the work it struck was through, by class."""

    seconds: dict[Fault, list[float]] = field(default_factory=dict)
    never: Counter[Fault] = field(default_factory=Counter)
    _waiting: list[Watch] = field(default_factory=list)

    def add(self, watch: Watch) -> None:
        """Wait for a piece of work."""
        self._waiting.append(watch)

    def look(self) -> None:
        """See what has come through."""
        now = stopwatch()
        for watch in list(self._waiting):
            through = False
            with suppress(PenumbraError):
                through = watch.through()
            if through:
                self.seconds.setdefault(watch.fault, []).append(now - watch.began_s)
            elif now - watch.began_s > RECOVERED_S:
                self.never[watch.fault] += 1
            else:
                continue
            self._waiting.remove(watch)

    @property
    def pending(self) -> int:
        """Pieces of work still waited for."""
        return len(self._waiting)


@dataclass(slots=True)
class Striker:
    """Strikes, remembers what has to be undone, and counts."""

    wiring: Wiring
    data: Path
    fsync: embedded.Fsync
    fleet: Fleet
    engine: Engine
    feed: Feed
    pulse: Pulse
    seed: int
    recoveries: Recoveries = field(default_factory=Recoveries)
    injected: Counter[Fault] = field(default_factory=Counter)
    on_live_work: Counter[Fault] = field(default_factory=Counter)
    missed: Counter[Fault] = field(default_factory=Counter)
    _undo: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    _order: Iterator[Fault] | None = None

    def strike(self) -> Fault | None:
        """Do the next fault of the seeded order; none when its victim is not there just now."""
        if self._order is None:
            self._order = _order(self.seed)
        fault = next(self._order)
        live, watches = self._work(fault)
        if not self._done(fault):
            self.missed[fault] += 1
            return None
        self.injected[fault] += 1
        self.on_live_work[fault] += live
        for through in watches:
            self.recoveries.add(Watch(fault, stopwatch(), through))
        return fault

    def tend(self, *, everything: bool = False) -> None:
        """Undo what has lasted long enough, or everything."""
        now = stopwatch()
        due = [entry for entry in self._undo if everything or now >= entry[0]]
        self._undo = [entry for entry in self._undo if entry not in due]
        for _, undo in due:
            undo()

    def _later(self, seconds: float, undo: Callable[[], None]) -> None:
        self._undo.append((stopwatch() + seconds, undo))

    # --- the work a fault strikes

    def _work(self, fault: Fault) -> tuple[bool, list[Callable[[], bool]]]:
        """Whether the victim was at work, and what tells that this work is through."""
        unanswered, fed = self.engine.unanswered(), self.feed.place
        written = ""
        with suppress(PenumbraError):
            written = self.pulse.last_fact()

        def answered() -> bool:
            return not (unanswered & self.engine.unanswered())

        def followed() -> bool:
            return self.feed.client.feed.followed_to() >= fed or _at_least(self.feed.client.feed.followed_to(), fed)

        def carried() -> bool:
            return written == "" or self.pulse.carried(written)

        busy_relay = busy_feed = False
        with suppress(PenumbraError):
            busy_relay = not carried()
        with suppress(PenumbraError):
            busy_feed = not followed()
        if fault in (Fault.KILL_WORKER, Fault.HALT):
            return len(unanswered) > 0, [answered]
        if fault in (Fault.KILL_RELAY, Fault.POSTGRES_STOP):
            return busy_relay or len(unanswered) > 0, [carried]
        if fault is Fault.KILL_FOLLOWER:
            # Open positions are its work, whether or not a candle is on its way this instant.
            return busy_feed or len(self.engine.unfinished()) > 0, [followed]
        if fault is Fault.KILL_TRAINER:
            return self._training(), []
        return len(unanswered) > 0 or busy_relay or busy_feed, [answered, followed, carried]

    def _training(self) -> bool:
        with suppress(PenumbraError):
            return any(self.wiring.store.training(name).due for name in self.wiring.profiles)
        return False

    # --- the faults themselves

    def _done(self, fault: Fault) -> bool:
        if fault in VICTIMS:
            names = self.fleet.names(VICTIMS[fault])
            return self.fleet.kill(names[sum(self.injected.values()) % len(names)])
        return {
            Fault.STOP_PROCESS: self._stop_process,
            Fault.REDIS_KILL: self._kill_redis,
            Fault.REDIS_STOP: self._stop_redis,
            Fault.POSTGRES_STOP: self._stop_postgres,
            Fault.SCRIPT_FLUSH: self._flush_scripts,
            Fault.HALT: self._halt,
        }[fault]()

    def _stop_process(self) -> bool:
        everyone = [name for kind in ("worker", "relay", "follow", "train") for name in self.fleet.names(kind)]
        name = everyone[sum(self.injected.values()) % len(everyone)]
        if not self.fleet.send(name, signal.SIGSTOP):
            return False
        self._later(STOP_S, lambda: _ignore(self.fleet.send(name, signal.SIGCONT)))
        return True

    def _kill_redis(self) -> bool:
        pid = embedded.status(self.data).redis_pid
        if pid is None:
            return False
        os.kill(pid, signal.SIGKILL)
        embedded.start_valkey(self.data, fsync=self.fsync)
        return True

    def _stop_redis(self) -> bool:
        pid = embedded.status(self.data).redis_pid
        if pid is None:
            return False
        os.kill(pid, signal.SIGSTOP)
        self._later(REDIS_STOP_S, lambda: os.kill(pid, signal.SIGCONT))
        return True

    def _stop_postgres(self) -> bool:
        pid = embedded.status(self.data).postgres_pid
        if pid is None:
            return False
        # Immediate: as a crash, without a checkpoint.
        os.kill(pid, signal.SIGQUIT)
        self._later(POSTGRES_STOP_S, lambda: _ignore(embedded.start_postgres(self.data)))
        return True

    def _flush_scripts(self) -> bool:
        with suppress(PenumbraError):
            self.pulse.forget_scripts()
            return True
        return False

    def _halt(self) -> bool:
        try:
            self.wiring.service.set_mode(Mode.HALT, actor="chaos", reason="drill")
        except PenumbraError:
            return False
        self._later(HALT_S, self.switch_on)
        return True

    def switch_on(self) -> None:
        """Let the gate execute again, whatever halted it; a server that is away is asked again later."""
        try:
            control = self.wiring.store.control()
            if control is not None and control.mode is not Mode.ON:
                self.wiring.service.set_mode(Mode.ON, actor="chaos", reason="drill over", expected=control.generation)
        except PenumbraError:
            self._later(1.0, self.switch_on)


VICTIMS = {
    Fault.KILL_WORKER: "worker",
    Fault.KILL_RELAY: "relay",
    Fault.KILL_FOLLOWER: "follow",
    Fault.KILL_TRAINER: "train",
}


def _order(seed: int) -> Iterator[Fault]:
    """Faults in a seeded order: shuffled decks, so that a short run sees every class too."""
    chance = np.random.default_rng([seed, 79])
    deck = [fault for fault, weight in WEIGHTS.items() for _ in range(weight)]
    first = list(WEIGHTS)
    while True:
        # The first deck holds each class once.
        cards = first or deck
        for place in chance.permutation(len(cards)).tolist():
            yield cards[place]
        first = []


def _at_least(place: str, other: str) -> bool:
    return tuple(map(int, place.split("-"))) >= tuple(map(int, other.split("-")))


def _ignore(_result: object) -> None:
    return None
