"""What a store promises: one atomic command per business fact, each recognising its own replay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from decision.decide import Action
from persistence.breaker_store import BreakerStore
from qscore.threshold import TABLE_RECORDS
from signals.errors import Permanent
from signals.profile import Kind, Limits
from signals.reasons import Reason

MICRO = 1_000_000
"""R and money are counted in whole millionths: Redis adds integers exactly and scripts never touch a float."""
WIN_RATE_WINDOW = 200
TRADES_KEPT = 100_000
RETENTION_MS = 30 * 86_400_000
UNREPORTED_GRACE_MS = 3_600_000
CLOCK_SKEW_MS = 2_000
SCHEMA_VERSION = "1"


class StateMissing(Permanent):
    """The namespace has no state: nothing trades until it is created, or rebuilt from the record."""


class Mode(StrEnum):
    """The operator's switch."""

    ON = "ON"
    ML_OFF = "ML_OFF"
    HALT = "HALT"


class ClockKind(StrEnum):
    """Where ``now`` comes from; fixed when the namespace is created."""

    LIVE = "live"
    DATA = "data"


@dataclass(frozen=True, slots=True)
class Control:
    """The mode in force. ``generation`` grows with every change."""

    mode: Mode
    generation: int
    actor: str
    reason: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Fact:
    """An append-only record. ``fields`` are plain text, ``body`` is canonical JSON that no script looks into."""

    seq: int
    id: str
    kind: str
    at_ms: int
    fields: Mapping[str, str]
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DecideCommand:
    """Everything the commit of a decision needs; the checks on the state happen inside it.

    ``explored``: the execute was drawn against its score, so that any breaker, also one of rules only, makes it a
    phantom.
    """

    now_ms: int
    signal_id: str
    fingerprint: str
    want: Action
    reasons: Sequence[Reason]
    body: str
    strategy: str = ""
    symbol: str = ""
    prefix: str = "phantom"
    alternative: Action = Action.REJECTED
    alternative_reasons: Sequence[Reason] = ()
    ensemble: bool = False
    bar: str | None = None
    signal_ms: int = 0
    max_age_ms: int = 0
    ttl_ms: int = 0
    entry_ms: int = 0
    deadline_ms: int = 0
    step_ms: int = 0
    terms: str = "{}"
    track: str = "{}"
    limits: Limits = field(default_factory=Limits)
    confidence_micro: int | None = None
    latencies_us: Sequence[int] = ()
    explored: bool = False

    def __post_init__(self) -> None:
        if not self.reasons:
            raise ValueError("a decision without a reason explains nothing")


class DecideStatus(StrEnum):
    """How the commit went."""

    DONE = "DONE"
    REPLAY = "REPLAY"
    CONFLICT = "CONFLICT"
    DUPLICATE_BAR = "DUPLICATE_BAR"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A recorded answer. ``fingerprint`` is of the content it was given to."""

    signal_id: str
    fingerprint: str
    action: Action
    reasons: tuple[Reason, ...]
    decided_at: int
    expires_at: int | None
    strategy: str
    symbol: str
    prefix: str
    has_position: bool
    body: str
    claimed_by: str | None


@dataclass(frozen=True, slots=True)
class DecideReply:
    """Status and the decision that stands: the first one, whenever there was one."""

    status: DecideStatus
    decision: Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPosition:
    """A position as the store keeps it; ``terms``, ``track``, ``result`` and ``path`` are canonical JSON."""

    signal_id: str
    prefix: str
    strategy: str
    symbol: str
    kind: Kind
    open: bool
    following: bool
    version: int
    seq: int
    opened_at: int
    entry_ms: int
    deadline_ms: int
    step_ms: int
    terms: str
    track: str
    claimed_by: str | None
    claimed_at: int | None
    unclaimed: bool
    fills: tuple[str, ...]
    outcome: str | None
    how: str | None
    closed_at: int | None
    result: str | None
    twin: str | None
    correction: str | None
    path: str | None = None


class CommitStatus(StrEnum):
    """How a compare-and-set on a position went."""

    DONE = "DONE"
    REPLAY = "REPLAY"
    STALE = "STALE"
    MISSING = "MISSING"
    EXECUTED = "EXECUTED"
    NOT_CLAIMED = "NOT_CLAIMED"
    CLOSED = "CLOSED"


@dataclass(frozen=True, slots=True)
class VolatilityUpdate:
    """One step of an atr_pct history. ``atr_pct`` is none while the higher candle is still forming.

    ``state`` is called only by a store that outlives the process.
    """

    timeframe: str
    atr_pct: float | None
    state: Callable[[], str]


class CloseHow(StrEnum):
    """Who ended a position: the simulation, the engine's report, or the simulation for want of a report."""

    SIMULATION = "simulation"
    REPORT = "report"
    UNREPORTED = "unreported"


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseCommand:
    """The end of a position. ``result`` is the whole story as JSON; the learner takes it when ``learned``.

    ``groups`` are what its outcome is counted under besides its kind, as ``dimension|group``.
    """

    now_ms: int
    signal_id: str
    prefix: str
    strategy: str
    symbol: str
    version: int
    how: CloseHow
    outcome: str
    result: str
    track: str
    learned: bool = False
    win: bool = False
    r_micro: int = 0
    money_micro: int = 0
    report_id: str = ""
    groups: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Training:
    """Decisive outcomes so far, the boundary that asks for the next attempt, and the bundle in force.

    ``table`` is the address of the heuristic's thresholds in force, learned from ``table_count`` outcomes.
    """

    completed: int
    next_at: int
    requested: int
    attempt: int
    published_attempt: int
    bundle: str | None
    previous: str | None
    table: str | None = None
    table_count: int = 0

    @property
    def table_due(self) -> bool:
        """Whether there are enough outcomes for the heuristic's thresholds and none were ever learned."""
        return self.table is None and self.completed >= TABLE_RECORDS

    @property
    def owes(self) -> bool:
        """Whether a trainer has anything to do: told by the state, so that no kill can lose it."""
        return self.due or self.table_due

    @property
    def due(self) -> bool:
        """Whether a boundary was asked for and every attempt since is still owed."""
        return 0 < self.next_at == self.requested and self.completed >= self.next_at


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishCommand:
    """A trained bundle on its way into force. ``manifest`` is canonical JSON; ``tables`` its threshold tables,

    each as canonical JSON, joined by commas.
    """

    strategy: str
    attempt: int
    address: str
    trained_count: int
    next_at: int
    network: bool
    tables: str
    manifest: str
    now_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TableCommand:
    """The heuristic's thresholds, learned from ``count`` outcomes: canonical JSON under its content address.

    ``detail`` says why the table is empty, if it could not be learned.
    """

    strategy: str
    count: int
    address: str
    table: str
    now_ms: int
    detail: str = ""


class PublishStatus(StrEnum):
    """How a publication went."""

    DONE = "DONE"
    REPLAY = "REPLAY"
    FENCED = "FENCED"


class Store(BreakerStore, Protocol):
    """Two implementations, one battery: Redis scripts and memory."""

    def create(self, clock: ClockKind, *, now_ms: int) -> ClockKind:
        """Create the namespace with mode ON, or return the clock it was created with."""
        ...

    def exists(self) -> bool:
        """Whether the namespace has been created."""
        ...

    def clock_kind(self) -> ClockKind:
        """The clock the namespace was created with."""
        ...

    def now_ms(self) -> int:
        """The namespace's own now: server time, or the close of the last candle."""
        ...

    def advance_clock(self, now_ms: int) -> None:
        """Move a data clock forward; it never goes back, and a live clock is not touched."""
        ...

    def register(self, strategy: str, settings: str, threshold: str, *, first_training: int = 30, now_ms: int) -> None:
        """Record a profile's settings and write its founding keys."""
        ...

    def training(self, strategy: str) -> Training:
        """Where a strategy stands with its learning."""
        ...

    def begin_training(self, strategy: str, *, now_ms: int, boundary: int | None = None) -> int:
        """Begin an attempt and return its number; 0 when the boundary it is for has had its verdict meanwhile."""
        ...

    def publish(self, command: PublishCommand) -> PublishStatus:
        """Put a bundle in force, unless its attempt is over; it ends every attempt begun so far."""
        ...

    def set_table(self, command: TableCommand) -> bool:
        """Put the heuristic's thresholds in force; false if as many outcomes have taught a table before."""
        ...

    def table(self, strategy: str, address: str) -> str | None:
        """A threshold table's JSON by its address."""
        ...

    def refuse(self, strategy: str, address: str, *, code: str, detail: str, now_ms: int) -> bool:
        """Record that a worker will not serve what a pointer names; false if it was recorded before."""
        ...

    def refusals(self, strategy: str) -> Mapping[str, str]:
        """When and why something was refused, by ``address|code``."""
        ...

    def attempts(self, strategy: str) -> Mapping[str, str]:
        """What attempts without a bundle looked at, as JSON by attempt."""
        ...

    def metrics(self, strategy: str) -> Mapping[str, int]:
        """Counters of every close: kind|outcome, and by group n, wins and millionths of R."""
        ...

    def settle(
        self, strategy: str, attempt: int, *, reason: str, detail: str, next_at: int, now_ms: int, body: str = "{}"
    ) -> bool:
        """Record that an attempt gave no bundle and when to try again; false for one over. It ends all begun so far.

        ``body`` is what it looked at, as canonical JSON.
        """
        ...

    def point(self, strategy: str, address: str, *, expected: str, actor: str, now_ms: int) -> bool:
        """Move a strategy to another published bundle, if the expected one is still in force."""
        ...

    def manifests(self, strategy: str) -> Mapping[str, str]:
        """Manifests of every published bundle by address."""
        ...

    def put_bundle(self, address: str, data: bytes) -> None:
        """Keep a bundle's bytes under its content address."""
        ...

    def bundle(self, address: str) -> bytes | None:
        """A bundle's bytes."""
        ...

    def trades(self, strategy: str) -> tuple[Sequence[str], Mapping[str, str]]:
        """The learner's rows, oldest first, and the corrections laid over them; an empty one unteaches."""
        ...

    def open_positions(self, strategy: str) -> Sequence[StoredPosition]:
        """Positions of a strategy that have not closed, oldest first."""
        ...

    def timeouts(self, strategy: str) -> Sequence[str]:
        """Rows of positions that ended by their deadline, oldest first; the same corrections are laid over them."""
        ...

    def decide(self, command: DecideCommand) -> DecideReply:
        """Commit an answer and, unless it is rejected, the position that follows from it."""
        ...

    def claim(self, signal_id: str, engine: str, *, now_ms: int) -> Reason:
        """Ask for the go before an order is sent."""
        ...

    def lapse(self, signal_id: str, *, now_ms: int) -> bool:
        """Turn an execute nobody claimed in time into a phantom and free its limits."""
        ...

    def touch(
        self, position: StoredPosition, track: str, last_ts: int, *, now_ms: int, result: str | None = None
    ) -> CommitStatus:
        """Checkpoint a simulation; with ``result`` the simulation of a claimed position is over."""
        ...

    def close(self, command: CloseCommand) -> CommitStatus:
        """Close a position, count it, and hand the learner its row."""
        ...

    def fill(
        self,
        signal_id: str,
        prefix: str,
        fill_id: str,
        body: str,
        *,
        now_ms: int,
        slip_micro: int | None = None,
        expected_micro: int = 0,
    ) -> CommitStatus:
        """Record a fill of a claimed position, its adverse slip and the slip its costs allow, in millionths of R."""
        ...

    def correct(
        self,
        position: StoredPosition,
        report_id: str,
        result: str,
        *,
        learned: bool,
        now_ms: int,
        timed_out: bool = False,
    ) -> CommitStatus:
        """Record that a closed position ended otherwise; the label changes at the next fit, counters stay."""
        ...

    def record_path(self, position: StoredPosition, path: str, *, known: bool, now_ms: int) -> CommitStatus:
        """Record what the price did until the horizon, once; a path that is not ``known`` has a hole."""
        ...

    def paths(self, strategy: str) -> Sequence[str]:
        """Known paths as JSON rows, oldest horizon first."""
        ...

    def awaiting_path(self, symbol: str) -> Sequence[StoredPosition]:
        """Positions of a symbol, closed ones too, whose path is not recorded yet."""
        ...

    def set_mode(self, mode: Mode, *, actor: str, reason: str, now_ms: int, expected: int | None = None) -> Control:
        """Change the mode; with ``expected`` only if that generation is still in force."""
        ...

    def control(self) -> Control | None:
        """The mode in force; none means HALT."""
        ...

    def decision(self, signal_id: str) -> Decision | None:
        """The recorded answer to an id."""
        ...

    def position(self, signal_id: str) -> StoredPosition | None:
        """A position by its signal's id."""
        ...

    def following(self, symbol: str, after_seq: int) -> Sequence[StoredPosition]:
        """Positions of a symbol whose simulation runs, opened after a sequence number."""
        ...

    def followed_symbols(self) -> Sequence[str]:
        """Symbols with a running simulation."""
        ...

    def overdue_claims(self, now_ms: int) -> Sequence[str]:
        """Executes whose time to be claimed is over."""
        ...

    def unreported(self, now_ms: int) -> Sequence[StoredPosition]:
        """Claimed positions without a report an hour after their deadline."""
        ...

    def overdue(self, before_ms: int) -> Sequence[StoredPosition]:
        """Positions whose simulation runs although their deadline was before a moment."""
        ...

    def push_volatility(self, symbol: str, updates: Sequence[VolatilityUpdate]) -> None:
        """Append to a symbol's atr_pct histories and keep the running states they came from."""
        ...

    def volatility_states(self, symbol: str) -> Mapping[str, str]:
        """The running states by timeframe, as last kept."""
        ...

    def volatility(self, symbol: str, timeframe: str) -> Sequence[float]:
        """The symbol's last 500 atr_pct values, oldest first."""
        ...

    def prune(self, now_ms: int) -> int:
        """Forget closed positions and answers older than thirty days; returns how many."""
        ...

    def count_candle(self, symbol: str, timeframe: str, reason: Reason, ts: int) -> None:
        """Count a candle that did not simply advance its series, and remember the last one."""
        ...

    def candle_counts(self) -> Mapping[str, int]:
        """Counts by ``symbol|timeframe|reason``."""
        ...

    def dump(self) -> Mapping[str, object]:
        """The whole rebuildable state, to compare stores."""
        ...


def micro(value: float) -> int:
    """R or money as whole millionths."""
    return round(value * MICRO)
