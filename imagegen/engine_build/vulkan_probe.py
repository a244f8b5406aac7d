"""Program: print the Vulkan devices of this machine as JSON. Runs in a child process, because a driver may crash.

Needs only ctypes and the Vulkan loader (libvulkan.so.1), no SDK. The structures are those of vulkan_core.h; a field
that is not read is padding. Prints {"devices": [...]} or {"problem": "..."}. vulkan.py reads it.
"""

from __future__ import annotations

import ctypes
import json
from ctypes import POINTER, byref, c_char, c_char_p, c_int32, c_uint8, c_uint32, c_uint64, c_void_p, pointer
from typing import Any, ClassVar

LOADER = "libvulkan.so.1"
API_1_2 = 1 << 22 | 2 << 12
KINDS = {1: "integrated", 2: "discrete", 3: "virtual", 4: "cpu"}
"""VkPhysicalDeviceType; 0 is "other"."""
DEVICE_LOCAL = 1
MAX_HEAPS, MAX_TYPES = 16, 32

PROPERTIES_2, MEMORY_PROPERTIES_2, FEATURES_2 = 1000059001, 1000059006, 1000059000
ID_PROPERTIES, DRIVER_PROPERTIES = 1000071004, 1000196000
MEMORY_BUDGET, STORAGE_16BIT = 1000237000, 1000083000
BUDGET_EXTENSION = b"VK_EXT_memory_budget"

Fields = list[tuple[str, Any]]


class _Chained(ctypes.Structure):
    """A structure that begins with its type and a pointer to the next one."""

    _fields_: ClassVar[Fields] = [("type", c_int32), ("next", c_void_p)]


class ApplicationInfo(_Chained):
    _fields_: ClassVar[Fields] = [
        ("name", c_char_p), ("version", c_uint32), ("engine", c_char_p), ("engine_version", c_uint32),
        ("api", c_uint32),
    ]  # fmt: skip


class InstanceCreateInfo(_Chained):
    _fields_: ClassVar[Fields] = [
        ("flags", c_uint32), ("application", POINTER(ApplicationInfo)), ("layers", c_uint32), ("layer_names", c_void_p),
        ("extensions", c_uint32), ("extension_names", c_void_p),
    ]  # fmt: skip


class IdProperties(_Chained):
    _fields_: ClassVar[Fields] = [("device", c_uint8 * 16), ("rest", c_uint8 * 32)]


class DriverProperties(_Chained):
    _fields_: ClassVar[Fields] = [
        ("id", c_int32), ("name", c_char * 256), ("info", c_char * 256), ("conformance", c_uint8 * 4),
    ]  # fmt: skip


class Properties(_Chained):
    _fields_: ClassVar[Fields] = [
        ("api", c_uint32), ("driver", c_uint32), ("vendor", c_uint32), ("device", c_uint32), ("kind", c_int32),
        ("name", c_char * 256), ("cache", c_uint8 * 16), ("limits", c_uint64 * 63), ("sparse", c_uint32 * 5),
    ]  # fmt: skip


class Heap(ctypes.Structure):
    _fields_: ClassVar[Fields] = [("size", c_uint64), ("flags", c_uint32)]


class MemoryProperties(_Chained):
    _fields_: ClassVar[Fields] = [
        ("type_count", c_uint32), ("types", c_uint32 * 2 * MAX_TYPES), ("heap_count", c_uint32),
        ("heaps", Heap * MAX_HEAPS),
    ]  # fmt: skip


class MemoryBudget(_Chained):
    _fields_: ClassVar[Fields] = [("budget", c_uint64 * MAX_HEAPS), ("usage", c_uint64 * MAX_HEAPS)]


class Storage16(_Chained):
    _fields_: ClassVar[Fields] = [("storage_buffer", c_uint32), ("rest", c_uint32 * 3)]


class Features(_Chained):
    _fields_: ClassVar[Fields] = [("features", c_uint32 * 55)]


class Extension(ctypes.Structure):
    _fields_: ClassVar[Fields] = [("name", c_char * 256), ("version", c_uint32)]


def devices(vulkan: ctypes.CDLL) -> list[dict[str, Any]]:
    """The devices in the loader's order. Raises RuntimeError with a sentence."""
    newest = c_uint32()
    vulkan.vkEnumerateInstanceVersion(byref(newest))
    if newest.value < API_1_2:
        raise RuntimeError("the Vulkan loader is older than Vulkan 1.2")
    application = ApplicationInfo(type=0, name=b"imagegen", api=newest.value)
    wanted = InstanceCreateInfo(type=1, application=pointer(application))
    instance = c_void_p()
    if (status := vulkan.vkCreateInstance(byref(wanted), None, byref(instance))) != 0:
        # -9: VK_ERROR_INCOMPATIBLE_DRIVER, the loader's answer without any driver
        raise RuntimeError(f"no Vulkan driver works (vkCreateInstance: {status})")
    try:
        count = c_uint32()
        vulkan.vkEnumeratePhysicalDevices(instance, byref(count), None)
        handles = (c_void_p * count.value)()
        vulkan.vkEnumeratePhysicalDevices(instance, byref(count), handles)
        return [describe(vulkan, index, c_void_p(handle)) for index, handle in enumerate(handles[: count.value])]
    finally:
        vulkan.vkDestroyInstance(instance, None)


def describe(vulkan: ctypes.CDLL, index: int, device: c_void_p) -> dict[str, Any]:
    driver = DriverProperties(type=DRIVER_PROPERTIES)
    identity = IdProperties(type=ID_PROPERTIES, next=_address(driver))
    properties = Properties(type=PROPERTIES_2, next=_address(identity))
    vulkan.vkGetPhysicalDeviceProperties2(device, byref(properties))
    storage = Storage16(type=STORAGE_16BIT)
    features = Features(type=FEATURES_2, next=_address(storage))
    vulkan.vkGetPhysicalDeviceFeatures2(device, byref(features))
    return {
        "index": index,
        "name": properties.name.decode(errors="replace"),
        "kind": KINDS.get(properties.kind, "other"),
        "driver": f"{driver.name.decode(errors='replace')} {driver.info.decode(errors='replace')}".strip(),
        "uuid": bytes(identity.device).hex(),
        "has_16bit": bool(storage.storage_buffer),
        "heaps": heaps(vulkan, device),
    }


def heaps(vulkan: ctypes.CDLL, device: c_void_p) -> list[dict[str, Any]]:
    """The memory heaps in bytes. `free`: what a new process may still allocate; None without VK_EXT_memory_budget."""
    has_budget = BUDGET_EXTENSION in extensions(vulkan, device)
    budget = MemoryBudget(type=MEMORY_BUDGET)
    memory = MemoryProperties(type=MEMORY_PROPERTIES_2, next=_address(budget) if has_budget else None)
    vulkan.vkGetPhysicalDeviceMemoryProperties2(device, byref(memory))
    return [
        {
            "bytes": heap.size,
            "local": bool(heap.flags & DEVICE_LOCAL),
            "free": max(0, budget.budget[number] - budget.usage[number]) if has_budget else None,
        }
        for number, heap in enumerate(memory.heaps[: memory.heap_count])
    ]


def extensions(vulkan: ctypes.CDLL, device: c_void_p) -> set[bytes]:
    count = c_uint32()
    vulkan.vkEnumerateDeviceExtensionProperties(device, None, byref(count), None)
    found = (Extension * count.value)()
    vulkan.vkEnumerateDeviceExtensionProperties(device, None, byref(count), found)
    return {extension.name for extension in found[: count.value]}


def _address(structure: ctypes.Structure) -> int:
    return ctypes.addressof(structure)


def answer() -> dict[str, Any]:
    try:
        vulkan = ctypes.CDLL(LOADER)
    except OSError:
        return {"devices": []}  # no loader: this machine has no Vulkan
    try:
        return {"devices": devices(vulkan)}
    except (RuntimeError, AttributeError) as failure:  # AttributeError: a loader of Vulkan 1.0
        return {"problem": str(failure)}


if __name__ == "__main__":
    print(json.dumps(answer()))
