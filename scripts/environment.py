"""Fill ``.venv`` with exactly what a lock file names. Runs on a bare Python, before anything is installed.

Safe to run at any time: twice at once, after a kill in the middle, in a moved checkout. The stamp is written last.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
OLDEST, NEWEST = (3, 11), (3, 14)
# A lock and those whose packages it holds as well.
CONTAINS = {"requirements.lock": (), "requirements-dev.lock": ("requirements.lock",)}
# Settings of the caller that would send packages elsewhere than into .venv, or run other code from there.
DROPPED = (
    "PYTHONPATH",
    "PYTHONHOME",
    "PIP_USER",
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_ROOT",
    "PIP_NO_DEPS",
    "PIP_REQUIREMENT",
)


class CannotInstallError(Exception):
    """The environment cannot be made here; the message says what would help."""


def say(text: str) -> None:
    """Tell the user, beside whatever the command itself prints."""
    sys.stderr.write(f"{text}\n")


def run(command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    """Run a program with the caller's settings, but for those that lead out of the environment."""
    environment = {name: value for name, value in os.environ.items() if name not in DROPPED}
    return subprocess.run(  # noqa: S603 - our own commands
        command, check=False, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Let one run at a time change the environment."""
    folder = os.open(ROOT, os.O_RDONLY)  # a folder can be locked as well as a file, and leaves nothing behind
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another run is setting up .venv; waiting for it ...")
            fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def version_in(python: Path) -> str | None:
    """Full version of an environment's Python, or none if it does not run or is not supported."""
    if not python.exists():
        return None
    shown = run([python, "-c", f"import sys; print({OLDEST} <= sys.version_info[:2] <= {NEWEST}, sys.version)"])
    word, _, version = shown.stdout.strip().partition(" ")
    return version if shown.returncode == 0 and word == "True" else None


def stamp(lock: str) -> Path:
    """Where it is noted that a lock is installed."""
    return VENV / f".installed-{lock}"


def mark_of(lock: str, version: str) -> str:
    """What the note says: any other lock or Python makes another."""
    return hashlib.sha256((ROOT / lock).read_bytes() + version.encode()).hexdigest()


def is_current(lock: str) -> bool:
    """Whether the environment holds a lock's packages."""
    version = version_in(PYTHON)
    if version is None or not stamp(lock).exists():
        return False
    return stamp(lock).read_text() == mark_of(lock, version)


def make_venv() -> None:
    """Make an empty environment, with or without its own pip."""
    has_pip = importlib.util.find_spec("ensurepip") is not None  # Debian puts it into a package of its own
    if not has_pip and not outside_installers():
        raise CannotInstallError(
            f"{sys.executable} can make an environment but has no pip for it. On Debian and Ubuntu:"
            f" apt install python3-venv (or python3-pip), or set PYTHON to another Python 3.11 to 3.14."
        )
    say(f"Making .venv with Python {sys.version.split()[0]} ...")
    done = run([sys.executable, "-m", "venv", "--clear", *([] if has_pip else ["--without-pip"]), VENV])
    if done.returncode != 0 or version_in(PYTHON) is None:
        shutil.rmtree(VENV, ignore_errors=True)
        raise CannotInstallError(f"{sys.executable} -m venv failed: {done.stdout.strip()}")


def installers() -> list[list[str | Path]]:
    """Commands that can install into the environment, best first."""
    found: list[list[str | Path]] = []
    if (
        PYTHON.exists()
        and run(
            [PYTHON, "-c", "import importlib.util, sys; sys.exit(importlib.util.find_spec('pip') is None)"]
        ).returncode
        == 0
    ):
        found.append([PYTHON, "-m", "pip", "install", "--no-input", "--disable-pip-version-check"])
    return found + outside_installers()


def outside_installers() -> list[list[str | Path]]:
    """Commands that work on an environment without a pip of its own."""
    found: list[list[str | Path]] = []
    if importlib.util.find_spec("pip") is not None:
        found.append([sys.executable, "-m", "pip", "--python", PYTHON, "install", "--no-input"])
    uv = shutil.which("uv")
    if uv is not None:
        found.append([uv, "pip", "install", "--python", PYTHON])
    return found


def install(lock: str) -> None:
    """Install a lock's packages, each checked against its hash."""
    unfinished = VENV / ".unfinished"
    if version_in(PYTHON) is None or unfinished.exists():
        make_venv()
    packages = len(re.findall(r"(?m)^[A-Za-z0-9]", (ROOT / lock).read_text()))
    say(f"Installing up to {packages} packages from {lock}; the first time this takes one to three minutes ...")
    for known in CONTAINS:
        stamp(known).unlink(missing_ok=True)
    unfinished.touch()
    commands = installers()
    if not commands:
        make_venv()
        commands = installers()
    if run([*commands[0], "--quiet", "--require-hashes", "--only-binary", ":all:", "-r", ROOT / lock]).returncode != 0:
        raise CannotInstallError(
            f"Installing {lock} failed; what is said above should tell why. It is safe to try again."
        )
    unfinished.unlink()


def write_launcher() -> None:
    """Write ``.venv/bin/penumbra``: the program, run from this checkout whatever the working folder holds."""
    text = (
        "#!/bin/sh\n"
        f'PYTHONPATH={shlex.quote(str(ROOT))} PYTHONSAFEPATH=1 exec {shlex.quote(str(PYTHON))} -m scripts.cli "$@"\n'
    )
    launcher = VENV / "bin" / "penumbra"
    if launcher.exists() and launcher.read_text() == text:
        return
    new = launcher.with_name(".penumbra.new")
    new.write_text(text)
    new.chmod(0o755)
    new.replace(launcher)


def main(arguments: Sequence[str]) -> int:
    """Bring ``.venv`` to the state of one lock file."""
    (lock,) = arguments
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        say(f"Python {sys.version.split()[0]} is not supported")
        return 3
    try:
        if not is_current(lock):
            with alone():
                if not is_current(lock):
                    install(lock)
                    version = version_in(PYTHON)
                    for known in (lock, *CONTAINS[lock]):
                        stamp(known).write_text(mark_of(known, version or ""))
        write_launcher()
    except (CannotInstallError, OSError) as error:
        say(str(error))
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
