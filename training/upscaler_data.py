"""Scenes for the upscaler: drawn at 128 and at 512 px by all cores beside the training, kept on its device, cut there.

The workers are forked and write into memory that they share with the training, so nothing is copied between them.
That takes Linux.
"""

from __future__ import annotations

import mmap
import multiprocessing
import random
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass

import captions
import numpy as np
import scenes
import tokens
import torch
import torch.nn.functional as F
from latents import WORDS_MAX
from torch import Tensor
from upscaler import SCALE
from upscaler_teacher import KINDS, Teacher, heard

LOW = 128
HIGH = SCALE * LOW
STRIDE = 4
"""Crops begin at every fourth row and column."""
SHARES = (0.2, 0.3, 0.5)
"""Of the kinds of inputs."""
HELD_OUT = 2**40
"""Seeds from here on are never trained on."""


@dataclass(frozen=True)
class Chunk:
    """n scenes: high (n, 512, 512, 3) and low (n, 128, 128, 3) bytes; rows, places (n, WORDS_MAX) of the words."""

    high: np.ndarray
    low: np.ndarray
    rows: np.ndarray
    places: np.ndarray

    @classmethod
    def empty(cls, n: int) -> Chunk:
        """In memory that processes forked from this one share."""

        def shared(shape: tuple[int, ...], dtype: type) -> np.ndarray:
            size = int(np.prod(shape))
            return np.frombuffer(mmap.mmap(-1, size * np.dtype(dtype).itemsize), dtype, size).reshape(shape)

        pictures = (shared((n, side, side, 3), np.uint8) for side in (HIGH, LOW))
        return cls(*pictures, shared((n, WORDS_MAX), np.int16), shared((n, WORDS_MAX), np.int16))

    def draw(self, seed: int, index: dict[int, int]) -> None:
        rng = random.Random(seed)
        for i in range(len(self.high)):
            scene = scenes.sample(rng)
            self.high[i], self.low[i] = scenes.draw(scene, HIGH), scenes.draw(scene, LOW)
            self.rows[i], self.places[i] = heard(captions.describe(rng, scene), index, WORDS_MAX)


@dataclass(frozen=True)
class Shared:
    """What the workers inherit."""

    slots: list[Chunk]
    index: dict[int, int]


_shared: Shared


def _draw(slot: int, seed: int) -> None:
    _shared.slots[slot].draw(seed, _shared.index)


class Drawing:
    """Chunks, one after another, in the order of their seeds. To be made before CUDA is used: processes are forked."""

    def __init__(self, kept: dict, seed: int, n: int, workers: int) -> None:
        global _shared
        tokens.KNOWN.update(kept["pieces"])
        index = {token: row for row, token in enumerate(kept["vocabulary"])}
        _shared = Shared([Chunk.empty(n) for _ in range(2 * workers)], index)
        self._pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork"))
        self._seed, self._begun = seed, 0
        self._waiting: deque[Future] = deque()
        for _ in _shared.slots:
            self._begin()

    def _begin(self) -> None:
        slot = self._begun % len(_shared.slots)
        self._waiting.append(self._pool.submit(_draw, slot, self._seed + self._begun))
        self._begun += 1

    def ready(self) -> bool:
        return self._waiting[0].done()

    def take(self, pool: Pool) -> None:
        """The next chunk goes into the pool; its place is drawn into again."""
        self._waiting.popleft().result()
        pool.put(_shared.slots[(self._begun - len(_shared.slots)) % len(_shared.slots)])
        self._begin()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


class Pool:
    """The latest `size` scenes on `device`, with their inputs of all kinds."""

    def __init__(self, size: int, crop: int, teacher: Teacher) -> None:
        self._crop, self._across = crop, (LOW - crop) // STRIDE + 1
        self._teacher, self.device = teacher, teacher.device
        self.size, self.drawn = size, 0
        with torch.device(self.device):
            self.high = torch.zeros(size, HIGH, HIGH, 3, dtype=torch.uint8)
            self.low = torch.zeros(size, len(KINDS), LOW, LOW, 3, dtype=torch.uint8)
            self._detail = torch.zeros(size, self._across**2)
            self._shares = torch.tensor(SHARES)

    @property
    def filled(self) -> int:
        return min(self.size, self.drawn)

    def put(self, chunk: Chunk) -> None:
        """In the place of the oldest."""
        n = len(chunk.high)
        at = self.drawn % self.size
        low = torch.from_numpy(chunk.low).to(self.device)
        words = (torch.from_numpy(part).to(self.device) for part in (chunk.rows, chunk.places))
        self.high[at : at + n].copy_(torch.from_numpy(chunk.high))
        self.low[at : at + n] = self._teacher.inputs(low, *words)
        self._detail[at : at + n] = _detail(low, self._crop)
        self.drawn += n

    def crops(self, n: int) -> tuple[Tensor, Tensor]:
        """Inputs (n, 3, crop, crop) and what they shall become, four times as large, in 0..1: of three places in
        a picture the one with the most in it."""
        with torch.device(self.device):
            scene = torch.randint(self.filled, (n,))
            places = torch.randint(self._across**2, (n, 3))
            best = self._detail[scene[:, None], places].argmax(1, keepdim=True)
            place = places.gather(1, best)
            y, x = place // self._across * STRIDE, place % self._across * STRIDE
            kind = torch.multinomial(self._shares, n, replacement=True)
            side = torch.arange(self._crop)
            low = self.low[scene[:, None, None], kind[:, None, None], (y + side)[:, :, None], (x + side)[:, None]]
            side = torch.arange(SCALE * self._crop)
            y, x = SCALE * y, SCALE * x
            high = self.high[scene[:, None, None], (y + side)[:, :, None], (x + side)[:, None]]
        return floats(low), floats(high)

    def whole(self, n: int) -> tuple[Tensor, Tensor]:
        """Whole pictures: their borders are the network's borders too."""
        with torch.device(self.device):
            scene, kind = torch.randint(self.filled, (n,)), torch.multinomial(self._shares, n, replacement=True)
        return floats(self.low[scene, kind]), floats(self.high[scene])


def floats(pictures: Tensor) -> Tensor:
    """(n, h, w, 3) bytes to (n, 3, h, w) in 0..1, channels last in memory."""
    return pictures.permute(0, 3, 1, 2).float().div(255)


def _detail(low: Tensor, crop: int) -> Tensor:
    """How often neighbouring pixels differ clearly in each crop of each picture."""
    x = floats(low)
    clear = F.pad((x.diff(dim=2).abs().amax(1, keepdim=True) > 0.15).float(), (0, 0, 0, 1))
    clear += F.pad((x.diff(dim=3).abs().amax(1, keepdim=True) > 0.15).float(), (0, 1))
    return F.avg_pool2d(clear, crop, STRIDE).flatten(1)
