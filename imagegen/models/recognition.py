"""Reads which family of models a file of weights belongs to, from the names and shapes of its tensors.

The rules are those of stable-diffusion.cpp (src/model.cpp, get_sd_version, of the pinned source).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from imagegen.engines import gguf_header, safetensors

PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
DIFFUSION = "model.diffusion_model."

Shapes = Mapping[str, tuple[int, ...]]

NOT_DIFFUSION = (
    (("lora_A.", "lora_B.", "lora_up", "lora_down", ".hada_w1", ".lokr_w1"), "is a LoRA, not a model"),
    (("encoder.block.0.layer.0.SelfAttention", "enc.blk.0."), "is a T5 text encoder: give it with --t5xxl"),
    (("blk.0.attn", "model.layers.0.self_attn"), "is a text model: give it with --llm, beside a diffusion model"),
    (("text_model.encoder.layers.0.",), "is a CLIP text encoder: give it with --clip-l or --clip-g"),
    (("decoder.up.0.", "decoder.up_blocks.0.", "decoder.upsamples.0."), "is a VAE: give it with --vae"),
    (("decoder.layers.0.",), "is a small autoencoder: give it with --tae"),
    (("model.0.weight", "conv_first.weight"), "is an upscaler, not a model that draws"),
)
"""Parts of tensors' names, and what a file with them is if it has no diffusion model."""

UNETS = {768: "sd1", 1024: "sd2", 2048: "sdxl"}
"""By the width of the text that a U-Net's attention reads."""


class WeightsError(Exception):
    """The file cannot be used. The message is a sentence."""


@dataclass(frozen=True)
class WeightsFile:
    """The header of a file. `texts`: its metadata. `whole`: whether names begin with the part of the model."""

    path: Path
    shapes: Shapes
    texts: Mapping[str, str]

    @property
    def whole(self) -> bool:
        return any(DIFFUSION in name for name in self.shapes)

    def has(self, *parts: str) -> bool:
        """Whether a tensor's name contains one of `parts`."""
        return any(part in name for name in self.shapes for part in parts)


def read(path: Path) -> WeightsFile:
    """Read the header of a GGUF or safetensors file. Raises WeightsError."""
    try:
        with path.open("rb") as file:
            magic = file.read(9)
        if magic.startswith(PICKLES):
            raise WeightsError(
                f"{path} is a pickle (as .ckpt and .pt files are), which can run code when it is read. "
                "Take the safetensors or GGUF file of this model."
            )
        if magic.startswith(gguf_header.MAGIC):
            header = gguf_header.read(path)
            return WeightsFile(path, header.shapes, header.texts)
        found = safetensors.read_header(path)
        return WeightsFile(path, {name: tensor.shape for name, tensor in found.tensors.items()}, found.metadata)
    except (gguf_header.NotGGUF, safetensors.NotSafetensors) as wrong:
        raise WeightsError(f"{path} {wrong}.") from None
    except OSError as failure:
        raise WeightsError(f"{path} cannot be read: {failure.strerror}.") from None


def family(weights: WeightsFile) -> str:
    """The name of the family, a key of `families.FAMILIES`. Raises WeightsError for what cannot be drawn with."""
    prefix = "" if weights.whole else DIFFUSION
    shapes = {prefix + name: shape for name, shape in weights.shapes.items()}
    _refuse_unusable(weights.path, shapes)
    found = _transformer(shapes) or _unet(weights.path, shapes)
    if found is not None:
        return found
    for parts, what in NOT_DIFFUSION:
        if weights.has(*parts):
            raise WeightsError(f"{weights.path} {what}.")
    raise WeightsError(
        f"{weights.path} is of no family that the engine is known to draw with: none of its "
        f"{len(weights.shapes)} tensors has a name of one."
    )


def _any(shapes: Shapes, part: str) -> bool:
    return any(part in name for name in shapes)


def _refuse_unusable(path: Path, shapes: Shapes) -> None:
    """Raises WeightsError for families whose inputs or outputs this service does not have."""
    video = (f"{DIFFUSION}blocks.0.cross_attn.norm_k.weight", "time_mixer.mix_factor")
    if any(_any(shapes, part) for part in video):
        raise WeightsError(f"{path} is a model for video, which this service does not make.")
    first = shapes.get(f"{DIFFUSION}input_blocks.0.0.weight") or shapes.get(f"{DIFFUSION}img_in.weight") or ()
    flux = _any(shapes, f"{DIFFUSION}double_blocks.") and not _any(shapes, "double_stream_modulation_img")
    inputs = first[1] if len(first) > 1 else 0
    if (len(first) == 4 and inputs in {8, 9}) or (flux and inputs in {384, 128, 196}):
        raise WeightsError(f"{path} is made for inpainting or control pictures, which this service does not send.")


def _transformer(shapes: Shapes) -> str | None:
    """The family of a diffusion transformer. The order is the engine's."""
    for part, name in (
        (f"{DIFFUSION}nerf_final_layer_conv.", "chroma-radiance"),
        (f"{DIFFUSION}joint_blocks.", "sd3"),
        (f"{DIFFUSION}transformer_blocks.0.img_mod.1.weight", "qwen-image"),
        ("llm_adapter.blocks.0.cross_attn.q_proj.weight", "anima"),
        (f"{DIFFUSION}double_blocks.0.img_mlp.gate_proj.weight", "ovis-image"),
        (f"{DIFFUSION}cap_embedder.0.weight", "z-image"),
        (f"{DIFFUSION}layers.0.adaLN_sa_ln.weight", "ernie-image"),
    ):
        if _any(shapes, part):
            return name
    if _any(shapes, f"{DIFFUSION}double_stream_modulation_img.lin.weight"):
        return "flux2" if _any(shapes, "single_blocks.47.linear1.weight") else "flux2-klein"
    if not _any(shapes, f"{DIFFUSION}double_blocks."):
        return None
    if _any(shapes, "distilled_guidance_layer."):
        return "chroma"
    return "flux1" if _any(shapes, "guidance_in.") else "flux1-schnell"


def _unet(path: Path, shapes: Shapes) -> str | None:
    if not _any(shapes, f"{DIFFUSION}input_blocks."):
        return None
    ends = "attn2.to_k.weight"
    widths = {shape[-1] for name, shape in shapes.items() if name.endswith(ends) and DIFFUSION in name and shape}
    known = [UNETS[width] for width in widths if width in UNETS]
    if len(known) != 1:
        raise WeightsError(f"{path} is a U-Net whose text width is none of {', '.join(map(str, UNETS))}.")
    if known[0] == "sd1" and not _any(shapes, f"{DIFFUSION}middle_block.1.") and not _any(shapes, "output_blocks.7.1"):
        return "sdxs-512"
    return known[0]
