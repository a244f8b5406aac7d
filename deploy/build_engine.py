"""The builder stage's program: build sd-server by the project's own builder, and keep only what runs it.

usage: build_engine.py FOLDER cpu|cuda ARCHS JOBS   (ARCHS as `imagegen engine build --arch` has it; JOBS 0: by cores)

FOLDER becomes the cache that IMAGEGEN_CACHE names in the image. For CUDA it holds a CPU engine as well, for
IMAGEGEN_ON_MISSING_GPU=cpu, and the CUDA libraries that the binary names to the loader, where it looks for them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from imagegen.engine_build import EngineBuildError, Stage, build, options_for

TENTH = 10


class Lines:
    """Progress for a build log: a line a stage, and one each tenth of the compiling."""

    def __init__(self) -> None:
        self._told = 0

    def __call__(self, _stage: Stage, done: int, total: int, message: str) -> None:
        if total == 0:
            print(message, flush=True)
        elif (tenth := TENTH * done // total) > self._told:
            self._told = tenth
            print(f"Compiling: {done} of {total} steps", flush=True)


def main(folder: Path, backend: str, archs: str, jobs: int) -> None:
    """Build into `folder`/engine. Raises EngineBuildError."""
    engines = folder / "engine"
    build(engines, options_for("cpu", portable=True), Lines(), jobs=jobs or None)
    if backend == "cuda":
        built = build(engines, options_for("cuda", archs), Lines(), jobs=jobs or None)
        keep_libraries(built.binary, engines)
    for rest in ("sdist", "logs"):
        shutil.rmtree(engines / rest, ignore_errors=True)
    (engines / "lock").unlink(missing_ok=True)


def keep_libraries(binary: Path, engines: Path) -> None:
    """Replace the links into CUDA's wheels by the libraries that the binary needs, in the same place: its run path."""
    (toolkit,) = engines.glob("cuda-*-wheels")
    wheels = (toolkit / "include").resolve().parent
    needed = {name: path for name, path in _asked(binary).items() if path.resolve().is_relative_to(wheels)}
    if not needed:
        raise EngineBuildError(f"{binary} names no CUDA library to the loader.")
    kept = toolkit.with_name("kept")
    kept.mkdir()
    for name, path in needed.items():
        shutil.copyfile(path.resolve(), kept / name)
    shutil.rmtree(toolkit)
    toolkit.mkdir()
    kept.rename(toolkit / "lib")
    (toolkit / "lib64").symlink_to("lib")  # CMake may have found them under this name
    for name, path in _asked(binary).items():
        if name in needed and path.resolve().parent != (toolkit / "lib").resolve():
            raise EngineBuildError(f"{binary} would take {name} from {path}, which the image does not have.")


def _asked(binary: Path) -> dict[str, Path]:
    """The libraries that the loader finds for a program. Raises EngineBuildError for one that it does not find."""
    told = subprocess.run(["ldd", binary], stdout=subprocess.PIPE, text=True, check=True).stdout
    if missing := re.findall(r"(\S+) => not found", told):
        raise EngineBuildError(f"{binary} lacks {', '.join(missing)}.")
    return {name: Path(path) for name, path in re.findall(r"(\S+) => (/\S+)", told)}


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
    except EngineBuildError as failed:
        sys.exit(str(failed))
