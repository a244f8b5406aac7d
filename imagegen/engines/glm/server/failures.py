"""Why a picture was not drawn or a model not loaded: as a status and a sentence that has no prompt in it."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterable

MAX_SAID_CHARS = 300
LEAST_SECRET_CHARS = 4
"""A shorter prompt gives nothing away, and taking it out would tear holes into every word."""
CUT = "…"

OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|bad_alloc|Cannot allocate memory|MemoryError", re.IGNORECASE
)
"""What torch, the C++ library, the system and Python say where memory is lacking."""
_PROBE_BYTES = 64 * 1024**2


class Interrupted(Exception):
    """The picture was broken off because somebody asked for it."""


def explain(failure: Exception, secrets: Iterable[str]) -> tuple[int, str]:
    """409 interrupted, 507 out of memory, or 500; and what went wrong, without the `secrets`."""
    if isinstance(failure, Interrupted):
        return 409, "interrupted"
    words = in_words(failure, secrets)
    return (507, f"out of memory: {words}") if is_out_of_memory(failure) else (500, words)


def is_out_of_memory(failure: BaseException) -> bool:
    """Judged by the failure itself: what is left of its words without a prompt may say nothing of memory any more.

    Only of kinds that do not repeat what a caller typed.
    """
    if not isinstance(failure, MemoryError | RuntimeError | OSError):  # torch's OutOfMemoryError is a RuntimeError
        return False
    text = _raw(failure)
    return OUT_OF_MEMORY.search(text) is not None or _is_onednn_short(text)


def _is_onednn_short(text: str) -> bool:
    """oneDNN gives no reason: whether it is memory shows when there is not even a little left."""
    if "could not create a primitive" not in text:
        return False
    try:
        mmap.mmap(-1, _PROBE_BYTES).close()
    except OSError:
        return True
    return False


def in_words(failure: BaseException, secrets: Iterable[str] = ()) -> str:
    """What went wrong, on one line, without the `secrets`, as they are or as Python quotes them."""
    text = _raw(failure)
    spelled = {form for secret in secrets for form in (secret, repr(secret)[1:-1])}
    for secret in sorted(spelled, key=len, reverse=True):
        if len(secret.strip()) >= LEAST_SECRET_CHARS:
            text = text.replace(secret, CUT)
    return " ".join(text.split())[:MAX_SAID_CHARS]


def _raw(failure: BaseException) -> str:
    return f"{type(failure).__name__}: {failure}"
