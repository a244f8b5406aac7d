"""EngineProvider: the interface through which the worker creates engines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from imagegen.engines.base import Adapter
from imagegen.engines.sdcpp.upscaler import EsrganUpscaler
from imagegen.hardware.gpu_sharing import GpuSharing
from imagegen.models.download.progress import Fetching
from imagegen.models.entry import Entry
from imagegen.models.weights import Upscaler
from imagegen.worker.prefetch import ReadAhead


class EngineProvider(Protocol):
    """Finds models, prepares their files and creates their adapters. `EngineFactory` implements it."""

    @property
    def gpu_sharing(self) -> GpuSharing: ...

    def find_model(self, name: str) -> Entry:
        """The catalog entry `name`. Raises Refused `unknown_model`."""

    async def prepare(self, entry: Entry, told: Callable[[Fetching], None]) -> None:
        """Generate or download the model's files. `told` gets the progress. Raises EngineError if that fails."""

    def make_adapter(self, entry: Entry) -> Adapter:
        """Create an adapter. Raises EngineError if the engine is not installed."""

    def find_upscaler(self, name: str) -> Upscaler:
        """The upscaler `name`. Raises Refused `unknown_model`."""

    async def prepare_upscaler(self, upscaler: Upscaler, told: Callable[[Fetching], None]) -> EsrganUpscaler:
        """Generate or download its file, and return it ready to run. Raises EngineError."""

    def fingerprint(self, entry: Entry) -> object:
        """A value that changes with a file of the model or the engine."""

    def files_bytes(self, entry: Entry) -> int:
        """Size of the model's files in bytes."""

    def read_ahead(self, entry: Entry) -> ReadAhead:
        """Start to read the model's files into the page cache."""
