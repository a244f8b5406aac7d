"""Bytes of a file through Xet, the hub's store of deduplicated chunks: `hf_xet` reads, its caller writes and resumes.

The hub serves files above `LARGEST_PLAIN_BYTES` this way only (huggingface_hub raises ValueError for them over HTTP).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

LARGEST_PLAIN_BYTES = 50_000_000_000
"""huggingface_hub.constants.MAX_HTTP_DOWNLOAD_SIZE (2.4.0)."""
LOOK_EVERY_S = 0.25
"""How often a reader that waits for bytes gets an empty chunk."""
RETRIES = 2
"""Of one request, inside hf_xet: one broken connection of many does not cost what the others hold in memory."""

REFUSALS = {"XetAuthenticationError", "XetObjectNotFoundError"}


class XetError(Exception):
    """hf_xet failed: its reason without addresses, which may be signed. `final`: another try changes nothing."""

    def __init__(self, reason: str, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


@dataclass(frozen=True)
class XetFile:
    """A file in Xet's store, as the hub names it; a GET of `token_url` with `headers` answers a token for it."""

    hash: str
    size_bytes: int
    token_url: str
    headers: dict[str, str]


@contextlib.contextmanager
def stream(file: XetFile, offset: int, silence_s: float) -> Iterator[Iterator[bytes]]:
    """The file's bytes from `offset` on, in order; empty chunks while nothing comes, so that the reader can stop.

    A connection that sends nothing for `silence_s` is broken. Raises XetError, from the iterator too.
    """
    pieces: queue.Queue[bytes | Exception | None] = queue.Queue(maxsize=1)
    ended = threading.Event()
    with _errors():
        session = _session(silence_s)
        import hf_xet

        group = session.new_download_stream_group(token_refresh_url=file.token_url, token_refresh_headers=file.headers)
        source = group.download_stream(hf_xet.XetFileInfo(file.hash, file.size_bytes), start=offset)

    def put(piece: bytes | Exception | None) -> None:
        while not ended.is_set():
            with contextlib.suppress(queue.Full):
                pieces.put(piece, timeout=LOOK_EVERY_S)
                return

    def read() -> None:
        try:
            for piece in source:
                put(piece)
            put(None)
        except Exception as failure:
            put(failure)

    reader = threading.Thread(target=read, name="xet")  # of its own: a wait inside hf_xet holds up its thread
    reader.start()
    try:
        yield _chunks(pieces)
    finally:
        ended.set()
        session.sigint_abort()  # group.abort() lets a wait for bytes go on
        reader.join()


def _chunks(pieces: queue.Queue[bytes | Exception | None]) -> Iterator[bytes]:
    while True:
        try:
            piece = pieces.get(timeout=LOOK_EVERY_S)
        except queue.Empty:
            yield b""
            continue
        if piece is None:
            return
        if isinstance(piece, Exception):
            with _errors():
                raise piece
        yield piece


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """What hf_xet raises (OSError, RuntimeError and others of Python's own classes) becomes a XetError."""
    try:
        yield
    except ImportError:
        raise XetError("the package hf-xet is not installed", final=True) from None
    except Exception as failure:
        said = str(failure)
        status = re.search(r"HTTP status \w+ error \((\d{3})", said)
        final = type(failure).__name__ in REFUSALS or (status is not None and status[1] in {"401", "404"})
        if status is not None:
            reason = f"HTTP {status[1]}"
        elif said.startswith("Internal error"):  # its writer's end, when that comes before the request's own error
            reason = "it ended early"
        else:
            reason = re.sub(r"\S*https?://\S+", "…", said)
        raise XetError(reason or type(failure).__name__, final) from None


def _session(silence_s: float) -> Any:
    _keep_quiet()
    import hf_xet

    silence = f"{silence_s:g}s"
    return hf_xet.XetSession(
        hf_xet.XetConfig().with_config(
            {
                "telemetry.enabled": False,
                "client.connect_timeout": silence,
                "client.read_timeout": silence,
                "client.retry_max_attempts": RETRIES,
                "client.retry_base_delay": "1s",
            }
        )
    )


def _keep_quiet() -> None:
    """Unless the environment says otherwise, hf_xet writes no log and keeps no folder in the user's home.

    It reads both when it is imported and when a session starts.
    """
    os.environ.setdefault("HF_XET_LOG_DEST", os.devnull)
    if "HF_XET_CACHE" not in os.environ:
        os.environ["HF_XET_CACHE"] = folder = tempfile.mkdtemp(prefix="imagegen-xet-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
