"""PNG chunks: checks the engine's file and adds generation metadata without changing pixels.

Chunks and keywords follow the PNG specification (W3C, third edition, 5.3 and 11.3.3). Two marks identify a picture
as AI-generated: XMP with IPTC's digital source type, which search engines and platforms read, and a plain comment.
"""

from __future__ import annotations

import hashlib
import html
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

SIGNATURE = b"\x89PNG\r\n\x1a\n"
XMP_KEYWORD = "XML:com.adobe.xmp"
AI_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
ENHANCED_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicallyEnhanced"
AI_COMMENT = "AI-generated"

_PIXEL_CHUNKS = {
    b"IHDR",
    b"PLTE",
    b"tRNS",
    b"gAMA",
    b"cHRM",
    b"sRGB",
    b"iCCP",
    b"sBIT",
    b"pHYs",
    b"IDAT",
    b"IEND",
}
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # of grey, RGB, grey with alpha, RGBA
_TEXT_CHUNKS = {b"tEXt", b"zTXt", b"iTXt"}
_MASK_CHUNK = b"maSK"
"""A private ancillary chunk, which every decoder skips; not safe to copy into a changed picture (5.4)."""
_MANIFEST_CHUNK = b"caBX"
"""A C2PA manifest (specification 2.2, A.3.2)."""
_IHDR_END = len(SIGNATURE) + 25  # IHDR comes first and is always 4 + 4 + 13 + 4 bytes

# Neither tEXt nor XML 1.0 allows these: controls except tab and newline, lone surrogates, non-characters.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_KEYWORD = re.compile(r"(?! )(?!.*  )[\x20-\x7e\xa1-\xff]{1,79}(?<! )")


class BrokenPng(ValueError):
    """The bytes are not a valid PNG file. The message is a sentence with the reason."""


@dataclass(frozen=True)
class FinishedPng:
    """A PNG file to store. `width`, `height`: pixels. `sha256`: of `data`, 64 hex digits."""

    data: bytes
    width: int
    height: int
    sha256: str


def finish_png(
    png_from_engine: bytes, metadata: Mapping[str, str] | None, *, drawn: bool = True, marked: bool = True
) -> FinishedPng:
    """Check the engine's PNG and replace its text with `metadata`, without re-encoding pixels.

    metadata: keyword → text, for example Software, model, prompt, seed. Software and model are repeated in XMP, and
    the marks for AI-generated pictures are added. None: the file gets no generation metadata.
    drawn: False for a picture that a program has only enhanced: it is marked as that. marked: False leaves out marks.
    Raises BrokenPng if a checksum, the structure or the pixels are wrong, ValueError for a bad keyword.
    """
    kept = [(kind, raw) for kind, raw in chunks(png_from_engine) if kind in _PIXEL_CHUNKS]
    _check_pixels(kept[0][1][8:-4], b"".join(raw[8:-4] for kind, raw in kept if kind == b"IDAT"))
    bare = SIGNATURE + b"".join(raw for _, raw in kept)
    data = bare if metadata is None else _insert(bare, _metadata_chunks(metadata, drawn, marked))
    return FinishedPng(data, *size_of(data), hashlib.sha256(data).hexdigest())


def _check_pixels(header: bytes, compressed: bytes) -> None:
    """Check that the number of rows is right and each row has a valid filter: then every pixel can be decoded.

    Pillow cannot check this, because it fills missing rows with black. Undoing the filters cannot fail, so this
    function does not undo them.
    """
    width, height, depth, colour_type, *methods = struct.unpack(">IIBBBBB", header)
    if not (width and height and depth in {8, 16} and colour_type in _CHANNELS and methods == [0, 0, 0]):
        raise BrokenPng("The PNG is of a kind that no engine writes: not plain grey or RGB, or interlaced.")
    stride = 1 + width * _CHANNELS[colour_type] * depth // 8
    inflater = zlib.decompressobj()
    try:
        rows = inflater.decompress(compressed, stride * height + 1)
    except zlib.error as broken:
        raise BrokenPng(f"The PNG is damaged: its pixels cannot be decompressed ({broken}).") from broken
    if len(rows) != stride * height or not inflater.eof:
        raise BrokenPng(f"The PNG is damaged: it does not hold the {width}x{height} pixels that it says.")
    if max(rows[::stride]) > 4:
        raise BrokenPng("The PNG is damaged: one of its rows is packed in a way that does not exist.")


def size_of(png: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the header alone. Raises BrokenPng."""
    if not png.startswith(SIGNATURE) or len(png) < _IHDR_END:
        raise BrokenPng("The file is not a PNG, or only the beginning of one.")
    return int.from_bytes(png[16:20]), int.from_bytes(png[20:24])


def with_text_of(source: bytes, target: bytes) -> bytes:
    """Copy the text chunks of `source` into `target`, so that a reduced picture keeps its generation metadata.

    Both are whole PNG files. Raises BrokenPng if `source` is not.
    """
    return _insert(target, b"".join(raw for kind, raw in chunks(source) if kind in _TEXT_CHUNKS))


def manifest_bytes(png: bytes) -> int:
    """The size of a PNG's C2PA manifest, 0 without one. Raises BrokenPng."""
    return sum(len(raw) for kind, raw in chunks(png) if kind == _MANIFEST_CHUNK)


def without_manifest(png: bytes) -> bytes:
    """The PNG without its C2PA manifest. Raises BrokenPng."""
    return SIGNATURE + b"".join(raw for kind, raw in chunks(png) if kind != _MANIFEST_CHUNK)


def with_mask(png: bytes, levels: bytes) -> bytes:
    """Add a mask to a PNG without changing its pixels. `levels`: one byte a pixel, in rows."""
    return _insert(png, _chunk(_MASK_CHUNK, zlib.compress(levels, 1)))


def mask_of(png: bytes) -> bytes | None:
    """The bytes that `with_mask` added; None if there are none. Only for files of this service. Raises BrokenPng."""
    packed = next((raw[8:-4] for kind, raw in chunks(png) if kind == _MASK_CHUNK), None)
    return None if packed is None else zlib.decompress(packed)


def _insert(png: bytes, chunks: bytes) -> bytes:
    return png[:_IHDR_END] + chunks + png[_IHDR_END:]


def chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and raw bytes of each chunk up to IEND. Data after IEND is not part of the picture."""
    if not png.startswith(SIGNATURE):
        raise BrokenPng("The file is not a PNG: it does not begin with PNG's signature.")
    at = len(SIGNATURE)
    kind = b""
    while kind != b"IEND":
        end = at + 12 + int.from_bytes(png[at : at + 4])
        if end > len(png):
            raise BrokenPng("The PNG is cut off: it ends inside a chunk, or before the last one.")
        raw = png[at:end]
        if zlib.crc32(raw[4:-4]) != int.from_bytes(raw[-4:]):
            raise BrokenPng(f"The PNG is damaged: the checksum at byte {at} does not match.")
        if at == len(SIGNATURE) and (raw[4:8] != b"IHDR" or len(raw) != 25):
            raise BrokenPng("The PNG is damaged: its first chunk is not a PNG header.")
        kind, at = raw[4:8], end
        yield kind, raw


def _metadata_chunks(metadata: Mapping[str, str], drawn: bool, marked: bool) -> bytes:
    for keyword in metadata:
        if not _KEYWORD.fullmatch(keyword) or keyword in {XMP_KEYWORD, "Comment"}:
            raise ValueError(f"{keyword!r} cannot be a keyword: 1 to 79 Latin-1 characters, no stray spaces")
    texts = {keyword: printable(text) for keyword, text in metadata.items()}
    chunks = [_text_chunk(keyword, text) for keyword, text in texts.items()]
    if not marked:
        return b"".join(chunks)
    if drawn:
        chunks.append(_text_chunk("Comment", AI_COMMENT))
    # Adobe's XMP specification requires uncompressed iTXt, even for plain ASCII
    packet = xmp_packet(texts.get("Software", ""), texts.get("model", ""), drawn=drawn)
    chunks.append(_itxt_chunk(XMP_KEYWORD, packet))
    return b"".join(chunks)


def printable(text: str) -> str:
    """Normalise line ends to newlines, and replace each character that PNG or XML does not allow with U+FFFD."""
    return _UNPRINTABLE.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def xmp_packet(software: str = "", model: str = "", *, drawn: bool = True) -> str:
    """An XMP packet that marks a picture as made by a trained model, with the program and model if given.

    drawn: False marks it as a picture that a program has enhanced.

    Properties: IPTC Extension DigitalSourceType and AISystemUsed (standard 2025.1), XMP CreatorTool. The packet
    omits the prompt, because previews contain the packet and the prompt would add kilobytes.
    """
    optional = {"xmp:CreatorTool": software, "Iptc4xmpExt:AISystemUsed": model}
    attributes = "".join(f' {name}="{html.escape(printable(value))}"' for name, value in optional.items() if value)
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
        ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
        f' Iptc4xmpExt:DigitalSourceType="{AI_SOURCE_TYPE if drawn else ENHANCED_SOURCE_TYPE}"{attributes}/>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    )


def _text_chunk(keyword: str, text: str) -> bytes:
    """tEXt if the text is Latin-1, because every reader supports it. Otherwise iTXt, which is UTF-8."""
    try:
        return _chunk(b"tEXt", keyword.encode("latin-1") + b"\0" + text.encode("latin-1"))
    except UnicodeEncodeError:
        return _itxt_chunk(keyword, text)


def _itxt_chunk(keyword: str, text: str) -> bytes:
    not_compressed_no_language = b"\0\0\0\0\0"
    return _chunk(b"iTXt", keyword.encode("latin-1") + not_compressed_no_language + text.encode("utf-8"))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)
