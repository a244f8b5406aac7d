"""The first lines of the commands' help, read from the source: importing all commands takes most of a second."""

from __future__ import annotations

import ast
from pathlib import Path

HERE = Path(__file__).parent


def help_of(module: str, names: tuple[str, ...]) -> dict[str, str]:
    """The docstrings of a module's commands, which are functions of these names."""
    tree = ast.parse((HERE / f"{module}.py").read_text(encoding="utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in names)
    return {function.name: ast.get_docstring(function) or "" for function in functions}
