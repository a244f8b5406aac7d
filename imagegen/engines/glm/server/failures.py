"""Converts an error of a draw or a load into a status and a sentence without the prompt."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterable

MAX_SAID_CHARS = 300
LEAST_SECRET_CHARS = 4
"""A shorter prompt reveals nothing, and removing it would make the message unreadable."""
CUT = "…"

OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|bad_alloc|Cannot allocate memory|MemoryError", re.IGNORECASE
)
"""Out-of-memory messages of torch, the C++ library, the system and Python."""
_PROBE_BYTES = 64 * 1024**2


class Interrupted(Exception):
    """The picture was interrupted on request."""


def explain(failure: Exception, secrets: Iterable[str]) -> tuple[int, str]:
    """The status (409 interrupted, 507 out of memory, else 500) and a description without the `secrets`."""
    if isinstance(failure, Interrupted):
        return 409, "interrupted"
    words = in_words(failure, secrets)
    return (507, f"out of memory: {words}") if is_out_of_memory(failure) else (500, words)


def is_out_of_memory(failure: BaseException) -> bool:
    """Whether memory ran out, judged by the original message: with the prompt removed it may no longer mention memory.

    Only exception types that do not quote a caller's text are considered.
    """
    if not isinstance(failure, MemoryError | RuntimeError | OSError):  # torch's OutOfMemoryError is a RuntimeError
        return False
    text = _raw(failure)
    return OUT_OF_MEMORY.search(text) is not None or _is_onednn_short(text)


def _is_onednn_short(text: str) -> bool:
    """Whether oneDNN failed for lack of memory. It reports no reason, so a small allocation is tried."""
    if "could not create a primitive" not in text:
        return False
    try:
        mmap.mmap(-1, _PROBE_BYTES).close()
    except OSError:
        return True
    return False


def in_words(failure: BaseException, secrets: Iterable[str] = ()) -> str:
    """The error on one line, without the `secrets` in plain or in Python's quoted form."""
    text = _raw(failure)
    spelled = {form for secret in secrets for form in (secret, repr(secret)[1:-1])}
    for secret in sorted(spelled, key=len, reverse=True):
        if len(secret.strip()) >= LEAST_SECRET_CHARS:
            text = text.replace(secret, CUT)
    return " ".join(text.split())[:MAX_SAID_CHARS]


def _raw(failure: BaseException) -> str:
    return f"{type(failure).__name__}: {failure}"
