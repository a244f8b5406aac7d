"""A LoRA without effect is reported. The real engine draws without it, and only its log shows that."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from loras import pair, safetensors

from imagegen.engines import gguf_header
from imagegen.engines.base import DrawRequest, EngineError, LoraUse
from imagegen.engines.safetensors import header_fault, lora_fault, read_header
from imagegen.engines.sdcpp.lora_fit import Weights, check
from imagegen.engines.sdcpp.loras import LoraWatch

ASKED = {Path("/m/some.safetensors"): LoraUse(Path("/models/some.safetensors"))}
BLOCK = "single_transformer_blocks.0"
WHOLE = safetensors(pair())
FOREIGN = pair("some_other_model.blocks.0.attn.to_q")


def drawn_with(make_adapter: Any, folder: Path, lora: bytes) -> Any:
    """The adapter's account of one picture with this LoRA."""
    file = folder / "some.safetensors"
    file.write_bytes(lora)
    adapter = make_adapter(loras=[file])
    request = DrawRequest("a cat", "", 64, 64, 1, 1.0, "euler", None, 1, loras=(LoraUse(file),))

    async def draw() -> Any:
        try:
            await adapter.start(lambda _: None)
            await adapter.generate(request, lambda _: None)
            return adapter.last_draw
        finally:
            await adapter.stop()

    return asyncio.run(draw())


SPLIT = {"attn.to_q": 128, "attn.to_k": 128, "attn.to_v": 128, "proj_mlp": 6 * 128}
"""The parts of a single block's fused matrix by diffusers' names, and their rows."""


@pytest.mark.parametrize(
    "tensors",
    [
        pair(),
        {k: v for one, rows in SPLIT.items() for k, v in pair(f"transformer.{BLOCK}.{one}", outer=rows).items()},
        pair("text_encoders.llm.model.layers.0.mlp.down_proj", inner=256, outer=64),
    ],
    ids=["whole", "in parts", "of the text model"],
)
def test_what_fits_is_applied_as_a_whole(
    make_adapter: Any, tmp_path: Path, models_dir: Path, tensors: dict[str, Any]
) -> None:
    """The engine applies as many tensors as the check of the shapes says."""
    file = tmp_path / "checked.safetensors"
    file.write_bytes(safetensors(tensors))
    files = {"diffusion_model": "dit.gguf", "llm": "llm.gguf"}
    weights = Weights.of([(role, gguf_header.read(models_dir / "tiny" / name).shapes) for role, name in files.items()])
    assert weights is not None
    assert check(read_header(file).tensors, weights) == len(tensors)
    assert drawn_with(make_adapter, tmp_path, file.read_bytes()).warnings == ()


@pytest.mark.parametrize(
    ("lora", "code", "told"),
    [
        (b"<html>404 not found</html>" * 20, "load_failed", "is no safetensors file"),
        (WHOLE[:4000], "load_failed", "is cut off: it has 4,000 bytes instead of"),
        (safetensors(pair(ranks=(4, 8))), "load_failed", "do not fit each other"),
        (safetensors({}), "load_failed", "has no tensor"),
        (safetensors(FOREIGN), "draw_failed", "none of its 2 tensors belongs to a matrix of this model"),
        (safetensors(pair(inner=100)), "draw_failed", "made for another one"),
    ],
    ids=["HTML", "cut off", "odd ranks", "empty", "foreign names", "wrong shape"],
)
def test_one_that_cannot_be_applied_fails_with_its_name(
    make_adapter: Any, tmp_path: Path, lora: bytes, code: str, told: str
) -> None:
    with pytest.raises(EngineError) as failed:
        drawn_with(make_adapter, tmp_path, lora)
    assert failed.value.code == code
    assert "some.safetensors" in failed.value.detail and told in failed.value.detail
    assert str(tmp_path) not in failed.value.detail


@pytest.mark.parametrize(
    "other", [FOREIGN, pair("model.diffusion_model.no_such_block.0.linear1")], ids=["no part of it", "no matrix of it"]
)
def test_one_that_is_applied_in_part_is_drawn_with_a_warning(make_adapter: Any, tmp_path: Path, other: Any) -> None:
    """The engine counts only the tensors whose name leads into a part of the model; the file has the rest."""
    (warning,) = drawn_with(make_adapter, tmp_path, safetensors(pair() | other)).warnings
    assert warning.code == "lora_in_doubt"
    assert "Of the 4 tensors of the LoRA some.safetensors the engine used 2" in warning.detail


def test_an_engine_that_says_nothing_of_it_is_not_believed() -> None:
    watch = LoraWatch()
    watch.begin(ASKED)
    watch.hear("[INFO ] stable-diffusion.cpp:3591 - generate_image completed in 0.72s")
    (warning,) = watch.verdict()
    assert warning.code == "lora_in_doubt" and "did not report" in warning.detail


@pytest.mark.parametrize(
    "line",
    [
        "[WARN ] stable-diffusion.cpp:1019 - load lora tensors from /m/some.safetensors failed",
        "[ERROR] lora.hpp:43   - init lora model loader from file failed: '/m/some.safetensors'",
        "[ERROR] model.cpp:876  - read tensor data failed: '/m/some.safetensors'",
    ],
)
def test_one_that_the_engine_cannot_read_fails_even_if_it_counts_tensors(line: str) -> None:
    watch = LoraWatch()
    watch.begin(ASKED)
    watch.hear(line)
    watch.hear("[INFO ] lora.hpp:830  - (2 / 2) LoRA tensors have been applied, lora_file_path = /m/some.safetensors")
    with pytest.raises(EngineError, match=r"could not read the LoRA some\.safetensors"):
        watch.verdict()


def test_other_formats_are_the_engines_to_read(tmp_path: Path) -> None:
    file = tmp_path / "some.gguf"
    for start in (b"GGUF", b"PK\x03\x04"):
        file.write_bytes(start + bytes(100))
        assert lora_fault(file) is None
    assert header_fault(file) is not None
    assert "cannot be read" in (lora_fault(tmp_path / "none") or "")
