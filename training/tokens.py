"""Qwen2's byte-level BPE as the engine has it, and the vocabulary of words that the model hears.

The merges are read from the engine's own source (SDCPP_SRC names stable-diffusion.cpp's `src`). ASCII only, which is
all that captions use.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable
from pathlib import Path

PREFIX = 3
"""Tokens of the engine's template before the prompt: <|im_start|>, user, a line end (conditioner.hpp)."""
CONTEXT = 512
"""The engine pads the text of FLUX.2 klein to this many tokens (conditioner.hpp: min_length)."""
SPLIT = re.compile(
    r"'(?:s|t|m|re|ve|ll|d)|[0-9]|[^\r\nA-Za-z0-9]?[A-Za-z]+| ?[^\sA-Za-z0-9]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+", re.I
)


def _bytes() -> list[tuple[int, str]]:
    printable = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    pairs = [(byte, chr(byte)) for byte in printable]
    others = [byte for byte in range(256) if byte not in printable]
    return pairs + [(byte, chr(256 + i)) for i, byte in enumerate(others)]


@functools.cache
def _merges() -> tuple[dict[int, str], dict[str, int], dict[tuple[str, str], int]]:
    source = Path(os.environ["SDCPP_SRC"], "tokenizers/vocab/qwen.hpp").read_text()
    text = bytes.fromhex("".join(re.findall(r"0x([0-9a-f]{2})", source))).decode()
    merges = [tuple(line.split(" ", 1)) for line in text.split("\n") if " " in line]
    pairs = _bytes()
    tokens = [char for _, char in pairs] + [a + b for a, b in merges]
    return dict(pairs), {token: i for i, token in enumerate(tokens)}, {m: rank for rank, m in enumerate(merges)}


@functools.cache
def _word(text: str) -> tuple[int, ...]:
    letters, ids, ranks = _merges()
    parts = [letters[byte] for byte in text.encode()]
    while len(parts) > 1:
        rank, i = min((ranks.get((parts[i], parts[i + 1]), 1 << 30), i) for i in range(len(parts) - 1))
        if rank == 1 << 30:
            break
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return tuple(ids[part] for part in parts)


KNOWN: dict[str, tuple[int, ...]] = {}
"""Ids of pieces of text that are looked up first: for a machine without the engine's source."""


def encode(text: str) -> list[int]:
    """The engine's token ids of a prompt."""
    pieces = [match.group(0) for match in SPLIT.finditer(text)]
    return [token for piece in pieces for token in KNOWN.get(piece) or _word(piece)]


def vocabulary(words: Iterable[str], written: Iterable[str]) -> list[int]:
    """Ids of the tokens of these words, small and with a capital, and of the written ones, capitals and with one.

    Each at a text's start, inside it and after a quotation mark.
    """
    forms = {form for word in words for form in (word.lower(), word.capitalize())}
    forms |= {form for word in written for form in (word.upper(), word.capitalize())}
    found = {token for form in forms for before in ("", " ", '"', "'") for token in encode(before + form)}
    marks = {token for mark in ('"', "'", " ") for token in encode(mark)}
    return sorted(found - marks)


def heard(text: str, index: dict[int, int]) -> tuple[list[int], list[int], int]:
    """Rows of the known tokens, their places in the engine's context, and how many tokens the context has."""
    ids = encode(text)
    known = [(index[token], PREFIX + place) for place, token in enumerate(ids) if token in index]
    # After the prompt: <|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n, none of which is in the vocabulary.
    return [row for row, _ in known], [place for _, place in known], max(CONTEXT, PREFIX + len(ids) + 9)
