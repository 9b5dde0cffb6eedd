"""The key bundles are signed with: generated beside the private servers, asked for with servers of one's own."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from persistence.access import Role
from runtime.chance import secret_bytes
from runtime.secrecy import KEY_CHARACTERS, is_local, names_credentials, open_to_others, password_of, weakness
from runtime.settings import Settings
from signals.errors import Permanent

KEY_BYTES = 32
FILE_NAME = "signing.key"
MAKE_ONE = 'python3 -c "import secrets; print(secrets.token_hex(24))"'


def signing_keys(settings: Settings) -> tuple[bytes, ...]:
    """The key in force and then those it replaced; raises ``Permanent`` with what to set when there is none."""
    return (signing_key(settings), *(_strong("retired_signing_keys", key) for key in settings.retired_keys()))


def signing_key(settings: Settings) -> bytes:
    """The key in force; raises ``Permanent`` with what to set when there is none."""
    if settings.signing_key is not None:
        return _strong("signing_key", settings.signing_key.get_secret_value())
    if settings.own_servers:
        # Several machines may serve: a key made on one of them would be refused by the others.
        raise Permanent("with servers of your own set PENUMBRA_SIGNING_KEY (32 characters or more), or its secret file")
    return _kept(settings.data_dir / FILE_NAME)


def check_secrets(settings: Settings) -> None:
    """Refuse to start against servers of the user's own with a password or a key that others know or can guess."""
    if not settings.own_servers:
        return
    faults = [
        _fault_of(name, address)
        for name, address in (("redis.url", settings.redis.url), ("postgres.url", settings.postgres_url()))
    ]
    keys = [("signing_key", key.get_secret_value()) for key in (settings.signing_key,) if key is not None]
    keys += [("retired_signing_keys", key) for key in settings.retired_keys()]
    found = [*filter(None, faults), *(f"{name} {why}" for name, key in keys if (why := weakness(key, KEY_CHARACTERS)))]
    if found:
        raise Permanent(f"{'; '.join(found)}. To make a secret: {MAKE_ONE}")


def check_access(settings: Settings) -> dict[Role, str]:
    """The password of every role; refuses one that is missing, weak, or the same for two."""
    given = settings.access.given()
    names = {role: f"access.{role.value}_password" for role in Role}
    found = [f"{name} {why}" for role, name in names.items() if (why := weakness(given.get(role.value, "")))]
    if not found and len(set(given.values())) < len(given):
        found = ["two roles have the same password: then they are one"]
    if found:
        raise Permanent(f"{'; '.join(found)}. To make a secret: {MAKE_ONE}")
    return {role: given[role.value] for role in Role}


def _fault_of(name: str, address: str | None) -> str | None:
    """What is wrong with the password of an address; a unix socket is guarded by the permissions of its folder."""
    if address is None or is_local(address):
        return None
    password = password_of(address)
    if password is None:
        # Postgres may be told it otherwise: then libpq reads it, and a file it reads must be private by its own rule.
        return None if names_credentials(address) else f"{name} has no password"
    why = weakness(password)
    return None if why is None else f"the password in {name} {why}"


def _strong(name: str, key: str) -> bytes:
    why = weakness(key, KEY_CHARACTERS)
    if why is not None:
        raise Permanent(f"{name} {why}. To make one: {MAKE_ONE}")
    return key.encode()


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
    if open_to_others(path):
        raise Permanent(f"{path} can be read by others: chmod 600 it, or remove it to have bundles signed anew")
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise Permanent(f"{path} does not hold {KEY_BYTES} bytes: remove it to have bundles signed anew")
    return key
