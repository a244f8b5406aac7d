"""What NVML says of the GPU. Everything here answers None where there is no NVIDIA driver to ask."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

log = logging.getLogger("imagegen.gpu")


@dataclass(frozen=True)
class Gpu:
    """One card, now. Sizes in bytes; `ours_bytes` is what the engine's process holds, None if not told."""

    name: str
    total_bytes: int
    free_bytes: int
    ours_bytes: int | None


@contextmanager
def _nvml() -> Iterator[Any]:
    import pynvml

    pynvml.nvmlInit()
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def read(engine_pid: int | None = None) -> Gpu | None:
    """The first card, or None without one (or without a driver that answers)."""
    import pynvml

    try:
        with _nvml() as nvml:
            if nvml.nvmlDeviceGetCount() == 0:
                return None
            handle = nvml.nvmlDeviceGetHandleByIndex(0)
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            ours = None
            for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle):
                if process.pid == engine_pid:
                    ours = process.usedGpuMemory
            name = nvml.nvmlDeviceGetName(handle)
            return Gpu(name, int(memory.total), int(memory.free), ours)
    except pynvml.NVMLError as absent:
        log.debug("no GPU: %s", absent)
        return None
