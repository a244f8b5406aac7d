"""Finds what a build for Vulkan needs: glslc, the headers and the loader's library."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from imagegen.engine_build.plan import EngineBuildError

PROBE_TIMEOUT_S = 60.0
HEADERS_CPP = """
#include <vulkan/vulkan_core.h>
#if !__has_include(<vulkan/vulkan.hpp>)
#error
#endif
"""
"""The engine includes vulkan.hpp; to compile that would take seconds."""


LIBRARY = "-lvulkan"


def lacking() -> str | None:
    """What a build for Vulkan lacks on this machine, as a sentence; None if it lacks nothing.

    As CMake's FindVulkan: glslc, the headers and the loader's library from the system or from VULKAN_SDK.
    """
    sdk = Path(os.environ["VULKAN_SDK"]) if os.environ.get("VULKAN_SDK") else None
    missing = []
    folders = [] if sdk is None else [str(sdk / "bin")]
    if shutil.which("glslc", path=os.pathsep.join([*folders, os.environ.get("PATH", "")])) is None:
        missing.append("glslc, which compiles its shaders")
    options = [] if sdk is None else [f"-I{sdk / 'include'}", f"-L{sdk / 'lib'}"]
    if not _compiles(HEADERS_CPP, "-fsyntax-only", *options):
        missing.append("Vulkan's C++ headers")
    elif not _compiles("int main() {}", "-o", os.devnull, LIBRARY, *options):
        missing.append("the library of Vulkan's loader")
    if not missing:
        return None
    return (
        f"An engine for Vulkan needs what was not found here: {', '.join(missing)}. Install it (Debian 12, Ubuntu "
        "24.04: `apt install glslc libvulkan-dev`; Fedora: `dnf install glslc vulkan-headers vulkan-loader-devel`), or "
        "set VULKAN_SDK to the folder of LunarG's SDK."
    )


def check() -> None:
    """Raises EngineBuildError with what a build for Vulkan lacks on this machine."""
    if (sentence := lacking()) is not None:
        raise EngineBuildError(sentence)


def _compiles(program: str, *options: str) -> bool:
    """Whether the C++ compiler accepts a program. The options stand behind it, because libraries have to."""
    compiler = shlex.split(os.environ.get("CXX", "")) or next(
        ([name] for name in ("c++", "g++", "clang++") if shutil.which(name)), ["c++"]
    )
    try:
        done = subprocess.run(
            [*compiler, "-x", "c++", "-", "-x", "none", *options],
            input=program.encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
