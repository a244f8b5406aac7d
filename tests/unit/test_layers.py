"""The layers of the packages, as `make lint` holds them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from served import ROOT

LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports('pyproject.toml', no_cache=True))"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages in a folder of their own, where a violation can be planted."""
    folder = tmp_path_factory.mktemp("layers")
    for name in ("imagegen", "imagegen_client", "mcp_front"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "web", "entries"))
    shutil.copyfile(ROOT / "pyproject.toml", folder / "pyproject.toml")
    return folder


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", LINT]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_no_package_imports_from_above(copy: Path) -> None:
    told = lint(copy)
    assert told.returncode == 0, told.stdout
    assert "0 broken" in told.stdout


@pytest.mark.parametrize(
    ("path", "planted"),
    [
        ("imagegen/storage/errors.py", "from imagegen.images import png\n"),
        ("imagegen/jobs/leases.py", "def later():\n    from imagegen.http import problems\n"),
        ("imagegen/images/png.py", "from imagegen.engines import base\n"),
        ("mcp_front/texts.py", "from imagegen import schemas\n"),
        ("imagegen_client/spelling.py", "from mcp_front import texts\n"),
        ("imagegen_client/wire.py", "from imagegen import schemas\n"),
    ],
)
def test_an_import_from_above_is_found(copy: Path, path: str, planted: str) -> None:
    file = copy / path
    before = file.read_text()
    file.write_text(f"{before}\n{planted}")
    try:
        told = lint(copy)
    finally:
        file.write_text(before)
    assert told.returncode == 1, told.stdout + told.stderr
    assert "BROKEN" in told.stdout, told.stderr
