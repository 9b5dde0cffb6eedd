"""House rules of security, read from the source: statements are bound, and data is never code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.unit.runtime.test_house import PRODUCT, dotted, imported_names, name_of

RUNS_STATEMENTS = {"execute", "executemany", "copy", "stream"}
# Whole files of the package, applied as they stand and checked against their hashes.
WHOLE_FILES = {("persistence/migrate.py", "files[name]")}
FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "jsonpickle"}
# Everything else in the module, and any alias of it, can make objects of what it reads.
SAFE_YAML = {"safe_load", "safe_dump", "YAMLError"}
FORBIDDEN_BUILTINS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_CALLS = {
    "os.system",
    "os.popen",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "joblib.load",
    "numpy.load",
    "pandas.read_pickle",
    "importlib.import_module",
    "builtins.eval",
    "builtins.exec",
}


def _is_text(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)


def _is_composed(node: ast.AST, names: dict[str, str]) -> bool:
    """``sql.SQL("literal")``, alone or formatted by psycopg, which quotes what it puts in."""
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Attribute) and node.func.attr in ("format", "join"):
        return _is_composed(node.func.value, names)
    return dotted(node.func, names) in (
        "psycopg.sql.SQL",
        "psycopg.sql.Identifier",
        "psycopg.sql.Literal",
    ) and _is_text(node.args[0] if node.args else None)


def statements_built(source: str, file: str = "") -> list[str]:
    """Calls that run a statement which is neither named in ``queries.sql``, nor literal, nor composed by psycopg."""
    tree = ast.parse(source)
    names = imported_names(tree)
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if dotted(node.func, names) == "psycopg.sql.SQL" and not _is_text(node.args[0] if node.args else None):
            found.append(f"{node.lineno}: SQL of something that is not literal")
        if not (isinstance(node.func, ast.Attribute) and node.func.attr in RUNS_STATEMENTS and node.args):
            continue
        statement = node.args[0]
        named = isinstance(statement, ast.Call) and dotted(statement.func, names) == "persistence.queries.query"
        whole = (file, ast.unparse(statement)) in WHOLE_FILES
        if not (named or whole or _is_text(statement) or _is_composed(statement, names)):
            found.append(f"{node.lineno}: {ast.unparse(statement)}")
    return found


def code_from_data(source: str) -> list[str]:
    """Everything that could turn data into code, or a text into a command."""
    tree = ast.parse(source)
    names = imported_names(tree)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            module, _, last = (dotted(node, names) or "").partition(".")
            if module == "yaml" and last not in {"", *SAFE_YAML}:
                found.append(f"{node.lineno}: yaml.{last}")
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [
                f"{node.lineno}: import {name}" for name in modules if name.partition(".")[0] in FORBIDDEN_MODULES
            ]
        elif isinstance(node, ast.Call):
            full = dotted(node.func, names)
            if isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_BUILTINS and full is None:
                found.append(f"{node.lineno}: {node.func.id}()")
            elif full in FORBIDDEN_CALLS:
                found.append(f"{node.lineno}: {full}()")
            for keyword in node.keywords:
                on = not (isinstance(keyword.value, ast.Constant) and not keyword.value.value)
                if keyword.arg in ("shell", "allow_pickle") and on:
                    found.append(f"{node.lineno}: {keyword.arg}={ast.unparse(keyword.value)}")
    return found


@pytest.mark.parametrize("path", PRODUCT, ids=name_of)
def test_no_statement_is_built(path: Path) -> None:
    assert statements_built(path.read_text(), name_of(path)) == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ('c.execute(f"select {x}")', 1),
        ('c.execute("select " + x)', 1),
        ('c.execute("select %s" % x)', 1),
        ('c.execute("select {}".format(x))', 1),
        ("c.execute(statement)", 1),
        ("c.executemany(build(x), rows)", 1),
        ('from psycopg import sql\nc.execute(sql.SQL(f"select {x}"))', 2),
        ("from psycopg import sql\ns = sql.SQL(x)", 1),
        ('from psycopg import sql\nc.execute(sql.SQL("create role {}").format(sql.Identifier(x)))', 0),
        ('from persistence.queries import query\nc.execute(query("append"), {"a": 1})', 0),
        ('c.execute("select 1 from t where a = %s", [x])', 0),
        ("pipe.execute(), pipe.execute(raise_on_error=False)", 0),
    ],
)
def test_the_scan_for_built_statements_sees(source: str, count: int) -> None:
    assert len(statements_built(source)) == count


@pytest.mark.parametrize("path", PRODUCT, ids=name_of)
def test_data_is_never_code(path: Path) -> None:
    assert code_from_data(path.read_text()) == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("import pickle", 1),
        ("from pickle import loads", 1),
        ("import yaml\nyaml.load(x)", 1),
        ("import yaml as y\ny.unsafe_load(x), y.load(x, y.SafeLoader)", 3),
        ("from yaml import full_load as load\nload(x)", 1),
        ("from yaml.loader import Loader\nLoader(x)", 1),
        ("import yaml\nyaml.safe_load(x), yaml.safe_dump(x), yaml.YAMLError", 0),
        ("eval(x), exec(x), compile(x, '', 'exec'), __import__(x)", 4),
        ("import numpy as np\nnp.load(x, allow_pickle=True)", 2),
        ("import numpy as np\nnp.load(x)", 1),
        ("import subprocess\nsubprocess.run(x, shell=True)", 1),
        ("import subprocess\nsubprocess.run(x, shell=flag)", 1),
        ("import os\nos.system(x)", 1),
        ("from os import popen as p\np(x)", 1),
        ("import joblib\njoblib.load(x)", 1),
        ("import importlib\nimportlib.import_module(name)", 1),
        ("import re\nre.compile('a'), client.eval(script), model.compile(x)", 0),
        ("import subprocess\nsubprocess.run([a, b], shell=False)", 0),
        ("import json\njson.loads(x)", 0),
    ],
)
def test_the_scan_for_code_from_data_sees(source: str, count: int) -> None:
    assert len(code_from_data(source)) == count


def test_scripts_are_constants() -> None:
    """Lua is sent as it stands in the package: nothing is written into it, so nothing in it can be data."""
    for path in PRODUCT:
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "eval":
                assert isinstance(node.args[0], ast.Name), f"{name_of(path)}:{node.lineno}"
                assert node.args[0].id.isupper(), f"{name_of(path)}:{node.lineno}"
