"""The files of the smallest Ovis-Image with random weights that sd-server loads: FLUX.1's shape with a text model.

sd-server reads depth and widths from the tensors (src/flux.hpp); the attention head of 128 and the MLP's ratio of 4 are
fixed. The text model is the tiny model's, and the latents are FLUX.1's.
"""

from __future__ import annotations

from math import sqrt
from pathlib import Path

from tiny_vae import vae

from imagegen.models.synthetic import klein
from imagegen.models.synthetic.random_gguf import RandomGGUF

HIDDEN, LATENT = klein.HIDDEN, 64


def write(folder: Path) -> dict[str, Path]:
    """Write the three files into `folder`. Returns them by role."""
    made = {"diffusion_model": _dit(), "llm": klein.files()["llm.gguf"], "vae": vae(latent=16, quantised=False)}
    for role, gguf in made.items():
        gguf.write(folder / f"ovis-{role}.gguf", lambda _count: None)
    return {role: folder / f"ovis-{role}.gguf" for role in made}


def _dit() -> RandomGGUF:
    gguf = RandomGGUF("flux", 1)

    def linear(name: str, inputs: int, outputs: int) -> None:
        gguf.normal(f"{name}.weight", (outputs, inputs), 1 / sqrt(inputs))
        gguf.constant(f"{name}.bias", (outputs,), 0.0)

    linear("img_in", LATENT, HIDDEN)
    linear("time_in.in_layer", 256, HIDDEN)
    linear("time_in.out_layer", HIDDEN, HIDDEN)
    gguf.constant("txt_norm.scale", (klein.TEXT_HIDDEN,), 1.0)
    linear("txt_in", klein.TEXT_HIDDEN, HIDDEN)
    for stream in ("img", "txt"):
        block = f"double_blocks.0.{stream}_"
        linear(f"{block}mod.lin", HIDDEN, 6 * HIDDEN)
        linear(f"{block}attn.qkv", HIDDEN, 3 * HIDDEN)
        linear(f"{block}attn.proj", HIDDEN, HIDDEN)
        linear(f"{block}mlp.gate_proj", HIDDEN, 4 * HIDDEN)
        linear(f"{block}mlp.up_proj", HIDDEN, 4 * HIDDEN)
        linear(f"{block}mlp.down_proj", 4 * HIDDEN, HIDDEN)
        gguf.constant(f"{block}attn.norm.query_norm.scale", (128,), 1.0)
        gguf.constant(f"{block}attn.norm.key_norm.scale", (128,), 1.0)
    linear("single_blocks.0.modulation.lin", HIDDEN, 3 * HIDDEN)
    linear("single_blocks.0.linear1", HIDDEN, 11 * HIDDEN)
    linear("single_blocks.0.linear2", 5 * HIDDEN, HIDDEN)
    gguf.constant("single_blocks.0.norm.query_norm.scale", (128,), 1.0)
    gguf.constant("single_blocks.0.norm.key_norm.scale", (128,), 1.0)
    linear("final_layer.linear", HIDDEN, LATENT)
    linear("final_layer.adaLN_modulation.1", HIDDEN, 2 * HIDDEN)
    return gguf
