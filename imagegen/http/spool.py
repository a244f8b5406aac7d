"""Spools request bodies: large ones go to a temporary file, and their total size is limited.

A handler gets a body only after all of it has arrived. Unfinished uploads therefore use disk space, not memory.
At most LARGE_AT_ONCE large bodies are in memory at a time.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import os
import tempfile
from pathlib import Path
from typing import IO

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imagegen.http.problems import problem
from imagegen.schemas import Refused
from imagegen.storage.descriptors import MOST_BODY_FILES, are_short

log = logging.getLogger("imagegen.http")

IN_MEMORY_BYTES = 64 * 1024
"""Larger bodies go to a file and count as bytes in flight. A request with the longest prompts is smaller, so uploads
cannot block it."""
PIECE_BYTES = 1024 * 1024
PROGRESS_BYTES = 16 * 1024
"""This many bytes of a body, or its end, must arrive within IMAGEGEN_BODY_TIMEOUT_S."""
LARGE_AT_ONCE = 2
RETRY_AFTER_S = 5
WITHOUT_BODY = {"GET", "HEAD", "OPTIONS"}
SCOPE_KEY = "imagegen.body"


class Spool:
    """State shared by all bodies: the folder of their files, the bytes in flight, and the memory semaphore."""

    def __init__(self, folder: Path, most_bytes: int, progress_s: float) -> None:
        self.folder, self.most_bytes, self.progress_s = folder, most_bytes, progress_s
        self.bytes_in_flight = self.files = 0
        self.turns = asyncio.Semaphore(LARGE_AT_ONCE)

    def reserve(self, size: int) -> None:
        """Count `size` received bytes of a large body. Raises _Refusal 503 over the limit."""
        self.check(size)
        self.bytes_in_flight += size

    def check(self, size: int) -> None:
        if self.bytes_in_flight + size > self.most_bytes:
            raise _Refusal(_busy("IMAGEGEN_MAX_BODIES_BYTES"))

    def new_file(self) -> IO[bytes]:
        """Create an unnamed file that only this user can read. Raises OSError, _Refusal 503."""
        if self.files >= MOST_BODY_FILES:
            raise _Refusal(_busy(f"{MOST_BODY_FILES} files"))
        self.folder.mkdir(mode=0o700, exist_ok=True)
        file: IO[bytes] = tempfile.TemporaryFile(dir=self.folder, buffering=0)  # noqa: SIM115 - release closes it
        self.files += 1
        return file


def _busy(limit: str) -> Refused:
    detail = f"Too many request bodies are arriving at once ({limit}). Try again in {RETRY_AFTER_S} s."
    return Refused(503, "uploads_busy", detail, retry_after_s=RETRY_AFTER_S)


class _Refusal(BaseException):
    """Not an Exception, so that no handler reports it as an internal error."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.detail)
        self.refused = refused


class _Body:
    """One request's body: read completely from the connection, then passed to the application."""

    def __init__(self, spool: Spool, receive: Receive) -> None:
        self._spool, self._receive = spool, receive
        self._held = bytearray()
        self._file: IO[bytes] | None = None
        self._reserved = 0
        self._read = self._given = self._has_turn = False
        self.large = False

    async def receive(self) -> Message:
        """ASGI's receive for the application. Raises _Refusal, OSError."""
        if not self._read:
            self._read = True
            if not await self._take_in():
                self._given = True
                self.release()
                return {"type": "http.disconnect"}
            if self.large:
                await self._spool.turns.acquire()
                self._has_turn = True
        if self._given:
            return await self._receive()
        return await self._next()

    async def _take_in(self) -> bool:
        """Read the body to its end. Returns False if the client disconnected first."""
        loop, more, came = asyncio.get_running_loop(), True, 0
        due = loop.time() + self._spool.progress_s
        while more:
            try:
                async with asyncio.timeout_at(due):
                    message = await self._receive()
            except TimeoutError:
                raise _Refusal(self._late()) from None
            if message["type"] != "http.request":
                return False
            piece, more = message.get("body", b""), message.get("more_body", False)
            self._held += piece
            came += len(piece)
            if came >= PROGRESS_BYTES:
                came, due = 0, loop.time() + self._spool.progress_s
            if len(self._held) > IN_MEMORY_BYTES:
                await self._write()
        if self._file is not None:
            await self._write()
            await asyncio.to_thread(self._file.seek, 0)
        return True

    def _late(self) -> Refused:
        detail = f"The body did not advance for {self._spool.progress_s:g} s (IMAGEGEN_BODY_TIMEOUT_S). Send it again."
        return Refused(408, "request_timeout", detail)

    async def _write(self) -> None:
        held, self._held = self._held, bytearray()
        self._spool.reserve(len(held))
        self._reserved += len(held)
        try:
            if self._file is None:
                self.large = True
                self._file = self._spool.new_file()
            await asyncio.to_thread(_write_all, self._file, held)
        except OSError as failure:
            raise _Refusal(_cannot_store(failure)) from failure

    async def _next(self) -> Message:
        if self._file is None:
            body, self._held, self._given = bytes(self._held), bytearray(), True
            return {"type": "http.request", "body": body, "more_body": False}
        piece = await asyncio.to_thread(self._file.read, PIECE_BYTES)
        if len(piece) == PIECE_BYTES:
            return {"type": "http.request", "body": piece, "more_body": True}
        self._given = True
        return {"type": "http.request", "body": piece, "more_body": False}

    def release(self) -> None:
        """Free the body's memory, file and reservation. Idempotent."""
        self._spool.bytes_in_flight -= self._reserved
        self._reserved = 0
        self._held, self._given = bytearray(), True
        if self._file is not None:
            self._file.close()
            self._spool.files -= 1
            self._file = None
        if self._has_turn:
            self._has_turn = False
            self._spool.turns.release()


def _cannot_store(failure: OSError) -> Refused:
    if are_short(failure):
        log.warning("a body was refused: no file descriptor is free")
        return _busy("open files")
    why = os.strerror(failure.errno or errno.EIO)
    log.error("a body cannot be stored: %s", why)
    if failure.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Refused(507, "storage_full", f"The body cannot be stored: {why}. The request was not carried out.")
    return Refused(500, "storage_error", f"The body cannot be stored: {why}. The request was not carried out.")


def _write_all(file: IO[bytes], data: bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


class BodySpool:
    """Reads each body completely before its handler runs on it. Refuses with 408, 503, 507 or 500."""

    def __init__(self, app: ASGIApp, spool: Spool) -> None:
        self._app, self._spool = app, spool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in WITHOUT_BODY:
            await self._app(scope, receive, send)
            return
        body, started = _Body(self._spool, receive), False

        async def sending(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        refused: Refused | None = None
        try:
            declared = dict(scope["headers"]).get(b"content-length", b"0")
            if declared.isdigit() and int(declared) > IN_MEMORY_BYTES:
                self._spool.check(int(declared))
            scope[SCOPE_KEY] = body
            await self._app(scope, body.receive, sending)
        except _Refusal as refusal:
            refused = refusal.refused
        finally:
            body.release()
            if body.large:
                asyncio.get_running_loop().run_in_executor(None, return_memory)
        if refused is not None and not started:
            await problem(refused.status, refused.code, refused.detail, **refused.extra)(scope, receive, send)


def return_memory() -> None:
    """Return free memory to the system. glibc keeps the memory used to parse large bodies: 16 edits of 24 MiB left a
    140 MiB worker at 446 MiB."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it
    if trim is not None:
        trim(0)


def release_body(scope: Scope) -> None:
    """Release the body early. Called by long-running handlers that no longer need it."""
    body = scope.get(SCOPE_KEY)
    if body is not None:
        body.release()
