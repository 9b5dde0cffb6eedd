"""What an attempt at training came to; the word that those who do not train need of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trained:
    """``address`` is empty when the incumbent stays, and ``reason`` says why. ``count`` is in decisive outcomes."""

    strategy: str
    attempt: int
    count: int
    next_at: int
    address: str = ""
    reason: str = ""
    detail: str = ""
    fenced: bool = False
