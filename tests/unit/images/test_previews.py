"""The engine's pixels, made fit to be shown."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagegen.images.preview_colours import PreviewColours
from imagegen.images.previews import encode_preview
from imagegen.models.catalog import Catalog
from imagegen.settings import Settings

SWAP = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], np.float32).reshape(1, 1, 3, 3)
SWAP_RED_AND_BLUE = PreviewColours(
    mean=np.zeros(3, np.float32), spread=np.full(3, 255, np.float32), layers=((SWAP, np.zeros(3, np.float32)),)
)


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


def test_layers_are_convolutions_with_the_edge_repeated(tmp_path: Path) -> None:
    """Two layers by hand: the mean of 3x3, minus a third; then what is above zero, doubled."""
    kernel = np.zeros((3, 3, 3, 3), np.float32)
    for channel in range(3):
        kernel[:, :, channel, channel] = 1 / 9
    layers = (
        (kernel, np.full(3, -1 / 3, np.float32)),
        (2 * np.eye(3, dtype=np.float32).reshape(1, 1, 3, 3), np.zeros(3)),
    )
    PreviewColours(np.zeros(3), np.full(3, 255.0), layers).save(tmp_path / "colours.npz")
    colours = PreviewColours.load(tmp_path / "colours.npz")
    pixels = np.zeros((4, 5, 3), np.uint8)
    pixels[:, 3:] = 255  # the means along a row: 0, 0, 1/3, 2/3, 1
    expected = np.broadcast_to(np.array([0, 0, 0, 170, 255])[None, :, None], (4, 5, 3))
    np.testing.assert_allclose(colours.corrected(pixels), expected, atol=1)


def test_the_correction_of_sketch_is_in_the_package(tmp_path: Path) -> None:
    catalog = Catalog.load(Settings(home=tmp_path))
    colours = catalog.get("sketch").preview_look.correction()
    assert colours is not None
    pixels = np.full((16, 16, 3), [122, 110, 121], np.uint8)  # as the engine projects a white background
    assert colours.corrected(pixels).min() > 200
    assert catalog.get("tiny").preview_look.correction() is None
