"""The Claude Desktop bundle: built, validated, unpacked where people keep things, and driven by a real client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from fronts import APP_ONLY, SMALL, call, environment, preview_of, run, saved_path_of, text_of
from served import ROOT

from mcp_front.app import build
from mcp_front.settings import Settings

pytestmark = pytest.mark.npm

BUILD = ROOT / "mcp_front" / "bundle" / "build.py"


@pytest.fixture(scope="module")
def unpacked(node, tmp_path_factory):
    """The bundle's folder, with spaces and letters that are not ASCII in its path."""
    assert node is not None
    folder = tmp_path_factory.mktemp("bundle")
    built = subprocess.run(
        [sys.executable, BUILD, folder / "imagegen.mcpb"], capture_output=True, text=True, timeout=120
    )
    assert built.returncode == 0, built.stdout + built.stderr
    assert "Manifest schema validation passes" in built.stdout
    place = folder / "Büro Größe" / "my extensions"
    with zipfile.ZipFile(folder / "imagegen.mcpb") as bundle:
        bundle.extractall(place)
    return place


@pytest.fixture(scope="module")
def manifest(unpacked):
    return json.loads((unpacked / "manifest.json").read_text())


def test_the_bundle_has_the_client_and_what_both_need(unpacked):
    project = tomllib.loads((unpacked / "pyproject.toml").read_text())["project"]
    assert {name.split("=")[0] for name in project["dependencies"]} == {"fastmcp", "httpx", "pillow"}
    assert (unpacked / "src" / "imagegen_client" / "calls.py").exists()


def started(unpacked, manifest, service, home, fetch: bool = False, **chosen: object) -> Client[StdioTransport]:
    """A client with the bundle as Claude Desktop starts it; what the person left empty keeps its default.

    fetch: with uv's cache empty, the dependencies come from the package index. Else uv runs with the environment that
    the tests have.
    """
    values = {name: option.get("default", "") for name, option in manifest["user_config"].items()} | chosen
    config = manifest["server"]["mcp_config"]

    def filled(text: str) -> str:
        for name, value in values.items():
            text = text.replace(f"${{user_config.{name}}}", str(value))
        return text.replace("${__dirname}", str(unpacked))

    env = environment(service.url) | {name: filled(value) for name, value in config["env"].items()}
    del env["PYTHONPATH"]  # the bundle brings its own modules
    scripts = str(Path(sys.executable).parent)
    path = f"{scripts}{os.pathsep}{env['PATH']}"
    env |= {"PATH": path, "HOME": str(home)}
    if fetch:
        env |= {"UV_CACHE_DIR": str(home / "cache")}
        env.pop("VIRTUAL_ENV", None)
    else:
        env |= {"UV_NO_SYNC": "1", "UV_PROJECT_ENVIRONMENT": sys.prefix, "UV_OFFLINE": "1", "VIRTUAL_ENV": sys.prefix}
    transport = StdioTransport(config["command"], [filled(part) for part in config["args"]], env=env, keep_alive=False)
    return Client(transport, init_timeout=300)


def test_the_manifest_names_the_tools_that_there_are(manifest):
    async def names():
        async with Client(build(Settings(url="http://127.0.0.1:9"), local=True)) as client:
            return {tool.name for tool in await client.list_tools()}

    assert {tool["name"] for tool in manifest["tools"]} == run(names()) - APP_ONLY
    assert manifest["manifest_version"] == "0.4" and manifest["server"]["type"] == "uv"
    assert manifest["user_config"]["api_token"]["sensitive"] is True


def test_the_bundle_draws_and_saves_where_the_default_says(unpacked, manifest, service, tmp_path):
    home = tmp_path / "Ann Änderson"
    home.mkdir()

    async def story():
        async with started(unpacked, manifest, service, home, service_url=service.url) as client:
            return await call(client, "generate_image", prompt="a red ball", **SMALL)

    result = run(story())
    assert not result.is_error, text_of(result)
    assert saved_path_of(result).parent == home / "Pictures" / "imagegen"
    preview_of(result)


@pytest.mark.long
def test_the_first_start_fetches_what_the_bundle_needs(unpacked, manifest, service, tmp_path):
    assert not (unpacked / ".venv").exists()

    async def story():
        async with started(unpacked, manifest, service, tmp_path, fetch=True, service_url=service.url) as client:
            return await call(client, "generate_image", prompt="a red ball", **SMALL)

    result = run(story())
    assert not result.is_error, text_of(result)
    assert (unpacked / ".venv").exists() and saved_path_of(result).is_relative_to(tmp_path)


@pytest.mark.parametrize("blocked", ["a file", "not made and not makable"])
def test_an_output_folder_that_cannot_be_used_is_said_so(unpacked, manifest, service, tmp_path, blocked):
    folder = tmp_path / "blocked"
    folder.write_text("a file")
    chosen = folder if blocked == "a file" else folder / "below"

    async def story():
        options = {"service_url": service.url, "output_dir": chosen}
        async with started(unpacked, manifest, service, tmp_path, **options) as client:
            return await call(client, "generate_image", prompt="a red ball", **SMALL)

    result = run(story())
    assert not result.is_error, text_of(result)
    assert "The picture was not saved" in text_of(result) and "URL (until" in text_of(result)
    preview_of(result)
