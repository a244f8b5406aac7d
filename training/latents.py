"""The training set: scenes and edits as packed latents with the words that are heard, made once and kept in a file."""

from __future__ import annotations

import hashlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import captions
import checkpoints
import numpy as np
import parts
import tokens
import torch
import torch.nn.functional as F
from networks import Encoder
from objects import WORDS
from parts import CAPTIONS, Spec
from torch import Tensor

WORDS_MAX = 28


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


@torch.no_grad()
def encoded(encoder: Encoder, images: np.ndarray) -> Tensor:
    """(N, size, size, 3) bytes -> packed latents (N, 4*LATENTS, size/16, size/16) in half floats, on the CPU."""
    out = []
    device = encoder.inp.weight.device
    for i in range(0, len(images), 25):
        x = torch.from_numpy(images[i : i + 25]).permute(0, 3, 1, 2).float().div(255)
        x = x.to(device).contiguous(memory_format=torch.channels_last)
        out.append(F.pixel_unshuffle(encoder(x), 2).half().cpu())
    return torch.cat(out)


def part(encoder: Encoder, vocabulary: list[int], spec: Spec, seed: int) -> Part:
    """Draws, describes and encodes the pictures of a part."""
    index = {token: row for row, token in enumerate(vocabulary)}
    latents, references, words = [], [], []
    with ProcessPoolExecutor(max_workers=1) as pool:  # draws the next pictures while these are encoded
        for images, before, texts in pool.map(parts.rendered, spec.tasks(seed)):
            latents.append(encoded(encoder, images))
            if before is not None:
                references.append(encoded(encoder, before))
            words += [[tokens.heard(text, index) for text in wordings] for wordings in texts]
            print(f"  {spec.kind} {spec.size}: {len(words)} of {spec.pictures}", flush=True)
    rows = torch.full((len(words), CAPTIONS, WORDS_MAX), -1, dtype=torch.int16)
    places = torch.zeros((len(words), CAPTIONS, WORDS_MAX), dtype=torch.int16)
    for i, wordings in enumerate(words):
        for j, (heard, where, _) in enumerate(wordings):
            k = min(len(heard), WORDS_MAX)
            rows[i, j, :k] = torch.tensor(heard[:k])
            places[i, j, :k] = torch.tensor(where[:k])
    return Part(torch.cat(latents), rows, places, torch.cat(references) if references else None)


def made(path: Path, autoencoder: Path, spec: Spec, seed: int, device: str) -> tuple[list[int], Part]:
    """The part kept at `path`, if this encoder and this world made it; else made, and kept there."""
    state = torch.load(autoencoder, map_location="cpu")["enc"]
    vocabulary = tokens.vocabulary(captions.CONTENT, WORDS)
    of = parts.digest(spec.kind, spec.size, spec.pictures, seed, vocabulary, *_sums(state))
    if path.exists():
        kept = torch.load(path, map_location="cpu")
        if kept.get("of") == of:
            return vocabulary, Part(*kept["part"])
        print(f"{path} was made by another autoencoder or of another world: it is made anew.", flush=True)
    encoder = Encoder()
    encoder.load_state_dict(state)
    encoder.eval().to(device, memory_format=torch.channels_last)
    result = part(encoder, vocabulary, spec, seed)
    whole = (result.latents, result.rows, result.places, result.references)
    checkpoints.save(path, {"of": of, "vocabulary": vocabulary, "part": whole})
    return vocabulary, result


def _sums(state: dict[str, Tensor]) -> list[str]:
    """What tells one encoder from another."""
    return [hashlib.sha256(state[name].numpy().tobytes()).hexdigest() for name in sorted(state)]
