"""What a test is called: the behaviour, in a name that fits a line of a report."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

TESTS = Path(__file__).parents[1]
LONGEST = 70


def test_no_name_of_a_test_is_longer_than_seventy_characters() -> None:
    found = [
        (path.relative_to(TESTS).as_posix(), node.name)
        for path in TESTS.rglob("*.py")
        if "node_modules" not in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]
    assert len(found) > 1000, "the search finds what is there"
    assert [(path, name) for path, name in found if len(name) > LONGEST] == []


def test_every_folder_of_tests_has_its_marker() -> None:
    """tests/conftest.py marks each test by its folder, and pytest refuses a marker that it does not know."""
    configuration = tomllib.loads((TESTS.parent / "pyproject.toml").read_text())
    markers = {line.split(":")[0] for line in configuration["tool"]["pytest"]["ini_options"]["markers"]}
    folders = {path.relative_to(TESTS).parts[0] for path in [*TESTS.rglob("test_*.py"), *TESTS.rglob("proof.py")]}
    assert folders - {"support"} - markers == set()
    assert "image" in folders
