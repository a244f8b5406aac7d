"""Which engine this machine runs, and which it should have built."""

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

if TYPE_CHECKING:  # an image's builder stage has this package without the rest of the service
    from imagegen.settings import Settings

CPU_INSTEAD = "Or choose the CPU, which is very much slower: `imagegen engine build --backend cpu`."


@dataclass(frozen=True)
class Reason:
    """Why something cannot be used, as the end of a sentence, and what to do about it, as another."""

    why: str
    remedy: str


TORCH_FOR_CPU = Reason(
    "the torch that is installed here was built for the CPU", "install CUDA's (docs/engine.md, The second engine)"
)


def resolve(settings: Settings) -> Path:
    """The sd-server to start: IMAGEGEN_SD_SERVER, else a CUDA build that fits the GPU here, else a CPU build.

    Raises EngineMissing saying what to do. Looks only; builds nothing.
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
    """Why no GPU of this machine can be used; None where the engine has one.

    An engine of the user's own (IMAGEGEN_SD_SERVER) is taken to use whatever card there is. torch_uses_cuda: given
    where the second engine draws, and sd-server does not matter.
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
    """Raises EngineMissing with one sentence where IMAGEGEN_ON_MISSING_GPU=exit and no GPU can be used."""
    if settings.on_missing_gpu == "exit" and (missing := missing_gpu(settings, torch_uses_cuda)) is not None:
        raise EngineMissing(
            f"This service is to draw on an NVIDIA GPU, but {missing.why}: {missing.remedy}; or let it draw on the "
            "CPU, which is very much slower, with IMAGEGEN_ON_MISSING_GPU=cpu."
        )


def default_backend(cards: Cards | None = None) -> Backend:
    """What to build when nobody says: cuda where there is a GPU, cpu where there is none.

    Raises EngineBuildError where there is a GPU that cannot be built for: then a CPU engine is for a person
    to choose.
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
        except toolchain.NoCuda:  # then the build fetches it
            cuda_packages.check_driver(cards)
    except EngineBuildError as missing:
        raise EngineBuildError(
            f"This machine has an NVIDIA GPU ({cards.found[0].name}), but the engine cannot be built for it. "
            f"{missing} {CPU_INSTEAD}"
        ) from missing
    return "cuda"


def options_for(backend: Backend, arch: str | None = None, portable: bool = False) -> Options:
    """The options of a build: `arch` as typed (`90`, `75,86,90`, `all`), None for this machine's own cards.

    A list of architectures is for other machines too, so it makes the build portable.
    Raises EngineBuildError.
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
    """The engine of this machine, built first if need be: what setting up a machine calls.

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
        chosen = fitting[0][0] / BINARY  # somebody asked for it by name before
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
    """The whole builds of the pinned version, best first: CUDA before CPU, this release's before an older one's,
    native before portable."""
    try:
        folders = list(engine_dir.glob(f"{PINNED.version}-*"))
    except OSError:  # a folder that cannot be read has no engine: building one says why
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
    """Whether this release would give such a build the same name: the same source, channel and flags."""
    options = Options(manifest.backend, manifest.archs, manifest.portable)
    return folder.name == name_of(PINNED, options, frozenset(manifest.cpu_features))


def misfit_of(manifest: Manifest, cards: Cards) -> Reason | None:
    """Why a build, which `was …`, is of no use on this machine; None if it is."""
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
