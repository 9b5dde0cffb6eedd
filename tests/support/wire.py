"""Where a process meets its servers: every packet to Redis and every statement to Postgres passes a tap."""

from __future__ import annotations

import select
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol
from unittest.mock import patch

import psycopg
from redis.connection import AbstractConnection

REDIS, POSTGRES = "redis", "postgres"
LONGEST_ANSWER_S = 30.0


class Tap(Protocol):
    """Is told before something is sent and again when its answer is there, but nobody has read it yet."""

    def sending(self, kind: str, what: str) -> None: ...

    def answered(self, kind: str, what: str) -> None: ...


@contextmanager
def tapped(tap: Tap) -> Iterator[None]:
    """Let everything this process sends pass ``tap``; a pipeline is one packet, a transaction's commit a statement."""
    send: Any = AbstractConnection.send_packed_command
    wait: Any = psycopg.Connection.wait

    def tapped_send(self: AbstractConnection, command: Any, check_health: bool = True) -> Any:
        what = command_name(command)
        tap.sending(REDIS, what)
        sent = send(self, command, check_health)
        tap.answered(REDIS, what)
        return sent

    def tapped_wait(self: psycopg.Connection[Any], gen: Any, *args: Any, **options: Any) -> Any:
        what = str(getattr(gen, "__name__", "statement")).strip("_")
        tap.sending(POSTGRES, what)
        answer = wait(self, gen, *args, **options)
        tap.answered(POSTGRES, what)
        return answer

    with (
        patch.object(AbstractConnection, "send_packed_command", tapped_send),
        patch.object(psycopg.Connection, "wait", tapped_wait),
    ):
        yield


@contextmanager
def answers_awaited() -> Iterator[None]:
    """Return from sending only when the answer has come: what the tap calls answered has then taken effect."""
    send: Any = AbstractConnection.send_packed_command

    def patient_send(self: AbstractConnection, command: Any, check_health: bool = True) -> Any:
        sent = send(self, command, check_health)
        socket: Any = self._sock
        select.select([socket], [], [], LONGEST_ANSWER_S)
        return sent

    with patch.object(AbstractConnection, "send_packed_command", patient_send):
        yield


def command_name(packed: Any) -> str:
    """The first word of a packed command, or the last of a transaction."""
    whole = packed if isinstance(packed, bytes) else b"".join(bytes(part) for part in packed)
    words = whole[:64].split(b"\r\n")
    return words[2].decode("utf-8", "replace") if len(words) > 2 else "?"
