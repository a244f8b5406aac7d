"""A state folder opened in this process, with a clock that a test sets and a database that can refuse to write."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from PIL import Image
from sqlalchemy import create_engine, text

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
from imagegen.storage.postgres_url import driver_url

TTL_S = 3600.0
DRAWING = Progress(phase=Phase.SAMPLING, step=1, steps=4)
DATABASE_URL: ContextVar[str | None] = ContextVar("DATABASE_URL", default=None)
"""The Postgres database of the test that runs; None: the SQLite file of its folder."""
REFUSE_ON_POSTGRES = """
CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'disk full' USING ERRCODE = 'disk_full'; END $$
"""


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
        return sorted(path.stem for path in (self.folder / "images").glob("*.png"))

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
        on_sqlite = DATABASE_URL.get() is None
        abort = "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        body = abort if on_sqlite else "EXECUTE FUNCTION refuse()"
        if not on_sqlite:
            self.run(REFUSE_ON_POSTGRES)
        self.run(*(f"CREATE TRIGGER {trigger} BEFORE {name} ON {table} {body}" for trigger, name, table in triggers))
        try:
            yield
        finally:
            where = "" if on_sqlite else " ON {}"
            self.run(*(f"DROP TRIGGER {trigger}{where.format(table)}" for trigger, _name, table in triggers))

    def run(self, *statements: str) -> Sequence[Any]:
        """Run statements on a connection of their own. Returns the rows of the last one."""
        url = DATABASE_URL.get()
        engine = create_engine(f"sqlite:///{self.path}" if url is None else driver_url(url))
        try:
            with engine.begin() as other:
                done = [other.execute(text(statement)) for statement in statements][-1]
                return [tuple(row) for row in done] if done.returns_rows else []
        finally:
            engine.dispose()


def picture() -> Reference:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    return decode_reference(file.getvalue(), 10_000)


@contextlib.asynccontextmanager
async def opened(folder: Path, clock: Clock | None = None, max_kept: int = 100, **caps: Any) -> AsyncIterator[State]:
    """Open the state folder as the service does, including recovery."""
    clock = clock or Clock()
    database = await open_database(folder / "jobs.sqlite3", DATABASE_URL.get())
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


def on_both(test: Callable[[Path], Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make a coroutine function a test that runs on SQLite and on Postgres."""

    def run(tmp_path: Path, database_url: str | None) -> None:
        before = DATABASE_URL.set(database_url)
        try:
            asyncio.run(test(tmp_path))
        finally:
            DATABASE_URL.reset(before)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def scenario(test: Callable[[Path], Coroutine[Any, Any, None]]) -> Callable[[Path], None]:
    """Make a coroutine function a test, on SQLite."""

    def run(tmp_path: Path) -> None:
        asyncio.run(test(tmp_path))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run
