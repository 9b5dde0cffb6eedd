"""Every Redis key, spelled once. A namespace other than the default one prefixes them all with its name."""

from __future__ import annotations

import re
from dataclasses import dataclass

from signals.errors import Invalid
from signals.reasons import Reason

NAMESPACE_PATTERN = re.compile(r"[a-z][a-z0-9_-]{0,31}")
FIRST_WORDS = frozenset({"ml", "phantom", "scalp_phantom", "qcal", "market", "rq", "bundle"})
STATE_PREFIXES = ("phantom", "scalp_phantom")
POSITIONS_VIEW = re.compile(r"(phantom|scalp_phantom):(active|completed)")
BUCKETS_VIEW = re.compile(r"ml:([^:]+):ev_buckets")
"""Founding names whose values are put together on request."""
SINKS = ("postgres",)
"""Consumer groups of the outbox whose entries must not be trimmed before they have read them."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys of one namespace. The default namespace is empty: its keys carry the founding names as they stand."""

    namespace: str = ""

    def __post_init__(self) -> None:
        if self.namespace and NAMESPACE_PATTERN.fullmatch(self.namespace) is None:
            raise Invalid(Reason.FIELD_FORMAT, "namespace", "a-z, then a-z 0-9 _ -, at most 32")
        if self.namespace in FIRST_WORDS:
            raise Invalid(Reason.FIELD_FORMAT, "namespace", "the default namespace's keys begin with this word")

    def _key(self, tail: str) -> str:
        return f"{self.namespace}:{tail}" if self.namespace else tail

    def family(self, word: str) -> str:
        """Pattern of all keys of this namespace that begin with one of ``FIRST_WORDS``."""
        return self._key(f"{word}:*")

    # Whole namespace.
    def meta(self) -> str:
        """HASH: schema, clock, created_at, seq of the last fact, epoch of the last rebuild."""
        return self._key("ml:meta")

    def control(self) -> str:
        """HASH: mode, gen, by, reason, at. Missing means HALT."""
        return self._key("ml:ctl")

    def ledger(self) -> str:
        """ZSET signal id -> decided_at: what retention walks."""
        return self._key("ml:ledger")

    def signal(self, signal_id: str) -> str:
        """HASH: the answer to a signal id, for ever the first one."""
        return self._key(f"ml:sig:{signal_id}")

    def bar(self, bar: str) -> str:
        """STRING: the signal that answered for this strategy, symbol, side, timeframe, candle and tag."""
        return self._key(f"ml:bar:{bar}")

    def executed(self) -> str:
        """ZSET position -> seq: open executed positions; its size is the limit's counter."""
        return self._key("ml:executed")

    def executed_symbols(self) -> str:
        """HASH symbol -> open executed positions."""
        return self._key("ml:executed:symbols")

    def executes(self) -> str:
        """ZSET signal id -> decided_at: executes of the last minute."""
        return self._key("ml:executes")

    def claims(self) -> str:
        """ZSET signal id -> expires_at: executes not claimed yet."""
        return self._key("ml:claims")

    def unreported(self) -> str:
        """ZSET position -> moment after which a claimed position without a report is closed by simulation."""
        return self._key("ml:unreported")

    def claimed(self) -> str:
        """ZSET signal id -> claimed_at: orders of the last second."""
        return self._key("ml:claimed")

    def breakers(self) -> str:
        """HASH: thresholds, what the breakers count, and the ones that are tripped. Missing means all are."""
        return self._key("ml:breakers")

    def breaker_history(self) -> str:
        """LIST: the last hundred times a breaker tripped, cleared or was reset, newest first."""
        return self._key("ml:breakers:history")

    def slips(self) -> str:
        """LIST of ``slip:expected`` in millionths of R: the last twenty fills, newest first."""
        return self._key("ml:breakers:slips")

    def day(self, day: str) -> str:
        """HASH: realised executed results of a UTC day, in millionths of R and of money."""
        return self._key(f"ml:day:{day}")

    def due(self) -> str:
        """ZSET position -> deadline: simulations that still run."""
        return self._key("ml:due")

    def follow(self, symbol: str) -> str:
        """ZSET position -> seq: positions of a symbol whose simulation still runs."""
        return self._key(f"ml:follow:{symbol}")

    def awaited(self, symbol: str) -> str:
        """ZSET position -> seq: positions of a symbol the price's path after whose entry is not recorded yet."""
        return self._key(f"ml:awaited:{symbol}")

    def outbox(self) -> str:
        """STREAM of facts on their way to the sinks."""
        return self._key("ml:outbox")

    def dead(self) -> str:
        """STREAM of facts a sink cannot take."""
        return self._key("ml:outbox:dead")

    def sink(self, name: str) -> str:
        """HASH: how far a sink of the outbox is behind, for people to read."""
        return self._key(f"ml:outbox:{name}")

    # One strategy, under the founding names.
    def completed_trades(self, strategy: str) -> str:
        """STRING: decisive outcomes the learner took."""
        return self._key(f"ml:{strategy}:completed_trades")

    def closed_total(self, strategy: str) -> str:
        """STRING: every close, timeouts and voids included."""
        return self._key(f"ml:{strategy}:closed_total")

    def outcomes(self, strategy: str) -> str:
        """HASH outcome -> closes."""
        return self._key(f"ml:{strategy}:outcomes")

    def trades(self, strategy: str) -> str:
        """LIST of JSON rows the learner takes, oldest first."""
        return self._key(f"ml:{strategy}:trades")

    def timeouts(self, strategy: str) -> str:
        """LIST of JSON rows of positions that ended by their deadline, oldest first: marked, never wins or losses."""
        return self._key(f"ml:{strategy}:timeouts")

    def paths(self, strategy: str) -> str:
        """LIST of JSON rows: the price's path after each entry, in the order their horizons passed."""
        return self._key(f"ml:{strategy}:paths")

    def corrections(self, strategy: str) -> str:
        """HASH position -> corrected JSON row, laid over trades and timeouts at the next fit."""
        return self._key(f"ml:{strategy}:corrections")

    def profile(self, strategy: str) -> str:
        """HASH: the profile's settings as last registered."""
        return self._key(f"ml:{strategy}:profile")

    def scalar(self, strategy: str, name: str) -> str:
        """STRING under a founding name: threshold, nn_enabled, last_train_count, last_train_ts."""
        return self._key(f"ml:{strategy}:{name}")

    def training(self, strategy: str) -> str:
        """HASH: next boundary, the one last requested, attempts begun, bundle in force, the heuristic's table."""
        return self._key(f"ml:{strategy}:training")

    def bundles(self, strategy: str) -> str:
        """HASH address -> manifest of every published bundle."""
        return self._key(f"ml:{strategy}:bundles")

    def tables(self, strategy: str) -> str:
        """HASH address -> threshold tables as JSON: of every published bundle, and the heuristic's last two."""
        return self._key(f"ml:{strategy}:tables")

    def attempts(self, strategy: str) -> str:
        """HASH attempt -> what an attempt without a bundle looked at: reason, feature importance, patterns."""
        return self._key(f"ml:{strategy}:attempts")

    def refusals(self, strategy: str) -> str:
        """HASH address|code -> when and why a worker refused to serve it, the first time."""
        return self._key(f"ml:{strategy}:refusals")

    def metrics(self, strategy: str) -> str:
        """HASH: whole counters of every close: kind|outcome, and by group n, wins and millionths of R."""
        return self._key(f"ml:{strategy}:metrics")

    def qcal(self, strategy: str, name: str) -> str:
        """STRING: thr (bucket table as JSON), last_train_count."""
        return self._key(f"qcal:{strategy}:{name}")

    def win_rate(self, strategy: str) -> str:
        """LIST of 1 and 0, newest first, at most 200."""
        return self._key(f"phantom:wr:{strategy}")

    # One state prefix.
    def position(self, prefix: str, signal_id: str) -> str:
        """HASH: terms, track, status and version of a position."""
        return self._key(f"{prefix}:pos:{signal_id}")

    def member(self, prefix: str, signal_id: str) -> str:
        """How a position is named inside sorted sets: its key without the namespace."""
        return f"{prefix}:pos:{signal_id}"

    def by_member(self, member: str) -> str:
        """The position key of a member."""
        return self._key(member)

    def open(self, prefix: str) -> str:
        """ZSET position -> seq: open positions."""
        return self._key(f"{prefix}:open")

    def closed(self, prefix: str) -> str:
        """ZSET position -> closed_at: kept 30 days."""
        return self._key(f"{prefix}:closed")

    def blocked(self, prefix: str, day: str) -> str:
        """HASH reason -> signals refused that UTC day."""
        return self._key(f"{prefix}:blocked:{day}")

    # Copies of what Postgres keeps whole.
    def bundle_bytes(self, address: str) -> str:
        """STRING: a bundle's bytes, immutable under its content address."""
        return self._key(f"bundle:{address}")

    # What the market and the work itself supply again after a loss: never part of a rebuild.
    def market_seen(self) -> str:
        """HASH ``symbol|candle length`` -> close of the last candle followed; ``watched`` -> when we last looked."""
        return self._key("market:seen")

    def latencies(self) -> str:
        """LIST: how long the last hundred decisions took, in microseconds, newest first."""
        return self._key("market:latencies")

    def market_clock(self) -> str:
        """STRING: close time of the last candle, the clock of a data namespace."""
        return self._key("market:clock")

    def candles(self) -> str:
        """STREAM of candles for the follower."""
        return self._key("market:candles")

    def volatility(self, symbol: str, timeframe: str) -> str:
        """LIST of the symbol's last atr_pct values, oldest first."""
        return self._key(f"market:atr:{symbol}:{timeframe}")

    def volatility_state(self, symbol: str) -> str:
        """HASH timeframe -> running state of the atr_pct history."""
        return self._key(f"market:atr_state:{symbol}")

    def follower(self) -> str:
        """HASH: the follower's counters and cursor, for people to read."""
        return self._key("market:follower")

    def owns(self, key: str) -> bool:
        """Whether a key belongs to the rebuildable state of this namespace."""
        if self.namespace:
            if not key.startswith(f"{self.namespace}:"):
                return False
            key = key[len(self.namespace) + 1 :]
        heads = ("ml:", "phantom:", "scalp_phantom:", "qcal:")
        return key.startswith(heads) and not key.startswith("ml:outbox")
