"""Scenes of the clip-art world: what is in a picture and where, drawn; edits as pairs of scenes.

A scene is drawn from a seeded `random.Random`, so that the same seed gives the same picture with the same caption.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import numpy as np
from objects import (
    BACKGROUNDS,
    CHALK,
    COLOURS,
    COUNTABLE,
    DIAGRAMS,
    INK,
    KINDS,
    OVERSAMPLING,
    WORDS,
    WRITTEN,
    Colour,
    Pen,
)
from PIL import Image


@dataclass(frozen=True)
class Item:
    """One object: its kind and colour by name, its centre and radius as fractions of the picture's side."""

    kind: str
    colour: str
    x: float = 0.5
    y: float = 0.5
    r: float = 0.4
    tint: Colour = (0, 0, 0)
    """Added to the colour, so that red is not one red."""
    text: str = ""


@dataclass(frozen=True)
class Scene:
    """What is in a picture. `form` says how it was arranged: single, counted, pair, pair-above."""

    items: tuple[Item, ...]
    background: str = "white"
    form: str = "single"


def draw(scene: Scene, size: int = 128) -> np.ndarray:
    """The scene as (size, size, 3) bytes of RGB."""
    side = size * OVERSAMPLING
    image = Image.new("RGB", (side, side), BACKGROUNDS[scene.background])
    ink = CHALK if scene.background == "black" else INK
    line = max(2, round(2.2 * OVERSAMPLING * (size / 128) ** 0.8))
    for item in scene.items:
        red, green, blue = (max(0, min(255, v + t)) for v, t in zip(COLOURS[item.colour], item.tint, strict=True))
        pen = Pen(image, item.x * side, item.y * side, item.r * side, ink, line)
        if item.kind in WRITTEN:
            KINDS[item.kind].draw(pen, (red, green, blue), item.text)
        else:
            KINDS[item.kind].draw(pen, (red, green, blue))
    return np.asarray(image.reduce(OVERSAMPLING))


def _item(rng: random.Random, kind: str, colour: str | None = None, r: tuple[float, float] = (0.34, 0.42)) -> Item:
    near = rng.uniform
    tint = (rng.randint(-8, 8), rng.randint(-8, 8), rng.randint(-8, 8))
    text = rng.choice(WORDS) if kind in WRITTEN else ""
    colour = colour or rng.choice(list(COLOURS))
    return Item(kind, colour, 0.5 + near(-0.03, 0.03), 0.5 + near(-0.03, 0.03), near(*r), tint, text)


def _background(rng: random.Random) -> str:
    return "white" if rng.random() < 0.55 else rng.choice(list(BACKGROUNDS))


def single(rng: random.Random) -> Scene:
    """One object in the middle; now and then a small or a large one."""
    u = rng.random()
    # Diagrams and written things have more to learn than a circle: they come up more often.
    kind = rng.choice(DIAGRAMS) if u < 0.08 else rng.choice(WRITTEN) if u < 0.12 else rng.choice(list(KINDS))
    default = KINDS[kind].colour if rng.random() < 0.2 else None
    r = (0.34, 0.42)
    if kind in COUNTABLE and rng.random() < 0.2:
        r = rng.choice([(0.15, 0.2), (0.45, 0.48)])
    return Scene((_item(rng, kind, default, r),), _background(rng))


def counted(rng: random.Random) -> Scene:
    """Two to four of one kind and colour: a row, four of them two by two."""
    n, kind, colour = rng.choice([2, 3, 4]), rng.choice(COUNTABLE), rng.choice(list(COLOURS))
    places = {
        2: [(0.27, 0.5), (0.73, 0.5)],
        3: [(0.18, 0.5), (0.5, 0.5), (0.82, 0.5)],
        4: [(0.28, 0.28), (0.72, 0.28), (0.28, 0.72), (0.72, 0.72)],
    }[n]
    first = _item(rng, kind, colour, {2: (0.2, 0.22), 3: (0.14, 0.155), 4: (0.18, 0.2)}[n])
    items = [replace(first, x=x + rng.uniform(-0.01, 0.01), y=y + rng.uniform(-0.01, 0.01)) for x, y in places]
    return Scene(tuple(items), _background(rng), "counted")


def pair(rng: random.Random) -> Scene:
    """Two different things in two colours, side by side or one above the other; first the left or upper one."""
    kinds, colours = rng.sample(COUNTABLE, 2), rng.sample(list(COLOURS), 2)
    above = rng.random() < 0.4
    items = []
    for kind, colour, at in zip(kinds, colours, (0.27, 0.73), strict=True):
        item = _item(rng, kind, colour, (0.19, 0.22))
        x, y = (0.5, at) if above else (at, 0.5)
        items.append(replace(item, x=x + rng.uniform(-0.01, 0.01), y=y + rng.uniform(-0.02, 0.02)))
    return Scene(tuple(items), _background(rng), "pair-above" if above else "pair")


def sample(rng: random.Random) -> Scene:
    """A scene, in the shares that training uses."""
    u = rng.random()
    return pair(rng) if u < 0.14 else counted(rng) if u < 0.36 else single(rng)


CORNER = (0.81, 0.19, 0.155)
"""Where an added object goes, and its radius: upper right."""


@dataclass(frozen=True)
class Edit:
    """A picture before and after, and what was asked: recolour, background, add, remove, bigger, smaller."""

    before: Scene
    after: Scene
    verb: str


def edit(rng: random.Random) -> Edit:
    """An edit by construction: all that was not asked for is drawn the same in both pictures."""
    verb = rng.choice(
        ["recolour", "recolour", "recolour", "background", "background", "add", "remove", "bigger", "smaller"]
    )
    if verb == "recolour":
        before = sample(rng)
        if len({item.colour for item in before.items}) > 1:
            before = single(rng)
        colour = rng.choice([c for c in COLOURS if c != before.items[0].colour])
        return Edit(before, replace(before, items=tuple(replace(i, colour=colour) for i in before.items)), verb)
    if verb == "background":
        before = sample(rng)
        other = rng.choice([b for b in BACKGROUNDS if b != before.background])
        return Edit(before, replace(before, background=other), verb)
    if verb == "remove" and rng.random() < 0.5:
        both = pair(rng)
        kept, extra = rng.sample(both.items, 2)
        return Edit(replace(both, items=(kept, extra)), replace(both, items=(kept,), form="single"), verb)
    if verb in ("add", "remove"):
        kinds = rng.sample(COUNTABLE, 2)
        base = _item(rng, kinds[0], None, (0.28, 0.34))
        base = replace(base, x=base.x - 0.06, y=base.y + 0.08)
        extra = replace(_item(rng, kinds[1]), x=CORNER[0], y=CORNER[1], r=CORNER[2])
        one = Scene((base,), _background(rng))
        two = replace(one, items=(base, extra))
        return Edit(one, two, verb) if verb == "add" else Edit(two, one, verb)
    small = rng.uniform(0.15, 0.32)
    large = min(0.45, small * rng.uniform(1.4, 2.2))
    little = Scene((replace(_item(rng, rng.choice(COUNTABLE)), r=small),), _background(rng))
    big = replace(little, items=(replace(little.items[0], r=large),))
    return Edit(little, big, verb) if verb == "bigger" else Edit(big, little, verb)
