"""Trains the upscaler on scenes that all cores draw beside it, and says how well it does on scenes held out.

python training/train_upscaler.py TEACHER.pt FOLDER [--steps 6000 | --minutes 3] [--resume] [--device cuda]

Writes into FOLDER: upscaler.pt, with what --resume needs, every half minute; at the end upscaler.safetensors for the
engine, upscaler.json with the figures, upscaler.png and drawn.png to look at. With --minutes the learning rate falls
with the time that has gone, else with the steps done.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import checkpoints
import numpy as np
import torch
import torch.nn.functional as F
import upscaler_report as report
from export_upscaler import packed
from optimiser import Optimiser
from torch import Tensor
from upscaler import Upscaler
from upscaler_data import HELD_OUT, HIGH, Chunk, Drawing, Pool, floats
from upscaler_teacher import KINDS, Teacher

RATE, BATCH, STEPS = 1.5e-3, 64, 6000
REFRESH = 8
"""Steps after which a chunk of the pool is new."""
WHOLE = 8
"""Of so many batches one is of whole pictures, a quarter as many."""
AVERAGE = 0.999
"""The weights that are kept are a mean of the last thousand steps."""
TELL_S, SAVE_S = 2.0, 30.0


def loss_of(made: Tensor, truth: Tensor) -> Tensor:
    """Absolute error, eight times heavier where there is detail, and the error of the gradients."""
    with torch.no_grad():
        reach = F.max_pool2d(truth, 5, 1, 2) + F.max_pool2d(-truth, 5, 1, 2)
        weight = 1 + 7 * reach.amax(1, keepdim=True)
    error = made - truth
    return (error.abs() * weight).mean() + error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


class Training:
    """The network, its running mean, the optimiser, and how far they are."""

    def __init__(self, device: torch.device, folder: Path, seed: int) -> None:
        torch.manual_seed(seed)
        self.device, self._path = device, folder / "upscaler.pt"
        self.net, self.mean = (Upscaler().to(device, memory_format=torch.channels_last) for _ in range(2))
        self.mean.load_state_dict(self.net.state_dict())
        self.mean.requires_grad_(False)
        hidden = [p for p in self.net.parameters() if p.ndim == 4 and min(p.shape[:2]) >= 16]
        chosen = set(map(id, hidden))
        self._optimiser = Optimiser(hidden, [p for p in self.net.parameters() if id(p) not in chosen])
        self._rng = np.random.default_rng(seed)
        self.steps = 0

    def resume(self) -> None:
        kept = torch.load(self._path, map_location=self.device)
        self.mean.load_state_dict(kept["net"])
        self.net.load_state_dict(kept["latest"])
        self._optimiser.resume(kept["optimiser"])
        checkpoints.go_on(self._rng, kept["chance"])
        self.steps = kept["step"]

    def save(self) -> None:
        kept = {"net": self.mean.state_dict(), "latest": self.net.state_dict(), "step": self.steps}
        kept |= {"optimiser": self._optimiser.state(), "chance": checkpoints.chance(self._rng)}
        checkpoints.save(self._path, kept)

    def step(self, x: Tensor, truth: Tensor, done: float) -> Tensor:
        """One step at this share of the training; its loss."""
        # Without instructions for it, a CPU is many times slower in bfloat16.
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda"):
            made = self.net(x)
        loss = loss_of(made.float(), truth)
        rate = RATE * min(1, (self.steps + 1) / 50) * (1 if done < 0.3 else (1 - done) / 0.7 + 0.01)
        self._optimiser.step(loss, rate)
        self.steps += 1
        kept = min(AVERAGE, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.mean.parameters()), list(self.net.parameters()), 1 - kept)
        return loss.detach()


def train(training: Training, pool: Pool, drawing: Drawing, options: argparse.Namespace) -> list[dict]:
    """Until the steps are done or the minutes have gone; the lines of progress."""
    clock, told = checkpoints.Clock(training.save, SAVE_S), []
    start = last = time.monotonic()
    pictures, mean = 0, None
    while True:
        gone = time.monotonic() - start
        done = gone / 60 / options.minutes if options.minutes else training.steps / options.steps
        if done >= 1:
            return told
        if training.steps % REFRESH == 0 and (not options.minutes or drawing.ready()):
            drawing.take(pool)
        whole = options.batch >= 4 and training.steps % WHOLE == WHOLE - 1
        batch = pool.whole(options.batch // 4) if whole else pool.crops(options.batch)
        loss = training.step(*batch, done)
        pictures += len(batch[0])
        mean = loss if mean is None else mean.lerp(loss, 0.05)
        if time.monotonic() - last > TELL_S:
            seen = {"step": training.steps, "seconds": round(gone, 1), "loss": round(mean.item(), 5)}
            told.append(seen | {"per_second": round(pictures / (time.monotonic() - last)), "scenes": pool.drawn})
            print("  ".join(f"{name} {value}" for name, value in told[-1].items()), f" {done:.0%}", flush=True)
            pictures, last = 0, time.monotonic()
        clock.tick()


@torch.no_grad()
def upscaled(net: Upscaler, pictures: Tensor) -> np.ndarray:
    """(n, h, w, 3) bytes to (n, 4h, 4w, 3)."""
    made = [net(floats(part)).clamp(0, 1).permute(0, 2, 3, 1) * 255 + 0.5 for part in pictures.split(8)]
    return torch.cat(made).to(torch.uint8).cpu().numpy()


def evaluate(training: Training, teacher: Teacher, held: Chunk, folder: Path) -> dict:
    """The figures on scenes that were never trained on; sheets of some of them go into the folder."""
    torch.manual_seed(0)
    low, *words = (torch.from_numpy(part).to(teacher.device) for part in (held.low, held.rows, held.places))
    inputs = torch.cat([teacher.inputs(*(part[i : i + 8] for part in (low, *words))) for i in range(0, len(low), 8)])
    edges = report.Edges(held.high)
    figures = {"generator": {"edge": edges.summary(held.high)}}
    print("generator", json.dumps(figures["generator"]), flush=True)
    rows = []
    for number, kind in enumerate(KINDS):
        given, made = inputs[:, number].cpu().numpy(), upscaled(training.mean, inputs[:, number])
        figures[kind] = report.measured(given, made, held.high, edges)
        rows += [(given[i], made[i], held.high[i]) for i in range(number, min(8, len(given)), 3)]
        print(kind, json.dumps(figures[kind]), flush=True)
    report.sheet(*(np.stack(part) for part in zip(*rows, strict=True))).save(folder / "upscaler.png")
    drawn = teacher.drawn(*(part[:8] for part in words))
    report.sheet(drawn.cpu().numpy(), upscaled(training.mean, drawn)).save(folder / "drawn.png")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher", help="what upscaler_teacher.py wrote")
    parser.add_argument("folder", type=Path)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, default=STEPS, help="how many in all, those of earlier runs included")
    length.add_argument("--minutes", type=float, help="of this run's training, in place of steps")
    parser.add_argument("--resume", action="store_true", help="go on from upscaler.pt in the folder")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--crop", type=int, default=64, help="side of what is cut out of an input")
    parser.add_argument("--pictures", type=int, default=8192, help="that are kept, 0.9 MB each; the oldest is replaced")
    parser.add_argument("--first", type=int, default=2048, help="that are drawn before the training begins")
    parser.add_argument("--chunk", type=int, default=32, help="that one worker draws at a time; divides --pictures")
    parser.add_argument("--held-out", type=int, default=64, help="scenes that it is measured on")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 1) - 2), help="that draw")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    if options.pictures % options.chunk:
        parser.error("--chunk has to divide --pictures")
    start = time.monotonic()
    options.folder.mkdir(parents=True, exist_ok=True)
    kept = torch.load(options.teacher, map_location="cpu")
    went = torch.load(options.folder / "upscaler.pt", map_location="cpu")["step"] if options.resume else 0
    drawing = Drawing(kept, options.seed * 2**30 + went, options.chunk, options.workers)
    torch.set_num_threads(options.threads)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    device = torch.device(options.device)
    training = Training(device, options.folder, options.seed)
    if options.resume:
        training.resume()
    teacher = Teacher(kept, device)
    pool = Pool(options.pictures, options.crop, teacher)
    while pool.drawn < min(options.first, options.pictures):
        drawing.take(pool)
    print(f"{pool.drawn} scenes of {HIGH} px in {time.monotonic() - start:.1f} s", flush=True)
    told = train(training, pool, drawing, options)
    drawing.close()
    training.save()
    (options.folder / "upscaler.safetensors").write_bytes(packed(training.mean.state_dict()))
    print(f"trained for {time.monotonic() - start:.0f} s", flush=True)
    held = Chunk.empty(options.held_out)
    held.draw(HELD_OUT, teacher.index)
    figures = evaluate(training, teacher, held, options.folder)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    whole = {"device": card, "steps": training.steps, "scenes": pool.drawn, "batch": options.batch}
    whole |= {"held_out": figures, "progress": told}
    (options.folder / "upscaler.json").write_text(json.dumps(whole, indent=1))
    print(f"done: {training.steps} steps, {time.monotonic() - start:.0f} s in all")


if __name__ == "__main__":
    main()
