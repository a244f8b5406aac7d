"""Draws the requests of a batch: checks them all, keeps a few jobs in the queue, writes pictures as they are done."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from imagegen.cli.arguments import format_of
from imagegen.cli.batch_file import Line
from imagegen.cli.batch_names import Pattern, slug, unused
from imagegen.cli.batch_state import BatchState
from imagegen.cli.client import Service, sentences
from imagegen.cli.delivery import write
from imagegen.cli.documents import BatchItem, Failure
from imagegen.cli.errors import Refused, ServiceError
from imagegen_client import calls, spelling
from imagegen_client import errors as client_errors
from imagegen_client.answers import JobState
from imagegen_client.pictures import ADDRESS, ID
from imagegen_client.watch import Watch
from imagegen_client.wire import Retries

AHEAD = 4
"""Jobs of the batch that wait in the service's queue: enough that it never idles, few enough for other users."""
TOLD = 5
"""The most bad lines that an error names."""
BUSY_S = 2.0
GONE = frozenset({"job_not_found", "expired", "idempotency_conflict", "unknown_image", "image_not_found"})


@dataclass
class Task:
    """A request of the batch. key: the same in every run, for the same request of the same file."""

    line: Line
    folder: Path
    key: str
    job: JobState | None = None
    job_id: str | None = None
    files: list[str] = field(default_factory=list)
    failure: Failure | None = None
    done: bool = False

    def result(self) -> BatchItem:
        job_id = self.job.job_id if self.job else self.job_id
        return BatchItem(self.line.number, "complete" if self.done else "failed", job_id, self.files, self.failure)

    def body(self) -> dict[str, Any]:
        """The request, with its picture files as data URLs: so it is the same in every run. Raises ServiceError."""
        body = dict(self.line.request)
        if isinstance(images := body.get("images"), list):
            body["images"] = [self._picture(one) for one in images]
        if isinstance(mask := body.get("mask"), str):
            body["mask"] = self._picture(mask)
        return body

    def _picture(self, named: Any) -> Any:
        """A file as a data URL; ids, data URLs and what is no text stay. Files are found from the batch's folder."""
        if not isinstance(named, str) or ID.fullmatch(named) or named.startswith("data:"):
            return named
        if (address := ADDRESS.fullmatch(named)) is not None:
            return address[1]
        try:
            data = spelling.existing(str(self.folder / Path(named).expanduser())).read_bytes()
        except (OSError, RuntimeError, spelling.Ambiguous) as failed:
            why = getattr(failed, "strerror", None) or str(failed)
            raise ServiceError(f"line {self.line.number}: {named!r} cannot be read: {why}.") from None
        return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def checked(service: Service, lines: Sequence[Line], folder: Path, state: BatchState) -> list[Task]:
    """The tasks, after the service has checked each that has no job yet. Nothing is drawn if one of them is refused.

    Raises Refused with the numbers of the lines.
    """
    tasks, seen, bad = [], Counter[str](), list[tuple[Task, Refused]]()
    for line in lines:
        task = Task(line, folder, "")
        body = task.body()
        digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:32]
        seen[digest] += 1
        task.key = f"{digest}-{seen[digest]}"
        tasks.append(task)
        known = state.of(task.key)
        if not known.done and known.job_id is None:
            try:
                service.run(calls.check(body, service.patient))
            except Refused as refused:
                bad.append((task, refused))
    if bad:
        said = " ".join(f"Line {task.line.number}: {refused}" for task, refused in bad[:TOLD])
        more = f" And {len(bad) - TOLD} more." if len(bad) > TOLD else ""
        raise Refused(f"{said}{more} Nothing was drawn.", bad[0][1].code)
    return tasks


class BatchRun:
    """One run of a batch."""

    def __init__(self, service: Service, state: BatchState, out: Pattern, tasks: Sequence[Task], quiet: bool) -> None:
        self._service, self._state, self._out, self._tasks = service, state, out, tasks
        self._quiet = quiet  # standard output is for JSON
        self._taken = {Path(name) for known in state.known.values() for name in known.files}
        self.failed: list[Task] = []
        self.earlier = 0

    @property
    def done(self) -> int:
        return sum(task.done for task in self._tasks)

    def draw(self) -> None:
        """Draw what is not done yet. Raises Abort at Ctrl-C, after cancelling the jobs; ServiceError."""
        waiting, active = deque[Task](), deque[Task]()
        for task in self._tasks:
            known = self._state.of(task.key)
            if known.done:
                task.done, task.files, task.job_id = True, known.files, known.job_id
            else:
                waiting.append(task)
        self.earlier = self.done
        columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[now]}"), TimeElapsedColumn()
        bar = Progress(
            *columns,
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
            redirect_stdout=sys.stdout.isatty(),
        )
        try:
            with bar:
                shown = bar.add_task("", total=len(self._tasks), now="")
                while waiting or active:
                    while waiting and len(active) < AHEAD:
                        active.append(waiting.popleft())
                        self._submit(active[-1])
                    self._finish(active[0], lambda now: bar.update(shown, now=now))
                    active.popleft()
                    ended = self.done + len(self.failed)
                    bar.update(shown, completed=ended, description=f"{ended}/{len(self._tasks)}", now="")
        except KeyboardInterrupt:
            self._cancel(active)
            raise click.Abort from None

    def _submit(self, task: Task) -> None:
        """Give the task a job: the one of an earlier run, unless it failed or is gone, else a new one."""
        known = self._state.of(task.key)
        if known.job_id is not None:
            task.job = self._usable(known.job_id)
            if task.job is not None:
                return
            known.attempt += 1
        body, waits = task.body(), _Waits(self._service.patient)
        while task.job is None:
            try:
                with _held_interrupt():  # so that no job is accepted and not remembered
                    job = self._service.attempt(calls.submit(body, self._key(task, known.attempt)))
                    self._state.note_job(task.key, known.attempt, job.job_id)
            except client_errors.ServiceError as failed:
                if (pause_s := waits.pause_s(failed)) is not None:
                    time.sleep(pause_s)
                elif failed.code in GONE:
                    known.attempt += 1
                else:
                    self._refused(task, failed)
                    return
                continue
            if job.status in {"failed", "cancelled"}:  # of an earlier run that was killed
                known.attempt += 1
            else:
                task.job = job

    def _refused(self, task: Task, failed: client_errors.ServiceError) -> None:
        """Note a request that the service refused at its submit. Raises ServiceError if it would refuse all."""
        try:
            with sentences(self._service.url):
                raise failed
        except Refused as refused:
            if failed.status in {401, 403}:
                raise
            self._fail(task, refused)

    def _key(self, task: Task, attempt: int) -> str:
        return f"{self._state.id}-{task.key}-{attempt}"

    def _usable(self, job_id: str) -> JobState | None:
        """The job of an earlier run; None if it failed, was cancelled, or is gone."""
        try:
            job = self._service.run(calls.job(job_id, retries=self._service.patient))
        except Refused as refused:
            if refused.code not in GONE:
                raise
            return None
        return None if job.status in {"failed", "cancelled"} else job

    def _finish(self, task: Task, show: Any) -> None:
        """Follow the task's job to its end, and write its pictures."""
        if task.job is None:
            return  # it failed
        watch = Watch(task.job)
        while (update := self._service.run(watch.next())) is not None:
            task.job = update.state
            show(f"line {task.line.number}: {update}")
        job = task.job
        if job.status != "complete":
            error = job.error
            code, detail = (error.code, error.detail) if error else ("cancelled", "The job was cancelled.")
            self._fail(task, ServiceError(f"{detail} ({code})", code, detail))
            return
        try:
            self._write(task, job)
        except Refused as gone:  # its pictures expired, or were deleted
            self._fail(task, gone)

    def _write(self, task: Task, job: JobState) -> None:
        """Write the pictures under names that the state file knows before: a second run writes the same files."""
        names = [Path(name) for name in self._state.of(task.key).files]
        if len(names) != len(job.images):
            names = []
            for index, image in enumerate(job.images, 1):
                values: dict[str, int | str | None] = {
                    "n": task.line.n,
                    "line": task.line.number,
                    "i": index,
                    "slug": slug(job.prompt),
                    "seed": image.seed,
                    "model": job.model,
                    "width": image.width,
                    "height": image.height,
                    "job_id": job.job_id,
                }
                names.append(unused(self._out.name(values), self._taken))
                self._taken.add(names[-1])
            self._state.note_files(task.key, [str(name) for name in names])
        for name, image in zip(names, job.images, strict=True):
            data = self._service.call("GET", f"/images/{image.id}.{format_of(name)}").content
            try:
                write(name, data)
            except OSError as failed:
                raise ServiceError(f"{name} cannot be written: {failed.strerror}. The job is {job.job_id}.") from None
            click.echo(f"{name}  {image.width}x{image.height}  seed {image.seed}  {image.url}", err=self._quiet)
        self._state.note_done(task.key)
        task.files, task.done = [str(name) for name in names], True

    def _fail(self, task: Task, why: ServiceError) -> None:
        task.failure = Failure(why.code or why.own_code, why.detail)
        self.failed.append(task)
        click.echo(f"line {task.line.number}: {why}", err=True)

    def _cancel(self, active: Sequence[Task]) -> None:
        """Cancel the jobs that are not done, the newest first, so that none of them begins meanwhile."""
        for task in reversed(active):
            job_id = task.job.job_id if task.job else self._state.of(task.key).job_id
            if job_id is not None and not task.done:
                with contextlib.suppress(ServiceError):
                    self._service.run(calls.cancel(job_id))


class _Waits:
    """How long to wait before a submit is repeated: while the queue is full, and over a restart of the service."""

    def __init__(self, retries: Retries) -> None:
        self._tries, self._since, self._retries = 0, time.monotonic(), retries

    def pause_s(self, failed: client_errors.ServiceError) -> float | None:
        """Seconds, None for an error that waiting does not help."""
        if isinstance(failed, client_errors.Busy) or failed.status == 429:
            self._since = time.monotonic()
            return failed.retry_after_s or BUSY_S
        self._tries += 1
        return self._retries.pause_s(failed, self._tries, self._since)


@contextlib.contextmanager
def _held_interrupt() -> Iterator[None]:
    """Let Ctrl-C wait until the block has ended."""
    came = False

    def note(_signum: int, _frame: FrameType | None) -> None:
        nonlocal came
        came = True

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            raise KeyboardInterrupt
