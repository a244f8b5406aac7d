"""Prints the `src` folder of the engine's own source, unpacked below the folder that is named.

python training/engine_source.py training/run
"""

from __future__ import annotations

import sys
from pathlib import Path

from imagegen.engine_build import source
from imagegen.engine_build.plan import PINNED
from imagegen.settings import Settings


def main() -> None:
    folder = Path(sys.argv[1]).absolute()
    unpacked = folder / f"{PINNED.stem}/{PINNED.source_dir}"
    if not (unpacked / "CMakeLists.txt").is_file():
        with (folder / "source.log").open("ab") as log:
            archive = source.fetch(PINNED, Settings().engine_dir, folder, log, lambda *_: None)
        source.unpack(PINNED, archive, folder)
    print(unpacked / "src")


if __name__ == "__main__":
    main()
