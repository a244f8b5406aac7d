"""What a signature costs: milliseconds and bytes, by size and format. Prints a table.

Each figure is the median of ROUNDS signatures of one picture of noise, the worst case for size, in one process.
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from pathlib import Path

from PIL import Image

from imagegen.images.png import finish_png
from imagegen.images.provenance.manifest import Facts
from imagegen.images.provenance.signer import Signer
from imagegen.settings import Settings

ROUNDS = 21
SIDES_PX = (128, 512, 1024)
FORMATS = (("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp"))
DETAILS = {"model": "z-image-turbo", "seed": 4_294_967_295, "prompt": "a lighthouse above a sea of clouds at dawn " * 4}


def picture(side_px: int, format: str) -> bytes:
    """A square of noise."""
    file = io.BytesIO()
    Image.effect_noise((side_px, side_px), 80).convert("RGB").save(file, format)
    return file.getvalue()


def row(signer: Signer, side_px: int, format: str, media_type: str, sources: tuple[bytes, ...]) -> str:
    """One line of the table: the time and the growth of a picture that was drawn, or edited from `sources`."""
    data, facts = picture(side_px, format), Facts("edited" if sources else "drawn", DETAILS, sources)
    seconds, signed = [], b""
    for _ in range(ROUNDS):
        began = time.perf_counter()
        signed = signer.sign(data, media_type, facts)
        seconds.append(time.perf_counter() - began)
    what = "edit" if sources else "drawing"
    took_ms = statistics.median(seconds) * 1000
    return f"| {side_px} x {side_px} {format}, {what} | {took_ms:.1f} ms | {len(signed) - len(data):,} bytes |"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        signer = Signer(Settings(home=Path(folder)))
        signer.sign(picture(64, "PNG"), "image/png", Facts("drawn", {}))  # makes the keys, loads the library
        print("| picture | time, median | growth |\n|---|---|---|")
        for side_px in SIDES_PX:
            for format, media_type in FORMATS:
                print(row(signer, side_px, format, media_type, ()))
        source = finish_png(picture(1024, "PNG"), {}).data
        print(row(signer, 1024, "PNG", "image/png", (signer.sign(source, "image/png", Facts("drawn", DETAILS)),)))


if __name__ == "__main__":
    main()
