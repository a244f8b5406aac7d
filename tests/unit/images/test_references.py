"""Strangers' bytes: what is read comes out right, and what is not is refused with a sentence, cheaply."""

from __future__ import annotations

import base64
import io
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms, ImageOps

from imagegen.images import references
from imagegen.images.convert import convert
from imagegen.images.masks import decode_mask
from imagegen.images.pixels import MAX_SIDE_PX
from imagegen.images.references import decode_reference, parse_data_url
from imagegen.schemas import Refused

MAX_PX = 40_000_000
RED, GREEN, BLUE, YELLOW, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 255, 255)


def quarters(width: int = 32, height: int = 24) -> Image.Image:
    """Red and green over blue and yellow: no turn or mirror image of it is the same."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    image.paste(YELLOW, (width // 2, height // 2, width, height))
    return image


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def pixels(png: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(png), formats=["PNG"])
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def assert_close(png: bytes, expected: Image.Image, tolerance: int) -> None:
    """Equal everywhere, or, for lossy files, where no edge of `quarters` bleeds into its neighbours."""
    difference = np.abs(pixels(png) - np.asarray(expected.convert("RGB")).astype(int))
    assert (difference if tolerance == 0 else difference[3::6, 4::8]).max() <= tolerance


def png_16bit(colour_type: int, samples: np.ndarray, transparent: tuple[int, ...] = ()) -> bytes:
    """A PNG of 16 bits a channel, which Pillow cannot write: samples (height, width, channels)."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width, _ = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    trns = chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)) if transparent else b""
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + trns + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def refused(data: bytes, max_px: int = MAX_PX) -> str:
    with pytest.raises(Refused) as caught:
        decode_reference(data, max_px)
    assert (caught.value.status, caught.value.code) == (422, "bad_image")
    return caught.value.detail


# ---- what is read -----------------------------------------------------------------------------------------

OPAQUE = [
    ("PNG", "RGB", {}, 0),
    ("PNG", "P", {}, 0),
    ("PNG", "L", {}, 0),
    ("PNG", "1", {}, 0),
    ("JPEG", "RGB", {"quality": 95, "subsampling": 0}, 12),
    ("JPEG", "RGB", {"quality": 95, "subsampling": 0, "progressive": True}, 12),
    ("JPEG", "L", {"quality": 95}, 12),
    ("JPEG", "CMYK", {"quality": 95}, 12),
    ("WEBP", "RGB", {"lossless": True}, 0),
    ("WEBP", "RGB", {"quality": 95}, 12),
    ("GIF", "P", {}, 0),
    ("GIF", "L", {}, 0),
    ("BMP", "RGB", {}, 0),
    ("BMP", "P", {}, 0),
    ("BMP", "L", {}, 0),
    ("BMP", "1", {}, 0),
    ("AVIF", "RGB", {"quality": 90, "subsampling": "4:4:4"}, 12),
    ("TIFF", "RGB", {}, 0),
    ("TIFF", "RGB", {"compression": "tiff_lzw"}, 0),
    ("TIFF", "RGB", {"compression": "tiff_adobe_deflate"}, 0),
    ("TIFF", "CMYK", {"compression": "packbits"}, 0),
    ("TIFF", "P", {}, 0),
    ("TIFF", "L", {"compression": "tiff_lzw"}, 0),
    ("TIFF", "1", {}, 0),
    ("TGA", "RGB", {}, 0),
    ("TGA", "RGB", {"compression": "tga_rle"}, 0),
    ("TGA", "P", {}, 0),
    ("TGA", "L", {"compression": "tga_rle"}, 0),
    ("ICO", "RGB", {"sizes": [(32, 24)]}, 0),
    ("ICO", "RGB", {"sizes": [(32, 24)], "bitmap_format": "bmp"}, 0),
]


@pytest.mark.parametrize(("format", "mode", "options", "tolerance"), OPAQUE)
def test_every_accepted_format_becomes_the_same_picture_in_rgb(format, mode, options, tolerance):
    original = quarters().convert(mode)
    reference = decode_reference(saved(original, format, **options), MAX_PX)
    assert (reference.width, reference.height) == original.size
    assert reference.warnings == ()
    assert_close(reference.png, original, tolerance)


@pytest.mark.parametrize(
    ("format", "mode", "options"),
    [
        ("PNG", "RGBA", {}),
        ("PNG", "LA", {}),
        ("WEBP", "RGBA", {"lossless": True}),
        ("PNG", "PA", {}),
        ("TIFF", "RGBA", {}),
        ("TIFF", "LA", {"compression": "tiff_lzw"}),
        ("TGA", "RGBA", {"compression": "tga_rle"}),
        ("TGA", "LA", {}),
        ("AVIF", "RGBA", {"quality": 100, "subsampling": "4:4:4"}),
        ("ICO", "RGBA", {"sizes": [(3, 1)]}),
        ("ICO", "RGBA", {"sizes": [(3, 1)], "bitmap_format": "bmp"}),
    ],
)
def test_transparent_parts_become_white_and_half_transparent_half_white(format, mode, options):
    original = Image.new("RGBA", (3, 1), (0, 0, 0, 255))
    original.putpixel((1, 0), (0, 0, 0, 0))
    if mode != "PA":
        original.putpixel((2, 0), (0, 0, 0, 128))
    image = original.convert(mode) if mode != "PA" else original.quantize(4)
    reference = decode_reference(saved(image, format, **options), MAX_PX)
    assert [warning.code for warning in reference.warnings] == ["transparency_on_white"]
    expected = [0, 255, 127] if mode != "PA" else [0, 255, 0]
    assert pixels(reference.png)[0, :, 0].tolist() == pytest.approx(expected, abs=1)


def test_an_alpha_channel_that_hides_nothing_is_dropped_without_a_warning():
    reference = decode_reference(saved(quarters().convert("RGBA"), "PNG"), MAX_PX)
    assert reference.warnings == ()
    assert_close(reference.png, quarters(), 0)


def test_a_transparent_gif_lies_on_white():
    image = Image.new("P", (2, 1), 0)
    image.putpalette([*RED, *GREEN])
    image.putpixel((1, 0), 1)
    reference = decode_reference(saved(image, "GIF", transparency=0), MAX_PX)
    assert pixels(reference.png)[0].tolist() == [list(WHITE), list(GREEN)]


@pytest.mark.parametrize(
    ("format", "options"),
    [("GIF", {}), ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("AVIF", {"quality": 100})],
)
def test_only_the_first_frame_of_an_animation_is_used_and_that_is_said(format, options):
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, GREEN, BLUE)]
    data = saved(frames[0], format, save_all=True, append_images=frames[1:], duration=100, **options)
    reference = decode_reference(data, MAX_PX)
    assert [warning.code for warning in reference.warnings] == ["first_frame_only"]
    assert np.abs(pixels(reference.png) - RED).max() <= (4 if format == "AVIF" else 0)


# 0, 1, 2 … 255 in the high bytes, and something else in the low ones
RAMP = np.array([value * 256 + (255 - value) for value in range(256)], np.uint16).reshape(16, 16, 1)


@pytest.mark.parametrize(
    ("colour_type", "channels", "with_alpha"), [(0, 1, False), (2, 3, False), (4, 1, True), (6, 3, True)]
)
def test_16_bits_a_channel_are_scaled_and_not_clipped(colour_type, channels, with_alpha):
    samples = np.repeat(RAMP, channels, axis=2)
    if with_alpha:
        samples = np.concatenate([samples, np.full_like(RAMP, 65535)], axis=2)
    reference = decode_reference(png_16bit(colour_type, samples), MAX_PX)
    assert pixels(reference.png)[:, :, 0].ravel().tolist() == list(range(256))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_transparent_colour_of_a_16_bit_png_is_found(channels):
    samples = np.repeat(RAMP, channels, axis=2)
    second_darkest = (int(RAMP[0, 1, 0]),) * channels
    data = png_16bit(0 if channels == 1 else 2, samples, second_darkest)
    shown = pixels(decode_reference(data, MAX_PX).png)[:, :, 0].ravel().tolist()
    assert shown == [0, 255, *range(2, 256)]


def test_a_cameras_file_of_two_pictures_is_its_first_and_no_animation():
    data = saved(quarters(), "MPO", save_all=True, append_images=[Image.new("RGB", (32, 24))], quality=95)
    reference = decode_reference(data, MAX_PX)
    assert reference.warnings == ()
    assert_close(reference.png, quarters(), 12)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(format, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    fine = {"quality": 95, "subsampling": 0}
    options = {"WEBP": {"lossless": True}, "JPEG": fine, "AVIF": {"quality": 100, "subsampling": "4:4:4"}}
    data = saved(quarters(), format, exif=exif, **options.get(format, {}))
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    reference = decode_reference(data, MAX_PX)
    assert (reference.width, reference.height) == expected.size
    assert_close(reference.png, expected, 0)
    corner = pixels(reference.png)[0, 0].tolist()  # and not only by Pillow's own word:
    upright = {1: RED, 2: GREEN, 3: YELLOW, 4: BLUE, 5: RED, 6: BLUE, 7: YELLOW, 8: GREEN}
    assert corner == pytest.approx(upright[orientation], abs=12)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0garbage", b"II*\0\x08"])
def test_damaged_exif_does_not_stop_a_picture(exif):
    assert_close(decode_reference(saved(quarters(), "PNG", exif=exif), MAX_PX).png, quarters(), 0)


def test_metadata_of_the_original_does_not_reach_the_stored_file():
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "secret camera"
    data = saved(quarters(), "JPEG", exif=exif, comment=b"secret comment", icc_profile=icc_of("sRGB"))
    png = decode_reference(data, MAX_PX).png
    assert b"secret" not in png
    assert Image.open(io.BytesIO(png)).info == {}


def test_a_large_reference_is_reduced_on_request_and_its_shape_kept():
    reference = decode_reference(saved(quarters(400, 200), "PNG"), MAX_PX, keep_px=20_000)
    assert (reference.width, reference.height) == (200, 100)
    assert [warning.code for warning in reference.warnings] == ["reference_reduced"]
    assert "400x200 to 200x100" in reference.warnings[0].detail


# ---- colour profiles --------------------------------------------------------------------------------------


def icc_of(name: str) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()


def handmade_icc(space: bytes, gamma: float, primaries: tuple[bytes, ...] = ()) -> bytes:
    """A minimal ICC version 2 profile: gamma, and for RGB which colour each channel really is."""
    xyz = {b"r": (0.4361, 0.2225, 0.0139), b"g": (0.3851, 0.7169, 0.0971), b"b": (0.1431, 0.0606, 0.7141)}

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    description = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(4 + 4 + 2 + 1 + 67)
    tags = {b"desc": description, b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1.0, 0.8249)}
    if space == b"GRAY":
        tags[b"kTRC"] = curve
    for channel, primary in zip((b"r", b"g", b"b"), primaries, strict=False):
        tags[channel + b"XYZ"] = b"XYZ \0\0\0\0" + fixed(*xyz[primary])
        tags[channel + b"TRC"] = curve
    table, body = struct.pack(">I", len(tags)), b""
    at = 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">II", at + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    size = struct.pack(">I", at + len(body))
    version_class_space = b"\x02\x10\0\0" + b"mntr" + space + b"XYZ "
    header = size + bytes(4) + version_class_space + bytes(12) + b"acsp" + bytes(28) + fixed(0.9642, 1.0, 0.8249)
    return header.ljust(128, b"\0") + table + body


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_colours_are_converted_by_the_pictures_own_profile(format):
    """A profile that says "the first channel is green light and the second is red" must swap the two."""
    swapped = handmade_icc(b"RGB ", 2.2, (b"g", b"r", b"b"))
    reference = decode_reference(saved(Image.new("RGB", (8, 8), RED), format, icc_profile=swapped), MAX_PX)
    assert reference.warnings == ()
    assert pixels(reference.png)[4, 4].tolist() == pytest.approx(GREEN, abs=6)


def test_a_grey_profile_is_used_for_grey():
    linear = handmade_icc(b"GRAY", 1.0)
    reference = decode_reference(saved(Image.new("L", (8, 8), 55), "PNG", icc_profile=linear), MAX_PX)
    # 55/255 of the light is 1.055 * 0.2157 ** (1 / 2.4) - 0.055 = 0.502 in sRGB (IEC 61966-2-1)
    assert pixels(reference.png)[0, 0].tolist() == pytest.approx([128] * 3, abs=2)


def test_an_rgb_profile_in_a_grey_picture_is_used():
    linear = handmade_icc(b"RGB ", 1.0, (b"r", b"g", b"b"))
    reference = decode_reference(saved(Image.new("L", (8, 8), 55), "PNG", icc_profile=linear), MAX_PX)
    assert pixels(reference.png)[0, 0].tolist() == pytest.approx([128] * 3, abs=2)


def test_an_srgb_picture_keeps_its_pixels_exactly():
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    reference = decode_reference(saved(noise, "PNG", icc_profile=icc_of("sRGB")), MAX_PX)
    assert_close(reference.png, noise, 0)


@pytest.mark.parametrize(
    ("what", "profile"),
    [
        ("garbage", b"not a profile at all"),
        ("cut off", handmade_icc(b"RGB ", 2.2, (b"r", b"g", b"b"))[:200]),
        ("of another colour space", handmade_icc(b"GRAY", 1.0)),
        ("of no picture's space", icc_of("LAB")),
    ],
)
def test_a_profile_that_does_not_fit_is_dropped_and_that_is_said(what, profile):
    reference = decode_reference(saved(quarters(), "PNG", icc_profile=profile), MAX_PX)
    assert [warning.code for warning in reference.warnings] == ["colour_profile_dropped"]
    assert_close(reference.png, quarters(), 0)


# ---- what is refused --------------------------------------------------------------------------------------


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
    whole = png_16bit(2, np.repeat(RAMP, 3, axis=2))
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
sys.path.insert(0, sys.argv[1])
import test_references as t

def peak_bytes():
    status = Path("/proc/self/status")  # Linux's ru_maxrss begins with what the parent had
    if status.exists():
        return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

bombs = [t.white_png(20_000), *(make(width, height) for make, width, height in t.BOMBS)]
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
    """400 Mpx of real white, and every header above, refused within less memory than 10 Mpx take to decode."""
    command = [sys.executable, "-W", "ignore", "-c", MEASURE, str(Path(__file__).parent)]
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


# ---- several at once --------------------------------------------------------------------------------------


def test_large_pictures_take_turns_and_small_ones_do_not_wait(monkeypatch):
    entered = []

    class Turn:
        def __enter__(self):
            entered.append(True)

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(references, "_large", Turn())
    monkeypatch.setattr(references, "_LARGE_PX", 32 * 24)
    decode_reference(saved(quarters(32, 24), "PNG"), MAX_PX)
    assert entered == []
    decode_reference(saved(quarters(33, 24), "PNG"), MAX_PX)
    assert entered == [True]


def test_many_threads_decode_the_same_picture_the_same_way(monkeypatch):
    monkeypatch.setattr(references, "_LARGE_PX", 100)  # so that they take turns
    data = saved(quarters(), "JPEG", icc_profile=handmade_icc(b"RGB ", 1.8, (b"r", b"g", b"b")))
    seen: list[str] = []
    threads = [threading.Thread(target=lambda: seen.append(decode_reference(data, MAX_PX).sha256)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(seen) == 8
    assert len(set(seen)) == 1


# ---- masks ------------------------------------------------------------------------------------------------


def test_a_mask_without_transparency_is_its_own_brightness():
    mask = Image.new("L", (2, 1), 0)
    mask.putpixel((1, 0), 255)
    for image in (mask, mask.convert("RGB"), mask.convert("1"), mask.convert("RGBA")):
        assert pixels(decode_mask(saved(image, "PNG"), MAX_PX).png)[0, :, 0].tolist() == [0, 255]


def test_a_mask_with_transparency_is_white_where_it_is_transparent():
    hole = quarters(4, 2).convert("RGBA")
    hole.putpixel((3, 1), (255, 255, 0, 0))
    shown = pixels(decode_mask(saved(hole, "PNG"), MAX_PX).png)[:, :, 0]
    assert shown.tolist() == [[0, 0, 0, 0], [0, 0, 0, 255]]


def test_a_mask_that_is_no_picture_is_refused():
    with pytest.raises(Refused):
        decode_mask(b"no", MAX_PX)


# ---- data URLs --------------------------------------------------------------------------------------------


@given(st.binary(max_size=300), st.sampled_from(["png", "jpeg", "webp", "PNG", "svg+xml", "png;name=a.png"]))
def test_a_data_url_gives_its_bytes(data, subtype):
    assert parse_data_url(f"data:image/{subtype};base64,{base64.b64encode(data).decode()}", 300) == data


@pytest.mark.parametrize(
    "text",
    [
        "",
        "data:",
        "data:image/png;base64",
        "data:image/png,AAAA",
        "data:text/plain;base64,AAAA",
        "data:application/png;base64,AAAA",
        "https://example.com/cat.png",
        "image/png;base64,AAAA",
        "data:image/png;base64,AAA",
        "data:image/png;base64,AAAA=",
        "data:image/png;base64,AAAA==",
        "data:image/png;base64,AAAA====",
        "data:image/png;base64,====",
        "data:image/png;base64,AA=A",
        "data:image/png;base64,=AAA",
        "data:image/png;base64,AA AA",
        "data:image/png;base64,AAAA\n",
        "data:image/png;base64, AAAA",
        "data:image/png;base64,AA-_",
        "data:image/png;base64,AAAA-_-_",
        "data:image/png;base64,AAAA    ",
        "data:image/png;base64,AA%2B",
        "data:image/png;base64,ÄÄÄÄ",
        "data:image/png;base64,AAAA\0",
        "data:image/png;base64,\ud800AAA",
        "data:image/" + "x" * 300 + ";base64,AAAA",
    ],
)
def test_a_data_url_that_is_not_one_is_refused(text):
    with pytest.raises(Refused) as caught:
        parse_data_url(text, 1000)
    assert (caught.value.status, caught.value.code) == (422, "bad_image")


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 6, 7])
def test_a_data_url_is_held_to_its_size_to_the_byte(size):
    text = "data:image/png;base64," + base64.b64encode(bytes(size)).decode()
    assert parse_data_url(text, size) == bytes(size)
    if size:
        with pytest.raises(Refused, match=f"{size - 1} bytes"):
            parse_data_url(text, size - 1)


def test_a_data_url_that_is_too_long_is_not_even_decoded(monkeypatch):
    monkeypatch.delattr(references.binascii, "a2b_base64")
    with pytest.raises(Refused, match="larger than the 1000 bytes"):
        parse_data_url("data:image/png;base64," + "A" * 2000, 1000)
