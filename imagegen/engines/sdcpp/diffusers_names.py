"""The tables by which the engine renames tensors of other programs' files, from its name_conversion.cpp."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

FLUX_BLOCKS, FLUX_SINGLE_BLOCKS = 19, 38
Z_IMAGE_LAYERS = {"noise_refiner": 2, "context_refiner": 2, "layers": 30}
"""The numbers of blocks that the engine's tables cover. It leaves tensors of later blocks as they are named."""

_SPLIT = ("", ".1", ".2", ".3")
"""What follows the name of a fused matrix for the part that goes to its first rows, to its next ones, and so on."""

_FLUX_TOP = {
    "time_text_embed.timestep_embedder.linear_1": "time_in.in_layer",
    "time_text_embed.timestep_embedder.linear_2": "time_in.out_layer",
    "time_text_embed.text_embedder.linear_1": "vector_in.in_layer",
    "time_text_embed.text_embedder.linear_2": "vector_in.out_layer",
    "time_text_embed.guidance_embedder.linear_1": "guidance_in.in_layer",
    "time_text_embed.guidance_embedder.linear_2": "guidance_in.out_layer",
    "context_embedder": "txt_in",
    "x_embedder": "img_in",
    "proj_out": "final_layer.linear",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
}
_FLUX_DOUBLE = {
    "norm1.linear": "img_mod.lin",
    "norm1_context.linear": "txt_mod.lin",
    "ff.net.0.proj": "img_mlp.0",
    "ff.net.2": "img_mlp.2",
    "ff_context.net.0.proj": "txt_mlp.0",
    "ff_context.net.2": "txt_mlp.2",
    "attn.to_out.0": "img_attn.proj",
    "attn.to_add_out": "txt_attn.proj",
}
_FLUX_NORMS = {
    "attn.norm_q": "img_attn.norm.query_norm.scale",
    "attn.norm_k": "img_attn.norm.key_norm.scale",
    "attn.norm_added_q": "txt_attn.norm.query_norm.scale",
    "attn.norm_added_k": "txt_attn.norm.key_norm.scale",
}
_FLUX_FUSED = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
}
_FLUX_SINGLE_FUSED = ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")


class Beginnings:
    """A table of beginnings of names. Of two that fit, the longer counts."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = dict(names)
        self._lengths = sorted({len(old) for old in names}, reverse=True)

    def replace(self, name: str) -> str:
        """The name with the beginning that is in the table replaced."""
        for length in self._lengths:
            new = self._names.get(name[:length])
            if new is not None:
                return new + name[length:]
        return name


@cache
def flux_names() -> Beginnings:
    """Beginnings of diffusers' names of FLUX.1 and FLUX.2, and what the engine puts in their place."""
    names: dict[str, str] = {}
    for kind in ("weight", "bias"):
        names |= {f"{old}.{kind}": f"{new}.{kind}" for old, new in _FLUX_TOP.items()}
        for block in range(FLUX_BLOCKS):
            old_block, new_block = f"transformer_blocks.{block}.", f"double_blocks.{block}."
            names |= {f"{old_block}{old}.{kind}": f"{new_block}{new}.{kind}" for old, new in _FLUX_DOUBLE.items()}
            for new, parts in _FLUX_FUSED.items():
                names |= {
                    f"{old_block}{old}.{kind}": f"{new_block}{new}.{kind}{part}"
                    for old, part in zip(parts, _SPLIT, strict=False)
                }
        for block in range(FLUX_SINGLE_BLOCKS):
            old_block, new_block = f"single_transformer_blocks.{block}.", f"single_blocks.{block}."
            names[f"{old_block}norm.linear.{kind}"] = f"{new_block}modulation.lin.{kind}"
            names[f"{old_block}proj_out.{kind}"] = f"{new_block}linear2.{kind}"
            for old, part in zip(_FLUX_SINGLE_FUSED, _SPLIT, strict=True):
                names[f"{old_block}{old}.{kind}"] = f"{new_block}linear1.{kind}{part}"
    for block in range(FLUX_BLOCKS):
        names |= {
            f"transformer_blocks.{block}.{old}.weight": f"double_blocks.{block}.{new}"
            for old, new in _FLUX_NORMS.items()
        }
    for block in range(FLUX_SINGLE_BLOCKS):
        for old, new in (("norm_q", "query_norm"), ("norm_k", "key_norm")):
            names[f"single_transformer_blocks.{block}.attn.{old}.weight"] = f"single_blocks.{block}.norm.{new}.scale"
    return Beginnings(names)


@cache
def z_image_names() -> Beginnings:
    """The same for Z-Image."""
    names = {"all_x_embedder.2-1.": "x_embedder.", "all_final_layer.2-1.": "final_layer."}
    for group, count in Z_IMAGE_LAYERS.items():
        for number in range(count):
            layer = f"{group}.{number}.attention."
            names |= {f"{layer}norm_{one}.": f"{layer}{one}_norm." for one in "qk"}
            names[f"{layer}to_out.0."] = f"{layer}out."
            for kind in ("weight", "bias"):
                for one, part in zip("qkv", _SPLIT, strict=False):
                    names[f"{layer}to_{one}.{kind}"] = f"{layer}qkv.{kind}{part}"
    return Beginnings(names)


UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
"""Whole names of a U-Net's tensors without `.weight` or `.bias`."""
UNET_XL_ENDS = UNET_ENDS | {"add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2"}
UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}


@cache
def unet_layers(xl: bool) -> tuple[tuple[str, str], ...]:
    """Parts of diffusers' names of a U-Net, in the engine's order, and what it puts in their place."""
    found: list[tuple[str, str]] = []
    for i in range(3 if xl else 4):
        for j in range(2):
            found.append((f"down_blocks.{i}.resnets.{j}.", f"input_blocks.{3 * i + j + 1}.0."))
            if (i > 0) if xl else (i < 3):
                found.append((f"down_blocks.{i}.attentions.{j}.", f"input_blocks.{3 * i + j + 1}.1."))
        for j in range(4 if xl else 3):
            found.append((f"up_blocks.{i}.resnets.{j}.", f"output_blocks.{3 * i + j}.0."))
            if not xl or i < 2:
                found.append((f"up_blocks.{i}.attentions.{j}.", f"output_blocks.{3 * i + j}.1."))
        if i < 3:
            found.append((f"down_blocks.{i}.downsamplers.0.conv.", f"input_blocks.{3 * (i + 1)}.0.op."))
            up = 1 if i == 0 else 2
            found.append((f"up_blocks.{i}.upsamplers.0.", f"output_blocks.{3 * i + 2}.{up}."))
    if xl:
        found.append(("output_blocks.2.1.conv.", "output_blocks.2.2.conv."))
    found.append(("mid_block.attentions.0.", "middle_block.1."))
    return (*found, *((f"mid_block.resnets.{j}.", f"middle_block.{2 * j}.") for j in range(2)))


T5_NAMES = {
    "enc.": "encoder.",
    "blk.": "block.",
    "output_norm.": "final_layer_norm.",
    "attn_q.": "layer.0.SelfAttention.q.",
    "attn_k.": "layer.0.SelfAttention.k.",
    "attn_v.": "layer.0.SelfAttention.v.",
    "attn_o.": "layer.0.SelfAttention.o.",
    "attn_norm.": "layer.0.layer_norm.",
    "ffn_norm.": "layer.1.layer_norm.",
    "ffn_up.": "layer.1.DenseReluDense.wi_1.",
    "ffn_down.": "layer.1.DenseReluDense.wo.",
    "ffn_gate.": "layer.1.DenseReluDense.wi_0.",
    "attn_rel_b.": "layer.0.SelfAttention.relative_attention_bias.",
    "token_embd.": "shared.",
}
LLM_NAMES = {
    "token_embd.": "model.embed_tokens.",
    "blk.": "model.layers.",
    "attn_q.": "self_attn.q_proj.",
    "attn_k.": "self_attn.k_proj.",
    "attn_v.": "self_attn.v_proj.",
    "attn_q_norm.": "self_attn.q_norm.",
    "attn_k_norm.": "self_attn.k_norm.",
    "attn_output.": "self_attn.o_proj.",
    "attn_norm.": "input_layernorm.",
    "ffn_down.": "mlp.down_proj.",
    "ffn_gate.": "mlp.gate_proj.",
    "ffn_up.": "mlp.up_proj.",
    "ffn_norm.": "post_attention_layernorm.",
    "output_norm.": "model.norm.",
}
VISION_NAMES = {
    "mm.": "merger.mlp.",
    "v.post_ln.": "merger.ln_q.",
    "v.patch_embd.weight": "patch_embed.proj.0.weight",
    "patch_embed.proj.0.weight.1": "patch_embed.proj.1.weight",
    "v.patch_embd.weight.1": "patch_embed.proj.1.weight",
    "v.blk.": "blocks.",
    "attn_q.": "attn.q_proj.",
    "attn_k.": "attn.k_proj.",
    "attn_v.": "attn.v_proj.",
    "attn_out.": "attn.proj.",
    "ffn_down.": "mlp.down_proj.",
    "ffn_gate.": "mlp.gate_proj.",
    "ffn_up.": "mlp.up_proj.",
    "ln1.": "norm1.",
    "ln2.": "norm2.",
}
CLIP_NAMES = {
    "transformer.text_projection.weight": "transformer.text_model.text_projection",
    "model.text_projection.weight": "transformer.text_model.text_projection",
    "vision_model.visual_projection.weight": "visual_projection.weight",
}
OPEN_CLIP_NAMES = {
    "model.ln_final.bias": "transformer.text_model.final_layer_norm.bias",
    "model.ln_final.weight": "transformer.text_model.final_layer_norm.weight",
    "model.positional_embedding": "transformer.text_model.embeddings.position_embedding.weight",
    "model.token_embedding.weight": "transformer.text_model.embeddings.token_embedding.weight",
    "model.text_projection": "transformer.text_model.text_projection",
}
OPEN_CLIP_BLOCK = {
    "attn.in_proj_bias": "self_attn.in_proj.bias",
    "attn.in_proj_weight": "self_attn.in_proj.weight",
    "attn.out_proj.bias": "self_attn.out_proj.bias",
    "attn.out_proj.weight": "self_attn.out_proj.weight",
    "ln_1.bias": "layer_norm1.bias",
    "ln_1.weight": "layer_norm1.weight",
    "ln_2.bias": "layer_norm2.bias",
    "ln_2.weight": "layer_norm2.weight",
    "mlp.c_fc.bias": "mlp.fc1.bias",
    "mlp.c_fc.weight": "mlp.fc1.weight",
    "mlp.c_proj.bias": "mlp.fc2.bias",
    "mlp.c_proj.weight": "mlp.fc2.weight",
}
