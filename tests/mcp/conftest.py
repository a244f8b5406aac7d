"""The npm packages that are clients and checkers of the front."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

BIN = Path(__file__).parent / "node" / "node_modules" / ".bin"

RunNode = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def node(require) -> RunNode:
    """`node("TOOL", ARG…)` runs a tool of the npm packages, with their own Node."""
    require("the npm packages of tests/mcp/node (run `npm ci` there)", (BIN / "node").exists())

    def call(tool: str, *arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        env = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **dict(options.pop("env", {}))}  # type: ignore[call-overload]
        return subprocess.run(
            [str(BIN / tool), *map(str, arguments)],
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=170,
            **options,  # type: ignore[call-overload]
        )

    return call
