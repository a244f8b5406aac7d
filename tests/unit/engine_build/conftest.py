"""What the tests of the engine's build share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from finished_build import See
from tiny_source import make_sdist

from imagegen.engine_build import builder, select, toolchain, vulkan
from imagegen.engine_build.cards import Cards
from imagegen.engine_build.plan import Sdist
from imagegen.engine_build.vulkan import Devices
from imagegen.settings import Settings

NO_DEVICES = Devices()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of the package index that pip can see."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def cache(tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty engine folder, with a disk check that fits the small source."""
    monkeypatch.setitem(builder.DISK_BYTES, "cpu", 10_000_000)
    return tmp_path / "engine"


@pytest.fixture
def tiny(cache: Path) -> Sdist:
    """The small source, in the cache already: no pip."""
    return make_sdist(cache / "sdist")


@pytest.fixture
def no_nvcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with the compilers and no nvcc, and no CUDA toolkit anywhere else; the folder of that PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("cc", "c++", "sh"):
        found = shutil.which(tool)
        assert found is not None
        (folder / tool).symlink_to(found)
    monkeypatch.setenv("PATH", str(folder))
    for variable in ("CUDACXX", "CUDA_PATH", "CUDA_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(toolchain, "CUDA_FOLDERS", ())
    return folder


@pytest.fixture
def no_cuda(no_nvcc: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, and no wheels of CUDA either."""
    monkeypatch.setattr(toolchain.importlib.util, "find_spec", lambda _name: None)
    return no_nvcc


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", cache=tmp_path / "cache", sd_server=None)


@pytest.fixture
def see(monkeypatch: pytest.MonkeyPatch) -> See:
    """Let the code see these cards, and these Vulkan devices: a GPU cannot be had here."""

    def show(cards: Cards, devices: Devices = NO_DEVICES) -> None:
        monkeypatch.setattr(vulkan, "find_devices", lambda *_: devices)
        monkeypatch.setattr(select, "find_cards", lambda: cards)
        monkeypatch.setattr(builder, "find_cards", lambda: cards)

    return show
