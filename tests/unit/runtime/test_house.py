"""The house rules that no off-the-shelf tool checks, read from the source."""

from __future__ import annotations

import ast
import configparser
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ROOMS = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
PRODUCT = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
DOORS = {"runtime/clock.py", "runtime/chance.py"}
WALL_CLOCKS = {
    "time.time",
    "time.time_ns",
    "time.localtime",
    "time.gmtime",
    "time.ctime",
    "time.asctime",
    "time.strftime",
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
    "datetime.datetime.today",
    "datetime.date.today",
}
DICE = {"uuid.uuid1", "uuid.uuid4", "os.urandom"}
DICE_MODULES = ("random", "numpy.random")
SEEDED = {"default_rng", "Generator", "SeedSequence", "PCG64", "BitGenerator"}
KEY_LITERAL = re.compile(r"(?<![A-Za-z_])(ml|phantom|scalp_phantom|qcal):(\S|$)")
STATEMENT = re.compile(
    r"(?is)^\s*(select\s.+|insert\s+into\s|update\s+\w+\s+set\s|delete\s+from\s|with\s+\w+\s+as\s|"
    r"(create|alter|drop)\s+(or\s+replace\s+)?(table|database|schema|index|view|role|function|type)\s)"
)
# Makes the database in which the statements of persistence run, before persistence can connect.
# The stock stack beside the chaos run is written as it is written everywhere.
STATEMENTS_ELSEWHERE = {"runtime/embedded.py", "scripts/chaos/naive.py", "scripts/chaos/baseline.py"}
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported_names(tree: ast.AST) -> dict[str, str]:
    """What each imported name of a module stands for, dotted."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                # `import a.b` binds a, `import a.b as c` binds c to a.b.
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def dotted(node: ast.AST, names: dict[str, str]) -> str | None:
    """Full name of an attribute chain that begins with an imported name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id not in names:
        return None
    return ".".join([names[node.id], *reversed(parts)])


def outside_the_door(source: str) -> list[str]:
    """Uses of a wall clock or of unseeded chance, with their lines."""
    tree = ast.parse(source)
    names = imported_names(tree)
    seeded = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call) and (node.args or node.keywords)}
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Attribute, ast.Name)):
            continue
        full = dotted(node, names)
        if full is None:
            continue
        module, _, last = full.rpartition(".")
        chance = full in DICE or module == "secrets" or (module in DICE_MODULES and last not in SEEDED)
        # A type needs no seed, a call of the same name does.
        unseeded = full == "numpy.random.default_rng" and id(node) not in seeded
        if full in WALL_CLOCKS or chance or unseeded:
            found.append(f"{node.lineno}: {full}")
    return found


def strings(source: str) -> Iterator[tuple[int, str]]:
    """Every string of a module that is not a docstring."""
    tree = ast.parse(source)
    documentation = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            documentation.add(id(node.value))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.lineno, node.value


def contracts() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / ".importlinter")
    return parser


def lines(value: str) -> list[str]:
    return [line.strip() for line in value.splitlines() if line.strip()]


def floors() -> list[list[str]]:
    """Rooms of each floor, top first."""
    layers = lines(contracts()["importlinter:contract:floors"]["layers"])
    return [[room.strip(" ()") for room in layer.split("|")] for layer in layers]


def test_every_package_is_on_a_floor_and_in_every_contract() -> None:
    parser = contracts()
    assert sorted(lines(parser["importlinter"]["root_packages"])) == ROOMS
    assert sorted(lines(parser["importlinter:contract:no-cycles"]["ancestors"])) == ROOMS
    on_floors = [room for floor in floors() for room in floor]
    assert len(on_floors) == len(set(on_floors))
    assert set(ROOMS) <= set(on_floors)
    line = next(number for number, floor in enumerate(floors()) if "persistence" in floor)
    below = {room for floor in floors()[line + 1 :] for room in floor}
    pure = lines(parser["importlinter:contract:pure-rooms"]["source_modules"])
    assert sorted(pure) == sorted(below & set(ROOMS))


def test_the_floors_are_those_of_the_architecture() -> None:
    assert [set(floor) for floor in floors()] == [
        {"scripts"},
        {"worker", "lab"},
        {"runtime"},
        {"persistence", "market"},
        {"learning"},
        {"decision"},
        {"gates", "scorer", "qscore", "phantom"},
        {"signals"},
    ]


def test_every_package_is_typed_and_packed() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert sorted(told["hatch"]["build"]["targets"]["wheel"]["packages"]) == ROOMS
    assert sorted({*told["mypy"]["files"]} - {"tests"}) == ROOMS


def test_the_words_need_the_standard_library_only() -> None:
    for path in (ROOT / "signals").rglob("*.py"):
        for full in imported_names(ast.parse(path.read_text())).values():
            top = full.partition(".")[0]
            assert top == "signals" or top in sys.stdlib_module_names, f"{name_of(path)} imports {top}"


@pytest.mark.parametrize("path", [path for path in PRODUCT if name_of(path) not in DOORS], ids=name_of)
def test_clock_and_chance_come_in_through_the_door(path: Path) -> None:
    assert outside_the_door(path.read_text()) == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("import time\ntime.time()", 1),
        ("import time as t\nclock = t.time_ns", 1),
        ("from time import time as now\nnow()", 1),
        ("from datetime import datetime\ndatetime.now()", 1),
        ("import datetime as dt\ndt.datetime.utcnow(), dt.date.today()", 2),
        ("import random\nrandom.random()", 1),
        ("from random import Random\nRandom(3)", 1),
        ("import uuid\nuuid.uuid4()", 1),
        ("import secrets\nsecrets.token_hex()", 1),
        ("import numpy as np\nnp.random.default_rng()", 1),
        ("import numpy as np\nnp.random.normal()", 1),
        ("from numpy.random import default_rng\nmake = default_rng", 1),
        ("import numpy as np\ndef f(rng: np.random.Generator): return np.random.default_rng(7)", 0),
        ("import time\ntime.sleep(1), time.monotonic(), time.perf_counter()", 0),
        ("time = 3\ntime", 0),
    ],
)
def test_the_scan_for_clock_and_chance_sees(source: str, count: int) -> None:
    assert len(outside_the_door(source)) == count


def test_redis_keys_are_spelled_in_one_place() -> None:
    elsewhere = [
        f"{name_of(path)}:{line}: {text!r}"
        for path in PRODUCT
        if name_of(path) != "persistence/keys.py"
        for line, text in strings(path.read_text())
        if KEY_LITERAL.search(text)
    ]
    for path in (ROOT / "persistence").rglob("*.lua"):
        for number, text in enumerate(path.read_text().splitlines(), 1):
            if KEY_LITERAL.search(text.partition("--")[0]):
                elsewhere.append(f"{name_of(path)}:{number}: {text}")
    assert elsewhere == []


@pytest.mark.parametrize(
    ("text", "is_key"),
    [
        ("ml:", True),
        ("phantom:active", True),
        ("ns|qcal:{s}", True),
        ("html:x", False),
        ("phantom: only watched", False),
    ],
)
def test_the_scan_for_keys_sees(text: str, is_key: bool) -> None:
    assert bool(KEY_LITERAL.search(text)) is is_key


def test_statements_live_in_persistence() -> None:
    elsewhere = [
        f"{name_of(path)}:{line}: {text[:60]!r}"
        for path in PRODUCT
        if name_of(path) not in STATEMENTS_ELSEWHERE and not name_of(path).startswith("persistence/")
        for line, text in strings(path.read_text())
        if STATEMENT.match(text)
    ]
    assert elsewhere == []


@pytest.mark.parametrize(
    ("text", "is_statement"),
    [
        ("select 1", True),
        ("\n  INSERT INTO trades values (1)", True),
        ("create table x (a int)", True),
        ("update trades set a = 1", True),
        ("selected", False),
        ("update the settings", False),
        ("create", False),
    ],
)
def test_the_scan_for_statements_sees(text: str, is_statement: bool) -> None:
    assert bool(STATEMENT.match(text)) is is_statement


def test_files_are_named_for_what_they_are() -> None:
    assert [name_of(path) for path in PRODUCT if EMPTY_NAMES & set(path.stem.split("_"))] == []
