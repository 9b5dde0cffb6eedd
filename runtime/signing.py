"""The key bundles are signed with: generated beside the private servers, asked for with servers of one's own."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from runtime.chance import secret_bytes
from runtime.settings import Settings
from signals.errors import Permanent

KEY_BYTES = 32
FILE_NAME = "signing.key"


def signing_key(settings: Settings) -> bytes:
    """The key in force; raises ``Permanent`` with what to set when there is none."""
    if settings.signing_key is not None:
        key = settings.signing_key.get_secret_value().encode()
        if len(key) < KEY_BYTES:
            raise Permanent(f"signing_key needs at least {KEY_BYTES} bytes, it has {len(key)}")
        return key
    if settings.redis.url is not None or settings.postgres.url is not None:
        # Several machines may serve: a key made on one of them would be refused by the others.
        raise Permanent("with servers of your own set PENUMBRA_SIGNING_KEY (32 bytes or more), or its secret file")
    return _kept(settings.data_dir / FILE_NAME)


def _kept(path: Path) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        # Whole or not at all: another process that starts now must not read half a key.
        handle, draft = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(secret_bytes(KEY_BYTES))
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(draft)
        Path(draft).unlink()
    return _read(path)


def _read(path: Path) -> bytes:
    if path.stat().st_mode & 0o077:
        raise Permanent(f"{path} can be read by others: chmod 600 it, or remove it to have bundles signed anew")
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise Permanent(f"{path} does not hold {KEY_BYTES} bytes: remove it to have bundles signed anew")
    return key
