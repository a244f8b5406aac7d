"""Trains the decoder alone, on latents as the transformer leaves them: its last step is a guess, and a guess is soft.

python training/finish.py AUTOENCODER.pt TRANSFORMER.pt OUT.pt [--steps 600] [--device cuda]

It takes minutes, and begins anew if it is interrupted: OUT.pt is there when it is done.
"""

from __future__ import annotations

import argparse
import os
import random
import time

import captions
import checkpoints
import numpy as np
import scenes
import tokens
import torch
import torch.nn.functional as F
from latents import WORDS_MAX
from optimiser import Optimiser
from sampler import Twin
from torch import Tensor
from train_autoencoder import loss_of

RATE, BATCH, SIZE, STEPS = 4e-4, 12, 128, 600
LATEST = 0.6
"""Guesses are made from times up to this one: the engine's last step begins at 0.49 (8 steps, 64 tokens)."""


def drawn(seed: int, n: int, index: dict[int, int]) -> tuple[np.ndarray, Tensor, Tensor]:
    """n scenes: pictures (n, SIZE, SIZE, 3) in bytes, the rows and the places (n, WORDS_MAX) of their words."""
    rng = random.Random(seed)
    pictures = []
    rows, places = torch.full((n, WORDS_MAX), -1), torch.zeros((n, WORDS_MAX), dtype=torch.long)
    for i in range(n):
        scene = scenes.sample(rng)
        pictures.append(scenes.draw(scene, SIZE))
        heard, where, _ = tokens.heard(captions.describe(rng, scene), index)
        k = min(len(heard), WORDS_MAX)
        rows[i, :k], places[i, :k] = torch.tensor(heard[:k], dtype=torch.long), torch.tensor(where[:k])
    return np.stack(pictures), rows, places


@torch.no_grad()
def guessed(twin: Twin, x: Tensor, rows: Tensor, places: Tensor) -> Tensor:
    """The latents (B, LATENTS, SIZE/8, SIZE/8) that one step makes of pictures x (B, 3, SIZE, SIZE) and noise."""
    clean = F.pixel_unshuffle(twin.encoder(x), 2)
    live = rows >= 0
    words = {"rows": rows.clamp(min=0), "places": places, "live": live, "silent": tokens.CONTEXT - live.sum(1)}
    t = LATEST * torch.rand(len(x), device=x.device)
    s = t[:, None, None, None]
    noisy = (1 - s) * clean + s * torch.randn_like(clean)
    return F.pixel_shuffle(noisy - s * twin.net(noisy, t, words).float(), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("autoencoder")
    parser.add_argument("transformer")
    parser.add_argument("out")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--pictures", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    device = torch.device(options.device)
    twin = Twin(options.autoencoder, options.transformer)
    pictures, rows, places = drawn(options.seed + 31_337, options.pictures, twin.index)
    torch.set_default_device(device)
    twin.net.to(device)
    decoder = twin.decoder.train().to(device, memory_format=torch.channels_last)
    twin.encoder.to(device, memory_format=torch.channels_last)
    hidden = [p for p in decoder.parameters() if p.ndim == 4 and min(p.shape[:2]) >= 16]
    chosen = set(map(id, hidden))
    optimiser = Optimiser(hidden, [p for p in decoder.parameters() if id(p) not in chosen])
    start, mean = time.monotonic(), None
    for step in range(options.steps):
        pick = rng.integers(0, len(pictures), BATCH)
        x = torch.from_numpy(pictures[pick]).permute(0, 3, 1, 2).float().div(255)
        x = x.to(device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            decoded = decoder(guessed(twin, x, rows[pick].to(device), places[pick].to(device)))
        loss = loss_of(decoded.float(), x)
        optimiser.step(loss, RATE * min(1, (step + 1) / 30) * min(1, 1.01 - step / options.steps))
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        if (step + 1) % 20 == 0:
            left = (options.steps - step - 1) * (time.monotonic() - start) / (step + 1) / 60
            print(f"step {step + 1} of {options.steps}  loss {mean:.4f}  about {left:.0f} min left", flush=True)
    kept = torch.load(options.autoencoder, map_location="cpu")
    checkpoints.save(options.out, {"enc": kept["enc"], "dec": decoder.cpu().state_dict()})
    print(f"done: {options.steps} steps, loss {mean}")


if __name__ == "__main__":
    main()
