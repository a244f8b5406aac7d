"""The Vulkan devices of this machine, and the one that an engine built for Vulkan draws on.

A child process queries the drivers (vulkan_probe.py), because a driver can crash or hang.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

PROBE_TIMEOUT_S = 20.0
KEEP_S = 60.0
"""How long an answer is used for the question which devices there are."""
FRESH_S = 1.0
"""How long an answer is used for the question how much memory is free: a query takes a process and some 100 ms."""

VISIBLE, CHOSEN = "GGML_VK_VISIBLE_DEVICES", "SD_VK_DEVICE"
_OF_A_DESKTOP = {"DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY"}
"""Mesa's device_select layer orders the devices by them. The engine does not get them (engines/process.py)."""
_OF_VULKAN = ("VK_", "GGML_VK_", "SD_VK_", "MESA_", "LD_LIBRARY_PATH", "XDG_", "DRI_PRIME")


@dataclass(frozen=True)
class Device:
    """One Vulkan device, sizes in bytes.

    kind: discrete, integrated, virtual, cpu or other. has_16bit: it has the 16-bit storage that the engine requires.
    total_bytes, free_bytes: of the memory that the engine uses on it; free: None without VK_EXT_memory_budget.
    """

    index: int
    name: str
    kind: str
    driver: str = ""
    uuid: str = ""
    has_16bit: bool = True
    total_bytes: int = 0
    free_bytes: int | None = None


@dataclass(frozen=True)
class Devices:
    """The devices in the loader's order. `problem`: why they are not known, as the end of a sentence."""

    found: tuple[Device, ...] = ()
    problem: str | None = None


_lock = threading.Lock()
_kept: tuple[float, dict[str, str], Devices] | None = None


def find_devices(max_age_s: float = KEEP_S) -> Devices:
    """Query the drivers, or return an answer of the last `max_age_s`. Blocks for at most PROBE_TIMEOUT_S."""
    global _kept
    environment = {name: value for name, value in os.environ.items() if name.startswith(_OF_VULKAN)}
    with _lock:
        now = time.monotonic()
        if _kept is not None:
            age_s = KEEP_S if _kept[2].problem else max_age_s  # a driver that hangs must not block every call
            if now - _kept[0] < age_s and _kept[1] == environment:
                return _kept[2]
        found = _ask()
        _kept = time.monotonic(), environment, found
        return found


def engine_device(devices: Devices, environment: Mapping[str, str] = os.environ) -> Device | None:
    """The device that an engine built for Vulkan draws on; None if it would draw without Vulkan.

    As in ggml_vk_instance_init (ggml-vulkan.cpp) and sd_get_default_backend (util.cpp): the devices that
    GGML_VK_VISIBLE_DEVICES names, also CPU devices; without it all GPUs with 16-bit storage, else the first device that
    is not a CPU. Of these, the one that SD_VK_DEVICE names, else the first that is not integrated.
    """
    offered = _offered(devices, environment.get(VISIBLE))
    chosen = environment.get(CHOSEN, "").strip()
    if chosen.isdecimal() and int(chosen) < len(offered):
        return offered[int(chosen)]
    return next((device for device in offered if device.kind != "integrated"), next(iter(offered), None))


def engine_gpu(devices: Devices, environment: Mapping[str, str] = os.environ) -> Device | None:
    """As `engine_device`, without CPU devices: a reason to build an engine for Vulkan."""
    device = engine_device(devices, environment)
    return None if device is None or device.kind == "cpu" else device


def doubt(devices: Devices, environment: Mapping[str, str] = os.environ) -> str | None:
    """A sentence if the drivers do not answer, or if a variable names no device; else None."""
    if devices.problem is not None:
        return f"Vulkan cannot be used: {devices.problem}. `vulkaninfo --summary` shows the same fault."
    visible = environment.get(VISIBLE)
    if visible is not None and not _offered(devices, visible):
        return (
            f"{VISIBLE}={visible!r} names no device of this machine, which has {len(devices.found)}, so the engine "
            "does not use Vulkan: unset it, or see `vulkaninfo --summary`."
        )
    return None


def _offered(devices: Devices, visible: str | None) -> list[Device]:
    if visible is not None:
        named = [int(word) for word in itertools.takewhile(str.isdecimal, visible.replace(",", " ").split())]
        if any(index >= len(devices.found) for index in named):
            return []  # the engine gives up Vulkan at a wrong index
        return [devices.found[index] for index in named]
    gpus: dict[str, Device] = {}
    for device in devices.found:
        if device.kind in {"discrete", "integrated"} and device.has_16bit:
            gpus.setdefault(device.uuid or str(device.index), device)  # two drivers of one GPU count once
    if gpus:
        return list(gpus.values())
    return [device for device in devices.found if device.kind != "cpu"][:1]


def _ask() -> Devices:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("IMAGEGEN_") and name not in _OF_A_DESKTOP
    }
    program = Path(__file__).with_name("vulkan_probe.py")
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", program],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Devices(problem=f"a driver did not answer within {PROBE_TIMEOUT_S:g} s")
    except OSError as failure:
        return Devices(problem=f"its query did not start ({failure.strerror})")
    if done.returncode < 0:
        return Devices(problem=f"a driver crashed ({signal.Signals(-done.returncode).name})")
    return parse(done.stdout)


def parse(answer: bytes) -> Devices:
    """The devices in the output of vulkan_probe.py. A last line counts, because drivers print to standard output."""
    try:
        said = json.loads(answer.strip().splitlines()[-1])
        if (problem := said.get("problem")) is not None:
            return Devices(problem=str(problem))
        return Devices(tuple(_device(one) for one in said["devices"]))
    except (ValueError, LookupError, TypeError, AttributeError):
        return Devices(problem="its query printed no answer")


def _device(said: dict[str, Any]) -> Device:
    device = Device(said["index"], said["name"], said["kind"], said["driver"], said["uuid"], said["has_16bit"])
    # As ggml_backend_vk_get_device_memory: an integrated GPU uses every heap.
    heaps = [heap for heap in said["heaps"] if heap["local"] or device.kind == "integrated"]
    unknown = any(heap["free"] is None for heap in heaps)
    free_bytes = None if unknown or not heaps else sum(heap["free"] for heap in heaps)
    return replace(device, total_bytes=sum(heap["bytes"] for heap in heaps), free_bytes=free_bytes)
