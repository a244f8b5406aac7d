"""The engine's names of tensors: how it renames those of a model and of a LoRA when it reads a file. Pure.

Written from name_conversion.cpp and model.cpp of the pinned engine. A LoRA's tensor applies to the matrix whose name it
gets, so these functions say what a LoRA changes. A family that they do not know must be refused: the engine aborts if a
matrix of a LoRA has another size than the model's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from imagegen.engines.sdcpp import diffusers_names as tables


class Family(StrEnum):
    """A family of models with the same names of tensors. The value is its name in messages."""

    SD1 = "Stable Diffusion 1"
    SD2 = "Stable Diffusion 2"
    SDXL = "Stable Diffusion XL"
    FLUX = "FLUX.1"
    FLUX2 = "FLUX.2"
    QWEN_IMAGE = "Qwen-Image"
    Z_IMAGE = "Z-Image"
    ERNIE_IMAGE = "ERNIE-Image"

    @property
    def is_unet(self) -> bool:
        return self in {Family.SD1, Family.SD2, Family.SDXL}


DIFFUSION = "model.diffusion_model."
ENCODERS = ("cond_stage_model.1.", "cond_stage_model.", "conditioner.embedders.", "text_encoders.")
AUTOENCODERS = ("first_stage_model.", "vae.")

PREFIXES = {
    "diffusion_model": DIFFUSION,
    "llm": "text_encoders.llm.",
    "llm_vision": "text_encoders.llm.visual.",
    "t5xxl": "text_encoders.t5xxl.transformer.",
    "model": "",
}
"""What the engine puts before the names of a file's tensors, by the file's role."""
CLIP_PREFIXES = {
    "clip_l": ("cond_stage_model.transformer.", "text_encoders.clip_l.transformer."),
    "clip_g": ("cond_stage_model.1.transformer.", "text_encoders.clip_g.transformer."),
}
"""The same for CLIP: of a U-Net, and of another model."""

_MARKS: tuple[tuple[str, Family | None], ...] = (
    ("joint_blocks.", None),  # Stable Diffusion 3
    ("nerf_final_layer_conv.", None),  # Chroma Radiance
    ("blocks.0.cross_attn.norm_k.weight", None),  # Wan
    ("transformer_blocks.0.img_mod.1.weight", Family.QWEN_IMAGE),
    ("cap_embedder.0.weight", Family.Z_IMAGE),
    ("layers.0.adaLN_sa_ln.weight", Family.ERNIE_IMAGE),
    ("double_stream_modulation_img.lin.weight", Family.FLUX2),
    ("double_blocks.0.img_attn.qkv.weight", Family.FLUX),
)
_TOKEN_TABLES = frozenset({
    "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
    "cond_stage_model.model.token_embedding.weight",
    "text_model.embeddings.token_embedding.weight",
    "te.text_model.embeddings.token_embedding.weight",
    "conditioner.embedders.0.model.token_embedding.weight",
    "conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight",
})  # fmt: skip


def family_of(shapes: Mapping[str, tuple[int, ...]]) -> Family | None:
    """The family of the model with these tensors, named with their prefixes. None: a family unknown here."""
    for mark, family in _MARKS:
        if DIFFUSION + mark in shapes or any(name.startswith(DIFFUSION + mark) for name in shapes):
            return family
    if not any(name.startswith((f"{DIFFUSION}input_blocks.", "unet.down_blocks.")) for name in shapes):
        return None
    if any(mark in name for name in shapes for mark in ("conditioner.embedders.1", "cond_stage_model.1", "te.1")):
        return Family.SDXL
    width = next((shape[-1] for name, shape in shapes.items() if name in _TOKEN_TABLES), 0)
    return {768: Family.SD1, 1024: Family.SD2}.get(width)


_LORA_PARTS = sorted({
    ".lora_down.weight": ".weight.lora_down",
    ".lora_mid.weight": ".weight.lora_mid",
    ".lora_up.weight": ".weight.lora_up",
    ".lora.down.weight": ".weight.lora_down",
    ".lora.mid.weight": ".weight.lora_mid",
    ".lora.up.weight": ".weight.lora_up",
    "_lora.down.weight": ".weight.lora_down",
    "_lora.mid.weight": ".weight.lora_mid",
    "_lora.up.weight": ".weight.lora_up",
    ".lora_A.weight": ".weight.lora_down",
    ".lora_B.weight": ".weight.lora_up",
    ".lora_A.default.weight": ".weight.lora_down",
    ".lora_B.default.weight": ".weight.lora_up",
    ".lora_linear": ".weight.alpha",
    ".alpha": ".weight.alpha",
    ".scale": ".weight.scale",
    ".diff": ".weight.diff",
    ".diff_b": ".bias.diff",
    **{
        f".{part}": f".weight.{part}"
        for part in (
            *("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
            *("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b"),
        )
    },
}.items())  # fmt: skip
"""The ends of a LoRA's tensors and the engine's, in its order: a sorted map of which the first match counts."""

_UNDERLINED = ("unet_", "te_", "te1_", "te2_", "te3_", "vae_")
"""Beginnings of names that have underscores instead of dots."""
_PROTECTED = (
    *("self_attn", "out_proj", "q_proj", "k_proj", "v_proj", "to_k", "to_q", "to_v", "to_out", "text_model"),
    *("down_blocks", "mid_block", "up_block", "proj_in", "proj_out", "transformer_blocks", "single_transformer_blocks"),
    *("single_blocks", "diffusion_model", "cond_stage_model", "first_stage_model", "conv_in", "conv_out", "lora_down"),
    *("lora_mid", "lora_up", "diff_b", "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
    *(".lokr_w1", ".lokr_w1_a", ".lokr_w1_b", ".lokr_w2", ".lokr_w2_a", ".lokr_w2_b", "time_emb_proj"),
    *("conv_shortcut", "time_embedding", "conv_norm_out", "double_blocks", "txt_attn", "img_attn", "input_blocks"),
    *("output_blocks", "middle_block", "skip_connection", "emb_layers", "in_layers", "out_layers", "add_q_proj"),
    *("add_k_proj", "add_v_proj", "add_out_proj", "ff_context", "norm_added_q", "norm_added_v", "to_add_out"),
    *("txt_mod", "img_mod", "txt_mlp", "img_mlp", "proj_mlp", "wi_0", "wi_1", "norm1_context", "x_embedder"),
)
"""Words in which an underscore is no dot."""


def lora_name(name: str, family: Family) -> str:
    """The engine's name of a LoRA's tensor, without its prefix `lora.`: the matrix and `.lora_up` or another part."""
    name = name if name.startswith("lora.") else f"lora.{name}"
    before = next(
        one for one in ("lora.lora.", "lora.lora_", "lora.lycoris_", "lora.lycoris.", "lora.") if name.startswith(one)
    )
    name = name.removeprefix(before)
    underlined = before == "lora.lycoris_" or name.startswith(_UNDERLINED)
    for old, new in _LORA_PARTS:
        if name.endswith(old):
            name = name.removesuffix(old) + new
            break
    name = name.replace(".processor", "", 1)
    if name.startswith(("transformer_blocks", "single_transformer_blocks")):
        name = f"transformer.{name}"
    return engine_name(_with_dots(name) if family.is_unet or underlined else name, family)


def _with_dots(name: str) -> str:
    kept: set[int] = set()
    for word in _PROTECTED:
        start = 0
        while (start := name.find(word, start)) != -1:
            kept |= {start + at for at, letter in enumerate(word) if letter == "_"}
            start += len(word)
    return "".join("." if letter == "_" and at not in kept else letter for at, letter in enumerate(name))


_PLACES = {
    "diffusion_model.": DIFFUSION,
    "unet.": DIFFUSION,
    "transformer.": DIFFUSION,
    "vae.": "first_stage_model.",
    "text_encoder.2.": "cond_stage_model.1.transformer.",
    "text_encoder.": "cond_stage_model.transformer.",
    "te.": "cond_stage_model.transformer.",
    "conditioner.embedders.0.open_clip.": "cond_stage_model.",
    "conditioner.embedders.0.": "cond_stage_model.",
    "conditioner.embedders.1.": "cond_stage_model.1.",
    "te2.": "cond_stage_model.1.transformer.",
    "te1.": "cond_stage_model.transformer.",
    "te3.": "text_encoders.t5xxl.transformer.",
}
"""Beginnings of names, by the part of the model. The longer of two counts, as in the engine."""
_FLUX_PLACES = tables.Beginnings(_PLACES | {"te1.": "text_encoders.clip_l.transformer."})
_OTHER_PLACES = tables.Beginnings(_PLACES)


def engine_name(name: str, family: Family) -> str:
    """The engine's name of a model's tensor, which is named with its prefix. An autoencoder's stays as it is."""
    name = (_FLUX_PLACES if family is Family.FLUX else _OTHER_PLACES).replace(name)
    if name.startswith(DIFFUSION):
        return DIFFUSION + _diffusion_name(name.removeprefix(DIFFUSION), family)
    prefix = next((one for one in ENCODERS if name.startswith(one)), None)
    return name if prefix is None else prefix + _encoder_name(name.removeprefix(prefix))


def _diffusion_name(name: str, family: Family) -> str:
    if family.is_unet:
        return _unet_name(name, family is Family.SDXL)
    if family in {Family.FLUX, Family.FLUX2}:
        return tables.flux_names().replace(name)
    return tables.z_image_names().replace(name) if family is Family.Z_IMAGE else name


def _unet_name(name: str, xl: bool) -> str:
    ends = tables.UNET_XL_ENDS if xl else tables.UNET_ENDS
    stem, dot, kind = name.rpartition(".")
    if kind in {"weight", "bias"} and stem in ends:
        return f"{ends[stem]}{dot}{kind}"
    if "resnets" in name:
        name = _replaced(name, tables.UNET_RESNET.items())
    name = _replaced(name, tables.unet_layers(xl))
    return _replaced(name, (("to_out.weight", "to_out.0.weight"), ("to_out.bias", "to_out.0.bias"))) if xl else name


def _encoder_name(name: str) -> str:
    if "t5xxl" in name:
        return _replaced(name, tables.T5_NAMES.items())
    if "llm" in name:
        return _replaced(name, (tables.VISION_NAMES if "llm.visual" in name else tables.LLM_NAMES).items())
    name = tables.OPEN_CLIP_NAMES.get(name, name)
    blocks = "model.transformer.resblocks."
    if name.startswith(blocks):
        number, _, rest = name.removeprefix(blocks).partition(".")
        if rest in tables.OPEN_CLIP_BLOCK:
            name = f"transformer.text_model.encoder.layers.{number}.{tables.OPEN_CLIP_BLOCK[rest]}"
    return _replaced(name, tables.CLIP_NAMES.items())


def _replaced(name: str, pairs: Iterable[tuple[str, str]]) -> str:
    """Replace the first occurrence of each part, one after the other."""
    for old, new in pairs:
        name = name.replace(old, new, 1)
    return name
