"""Models that were added from files: the real engine draws with their entries' flags and numbers."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_ernie
import tiny_ovis
from click.testing import CliRunner
from PIL import Image

from imagegen.cli.models import models as command
from imagegen.engines.base import DrawRequest
from imagegen.engines.sdcpp.adapter import SdcppServerAdapter
from imagegen.models.catalog import Catalog
from imagegen.models.entry import Entry
from imagegen.settings import Settings

DEADLINE_S = 300.0
Ask = Callable[..., DrawRequest]


def klein(_folder: Path, models_dir: Path) -> dict[str, Path]:
    """The files of the tiny model, without its entry."""
    names = {"diffusion_model": "dit.gguf", "llm": "llm.gguf", "tae": "tae.gguf"}
    return {role: models_dir / "tiny" / name for role, name in names.items()}


ADDED: dict[str, tuple[Callable[[Path, Path], dict[str, Path]], tuple[str, ...], str, float]] = {
    "FLUX.2 klein": (klein, ("--variant", "flux2-klein"), "flux2-klein-4b", 1.0),
    "FLUX.2 klein base": (klein, ("--variant", "flux2-klein-base"), "flux2-klein-base-4b", 4.0),
    "ERNIE-Image Turbo": (lambda folder, _: tiny_ernie.write(folder), (), "ernie-image-turbo", 1.0),
    "Ovis-Image": (lambda folder, _: tiny_ovis.write(folder), (), "ovis-image", 5.0),
}
"""By model: its files, what the tensors do not tell, the entry that it is built on, and that entry's cfg_scale."""


def added(settings: Settings, files: dict[str, Path], options: tuple[str, ...]) -> Entry:
    companions = [word for role, path in files.items() if role != "diffusion_model" for word in (f"--{role}", path)]
    words = ["add", files["diffusion_model"], "--name", "mine", *companions, *options]
    done = CliRunner(env={"IMAGEGEN_HOME": str(settings.home)}).invoke(command, [*map(str, words)])
    assert done.exit_code == 0, done.output
    return Catalog.load(settings).get("mine")


@pytest.mark.parametrize("model", ADDED)
def test_a_model_that_was_added_draws(
    model: str, models_dir: Path, sd_server: Path, has_channel: bool, ask: Ask, tmp_path: Path
) -> None:
    make, options, base, cfg_scale = ADDED[model]
    settings = Settings(home=tmp_path / "home")
    entry = added(settings, make(tmp_path, models_dir), options)
    packaged = Catalog.packaged().get(base)
    assert (entry.flags, entry.defaults, entry.missing(settings)) == (packaged.flags, packaged.defaults, [])
    request = ask(cfg_scale=float(entry.defaults.cfg_scale.value))
    assert request.cfg_scale == cfg_scale

    async def draw() -> list[bytes]:
        argv, work = entry.argv(settings), tmp_path / "work"
        engine = SdcppServerAdapter(sd_server, argv, 1, work, DEADLINE_S, channel=has_channel)
        await engine.start(lambda _: None)
        try:
            return [await engine.generate(one, lambda _: None) for one in (request, replace(request, prompt="a cat"))]
        finally:
            await engine.stop()

    first, second = (np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int) for png in asyncio.run(draw()))
    assert first.shape == (64, 64, 3) and first.std() > 1, "a picture, not one colour"
    assert (first != second).any(), "the prompt counts"
