"""Recognises picture formats by their first bytes, and gives advice for formats that the service does not decode.

One ordered table: the first match counts. A format with a less specific signature comes after a more specific one.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Format:
    """A file format.

    name: completes "The file is". pillow: the decoder that may read it, None if the service refuses the format.
    advice: what to do instead, an imperative.
    """

    name: str
    pillow: str | None = None
    advice: str = "export it as PNG or JPEG"


Matches = Callable[[bytes], bool]

_HEIF_BRANDS = frozenset(
    b"heic heix heim heis hevc hevx hevm hevs mif1 mif2 msf1 miaf avci avcs vvic vvis jpeg jpgs j2ki".split()
)
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_VIDEO_BRANDS = (b"isom", b"iso", b"mp4", b"M4V", b"qt  ", b"avc1", b"3gp", b"3g2", b"dash", b"MSNV", b"f4v")
_BMP_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})
"""Lengths of the header after BMP's 14 bytes. They are checked because a text can also begin with "BM"."""


def recognise(data: bytes) -> Format | None:
    """The format of a file. None if no signature in the table matches."""
    return next((format_ for format_, matches in _TABLE if matches(data)), None)


def _starts(*signatures: bytes, at: int = 0) -> Matches:
    return lambda data: data[at : at + 32].startswith(signatures)


def _riff(kind: bytes) -> Matches:
    return lambda data: data[:4] == b"RIFF" and data[8:12] == kind


def _brands(data: bytes) -> list[bytes]:
    """The major and the compatible brands of an ISO base media file (ISO 14496-12, 4.3)."""
    if data[4:8] != b"ftyp":
        return []
    end = min(int.from_bytes(data[:4], "big"), 256)
    return [data[8:12], *(data[at : at + 4] for at in range(16, end, 4))]


def _is_avif(data: bytes) -> bool:
    """Whether the major brand is AVIF's, or the major brand is HEIF's and a compatible brand is AVIF's."""
    brands = _brands(data)
    return bool(brands) and (brands[0] in _AVIF_BRANDS or (brands[0] in _HEIF_BRANDS and _holds(brands, _AVIF_BRANDS)))


def _is_heif(data: bytes) -> bool:
    return _holds(_brands(data)[:1], _HEIF_BRANDS)


def _holds(brands: list[bytes], known: frozenset[bytes]) -> bool:
    return not known.isdisjoint(brands)


def _is_video(data: bytes) -> bool:
    return data[4:8] in {b"moov", b"mdat"} or any(brand.startswith(_VIDEO_BRANDS) for brand in _brands(data)[:1])


def _is_bmp(data: bytes) -> bool:
    return data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADERS


def _is_icon(data: bytes) -> bool:
    """ICO and CUR: a directory with at least one entry, whose reserved byte is 0."""
    return data[:4] in {b"\0\0\1\0", b"\0\0\2\0"} and data[4:6] not in {b"", b"\0\0"} and data[9:10] == b"\0"


_TGA_DEPTHS = {1: (8,), 2: (16, 24, 32), 3: (8, 16)}
_TGA_FOOTER = b"TRUEVISION-XFILE.\0"


def _is_tga(data: bytes) -> bool:
    """Whether it is a Truevision TGA file.

    Version 2 has a footer. Version 1 has no signature: its header fields must agree with each other and with the
    file's length.
    """
    if len(data) < 18:
        return False
    id_bytes, has_map, kind, _first, map_length, map_depth = struct.unpack_from("<BBBHHB", data)
    width, height, depth, descriptor = struct.unpack_from("<HHBB", data, 12)
    if depth not in _TGA_DEPTHS.get(kind & 7, ()) or kind & ~8 not in _TGA_DEPTHS or descriptor & 0xC0:
        return False
    if has_map not in {0, 1} or (kind & 7 == 1) != bool(has_map) or not (width and height):
        return False
    if (map_length, map_depth) != (0, 0) if not has_map else not (map_length and map_depth in {16, 24, 32}):
        return False
    if data.endswith(_TGA_FOOTER):
        return True
    stored = len(data) - 18 - id_bytes - map_length * (map_depth // 8)
    if kind & 8:  # run-length packets of at most 128 pixels
        return stored >= -(-width * height // 128) * (1 + depth // 8)
    return stored >= width * height * (depth // 8)


def _text(*starts: bytes) -> Matches:
    """Match the start of a text file. Ignores a byte-order mark, white space and case."""
    return lambda data: data[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(starts)


def _is_svg(data: bytes) -> bool:
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<svg", b"<!doctype svg")) or (start.startswith((b"<?xml", b"<!--")) and b"<svg" in start)


_NETPBM = re.compile(rb"P[1-6]\s+(#|\d)|P7\s+(#|WIDTH|HEIGHT)")
_XBM = re.compile(rb"/\* XPM \*/|#define \w+_width \d")
_RAW = "the raw file of a camera"
_VIDEO = "a video"
_SAVE_PNG = "export it as PNG"

PNG = Format("PNG", "PNG")
JPEG = Format("JPEG", "JPEG")
TIFF = Format("TIFF", "TIFF", _SAVE_PNG)
TGA = Format("TGA", "TGA", _SAVE_PNG)
ICON = Format("an icon (ICO, CUR)", "ICO", _SAVE_PNG)

_TABLE: tuple[tuple[Format, Matches], ...] = (
    # decoded
    (PNG, _starts(b"\x89PNG\r\n\x1a\n")),
    (Format("JPEG-LS", None, _SAVE_PNG), _starts(b"\xff\xd8\xff\xf7")),
    (JPEG, _starts(b"\xff\xd8\xff")),
    (Format("WebP", "WEBP"), _riff(b"WEBP")),
    (Format("GIF", "GIF"), _starts(b"GIF87a", b"GIF89a")),
    (Format("BMP", "BMP"), _is_bmp),
    (Format("AVIF", "AVIF"), _is_avif),
    (ICON, _is_icon),
    # recognised and refused
    (Format("HEIC", None, "export it as JPEG or PNG"), _is_heif),
    (Format("JPEG XL"), _starts(b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")),
    (Format("JPEG 2000"), _starts(b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")),
    (Format("JPEG XR"), _starts(b"II\xbc\x01")),
    (Format(_RAW), _starts(b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FUJIFILMCCD-RAW", b"FOVb", b"\0MRM")),
    (Format(_RAW), lambda data: data[:4] in {b"II*\0", b"MM\0*"} and data[8:10] == b"CR"),  # Canon's CR2 is a TIFF
    (Format(_RAW), lambda data: _brands(data)[:1] == [b"crx "]),
    (Format("a large TIFF (BigTIFF)", None, _SAVE_PNG), _starts(b"II+\0", b"MM\0+")),
    (TIFF, _starts(b"II*\0", b"MM\0*")),
    (Format("a Photoshop document (PSD)", None, _SAVE_PNG), _starts(b"8BPS")),
    (Format("a GIMP document (XCF)", None, _SAVE_PNG), _starts(b"gimp xcf")),
    (Format("an Apple icon (ICNS)", None, _SAVE_PNG), _starts(b"icns")),
    (Format("OpenEXR"), _starts(b"\x76\x2f\x31\x01")),
    (Format("Radiance HDR"), _starts(b"#?RADIANCE", b"#?RGBE")),
    (Format("QOI"), _starts(b"qoif")),
    (Format("DDS"), _starts(b"DDS ")),
    (Format("BPG"), _starts(b"BPG\xfb")),
    (Format("FLIF"), _starts(b"FLIF")),
    (Format("MNG", None, "export one frame as PNG"), _starts(b"\x8aMNG\r\n\x1a\n", b"\x8bJNG\r\n\x1a\n")),
    (Format("PCX"), lambda data: data[:1] == b"\x0a" and data[1:2] in b"\0\2\3\4\5" and data[2:3] == b"\1"),
    (Format("SGI", None, _SAVE_PNG), _starts(b"\x01\xda\0\1", b"\x01\xda\1\1")),
    (Format("Netpbm (PBM, PGM, PPM)"), lambda data: _NETPBM.match(data) is not None),
    (Format("XPM or XBM"), lambda data: _XBM.match(data) is not None),
    (Format("DICOM"), _starts(b"DICM", at=128)),
    (Format("DjVu", None, "export the page as PNG"), _starts(b"AT&TFORM")),
    (Format("SVG, which has no pixels", None, _SAVE_PNG), _is_svg),
    (Format("PDF", None, "export the page as PNG"), _text(b"%pdf-")),
    (Format("PostScript (EPS, PS, AI)", None, _SAVE_PNG), _text(b"%!ps")),
    (Format("PostScript (EPS, PS, AI)", None, _SAVE_PNG), _starts(b"\xc5\xd0\xd3\xc6")),
    (Format("a Windows metafile (WMF, EMF)", None, _SAVE_PNG), _starts(b"\xd7\xcd\xc6\x9a")),
    (Format("a Windows metafile (WMF, EMF)", None, _SAVE_PNG), lambda data: data[40:44] == b" EMF"),
    (Format(_VIDEO, None, "export one frame as PNG"), _is_video),
    (Format(_VIDEO, None, "export one frame as PNG"), _starts(b"\x1aE\xdf\xa3", b"\0\0\1\xba", b"FLV\1")),
    (Format(_VIDEO, None, "export one frame as PNG"), _riff(b"AVI ")),
    (Format("a web page", None, "save the picture in it and send that"), _text(b"<!doctype html", b"<html")),
    (Format("an archive or an office document", None, "take the picture out of it and send that"), _starts(b"PK\3\4")),
    (Format("a compressed file", None, "unpack it first"), _starts(b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"7z\xbc\xaf")),
    # last, because it has no signature
    (TGA, _is_tga),
)
