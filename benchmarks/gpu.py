"""What a real GPU does with a full-size Qwen-Image: builds, makes, measures and writes docs/gpu.md, in stages.

    python benchmarks/gpu.py --work DIR            # again and again, until it exits with 0
    python benchmarks/gpu.py --work DIR --dry-run  # every stage on the CPU at toy size; docs/gpu.md stays as it is

A call works for at most --minutes (default 9), ends between two steps with status 75 when there is more to do, and goes
on there the next time: DIR/state.json has every result, and how long each kind of step took, so that none is begun too
late. (A call's first step is begun anyway: one that takes longer by itself is not put off for ever.) Stages, in order:

  weights   Qwen-Image in Q4_0 at full size, random: 60 blocks, 28 text layers; arithmetic and memory are the real ones'
  engine    sd-server for this card's architecture (in a session of its own: it may outlast a call); the build fetches
            CUDA's compiler where there is none
  measure   flash attention, by sd-server alone and by the service: loads from disk and page cache, pictures, memory;
            then, by sd-server alone, the pictures without flash attention and with one step cache
  table     after every stage: the results into docs/gpu.md (dry run: DIR/gpu.md), and DIR/results.json

A machine without a network: `--from FOLDER` has the engine's source archive and the wheels of requirements/cuda.txt.
IMAGEGEN_SD_SERVER names an engine that is built already.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests/support"), str(Path(__file__).parent)]

import gpu_page  # noqa: E402
from gpu_call import Call, OutOfTime, State  # noqa: E402
from gpu_drive import START_LIMIT_S, Direct, Drawing, Served, Setup, Way, after_unload, drawn, taken_bytes  # noqa: E402
from page_cache import cached_share, drop, fetch  # noqa: E402
from served import Service  # noqa: E402

from imagegen import __version__, engine_build  # noqa: E402
from imagegen.engine_build import probe  # noqa: E402
from imagegen.engine_build.cards import find_cards  # noqa: E402
from imagegen.engine_build.plan import PINNED, read_manifest  # noqa: E402
from imagegen.models.catalog import Catalog  # noqa: E402
from imagegen.models.synthetic import klein, qwen  # noqa: E402
from imagegen.models.synthetic.random_gguf import RandomGGUF  # noqa: E402
from imagegen.settings import Settings  # noqa: E402

MORE_TO_DO = 75  # EX_TEMPFAIL of sysexits.h
# An engine compiles and allocates during its first picture.
SERVICE_START, FIRST_PICTURE = "start of the service", "first picture"
CACHE = {"cache_mode": "easycache", "cache_option": "threshold=0.2"}
SETUPS = (  # the most important one first
    Setup("fa", "flash attention", ("--diffusion-fa",), ways=("direct", "service"), loads=True),
    Setup("no-fa", "no flash attention"),
    Setup("fa-cache", "flash attention, easycache 0.2", ("--diffusion-fa",), CACHE),
)
EXPECTED_S = {
    "cold load": 40.0, "warm load": 20.0, FIRST_PICTURE: 20.0, SERVICE_START: 30.0, "picture 512": 10.0,
    "picture 1024": 40.0, "weights": 120.0, "engine": 300.0,
}  # fmt: skip
"""Expected seconds of a full-size step on a data centre's card. Used only to decide whether to begin it."""
ENTRY = """
title = "Benchmark"
description = "Random weights."
size_multiple = 16
noise = true
options = {options}
[licence]
name = "made by this project's own script"
[capabilities]
draw = true
edit = false
[defaults]
steps = {steps}
cfg_scale = {cfg}
width = 64
height = 64
sampler = "euler"
"""


@dataclass(frozen=True)
class Scale:
    """The sizes of all parts. `files` has the weights by name, `roles` their roles in the engine."""

    files: Callable[[], dict[str, RandomGGUF]]
    roles: dict[str, str]
    flags: tuple[tuple[str, str], ...]
    sizes_px: tuple[int, ...]
    pictures: int
    drawing: Drawing


FULL = Scale(
    qwen.full_size_files,
    {"dit.gguf": "diffusion_model", "llm.gguf": "llm", "vae.gguf": "vae"},
    (("--flow-shift", "3"),),
    (512, 1024),
    3,
    Drawing(steps=20, cfg_scale=2.5),
)
TOY = Scale(
    klein.files,
    {"dit.gguf": "diffusion_model", "llm.gguf": "llm", "tae.gguf": "tae"},
    (),
    (64, 96),
    1,
    Drawing(steps=1, cfg_scale=1.0),
)


@dataclass
class Bench:
    """The stages, within the limits of this call."""

    work: Path
    dry: bool
    brought: Path | None
    page: Path
    call: Call
    pictures: int | None = None  # of each size and setup, replaces the scale's number
    setups: tuple[Setup, ...] = SETUPS
    only_weights: bool = False

    @property
    def scale(self) -> Scale:
        return TOY if self.dry else FULL

    @property
    def settings(self) -> Settings:
        return Settings(home=self.work / "home")

    def run(self) -> None:
        """Run the stages. Raises OutOfTime; the page then shows the results so far."""
        try:
            self.call.unit("weights", "weights", self._weights)
            if self.only_weights:
                return
            self.call.unit("engine", "engine", self._engine)
            for setup in self.setups:
                for way in setup.ways:
                    self._measure(setup, way)
                    self._write_page()
        finally:
            self._write_page()

    def _write_page(self) -> None:
        if self.call.state.done("engine") is not None:
            gpu_page.write(self.page, self.work / "results.json", self.call.state.data, self.scale.sizes_px, SETUPS)

    # ---- build --------------------------------------------------------------------------------

    def _engine(self) -> dict[str, Any]:
        """Run `imagegen engine build` in its own session, and wait for it while time is left."""
        settings = self.settings
        archive = self.brought / PINNED.filename if self.brought else None
        if archive is not None and archive.is_file():
            kept = settings.engine_dir / "sdist" / PINNED.filename  # the builder checks its hash
            kept.parent.mkdir(parents=True, exist_ok=True)
            if not kept.exists():
                shutil.copyfile(archive, kept)
        if settings.sd_server is not None:
            return self._about_engine()
        command = [sys.executable, "-m", "imagegen.cli", "engine", "build", "--backend", "cpu" if self.dry else "cuda"]
        env = dict(os.environ)
        if self.brought is not None:  # the build's pip then takes CUDA's packages from there
            env |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.brought.resolve())}
        with (self.work / "engine-build.log").open("a+") as log:
            build = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log, start_new_session=True)
            try:
                # The build of an earlier call holds the cache's lock: this build waits for it.
                status = build.wait(max(1.0, self.call.left_s))
            except subprocess.TimeoutExpired:
                raise OutOfTime from None
            if status != 0:
                log.seek(0)
                raise SystemExit(f"The engine was not built. The end of {log.name}:\n{log.read()[-2000:]}")
        return self._about_engine()

    def _about_engine(self) -> dict[str, Any]:
        """Build facts from the manifest beside the binary; None values without a manifest."""
        manifest = read_manifest(self._binary().parent)
        if manifest is None:
            return {"backend": None, "archs": None, "seconds": None, "cuda": None}
        return {name: getattr(manifest, name) for name in ("backend", "archs", "seconds", "sha256", "cuda")}

    def _binary(self) -> Path:
        """The engine for these measurements. Never a CPU build for the figures of a GPU."""
        binary = engine_build.resolve(self.settings)
        if not self.dry and probe.backend_of(binary) != "cuda":
            raise SystemExit(f"{binary} is no CUDA build, and figures of a GPU are wanted.")
        return binary

    def _weights(self) -> dict[str, Any]:
        """Make the files in parallel, one process each."""
        folder = self.work / "weights"
        folder.mkdir(exist_ok=True)
        began = time.monotonic()
        with ProcessPoolExecutor() as pool:
            sizes = dict(pool.map(_make_weights, [(self.dry, name, folder) for name in self.scale.files()]))
        return {"bytes": sum(sizes.values()), "files": sizes, "s": round(time.monotonic() - began, 1)}

    # ---- measure ------------------------------------------------------------------------------

    def _measure(self, setup: Setup, way_name: str) -> None:
        """Measure loads, then pictures on the loaded engine. Starts nothing if all were measured before."""
        at = f"{setup.name}/{way_name}"
        seeds = range(1, (self.pictures or self.scale.pictures) + 1)
        pictures = [(size, seed) for size in self.scale.sizes_px for seed in seeds]
        files = sorted((self.work / "weights").glob("*.gguf"))
        loads = [(f"{at}/cold", "cold load", drop), (f"{at}/warm", "warm load", fetch)] if setup.loads else []
        to_load = [kind for name, kind, _ in loads if self.call.state.done(name) is None]
        to_draw = [(size, seed) for size, seed in pictures if self.call.state.done(f"{at}/{size}/{seed}") is None]
        if not to_load and not to_draw:
            return
        self._entry(setup)
        before_drawing = ["warm load", FIRST_PICTURE, *(f"picture {size}" for size, _ in to_draw[:1])]
        self.call.demand(*[SERVICE_START] * (way_name == "service"), *(to_load[:1] or before_drawing))
        with self._started(setup, way_name) as way:
            for name, kind, before in loads:
                self.call.unit(name, kind, lambda before=before: _loaded(way, files, before))
            if not to_draw:
                return
            self.call.demand(*before_drawing)
            self.call.timed("warm load", way.load)
            self.call.timed(FIRST_PICTURE, lambda: drawn(way, self.scale.sizes_px[0], 0))
            for size, seed in to_draw:
                self.call.unit(
                    f"{at}/{size}/{seed}", f"picture {size}", lambda size=size, seed=seed: drawn(way, size, seed)
                )

    def _entry(self, setup: Setup) -> None:
        """The setup as a catalog entry."""
        scale, models = self.scale, self.settings.models_dir
        models.mkdir(parents=True, exist_ok=True)
        link = models / f"bench-{setup.name}"
        if not link.is_symlink():
            link.symlink_to(self.work.resolve() / "weights", target_is_directory=True)
        options = ", ".join(f"{name} = {json.dumps(value)}" for name, value in setup.options.items())
        text = ENTRY.format(options=f"{{ {options} }}", steps=scale.drawing.steps, cfg=scale.drawing.cfg_scale)
        for file, role in scale.roles.items():
            flag = {"diffusion_model": "--diffusion-model"}.get(role, f"--{role}")
            text += f'[[files]]\nrole = "{role}"\nflag = "{flag}"\nfile = "{file}"\n'
        for flag in setup.flags:
            text += f'[[flags]]\nflag = "{flag}"\n'
        for flag, value in scale.flags:
            text += f'[[flags]]\nflag = "{flag}"\nvalue = {value}\n'
        (models / f"bench-{setup.name}.toml").write_text(text)

    @contextmanager
    def _started(self, setup: Setup, way_name: str) -> Iterator[Way]:
        """A way to drive the engine. Its processes end with the `with` block."""
        model = f"bench-{setup.name}"
        threads = 1 if self.dry else psutil.cpu_count(logical=False) or 1
        binary = self._binary()
        if way_name == "direct":
            argv = Catalog.load(self.settings).get(model).argv(self.settings)
            command = [str(binary), *argv, "-t", str(threads)]
            engine_alone = Direct(command, self.work / "direct", self.scale.drawing, setup.options)
            try:
                yield engine_alone
            finally:
                engine_alone.unload()
            return
        own = {"idle_timeout": "never", "threads": threads, "model": model, "max_job_s": 3600}
        service = Service(self.work.resolve() / "home", binary, own)
        try:
            self.call.timed(SERVICE_START, lambda: service.start(START_LIMIT_S))
            yield Served(service, self.scale.drawing)
        finally:
            service.end()


def _make_weights(task: tuple[bool, str, Path]) -> tuple[str, int]:
    """Write one file of the model. Returns its name and size in bytes."""
    dry, name, folder = task
    making = folder / f".{name}.making"
    (TOY if dry else FULL).files()[name].write(making, lambda _bytes: None)
    with making.open("rb") as file:
        os.fsync(file.fileno())  # only pages written to the disk can be dropped from the page cache
    making.replace(folder / name)
    return name, (folder / name).stat().st_size


def _loaded(way: Way, files: list[Path], before: Callable[[Path], None]) -> dict[str, Any]:
    """Load and unload. Returns seconds, and the bytes in use before, with the model loaded, and after."""
    for path in files:
        before(path)
    cached = sum(cached_share(path) * path.stat().st_size for path in files)
    free = taken_bytes(None)
    seconds = way.load()
    loaded = taken_bytes(way.pid)
    way.unload()
    after, back_s = after_unload(free)
    return {
        "s": round(seconds, 3), "cached_bytes": int(cached), "before_bytes": free, "loaded_bytes": loaded,
        "after_bytes": after, "given_back_s": round(back_s, 2),
    }  # fmt: skip


def about(dry: bool) -> dict[str, Any]:
    """The machine and versions that the figures belong to. Raises SystemExit without a GPU, except in a dry run."""
    cards = find_cards()
    if not cards.found and not dry:
        why = cards.problem or "no NVIDIA GPU was found"
        raise SystemExit(f"There is nothing to measure: {why}. --dry-run runs every stage on the CPU.")
    card = None if dry else cards.found[0]
    cpu = next((line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), "a CPU")
    return {
        "dry_run": dry,
        "card": cpu if card is None else card.name,
        "driver": None if card is None else cards.driver,
        "driver_cuda": None if card is None or cards.driver_cuda is None else ".".join(map(str, cards.driver_cuda)),
        "engine": f"{PINNED.project} {PINNED.version}",
        "imagegen": __version__,
    }


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for weights and results (full size: 20 GB)")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, with a tiny model")
    parser.add_argument("--minutes", type=float, default=9.0, help="end before this many (default 9)")
    parser.add_argument("--setups", help="only these, such as fa,no-fa")
    parser.add_argument("--only-weights", action="store_true", help="make the weights and end: beside a build, say")
    parser.add_argument("--pictures", type=int, help="pictures of each size and setup (default 3)")
    parser.add_argument("--from", dest="brought", type=Path, help="folder with the source archive and CUDA's wheels")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    began = time.monotonic()
    work: Path = arguments.work
    what = about(arguments.dry_run)
    work.mkdir(parents=True, exist_ok=True)
    page = work / "gpu.md" if arguments.dry_run else ROOT / "docs/gpu.md"
    if arguments.dry_run:
        shutil.copyfile(ROOT / "docs/gpu.md", page)
    state = State.open(work / "state.json", what)
    try:
        call = Call(state, 60 * arguments.minutes, began, expected_s={} if arguments.dry_run else EXPECTED_S)
        names = [setup.name for setup in SETUPS] if arguments.setups is None else arguments.setups.split(",")
        setups = tuple(setup for setup in SETUPS if setup.name in names)
        bench = Bench(work, arguments.dry_run, arguments.brought, page, call, arguments.pictures, setups)
        bench.only_weights = arguments.only_weights
        bench.run()
    except OutOfTime:
        print(f"The time is over, {work / 'state.json'} has what is done: run the same command again.", flush=True)
        return MORE_TO_DO
    print(f"Done: {page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
