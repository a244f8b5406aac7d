"""What the training set holds: its parts, each a seeded row of scenes or edits with their wordings. Without torch."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import captions
import numpy as np
import scenes

PARTS = ("draw:128:20000:64:6", "edit:128:4000:32:2", "draw:192:8000:28:1.2", "edit:192:2500:12:0.4")
SEED = 1
CAPTIONS = 4
"""Wordings of each picture: words are cheap, pictures are not."""
CHUNK = 250
HERE = Path(__file__).resolve().parent
WORLD = (HERE / "objects.py", HERE / "scenes.py", HERE / "captions.py", captions.PRESETS / "flat_clipart_icon.toml")
"""All that a picture and its caption depend on."""


@dataclass(frozen=True)
class Spec:
    """kind:size:pictures:batch:share. Kind is draw or edit; the share is of the steps."""

    kind: str
    size: int
    pictures: int
    batch: int
    share: float

    @classmethod
    def of(cls, text: str) -> Spec:
        kind, size, pictures, batch, share = text.split(":")
        if kind not in ("draw", "edit") or int(pictures) % CHUNK:
            raise ValueError(f"{text}: a part is draw or edit, and its pictures come in chunks of {CHUNK}")
        return cls(kind, int(size), int(pictures), int(batch), float(share))

    def tasks(self, seed: int) -> list[tuple[str, int, int, int]]:
        """What `rendered` takes, one chunk each."""
        return [(self.kind, self.size, seed * 1_000_003 + i, CHUNK) for i in range(self.pictures // CHUNK)]


def drawn(seed: int, n: int) -> Iterator[tuple[scenes.Scene, list[str]]]:
    """The n scenes of a chunk with their wordings."""
    rng = random.Random(seed)
    for _ in range(n):
        scene = scenes.sample(rng)
        yield scene, [captions.describe(rng, scene) for _ in range(CAPTIONS)]


def edited(seed: int, n: int) -> Iterator[tuple[scenes.Edit, list[str]]]:
    """The n edits of a chunk with their wordings."""
    rng = random.Random(seed)
    for _ in range(n):
        change = scenes.edit(rng)
        yield change, [captions.instruct(rng, change) for _ in range(CAPTIONS)]


def rendered(task: tuple[str, int, int, int]) -> tuple[np.ndarray, np.ndarray | None, list[list[str]]]:
    """A chunk: pictures (n, size, size, 3) in bytes, those before for edits, the wordings of each."""
    kind, size, seed, n = task
    if kind == "edit":
        changes, texts = zip(*edited(seed, n), strict=True)
        before = np.stack([scenes.draw(change.before, size) for change in changes])
        return np.stack([scenes.draw(change.after, size) for change in changes]), before, list(texts)
    shown, texts = zip(*drawn(seed, n), strict=True)
    return np.stack([scenes.draw(scene, size) for scene in shown]), None, list(texts)


def plain(caption: str) -> str:
    """A caption without what makes no other caption of it: the directive, case, a final stop."""
    return caption.removesuffix(captions.DIRECTIVE).strip().removesuffix(".").casefold()


def seen() -> set[str]:
    """Every caption, plain, that training with the default parts and seed takes: none of them is held out."""
    specs = [(Spec.of(text), SEED + number) for number, text in enumerate(PARTS)]
    tasks = [task for spec, seed in specs if spec.kind == "draw" for task in spec.tasks(seed)]
    return {plain(text) for _, _, seed, n in tasks for _, texts in drawn(seed, n) for text in texts}


def digest(*more: object, files: Iterable[Path] = WORLD) -> str:
    """Sixteen letters that change with these files or with what else is given."""
    found = hashlib.sha256(repr(more).encode())
    for file in files:
        found.update(file.read_bytes())
    return found.hexdigest()[:16]
