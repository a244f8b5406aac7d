"""Decides whether this machine can run a build, and names the reason and the remedy if it cannot."""

from __future__ import annotations

from dataclasses import dataclass

from imagegen.engine_build import vulkan
from imagegen.engine_build.cards import Cards
from imagegen.engine_build.plan import Manifest, cpu_features, oldest_driver


@dataclass(frozen=True)
class Reason:
    """Why something cannot be used, and the remedy, each as the end of a sentence."""

    why: str
    remedy: str


def misfit_of(manifest: Manifest, cards: Cards) -> Reason | None:
    """Why this machine cannot use a build, as the end of a sentence with "was"; None if it can.

    Queries the Vulkan drivers only for a build that needs them.
    """
    if not manifest.runs_on_cpu(cpu_features()):
        return Reason(
            "compiled for a CPU with instructions that this one lacks", f"build it on this machine: {_build_for(cards)}"
        )
    if manifest.backend == "cpu":
        return None
    if manifest.backend == "vulkan":
        none = no_vulkan_device()
        return None if none is None else Reason(f"compiled for Vulkan, and {none.why}", none.remedy)
    if (none := no_card(cards)) is not None:
        return Reason(f"compiled for CUDA, and {none.why}", none.remedy)
    if manifest.cuda is not None and cards.driver_cuda is not None and cards.driver_cuda[0] < manifest.cuda[0]:
        oldest = oldest_driver(manifest.cuda)
        return Reason(
            f"compiled with CUDA {manifest.cuda[0]}, which needs the NVIDIA driver {oldest} or newer, and the driver "
            f"here is {cards.driver}",
            "update the driver",
        )
    if not any(manifest.runs_on_card(card.capability) for card in cards.found):
        return Reason(
            f"compiled for CUDA {', '.join(manifest.archs)}, and the GPU here is {', '.join(cards.archs)}",
            f"build it for this GPU: {_build_for(cards)}",
        )
    return None


def no_card(cards: Cards) -> Reason | None:
    """Why CUDA has no card here; None if it has one."""
    if cards.problem is not None:
        return Reason(
            f"the NVIDIA driver does not answer ({cards.problem})",
            "mend it on the machine itself, where `nvidia-smi` shows the same fault",
        )
    if not cards.found:
        return Reason(
            "no NVIDIA GPU is visible here",
            "in a container, start it with `--gpus all` (Docker) or `--device nvidia.com/gpu=all` (Podman)",
        )
    return None


def no_vulkan_device() -> Reason | None:
    """Why an engine for Vulkan has no device here; None if it has one."""
    devices = vulkan.find_devices()
    if vulkan.engine_device(devices) is not None:
        return None
    why = "Vulkan has no GPU here" if devices.problem is None else f"Vulkan cannot be used ({devices.problem})"
    return Reason(
        why,
        "install the GPU's Vulkan driver (AMD, Intel: `apt install mesa-vulkan-drivers`), and see that this user may "
        f"open /dev/dri/renderD*. A CPU device counts only if {vulkan.VISIBLE} names it",
    )


def _build_for(cards: Cards) -> str:
    if not cards.archs:
        return "`imagegen engine build`"
    arch = ",".join(cards.archs)
    return f"`imagegen deploy --arch {arch}`, or without a container `imagegen engine build --arch {arch}`"
