"""The models made by script: the same bytes every time, all or nothing, and the real engine draws with them."""

from __future__ import annotations

import asyncio
import hashlib
import io
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from gguf import GGUFReader, dequantize
from loras import pair, safetensors
from PIL import Image

from imagegen.cli.models import models as command
from imagegen.engines.base import DrawRequest
from imagegen.engines.sdcpp.adapter import SdcppServerAdapter
from imagegen.models.catalog import Catalog
from imagegen.models.entry import Entry
from imagegen.models.entry_files import CatalogError
from imagegen.models.speed import Fast
from imagegen.models.synthetic.make import make
from imagegen.models.synthetic.random_gguf import F16, F32, Q4_0, RandomGGUF, Tensor
from imagegen.settings import Settings

DEADLINE_S = 300.0


def digests(folder: Path) -> dict[str, str]:
    def digest(path: Path) -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return {path.name: digest(path) for path in sorted(folder.iterdir())}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


# What is written


def test_tiny_is_the_same_bytes_each_time_and_small(tmp_path: Path) -> None:
    first, second = (make("tiny", Settings(home=tmp_path / n)) for n in "ab")
    assert digests(first) == digests(second)
    assert sorted(digests(first)) == ["dit.gguf", "llm.gguf", "tae.gguf"]
    assert sum(p.stat().st_size for p in first.iterdir()) < 15_000_000


def test_qwen_tiny_is_the_same_bytes_each_time_and_has_holes(qwen_home: Settings, tmp_path: Path) -> None:
    first, home = qwen_home.models_dir / "qwen-tiny", Settings(home=tmp_path)
    second = make("qwen-tiny", home, vision=True)
    argv = Catalog.load(home).get("qwen-tiny").argv(home)
    assert argv[argv.index("--llm_vision") + 1] == str(second / "mmproj.gguf")
    for name, share in (("llm.gguf", 0.25), ("mmproj.gguf", 0.6)):
        file = (second / name).stat()
        assert file.st_blocks * 512 < share * file.st_size, name
    (second / "mmproj.gguf").unlink()
    assert digests(first) == digests(second)
    shutil.rmtree(second)  # half a gigabyte


def test_another_seed_is_another_model(tmp_path: Path) -> None:
    def written(seed: int) -> bytes:
        gguf = RandomGGUF("test", seed)
        gguf.normal("weights", (4, 32), 1.0)
        gguf.write(tmp_path / "model.gguf", lambda count: None)
        return (tmp_path / "model.gguf").read_bytes()

    assert written(1) == written(1) != written(2)


def test_a_file_reads_back_as_what_was_asked_for(tmp_path: Path) -> None:
    gguf = RandomGGUF("test", 1)
    gguf.normal("half", (200, 300), 0.5)
    gguf.normal("blocks", (300, 320), 2.0, Q4_0)
    gguf.normal("large", (1300, 3200), 1.0, F32)  # more than is made at once
    gguf.normal("some-rows", (100, 64), 1.0, Q4_0, rows=((0, 10), (90, 95)))
    gguf.constant("ones", (7,), 1.0)
    gguf.hole("nothing", (5, 6, 7))
    written: list[int] = []
    gguf.write(tmp_path / "model.gguf", written.append)
    reader = GGUFReader(tmp_path / "model.gguf")
    values = {t.name: dequantize(t.data, t.tensor_type) for t in reader.tensors}
    assert {t.name: t.tensor_type for t in reader.tensors} == {t.name: t.kind for t in gguf.tensors}
    assert {n: v.shape for n, v in values.items()} == {t.name: t.shape for t in gguf.tensors}
    for name, std in (("half", 0.5), ("blocks", 2.0), ("large", 1.0)):
        assert values[name].std() == pytest.approx(std, rel=0.03), name
        assert abs(values[name].mean()) < 0.12 * std, name
    assert (values["ones"] == 1).all()
    assert (values["nothing"] == 0).all()
    filled = [row for row in range(100) if values["some-rows"][row].any()]
    assert filled == [*range(10), *range(90, 95)]
    assert sum(written) == gguf.written_bytes


def test_what_cannot_be_written_is_refused_before_it_is() -> None:
    with pytest.raises(ValueError, match="rows of 3420 are not whole Q4_0 blocks of 32"):
        Tensor("down_proj", (1280, 3420), Q4_0, 1.0)
    with pytest.raises(ValueError, match="around zero"):
        Tensor("bias", (32,), Q4_0, 1.0, mean=1.0)
    assert Tensor("half", (2, 3), F16, 1.0).nbytes == 12


# All or nothing


def test_progress_counts_up_to_the_end(settings: Settings) -> None:
    heard: list[tuple[int, int]] = []
    make("tiny", settings, lambda done, total: heard.append((done, total)))
    assert heard[0][0] == 0
    assert heard == sorted(heard)
    assert heard[-1][0] == heard[-1][1] > 14_000_000


def test_a_failure_leaves_nothing_behind(settings: Settings) -> None:
    def disk_full(done: int, total: int) -> None:
        if done > total / 2:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        make("tiny", settings, disk_full)
    assert [p.name for p in settings.models_dir.iterdir()] == [".tiny.lock"]
    make("tiny", settings)
    assert Catalog.load(settings).get("tiny").installed(settings)


MAKER = """
import os, signal, sys
from pathlib import Path
from imagegen.models.synthetic.make import make
from imagegen.settings import Settings

def on_progress(done, total):
    if done > total / 2 and sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)

make("tiny", Settings(home=Path(sys.argv[1])), on_progress)
"""


def maker(settings: Settings, fate: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", MAKER, str(settings.home), fate])


def test_a_killed_maker_leaves_no_half_model_and_the_next_cleans_up(settings: Settings) -> None:
    assert maker(settings, "killed").wait(DEADLINE_S) == -signal.SIGKILL
    left = [p.name for p in settings.models_dir.iterdir() if p.is_dir()]
    assert len(left) == 1 and left[0].startswith(".tiny.making-")
    make("tiny", settings)
    assert [p.name for p in settings.models_dir.iterdir() if p.is_dir()] == ["tiny"]


def test_two_makers_at_once_both_succeed(settings: Settings) -> None:
    assert [m.wait(DEADLINE_S) for m in [maker(settings, "lives") for _ in range(2)]] == [0, 0]
    assert Catalog.load(settings).get("tiny").installed(settings)
    assert [p.name for p in settings.models_dir.iterdir() if p.is_dir()] == ["tiny"]


def test_what_a_user_keeps_in_the_folder_stays(settings: Settings) -> None:
    folder = settings.models_dir / "tiny"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    (folder / "dit.gguf").write_text("broken")
    make("tiny", settings)
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "dit.gguf").stat().st_size > 1_000_000


def test_only_what_a_script_makes_can_be_made(settings: Settings) -> None:
    with pytest.raises(CatalogError, match="not made by a script"):
        make("sd-turbo", settings)
    with pytest.raises(CatalogError, match="no vision tower"):
        make("tiny", settings, vision=True)
    settings.models_dir.mkdir()
    text = 'base = "tiny"\n[[files]]\nrole = "vae"\nflag = "--vae"\nfile = "vae.gguf"\n'
    (settings.models_dir / "tiny.toml").write_text(text)
    with pytest.raises(CatalogError, match=r"does not make vae\.gguf"):
        make("tiny", settings)
    assert not (settings.models_dir / "tiny").exists()


def test_the_command_says_where_the_files_are(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEGEN_HOME", str(settings.home))
    result = CliRunner().invoke(command, ["make", "tiny"])
    assert result.exit_code == 0
    assert f"tiny is in {settings.models_dir / 'tiny'}" in result.stdout
    assert "Making tiny" in result.stderr
    (settings.home / "file").touch()
    monkeypatch.setenv("IMAGEGEN_HOME", str(settings.home / "file"))
    result = CliRunner().invoke(command, ["make", "tiny"])
    assert result.exit_code == 1
    assert "could not be written: Not a directory" in result.stderr


# What the engine makes of them


class Engine:
    """An entry on the real engine, as plain calls."""

    def __init__(self, runner: asyncio.Runner, binary: Path, entry: Entry, settings: Settings, work: Path) -> None:
        self.entry, self._runner = entry, runner
        self._options, self._loras = entry.request_options(), entry.loras(settings)
        self._adapter = SdcppServerAdapter(binary, entry.argv(settings), 1, work, DEADLINE_S, channel=True)
        runner.run(self._adapter.start(lambda _: None))

    def draw(
        self,
        prompt: str = "a cat",
        seed: int = 1,
        side: int = 64,
        steps: int = 1,
        references: tuple[bytes, ...] = (),
        cfg_scale: float | None = None,
        options: dict[str, object] | None = None,
    ) -> np.ndarray:
        d = self.entry.defaults
        cfg = float(d.cfg_scale.value) if cfg_scale is None else cfg_scale
        request = DrawRequest(
            prompt, "", side, side, steps, cfg, str(d.sampler.value), None, seed,
            references, None, self._options | (options or {}), self._loras,
        )  # fmt: skip
        png = self._runner.run(self._adapter.generate(request, lambda _: None))
        drawn = self._adapter.last_draw
        assert drawn is not None
        self.skipped, self.steps = drawn.skipped, drawn.steps
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)

    def stop(self) -> None:
        self._runner.run(self._adapter.stop())


Start = Callable[[str, Settings], Engine]


@pytest.fixture(scope="module")
def start(sd_server: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts the engine with a catalog entry; all are ended with the module."""
    engines: list[Engine] = []
    with asyncio.Runner() as runner:

        def start_one(name: str, settings: Settings) -> Engine:
            entry = Catalog.load(settings).get(name)
            engines.append(Engine(runner, sd_server, entry, settings, tmp_path_factory.mktemp("work")))
            return engines[-1]

        try:
            yield start_one
        finally:
            for engine in engines:
                engine.stop()


@pytest.fixture(scope="module")
def tiny(start: Start, models_dir: Path) -> Engine:
    return start("tiny", Settings(home=models_dir.parent))


@pytest.fixture(scope="module")
def qwen_home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A state folder with qwen-tiny, half a gigabyte."""
    settings = Settings(home=tmp_path_factory.mktemp("qwen"))
    make("qwen-tiny", settings)
    return settings


def one_colour(colour: str, side: int = 64) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(file, "PNG")
    return file.getvalue()


def assert_noise(pixels: np.ndarray) -> None:
    """No flat colour, in no channel, and not clipped to black and white."""
    assert (pixels.reshape(-1, 3).std(axis=0) > 5).all()
    assert np.isin(pixels, (0, 255)).mean() < 0.2


def test_tiny_draws_noise_by_its_defaults(tiny: Engine) -> None:
    d = tiny.entry.defaults
    picture = tiny.draw(side=int(d.width.value), steps=int(d.steps.value))
    assert picture.shape == (d.width.value, d.height.value, 3)
    assert_noise(picture)


def test_prompt_and_seed_decide_what_tiny_draws(tiny: Engine) -> None:
    picture = tiny.draw()
    assert (tiny.draw() == picture).all()
    assert (tiny.draw(seed=2) != picture).any()
    assert (tiny.draw(prompt="a dog") != picture).any()


def test_tiny_edits_and_each_reference_counts(tiny: Engine) -> None:
    red, blue = one_colour("red"), one_colour("blue")
    most = (red, blue) * (tiny.entry.capabilities.max_references // 2)
    pictures = [tiny.draw(references=references) for references in ((), (red,), (blue,), most)]
    for index, picture in enumerate(pictures):
        assert_noise(picture)
        assert all((picture != other).any() for other in pictures[:index])


def test_a_lora_of_an_entry_reaches_the_engine(start: Start, tiny: Engine, models_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny").symlink_to(models_dir / "tiny")
    text = 'base = "tiny"\n[[files]]\nrole = "lora"\nfile = "loras/some.safetensors"\nmultiplier = {}\n'
    for name, multiplier in (("half", 0.5), ("whole", 1.0), ("none", 0.0)):
        (tmp_path / "models" / f"{name}.toml").write_text(text.format(multiplier))
        (tmp_path / "models" / name / "loras").mkdir(parents=True)
        (tmp_path / "models" / name / "loras" / "some.safetensors").write_bytes(safetensors(pair()))
    settings = Settings(home=tmp_path)
    plain = tiny.draw()
    half, whole, none = (start(name, settings).draw() for name in ("half", "whole", "none"))
    assert (none == plain).all()
    assert (half != plain).any() and (whole != plain).any() and (half != whole).any()


# Qwen-Image in its true shape


@pytest.fixture(scope="module")
def qwen(start: Start, qwen_home: Settings) -> Iterator[Engine]:
    engine = start("qwen-tiny", qwen_home)
    yield engine
    engine.stop()  # a gigabyte


@pytest.fixture(scope="module")
def qwen_plain(qwen: Engine) -> np.ndarray:
    return qwen.draw(steps=STEPS_TO_SKIP, cfg_scale=1.0)


STEPS_TO_SKIP = 5
"""As few as leave a cache something to skip: it looks at 15 to 95 % of the way, after two steps that were computed."""
QWEN_CACHES: dict[str, dict[str, float]] = {
    "easycache": {"threshold": 2.0},
    "dbcache": {"threshold": 0.3},
    "taylorseer": {"threshold": 0.3},
    "cache-dit": {"threshold": 0.3},
    "spectrum": {"warmup": 2},
}


def test_qwen_tiny_draws_and_edits_with_the_flags_of_the_real_one(qwen: Engine, qwen_home: Settings) -> None:
    catalog = Catalog.load(qwen_home)
    assert catalog.get("qwen-tiny").engine_flags == catalog.get("qwen-image-edit-2511").engine_flags
    picture = qwen.draw(steps=4)
    assert_noise(picture)
    red, blue = one_colour("red"), one_colour("blue")
    edits = [qwen.draw(references=references) for references in ((red,), (blue,), (red, blue))]
    for index, edit in enumerate(edits):
        assert (edit != picture).any()
        assert all((edit != other).any() for other in edits[:index]), "each reference counts"


@pytest.mark.parametrize("mode", QWEN_CACHES)
def test_each_cache_leaves_steps_of_qwen_out(qwen: Engine, qwen_plain: np.ndarray, mode: str) -> None:
    cache = Fast(cache_mode=mode, cache_options=QWEN_CACHES[mode], min_steps=1, source="test")  # type: ignore[arg-type]
    picture = qwen.draw(steps=STEPS_TO_SKIP, cfg_scale=1.0, options=cache.native)
    assert 0 < qwen.skipped < STEPS_TO_SKIP
    assert (picture != qwen_plain).any()


def test_qwens_vae_draws_in_tiles_where_an_entry_asks_for_it(qwen: Engine) -> None:
    """Where tiles meet, pixels differ a little; their bars are not taken for steps."""
    tiles = {"vae_tiling_params": {"enabled": True, "tile_size_x": 4, "tile_size_y": 4, "target_overlap": 0.5}}
    whole, tiled = qwen.draw(steps=1, cfg_scale=1.0), qwen.draw(steps=1, cfg_scale=1.0, options=tiles)
    assert (whole != tiled).any()
    assert whole.shape == tiled.shape
    assert qwen.steps == 1


@pytest.mark.long
def test_the_vision_tower_sees_the_reference(start: Start, tmp_path: Path) -> None:
    """Some two minutes of one core: `make test-long`. The same edit without the tower is another picture."""
    settings = Settings(home=tmp_path)
    folder = make("qwen-tiny", settings, vision=True)
    with_tower = start("qwen-tiny", settings)
    seen = with_tower.draw(cfg_scale=1.0, references=(one_colour("red"),))
    with_tower.stop()
    (folder / "mmproj.gguf").unlink()
    without = start("qwen-tiny", settings)
    blind = without.draw(cfg_scale=1.0, references=(one_colour("red"),))
    without.stop()
    assert_noise(seen)
    assert (seen != blind).any()
    shutil.rmtree(folder)  # half a gigabyte
