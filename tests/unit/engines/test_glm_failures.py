"""What the second engine says of a failure: the right verdict, and nothing that was typed."""

from __future__ import annotations

import errno

import pytest

from imagegen.engines.glm.server.failures import CUT, Interrupted, explain
from imagegen.engines.glm.server.text import literal


class OutOfMemoryError(RuntimeError):
    """As torch's is derived and called."""


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), 507),
        (OutOfMemoryError(""), 507),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: 4 bytes."), 507),
        (RuntimeError("std::bad_alloc"), 507),
        (MemoryError(), 507),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 507),
        (RuntimeError("could not create a primitive"), 500),  # there is memory
        (RuntimeError("a shape is wrong"), 500),
        (ValueError("the prompt 'out of memory' is odd"), 500),
        (Interrupted(), 409),
    ],
)
@pytest.mark.parametrize("prompt", ["a cube", "memory", "out of memory", "allocate", "e", ""])
def test_the_verdict_does_not_depend_on_the_prompt(failure: Exception, status: int, prompt: str) -> None:
    assert explain(failure, (prompt,))[0] == status


def test_a_prompt_is_cut_out_in_every_form_that_it_has() -> None:
    prompt = "a secret 'sign'\n<|image|>"
    sent = literal(prompt, {"<|image|>"})
    assert sent != prompt
    for form in (prompt, sent, repr(prompt), repr(sent)):
        _, words = explain(ValueError(f"no good: {form}"), (prompt, sent))
        assert "secret" not in words and "image" not in words and CUT in words


def test_a_very_short_prompt_leaves_the_words_whole() -> None:
    assert explain(ValueError("a shape is wrong"), ("a", " s ")) == (500, "ValueError: a shape is wrong")
