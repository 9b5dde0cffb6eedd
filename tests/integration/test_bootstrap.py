"""The bootstrap of scripts/demo, on a small checkout whose lock names nothing: no network is needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLI = "import os, sys\nprint(sys.argv[1:], os.path.dirname(os.path.dirname(os.path.abspath(__file__))), sys.prefix)\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "a check out"
    (root / "scripts").mkdir(parents=True)
    for name in ("demo", "bootstrap.sh", "environment.py"):
        shutil.copy(ROOT / "scripts" / name, root / "scripts" / name)
    (root / "scripts" / "__init__.py").touch()
    (root / "scripts" / "cli.py").write_text(CLI)
    (root / "requirements.lock").write_text("# nothing\n")
    return root


def start(checkout: Path, *arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [checkout / "scripts" / "demo", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHON": sys.executable, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out, err


def test_bootstrap(checkout: Path, tmp_path: Path) -> None:
    # Two at once, in a folder with a package that must not be taken for ours, under settings that lead elsewhere.
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "__init__.py").write_text("raise SystemExit('the wrong one')\n")
    (tmp_path / "scripts" / "cli.py").touch()
    elsewhere = {"PYTHONPATH": str(tmp_path), "PIP_TARGET": str(tmp_path / "target")}
    both = [start(checkout, "--seed", "a b", cwd=tmp_path, **elsewhere) for _ in range(2)]
    results = [finish(process) for process in both]
    printed = f"['demo', '--seed', 'a b'] {checkout} {checkout / '.venv'}\n"
    assert [out for out, _ in results] == [printed, printed]
    assert sum("Making .venv" in err for _, err in results) == 1
    assert sum("Installing" in err for _, err in results) == 1

    # Nothing to do: nothing said.
    assert finish(start(checkout))[1] == ""

    # Another lock: installed into the same environment.
    kept = checkout / ".venv" / "kept"
    kept.touch()
    (checkout / "requirements.lock").write_text("# nothing else\n")
    err = finish(start(checkout))[1]
    assert "Installing" in err
    assert "Making" not in err
    assert kept.exists()

    # Killed in the middle of an installation: made anew.
    (checkout / ".venv" / ".unfinished").touch()
    (checkout / ".venv" / ".installed-requirements.lock").unlink()
    err = finish(start(checkout))[1]
    assert "Making .venv" in err
    assert not kept.exists()

    # A lock that cannot be installed: an honest exit code, and no note that it was.
    (checkout / "requirements.lock").write_text("no-hash-given==1.0\n")
    failed = start(checkout)
    out, err = failed.communicate()
    assert failed.returncode == 3
    assert out == ""
    assert "Installing requirements.lock failed" in err
    assert not (checkout / ".venv" / ".installed-requirements.lock").exists()


def test_no_python_is_said_plainly(checkout: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("dirname", "sh", "env"):
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    refused = start(checkout, PATH=str(tools), PYTHON="")
    out, err = refused.communicate()
    assert (refused.returncode, out) == (3, "")
    assert "Python 3.11, 3.12, 3.13 or 3.14 is needed" in err
