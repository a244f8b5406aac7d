"""The engine's second mode on the real binary: a network of one block that keeps colours enlarges pictures in tiles."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image
from served import until

from imagegen.engine_build import probe
from imagegen.engines.base import EngineError
from imagegen.engines.sdcpp.upscaler import MODE, SCALE, EsrganUpscaler
from imagegen.models.synthetic import esrgan

Make = Callable[..., EsrganUpscaler]
WIDTH, HEIGHT = 44, 40


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "upscaler.safetensors"
    path.write_bytes(esrgan.files()[path.name].data)
    return path


@pytest.fixture
def make(sd_server: Path, network: Path, tmp_path: Path) -> Make:
    def upscaler(path: Path = network, binary: Path = sd_server) -> EsrganUpscaler:
        return EsrganUpscaler(binary, path, threads=1, workdir=tmp_path / "work")

    return upscaler


def picture(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Smooth colours that differ everywhere, so that a tile in the wrong place shows."""
    down, across = np.mgrid[0:height, 0:width]
    channels = across * 255 / width, down * 255 / height, (across + down) * 255 / (width + height)
    return np.stack(channels, axis=-1).astype(np.uint8)


def enlarged(upscaler: EsrganUpscaler, source: np.ndarray, tile_px: int = 128) -> tuple[np.ndarray, list[Any]]:
    """The larger picture, and the reports of progress."""
    height, width, _ = source.shape
    tiles: list[Any] = []

    async def run() -> bytes:
        return bytes(await upscaler.enlarge(source.tobytes(), width, height, tile_px, lambda *now: tiles.append(now)))

    pixels = asyncio.run(run())
    return np.frombuffer(pixels, np.uint8).reshape(height * SCALE, width * SCALE, 3), tiles


def test_this_releases_engine_can_enlarge_and_another_program_cannot(sd_server: Path) -> None:
    assert probe.can_upscale(sd_server)
    assert not probe.can_upscale(Path("/bin/true")) and not probe.can_upscale(Path("/nowhere"))


@pytest.mark.parametrize(("tile_px", "tiles"), [(128, 1), (32, 4)])
def test_a_picture_is_enlarged_in_tiles_that_join_without_a_seam(make: Make, tile_px: int, tiles: int) -> None:
    source = picture()
    large, reports = enlarged(make(), source, tile_px)
    assert reports == [(done, tiles) for done in range(1, tiles + 1)]
    small = np.asarray(Image.fromarray(large).resize((WIDTH, HEIGHT), Image.Resampling.BOX), dtype=int)
    assert np.abs(small - source).mean() < 3
    smooth = np.abs(np.diff(large.astype(int), axis=1))
    assert smooth.max() < 40, "a seam between two tiles"


def test_the_network_changes_the_picture_and_is_deterministic(make: Make) -> None:
    source = picture(32, 32)
    first, _ = enlarged(make(), source)
    again, _ = enlarged(make(), source)
    nearest = source.repeat(SCALE, axis=0).repeat(SCALE, axis=1)
    assert (first == again).all() and (first != nearest).any()


def without(name: str) -> bytes:
    tensors = esrgan.tensors()
    tensors[name.removesuffix("!")] = tensors.pop(name.removesuffix("!"))[:, :8] if name.endswith("!") else np.zeros(1)
    if not name.endswith("!"):
        del tensors[name]
    return esrgan.SafetensorsFile(tensors).data


WHOLE = esrgan.files()["upscaler.safetensors"].data
DAMAGED: dict[str, tuple[bytes, str]] = {
    "cut off": (WHOLE[:-1000], "is cut off"),
    "empty": (b"", "is no safetensors file"),
    "a page of an error": (b"<!doctype html><p>404</p>" * 10, "is no safetensors file"),
    "a pickle": (b"\x80\x02}q\x00." * 100, "is no safetensors file"),
    "another model": (esrgan.SafetensorsFile({"blocks.0.weight": np.ones((4, 4))}).data, "is no ESRGAN network"),
    "fewer features": (
        esrgan.SafetensorsFile({"conv_first.weight": np.ones((32, 3, 3, 3))}).data,
        "is no ESRGAN network of 64 features",
    ),
    "a tensor is missing": (without("body.0.rdb2.conv3.weight"), "cannot be used. Its last words"),
    "a tensor has another shape": (without("conv_body.weight!"), "cannot be used. Its last words"),
}


@pytest.mark.parametrize("fault", DAMAGED)
def test_a_damaged_network_is_a_sentence(make: Make, tmp_path: Path, fault: str) -> None:
    data, says = DAMAGED[fault]
    path = tmp_path / "mine.safetensors"
    path.write_bytes(data)
    upscaler = make(path)
    with pytest.raises(EngineError, match=says) as caught:
        upscaler.check()
        enlarged(upscaler, picture(16, 16))
    assert caught.value.code == "load_failed"
    assert str(tmp_path) not in caught.value.detail


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("gone.safetensors", "model_missing: There is no file gone.safetensors"),
        ("", "load_failed: .* cannot be read: Is"),
    ],
    ids=["no file", "a folder"],
)
def test_a_network_that_cannot_be_read_is_reported(make: Make, tmp_path: Path, name: str, error: str) -> None:
    with pytest.raises(EngineError) as caught:
        make(tmp_path / name).check()
    assert re.match(error, f"{caught.value.code}: {caught.value.detail}")
    assert str(tmp_path) not in caught.value.detail


def test_too_little_memory_is_said_and_a_smaller_tile_fits(make: Make, sd_server: Path, tmp_path: Path) -> None:
    small = tmp_path / "sd-server"
    small.write_text(f'#!/bin/sh\nulimit -v 310000\nexec {sd_server} "$@"\n')
    small.chmod(0o755)
    source = picture(96, 48)
    with pytest.raises(EngineError) as caught:
        enlarged(make(binary=small), source, tile_px=96)
    assert caught.value.code == "out_of_vram"
    assert enlarged(make(binary=small), source, tile_px=48)[0].shape == (192, 384, 3)


def mode_process() -> psutil.Process | None:
    """The running process of the engine's second mode."""
    for child in psutil.Process().children(recursive=True):
        try:
            if MODE in child.cmdline() and child.name() == "sd-server":
                return child
        except psutil.NoSuchProcess:
            continue
    return None


def started() -> psutil.Process:
    """The same, once there is one."""
    until(lambda: mode_process() is not None, "an upscale runs", every=0.01)
    found = mode_process()
    assert found is not None
    return found


def while_running(upscaler: EsrganUpscaler, meddle: Callable[[asyncio.Task[Any], psutil.Process], None]) -> Any:
    """Run an upscale, and `meddle` with it once its process runs."""

    async def run() -> Any:
        source = picture(300, 300)
        task = asyncio.create_task(upscaler.enlarge(source.tobytes(), 300, 300, 128, lambda *_now: None))
        found = await asyncio.to_thread(started)
        meddle(task, found)
        return await task

    coroutine: Coroutine[Any, Any, Any] = run()
    return asyncio.run(coroutine)


def test_a_killed_upscaler_is_an_engine_that_died(make: Make) -> None:
    with pytest.raises(EngineError, match="ended by SIGKILL") as caught:
        while_running(make(), lambda _task, process: os.kill(process.pid, signal.SIGKILL))
    assert caught.value.code == "engine_died"


def test_cancelling_ends_the_process(make: Make) -> None:
    with pytest.raises(asyncio.CancelledError):
        while_running(make(), lambda task, _process: task.cancel() and None)
    until(lambda: mode_process() is None, "the upscaler's process is gone")
