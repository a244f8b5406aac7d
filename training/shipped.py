"""Checkpoints out of the weights that the package ships, so that training goes on where they are.

    python training/shipped.py imagegen/models/entries/sketch.npz AUTOENCODER.pt TRANSFORMER.pt

This is export.py backwards, and as exact as the packed file (q8_0, and 16 bits). The optimiser's state begins anew.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
import torch
from export import State
from gguf.quants import dequantize
from networks import DECODER_BLOCKS, ENCODER_BLOCKS, Decoder, Encoder, Sketch

from imagegen.models.synthetic.packed import BF16, Q8_0, Pack, PackedGGUF

BN_EPS = 1e-5


def values(gguf: PackedGGUF) -> State:
    """The tensors as the engine hears them, by the engine's names."""
    found = {}
    for tensor in gguf.tensors:
        whole = tensor.unpacked()
        if tensor.kind is Q8_0:
            whole = dequantize(whole.reshape(*whole.shape[:-2], -1), Q8_0)
        elif tensor.kind is BF16:
            whole = dequantize(whole.view(np.uint8), BF16)
        found[tensor.name] = torch.from_numpy(np.array(whole, np.float32))
    return found


def transformer(dit: State, text: State, vocabulary: list[int]) -> dict:
    """A checkpoint as train_transformer.py writes it."""
    channels = int(dit["img_in.weight"].abs().sum(0).nonzero().max()) + 1
    net = Sketch(vocabulary, channels=channels)
    width = net.dit.width
    state = {f"dit.{name}": value for name, value in _trunk(dit, channels, width).items()}
    rows = net.text.emb.weight.detach().clone()
    rows[: len(vocabulary)] = text["model.embed_tokens.weight"][vocabulary]
    rows[:, 0] = 0
    state |= {"text.emb.weight": rows, "text.m": net.text.m}
    layer = "model.layers.0."
    for ours, engines in (
        ("q", "self_attn.q_proj"),
        ("k", "self_attn.k_proj"),
        ("v", "self_attn.v_proj"),
        ("gate", "mlp.gate_proj"),
        ("up", "mlp.up_proj"),
    ):
        state[f"text.{ours}.weight"] = text[f"{layer}{engines}.weight"]
    for ours, engines in (("o", "self_attn.o_proj"), ("down", "mlp.down_proj")):
        state[f"text.{ours}.weight"] = text[f"{layer}{engines}.weight"]
    for ours, engines in (("qn", "self_attn.q_norm"), ("kn", "self_attn.k_norm")):
        state[f"text.{ours}"] = text[f"{layer}{engines}.weight"]
    net.load_state_dict(state)
    return {"net": state, "vocabulary": vocabulary}


def _trunk(dit: State, channels: int, width: int) -> State:
    state = {
        "img_in.weight": dit["img_in.weight"][:, :channels],
        "txt_in.weight": dit["txt_in.weight"],
        "t_in.weight": dit["time_in.in_layer.weight"],
        "t_out.weight": dit["time_in.out_layer.weight"],
        "mod_img.weight": dit["double_stream_modulation_img.lin.weight"],
        "mod_txt.weight": dit["double_stream_modulation_txt.lin.weight"],
        "fin_mod.weight": dit["final_layer.adaLN_modulation.1.weight"],
        "fin.weight": dit["final_layer.linear.weight"][:channels],
    }
    for name in dit:
        if not (found := re.match(r"double_blocks\.(\d+)\.(img|txt)_(.*)", name)):
            continue
        block, stream, part = found.groups()
        ours = {
            "attn.qkv.weight": "qkv.weight",
            "attn.norm.query_norm.scale": "qn",
            "attn.norm.key_norm.scale": "kn",
            "attn.proj.weight": "proj.weight",
            "mlp.0.weight": "m0.weight",
            "mlp.2.weight": "m2.weight",
        }[part]
        if stream == "txt" and ours in ("proj.weight", "m0.weight", "m2.weight"):
            continue  # zero: not trained
        value = dit[name]
        state[f"{stream}.{block}.{ours}"] = value[width:] if stream == "txt" and ours == "qkv.weight" else value
    return state


def autoencoder(tae: State) -> dict:
    """A checkpoint as train_autoencoder.py writes it. The encoder's last layer has the latents' statistics in it."""
    decoder, encoder = Decoder().state_dict(), Encoder().state_dict()
    _layers(tae, "decoder.layers.", decoder, _places(2, DECODER_BLOCKS, (3, 3, 3, 1), "ups", upsampling=True))
    _layers(tae, "encoder.layers.", encoder, _places(1, ENCODER_BLOCKS, (1, 3, 3, 3), "downs", upsampling=False))
    encoder["bn.running_mean"].zero_()
    encoder["bn.running_var"].fill_(1 - BN_EPS)
    return {"dec": decoder, "enc": encoder}


def _places(
    layer: int, blocks: tuple[int, ...], room: tuple[int, ...], between: str, upsampling: bool
) -> dict[str, int]:
    """Which of the engine's layers holds which part of ours."""
    places = {"inp": 0}
    for stage in range(4):
        places |= {f"blocks.{stage}.{block}": layer + block for block in range(blocks[stage])}
        layer += room[stage]
        if stage < 3:
            layer += upsampling
            places[f"{between}.{stage}"] = layer
            layer += 1
    return places | {"out": layer}


def _layers(tae: State, prefix: str, state: State, places: dict[str, int]) -> None:
    for name, mine in state.items():
        part, _, leaf = name.rpartition(".")
        if part in places:
            engines = f"{prefix}{places[part]}.{leaf}"
        elif (block := part.rpartition("."))[0] in places:
            convolution = {"c0": "conv.0", "c2": "conv.2", "c4": "conv.4"}[block[2]]
            engines = f"{prefix}{places[block[0]]}.{convolution}.{leaf}"
        else:
            continue  # the batch norm's
        mine.copy_(tae[engines][tuple(slice(0, n) for n in mine.shape)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packed", type=Path, help="NAME.npz, with NAME.json beside it")
    parser.add_argument("autoencoder", type=Path, help="where the autoencoder's checkpoint goes")
    parser.add_argument("transformer", type=Path, help="where the transformer's goes")
    options = parser.parse_args()
    packed = Pack(options.packed.stem, options.packed.parent).files()
    tables = {tensor.name: tensor for tensor in packed["llm.gguf"].tensors}
    vocabulary = tables["model.embed_tokens.weight"].ids
    torch.save(autoencoder(values(packed["tae.gguf"])), options.autoencoder)
    torch.save(transformer(values(packed["dit.gguf"]), values(packed["llm.gguf"]), vocabulary), options.transformer)
    print(f"{options.autoencoder}, {options.transformer}: {len(vocabulary)} tokens")


if __name__ == "__main__":
    main()
