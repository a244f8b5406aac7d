"""ModelFiles: ensures that a model's files exist, and reports the model's known problems on this machine."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from imagegen import engine_build
from imagegen.engine_build import probe
from imagegen.engines.base import EngineError
from imagegen.hardware import compatibility, gpu
from imagegen.hardware.gpu_sharing import GpuSharing
from imagegen.hardware.memory_fit import MemoryFit, Place
from imagegen.hardware.memory_mode import Room, Shape
from imagegen.models.catalog import missing_sentence
from imagegen.models.download.background import Fetcher, may_fetch
from imagegen.models.download.progress import Fetching
from imagegen.models.entry import Entry
from imagegen.models.entry_files import CatalogError
from imagegen.models.packages import lacking_sentence
from imagegen.models.synthetic import make as synthetic
from imagegen.models.vocabulary import unknown_addition, unknown_style, unknown_subject, unreadable_text
from imagegen.models.weights import Upscaler, Weights
from imagegen.schemas import Kind, Warn
from imagegen.settings import Settings


class ModelFiles:
    """The models' files on this machine. `prepare` refreshes `machine` before each load."""

    def __init__(
        self,
        settings: Settings,
        default: Entry,
        card: gpu.Gpu | None,
        machine: compatibility.Machine,
        fetcher: Fetcher,
        fit: MemoryFit,
        gpu_sharing: GpuSharing,
    ) -> None:
        """card: the GPU found at the start; None without one."""
        self._settings, self._default, self._card, self._fetcher = settings, default, card, fetcher
        self.machine, self.fit, self._gpu_sharing = machine, fit, gpu_sharing
        self._removing: set[str] = set()  # models whose files are being deleted

    def misfits(self, entry: Entry) -> tuple[Warn, ...]:
        """The known problems of `entry` on this machine, for its jobs' warnings and the status."""
        return compatibility.warnings(entry, self._settings, self.machine)

    def too_large(self, entry: Entry, shape: Shape) -> str | None:
        """Why a picture of this size certainly does not fit in this machine's memory, and what does; None if it may.

        Memory that other programs hold now counts as free. Blocks: it queries the driver and reads the sizes of files.
        """
        return self.fit.too_large(entry, shape, self._place(entry))

    def advice(self, entry: Entry, shape: Shape) -> str:
        """What to ask for instead of a picture that does not fit. Blocks as `too_large`."""
        return self.fit.advice(entry, shape, self._place(entry))

    def _place(self, entry: Entry) -> Place:
        card, ram_bytes = self._gpu_sharing.read_card(entry), self.machine.ram_bytes
        if card is None:
            return Place(None, ram_bytes)
        return Place(Room(card.name, card.total_bytes, card.total_bytes, ram_bytes), ram_bytes, self.machine.flags)

    def unfamiliar(self, entry: Entry, kind: Kind, prompt: str) -> tuple[Warn, ...]:
        """Warnings about parts of `prompt` that `entry` is known not to draw.

        An edit's subject is in its source picture, so only the additions are checked.
        """
        things = synthetic.things(entry)
        if things is None:
            return ()
        look = unknown_addition if kind is Kind.EDIT else unknown_subject
        found = look(entry.name, things, prompt), unknown_style(entry.name, prompt), unreadable_text(entry.name, prompt)
        return tuple(one for one in found if one is not None)

    def troubles(self) -> tuple[Warn, ...]:
        """The known problems of the default model and the GPU. Blocks: it queries the driver."""
        found = list(self.misfits(self._default))
        if without := compatibility.lacking_channel(self._default, self.machine.has_channel):
            found.append(without)
        if older := self.too_old(self._default):
            found.append(Warn(code="engine_too_old", detail=older))
        if needed := self.unobtainable(self._default):
            found.append(Warn(code="model_missing", detail=needed))
        if doubt := gpu.problem(self._settings):
            found.append(Warn(code="gpu_doubtful", detail=doubt))
        return tuple(found)

    def may_fetch(self, entry: Weights) -> bool:
        """Whether the service may download `entry` without a command of the operator."""
        is_default = entry.name == self._default.name
        return may_fetch(entry, self._settings.auto_fetch, is_default, gpu.is_card(self._card))

    def unobtainable(self, entry: Entry) -> str | None:
        """Why `entry` needs the operator before it can be loaded; None if it does not.

        Its files are missing and the service may not fetch them, or are being removed, or its engine's packages are
        not installed.
        """
        if entry.name in self._removing:
            return f"The files of {entry.name} are being removed."
        if (needed := lacking_sentence(entry)) is not None:
            return needed
        if entry.made_by is not None or not entry.missing(self._settings):
            return None
        if self.may_fetch(entry) or self._fetcher.is_coming(entry.name):
            return None
        return missing_sentence(entry, self._settings)

    def too_old(self, entry: Entry) -> str | None:
        """A sentence if `entry` needs a newer engine than the one here; else None."""
        found = compatibility.too_old(entry, self.machine)
        return None if found is None else found.detail

    async def prepare(self, entry: Entry, on_progress: Callable[[Fetching], None]) -> None:
        """Ensure that the model's files exist: generate a synthetic model, download the others if allowed.

        Raises EngineError `engine_too_old`, `model_missing`, `fetch_failed`.
        """
        # the engine binary may have changed since the last load
        self.machine = await asyncio.to_thread(compatibility.look_at_machine, self._settings, self._card)
        if (older := self.too_old(entry)) is not None:
            raise EngineError("engine_too_old", older)
        if (needed := self.unobtainable(entry)) is not None:
            raise EngineError("model_missing", needed)
        await self._make(entry)
        if entry.missing(self._settings):
            await self._fetcher.have(entry, on_progress)
        else:
            self.fetch_lacking(entry)  # optional files

    async def _make(self, entry: Weights) -> None:
        """Generate the files of an entry that a script makes, if they are missing or old."""
        try:
            if await asyncio.to_thread(synthetic.to_make, entry, self._settings):
                await asyncio.to_thread(synthetic.make, entry.name, self._settings)
        except (OSError, CatalogError) as failure:
            raise EngineError("model_missing", f"The model {entry.name} could not be made: {failure}.") from None

    def no_upscaling(self) -> str | None:
        """Why no network can enlarge pictures on this machine; None if one can. Blocks: it may run the engine once."""
        try:
            binary = engine_build.resolve(self._settings)
        except engine_build.EngineMissing as missing:
            return str(missing)
        if probe.can_upscale(binary):
            return None
        return (
            "The engine here cannot enlarge pictures: it is older than that, or not built by this service. Run "
            "`imagegen engine build`."
        )

    def unobtainable_upscaler(self, upscaler: Upscaler) -> str | None:
        """Why `upscaler` needs the operator before it can run; None if it does not. Blocks like `no_upscaling`."""
        if upscaler.name in self._removing:
            return f"The files of {upscaler.name} are being removed."
        if (lacking := self.no_upscaling()) is not None:
            return lacking
        if upscaler.made_by is not None or upscaler.installed(self._settings):
            return None
        if self.may_fetch(upscaler):
            return None
        return missing_sentence(upscaler, self._settings)

    async def prepare_upscaler(self, upscaler: Upscaler, on_progress: Callable[[Fetching], None]) -> None:
        """Ensure that the upscaler's file exists. Raises EngineError `model_missing`, `fetch_failed`."""
        if (needed := await asyncio.to_thread(self.unobtainable_upscaler, upscaler)) is not None:
            raise EngineError("model_missing", needed)
        await self._make(upscaler)
        if not upscaler.installed(self._settings):
            await self._fetcher.have(upscaler, on_progress)

    @contextlib.contextmanager
    def removing(self, model: str) -> Iterator[None]:
        """Meanwhile no request for `model` is admitted, and it is not loaded."""
        self._removing.add(model)
        try:
            yield
        finally:
            self._removing.discard(model)

    def fetch_lacking(self, entry: Entry) -> None:
        """Start a background download of the files that `entry` lacks, if the service may fetch them."""
        if (entry.missing(self._settings) or entry.absent(self._settings)) and self.may_fetch(entry):
            self._fetcher.begin(entry)
