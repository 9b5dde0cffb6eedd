"""Bundles and thresholds in force: fetched when a pointer moves, verified once. Serving imports no trainer."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from persistence.store import Store, Training
from qscore.table import ThresholdBook, ThresholdTable
from runtime.tables import book_for, read_table, untold
from scorer.bundle import Bundle, BundleFault, BundleRefused, unpack
from scorer.schema import SCHEMAS
from signals.errors import Invalid
from signals.parse import printable
from signals.profile import Profile, ThresholdPolicy

KEPT = 8
"""Bundles kept in memory: the ones in force and what they would go back to, for a few strategies."""
DETAIL_LENGTH = 256
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shelved:
    """A verified bundle with its threshold tables read, and the table its scores meet under the profile's blend."""

    bundle: Bundle
    book: ThresholdBook
    table: ThresholdTable


@dataclass(frozen=True, slots=True)
class Served:
    """What a strategy is served with: its chain of bundles, and why the first of it cannot be used, if it cannot.

    ``rules`` are the heuristic's thresholds, empty while none were learned; ``rules_fault`` says why they cannot be
    read. A score that would have met them then meets none.
    """

    champion: Shelved | None
    previous: Shelved | None
    fault: str | None
    rules: ThresholdTable
    rules_fault: str | None = None

    @property
    def has_model(self) -> bool:
        """Whether a model is in force, sound or not."""
        return self.champion is not None or self.fault is not None


TABLE_REFUSED = "TABLE_REFUSED"


class Shelf:
    """The bundles and heuristic thresholds of one namespace. A decision takes one ``Served``, never half of a swap."""

    def __init__(self, store: Store, keys: bytes | tuple[bytes, ...] | None) -> None:
        self._store = store
        self._keys = keys or ()
        self._known: dict[tuple[str, str, float, ThresholdPolicy], Shelved | str] = {}
        self._rules: dict[str, tuple[str, ThresholdPolicy, ThresholdTable | str]] = {}

    def serve(self, profile: Profile, training: Training) -> Served:
        """What is in force for a profile, by the pointer that was read with the decision."""
        rules = self._heuristics(profile, training.table)
        table, rules_fault = (untold(profile.threshold_policy), rules) if isinstance(rules, str) else (rules, None)
        if training.bundle is None:
            return Served(None, None, None, table, rules_fault)
        champion = self._bundle(profile, training.bundle)
        previous = None if training.previous is None else self._bundle(profile, training.previous)
        fault = champion if isinstance(champion, str) else None
        return Served(_sound(champion), _sound(previous), fault, table, rules_fault)

    def _heuristics(self, profile: Profile, address: str | None) -> ThresholdTable | str:
        policy = profile.threshold_policy
        if address is None:
            return untold(policy)
        held = self._rules.get(profile.name)
        if held is None or held[:2] != (address, policy):
            held = (address, policy, self._fetch_table(profile, address))
            self._rules[profile.name] = held
        return held[2]

    def _fetch_table(self, profile: Profile, address: str) -> ThresholdTable | str:
        text = self._store.table(profile.name, address)
        try:
            if text is None:
                raise ValueError("its text is not in Redis")
            return read_table(address, text).under(profile.threshold_policy)
        except (Invalid, ValueError, RecursionError) as error:
            self._refuse(profile, address, TABLE_REFUSED, str(error))
            return f"thresholds: {error}"

    def _refuse(self, profile: Profile, address: str, code: str, detail: str) -> None:
        # Once for each pointer, not once for each signal; and where an operator looks, not in a log alone.
        log.error("%s of %s is refused, %s: %s", address[:12], profile.name, code, detail)
        shown = printable(detail, DETAIL_LENGTH)
        self._store.refuse(profile.name, address, code=code, detail=shown, now_ms=self._store.now_ms())

    def _bundle(self, profile: Profile, address: str) -> Shelved | str:
        place = (profile.name, address, profile.blend, profile.threshold_policy)
        known = self._known.get(place)
        if known is None:
            known = self._verified(profile, address)
            while len(self._known) >= KEPT:
                del self._known[next(iter(self._known))]
            self._known[place] = known
        return known

    def _verified(self, profile: Profile, address: str) -> Shelved | str:
        try:
            return self._fetch(profile, address)
        except BundleRefused as refused:
            self._refuse(profile, address, refused.code, refused.detail)
            return str(refused)
        except (Invalid, ValueError) as error:
            self._refuse(profile, address, BundleFault.BOUNDS.value, str(error))
            return str(error)

    def _fetch(self, profile: Profile, address: str) -> Shelved:
        schema = SCHEMAS.get(profile.features)
        if schema is None:
            raise BundleRefused(BundleFault.SCHEMA, f"no feature schema {profile.features!r}")
        if not self._keys:
            raise BundleRefused(BundleFault.NO_KEY, "no signing key to verify it with")
        data = self._store.bundle(address)
        if data is None:
            raise BundleRefused(BundleFault.ABSENT, "its bytes are not in Redis")
        bundle = unpack(data, self._keys, strategy=profile.name, schema_hash=schema.hash)
        if bundle.address != address:
            raise BundleRefused(BundleFault.CORRUPT, "its bytes belong to another address")
        book = book_for(
            ThresholdBook.from_json(bundle.parts.thresholds),
            bundle.parts.records,
            bundle.source,
            profile.blend,
            profile.threshold_policy,
        )
        return Shelved(bundle, book, book.table(bundle.source, profile.blend))


def _sound(found: Shelved | str | None) -> Shelved | None:
    return found if isinstance(found, Shelved) else None
