"""The engine's pixels, made fit to be shown."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from imagegen.images.previews import encode_preview

SWAP_RED_AND_BLUE = [0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]


def decoded(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    assert image.format == "JPEG"
    return image


@pytest.mark.parametrize(
    ("size", "picture", "shown"),
    [
        ((16, 16), (128, 128), (128, 128)),
        ((8, 4), (1024, 512), (512, 256)),
        ((512, 512), (1024, 1024), (512, 512)),
        ((8, 64), (64, 512), (64, 512)),
    ],
)
def test_a_preview_has_the_pictures_shape_and_at_most_512_px(
    size: tuple[int, int], picture: tuple[int, int], shown: tuple[int, int]
) -> None:
    assert decoded(encode_preview(bytes(3 * size[0] * size[1]), size, picture)).size == shown


def test_pixels_are_enlarged_smoothly() -> None:
    steps = np.zeros((1, 2, 3), np.uint8)
    steps[0, 1] = 255
    row = np.asarray(decoded(encode_preview(steps.tobytes(), (2, 1), (64, 32))).convert("L"))[16].astype(int)
    assert row[0] < 40
    assert row[-1] > 215
    assert np.abs(np.diff(row)).max() < 32, "no edge between the two pixels"


def test_colours_are_corrected() -> None:
    image = decoded(encode_preview(bytes([200, 40, 10]) * 64, (8, 8), (64, 64), SWAP_RED_AND_BLUE))
    np.testing.assert_allclose(np.asarray(image)[32, 32], [10, 40, 200], atol=6)


def test_pixels_that_are_too_few_are_refused() -> None:
    with pytest.raises(ValueError, match="not enough image data"):
        encode_preview(bytes(10), (8, 8), (64, 64))
