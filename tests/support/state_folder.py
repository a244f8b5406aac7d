"""A state folder opened in this process, with a clock that a test sets and a database that can refuse to write."""

from __future__ import annotations

import asyncio
import contextlib
import io
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from imagegen.hardware.memory_mode import Shape
from imagegen.images.boards import Boards
from imagegen.images.files import ImageFiles
from imagegen.images.references import Reference, decode_reference
from imagegen.images.store import ImageStore
from imagegen.jobs.keeping import Keeper
from imagegen.jobs.manager import JobManager
from imagegen.jobs.values import NewJob
from imagegen.models.entry import Entry
from imagegen.schemas import EngineTexts, Job, Kind, Params, Phase, Policy, Progress, StoredImage, Warn
from imagegen.storage.database import open_database

TTL_S = 3600.0
DRAWING = Progress(phase=Phase.SAMPLING, step=1, steps=4)


class Clock:
    """POSIX seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class NothingKnown:
    """The `ModelChecks` of admission for models without faults."""

    def misfits(self, _entry: Entry) -> tuple[Warn, ...]:
        return ()

    def too_old(self, _entry: Entry) -> str | None:
        return None

    def unobtainable(self, _entry: Entry) -> str | None:
        return None

    def too_large(self, _entry: Entry, _shape: Shape) -> str | None:
        return None

    def unfamiliar(self, _entry: Entry, _kind: Kind, _prompt: str) -> tuple[Warn, ...]:
        return ()


class State:
    """A state folder with its manager and store open."""

    def __init__(
        self, folder: Path, jobs: JobManager, images: ImageStore, keeper: Keeper, boards: Boards, clock: Clock
    ) -> None:
        self.folder, self.jobs, self.images, self.clock = folder, jobs, images, clock
        self.keeper, self.boards = keeper, boards
        self.path = folder / "jobs.sqlite3"

    def files(self) -> list[str]:
        return sorted(path.stem for path in (self.folder / "images").iterdir())

    async def submit(self, **fields: Any) -> Job:
        params = Params(width=64, height=64, steps=4, cfg_scale=1.0, sampler="euler", seed=1)
        given = {"kind": Kind.GENERATE, "model": "tiny", "prompt": "a red circle", "params": params}
        told = {"policy": Policy(negative="inert"), "engine_texts": EngineTexts(prompt="a red circle", negative="")}
        return await self.jobs.submit(NewJob(**given | told | fields))

    async def started(self, **fields: Any) -> Job:
        """Submit a job and start it."""
        job = await self.jobs.start((await self.submit(**fields)).id, DRAWING)
        assert job is not None
        return job

    async def written(self, index: int = 0, side_px: int = 8) -> StoredImage:
        """Write a drawn picture, which no job has yet."""
        one = picture()
        return await self.images.write(one.png, width=side_px, height=8, sha256=one.sha256, seed=1 + index, index=index)

    async def draw(self, job: Job, n: int = 1, side_px: int = 8) -> bool:
        """Start and complete a job with `n` pictures."""
        started = await self.jobs.start(job.id, DRAWING)
        assert started is not None
        written = [await self.written(index, side_px) for index in range(n)]
        if await self.jobs.complete(started, written):
            return True
        await self.images.discard(written)
        return False

    async def drawn(self, n: int = 1, side_px: int = 8, **fields: Any) -> Job:
        """Submit a job and complete it."""
        job = await self.submit(**fields)
        assert await self.draw(job, n, side_px)
        return await self.jobs.get(job.id)

    @contextlib.contextmanager
    def refusing(self, *statements: str) -> Iterator[None]:
        """Make the database refuse writes, as on a full disk. tests/process/test_disk_faults.py uses a full disk."""
        names = statements or ("INSERT", "UPDATE", "DELETE")
        triggers = [(f"full_{table}_{name}", name, table) for name in names for table in ("jobs", "images")]
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            for trigger, name, table in triggers:
                sentence = f"CREATE TRIGGER {trigger} BEFORE {name} ON {table} BEGIN "
                other.execute(f"{sentence} SELECT RAISE(ABORT, 'database or disk is full'); END")
            try:
                yield
            finally:
                for trigger, _name, _table in triggers:
                    other.execute(f"DROP TRIGGER {trigger}")


def picture() -> Reference:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    return decode_reference(file.getvalue(), 10_000)


@contextlib.asynccontextmanager
async def opened(folder: Path, clock: Clock | None = None, max_kept: int = 100, **caps: Any) -> AsyncIterator[State]:
    """Open the state folder as the service does, including recovery."""
    clock = clock or Clock()
    database = await open_database(folder / "jobs.sqlite3")
    images = ImageStore(database, ImageFiles(folder / "images"), ttl_s=TTL_S, clock=clock)
    jobs = JobManager(database, images, **{"max_queue": 100, "ttl_s": TTL_S, "clock": clock} | caps)
    keeper = Keeper(database, images, jobs.changes, max_kept=max_kept, ttl_s=TTL_S, clock=clock)
    await jobs.recover()
    await images.sweep_orphans()
    try:
        yield State(folder, jobs, images, keeper, Boards(database), clock)
    finally:
        jobs.close()
        await database.close()


def scenario(test: Callable[[Path], Coroutine[Any, Any, None]]) -> Callable[[Path], None]:
    """Make a coroutine function a test."""

    def run(tmp_path: Path) -> None:
        asyncio.run(test(tmp_path))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run
