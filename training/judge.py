"""A small classifier of the clip-art world: which object, colour, count and background a picture shows.

It is trained on the same procedural data, warped, blurred and noised, and never sees what the model draws. It judges
the pictures of benchmarks/sketch.py; what it gets wrong on clean scenes is printed beside its verdicts.

python training/judge.py JUDGE.pt [--minutes 4] [--verdicts FOLDER]

FOLDER holds pictures.json as benchmarks/sketch.py writes it; verdicts.json is written beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import scenes
import torch
import torch.nn.functional as F
from objects import BACKGROUNDS, COLOURS, KINDS
from PIL import Image
from torch import Tensor, nn

SIDE = 64
HEADS = {"kind": list(KINDS), "colour": list(COLOURS), "count": [1, 2, 3, 4], "background": list(BACKGROUNDS)}


class Judge(nn.Module):
    """Pictures (B, 3, 64, 64) in 0..1 -> logits of each head."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 24, 48, 96, 128)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for b in widths[1:])
        self.hidden = nn.Linear(128 * 16, 256)
        self.heads = nn.ModuleDict({name: nn.Linear(256, len(labels)) for name, labels in HEADS.items()})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.max_pool2d(F.relu(norm(conv(x))), 2)
        x = F.relu(self.hidden(x.flatten(1)))
        return {name: head(x) for name, head in self.heads.items()}


@dataclass(frozen=True)
class Verdict:
    """What is seen in a picture."""

    kind: str
    colour: str
    count: int
    background: str


def scene(rng: random.Random) -> scenes.Scene:
    """Single things and rows of one kind, in any size."""
    return scenes.counted(rng) if rng.random() < 0.3 else scenes.single(rng)


def labels(scene_: scenes.Scene) -> list[int]:
    first = scene_.items[0]
    found = Verdict(first.kind, first.colour, len(scene_.items), scene_.background)
    return [HEADS[name].index(getattr(found, name)) for name in HEADS]


def batch(rng: random.Random, n: int) -> tuple[Tensor, Tensor]:
    drawn = [scene(rng) for _ in range(n)]
    pictures = np.stack([scenes.draw(s, SIDE) for s in drawn])
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div(255)
    return x, torch.tensor([labels(s) for s in drawn])


def warped(x: Tensor) -> Tensor:
    """As a model would have it: turned, shifted and wobbly, blurred and noised."""
    n = len(x)
    turn = torch.eye(2, 3).repeat(n, 1, 1) + 0.08 * torch.randn(n, 2, 3)
    grid = F.affine_grid(turn, x.shape, align_corners=False)
    wobble = F.interpolate(0.05 * torch.randn(n, 2, 6, 6), SIDE, mode="bicubic").permute(0, 2, 3, 1)
    x = F.grid_sample(x, grid + wobble, padding_mode="border", align_corners=False)
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = torch.where(torch.rand(n, 1, 1, 1) < 0.5, soft, x)
    return (x + 0.04 * torch.rand(n, 1, 1, 1) * torch.randn_like(x)).clamp(0, 1)


@torch.no_grad()
def judged(judge: Judge, pictures: list[np.ndarray]) -> list[Verdict]:
    """Verdicts on pictures of any square size."""
    x = torch.stack([torch.from_numpy(p.copy()).permute(2, 0, 1).float().div(255) for p in pictures])
    found = judge(F.interpolate(x, (SIDE, SIDE), mode="area"))
    picks = {name: logits.argmax(1).tolist() for name, logits in found.items()}
    return [Verdict(*(HEADS[name][picks[name][i]] for name in HEADS)) for i in range(len(pictures))]


def accuracy(judge: Judge, seed: int, n: int = 1000) -> dict[str, float]:
    """Share of clean scenes that each head gets right."""
    x, truth = batch(random.Random(seed), n)
    with torch.no_grad():
        found = judge(x)
    return {
        name: (logits.argmax(1) == truth[:, i]).float().mean().item() for i, (name, logits) in enumerate(found.items())
    }


def trained(path: str, minutes: float, seed: int = 5) -> Judge:
    """The judge kept at `path`, or one trained and kept there."""
    judge = Judge()
    if Path(path).exists():
        judge.load_state_dict(torch.load(path))
        return judge.eval()
    torch.manual_seed(seed)
    rng = random.Random(seed)
    optimiser = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.01)
    start, step = time.time(), 0
    while (spent := (time.time() - start) / 60) < minutes:
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1, (step + 1) / 50) * (1 - spent / minutes + 0.01)
        x, truth = batch(rng, 64)
        found = judge(warped(x))
        loss = sum(F.cross_entropy(logits, truth[:, i]) for i, logits in enumerate(found.values()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        step += 1
        if step % 50 == 0:
            print(f"judge: step {step}  loss {loss.item():.3f}  {minutes - spent:.1f} min left", flush=True)
    torch.save(judge.state_dict(), path)
    return judge.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--verdicts", type=Path, metavar="FOLDER")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    judge = trained(options.out, options.minutes)
    right = {name: round(share, 3) for name, share in accuracy(judge, 99).items()}
    print("right on 1000 clean scenes that it was not trained on:", right)
    if options.verdicts:
        cases = json.loads((options.verdicts / "pictures.json").read_text())
        names = [case["file"] for case in (*cases["drawn"], *cases["edited"])]
        pictures = [np.asarray(Image.open(options.verdicts / name).convert("RGB")) for name in names]
        found = {name: asdict(verdict) for name, verdict in zip(names, judged(judge, pictures), strict=True)}
        (options.verdicts / "verdicts.json").write_text(json.dumps({"accuracy": right, "pictures": found}))


if __name__ == "__main__":
    main()
