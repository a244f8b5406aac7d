"""The files of the smallest Qwen-Image (and Qwen-Image-Edit) with random weights that sd-server loads.

sd-server (stable-diffusion.cpp, May 2026) fixes almost the whole shape: hidden width 3072, text width 3584, the
autoencoder, the vision tower. It reads from the tensors only the number of blocks and layers, and the text model's
vocabulary and MLP width. This model is small because it has one block, one layer and a narrow MLP. Sparse files save
disk space: only the token table's rows for common text are filled (other tokens are zero), and one matrix of each
block of the vision tower is zero.
"""

from __future__ import annotations

from math import sqrt

from gguf import GGMLQuantizationType

from imagegen.models.synthetic.random_gguf import F16, Q4_0, RandomGGUF

SEED = 1234

HIDDEN = 3072
HEAD = 128
TEXT_HIDDEN = 3584
TEXT_KEYS = 512  # 4 heads of 128
TEXT_MLP = 256  # the width of this model
FULL_BLOCKS, FULL_TEXT_LAYERS, FULL_TEXT_MLP = 60, 28, 18_944  # of the real model: its config.json and Qwen2.5-VL-7B's
TEXT_ROWS = 151_936
TEXT_FILLED = ((0, 16_384), (151_643, 151_675))  # bytes and common words, and the template's special tokens

VISION_HIDDEN, VISION_MLP, VISION_BLOCKS, VISION_PATCH = 1280, 3420, 32, 14

VAE_WIDTH = 96
VAE_MULTIPLES = (1, 2, 4, 4)
VAE_LATENT = 16


def files(seed: int = SEED, blocks: int = 1) -> dict[str, RandomGGUF]:
    """The model's files by name, without the vision tower. Each further block adds 191 MB."""
    return {"dit.gguf": _dit(seed, blocks), "llm.gguf": _llm(seed), "vae.gguf": _vae(seed)}


def full_size_files(seed: int = SEED) -> dict[str, RandomGGUF]:
    """The files at the real model's size, 16 GB in q4_0: real compute, memory and load times, but no real pictures."""
    llm = _llm(seed, FULL_TEXT_LAYERS, FULL_TEXT_MLP)
    return {"dit.gguf": _dit(seed, FULL_BLOCKS), "llm.gguf": llm, "vae.gguf": _vae(seed)}


def vision_files(seed: int = SEED) -> dict[str, RandomGGUF]:
    """The vision tower. With it the text model also reads an edit's references, and an edit takes minutes."""
    return {"mmproj.gguf": _vision(seed)}


def _linear(
    gguf: RandomGGUF,
    name: str,
    inputs: int,
    outputs: int,
    kind: GGMLQuantizationType = Q4_0,
    bias: bool = True,
) -> None:
    gguf.normal(f"{name}.weight", (outputs, inputs), 1 / sqrt(inputs), kind)
    if bias:
        gguf.constant(f"{name}.bias", (outputs,), 0.0)


def _dit(seed: int, blocks: int) -> RandomGGUF:
    gguf = RandomGGUF("qwen_image", seed)
    _linear(gguf, "img_in", 64, HIDDEN, F16)
    _linear(gguf, "txt_in", TEXT_HIDDEN, HIDDEN)
    gguf.constant("txt_norm.weight", (TEXT_HIDDEN,), 1.0)
    _linear(gguf, "time_text_embed.timestep_embedder.linear_1", 256, HIDDEN)
    _linear(gguf, "time_text_embed.timestep_embedder.linear_2", HIDDEN, HIDDEN)
    for index in range(blocks):
        block = f"transformer_blocks.{index}."
        for stream in ("img", "txt"):
            _linear(gguf, f"{block}{stream}_mod.1", HIDDEN, 6 * HIDDEN)
            _linear(gguf, f"{block}{stream}_mlp.net.0.proj", HIDDEN, 4 * HIDDEN)
            _linear(gguf, f"{block}{stream}_mlp.net.2", 4 * HIDDEN, HIDDEN)
        for part in ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"):
            _linear(gguf, f"{block}attn.{part}", HIDDEN, HIDDEN)
        for part in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"):
            gguf.constant(f"{block}attn.{part}.weight", (HEAD,), 1.0)
    _linear(gguf, "norm_out.linear", HIDDEN, 2 * HIDDEN)
    _linear(gguf, "proj_out", HIDDEN, 64, F16)
    return gguf


def _llm(seed: int, layers: int = 1, mlp: int = TEXT_MLP) -> RandomGGUF:
    gguf = RandomGGUF("qwen2vl", seed)
    gguf.normal("model.embed_tokens.weight", (TEXT_ROWS, TEXT_HIDDEN), 1.0, Q4_0, rows=TEXT_FILLED)
    for index in range(layers):
        layer = f"model.layers.{index}."
        _linear(gguf, f"{layer}self_attn.q_proj", TEXT_HIDDEN, TEXT_HIDDEN)
        _linear(gguf, f"{layer}self_attn.k_proj", TEXT_HIDDEN, TEXT_KEYS)
        _linear(gguf, f"{layer}self_attn.v_proj", TEXT_HIDDEN, TEXT_KEYS)
        _linear(gguf, f"{layer}self_attn.o_proj", TEXT_HIDDEN, TEXT_HIDDEN, bias=False)
        _linear(gguf, f"{layer}mlp.gate_proj", TEXT_HIDDEN, mlp, bias=False)
        _linear(gguf, f"{layer}mlp.up_proj", TEXT_HIDDEN, mlp, bias=False)
        _linear(gguf, f"{layer}mlp.down_proj", mlp, TEXT_HIDDEN, bias=False)
        gguf.constant(f"{layer}input_layernorm.weight", (TEXT_HIDDEN,), 1.0)
        gguf.constant(f"{layer}post_attention_layernorm.weight", (TEXT_HIDDEN,), 1.0)
    gguf.constant("model.norm.weight", (TEXT_HIDDEN,), 1.0)
    return gguf


def _vision(seed: int) -> RandomGGUF:
    gguf, width, mlp = RandomGGUF("qwen2vl-vit", seed), VISION_HIDDEN, VISION_MLP
    patch = (width, 3, VISION_PATCH, VISION_PATCH)
    for half in (0, 1):  # a convolution over two frames, stored as two tensors
        gguf.normal(f"patch_embed.proj.{half}.weight", patch, 1 / sqrt(3 * VISION_PATCH**2))
    for index in range(VISION_BLOCKS):
        block = f"blocks.{index}."
        for part in ("attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.proj"):
            _linear(gguf, f"{block}{part}", width, width)
        _linear(gguf, f"{block}mlp.gate_proj", width, mlp)
        _linear(gguf, f"{block}mlp.up_proj", width, mlp)
        gguf.hole(f"{block}mlp.down_proj.weight", (width, mlp))  # rows of 3420 are not whole q4_0 blocks
        gguf.constant(f"{block}mlp.down_proj.bias", (width,), 0.0)
        gguf.constant(f"{block}norm1.weight", (width,), 1.0)
        gguf.constant(f"{block}norm2.weight", (width,), 1.0)
    gguf.constant("merger.ln_q.weight", (width,), 1.0)
    _linear(gguf, "merger.mlp.0", 4 * width, 4 * width)
    _linear(gguf, "merger.mlp.2", 4 * width, TEXT_HIDDEN)
    return gguf


def _conv(gguf: RandomGGUF, name: str, inputs: int, outputs: int, kernel: tuple[int, ...]) -> None:
    """A convolution over (height, width) or (time, height, width), with input and output channels in one dimension."""
    fan_in = inputs
    for side in kernel:
        fan_in *= side
    shape = (outputs, inputs, *kernel) if len(kernel) == 2 else (outputs * inputs, *kernel)
    gguf.normal(f"{name}.weight", shape, 1 / sqrt(fan_in))
    gguf.constant(f"{name}.bias", (outputs,), 0.0)


def _residual(gguf: RandomGGUF, name: str, inputs: int, outputs: int) -> None:
    gguf.constant(f"{name}.residual.0.gamma", (inputs,), 1.0)
    _conv(gguf, f"{name}.residual.2", inputs, outputs, (3, 3, 3))
    gguf.constant(f"{name}.residual.3.gamma", (outputs,), 1.0)
    _conv(gguf, f"{name}.residual.6", outputs, outputs, (3, 3, 3))
    if inputs != outputs:
        _conv(gguf, f"{name}.shortcut", inputs, outputs, (1, 1, 1))


def _middle(gguf: RandomGGUF, name: str, width: int) -> None:
    _residual(gguf, f"{name}.0", width, width)
    gguf.constant(f"{name}.1.norm.gamma", (width,), 1.0)
    _conv(gguf, f"{name}.1.to_qkv", width, 3 * width, (1, 1))
    _conv(gguf, f"{name}.1.proj", width, width, (1, 1))
    _residual(gguf, f"{name}.2", width, width)


def _vae(seed: int) -> RandomGGUF:
    """The Wan 2.1 autoencoder, which Qwen-Image uses: four levels, with time convolutions between some."""
    gguf = RandomGGUF("wanvae", seed)
    widths = [VAE_WIDTH * m for m in VAE_MULTIPLES]
    _vae_encoder(gguf, widths)
    _vae_decoder(gguf, widths[::-1])
    return gguf


def _vae_encoder(gguf: RandomGGUF, widths: list[int]) -> None:
    width, layer = VAE_WIDTH, 0
    _conv(gguf, "encoder.conv1", 3, width, (3, 3, 3))
    for level, level_width in enumerate(widths):
        for _ in range(2):
            _residual(gguf, f"encoder.downsamples.{layer}", width, level_width)
            width, layer = level_width, layer + 1
        if level < 3:
            _conv(gguf, f"encoder.downsamples.{layer}.resample.1", width, width, (3, 3))
            if level in (1, 2):
                _conv(gguf, f"encoder.downsamples.{layer}.time_conv", width, width, (3, 1, 1))
            layer += 1
    _middle(gguf, "encoder.middle", width)
    gguf.constant("encoder.head.0.gamma", (width,), 1.0)
    _conv(gguf, "encoder.head.2", width, 2 * VAE_LATENT, (3, 3, 3))
    _conv(gguf, "conv1", 2 * VAE_LATENT, 2 * VAE_LATENT, (1, 1, 1))


def _vae_decoder(gguf: RandomGGUF, widths: list[int]) -> None:
    width, layer = widths[0], 0
    _conv(gguf, "decoder.conv1", VAE_LATENT, width, (3, 3, 3))
    _middle(gguf, "decoder.middle", width)
    for level, level_width in enumerate(widths):
        for _ in range(3):
            _residual(gguf, f"decoder.upsamples.{layer}", width, level_width)
            width, layer = level_width, layer + 1
        if level < 3:
            # Each upsampling halves the channels.
            _conv(gguf, f"decoder.upsamples.{layer}.resample.1", width, width // 2, (3, 3))
            if level in (0, 1):
                _conv(gguf, f"decoder.upsamples.{layer}.time_conv", width, 2 * width, (3, 1, 1))
            width, layer = width // 2, layer + 1
    gguf.constant("decoder.head.0.gamma", (width,), 1.0)
    _conv(gguf, "decoder.head.2", width, 3, (3, 3, 3))
    _conv(gguf, "conv2", VAE_LATENT, VAE_LATENT, (1, 1, 1))
