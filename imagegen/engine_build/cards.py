"""The NVIDIA cards of this machine, read from NVML, to choose a build for them."""

from __future__ import annotations

from dataclasses import dataclass

import pynvml


@dataclass(frozen=True)
class Card:
    """One GPU; `capability` is CUDA's compute capability, (9, 0) for sm_90."""

    name: str
    capability: tuple[int, int]


@dataclass(frozen=True)
class Cards:
    """The GPUs of this machine.

    `driver_cuda`: the newest CUDA release that the driver supports; `driver`: the driver's version; `problem`: NVML's
    error.
    """

    found: tuple[Card, ...] = ()
    driver_cuda: tuple[int, int] | None = None
    problem: str | None = None
    driver: str | None = None

    @property
    def archs(self) -> tuple[str, ...]:
        """The distinct compute capabilities, such as `90`."""
        return tuple(f"{major}{minor}" for major, minor in sorted({card.capability for card in self.found}))


def find_cards() -> Cards:
    """Query NVML. No driver (library missing or not loaded) means no cards; any other error is a `problem`."""
    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        return Cards()
    except pynvml.NVMLError as error:
        return Cards(problem=str(error))
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        found = tuple(
            Card(_text(pynvml.nvmlDeviceGetName(h)), tuple(pynvml.nvmlDeviceGetCudaComputeCapability(h)))
            for h in handles
        )
        version = pynvml.nvmlSystemGetCudaDriverVersion_v2()  # 13000 for 13.0
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        return Cards(found, (version // 1000, version % 1000 // 10), driver=driver)
    except pynvml.NVMLError as error:
        return Cards(problem=str(error))
    finally:
        pynvml.nvmlShutdown()


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name
