"""What the container files promise, read as text: no YAML reader is among the dependencies."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from persistence.access import Role, acl_file
from persistence.keys import Keys
from runtime.secrecy import weakness
from scripts.cli import main

ROOT = Path(__file__).parents[3]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
OURS = ("access", "migrate", "worker", "relay", "follow", "train")
SERVERS = ("valkey", "postgres")
OPTIONAL = {"RETIRED_SIGNING_KEYS"}  # "none" is its value until a key has been rotated
LIMITED = r'mem_limit: "\$\{MEMORY_LIMIT:-\d+g\}"'


def without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def blocks(text: str, indent: str) -> dict[str, str]:
    """Texts under the names that stand at one indentation."""
    parts = re.split(rf"(?m)^{indent}([\w-]+):(?: &\w+)?\n", f"{without_comments(text)}\n")
    return dict(zip(parts[1::2], parts[2::2], strict=True))


class Compose:
    """The parts of a compose file, each service with what it takes over from shared ones behind it."""

    def __init__(self, text: str) -> None:
        self.text = without_comments(text)
        top = blocks(text, "")
        self.shared = {name.removeprefix("x-"): part for name, part in top.items() if name.startswith("x-")}
        self.networks = top.get("networks", "")
        self.own = blocks(top["services"], "  ")
        self.services = {name: self.merged(part) for name, part in self.own.items()}

    def merged(self, text: str) -> str:
        inherited = re.findall(r"<<: \*(\w+)", text)
        return "\n".join([text, *(self.merged(self.shared[name]) for name in inherited)])


def faults_of_service(name: str, service: str) -> Iterator[str]:
    """What is not confined in one service. The first of two values counts, as in the file."""
    wanted = {
        "all capabilities dropped": "cap_drop: [ALL]" in service,
        "no new privileges": 'security_opt: ["no-new-privileges:true"]' in service,
        "read-only": re.search(r"read_only: (\w+)", service) is not None and "read_only: false" not in service,
        "a health check": "healthcheck:" in service,
        "a process limit": re.search(r"pids_limit: [1-9]\d*\b", service) is not None,
        "a memory limit": re.search(LIMITED, service) is not None,
        "a bounded log": "max-size" in service and "max-file" in service,
        "the inner network": "networks: [inside" in service,
    }
    yield from (f"{name}: without {what}" for what, held in wanted.items() if not held)
    user = re.search(r'user: "(\d+):(\d+)"', service)
    if user is None or int(user[1]) == 0 or int(user[2]) == 0:
        yield f"{name}: runs as root"
    for word in (
        "privileged: true",
        "cap_add",
        "network_mode",
        "pid: host",
        "ipc: host",
        "docker.sock",
        "seccomp:unconfined",
        "env_file",
    ):
        if word in service:
            yield f"{name}: {word}"
    mounts = re.findall(r'"(/[^"]*mode=1777[^"]*)"', service)
    if not mounts or not all("size=" in mount and "noexec" in mount for mount in mounts):
        yield f"{name}: writable memory without a size, or from which programs run"
    image = re.search(r"image: (\S+)", service)
    tag = "" if image is None else image[1].rpartition("/")[2].partition(":")[2]
    if tag in ("", "latest"):
        yield f"{name}: an image nobody pinned"
    if name in OURS and "ports:" in service:
        yield f"{name}: a port of ours is open"


def faults(compose: str, dockerfile: str) -> set[str]:
    """Everything that is wrong with the container files."""
    read = Compose(compose)
    found = {fault for name, service in read.services.items() for fault in faults_of_service(name, service)}
    ports = re.findall(r"ports: \[(.*)\]", read.text)
    if len(ports) != read.text.count("ports:") or not all(
        port.strip().startswith('"127.0.0.1:') for listed in ports for port in listed.split(",")
    ):
        found.add("a port is open to other machines")
    if "inside: {internal: true}" not in read.networks:
        found.add("the inner network leads outside")
    for name, rest in re.findall(r"\$\{(\w*(?:PASSWORD|SECRET|TOKEN|_KEYS?))([^}]*)\}", read.text):
        if not rest.startswith(":?") and name not in OPTIONAL:
            found.add(f"{name} has a default")
    if re.search(r"command:[^\n]*(PASSWORD|KEY)|^      - [^\n]*(PASSWORD|_KEY)", read.text, re.MULTILINE):
        found.add("a secret is an argument")
    users = re.findall(r"redis://([^:]*):", read.text)
    if "" in users or "default" in users:
        found.add("a process without a role of its own")
    return found | set(faults_of_image(dockerfile))


def faults_of_image(dockerfile: str) -> Iterator[str]:
    text = without_comments(dockerfile)
    final = text.rpartition("\nFROM ")[2]
    user = re.findall(r"(?m)^USER (\S+)$", final)
    if not user or re.fullmatch(r"[1-9]\d*:[1-9]\d*", user[-1]) is None:
        yield "the image runs as root"
    if any(":" not in base or base.endswith(":latest") for base in re.findall(r"(?m)^FROM (\S+)", text)):
        yield "a base image nobody pinned"
    if "--require-hashes" not in text or "--only-binary :all:" not in text:
        yield "packages are not checked"
    if "pip uninstall" not in final:
        yield "the image can install packages"
    if re.search(r"(?m)^ADD |curl|wget|apt-get", text):
        yield "something is fetched unchecked"
    if re.search(r"(?im)^(ENV|ARG) .*(password|secret|token|key)", text):
        yield "a secret in the image"
    for cache in ("NUMBA_CACHE_DIR", "MPLCONFIGDIR", "HOME"):
        if re.search(rf"\b{cache}=/tmp", final) is None:
            yield f"{cache} is not in writable memory"


def test_the_reader_sees_the_whole_file() -> None:
    read = Compose(COMPOSE)
    assert set(read.own) == {*OURS, *SERVERS}
    assert set(read.shared) == {"hardened", "penumbra", "settings"}
    assert "--aclfile" in read.services["valkey"]
    assert "--aclfile" not in read.services["postgres"]


def test_the_container_files_confine() -> None:
    assert faults(COMPOSE, DOCKERFILE) == set()


BAD_COMPOSE = [
    ("cap_drop: [ALL]", "cap_drop: []", "without all capabilities dropped"),
    ('security_opt: ["no-new-privileges:true"]', "security_opt: []", "without no new privileges"),
    ("read_only: true", "read_only: false", "without read-only"),
    ("  read_only: true\n", "", "without read-only"),
    ("pids_limit: 256", "pids_limit: -1", "without a process limit"),
    ('  mem_limit: "${MEMORY_LIMIT:-2g}"\n', "", "without a memory limit"),
    ("options: {max-size: 10m, max-file: \"5\"}", "options: {}", "without a bounded log"),
    ("networks: [inside]\n  logging", "networks: [default]\n  logging", "without the inner network"),
    ("inside: {internal: true}", "inside: {}", "the inner network leads outside"),
    ('user: "10001:10001"', 'user: "0:0"', "worker: runs as root"),
    ('user: "10001:10001"', 'user: "root"', "worker: runs as root"),
    ('    user: "999:999"\n', "", "postgres: runs as root"),
    ("image: postgres:18", "image: postgres", "postgres: an image nobody pinned"),
    ("image: valkey/valkey:9.1", "image: valkey/valkey:latest", "valkey: an image nobody pinned"),
    ('"127.0.0.1:${VALKEY_PORT:-6379}:6379"', '"${VALKEY_PORT:-6379}:6379"', "a port is open to other machines"),
    ('"127.0.0.1:${POSTGRES_PORT:-5432}:5432"', '"0.0.0.0:5432:5432"', "a port is open to other machines"),
    ("command: [worker]", 'command: [worker]\n    ports: ["127.0.0.1:1:1"]', "worker: a port of ours is open"),
    ("command: [worker]", "command: [worker]\n    privileged: true", "worker: privileged: true"),
    ("command: [relay]", "command: [relay]\n    cap_add: [NET_RAW]", "relay: cap_add"),
    ("command: [relay]", "command: [relay]\n    network_mode: host", "relay: network_mode"),
    ('"data:/data"', '"/var/run/docker.sock:/s", "data:/data"', "worker: docker.sock"),
    ("size=256m,noexec", "size=256m", "worker: writable memory"),
    ("mode=1777,size=16m", "mode=1777", "valkey: writable memory"),
    ("${POSTGRES_PASSWORD:?set it in .env}", "${POSTGRES_PASSWORD:-postgres}", "POSTGRES_PASSWORD has a default"),
    ("${SIGNING_KEY:?set it in .env}", "${SIGNING_KEY}", "SIGNING_KEY has a default"),
    ("      - --aclfile\n", '      - --requirepass\n      - "$$VALKEY_DASH_PASSWORD"\n', "a secret is an argument"),
    ("redis://relay:", "redis://:", "a process without a role"),
    ("redis://relay:", "redis://default:", "a process without a role"),
]  # fmt: skip
BAD_IMAGE = [
    ("USER 10001:10001\n", "", "the image runs as root"),
    ("USER 10001:10001\n", "USER 10001:10001\nUSER 0:0\n", "the image runs as root"),
    ("\nFROM python:3.13-slim\n", "\nFROM python\n", "a base image nobody pinned"),
    ("--require-hashes ", "", "packages are not checked"),
    ("pip uninstall", "pip list", "the image can install packages"),
    ("COPY . /app", "ADD https://example.org/x /app", "something is fetched unchecked"),
    ("COPY . /app", "COPY . /app\nENV SIGNING_KEY=abc", "a secret in the image"),
    ("NUMBA_CACHE_DIR=/tmp/numba", "NUMBA_CACHE_DIR=/app", "NUMBA_CACHE_DIR is not in writable memory"),
    ("MPLCONFIGDIR=/tmp/matplotlib", "A=b", "MPLCONFIGDIR is not in writable memory"),
]


@pytest.mark.parametrize(("good", "bad", "fault"), BAD_COMPOSE)
def test_control_a_bad_compose_file_is_found_out(good: str, bad: str, fault: str) -> None:
    assert good in COMPOSE
    assert [found for found in faults(COMPOSE.replace(good, bad), DOCKERFILE) if fault in found]


@pytest.mark.parametrize(("good", "bad", "fault"), BAD_IMAGE)
def test_control_a_bad_image_is_found_out(good: str, bad: str, fault: str) -> None:
    assert good in DOCKERFILE
    assert [found for found in faults(COMPOSE, DOCKERFILE.replace(good, bad)) if fault in found]


def test_each_process_has_the_role_of_its_work() -> None:
    read = Compose(COMPOSE)
    roles = {name: re.findall(r"redis://(\w+):", read.own[name]) for name in OURS}
    assert roles == {
        "access": [],
        "migrate": ["operator"],
        "worker": ["worker"],
        "relay": ["relay"],
        "follow": ["worker"],
        "train": ["trainer"],
    }
    # Who neither signs nor verifies has no key.
    assert [name for name in OURS if "SIGNING_KEY" in read.services[name]] == ["worker", "train"]
    told = set(re.findall(r"PENUMBRA_ACCESS__(\w+)_PASSWORD", read.own["access"]))
    assert told == {role.name for role in Role}


@pytest.mark.parametrize("name", OURS)
def test_our_processes_run_their_subcommand(name: str) -> None:
    read = Compose(COMPOSE)
    assert f"command: [{name}" in read.own[name]
    assert name in main.commands
    if name != "access":
        assert "valkey: {condition: service_healthy}" in read.services[name]


def env_example() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_every_variable_is_in_the_example_and_no_secret_has_a_value() -> None:
    example = env_example()
    assert set(re.findall(r"(?<!\$)\$\{(\w+)", COMPOSE)) == set(example)
    assert [value for name, value in example.items() if re.search("PASSWORD|SIGNING_KEY$", name)] == [""] * 8


def test_fresh_secrets_are_all_different_and_all_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = CliRunner().invoke(main, ["new-env"], catch_exceptions=False).output
    made = dict(line.split("=", 1) for line in printed.splitlines() if line and not line.startswith("#"))
    assert made.keys() == env_example().keys()
    secrets = [value for name, value in made.items() if env_example()[name] == ""]
    assert len(set(secrets)) == len(secrets) == 8
    assert [weakness(secret, 32) for secret in secrets] == [None] * 8
    # And with them the file the server is started with.
    monkeypatch.chdir(tmp_path)
    for variable, name in re.findall(r"(PENUMBRA_ACCESS__\w+): \"\$\{(\w+):", COMPOSE):
        monkeypatch.setenv(variable, made[name])
    assert CliRunner().invoke(main, ["access", "--out", "users.acl"], catch_exceptions=False).exit_code == 0
    written = Path("users.acl")
    assert written.stat().st_mode & 0o137 == 0
    passwords = {role: made[f"VALKEY_{role.name}_PASSWORD"] for role in Role}
    assert written.read_text() == acl_file(passwords, Keys(), "signals")
    monkeypatch.setenv("PENUMBRA_ACCESS__DASH_PASSWORD", made["VALKEY_RELAY_PASSWORD"])
    refused = CliRunner().invoke(main, ["access"])
    assert (refused.exit_code, "same password" in refused.output) == (2, True)
    monkeypatch.setenv("PENUMBRA_ACCESS__DASH_PASSWORD", "dash")
    assert "access.dash_password has 4 characters" in CliRunner().invoke(main, ["access"]).output


def test_the_servers_keep_what_they_are_given() -> None:
    services = Compose(COMPOSE).own
    words = re.findall(r'(?m)^      - "?(.*?)"?$', services["valkey"])
    options = dict(zip(words[1::2], words[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"
    assert options["--aclfile"] == "/access/users.acl"
    assert "/var/lib/postgresql" in services["postgres"]
    assert "scram-sha-256" in services["postgres"]


def test_the_image_runs_as_nobody_special_from_checked_packages() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    user = re.search(r"(?m)^USER (\d+):(\d+)$", final)
    assert user is not None
    assert f"useradd --uid {user[1]} " in final
    assert 'user: "{}:{}"'.format(*user.groups()) in Compose(COMPOSE).shared["penumbra"]
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
