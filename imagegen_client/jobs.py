"""A job in the service's queue, for the client that blocks and for the one that does not."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagegen_client import calls, notebook
from imagegen_client.answers import JobState, Said, Status
from imagegen_client.errors import JobFailed, ServiceError
from imagegen_client.pictures import Picture
from imagegen_client.watch import Update, Watch, check_complete

if TYPE_CHECKING:
    from imagegen_client.async_client import AsyncClient
    from imagegen_client.client import Client


class _Facts:
    """What is known of a job. `state` is the last reading."""

    state: JobState

    @property
    def id(self) -> str:
        return self.state.job_id

    @property
    def status(self) -> Status:
        return self.state.status

    @property
    def prompt(self) -> str:
        return self.state.prompt

    @property
    def model(self) -> str:
        return self.state.model

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of the engine, all resolved."""
        return self.state.params

    @property
    def warnings(self) -> list[Said]:
        """What the caller should know that does not stop the job."""
        return self.state.warnings

    def __repr__(self) -> str:
        return f"<Job {self.id}, {Update(self.state)}>"


class Job(_Facts):
    """A job of Client. Iterate it for progress; its pictures wait for its end."""

    def __init__(self, client: Client, state: JobState) -> None:
        self._client, self.state = client, state
        self._pictures: list[Picture] | None = None

    def __iter__(self) -> Iterator[Update]:
        """Every reading until the job has ended. Raises ServiceError."""
        yield from self._readings(calls.POLL_S)

    def _readings(self, poll_s: float, deadline: float | None = None) -> Iterator[Update]:
        watch = Watch(self.state, poll_s=poll_s)
        while (update := self._client.run(watch.next())) is not None:
            self.state = update.state
            yield update
            if deadline is not None and time.monotonic() > deadline and not self.state.ended:
                raise _too_long(self)

    def refresh(self) -> Job:
        """Read the job's state anew. Raises ServiceError."""
        self.state = self._client.run(calls.job(self.id, retries=self._client.retries))
        return self

    def wait(self, timeout_s: float | None = None) -> list[Picture]:
        """The pictures, once the job has ended. Shows its progress in a notebook. Ctrl-C cancels the job.

        Raises JobFailed, JobCancelled; ServiceError `wait_too_long` after `timeout_s`: the job goes on.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        live = notebook.live()
        step_s = calls.POLL_S if live or timeout_s is not None else calls.SILENT_POLL_S
        try:
            for update in self._readings(step_s, deadline):
                if live:
                    live.show(update)
        except KeyboardInterrupt:
            self._cancel_quietly()
            raise
        finally:
            if live:
                live.clear()
        return self.pictures

    @property
    def pictures(self) -> list[Picture]:
        """All pictures. Waits for the job's end. Raises as `wait`."""
        if not self.state.ended:
            return self.wait()
        check_complete(self.state)
        if self._pictures is None:
            self._pictures = [Picture(one, self.state, fetch=self._client.read_png) for one in self.state.images]
        return self._pictures

    @property
    def picture(self) -> Picture:
        """The first picture. Waits for the job's end. Raises as `wait`."""
        return _first(self.pictures, self)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the first picture: `Picture.save`. Waits for the job's end. Raises as `wait` and `Picture.save`."""
        return self.picture.save(path)

    def cancel(self) -> Job:
        """Cancel the job. One that has ended stays as it is. Raises ServiceError."""
        self.state = self._client.run(calls.cancel(self.id, self._client.retries))
        return self

    def _cancel_quietly(self) -> None:
        try:
            self.cancel()
        except ServiceError:
            return  # the interrupt is what the caller has to see

    def _ipython_display_(self) -> None:
        """In a notebook: the progress, then the pictures."""
        if notebook.live() is None:
            print(repr(self))
            return
        for picture in self.wait():
            notebook.show(picture)


class AsyncJob(_Facts):
    """A job of AsyncClient. `await job` returns its pictures; `async for update in job` follows it."""

    def __init__(self, client: AsyncClient, state: JobState) -> None:
        self._client, self.state = client, state
        self._pictures: list[Picture] | None = None

    def __await__(self) -> Generator[Any, Any, list[Picture]]:
        return self.wait().__await__()

    async def __aiter__(self) -> AsyncIterator[Update]:
        """Every reading until the job has ended. Raises ServiceError."""
        async for update in self._readings(calls.POLL_S):
            yield update

    async def _readings(self, poll_s: float) -> AsyncIterator[Update]:
        watch = Watch(self.state, poll_s=poll_s)
        while (update := await self._client.run(watch.next())) is not None:
            self.state = update.state
            yield update

    async def refresh(self) -> AsyncJob:
        """Read the job's state anew. Raises ServiceError."""
        self.state = await self._client.run(calls.job(self.id, retries=self._client.retries))
        return self

    async def wait(self) -> list[Picture]:
        """The pictures with their bytes, once the job has ended. Shows its progress in a notebook.

        A cancelled wait does not cancel the job: call `cancel`. Raises JobFailed, JobCancelled, ServiceError.
        """
        live = notebook.live()
        try:
            async for update in self._readings(calls.POLL_S if live else calls.SILENT_POLL_S):
                if live:
                    live.show(update)
        finally:
            if live:
                live.clear()
        check_complete(self.state)
        if self._pictures is None:
            self._pictures = [await self._client.read(Picture(one, self.state)) for one in self.state.images]
        return self._pictures

    async def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the first picture: `Picture.save`. Raises as `wait` and `Picture.save`."""
        return _first(await self.wait(), self).save(path)

    async def cancel(self) -> AsyncJob:
        """Cancel the job. One that has ended stays as it is. Raises ServiceError."""
        self.state = await self._client.run(calls.cancel(self.id, self._client.retries))
        return self


def _first(pictures: list[Picture], job: _Facts) -> Picture:
    if not pictures:
        raise JobFailed("internal", f"The job {job.id} is complete, and the service names no picture of it.")
    return pictures[0]


def _too_long(job: _Facts) -> ServiceError:
    return ServiceError(
        "wait_too_long",
        f"The job {job.id} has not ended in time ({Update(job.state)}). It goes on: read it with client.job(id).",
    )
