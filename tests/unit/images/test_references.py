"""Untrusted pictures that can be read: their pixels, size, orientation, colours and warnings."""

from __future__ import annotations

import io
import struct
import threading

import numpy as np
import pytest
from pictures import BLUE, GREEN, MAX_PX, OPAQUE, RED, WHITE, YELLOW, assert_close, pixels, png_16bit, quarters, saved
from PIL import ExifTags, Image, ImageCms, ImageOps

from imagegen.images import references
from imagegen.images.masks import decode_mask
from imagegen.images.references import decode_reference
from imagegen.schemas import Refused


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


# ---- colour profiles ----------------------------------------------------------------------------------------


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


# ---- masks --------------------------------------------------------------------------------------------------


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


# ---- several at once ----------------------------------------------------------------------------------------


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
