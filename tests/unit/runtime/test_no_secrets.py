"""No secret lies in what is tracked: known forms, and text that is too random to be anything else."""

from __future__ import annotations

import base64
import hashlib
import math
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FORMS = {
    "private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "cloud key": re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"),
    "forge token": re.compile(r"\b(gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|glpat-[\w-]{20,})"),
    "package token": re.compile(r"\b(pypi-[\w-]{40,}|npm_[A-Za-z0-9]{30,})"),
    "chat token": re.compile(r"\bxox[abprs]-[\w-]{20,}"),
    "web token": re.compile(r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"),
    "bot token": re.compile(r"(?<!\w)(?:bot)?\d{8,12}:[A-Za-z0-9_-]{34,36}(?![\w-])"),
    "exchange key": re.compile(
        r"""(?i)\b(api[_-]?secret|secret[_-]?key)["']?\s*[=:]\s*["'][A-Za-z0-9+/=_-]{20,}["']"""
    ),
}
WORD = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{32,}={0,2}")
HEX_BITS, OTHER_BITS = 3.0, 4.3
"""Bits per character above which a word is random: names and paths stay below, 48 hex digits of a secret above."""
# Hashes of packages, vector graphics, and digests that a test compares with.
HASHES = re.compile(r"sha256:[0-9a-f]{64}")
PUBLIC = {
    "docs/pictures/replay.svg": "a picture",
    "tests/data/golden_replay.json": "digests of replays",
}


def entropy(word: str) -> float:
    """Shannon entropy, bits per character."""
    return -sum(n / len(word) * math.log2(n / len(word)) for n in Counter(word).values())


def looks_random(word: str) -> bool:
    if re.fullmatch(r"[0-9a-fA-F]+", word):
        return entropy(word.lower()) > HEX_BITS
    # Words of a language have vowels, digits rarely, and few changes between the kinds.
    changes = sum(a.isdigit() != b.isdigit() or a.isupper() != b.isupper() for a, b in pairwise(word))
    return entropy(word) > OTHER_BITS and changes > len(word) / 4


def findings(text: str) -> Iterator[str]:
    """Kinds of secrets in a text."""
    text = HASHES.sub("", text)
    yield from (name for name, form in FORMS.items() if form.search(text))
    yield from (f"random: {word[:6]}…" for word in WORD.findall(text) if looks_random(word))


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_nothing_that_is_tracked_is_a_secret() -> None:
    files = tracked()
    assert len(files) > 100
    found = {}
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        if name in PUBLIC or not path.is_file():
            continue
        kinds = list(findings(path.read_text("utf-8", "replace")))
        if kinds:
            found[name] = kinds
    assert found == {}


def made(word: str) -> bytes:
    return hashlib.sha256(word.encode()).digest()


@pytest.mark.parametrize(
    "canary",
    [
        pytest.param(made("a").hex()[:48], id="48 hex digits, as we make them"),
        pytest.param(made("b").hex(), id="64 hex digits"),
        pytest.param(base64.b64encode(made("c")).decode(), id="base64"),
        pytest.param(base64.urlsafe_b64encode(made("d")).decode().strip("="), id="base64 for addresses"),
        pytest.param("-----BEGIN OPENSSH " + "PRIVATE KEY-----", id="a private key"),
        pytest.param("AKIA" + "ABCDEFGHIJKLMNOP", id="a cloud key"),
        pytest.param("ghp_" + "a1" * 18, id="a forge token"),
        pytest.param("12345678" + ":" + "AAH" + "x" * 32, id="a bot token"),
        pytest.param("api_secret" + " = '" + "abcdefghij" * 3 + "'", id="an exchange key"),
    ],
)
def test_control_a_planted_secret_is_found(canary: str) -> None:
    for text in (
        canary,
        f"password = {canary!r}\n",
        f"redis://u:{canary}@h",
        f'{{"k": "{canary}"}}',
        f"KEY={canary}\n",
    ):
        assert list(findings(f"line\n{text}\nline")), text


@pytest.mark.parametrize(
    "text",
    [
        "test_a_tag_made_with_the_same_key_for_another_purpose_is_refused",
        "tests/integration/test_a_worker_stuck_in_native_code_ends_itself",
        "--hash=sha256:13b2beaad985e05e2d6407ee4c4f35590b11f8d693a258a561055cac8f64cab7",
        "0000000000000000000000000000000000000000",
        "PENUMBRA_PROFILES__TREND__STATIC_THRESHOLD",
    ],
)
def test_ordinary_text_is_not_taken_for_one(text: str) -> None:
    assert list(findings(text)) == []


def test_what_is_never_tracked() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {".env", ".penumbra/"} <= set(ignored)
    names = {path.name for path in tracked()}
    assert not {name for name in names if name == ".env" or name.endswith((".pem", ".key", ".p12", ".acl"))}
