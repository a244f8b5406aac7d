"""Trains transformer and text encoder together: rectified flow on cached latents.

python training/train_transformer.py AUTOENCODER.pt OUT.pt --minutes 120 [--resume OUT.pt] [--part draw:128:8000:48:3 …]

A part is kind:size:pictures:batch:share. Writes OUT.pt (averaged weights, and what --resume needs) every four minutes.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from pathlib import Path

import numpy as np
import torch
from latents import made
from networks import Sketch
from optimiser import Optimiser
from train_autoencoder import grown

PARTS = ["draw:128:20000:64:2", "edit:128:4000:32:1", "draw:192:8000:28:4", "edit:192:2500:12:1.2"]
SHIFT = 3.0
"""Training looks at noisy latents more often than at clean ones: the engine's own shift is 6.8 at 64 tokens."""
AVERAGE = 0.998


class Mixture:
    """The parts, one of them picked for each step by its share."""

    def __init__(self, specs: list[str], autoencoder: str, folder: Path, seed: int) -> None:
        self.vocabulary: list[int] = []
        self.parts, self.batches, shares = [], [], []
        for number, spec in enumerate(specs):
            kind, size, n, batch, share = spec.split(":")
            path = folder / f"{kind}-{size}-{n}.pt"
            self.vocabulary, part = made(path, Path(autoencoder), kind, int(size), int(n), seed + number)
            self.parts.append(part)
            self.batches.append(int(batch))
            shares.append(float(share))
        self.shares = np.array(shares) / sum(shares)

    def batch(self, rng: np.random.Generator):
        i = rng.choice(len(self.parts), p=self.shares)
        return i, self.parts[i].batch(rng, self.batches[i])


def flow_loss(net: Sketch, x0: torch.Tensor, words: dict, reference: torch.Tensor | None) -> torch.Tensor:
    """Squared error of noise minus picture, at stratified times."""
    n = len(x0)
    u = (torch.rand(n) + torch.arange(n)) / n
    t = SHIFT * u / (1 + (SHIFT - 1) * u)
    noise, s = torch.randn_like(x0), t[:, None, None, None]
    v = net((1 - s) * x0 + s * noise, t, words, reference)
    return (v - (noise - x0)).pow(2).mean()


def loaded(net: Sketch, kept: dict) -> None:
    """An older checkpoint's weights; words and channels that it had not stay as they are."""
    mine = net.state_dict()
    old = dict(kept["net"])
    place = {token: row for row, token in enumerate(kept["vocabulary"])}
    rows = mine["text.emb.weight"].clone()
    for row, token in enumerate(net.vocabulary):
        if token in place:
            rows[row] = old["text.emb.weight"][place[token]]
    old["text.emb.weight"] = rows
    net.load_state_dict({k: grown(k, v, mine[k]) for k, v in old.items()})


def save(path: str, net: Sketch, live: Sketch, optimiser: Optimiser, seen: int) -> None:
    kept = {"net": net.state_dict(), "vocabulary": net.vocabulary, "seen": seen, "live": live.state_dict()}
    torch.save(kept | {"optimiser": optimiser.state()}, path + ".part")
    Path(path + ".part").replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("autoencoder")
    parser.add_argument("out")
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--resume")
    parser.add_argument("--part", action="append", dest="parts")
    parser.add_argument("--rate", type=float, default=2.5e-3)
    parser.add_argument(
        "--constant", action="store_true", help="do not let the learning rate fall: more training follows"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    data = Mixture(options.parts or PARTS, options.autoencoder, Path(options.out).parent, options.seed)
    torch.set_default_device(options.device)
    channels = data.parts[0].latents.shape[1]
    net, kept = Sketch(data.vocabulary, channels=channels), None
    seen = 0
    if options.resume:
        kept = torch.load(options.resume, map_location=options.device)
        seen = kept.get("seen", 0)
        loaded(net, kept)
    average = copy.deepcopy(net).requires_grad_(False)
    if kept and "live" in kept and kept["vocabulary"] == data.vocabulary:
        net.load_state_dict(kept["live"])
    hidden = [p for n, p in net.dit.named_parameters() if p.ndim == 2 and n.startswith(("img.", "txt."))]
    chosen = set(map(id, hidden))
    optimiser = Optimiser(hidden, [p for p in net.parameters() if id(p) not in chosen])
    if kept and "optimiser" in kept and kept["vocabulary"] == data.vocabulary:
        optimiser.resume(kept["optimiser"])
    print(
        f"{sum(p.numel() for p in net.parameters()) / 1e6:.1f} M parameters, {len(data.vocabulary)} tokens", flush=True
    )
    start, step, saved, fresh, losses = time.time(), 0, time.time(), 0, {}
    while (spent := (time.time() - start) / 60) < options.minutes:
        done = spent / options.minutes
        fall = 1.0 if options.constant or done < 0.4 else (1 - done) / 0.6 + 0.01
        which, (x0, words, reference) = data.batch(rng)
        with torch.autocast(torch.device(options.device).type, dtype=torch.bfloat16):
            loss = flow_loss(net, x0, words, reference)
        optimiser.step(loss, options.rate * min(1, (step + 1) / 60) * fall)
        with torch.no_grad():
            torch._foreach_lerp_(
                list(average.parameters()), list(net.parameters()), 1 - min(AVERAGE, 1 - 1 / (2 + step / 10))
            )
        step, fresh = step + 1, fresh + len(x0)
        losses[which] = loss.item() if which not in losses else 0.97 * losses[which] + 0.03 * loss.item()
        if step % 50 == 0:
            told = " ".join(f"{losses.get(i, float('nan')):.4f}" for i in range(len(data.parts)))
            rate = fresh / (time.time() - start)
            left = options.minutes - spent
            print(f"step {step}  loss {told}  {rate:.1f}/s  {seen + fresh} seen  {left:.1f} min left", flush=True)
        if time.time() - saved > 240:
            saved = time.time()
            save(options.out, average, net, optimiser, seen + fresh)
    save(options.out, average, net, optimiser, seen + fresh)
    print(f"done: {step} steps, {seen + fresh} pictures seen, loss {losses}")


if __name__ == "__main__":
    main()
