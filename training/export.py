"""Packs checkpoints of the autoencoder and the transformer into the file that the package ships.

    python training/export.py tae.pt dit.pt imagegen/models/entries/sketch.npz

writes sketch.npz, and sketch.json beside it: what the files must be, and which things the model draws. All sizes
are read from the tensors. The engine's conventions are stable-diffusion.cpp's of May 2026, under its `src/`.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imagegen.models.synthetic.packed import F16, F32, Q8_0, Dense, Table, pack

ROWS = 151_936  # of the engine's token table (Qwen3)
HEAD = 128
CHANNELS = 64  # of the engine's tiny autoencoder
LATENT = 32  # of FLUX.2's latent
DECODER_BLOCKS = ENCODER_BLOCKS = 3  # in a stage of the engine's; the decoder's last and the encoder's first have one
SILENCE = 2.0**50
"""Channel 0 of every word outside the vocabulary; bfloat16 holds it. RMSNorm, whose weight is 0 on that channel, makes
nothing of such a word: so the 512 tokens that the engine always sends cost no training. What attention adds to one is
divided by this: it has to stay so far below FLUX.2's own epsilon, 1e-6, that no later norm makes a word of it again."""
MAX_BYTES = 12_000_000

State = dict[str, torch.Tensor]
Array = np.ndarray[Any, np.dtype[np.float32]]
Tensors = dict[str, Dense | Table]


def array(tensor: torch.Tensor) -> Array:
    return tensor.detach().float().numpy()


def q8(values: Array) -> Dense:
    """q8_0 where its blocks of 32 allow it."""
    return Dense(values, F16 if values.shape[-1] % 32 else Q8_0)


def transformer(net: State) -> Tensors:
    """FLUX.2's double blocks; what is not trained (the text's own attention and MLP, the single blocks) is zero."""
    state = {name.removeprefix("dit."): array(value) for name, value in net.items() if name.startswith("dit.")}
    hidden, latent = state["img_in.weight"].shape
    depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("img."))
    img_in = np.zeros((hidden, 4 * LATENT), np.float32)
    img_in[:, :latent] = state["img_in.weight"]
    final = np.zeros((4 * LATENT, hidden), np.float32)
    final[:latent] = state["fin.weight"]
    mod_txt = state["mod_txt.weight"].copy()
    mod_txt[:hidden] = 0  # only the first scale lives: a shift would give silent tokens a voice
    mod_txt[2 * hidden :] = 0
    tensors: Tensors = {
        "img_in.weight": q8(img_in),
        "time_in.in_layer.weight": q8(state["t_in.weight"]),
        "time_in.out_layer.weight": q8(state["t_out.weight"]),
        "txt_in.weight": Dense(state["txt_in.weight"], F16),
    }
    for block in range(depth):
        for stream in ("img", "txt"):
            tensors |= _block(state, f"{stream}.{block}.", f"double_blocks.{block}.{stream}_", hidden)
    return tensors | {
        "final_layer.linear.weight": q8(final),
        "final_layer.adaLN_modulation.1.weight": q8(state["fin_mod.weight"]),
        "double_stream_modulation_img.lin.weight": q8(state["mod_img.weight"]),
        "double_stream_modulation_txt.lin.weight": q8(mod_txt),
        "single_stream_modulation.lin.weight": q8(np.zeros((3 * hidden, hidden), np.float32)),
    }


def _block(state: dict[str, Array], ours: str, engines: str, hidden: int) -> Tensors:
    qkv = state[f"{ours}qkv.weight"]
    if len(qkv) == 2 * hidden:  # the text's: keys and values only, because nothing asks what it would attend to
        qkv = np.concatenate([np.zeros((hidden, hidden), np.float32), qkv])
    tensors: Tensors = {
        f"{engines}attn.qkv.weight": q8(qkv),
        f"{engines}attn.norm.query_norm.scale": Dense(state[f"{ours}qn"], F32),
        f"{engines}attn.norm.key_norm.scale": Dense(state[f"{ours}kn"], F32),
    }
    for name, part, shape in (
        ("attn.proj", "proj", (hidden, hidden)),
        ("mlp.0", "m0", (6 * hidden, hidden)),
        ("mlp.2", "m2", (hidden, 3 * hidden)),
    ):
        trained = state.get(f"{ours}{part}.weight")
        tensors[f"{engines}{name}.weight"] = q8(np.zeros(shape, np.float32) if trained is None else trained)
    return tensors


def text_encoder(net: State, vocabulary: list[int]) -> Tensors:
    """One layer of Qwen3; words outside the vocabulary are silent."""
    state = {name.removeprefix("text."): array(value) for name, value in net.items() if name.startswith("text.")}
    width = state["emb.weight"].shape[1]
    fill = np.zeros(width, np.float32)
    fill[0] = SILENCE
    words = state["emb.weight"][: len(vocabulary)].copy()
    words[:, 0] = 0
    heard = np.ones(width, np.float32)
    heard[0] = 0
    layer = "model.layers.0."
    tensors: Tensors = {"model.embed_tokens.weight": Table(ROWS, fill, vocabulary, words)}
    for name, part in (
        ("self_attn.q_proj", "q"),
        ("self_attn.k_proj", "k"),
        ("self_attn.v_proj", "v"),
        ("mlp.gate_proj", "gate"),
        ("mlp.up_proj", "up"),
    ):
        tensors[f"{layer}{name}.weight"] = q8(state[f"{part}.weight"])
    for name, part in (("self_attn.o_proj", "o"), ("mlp.down_proj", "down")):
        tensors[f"{layer}{name}.weight"] = q8(state[f"{part}.weight"] * heard[:, None])
    for name, part in (("self_attn.q_norm", "qn"), ("self_attn.k_norm", "kn")):
        tensors[f"{layer}{name}.weight"] = Dense(state[part], F32)
    for name in (f"{layer}input_layernorm", f"{layer}post_attention_layernorm", "model.norm"):
        tensors[f"{name}.weight"] = Dense(heard, F32)
    return tensors


class Autoencoder:
    """The engine's tiny autoencoder (TAESD for FLUX.2): narrower layers are padded with zeros, absent blocks with
    ones that let everything through."""

    def __init__(self, decoder: State, encoder: State) -> None:
        self.tensors: Tensors = {}
        self._decode({name: array(value) for name, value in decoder.items()})
        self._encode({name: array(value) for name, value in encoder.items()})

    def _decode(self, state: dict[str, Array]) -> None:
        place = "decoder.layers."
        self._convolution(f"{place}0", state["inp.weight"], state["inp.bias"], inputs=LATENT)
        layer = 2
        for stage in range(4):
            for block in range(DECODER_BLOCKS if stage < 3 else 1):
                self._residual(f"{place}{layer}.", state, f"blocks.{stage}.{block}.", pooled=stage == 0)
                layer += 1
            if stage < 3:
                layer += 1  # an upsampling without weights
                self._convolution(f"{place}{layer}", state[f"ups.{stage}.weight"])
                layer += 1
        self._convolution(f"{place}{layer}", state["out.weight"], state["out.bias"], outputs=3)

    def _encode(self, state: dict[str, Array]) -> None:
        place = "encoder.layers."
        self._convolution(f"{place}0", state["inp.weight"], state["inp.bias"], inputs=3)
        layer = 1
        for stage in range(4):
            for block in range(ENCODER_BLOCKS if stage > 0 else 1):
                self._residual(f"{place}{layer}.", state, f"blocks.{stage}.{block}.", pooled=stage == 3)
                layer += 1
            if stage < 3:
                self._convolution(f"{place}{layer}", state[f"downs.{stage}.weight"])
                layer += 1
        # The engine knows no statistics of this autoencoder's latents, so the last layer has them in it.
        scale = 1 / np.sqrt(state["bn.running_var"] + 1e-5)
        bias = (state["out.bias"] - state["bn.running_mean"]) * scale
        self._convolution(f"{place}{layer}", state["out.weight"] * scale[:, None, None, None], bias, outputs=LATENT)

    def _convolution(
        self, name: str, weight: Array, bias: Array | None = None, inputs: int = CHANNELS, outputs: int = CHANNELS
    ) -> None:
        padded = np.zeros((outputs, inputs, *weight.shape[2:]), np.float32)
        padded[: weight.shape[0], : weight.shape[1]] = weight
        self.tensors[f"{name}.weight"] = Dense(padded, F16)
        if bias is not None:
            padded = np.zeros(outputs, np.float32)
            padded[: len(bias)] = bias
            self.tensors[f"{name}.bias"] = Dense(padded, F32)

    def _residual(self, name: str, state: dict[str, Array], block: str, pooled: bool) -> None:
        nothing = np.zeros((CHANNELS, CHANNELS, 3, 3), np.float32), np.zeros(CHANNELS, np.float32)
        for engines, ours in (("conv.0", "c0"), ("conv.2", "c2"), ("conv.4", "c4")):
            trained = f"{block}{ours}.weight" in state
            weight, bias = (state[f"{block}{ours}.weight"], state[f"{block}{ours}.bias"]) if trained else nothing
            self._convolution(f"{name}{engines}", weight, bias)
        if pooled:
            wide = 4 * CHANNELS
            self.tensors[f"{name}pool.0.weight"] = Dense(np.zeros((wide, CHANNELS, 1, 1), np.float32), F16)
            self.tensors[f"{name}pool.3.weight"] = Dense(np.zeros((CHANNELS, wide, 1, 1), np.float32), F16)
            self.tensors[f"{name}pool.1.weight"] = Dense(np.ones(wide, np.float32), F32)
            self.tensors[f"{name}pool.1.bias"] = Dense(np.zeros(wide, np.float32), F32)


def check(autoencoder: dict[str, State], net: State) -> None:
    """Raises ValueError if the engine has no room for these sizes."""
    latent = autoencoder["dec"]["inp.weight"].shape[1]
    hidden, packed = net["dit.img_in.weight"].shape
    if latent > LATENT or packed != 4 * latent:
        raise ValueError(f"{latent} latent channels, {packed} in the transformer: at most {LATENT}, and four times it")
    if hidden % HEAD:
        raise ValueError(f"the transformer is {hidden} wide: the engine's heads have {HEAD}")
    widest = max(max(v.shape[:2]) for part in autoencoder.values() for n, v in part.items() if v.ndim == 4)
    if widest > CHANNELS:
        raise ValueError(f"a layer of the autoencoder is {widest} wide: the engine's are {CHANNELS}")
    for part, most in (("dec", (3, 3, 3, 1)), ("enc", (1, 3, 3, 3))):
        for name in autoencoder[part]:
            if (found := re.match(r"blocks\.(\d)\.(\d)\.", name)) and int(found[2]) >= most[int(found[1])]:
                raise ValueError(f"{part}.{name}: stage {found[1]} of the engine's has {most[int(found[1])]} blocks")


def drawn() -> list[list[str]]:
    """What the training data shows, each thing with its names, the usual one first."""
    from objects import KINDS  # beside this file

    return [[name for forms in kind.nouns for name in forms] for kind in KINDS.values()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("autoencoder", type=Path, help="a checkpoint with `dec` and `enc`")
    parser.add_argument("transformer", type=Path, help="a checkpoint with `net` and `vocabulary`, the token ids")
    parser.add_argument("packed", type=Path, help="where the packed weights go: NAME.npz")
    given = parser.parse_args()
    autoencoder = torch.load(given.autoencoder, map_location="cpu", weights_only=True)
    trained = torch.load(given.transformer, map_location="cpu", weights_only=True)
    check({"dec": autoencoder["dec"], "enc": autoencoder["enc"]}, trained["net"])
    models: dict[str, tuple[str, Tensors]] = {
        "dit.gguf": ("flux", transformer(trained["net"])),
        "llm.gguf": ("qwen3", text_encoder(trained["net"], list(trained["vocabulary"]))),
        "tae.gguf": ("taesd", Autoencoder(autoencoder["dec"], autoencoder["enc"]).tensors),
    }
    things = trained["things"] if "things" in trained else drawn()
    packed = pack(given.packed.parent, given.packed.stem, models, things=things)
    size = packed.about["packed"]["size_bytes"]
    for name, file in packed.stated.items():
        print(f"{name}: {file.size_bytes:,} bytes, SHA-256 {file.sha256}")
    print(f"{given.packed}: {size:,} bytes, {len(things)} things")
    if size > MAX_BYTES:
        print(f"That is more than the {MAX_BYTES:,} bytes that may be committed.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
