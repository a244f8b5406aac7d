"""Draws with the trained networks in torch as the engine does: its noise (Philox), its times, Euler steps.

python training/sampler.py AUTOENCODER.pt TRANSFORMER.pt OUT.png [--steps 8] [--cfg 1] [PROMPT …]
"""

from __future__ import annotations

import argparse
import math
from itertools import pairwise

import contact
import numpy as np
import tokens
import torch
import torch.nn.functional as F
from networks import Decoder, Encoder, Sketch

PROMPTS = [
    "a red circle", "a clipart icon of a coffee cup", "a green tree on a black background",
    "two blue boxes joined by an arrow",
    "a purple star", "a yellow house on a light blue background", "a blue car", "an orange fish",
    "a pink flower", "a red apple on a light yellow background", "a yellow moon on a black background", "a smiley face",
    "an envelope", "a red balloon", "three green stars", "a red heart and a blue square",
    'a red sign that says "STOP"', "a cat", "a key", "a light bulb",
    "a red mushroom", "a rocket", "a brown boat", "a purple gift",
    "four pink hearts", "a green triangle above an orange circle", "an umbrella", "a clock",
    "a blue book", "a yellow bell", "an ice cream", "A purple zebra with an accordion",
]  # fmt: skip


def philox(seed: int, n: int) -> np.ndarray:
    """The engine's n first normal numbers of a seed (rng_philox.hpp)."""
    c = [np.zeros(n, np.uint64), np.zeros(n, np.uint64), np.arange(n, dtype=np.uint64), np.zeros(n, np.uint64)]
    mask, k = np.uint64(0xFFFFFFFF), [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        a, b = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [
            (b >> np.uint64(32)) ^ c[1] ^ np.uint64(k[0]),
            b & mask,
            (a >> np.uint64(32)) ^ c[3] ^ np.uint64(k[1]),
            a & mask,
        ]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    unit = np.float32(2.3283064e-10)
    u = c[0].astype(np.float32) * unit + unit / 2
    v = (c[1].astype(np.float32) * unit + unit / 2) * np.float32(2 * math.pi)
    return np.sqrt(-2 * np.log(u)) * np.sin(v)


def engine_sigmas(steps: int, tokens_: int) -> list[float]:
    """The engine's times of scheduler "simple" for this many picture tokens (denoiser.hpp: Flux2FlowDenoiser)."""
    at_200, at_10 = 0.00016927 * tokens_ + 0.45666666, 8.73809524e-05 * tokens_ + 1.89833333
    slope = (at_200 - at_10) / 190
    shift = math.exp(slope * steps + at_200 - 200 * slope)
    return [shift / (shift + 1000 / (1000 - int(i * 1000 / steps)) - 1) for i in range(steps)] + [0.0]


def shifted_sigmas(steps: int, shift: float) -> list[float]:
    return [shift * u / (1 + (shift - 1) * u) for u in (1 - i / steps for i in range(steps + 1))]


class Twin:
    """Both checkpoints, ready to draw. Pictures are (size, size, 3) bytes."""

    def __init__(self, autoencoder: str, transformer: str) -> None:
        kept = torch.load(autoencoder, map_location="cpu")
        self.decoder, self.encoder = Decoder(), Encoder()
        self.decoder.load_state_dict(kept["dec"])
        self.encoder.load_state_dict(kept["enc"])
        kept = torch.load(transformer, map_location="cpu")
        self.net = Sketch(kept["vocabulary"], channels=kept["net"]["dit.img_in.weight"].shape[1])
        self.net.load_state_dict(kept["net"])
        self.net.eval(), self.decoder.eval(), self.encoder.eval()
        self.index = {token: row for row, token in enumerate(kept["vocabulary"])}

    def words(self, prompt: str) -> dict[str, torch.Tensor]:
        rows, places, context = tokens.heard(prompt, self.index)
        n = max(1, len(rows))
        padded = [rows + [0] * (n - len(rows)), places + [0] * (n - len(rows))]
        live = torch.arange(n)[None] < len(rows)
        return {
            "rows": torch.tensor([padded[0]]), "places": torch.tensor([padded[1]]), "live": live,
            "silent": torch.tensor([context - len(rows)]),
        }  # fmt: skip

    @torch.no_grad()
    def draw(self, prompt, seed=42, steps=8, size=128, cfg=1.0, shift=None, negative="", reference=None) -> np.ndarray:
        g = size // 16
        noise = torch.from_numpy(philox(seed, 128 * g * g)).view(1, 128, g, g)
        x = noise[:, : self.net.dit.channels].float()
        asked, unasked = self.words(prompt), self.words(negative)
        if reference is not None:
            pixels = torch.from_numpy(reference.copy()).permute(2, 0, 1)[None].float().div(255)
            reference = F.pixel_unshuffle(self.encoder(pixels), 2)
        sigmas = shifted_sigmas(steps, shift) if shift else engine_sigmas(steps, g * g)
        for now, then in pairwise(sigmas):
            t = torch.tensor([now])
            v = self.net(x, t, asked, reference)
            if cfg != 1:
                without = self.net(x, t, unasked, reference)
                v = without + cfg * (v - without)
            x = x + (then - now) * v
        y = self.decoder(F.pixel_shuffle(x, 2))[0].clamp(0, 1)
        return (y.permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("autoencoder")
    parser.add_argument("transformer")
    parser.add_argument("out")
    parser.add_argument("prompts", nargs="*", default=PROMPTS)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--cfg", type=float, default=1.0)
    parser.add_argument("--negative", default="", help="what the service sends with each prompt, above cfg 1")
    parser.add_argument("--shift", type=float)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_intermixed_args()
    torch.set_num_threads(options.threads)
    twin = Twin(options.autoencoder, options.transformer)
    how = {
        "seed": options.seed,
        "steps": options.steps,
        "size": options.size,
        "cfg": options.cfg,
        "negative": options.negative,
        "shift": options.shift,
    }
    contact.grid([twin.draw(text, **how) for text in options.prompts], options.prompts).save(options.out)


if __name__ == "__main__":
    main()
