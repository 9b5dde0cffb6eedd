"""The only door to chance: secrets drawn by the operating system, and draws that are seeded by what they are about."""

from __future__ import annotations

import secrets

from signals.parse import sha256_hex

_BITS = 53
"""As many as a float in [0, 1) holds."""


def secret_bytes(count: int) -> bytes:
    """Bytes nobody can guess."""
    return secrets.token_bytes(count)


def draw_for(signal_id: str, purpose: str) -> float:
    """A number in [0, 1), uniform over signals and the same for one for ever: a replay draws what live drew.

    Of the signal's digest and not of a generator, whose streams may differ between versions of its library.
    """
    return (int(sha256_hex(f"{purpose}|{signal_id}")[:16], 16) >> (64 - _BITS)) / float(1 << _BITS)
