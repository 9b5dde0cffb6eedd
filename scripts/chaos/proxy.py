"""A proxy in front of Redis that cuts connections: before a request has gone through, or after, without its reply.

A process of its own, ``python -m scripts.chaos.proxy LISTEN UPSTREAM SHARE SEED STATUS``; it cuts from SIGUSR1 until
SIGUSR2 and keeps its counts in the status file.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

CHUNK = 1 << 16
SHOWN_EVERY_S = 0.25
WORDS = (b"EVALSHA", b"RPUSH", b"LPUSH", b"LMOVE", b"BLMOVE", b"XADD", b"XACK", b"XREADGROUP", b"WAITAOF", b"MULTI")
"""What a chunk that carries live work holds; the rest are greetings and looks."""


@dataclass(slots=True)
class Cuts:
    """What was cut so far. ``live`` counts chunks that carried work."""

    requests: int = 0
    replies: int = 0
    live: int = 0
    forwarded: int = 0


class Proxy:
    """Forwards bytes between one listening socket and one server."""

    def __init__(self, upstream: str, share: float, seed: int) -> None:
        self.upstream = upstream
        self.share = share
        self.cutting = False
        self.cuts = Cuts()
        self._chance = np.random.default_rng(seed)

    def cut(self) -> None:
        """Begin to cut."""
        self.cutting = True

    def spare(self) -> None:
        """Cut no more."""
        self.cutting = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one client until either side ends, or is ended."""
        try:
            far_reader, far_writer = await asyncio.open_unix_connection(self.upstream)
        except OSError:
            writer.close()
            return
        answers = asyncio.create_task(self._answers(far_reader, writer))
        try:
            await self._requests(reader, far_writer, answers)
        except (OSError, asyncio.CancelledError):
            # Either side has gone, or the proxy itself is ending.
            pass
        finally:
            answers.cancel()
            for end in (writer, far_writer):
                end.close()

    async def _requests(
        self, reader: asyncio.StreamReader, far: asyncio.StreamWriter, answers: asyncio.Task[None]
    ) -> None:
        while chunk := await reader.read(CHUNK):
            self.cuts.forwarded += 1
            if self.cutting and self._chance.random() < self.share:
                self.cuts.live += any(word in chunk for word in WORDS)
                if self._chance.random() < 0.5:
                    self.cuts.requests += 1
                    return
                # The server must have done it: cut only once it has begun to answer.
                answers.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await answers
                far.write(chunk)
                await far.drain()
                await asyncio.sleep(0.02)
                self.cuts.replies += 1
                return
            far.write(chunk)
            await far.drain()

    async def _answers(self, far: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await far.read(CHUNK):
                writer.write(chunk)
                await writer.drain()
            writer.close()


async def run(listen: str, upstream: str, share: float, seed: int, status: Path) -> None:
    """Serve until told to end."""
    proxy = Proxy(upstream, share, seed)
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, proxy.cut)
    loop.add_signal_handler(signal.SIGUSR2, proxy.spare)
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    server = await asyncio.start_unix_server(proxy.serve, listen)
    try:
        while not ended.is_set():
            draft = status.with_suffix(".new")
            draft.write_text(json.dumps(asdict(proxy.cuts)))
            draft.replace(status)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), SHOWN_EVERY_S)
    finally:
        server.close()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5])))
