"""Reads a file through Xet, the hub's store of deduplicated chunks. The caller writes and resumes.

The hub serves files above `LARGEST_PLAIN_BYTES` only this way (huggingface_hub raises ValueError for them over HTTP).
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
"""Interval of the empty chunks that a waiting reader gets."""
RETRIES = 2
"""Retries of one request inside hf_xet, so that one broken connection does not lose the data of the others."""

REFUSALS = {"XetAuthenticationError", "XetObjectNotFoundError"}


class XetError(Exception):
    """hf_xet failed. The reason omits URLs, because they may be signed. `final`: a retry is useless."""

    def __init__(self, reason: str, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


@dataclass(frozen=True)
class XetFile:
    """A file in Xet's store. A GET of `token_url` with `headers` returns an access token for it."""

    hash: str
    size_bytes: int
    token_url: str
    headers: dict[str, str]


@contextlib.contextmanager
def stream(file: XetFile, offset: int, silence_s: float) -> Iterator[Iterator[bytes]]:
    """Stream the file's bytes from `offset` on. Yields empty chunks while no bytes arrive, so that the reader can stop.

    silence_s: timeout of a silent connection. Raises XetError, also from the iterator.
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

    reader = threading.Thread(target=read, name="xet")  # hf_xet blocks its thread while it waits
    reader.start()
    try:
        yield _chunks(pieces)
    finally:
        ended.set()
        session.sigint_abort()  # group.abort() does not end a wait for bytes
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
    """Convert hf_xet's exceptions (OSError, RuntimeError and other built-in classes) to XetError."""
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
        elif said.startswith("Internal error"):  # hf_xet's writer ended before the request's error arrived
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
    """Stop hf_xet from writing a log or a cache in the user's home, unless the environment sets them.

    hf_xet reads both variables at import and at the start of a session.
    """
    os.environ.setdefault("HF_XET_LOG_DEST", os.devnull)
    if "HF_XET_CACHE" not in os.environ:
        os.environ["HF_XET_CACHE"] = folder = tempfile.mkdtemp(prefix="imagegen-xet-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
