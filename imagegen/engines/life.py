"""EngineLife: the lifecycle of an engine's process, and its output."""

from __future__ import annotations

import asyncio
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar, Protocol

import httpx

from imagegen.engines.base import EngineError, LoadProgress
from imagegen.engines.endpoint import AddressTaken, Endpoint, ListenerOwner, UnixEndpoint
from imagegen.engines.process import EngineProcess
from imagegen.engines.words import Words

ADDRESS_ATTEMPTS = 3
LOADING_CHECK_S = 0.25  # interval between checks of the endpoint while the engine loads
LISTENING_CHECK_S = 0.005  # the same once the engine has announced that it will listen
PROBE_TIMEOUT_S = 2.0
STRANGER_NOTICE_S = 0.25


class Link(Protocol):
    """A connection besides HTTP that the engine inherits as an open file."""

    @property
    def descriptor(self) -> int:
        """The engine's end."""

    async def open(self) -> None:
        """Start to use this end; called when the process was started."""

    async def close(self) -> None:
        """Close both ends; called when the process has ended or could not be started."""


@dataclass(frozen=True)
class Launch:
    """How to start the program: arguments, variables besides those of engine_environment, and the inherited link."""

    arguments: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    link: Link | None = None


class EngineLife(ABC):
    """Starts the program on a new endpoint, tracks its load, detects its exit, ends it.

    load_stall_s: a load without progress for this long is aborted. The event loop's thread has to live as long as the
    service: see EngineProcess.
    """

    ready_path: ClassVar[str]  # answers 200 when the engine can draw
    connections: ClassVar[int]  # the maximum number of open connections to the engine
    mend: ClassVar[str]  # what to do when the program's file is missing, as the end of a sentence

    def __init__(self, binary: Path, workdir: Path, load_stall_s: float) -> None:
        self.binary, self.workdir, self.load_stall_s = binary, workdir, load_stall_s
        self._child: EngineProcess | None = None
        self._endpoint: Endpoint | None = None
        self._link: Link | None = None
        self._client: httpx.AsyncClient | None = None
        self._on_load: Callable[[LoadProgress], None] | None = None
        self._about_to_listen = asyncio.Event()
        self._moved_at = 0.0
        self._load_fraction = 0.0
        self._words = Words(self._readable)
        self._ending: asyncio.Task[None] | None = None

    # For subclasses

    def _new_endpoint(self) -> Endpoint:
        """The endpoint of the next process."""
        return UnixEndpoint(self.workdir)

    @abstractmethod
    def _launch(self, endpoint: Endpoint) -> Launch:
        """How to start the program so that it listens on `endpoint`."""

    @abstractmethod
    def _check_files(self) -> None:
        """Raise EngineError(model_missing) if a file that the engine will read is missing."""

    @abstractmethod
    def _heard(self, line: str) -> bool:
        """Handle a line of the engine: pass its meaning to `_loading`, `_listening` and the running picture.

        False: the line is not kept for error messages.
        """

    @abstractmethod
    def _blame(self, complaints: str) -> str | None:
        """The job code for the engine's warnings and errors, or None."""

    @abstractmethod
    def _complains(self, line: str) -> bool:
        """Whether a line from stdout is a warning or an error."""

    @abstractmethod
    def _readable(self, line: str) -> str:
        """A line without the parts that are for the engine's developers."""

    @abstractmethod
    def _could_not_bind(self, exit_status: int | None) -> bool:
        """Whether this exit status, before the engine was ready, means that its address was in use."""

    # Start and end

    async def start(self, on_progress: Callable[[LoadProgress], None]) -> None:
        """Start the engine and return when it can draw: see Adapter. Cancelling it ends the process."""
        if self.pid is not None:
            raise RuntimeError("the engine is already running: stop() comes first")
        await self.stop()  # closes what is left of an engine that exited by itself
        self._check_files()
        if not self.binary.is_file():
            raise EngineError("load_failed", f"The engine {self.binary.name} is missing: {self.mend}.")
        try:
            self.workdir.mkdir(parents=True, exist_ok=True)
            for _ in range(ADDRESS_ATTEMPTS):
                endpoint = self._new_endpoint()
                try:
                    return await self._start_once(endpoint, on_progress)
                except AddressTaken:
                    continue
        except OSError as refused:  # a full disk, a read-only folder, the limit of processes
            why = os.strerror(refused.errno) if refused.errno else str(refused)
            raise EngineError("load_failed", f"The engine cannot be started: {why}.") from refused
        raise EngineError("load_failed", f"{endpoint.taken} This happened {ADDRESS_ATTEMPTS} times in a row.")

    async def _start_once(self, endpoint: Endpoint, on_progress: Callable[[LoadProgress], None]) -> None:
        self._endpoint = endpoint
        self._about_to_listen.clear()
        self._on_load, self._load_fraction, self._moved_at = on_progress, 0.0, monotonic()
        try:
            launch = self._launch(endpoint)
            argv = [str(self.binary), *launch.arguments]
            self._words.begin(argv)
            self._link = launch.link
            inherited = () if launch.link is None else (launch.link.descriptor,)
            self._child = EngineProcess(argv, self.workdir, self._line, launch.environment, inherited)
            if launch.link is not None:
                await launch.link.open()
            self._client = endpoint.client(self.connections)
            await self._until_ready(self._child, self._client, endpoint)
            endpoint.ready()
        except BaseException:
            await self.stop()
            raise
        finally:
            self._on_load = None
        on_progress(LoadProgress(1.0))

    async def _until_ready(self, child: EngineProcess, client: httpx.AsyncClient, endpoint: Endpoint) -> None:
        while not await self._ready(child, client, endpoint):
            silent_s = monotonic() - self._moved_at
            if silent_s > self.load_stall_s:
                raise EngineError(
                    "load_failed",
                    f"Loading stood still at {self._load_fraction:.0%} for {silent_s:.0f} s and was ended. "
                    f"Is the disk with the model slow or stuck?{self._words.as_suffix()}",
                )
            if self._about_to_listen.is_set():
                await first_of(child.ended, timeout_s=LISTENING_CHECK_S)
            else:
                await first_of(child.ended, self._about_to_listen, timeout_s=LOADING_CHECK_S)

    async def _ready(self, child: EngineProcess, client: httpx.AsyncClient, endpoint: Endpoint) -> bool:
        """Whether the engine, and no other process, answers. Raises EngineError or AddressTaken."""
        if child.ended.is_set():
            if self._could_not_bind(child.returncode):
                raise AddressTaken
            raise self._load_error(child)
        match endpoint.listener(child.pid):
            case ListenerOwner.NONE:
                return False
            case ListenerOwner.ENGINE:
                pass
            case other:
                await first_of(child.ended, timeout_s=STRANGER_NOTICE_S)  # the engine itself may have just exited
                if not child.ended.is_set():
                    raise self._not_ours(other)
                return False
        try:
            answer = await client.get(self.ready_path, timeout=PROBE_TIMEOUT_S)
        except httpx.TransportError:  # not ready yet, or exiting: the next check distinguishes
            return False
        return answer.status_code == httpx.codes.OK

    def _not_ours(self, listener: ListenerOwner) -> Exception:
        """The error when `listener` is not the engine's process. A script that runs the engine as its child cannot be
        tied to the service's lifetime."""
        if listener is ListenerOwner.STRANGER:
            return AddressTaken()
        return EngineError(
            "load_failed",
            f"{self.binary.name} is a script that runs the engine as its child: write exec before the engine's name, "
            "so that it ends when the service ends.",
        )

    def _load_error(self, child: EngineProcess) -> EngineError:
        code = self._blame(self._words.complaints) or "load_failed"
        if code == "load_failed" and child.returncode == -signal.SIGKILL:  # sent from outside: worth a retry
            code = "engine_died"
        meaning = {
            "engine_died": "The engine was killed while it loaded the model, perhaps because memory ran out",
            "out_of_vram": "The model does not fit into the free memory",
            "model_missing": "A file of the model is missing",
        }.get(code, "The engine could not load the model")
        return EngineError(code, f"{meaning}: it {child.describe_end()}.{self._words.as_suffix()}")

    async def stop(self) -> None:
        """End the process with SIGKILL and wait for its exit. Idempotent; if cancelled, the process still ends."""
        if self._ending is None or self._ending.done():
            self._ending = asyncio.create_task(self._end(), name="engine-end")
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        child, client, endpoint, link = self._child, self._client, self._endpoint, self._link
        if child is not None:
            child.kill()
            await child.ended.wait()
        self._child = self._client = self._endpoint = self._link = None
        if link is not None:
            await link.close()
        if client is not None:
            await client.aclose()
        if endpoint is not None:
            endpoint.close()

    async def wait_died(self) -> None:
        """Return when the engine process has exited, for any reason; at once if there is none."""
        if self._child is not None:
            await self._child.ended.wait()

    @property
    def pid(self) -> int | None:
        """The engine's process id while it runs, else None."""
        return None if self._child is None or self._child.ended.is_set() else self._child.pid

    # Output

    def _line(self, line: str, from_stderr: bool) -> None:
        if from_stderr or self._complains(line):
            self._words.complain(line)
        if self._heard(line):
            self._words.add(line)

    def _listening(self) -> None:
        self._moved_at = monotonic()
        self._about_to_listen.set()

    def _loading(self, progress: LoadProgress | None) -> None:
        """Record progress of the load; None for output without a measure of progress."""
        self._moved_at = monotonic()
        if progress is not None and self._on_load is not None:
            self._load_fraction = progress.fraction
            self._on_load(progress)


async def first_of(*happenings: asyncio.Event | asyncio.Task[Any], timeout_s: float | None = None) -> None:
    """Return when one of these has happened or the timeout has passed; the given tasks are not cancelled."""
    waits = [h if isinstance(h, asyncio.Task) else asyncio.create_task(h.wait()) for h in happenings]
    try:
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait, happening in zip(waits, happenings, strict=True):
            if wait is not happening:
                wait.cancel()
