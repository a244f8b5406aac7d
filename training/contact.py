"""Contact sheets: pictures with their prompts below them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def grid(pictures: list[np.ndarray], texts: list[str], columns: int = 8) -> Image.Image:
    """Pictures of one size with their texts, cut to fit, in rows."""
    side = pictures[0].shape[0]
    out = Image.new("RGB", (columns * (side + 8), -(-len(pictures) // columns) * (side + 22)), "white")
    pen = ImageDraw.Draw(out)
    for i, (picture, text) in enumerate(zip(pictures, texts, strict=True)):
        x, y = i % columns * (side + 8) + 4, i // columns * (side + 22)
        out.paste(Image.fromarray(picture), (x, y))
        pen.text((x, y + side + 2), text.splitlines()[0][: side // 6], fill=(0, 0, 0))
    return out


def sheet(folder: Path, cases: list[dict], to: Path) -> None:
    """A sheet of the files that `cases` name, each with its prompt."""
    pictures = [np.asarray(Image.open(folder / case["file"]).convert("RGB")) for case in cases]
    grid(pictures, [case["prompt"] for case in cases]).save(to)
