"""The smallest KL autoencoder that sd-server loads beside a diffusion transformer, with random weights.

sd-server reads the decoder's width from the file (src/auto_encoder_kl.hpp). The encoder's width of 128 is fixed: its
tensors are zero and take no disk space, so this autoencoder decodes only.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

from imagegen.models.synthetic.random_gguf import F32, RandomGGUF

WIDTHS = (1, 2, 4, 4)
DECODER, ENCODER = 32, 128

Conv = Callable[[str, int, int, int], None]


def vae(latent: int, quantised: bool) -> RandomGGUF:
    """latent: channels, 32 for FLUX.2 and 16 for FLUX.1. quantised: whether it has the two convolutions around them."""
    gguf = RandomGGUF("vae", 1)

    def conv(name: str, inputs: int, outputs: int, side: int = 3) -> None:
        gguf.normal(f"{name}.weight", (outputs, inputs, side, side), 1 / sqrt(inputs * side * side))
        gguf.constant(f"{name}.bias", (outputs,), 0.0)

    def empty(name: str, inputs: int, outputs: int, side: int = 3) -> None:
        gguf.hole(f"{name}.weight", (outputs, inputs, side, side))
        gguf.hole(f"{name}.bias", (outputs,), F32)

    _decoder(gguf, conv, latent)
    _encoder(gguf, empty, latent)
    if quantised:
        conv("post_quant_conv", latent, latent, 1)
        empty("quant_conv", 2 * latent, 2 * latent, 1)
    return gguf


def _norm(gguf: RandomGGUF, name: str, width: int) -> None:
    gguf.constant(f"{name}.weight", (width,), 1.0)
    gguf.constant(f"{name}.bias", (width,), 0.0)


def _block(gguf: RandomGGUF, conv: Conv, name: str, inputs: int, outputs: int) -> None:
    for part, width in (("1", inputs), ("2", outputs)):
        _norm(gguf, f"{name}.norm{part}", width)
        conv(f"{name}.conv{part}", width, outputs, 3)
    if inputs != outputs:
        conv(f"{name}.nin_shortcut", inputs, outputs, 1)


def _middle(gguf: RandomGGUF, conv: Conv, name: str, width: int) -> None:
    _block(gguf, conv, f"{name}.block_1", width, width)
    _norm(gguf, f"{name}.attn_1.norm", width)
    for part in ("q", "k", "v", "proj_out"):
        conv(f"{name}.attn_1.{part}", width, width, 1)
    _block(gguf, conv, f"{name}.block_2", width, width)


def _decoder(gguf: RandomGGUF, conv: Conv, latent: int) -> None:
    width = DECODER * WIDTHS[-1]
    conv("decoder.conv_in", latent, width, 3)
    _middle(gguf, conv, "decoder.mid", width)
    for level in reversed(range(len(WIDTHS))):
        outputs = DECODER * WIDTHS[level]
        for place in range(3):
            _block(gguf, conv, f"decoder.up.{level}.block.{place}", outputs if place else width, outputs)
        width = outputs
        if level:
            conv(f"decoder.up.{level}.upsample.conv", width, width, 3)
    _norm(gguf, "decoder.norm_out", width)
    conv("decoder.conv_out", width, 3, 3)


def _encoder(gguf: RandomGGUF, conv: Conv, latent: int) -> None:
    width = ENCODER
    conv("encoder.conv_in", 3, width, 3)
    for level, times in enumerate(WIDTHS):
        outputs = ENCODER * times
        for place in range(2):
            _block(gguf, conv, f"encoder.down.{level}.block.{place}", outputs if place else width, outputs)
        width = outputs
        if level < len(WIDTHS) - 1:
            conv(f"encoder.down.{level}.downsample.conv", width, width, 3)
    _middle(gguf, conv, "encoder.mid", width)
    _norm(gguf, "encoder.norm_out", width)
    conv("encoder.conv_out", width, 2 * latent, 3)
