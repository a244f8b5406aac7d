"""The files of the smallest ERNIE-Image with random weights that sd-server loads.

sd-server reads depth and widths from the tensors (src/ernie_image.hpp, src/llm.hpp). Fixed are the attention head of
128, the text model's 32 query and 8 key heads of 128, and the token table's 131,072 rows. The latents are FLUX.2's.
"""

from __future__ import annotations

from math import sqrt
from pathlib import Path

from tiny_vae import vae

from imagegen.models.synthetic.random_gguf import F32, Q4_0, RandomGGUF

HIDDEN, FEED, LATENT, TEXT_HIDDEN, TEXT_ROWS = 128, 256, 128, 64, 131_072


def write(folder: Path) -> dict[str, Path]:
    """Write the three files into `folder`. Returns them by role."""
    made = {"diffusion_model": _dit(), "llm": _llm(), "vae": vae(latent=32, quantised=True)}
    names = {"diffusion_model": "ernie-image-turbo-tiny.gguf", "llm": "ministral.gguf", "vae": "vae.gguf"}
    for role, gguf in made.items():
        gguf.write(folder / names[role], lambda _count: None)
    return {role: folder / name for role, name in names.items()}


def _linear(gguf: RandomGGUF, name: str, inputs: int, outputs: int, bias: bool = False) -> None:
    gguf.normal(f"{name}.weight", (outputs, inputs), 1 / sqrt(inputs))
    if bias:
        gguf.constant(f"{name}.bias", (outputs,), 0.0)


def _dit() -> RandomGGUF:
    gguf = RandomGGUF("ernie_image", 1)
    gguf.normal("x_embedder.proj.weight", (HIDDEN, LATENT, 1, 1), 1 / sqrt(LATENT), F32)
    gguf.constant("x_embedder.proj.bias", (HIDDEN,), 0.0)
    _linear(gguf, "text_proj", TEXT_HIDDEN, HIDDEN)
    _linear(gguf, "time_embedding.linear_1", HIDDEN, HIDDEN, bias=True)
    _linear(gguf, "time_embedding.linear_2", HIDDEN, HIDDEN, bias=True)
    _linear(gguf, "adaLN_modulation.1", HIDDEN, 6 * HIDDEN, bias=True)
    layer = "layers.0."
    for name in ("to_q", "to_k", "to_v", "to_out.0"):
        _linear(gguf, f"{layer}self_attention.{name}", HIDDEN, HIDDEN)
    for name in ("adaLN_sa_ln", "adaLN_mlp_ln", "self_attention.norm_q", "self_attention.norm_k"):
        gguf.constant(f"{layer}{name}.weight", (HIDDEN,), 1.0)
    _linear(gguf, f"{layer}mlp.gate_proj", HIDDEN, FEED)
    _linear(gguf, f"{layer}mlp.up_proj", HIDDEN, FEED)
    _linear(gguf, f"{layer}mlp.linear_fc2", FEED, HIDDEN)
    _linear(gguf, "final_norm.linear", HIDDEN, 2 * HIDDEN, bias=True)
    _linear(gguf, "final_linear", HIDDEN, LATENT, bias=True)
    return gguf


def _llm() -> RandomGGUF:
    gguf = RandomGGUF("mistral3", 1)
    gguf.normal("model.embed_tokens.weight", (TEXT_ROWS, TEXT_HIDDEN), 1.0, Q4_0)
    layer = "model.layers.0."
    for name, outputs in (("q_proj", 32 * 128), ("k_proj", 8 * 128), ("v_proj", 8 * 128)):
        _linear(gguf, f"{layer}self_attn.{name}", TEXT_HIDDEN, outputs)
    _linear(gguf, f"{layer}self_attn.o_proj", 32 * 128, TEXT_HIDDEN)
    _linear(gguf, f"{layer}mlp.gate_proj", TEXT_HIDDEN, FEED)
    _linear(gguf, f"{layer}mlp.up_proj", TEXT_HIDDEN, FEED)
    _linear(gguf, f"{layer}mlp.down_proj", FEED, TEXT_HIDDEN)
    for name in (f"{layer}input_layernorm", f"{layer}post_attention_layernorm", "model.norm"):
        gguf.constant(f"{name}.weight", (TEXT_HIDDEN,), 1.0)
    return gguf
