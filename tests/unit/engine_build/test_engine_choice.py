"""Which engine a machine gets, the sentences when there is none, and the command that shows them."""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result
from fake_cuda import BROKEN, H200, NO_CARDS, OLD_DRIVER, fake_toolkit
from served import free_port

from imagegen import engine_build as engines
from imagegen.cli.engine import engine as command
from imagegen.engine_build import (
    EngineBuildError,
    EngineMissing,
    Options,
    builder,
    compilation,
    cuda_packages,
    plan,
    select,
    vulkan,
    vulkan_sdk,
)
from imagegen.engine_build.cards import Card, Cards
from imagegen.engine_build.vulkan import Device, Devices
from imagegen.settings import Settings
from imagegen.startup import configuration

HERE = plan.cpu_features()
See = Callable[..., None]
NO_DEVICES = Devices()
RADEON = Devices((Device(0, "AMD Radeon", "discrete"),))
LLVMPIPE = Devices((Device(0, "llvmpipe", "cpu"),))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", cache=tmp_path / "cache", sd_server=None)


def finished(
    settings: Settings, options: Options, features: frozenset[str] = HERE, cuda: tuple[int, int] | None = None
) -> Path:
    """A finished build with a binary that is none; what `resolve` chooses from."""
    folder = settings.engine_dir / plan.name_of(plan.PINNED, options, features)
    folder.mkdir(parents=True)
    binary = folder / "sd-server"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    manifest = plan.Manifest(
        version=plan.PINNED.version,
        backend=options.backend,
        archs=options.archs,
        portable=options.portable,
        flags=options.flags,
        cpu_features=tuple(sorted(options.needs(features))),
        sha256=hashlib.sha256(binary.read_bytes()).hexdigest(),
        size_bytes=binary.stat().st_size,
        seconds=1.0,
        cuda=cuda,
    )
    (folder / "engine.json").write_text(manifest.model_dump_json())
    return binary


@pytest.fixture
def see(monkeypatch: pytest.MonkeyPatch) -> See:
    """Let the code see these cards, and these Vulkan devices: a GPU cannot be had here."""

    def show(cards: Cards, devices: Devices = NO_DEVICES) -> None:
        monkeypatch.setattr(vulkan, "find_devices", lambda *_: devices)
        monkeypatch.setattr(select, "find_cards", lambda: cards)
        monkeypatch.setattr(builder, "find_cards", lambda: cards)

    return show


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


def test_a_driver_older_than_cuda_is_told(settings: Settings, see: See) -> None:
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
    """What a CUDA image does: it has a CPU engine too, and takes it only if somebody says so. A reason, its remedy."""
    if features is not None:
        finished(settings, Options("cuda", ("90-real",)), features, cuda=(13, 0))
    cpu = finished(settings, Options(portable=True), frozenset())
    strict = settings.model_copy(update={"on_missing_gpu": "exit"})
    see(cards)
    with pytest.raises(EngineMissing) as told:
        engines.require_gpu(strict)
    assert str(told.value) == (
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


# Vulkan


@pytest.mark.parametrize(
    ("devices", "visible", "has_tools", "backend", "unused"),
    [
        (RADEON, None, True, "vulkan", True),  # unused: only where the engine was built for the CPU on purpose
        (RADEON, None, False, "cpu", True),
        (LLVMPIPE, None, True, "cpu", False),
        (LLVMPIPE, "0", True, "cpu", False),
        (Devices(problem="a driver crashed (SIGSEGV)"), None, True, "cpu", False),
    ],
)
def test_vulkan_is_chosen_for_a_gpu_without_cuda(
    see: See,
    monkeypatch: pytest.MonkeyPatch,
    devices: Devices,
    visible: str | None,
    has_tools: bool,
    backend: str,
    unused: bool,
) -> None:
    see(NO_CARDS, devices)
    monkeypatch.setattr(vulkan_sdk, "lacking", lambda: None if has_tools else "It needs glslc.")
    if visible is not None:
        monkeypatch.setenv(vulkan.VISIBLE, visible)
    assert engines.default_backend() == backend
    note = select.unused_gpu(NO_CARDS)
    assert (note is not None) is unused
    if note is not None:
        assert "AMD Radeon" in note and "imagegen engine build" in note
        assert ("It needs glslc." in note) is not has_tools
    see(H200, devices)
    assert engines.default_backend() == "cuda"
    assert select.unused_gpu(H200) is None


def test_a_vulkan_engine_is_used_where_vulkan_has_a_device(
    settings: Settings, see: See, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu, built = finished(settings, Options()), finished(settings, Options("vulkan"))
    strict = settings.model_copy(update={"on_missing_gpu": "exit"})
    see(NO_CARDS, RADEON)
    assert engines.resolve(settings) == built
    assert engines.resolve(strict) == built
    engines.require_gpu(strict)
    monkeypatch.setattr(vulkan_sdk, "lacking", lambda: "It needs glslc.")
    assert engines.ensure(settings, lambda *_: None) == built  # the tools of its build were removed
    assert engines.lost_gpu(settings) is None
    see(NO_CARDS, LLVMPIPE)
    assert engines.resolve(settings) == cpu
    assert "built here is not used, because Vulkan has no GPU here" in (engines.lost_gpu(settings) or "")
    with pytest.raises(EngineMissing, match="compiled for Vulkan, and Vulkan has no GPU here: install the GPU's"):
        engines.require_gpu(strict)
    monkeypatch.setenv(vulkan.VISIBLE, "0")
    assert engines.resolve(settings) == built
    see(H200, RADEON)
    cuda = finished(settings, Options("cuda", ("90-real",)))
    assert engines.resolve(settings) == cuda


def test_a_gpu_without_the_tools_for_vulkan_is_told(
    settings: Settings, see: See, monkeypatch: pytest.MonkeyPatch
) -> None:
    see(NO_CARDS, RADEON)
    monkeypatch.setattr(vulkan_sdk, "lacking", lambda: "It needs glslc.")
    monkeypatch.setattr(builder, "build", lambda _folder, options, *_, **__: SimpleNamespace(binary=options.backend))
    said: list[str] = []
    assert engines.ensure(settings, lambda *event: said.append(event[3])) == "cpu"
    assert "AMD Radeon" in said[0] and "It needs glslc." in said[0]


# The command


def imagegen_engine(tmp_path: Path, *arguments: str, **environment: str) -> Result:
    env = {name: None for name in os.environ if name.startswith("IMAGEGEN_")}
    return CliRunner().invoke(command, arguments, env={**env, "IMAGEGEN_CACHE": str(tmp_path), **environment})


def test_path_prints_the_binary_or_the_sentence(settings: Settings, see: See) -> None:
    see(NO_CARDS)
    missing = imagegen_engine(settings.cache, "path")
    assert missing.exit_code == 1
    assert missing.stdout == ""
    assert missing.stderr.startswith("Error: The engine, sd-server, is not built")
    binary = finished(settings, Options())
    assert imagegen_engine(settings.cache, "path").stdout == f"{binary}\n"


def test_build_reuses_and_prints_only_the_path_on_stdout(settings: Settings, see: See) -> None:
    see(NO_CARDS)
    binary = finished(settings, Options())
    for arguments in (["build"], ["build", "--backend", "cpu"]):
        result = imagegen_engine(settings.cache, *arguments)
        assert result.exit_code == 0, result.output
        assert result.stdout == f"{binary}\n"
        assert result.stderr == f"Already built: {binary}\n"


def test_build_notes_that_the_setting_wins(settings: Settings) -> None:
    finished(settings, Options())
    result = imagegen_engine(settings.cache, "build", "--backend", "cpu", IMAGEGEN_SD_SERVER="/bin/sh")
    assert result.exit_code == 0
    assert "the service will use IMAGEGEN_SD_SERVER=/bin/sh instead" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["build", "--backend", "cpu", "--arch", "90"], "means nothing for a CPU build"),
        (["build", "--backend", "vulkan", "--arch", "90"], "means nothing for a Vulkan build"),
        (["build", "--arch", "hopper"], "not a CUDA architecture"),
        (["build", "--backend", "rocm"], "'rocm' is not one of"),
    ],
)
def test_build_refuses_what_it_cannot_do(tmp_path: Path, arguments: list[str], why: str) -> None:
    result = imagegen_engine(tmp_path / "cache", *arguments)
    assert result.exit_code != 0
    assert why in result.stderr
    assert not (tmp_path / "cache").exists()


def test_a_wrong_setting_is_a_sentence(tmp_path: Path) -> None:
    result = imagegen_engine(tmp_path, "path", IMAGEGEN_PORT="many")
    assert result.exit_code == 1
    assert "IMAGEGEN_PORT" in result.stderr


def test_the_page_about_it_has_the_same_numbers_and_options() -> None:
    page = (Path(__file__).parents[3] / "docs" / "engine.md").read_text()
    for backend in ("cpu", "cuda", "vulkan"):
        assert f"{builder.DISK_BYTES[backend] / 1e9:.1g} GB" in page
    assert f"{compilation.LARGEST_COMPILE_BYTES['cpu'] / 1e9:.1f} GB of memory" in page
    assert f"`{plan.PINNED.project}` {plan.PINNED.version}" in page
    for option in command.commands["build"].params:
        assert f"`{max(option.opts, key=len)}" in page
    assert f"{sum(cuda_packages.DOWNLOAD_BYTES.values()) / 1e6:.0f} MB in all" in page


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
