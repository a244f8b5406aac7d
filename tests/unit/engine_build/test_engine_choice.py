"""Which engine a machine gets, and the sentences when there is none; Vulkan's choice is in test_vulkan_choice.py."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from click.testing import CliRunner
from fake_cuda import BROKEN, H200, NO_CARDS, OLD_DRIVER, fake_toolkit
from finished_build import HERE, See, finished
from served import free_port

from imagegen import engine_build as engines
from imagegen.engine_build import EngineBuildError, EngineMissing, Options, builder, plan
from imagegen.engine_build.cards import Card, Cards
from imagegen.settings import Settings
from imagegen.startup import configuration


def test_resolve_prefers_what_the_machine_can_use_best(settings: Settings, see: See) -> None:
    see(H200)
    with pytest.raises(EngineMissing, match="run `imagegen engine build`"):
        engines.resolve(settings)
    portable = finished(settings, Options(portable=True), frozenset())
    # Portable x86 code asks for AVX2, which every machine that these tests run on should have.
    assert engines.resolve(settings) == portable
    native = finished(settings, Options())
    assert engines.resolve(settings) == native
    other = finished(settings, Options("cuda", ("86-real",), portable=True))
    assert engines.resolve(settings) == native
    cuda = finished(settings, Options("cuda", ("90-real",)))
    assert engines.resolve(settings) == cuda
    see(NO_CARDS)
    assert engines.resolve(settings) == native
    see(Cards((Card("RTX 3060", (8, 6)),)))
    assert engines.resolve(settings) == other


def test_a_driver_older_than_cuda_is_reported(settings: Settings, see: See) -> None:
    built = finished(settings, Options("cuda", ("90-real",)), cuda=(13, 0))
    card = Card("NVIDIA H200", (9, 0))
    see(Cards((card,), driver_cuda=(13, 2), driver="590.44"))
    assert engines.resolve(settings) == built
    see(Cards((card,), driver_cuda=(12, 8), driver="570.133.20"))
    with pytest.raises(
        EngineMissing, match=r"CUDA 13, which needs the NVIDIA driver 580 or newer, and the driver .*570"
    ):
        engines.resolve(settings)


IN_CONTAINER = "in a container, start it with `--gpus all` (Docker) or `--device nvidia.com/gpu=all` (Podman)"


@pytest.mark.parametrize(
    ("cards", "features", "sentence"),
    [
        (NO_CARDS, HERE, f"no NVIDIA GPU is visible here: {IN_CONTAINER}"),
        (
            BROKEN,
            HERE,
            "the NVIDIA driver does not answer (Driver/library version mismatch): mend it on the machine itself, where "
            "`nvidia-smi` shows the same fault",
        ),
        (
            Cards((Card("RTX 3060", (8, 6)),)),
            HERE,
            "the engine here was compiled for CUDA 90-real, and the GPU here is 86: build it for this GPU: "
            "`imagegen deploy --arch 86`, or without a container `imagegen engine build --arch 86`",
        ),
        (
            Cards((Card("NVIDIA H200", (9, 0)),), driver_cuda=(12, 8), driver="570"),
            HERE,
            "the engine here was compiled with CUDA 13, which needs the NVIDIA driver 580 or newer, and the driver "
            "here is 570: update the driver",
        ),
        (
            H200,
            HERE | {"amx_of_another_machine"},
            "the engine here was compiled for a CPU with instructions that this one lacks: build it on this machine: "
            "`imagegen deploy --arch 90`, or without a container `imagegen engine build --arch 90`",
        ),
        (
            H200,
            None,
            "there is no engine for a GPU here: build one: `imagegen deploy --backend cuda`, or without a container "
            "`imagegen engine build --backend cuda`",
        ),
    ],
)
def test_a_gpu_can_be_required(
    settings: Settings,
    see: See,
    cards: Cards,
    features: frozenset[str] | None,
    sentence: str,
) -> None:
    """A CUDA image has a CPU engine too, and uses it only if the setting allows it. A reason, its remedy."""
    if features is not None:
        finished(settings, Options("cuda", ("90-real",)), features, cuda=(13, 0))
    cpu = finished(settings, Options(portable=True), frozenset())
    strict = settings.model_copy(update={"on_missing_gpu": "exit"})
    see(cards)
    with pytest.raises(EngineMissing) as refused:
        engines.require_gpu(strict)
    assert str(refused.value) == (
        f"This service is to draw on a GPU, but {sentence}; or let it draw on the CPU, which is very much "
        "slower, with IMAGEGEN_ON_MISSING_GPU=cpu."
    )
    with pytest.raises(EngineMissing, match="IMAGEGEN_ON_MISSING_GPU=exit rules out"):
        engines.resolve(strict)  # a card that goes away later is no reason to draw on the CPU in silence
    engines.require_gpu(settings)
    assert engines.resolve(settings) == cpu


def test_a_gpu_that_is_there_is_enough(settings: Settings, see: See) -> None:
    finished(settings, Options("cuda", ("90-real",)), cuda=(13, 0))
    see(H200)
    engines.require_gpu(settings.model_copy(update={"on_missing_gpu": "exit"}))


def test_a_gpu_that_is_required_is_the_second_engines_where_that_draws(settings: Settings, see: See) -> None:
    strict = settings.model_copy(update={"on_missing_gpu": "exit"})
    see(H200)  # and no sd-server for it
    engines.require_gpu(strict, torch_uses_cuda=True)
    with pytest.raises(EngineMissing, match="the torch that is installed here was built for the CPU"):
        engines.require_gpu(strict, torch_uses_cuda=False)
    see(NO_CARDS)
    with pytest.raises(EngineMissing, match="no NVIDIA GPU is visible here"):
        engines.require_gpu(strict, torch_uses_cuda=True)


def test_serve_requires_the_gpu_of_the_engine_that_draws(
    tmp_path: Path, see: See, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve = importlib.import_module("imagegen.cli.serve")
    values = {"HOME": tmp_path, "CACHE": tmp_path / "cache", "MODEL": "glm-tiny", "ON_MISSING_GPU": "exit"}
    values["PORT"] = free_port()
    for name, value in values.items():
        monkeypatch.setenv(f"IMAGEGEN_{name}", str(value))
    see(H200)
    monkeypatch.setattr(configuration, "torch_uses_cuda", lambda: False)
    monkeypatch.setattr(serve.os, "execv", lambda *_: pytest.fail("the service was started"))
    refused = CliRunner().invoke(serve.serve)
    assert refused.exit_code == 1
    assert "torch that is installed here was built for the CPU" in refused.output


def test_resolve_says_why_none_fits(settings: Settings, see: See) -> None:
    finished(settings, Options("cuda", ("90-real",)))
    for cards, why in (
        (NO_CARDS, "compiled for CUDA, and no NVIDIA GPU is visible here"),
        (BROKEN, "does not answer (Driver/library version mismatch)"),
        (Cards((Card("RTX 3060", (8, 6)),)), "compiled for CUDA 90-real, and the GPU here is 86"),
    ):
        see(cards)
        with pytest.raises(EngineMissing) as caught:
            engines.resolve(settings)
        assert why in str(caught.value)


def test_resolve_passes_over_another_machines_and_half_a_build(settings: Settings, see: See) -> None:
    see(NO_CARDS)
    finished(settings, Options(), HERE | {"avx4096"})
    with pytest.raises(EngineMissing, match="instructions that this one lacks"):
        engines.resolve(settings)
    half = finished(settings, Options())
    half.write_text("#!")
    with pytest.raises(EngineMissing):
        engines.resolve(settings)


@pytest.mark.parametrize(
    ("kind", "why"), [("none", "does not exist"), ("folder", "is not a file"), ("plain", "is not executable")]
)
def test_a_wrong_sd_server_setting(tmp_path: Path, kind: str, why: str) -> None:
    given_path = tmp_path / "mine"
    if kind == "folder":
        given_path.mkdir()
    if kind == "plain":
        given_path.write_text("#!/bin/sh\n")
        given_path.chmod(0o644)
    with pytest.raises(EngineMissing, match=f"IMAGEGEN_SD_SERVER={given_path} {why}"):
        engines.resolve(Settings(cache=tmp_path, sd_server=given_path))


def test_the_sd_server_setting_comes_first(settings: Settings, tmp_path: Path, see: See) -> None:
    see(NO_CARDS)
    finished(settings, Options())
    mine = tmp_path / "mine"
    mine.write_text("#!/bin/sh\n")
    mine.chmod(0o755)
    own = Settings(cache=settings.cache, sd_server=mine)
    assert engines.resolve(own) == mine
    assert engines.ensure(own, lambda *_: None) == mine


def test_default_backend(no_cuda: Path, tmp_path: Path, see: See, monkeypatch: pytest.MonkeyPatch) -> None:
    see(NO_CARDS)
    assert engines.default_backend() == "cpu"
    for cards, why in ((OLD_DRIVER, "NVIDIA A10"), (BROKEN, "Driver/library version mismatch")):
        see(cards)
        with pytest.raises(EngineBuildError) as caught:
            engines.default_backend()
        assert why in str(caught.value)
        assert "imagegen engine build --backend cpu" in str(caught.value)
    see(H200)
    assert engines.default_backend() == "cuda"  # nvcc comes from the package index
    monkeypatch.setenv("CUDA_HOME", str(fake_toolkit(tmp_path / "cuda").parents[1]))
    assert engines.default_backend() == "cuda"


def test_a_gpu_that_cannot_be_built_for_keeps_the_chosen_cpu_engine(
    no_cuda: Path, settings: Settings, see: See
) -> None:
    see(OLD_DRIVER)
    with pytest.raises(EngineBuildError, match="cannot be built for it"):
        engines.ensure(settings, lambda *_: None)
    chosen = finished(settings, Options())
    said: list[str] = []
    assert engines.ensure(settings, lambda *event: said.append(event[3])) == chosen
    assert "cannot be built for it" in said[0]


def test_options_for(see: See) -> None:
    see(Cards((*H200.found, Card("RTX 3060", (8, 6)), Card("RTX 3060", (8, 6)))))
    assert engines.options_for("cuda") == Options("cuda", ("86-real", "90-real"))
    assert engines.options_for("cuda", "75") == Options("cuda", ("75-real",), portable=True)
    assert engines.options_for("cpu", portable=True) == Options(portable=True)
    with pytest.raises(EngineBuildError, match="means nothing for a CPU build"):
        engines.options_for("cpu", "90")
    see(NO_CARDS)
    with pytest.raises(EngineBuildError, match=r"no NVIDIA GPU was found\. Name it: --arch 86"):
        engines.options_for("cuda")


def test_a_build_with_an_older_channel_is_replaced(
    settings: Settings, see: See, monkeypatch: pytest.MonkeyPatch
) -> None:
    see(Cards())
    current = finished(settings, Options())
    old = current.parent.rename(current.parent.with_name("0.4.7-cpu-native-00000000")) / "sd-server"
    assert engines.resolve(settings) == old  # it draws, without the channel of now
    built: list[Options] = []

    def build(engine_dir: Path, options: Options, *_: object, **__: object) -> engines.Built:
        built.append(options)
        folder = finished(settings, options).parent
        manifest = plan.read_manifest(folder)
        assert manifest is not None
        return engines.Built(folder / "sd-server", manifest, fresh=True)

    monkeypatch.setattr(builder, "build", build)
    assert engines.ensure(settings, lambda *_: None) == current
    assert built == [Options()]
    assert engines.resolve(settings) == current
    assert engines.ensure(settings, lambda *_: None) == current
    assert built == [Options()]
