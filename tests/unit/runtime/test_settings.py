"""Settings: four sources, one order, no unknown names, no secrets shown."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import tomllib
from pathlib import Path

import pytest

from runtime.settings import LimitsSettings, ProfileSettings, Settings, masked, write_example
from runtime.sources import BadSettings
from signals.profile import DEFAULT_PROFILES, HOUR_MS, FillRule, Limits, Profile, RunMode

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("PENUMBRA_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def toml(text: str) -> None:
    path = Path("penumbra.toml")
    path.write_text(text)
    path.chmod(0o600)


def secrets(monkeypatch: pytest.MonkeyPatch, **files: str) -> None:
    Path("secrets").mkdir(exist_ok=True)
    for name, text in files.items():
        path = Path("secrets") / name
        path.write_text(text)
        path.chmod(0o600)
    monkeypatch.setenv("PENUMBRA_SECRETS_DIR", "secrets")


def test_defaults() -> None:
    settings = Settings.load()
    assert settings.redis.url is None
    assert settings.postgres.url is None
    assert settings.data_dir == Path(".penumbra")
    assert settings.namespace == ""
    assert settings.embedded.fsync == "everysec"
    assert settings.queue.model_dump() == {
        "name": "signals",
        "result_ttl_s": 500,
        "failure_ttl_s": 86_400,
        "job_timeout_s": 10,
    }
    assert settings.relay.model_dump() == {"batch": 200, "poll_ms": 200}
    assert settings.follow.model_dump() == {"checkpoint_every": 96, "reorder_window": 3}
    assert (settings.log.level, settings.log.as_json) == ("info", False)
    assert settings.profiles_built() == DEFAULT_PROFILES


def test_each_source_gives_way_to_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def names() -> tuple[str, int]:
        settings = Settings.load()
        return settings.queue.name, settings.queue.job_timeout_s

    toml('[queue]\nname = "file"\njob_timeout_s = 7\n')
    assert names() == ("file", 7)
    secrets(monkeypatch, penumbra_queue__name="secret\n")
    assert names() == ("secret", 7)
    monkeypatch.setenv("PENUMBRA_QUEUE__NAME", "environment")
    assert names() == ("environment", 7)
    assert Settings.load(queue={"name": "given"}).queue.model_dump() == {
        "name": "given",
        "result_ttl_s": 500,
        "failure_ttl_s": 86_400,
        "job_timeout_s": 7,
    }


def test_addresses_have_plain_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENUMBRA_REDIS_URL", "redis://:hidden@cache:6379/1")
    secrets(monkeypatch, PENUMBRA_POSTGRES_URL="postgresql://gate:hidden@db/penumbra\n")
    settings = Settings.load()
    assert settings.redis.url == "redis://:hidden@cache:6379/1"
    assert settings.postgres.url is not None
    assert settings.postgres.url.get_secret_value() == "postgresql://gate:hidden@db/penumbra"
    assert "hidden" not in repr(settings)
    shown = settings.redacted()
    assert "hidden" not in json.dumps(shown)
    assert shown["redis"]["url"] == "redis://:***@cache:6379/1"
    assert shown["postgres"]["url"] == "postgresql://gate:***@db/penumbra"
    assert shown["profiles"]["scalp"]["limits"]["per_symbol"] == 3


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("postgresql://me:p@ss:w0rd@host/db", "postgresql://me:***@host/db"),
        (
            "postgresql://me@host/db?password=hidden&sslmode=require",
            "postgresql://me@host/db?password=***&sslmode=require",
        ),
        ("host=db user=me password='it''s hidden' dbname=x", "host=db user=me password=***'s hidden' dbname=x"),
        ("host=db password=hidden dbname=x", "host=db password=*** dbname=x"),
        ("host=db PASSWORD = 'with \\' quote' dbname=x", "host=db PASSWORD = *** dbname=x"),
        ("unix:///tmp/penumbra-1/valkey.sock?db=0", "unix:///tmp/penumbra-1/valkey.sock?db=0"),
        (
            "postgresql://penumbra@/penumbra?host=/tmp/x&port=5432",
            "postgresql://penumbra@/penumbra?host=/tmp/x&port=5432",
        ),
    ],
)
def test_masked(address: str, expected: str) -> None:
    assert masked(address) == expected


def test_profiles_are_laid_over_the_built_in_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    toml(
        """
        [profiles.trend]
        timeout_hours = 12.5
        tp1_r = "none"
        run_mode = "SHADOW"
        [profiles.trend.limits]
        per_symbol = 1
        [profiles.breakout_4h]
        timeout_ms = 60_000
        tp1_r = 2.0
        heuristic = "trend"
        features = "trend"
        fill = "next_open"
        """
    )
    monkeypatch.setenv("PENUMBRA_PROFILES__TREND__STATIC_THRESHOLD", "81.5")
    monkeypatch.setenv("PENUMBRA_PROFILES__SCALP__LIMITS__DAILY_LOSS_R", "0")
    monkeypatch.setenv("PENUMBRA_PROFILES__BREAKOUT_4H__COSTS_BPS", "7")
    built = Settings.load().profiles_built()
    trend = DEFAULT_PROFILES["trend"]
    assert built["trend"] == dataclasses.replace(
        trend,
        timeout_ms=round(12.5 * HOUR_MS),
        tp1_r=None,
        run_mode=RunMode.SHADOW,
        static_threshold=81.5,
        limits=dataclasses.replace(trend.limits, per_symbol=1),
    )
    assert built["range"] == DEFAULT_PROFILES["range"]
    assert built["scalp"].limits == dataclasses.replace(Limits(), daily_loss_r=0.0)
    assert Settings.load().profile("breakout_4h") == Profile(
        name="breakout_4h",
        timeout_ms=60_000,
        tp1_r=2.0,
        heuristic="trend",
        features="trend",
        fill=FillRule.NEXT_OPEN,
        costs_bps=7.0,
    )
    with pytest.raises(BadSettings, match="there is no profile trent; there are breakout_4h, range, scalp, trend"):
        Settings.load().profile("trent")


def test_every_field_of_a_profile_can_be_set() -> None:
    assert set(ProfileSettings.model_fields) == {f.name for f in dataclasses.fields(Profile)} - {"name"} | {
        "timeout_hours"
    }
    assert set(LimitsSettings.model_fields) == {field.name for field in dataclasses.fields(Limits)}


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("PENUMBRA_QUEUE__NMAE", "environment: unknown name PENUMBRA_QUEUE__NMAE; did you mean PENUMBRA_QUEUE__NAME?"),
        ("PENUMBRA_REDIS__URL", "unknown name PENUMBRA_REDIS__URL; did you mean PENUMBRA_REDIS_URL?"),
        ("PENUMBRA_POSTGRES_URI", "unknown name PENUMBRA_POSTGRES_URI; did you mean PENUMBRA_POSTGRES_URL?"),
        ("PENUMBRA_QUEUE", "unknown name PENUMBRA_QUEUE"),
        ("PENUMBRA_QUEUE__NAME__MORE", "unknown name PENUMBRA_QUEUE__NAME__MORE"),
        ("PENUMBRA_", "unknown name PENUMBRA_"),
        (
            "PENUMBRA_PROFILES__TREND__STATIC_TRESHOLD",
            "did you mean PENUMBRA_PROFILES__TREND__STATIC_THRESHOLD?",
        ),
    ],
)
def test_an_unknown_variable_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, message: str) -> None:
    monkeypatch.setenv(variable, "x")
    with pytest.raises(BadSettings, match=re.escape(message)):
        Settings.load()


def test_reserved_and_empty_variables_are_not_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENUMBRA_REFERENCE_DATA", "/data")
    monkeypatch.setenv("PENUMBRA_CHROMIUM", "/chromium")
    monkeypatch.setenv("PENUMBRA_REDIS_URL", "")
    assert Settings.load() == Settings()


def test_an_unknown_key_of_the_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    toml(
        "nmespace = 'x'\n[queue]\nname = 'a'\nresult_ttl = 1\n"
        "[profiles.trend.limits]\nper_symbl = 1\n[qeue]\nname = 'b'\n"
    )
    with pytest.raises(BadSettings) as caught:
        Settings.load()
    assert str(caught.value).splitlines() == [
        "penumbra.toml: unknown name nmespace; did you mean namespace?",
        "penumbra.toml: unknown name queue.result_ttl; did you mean queue.result_ttl_s?",
        "penumbra.toml: unknown name profiles.trend.limits.per_symbl; did you mean profiles.trend.limits.per_symbol?",
        "penumbra.toml: unknown name qeue; did you mean queue?",
    ]
    Path("penumbra.toml").rename("other.toml")
    assert Settings.load().queue.name == "signals"
    monkeypatch.setenv("PENUMBRA_CONFIG", "other.toml")
    with pytest.raises(BadSettings, match=r"other\.toml: unknown name nmespace"):
        Settings.load()


def test_an_unknown_secret_file_is_refused_and_bookkeeping_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets(monkeypatch, **{"..data": "x", "PENUMBRA_REDIS_URL": "redis://a"})
    assert Settings.load().redis.url == "redis://a"
    secrets(monkeypatch, penumbra_redis_ulr="redis://b")
    with pytest.raises(BadSettings, match="unknown name penumbra_redis_ulr; did you mean PENUMBRA_REDIS_URL"):
        Settings.load()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[queue\n", "penumbra.toml cannot be read"),
        ("[queue]\njob_timeout_s = 0\n", "queue.job_timeout_s: Input should be greater than or equal to 1"),
        ("queue = 3\n", "queue: Input should be a valid dictionary"),
        ("namespace = 'A b'\n", "namespace: String should match pattern"),
        ("[redis]\nurl = 'http://hidden:hidden@x'\n", "redis.url: String should match pattern"),
        ("[embedded]\nfsync = 'never'\n", "embedded.fsync: Input should be 'everysec' or 'always'"),
        ("[profiles.trend]\ntimeout_hours = 1\ntimeout_ms = 1\n", "give timeout_hours or timeout_ms, not both"),
        ("[profiles.trend]\nstatic_threshold = 101\n", "profiles.trend: FIELD_RANGE at static_threshold"),
        ("[profiles.trend.limits]\nper_symbol = -1\n", "profiles.trend: FIELD_RANGE at per_symbol: 0 (off) to 1e9"),
        ("[profiles.mine]\ntp1_r = 1\n", "profiles.mine: a profile of your own needs timeout_hours and tp1_r"),
        ("[profiles.'Mine!']\ntp1_r = 1\n", "profiles.Mine!: a name is of small letters"),
    ],
)
def test_bad_values_are_named_without_being_shown(text: str, message: str) -> None:
    toml(text)
    with pytest.raises(BadSettings) as caught:
        Settings.load()
    assert message in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("variable", ["PENUMBRA_CONFIG", "PENUMBRA_SECRETS_DIR"])
def test_a_named_place_must_exist(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "nowhere")
    with pytest.raises(BadSettings, match="nowhere cannot be read"):
        Settings.load()


def test_the_example_is_current_and_shows_the_defaults() -> None:
    text = (ROOT / "penumbra.example.toml").read_text()
    assert text == write_example(), (
        "write it again: python -c 'from runtime.settings import *; print(write_example(), end=\"\")'"
    )
    assert tomllib.loads(text).keys() == {
        "redis",
        "postgres",
        "embedded",
        "queue",
        "relay",
        "follow",
        "breakers",
        "log",
        "access",
        "profiles",
    }
    toml(text)
    assert Settings.load() == Settings.load(profiles={name: {"limits": {}} for name in DEFAULT_PROFILES})
    toml(re.sub(r"(?m)^# (?=\w+ = )", "", text))
    uncommented = Settings.load()
    defaults = Settings()
    assert uncommented.redis.url is not None
    assert uncommented.postgres.url is not None
    assert uncommented.profiles_built() == DEFAULT_PROFILES
    for name in ("data_dir", "namespace", "embedded", "queue", "relay", "follow", "log"):
        assert getattr(uncommented, name) == getattr(defaults, name)


def test_a_profile_of_ones_own_borrows_rules_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"timeout_hours": 2, "tp1_r": 1.0}
    with pytest.raises(BadSettings, match="heuristic: one of range, scalp, trend"):
        Settings.load(profiles={"other": own})
    with pytest.raises(BadSettings, match="features: one of"):
        Settings.load(profiles={"other": own | {"heuristic": "trend"}})
    built = Settings.load(profiles={"other": own | {"heuristic": "trend", "features": "trend"}}).profile("other")
    assert (built.heuristic, built.features) == ("trend", "trend")
