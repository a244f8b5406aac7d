"""The colours of the built-in model's previews: what the engine projects, made into what the decoder would show.

    python training/preview_colours.py collect PAIRS.npz     # minutes: the real engine draws, with previews
    python training/preview_colours.py fit PAIRS.npz [--sheet SHEET.png]

The engine projects latents with the matrices of FLUX.2, and the latents of `sketch` are its own: the colours are wrong,
and those of one pixel alone do not determine the right ones. A small convolutional network does from 7x7 of them. `fit`
writes it to imagegen/models/entries/sketch-previews.npz; imagegen/images/preview_colours.py computes it. Prints the
error in 8-bit levels on pictures that it was not fitted to, beside that of the best linear correction of single pixels.
Both are seeded: the same engine and machine give the same file.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import random
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from objects import BACKGROUNDS, COLOURS, KINDS  # noqa: E402

from imagegen import engine_build  # noqa: E402
from imagegen.engines.base import DrawRequest, Preview, PreviewMode, PreviewPlan  # noqa: E402
from imagegen.engines.sdcpp.adapter import SdcppServerAdapter  # noqa: E402
from imagegen.images.preview_colours import PreviewColours  # noqa: E402
from imagegen.models.catalog import Catalog  # noqa: E402
from imagegen.models.synthetic import make as synthetic  # noqa: E402
from imagegen.settings import Settings  # noqa: E402

RESULT = ROOT / "imagegen/models/entries/sketch-previews.npz"
PICTURES = 160
WIDTH, STEPS, BATCH, RATE, DECAY = 32, 4000, 16, 3e-3, 1e-3
HELD_OUT = 5
"""Every so-manieth picture is not fitted to."""


def prompts(n: int) -> list[str]:
    """Every kind in turn, in colours and on backgrounds by chance; a third on white, and a quarter pairs."""
    rng = random.Random(0)
    kinds = [kind.nouns[0] for kind in KINDS.values()]
    found = []
    for index in range(n):
        text = f"a {rng.choice(list(COLOURS))} {kinds[index % len(kinds)][0]}"
        if rng.random() < 0.25:
            text += f" and a {rng.choice(list(COLOURS))} {rng.choice(kinds)[0]}"
        background = rng.choice(list(BACKGROUNDS))
        if background != "white" and rng.random() < 0.8:
            text += f" on a {background} background"
        found.append(text)
    return found


async def drawn(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Projections (picture, step, height, width, 3) and the pictures at their size, bytes."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder))
        synthetic.make("sketch", settings)
        entry = Catalog.load(settings).get("sketch")
        engine = SdcppServerAdapter(
            engine_build.resolve(settings), entry.argv(settings), threads=1, workdir=Path(folder) / "work", channel=True
        )
        await engine.start(lambda _: None)
        d = entry.defaults
        inputs, targets = [], []
        for seed, prompt in enumerate(prompts(n)):
            seen: list[Preview] = []
            request = DrawRequest(
                prompt, "", int(d.width.value), int(d.height.value), int(d.steps.value), float(d.cfg_scale.value),
                str(d.sampler.value), str(d.scheduler.value), seed, preview=PreviewPlan(PreviewMode.PROJECTION),
            )  # fmt: skip
            png = await engine.generate(request, lambda _: None, seen.append)
            shape = seen[0].height, seen[0].width, 3
            inputs.append([np.frombuffer(one.rgb, np.uint8).reshape(shape) for one in seen])
            picture = Image.open(io.BytesIO(png)).convert("RGB").resize(shape[1::-1], Image.Resampling.BOX)
            targets.append(np.asarray(picture))
            print(f"{seed + 1} of {n}: {prompt}", flush=True)
        await engine.stop()
    return np.array(inputs), np.array(targets)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        sizes = ((3, WIDTH, 3), (WIDTH, WIDTH, 3), (WIDTH, WIDTH, 3), (WIDTH, 3, 1))
        self.layers = nn.ModuleList(nn.Conv2d(a, b, k) for a, b, k in sizes)

    def forward(self, x: Tensor) -> Tensor:
        for index, layer in enumerate(self.layers):
            margin = layer.kernel_size[0] // 2
            x = layer(F.pad(x, (margin,) * 4, mode="replicate"))
            x = F.relu(x) if index < len(self.layers) - 1 else x
        return x


def fit(inputs: np.ndarray, targets: np.ndarray) -> PreviewColours:
    """The network of PreviewColours, from (picture, step, …) and (picture, …)."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # so small a network is slower with more, and sums in another order
    flat = inputs.reshape(-1, 3)
    mean, spread = flat.mean(0), flat.std(0)
    x = torch.from_numpy((inputs - mean) / spread).float().permute(0, 1, 4, 2, 3)
    y = torch.from_numpy(targets / 255).float().permute(0, 3, 1, 2)
    network = Network()
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS)
    for step in range(STEPS):
        which, when = torch.randint(len(x), (BATCH,)), torch.randint(x.shape[1], (BATCH,))
        a, b = x[which, when], y[which]
        if torch.rand(()) < 0.5:
            a, b = a.flip(-1), b.flip(-1)
        loss = F.l1_loss(network(a), b)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 1000 == 0:
            print(f"step {step}: {255 * loss.item():.1f}", flush=True)
    layers = tuple(
        (layer.weight.detach().permute(2, 3, 1, 0).numpy(), layer.bias.detach().numpy()) for layer in network.layers
    )
    return PreviewColours(mean.astype(np.float32), spread.astype(np.float32), layers)


def linear(inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The best correction of single pixels: 4 x 3."""
    x = inputs.reshape(-1, 3).astype(float)
    y = np.broadcast_to(targets[:, None], inputs.shape).reshape(-1, 3)
    return np.linalg.lstsq(np.c_[x, np.ones(len(x))], y, rcond=None)[0]


def error(shown: np.ndarray, targets: np.ndarray) -> float:
    return float(np.sqrt(((shown.astype(float) - targets) ** 2).mean()))


def sheet(inputs: np.ndarray, targets: np.ndarray, colours: PreviewColours, path: Path, side: int = 96) -> None:
    """Columns of pictures: the projection, the corrected one after each step, the picture."""
    whole = Image.new("RGB", (len(inputs) * side, (inputs.shape[1] + 2) * side))
    for column, (steps, target) in enumerate(zip(inputs, targets, strict=True)):
        rows = [steps[-1], *(colours.corrected(one) for one in steps), target]
        for row, pixels in enumerate(rows):
            cell = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
            whole.paste(cell, (column * side, row * side))
    whole.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("collect", "fit"))
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--pictures", type=int, default=PICTURES)
    parser.add_argument("--sheet", type=Path, help="write a contact sheet of pictures that were not fitted to")
    given = parser.parse_args()
    if given.what == "collect":
        inputs, targets = asyncio.run(drawn(given.pictures))
        np.savez_compressed(given.pairs, inputs=inputs, targets=targets)
        return
    with np.load(given.pairs) as pairs:
        inputs, targets = pairs["inputs"], pairs["targets"]
    held = np.arange(len(inputs)) % HELD_OUT == 0
    fit(inputs[~held], targets[~held]).save(RESULT)
    colours = PreviewColours.load(RESULT)
    matrix = linear(inputs[~held], targets[~held])
    for step in range(inputs.shape[1]):
        seen = inputs[held][:, step]
        single = np.clip(np.concatenate([seen, np.ones((*seen.shape[:3], 1))], -1) @ matrix, 0, 255)
        ours = np.array([colours.corrected(one) for one in seen])
        print(f"after step {step + 1}: {error(ours, targets[held]):.1f}, linear {error(single, targets[held]):.1f}")
    if given.sheet:
        sheet(inputs[held][:12], targets[held][:12], colours, given.sheet)


if __name__ == "__main__":
    main()
