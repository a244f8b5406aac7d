"""Pictures as escape sequences: kitty's protocol, iTerm2's, sixel, and half blocks of text.

A picture takes whole rows of the terminal. Its sequence starts at the first of them, and leaves the cursor there.
textual-image encodes sixels. Its renderables are not used: they ask the terminal by themselves, and for kitty they
need placeholder characters that WezTerm and Konsole lack.
"""

from __future__ import annotations

import base64
import io
import math
import secrets
from dataclasses import dataclass

from PIL import Image
from rich.color import Color, ColorSystem
from rich.color_triplet import ColorTriplet

from imagegen.cli.terminal.abilities import Protocol

CHUNK_BYTES = 4096
"""The most that one of kitty's sequences may carry."""
COLOURS = {"standard": ColorSystem.STANDARD, "256": ColorSystem.EIGHT_BIT, "truecolor": ColorSystem.TRUECOLOR}


@dataclass(frozen=True)
class Drawing:
    """A picture as text for a terminal. It covers `columns` by `rows` characters, from the cursor on."""

    text: str
    columns: int
    rows: int

    @property
    def below(self) -> str:
        """The drawing on new rows, then the cursor at the start of the row below it. Scrolls as needed."""
        return "\n" * self.rows + self.above(self.rows)

    def above(self, rows: int) -> str:
        """The drawing on the first of the `rows` above the cursor, which is and stays at the start of its own."""
        return f"\x1b[{rows}A{self.text}\x1b[{rows}B\r"


class Painter:
    """Draws pictures for one terminal. colours: how many it has, as rich names them (`256`, `truecolor` …)."""

    def __init__(self, protocol: Protocol, cell_px: tuple[int, int], colours: str = "truecolor") -> None:
        self.protocol = protocol
        self._cell_px, self._colours = cell_px, COLOURS.get(colours, ColorSystem.TRUECOLOR)
        self._id = secrets.randbelow(2**24) + 1

    def next_id(self) -> None:
        """Keep kitty's last picture: the next one does not replace it."""
        self._id = secrets.randbelow(2**24) + 1

    def forget(self) -> str:
        """What removes the last picture where text does not: kitty keeps pictures apart from it."""
        return f"\x1b_Ga=d,d=I,i={self._id},q=2\x1b\\" if self.protocol is Protocol.KITTY else ""

    def draw(self, image: Image.Image, room: tuple[int, int], natural_px: tuple[int, int] | None = None) -> Drawing:
        """The picture at its size or smaller, so that it fits into `room` (columns, rows).

        natural_px: the size at which it would be shown, for a small preview of a larger picture.
        """
        width, height = natural_px or image.size
        across, down = self._cell_px
        scale = min(1.0, room[0] * across / width, room[1] * down / height)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        columns, rows = min(room[0], math.ceil(size[0] / across)), min(room[1], math.ceil(size[1] / down))
        if self.protocol is Protocol.BLOCKS:
            return Drawing(self._blocks(image, columns, rows), columns, rows)
        if self.protocol is Protocol.SIXEL:
            text = _sixels(opaque(image).resize(size))
        else:
            send = self._kitty if self.protocol is Protocol.KITTY else _iterm2
            text = send(image.resize(size) if image.width > size[0] else image, columns, rows)  # it enlarges by itself
        return Drawing(f"\x1b7{text}\x1b8", columns, rows)

    def _kitty(self, image: Image.Image, columns: int, rows: int) -> str:
        data = base64.b64encode(_png(image)).decode()
        pieces = [data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES)]
        keys = f"a=T,f=100,i={self._id},p=1,c={columns},r={rows},C=1,q=2,"  # C=1: the cursor stays; q=2: no answer
        sent = []
        for number, piece in enumerate(pieces, 1):
            sent.append(f"\x1b_G{keys}m={int(number < len(pieces))};{piece}\x1b\\")
            keys = "q=2,"
        return "".join(sent)

    def _blocks(self, image: Image.Image, columns: int, rows: int) -> str:
        pixels = opaque(image).resize((columns, rows * 2))
        next_row = f"\x1b[{columns}D\x1b[B"
        lines = []
        for row in range(0, rows * 2, 2):
            cells = (self._block(pixels, column, row) for column in range(columns))
            lines.append(f"{''.join(cells)}\x1b[0m")
        return f"\x1b7{next_row.join(lines)}\x1b8"

    def _block(self, pixels: Image.Image, column: int, row: int) -> str:
        codes: list[str] = []
        for offset in (0, 1):
            red, green, blue = (int(part) for part in pixels.getpixel((column, row + offset)))  # type: ignore[union-attr]
            colour = Color.from_triplet(ColorTriplet(red, green, blue)).downgrade(self._colours)
            codes += colour.get_ansi_codes(foreground=offset == 0)
        return f"\x1b[{';'.join(codes)}m▀"


def opaque(image: Image.Image) -> Image.Image:
    """The picture in RGB, on white where it is transparent."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    over = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _iterm2(image: Image.Image, columns: int, rows: int) -> str:
    data = _png(image)
    keys = f"inline=1;size={len(data)};width={columns};height={rows};preserveAspectRatio=1"
    return f"\x1b]1337;File={keys}:{base64.b64encode(data).decode()}\x07"


def _sixels(image: Image.Image) -> str:
    from textual_image._sixel import image_to_sixels  # the package's renderables write to the terminal at import

    return image_to_sixels(image)
