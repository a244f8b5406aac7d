"""Chooses the engine that this machine runs, and the engine that it should build."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagegen.engine_build import builder, cuda_packages, toolchain
from imagegen.engine_build.cards import Cards, find_cards
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
    cpu_features,
    name_of,
    oldest_driver,
    parse_archs,
    read_manifest,
)

if TYPE_CHECKING:  # the builder stage of the container image has only this package of the service
    from imagegen.settings import Settings

CPU_INSTEAD = "Or choose the CPU, which is very much slower: `imagegen engine build --backend cpu`."


@dataclass(frozen=True)
class Reason:
    """Why something cannot be used, and the remedy, each as the end of a sentence."""

    why: str
    remedy: str


TORCH_FOR_CPU = Reason(
    "the torch that is installed here was built for the CPU", "install CUDA's (docs/engine.md, The second engine)"
)


def resolve(settings: Settings) -> Path:
    """The sd-server to start: IMAGEGEN_SD_SERVER, else a CUDA build that fits the GPU here, else a CPU build.

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
    if (none := _no_card(cards)) is not None:
        return none
    if torch_uses_cuda is not None:
        return None if torch_uses_cuda else TORCH_FOR_CPU
    if settings.sd_server is not None:
        return None
    misfits = [misfit_of(manifest, cards) for _, manifest in _builds(settings.engine_dir) if manifest.backend == "cuda"]
    if None in misfits:
        return None
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
            f"This service is to draw on an NVIDIA GPU, but {missing.why}: {missing.remedy}; or let it draw on the "
            "CPU, which is very much slower, with IMAGEGEN_ON_MISSING_GPU=cpu."
        )


def default_backend(cards: Cards | None = None) -> Backend:
    """The default backend of a build: cuda with a GPU, cpu without one.

    Raises EngineBuildError if there is a GPU and no engine can be built for it. The user then has to choose a CPU
    engine explicitly.
    """
    cards = find_cards() if cards is None else cards
    if cards.problem is not None:
        raise EngineBuildError(
            f"The NVIDIA driver of this machine does not answer ({cards.problem}), so its GPU is of no use. "
            f"Mend the driver (`nvidia-smi` shows the same fault). {CPU_INSTEAD}"
        )
    if not cards.found:
        return "cpu"
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


def options_for(backend: Backend, arch: str | None = None, portable: bool = False) -> Options:
    """The options of a build. arch: the user's input (`90`, `75,86,90`, `all`), None for this machine's cards.

    A build for named architectures may run on other machines, so it is portable. Raises EngineBuildError.
    """
    if backend == "cpu":
        if arch is not None:
            raise EngineBuildError(
                "--arch names architectures of CUDA and means nothing for a CPU build: leave it out."
            )
        return Options("cpu", portable=portable)
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
    for folder, manifest in fitting:
        if manifest.backend == backend and _is_current(folder, manifest):
            on_progress(Stage.READY, 0, 0, f"Already built: {folder / BINARY}")
            return folder / BINARY
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
    """The complete builds of the pinned version, best first: CUDA before CPU, this release before older ones, native
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
        found, key=lambda build: (build[1].backend != "cuda", not _is_current(*build), build[1].portable, build[0].name)
    )


def _is_current(folder: Path, manifest: Manifest) -> bool:
    """Whether the build has the source, channel and flags of this release, which its name encodes."""
    options = Options(manifest.backend, manifest.archs, manifest.portable)
    return folder.name == name_of(PINNED, options, frozenset(manifest.cpu_features))


def misfit_of(manifest: Manifest, cards: Cards) -> Reason | None:
    """Why this machine cannot use a build, as the end of a sentence with "was"; None if it can."""
    if not manifest.runs_on_cpu(cpu_features()):
        return Reason(
            "compiled for a CPU with instructions that this one lacks", f"build it on this machine: {_build_for(cards)}"
        )
    if manifest.backend == "cpu":
        return None
    if (none := _no_card(cards)) is not None:
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


def _no_card(cards: Cards) -> Reason | None:
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


def _build_for(cards: Cards) -> str:
    arch = ",".join(cards.archs)
    return f"`imagegen deploy --arch {arch}`, or without a container `imagegen engine build --arch {arch}`"
