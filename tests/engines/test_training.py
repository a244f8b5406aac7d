"""The training of the built-in model: its torch networks draw what the engine draws, and it goes on where it was.

Seconds of training show that every step runs on what the step before left, not that anything is learned: what the
shipped weights can is measured by benchmarks/sketch.py.
"""

from __future__ import annotations

import importlib.util
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from served import ROOT, Require, Service

from imagegen.models.catalog import Catalog
from imagegen.models.synthetic import make as synthetic
from imagegen.prompts.guardrails import BASELINE_NEGATIVE, TEXT_FAITHFULNESS_DIRECTIVE

PACKED = ROOT / "imagegen" / "models" / "entries" / "sketch.npz"
FIXED = ("--threads", 1, "--device", "cpu")
PROMPTS = ("a red circle", "four pink hearts", "a clipart icon of a coffee cup")


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory, require: Require) -> Path:
    require("torch, which training/requirements.txt names", importlib.util.find_spec("torch") is not None)
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def source(run_folder: Path, sd_server: Path) -> str:
    """The engine's `src`, whose tokenizer the training reads."""
    return trained(run_folder, "engine_source.py", run_folder).strip()


def trained(cwd: Path, script: str, *arguments: object, source: str = "") -> str:
    """What a script of the training printed."""
    command = [sys.executable, str(ROOT / "training" / script), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SDCPP_SRC": source}
    ran = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def checkpoints(run_folder: Path, source: str) -> tuple[Path, Path]:
    """Autoencoder and transformer out of what the package ships."""
    both = run_folder / "autoencoder.pt", run_folder / "transformer.pt"
    trained(run_folder, "shipped.py", PACKED, *both, source=source)
    return both


def test_checkpoints_of_the_shipped_weights_pack_into_the_same_bytes(
    checkpoints: tuple[Path, Path], run_folder: Path, source: str
) -> None:
    again = run_folder / "again.npz"
    trained(run_folder, "export.py", *checkpoints, again, source=source)
    assert again.read_bytes() == PACKED.read_bytes()


def test_the_networks_in_torch_draw_what_the_engine_draws(
    checkpoints: tuple[Path, Path], run_folder: Path, source: str, service: Service
) -> None:
    fields = {"model": "sketch", "width": None, "height": None, "steps": None, "seed": 5}
    jobs = [service.draw(prompt, **fields) for prompt in PROMPTS]
    engines = [np.asarray(Image.open(io.BytesIO(service.png(job))).convert("RGB"), float) for job in jobs]
    defaults = Catalog.packaged().get("sketch").defaults
    sheet = run_folder / "twin.png"
    side = engines[0].shape[0]
    how = ("--seed", 5, "--steps", defaults.steps.value, "--cfg", defaults.cfg_scale.value, "--size", side)
    told = [f"{prompt}\n\n{TEXT_FAITHFULNESS_DIRECTIVE}" for prompt in PROMPTS]
    trained(run_folder, "sampler.py", *checkpoints, sheet, *told, *how, "--negative", BASELINE_NEGATIVE, source=source)
    twins = np.asarray(Image.open(sheet).convert("RGB"), float)
    for i, picture in enumerate(engines):
        left = 4 + i * (side + 8)
        off = np.abs(picture - twins[:side, left : left + side]).mean()
        assert off < 1, f"{PROMPTS[i]}: {off:.2f} of 255; the engine computes in eight and sixteen bits"


@pytest.mark.long
def test_training_goes_on_and_what_it_left_can_be_packed(
    checkpoints: tuple[Path, Path], run_folder: Path, source: str
) -> None:
    """An interrupted training ends in the very weights of one that was not, from the autoencoder to the finish."""
    autoencoder, transformer = run_folder / "more-autoencoder.pt", run_folder / "more-transformer.pt"

    def autoencoder_from(checkpoint: Path, out: Path, steps: int) -> str:
        how = ("--resume", checkpoint, "--steps", steps, "--pictures", 30, "--judged", 8, *FIXED)
        return trained(run_folder, "train_autoencoder.py", out, *how, source=source)

    # The learning rate still rises in so few steps: it does not depend on how many were asked for.
    told = autoencoder_from(checkpoints[0], autoencoder, 1)
    assert float(re.search(r"([\d.]+) dB", told)[1]) > 20, "it began from what was learned"  # type: ignore[index]
    autoencoder_from(autoencoder, autoencoder, 2)
    autoencoder_from(checkpoints[0], run_folder / "at-once.pt", 2)
    assert same_weights(autoencoder, run_folder / "at-once.pt", "enc", "dec")

    parts = ("--part", "draw:32:250:8:1", "--part", "edit:32:250:8:1", "--constant", *FIXED)

    def transformer_from(checkpoint: Path, out: Path, pictures: int) -> str:
        how = (*parts, "--pictures", pictures, "--resume", checkpoint)
        return trained(run_folder, "train_transformer.py", autoencoder, out, *how, source=source)

    told = transformer_from(checkpoints[1], transformer, 24)
    assert "24 pictures seen" in told and "made anew" not in told
    told = transformer_from(transformer, transformer, 48)
    assert "24 of 48 pictures seen" in told and "done: 6 steps, 48 pictures seen" in told
    assert "draw 32:" not in told, "the latents are kept"
    transformer_from(checkpoints[1], run_folder / "at-once.pt", 48)
    assert same_weights(transformer, run_folder / "at-once.pt", "net", "live")

    finished = run_folder / "finished.pt"
    how = ("--steps", 1, "--pictures", 12, *FIXED)
    trained(run_folder, "finish.py", autoencoder, transformer, finished, *how, source=source)
    assert same_weights(finished, autoencoder, "enc") and not same_weights(finished, autoencoder, "dec")
    told = trained(run_folder, "export.py", finished, transformer, run_folder / "more.npz", source=source)
    things = synthetic.things(Catalog.packaged().get("sketch"))
    assert things is not None and f"{len(things)} things" in told


def same_weights(one: Path, other: Path, *names: str) -> bool:
    import torch

    kept = [torch.load(path, map_location="cpu") for path in (one, other)]
    return all(torch.equal(kept[0][name][key], value) for name in names for key, value in kept[1][name].items())


def test_latents_of_another_autoencoder_are_made_anew(
    checkpoints: tuple[Path, Path], run_folder: Path, source: str
) -> None:
    import torch

    other = run_folder / "other-autoencoder.pt"
    kept = torch.load(checkpoints[0])
    kept["enc"]["out.bias"] += 0.01
    torch.save(kept, other)
    (run_folder / "stale").mkdir()

    def made(autoencoder: Path) -> str:
        how = ("--part", "draw:32:250:4:1", "--pictures", 4, *FIXED)
        out = run_folder / "stale" / "transformer.pt"
        return trained(run_folder, "train_transformer.py", autoencoder, out, *how, source=source)

    assert "draw 32: 250 of 250" in made(checkpoints[0])
    assert "draw 32" not in made(checkpoints[0])
    told = made(other)
    assert "is made anew" in told and "draw 32: 250 of 250" in told


def test_a_judge_is_kept_for_the_steps_and_the_code_it_was_trained_with(run_folder: Path) -> None:
    def judged(steps: int) -> None:
        trained(run_folder, "judge.py", run_folder, "--steps", steps, "--told", 8)

    def kept() -> set[str]:
        return {path.name for path in run_folder.glob("judge-*.pt")}

    judged(1)
    first = kept()
    assert len(first) == 1
    written = [path.stat().st_mtime_ns for path in run_folder.glob("judge-*.pt")]
    judged(1)
    assert [path.stat().st_mtime_ns for path in run_folder.glob("judge-*.pt")] == written, "taken as it is"
    judged(2)
    assert len(kept()) == 2 and first < kept()


# What needs no torch: the rules on pixels, and what is held out


sys.path.insert(0, str(ROOT / "training"))


@pytest.mark.parametrize("size", [128, 192])
@pytest.mark.parametrize(("kind", "boxes", "side"), [("boxes", 2, 0.6), ("three boxes", 3, 0.44)])
def test_boxes_joined_by_arrows_are_told_from_boxes_that_are_not(size: int, kind: str, boxes: int, side: float) -> None:
    import rules
    import scenes

    r = 0.38
    start = round(size * (0.5 + r * (side - 0.98))) + 1  # of the first gap
    end = round(size * (0.5 + r * ((1.96 - boxes * side) / (boxes - 1) + side - 0.98))) - 1
    middle, line = size // 2, size // 64
    for colour, background in (("blue", "white"), ("black", "black"), ("yellow", "light yellow"), ("gray", "gray")):
        picture = scenes.draw(scenes.Scene((scenes.Item(kind, colour, r=r),), background), size)
        assert rules.arrows_join(picture, boxes), (colour, background)
        assert not rules.arrows_join(picture, 5 - boxes), "so many boxes there are not"
        broken, headless = picture.copy(), picture.copy()
        broken[:, (start + end) // 2 - 1 : (start + end) // 2 + 2] = rules.border(picture)
        assert not rules.arrows_join(broken, boxes), "a line with a hole"
        headless[: middle - line, start:end] = headless[middle + line :, start:end] = rules.border(picture)
        assert not rules.arrows_join(headless, boxes), "a line without a head"
    assert not rules.arrows_join(np.full((size, size, 3), 255, np.uint8), boxes)


def test_the_rules_see_a_border_a_shape_and_what_is_painted_over() -> None:
    import rules
    import scenes

    small = scenes.Item("star", "red", 0.81, 0.19, 0.155)
    one = scenes.Scene((scenes.Item("circle", "blue", 0.42, 0.6, 0.3),), "light green")
    both = scenes.Scene((*one.items, small), "light green")
    before, after = scenes.draw(one), scenes.draw(both)
    assert rules.background(after) == "light green"
    assert rules.same_shape(before, before) and not rules.same_shape(before, scenes.draw(both)[:, ::-1])
    assert (rules.without_corner(after) == before).all()
    assert rules.is_empty(rules.square(rules.covered(before), *rules.CORNER))
    assert not rules.is_empty(rules.square(rules.covered(after), *rules.CORNER))


def test_a_caption_of_the_training_set_is_known_however_it_is_dressed(monkeypatch: pytest.MonkeyPatch) -> None:
    import captions
    import parts

    monkeypatch.setattr(parts, "PARTS", ("draw:128:250:64:2", "edit:128:250:32:1"))
    seen = parts.seen()
    _, _, texts = parts.rendered(("draw", 16, *parts.Spec.of(parts.PARTS[0]).tasks(parts.SEED)[0][2:]))
    assert {parts.plain(text) for wordings in texts for text in wordings} == seen
    caption = sorted(seen)[0]
    assert parts.plain(caption.capitalize() + "." + captions.DIRECTIVE) in seen
