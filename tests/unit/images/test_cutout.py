"""The background cut out of scenes whose transparency is known, because code draws them."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from imagegen.images.cutout import cut_out

SIDE, OVERSAMPLING = 160, 8
MAGENTA = np.array([255.0, 0, 255])
WHITE = (255, 255, 255)
Colour = tuple[int, int, int]
Shape = Callable[[ImageDraw.ImageDraw, int], None]


def disc(x0: float, y0: float, x1: float, y1: float) -> Shape:
    return lambda draw, n: draw.ellipse([x0 * n, y0 * n, x1 * n, y1 * n], fill=255)


def star(draw: ImageDraw.ImageDraw, n: int) -> None:
    points = [(0.4 if k % 2 == 0 else 0.17, math.pi * k / 5) for k in range(10)]
    draw.polygon([(n * (0.5 + r * math.sin(a)), n * (0.5 - r * math.cos(a))) for r, a in points], fill=255)


def line(width_px: float) -> Shape:
    return lambda draw, n: draw.line(
        [(0.15 * n, 0.2 * n), (0.8 * n, 0.7 * n)], fill=255, width=round(width_px * OVERSAMPLING)
    )


ROUND, INNER = disc(0.2, 0.2, 0.8, 0.8), disc(0.23, 0.23, 0.77, 0.77)


@dataclass
class Scene:
    """Shapes with smooth edges on one colour. blur: of the edges, in pixels; noise: standard deviation in levels."""

    parts: list[tuple[Colour, Shape]]
    on: Colour = WHITE
    blur: float = 0
    noise: float = 0

    def over(self, background: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The scene on another background, and its alpha."""
        picture, alpha = np.broadcast_to(background, (SIDE, SIDE, 3)).astype(float), np.zeros((SIDE, SIDE))
        for colour, shape in self.parts:
            large = Image.new("L", (SIDE * OVERSAMPLING,) * 2, 0)
            shape(ImageDraw.Draw(large), SIDE * OVERSAMPLING)
            small = large.resize((SIDE, SIDE), Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(self.blur))
            covers = np.asarray(small) / 255
            picture = picture * (1 - covers[..., None]) + np.array(colour) * covers[..., None]
            alpha = 1 - (1 - alpha) * (1 - covers)
        return picture, alpha

    def png(self) -> bytes:
        picture = self.over(np.array(self.on))[0]
        return png(picture + np.random.default_rng(1).normal(0, 1, picture.shape) * self.noise)


def png(levels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.rint(levels.clip(0, 255)).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def cut(data: bytes) -> np.ndarray:
    """Red, green, blue and alpha, 0 to 255."""
    done = cut_out(data)
    assert done.png is not None, done.kept_because
    image = Image.open(io.BytesIO(done.png))
    assert image.mode == "RGBA"
    return np.asarray(image).astype(float)


RED, DARK, YELLOW = (220, 30, 30), (40, 40, 40), (250, 210, 50)
SCENES: dict[str, tuple[Scene, float, float]] = {
    "a disc": (Scene([(RED, ROUND)]), 0.01, 1),
    "a star": (Scene([(YELLOW, star)]), 0.01, 1),
    "a yellow disc with a dark outline": (Scene([(DARK, ROUND), (YELLOW, INNER)]), 0.01, 1),
    "a white disc with a dark outline on white": (Scene([(DARK, ROUND), (WHITE, INNER)]), 0.01, 1),
    "a light grey disc on white": (Scene([((222, 222, 222), ROUND)]), 0.03, 3),
    "a pale yellow disc on white": (Scene([((255, 250, 200), ROUND)]), 0.03, 3),
    "white on blue": (Scene([((245, 245, 245), star)], on=(40, 90, 200)), 0.01, 1),
    "red on black": (Scene([((200, 60, 60), star)], on=(0, 0, 0)), 0.01, 1.5),
    "green on grey": (Scene([((30, 140, 60), star)], on=(128, 128, 128)), 0.02, 2),
    "a noisy picture on off-white": (Scene([((60, 60, 160), star)], on=(240, 238, 235), noise=3), 0.03, 4),
    "a soft edge": (Scene([((40, 120, 80), ROUND)], blur=1.2), 0.03, 3),
    "a thin black line": (Scene([((0, 0, 0), line(2.2))]), 0.01, 1.5),
    "a thin grey line": (Scene([((128, 128, 128), line(3))]), 0.01, 1.5),
    "two colours side by side": (
        Scene([((200, 40, 40), disc(0.15, 0.3, 0.55, 0.7)), ((40, 90, 200), disc(0.5, 0.3, 0.9, 0.7))]),
        0.01,
        1,
    ),
    "cut off by one side": (Scene([((120, 60, 30), disc(0.2, 0.5, 0.8, 1.4))]), 0.01, 1),
}
"""Each with the most that the edge may be off in the mean: its alpha, and its colour on magenta in levels. A hard edge
is off by 0.4 and by 20 to 60 levels."""


@pytest.mark.parametrize("name", SCENES)
def test_edges_are_as_transparent_as_they_were_drawn(name: str) -> None:
    scene, alpha_off, colour_off = SCENES[name]
    found = cut(scene.png())
    alpha = found[..., 3] / 255
    on_magenta, true = scene.over(MAGENTA)
    assert ((alpha > 0.5) & (true > 0.5)).sum() / ((alpha > 0.5) | (true > 0.5)).sum() > 0.99
    assert np.abs(alpha - true).mean() < 0.002
    edge = (true > 0) & (true < 1)
    shown = found[..., :3] * alpha[..., None] + MAGENTA * (1 - alpha[..., None])
    assert np.abs(alpha - true)[edge].mean() < alpha_off
    assert np.abs(shown - on_magenta)[edge].mean() < colour_off


def test_on_its_own_background_the_picture_is_as_before() -> None:
    for scene, _, _ in SCENES.values():
        found = cut(scene.png())
        alpha = found[..., 3:] / 255
        before = np.asarray(Image.open(io.BytesIO(scene.png()))).astype(float)
        assert np.abs(found[..., :3] * alpha + np.array(scene.on) * (1 - alpha) - before).max() <= 16


def test_enclosed_areas_stay_and_the_way_out_is_cut() -> None:
    ring = Scene([((20, 80, 160), ROUND), (WHITE, INNER)])
    assert cut(ring.png())[SIDE // 2, SIDE // 2, 3] == 255
    levels = np.asarray(Image.open(io.BytesIO(ring.png()))).copy()
    levels[: SIDE // 2, SIDE // 2 - 6 : SIDE // 2 + 6] = 255  # a gate in the ring
    assert cut(png(levels))[SIDE // 2, SIDE // 2, 3] == 0


def test_a_faint_mark_hardly_covers() -> None:
    levels = np.asarray(Image.open(io.BytesIO(Scene([(RED, ROUND)]).png()))).copy()
    levels[10:14, 10:14] = (255, 238, 245)
    assert 0 < cut(png(levels))[10:14, 10:14, 3].max() < 40


ACROSS = np.broadcast_to(np.linspace(0, 1, SIDE)[None, :, None], (SIDE, SIDE, 3))
NOISE = np.random.default_rng(2).uniform(0, 255, (SIDE, SIDE, 3))
KEPT = {
    "a gradient": (Scene([(RED, ROUND)]).over(ACROSS * 120 + 130)[0], "of its border has one colour"),
    "no plain area": (NOISE, "of its border has one colour"),
    "two halves": (np.where(ACROSS > 0.5, 255, 60), "of its border has one colour"),
    "a horizon": (np.where(ACROSS.transpose(1, 0, 2) > 0.6, 80, 235), "of its border has one colour"),
    "nothing drawn": (np.full((SIDE, SIDE, 3), 255), "nothing stands out"),
    "white on white": (Scene([(WHITE, ROUND)]).over(np.array(WHITE))[0], "nothing stands out"),
    "a thin frame": (np.pad(NOISE[1:-1, 1:-1] * 0.7, ((1, 1), (1, 1), (0, 0)), constant_values=255), "only a frame"),
}


@pytest.mark.parametrize("name", KEPT)
def test_a_picture_without_a_plain_background_keeps_it(name: str) -> None:
    levels, because = KEPT[name]
    done = cut_out(png(levels.astype(float)))
    assert done.png is None
    assert because in done.kept_because


def test_grey_and_narrow_files_are_taken() -> None:
    grey = io.BytesIO()
    Image.open(io.BytesIO(Scene([(DARK, ROUND)]).png())).convert("L").resize((64, 200)).save(grey, "PNG")
    assert cut(grey.getvalue()).shape == (200, 64, 4)
