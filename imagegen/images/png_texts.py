"""The texts of a PNG file from any program: bounded, because a file may claim to unpack to gigabytes."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

from imagegen.images.png import chunks

TEXT_MAX_BYTES = 1024 * 1024
"""The longest text that is read, unpacked. Pillow's limit, too."""
TEXTS_MAX_BYTES = 4 * TEXT_MAX_BYTES
"""The most bytes of all texts of a file."""
KEYWORD_MAX_BYTES = 79
"""PNG specification (third edition), 11.3.3.1."""


@dataclass
class PngTexts:
    """`found`: texts by keyword, the first of each. `unread`: keywords of texts that were not read, with the reason."""

    found: dict[str, str] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)


class _Unread(Exception):
    pass


def read_texts(png: bytes) -> PngTexts:
    """Read the tEXt, zTXt and iTXt chunks. Raises BrokenPng."""
    texts, left_bytes = PngTexts(), TEXTS_MAX_BYTES
    for kind, raw in chunks(png):
        if kind not in _READERS:
            continue
        head, separator, rest = raw[8:-4].partition(b"\0")
        keyword = head[:KEYWORD_MAX_BYTES].decode("latin-1")
        if not separator or not 1 <= len(head) <= KEYWORD_MAX_BYTES or keyword in texts.found:
            continue
        try:
            data, encoding = _READERS[kind](rest)
            if len(data) > min(TEXT_MAX_BYTES, left_bytes):
                raise _Unread("is too long")
        except _Unread as why:
            texts.unread[keyword] = str(why)
            continue
        left_bytes -= len(data)
        texts.found[keyword] = data.decode(encoding, "replace")
        texts.unread.pop(keyword, None)
    return texts


def texts(png: bytes) -> dict[str, str]:
    """The texts by keyword, without those that cannot be read. Raises BrokenPng."""
    return read_texts(png).found


def _plain(rest: bytes) -> tuple[bytes, str]:
    return rest, "latin-1"


def _compressed(rest: bytes) -> tuple[bytes, str]:
    return _unpacked(rest[0:1], rest[1:]), "latin-1"


def _international(rest: bytes) -> tuple[bytes, str]:
    fields = rest[2:].split(b"\0", 2)  # language, translated keyword, text
    if len(fields) != 3:
        raise _Unread("is damaged")
    return (_unpacked(rest[1:2], fields[2]) if rest[:1] == b"\1" else fields[2]), "utf-8"


def _unpacked(method: bytes, packed: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        if method != b"\0":
            raise _Unread("is packed in a way that does not exist")
        data = unpacker.decompress(packed, TEXT_MAX_BYTES + 1)
    except zlib.error:
        raise _Unread("is damaged") from None
    if len(data) <= TEXT_MAX_BYTES and not unpacker.eof:
        raise _Unread("is damaged")
    return data


_READERS = {b"tEXt": _plain, b"zTXt": _compressed, b"iTXt": _international}
