"""Vulkan's devices: how they are queried, which one the engine uses, what a build for it needs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import vulkan_stand_in
from vulkan_stand_in import make_loader

from imagegen.engine_build import EngineBuildError, Options, builder, probe, vulkan, vulkan_sdk
from imagegen.engine_build.vulkan import CHOSEN, VISIBLE, Device, Devices

Require = Callable[[str, bool], None]
IGPU = Device(0, "Intel UHD", "integrated", uuid="a")
CARD = Device(1, "AMD Radeon", "discrete", uuid="b")
SAME_CARD = Device(2, "AMD Radeon (amdvlk)", "discrete", uuid="b")
OLD = Device(3, "Old", "discrete", uuid="c", has_16bit=False)
CPU = Device(4, "llvmpipe", "cpu", uuid="d")
GUEST = Device(5, "Virtio-GPU", "virtual", uuid="e")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer of another test, and no variable of this shell."""
    monkeypatch.setattr(vulkan, "_kept", None)
    for name in (VISIBLE, CHOSEN):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("found", "environment", "used"),
    [
        ((), {}, None),
        ((CPU,), {}, None),
        ((CPU,), {VISIBLE: "0"}, CPU),
        ((CPU,), {VISIBLE: "1"}, None),  # the engine gives up Vulkan
        ((CPU,), {VISIBLE: ""}, None),
        ((IGPU, CARD), {}, CARD),  # a card comes before an integrated GPU
        ((IGPU, CPU), {}, IGPU),
        ((IGPU, CARD), {VISIBLE: "0"}, IGPU),
        ((IGPU, CARD), {CHOSEN: "0"}, IGPU),
        ((IGPU, CARD), {CHOSEN: "7"}, CARD),
        ((CARD, SAME_CARD, IGPU), {CHOSEN: "1"}, IGPU),  # two drivers of one card count once
        ((OLD, IGPU), {}, IGPU),
        ((OLD, CPU), {}, OLD),  # no GPU that it supports: the first that is not a CPU
        ((CPU, GUEST), {}, GUEST),
    ],
)
def test_the_device_is_the_one_the_engine_takes(
    found: tuple[Device, ...], environment: dict[str, str], used: Device | None
) -> None:
    assert vulkan.engine_device(Devices(found), environment) == used
    assert vulkan.engine_gpu(Devices(found), environment) == (None if used is CPU else used)
    assert (vulkan.doubt(Devices(found), environment) is not None) is (VISIBLE in environment and used is None)


def said(kind: str, *heaps: tuple[int, bool, int | None]) -> bytes:
    named = {"index": 0, "name": "One", "kind": kind, "driver": "d 1", "uuid": "aa", "has_16bit": True}
    named["heaps"] = [{"bytes": size, "local": local, "free": free} for size, local, free in heaps]
    return b"a driver greets\n" + json.dumps({"devices": [named]}).encode() + b"\n"


@pytest.mark.parametrize(
    ("answer", "memory"),
    [
        (said("discrete", (64, False, 60), (16, True, 14), (1, True, 1)), (17, 15)),
        (said("integrated", (64, False, 60), (2, True, 1)), (66, 61)),
        (said("discrete", (16, True, None)), (16, None)),
        (said("discrete"), (0, None)),
    ],
)
def test_the_memory_is_what_the_engine_uses(answer: bytes, memory: tuple[int, int | None]) -> None:
    (device,) = vulkan.parse(answer).found
    assert (device.total_bytes, device.free_bytes) == memory


@pytest.mark.parametrize("answer", [b"", b"no json", b"[]", b"{}", b'{"devices": [{}]}', b'{"devices": 1}'])
def test_an_answer_that_is_none_is_a_problem(answer: bytes) -> None:
    assert vulkan.parse(answer) == Devices(problem="its query printed no answer")
    assert "Vulkan cannot be used" in (vulkan.doubt(vulkan.parse(answer)) or "")


def test_a_driver_is_queried_for_its_memory(tmp_path: Path, require: Require, monkeypatch: pytest.MonkeyPatch) -> None:
    require("Vulkan's headers (apt install libvulkan-dev)", vulkan_sdk.lacking() is None)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(make_loader(tmp_path / "loader")))
    (device,) = vulkan.find_devices().found
    stand_in = vulkan_stand_in
    assert device == Device(
        0, stand_in.CARD, "discrete", "radv Mesa 99", "ab" * 16, True, stand_in.TOTAL_BYTES,
        stand_in.BUDGET_BYTES - stand_in.USAGE_BYTES,
    )  # fmt: skip
    monkeypatch.setattr(vulkan, "PROBE_TIMEOUT_S", 1.0)
    for fault, problem in (("crash", "crashed (SIGSEGV)"), ("hang", "within 1 s"), ("none", "no Vulkan driver works")):
        monkeypatch.setenv("VK_STAND_IN", fault)
        assert problem in (vulkan.find_devices().problem or "")
    monkeypatch.setattr(vulkan, "_ask", lambda: pytest.fail("a driver that fails is not queried at every call"))
    vulkan.find_devices(0.0)


def test_the_real_loader_is_queried(require: Require) -> None:
    devices = vulkan.find_devices()
    require("a Vulkan device (apt install mesa-vulkan-drivers)", bool(devices.found))
    assert all(device.name and device.driver and device.total_bytes for device in devices.found)
    assert [device.index for device in devices.found] == list(range(len(devices.found)))


def test_a_machine_without_vulkan_has_no_device_and_no_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "libvulkan.so.1").touch()  # found first, and no library
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    assert vulkan.find_devices() == Devices()


def test_what_a_build_for_vulkan_lacks_is_named(
    no_nvcc: Path, tmp_path: Path, require: Require, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`no_nvcc` is a PATH with the compilers alone, so glslc is missing."""
    monkeypatch.delenv("VULKAN_SDK", raising=False)
    with pytest.raises(EngineBuildError, match=r"glslc, which.*apt install glslc libvulkan-dev"):
        builder.build(tmp_path / "engine", Options("vulkan"), lambda *_: None)
    assert not (tmp_path / "engine").exists()
    sdk = tmp_path / "sdk"
    (sdk / "bin").mkdir(parents=True)
    (sdk / "bin" / "glslc").write_text("#!/bin/sh\n")
    (sdk / "bin" / "glslc").chmod(0o755)
    monkeypatch.setenv("VULKAN_SDK", str(sdk))
    assert "glslc, which" not in (vulkan_sdk.lacking() or "")
    monkeypatch.setenv("CXX", "c++ -nostdinc -nostdlib -L/nowhere")
    assert "Vulkan's C++ headers" in (vulkan_sdk.lacking() or "")
    for header in ("vulkan_core.h", "vulkan.hpp"):
        (sdk / "include" / "vulkan").mkdir(parents=True, exist_ok=True)
        (sdk / "include" / "vulkan" / header).touch()
    monkeypatch.setattr(vulkan_sdk, "LIBRARY", "-lvulkan-that-is-nowhere")
    monkeypatch.delenv("CXX")
    assert "the library of Vulkan's loader" in (vulkan_sdk.lacking() or "")


@pytest.mark.parametrize(
    ("names", "backend"),
    [(b"libcudart.so.13", "cuda"), (b"libvulkan.so.1", "vulkan"), (b"libc.so.6", "cpu"), (b"", "cpu")],
)
def test_a_binary_tells_its_backend(tmp_path: Path, names: bytes, backend: str) -> None:
    binary = tmp_path / "sd-server"
    binary.write_bytes(names and b"ELF\0" + names + b"\0")
    assert probe.backend_of(binary) == backend
    assert probe.backend_of(tmp_path / "missing") == "cpu"
