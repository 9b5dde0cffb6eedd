"""What may be taken for a secret, what must never be shown, and what must never be read from an open file."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

MASK = "***"
PASSWORD_CHARACTERS = 24
KEY_CHARACTERS = 32
FEWEST_DISTINCT = 8
SHORTEST_HIDDEN = 6
"""Hiding anything shorter wherever it appears would eat words out of every line."""
LONGEST_PASSWORD = 512
OTHERS = 0o077

_URL_USER = re.compile(r"(?<=://)([^:@/]*):.*(?=@)")
_PASSWORD = re.compile(r"(?i)(password\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&]+)")
# Words of examples and manuals. A random secret of letters and digits contains one by chance about once in 10^8.
_EXAMPLES = re.compile(
    r"(?i)change_?-?me|password|passw0rd|example|secret|default|penumbra|postgres|valkey|letmein|12345678|abcdefgh|qwerty"
)
_NAMES = r"(?:password|passwd|pwd|secret|token|api[_-]?key|access[_-]?key|signing[_-]?key|authorization)"
# Each is bounded: a line that somebody else wrote must not hold the process up.
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(rf"(?<=://)([^\s:@/]{{0,128}}):\S{{1,{LONGEST_PASSWORD}}}@"), rf"\1:{MASK}@"),
    (re.compile(r"(?i)\b(bearer|basic)\s{1,8}[A-Za-z0-9._~+/=-]{8,4096}"), rf"\1 {MASK}"),
    (re.compile(r"(?i)(?<![A-Za-z0-9])(bot)?\d{1,20}:[\w-]{30,256}"), rf"\1{MASK}"),
    (
        re.compile(
            rf"""(?i)({_NAMES}["']?\s{{0,4}}[=:]\s{{0,4}})("[^"]{{1,512}}"|'[^']{{1,512}}'|[^\s,;&"')}}\]]{{1,512}})"""
        ),
        rf"\1{MASK}",
    ),
)
_NAME = re.compile(rf"(?i){_NAMES}")


def masked(address: str) -> str:
    """Hide the password of a URL or of a ``name=value`` connection string."""
    return _PASSWORD.sub(rf"\1{MASK}", _URL_USER.sub(rf"\1:{MASK}", address))


def hidden(text: str, known: Iterable[str] = ()) -> str:
    """A text without known secrets and without whatever has the form of one."""
    for secret in known:
        text = text.replace(secret, MASK)
    for pattern, shown in _PATTERNS:
        text = pattern.sub(shown, text)
    return text


def names_secret(name: str) -> bool:
    """Whether a field of this name holds a secret, whatever it looks like."""
    return _NAME.search(name) is not None


def spellings(*secrets: str | None) -> tuple[str, ...]:
    """The forms in which secrets may turn up in a text, longest first so that none leaves its end behind."""
    found = {form for secret in secrets if secret for form in (secret, quote(secret, safe=""), repr(secret)[1:-1])}
    return tuple(sorted((form for form in found if len(form) >= SHORTEST_HIDDEN), key=lambda form: (-len(form), form)))


def password_of(address: str) -> str | None:
    """The password of a URL or of a ``name=value`` connection string, as it is meant."""
    if "://" not in address:
        found = _PASSWORD.search(address)
        return None if found is None else re.sub(r"\\(.)", r"\1", found[2].strip("'"))
    try:
        parts = urlsplit(address)
        asked = parse_qs(parts.query).get("password")
    except ValueError:
        return None
    if parts.password:
        return unquote(parts.password)
    return asked[0] if asked else None


def is_local(address: str) -> bool:
    """Whether an address is a unix socket: then the file system says who may enter."""
    if "://" not in address:
        return re.search(r"(?:^|\s)host\s*=\s*'?[/@]", address) is not None
    parts = urlsplit(address)
    hosts = parse_qs(parts.query).get("host", [])
    return parts.scheme == "unix" or (not parts.hostname and bool(hosts) and all(host[:1] in "/@" for host in hosts))


def names_credentials(address: str) -> bool:
    """Whether Postgres is told to find its credentials elsewhere: a service, a password file, a certificate."""
    return re.search(r"[?&\s](?:sslcert|passfile|service)\s*=\s*\S", f" {address}") is not None


def weakness(secret: str, least: int = PASSWORD_CHARACTERS) -> str | None:
    """Why a secret must not be used, in words that do not repeat it; none when nothing speaks against it."""
    if len(secret) < least:
        return f"has {len(secret)} characters, at least {least} are needed"
    if _EXAMPLES.search(secret):
        return "contains a word that stands in examples"
    if len(set(secret)) < FEWEST_DISTINCT:
        return f"has only {len(set(secret))} different characters"
    if any(secret == (secret[:period] * len(secret))[: len(secret)] for period in range(1, least // 2 + 1)):
        return "repeats itself"
    return None


def open_to_others(path: Path) -> bool:
    """Whether somebody else than its owner can read or change a file."""
    return path.stat().st_mode & OTHERS != 0


def holds_secret(tree: Mapping[str, object], paths: Collection[tuple[str, ...]]) -> str | None:
    """Name of the first secret in a tree of settings: a value at one of the paths, or an address with a password."""
    for path in sorted(paths):
        value: object = tree
        for part in path:
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, str) and value and (path[-1] != "url" or masked(value) != value):
            return ".".join(path)
    return None
