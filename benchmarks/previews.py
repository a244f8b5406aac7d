"""What previews cost: sampling time with them ÷ without, on the real engine.

    python benchmarks/previews.py [--model sketch] [--rounds 10] [--threads 1]

Draws the same picture without previews and with those of `preview: "auto"` in turn, which of them first in turn too.
As in the service, each preview is corrected, enlarged and encoded in a thread while the engine goes on. Prints medians
of the seconds that the engine sampled, of the CPU seconds of engine and service together, and both ratios (goal: at
most 1.02).
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import psutil

from imagegen import engine_build
from imagegen.engines.base import DrawRequest, Preview, PreviewPlan
from imagegen.engines.sdcpp.adapter import SdcppServerAdapter
from imagegen.images.preview_colours import PreviewColours
from imagegen.images.previews import encode_preview
from imagegen.models.catalog import Catalog
from imagegen.models.synthetic import make as synthetic
from imagegen.settings import Settings


async def drawn(
    engine: SdcppServerAdapter, request: DrawRequest, colours: PreviewColours | None
) -> tuple[float, float, int]:
    """Draw one picture. Returns seconds of sampling, CPU seconds of both processes, and the number of previews."""
    encoding: list[asyncio.Task[bytes]] = []

    def seen(one: Preview) -> None:
        size, picture = (one.width, one.height), (request.width, request.height)
        work = asyncio.to_thread(encode_preview, one.rgb, size, picture, colours)
        encoding.append(asyncio.create_task(work))

    process = psutil.Process(engine.pid)

    def cpu_s() -> float:
        times = process.cpu_times()
        return times.user + times.system + time.process_time()

    before = cpu_s()
    await engine.generate(request, lambda _: None, seen)
    await asyncio.gather(*encoding)
    spent = cpu_s() - before
    last = engine.last_draw
    assert last is not None and last.sample_s is not None
    return last.sample_s, spent, len(encoding)


async def measured(model: str, rounds: int, threads: int) -> dict[bool, list[tuple[float, float, int]]]:
    """The figures of each round, with and without previews."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder))
        entry = Catalog.load(settings).get(model)
        synthetic.make(model, settings)
        d, look = entry.defaults, entry.preview_look
        engine = SdcppServerAdapter(
            engine_build.resolve(settings), entry.argv(settings), threads, Path(folder) / "work", channel=True
        )
        await engine.start(lambda _: None)
        scheduler = None if d.scheduler is None else str(d.scheduler.value)
        found: dict[bool, list[tuple[float, float, int]]] = {False: [], True: []}
        for number in range(rounds + 1):
            for previews in (False, True) if number % 2 else (True, False):
                plan: PreviewPlan | None = look.plan("auto") if previews else None
                request = DrawRequest(
                    "a red circle", "", int(d.width.value), int(d.height.value), int(d.steps.value),
                    float(d.cfg_scale.value), str(d.sampler.value), scheduler, seed=1, preview=plan,
                )  # fmt: skip
                figures = await drawn(engine, request, look.correction())
                if number:  # the first warms up
                    found[previews].append(figures)
        await engine.stop()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sketch", help="one that a script of this project makes")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    found = asyncio.run(measured(given.model, given.rounds, given.threads))
    median = {how: [statistics.median(column) for column in zip(*rows, strict=True)] for how, rows in found.items()}
    for how, (sampling_s, spent_s, previews) in median.items():
        name = "with previews" if how else "without"
        print(f"{name:14} sampling {sampling_s:.3f} s, CPU {spent_s:.3f} s, previews {previews:g}")
    with_s, without_s = median[True], median[False]
    print(f"{'ratio':14} sampling {with_s[0] / without_s[0]:.3f}, CPU {with_s[1] / without_s[1]:.3f}")


if __name__ == "__main__":
    main()
