"""The training set: scenes and edits as packed latents with the words that are heard, made once and kept in a file."""

from __future__ import annotations

import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import captions
import numpy as np
import scenes
import tokens
import torch
import torch.nn.functional as F
from networks import Encoder
from torch import Tensor

CAPTIONS = 4
"""Wordings of each picture: words are cheap, pictures are not."""
WORDS_MAX = 28
CHUNK = 250


@dataclass(frozen=True)
class Part:
    """Pictures of one size. latents (N, C, h, w) half floats; rows, places (N, CAPTIONS, WORDS_MAX); references
    (N, C, h, w) for edits."""

    latents: Tensor
    rows: Tensor
    places: Tensor
    references: Tensor | None = None

    def batch(self, rng: np.random.Generator, n: int, unheard: float = 0.1):
        """n picks on the default device: latents, words as Sketch takes them, references; a share of the prompts is
        empty (for cfg)."""
        pick = torch.from_numpy(rng.integers(0, len(self.latents), n))
        wording = torch.from_numpy(rng.integers(0, CAPTIONS, n))
        rows, places = self.rows[pick, wording].clone(), self.places[pick, wording]
        rows[torch.from_numpy(rng.random(n) < unheard)] = -1
        live = rows >= 0
        longest = max(1, int(live.sum(1).max()))
        live, rows, places = live[:, :longest], rows[:, :longest], places[:, :longest]
        words = {
            "rows": torch.where(live, rows, 0).long(),
            "places": places.long(),
            "live": live,
            "silent": tokens.CONTEXT - live.sum(1),
        }
        device = torch.get_default_device()
        references = None if self.references is None else self.references[pick].float().to(device)
        return self.latents[pick].float().to(device), {k: v.to(device) for k, v in words.items()}, references


def _rendered(task: tuple[str, int, int, int]) -> tuple[np.ndarray, np.ndarray | None, list[list[str]]]:
    kind, size, seed, n = task
    rng = random.Random(seed)
    images, before, texts = [], [], []
    for _ in range(n):
        if kind == "edit":
            change = scenes.edit(rng)
            images.append(scenes.draw(change.after, size))
            before.append(scenes.draw(change.before, size))
            texts.append([captions.instruct(rng, change) for _ in range(CAPTIONS)])
        else:
            scene = scenes.sample(rng)
            images.append(scenes.draw(scene, size))
            texts.append([captions.describe(rng, scene) for _ in range(CAPTIONS)])
    return np.stack(images), np.stack(before) if before else None, texts


@torch.no_grad()
def encoded(encoder: Encoder, images: np.ndarray) -> Tensor:
    """(N, size, size, 3) bytes -> packed latents (N, 4*LATENTS, size/16, size/16) in half floats."""
    out = []
    for i in range(0, len(images), 25):
        x = torch.from_numpy(images[i : i + 25]).permute(0, 3, 1, 2).float().div(255)
        out.append(F.pixel_unshuffle(encoder(x.contiguous(memory_format=torch.channels_last)), 2).half())
    return torch.cat(out)


def part(encoder: Encoder, vocabulary: list[int], kind: str, size: int, n: int, seed: int) -> Part:
    """Draws, describes and encodes n scenes (kind "draw") or edits (kind "edit") of size by size pixels."""
    index = {token: row for row, token in enumerate(vocabulary)}
    latents, references, words = [], [], []
    tasks = [(kind, size, seed * 1_000_003 + i, CHUNK) for i in range(n // CHUNK)]
    with ProcessPoolExecutor(max_workers=1) as pool:  # draws the next pictures while these are encoded
        for images, before, texts in pool.map(_rendered, tasks):
            latents.append(encoded(encoder, images))
            if before is not None:
                references.append(encoded(encoder, before))
            words += [[tokens.heard(text, index) for text in wordings] for wordings in texts]
            print(f"  {kind} {size}: {len(words)} of {n}", flush=True)
    rows = torch.full((len(words), CAPTIONS, WORDS_MAX), -1, dtype=torch.int16)
    places = torch.zeros((len(words), CAPTIONS, WORDS_MAX), dtype=torch.int16)
    for i, wordings in enumerate(words):
        for j, (heard, where, _) in enumerate(wordings):
            k = min(len(heard), WORDS_MAX)
            rows[i, j, :k] = torch.tensor(heard[:k])
            places[i, j, :k] = torch.tensor(where[:k])
    return Part(torch.cat(latents), rows, places, torch.cat(references) if references else None)


def made(path: Path, autoencoder: Path, kind: str, size: int, n: int, seed: int) -> tuple[list[int], Part]:
    """The part kept at `path`, or made and kept there."""
    from objects import WORDS

    if path.exists():
        kept = torch.load(path)
        return kept["vocabulary"], Part(*kept["part"])
    encoder = Encoder()
    encoder.load_state_dict(torch.load(autoencoder)["enc"])
    encoder.eval().to(memory_format=torch.channels_last)
    vocabulary = tokens.vocabulary(captions.CONTENT, WORDS)
    result = part(encoder, vocabulary, kind, size, n, seed)
    torch.save(
        {"vocabulary": vocabulary, "part": (result.latents, result.rows, result.places, result.references)},
        str(path) + ".part",
    )
    Path(str(path) + ".part").replace(path)
    return vocabulary, result
