"""A small world with its own time: processes take turns at every command, and commands are lost or deadly by chance.

Each process is a greenlet. Whoever sends a command may first be overtaken by the others, then find that nothing
happened, that it happened but the answer is lost, or that it is dead and has to start again with an empty memory.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from greenlet import getcurrent, greenlet

from persistence.store import Fact
from signals.errors import Transient

OVERTAKEN = 0.3
DEADLY = 0.03
"""Share of faults that kill: a follower reads its stream anew after each, and must come to an end all the same."""
LIVE = frozenset({
    "decide", "claim", "lapse", "touch", "close", "fill", "correct", "set_mode", "begin_training", "publish", "settle",
    "put_bundle", "append", "execute", "keep",
})  # fmt: skip
"""Commands that change something: a fault on one of them is a fault on live work."""


class Killed(BaseException):
    """This process is dead: nothing in it may notice."""


@dataclass(slots=True)
class World:
    """Time, chance and the processes. ``steps`` counts commands: it orders what has the same time."""

    seed: int
    chance: float
    now_ms: int
    rng: random.Random = field(init=False)
    faults: Counter[str] = field(default_factory=Counter)
    on_live_work: int = 0
    restarts: int = 0
    steps: int = 0
    after: Callable[[], None] = field(default=lambda: None)
    _waiting: list[tuple[int, float, int, Any]] = field(default_factory=list)
    _listening: list[Any] = field(default_factory=list)
    _number: int = 0
    _hub: Any = None

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)  # noqa: S311

    def spawn(self, main: Callable[[], None], *, mortal: bool = True) -> None:
        """Start a process; a mortal one begins again when it is killed."""

        def process() -> None:
            while True:
                try:
                    main()
                except Killed:
                    self.restarts += 1
                    self.sleep(self.rng.randint(1_000, 60_000))
                    continue
                return

        self._wake(greenlet(process if mortal else main), 0)

    def _wake(self, who: Any, in_ms: int) -> None:
        self._number += 1
        heapq.heappush(self._waiting, (self.now_ms + in_ms, self.rng.random(), self._number, who))

    def sleep(self, ms: int) -> None:
        """Let time pass for whoever calls."""
        self._wake(getcurrent(), ms)
        self._hub.switch()

    def await_bell(self) -> None:
        """Wait until somebody rings."""
        self._listening.append(getcurrent())
        self._hub.switch()

    def ring(self) -> None:
        """Wake whoever waits for it."""
        for who in self._listening:
            self._wake(who, 0)
        self._listening.clear()

    def run(self, until_ms: int) -> None:
        """Let everybody go on until a moment."""
        self._hub = getcurrent()
        while self._waiting and self._waiting[0][0] <= until_ms:
            at, _, _, who = heapq.heappop(self._waiting)
            self.now_ms = max(self.now_ms, at)
            who.switch()
        self.now_ms = until_ms

    def end(self) -> None:
        """Drop what still waits."""
        self.ring()
        for *_, who in self._waiting:
            if not who.dead and who:
                who.throw()
        self._waiting.clear()

    def command(self, name: str, do: Callable[[], Any], *, mortal: bool = True) -> Any:
        """Send a command and see what becomes of it."""
        if self.rng.random() < OVERTAKEN:
            self.sleep(0)
        self.steps += 1
        if self.rng.random() >= self.chance:
            return self._done(do)
        lost = "reply" if self.rng.random() < 0.5 else "request"
        deadly = mortal and self.rng.random() < DEADLY
        self.faults[f"{'killed after' if lost == 'reply' else 'killed before'}" if deadly else f"{lost} lost"] += 1
        self.on_live_work += name in LIVE
        if lost == "reply":
            self._done(do)
        if deadly:
            raise Killed
        raise Transient(f"{lost} of {name} lost")

    def _done(self, do: Callable[[], Any]) -> Any:
        try:
            return do()
        finally:
            self.after()


class Door:
    """What one process sees of a server: every call is a command."""

    def __init__(self, world: World, inside: Any, *, mortal: bool = True, own: Mapping[str, Any] | None = None) -> None:
        self._world = world
        self._inside = inside
        self._mortal = mortal
        self._own = dict(own or {})

    def __getattr__(self, name: str) -> Any:
        if name in self._own:
            return self._own[name]
        found = getattr(self._inside, name)
        if name == "pipeline":
            return lambda *args, **words: Door(self._world, _Queued(found(*args, **words)), mortal=self._mortal)
        if not callable(found) or (isinstance(self._inside, _Queued) and name != "execute"):
            return found
        return lambda *args, **words: self._world.command(name, lambda: found(*args, **words), mortal=self._mortal)


class _Queued:
    """A pipeline: only its execution is a command."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipe, name)


class OutboxDouble:
    """The outbox of a store in memory as the relay reads one on a server: a stream with one group, and dead letters."""

    def __init__(self, facts: Sequence[Fact], world: World, outbox: str) -> None:
        self._facts = facts
        self._world = world
        self._outbox = outbox
        self._first = 0
        self._delivered = 0
        self._pending: dict[str, None] = {}
        self._group = ""
        self.dead: list[Any] = []

    def xgroup_create(self, _key: str, group: str, **_words: Any) -> None:
        self._group = group

    def xreadgroup(self, _group: str, _consumer: str, streams: dict[str, str], *, count: int) -> list[Any]:
        (start,) = streams.values()
        if start == ">":
            places = range(self._delivered, min(len(self._facts), self._delivered + count))
            self._delivered = max(self._delivered, places.stop)
            names = [f"{place + 1}-0" for place in places]
            self._pending |= dict.fromkeys(names)
        else:
            names = list(self._pending)[:count]
        return [[self._outbox, [(name, self._entry(name)) for name in names]]]

    def _entry(self, name: str) -> dict[str, str]:
        fact = self._facts[int(name.partition("-")[0]) - 1]
        head = {"seq": str(fact.seq), "kind": fact.kind, "id": fact.id, "at": str(fact.at_ms), "body": fact.body}
        return head | dict(fact.fields)

    def xautoclaim(self, *_args: Any, **_words: Any) -> list[Any]:
        return ["0-0", [], []]

    def xinfo_groups(self, _key: str) -> list[dict[str, Any]]:
        lag = len(self._facts) - self._delivered
        return [
            {
                "name": self._group,
                "pending": len(self._pending),
                "last-delivered-id": f"{self._delivered}-0",
                "lag": lag,
            }
        ]

    def xpending_range(self, _key: str, _group: str, _low: str, _high: str, *, count: int) -> list[dict[str, str]]:
        return [{"message_id": name} for name in list(self._pending)[:count]]

    def xlen(self, key: str) -> int:
        return len(self._facts) - self._first if key == self._outbox else len(self.dead)

    def exists(self, _key: str) -> bool:
        return True

    def xrange(self, _key: str, *, count: int) -> list[Any]:
        return [(f"{place + 1}-0", {}) for place in range(self._first, len(self._facts))][:count]

    def time(self) -> tuple[int, int]:
        return self._world.now_ms // 1_000, 0

    def hset(self, *_args: Any, **_words: Any) -> int:
        return 0

    def pipeline(self, **_words: Any) -> _Transaction:
        return _Transaction(self)

    def xadd(self, _key: str, letter: Any) -> None:
        self.dead.append(letter)

    def xack(self, _key: str, _group: str, *names: str) -> None:
        for name in names:
            self._pending.pop(name, None)

    def xtrim(self, _key: str, *, minid: str, approximate: bool) -> None:
        place, _, within = minid.partition("-")
        self._first = max(self._first, int(place) - (within == "0"))


class _Transaction:
    """Commands that take effect together, or not at all."""

    def __init__(self, stream: OutboxDouble) -> None:
        self._stream = stream
        self._queue: list[Callable[[], None]] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._stream, name)
        return lambda *args, **words: self._queue.append(lambda: found(*args, **words))

    def execute(self) -> list[Any]:
        for queued in self._queue:
            queued()
        return []
