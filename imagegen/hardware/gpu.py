"""Readings of the GPU that the engine uses: from NVML, or from the Vulkan driver for an engine built for Vulkan.

Without a GPU every function returns None. NVML is opened once and kept open: opening takes tens of milliseconds, a
reading less than one. Vulkan is queried by a child process (engine_build/vulkan.py), at most once per second.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import psutil
import pynvml

from imagegen import engine_build
from imagegen.engine_build import vulkan
from imagegen.engine_build.plan import Backend
from imagegen.settings import Settings

log = logging.getLogger("imagegen.gpu")

TRY_AGAIN_S, LOST_TRY_AGAIN_S = 60.0, 2.0
"""Interval before a driver that did not answer is queried again: one that never did, and one whose card was lost."""
NO_CARD = {"", "-1", "none", "nodevfiles"}
"""The values of CUDA_VISIBLE_DEVICES that hide every card."""


@dataclass(frozen=True)
class Holder:
    """Another program on the card. None: not reported by the driver (a container, another user's program)."""

    pid: int
    name: str | None
    held_bytes: int | None
    since: float | None  # start of the process, POSIX seconds


@dataclass(frozen=True)
class Gpu:
    """The current state of one card, sizes in bytes. None: not reported. `ours_bytes`: held by the engine's process.

    A Vulkan driver reports no processes, and its free memory only with VK_EXT_memory_budget. dedicated: a graphics
    card, not a GPU that is part of the CPU, and not a CPU that Vulkan offers as a device.
    """

    name: str
    total_bytes: int
    free_bytes: int | None
    ours_bytes: int | None
    others: tuple[Holder, ...] = ()  # in descending order of held bytes
    backend: Backend = "cuda"
    dedicated: bool = True

    @property
    def usable_bytes(self) -> int:
        """The free bytes; the whole card if the driver does not report them."""
        return self.total_bytes if self.free_bytes is None else self.free_bytes

    def taken_since(self, before: Gpu) -> int | None:
        """Bytes in use now that were free at `before`, without the growth of other programs; None if not reported."""
        if self.free_bytes is None or before.free_bytes is None:
            return None
        others_before = sum(holder.held_bytes or 0 for holder in before.others)
        others_now = sum(holder.held_bytes or 0 for holder in self.others)
        return before.free_bytes - self.free_bytes - max(0, others_now - others_before)


class Nvml:
    """The NVIDIA driver's library, and the card that a CUDA engine started by this process uses. Thread-safe.

    library: the module `pynvml`, or a fake. environment: this process's environment, which the engine inherits.
    """

    def __init__(
        self,
        library: Any = pynvml,
        environment: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nvml, self._environment, self._clock = library, environment, clock
        self._lock = threading.Lock()
        self._handle: Any = None
        self._name = ""
        self._opened = False
        self._try_at: float | None = None
        self._problem: str | None = None

    def look(self, engine_pid: int | None = None) -> Gpu | None:
        """Read the card; None without a card, or if the driver does not answer (then see `problem`)."""
        with self._lock:
            if self._try_at is not None and self._clock() < self._try_at:
                return None
            try:
                if not self._opened:
                    self._open()
                if self._handle is None and self._name and self._problem is None:
                    self._give_up(f"The GPU ({self._name}) is no longer there: see `nvidia-smi`.")
                return None if self._handle is None else self._read(engine_pid)
            except (self._nvml.NVMLError_LibraryNotFound, self._nvml.NVMLError_DriverNotLoaded):
                self._give_up(None)  # a machine without an NVIDIA card is not a problem
            except self._nvml.NVMLError_LibRmVersionMismatch:
                self._give_up(
                    "The NVIDIA driver was updated while the old one is still running, so no program can use the GPU: "
                    "restart the machine."
                )
            except self._nvml.NVMLError as silent:
                self._give_up(
                    f"The NVIDIA driver does not answer ({silent}), so the GPU cannot be watched: see `nvidia-smi`."
                )
            return None

    @property
    def problem(self) -> str | None:
        """A sentence about a fault of the GPU or a doubt about which card is used, as of the last `look`; else None."""
        return self._problem

    # ---- opening --------------------------------------------------------------------------------

    def _open(self) -> None:
        self._nvml.nvmlInit()
        self._opened, self._try_at = True, None
        self._handle, self._problem = self._choose()
        if self._handle is not None:
            name = self._nvml.nvmlDeviceGetName(self._handle)
            self._name = name.decode() if isinstance(name, bytes) else str(name)
        if self._problem:
            log.warning("%s", self._problem)

    def _give_up(self, problem: str | None) -> None:
        if problem and problem != self._problem:
            log.warning("%s", problem)
        again_s = LOST_TRY_AGAIN_S if self._name else TRY_AGAIN_S
        self._problem, self._handle, self._try_at = problem, None, self._clock() + again_s
        if self._opened:
            self._opened = False
            try:
                self._nvml.nvmlShutdown()
            except self._nvml.NVMLError as also:
                log.debug("nvmlShutdown: %s", also)

    def _choose(self) -> tuple[Any, str | None]:
        """The first card in CUDA's order, and a sentence if that is doubtful."""
        count = self._nvml.nvmlDeviceGetCount()
        if count == 0:
            return None, None
        visible = self._environment.get("CUDA_VISIBLE_DEVICES")
        first = "0" if visible is None else visible.split(",")[0].strip()
        said = f"CUDA_VISIBLE_DEVICES={visible!r}"
        if first.lower() in NO_CARD:
            return None, f"{said} hides every GPU from the engine: unset it, or name a card."
        if not first.isdigit():
            return self._by_uuid(first, said, count)
        if int(first) >= count:
            return None, f"{said} names no GPU of this machine, which has {count}: the engine would run on the CPU."
        return self._nvml.nvmlDeviceGetHandleByIndex(int(first)), self._order_doubt(count)

    def _by_uuid(self, uuid: str, said: str, count: int) -> tuple[Any, str | None]:
        """The card with this UUID. CUDA also accepts a unique prefix of a UUID."""
        if uuid.startswith("MIG-"):
            try:
                return self._nvml.nvmlDeviceGetHandleByUUID(uuid), None
            except self._nvml.NVMLError as unknown:
                return None, f"{said} names no part of a GPU that the driver knows ({unknown})."
        found = []
        for index in range(count):
            handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
            own = self._nvml.nvmlDeviceGetUUID(handle)
            if (own.decode() if isinstance(own, bytes) else str(own)).startswith(uuid):
                found.append(handle)
        if len(found) == 1:
            return found[0], None
        return None, f"{said} names {len(found) or 'no'} GPUs of this machine: see `nvidia-smi -L` for their names."

    def _order_doubt(self, count: int) -> str | None:
        """A sentence if CUDA may number the cards differently from NVML, else None. NVML uses the bus order, and so
        does CUDA in the engine unless CUDA_DEVICE_ORDER says otherwise."""
        order = self._environment.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        if count == 1 or order == "PCI_BUS_ID":
            return None
        names = {str(self._nvml.nvmlDeviceGetName(self._nvml.nvmlDeviceGetHandleByIndex(i))) for i in range(count)}
        if len(names) == 1:
            return None
        return (
            f"CUDA_DEVICE_ORDER={order} lets CUDA count the GPUs in another order than the driver does, so the service "
            "may watch another card than the engine uses: unset it, or name the card by its UUID in "
            "CUDA_VISIBLE_DEVICES."
        )

    # ---- reading --------------------------------------------------------------------------------

    def _read(self, engine_pid: int | None) -> Gpu:
        total, free = self._memory()
        ours, others = None, []
        for pid, held in self._processes().items():
            if pid == engine_pid:
                ours = held
            else:
                others.append(_holder(pid, held))
        others.sort(key=lambda holder: holder.held_bytes or 0, reverse=True)
        return Gpu(self._name, total, free, ours, tuple(others))

    def _memory(self) -> tuple[int, int]:
        """Total and free bytes. A GPU that shares the machine's memory reports none, so the RAM's are returned."""
        try:
            memory = self._nvml.nvmlDeviceGetMemoryInfo(self._handle)
            return int(memory.total), int(memory.free)
        except self._nvml.NVMLError_NotSupported:
            shared = psutil.virtual_memory()
            return int(shared.total), int(shared.available)

    def _processes(self) -> dict[int, int | None]:
        """Held bytes by pid, of compute and graphics processes."""
        found: dict[int, int | None] = {}
        for ask in (self._nvml.nvmlDeviceGetComputeRunningProcesses, self._nvml.nvmlDeviceGetGraphicsRunningProcesses):
            try:
                for process in ask(self._handle):
                    held = process.usedGpuMemory
                    found[int(process.pid)] = int(held) if held is not None else found.get(int(process.pid))
            except (self._nvml.NVMLError_NotSupported, self._nvml.NVMLError_NoPermission):
                continue
        return found


def _holder(pid: int, held_bytes: int | None) -> Holder:
    try:
        process = psutil.Process(pid)
        return Holder(pid, process.name(), held_bytes, process.create_time())
    except psutil.Error:
        return Holder(pid, None, held_bytes, None)


_here = Nvml()


def read(settings: Settings, engine_pid: int | None = None) -> Gpu | None:
    """Read the card that the engine uses; None without a card, or if the driver does not answer (see `problem`).

    Blocks. An NVIDIA card counts also if the engine does not use it; a Vulkan device counts only if the engine is, or
    will be, built for Vulkan.
    """
    if engine_build.backend_here(settings) == "vulkan":
        return read_vulkan(vulkan.find_devices(vulkan.FRESH_S))
    return read_nvidia(engine_pid)


def read_nvidia(engine_pid: int | None = None) -> Gpu | None:
    """Read the NVIDIA card that a CUDA engine uses; None without one, or if the driver does not answer."""
    return _here.look(engine_pid)


def read_vulkan(devices: vulkan.Devices) -> Gpu | None:
    """The device that a Vulkan engine uses; None if it uses none."""
    device = vulkan.engine_device(devices)
    if device is None:
        return None
    dedicated = device.kind == "discrete"
    return Gpu(device.name, device.total_bytes, device.free_bytes, None, backend="vulkan", dedicated=dedicated)


def is_card(found: Gpu | None) -> bool:
    """Whether there is a GPU for which the large default model is chosen and downloaded."""
    return found is not None and found.dedicated


def problem(settings: Settings) -> str | None:
    """A sentence about a fault of this machine's GPU and its remedy, or None."""
    backend = engine_build.backend_here(settings)
    if backend == "vulkan":
        return vulkan.doubt(vulkan.find_devices())
    _here.look()
    return _here.problem or (engine_build.lost_gpu(settings) if backend == "cpu" else None)
