"""Ask the advisory database about every locked package: fails on a known vulnerability that has a fix.

Run as ``python -m scripts.audit``. A machine that cannot reach the database says so, loudly, and fails nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SERVICE = "https://api.osv.dev/v1/query"
LOCKS = (ROOT / "requirements.lock", ROOT / "requirements-dev.lock")
PROBE = {"package": {"name": "penumbra-probe", "ecosystem": "PyPI"}, "version": "0"}
PROBE_S = 10
AUDIT_S = 600


@dataclass(frozen=True, slots=True)
class Advisory:
    """One known vulnerability of one locked version, and the versions that mend it."""

    package: str
    version: str
    id: str
    fixed_in: tuple[str, ...]

    def __str__(self) -> str:
        """One line."""
        mended = f"fixed in {', '.join(self.fixed_in)}" if self.fixed_in else "no fix yet"
        return f"{self.package} {self.version}: {self.id}, {mended}"


def unreachable(service: str) -> str | None:
    """Why the database does not answer as it should, or none when it does."""
    if not service.startswith(("https://", "http://127.0.0.1:")):
        return f"{service} is not an https address"
    asked = urllib.request.Request(service, json.dumps(PROBE).encode(), {"Content-Type": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(asked, timeout=PROBE_S) as reply:  # noqa: S310 - checked above
            json.loads(reply.read(1_000_000))
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def advisories(report: Mapping[str, Any]) -> Iterator[Advisory]:
    """Read what pip-audit found."""
    for package in report["dependencies"]:
        for found in package.get("vulns", ()):
            yield Advisory(package["name"], package.get("version", "?"), found["id"], tuple(found["fix_versions"]))


def audit(lock: Path, service: str) -> list[Advisory]:
    """Let pip-audit ask about one lock file; raises ``OSError`` or ``ValueError`` when it cannot."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--require-hashes", "--disable-pip"]
        command += ["--vulnerability-service", "osv", "--osv-url", service, "--format", "json", "--output", str(out)]
        command += ["--progress-spinner", "off", "--cache-dir", str(Path(folder) / "cache")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=AUDIT_S)  # noqa: S603, PLW1510
        if done.returncode not in (0, 1) or not out.exists():
            raise OSError(f"pip-audit ended with {done.returncode}: {done.stderr.strip()[-800:]}")
        return list(advisories(json.loads(out.read_text("utf-8"))))


def main(arguments: Sequence[str] | None = None) -> int:
    """Audit the lock files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("locks", nargs="*", type=Path, default=LOCKS)
    parser.add_argument("--service", default=SERVICE)
    told = parser.parse_args(arguments)
    print("\n== dependency audit")
    why = unreachable(told.service)
    found: dict[Advisory, None] = {}
    if why is None:
        try:
            for lock in told.locks:
                found |= dict.fromkeys(audit(lock, told.service))
        except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
            why = f"{type(error).__name__}: {error}"
    if why is not None and not found:
        print(f"!!!! NOT RUN: {told.service} or pip-audit does not answer ({why})")
        print("!!!! Whether a locked package has a known vulnerability is NOT KNOWN from this run.")
        return 0
    for advisory in found:
        print(f"{'FAILED' if advisory.fixed_in else 'warning'}: {advisory}")
    fixable = sum(1 for advisory in found if advisory.fixed_in)
    print(f"dependency audit: {len(found)} known vulnerabilities, {fixable} with a fix, in {len(told.locks)} locks")
    return 1 if fixable else 0


if __name__ == "__main__":
    sys.exit(main())
