"""The only door to chance: secrets drawn by the operating system. Everything else is seeded by what it is about."""

from __future__ import annotations

import secrets


def secret_bytes(count: int) -> bytes:
    """Bytes nobody can guess."""
    return secrets.token_bytes(count)
