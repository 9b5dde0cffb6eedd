"""Where settings come from, and the check that every source uses only names that exist."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from runtime.secrecy import holds_secret, open_to_others
from signals.errors import Permanent

PREFIX = "PENUMBRA_"
CONFIG_VARIABLE = "PENUMBRA_CONFIG"
SECRETS_VARIABLE = "PENUMBRA_SECRETS_DIR"
RESERVED_VARIABLES = frozenset({CONFIG_VARIABLE, SECRETS_VARIABLE, "PENUMBRA_REFERENCE_DATA", "PENUMBRA_CHROMIUM"})
CONFIG_FILE = "penumbra.toml"
# Two addresses that deployments write by hand keep the plain names everybody expects.
PLAIN_NAMES: Mapping[tuple[str, ...], str] = {
    ("redis", "url"): "PENUMBRA_REDIS_URL",
    ("postgres", "url"): "PENUMBRA_POSTGRES_URL",
}
ROLES = ("engine", "worker", "relay", "trainer", "operator", "dash")
SECRET_PATHS = frozenset({("signing_key",), ("retired_signing_keys",), ("redis", "url"), ("postgres", "url")}) | {
    ("access", f"{role}_password") for role in ROLES
}
"""Values that are secrets; of an address only its password is one."""
ANY = "*"


class BadSettings(Permanent):
    """Settings that cannot be used; the message names each and what to write instead."""


@dataclass(frozen=True, slots=True)
class Names:
    """The tree of names a settings model knows.

    ``branches`` maps a name to the tree below it, or to none where a value stands. The name ``ANY`` stands for those
    the user chooses, of which ``chosen`` are the well-known ones.
    """

    branches: Mapping[str, Names | None]
    chosen: tuple[str, ...] = ()

    @classmethod
    def of(cls, model: type[BaseModel]) -> Names:
        """Read the names off a model."""
        return cls({field.alias or name: cls._below(field) for name, field in model.model_fields.items()})

    @classmethod
    def _below(cls, field: FieldInfo) -> Names | None:
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return cls.of(annotation)
        if get_origin(annotation) is dict:
            return cls({ANY: cls.of(get_args(annotation)[1])}, tuple(field.examples or ()))
        return None

    def below(self, name: str) -> Names | None:
        """Return the tree below a name, or none at a value; an unknown name is a ``KeyError``."""
        return self.branches[name if name in self.branches or ANY not in self.branches else ANY]

    def leads_to_value(self, path: tuple[str, ...]) -> bool:
        """Whether a value stands at the end of a path."""
        known: Names | None = self
        for part in path:
            if known is None:
                return False
            try:
                known = known.below(part)
            except KeyError:
                return False
        return known is None

    def unknown(self, tree: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
        """Yield the paths of a tree's names that do not exist."""
        for name, value in tree.items():
            try:
                below = self.below(name)
            except KeyError:
                yield (name,)
                continue
            if below is not None and isinstance(value, dict):
                yield from ((name, *rest) for rest in below.unknown(value))

    def paths(self) -> Iterator[tuple[str, ...]]:
        """Yield every path to a value, with the well-known names where the user chooses."""
        for name, below in self.branches.items():
            for spelled in self.chosen if name == ANY else (name,):
                if below is None:
                    yield (spelled,)
                else:
                    yield from ((spelled, *rest) for rest in below.paths())


def variable_of(path: tuple[str, ...]) -> str:
    """Name of the environment variable that sets a value."""
    return PLAIN_NAMES.get(path, PREFIX + "__".join(path).upper())


def _refuse(source: str, unknown: list[tuple[str, list[str]]]) -> None:
    """Raise for names nobody knows, each with the closest one that exists."""
    if not unknown:
        return
    lines = []
    for name, known in unknown:
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.5) or difflib.get_close_matches(
            name.upper(), known, 1
        )
        lines.append(f"{source}: unknown name {name}" + (f"; did you mean {close[0]}?" if close else ""))
    raise BadSettings("\n".join(lines))


def _put(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    *parents, last = path
    for part in parents:
        tree = tree.setdefault(part, {})
    tree[last] = value


def _tree_of(source: str, values: Mapping[str, str], names: Names) -> dict[str, Any]:
    """Arrange values under variable names as a tree; an empty value counts as not set."""
    plain = {variable: path for path, variable in PLAIN_NAMES.items()}
    known = [variable_of(path) for path in names.paths()]
    tree: dict[str, Any] = {}
    unknown: list[tuple[str, list[str]]] = []
    for variable, value in sorted(values.items()):
        name = variable.upper()
        path: tuple[str, ...] = plain.get(name) or tuple(name.removeprefix(PREFIX).lower().split("__"))
        # The plain names are the only ones for their values: two names would be two truths.
        if not names.leads_to_value(path) or variable_of(path) != name:
            unknown.append((variable, known))
        elif value != "":
            _put(tree, path, value)
    _refuse(source, unknown)
    return tree


def _refuse_open(path: Path, tree: Mapping[str, Any]) -> None:
    """Raise for a file that holds a secret and can be read by others: what they know is no secret any more."""
    name = holds_secret(tree, SECRET_PATHS)
    if name is not None and open_to_others(path):
        raise BadSettings(
            f"{path} holds {name} and can be read by others: chmod 600 it (a mounted secret: mode 0400, owned by the "
            "user Penumbra runs as)"
        )


class _Source(PydanticBaseSettingsSource):
    """A source that reads everything at once."""

    def __init__(self, settings: type[BaseSettings]) -> None:
        super().__init__(settings)
        self.names = Names.of(settings)

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        """Part of the interface for sources that are asked name by name; nobody asks this one."""
        return None, field_name, False


class EnvironmentSource(_Source):
    """Variables that begin with ``PENUMBRA_``; two underscores lead one level down."""

    def __call__(self) -> dict[str, Any]:
        """Read the environment."""
        ours = {name: value for name, value in os.environ.items() if name.upper().startswith(PREFIX)}
        return _tree_of("environment", {n: v for n, v in ours.items() if n not in RESERVED_VARIABLES}, self.names)


class SecretFilesSource(_Source):
    """A folder of files, each named as the environment variable it replaces, upper or lower case."""

    def __call__(self) -> dict[str, Any]:
        """Read the folder that ``PENUMBRA_SECRETS_DIR`` names, if it is set."""
        folder = os.environ.get(SECRETS_VARIABLE)
        if not folder:
            return {}
        try:
            # Dot files are the bookkeeping of whoever mounts the folder.
            files = [path for path in sorted(Path(folder).iterdir()) if not path.name.startswith(".")]
            values = {path.name: path.read_text(encoding="utf-8").strip() for path in files}
        except (OSError, UnicodeDecodeError) as error:
            raise BadSettings(f"{SECRETS_VARIABLE}: {folder} cannot be read ({error})") from error
        try:
            for path in files:
                _refuse_open(path, _tree_of(f"secret files in {folder}", {path.name: values[path.name]}, self.names))
        except OSError as error:
            raise BadSettings(f"{SECRETS_VARIABLE}: {folder} cannot be read ({error})") from error
        return _tree_of(f"secret files in {folder}", values, self.names)


class TomlSource(_Source):
    """``penumbra.toml`` of the working folder, or the file that ``PENUMBRA_CONFIG`` names."""

    def __call__(self) -> dict[str, Any]:
        """Read the file; one that was named must exist."""
        named = os.environ.get(CONFIG_VARIABLE)
        path = Path(named or CONFIG_FILE)
        if not named and not path.exists():
            return {}
        try:
            tree = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise BadSettings(f"{path} cannot be read ({error})") from error
        paths = list(self.names.paths())
        known = sorted({".".join(path[:length]) for path in paths for length in range(1, len(path) + 1)})
        _refuse(str(path), [(".".join(unknown), known) for unknown in self.names.unknown(tree)])
        _refuse_open(path, tree)
        return tree
