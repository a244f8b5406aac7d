"""EngineLife: an engine's process from its start to its end, and what it says meanwhile."""

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
from imagegen.engines.endpoint import AddressTaken, Endpoint, Listener, UnixEndpoint
from imagegen.engines.process import EngineProcess
from imagegen.engines.words import Words

ADDRESS_ATTEMPTS = 3
LOADING_CHECK_S = 0.25  # between looks at the endpoint while the engine still loads
LISTENING_CHECK_S = 0.005  # the same once it has said that it is about to listen
PROBE_TIMEOUT_S = 2.0
STRANGER_NOTICE_S = 0.25


class Link(Protocol):
    """A connection beside HTTP that the engine inherits as an open file."""

    @property
    def descriptor(self) -> int:
        """The engine's end."""

    async def open(self) -> None:
        """The process was started: use this end."""

    async def close(self) -> None:
        """The process has ended, or could not be started."""


@dataclass(frozen=True)
class Launch:
    """What the program is started with: arguments, variables beside engine_environment's, and what it inherits."""

    arguments: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    link: Link | None = None


class EngineLife(ABC):
    """Starts the program on an endpoint of its own, follows its load, notices its death, ends it.

    load_stall_s: a load that reports nothing new for this long is given up. The event loop's thread has to live as long
    as the service: see EngineProcess.
    """

    ready_path: ClassVar[str]  # answers 200 when the engine can draw
    connections: ClassVar[int]  # how many the engine may be asked on at once
    mend: ClassVar[str]  # what to do when the program itself is not there, as the end of a sentence

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

    # What a subclass gives

    def _new_endpoint(self) -> Endpoint:
        """Where the next process listens."""
        return UnixEndpoint(self.workdir)

    @abstractmethod
    def _launch(self, endpoint: Endpoint) -> Launch:
        """How the program is started, so that it listens on `endpoint`."""

    @abstractmethod
    def _check_files(self) -> None:
        """Raise EngineError(model_missing) if a file the engine is told to read is not there."""

    @abstractmethod
    def _heard(self, line: str) -> bool:
        """The engine printed a line: tell `_loading` and `_listening` what it means, and the one who draws.

        False: not worth keeping.
        """

    @abstractmethod
    def _blame(self, complaints: str) -> str | None:
        """The job code that the engine's complaints stand for, or None."""

    @abstractmethod
    def _complains(self, line: str) -> bool:
        """Whether a line from stdout is a warning or an error."""

    @abstractmethod
    def _readable(self, line: str) -> str:
        """A line without what only a developer of the engine reads."""

    @abstractmethod
    def _could_not_bind(self, exit_status: int | None) -> bool:
        """Whether an engine that ended like this, before it was ready, did so because its address was taken."""

    # Start and end

    async def start(self, on_progress: Callable[[LoadProgress], None]) -> None:
        """Start the engine and return when it can draw: see Adapter. Cancelling it ends the process."""
        if self.pid is not None:
            raise RuntimeError("the engine is already running: stop() comes first")
        await self.stop()  # closes what an engine that died by itself left behind
        self._check_files()
        if not self.binary.is_file():
            raise EngineError("load_failed", f"The engine, {self.binary.name}, is not there: {self.mend}.")
        try:
            self.workdir.mkdir(parents=True, exist_ok=True)
            for _ in range(ADDRESS_ATTEMPTS):
                endpoint = self._new_endpoint()
                try:
                    return await self._start_once(endpoint, on_progress)
                except AddressTaken:
                    continue
        except OSError as refused:  # a full disk, a folder that may not be written, no more processes
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
            case Listener.NOBODY:
                return False
            case Listener.ENGINE:
                pass
            case other:
                await first_of(child.ended, timeout_s=STRANGER_NOTICE_S)  # or it was ours, and has just died
                if not child.ended.is_set():
                    raise self._not_ours(other)
                return False
        try:
            answer = await client.get(self.ready_path, timeout=PROBE_TIMEOUT_S)
        except httpx.TransportError:  # not yet, or it is dying: the next look tells
            return False
        return answer.status_code == httpx.codes.OK

    def _not_ours(self, listener: Listener) -> Exception:
        """A script that does not become the engine cannot be tied to the service's life."""
        if listener is Listener.STRANGER:
            return AddressTaken()
        return EngineError(
            "load_failed",
            f"{self.binary.name} is a script that runs the engine as its child: write exec before the engine's name, "
            "so that it ends when the service ends.",
        )

    def _load_error(self, child: EngineProcess) -> EngineError:
        code = self._blame(self._words.complaints) or "load_failed"
        if code == "load_failed" and child.returncode == -signal.SIGKILL:  # never its own doing: worth a re-run
            code = "engine_died"
        meaning = {
            "engine_died": "The engine was killed while it loaded the model, perhaps for want of memory",
            "out_of_vram": "The model does not fit into the memory that is free",
            "model_missing": "A file of the model is not there",
        }.get(code, "The engine could not load the model")
        return EngineError(code, f"{meaning}: it {child.describe_end()}.{self._words.as_suffix()}")

    async def stop(self) -> None:
        """End the process with SIGKILL and wait until it is gone. Idempotent; cancelled, it still ends it."""
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
        """Return when the engine process is gone, whoever ended it; at once if there is none."""
        if self._child is not None:
            await self._child.ended.wait()

    @property
    def pid(self) -> int | None:
        """The engine's process id while it lives."""
        return None if self._child is None or self._child.ended.is_set() else self._child.pid

    # What it says

    def last_words(self) -> str:
        """The engine's last complaints, or its last lines: see Adapter."""
        return self._words.last()

    def _line(self, line: str, from_stderr: bool) -> None:
        if from_stderr or self._complains(line):
            self._words.complain(line)
        if self._heard(line):
            self._words.add(line)

    def _listening(self) -> None:
        self._moved_at = monotonic()
        self._about_to_listen.set()

    def _loading(self, progress: LoadProgress | None) -> None:
        """The load moved; None where the engine only said a word."""
        self._moved_at = monotonic()
        if progress is not None and self._on_load is not None:
            self._load_fraction = progress.fraction
            self._on_load(progress)


async def first_of(*happenings: asyncio.Event | asyncio.Task[Any], timeout_s: float | None = None) -> None:
    """Return when one of these has happened or the time is up; tasks given here go on."""
    waits = [h if isinstance(h, asyncio.Task) else asyncio.create_task(h.wait()) for h in happenings]
    try:
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait, happening in zip(waits, happenings, strict=True):
            if wait is not happening:
                wait.cancel()
