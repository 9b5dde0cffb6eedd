"""What the container files promise, read as text: no YAML reader is among the dependencies."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
OURS = ("migrate", "worker", "relay", "follow", "train")
SERVERS = ("valkey", "postgres")


def without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def blocks(text: str, indent: str) -> dict[str, str]:
    """Texts under the names that stand at one indentation."""
    parts = re.split(rf"(?m)^{indent}([\w-]+):(?: &\w+)?\n", f"{without_comments(text)}\n")
    return dict(zip(parts[1::2], parts[2::2], strict=True))


TOP = blocks(COMPOSE, "")
SHARED = {name.removeprefix("x-"): text for name, text in TOP.items() if name.startswith("x-")}
SERVICES = blocks(TOP["services"], "  ")


def merged(text: str) -> str:
    """A block with what it takes over from shared ones, those behind it."""
    inherited = re.findall(r"<<: \*(\w+)", text)
    return "\n".join([text, *(merged(SHARED[name]) for name in inherited)])


def test_the_reader_sees_the_whole_file() -> None:
    assert set(SERVICES) == {*OURS, *SERVERS}
    assert set(SHARED) == {"hardened", "penumbra"}
    assert "requirepass" in SERVICES["valkey"]
    assert "requirepass" not in SERVICES["postgres"]


@pytest.mark.parametrize("name", [*OURS, *SERVERS])
def test_every_service_is_confined(name: str) -> None:
    service = merged(SERVICES[name])
    assert "cap_drop: [ALL]" in service
    assert 'security_opt: ["no-new-privileges:true"]' in service
    assert "read_only: true" in service
    assert "healthcheck:" in service
    user = re.search(r'user: "(\d+):(\d+)"', service)
    assert user is not None
    assert int(user[1]) > 0
    assert "privileged: true" not in service
    assert "cap_add" not in service


@pytest.mark.parametrize("name", OURS)
def test_our_processes_run_their_subcommand(name: str) -> None:
    assert f"command: [{name}]" in SERVICES[name]
    assert "ports:" not in merged(SERVICES[name])
    assert "valkey: {condition: service_healthy}" in merged(SERVICES[name])


def test_ports_are_open_to_this_machine_only() -> None:
    ports = re.findall(r"ports: \[(.*)\]", COMPOSE)
    assert len(ports) == COMPOSE.count("ports:") == 2
    assert all(port.startswith('"127.0.0.1:') for port in ports)


def test_no_secret_has_a_default() -> None:
    used = re.findall(r"\$\{(\w*(?:PASSWORD|SECRET|TOKEN|_KEY))([^}]*)\}", COMPOSE)
    assert {name for name, _ in used} == {"VALKEY_PASSWORD", "POSTGRES_PASSWORD", "SIGNING_KEY"}
    assert all(rest.startswith(":?") for _, rest in used)
    example = dict(
        line.split("=", 1)
        for line in (ROOT / ".env.example").read_text().splitlines()
        if line and not line.startswith("#")
    )
    assert example["VALKEY_PASSWORD"] == example["POSTGRES_PASSWORD"] == ""
    assert set(re.findall(r"(?<!\$)\$\{(\w+)", COMPOSE)) == set(example)


def test_the_servers_keep_what_they_are_given() -> None:
    assert "image: valkey/valkey:9.1\n" in SERVICES["valkey"]
    assert "image: postgres:18\n" in SERVICES["postgres"]
    for option in ("--appendonly yes", "--maxmemory-policy noeviction", "requirepass"):
        assert option in SERVICES["valkey"]
    assert "/var/lib/postgresql" in SERVICES["postgres"]
    assert "scram-sha-256" in SERVICES["postgres"]


def test_the_image_runs_as_nobody_special_from_checked_packages() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert final.startswith("python:3.13-slim\n")
    user = re.search(r"(?m)^USER (\d+):(\d+)$", final)
    assert user is not None
    assert f"useradd --uid {user[1]} " in final
    assert 'user: "{}:{}"'.format(*user.groups()) in SHARED["penumbra"]
    assert "--require-hashes" in DOCKERFILE
    assert "pip uninstall" in final
    assert "apt-get" not in DOCKERFILE
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {".*", "penumbra.toml"} <= set(ignored)
    assert not any(line.startswith("!") for line in ignored)


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_locks_are_hashed_and_name_no_place(lock: str) -> None:
    text = (ROOT / lock).read_text()
    packages = re.split(r"(?m)^(?=[a-z0-9])", without_comments(text).strip())[1:]
    assert packages
    for package in packages:
        assert re.match(r"[a-z0-9.-]+==\S+", package), package
        assert "--hash=sha256:" in package, package
    assert not re.search(r"(?i)https?:|file:|find-links|index-url|/opt/|/home/|/root/", text)


def pins(lock: str) -> set[str]:
    return set(re.findall(r"(?m)^[a-z0-9.-]+==\S+", (ROOT / lock).read_text()))


def test_the_development_lock_holds_the_other() -> None:
    assert pins("requirements.lock") < pins("requirements-dev.lock")


@pytest.mark.parametrize("script", ["demo", "test", "lock", "bootstrap.sh"])
def test_scripts_are_plain_shell(script: str) -> None:
    path = ROOT / "scripts" / script
    checked = subprocess.run(["/bin/sh", "-n", path], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert not re.search(r"\[\[|\bfunction\b|\blocal\b|<<<", path.read_text())
    if script != "bootstrap.sh":
        assert path.stat().st_mode & 0o111
