"""Trains transformer and text encoder together: rectified flow on cached latents.

python training/train_transformer.py AUTOENCODER.pt OUT.pt [--pictures 450000] [--resume OUT.pt] [--device cuda]
    [--part draw:128:8000:48:3 …]

A part is kind:size:pictures:batch:share. Writes OUT.pt (averaged weights, and what --resume needs) every four minutes.
The learning rate falls with the pictures seen, of all that --pictures names, so that an interrupted training does what
it would have done. From a checkpoint of other words, or one out of shipped.py, only the weights are taken.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from pathlib import Path

import checkpoints
import numpy as np
import torch
from latents import made
from networks import Sketch
from optimiser import Optimiser
from parts import PARTS, SEED, Spec
from train_autoencoder import grown

PICTURES = 450_000
SHIFT = 3.0
"""Training looks at noisy latents more often than at clean ones: the engine's own shift is 6.8 at 64 tokens."""
AVERAGE = 0.998


class Mixture:
    """The parts, one of them picked for each step by its share."""

    def __init__(self, specs: list[Spec], autoencoder: str, folder: Path, seed: int, device: str) -> None:
        self.vocabulary: list[int] = []
        self.parts = []
        for number, spec in enumerate(specs):
            path = folder / f"{spec.kind}-{spec.size}-{spec.pictures}.pt"
            self.vocabulary, part = made(path, Path(autoencoder), spec, seed + number, device)
            self.parts.append(part)
        self.batches = [spec.batch for spec in specs]
        self.shares = np.array([spec.share for spec in specs]) / sum(spec.share for spec in specs)

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("autoencoder")
    parser.add_argument("out")
    parser.add_argument(
        "--pictures", type=int, default=PICTURES, help="how many are seen in all, earlier runs included"
    )
    parser.add_argument("--resume")
    parser.add_argument("--part", action="append", dest="parts")
    parser.add_argument("--rate", type=float, default=2.5e-3)
    parser.add_argument(
        "--constant", action="store_true", help="do not let the learning rate fall: more training follows"
    )
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    rng = np.random.default_rng(options.seed)
    specs = [Spec.of(text) for text in options.parts or PARTS]
    data = Mixture(specs, options.autoencoder, Path(options.out).parent, options.seed, options.device)
    torch.manual_seed(options.seed)  # after the latents: whether they are made or kept must not matter
    torch.set_default_device(options.device)
    net = Sketch(data.vocabulary, channels=data.parts[0].latents.shape[1])
    kept = torch.load(options.resume, map_location=options.device) if options.resume else {}
    if kept:
        loaded(net, kept)
    average = copy.deepcopy(net).requires_grad_(False)
    hidden = [p for n, p in net.dit.named_parameters() if p.ndim == 2 and n.startswith(("img.", "txt."))]
    chosen = set(map(id, hidden))
    optimiser = Optimiser(hidden, [p for p in net.parameters() if id(p) not in chosen])
    step = seen = 0
    if kept.get("chance") and kept["vocabulary"] == data.vocabulary:
        net.load_state_dict(kept["live"])
        optimiser.resume(kept["optimiser"])
        step, seen = kept["step"], kept["seen"]
        checkpoints.go_on(rng, kept["chance"])
    print(
        f"{sum(p.numel() for p in net.parameters()) / 1e6:.1f} M parameters, {len(data.vocabulary)} tokens, "
        f"{seen} of {options.pictures} pictures seen",
        flush=True,
    )

    def save() -> None:
        what = {"net": average.state_dict(), "vocabulary": net.vocabulary, "live": net.state_dict()}
        what |= {"optimiser": optimiser.state(), "step": step, "seen": seen, "chance": checkpoints.chance(rng)}
        checkpoints.save(options.out, what)

    clock, start, before, losses = checkpoints.Clock(save), time.monotonic(), seen, {}
    while seen < options.pictures:
        done = seen / options.pictures
        fall = 1.0 if options.constant or done < 0.4 else (1 - done) / 0.6 + 0.01
        which, (x0, words, reference) = data.batch(rng)
        with torch.autocast(torch.device(options.device).type, dtype=torch.bfloat16):
            loss = flow_loss(net, x0, words, reference)
        optimiser.step(loss, options.rate * min(1, (step + 1) / 60) * fall)
        with torch.no_grad():
            torch._foreach_lerp_(
                list(average.parameters()), list(net.parameters()), 1 - min(AVERAGE, 1 - 1 / (2 + step / 10))
            )
        step, seen = step + 1, seen + len(x0)
        losses[which] = loss.item() if which not in losses else 0.97 * losses[which] + 0.03 * loss.item()
        if step % 50 == 0:
            told = " ".join(f"{losses.get(i, float('nan')):.4f}" for i in range(len(data.parts)))
            pace = (seen - before) / (time.monotonic() - start)
            left = (options.pictures - seen) / pace / 60
            print(
                f"step {step}  loss {told}  {pace:.1f}/s  {seen} of {options.pictures} seen  about {left:.0f} min left",
                flush=True,
            )
        clock.tick()
    save()
    print(f"done: {step} steps, {seen} pictures seen, loss {losses}")


if __name__ == "__main__":
    main()
