"""EngineFactory: creates the engine adapter for a model. The worker does not depend on a particular engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import psutil

from imagegen import engine_build
from imagegen.engines.base import Adapter, EngineError
from imagegen.engines.glm.adapter import GlmImageAdapter
from imagegen.engines.sdcpp import flags as sdcpp_flags
from imagegen.engines.sdcpp.adapter import SdcppServerAdapter
from imagegen.engines.sdcpp.upscaler import EsrganUpscaler
from imagegen.hardware import memory_fit
from imagegen.hardware.gpu_sharing import GpuSharing
from imagegen.hardware.memory_mode import MODE_FLAGS, Fitting, MemoryPlan, Shape
from imagegen.hardware.memory_needs import NeedKey
from imagegen.models.catalog import Catalog, unknown_model
from imagegen.models.download.progress import Fetching
from imagegen.models.entry import Entry
from imagegen.models.packages import lacking
from imagegen.models.weights import Upscaler
from imagegen.schemas import Kind
from imagegen.settings import Settings
from imagegen.worker.model_files import ModelFiles
from imagegen.worker.prefetch import ReadAhead


class EngineFactory:
    """The implementation of `EngineProvider` that the service uses."""

    def __init__(self, settings: Settings, catalog: Catalog, files: ModelFiles, gpu_sharing: GpuSharing) -> None:
        self._settings, self._catalog, self._files = settings, catalog, files
        self.gpu_sharing = gpu_sharing

    def find_model(self, name: str) -> Entry:
        return self._catalog.get(name)

    async def prepare(self, entry: Entry, on_progress: Callable[[Fetching], None]) -> None:
        await self._files.prepare(entry, on_progress)

    def files_bytes(self, entry: Entry) -> int:
        return memory_fit.files_bytes(entry, self._settings)

    def read_ahead(self, entry: Entry) -> ReadAhead:
        paths = entry.paths(self._settings) if self._settings.read_ahead else []
        return ReadAhead(paths, lambda: psutil.virtual_memory().available)

    def fitting(self, entry: Entry, shape: Shape) -> Fitting:
        return self._files.fit.fitting(entry, shape, self._files.machine.flags)

    def advice(self, entry: Entry, shape: Shape) -> str:
        return self._files.advice(entry, shape)

    def memory_key(self, entry: Entry, kind: Kind, mode: str) -> NeedKey:
        return self._files.fit.key(entry, kind, mode)

    def make_adapter(self, entry: Entry, plan: MemoryPlan | None) -> Adapter:
        """Create an adapter for `entry`; the engine is not started. plan: None without a card.

        Raises EngineError `load_failed` if the engine is not installed, or cannot take a flag of the entry or the plan.
        """
        s = self._settings
        threads = engine_threads(s)
        workdir = s.home / "engine"
        if entry.adapter == "glm":
            return GlmImageAdapter(entry.folder(s), threads=threads, workdir=workdir, load_stall_s=s.load_timeout_s)
        try:
            binary = engine_build.resolve(s)
        except engine_build.EngineMissing as missing:
            raise EngineError("load_failed", str(missing)) from None
        flags = self._files.machine.flags
        argv = sdcpp_flags.adapt(entry.argv(s), flags).argv
        if plan is not None:
            if lacking := MODE_FLAGS[plan.mode].difference(flags):  # only a mode that the operator has set can lack one
                raise EngineError(
                    "load_failed",
                    f"IMAGEGEN_MEMORY_MODE={plan.mode} needs an engine that knows {', '.join(sorted(lacking))}. "
                    "Use the engine that `imagegen engine build` makes (unset IMAGEGEN_SD_SERVER).",
                )
            argv += plan.argv_beside(argv)
        try:
            return SdcppServerAdapter(
                binary,
                argv,
                threads=threads,
                workdir=workdir,
                load_stall_s=s.load_timeout_s,
                loras=[one.path for one in entry.loras(s)],
                channel=self._files.machine.has_channel,
            )
        except ValueError as wrong:  # a bad flag in a catalog entry that the operator wrote
            raise EngineError("load_failed", f"{entry.name} cannot be started: {wrong}") from None

    def find_upscaler(self, name: str) -> Upscaler:
        found = self._catalog.upscaler(name)
        if found is None:
            raise unknown_model(name, [one.name for one in self._catalog.upscalers()], "upscaler")
        return found

    async def prepare_upscaler(self, upscaler: Upscaler, on_progress: Callable[[Fetching], None]) -> EsrganUpscaler:
        s = self._settings
        await self._files.prepare_upscaler(upscaler, on_progress)
        try:
            binary = engine_build.resolve(s)
        except engine_build.EngineMissing as missing:
            raise EngineError("load_failed", str(missing)) from None
        ready = EsrganUpscaler(binary, upscaler.network(s), engine_threads(s), s.home / "engine")
        await asyncio.to_thread(ready.check)
        return ready

    def fingerprint(self, entry: Entry) -> object:
        """A value that changes with a file of the model or the engine; then a failed load is tried again."""
        marks: list[object] = []
        named = [entry.path_of(file, self._settings) for file in entry.files]  # a missing file counts too
        for path in dict.fromkeys([*named, *entry.paths(self._settings)]):
            try:
                stat = path.stat()
                marks.append((str(path), stat.st_size, stat.st_mtime_ns))
            except OSError:
                marks.append((str(path), None))
        try:
            binary = engine_build.resolve(self._settings).stat()
            marks.append((binary.st_size, binary.st_mtime_ns))
        except (engine_build.EngineMissing, OSError):
            marks.append(None)
        return [*marks, lacking(entry.adapter)]


def engine_threads(settings: Settings) -> int:
    """CPU threads of an engine process."""
    return settings.threads or psutil.cpu_count(logical=False) or 1


def built_engine(settings: Settings) -> Path | None:
    """The sd-server that the next load would start; None if there is none (the load reports the error)."""
    try:
        return engine_build.resolve(settings)
    except engine_build.EngineBuildError:
        return None
