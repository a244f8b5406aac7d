"""Decodes untrusted files into reference pictures, or refuses them with a reason.

Pillow tries only the decoder that `formats` names for a file, and reads only the header of a picture that is too
large. Any exception that Pillow raises becomes a refusal. Every function is synchronous and thread-safe.
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
from imagegen.images.png import with_mask
from imagegen.schemas import Refused, Warn

_SEND = "Send a PNG, JPEG, WebP, AVIF, GIF, BMP, TIFF, TGA or ICO file."
_TGA_DESCRIPTOR = 17
"""Offset of the TGA header byte whose low 4 bits are the number of alpha bits."""

# Pictures above this size are decoded one at a time: decoding takes up to 22 bytes a pixel, 0.9 GB for 40 Mpx.
_LARGE_PX = 8_000_000
_large = threading.Lock()

_PROFILE_DROPPED = Warn(
    code="colour_profile_dropped",
    detail="The picture's colour profile could not be used; its colours may look slightly different.",
)
ON_WHITE = Warn(code="transparency_on_white", detail="Transparent parts of the picture were laid on white.")
_FIRST_FRAME = Warn(code="first_frame_only", detail="The picture has several frames or pages; only the first is used.")

# The operation that turns a picture upright, by EXIF orientation (CIPA DC-008, tag 274).
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
    """A reference picture: an RGB PNG without metadata. A picture with transparency has its mask in the file (`masks`).

    width, height: pixels. sha256: of `png`, 64 hex digits. warnings: changes that the caller may not expect.
    """

    png: bytes
    width: int
    height: int
    sha256: str
    warnings: tuple[Warn, ...]


def decode_reference(data: bytes, max_px: int, keep_px: int | None = None) -> Reference:
    """Decode an untrusted picture file to an upright sRGB PNG, 8 bits a channel, with transparent parts on white.

    Reads the formats that have a decoder in `formats`: the first frame or page, and the largest picture of an icon.
    Converts colour profiles to sRGB and drops all other metadata (place, camera, text).

    max_px: a larger picture is refused by its header, before decoding. So is a side longer than MAX_SIDE_PX.
    keep_px: a larger picture is reduced to this area.
    Raises Refused(422, bad_image).
    """
    with _decoded(data, max_px) as picture:
        flat, mask = _in_srgb(picture), None
        if picture.alpha is not None:
            flat, mask = on_white(flat, picture.alpha), ImageChops.invert(picture.alpha)
            picture.warnings.append(ON_WHITE)
        if keep_px is not None and flat.width * flat.height > keep_px:
            scale = math.sqrt(keep_px / (flat.width * flat.height))
            size = max(1, math.floor(flat.width * scale)), max(1, math.floor(flat.height * scale))
            detail = f"The picture was reduced from {flat.width}x{flat.height} to {size[0]}x{size[1]} pixels."
            picture.warnings.append(Warn(code="reference_reduced", detail=detail))
            flat, mask = resized(flat, size), None if mask is None else resized(mask, size)
        flat = _upright(flat, picture)
        png = rgb_png(flat)
        if mask is not None:
            png = with_mask(png, _upright(mask, picture).tobytes())
        return Reference(png, flat.width, flat.height, hashlib.sha256(png).hexdigest(), tuple(picture.warnings))


def parse_data_url(text: str, max_bytes: int) -> bytes:
    """Decode a `data:image/…;base64,…` URL strictly: no spaces, standard alphabet, correct padding.

    Raises Refused(422, bad_image). A text too long for `max_bytes` is refused before decoding.
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
        if len(payload) % 4 or payload.endswith("==="):  # strict_mode accepts superfluous padding
            raise ValueError("wrong padding")
        data = binascii.a2b_base64(payload.encode("ascii"), strict_mode=True)
    except ValueError:  # includes binascii.Error and UnicodeEncodeError
        detail = "The data URL's base64 is damaged; use the standard alphabet, padded, in one line."
        raise _refused(detail) from None
    if len(data) > max_bytes:
        raise _refused(too_long)
    return data


def _refused(detail: str) -> Refused:
    return Refused(422, "bad_image", detail)


@dataclass(frozen=True)
class _Decoded:
    """An untrusted picture in one of a few known modes."""

    colour: Image.Image  # L, RGB or CMYK
    alpha: Image.Image | None  # L; None if nothing is transparent
    icc: bytes | None
    turn: int  # EXIF orientation, not yet applied
    warnings: list[Warn]


@contextlib.contextmanager
def _decoded(data: bytes, max_px: int) -> Iterator[_Decoded]:
    """Decode the first frame. Only one large picture is decoded at a time.

    Raises Refused(422, bad_image) if memory runs out here or in the `with` block.
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
            alpha = None  # the header says that the fourth channel is not alpha
        if alpha is not None and alpha.getextrema() == (255, 255):
            alpha = None
        picture = _Decoded(colour, alpha, image.info.get("icc_profile"), _orientation(image), [])
        if file.profile_dropped:
            picture.warnings.append(_PROFILE_DROPPED)
        if several:
            picture.warnings.append(_FIRST_FRAME)
        del image  # frees the decoder's copy of the pixels
        yield picture


@contextlib.contextmanager
def _enough_memory() -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise _refused("There is not enough memory for this picture now; send a smaller one.") from None


def _upright(image: Image.Image, picture: _Decoded) -> Image.Image:
    return image.transpose(_UPRIGHT[picture.turn]) if picture.turn in _UPRIGHT else image


@dataclass(frozen=True)
class _File:
    """A file that one of Pillow's decoders may read. several: it has more than one page."""

    data: bytes
    format: Format
    profile_dropped: bool = False
    several: bool = False


def _readable(data: bytes) -> _File:
    """Remove the data that the picture does not need. Raises Refused for a format that the service does not decode."""
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
    """Read only the header and check the size. Raises Refused."""
    assert file.format.pillow is not None
    try:
        image = Image.open(io.BytesIO(file.data), formats=[file.format.pillow])
    # Pillow's limits are above `max_px`. Its warning is an exception only if the process turns warnings into errors.
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _refused(f"The picture has far more than the {max_px} pixels that are taken.") from None
    except Exception as broken:
        if file.format is formats.TIFF:  # its directory is valid: Pillow does not support this combination of tags
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
    """EXIF orientation, 1 to 8. 1 (upright) if EXIF is absent or unreadable."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # EXIF is untrusted TIFF data: its parser may raise anything
        return 1


def _in_srgb(picture: _Decoded) -> Image.Image:
    """Convert the colours to sRGB by the picture's profile. Without a matching profile they stay unchanged."""
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
            return colour  # already sRGB, as most pictures are: skipping the conversion saves time
        converted = ImageCms.profileToProfile(colour, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        picture.warnings.append(_PROFILE_DROPPED)
        return rgb(colour)
    assert converted is not None  # only the in-place variant returns None
    return converted
