"""Whether a LoRA fits a model, by the shapes of both: what passes must not make the engine abort."""

from __future__ import annotations

from typing import Any

import pytest

from imagegen.engines.safetensors import Tensor
from imagegen.engines.sdcpp.lora_fit import Misfit, Weights, check
from imagegen.engines.sdcpp.tensor_names import Family

QKV, NORM = "double_blocks.0.img_attn.qkv", "double_blocks.0.img_attn.norm.key_norm.scale"
FLUX = {f"{QKV}.weight": (384, 128), f"{QKV}.bias": (384,), NORM: (128,)}
TEXT = {"model.layers.0.mlp.down_proj.weight": (64, 256)}
MODEL = Weights.of([("diffusion_model", FLUX), ("llm", TEXT), ("tae", {"decoder.layers.0.weight": (64, 32, 3, 3)})])

UNET = {
    "model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3),
    "model.diffusion_model.input_blocks.1.0.in_layers.2.weight": (320, 320, 3, 3),
    "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": (100, 768),
    "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight": (3840, 1280),
}
XL = Weights.of([("model", UNET)])
RESNET = "lora_unet_down_blocks_0_resnets_0_conv1"
CLIP = "lora_te2_text_model_encoder_layers_0_self_attn"


def pair(name: str, rows: int, columns: int, rank: int = 4, *tail: int) -> dict[str, Tensor]:
    """A LoRA of one matrix; `tail`: the sides of a convolution's kernel."""
    down, up = (rank, columns, *tail), (rows, rank, *(1 for _ in tail))
    return {f"{name}.lora_down.weight": Tensor("F16", down), f"{name}.lora_up.weight": Tensor("BF16", up)}


def parts(**rows: int) -> dict[str, Tensor]:
    """A LoRA of parts of the fused matrix, as diffusers names them."""
    found: dict[str, Tensor] = {}
    for one, count in rows.items():
        found |= pair(f"transformer.transformer_blocks.0.attn.to_{one}", count, 128)
    return found


WHOLE = pair(f"diffusion_model.{QKV}", 384, 128)
ALPHA = {f"diffusion_model.{QKV}.alpha": Tensor("F32", ())}


def test_a_models_files_are_taken_together() -> None:
    assert MODEL is not None and XL is not None
    assert (MODEL.family, XL.family) == (Family.FLUX, Family.SDXL)
    assert MODEL.shapes["text_encoders.llm.model.layers.0.mlp.down_proj.weight"] == (64, 256)
    split = Weights.of([("diffusion_model", FLUX | {f"{QKV}.weight.1": (100, 128)})])
    assert split is not None and split.shapes[f"model.diffusion_model.{QKV}.weight"] == (484, 128)
    assert Weights.of([("diffusion_model", {"unheard.of.weight": (1, 1)})]) is None


@pytest.mark.parametrize(
    ("weights", "lora", "applied"),
    [
        (MODEL, WHOLE, 2),
        (MODEL, WHOLE | ALPHA, 3),
        (MODEL, WHOLE | pair("some_other_model.to_q", 9, 9), 2),
        (MODEL, WHOLE | {"unread": Tensor("U8", (3, 3))}, 2),
        (MODEL, parts(q=128, k=128, v=128), 6),
        (MODEL, pair("text_encoders.llm.model.layers.0.mlp.down_proj", 64, 256), 2),
        (MODEL, {f"diffusion_model.{QKV}.diff_b": Tensor("F32", (384,))}, 1),
        (XL, pair(RESNET, 320, 320, 8, 3, 3), 2),
        (XL, {name: one for part in "qkv" for name, one in pair(f"{CLIP}_{part}_proj", 1280, 1280).items()}, 6),
    ],
    ids=["whole", "alpha", "another's too", "bytes", "fused", "text", "bias", "convolution", "fused text"],
)  # fmt: skip
def test_one_that_fits_is_counted(weights: Weights, lora: dict[str, Tensor], applied: int) -> None:
    assert check(lora, weights) == applied


MISFITS: list[tuple[str, Any, dict[str, Tensor], bool, str]] = [
    ("no matrix", MODEL, pair("some.to_q", 9, 9), True, "none of its 2 tensors belongs to a matrix of this one"),
    ("columns", MODEL, pair(f"diffusion_model.{QKV}", 384, 100), True, "is 384x100, and this model's is 384x128"),
    ("rows", MODEL, pair(f"diffusion_model.{QKV}", 999, 128), True, "is 999x128, and this model's is 384x128"),
    ("part", MODEL, parts(q=128), False, "changes 128 of the 384 rows"),
    ("two of three", MODEL, parts(q=128, v=128), False, "changes 128 of the 384 rows"),
    ("last parts only", MODEL, parts(k=128, v=128), True, "none of its 4 tensors"),
    ("a part of another size", MODEL, parts(q=128, k=128, v=99), False, "changes 355 of the 384 rows"),
    ("text", MODEL, pair("text_encoders.llm.model.layers.0.mlp.down_proj", 64, 99), True, "is 64x99"),
    ("kernel", XL, pair(RESNET, 320, 320, 8, 1, 1), True, "is 320x320x1x1"),
    ("no kernel", XL, pair(RESNET, 320, 320), True, "is 320x320, and this model's is 320x320x3x3"),
    ("kernel of a matrix", MODEL, pair(f"diffusion_model.{QKV}", 384, 128, 4, 1, 1), True, "is 384x128x1x1"),
    ("bias", MODEL, {f"diffusion_model.{QKV}.diff_b": Tensor("F32", (9,))}, True, "is 9, and this model's is 384"),
    ("autoencoder", MODEL, WHOLE | pair("vae.decoder.conv_in", 9, 9), False, "changes the autoencoder"),
    ("twice", MODEL, WHOLE | pair(f"transformer.{QKV}", 384, 128), False, "twice"),
    ("LoKr", MODEL, {f"lycoris.diffusion_model.{QKV}.lokr_w1": Tensor("F16", (4, 4))}, False, "is a LyCORIS file"),
    ("LoHa", MODEL, {f"diffusion_model.{QKV}.hada_w1_a": Tensor("F16", (4, 4))}, False, "is a LyCORIS file"),
    ("alpha", MODEL, WHOLE | {f"diffusion_model.{QKV}.alpha": Tensor("F32", (2,))}, False, "no single number"),
    ("type", MODEL, WHOLE | {"x": Tensor("I8", (2,))}, False, "a tensor of I8 numbers"),
    ("whole numbers", MODEL, {name: Tensor("I32", one.shape) for name, one in WHOLE.items()}, False, "without numbers"),
    ("rank 0", MODEL, pair(f"diffusion_model.{QKV}", 384, 128, 0), False, "without numbers"),
]


@pytest.mark.parametrize(
    ("weights", "lora", "another_model", "says"), [one[1:] for one in MISFITS], ids=[one[0] for one in MISFITS]
)
def test_one_that_does_not_fit_says_why(
    weights: Weights, lora: dict[str, Tensor], another_model: bool, says: str
) -> None:
    with pytest.raises(Misfit) as misfit:
        check(lora, weights)
    assert says in str(misfit.value)
    assert misfit.value.another_model is another_model


def test_a_half_without_its_other_half_is_not_applied() -> None:
    assert MODEL is not None
    half = {name: tensor for name, tensor in WHOLE.items() if "up" in name}
    with pytest.raises(Misfit, match="none of its 1 tensors"):
        check(half, MODEL)
