"""The wheels: built from a copy of the repository, installed into an empty environment, run from an empty folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import versions
from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from fronts import call, run, saved_path_of, text_of
from PIL import Image
from served import ROOT, Service

PROJECTS = {"imagegen": ".", "imagegen_client": "imagegen_client", "imagegen_mcp": "mcp_front"}
"""The projects' folders, by the names of their wheels."""
NOT_PACKED = {"pyproject.toml", "README.md", "LICENSE", "server.json"}
UV = Path(sys.executable).with_name("uv")


def ran(*command: str | Path, **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


def tracked() -> list[str]:
    """The repository's files that the projects are built from; new ones too, ignored ones not."""
    listed = ran("git", "-C", ROOT, "ls-files", "-co", "--exclude-standard", "imagegen", "imagegen_client", "mcp_front")
    return [*(name for name in listed.splitlines() if (ROOT / name).is_file())]


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> tuple[Path, str]:
    """A copy of the repository, as a checkout with nothing changed; and its commit."""
    copy = tmp_path_factory.mktemp("sources") / "repository"
    for name in [*tracked(), "pyproject.toml", "setup.py", "service.py", "README.md", "LICENSE", ".gitignore"]:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name)
    git = ["git", "-C", copy, "-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false"]
    ran(*git, "init", "--quiet")
    ran(*git, "add", "--all")
    ran(*git, "commit", "--quiet", "--message", "all")
    return copy, ran(*git, "rev-parse", "HEAD").strip()


@pytest.fixture(scope="module")
def wheels(sources, tmp_path_factory) -> dict[str, Path]:
    """The wheels by name, each built from the source archive that was built before it."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", out]
    builds = [
        subprocess.Popen([*command, sources[0] / folder], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for folder in PROJECTS.values()
    ]
    for build in builds:
        words, _ = build.communicate(timeout=300)
        assert build.returncode == 0, words
    names = {name: out / f"{name}-{versions.version()}-py3-none-any.whl" for name in PROJECTS}
    assert sorted(out.glob("*.whl")) == sorted(names.values())
    assert len(list(out.glob("*.tar.gz"))) == len(PROJECTS)
    return names


def test_a_wheel_has_each_file_of_its_package_and_no_other(wheels, sources) -> None:
    files = tracked()
    for name, folder in PROJECTS.items():
        package = "imagegen" if folder == "." else folder
        expected = {
            file
            for file in files
            if file.startswith(f"{package}/")
            and file.removeprefix(f"{package}/") not in NOT_PACKED
            and not file.startswith("mcp_front/bundle/")
        }
        if name == "imagegen":
            expected |= {"service.py", "imagegen/commit.txt"}
        with zipfile.ZipFile(wheels[name]) as wheel:
            packed = {file for file in wheel.namelist() if ".dist-info/" not in file}
            about = f"{name}-{versions.version()}.dist-info"
            assert packed == expected
            assert wheel.read(f"{about}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
            assert f"Version: {versions.version()}" in wheel.read(f"{about}/METADATA").decode()
            if name == "imagegen":
                assert wheel.read("imagegen/commit.txt").decode().strip() == sources[1]


class Installed(Service):
    """The service as the `imagegen` of an environment starts it: from an empty folder, with a settings file."""

    def __init__(self, place: Path, folder: Path, sd_server: Path | None) -> None:
        super().__init__(folder / "state", sd_server, {"model": "sketch"})
        self.place, self.folder = place, folder
        (folder / "home").mkdir(parents=True)
        own = {name: value for name, value in self._settings.items() if name != "config"} | {"port": self.port}
        lines = [f"{name} = {value if isinstance(value, int) else repr(str(value))}\n" for name, value in own.items()]
        (folder / "own.toml").write_text("".join(lines))

    def environment(self, **more: object) -> dict[str, str]:
        return {
            "PATH": f"{self.place / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.folder / "home"),
            "IMAGEGEN_CONFIG": str(self.folder / "own.toml"),
            "BENTOML_DO_NOT_TRACK": "1",
        }

    def launch(self, *arguments: str) -> None:
        with self.log.open("ab") as log:
            command = [self.place / "bin" / "imagegen", "serve"]
            self._process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def ran(self, *command: str) -> str:
        return ran(self.place / "bin" / command[0], *command[1:], cwd=self.folder, env=self.environment())


@pytest.fixture
def with_shared_packages(wheels, tmp_path) -> Path:
    """An environment with the wheels, which takes the packages that they need from that of the tests.

    The tests' environment has the repository itself as well, by an import hook of its .pth file. Such a file counts
    only in a folder of packages, and here that folder is no more than an entry of the path.
    """
    place = tmp_path / "environment"
    ran(sys.executable, "-m", "venv", "--without-pip", place)
    ran(UV, "pip", "install", "--quiet", "--offline", "--no-deps", "--python", place, *wheels.values())
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "shared.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return place


@pytest.fixture(scope="module")
def fetched(wheels, tmp_path_factory) -> Path:
    """An environment with the wheels and what they need from the package index."""
    place = tmp_path_factory.mktemp("fetched") / "environment"
    ran(sys.executable, "-m", "venv", place)
    ran(place / "bin" / "python", "-m", "pip", "install", "--quiet", *wheels.values())
    return place


@pytest.fixture(params=["with_shared_packages", pytest.param("fetched", marks=pytest.mark.long)])
def installed(request, tmp_path, sd_server) -> Iterator[Installed]:
    service = Installed(request.getfixturevalue(request.param), tmp_path / "empty", sd_server)
    yield service
    service.end()


def test_the_wheels_run_without_the_repository(installed: Installed, sources) -> None:
    packages = ("imagegen", "imagegen_client", "mcp_front")
    where = f"import {', '.join(packages)}; print({', '.join(f'{name}.__file__' for name in packages)})"
    assert all(Path(file).is_relative_to(installed.place) for file in installed.ran("python", "-c", where).split())
    first, engine = installed.ran("imagegen", "--version").splitlines()
    assert first == f"imagegen {versions.version()}, commit {sources[1]}"
    assert engine.startswith("engine: sd-server ")
    installed.start()
    assert installed.status()["model"]["default"] == "sketch"
    installed.ran("imagegen", "draw", "a red circle", "--steps", "2", "-o", "circle.png")
    with Image.open(installed.folder / "circle.png") as picture:
        assert picture.size == (128, 128)

    async def drawn():
        command = str(installed.place / "bin" / "imagegen-mcp")
        env = installed.environment() | {"IMAGEGEN_URL": installed.url}
        async with Client(StdioTransport(command, [], env=env, keep_alive=False)) as client:
            return await call(client, "generate_image", prompt="a red circle", steps=2)

    result = run(drawn())
    assert not result.is_error, text_of(result)
    assert saved_path_of(result).parent == installed.folder / "home" / "Pictures" / "imagegen"
    assert "<title>" in installed.http.get("/").text
