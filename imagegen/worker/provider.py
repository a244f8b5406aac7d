"""EngineProvider: what the worker asks for to make an engine of a model of the catalog."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from imagegen.engines.base import Adapter
from imagegen.hardware.gpu_sharing import GpuSharing
from imagegen.models.download.progress import Fetching
from imagegen.models.entry import Entry
from imagegen.worker.prefetch import ReadAhead


class EngineProvider(Protocol):
    """How a model becomes an engine. See `EngineFactory`."""

    @property
    def gpu_sharing(self) -> GpuSharing: ...

    def find_model(self, name: str) -> Entry:
        """Raises Refused `unknown_model`."""

    async def prepare(self, entry: Entry, told: Callable[[Fetching], None]) -> None:
        """Have its files, made or fetched, and say how far that is. Raises EngineError if they cannot be had."""

    def make_adapter(self, entry: Entry) -> Adapter:
        """Raises EngineError if the engine is not there."""

    def fingerprint(self, entry: Entry) -> object:
        """Changes when a file of the model, or the engine, does."""

    def files_bytes(self, entry: Entry) -> int:
        """Size of the model's files."""

    def read_ahead(self, entry: Entry) -> ReadAhead:
        """Begin to fetch its files into the page cache."""
