"""The engine for Vulkan, built and run: on this machine's GPU, or on Mesa's CPU device (lavapipe).

The first run builds it in the cache, which takes long; docs/engine.md has the time.
"""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lives import Ask, Make, drawing, failure, nobody
from PIL import Image, ImageChops, ImageStat
from served import Require, Service

from imagegen import doctor, engine_build
from imagegen.engine_build import Options, probe, vulkan, vulkan_sdk
from imagegen.engines.base import INTERRUPTED, Preview, PreviewMode, PreviewPlan
from imagegen.engines.sdcpp.channel import VERSION
from imagegen.settings import Settings

pytestmark = pytest.mark.long

MOST_SHARE = 0.2  # of the difference between two requests: the drivers round in another way than the CPU
DEADLINE_S = 3600.0  # a CPU device beside other work
DRIVER = re.compile(r"/libvulkan_\w+\.so|/libGLX_nvidia\.so")


@pytest.fixture(scope="module")
def device(require: Require) -> Iterator[vulkan.Device]:
    """The device that the engine uses; a CPU device if there is no other."""
    lacking = vulkan_sdk.lacking()
    require(lacking or "", lacking is None)
    devices = vulkan.find_devices()
    require("a Vulkan device (apt install mesa-vulkan-drivers)", bool(devices.found))
    with pytest.MonkeyPatch.context() as patch:
        if vulkan.engine_device(devices) is None:
            patch.setenv(vulkan.VISIBLE, "0")
        used = vulkan.engine_device(devices)
        assert used is not None
        if used.kind == "cpu":
            mesa = re.search(r"Mesa (\d+)", used.driver)
            usable = mesa is None or int(mesa[1]) >= 25
            require(f"Mesa 25 or newer: {used.driver} ends the engine by a memory fault", usable)
            patch.setenv("GGML_VK_DISABLE_F16", "1")  # as upstream's tests on such a device
        yield used


@pytest.fixture(scope="module")
def vulkan_server(device: vulkan.Device) -> Path:
    return engine_build.build(Settings().engine_dir, Options("vulkan"), print).binary


@pytest.fixture(scope="module")
def cpu_server() -> Path:
    """Not `sd_server`, which is the engine for Vulkan where the service would choose that."""
    return engine_build.build(Settings().engine_dir, Options(), print).binary


def difference(one: bytes, other: bytes) -> float:
    """The mean difference of two pictures in levels of 255."""
    pictures = [Image.open(io.BytesIO(png)).convert("RGB") for png in (one, other)]
    means = ImageStat.Stat(ImageChops.difference(*pictures)).mean
    return sum(means) / len(means)


def uses_driver(pid: int | None) -> bool:
    """Whether the process has loaded a Vulkan driver."""
    return DRIVER.search(Path(f"/proc/{pid}/maps").read_text()) is not None


def test_vulkan_draws_stops_and_shows_previews_as_the_cpu_does(
    make_adapter: Make, vulkan_server: Path, cpu_server: Path, ask: Ask, png_of: Callable[..., bytes]
) -> None:
    """One engine for all of it: a driver compiles its shaders at each start, which takes a CPU device minutes."""
    requests = [ask(preview=PreviewPlan(PreviewMode.PROJECTION)), ask(references=(png_of((200, 30, 30)),))]
    drawn: dict[str, list[bytes]] = {}
    previews: dict[str, list[Preview]] = {"cpu": [], "vulkan": []}

    async def scenario() -> None:
        for name, binary in (("cpu", cpu_server), ("vulkan", vulkan_server)):
            adapter = make_adapter(binary=binary, channel=True)
            await adapter.start(nobody)
            drawn[name] = [await adapter.generate(request, nobody, previews[name].append) for request in requests]
            assert uses_driver(adapter.pid) is (name == "vulkan"), "which backend draws"
            pid = adapter.pid
            long = await drawing(adapter, ask(steps=100))
            assert adapter.interrupt()
            assert (await failure(long)).code == INTERRUPTED
            assert adapter.pid == pid
            assert await adapter.generate(requests[0], nobody) == drawn[name][0]
            await adapter.stop()

    assert probe.channel_version(vulkan_server) == VERSION
    asyncio.run(asyncio.wait_for(scenario(), DEADLINE_S))
    same = [difference(*pair) for pair in zip(drawn["cpu"], drawn["vulkan"], strict=True)]
    other = difference(*drawn["cpu"])
    assert max(same) <= MOST_SHARE * other, (same, other)
    assert [preview.step for preview in previews["vulkan"]] == [preview.step for preview in previews["cpu"]] == [1]


def test_the_service_names_the_device_and_the_backend(
    serve: Callable[..., Service], vulkan_server: Path, device: vulkan.Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = serve(sd_server=vulkan_server)
    status = service.status()
    assert status["engine"]["backend"] == "vulkan"
    assert (status["gpu"]["name"], status["gpu"]["backend"]) == (device.name, "vulkan")
    assert status["gpu"]["total_bytes"] == device.total_bytes
    assert (status["gpu"]["free_bytes"] is None) is (device.free_bytes is None)
    for name in ("HOME", "PORT", "SD_SERVER"):
        monkeypatch.setenv(f"IMAGEGEN_{name}", service.environment()[f"IMAGEGEN_{name}"])
    (found,) = [finding.what for finding in doctor.examine() if finding.check == "gpu"]
    assert found == f"{device.name}, by Vulkan."
