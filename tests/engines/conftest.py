"""The real engine and the tiny model, for tests of what drives them."""

from __future__ import annotations

import asyncio
import io
import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path

import own_model as own_models
import pytest
from own_model import OwnModel
from PIL import Image

from imagegen.engine_build import probe
from imagegen.engines.base import DrawRequest
from imagegen.engines.glm.adapter import GlmImageAdapter
from imagegen.engines.http_process import HttpSubprocessAdapter
from imagegen.engines.sdcpp.adapter import SdcppServerAdapter
from imagegen.engines.sdcpp.channel import VERSION
from imagegen.models.catalog import Catalog
from imagegen.settings import Settings

DEADLINE_S = 300.0  # for what takes seconds where nothing is wrong

MakeAdapter = Callable[..., HttpSubprocessAdapter]


@pytest.fixture(scope="session")
def tiny_argv(models_dir: Path) -> list[str]:
    """The flags of the tiny model."""
    settings = Settings(home=models_dir.parent)
    return Catalog.load(settings).get("tiny").argv(settings)


@pytest.fixture(scope="session")
def has_channel(sd_server: Path) -> bool:
    """Whether the engine has the channel; one of a developer's own may not."""
    return probe.channel_version(sd_server) == VERSION


@pytest.fixture
def engine_name(request: pytest.FixtureRequest) -> str:
    """Which engine a test runs on: sdcpp, unless it is parametrised (`both_engines`, `without_channel`)."""
    return str(getattr(request, "param", "sdcpp"))


@pytest.fixture
def make_adapter(engine_name: str, request: pytest.FixtureRequest, tmp_path: Path) -> MakeAdapter:
    """Makes adapters of the engine at hand; `binary` is the program that is started."""
    if engine_name == "glm":
        folder = request.getfixturevalue("glm_models_dir") / "glm-tiny"

        def make_glm(**changes: object) -> GlmImageAdapter:
            if "binary" in changes:
                changes["python"] = changes.pop("binary")
            values = {"folder": folder, "threads": 1, "workdir": tmp_path / "work", "load_stall_s": DEADLINE_S}
            return GlmImageAdapter(**(values | changes))  # type: ignore[arg-type]

        return make_glm
    binary, argv = request.getfixturevalue("sd_server"), request.getfixturevalue("tiny_argv")
    channel = request.getfixturevalue("has_channel") and engine_name == "sdcpp"

    def make(**changes: object) -> SdcppServerAdapter:
        values = {"binary": binary, "model_argv": argv, "threads": 1, "workdir": tmp_path / "work", "channel": channel}
        return SdcppServerAdapter(**(values | {"load_stall_s": DEADLINE_S} | changes))  # type: ignore[arg-type]

    return make


@pytest.fixture
def own_model(engine_name: str, request: pytest.FixtureRequest, tmp_path: Path) -> OwnModel:
    """The tiny model of the engine at hand, with files of the test's own."""
    folder = tmp_path / "a model"
    if engine_name == "glm":
        return own_models.of_glm(request.getfixturevalue("glm_models_dir") / "glm-tiny", folder)
    return own_models.of_sd_server(request.getfixturevalue("tiny_argv"), folder)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    """One event loop for a module, so that its tests can share an engine."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def engine(
    request: pytest.FixtureRequest,
    loop: asyncio.Runner,
    sd_server: Path,
    tiny_argv: list[str],
    has_channel: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[SdcppServerAdapter]:
    """A started engine that a module's tests share; with the channel, unless parametrised (`both_ways`)."""
    work = tmp_path_factory.mktemp("work")
    channel = has_channel and getattr(request, "param", "channel") == "channel"
    adapter = SdcppServerAdapter(sd_server, tiny_argv, 1, work, DEADLINE_S, channel=channel)
    loop.run(adapter.start(lambda _: None))
    yield adapter
    loop.run(adapter.stop())


@pytest.fixture(scope="session")
def ask() -> Callable[..., DrawRequest]:
    """Makes requests for a small picture."""

    def make(**changes: object) -> DrawRequest:
        values = {
            "prompt": "a red cube", "negative": "", "width": 64, "height": 64, "steps": 2, "cfg_scale": 1.0,
            "sampler": "euler", "scheduler": None, "seed": 1,
        }  # fmt: skip
        return DrawRequest(**(values | changes))  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def png_of() -> Callable[..., bytes]:
    """Makes PNG files of one colour: RGB for three numbers, grey for one."""

    def make(color: tuple[int, int, int] | int, size: tuple[int, int] = (64, 64)) -> bytes:
        file = io.BytesIO()
        Image.new("L" if isinstance(color, int) else "RGB", size, color).save(file, "PNG")
        return file.getvalue()

    return make


@pytest.fixture(scope="session")
def gone() -> Callable[[int], bool]:
    """Waits until a process, ours or not, is gone; False if it still runs at the deadline."""

    def wait(pid: int) -> bool:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        try:
            return bool(select.select([handle], [], [], DEADLINE_S)[0])
        finally:
            os.close(handle)

    return wait
