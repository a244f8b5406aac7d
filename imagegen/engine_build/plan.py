"""The definition of a build: the pinned source, the options, their compiler flags, and the name of the result."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

BINARY = "sd-server"
MANIFEST = "engine.json"
CHANNEL_DIR = Path(__file__).parent / "channel"
"""The C++ files that are linked into sd-server, and the CMake file that links them (docs/engine.md, The channel)."""

CHANNEL_FILES = ("add.cmake", "channel.cpp", "upscale.cpp")
VULKAN_HEADERS = Path(__file__).parent / "vulkan_headers"
"""An include folder that completes Vulkan headers older than the engine expects."""

Backend = Literal["cpu", "cuda", "vulkan"]


class EngineBuildError(Exception):
    """The engine cannot be built or found; the message is a sentence for the user."""


class EngineMissing(EngineBuildError):
    """This machine has no engine that it can run; the message says how to get one."""


class Stage(StrEnum):
    """The stages of a build, in order."""

    WAITING = "waiting"  # another build holds the cache's lock
    TOOLKIT = "toolkit"  # fetching CUDA's packages from the package index; done and total count megabytes
    FETCHING = "fetching"  # fetching the source from the package index
    UNPACKING = "unpacking"
    CONFIGURING = "configuring"  # CMake
    COMPILING = "compiling"  # Ninja; done and total count its steps
    CHECKING = "checking"  # the new binary is run once
    PACKING = "package"  # a package is written or read; done and total count megabytes
    READY = "ready"  # built, or found built already


OnProgress = Callable[[Stage, int, int, str], None]
"""Called as (stage, done, total, message); done and total are 0 for a stage without steps."""


@dataclass(frozen=True)
class Sdist:
    """A source archive of the package index, pinned by its hash."""

    project: str
    version: str
    sha256: str
    size_bytes: int
    source_dir: str  # the source folder for CMake, inside the archive

    @property
    def stem(self) -> str:
        return f"{self.project.replace('-', '_')}-{self.version}"

    @property
    def filename(self) -> str:
        return f"{self.stem}.tar.gz"


@dataclass(frozen=True)
class Archive:
    """A source archive that the user supplies, pinned by the hash that the user supplies."""

    path: Path
    sha256: str

    @property
    def version(self) -> str:
        """The first part of a build's name. The engine's own version is known after unpacking (archive.py)."""
        return f"source-{self.sha256[:8]}"


PINNED = Sdist(
    project="stable-diffusion-cpp-python",
    version="0.4.7",
    sha256="998d1957260dd5ae4e18a8acc0c14b0a8757aaa9f96515197b6d5bbf46df9282",
    size_bytes=20_561_087,
    source_dir="vendor/stable-diffusion.cpp",
)

ALL_ARCHS = ("75-real", "80-real", "86-real", "89-real", "90-real", "100-real", "120a-real")
"""Turing to Blackwell. Listed here, because ggml's default without GGML_NATIVE lacks sm_90."""

COMMON_FLAGS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DSD_BUILD_EXAMPLES=ON",  # sd-server is one of the examples
    "-DSD_WEBP=OFF",
    "-DSD_WEBM=OFF",
    "-DCMAKE_BUILD_RPATH=$ORIGIN/lib",  # the libraries that `imagegen engine export` packs (transfer.py)
    "-DSD_SERVER_BUILD_FRONTEND=OFF",  # else the build runs a pnpm in the PATH, which downloads packages
)
PORTABLE_X86_FLAGS = ("-DGGML_AVX2=ON", "-DGGML_FMA=ON", "-DGGML_F16C=ON")
PORTABLE_X86_FEATURES = frozenset({"sse4_2", "avx", "avx2", "bmi2", "fma", "f16c"})
"""The CPU features that ggml uses on x86 with GGML_NATIVE off and the flags above on."""

_SIMD = re.compile(r"^(s?sse|avx|amx|fma|f16c|bmi|popcnt|abm|movbe|adx|aes|vaes|v?pclmul|gfni|sha)")


@dataclass(frozen=True)
class Options:
    """The target of a build. `archs`: CMake's CUDA architectures, empty for the CPU.

    A build that is not portable uses all instruction sets of the machine that compiles it. channel: whether the
    service's channel is linked in (docs/engine.md, The channel).
    """

    backend: Backend = "cpu"
    archs: tuple[str, ...] = ()
    portable: bool = False
    channel: bool = True

    @property
    def flags(self) -> tuple[str, ...]:
        """CMake's flags, without paths that depend on the machine."""
        flags = list(COMMON_FLAGS)
        if self.portable:
            flags.append("-DGGML_NATIVE=OFF")
            flags.extend(PORTABLE_X86_FLAGS if _is_x86() else ())
        if self.backend == "cuda":
            flags.append("-DSD_CUDA=ON")
            # Without a link to libcuda the binary also starts where no driver is installed (a container's builder, a
            # machine that lost its GPU), and can report that.
            flags.append("-DGGML_CUDA_NO_VMM=ON")
            flags.append(f"-DCMAKE_CUDA_ARCHITECTURES={';'.join(self.archs)}")
        if self.backend == "vulkan":
            flags.append("-DSD_VULKAN=ON")
        return tuple(flags)

    def needs(self, here: frozenset[str]) -> frozenset[str]:
        """The CPU features that the binary needs if it is compiled on a machine with the features `here`."""
        if not self.portable:
            return here
        return PORTABLE_X86_FEATURES if _is_x86() else frozenset()

    @property
    def label(self) -> str:
        if self.backend == "cuda":
            if self.archs == ALL_ARCHS:
                return "all"
            return "+".join(arch.removesuffix("-real") for arch in self.archs)
        return "portable" if self.portable else "native"


class Manifest(BaseModel):
    """The description of a built binary, stored in its folder: its origin and its requirements."""

    model_config = ConfigDict(frozen=True)

    version: str
    backend: Backend
    archs: tuple[str, ...]
    portable: bool
    flags: tuple[str, ...]
    cpu_features: tuple[str, ...]  # needed at run time
    sha256: str  # of the binary
    size_bytes: int
    seconds: float  # from configuring to the checked binary
    cuda: tuple[int, int] | None = None  # the CUDA release of the compiler; None in manifests of older releases
    channel: int | None = None  # the protocol version that the binary reports; None: built before the channel existed

    def runs_on_cpu(self, here: frozenset[str]) -> bool:
        return here.issuperset(self.cpu_features)

    def runs_on_card(self, capability: tuple[int, int]) -> bool:
        return any(arch_runs_on(arch, capability) for arch in self.archs)


OLDEST_DRIVER = {12: "525", 13: "580"}
"""The driver branch that each major release of CUDA needs (CUDA's release notes, table of driver versions for minor
version compatibility, Linux)."""


def oldest_driver(cuda: tuple[int, int]) -> str:
    """The oldest driver branch that runs binaries of this CUDA release."""
    return OLDEST_DRIVER.get(cuda[0], f"of CUDA {cuda[0]}.0")


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a finished build; None if there is none, or if the size of its binary is wrong."""
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
        whole = (folder / BINARY).stat().st_size == manifest.size_bytes
    except (OSError, ValidationError):
        return None
    return manifest if whole else None


def name_of(
    source: Sdist | Archive, options: Options, cpu_features: frozenset[str], channel: Path = CHANNEL_DIR
) -> str:
    """The folder name of a build: `<version>-<backend>-<label>-<hash of source, channel, flags and CPU features>`."""
    linked = channel_hash(channel) if options.channel else "no channel"
    parts = [source.sha256, linked, *options.flags, *sorted(options.needs(cpu_features))]
    if options.backend == "vulkan":
        parts.append((VULKAN_HEADERS / "vulkan" / "vulkan.hpp").read_text())
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]
    return f"{source.version}-{options.backend}-{options.label}-{digest}"


def channel_hash(folder: Path = CHANNEL_DIR) -> str:
    """SHA-256 over the SHA-256 hashes of the channel's files."""
    hashes = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in CHANNEL_FILES]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The CPU's instruction sets that a compiler may use; empty if the system does not report them."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return frozenset(flag for flag in value.split() if _SIMD.match(flag))
        if name.strip() == "Features":  # ARM
            return frozenset(value.split())
    return frozenset()


def parse_archs(text: str) -> tuple[str, ...]:
    """Parse CUDA architectures from user input: `90`, `75,86,90` or `all`.

    A plain number means machine code for that architecture (`90-real`). Raises EngineBuildError.
    """
    if text.strip().lower() == "all":
        return ALL_ARCHS
    archs = []
    for part in re.split(r"[,;]", text):
        match = re.fullmatch(r"(?:sm_)?(\d{2,3})([af]?)(-real|-virtual)?", part.strip().lower())
        if match is None:
            raise EngineBuildError(
                f"--arch {text!r}: {part.strip()!r} is not a CUDA architecture. Give compute capabilities "
                "without the dot, such as 90 or 75,86,90, or the word all."
            )
        number, suffix, kind = match.groups()
        if number.startswith("12") and len(number) == 3 and not suffix:
            suffix = "a"  # ggml's FP4 kernels compile only for the architecture-specific variants
        archs.append(f"{number}{suffix}{kind or '-real'}")
    return tuple(sorted(set(archs), key=lambda arch: (int(re.findall(r"\d+", arch)[0]), arch)))


def arch_runs_on(arch: str, capability: tuple[int, int]) -> bool:
    """Whether code for a CMake architecture runs on a card of this compute capability.

    CUDA's compatibility rules: machine code runs on the same major version with the same or a higher minor version.
    The `a` variants run only on their own capability. PTX (`-virtual`) runs on the same and all newer capabilities.
    """
    match = re.match(r"(\d+)(\d)([af]?)", arch)
    if match is None:
        return False
    own = (int(match[1]), int(match[2]))
    if match[3] == "a":
        return own == capability
    if arch.endswith("-virtual") and not match[3]:
        return own <= capability
    return own[0] == capability[0] and own <= capability


def _is_x86() -> bool:
    return platform.machine().lower() in {"x86_64", "amd64"}
