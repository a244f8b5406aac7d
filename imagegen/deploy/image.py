"""Builds the image in three steps: the engine's base image, BentoML's image on it, and the final image from both."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import imagegen
from imagegen import version
from imagegen.deploy.containers import Containers, DeployError
from imagegen.engine_build.cards import Cards, find_cards
from imagegen.engine_build.plan import OLDEST_DRIVER, Backend

Tell = Callable[[str], None]

CUDA_MAJOR = 13
"""The CUDA release that requirements/cuda.in pins."""
BENTO_BASE = "localhost/imagegen-engine:bento"
"""The base image that bentofile.yaml names."""
BENTO = "localhost/imagegen-bento:latest"


@dataclass(frozen=True)
class Recipe:
    """Build options of an image.

    archs, jobs: as for `imagegen engine build`. 0 jobs: chosen by cores and memory. options: for every build, such as
    `network=host`.
    """

    backend: Backend
    archs: str = "all"
    jobs: int = 0
    options: tuple[str, ...] = ()
    root: Path = field(default=Path(imagegen.__file__).parents[1])

    @property
    def image(self) -> str:
        return f"localhost/imagegen:{self.backend}"

    @property
    def engine_image(self) -> str:
        return f"localhost/imagegen-engine:{self.backend}"


def choose_backend(cards: Cards | None = None) -> Backend:
    """cuda if a container could use an NVIDIA GPU of this machine, cpu if it has none. Raises DeployError."""
    cards = find_cards() if cards is None else cards
    if cards.problem is not None:
        raise DeployError(
            f"The NVIDIA driver of this machine does not answer ({cards.problem}). Mend it (`nvidia-smi` shows the "
            "same fault), or choose the CPU, which is very much slower: --backend cpu."
        )
    if not cards.found:
        return "cpu"
    check_driver(cards)
    return "cuda"


def check_driver(cards: Cards) -> None:
    """Raises DeployError if this machine's driver is too old for the CUDA image."""
    if cards.found and cards.driver_cuda is not None and cards.driver_cuda[0] < CUDA_MAJOR:
        raise DeployError(
            f"The image is built with CUDA {CUDA_MAJOR}, which needs the NVIDIA driver {OLDEST_DRIVER[CUDA_MAJOR]} or "
            f"newer, and the driver here is {cards.driver}: update it, or choose the CPU, which is very much slower: "
            "--backend cpu."
        )


def build(containers: Containers, recipe: Recipe, tell: Tell) -> str:
    """Build what has changed and return the final image's name. Raises DeployError."""
    if not (recipe.root / "deploy" / "engine.Dockerfile").is_file():
        raise DeployError(
            f"{recipe.root} has no deploy/engine.Dockerfile: run this from a copy of the project's repository "
            "(`make serve` makes its .venv/bin/imagegen)."
        )
    tell(f"engine ({recipe.backend}): compiled unless the image of an earlier build has it")
    engine_arguments = {"BACKEND": recipe.backend, "ARCHS": recipe.archs, "JOBS": str(recipe.jobs)}
    for target, tag in (("runtime", recipe.engine_image), ("bento", BENTO_BASE)):
        _build(containers, recipe, "engine.Dockerfile", tag, engine_arguments, ["--target", target])
    tell("service: bentoml build, bentoml containerize")
    _bento(containers, recipe)
    tell("image")
    arguments = {
        "BENTO": BENTO,
        "ENGINE": recipe.engine_image,
        "VERSION": imagegen.__version__,
        "REVISION": version.commit_of(recipe.root),
    }
    _build(containers, recipe, "service.Dockerfile", recipe.image, arguments, containers.format_options())
    return recipe.image


def sizes(containers: Containers, recipe: Recipe) -> str:
    """A text with the sizes of the base and the final image in MB."""
    words = []
    for image in (recipe.engine_image, recipe.image):
        size_bytes = int(containers.ask("image", "inspect", "--format", "{{.Size}}", image))
        words.append(f"{image} {size_bytes / 1e6:.0f} MB")
    return ", ".join(words)


def _build(
    containers: Containers,
    recipe: Recipe,
    file: str,
    tag: str,
    arguments: Mapping[str, str],
    more: list[str],
) -> None:
    command: list[str | Path] = ["build", *(f"--{one}" for one in recipe.options)]
    for name, value in arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    command += [*more, "--file", recipe.root / "deploy" / file, "--tag", tag, recipe.root]
    containers.show(*command)


def _bento(containers: Containers, recipe: Recipe) -> None:
    """Pack the service and build BentoML's image. Uses a separate BentoML store, so that Bentos do not accumulate."""
    with tempfile.TemporaryDirectory(prefix="imagegen-bento-") as store:
        # Packing imports the service's module, which must not read this shell's settings, tokens and certificate.
        clean = {name: value for name, value in os.environ.items() if not name.startswith("IMAGEGEN_")}
        environment = {
            **clean,
            "BENTOML_HOME": store,
            "BENTOML_DO_NOT_TRACK": "True",
            "IMAGEGEN_HOME": str(Path(store) / "home"),
        }
        bentoml = [sys.executable, "-m", "bentoml"]
        tag = _run([*bentoml, "build", "--output", "tag", str(recipe.root)], environment, recipe.root)
        tag = tag.strip().splitlines()[-1].removeprefix("__tag__:")
        options = [part for one in recipe.options for part in ("--opt", one)]
        _run(
            [*bentoml, "containerize", tag, "--backend", containers.name, *options, "--image-tag", BENTO],
            environment, recipe.root, shown=True,
        )  # fmt: skip


def _run(command: list[str], environment: Mapping[str, str], folder: Path, *, shown: bool = False) -> str:
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, text=True,
        stdout=None if shown else subprocess.PIPE, stderr=None if shown else subprocess.PIPE, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        words = "" if shown else f": {done.stderr.strip()[-2000:]}"
        raise DeployError(f"`bentoml {command[3]}` failed with exit code {done.returncode}{words}")
    return done.stdout or ""
