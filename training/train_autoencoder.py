"""Trains the autoencoder on crops of scenes that are drawn as it goes.

python training/train_autoencoder.py OUT.pt [--steps 3000] [--resume OUT.pt] [--device cuda]

Writes OUT.pt, with what --resume needs, every four minutes. The learning rate falls with the steps done of --steps.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import time

import checkpoints
import numpy as np
import scenes
import torch
import torch.nn.functional as F
from networks import Decoder, Encoder
from optimiser import Optimiser

RATE, BATCH, CROP = 1.5e-3, 24, 64
STEPS = 3000
TURN = 400
"""Steps after which a fifth of the pictures that crops are cut from is new."""


def pictures(seed: int, n: int) -> np.ndarray:
    """(n, 128, 128, 3) bytes; some of them cut from pictures twice as large, so that both scales are learned."""
    rng = random.Random(seed)
    out = []
    for _ in range(n):
        scene = scenes.sample(rng)
        if rng.random() < 0.15:
            big = scenes.draw(scene, 256)
            y, x = rng.randrange(0, 129), rng.randrange(0, 129)
            out.append(big[y : y + 128, x : x + 128])
        else:
            out.append(scenes.draw(scene, 128))
    return np.stack(out)


def stock(seed: int, step: int, n: int) -> np.ndarray:
    """The pictures (n, 128, 128, 3) that crops are cut from at `step`: the same, wherever training went on."""
    turn, fresh = step // TURN, n // 5
    kept = [pictures(seed, n)[turn * fresh :]] if turn < 5 else []
    return np.concatenate([*kept, *(_fresh(seed, i, n) for i in range(max(1, turn - 4), turn + 1))])


def _fresh(seed: int, turn: int, n: int) -> np.ndarray:
    return pictures(seed + 7919 * TURN * turn, n // 5)


def crops(images: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    """(BATCH, 3, CROP, CROP) in 0..1: of three places in a picture the one with the most in it."""
    picks = []
    for i in rng.integers(0, len(images), BATCH):
        places = [images[i, y : y + CROP, x : x + CROP] for y, x in rng.integers(0, 128 - CROP + 1, (3, 2))]
        picks.append(max(places, key=_detail))
    batch = torch.from_numpy(np.stack(picks)).permute(0, 3, 1, 2).float().div(255)
    return batch.contiguous(memory_format=torch.channels_last)


def _detail(crop: np.ndarray) -> int:
    """How often neighbouring pixels differ clearly."""
    pixels = crop[::2, ::2].astype(np.int16)
    return int((np.abs(np.diff(pixels, axis=0)) > 40).sum() + (np.abs(np.diff(pixels, axis=1)) > 40).sum())


def loss_of(decoded: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Absolute error, four times heavier where there is detail, and the error of the gradients."""
    with torch.no_grad():
        reach = F.max_pool2d(x, 3, 1, 1) + F.max_pool2d(-x, 3, 1, 1)
        weight = 1 + 3 * reach.amax(1, keepdim=True)
    dx = (decoded - x).diff(dim=-1).abs().mean()
    dy = (decoded - x).diff(dim=-2).abs().mean()
    return ((decoded - x).abs() * weight).mean() + dx + dy


def grown(name: str, old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """An older checkpoint's tensor in the shape of `new`: what it had not is small and random, or as `new` has it."""
    if old.shape == new.shape:
        return old
    out = new.clone() * (0.3 if name.endswith("weight") else 1.0)
    out[tuple(slice(0, n) for n in old.shape)] = old
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--steps", type=int, default=STEPS, help="how many in all, those of earlier runs included")
    parser.add_argument("--pictures", type=int, default=1500, help="that crops are cut from, at a time")
    parser.add_argument("--judged", type=int, default=64, help="pictures that the result is measured on")
    parser.add_argument("--resume", help="a checkpoint to go on from; one with fewer latent channels is widened")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    device = torch.device(options.device)
    nets = torch.nn.ModuleDict({"enc": Encoder(), "dec": Decoder()}).to(device, memory_format=torch.channels_last)
    kept = torch.load(options.resume, map_location=device) if options.resume else {}
    if kept:
        for part in ("enc", "dec"):
            mine = nets[part].state_dict()
            nets[part].load_state_dict({k: grown(k, v, mine[k]) for k, v in kept[part].items()})
    hidden = [p for p in nets.parameters() if p.ndim == 4 and min(p.shape[:2]) >= 16]
    chosen = set(map(id, hidden))
    optimiser = Optimiser(hidden, [p for p in nets.parameters() if id(p) not in chosen])
    step, mean = 0, None
    if "chance" in kept and kept["enc"]["out.weight"].shape == nets["enc"].out.weight.shape:
        optimiser.resume(kept["optimiser"])
        step = kept["step"]
        checkpoints.go_on(rng, kept["chance"])

    def save() -> None:
        what = {part: nets[part].state_dict() for part in ("enc", "dec")}
        what |= {"optimiser": optimiser.state(), "step": step, "chance": checkpoints.chance(rng)}
        checkpoints.save(options.out, what)

    n = options.pictures
    images = stock(options.seed, step, n)
    clock, start, before = checkpoints.Clock(save), time.monotonic(), step
    while step < options.steps:
        done = step / options.steps
        x = crops(images, rng).to(device)
        z = nets["enc"](x)
        y = nets["dec"](z + 0.1 * torch.rand(BATCH, 1, 1, 1, device=device) * torch.randn_like(z))
        rate = RATE * min(1, (step + 1) / 30) * (1 if done < 0.4 else (1 - done) / 0.6 + 0.01)
        loss = loss_of(y, x)
        optimiser.step(loss, rate)
        step += 1
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        if step % 50 == 0:
            pace = (step - before) / (time.monotonic() - start)
            told = f"step {step} of {options.steps}  loss {mean:.4f}  {pace * BATCH:.0f} crops/s"
            print(f"{told}  about {(options.steps - step) / pace / 60:.0f} min left", flush=True)
        if step % TURN == 0:
            images = np.concatenate([images[n // 5 :], _fresh(options.seed, step // TURN, n)])
        clock.tick()
    save()
    nets.eval()
    with torch.no_grad():
        x = torch.from_numpy(pictures(options.seed - 1, options.judged)).permute(0, 3, 1, 2).float().div(255).to(device)
        error = (nets["dec"](nets["enc"](x)).clamp(0, 1) - x).pow(2).mean().item()
    print(
        f"done: {step} steps, {-10 * math.log10(error):.1f} dB on {options.judged} pictures that it was not trained on"
    )


if __name__ == "__main__":
    main()
