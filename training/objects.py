"""What the clip-art world holds: how each object is drawn, in unit coordinates, with flat fills and an outline."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Points = list[tuple[float, float]]

COLOURS: dict[str, Colour] = {
    "red": (220, 40, 40),
    "orange": (245, 140, 30),
    "yellow": (250, 215, 50),
    "green": (50, 160, 70),
    "blue": (45, 105, 220),
    "purple": (135, 65, 185),
    "pink": (245, 130, 185),
    "brown": (140, 90, 50),
    "gray": (150, 150, 155),
    "black": (40, 40, 45),
}
BACKGROUNDS: dict[str, Colour] = {
    "white": (255, 255, 255),
    "gray": (200, 200, 200),
    "black": (25, 25, 25),
    "light blue": (190, 225, 250),
    "light yellow": (255, 246, 190),
    "light green": (200, 240, 200),
}
INK, CHALK = (45, 45, 45), (235, 235, 235)
WHITE, SILVER, GLASS, LEAF, WOOD = (255, 255, 255), (150, 150, 150), (200, 230, 250), (60, 160, 80), (140, 90, 50)
OVERSAMPLING = 3


class Pen:
    """Draws in an object's own coordinates: x to the right and y down, both in [-1, 1], `r` pixels a unit."""

    def __init__(self, image: Image.Image, x: float, y: float, r: float, ink: Colour, line: int) -> None:
        self.draw, self.x, self.y, self.r, self.ink, self.width = ImageDraw.Draw(image), x, y, r, ink, line

    def points(self, points: Points) -> Points:
        return [(self.x + x * self.r, self.y + y * self.r) for x, y in points]

    def polygon(self, points: Points, fill: Colour, outline: bool = True) -> None:
        corners = self.points(points)
        self.draw.polygon(corners, fill=fill)
        if outline:
            self.draw.line([*corners, corners[0], corners[1]], fill=self.ink, width=self.width, joint="curve")

    def oval(self, x: float, y: float, rx: float, ry: float, fill: Colour, outline: bool = True) -> None:
        box = self.points([(x - rx, y - ry), (x + rx, y + ry)])
        self.draw.ellipse(box, fill=fill, outline=self.ink if outline else None, width=self.width if outline else 0)

    def rectangle(
        self, box: tuple[float, float, float, float], fill: Colour, outline: bool = True, round_: float = 0.0
    ):
        corners = self.points([box[:2], box[2:]])
        self.draw.rounded_rectangle(
            corners,
            radius=round_ * self.r,
            fill=fill,
            outline=self.ink if outline else None,
            width=self.width if outline else 0,
        )

    def line(self, points: Points, fill: Colour | None = None, width: float = 1.0) -> None:
        self.draw.line(self.points(points), fill=fill or self.ink, width=int(self.width * width), joint="curve")

    def arc(self, box, start: float, end: float, fill: Colour | None = None, width: float = 1.0) -> None:
        x, y, rx, ry = box
        corners = self.points([(x - rx, y - ry), (x + rx, y + ry)])
        self.draw.arc(corners, start, end, fill=fill or self.ink, width=int(self.width * width))

    def word(self, text: str, y: float, width: float, height: float, fill: Colour) -> None:
        """`text` centred at (0, y), as large as fits into `width` by `height` units."""
        size = int(height * self.r * 1.3)
        font = ImageFont.load_default(size=size)
        while size > 6 and font.getlength(text) > width * self.r:
            size -= 1
            font = ImageFont.load_default(size=size)
        at = self.points([(0, y)])[0]
        self.draw.text(at, text, fill=fill, font=font, anchor="mm", stroke_width=max(1, size // 16), stroke_fill=fill)


def circle(pen: Pen, c: Colour) -> None:
    pen.oval(0, 0, 0.85, 0.85, c)


def square(pen: Pen, c: Colour) -> None:
    pen.rectangle((-0.78, -0.78, 0.78, 0.78), c)


def triangle(pen: Pen, c: Colour) -> None:
    pen.polygon([(0, -0.85), (0.9, 0.75), (-0.9, 0.75)], c)


def diamond(pen: Pen, c: Colour) -> None:
    pen.polygon([(0, -0.9), (0.68, 0), (0, 0.9), (-0.68, 0)], c)


def cross(pen: Pen, c: Colour) -> None:
    a, b = 0.28, 0.85
    pen.polygon(
        [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b), (-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a)], c
    )


def star(pen: Pen, c: Colour) -> None:
    radii = [0.95 if i % 2 == 0 else 0.42 for i in range(10)]
    pen.polygon([(r * math.sin(i * math.pi / 5), -r * math.cos(i * math.pi / 5)) for i, r in enumerate(radii)], c)


def heart(pen: Pen, c: Colour) -> None:
    points = []
    for i in range(48):
        t = 2 * math.pi * i / 48
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((0.056 * 16 * math.sin(t) ** 3, -0.056 * y - 0.1))
    pen.polygon(points, c)


def tree(pen: Pen, c: Colour) -> None:
    pen.rectangle((-0.15, 0.3, 0.15, 0.95), WOOD)
    pen.oval(0, -0.28, 0.68, 0.66, c)


def house(pen: Pen, c: Colour) -> None:
    pen.rectangle((-0.7, -0.1, 0.7, 0.85), c)
    pen.polygon([(0, -0.9), (0.92, -0.08), (-0.92, -0.08)], (165, 60, 45))
    pen.rectangle((-0.17, 0.3, 0.17, 0.85), (110, 70, 40))
    pen.rectangle((0.32, 0.15, 0.58, 0.42), GLASS)
    pen.rectangle((-0.58, 0.15, -0.32, 0.42), GLASS)


def sun(pen: Pen, c: Colour) -> None:
    for i in range(8):
        a = i * math.pi / 4
        pen.line(
            [(0.62 * math.cos(a), 0.62 * math.sin(a)), (0.95 * math.cos(a), 0.95 * math.sin(a))], fill=c, width=2.0
        )
    pen.oval(0, 0, 0.5, 0.5, c)


def cup(pen: Pen, c: Colour) -> None:
    pen.oval(0, 0.78, 0.85, 0.14, (235, 235, 235))
    pen.arc((0.52, 0.18, 0.3, 0.28), -100, 100, width=3.2)
    pen.arc((0.52, 0.18, 0.27, 0.25), -100, 100, fill=c, width=1.4)
    pen.polygon([(-0.6, -0.2), (0.6, -0.2), (0.48, 0.62), (0.35, 0.74), (-0.35, 0.74), (-0.48, 0.62)], c)
    for x in (-0.28, 0, 0.28):
        pen.line([(x, -0.35), (x + 0.07, -0.5), (x - 0.05, -0.65), (x + 0.04, -0.82)], fill=SILVER, width=1.2)


def car(pen: Pen, c: Colour) -> None:
    pen.polygon([(-0.5, -0.05), (-0.3, -0.5), (0.3, -0.5), (0.58, -0.05)], c)
    pen.polygon([(-0.32, -0.07), (-0.2, -0.36), (-0.02, -0.36), (-0.02, -0.07)], GLASS, False)
    pen.polygon([(0.06, -0.07), (0.06, -0.36), (0.22, -0.36), (0.4, -0.07)], GLASS, False)
    pen.rectangle((-0.95, -0.05, 0.95, 0.38), c, round_=0.12)
    for x in (-0.5, 0.5):
        pen.oval(x, 0.4, 0.23, 0.23, (50, 50, 50))
        pen.oval(x, 0.4, 0.1, 0.1, (210, 210, 210), False)


def flower(pen: Pen, c: Colour) -> None:
    pen.line([(0, 0), (0, 0.95)], fill=(40, 130, 60), width=2.0)
    pen.oval(0.22, 0.62, 0.2, 0.1, LEAF)
    for i in range(6):
        a = i * math.pi / 3 + 0.5
        pen.oval(0.36 * math.cos(a), -0.32 + 0.36 * math.sin(a), 0.24, 0.24, c)
    pen.oval(0, -0.32, 0.2, 0.2, (150, 95, 50) if c[0] > 235 and c[1] > 180 else (250, 220, 70))


def fish(pen: Pen, c: Colour) -> None:
    pen.polygon([(0.35, 0), (0.95, -0.45), (0.95, 0.45)], c)
    pen.oval(-0.15, 0, 0.72, 0.45, c)
    pen.oval(-0.5, -0.1, 0.11, 0.11, WHITE)
    pen.oval(-0.5, -0.1, 0.05, 0.05, INK, False)
    pen.arc((-0.2, 0, 0.2, 0.3), -60, 60)


def apple(pen: Pen, c: Colour) -> None:
    pen.line([(0, -0.5), (0.08, -0.85)], fill=(110, 70, 40), width=1.8)
    pen.oval(0.3, -0.72, 0.22, 0.1, LEAF)
    pen.oval(-0.25, 0.12, 0.5, 0.68, c)
    pen.oval(0.25, 0.12, 0.5, 0.68, c)
    pen.oval(-0.25, 0.12, 0.42, 0.6, c, False)
    pen.oval(0.2, 0.12, 0.46, 0.6, c, False)


def cloud(pen: Pen, c: Colour) -> None:
    blobs = [(-0.5, 0.15, 0.4, 0.35), (0.5, 0.15, 0.4, 0.35), (-0.15, -0.15, 0.45, 0.45), (0.25, -0.05, 0.4, 0.4)]
    for blob in blobs:
        pen.oval(*blob, c)
    pen.rectangle((-0.55, 0, 0.55, 0.5), c, round_=0.2)
    for x, y, a, b in blobs:
        pen.oval(x, y, a - 0.06, b - 0.06, c, False)
    pen.rectangle((-0.5, 0, 0.5, 0.44), c, False)


def moon(pen: Pen, c: Colour) -> None:
    def bend(x: float, r: float, start: int, end: int, n: int) -> Points:
        turns = [math.radians(start + (end - start) * i / (n - 1)) for i in range(n)]
        return [(x + r * math.cos(t), r * math.sin(t)) for t in turns]

    pen.polygon(bend(0, 0.85, 50, 310, 40) + bend(0.33, 0.69, 290, 70, 32), c)


def arrow(pen: Pen, c: Colour) -> None:
    pen.polygon([(-0.92, -0.22), (0.15, -0.22), (0.15, -0.6), (0.95, 0), (0.15, 0.6), (0.15, 0.22), (-0.92, 0.22)], c)


def balloon(pen: Pen, c: Colour) -> None:
    pen.line([(0, 0.45), (0.06, 0.6), (-0.05, 0.75), (0.03, 0.97)])
    pen.polygon([(0, 0.38), (0.12, 0.52), (-0.12, 0.52)], c)
    pen.oval(0, -0.25, 0.55, 0.66, c)
    pen.oval(-0.2, -0.5, 0.09, 0.13, WHITE, False)


def envelope(pen: Pen, c: Colour) -> None:
    pen.rectangle((-0.9, -0.58, 0.9, 0.58), c)
    pen.line([(-0.88, -0.56), (0, 0.12), (0.88, -0.56)], width=1.3)


def face(pen: Pen, c: Colour) -> None:
    dark = CHALK if max(c) < 80 else INK
    pen.oval(0, 0, 0.85, 0.85, c)
    pen.oval(-0.3, -0.22, 0.12, 0.16, dark, False)
    pen.oval(0.3, -0.22, 0.12, 0.16, dark, False)
    pen.arc((0, 0.08, 0.48, 0.45), 20, 160, fill=dark, width=1.8)


def cat(pen: Pen, c: Colour) -> None:
    for s in (-1, 1):
        pen.polygon([(s * 0.78, -0.9), (s * 0.75, -0.1), (s * 0.15, -0.5)], c)
    pen.oval(0, 0.12, 0.8, 0.7, c)
    dark = CHALK if max(c) < 80 else INK
    for s in (-1, 1):
        pen.oval(s * 0.32, 0, 0.11, 0.15, dark, False)
        pen.line([(s * 0.35, 0.32), (s * 0.95, 0.25)], fill=pen.ink)
        pen.line([(s * 0.35, 0.4), (s * 0.92, 0.5)], fill=pen.ink)
    pen.polygon([(-0.1, 0.24), (0.1, 0.24), (0, 0.36)], (240, 130, 150), False)


def key(pen: Pen, c: Colour) -> None:
    pen.rectangle((-0.2, -0.12, 0.92, 0.12), c)
    pen.rectangle((0.42, 0.1, 0.58, 0.42), c)
    pen.rectangle((0.74, 0.1, 0.9, 0.42), c)
    pen.oval(-0.5, 0, 0.42, 0.42, c)
    pen.oval(-0.5, 0, 0.17, 0.17, WHITE)


def bell(pen: Pen, c: Colour) -> None:
    pen.oval(0, 0.66, 0.2, 0.2, (110, 70, 40))
    pen.polygon(
        [(-0.2, -0.75), (0.2, -0.75), (0.45, -0.4), (0.5, 0.2), (0.8, 0.6), (-0.8, 0.6), (-0.5, 0.2), (-0.45, -0.4)], c
    )
    pen.oval(0, -0.82, 0.12, 0.12, c)


def book(pen: Pen, c: Colour) -> None:
    pen.rectangle((-0.6, -0.8, 0.7, 0.82), (245, 245, 240))
    pen.rectangle((-0.7, -0.86, 0.6, 0.74), c, round_=0.06)
    pen.line([(-0.45, -0.84), (-0.45, 0.72)], width=1.3)
    pen.rectangle((-0.22, -0.5, 0.38, -0.2), (245, 245, 240))


def clock(pen: Pen, c: Colour) -> None:
    pen.oval(0, 0, 0.85, 0.85, c)
    pen.oval(0, 0, 0.62, 0.62, WHITE)
    pen.line([(0, 0), (0, -0.45)], fill=INK, width=1.6)
    pen.line([(0, 0), (0.34, 0.16)], fill=INK, width=1.6)


def bulb(pen: Pen, c: Colour) -> None:
    pen.rectangle((-0.24, 0.4, 0.24, 0.9), SILVER, round_=0.08)
    pen.line([(-0.24, 0.62), (0.24, 0.62)])
    pen.oval(0, -0.2, 0.64, 0.66, c)
    pen.line([(-0.2, 0.4), (-0.2, -0.1), (0, 0.1), (0.2, -0.1), (0.2, 0.4)], width=1.1)


def mushroom(pen: Pen, c: Colour) -> None:
    pen.rectangle((-0.26, 0, 0.26, 0.86), (245, 235, 215), round_=0.12)
    half = [(0.88 * math.cos(t), -0.8 * math.sin(t) + 0.1) for t in (math.pi * i / 24 for i in range(25))]
    pen.polygon(half, c)
    for x, y, r in ((-0.4, -0.2, 0.13), (0.05, -0.42, 0.15), (0.45, -0.15, 0.12)):
        pen.oval(x, y, r, r, WHITE, False)


def ice_cream(pen: Pen, c: Colour) -> None:
    pen.polygon([(-0.42, 0), (0.42, 0), (0, 0.95)], (225, 170, 95))
    pen.oval(0, -0.32, 0.52, 0.5, c)


def rocket(pen: Pen, c: Colour) -> None:
    pen.polygon([(-0.22, 0.55), (0.22, 0.55), (0, 0.98)], (250, 170, 40))
    for s in (-1, 1):
        pen.polygon([(s * 0.3, 0.15), (s * 0.68, 0.62), (s * 0.28, 0.56)], (165, 60, 45))
    side = [(0.34 * math.sin(math.pi * t / 20), -0.95 + 1.5 * t / 20) for t in range(16)]
    pen.polygon([*side, *[(-x, y) for x, y in reversed(side[1:])]], c)
    pen.oval(0, -0.25, 0.15, 0.15, GLASS)


def boat(pen: Pen, c: Colour) -> None:
    pen.line([(0, -0.9), (0, 0.3)], width=1.4)
    pen.polygon([(0.06, -0.85), (0.72, 0.12), (0.06, 0.12)], (250, 250, 250))
    pen.polygon([(-0.06, -0.6), (-0.55, 0.12), (-0.06, 0.12)], (250, 250, 250))
    pen.polygon([(-0.9, 0.3), (0.9, 0.3), (0.58, 0.8), (-0.58, 0.8)], c)


def gift(pen: Pen, c: Colour) -> None:
    ribbon = (250, 215, 50) if c[0] < 235 or c[1] < 180 else (220, 40, 40)
    pen.oval(-0.25, -0.66, 0.25, 0.16, ribbon)
    pen.oval(0.25, -0.66, 0.25, 0.16, ribbon)
    pen.rectangle((-0.72, -0.2, 0.72, 0.85), c)
    pen.rectangle((-0.84, -0.52, 0.84, -0.16), c)
    pen.rectangle((-0.13, -0.52, 0.13, 0.85), ribbon)


def flag(pen: Pen, c: Colour) -> None:
    pen.line([(-0.65, -0.92), (-0.65, 0.95)], fill=WOOD, width=2.4)
    pen.polygon([(-0.6, -0.86), (0.85, -0.4), (-0.6, 0.06)], c)


def lightning(pen: Pen, c: Colour) -> None:
    pen.polygon([(0.2, -0.95), (-0.55, 0.12), (-0.06, 0.12), (-0.22, 0.95), (0.58, -0.25), (0.08, -0.25)], c)


def umbrella(pen: Pen, c: Colour) -> None:
    pen.line([(0, 0), (0, 0.72)], width=1.6)
    pen.arc((0.16, 0.7, 0.16, 0.2), 0, 180, width=1.6)
    half = [(0.9 * math.cos(t), -0.85 * math.sin(t)) for t in (math.pi * i / 24 for i in range(25))]
    pen.polygon(half, c)
    pen.line([(-0.3, 0), (0, -0.85), (0.3, 0)])


def boxes(pen: Pen, c: Colour) -> None:
    _boxes(pen, c, 2)


def three_boxes(pen: Pen, c: Colour) -> None:
    _boxes(pen, c, 3)


def _boxes(pen: Pen, c: Colour, n: int) -> None:
    side = 0.6 if n == 2 else 0.44
    gap = (1.96 - n * side) / (n - 1)
    for i in range(n):
        left = -0.98 + i * (side + gap)
        pen.rectangle((left, -side / 2, left + side, side / 2), c)
        if i:
            pen.line([(left - gap + 0.03, 0), (left - 0.16, 0)], width=1.3)
            pen.polygon([(left - 0.02, 0), (left - 0.2, -0.13), (left - 0.2, 0.13)], pen.ink, False)


def sign(pen: Pen, c: Colour, text: str = "STOP") -> None:
    pen.rectangle((-0.09, 0.3, 0.09, 0.98), WOOD)
    pen.rectangle((-0.95, -0.55, 0.95, 0.35), c, round_=0.08)
    pen.word(text, -0.1, 1.55, 0.62, WHITE if sum(c) < 420 else INK)


def note(pen: Pen, c: Colour, text: str = "OK") -> None:
    pen.polygon([(-0.85, -0.85), (0.85, -0.85), (0.85, 0.5), (0.5, 0.85), (-0.85, 0.85)], c)
    pen.polygon([(0.85, 0.5), (0.5, 0.5), (0.5, 0.85)], (235, 235, 225))
    pen.word(text, -0.15, 1.4, 0.6, WHITE if sum(c) < 420 else INK)


@dataclass(frozen=True)
class Kind:
    """An object: how it is drawn, what people call it (singular, plural), and its colour where none is named."""

    draw: Callable[..., None]
    nouns: tuple[tuple[str, str], ...]
    colour: str
    countable: bool = False
    """Simple enough to be drawn small: in rows, in pairs, added to a picture."""


def _kind(draw: Callable[..., None], colour: str, *nouns: str, countable: bool = False) -> Kind:
    pairs = tuple((noun.split("|")[0], noun.split("|")[1] if "|" in noun else noun + "s") for noun in nouns)
    return Kind(draw, pairs, colour, countable)


KINDS: dict[str, Kind] = {
    "circle": _kind(circle, "blue", "circle", "disc", "ball", countable=True),
    "square": _kind(square, "blue", "square", "box|boxes", countable=True),
    "triangle": _kind(triangle, "orange", "triangle", countable=True),
    "diamond": _kind(diamond, "purple", "diamond", countable=True),
    "cross": _kind(cross, "red", "cross|crosses", "plus sign", countable=True),
    "star": _kind(star, "yellow", "star", countable=True),
    "heart": _kind(heart, "red", "heart", countable=True),
    "tree": _kind(tree, "green", "tree", countable=True),
    "house": _kind(house, "yellow", "house", "home"),
    "sun": _kind(sun, "orange", "sun", countable=True),
    "cup": _kind(cup, "brown", "coffee cup", "cup", "cup of coffee|cups of coffee", "mug"),
    "car": _kind(car, "red", "car"),
    "flower": _kind(flower, "pink", "flower", countable=True),
    "fish": _kind(fish, "orange", "fish|fish"),
    "apple": _kind(apple, "red", "apple", countable=True),
    "cloud": _kind(cloud, "gray", "cloud", countable=True),
    "moon": _kind(moon, "yellow", "moon", "crescent moon", countable=True),
    "arrow": _kind(arrow, "blue", "arrow", countable=True),
    "balloon": _kind(balloon, "red", "balloon", countable=True),
    "envelope": _kind(envelope, "yellow", "envelope", "mail envelope"),
    "face": _kind(face, "yellow", "smiley face", "smiley", "smiling face", "happy face", countable=True),
    "cat": _kind(cat, "orange", "cat", "kitten"),
    "key": _kind(key, "yellow", "key"),
    "bell": _kind(bell, "yellow", "bell", countable=True),
    "book": _kind(book, "blue", "book"),
    "clock": _kind(clock, "red", "clock", "alarm clock"),
    "bulb": _kind(bulb, "yellow", "light bulb", "lightbulb"),
    "mushroom": _kind(mushroom, "red", "mushroom", "toadstool", countable=True),
    "ice cream": _kind(ice_cream, "pink", "ice cream", "ice cream cone"),
    "rocket": _kind(rocket, "gray", "rocket", "space rocket"),
    "boat": _kind(boat, "brown", "boat", "sailboat", "ship"),
    "gift": _kind(gift, "purple", "gift", "present", "gift box|gift boxes"),
    "flag": _kind(flag, "red", "flag", countable=True),
    "lightning": _kind(lightning, "yellow", "lightning bolt", "lightning", countable=True),
    "umbrella": _kind(umbrella, "purple", "umbrella"),
    "boxes": _kind(boxes, "blue", "two boxes|two boxes"),
    "three boxes": _kind(three_boxes, "blue", "three boxes|three boxes"),
    "sign": _kind(sign, "red", "sign", "board"),
    "note": _kind(note, "yellow", "sticky note", "note"),
}
WRITTEN = ("sign", "note")
"""Kinds that carry a word."""
DIAGRAMS = ("boxes", "three boxes")
WORDS = ("STOP", "OPEN", "YES", "NO", "EXIT", "OK", "GO", "HI", "NEW", "SALE")
COUNTABLE = tuple(name for name, kind in KINDS.items() if kind.countable)
