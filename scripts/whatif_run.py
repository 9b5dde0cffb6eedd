"""``penumbra whatif``: other gates on the recorded signals, or on those of a replay."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
from rich.console import Console

from lab.replay import REPLAY_KEY, UNLIMITED, Learner, LearnerFor, Replay
from lab.whatif import (
    COSTS_BPS,
    DEFAULT_GRID,
    VERDICT_BPS,
    AlwaysTake,
    Answered,
    Cases,
    Current,
    HeuristicAlone,
    LearnedTable,
    OtherBundle,
    OtherProfile,
    Policy,
    StaticThreshold,
    WhatIf,
    read_facts,
    what_if,
)
from lab.whatif_json import as_json
from lab.whatif_page import write_whatif
from lab.whatif_sequence import replay_ledger, under_limits
from lab.whatif_wish import Limited, Wishes, WishStore
from lab.whatif_words import print_whatif
from market.reference_strategies import OpenGuard, StrategySettings
from persistence.memory_store import MemoryStore
from persistence.store import Fact
from runtime.follow import VOLATILITY_TIMEFRAMES
from runtime.settings import Settings
from runtime.wiring import Wiring
from scorer.bundle import Bundle, unpack
from scorer.schema import SCHEMAS
from scripts.learning import PAGE_WIDTH
from scripts.sources import Series, profile_for, read_series, strategy_settings, strategy_signals
from signals.breaker import Thresholds
from signals.errors import Permanent
from signals.profile import Profile
from signals.signal import Signal

NEWEST = "newest"
BundleBytes = Callable[[str], bytes | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIfOptions:
    """What the command line said."""

    thresholds: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    bundles: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    strategy: str | None = None
    candles: tuple[Path, ...] = ()
    timeframe: str | None = None
    tracking: str | None = None
    learn: bool = False
    limits: bool = False
    costs_bps: float = VERDICT_BPS
    seed: int = 1
    html: Path | None = None
    as_json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Recorded signals and all that is needed to judge them again."""

    words: str
    facts: Sequence[Fact]
    cases: Cases
    profile: Profile
    profiles: Mapping[str, Profile]
    bundle_bytes: BundleBytes
    addresses: tuple[str, ...]
    keys: tuple[bytes, ...]
    scene: Scene | None = None

    def bundle(self, beginning: str) -> Bundle:
        """A bundle by the beginning of its address, or the ``newest``."""
        if beginning == NEWEST and self.addresses:
            beginning = self.addresses[-1]
        known = [address for address in dict.fromkeys(self.addresses) if address.startswith(beginning)]
        if not self.addresses:
            raise Permanent(f"{self.profile.name} has published no bundle")
        if len(known) != 1:
            raise Permanent(f"{len(known)} bundles of {self.profile.name} begin with {beginning!r}")
        found = self.fetch(known[0])
        if found is None:
            raise Permanent(f"the bytes of {known[0]} are gone")
        return found

    def fetch(self, address: str) -> Bundle | None:
        """A bundle by its address, verified; none when its bytes are gone."""
        data = self.bundle_bytes(address)
        if data is None or not self.keys:
            return None
        return unpack(data, self.keys, strategy=self.profile.name, schema_hash=SCHEMAS[self.profile.features].hash)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Candles and signals that can be played again with another policy in the store."""

    profile: Profile
    series: Series
    signals: Sequence[Signal]
    settings: StrategySettings
    breakers: Thresholds
    learner_for: LearnerFor | None = None

    def play(self, store: MemoryStore, *, limits: bool, learner_for: LearnerFor | None = None) -> None:
        """One replay through the live code; what it did is in the store."""
        guard = OpenGuard()
        Replay(
            self.profile,
            limits=limits,
            breakers=self.breakers,
            admit=guard.admit if self.settings.one_open else lambda _signal: True,
            on_end=guard.closed,
            volatility_timeframes=tuple(name for name in VOLATILITY_TIMEFRAMES if name == self.settings.timeframe),
            learner_for=learner_for,
            store=store,
        ).run(self.series.tracking, self.signals, finer=self.series.finer)


def grid_of(words: Iterable[str]) -> tuple[list[float], list[float]]:
    """Single thresholds, and the grid of all ranges like ``40:95:5`` (both ends included)."""
    single: list[float] = []
    grid: list[float] = []
    for word in words:
        try:
            parts = [float(part) for part in word.split(":")]
        except ValueError:
            parts = []
        if len(parts) == 1 and 0.0 <= parts[0] <= 100.0:
            single.append(parts[0])
        elif len(parts) == 3 and 0.0 <= parts[0] <= parts[1] <= 100.0 and parts[2] > 0.0:
            steps = int((parts[1] - parts[0]) / parts[2] + 1e-9)
            grid += [round(parts[0] + step * parts[2], 6) for step in range(steps + 1)]
        else:
            raise Permanent(f"{word!r} is neither a threshold in [0, 100] nor a range like 40:95:5")
    return list(dict.fromkeys(single)), sorted(set(grid))


def run_whatif(options: WhatIfOptions, wire: Callable[[], Wiring]) -> WhatIf:
    """Ask, print, and write the page; ``wire`` connects to the record when that is the source."""
    terminal = Console(stderr=options.as_json)
    console = terminal if terminal.is_terminal else Console(stderr=options.as_json, width=PAGE_WIDTH)
    source = _replayed(options) if options.candles else _recorded(options, wire())
    single, grid = grid_of(options.thresholds)
    policies = _policies(options, source, single)
    limits = _limits(source, (Current(), *policies)) if options.limits else None
    found = what_if(
        source.cases,
        policies,
        grid=grid or DEFAULT_GRID,
        costs_bps=COSTS_BPS,
        verdict_bps=options.costs_bps,
        seed=options.seed,
        ledger=replay_ledger(source.facts, source.profiles),
        limits=limits,
    )
    if options.html is not None:
        options.html.parent.mkdir(parents=True, exist_ok=True)
        write_whatif(found, options.html, source.words)
    if options.as_json:
        about: dict[str, object] = {"bundles": list(dict.fromkeys(source.addresses))}
        about |= {"kind": "candles" if options.candles else "record", "detail": source.words}
        click.echo(json.dumps(as_json(found, about), indent=2, allow_nan=False))
    else:
        print_whatif(found, console)
        if options.html is not None:
            console.print(f"page {options.html}", highlight=False)
    return found


def _policies(options: WhatIfOptions, source: Source, single: Sequence[float]) -> list[Policy]:
    profile = source.profile
    found: list[Policy] = [StaticThreshold(value) for value in single]
    settings = Settings.load()
    for name in options.profiles:
        other = settings.profile(name)
        if other.features != profile.features:
            raise Permanent(f"profile {name} reads other features ({other.features}) than {profile.name} sends")
        found.append(OtherProfile(other, source.fetch))
    found += [OtherBundle(source.bundle(beginning), profile) for beginning in options.bundles]
    found += [LearnedTable(source.bundle(beginning), profile) for beginning in options.tables]
    return [*found, Answered(), AlwaysTake(), HeuristicAlone(source.profiles)]


def _recorded(options: WhatIfOptions, wiring: Wiring) -> Source:
    """The live record, of one strategy."""
    from runtime.signing import signing_keys  # noqa: PLC0415 - asked for where a bundle may have to be verified

    facts = list(wiring.record.facts())
    cases = read_facts(facts)
    known = sorted({case.trade.strategy for case in cases.rows})
    if not known:
        raise Permanent("the record holds no signal that was decided and has ended")
    if options.strategy is None and len(known) > 1:
        raise Permanent(f"the record holds several strategies, name one: {', '.join(known)}")
    strategy = options.strategy or known[0]
    try:
        keys = signing_keys(wiring.settings)
    except Permanent:
        # Without a key no bundle can be read, and nothing else needs one.
        keys = ()
    return Source(
        words=f"record of {wiring.namespace or 'the default namespace'}, {strategy}",
        facts=facts,
        cases=cases.of_strategy(strategy),
        profile=wiring.settings.profile(strategy),
        profiles=wiring.profiles,
        bundle_bytes=wiring.record.bundle,
        addresses=tuple(
            fact.fields["address"] for fact in facts if fact.kind == "published" and fact.fields["strategy"] == strategy
        ),
        keys=keys,
    )


def _replayed(options: WhatIfOptions) -> Source:
    """A replay of a reference strategy: the gate alone, so that every signal has its answer and its outcome."""
    strategy = options.strategy or "trend"
    loaded = Settings.load()
    series = read_series(options.candles, options.tracking)
    settings = strategy_settings(strategy, options.timeframe)
    profile = profile_for(loaded.profile(strategy), series)
    signals = strategy_signals(strategy, series, settings)
    scene = Scene(
        profile=profile,
        series=series,
        signals=signals,
        settings=settings,
        breakers=loaded.breakers.built(),
        learner_for=_trainer if options.learn else None,
    )
    store = MemoryStore("replay")
    scene.play(store, limits=False, learner_for=scene.learner_for)
    facts = tuple(store.facts)
    return Source(
        words=f"replay of {strategy} {settings.timeframe}, {len(series.symbols)} symbols",
        facts=facts,
        cases=read_facts(facts),
        profile=profile,
        # The record was written without limits; what it is played again with must not have them either.
        profiles={strategy: replace(profile, limits=UNLIMITED)},
        bundle_bytes=store.bundle,
        addresses=tuple(fact.fields["address"] for fact in facts if fact.kind == "published"),
        keys=(REPLAY_KEY,),
        scene=scene,
    )


def _trainer(store: MemoryStore, profiles: Mapping[str, Profile], key: bytes) -> Learner:
    from runtime.train import Trainer  # noqa: PLC0415 - only a replay that learns needs scikit-learn

    return Trainer(store, profiles, key)


def _limits(source: Source, policies: Sequence[Policy]) -> dict[str, Limited]:
    """Every policy's signals that limits and breakers let through.

    Candles are played again through the live code with the policy in the store; a record, whose candles are not at
    hand, with the endings it holds.
    """
    found: dict[str, Limited] = {}
    for policy in policies:
        if isinstance(policy, Answered):
            continue
        wishes: Wishes = {}
        if not isinstance(policy, Current):
            accepted = policy.choose(source.cases).accepted.tolist()
            wishes = {case.trade.signal_id: wish for case, wish in zip(source.cases.rows, accepted, strict=True)}
        if source.scene is None:
            found[policy.name] = under_limits(source.facts, source.profiles, wishes)
        else:
            store = WishStore(wishes)
            learner_for = source.scene.learner_for if isinstance(policy, Current) else None
            source.scene.play(store, limits=True, learner_for=learner_for)
            found[policy.name] = store.limited()
    return found
