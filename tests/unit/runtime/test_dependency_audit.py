"""The dependency audit: real pip-audit against an advisory database of our own."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from scripts.audit import LOCKS, PROBE, SERVICE, main

ROOT = Path(__file__).parents[3]
Serve = Callable[[Mapping[str, list[str]]], str]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Start a database that knows some packages as vulnerable, each with the versions that mend it."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    started: list[ThreadingHTTPServer] = []

    def start(known: Mapping[str, list[str]]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                name = asked["package"]["name"]
                events: list[dict[str, Any]] = [{"introduced": "0"}, *({"fixed": fix} for fix in known.get(name, []))]
                affected = {"package": asked["package"], "ranges": [{"type": "ECOSYSTEM", "events": events}]}
                vulns = [{"id": f"TEST-{name}", "summary": "x", "affected": [affected]}] if name in known else []
                body = json.dumps({"vulns": vulns} if vulns else {}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        started.append(server)
        return f"http://127.0.0.1:{server.server_port}/v1/query"

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


@pytest.fixture
def lock(tmp_path: Path) -> str:
    path = tmp_path / "some.lock"
    digest = hashlib.sha256(b"a").hexdigest()
    path.write_text("".join(f"{name}==1.0 \\\n    --hash=sha256:{digest}\n" for name in ("alpha", "beta")))
    return str(path)


def test_a_vulnerability_with_a_fix_fails(serve: Serve, lock: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([lock, "--service", serve({"beta": ["1.1", "2.0"]})]) == 1
    assert "FAILED: beta 1.0: TEST-beta, fixed in 1.1, 2.0" in capsys.readouterr().out


def test_one_without_a_fix_warns(serve: Serve, lock: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([lock, "--service", serve({"alpha": []})]) == 0
    out = capsys.readouterr().out
    assert "warning: alpha 1.0: TEST-alpha, no fix yet" in out
    assert "1 known vulnerabilities, 0 with a fix" in out


def test_a_clean_lock_passes(serve: Serve, lock: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([lock, "--service", serve({})]) == 0
    assert "0 known vulnerabilities" in capsys.readouterr().out


def test_our_own_lock_is_read_to_the_last_package(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(LOCKS[0]), "--service", serve({"redis": ["99"], "numpy": ["99"], "psycopg": ["99"]})]) == 1
    assert "3 known vulnerabilities, 3 with a fix, in 1 locks" in capsys.readouterr().out


def test_a_database_out_of_reach_is_told_loudly(lock: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([lock, "--service", "http://127.0.0.1:1/v1/query"]) == 0
    out = capsys.readouterr().out
    assert "!!!! NOT RUN" in out
    assert "0 known" not in out


def test_an_auditor_that_fails_is_not_taken_for_a_clean_bill(
    serve: Serve, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.lock"
    bad.write_text("alpha>=1.0\n")
    assert main([str(bad), "--service", serve({})]) == 0
    assert "!!!! NOT RUN" in capsys.readouterr().out


def test_the_continuous_integration_runs_it() -> None:
    text = (ROOT / ".ci" / "run").read_text()
    assert "from scripts.audit import main" in text
    assert text.index("./scripts/test") < text.index("scripts.audit")
    assert SERVICE.startswith("https://")
    assert PROBE["package"] != {}
    assert all(path.exists() for path in LOCKS)
