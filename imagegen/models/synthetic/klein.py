"""The files of the smallest FLUX.2 klein with random weights that sd-server loads.

sd-server (stable-diffusion.cpp, May 2026) reads depth, width and context width from the tensors. These are fixed: the
attention head of 128, the text model's 32 query and 8 key heads of 128, the token table's 151,936 rows (the prompt's
template uses ids up to 151,668) and the whole shape of the tiny autoencoder.
"""

from __future__ import annotations

from math import sqrt

from imagegen.models.synthetic.random_gguf import Q4_0, RandomGGUF

SEED = 1234

HIDDEN = 128  # one head
LATENT = 128  # 32 channels of 2x2 pixels of the latent
TEXT_HIDDEN = 64
TEXT_ROWS = 151_936
TAE_CHANNELS = 64
TAE_LATENT = 32


def files(seed: int = SEED) -> dict[str, RandomGGUF]:
    """The model's files by name."""
    return {"dit.gguf": _dit(seed), "llm.gguf": _llm(seed), "tae.gguf": _tae(seed)}


def _linear(gguf: RandomGGUF, name: str, inputs: int, outputs: int) -> None:
    gguf.normal(f"{name}.weight", (outputs, inputs), 1 / sqrt(inputs))


def _dit(seed: int) -> RandomGGUF:
    gguf = RandomGGUF("flux", seed)
    _linear(gguf, "img_in", LATENT, HIDDEN)
    _linear(gguf, "time_in.in_layer", 256, HIDDEN)
    _linear(gguf, "time_in.out_layer", HIDDEN, HIDDEN)
    _linear(gguf, "txt_in", TEXT_HIDDEN, HIDDEN)
    for stream in ("img", "txt"):
        block = f"double_blocks.0.{stream}_"
        _linear(gguf, f"{block}attn.qkv", HIDDEN, 3 * HIDDEN)
        gguf.constant(f"{block}attn.norm.query_norm.scale", (128,), 1.0)
        gguf.constant(f"{block}attn.norm.key_norm.scale", (128,), 1.0)
        _linear(gguf, f"{block}attn.proj", HIDDEN, HIDDEN)
        _linear(gguf, f"{block}mlp.0", HIDDEN, 6 * HIDDEN)
        _linear(gguf, f"{block}mlp.2", 3 * HIDDEN, HIDDEN)
    _linear(gguf, "single_blocks.0.linear1", HIDDEN, 9 * HIDDEN)
    _linear(gguf, "single_blocks.0.linear2", 4 * HIDDEN, HIDDEN)
    gguf.constant("single_blocks.0.norm.query_norm.scale", (128,), 1.0)
    gguf.constant("single_blocks.0.norm.key_norm.scale", (128,), 1.0)
    _linear(gguf, "final_layer.linear", HIDDEN, LATENT)
    _linear(gguf, "final_layer.adaLN_modulation.1", HIDDEN, 2 * HIDDEN)
    _linear(gguf, "double_stream_modulation_img.lin", HIDDEN, 6 * HIDDEN)
    _linear(gguf, "double_stream_modulation_txt.lin", HIDDEN, 6 * HIDDEN)
    _linear(gguf, "single_stream_modulation.lin", HIDDEN, 3 * HIDDEN)
    return gguf


def _llm(seed: int) -> RandomGGUF:
    gguf = RandomGGUF("qwen3", seed)
    gguf.normal("model.embed_tokens.weight", (TEXT_ROWS, TEXT_HIDDEN), 1.0, Q4_0)
    layer = "model.layers.0."
    _linear(gguf, f"{layer}self_attn.q_proj", TEXT_HIDDEN, 32 * 128)
    _linear(gguf, f"{layer}self_attn.k_proj", TEXT_HIDDEN, 8 * 128)
    _linear(gguf, f"{layer}self_attn.v_proj", TEXT_HIDDEN, 8 * 128)
    _linear(gguf, f"{layer}self_attn.o_proj", 32 * 128, TEXT_HIDDEN)
    gguf.constant(f"{layer}self_attn.q_norm.weight", (128,), 1.0)
    gguf.constant(f"{layer}self_attn.k_norm.weight", (128,), 1.0)
    _linear(gguf, f"{layer}mlp.gate_proj", TEXT_HIDDEN, 4 * TEXT_HIDDEN)
    _linear(gguf, f"{layer}mlp.up_proj", TEXT_HIDDEN, 4 * TEXT_HIDDEN)
    _linear(gguf, f"{layer}mlp.down_proj", 4 * TEXT_HIDDEN, TEXT_HIDDEN)
    gguf.constant(f"{layer}input_layernorm.weight", (TEXT_HIDDEN,), 1.0)
    gguf.constant(f"{layer}post_attention_layernorm.weight", (TEXT_HIDDEN,), 1.0)
    gguf.constant("model.norm.weight", (TEXT_HIDDEN,), 1.0)
    return gguf


def _conv(
    gguf: RandomGGUF,
    name: str,
    inputs: int,
    outputs: int,
    side: int = 3,
    gain: float = 1.0,
    bias: float | None = 0.0,
) -> None:
    std = gain * sqrt(2 / (inputs * side * side))
    gguf.normal(f"{name}.weight", (outputs, inputs, side, side), std)
    if bias is not None:
        gguf.constant(f"{name}.bias", (outputs,), bias)


def _tae_block(gguf: RandomGGUF, prefix: str, pooled: bool = False) -> None:
    n = TAE_CHANNELS
    _conv(gguf, f"{prefix}.conv.0", n, n)
    _conv(gguf, f"{prefix}.conv.2", n, n)
    _conv(gguf, f"{prefix}.conv.4", n, n, gain=0.3)
    if pooled:
        _conv(gguf, f"{prefix}.pool.0", n, 4 * n, side=1, bias=None)
        gguf.constant(f"{prefix}.pool.1.weight", (4 * n,), 1.0)
        gguf.constant(f"{prefix}.pool.1.bias", (4 * n,), 0.0)
        _conv(gguf, f"{prefix}.pool.3", 4 * n, n, side=1, gain=0.3, bias=None)


def _tae(seed: int) -> RandomGGUF:
    gguf, n = RandomGGUF("taesd", seed), TAE_CHANNELS
    _conv(gguf, "decoder.layers.0", TAE_LATENT, n)
    layer = 2
    for stage in range(3):
        for _ in range(3):
            _tae_block(gguf, f"decoder.layers.{layer}", pooled=stage == 0)
            layer += 1
        layer += 1  # an upsampling layer without weights
        _conv(gguf, f"decoder.layers.{layer}", n, n, bias=None)
        layer += 1
    _tae_block(gguf, f"decoder.layers.{layer}")
    # A small gain around mid-grey keeps most pixels inside 0…1.
    _conv(gguf, f"decoder.layers.{layer + 1}", n, 3, gain=0.07, bias=0.5)

    _conv(gguf, "encoder.layers.0", 3, n)
    _tae_block(gguf, "encoder.layers.1")
    layer = 2
    for stage in range(3):
        _conv(gguf, f"encoder.layers.{layer}", n, n, bias=None)
        layer += 1
        for _ in range(3):
            _tae_block(gguf, f"encoder.layers.{layer}", pooled=stage == 2)
            layer += 1
    _conv(gguf, f"encoder.layers.{layer}", n, TAE_LATENT)
    return gguf
