"""EngineProvider: the interface through which the worker creates engines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from imagegen.engines.base import Adapter
from imagegen.engines.sdcpp.upscaler import EsrganUpscaler
from imagegen.hardware.gpu_sharing import GpuSharing
from imagegen.hardware.memory_mode import Fitting, MemoryPlan, Shape
from imagegen.hardware.memory_needs import NeedKey
from imagegen.models.download.progress import Fetching
from imagegen.models.entry import Entry
from imagegen.models.weights import Upscaler
from imagegen.schemas import Kind
from imagegen.worker.prefetch import ReadAhead


class EngineProvider(Protocol):
    """Finds models, prepares their files and creates their adapters. `EngineFactory` implements it."""

    @property
    def gpu_sharing(self) -> GpuSharing: ...

    def find_model(self, name: str) -> Entry:
        """The catalog entry `name`. Raises Refused `unknown_model`."""

    async def prepare(self, entry: Entry, on_progress: Callable[[Fetching], None]) -> None:
        """Generate or download the model's files. `on_progress` gets the progress. Raises EngineError if that fails."""

    def fitting(self, entry: Entry, shape: Shape) -> Fitting:
        """What is known about the memory that a picture takes. Call it after `prepare`."""

    def advice(self, entry: Entry, shape: Shape) -> str:
        """What to ask for instead of a picture that does not fit in the memory, as a sentence. Blocks."""

    def memory_key(self, entry: Entry, kind: Kind, mode: str) -> NeedKey:
        """The key of measurements of memory."""

    def make_adapter(self, entry: Entry, plan: MemoryPlan | None) -> Adapter:
        """Create an adapter that loads `entry` by `plan`. Raises EngineError if the engine is not installed."""

    def find_upscaler(self, name: str) -> Upscaler:
        """The upscaler `name`. Raises Refused `unknown_model`."""

    async def prepare_upscaler(self, upscaler: Upscaler, on_progress: Callable[[Fetching], None]) -> EsrganUpscaler:
        """Generate or download its file, and return it ready to run. Raises EngineError."""

    def fingerprint(self, entry: Entry) -> object:
        """A value that changes with a file of the model or the engine."""

    def files_bytes(self, entry: Entry) -> int:
        """Size of the model's files in bytes."""

    def read_ahead(self, entry: Entry) -> ReadAhead:
        """Start to read the model's files into the page cache."""
