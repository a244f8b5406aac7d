"""A small classifier of the clip-art world: which object, colour, count and background a picture shows.

It is trained on the same procedural data, warped, blurred and noised, and never sees what the model draws. It judges
the pictures of benchmarks/sketch.py; what it gets wrong on clean scenes is printed beside its verdicts.

python training/judge.py FOLDER [--verdicts] [--steps 1200] [--device cuda]

The judge is kept in FOLDER under a name that changes with the code it depends on. --verdicts: FOLDER holds
pictures.json, {"files": [name, …], "parts": [[name, x, y, side], …]} (parts of the picture's side); verdicts.json is
written beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import parts
import rules
import scenes
import torch
import torch.nn.functional as F
from objects import BACKGROUNDS, COLOURS, KINDS
from PIL import Image
from torch import Tensor, nn

SIDE = 64
STEPS, BATCH, SEED = 1200, 64, 5
HEADS = {"kind": list(KINDS), "colour": list(COLOURS), "count": [1, 2, 3, 4], "background": list(BACKGROUNDS)}
Seen = tuple[np.ndarray, scenes.Scene]
"""A picture of SIDE by SIDE pixels, and the scene that it shows."""


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


def whole(rng: random.Random) -> Seen:
    """Single things and rows of one kind, in any size."""
    scene = scenes.counted(rng) if rng.random() < 0.3 else scenes.single(rng)
    return scenes.draw(scene, SIDE), scene


def half(rng: random.Random) -> Seen:
    """One of a pair, cut out."""
    scene = scenes.pair(rng)
    first = rng.random() < 0.5
    names = ("left", "right") if scene.form == "pair" else ("upper", "lower")
    picture = rules.half(scenes.draw(scene, 2 * SIDE), names[0 if first else 1])
    return picture, scenes.Scene((scene.items[0 if first else 1],), scene.background)


def corner(rng: random.Random) -> Seen:
    """A small thing that was added, cut out."""
    while (change := scenes.edit(rng)).verb != "add":
        pass
    cut = Image.fromarray(rules.square(scenes.draw(change.after, 2 * SIDE), *rules.CORNER))
    picture = np.asarray(cut.resize((SIDE, SIDE), Image.Resampling.BOX))
    return picture, scenes.Scene((change.after.items[1],), change.after.background)


def rest(rng: random.Random) -> Seen:
    """What is left of a picture with a small thing when that is painted over."""
    while (change := scenes.edit(rng)).verb != "add":
        pass
    return rules.without_corner(scenes.draw(change.after, SIDE)), change.before


LOOKS: dict[str, Callable[[random.Random], Seen]] = {"whole": whole, "half": half, "corner": corner, "rest": rest}


def any_look(rng: random.Random) -> Seen:
    return rng.choices([whole, half, corner, rest], [6, 2, 1, 1])[0](rng)


def labels(scene: scenes.Scene) -> list[int]:
    first = scene.items[0]
    found = Verdict(first.kind, first.colour, len(scene.items), scene.background)
    return [HEADS[name].index(getattr(found, name)) for name in HEADS]


def batch(rng: random.Random, n: int, look: Callable[[random.Random], Seen], device: str) -> tuple[Tensor, Tensor]:
    pictures, shown = zip(*(look(rng) for _ in range(n)), strict=True)
    x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float().div(255)
    return x.to(device), torch.tensor([labels(scene) for scene in shown], device=device)


def warped(x: Tensor) -> Tensor:
    """As a model would have it: turned, shifted and wobbly, blurred and noised."""
    n, device = len(x), x.device
    turn = torch.eye(2, 3, device=device).repeat(n, 1, 1) + 0.08 * torch.randn(n, 2, 3, device=device)
    grid = F.affine_grid(turn, x.shape, align_corners=False)
    wobble = 0.05 * torch.randn(n, 2, 6, 6, device=device)
    wobble = F.interpolate(wobble, SIDE, mode="bicubic").permute(0, 2, 3, 1)
    x = F.grid_sample(x, grid + wobble, padding_mode="border", align_corners=False)
    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = torch.where(torch.rand(n, 1, 1, 1, device=device) < 0.5, soft, x)
    return (x + 0.04 * torch.rand(n, 1, 1, 1, device=device) * torch.randn_like(x)).clamp(0, 1)


@torch.no_grad()
def judged(judge: Judge, pictures: list[np.ndarray], device: str) -> list[Verdict]:
    """Verdicts on pictures of any square size."""
    found = []
    for picture in pictures:
        x = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float().div(255).to(device)
        logits = judge(F.interpolate(x, (SIDE, SIDE), mode="area"))
        found.append(Verdict(*(HEADS[name][int(logits[name].argmax(1))] for name in HEADS)))
    return found


@torch.no_grad()
def accuracy(judge: Judge, look: Callable[[random.Random], Seen], n: int, device: str) -> dict[str, float]:
    """Share of n clean pictures, none of which it was trained on, that each head gets right."""
    x, truth = batch(random.Random(99), n, look, device)
    found = judge(x)
    return {
        name: round((logits.argmax(1) == truth[:, i]).float().mean().item(), 3)
        for i, (name, logits) in enumerate(found.items())
    }


def trained(folder: Path, steps: int, device: str) -> Judge:
    """The judge of this very code and this many steps: kept in `folder`, or trained and kept there."""
    here = Path(__file__).resolve()
    path = folder / f"judge-{parts.digest(steps, files=(*parts.WORLD, here, here.with_name('rules.py')))}.pt"
    torch.manual_seed(SEED)
    judge = Judge().to(device)
    if path.exists():
        judge.load_state_dict(torch.load(path, map_location=device))
        return judge.eval()
    rng = random.Random(SEED)
    optimiser = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.01)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1, (step + 1) / 50) * (1 - step / steps + 0.01)
        x, truth = batch(rng, BATCH, any_look, device)
        found = judge(warped(x))
        loss = sum(F.cross_entropy(logits, truth[:, i]) for i, logits in enumerate(found.values()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if (step + 1) % 50 == 0:
            print(f"judge: step {step + 1} of {steps}  loss {loss.item():.3f}", flush=True)
    torch.save(judge.state_dict(), str(path) + ".part")
    Path(str(path) + ".part").replace(path)
    return judge.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--verdicts", action="store_true")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--told", type=int, default=1000, help="clean pictures by which its accuracy is stated")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    judge = trained(options.folder, options.steps, options.device)
    right = {name: accuracy(judge, look, options.told, options.device) for name, look in LOOKS.items()}
    print(f"right on {options.told} clean pictures that it was not trained on:", right)
    if options.verdicts:
        cases = json.loads((options.folder / "pictures.json").read_text())
        names = [*cases["files"], *(part[0] for part in cases["parts"])]
        whole_ones = {name: np.asarray(Image.open(options.folder / name).convert("RGB")) for name in set(names)}
        cut = [whole_ones[name] for name in cases["files"]]
        cut += [rules.square(whole_ones[name], x, y, side) for name, x, y, side in cases["parts"]]
        found = [asdict(verdict) for verdict in judged(judge, cut, options.device)]
        verdicts = {"accuracy": right, "files": found[: len(cases["files"])], "parts": found[len(cases["files"]) :]}
        (options.folder / "verdicts.json").write_text(json.dumps(verdicts))


if __name__ == "__main__":
    main()
