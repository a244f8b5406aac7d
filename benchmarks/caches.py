"""The engine's step caches and flash attention, on a model made by script: what they leave out, and what that saves.

    python benchmarks/caches.py [--model qwen-tiny] [--steps 20] [--side 64]

One thread, one seed. Seconds are the engine's CPU time while it samples, so that a busy machine does not matter. The
pictures are noise: how much a cache leaves out of it says nothing about real weights, that it does and what a step then
costs is what is measured. `differs` is the mean distance of the pixels from the picture without a cache, 0 to 255.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import tempfile
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from imagegen import engine_build
from imagegen.engine_build import probe
from imagegen.engines.base import DrawProgress, DrawRequest
from imagegen.engines.sdcpp.adapter import SdcppServerAdapter
from imagegen.models.catalog import Catalog
from imagegen.models.speed import Fast
from imagegen.models.synthetic import make as synthetic
from imagegen.schemas import Phase
from imagegen.settings import Settings

TRIED: list[tuple[str, dict[str, float]]] = [
    ("easycache", {"threshold": 0.2}),
    ("easycache", {"threshold": 1.0}),
    ("dbcache", {}),
    ("taylorseer", {}),
    ("cache-dit", {}),
    ("spectrum", {}),
]
"""At the engine's default options. easycache at the Qwen-Image entries' threshold, and at one that noise passes."""


class Bench:
    """One engine, and its CPU seconds of sampling."""

    def __init__(self, adapter: SdcppServerAdapter, side: int, steps: int) -> None:
        self._adapter, self._side, self._steps = adapter, side, steps
        self._cpu_s: dict[Phase, float] = {}

    def _heard(self, progress: DrawProgress) -> None:
        assert self._adapter.pid is not None
        times = psutil.Process(self._adapter.pid).cpu_times()
        self._cpu_s.setdefault(progress.phase, times.user + times.system)

    async def draw(self, options: dict[str, object]) -> tuple[np.ndarray, float, int]:
        """The pixels, the CPU seconds of sampling, and the number of skipped steps."""
        self._cpu_s.clear()
        request = DrawRequest(
            "a cat", "", self._side, self._side, self._steps, 1.0, "euler", None, 1, (), None, options
        )
        png = await self._adapter.generate(request, self._heard)
        assert self._adapter.last_draw is not None
        pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(float)
        seconds = self._cpu_s[Phase.DECODING] - self._cpu_s[Phase.SAMPLING]
        return pixels, seconds, self._adapter.last_draw.skipped


async def measure(model: str, side: int, steps: int, settings: Settings, work: Path) -> None:
    entry, binary = Catalog.load(settings).get(model), engine_build.resolve(Settings())
    print(f"{model}, {side}x{side}, {steps} steps, cfg 1\n")
    print("| cache | left out | sampling, CPU s | differs |\n|---|---|---|---|")
    plain = np.zeros(1)
    for attention in ("--diffusion-fa", None):
        argv = [word for word in entry.argv(settings) if word != "--diffusion-fa"] + ([attention] if attention else [])
        adapter = SdcppServerAdapter(binary, argv, 1, work, channel=probe.channel_version(binary) is not None)
        await adapter.start(lambda _: None)
        try:
            bench = Bench(adapter, side, steps)
            pixels, seconds, skipped = await bench.draw({})
            if attention is None:
                print(f"| none, no flash attention | {skipped} | {seconds:.1f} | {np.abs(pixels - plain).mean():.1f} |")
                continue
            plain = pixels
            print(f"| none | {skipped} | {seconds:.1f} | 0 |", flush=True)
            for mode, options in TRIED:
                cache = Fast.model_validate(
                    {"cache_mode": mode, "cache_options": options, "min_steps": 1, "source": "benchmark"}
                )
                pixels, seconds, skipped = await bench.draw(cache.native)
                name = " ".join(str(part) for part in (mode, cache.native["cache_option"]) if part)
                print(f"| {name} | {skipped} | {seconds:.1f} | {np.abs(pixels - plain).mean():.1f} |", flush=True)
        finally:
            await adapter.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="qwen-tiny", choices=["qwen-tiny", "tiny"])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--side", type=int, default=64)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder))
        synthetic.make(asked.model, settings)
        asyncio.run(measure(asked.model, asked.side, asked.steps, settings, Path(folder) / "work"))


if __name__ == "__main__":
    main()
