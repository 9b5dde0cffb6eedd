"""Bundles in force: fetched when a pointer moves, verified once, kept by address. Serving imports no trainer."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from persistence.store import Store, Training
from qscore.table import ThresholdBook
from scorer.bundle import Bundle, BundleRefused, unpack
from scorer.schema import SCHEMAS
from signals.errors import Invalid
from signals.profile import Profile

KEPT = 8
"""Bundles kept in memory: the ones in force and what they would go back to, for a few strategies."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shelved:
    """A verified bundle with its threshold tables read."""

    bundle: Bundle
    book: ThresholdBook


@dataclass(frozen=True, slots=True)
class Served:
    """What a strategy is served with: its chain of bundles, and why the first of it cannot be used, if it cannot."""

    champion: Shelved | None
    previous: Shelved | None
    fault: str | None

    @property
    def has_model(self) -> bool:
        """Whether a model is in force, sound or not."""
        return self.champion is not None or self.fault is not None


NOTHING = Served(None, None, None)


class Shelf:
    """The bundles of one namespace. One decision takes one ``Served`` and never sees half of a swap."""

    def __init__(self, store: Store, keys: bytes | tuple[bytes, ...] | None) -> None:
        self._store = store
        self._keys = keys or ()
        self._known: dict[tuple[str, str], Shelved | str] = {}

    def serve(self, profile: Profile, training: Training) -> Served:
        """What is in force for a profile, by the pointer that was read with the decision."""
        if training.bundle is None:
            return NOTHING
        champion = self._bundle(profile, training.bundle)
        previous = None if training.previous is None else self._bundle(profile, training.previous)
        fault = champion if isinstance(champion, str) else None
        return Served(_sound(champion), _sound(previous), fault)

    def _bundle(self, profile: Profile, address: str) -> Shelved | str:
        known = self._known.get((profile.name, address))
        if known is None:
            known = self._fetch(profile, address)
            if isinstance(known, str):
                # Once for each pointer, not once for each signal.
                log.error("bundle %s of %s is refused: %s", address[:12], profile.name, known)
            while len(self._known) >= KEPT:
                del self._known[next(iter(self._known))]
            self._known[profile.name, address] = known
        return known

    def _fetch(self, profile: Profile, address: str) -> Shelved | str:
        schema = SCHEMAS.get(profile.features)
        if schema is None:
            return f"no feature schema {profile.features!r}"
        if not self._keys:
            return "no signing key to verify it with"
        data = self._store.bundle(address)
        if data is None:
            return "its bytes are not in Redis"
        try:
            bundle = unpack(data, self._keys, strategy=profile.name, schema_hash=schema.hash)
            book = ThresholdBook.from_json(bundle.parts.thresholds)
        except (BundleRefused, Invalid, ValueError) as error:
            return str(error)
        if bundle.address != address:
            return "its bytes belong to another address"
        return Shelved(bundle, book)


def _sound(found: Shelved | str | None) -> Shelved | None:
    return found if isinstance(found, Shelved) else None
