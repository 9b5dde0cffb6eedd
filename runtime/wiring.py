"""From settings to running parts: the only place that decides which server everything talks to."""

from __future__ import annotations

import logging
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING

import redis

from persistence.candle_feed import CandleFeed
from persistence.connection import PATIENT_TIMEOUT_S, connect
from persistence.record import Record
from persistence.redis_store import RedisStore
from persistence.store import ClockKind, StateMissing
from runtime import embedded
from runtime.follow import Follower
from runtime.reconcile import reconcile_or_halt
from runtime.secrecy import is_local
from runtime.service import Service
from runtime.settings import Settings
from runtime.shelf import Shelf
from runtime.signing import check_secrets, signing_key, signing_keys
from signals.errors import Permanent
from signals.parse import canonical_json
from signals.profile import Profile

QUEUE_TIMEOUT_S = 20.0
"""A worker waits five seconds for a job in one command; a server that hangs for ten has not gone."""
FEED_BLOCK_S = 0.5
log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from runtime.train import Trainer


class Wiring:
    """The parts of one namespace, made when they are first asked for."""

    def __init__(self, settings: Settings, *, namespace: str | None = None) -> None:
        self.settings = settings
        self.namespace = settings.namespace if namespace is None else namespace
        self.profiles: dict[str, Profile] = settings.profiles_built()

    @cached_property
    def redis_url(self) -> str:
        """Where the live state answers: the user's own server, or a private one that is started or found running."""
        settings = self.settings
        if settings.redis.url is not None:
            return settings.redis.url
        return embedded.start_valkey(settings.data_dir, fsync=settings.embedded.fsync).url

    @cached_property
    def postgres_dsn(self) -> str:
        """Where the record answers. Apart from Redis, so that a halt needs no Postgres."""
        if self.settings.postgres.url is not None:
            return self.settings.postgres.url.get_secret_value()
        return embedded.start_postgres(self.settings.data_dir).url

    @cached_property
    def client(self) -> redis.Redis:
        """Our Redis connection: what does not answer at once is an error, and an engine that waits hears of it."""
        return connect(self.redis_url, timeout_s=self.timeout_s)

    @property
    def timeout_s(self) -> float:
        """How long one command may take."""
        return self.settings.redis.timeout_ms / 1000

    @cached_property
    def patient_client(self) -> redis.Redis:
        """A connection for what nobody waits for by the millisecond: training, and an operator's rebuild."""
        return connect(self.redis_url, timeout_s=max(PATIENT_TIMEOUT_S, self.timeout_s))

    def queue_connection(self) -> redis.Redis:
        """A connection for RQ: it blocks on the queue, so its reads may take longer than ours."""
        return connect(self.redis_url, timeout_s=QUEUE_TIMEOUT_S)

    @cached_property
    def store(self) -> RedisStore:
        """The live state."""
        return RedisStore(self.client, self.namespace)

    @cached_property
    def patient_store(self) -> RedisStore:
        """The live state, for what takes longer than a command of a signal's path may."""
        return RedisStore(self.patient_client, self.namespace)

    @cached_property
    def record(self) -> Record:
        """The record of facts."""
        return Record(self.postgres_dsn, self.namespace)

    @cached_property
    def service(self) -> Service:
        """The use cases."""
        shelf = Shelf(self.store, self._serving_keys())
        return Service(self.store, self.profiles, shelf=shelf, reset=self._reconnect)

    def _reconnect(self) -> None:
        self.client.connection_pool.disconnect(inuse_connections=False)

    def _serving_keys(self) -> tuple[bytes, ...]:
        """The keys bundles are verified with; without one the gate still answers, and a model in force is at fault."""
        try:
            return signing_keys(self.settings)
        except Permanent as error:
            log.warning("no bundle will be served: %s", error)
            return ()

    def require_keys(self) -> None:
        """Refuse to serve bundles from servers that others reach without a key to verify them with."""
        settings = self.settings
        if any(not is_local(url) for url in (settings.redis.url, settings.postgres_url()) if url is not None):
            signing_keys(settings)

    def close(self) -> None:
        """Give back the connections that were opened."""
        made = vars(self)
        if "record" in made:
            self.record.close()
        for name in ("client", "patient_client"):
            if name in made:
                made[name].close()

    def feed(self) -> CandleFeed:
        """The candle stream; a read waits in the server for a while, so its connection waits longer."""
        waiting = connect(self.redis_url, timeout_s=self.timeout_s + FEED_BLOCK_S)
        return CandleFeed(waiting, self.store.keys)

    def follower(self) -> Follower:
        """A follower with an empty book."""
        follow = self.settings.follow
        return Follower(
            self.store, self.profiles, window=follow.reorder_window, checkpoint_every=follow.checkpoint_every
        )

    def trainer(self) -> Trainer:
        """A trainer of this namespace; only a training process asks for it, and only then scikit-learn is loaded."""
        from runtime.train import Trainer

        return Trainer(self.patient_store, self.profiles, signing_key(self.settings), keep=self.record.put_bundle)

    def reconcile_or_halt(self) -> None:
        """See that live state and record agree; a namespace where they do not goes into HALT."""
        reconcile_or_halt(self.patient_store, self.record)

    def ensure_namespace(self, clock: ClockKind = ClockKind.LIVE) -> None:
        """Create the namespace where there has never been one, and register its profiles.

        An empty Redis beside a record with facts is a loss, not a beginning: it stays in HALT until it is rebuilt.
        Here and not earlier secrets are judged: whoever wants to halt must not be told to choose a better password.
        """
        check_secrets(self.settings)
        self.record.migrate()
        self.store.check_server()
        if not self.store.exists():
            if not self.record.is_empty():
                raise StateMissing("Redis has lost this namespace but Postgres has its record: run `penumbra rebuild`")
            now_ms = self.store.server_ms() if clock is ClockKind.LIVE else 0
            self.store.create(clock, now_ms=now_ms)
        now_ms = self.store.now_ms()
        if not self.store.configure_breakers(self.settings.breakers.built(), now_ms=now_ms):
            log.error("the state of the breakers is missing: nothing executes until `penumbra rebuild` has restored it")
        for profile in self.profiles.values():
            settings = canonical_json(asdict(profile))
            self.store.register(
                profile.name,
                settings,
                f"{profile.static_threshold:g}",
                first_training=profile.first_training_at,
                now_ms=now_ms,
            )
