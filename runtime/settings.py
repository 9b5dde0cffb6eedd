"""Settings: one tree of names, read from arguments, environment, secret files and a TOML file, in this order.

A name nobody knows is refused in every source: a misspelt limit that is silently ignored is a limit that is off.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from persistence.connection import COMMAND_TIMEOUT_S
from runtime.secrecy import MASK, masked, password_of, spellings
from runtime.sources import PREFIX, BadSettings, EnvironmentSource, SecretFilesSource, TomlSource
from scorer.heuristic import RULES
from scorer.schema import SCHEMAS
from signals.breaker import Thresholds
from signals.errors import Invalid
from signals.labelling import Labelling, Maturity
from signals.method import Method, Methods
from signals.profile import DEFAULT_PROFILES, HOUR_MS, Clamping, FillRule, Limits, Profile, RunMode, ThresholdMode
from signals.signal import STRATEGY_PATTERN

__all__ = ["MASK", "Settings", "masked", "write_example"]


def _word_to_none(value: object) -> object:
    """Environment and TOML have no null: they say ``none``."""
    return None if isinstance(value, str) and value.strip().lower() == "none" else value


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


OrNone = BeforeValidator(_word_to_none)
Word = BeforeValidator(_lower)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class RedisSettings(_Section):
    """Live state and queue: a Redis or Valkey of your own, or none for a private one."""

    url: Annotated[str | None, OrNone] = Field(
        default=None,
        repr=False,
        pattern=r"^(redis|rediss|unix)://",
        examples=["redis://user:password@127.0.0.1:6379/0"],
    )
    timeout_ms: int = Field(
        default=round(COMMAND_TIMEOUT_S * 1000), ge=10, le=60_000, description="how long one command may take"
    )


class PostgresSettings(_Section):
    """Record of facts: a Postgres of your own, or none for a private one."""

    url: Annotated[SecretStr | None, OrNone] = Field(
        default=None, examples=["postgresql://user:password@127.0.0.1/penumbra"]
    )


class EmbeddedSettings(_Section):
    """The private servers."""

    fsync: Annotated[Literal["everysec", "always"], Word] = Field(
        default="everysec", description="always: every write is slower; claims are on the disk before the go either way"
    )


class QueueSettings(_Section):
    """The queue engines put their signals in."""

    name: str = Field(default="signals", pattern=r"^[a-z][a-z0-9_.-]{0,63}$")
    result_ttl_s: int = Field(default=500, ge=0, le=604_800, description="how long an answer can be fetched")
    failure_ttl_s: int = Field(default=86_400, ge=1, le=86_400, description="how long a failed job is kept")
    job_timeout_s: int = Field(
        default=10, ge=1, le=3_600, description="a signal that is not judged by then is a phantom"
    )


class RelaySettings(_Section):
    """The way of committed facts to Postgres and the other sinks."""

    batch: int = Field(default=200, ge=1, le=10_000, description="facts per transaction")
    poll_ms: int = Field(default=200, ge=1, le=60_000, description="how long to wait for new facts")


class FollowSettings(_Section):
    """Following open positions through the candles."""

    checkpoint_every: int = Field(
        default=96, ge=1, le=100_000, description="candles between checkpoints of a quiet position"
    )
    reorder_window: int = Field(default=3, ge=0, le=1_000, description="candles a late one may come after")


class LogSettings(_Section):
    """What is logged, and how."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Word] = "info"
    as_json: bool = Field(default=False, alias="json", description="one JSON object a line")


class AccessSettings(_Section):
    """Passwords of the roles on a Redis of your own, from which `penumbra access` writes its ACL file."""

    engine_password: Annotated[SecretStr | None, OrNone] = None
    worker_password: Annotated[SecretStr | None, OrNone] = None
    relay_password: Annotated[SecretStr | None, OrNone] = None
    trainer_password: Annotated[SecretStr | None, OrNone] = None
    operator_password: Annotated[SecretStr | None, OrNone] = None
    dash_password: Annotated[SecretStr | None, OrNone] = None

    def given(self) -> dict[str, str]:
        """The passwords that are set, by role."""
        words = {name: getattr(self, name) for name in type(self).model_fields}
        return {name.removesuffix("_password"): word.get_secret_value() for name, word in words.items() if word}


def _built_in(kind: type[Profile | Limits | Methods | Labelling | Thresholds], name: str) -> Any:
    """Take a default from where it is decided; a profile that says nothing keeps it anyway."""
    return next(field.default for field in dataclasses.fields(kind) if field.name == name)


class LimitsSettings(_Section):
    """Hard limits on executed positions; 0 switches one off."""

    open_positions: int = _built_in(Limits, "open_positions")
    per_symbol: int = _built_in(Limits, "per_symbol")
    executes_per_minute: int = _built_in(Limits, "executes_per_minute")
    daily_loss_r: float = _built_in(Limits, "daily_loss_r")
    daily_loss_money: float = _built_in(Limits, "daily_loss_money")
    tracked_positions: int = _built_in(Limits, "tracked_positions")
    outbox_entries: int = _built_in(Limits, "outbox_entries")


class BreakerSettings(_Section):
    """Breakers of the namespace; 0 switches one off. Block: phantom; rules only: a model's execute does not count."""

    drawdown_r: float = Field(
        default=_built_in(Thresholds, "drawdown_r"), description="block: R below the high water of executed equity"
    )
    drawdown_percent: float = Field(
        default=_built_in(Thresholds, "drawdown_percent"), description="block: the same of money, when it is reported"
    )
    starting_equity: float = Field(
        default=_built_in(Thresholds, "starting_equity"), description="money at the beginning; 0: drawdown in R only"
    )
    losing_streak: int = Field(
        default=_built_in(Thresholds, "losing_streak"), description="rules only: executed losses in a row"
    )
    orders_per_second: int = Field(default=_built_in(Thresholds, "orders_per_second"), description="block: claims")
    slippage_ratio: float = Field(
        default=_built_in(Thresholds, "slippage_ratio"), description="rules only: last 20 fills to what costs_bps allow"
    )
    slippage_floor_r: float = Field(
        default=_built_in(Thresholds, "slippage_floor_r"), description="at least so much slip is expected of a fill"
    )
    regime_confidence: float = Field(
        default=_built_in(Thresholds, "regime_confidence"), description="rules only below it, when a signal sends one"
    )
    latency_ms: float = Field(
        default=_built_in(Thresholds, "latency_ms"), description="rules only: p99 of the last 100 decisions"
    )
    stale_periods: int = Field(
        default=_built_in(Thresholds, "stale_periods"), description="block: candles or watches missed"
    )
    watch_every_s: int = Field(
        default=_built_in(Thresholds, "watch_every_s"), description="how often the follower must look at least"
    )

    def built(self) -> Thresholds:
        """The thresholds these settings say."""
        return Thresholds(**self.model_dump())

    @model_validator(mode="after")
    def _thresholds_hold(self) -> Self:
        try:
            self.built()
        except Invalid as error:
            raise ValueError(str(error)) from error
        return self


class MethodSettings(_Section):
    """Which definition of each step of learning is in force: spec or evidence. The other one is always shown."""

    thresholds: Annotated[Method, Word] = _built_in(Methods, "thresholds")
    calibration: Annotated[Method, Word] = _built_in(Methods, "calibration")
    ensemble: Annotated[Method, Word] = _built_in(Methods, "ensemble")
    labels: Annotated[Method, Word] = _built_in(Methods, "labels")


class LabellingSettings(_Section):
    """What the learner takes as an outcome. The last four belong to labels by evidence."""

    drop_ambiguous: bool = Field(
        default=_built_in(Labelling, "drop_ambiguous"), description="leave out losses whose candle touched the target"
    )
    learn_from_timeouts: Annotated[bool | None, OrNone] = Field(
        default=None, description="at their mark price; none: when labels are by evidence"
    )
    window_days: float = Field(default=_built_in(Labelling, "window_days"), description="0: all outcomes kept")
    maturity: Annotated[Maturity, Word] = Field(
        default=_built_in(Labelling, "maturity"), description="cutoff, weights or off: fast losers are seen first"
    )
    uniqueness: bool = Field(
        default=_built_in(Labelling, "uniqueness"), description="weigh by how many labels live at the same time"
    )
    half_life_days: float = Field(default=_built_in(Labelling, "half_life_days"), description="0: no decay")
    size_exponent: float = Field(default=_built_in(Labelling, "size_exponent"), description="power of |R| in a weight")


class ProfileSettings(_Section):
    """What to change in one of the built-in profiles, or a profile of your own. Only what is written counts."""

    timeout_hours: float | None = Field(default=None, gt=0, le=10_000)
    timeout_ms: int | None = Field(default=None, gt=0, description="instead of timeout_hours")
    tp1_r: Annotated[float | None, OrNone] = Field(default=None, description="first target in R, or none")
    tp1_from_signal: bool = _built_in(Profile, "tp1_from_signal")
    state_prefix: str = _built_in(Profile, "state_prefix")
    first_training_at: int = _built_in(Profile, "first_training_at")
    retrain_every: int = _built_in(Profile, "retrain_every")
    heuristic: str = Field(default="", description="whose rule table scores before a model exists")
    features: str = Field(default="", description="whose feature schema")
    tracking_timeframe: str = _built_in(Profile, "tracking_timeframe")
    max_age_ms: Annotated[int | None, OrNone] = Field(default=None, description="none: a quarter candle, 30 s at most")
    static_threshold: float = _built_in(Profile, "static_threshold")
    run_mode: Annotated[RunMode, Word] = _built_in(Profile, "run_mode")
    heuristic_may_execute: bool = _built_in(Profile, "heuristic_may_execute")
    fill: Annotated[FillRule, Word] = _built_in(Profile, "fill")
    costs_bps: float = Field(default=_built_in(Profile, "costs_bps"), description="round trip")
    blend: float = Field(default=_built_in(Profile, "blend"), description="weight of the model beside the heuristic")
    clamp: Annotated[Clamping, Word] = _built_in(Profile, "clamp")
    threshold_mode: Annotated[ThresholdMode, Word] = Field(
        default=_built_in(Profile, "threshold_mode"), description="of the evidence method: balanced, spec or cautious"
    )
    require_badge: bool = Field(
        default=_built_in(Profile, "require_badge"), description="nothing passes where the threshold is not certified"
    )
    retrain_growth: float = Field(
        default=_built_in(Profile, "retrain_growth"), description="0.05: every max(retrain_every, 5 %) outcomes"
    )
    max_training_rows: int = Field(default=_built_in(Profile, "max_training_rows"), description="0: all")
    score_budget_ms: float = _built_in(Profile, "score_budget_ms")
    decision_ttl_ms: int = _built_in(Profile, "decision_ttl_ms")
    bands: bool = Field(
        default=_built_in(Profile, "bands"), description="win probability far above break-even: full size; near: half"
    )
    explore_rate: float = Field(
        default=_built_in(Profile, "explore_rate"),
        description="share of signals refused by score alone that execute all the same; 0: none, at most 0.05",
    )
    explore_size: float = Field(
        default=_built_in(Profile, "explore_size"), description="size multiplier of those: the least you can trade"
    )
    neighbours: int = Field(
        default=_built_in(Profile, "neighbours"), description="past signals each one is compared with; 0: none"
    )
    heads: bool = Field(
        default=_built_in(Profile, "heads"), description="also learn how far the price will go; shown, never decisive"
    )
    method: MethodSettings = MethodSettings()
    labelling: LabellingSettings = LabellingSettings()
    limits: LimitsSettings = LimitsSettings()

    @model_validator(mode="after")
    def _one_timeout(self) -> Self:
        if self.timeout_hours is not None and self.timeout_ms is not None:
            raise ValueError("give timeout_hours or timeout_ms, not both")
        return self

    def over(self, name: str, base: Profile | None) -> Profile:
        """Lay what was written over a built-in profile, or over the defaults of all for a new one."""
        written: dict[str, Any] = {
            field: getattr(self, field)
            for field in self.model_fields_set - {"limits", "method", "labelling", "timeout_hours", "timeout_ms"}
        }
        if self.timeout_hours is not None:
            written["timeout_ms"] = round(self.timeout_hours * HOUR_MS)
        elif self.timeout_ms is not None:
            written["timeout_ms"] = self.timeout_ms
        limits = {field: getattr(self.limits, field) for field in self.limits.model_fields_set}
        method = {field: getattr(self.method, field) for field in self.method.model_fields_set}
        labelling = {field: getattr(self.labelling, field) for field in self.labelling.model_fields_set}
        if base is None:
            missing = {"timeout_ms", "tp1_r"} - written.keys()
            if missing:
                raise ValueError("a profile of your own needs timeout_hours and tp1_r (a number of R, or none)")
            parts: dict[str, Any] = {
                "method": Methods(**method),
                "labelling": Labelling(**labelling),
                "limits": Limits(**limits),
            }
            return Profile(name=name, **parts, **written)
        parts = {
            "method": dataclasses.replace(base.method, **method),
            "labelling": dataclasses.replace(base.labelling, **labelling),
            "limits": dataclasses.replace(base.limits, **limits),
        }
        return dataclasses.replace(base, **parts, **written)


class Settings(BaseSettings):
    """Everything that can be set. ``Settings.load()`` reads it and speaks plainly about what is wrong."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    data_dir: Path = Field(default=Path(".penumbra"), description="signing key and private servers")
    namespace: str = Field(
        default="", pattern=r"^([a-z][a-z0-9_-]{0,31})?$", description="keeps installations on one Redis apart"
    )
    signing_key: Annotated[SecretStr | None, OrNone] = Field(
        default=None, description="signs bundles; needed with servers of your own, else kept in data_dir"
    )
    retired_signing_keys: Annotated[SecretStr | None, OrNone] = Field(
        default=None, description="former signing keys, separated by commas: their bundles are served, none is signed"
    )
    redis: RedisSettings = RedisSettings()
    postgres: PostgresSettings = PostgresSettings()
    embedded: EmbeddedSettings = EmbeddedSettings()
    queue: QueueSettings = QueueSettings()
    relay: RelaySettings = RelaySettings()
    follow: FollowSettings = FollowSettings()
    breakers: BreakerSettings = BreakerSettings()
    log: LogSettings = LogSettings()
    access: AccessSettings = AccessSettings()
    profiles: dict[str, ProfileSettings] = Field(default={}, examples=list(DEFAULT_PROFILES))

    @classmethod
    def load(cls, **given: Any) -> Settings:
        """Read the settings, those given here first."""
        try:
            return cls(**given)
        except ValidationError as error:
            lines = [
                ": ".join(filter(None, (".".join(map(str, found["loc"])), found["msg"].removeprefix("Value error, "))))
                for found in error.errors(include_input=False)
            ]
            raise BadSettings("\n".join(lines)) from None  # the cause would print what was hidden here

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - these three are replaced by stricter ones
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Name the sources, strongest first."""
        return init_settings, EnvironmentSource(settings_cls), SecretFilesSource(settings_cls), TomlSource(settings_cls)

    @field_validator("data_dir")
    @classmethod
    def _at_home(cls, value: Path) -> Path:
        return value.expanduser()

    @model_validator(mode="after")
    def _profiles_hold(self) -> Self:
        self.profiles_built()
        return self

    def profiles_built(self) -> dict[str, Profile]:
        """Every profile: the built-in ones as the user changed them, and the user's own."""
        built = dict(DEFAULT_PROFILES)
        for name, written in self.profiles.items():
            if not STRATEGY_PATTERN.fullmatch(name) or "__" in name:
                raise ValueError(f"profiles.{name}: a name is of small letters, digits and single underscores")
            try:
                built[name] = _readable(written.over(name, DEFAULT_PROFILES.get(name)))
            except (Invalid, ValueError) as error:
                raise ValueError(f"profiles.{name}: {error}") from error
        return built

    def profile(self, name: str) -> Profile:
        """One profile by name."""
        built = self.profiles_built()
        if name not in built:
            raise BadSettings(f"there is no profile {name}; there are {', '.join(sorted(built))}")
        return built[name]

    @property
    def own_servers(self) -> bool:
        """Whether the user named a server: then other people may reach it, and other machines share its secrets."""
        return self.redis.url is not None or self.postgres.url is not None

    def retired_keys(self) -> tuple[str, ...]:
        """Former signing keys, newest first."""
        told = "" if self.retired_signing_keys is None else self.retired_signing_keys.get_secret_value()
        return tuple(filter(None, (key.strip() for key in told.split(","))))

    def secrets(self) -> tuple[str, ...]:
        """Everything that must not be shown, in each form it may turn up in."""
        addresses = [url for url in (self.redis.url, self.postgres_url()) if url is not None]
        passwords = [password_of(address) for address in addresses]
        keys = [] if self.signing_key is None else [self.signing_key.get_secret_value()]
        return spellings(*passwords, *keys, *self.retired_keys(), *self.access.given().values())

    def postgres_url(self) -> str | None:
        """Where the record answers, with its password, if the user named a server."""
        return None if self.postgres.url is None else self.postgres.url.get_secret_value()

    def redacted(self) -> dict[str, Any]:
        """Everything in force as JSON-able values, without passwords."""
        shown = self.model_dump(mode="json", by_alias=True, exclude={"profiles"})
        if self.redis.url is not None:
            shown["redis"]["url"] = masked(self.redis.url)
        if self.postgres.url is not None:
            shown["postgres"]["url"] = masked(self.postgres.url.get_secret_value())
        profiles = {name: dataclasses.asdict(profile) for name, profile in self.profiles_built().items()}
        return {**shown, "profiles": json.loads(json.dumps(profiles))}


def _readable(profile: Profile) -> Profile:
    """A profile whose rule table and feature schema exist: found out here, not at its first signal."""
    for field, given, known in (
        ("heuristic", profile.heuristic, RULES),
        ("features", profile.features, SCHEMAS),
    ):
        if given not in known:
            raise ValueError(f"{field}: one of {', '.join(sorted(known))}, not {given!r}")
    return profile


# The example file


def write_example() -> str:
    """Write ``penumbra.example.toml``: every name with its default, commented out."""
    lines = [
        "# Settings of Penumbra, each with its default: copy to penumbra.toml and remove the # of a line to change it.",
        f"# Every name is an environment variable as well: name under [queue] is {PREFIX}QUEUE__NAME,",
        f"# static_threshold under [profiles.trend] is {PREFIX}PROFILES__TREND__STATIC_THRESHOLD; only the two",
        f"# addresses are plainly {PREFIX}REDIS_URL and {PREFIX}POSTGRES_URL. The environment wins over files in",
        f"# {PREFIX}SECRETS_DIR (named as the variables), and these win over this file. See: penumbra show-config",
        "",
    ]
    sections: list[str] = []
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, _Section):
            sections += ["", f"[{name}]", *_example_section(type(field.default))]
        elif name != "profiles":
            lines.append(_example_line(name, field.default, field.description))
    lines += sections
    for profile in DEFAULT_PROFILES.values():
        lines += ["", f"[profiles.{profile.name}]", *_example_profile(profile)]
    return "\n".join(lines) + "\n"


def _example_section(section: type[_Section]) -> list[str]:
    lines = [f"# {section.__doc__}"]
    for name, field in section.model_fields.items():
        default = field.examples[0] if field.examples else field.default
        lines.append(_example_line(field.alias or name, default, field.description))
    return lines


def _example_profile(profile: Profile) -> list[str]:
    lines = []
    for name, field in ProfileSettings.model_fields.items():
        if name == "timeout_hours":
            lines.append(_example_line(name, profile.timeout_ms / HOUR_MS, field.description))
        elif name not in ("timeout_ms", "method", "labelling", "limits"):
            lines.append(_example_line(name, getattr(profile, name), field.description))
    for name, section, values in (
        ("method", MethodSettings, profile.method),
        ("labelling", LabellingSettings, profile.labelling),
        ("limits", LimitsSettings, profile.limits),
    ):
        lines += ["", f"[profiles.{profile.name}.{name}]", f"# {section.__doc__}"]
        lines += [
            _example_line(field, getattr(values, field), told.description)
            for field, told in section.model_fields.items()
        ]
    return lines


def _example_line(name: str, value: object, description: str | None) -> str:
    text = "none" if value is None else str(value) if isinstance(value, Path) else value
    # JSON's numbers, booleans and plain strings are TOML's as well.
    return f"# {name} = {json.dumps(text)}" + (f"  # {description}" if description else "")
