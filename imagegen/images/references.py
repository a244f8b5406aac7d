"""A stranger's bytes become a picture to start from, or a sentence that says why not.

Pillow tries only the decoder that `formats` names for a file, sees no more than the header of a picture that is too
large, and may raise whatever it likes. Every function is synchronous and may be called from several threads at once.
"""

from __future__ import annotations

import binascii
import contextlib
import hashlib
import io
import math
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import ExifTags, Image, ImageChops, ImageCms, ImageFile

from imagegen.images import formats, icons, tiff
from imagegen.images.formats import Format
from imagegen.images.metadata import readable
from imagegen.images.pixels import MAX_SIDE_PX, on_white, resized, rgb, rgb_png, split_alpha
from imagegen.schemas import Refused, Warn

_SEND = "Send a PNG, JPEG, WebP, AVIF, GIF, BMP, TIFF, TGA or ICO file."
_TGA_DESCRIPTOR = 17
"""The byte of TGA's header whose low half is the number of alpha bits."""

# Decoding takes up to 22 bytes of memory a pixel, 0.9 GB for 40 Mpx: above this size, one at a time.
_LARGE_PX = 8_000_000
_large = threading.Lock()

_PROFILE_DROPPED = Warn(
    code="colour_profile_dropped",
    detail="The picture's colour profile could not be used; its colours may look slightly different.",
)
_ON_WHITE = Warn(code="transparency_on_white", detail="Transparent parts of the picture were laid on white.")
_FIRST_FRAME = Warn(code="first_frame_only", detail="The picture has several frames or pages; only the first is used.")

# What EXIF's orientation (CIPA DC-008, tag 274) says must be done to see the picture upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Reference:
    """A picture to start from: an RGB PNG without metadata.

    width, height in pixels; sha256 of `png` as 64 hex digits; warnings: what its owner may not expect.
    """

    png: bytes
    width: int
    height: int
    sha256: str
    warnings: tuple[Warn, ...]


def decode_reference(data: bytes, max_px: int, keep_px: int | None = None) -> Reference:
    """A stranger's picture file as an upright sRGB PNG, 8 bits a channel, on white where it was transparent.

    Reads the formats that `formats` gives a decoder, the first frame or page of those that have several, and the
    largest picture of an icon. Colour profiles are converted to sRGB; all other metadata (place, camera, text) is
    dropped.
    max_px: refused above, from the header, before anything is decoded; so is a side longer than MAX_SIDE_PX.
    keep_px: reduced to this area above.
    Raises Refused(422, bad_image).
    """
    with _decoded(data, max_px) as picture:
        flat = _in_srgb(picture)
        if picture.alpha is not None:
            flat = on_white(flat, picture.alpha)
            picture.warnings.append(_ON_WHITE)
        if keep_px is not None and flat.width * flat.height > keep_px:
            scale = math.sqrt(keep_px / (flat.width * flat.height))
            size = max(1, math.floor(flat.width * scale)), max(1, math.floor(flat.height * scale))
            detail = f"The picture was reduced from {flat.width}x{flat.height} to {size[0]}x{size[1]} pixels."
            picture.warnings.append(Warn(code="reference_reduced", detail=detail))
            flat = resized(flat, size)
        return _reference(flat, picture)


def decode_mask(data: bytes, max_px: int) -> Reference:
    """A stranger's mask as an upright grey picture in an RGB PNG: white where the picture may change.

    A mask with transparency is read as OpenAI's API reads it (transparent: may change); without, white may
    change. Formats, limits and errors are those of `decode_reference`.
    """
    with _decoded(data, max_px) as picture:
        mask = picture.colour.convert("L") if picture.alpha is None else ImageChops.invert(picture.alpha)
        return _reference(mask.convert("RGB"), picture)


def parse_data_url(text: str, max_bytes: int) -> bytes:
    """The bytes of a `data:image/…;base64,…` URL, strictly: no spaces, no other alphabet, right padding.

    Raises Refused(422, bad_image), before decoding where the text alone is too long for `max_bytes`.
    """
    head, comma, payload = text[:256].partition(",")
    scheme, _, parameters = head.partition(";")
    if not comma or not scheme.lower().startswith("data:image/") or not parameters.lower().endswith("base64"):
        raise _refused("A picture in JSON is a stored picture's id, or a URL like data:image/png;base64,…")
    payload = text[len(head) + 1 :]
    too_long = f"The picture is larger than the {max_bytes} bytes that are taken; send a smaller file."
    if len(payload) > (max_bytes + 2) // 3 * 4:
        raise _refused(too_long)
    try:
        if len(payload) % 4 or payload.endswith("==="):  # strict_mode lets superfluous padding pass
            raise ValueError("wrong padding")
        data = binascii.a2b_base64(payload.encode("ascii"), strict_mode=True)
    except ValueError:  # which binascii.Error and UnicodeEncodeError are
        detail = "The data URL's base64 is damaged; use the standard alphabet, padded, in one line."
        raise _refused(detail) from None
    if len(data) > max_bytes:
        raise _refused(too_long)
    return data


def _refused(detail: str) -> Refused:
    return Refused(422, "bad_image", detail)


@dataclass(frozen=True)
class _Decoded:
    """A stranger's picture in modes that hold no surprise."""

    colour: Image.Image  # L, RGB or CMYK
    alpha: Image.Image | None  # L; None if nothing is transparent
    icc: bytes | None
    turn: int  # EXIF's orientation, not yet applied
    warnings: list[Warn]


@contextlib.contextmanager
def _decoded(data: bytes, max_px: int) -> Iterator[_Decoded]:
    """The picture, its first frame decoded; while it is a large one, the only large one.

    Lack of memory, here or in the block, is Refused(422, bad_image).
    """
    with _enough_memory():
        file = _readable(data)
    image = _header(file, max_px)
    with _enough_memory(), _large if _px(image) > _LARGE_PX else contextlib.nullcontext():
        try:
            several = file.several or (image.format != "MPO" and getattr(image, "is_animated", False))
            image.load()
            colour, alpha = split_alpha(image)
        except MemoryError:
            raise
        except Exception as broken:  # a decoder may raise anything on bad input
            raise _damaged(file.format) from broken
        if file.format is formats.TGA and not data[_TGA_DESCRIPTOR] & 0x0F:
            alpha = None  # the header says that the fourth channel is none
        if alpha is not None and alpha.getextrema() == (255, 255):
            alpha = None
        picture = _Decoded(colour, alpha, image.info.get("icc_profile"), _orientation(image), [])
        if file.profile_dropped:
            picture.warnings.append(_PROFILE_DROPPED)
        if several:
            picture.warnings.append(_FIRST_FRAME)
        del image  # the decoder's own copy of the pixels is not needed any more
        yield picture


@contextlib.contextmanager
def _enough_memory() -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise _refused("There is not enough memory for this picture now; send a smaller one.") from None


def _reference(flat: Image.Image, picture: _Decoded) -> Reference:
    image = flat.transpose(_UPRIGHT[picture.turn]) if picture.turn in _UPRIGHT else flat
    png = rgb_png(image)
    return Reference(png, image.width, image.height, hashlib.sha256(png).hexdigest(), tuple(picture.warnings))


@dataclass(frozen=True)
class _File:
    """A file that one of Pillow's decoders may read. several: it has more pages than the first."""

    data: bytes
    format: Format
    profile_dropped: bool = False
    several: bool = False


def _readable(data: bytes) -> _File:
    """The file without what its picture does not need. Raises Refused if it is of no kind that is decoded."""
    if not data:
        raise _refused(f"The picture is empty (0 bytes). {_SEND}")
    found = formats.recognise(data)
    if found is None:
        raise _refused(f"The file is not a picture of a known format. {_SEND}")
    if found.pillow is None:
        raise _not_read(found)
    try:
        if found is formats.ICON:
            data = icons.largest(data)
            found = formats.recognise(data) or found
        elif found is formats.TIFF:
            page = tiff.first_page(data)
            return _File(page.data, found, page.profile_dropped, page.several)
    except tiff.NotRead as kind:
        raise _not_read(found, f" {kind}") from None
    except (ValueError, struct.error) as broken:
        raise _damaged(found) from broken
    plain = readable(data)
    return _File(plain.data, found, profile_dropped=plain.profile_dropped)


def _header(file: _File, max_px: int) -> ImageFile.ImageFile:
    """The picture with only its header read, and its size found acceptable."""
    assert file.format.pillow is not None
    try:
        image = Image.open(io.BytesIO(file.data), formats=[file.format.pillow])
    # Pillow's own limits lie above ours. Its warning is an exception only where the process wants it to be.
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _refused(f"The picture has far more than the {max_px} pixels that are taken.") from None
    except Exception as broken:
        if file.format is formats.TIFF:  # its directory is sound: Pillow does not know this combination of tags
            raise _not_read(file.format, " of a kind that is not read") from broken
        raise _damaged(file.format) from broken
    if _px(image) > max_px:
        image.close()
        size = f"{image.width}x{image.height} pixels"
        raise _refused(f"The picture is {size}; at most {max_px} are taken in all. Send a smaller one.")
    if max(image.size) > MAX_SIDE_PX:
        image.close()
        size = f"{image.width}x{image.height} pixels"
        raise _refused(f"The picture is {size}; a side may have at most {MAX_SIDE_PX} pixels. Send a smaller picture.")
    return image


def _px(image: Image.Image) -> int:
    return image.width * image.height


def _damaged(found: Format) -> Refused:
    return _refused(f"The picture is damaged or cut off ({found.name}); save it anew and send it again.")


def _not_read(found: Format, kind: str = "") -> Refused:
    return _refused(f"The file is {found.name}{kind}: {found.advice}.")


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1, which is upright, where EXIF is absent or cannot be read."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # EXIF is a stranger's TIFF: its parser may raise anything
        return 1


def _in_srgb(picture: _Decoded) -> Image.Image:
    """The colours as sRGB: by the picture's own profile where it has one that fits, else as they are."""
    colour = picture.colour
    if not picture.icc:
        return rgb(colour)
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(picture.icc))
        space = profile.profile.xcolor_space.strip()
        if space == "RGB" and colour.mode == "L":
            colour = rgb(colour)
        if colour.mode != {"GRAY": "L"}.get(space, space):
            raise ValueError(f"a {space} profile in a {colour.mode} picture")
        if ImageCms.getProfileDescription(profile).startswith("sRGB"):
            return colour  # which saves the time of converting most pictures there are into themselves
        converted = ImageCms.profileToProfile(colour, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        picture.warnings.append(_PROFILE_DROPPED)
        return rgb(colour)
    assert converted is not None  # None is the answer of the in-place variant
    return converted
