"""Finds the programs of a build: a C++ compiler, CMake, Ninja and, for a GPU, CUDA's nvcc."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cmake
import ninja

from imagegen.engine_build.plan import EngineBuildError

PROBE_TIMEOUT_S = 60.0
CUDA_FOLDERS = (Path("/usr/local/cuda"), Path("/opt/cuda"))
"""Folders where the CUDA toolkit's installers put it without changing the PATH."""

CUDA_WHEELS = {
    "nvidia-cuda-nvcc": "bin/nvcc",
    "nvidia-cuda-crt": "include/crt/host_config.h",
    "nvidia-nvvm": "nvvm/bin/cicc",
    "nvidia-cuda-runtime": "include/cuda_runtime.h",
    "nvidia-cuda-cccl": "include/cccl/thrust/version.h",
    "nvidia-cublas": "include/cublas_v2.h",
}
"""The packages that together form a CUDA 13 toolkit, each with a file that identifies it (all in nvidia/cu13)."""

WHEEL_COMMAND = "pip install " + " ".join(f'"{name}==13.0.*"' for name in CUDA_WHEELS if name != "nvidia-cublas")
GET_NVCC = (
    "Install NVIDIA's CUDA toolkit (12.8 or newer, with cuBLAS), or its packages from the package index into "
    f'this Python environment: `{WHEEL_COMMAND} "nvidia-cublas==13.*"`.'
)


class NoCuda(EngineBuildError):
    """There is no complete CUDA toolkit; the packages of the package index can replace it."""


@dataclass(frozen=True)
class Cuda:
    """A CUDA toolkit: its compiler, root folder and release, whether it has cuBLAS, whether it consists of wheels.

    cublas_package: the folder of the Python package that supplies cuBLAS for a toolkit without it.
    """

    nvcc: Path
    root: Path
    release: tuple[int, int]
    cublas: bool
    wheels: bool = False
    cublas_package: Path | None = None


def packaged(name: str) -> Path:
    """The `cmake` or `ninja` of this Python environment, not the system's, whose version is not pinned.

    Raises EngineBuildError if the package lacks its program.
    """
    folder = {"cmake": cmake.CMAKE_BIN_DIR, "ninja": ninja.BIN_DIR}[name]
    program = Path(folder) / name
    if not os.access(program, os.X_OK):
        raise EngineBuildError(
            f"The {name} package of this Python environment has no program {program}: reinstall it with "
            f"`pip install --force-reinstall {name}`."
        )
    return program


def check_compilers() -> None:
    """Check for a C and a C++ compiler in CMake's order (CC and CXX first). Raises EngineBuildError."""
    for language, variable, usual in (
        ("C", "CC", ("cc", "gcc", "clang")),
        ("C++", "CXX", ("c++", "g++", "clang++")),
    ):
        chosen = shlex.split(os.environ.get(variable, ""))[:1]
        if chosen and shutil.which(chosen[0]) is None:
            raise EngineBuildError(f"{variable}={chosen[0]} is not a program: correct it or unset it.")
        if not chosen and not any(shutil.which(name) for name in usual):
            raise EngineBuildError(
                f"No {language} compiler was found (looked for {', '.join(usual)}), and the engine is built "
                "from its source. Install one (Debian, Ubuntu: `apt install g++`; Fedora: "
                "`dnf install gcc-c++`), or set IMAGEGEN_SD_SERVER to an sd-server binary you have."
            )


def find_cuda(kept: Path | None = None) -> Cuda:
    """The first CUDA toolkit with a compiler and cuBLAS.

    Search order: CUDACXX, CUDA_PATH, CUDA_HOME, the PATH, CUDA_FOLDERS, the wheels of this Python environment, the
    wheels in the folder `kept`. If none has cuBLAS, the first toolkit is combined with the cuBLAS of this Python
    environment (a dependency of PyTorch) or of `kept`.

    Raises EngineBuildError, which says what was found and what is missing; NoCuda if the packages of the package index
    would help.
    """
    without_cublas = None
    for cuda in _toolkits(kept):
        if cuda.cublas:
            return cuda
        without_cublas = without_cublas or cuda
    if without_cublas is not None:
        if (package := _cublas_package(without_cublas.release[0], kept)) is not None:
            return replace(without_cublas, cublas=True, cublas_package=package)
        raise NoCuda(
            f"{without_cublas.nvcc} is there, but its toolkit lacks cuBLAS (cublas_v2.h), which the engine needs. "
            f"{GET_NVCC}"
        )
    raise NoCuda(f"CUDA's compiler, nvcc, was not found. {GET_NVCC}")


def inspect(nvcc: Path) -> Cuda:
    """The toolkit of an nvcc, from nvcc's own output. Raises EngineBuildError if nvcc does not answer."""
    release = re.search(r"release (\d+)\.(\d+)", _ask(nvcc, "--version"))
    plan = _ask(nvcc, "--dryrun", "-x", "cu", os.devnull)
    top = re.search(r"^#\$ TOP=(.*)$", plan, re.MULTILINE)  # nvcc in the PATH may be a wrapper in another folder
    if release is None or top is None:
        raise EngineBuildError(f"{nvcc} does not answer as CUDA's nvcc does: set CUDACXX to one that works.")
    includes = [Path(folder) for folder in re.findall(r'"-I([^"]+)"', plan)] + [Path("/usr/include")]
    cublas = any((folder / "cublas_v2.h").is_file() for folder in includes)
    return Cuda(nvcc, Path(top[1].strip()).resolve(), (int(release[1]), int(release[2])), cublas)


def check_archs(cuda: Cuda, archs: tuple[str, ...]) -> None:
    """Raises EngineBuildError if this nvcc cannot compile for one of the architectures."""
    known = set(re.findall(r"sm_(\d+)", _ask(cuda.nvcc, "--list-gpu-code")))
    refused = [arch for arch in archs if re.findall(r"^\d+", arch)[0] not in known]
    if refused:
        release = ".".join(map(str, cuda.release))
        raise EngineBuildError(
            f"nvcc {release} ({cuda.nvcc}) cannot compile for {', '.join(refused)}: it knows "
            f"{', '.join(sorted(known, key=int))}. Choose others with --arch, or use another CUDA toolkit "
            "(CUDACXX names its nvcc)."
        )


def linked(cuda: Cuda, engine_dir: Path) -> Cuda:
    """Make a toolkit folder of links into the Python packages, in the layout that CMake and the linker expect.

    The packages have no `lib64` and no library names without a version. A complete installed toolkit is returned
    unchanged. The folder stays in the cache, because the binary's run path points to it.
    """
    if not cuda.wheels and cuda.cublas_package is None:
        return cuda
    root = engine_dir / f"cuda-{'.'.join(map(str, cuda.release))}-{'wheels' if cuda.wheels else 'cublas'}"
    libraries = cuda.root / ("lib" if cuda.wheels else "lib64")
    # Real folders with links, because nvcc finds its files relative to its own folder, and because the headers of the
    # toolkit and the package have to be in one folder.
    for folder, source in (("bin", cuda.root / "bin"), ("include", cuda.root / "include"), ("lib", libraries)):
        for entry in source.iterdir():
            _link(root / folder / entry.name, entry)
    if cuda.cublas_package is not None:
        for header in (cuda.cublas_package / "include").glob("cublas*.h"):
            _link(root / "include" / header.name, header)
        for library in (cuda.cublas_package / "lib").glob("libcublas*.so.*"):
            _link(root / "lib" / library.name, library)
    _link(root / "nvvm", cuda.root / "nvvm")
    _link(root / "lib64", Path("lib"))
    for library in (root / "lib").glob("lib*.so.*"):
        name = f"{library.name.split('.so.')[0]}.so"
        if not (libraries / name).exists():
            _link(root / "lib" / name, Path(library.name))
    return replace(cuda, nvcc=root / "bin" / "nvcc", root=root)


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def _toolkits(kept: Path | None) -> Iterator[Cuda]:
    """The CUDA toolkits of this machine, in the order of `find_cuda`; only CUDACXX, if it is set."""
    named = os.environ.get("CUDACXX", "").strip()
    if named:
        program = shutil.which(named)
        if program is None:
            raise EngineBuildError(f"CUDACXX={named} is not a program: set it to nvcc, or unset it.")
        yield inspect(Path(program))
        return
    folders = [Path(os.environ[name]) for name in ("CUDA_PATH", "CUDA_HOME") if os.environ.get(name)]
    in_path = shutil.which("nvcc")
    programs = [folder / "bin" / "nvcc" for folder in folders]
    programs += [Path(in_path)] if in_path else []
    programs += [folder / "bin" / "nvcc" for folder in CUDA_FOLDERS]
    for nvcc in programs:
        if nvcc.is_file() and os.access(nvcc, os.X_OK):
            yield inspect(nvcc)
    yield from _wheels(kept)


def _wheels(kept: Path | None) -> list[Cuda]:
    """The toolkit of NVIDIA's CUDA 13 packages in site-packages or in `kept`, if installed.

    Raises NoCuda if only some of them are installed.
    """
    incomplete = None
    for root in (place / "cu13" for place in _nvidia_folders(kept)):
        if not (root / "bin" / "nvcc").is_file():
            continue
        missing = [name for name, part in CUDA_WHEELS.items() if not (root / part).is_file()]
        if not missing:
            return [replace(inspect(root / "bin" / "nvcc"), wheels=True)]
        incomplete = incomplete or (
            f"The CUDA packages of this Python environment ({root}) are not complete. Missing: "
            f"{', '.join(missing)}. {GET_NVCC}"
        )
    if incomplete is not None:
        raise NoCuda(incomplete)
    return []


def _cublas_package(cuda_major: int, kept: Path | None) -> Path | None:
    """The folder of NVIDIA's cuBLAS package for this CUDA release (13: cu13, 12: cublas), or None."""
    for place in _nvidia_folders(kept):
        for root in (place / f"cu{cuda_major}", place / "cublas"):
            if (root / "include/cublas_v2.h").is_file() and (root / f"lib/libcublas.so.{cuda_major}").is_file():
                return root
    return None


def _nvidia_folders(kept: Path | None) -> list[Path]:
    """The folders that can contain NVIDIA's packages: this Python environment, then `kept`."""
    spec = importlib.util.find_spec("nvidia")
    places = [Path(place) for place in (spec.submodule_search_locations or ())] if spec is not None else []
    return places if kept is None else [*places, kept / "nvidia"]


def _ask(nvcc: Path, *arguments: str) -> str:
    """The output of nvcc, both streams. Raises EngineBuildError if it does not run."""
    try:
        answer = subprocess.run(
            [nvcc, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineBuildError(f"{nvcc} does not run ({error}): set CUDACXX to an nvcc that works.") from error
    return answer.stdout.decode(errors="replace")
