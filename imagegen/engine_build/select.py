"""Chooses the engine that this machine runs, and the engine that it should build."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from imagegen.engine_build import builder, cuda_packages, probe, toolchain, vulkan, vulkan_sdk
from imagegen.engine_build.cards import Cards, find_cards
from imagegen.engine_build.misfit import Reason, misfit_of, no_card, no_vulkan_device
from imagegen.engine_build.plan import (
    BINARY,
    PINNED,
    Backend,
    EngineBuildError,
    EngineMissing,
    Manifest,
    OnProgress,
    Options,
    Stage,
    name_of,
    parse_archs,
    read_manifest,
)

if TYPE_CHECKING:  # the builder stage of the container image has only this package of the service
    from imagegen.settings import Settings

BEST_FIRST: tuple[Backend, ...] = ("cuda", "vulkan", "cpu")
CPU_INSTEAD = "Or choose the CPU, which is very much slower: `imagegen engine build --backend cpu`."


TORCH_FOR_CPU = Reason(
    "the torch that is installed here was built for the CPU", "install CUDA's (docs/engine.md, The second engine)"
)


def resolve(settings: Settings) -> Path:
    """The sd-server to start: IMAGEGEN_SD_SERVER, else a build that fits the GPU here, CUDA before Vulkan, else a CPU
    build.

    Raises EngineMissing, which says what to do. Builds nothing.
    """
    if settings.sd_server is not None:
        return _own_binary(settings.sd_server)
    cards = find_cards()
    reasons = []
    for folder, manifest in _builds(settings.engine_dir):
        misfit = misfit_of(manifest, cards)
        why = None if misfit is None else misfit.why
        if why is None and manifest.backend == "cpu" and settings.on_missing_gpu == "exit":
            why = "compiled for the CPU, which IMAGEGEN_ON_MISSING_GPU=exit rules out"
        if why is None:
            return folder / BINARY
        reasons.append(f"{folder.name}: {why}")
    if reasons:
        raise EngineMissing(
            f"None of the engines in {settings.engine_dir} runs on this machine ({'; '.join(reasons)}): run "
            "`imagegen engine build`."
        )
    raise EngineMissing(
        "The engine, sd-server, is not built on this machine yet: run `imagegen engine build`, or set "
        "IMAGEGEN_SD_SERVER to an sd-server binary you have."
    )


def missing_gpu(settings: Settings, torch_uses_cuda: bool | None = None) -> Reason | None:
    """Why no GPU of this machine can be used; None if the engine can use one.

    The user's own engine (IMAGEGEN_SD_SERVER) is assumed to use the card. torch_uses_cuda: set if the second engine
    draws; sd-server is then not checked.
    """
    cards = find_cards()
    if torch_uses_cuda is not None:
        return no_card(cards) or (None if torch_uses_cuda else TORCH_FOR_CPU)
    if settings.sd_server is not None:
        return None if probe.backend_of(settings.sd_server) == "vulkan" else no_card(cards)
    builds = [manifest for _, manifest in _builds(settings.engine_dir) if manifest.backend != "cpu"]
    misfits = [misfit_of(manifest, cards) for manifest in builds]
    if None in misfits:
        return None
    if (none := no_card(cards)) is not None and not any(manifest.backend == "vulkan" for manifest in builds):
        return none
    for misfit in filter(None, misfits):
        return Reason(f"the engine here was {misfit.why}", misfit.remedy)
    return Reason(
        "there is no engine for a GPU here",
        "build one: `imagegen deploy --backend cuda`, or without a container `imagegen engine build --backend cuda`",
    )


def require_gpu(settings: Settings, torch_uses_cuda: bool | None = None) -> None:
    """Raises EngineMissing with one sentence if IMAGEGEN_ON_MISSING_GPU=exit and no GPU can be used."""
    if settings.on_missing_gpu == "exit" and (missing := missing_gpu(settings, torch_uses_cuda)) is not None:
        raise EngineMissing(
            f"This service is to draw on a GPU, but {missing.why}: {missing.remedy}; or let it draw on the "
            "CPU, which is very much slower, with IMAGEGEN_ON_MISSING_GPU=cpu."
        )


def default_backend(cards: Cards | None = None) -> Backend:
    """The default backend of a build: cuda with an NVIDIA GPU, vulkan with another GPU, cpu without one.

    Raises EngineBuildError if there is an NVIDIA GPU and no engine can be built for it. The user then has to choose
    another engine explicitly. A machine that lacks the tools for Vulkan gets cpu: see `unused_gpu`.
    """
    cards = find_cards() if cards is None else cards
    if cards.problem is not None:
        raise EngineBuildError(
            f"The NVIDIA driver of this machine does not answer ({cards.problem}), so its GPU is of no use. "
            f"Mend the driver (`nvidia-smi` shows the same fault). {CPU_INSTEAD}"
        )
    if not cards.found:
        has_gpu = vulkan.engine_gpu(vulkan.find_devices()) is not None
        return "vulkan" if has_gpu and vulkan_sdk.lacking() is None else "cpu"
    try:
        try:
            toolchain.find_cuda()
        except toolchain.NoCuda:  # the build will fetch the toolkit
            cuda_packages.check_driver(cards)
    except EngineBuildError as missing:
        raise EngineBuildError(
            f"This machine has an NVIDIA GPU ({cards.found[0].name}), but the engine cannot be built for it. "
            f"{missing} {CPU_INSTEAD}"
        ) from missing
    return "cuda"


def unused_gpu(cards: Cards) -> str | None:
    """A note for an engine that is built for the CPU on a machine with a GPU that Vulkan can use; else None."""
    if cards.found or cards.problem is not None:
        return None
    devices = vulkan.find_devices()
    gpu = vulkan.engine_gpu(devices)
    if gpu is None:
        return None
    lacking = vulkan_sdk.lacking()
    remedy = "Run `imagegen engine build`." if lacking is None else f"{lacking} Then run `imagegen engine build`."
    return f"The engine is built for the CPU, and this machine has a GPU that Vulkan can use ({gpu.name}). {remedy}"


def lost_gpu(settings: Settings) -> str | None:
    """A sentence if an engine for Vulkan was built here and Vulkan has no device any more; else None."""
    if settings.sd_server is not None or all(m.backend != "vulkan" for _, m in _builds(settings.engine_dir)):
        return None
    if (none := no_vulkan_device()) is None:
        return None
    return f"The engine for Vulkan that was built here is not used, because {none.why}: {none.remedy}."


def backend_here(settings: Settings) -> Backend:
    """The backend of the engine that the service starts, or that its first start will build."""
    try:
        return probe.backend_of(resolve(settings))
    except EngineMissing:
        if settings.sd_server is not None:
            return "cpu"
    try:
        return default_backend()
    except EngineBuildError:
        return "cpu"


def options_for(backend: Backend, arch: str | None = None, portable: bool = False) -> Options:
    """The options of a build. arch: the user's input (`90`, `75,86,90`, `all`), None for this machine's cards.

    A build for named architectures may run on other machines, so it is portable. Raises EngineBuildError.
    """
    if backend != "cuda":
        if arch is not None:
            kind = "Vulkan" if backend == "vulkan" else "CPU"
            raise EngineBuildError(
                f"--arch names architectures of CUDA and means nothing for a {kind} build: leave it out."
            )
        return Options(backend, portable=portable)
    if arch is not None:
        return Options("cuda", parse_archs(arch), portable=True)
    cards = find_cards()
    if not cards.found:
        why = f"the NVIDIA driver does not answer ({cards.problem})" if cards.problem else "no NVIDIA GPU was found"
        raise EngineBuildError(
            f"Which GPU to build for is not known: {why}. Name it: --arch 86, for instance, or --arch all."
        )
    return Options("cuda", parse_archs(",".join(cards.archs)), portable=portable)


def ensure(settings: Settings, on_progress: OnProgress, jobs: int | None = None) -> Path:
    """Return the engine of this machine; build it first if necessary. Used by the setup of a machine.

    Raises EngineBuildError (EngineMissing for a wrong IMAGEGEN_SD_SERVER).
    """
    if settings.sd_server is not None:
        binary = _own_binary(settings.sd_server)
        on_progress(Stage.READY, 0, 0, f"Using your own engine (IMAGEGEN_SD_SERVER): {binary}")
        return binary
    cards = find_cards()
    fitting = [(folder, m) for folder, m in _builds(settings.engine_dir) if misfit_of(m, cards) is None]
    try:
        backend = default_backend(cards)
    except EngineBuildError as unbuildable:
        if not fitting:
            raise
        chosen = fitting[0][0] / BINARY  # the user chose its backend explicitly in an earlier build
        on_progress(Stage.READY, 0, 0, f"Using the engine built before, {chosen}. {unbuildable}")
        return chosen
    usable = {backend, "vulkan"} if backend == "cpu" else {backend}  # built before the tools for it were removed
    for folder, manifest in fitting:
        if manifest.backend in usable and _is_current(folder, manifest):
            on_progress(Stage.READY, 0, 0, f"Already built: {folder / BINARY}")
            return folder / BINARY
    if backend == "cpu" and (note := unused_gpu(cards)) is not None:
        on_progress(Stage.READY, 0, 0, note)
    return builder.build(settings.engine_dir, options_for(backend), on_progress, jobs=jobs).binary


def _own_binary(path: Path) -> Path:
    try:
        is_file = stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        problem = "does not exist"
    except OSError as failure:
        problem = f"cannot be used ({failure.strerror})"
    else:
        if is_file and os.access(path, os.X_OK):
            return path
        problem = "is not executable" if is_file else "is not a file"
    raise EngineMissing(
        f"IMAGEGEN_SD_SERVER={path} {problem}: set it to an sd-server binary, or unset it to use the one "
        "that `imagegen engine build` makes."
    )


def _builds(engine_dir: Path) -> list[tuple[Path, Manifest]]:
    """The complete builds of the pinned version, best first: by BEST_FIRST, this release before older ones, native
    before portable."""
    try:
        folders = list(engine_dir.glob(f"{PINNED.version}-*"))
    except OSError:  # an unreadable folder counts as empty; a build will report the error
        folders = []
    found = []
    for folder in folders:
        manifest = read_manifest(folder)
        if manifest is not None:
            found.append((folder, manifest))
    return sorted(
        found,
        key=lambda build: (
            BEST_FIRST.index(build[1].backend),
            not _is_current(*build),
            build[1].portable,
            build[0].name,
        ),
    )


def _is_current(folder: Path, manifest: Manifest) -> bool:
    """Whether the build has the source, channel and flags of this release, which its name encodes."""
    options = Options(manifest.backend, manifest.archs, manifest.portable)
    return folder.name == name_of(PINNED, options, frozenset(manifest.cpu_features))
