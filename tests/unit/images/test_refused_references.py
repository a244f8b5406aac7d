"""Untrusted files that cannot be read or are too large: refused with a sentence and without much memory."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pictures
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import MAX_PX, OPAQUE, WHITE, assert_close, png_16bit, quarters, refused, saved
from PIL import Image

from imagegen.images.convert import convert
from imagegen.images.masks import decode_mask
from imagegen.images.pixels import MAX_SIDE_PX
from imagegen.images.references import decode_reference
from imagegen.schemas import Refused


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "empty"),
        (b"\0", "not a picture"),
        (b"hello, this is text" * 100, "not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\xef\xbb\xbf \n<?xml version='1.0'?><svg/>", "SVG"),
        (b"%PDF-1.7\n", "PDF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
        (b"\xff\xd8\xff\xe0", "damaged"),
        (b"GIF89a", "damaged"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "damaged"),
    ],
)
def test_what_is_no_picture_of_ours_is_refused_by_name(data, word):
    assert word in refused(data)


@pytest.mark.parametrize(("format", "mode", "options", "tolerance"), OPAQUE)
def test_a_cut_off_picture_is_refused_wherever_it_is_cut(format, mode, options, tolerance):
    rng = np.random.default_rng(3)
    noise = Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).convert(mode)
    data = saved(noise, format, **options)
    for percent in (1, 5, 20, 50, 80, 90):  # the last 20 bytes of a PNG hold no pixels
        refused(data[: len(data) * percent // 100])


def test_a_decoder_may_raise_what_it_likes():
    """Pillow raises SyntaxError for a chunk that cannot be one among the pixels."""
    whole = png_16bit(2, np.random.default_rng(4).integers(0, 65536, (16, 16, 3)))
    pixels_at = whole.index(b"IDAT") - 4
    half = whole[pixels_at + 8 : -12 - 4][:50]
    idat = struct.pack(">I", len(half)) + b"IDAT" + half + struct.pack(">I", zlib.crc32(b"IDAT" + half))
    broken = whole[:pixels_at] + idat + b"\0\0\0\4\1\2\3\4abcd" + whole[-12:]
    with pytest.raises(Refused, match="damaged") as caught:
        decode_reference(broken, MAX_PX)
    assert isinstance(caught.value.__cause__, SyntaxError)


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises much and holds next to nothing."""
    one = saved(Image.new("L", (1, 1)), "PNG")
    ihdr = b"IHDR" + struct.pack(">II", width, height) + one[24:29]
    return one[:12] + ihdr + struct.pack(">I", zlib.crc32(ihdr)) + one[33:]


def patched(data: bytes, at: int, replacement: bytes) -> bytes:
    return data[:at] + replacement + data[at + len(replacement) :]


def webp_header(width: int, height: int) -> bytes:
    bits = (width - 1) | (height - 1) << 14
    return patched(saved(quarters(), "WEBP", lossless=True), 21, struct.pack("<I", bits))


def jpeg_header(width: int, height: int) -> bytes:
    jpeg = saved(quarters(), "JPEG")
    return patched(jpeg, jpeg.index(b"\xff\xc0") + 5, struct.pack(">HH", height, width))


def gif_header(width: int, height: int) -> bytes:
    return patched(saved(quarters(), "GIF"), 6, struct.pack("<HH", width, height))


def bmp_header(width: int, height: int) -> bytes:
    return patched(saved(quarters(), "BMP"), 18, struct.pack("<ii", width, height))


def tiff_header(width: int, height: int) -> bytes:
    tiff = saved(quarters(), "TIFF")
    for tag, value in ((256, width), (257, height)):
        at = tiff.index(struct.pack("<HHI", tag, 4, 1))
        tiff = patched(tiff, at + 8, struct.pack("<I", value))
    return tiff


def avif_header(width: int, height: int) -> bytes:
    avif = saved(quarters(), "AVIF")
    return patched(avif, avif.index(b"ispe") + 8, struct.pack(">II", width, height))


def tga_header(width: int, height: int) -> bytes:
    return patched(saved(quarters(), "TGA", compression="tga_rle"), 12, struct.pack("<HH", width, height))


BOMBS = [
    (png_header, 6325, 6325),  # just over 40 Mpx
    (png_header, 10_000, 10_000),  # where Pillow only warns
    (png_header, 50_000, 50_000),  # where Pillow raises
    (png_header, 2**31 - 1, 2**31 - 1),
    (jpeg_header, 65_500, 65_500),
    (jpeg_header, 9_000, 9_000),
    (gif_header, 65_535, 65_535),
    (gif_header, 9_000, 9_000),
    (bmp_header, 100_000, 100_000),
    (bmp_header, 9_000, 9_000),
    (webp_header, 16_383, 16_383),
    (webp_header, 9_000, 9_000),
    (tiff_header, 100_000, 100_000),
    (tiff_header, 9_000, 9_000),
    (avif_header, 9_000, 9_000),
    (tga_header, 65_535, 65_535),
    (tga_header, 9_000, 9_000),
]


@pytest.mark.parametrize(("make", "width", "height"), BOMBS)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_of_too_many_pixels_is_refused(make, width, height):
    assert f"{MAX_PX}" in refused(make(width, height))


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
def test_pillows_warning_as_an_exception_is_the_same_refusal():
    assert f"{MAX_PX}" in refused(png_header(10_000, 10_000))


@pytest.mark.parametrize("decode", [decode_reference, decode_mask])
@pytest.mark.parametrize(
    ("make", "width", "height"),
    [
        (png_header, 1, 40_000_000),
        (png_header, 40_000_000, 1),
        (png_header, 1, 4_200_000),
        (png_header, MAX_SIDE_PX + 1, 2),
        (bmp_header, 2, MAX_SIDE_PX + 1),
        (jpeg_header, 65_500, 1),
        (gif_header, 40, 65_535),
        (tiff_header, 70_000, 2),
        (avif_header, 16_384, 1),
        (tga_header, 1, 20_000),
    ],
)
def test_a_side_that_webp_cannot_hold_is_refused_from_the_header(decode, make, width, height):
    with pytest.raises(Refused) as caught:
        decode(make(width, height), MAX_PX)
    assert (caught.value.status, caught.value.code) == (422, "bad_image")
    assert f"is {width}x{height} pixels; a side may have at most {MAX_SIDE_PX} pixels" in caught.value.detail


@pytest.mark.parametrize("size", [(MAX_SIDE_PX, 1), (1, MAX_SIDE_PX), (MAX_SIDE_PX, 700), (3, MAX_SIDE_PX)], ids=str)
@pytest.mark.parametrize("kept_px", [None, 4 * 1024 * 1024], ids=["whole", "reduced"])
def test_a_picture_that_is_kept_can_be_served_in_every_format(size, kept_px):
    image = Image.new("RGB", size, "red")
    kept = decode_reference(saved(image, "PNG"), MAX_PX, kept_px)
    mask = decode_mask(saved(image, "PNG"), MAX_PX)
    for stored in (kept, mask):
        for format in ("png", "jpeg", "webp"):
            for width in (None, 16):
                file = convert(stored.png, format, width)
                wide = stored.width if width is None else min(width, stored.width)
                assert Image.open(io.BytesIO(file)).size[0] == wide


def test_a_lack_of_memory_after_decoding_is_a_refusal_too(monkeypatch):
    def without_memory(*_given):
        raise MemoryError

    monkeypatch.setattr("imagegen.images.references.resized", without_memory)
    with pytest.raises(Refused) as caught:
        decode_reference(saved(Image.new("RGB", (100, 100)), "PNG"), MAX_PX, 50)
    assert (caught.value.code, "not enough memory" in caught.value.detail) == ("bad_image", True)


def test_the_limit_itself_is_allowed():
    data = saved(Image.new("1", (100, 50)), "PNG")
    assert decode_reference(data, 5000).width == 100
    assert "100x50" in refused(data, 4999)


def white_png(side: int) -> bytes:
    """A real bomb: side x side white pixels of one bit, compressed a thousandfold."""
    packer, row = zlib.compressobj(), b"\0" + b"\xff" * ((side + 7) // 8)
    rows = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = png_header(side, side)
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    header = header[:12] + ihdr + struct.pack(">I", zlib.crc32(ihdr))
    idat = struct.pack(">I", len(rows)) + b"IDAT" + rows + struct.pack(">I", zlib.crc32(b"IDAT" + rows))
    return header + idat + b"\0\0\0\0IEND\xaeB`\x82"


def test_the_real_bomb_is_a_picture_where_it_is_small_enough():
    assert_close(decode_reference(white_png(100), MAX_PX).png, Image.new("RGB", (100, 100), WHITE), 0)


MEASURE = """
import resource, sys
from pathlib import Path
sys.path[:0] = sys.argv[1:]
import pictures
import test_refused_references as t

def peak_bytes():
    status = Path("/proc/self/status")  # Linux's ru_maxrss begins with what the parent had
    if status.exists():
        return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

bombs = [t.white_png(20_000), pictures.tiff_with_long_tags(2_000_000)]
bombs += [make(width, height) for make, width, height in t.BOMBS]
for format in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "TGA", "ICO"):
    t.decode_reference(t.saved(t.quarters(), format), t.MAX_PX)
at_rest = peak_bytes()
for bomb in bombs:
    t.refused(bomb)
after_bombs = peak_bytes()
t.decode_reference(t.white_png(3_200), t.MAX_PX)
print(after_bombs - at_rest, peak_bytes() - at_rest)
"""


def test_refusing_bombs_takes_no_memory():
    """400 Mpx of real white, tags of 2 MB and every header above: refused within less memory than 10 Mpx take."""
    folders = [str(Path(file).parent) for file in (__file__, str(pictures.__file__))]
    command = [sys.executable, "-W", "ignore", "-c", MEASURE, *folders]
    measured = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert measured.returncode == 0, measured.stderr
    bombs_bytes, decoding_bytes = map(int, measured.stdout.split())
    assert bombs_bytes < 15_000_000
    assert decoding_bytes > 30_000_000  # the measure sees what it should


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_bytes_are_decoded_or_refused_and_nothing_else(data):
    format, mode, options, _ = data.draw(st.sampled_from(OPAQUE))
    whole = bytearray(saved(quarters().convert(mode), format, **options))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        reference = decode_reference(bytes(whole), 100_000)
    except Refused as refusal:
        assert refusal.code == "bad_image"
    else:
        assert reference.width * reference.height <= 100_000


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data):
    refused(data)
