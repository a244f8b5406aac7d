"""The front from a copy of the repository, by uvx and pipx with empty caches. Needs the package index."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import versions
from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from fronts import SMALL, call, run, saved_path_of, text_of
from served import ROOT

pytestmark = pytest.mark.long

UVX = str(Path(sys.executable).with_name("uvx"))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the front and the client: building leaves folders there."""
    for folder in ("mcp_front", "imagegen_client"):
        ignored = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / "copy" / folder, ignore=ignored)
    shutil.copy(ROOT / "LICENSE", tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An empty home, and empty caches."""
    home = tmp_path / "home"
    home.mkdir()
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in {"PYTHONPATH", "VIRTUAL_ENV"} and not name.startswith("IMAGEGEN_")
    }
    return kept | {"HOME": str(home), "UV_CACHE_DIR": str(home / "uv"), "PIP_CACHE_DIR": str(home / "pip")}


def draws(command: str, *arguments: str, url: str, env: dict[str, str]) -> None:
    async def drawn():
        transport = StdioTransport(command, list(arguments), env=env | {"IMAGEGEN_URL": url}, keep_alive=False)
        async with Client(transport, init_timeout=300) as client:
            return await call(client, "generate_image", prompt="a red ball", **SMALL)

    result = run(drawn())
    assert not result.is_error, text_of(result)
    assert saved_path_of(result).is_relative_to(env["HOME"])


def test_uvx_starts_the_front_and_sees_a_change_of_it(service, copy: Path, environment: dict[str, str]) -> None:
    command = (UVX, "--from", str(copy / "mcp_front"), "imagegen-mcp")
    draws(*command, url=service.url, env=environment)
    module = copy / "mcp_front" / "__init__.py"
    module.write_text(module.read_text().replace(f'"{versions.version()}"', '"9.9.9"'))
    done = subprocess.run([*command, "--version"], env=environment, capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "9.9.9", done.stderr


def test_pipx_installs_the_front(service, copy: Path, environment: dict[str, str]) -> None:
    page = (ROOT / "docs" / "claude.md").read_text()
    assert '`pipx install --preinstall "$PWD/imagegen_client" ./mcp_front`' in page
    install = [UVX, "pipx", "install", "--preinstall", str(copy / "imagegen_client"), "./mcp_front"]
    done = subprocess.run(install, cwd=copy, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    draws(str(Path(environment["HOME"]) / ".local" / "bin" / "imagegen-mcp"), url=service.url, env=environment)
