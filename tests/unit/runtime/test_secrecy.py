"""Secrets: which are refused, where they may lie, and that nothing shows them."""

from __future__ import annotations

import hashlib
import logging
import re
import secrets as chance
import string
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from runtime.logs import LineFormatter, configure
from runtime.secrecy import MASK, hidden, is_local, password_of, spellings, weakness
from runtime.settings import Settings
from runtime.signing import check_secrets, signing_keys
from runtime.sources import BadSettings
from runtime.wiring import Wiring
from scripts.cli import main
from signals.errors import Permanent

ROOT = Path(__file__).parents[3]


def made(word: str) -> str:
    """A secret nobody chose, the same in every run."""
    return hashlib.sha256(word.encode()).hexdigest()[:48]


GOOD = made("password")
KEY = made("key")
REDIS = f"redis://worker:{GOOD}@cache:6379/0"
POSTGRES = f"postgresql://gate:{GOOD}@db/penumbra"


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# --- what is refused

WEAK = [
    pytest.param("", "has 0 characters", id="empty"),
    pytest.param("hunter2", "has 7 characters", id="short"),
    pytest.param(GOOD[:23], "has 23 characters", id="one too few"),
    pytest.param("change-me-" + GOOD, "examples", id="an example"),
    pytest.param("MyDatabasePassword0123456789", "examples", id="the word itself"),
    pytest.param("k" * 48, "1 different", id="one character"),
    pytest.param("9f3ac17be204" * 4, "repeats", id="a pattern"),
]


@pytest.mark.parametrize(("secret", "why"), WEAK)
def test_a_weak_secret_is_refused_without_being_repeated(secret: str, why: str) -> None:
    found = weakness(secret)
    assert found is not None
    assert why in found
    assert not secret or secret not in found


@pytest.mark.parametrize(
    "alphabet", [string.hexdigits[:16], string.ascii_letters + string.digits, string.printable[:94]]
)
def test_random_secrets_are_taken(alphabet: str) -> None:
    refused = [
        secret
        for number in range(500)
        for secret in [
            "".join(alphabet[byte % len(alphabet)] for byte in hashlib.sha512(f"{number}".encode()).digest())
        ]
        if weakness(secret) is not None
    ]
    assert refused == []
    assert weakness(chance.token_hex(24)) is None


def own(**given: object) -> Settings:
    told: dict[str, object] = {"redis": {"url": REDIS}, "postgres": {"url": POSTGRES}, "signing_key": KEY}
    return Settings.load(**{**told, **given})


def test_control_good_secrets_start() -> None:
    check_secrets(own())
    assert signing_keys(own(retired_signing_keys=f"{made('a')}, {made('b')}")) == tuple(
        word.encode() for word in (KEY, made("a"), made("b"))
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param({"redis": {"url": "redis://cache:6379"}}, "redis.url has no password", id="redis, none"),
        pytest.param(
            {"redis": {"url": "redis://:hunter2@cache"}}, "the password in redis.url has 7", id="redis, short"
        ),
        pytest.param({"redis": {"url": f"redis://:{'x' * 30}@cache"}}, "redis.url has only 1", id="redis, one letter"),
        pytest.param(
            {"postgres": {"url": "postgresql://gate@db/x"}}, "postgres.url has no password", id="postgres, none"
        ),
        pytest.param(
            {"postgres": {"url": "postgresql://db/x?password=abc"}}, "postgres.url has 3", id="as a parameter"
        ),
        pytest.param({"postgres": {"url": "host=db password='abc d'"}}, "postgres.url has 5", id="as a string"),
        pytest.param({"signing_key": "short"}, "signing_key has 5 characters, at least 32", id="key, short"),
        pytest.param({"signing_key": f"example{KEY}"}, "signing_key contains a word", id="key, example"),
        pytest.param({"retired_signing_keys": f"{KEY},old"}, "retired_signing_keys has 3", id="an old key"),
    ],
)
def test_own_servers_with_a_weak_secret_are_not_started_against(given: dict[str, object], message: str) -> None:
    wiring = Wiring(own(**given))
    with pytest.raises(Permanent, match=re.escape(message)) as caught:
        wiring.ensure_namespace()
    assert "token_hex" in str(caught.value)
    assert GOOD not in str(caught.value)
    assert "client" not in vars(wiring), "refused before anything was connected to"


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(Permanent, match=r"redis\.url .*; .*postgres\.url .*; signing_key "):
        check_secrets(own(redis={"url": "redis://a"}, postgres={"url": "postgresql://a/b"}, signing_key="x"))


def test_a_worker_of_shared_servers_needs_a_key() -> None:
    with pytest.raises(Permanent, match="PENUMBRA_SIGNING_KEY"):
        Wiring(own(signing_key=None)).require_keys()
    Wiring(Settings.load(redis={"url": "unix:///run/valkey.sock"})).require_keys()


@pytest.mark.parametrize(
    "local", ["unix:///run/valkey.sock", "postgresql://gate@/x?host=/run/pg", "host=/run/pg user=g"]
)
def test_a_socket_is_guarded_by_its_folder(local: str) -> None:
    assert is_local(local)
    check_secrets(Settings.load(**{"redis" if "valkey" in local else "postgres": {"url": local}}))


@pytest.mark.parametrize(
    "remote", ["redis://h", "postgresql://h/x?host=/run/pg", "postgresql://a@/x?host=db,/run/pg", "host=db"]
)
def test_everything_else_is_not(remote: str) -> None:
    assert not is_local(remote)


def test_postgres_may_find_its_credentials_elsewhere() -> None:
    for address in (
        "postgresql://g@db/x?passfile=/run/pass",
        "host=db sslcert=/run/me.crt",
        "postgresql:///?service=x",
    ):
        check_secrets(own(postgres={"url": address}))


def test_a_halt_asks_for_no_better_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused by the server that is not there, not by the password."""
    monkeypatch.setenv("PENUMBRA_REDIS_URL", "redis://:hunter2@127.0.0.1:1/0")
    result = CliRunner().invoke(main, ["halt"])
    assert "redis: ConnectionError" in result.output
    assert "redis.url" not in result.output
    refused = CliRunner().invoke(main, ["migrate"])
    assert (refused.exit_code, "redis.url has 7 characters" in refused.output) == (2, True)


def test_the_example_holds_no_secret_that_would_be_taken() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    values = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert {name for name in values if "PASSWORD" in name or "KEY" in name}
    for name, value in values.items():
        assert weakness(value) is not None, name
    for address in re.findall(r"\w+://\S+", (ROOT / "penumbra.example.toml").read_text()):
        assert weakness(password_of(address.strip('"')) or "") is not None


# --- where secrets may lie


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o666])
@pytest.mark.parametrize("kind", ["secret file", "toml"])
def test_a_file_others_can_read_is_no_place_for_a_secret(monkeypatch: pytest.MonkeyPatch, kind: str, mode: int) -> None:
    if kind == "toml":
        path = Path("penumbra.toml")
        path.write_text(f'signing_key = "{KEY}"\n')
    else:
        path = Path("secrets/penumbra_signing_key")
        path.parent.mkdir()
        path.write_text(KEY)
        monkeypatch.setenv("PENUMBRA_SECRETS_DIR", "secrets")
    path.chmod(mode)
    with pytest.raises(BadSettings, match="can be read by others: chmod 600") as caught:
        Settings.load()
    assert KEY not in str(caught.value)
    path.chmod(0o600)
    assert Settings.load().secrets() == (KEY,)


def test_what_is_no_secret_may_be_read_by_all() -> None:
    path = Path("penumbra.toml")
    path.write_text('[redis]\nurl = "unix:///run/valkey.sock"\n[queue]\nname = "a"\n')
    path.chmod(0o644)
    assert Settings.load().queue.name == "a"


def test_no_command_takes_a_secret_as_an_argument() -> None:
    words = re.compile(r"pass|secret|token|key$|url|dsn|credential", re.IGNORECASE)
    assert isinstance(main, click.Group)
    taken = [
        f"{name} {option.name}"
        for name, command in main.commands.items()
        for option in command.params
        if words.search(option.name or "")
    ]
    assert taken == ["state key"], "a key of the live state, and nothing else"
    assert words.search("redis_password")


# --- what is shown

BOT = f"1234567890:{made('bot')[:35]}"
CANARIES = {
    "a configured password": GOOD,
    "a configured key": KEY,
    "a bot token in an address": f"https://api.telegram.org/bot{BOT}/getUpdates",
    "a bot token": BOT,
    "a bearer token": f"Authorization: Bearer {made('bearer')}",
    "a foreign address": f"postgresql://other:{made('foreign')}@db/x",
    "a field": f'{{"password": "{made("field")}"}}',
    "a parameter": f"GET /x?api_key={made('parameter')}&a=1",
}
PARTS = [GOOD, KEY, BOT, BOT.partition(":")[2], *map(made, ("bearer", "foreign", "field", "parameter", "extra"))]


@pytest.fixture
def root() -> Iterator[None]:
    logger, hooks = logging.getLogger(), (sys.excepthook, threading.excepthook)
    handlers, level = logger.handlers[:], logger.level
    levels = {name: logging.getLogger(name).level for name in ("rq.worker", "httpx", "httpcore")}
    yield
    logger.handlers[:], logger.level = handlers, level
    sys.excepthook, threading.excepthook = hooks
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def fail(canary: str) -> None:
    try:
        try:
            raise ValueError(f"inner {canary}")
        except ValueError as error:
            error.add_note(f"noted {canary}")
            raise RuntimeError(f"outer {canary}") from error
    except RuntimeError:
        raise OSError(f"handling {canary}")  # noqa: B904 - the context is what is tested


def log_everywhere(name: str, canary: str) -> None:
    log = logging.getLogger(name)
    log.warning("said %s", canary)
    log.warning(f"in front of it: {canary}")  # noqa: G004 - whoever does is covered too
    log.warning("told", extra={"address": canary, "nested": {"a": [canary]}, "token": made("extra")})
    log.warning("kept %r", {"url": canary})
    log.warning("too few arguments %s %s", canary)  # noqa: PLE1206
    log.warning("%d", canary)
    try:
        fail(canary)
    except OSError:
        log.exception("failed")
    log.warning("stack", stack_info=True)


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("logger", ["", "worker.relay", "httpx.client", "redis.connection", "psycopg.pool"])
@pytest.mark.parametrize("canary", CANARIES.values(), ids=CANARIES.keys())
def test_no_line_shows_a_secret(capsys: pytest.CaptureFixture[str], logger: str, canary: str, as_json: bool) -> None:
    configure("info", as_json=as_json, secrets=own().secrets())
    log_everywhere(logger, canary)
    told = capsys.readouterr().err
    assert [part for part in PARTS if part in told] == []
    assert MASK in told
    for word in ("said", "in front of it", "told", "kept", "too few", "inner", "noted", "outer", "handling", "failed"):
        assert word in told
    assert len(told.splitlines()) == 8


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize("canary", CANARIES.values(), ids=CANARIES.keys())
def test_control_without_the_formatter_each_is_shown(capsys: pytest.CaptureFixture[str], canary: str) -> None:
    logging.basicConfig(level="INFO", force=True)
    log_everywhere("worker.relay", canary)
    assert canary in capsys.readouterr().err


@pytest.mark.usefixtures("root")
def test_what_ends_a_process_or_a_thread_is_a_line_like_any_other(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", as_json=True, secrets=own().secrets())
    try:
        fail(REDIS)
    except OSError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    thread = threading.Thread(target=fail, args=(REDIS,), name="pulse")
    thread.start()
    thread.join()
    told = capsys.readouterr().err
    assert GOOD not in told
    assert len(told.splitlines()) == 2
    assert told.count("handling redis://worker:***@cache") == 2


def test_extra_fields_are_shown_and_cannot_stand_in_for_ours() -> None:
    record = logging.makeLogRecord(
        {
            "msg": "hello",
            "name": "a\nb",
            "levelname": "INFO",
            "strategy": "trend",
            "n": 3,
            "level": "x\x1b[2J",
            "bad": float("nan"),
        }
    )
    line = LineFormatter(as_json=True).format(record)
    assert '"level": "info"' in line
    assert '"extra_level": "x\\u001b[2J"' in line
    assert '"strategy": "trend", "n": 3' in line
    assert '"bad": "nan"' in line
    plain = LineFormatter(as_json=False).format(record)
    assert plain.isprintable()
    assert plain.endswith(r"a\nb hello strategy=trend n=3 extra_level=x\x1b[2J bad=nan")


def test_a_delete_character_does_not_reach_the_terminal() -> None:
    for as_json in (True, False):
        assert LineFormatter(as_json=as_json).format(logging.makeLogRecord({"msg": "a\x7fb"})).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "signal trend-BTCUSDT-2026-11-20T12:00 of trend:pos:s1 at 1704067200000",
        "phantom:pos:trend-BTCUSDT-2026-11-20 and ml:sig:abc, 12:34:56",
        "redis: ConnectionError: Error 111 connecting to 127.0.0.1:6379",
        "unix:///tmp/penumbra-1/valkey.sock?db=0",
        "bundle 0123456789ab: attempt 3 came too late",
        "the basic rule, a bearer of news",
    ],
)
def test_ordinary_lines_stay_as_they_are(text: str) -> None:
    assert hidden(text, spellings("short")) == text


@pytest.mark.parametrize("as_json", [True, False])
def test_a_secret_is_hidden_before_a_line_is_cut(as_json: bool) -> None:
    formatter = LineFormatter(as_json=as_json, secrets=(GOOD,))
    for place in range(1_900, 2_001):
        assert GOOD[:8] not in formatter.format(logging.makeLogRecord({"msg": "x" * place + GOOD}))


@pytest.mark.parametrize(
    "text", ["://:" * 16_000, "bot1:" * 13_000, "password=" * 7_000, "bearer " * 9_000, "1" * 65_000]
)
def test_a_hostile_text_is_searched_in_one_go(text: str) -> None:
    """Ends at all: a pattern that went back again and again would take hours."""
    assert len(hidden(text)) <= 2 * len(text)


def test_what_a_command_prints_hides_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENUMBRA_REDIS_URL", f"redis://:{GOOD}@127.0.0.1:1/0")
    monkeypatch.setenv("PENUMBRA_POSTGRES_URL", f"postgresql://gate:{GOOD}%zz@db/x")
    monkeypatch.setenv("PENUMBRA_SIGNING_KEY", KEY)
    for command in (["show-config"], ["halt"], ["migrate"], ["state", "phantom:active"], ["rebuild"]):
        result = CliRunner().invoke(main, command)
        assert GOOD not in result.output, command
        assert KEY not in result.output, command
    assert "***" in CliRunner().invoke(main, ["show-config"]).output


def test_objects_that_hold_secrets_do_not_print_them() -> None:
    settings = own(retired_signing_keys=made("retired"))
    for shown in (repr(settings), str(settings), str(settings.redacted()), settings.model_dump_json()):
        assert KEY not in shown
        assert made("retired") not in shown
    assert GOOD not in repr(settings)
    assert GOOD not in str(settings.redacted())
