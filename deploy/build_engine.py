"""The builder stage's program: build sd-server by the project's own builder, and keep only what runs it.

usage: build_engine.py FOLDER cpu|cuda ARCHS JOBS   (ARCHS as `imagegen engine build --arch` takes them; JOBS 0: by cores)

FOLDER becomes the cache that IMAGEGEN_CACHE names in the image. For CUDA it holds a CPU engine as well, for
IMAGEGEN_ON_MISSING_GPU=cpu, and the CUDA libraries that the binary names to the loader, where it looks for them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from imagegen.engine import Built, EngineBuildError, Stage, build, options_for

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
        keep_libraries(built, engines)
    for rest in ("sdist", "logs"):
        shutil.rmtree(engines / rest, ignore_errors=True)
    (engines / "lock").unlink(missing_ok=True)


def keep_libraries(built: Built, engines: Path) -> None:
    """Replace the links into CUDA's wheels by the libraries that the binary needs, in the same place: its run path."""
    asked = subprocess.run(["ldd", built.binary], stdout=subprocess.PIPE, text=True, check=True).stdout
    (toolkit,) = engines.glob("cuda-*-wheels")
    needed = [Path(path) for path in re.findall(rf"=> ({re.escape(str(toolkit))}/\S+)", asked)]
    if not needed:
        raise EngineBuildError(f"{built.binary} names no CUDA library to the loader:\n{asked}")
    kept = toolkit.with_name("kept")
    kept.mkdir()
    for library in needed:
        shutil.copyfile(library.resolve(), kept / library.name)
    shutil.rmtree(toolkit)
    (toolkit / "lib").parent.mkdir()
    kept.rename(toolkit / "lib")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
    except EngineBuildError as failed:
        sys.exit(str(failed))
