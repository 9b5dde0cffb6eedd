"""From an outcome to a worker that decides with what was learned from it, on real processes and real servers.

The stages are read from the facts, whose times are all the one Redis clock's: no two clocks are compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from learning.fit import Candidate, fit_candidate
from persistence.store import Fact
from runtime import embedded
from runtime.clock import pause, stopwatch
from runtime.settings import Settings
from runtime.train import SEED
from runtime.wiring import Wiring
from scorer.schema import SCALP
from scripts.bench import Row, percentile
from scripts.bench_memory import peak_mb
from scripts.bench_world import APART_MS, STRATEGY, Play, plays
from scripts.processes import Processes
from signals.errors import Permanent, Transient
from signals.reasons import Reason
from worker.client import Client

NAMESPACE = "bench"
ENGINE = "bench"
MOST_PLAYS = 20_000
PATIENCE_S = 600.0
ANSWER_S = 60.0
"""The first answer waits until the worker is up, which a busy machine can make long."""
PACE_S = 0.01
"""Between two questions, so that asking does not take the trainer's processor away."""
KEY = "only for this benchmark, and gone with it"

QUIET = {"stale_periods": 0, "orders_per_second": 0, "drawdown_r": 0, "losing_streak": 0, "latency_ms": 0}
"""No breaker in the way: outcomes are the engine's, without candles, one after the other as fast as they go."""


@dataclass(frozen=True, slots=True)
class Lap:
    """One boundary: seconds from its outcome's commit to each stage, and what a fit alone takes of them."""

    size: int
    total_s: float
    fit_s: float
    seen_s: float
    published_s: float
    decided_s: float
    agree: bool

    @property
    def overhead_s(self) -> float:
        """What the loop adds to the fit."""
        return self.total_s - self.fit_s


def measure(folder: Path, *, boundary: int, rounds: int) -> list[Row]:
    """Play up to the boundary and past it, round by round, with worker, relay and trainer as processes."""
    servers = embedded.start(folder / "data")
    try:
        settings, environment = _settings(folder, servers, boundary)
        wiring = Wiring(settings)
        try:
            wiring.ensure_namespace()
            with Processes(folder / "logs", environment) as processes:
                pids = {name: processes.start(name, [name]) for name in ("worker", "relay", "train")}
                engine = _Engine(wiring, processes)
                found = [engine.round() for _ in range(rounds)]
                memory = {name: peak_mb(pid) for name, pid in pids.items()}
                engine.drain()
            facts = list(wiring.record.facts())
            laps = [_lap(asked, facts) for asked in found]
        finally:
            wiring.close()
    finally:
        embedded.stop(folder / "data")
    return _rows(laps, memory)


def _settings(folder: Path, servers: embedded.EmbeddedServers, boundary: int) -> tuple[Settings, dict[str, str]]:
    """The same settings for us and for the children, whatever else is set on this machine."""
    profile = {
        "first_training_at": str(boundary),
        "retrain_every": "50",
        "run_mode": "observe",
        "max_age_ms": str(2 * MOST_PLAYS * APART_MS),
        "timeout_hours": "10000",
    }
    # The evidence would wait for ten days of outcomes; what is timed here is the way of one outcome to a new bundle.
    method = {"thresholds": "spec", "calibration": "spec", "ensemble": "spec"}
    limits = dict.fromkeys(
        ("open_positions", "per_symbol", "executes_per_minute", "daily_loss_r", "daily_loss_money"), "0"
    )
    given: dict[str, Any] = {
        "data_dir": str(folder / "data"),
        "namespace": NAMESPACE,
        "signing_key": KEY,
        "redis": {"url": servers.redis_url},
        "postgres": {"url": servers.postgres_dsn},
        "breakers": QUIET,
        "profiles": {STRATEGY: {**profile, "method": method, "limits": limits}},
    }
    head = f"PENUMBRA_PROFILES__{STRATEGY.upper()}__"
    environment = {
        "PENUMBRA_DATA_DIR": given["data_dir"],
        "PENUMBRA_NAMESPACE": NAMESPACE,
        "PENUMBRA_SIGNING_KEY": KEY,
        "PENUMBRA_REDIS_URL": servers.redis_url,
        "PENUMBRA_POSTGRES_URL": servers.postgres_dsn,
        "PENUMBRA_LOG__LEVEL": "info",
        **{f"PENUMBRA_BREAKERS__{name.upper()}": str(value) for name, value in QUIET.items()},
        **{head + name.upper(): value for name, value in profile.items()},
        **{f"{head}METHOD__{name.upper()}": value for name, value in method.items()},
        **{f"{head}LIMITS__{name.upper()}": value for name, value in limits.items()},
    }
    return Settings.load(**given), environment


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the engine saw of one round, by its own stopwatch."""

    size: int
    closed: str
    answered: str
    bundle: str
    total_s: float
    fit_s: float
    data_hash: str


class _Engine:
    """A strategy engine: asks, claims, closes, and asks on until an answer comes from a bundle it has not seen."""

    def __init__(self, wiring: Wiring, processes: Processes) -> None:
        self._wiring = wiring
        self._processes = processes
        self._client = Client(
            wiring.redis_url, namespace=NAMESPACE, queue=wiring.settings.queue.name, engine=ENGINE,
            profiles=wiring.profiles,
        )  # fmt: skip
        self._plays: Iterator[Play] = plays(wiring.store.now_ms() - MOST_PLAYS * APART_MS, seed=2)

    def round(self) -> _Asked:
        """Bring the outcomes up to one before the boundary, then close the last and ask."""
        store = self._wiring.store
        training = store.training(STRATEGY)
        for _ in range(training.next_at - training.completed - 1):
            self._close(self._claimed())
        last = self._claimed()
        started = stopwatch()
        self._close(last)
        while True:
            play = next(self._plays)
            answer = self._client.ask(play.payload, ANSWER_S)
            if answer is not None and answer["bundle"] not in (None, training.bundle):
                total_s = stopwatch() - started
                # At once, so that both meet the same machine; no outcome has come since the trainer read them.
                fit_s, data_hash = self._fit_alone()
                return _Asked(training.next_at, last.id, play.id, str(answer["bundle"]), total_s, fit_s, data_hash)
            self._processes.check()
            if not store.training(STRATEGY).due and store.training(STRATEGY).bundle == training.bundle:
                raise Permanent("the attempt gave no bundle; the trainer's log says why")
            if stopwatch() - started > PATIENCE_S:
                raise Transient("no answer with a new bundle")
            pause(PACE_S)

    def _fit_alone(self) -> tuple[float, str]:
        """Seconds of the same fit once more with nothing around it, and what it was trained on."""
        examples = self._wiring.trainer().examples(STRATEGY)
        started = stopwatch()
        candidate = fit_candidate(examples, SCALP, seed=SEED)
        fit_s = stopwatch() - started
        if not isinstance(candidate, Candidate):
            raise Permanent(f"{candidate.reason}: {candidate.detail}")
        return fit_s, candidate.data_hash

    def _claimed(self) -> Play:
        """A decision of the worker, claimed."""
        play = next(self._plays)
        answer = self._client.ask(play.payload, ANSWER_S)
        if answer is None or self._client.claim(play.id) is not Reason.CLAIM_GO:
            raise Transient(f"{play.id}: {answer}")
        return play

    def _close(self, play: Play) -> None:
        reply = self._client.report_close(**play.close)  # type: ignore[arg-type]
        if reply.reason is not Reason.REPORT_ACCEPTED:
            raise Permanent(f"{play.id}: {reply}")

    def drain(self) -> None:
        """Wait until every fact is in the record."""
        started = stopwatch()
        while self._wiring.client.xlen(self._wiring.store.keys.outbox()) > 0:
            self._processes.check()
            if stopwatch() - started > PATIENCE_S:
                raise Transient("the relay does not keep up")
            pause(PACE_S)


def _lap(asked: _Asked, facts: list[Fact]) -> Lap:
    """The stages of one round."""
    known: Mapping[str, Fact] = {fact.id: fact for fact in facts}
    closed, decided = known[f"closed:{asked.closed}"], known[f"decision:{asked.answered}"]
    published = [fact for fact in facts if fact.kind == "published" and fact.fields["address"] == asked.bundle]
    requests = [fact for fact in facts if fact.kind == "retrain" and fact.fields["boundary"] == str(asked.size)]
    seen = known[f"training:{STRATEGY}:{published[0].fields['attempt']}"]
    same = json.loads(published[0].body)["data"] == asked.data_hash
    return Lap(
        size=asked.size,
        total_s=asked.total_s,
        fit_s=asked.fit_s,
        seen_s=(seen.at_ms - closed.at_ms) / 1e3,
        published_s=(published[0].at_ms - seen.at_ms) / 1e3,
        decided_s=(decided.at_ms - published[0].at_ms) / 1e3,
        agree=same and len(published) == 1 and len(requests) == 1,
    )


def _rows(laps: list[Lap], memory: Mapping[str, float]) -> list[Row]:
    agree, size = all(lap.agree for lap in laps), laps[-1].size
    fits = [lap.fit_s for lap in laps]
    stages = (
        ("outcome to first decision with it, against the fit alone", [lap.total_s for lap in laps], True),
        ("of that, beyond the fit", [lap.overhead_s for lap in laps], False),
        ("outcome to its request seen", [lap.seen_s for lap in laps], False),
        ("request seen to published, against the fit alone", [lap.published_s for lap in laps], True),
        ("published to decided with", [lap.decided_s for lap in laps], False),
    )
    rows = [
        Row(
            work=f"{work}, {name}", size=size, ours=percentile(taken, share), unit="s", agree=agree,
            baseline=percentile(fits, share) if beside else None,
        )
        for work, taken, beside in stages
        for name, share in (("p50", 50.0), ("max", 100.0))
    ]  # fmt: skip
    return rows + [
        Row(work=f"peak memory of the {name} process", size=size, ours=held, unit="MB", agree=agree)
        for name, held in memory.items()
        if held > 0.0
    ]
