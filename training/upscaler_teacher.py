"""The shipped model, as far as the training of the upscaler needs it, and what it makes of pictures: soft ones.

python training/upscaler_teacher.py AUTOENCODER.pt TRANSFORMER.pt TEACHER.pt

writes one file with both networks in half precision and the token ids of the captions' words: with it, the upscaler is
trained where the engine's source is not.
"""

from __future__ import annotations

import argparse
import random
from itertools import pairwise

import captions
import checkpoints
import numpy as np
import scenes
import tokens
import torch
import torch.nn.functional as F
from networks import Decoder, Encoder, Sketch
from sampler import engine_sigmas
from torch import Tensor

KINDS = ("clean", "roundtrip", "denoised")
"""Inputs of the upscaler: as drawn; through the autoencoder; as the transformer's last steps leave them."""
CAPTIONS = 100_000
"""Captions whose words are looked up, each as it is, alone and with a capital."""
LATEST = 0.65
"""One step is made from times up to this one: the engine's last step begins at 0.49 (8 steps, 64 tokens)."""
EARLIEST = 0.8
"""Two steps are made from times up to this one."""

Words = dict[str, Tensor]


def pieces(seed: int = 0, n: int = CAPTIONS) -> dict[str, tuple[int, ...]]:
    """The token ids of every piece of the captions."""
    rng = random.Random(seed)
    found: set[str] = set()
    for _ in range(n):
        found.update(match.group(0) for match in tokens.SPLIT.finditer(captions.describe(rng, scenes.sample(rng))))
    found.update(before + word for word in captions.CONTENT for before in ("", " "))
    found |= {
        form for piece in found if piece.strip().isalpha() for form in (piece.strip(), piece.strip().capitalize())
    }
    return {piece: tuple(tokens.encode(piece)) for piece in sorted(found)}


def _halves(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.half() if value.is_floating_point() else value for name, value in state.items()}


class Teacher:
    """Autoencoder and transformer on `device`. Pictures are bytes (B, size, size, 3) there."""

    def __init__(self, kept: dict, device: torch.device) -> None:
        self.device = device
        self.index = {token: row for row, token in enumerate(kept["vocabulary"])}
        self.encoder, self.decoder = Encoder(), Decoder()
        self.encoder.load_state_dict(kept["enc"])
        self.decoder.load_state_dict(kept["dec"])
        self.net = Sketch(kept["vocabulary"], channels=kept["net"]["dit.img_in.weight"].shape[1])
        self.net.load_state_dict(kept["net"])
        for net in (self.encoder, self.decoder, self.net):
            net.eval().requires_grad_(False).to(device)

    @torch.no_grad()
    def inputs(self, pictures: Tensor, rows: Tensor, places: Tensor) -> Tensor:
        """(B, len(KINDS), size, size, 3) of pictures and the rows and places (B, T) of the words of their captions."""
        with torch.device(self.device):
            x = pictures.permute(0, 3, 1, 2).float().div(255)
            latents = F.pixel_unshuffle(self.encoder(x), 2)
            soft = self.softened(latents, *self.words(rows, places))
            return torch.stack([pictures, self._decoded(latents), self._decoded(soft)], 1)

    def softened(self, clean: Tensor, asked: Words, unasked: Words) -> Tensor:
        """Latents that are noised a little and then denoised: one step or two, guided or not."""
        share = torch.rand(len(clean))[:, None, None, None]
        if torch.rand(()) < 0.6:
            sigmas = [LATEST * share, 0 * share]
        else:
            first = 0.4 + (EARLIEST - 0.4) * share
            sigmas = [first, first * (0.4 + 0.35 * torch.rand(len(clean))[:, None, None, None]), 0 * share]
        noisy = (1 - sigmas[0]) * clean + sigmas[0] * torch.randn_like(clean)
        return self._denoised(noisy, sigmas, asked, unasked, cfg=2.0 if torch.rand(()) < 0.7 else 1.0)

    @torch.no_grad()
    def drawn(self, rows: Tensor, places: Tensor, size: int = 128) -> Tensor:
        """Pictures (B, size, size, 3) that the model draws of these words alone, as the service has it draw."""
        with torch.device(self.device):
            side = size // 16
            noise = torch.randn(len(rows), self.net.dit.channels, side, side)
            sigmas = [torch.full((len(rows), 1, 1, 1), sigma) for sigma in engine_sigmas(8, side * side)]
            return self._decoded(self._denoised(noise, sigmas, *self.words(rows, places), cfg=2.0))

    def words(self, rows: Tensor, places: Tensor) -> tuple[Words, Words]:
        """The words as Sketch takes them, and none."""
        live = rows >= 0
        heard = {"rows": rows.clamp(min=0).long(), "places": places.long(), "live": live}
        return heard | {"silent": tokens.CONTEXT - live.sum(1)}, {
            "rows": torch.zeros_like(heard["rows"][:, :1]),
            "places": torch.zeros_like(heard["places"][:, :1]),
            "live": torch.zeros_like(live[:, :1]),
            "silent": torch.full((len(rows),), tokens.CONTEXT),
        }

    def _denoised(self, x: Tensor, sigmas: list[Tensor], asked: Words, unasked: Words, cfg: float) -> Tensor:
        for now, then in pairwise(sigmas):
            t = now.flatten()
            v = self.net(x, t, asked)
            if cfg != 1:
                without = self.net(x, t, unasked)
                v = without + cfg * (v - without)
            x = x + (then - now) * v
        return x

    def _decoded(self, latents: Tensor) -> Tensor:
        y = self.decoder(F.pixel_shuffle(latents, 2)).clamp(0, 1)
        return (y.permute(0, 2, 3, 1) * 255 + 0.5).to(torch.uint8)


def heard(text: str, index: dict[int, int], most: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and places of a caption's first `most` known words, -1 and 0 where there is no more."""
    rows, places = np.full(most, -1, np.int16), np.zeros(most, np.int16)
    known, where, _ = tokens.heard(text, index)
    k = min(len(known), most)
    rows[:k], places[:k] = known[:k], where[:k]
    return rows, places


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("autoencoder")
    parser.add_argument("transformer")
    parser.add_argument("out")
    options = parser.parse_args()
    both = torch.load(options.autoencoder, map_location="cpu")
    kept = torch.load(options.transformer, map_location="cpu")
    kept = {"enc": _halves(both["enc"]), "dec": _halves(both["dec"]), "net": _halves(kept["net"])} | {
        "vocabulary": kept["vocabulary"],
        "pieces": pieces(),
    }
    checkpoints.save(options.out, kept)
    print(f"{options.out}: {len(kept['vocabulary'])} tokens heard, {len(kept['pieces'])} pieces of captions")


if __name__ == "__main__":
    main()
