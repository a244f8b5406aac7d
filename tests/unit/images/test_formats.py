"""Files by their first bytes: what is decoded, what is refused with its name, and what TIFF and icons may hold."""

from __future__ import annotations

import contextlib
import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import BLUE, MAX_PX, RED, refused, saved, tiff_with_long_tags
from PIL import Image

from imagegen.images import formats, icons, tiff
from imagegen.images.formats import recognise
from imagegen.images.references import decode_reference


def halves(width: int = 32, height: int = 24) -> Image.Image:
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (0, height // 2, width, height))
    return image


def ftyp(*brands: bytes) -> bytes:
    body = brands[0] + bytes(4) + b"".join(brands[1:])
    return struct.pack(">I", 8 + len(body)) + b"ftyp" + body + bytes(64)


PICTURE = halves()
DECODED = [
    ("PNG", saved(PICTURE, "PNG")),
    ("JPEG", saved(PICTURE, "JPEG")),
    ("WebP", saved(PICTURE, "WEBP")),
    ("GIF", saved(PICTURE, "GIF")),
    ("BMP", saved(PICTURE, "BMP")),
    ("AVIF", saved(PICTURE, "AVIF")),
    ("TIFF", saved(PICTURE, "TIFF")),
    ("TIFF", saved(PICTURE, "TIFF", big_tiff=False, compression="tiff_lzw")),
    ("TGA", saved(PICTURE, "TGA")),
    ("TGA", saved(PICTURE, "TGA")[:-26]),  # version 1, without a footer
    ("TGA", saved(PICTURE, "TGA", compression="tga_rle")[:-26]),
    ("an icon (ICO, CUR)", saved(PICTURE, "ICO")),
    ("an icon (ICO, CUR)", b"\0\0\2\0" + saved(PICTURE, "ICO")[4:]),
]


@pytest.mark.parametrize(("name", "data"), DECODED)
def test_what_is_decoded_is_recognised(name: str, data: bytes) -> None:
    found = recognise(data)
    assert found is not None and (found.name, found.pillow is not None) == (name, True)
    decode_reference(data, MAX_PX)


REFUSED = [
    (ftyp(b"heic", b"mif1", b"heic"), "HEIC: export it as JPEG or PNG."),
    (ftyp(b"heix", b"mif1"), "HEIC: "),
    (ftyp(b"hevc"), "HEIC: "),
    (ftyp(b"mif1", b"heic"), "HEIC: "),
    (ftyp(b"msf1", b"hevc"), "HEIC: "),
    (ftyp(b"avci"), "HEIC: "),
    (b"\xff\x0a" + bytes(40), "JPEG XL: export it as PNG or JPEG."),
    (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), "JPEG XL: "),
    (saved(PICTURE, "JPEG2000"), "JPEG 2000: "),
    (saved(PICTURE, "JPEG2000", no_jp2=True), "JPEG 2000: "),
    (b"II\xbc\x01" + bytes(40), "JPEG XR: "),
    (b"\xff\xd8\xff\xf7" + bytes(40), "JPEG-LS: "),
    (b"II*\0\x10\0\0\0CR\x02\0", "the raw file of a camera: export it as PNG or JPEG."),
    (b"FUJIFILMCCD-RAW 0201", "the raw file of a camera: "),
    (ftyp(b"crx "), "the raw file of a camera: "),
    (b"II+\0" + bytes(40), "a large TIFF (BigTIFF): export it as PNG."),
    (saved(PICTURE, "TIFF", compression="jpeg"), "TIFF with JPEG compression: export it as PNG."),
    (saved(PICTURE.convert("1"), "TIFF", compression="group4"), "TIFF with CCITT compression: export it as PNG."),
    (saved(PICTURE.convert("F"), "TIFF"), "TIFF with signed or floating-point numbers: export it as PNG."),
    (saved(PICTURE.convert("I"), "TIFF"), "TIFF with signed or floating-point numbers: export it as PNG."),
    (saved(PICTURE.convert("LAB"), "TIFF"), "TIFF with colours other than grey, RGB and CMYK: export it as PNG."),
    (b"8BPS\0\1" + bytes(40), "a Photoshop document (PSD): "),
    (b"gimp xcf v011", "a GIMP document (XCF): "),
    (saved(PICTURE, "ICNS"), "an Apple icon (ICNS): "),
    (b"\x76\x2f\x31\x01" + bytes(40), "OpenEXR: "),
    (b"#?RADIANCE\n", "Radiance HDR: "),
    (saved(PICTURE, "QOI"), "QOI: "),
    (saved(PICTURE, "DDS"), "DDS: "),
    (saved(PICTURE, "PCX"), "PCX: "),
    (saved(PICTURE, "SGI"), "SGI: "),
    (saved(PICTURE, "PPM"), "Netpbm (PBM, PGM, PPM): "),
    (saved(PICTURE.convert("1"), "XBM"), "XPM or XBM: "),
    (bytes(128) + b"DICM", "DICOM: "),
    (b"\x8aMNG\r\n\x1a\n", "MNG: export one frame as PNG."),
    (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG, which has no pixels: export it as PNG."),
    (b"\xef\xbb\xbf \n<?xml version='1.0'?>\n<!-- a drawing --><SVG/>", "SVG, which has no pixels: "),
    (b"%PDF-1.7\n", "PDF: export the page as PNG."),
    (b"\n%PDF-1.7\n", "PDF: "),
    (saved(PICTURE, "EPS"), "PostScript (EPS, PS, AI): "),
    (b"\xd7\xcd\xc6\x9a" + bytes(40), "a Windows metafile (WMF, EMF): "),
    (b"\1\0\0\0" + bytes(36) + b" EMF", "a Windows metafile (WMF, EMF): "),
    (ftyp(b"isom", b"mp42"), "a video: export one frame as PNG."),
    (ftyp(b"qt  "), "a video: "),
    (b"\x1aE\xdf\xa3" + bytes(40), "a video: "),
    (b"RIFF\0\0\0\0AVI LIST", "a video: "),
    (b"<!DOCTYPE html><title>404</title>", "a web page: save the picture in it and send that."),
    (b"<html><body>404</body></html>", "a web page: "),
    (b"PK\3\4" + bytes(40), "an archive or an office document: take the picture out of it and send that."),
    (b"\x1f\x8b\x08" + bytes(40), "a compressed file: unpack it first."),
]


@pytest.mark.parametrize(("data", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_what_is_not_decoded_is_named_with_what_to_do(data: bytes, said: str) -> None:
    assert refused(data).startswith(f"The file is {said}")


UNKNOWN = [
    b"\0",
    b"hello, this is text" * 100,
    b"BM is how this text begins, and no bitmap",
    b"P6 is a line in a list\n" * 9,
    b"#define WIDTH 3\nint main(void) { return WIDTH; }\n",
    b"RIFF\0\0\0\0WAVEfmt ",
    b"<?xml version='1.0'?><feed/>",
    b"\0\0\1\0\0\0" + bytes(40),  # an icon without pictures
    b"\x7fELF" + bytes(60),
    bytes(200),
    b"ID3\4" + bytes(60),
    saved(PICTURE, "TGA")[:-26][:600],  # cut off, without a footer
]


@pytest.mark.parametrize("data", UNKNOWN, ids=[repr(data[:20]) for data in UNKNOWN])
def test_what_begins_like_no_picture_is_not_one(data: bytes) -> None:
    assert recognise(data) is None
    assert refused(data).startswith("The file is not a picture of a known format. Send a PNG,")


def test_every_format_of_the_table_is_tried_here() -> None:
    tried = {
        (found.name, found.advice)
        for data, _ in [*REFUSED, *((d, n) for n, d in DECODED)]
        if (found := recognise(data))
    }
    others = {"BPG", "FLIF", "DjVu"}  # a signature of four letters, and nothing else to try
    assert {(one.name, one.advice) for one, _ in formats._TABLE if one.name not in others} == tried


@pytest.mark.parametrize("brands", [(b"avif", b"mif1"), (b"avis",), (b"mif1", b"avif", b"miaf"), (b"msf1", b"avis")])
def test_avif_is_found_among_the_brands(brands: tuple[bytes, ...]) -> None:
    found = recognise(ftyp(*brands))
    assert found is not None and found.name == "AVIF"


# ---- TGA --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (1, 1),
        (1, 2),
        (2, 0),
        (2, 4),
        (2, 42),
        (5, 9),
        (7, 24),
        (12, 0),
        (14, 0),
        (15, 99),
        (16, 7),
        (16, 48),
        (17, 0x40),
    ],
)
def test_a_header_in_which_a_field_does_not_fit_is_no_tga(at: int, value: int) -> None:
    data = bytearray(saved(PICTURE, "TGA")[:-26])
    assert recognise(bytes(data)) is formats.TGA
    data[at : at + 1] = bytes([value])
    if at in {12, 14}:
        data[at + 1] = 0  # a side of 0
    assert recognise(bytes(data)) is not formats.TGA


@given(st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
def test_random_bytes_and_texts_are_no_tga(data: bytes) -> None:
    assert recognise(data) is not formats.TGA


def test_a_fourth_channel_that_the_tga_header_denies_is_no_alpha() -> None:
    clear = saved(Image.new("RGBA", (4, 4), (255, 0, 0, 0)), "TGA")
    assert [one.code for one in decode_reference(clear, MAX_PX).warnings] == ["transparency_on_white"]
    without = bytearray(clear)
    without[17] &= 0xF0
    kept = decode_reference(bytes(without), MAX_PX)
    assert kept.warnings == ()
    assert np.asarray(Image.open(io.BytesIO(kept.png))).reshape(-1, 3).tolist() == [list(RED)] * 16


# ---- TIFF -------------------------------------------------------------------------------------------------------


def directory(data: bytes) -> dict[int, tuple[int, int, bytes]]:
    """Tag → type, count and the value's four bytes, of the first directory of a little-endian TIFF."""
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    entries = (struct.unpack_from("<HHI4s", data, at + 2 + 12 * index) for index in range(count))
    return {tag: (kind, many, value) for tag, kind, many, value in entries}


def changed(data: bytes, tag: int, value: bytes) -> bytes:
    """The same with another value of four bytes for a tag."""
    (at,) = struct.unpack_from("<I", data, 4)
    index = list(directory(data)).index(tag)
    start = at + 2 + 12 * index + 8
    return data[:start] + value + data[start + 4 :]


def test_only_what_the_pixels_need_is_left_of_a_tiff() -> None:
    exif = Image.Exif()
    exif[0x010F] = "secret camera"
    data = saved(PICTURE, "TIFF", exif=exif, description="secret words", save_all=True, append_images=[PICTURE] * 2)
    page = tiff.first_page(data)
    assert page.several
    assert {0x010F, 0x010E} <= directory(data).keys() and not {0x010F, 0x010E} & directory(page.data).keys()
    assert Image.open(io.BytesIO(page.data)).n_frames == 1
    assert not tiff.first_page(saved(PICTURE, "TIFF")).several


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_by_hand_of_either_byte_order_and_depth(order: str, bits: int) -> None:
    ramp = np.arange(256).reshape(16, 16)
    samples = ramp.astype("u1") if bits == 8 else (ramp * 256 + 255 - ramp).astype(f"{order}u2")
    tags = [(256, 16), (257, 16), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1), (278, 16), (279, samples.nbytes)]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + samples.nbytes)
    entries = b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in tags)
    data = head + samples.tobytes() + struct.pack(order + "H", len(tags)) + entries + bytes(4)
    kept = Image.open(io.BytesIO(decode_reference(data, MAX_PX).png))
    assert np.asarray(kept)[..., 0].ravel().tolist() == list(range(256))


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("no directory", b"II*\0\x08\0\0\0"),
        ("a directory beyond the end", b"II*\0\xff\xff\0\0" + bytes(40)),
        ("no entries", b"II*\0\x08\0\0\0\0\0" + bytes(40)),
        ("too many entries", b"II*\0\x08\0\0\0\xff\xff" + bytes(70_000 * 12)),
        ("strips beyond the end", changed(saved(PICTURE, "TIFF"), 273, struct.pack("<I", 9_999_999))),
        ("far too many values", tiff_with_long_tags(1_100)),
        ("a value beyond the end", changed(saved(PICTURE, "TIFF"), 258, struct.pack("<I", 9_999_999))),
    ],
)
def test_a_damaged_tiff_is_refused(what: str, data: bytes) -> None:
    assert "damaged or cut off (TIFF)" in refused(data), what


def test_a_tile_far_larger_than_its_picture_is_refused() -> None:
    tags = [(256, 9), (257, 9), (258, 8), (259, 1), (262, 1), (277, 1)]
    tags += [(322, 65_536), (323, 65_536), (324, 8), (325, 64)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    data = b"II*\0" + struct.pack("<I", 72) + bytes(64) + struct.pack("<H", len(tags)) + entries + bytes(4)
    assert "damaged or cut off (TIFF)" in refused(data)


def test_a_profile_of_a_tiff_that_is_cut_off_is_dropped() -> None:
    data = saved(PICTURE, "TIFF", icc_profile=bytes(500))
    kept = decode_reference(changed(data, 34675, struct.pack("<I", 9_999_999)), MAX_PX)
    assert [one.code for one in kept.warnings] == ["colour_profile_dropped"]


# ---- icons ------------------------------------------------------------------------------------------------------


def icon(*pictures: bytes, said: tuple[int, int] = (16, 16)) -> bytes:
    """An ICO whose directory says that each picture has the same size."""
    at, entries = 6 + 16 * len(pictures), b""
    for picture in pictures:
        entries += struct.pack("<BBBBHHII", *said, 0, 0, 1, 32, len(picture), at)
        at += len(picture)
    return struct.pack("<HHH", 0, 1, len(pictures)) + entries + b"".join(pictures)


def test_the_largest_picture_of_an_icon_is_used() -> None:
    small, large = (saved(Image.new("RGB", (side, side), colour), "PNG") for side, colour in ((16, RED), (64, BLUE)))
    for order in ((small, large), (large, small), (b"", large), (small[:30], large, bytes(60))):
        kept = decode_reference(icon(*order), MAX_PX)
        assert (kept.width, kept.height, kept.warnings) == (64, 64, ())
        assert Image.open(io.BytesIO(kept.png)).getpixel((9, 9)) == BLUE


def test_a_large_png_in_an_icon_is_held_to_the_caps() -> None:
    large = icon(saved(Image.new("1", (100, 50)), "PNG"))
    assert decode_reference(large, 5000).width == 100
    assert "is 100x50 pixels; at most 4999" in refused(large, 4999)


@pytest.mark.parametrize(
    "data", [icon(b""), icon(bytes(60)), icon(saved(PICTURE, "PNG"))[:20], icon(b"\x89PNG\r\n\x1a\n")]
)
def test_an_icon_without_a_picture_is_refused(data: bytes) -> None:
    assert "damaged or cut off" in refused(data)


@settings(max_examples=300, deadline=None)
@given(st.data())
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_tiffs_and_icons_are_cut_down_or_refused(data: st.DataObject) -> None:
    name, whole = data.draw(st.sampled_from([one for one in DECODED if one[0] in {"TIFF", "an icon (ICO, CUR)"}]))
    broken = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 6))):
        broken[data.draw(st.integers(4, min(len(broken) - 1, 300)))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError, struct.error):  # which references.py turns into a sentence
        (tiff.first_page if name == "TIFF" else icons.largest)(bytes(broken))
