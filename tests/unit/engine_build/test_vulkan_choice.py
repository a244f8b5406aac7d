"""Where an engine for Vulkan is built and used: only if Vulkan has a device and CUDA has none."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from fake_cuda import H200, NO_CARDS
from finished_build import See, finished

from imagegen import engine_build as engines
from imagegen.engine_build import EngineMissing, Options, builder, select, vulkan, vulkan_sdk
from imagegen.engine_build.vulkan import Device, Devices
from imagegen.settings import Settings

RADEON = Devices((Device(0, "AMD Radeon", "discrete"),))
LLVMPIPE = Devices((Device(0, "llvmpipe", "cpu"),))


@pytest.mark.parametrize(
    ("devices", "visible", "has_tools", "backend", "unused"),
    [
        (RADEON, None, True, "vulkan", True),  # unused: only where the engine was built for the CPU on purpose
        (RADEON, None, False, "cpu", True),
        (LLVMPIPE, None, True, "cpu", False),
        (LLVMPIPE, "0", True, "cpu", False),
        (Devices(problem="a driver crashed (SIGSEGV)"), None, True, "cpu", False),
    ],
)
def test_vulkan_is_chosen_for_a_gpu_without_cuda(
    see: See,
    monkeypatch: pytest.MonkeyPatch,
    devices: Devices,
    visible: str | None,
    has_tools: bool,
    backend: str,
    unused: bool,
) -> None:
    see(NO_CARDS, devices)
    monkeypatch.setattr(vulkan_sdk, "lacking", lambda: None if has_tools else "It needs glslc.")
    if visible is not None:
        monkeypatch.setenv(vulkan.VISIBLE, visible)
    assert engines.default_backend() == backend
    note = select.unused_gpu(NO_CARDS)
    assert (note is not None) is unused
    if note is not None:
        assert "AMD Radeon" in note and "imagegen engine build" in note
        assert ("It needs glslc." in note) is not has_tools
    see(H200, devices)
    assert engines.default_backend() == "cuda"
    assert select.unused_gpu(H200) is None


def test_a_vulkan_engine_is_used_where_vulkan_has_a_device(
    settings: Settings, see: See, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu, built = finished(settings, Options()), finished(settings, Options("vulkan"))
    strict = settings.model_copy(update={"on_missing_gpu": "exit"})
    see(NO_CARDS, RADEON)
    assert engines.resolve(settings) == built
    assert engines.resolve(strict) == built
    engines.require_gpu(strict)
    monkeypatch.setattr(vulkan_sdk, "lacking", lambda: "It needs glslc.")
    assert engines.ensure(settings, lambda *_: None) == built  # the tools of its build were removed
    assert engines.lost_gpu(settings) is None
    see(NO_CARDS, LLVMPIPE)
    assert engines.resolve(settings) == cpu
    assert "built here is not used, because Vulkan has no GPU here" in (engines.lost_gpu(settings) or "")
    with pytest.raises(EngineMissing, match="compiled for Vulkan, and Vulkan has no GPU here: install the GPU's"):
        engines.require_gpu(strict)
    monkeypatch.setenv(vulkan.VISIBLE, "0")
    assert engines.resolve(settings) == built
    see(H200, RADEON)
    cuda = finished(settings, Options("cuda", ("90-real",)))
    assert engines.resolve(settings) == cuda


def test_a_gpu_without_the_tools_for_vulkan_is_reported(
    settings: Settings, see: See, monkeypatch: pytest.MonkeyPatch
) -> None:
    see(NO_CARDS, RADEON)
    monkeypatch.setattr(vulkan_sdk, "lacking", lambda: "It needs glslc.")
    monkeypatch.setattr(builder, "build", lambda _folder, options, *_, **__: SimpleNamespace(binary=options.backend))
    said: list[str] = []
    assert engines.ensure(settings, lambda *event: said.append(event[3])) == "cpu"
    assert "AMD Radeon" in said[0] and "It needs glslc." in said[0]
