"""EsrganUpscaler: enlarges pictures by sd-server's second mode (docs/engine.md, Upscaling), one process a picture.

The process loads the network and no diffusion model, so it neither needs nor disturbs the engine that draws. Pixels
pass through anonymous files in memory: nothing is left on the disk, whatever ends first.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import re
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from imagegen.engines.base import EngineError
from imagegen.engines.process import EngineProcess
from imagegen.engines.safetensors import NotSafetensors, shapes
from imagegen.engines.sdcpp import log as sdcpp_log
from imagegen.engines.words import Words

MODE = "--imagegen-upscale"
SCALE = 4
TILES_PX = (96, 64, 48)
"""The longest side of a tile, in source pixels. A smaller one is tried where memory is short for a larger one."""
_TILE = re.compile(r"^\[TILE\] (\d{1,6})/(\d{1,6})$", re.ASCII)


class EsrganUpscaler:
    """One network. One picture at a time; cancelling ends its process."""

    def __init__(self, binary: Path, network: Path, threads: int, workdir: Path) -> None:
        self._binary, self._network, self._threads, self._workdir = binary, network, threads, workdir
        self._words = Words(sdcpp_log.untagged)
        self._on_tile: Callable[[int, int], None] = lambda _done, _of: None
        self.last_line_at = monotonic()

    def check(self) -> None:
        """Check that the file is a whole ESRGAN network of the one supported shape, by its header.

        Raises EngineError: model_missing (no file) · load_failed.
        """
        name = self._network.name
        try:
            found = shapes(self._network)
        except FileNotFoundError:
            raise EngineError("model_missing", f"There is no file {name}: fetch it again.") from None
        except NotSafetensors as wrong:
            raise EngineError("load_failed", f"The upscaler {name} {wrong}. Fetch it again.") from None
        except OSError as failure:  # its text names the file's folder
            raise EngineError("load_failed", f"The upscaler {name} cannot be read: {failure.strerror}.") from None
        first = found.get("conv_first.weight") or found.get("model.0.weight")
        if first != (64, 3, 3, 3):
            detail = f"The upscaler {name} is no ESRGAN network of 64 features: use one of the catalog."
            raise EngineError("load_failed", detail)

    async def enlarge(
        self, rgb: bytes, width: int, height: int, tile_px: int, on_tile: Callable[[int, int], None]
    ) -> mmap.mmap:
        """The RGB pixels of the picture, four times as wide and high.

        rgb: width x height pixels, 3 bytes each. on_tile: called with the tiles done and their number.
        Raises EngineError: out_of_vram · engine_died (killed, or a crash) · load_failed (the network).
        """
        self._on_tile, self.last_line_at = on_tile, monotonic()
        source, target = os.memfd_create("source"), os.memfd_create("target")
        try:
            await asyncio.to_thread(_fill, source, rgb)
            numbers = map(str, (width, height, source, target, self._threads, tile_px))
            await self._run([str(self._binary), MODE, str(self._network), *numbers], (source, target))
            return mmap.mmap(target, width * height * 3 * SCALE**2, prot=mmap.PROT_READ)
        finally:
            os.close(source)
            os.close(target)

    async def _run(self, argv: list[str], descriptors: tuple[int, ...]) -> None:
        self._words.begin(argv)
        try:
            self._workdir.mkdir(parents=True, exist_ok=True)
            process = EngineProcess(argv, self._workdir, self._line, descriptors=descriptors)
        except OSError as refused:
            why = os.strerror(refused.errno) if refused.errno else str(refused)
            raise EngineError("load_failed", f"The upscaler cannot be started: {why}.") from refused
        try:
            await process.ended.wait()
        finally:
            process.kill()
            await process.ended.wait()
        if process.returncode != 0:
            raise self._failure(process)

    def _failure(self, process: EngineProcess) -> EngineError:
        words = self._words.as_suffix()
        if sdcpp_log.blame(self._words.complaints) == "out_of_vram":
            return EngineError("out_of_vram", f"There is not enough memory to enlarge the picture.{words}")
        if process.returncode is not None and process.returncode > 0:
            return EngineError("load_failed", f"The upscaler {self._network.name} cannot be used.{words}")
        return EngineError("engine_died", f"The upscaler {process.describe_end()}.{words}")

    def _line(self, line: str, from_stderr: bool) -> None:
        self.last_line_at = monotonic()
        if from_stderr:
            self._words.complain(line)
        elif tile := _TILE.match(line):
            self._on_tile(int(tile[1]), int(tile[2]))


def _fill(descriptor: int, data: bytes) -> None:
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(data)
