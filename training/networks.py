"""The three networks, as stable-diffusion.cpp computes them: TAESD for FLUX.2, one Qwen3 layer, FLUX.2's double blocks.

Widths are what a CPU can train; the file formats' other channels are zero (export.py). References are to the engine's
`src`: tae.hpp, llm.hpp, flux.hpp, rope.hpp.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LATENTS = 12
"""Channels of a latent; the format has 32."""
TEXT_WIDTH = 64
REFERENCE_AXIS = 10
"""Position of a reference picture on the first rope axis (flux.hpp: ref_index_scale)."""

DECODER_WIDTHS, DECODER_BLOCKS = (64, 48, 32, 24), (3, 3, 2, 1)
ENCODER_WIDTHS, ENCODER_BLOCKS = (24, 32, 48, 64), (1, 1, 2, 3)


class Block(nn.Module):
    """Three convolutions and a skip (tae.hpp: TAEBlock)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c0, self.c2, self.c4 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(3))
        nn.init.normal_(self.c4.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.c4(F.relu(self.c2(F.relu(self.c0(x))))) + x)


def _stages(widths: tuple[int, ...], blocks: tuple[int, ...]) -> nn.ModuleList:
    return nn.ModuleList(nn.ModuleList(Block(w) for _ in range(n)) for w, n in zip(widths, blocks, strict=True))


class Decoder(nn.Module):
    """Latents (B, LATENTS, h, w) to pictures (B, 3, 8h, 8w) in 0..1."""

    def __init__(self, latents: int = LATENTS) -> None:
        super().__init__()
        w = DECODER_WIDTHS
        self.inp = nn.Conv2d(latents, w[0], 3, padding=1)
        self.blocks = _stages(w, DECODER_BLOCKS)
        self.ups = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in pairwise(w))
        self.out = nn.Conv2d(w[3], 3, 3, padding=1)
        nn.init.constant_(self.out.bias, 0.5)

    def forward(self, z: Tensor) -> Tensor:
        h = F.relu(self.inp(torch.tanh(z / 3) * 3))
        for i, stage in enumerate(self.blocks):
            for block in stage:
                h = block(h)
            if i < 3:
                h = self.ups[i](F.interpolate(h, scale_factor=2, mode="nearest"))
        return self.out(h)


class Encoder(nn.Module):
    """Pictures (B, 3, H, W) in 0..1 to latents (B, LATENTS, H/8, W/8) of mean 0 and deviation 1."""

    def __init__(self, latents: int = LATENTS) -> None:
        super().__init__()
        w = ENCODER_WIDTHS
        self.inp = nn.Conv2d(3, w[0], 3, padding=1)
        self.blocks = _stages(w, ENCODER_BLOCKS)
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False) for a, b in pairwise(w))
        self.out = nn.Conv2d(w[3], latents, 3, padding=1)
        self.bn = nn.BatchNorm2d(latents, affine=False, momentum=0.02)  # folded into `out` on export

    def forward(self, x: Tensor) -> Tensor:
        h = self.inp(x)
        for i, stage in enumerate(self.blocks):
            for block in stage:
                h = block(h)
            if i < 3:
                h = self.downs[i](h)
        return self.bn(self.out(h))


def rms(x: Tensor, weight: Tensor | None = None) -> Tensor:
    x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
    return x if weight is None else x * weight


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """(…, L, d), (…, K, d), (…, K, d), (…, L, K) -> (…, L, d). Written out: on a CPU, the gradient of torch's own takes
    several times as long for so few keys."""
    return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + bias).softmax(-1) @ v


def _linear(a: int, b: int) -> nn.Linear:
    return nn.Linear(a, b, bias=False)


class Text(nn.Module):
    """One Qwen3 layer over the words that are heard (llm.hpp: 32 query and 8 key heads of 128).

    All other tokens, the template's and the padding, are rows of the embedding with one huge number in channel 0, whose
    norm weight is 0: after the norm they are zero. As keys they have the logit 0 and the value 0, and so a query that
    has n of them before it has one column of logit ln(n) here.
    """

    def __init__(self, rows: int, mlp: int = 128) -> None:
        super().__init__()
        width = TEXT_WIDTH
        self.emb = nn.Embedding(rows + 1, width)  # the last row is padding
        self.q, self.k, self.v, self.o = (
            _linear(width, 4096),
            _linear(width, 1024),
            _linear(width, 1024),
            _linear(4096, width),
        )
        self.gate, self.up, self.down = _linear(width, mlp), _linear(width, mlp), _linear(mlp, width)
        nn.init.normal_(self.o.weight, std=0.01)
        nn.init.normal_(self.down.weight, std=0.02)
        self.qn, self.kn = nn.Parameter(torch.ones(128)), nn.Parameter(torch.ones(128))
        mask = torch.ones(width)
        mask[0] = 0
        self.register_buffer("m", mask)

    def forward(self, rows: Tensor, places: Tensor, live: Tensor) -> Tensor:
        """Rows (B, T) of the embedding, their places in the context (B, T), which of them are words (B, T) ->
        features (B, T, TEXT_WIDTH), zero where there is no word."""
        b, t = rows.shape
        x = self.emb(rows) * self.m * live[..., None]
        n = rms(x)
        q = rms(self.q(n).view(b, t, 32, 128), self.qn)
        k = rms(self.k(n).view(b, t, 8, 128), self.kn)
        v = self.v(n).view(b, t, 8, 128)
        q, k = _turn(q, places), _turn(k, places)
        before = torch.arange(t)  # words before each word, which are all live: padding comes last
        silent = (places - before).clamp(min=1).float().log()
        causal = torch.full((t, t), -torch.inf).triu(1)
        bias = torch.cat([causal.expand(b, 1, t, t), silent[:, None, :, None]], -1)
        zero = torch.zeros(b, 1, 8, 128)
        k, v = torch.cat([k, zero], 1), torch.cat([v, zero], 1)
        k, v = (y.transpose(1, 2).repeat_interleave(4, 1) for y in (k, v))
        heard = attention(q.transpose(1, 2), k, v, bias)
        x = x + self.o(heard.transpose(1, 2).reshape(b, t, 4096)) * self.m
        n = rms(x)
        x = x + self.down(F.silu(self.gate(n)) * self.up(n)) * self.m
        return rms(x) * live[..., None]


def _turn(x: Tensor, places: Tensor, theta: float = 1e6) -> Tensor:
    """Rotary positions in halves, as Qwen3 has them: x (B, T, heads, 128), places (B, T)."""
    d = x.shape[-1]
    angle = places[..., None].float() * theta ** (-torch.arange(0, d, 2).float() / d)
    c, s = angle.cos()[:, :, None], angle.sin()[:, :, None]
    a, b = x[..., : d // 2], x[..., d // 2 :]
    return torch.cat([a * c - b * s, b * c + a * s], -1)


class Stream(nn.Module):
    """The picture's half of a double block, or the text's keys and values: its queries would change nothing."""

    def __init__(self, width: int, full: bool) -> None:
        super().__init__()
        self.qkv = _linear(width, (3 if full else 2) * width)
        self.qn, self.kn = nn.Parameter(torch.full((128,), 1.4)), nn.Parameter(torch.full((128,), 1.4))
        if full:
            self.proj, self.m0, self.m2 = _linear(width, width), _linear(width, 6 * width), _linear(3 * width, width)
            nn.init.normal_(self.proj.weight, std=0.5 / math.sqrt(width))
            nn.init.normal_(self.m2.weight, std=0.3 / math.sqrt(3 * width))


class Transformer(nn.Module):
    """FLUX.2 with double blocks only; predicts noise minus picture (denoiser.hpp) from noisy packed latents."""

    def __init__(self, width: int = 256, depth: int = 4, channels: int = 4 * LATENTS) -> None:
        super().__init__()
        self.width, self.heads, self.channels = width, width // 128, channels
        self.img_in, self.txt_in = _linear(channels, width), _linear(TEXT_WIDTH, width)
        self.t_in, self.t_out = _linear(256, width), _linear(width, width)
        self.mod_img, self.mod_txt = _linear(width, 6 * width), _linear(width, 6 * width)
        self.img = nn.ModuleList(Stream(width, full=True) for _ in range(depth))
        self.txt = nn.ModuleList(Stream(width, full=False) for _ in range(depth))
        self.fin_mod, self.fin = _linear(width, 2 * width), _linear(width, channels)
        nn.init.zeros_(self.fin.weight)
        for layer in (self.mod_img, self.mod_txt, self.fin_mod):
            nn.init.normal_(layer.weight, std=0.02)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        text: Tensor,
        places: Tensor,
        live: Tensor,
        silent: Tensor,
        reference: Tensor | None = None,
    ):
        """x (B, C, h, w), t (B,) in 0..1, text (B, T, TEXT_WIDTH) with places (B, T) and live (B, T), silent (B,):
        the context's other tokens; reference (B, C, h, w), clean -> (B, C, h, w).

        The silent tokens are zero here too: one column of logit ln(silent) and value 0 in every attention.
        """
        b, c, h, w = x.shape
        length, pixels = text.shape[1], h * w
        vec = self._time(t)
        mi = self.mod_img(vec).view(b, 6, 1, self.width).unbind(1)
        mt = self.mod_txt(vec).view(b, 6, 1, self.width).unbind(1)
        tokens = x.flatten(2).transpose(1, 2)
        grids = [_grid(h, w, 0)]
        if reference is not None:
            tokens = torch.cat([tokens, reference.flatten(2).transpose(1, 2)], 1)
            grids.append(_grid(*reference.shape[2:], REFERENCE_AXIS))
        img, words = self.img_in(tokens), self.txt_in(text)
        n = img.shape[1]
        of_text = torch.zeros(b, length, 4)
        of_text[..., 3] = places
        image_angles = _angles(torch.cat(grids))
        text_turn = _cos_sin(_angles(of_text)[:, None])
        image_turn = _cos_sin(image_angles)
        bias = torch.zeros(b, 1, 1, length + n + 1)
        bias[:, 0, 0, :length].masked_fill_(~live, -1e4)
        bias[:, 0, 0, -1] = silent.float().log()
        bias = bias.expand(b, self.heads, n, -1)
        zero = torch.zeros(b, self.heads, 1, 128)
        words = _norm(words) * (1 + mt[1])
        for picture, said in zip(self.img, self.txt, strict=True):
            q, k, v = self._split(picture.qkv(_norm(img) * (1 + mi[1]) + mi[0]), 3)
            kt, vt = self._split(said.qkv(words), 2)
            keys = torch.cat([_rotate(rms(kt, said.kn), text_turn), _rotate(rms(k, picture.kn), image_turn), zero], 2)
            values = torch.cat([vt, v, zero], 2)
            out = attention(_rotate(rms(q, picture.qn), image_turn), keys, values, bias)
            img = img + mi[2] * picture.proj(out.transpose(1, 2).reshape(b, n, self.width))
            gate, up = picture.m0(_norm(img) * (1 + mi[4]) + mi[3]).chunk(2, -1)
            img = img + mi[5] * picture.m2(F.silu(gate) * up)
        shift, scale = self.fin_mod(vec).view(b, 2, 1, self.width).unbind(1)
        img = _norm(img[:, :pixels]) * (1 + scale) + shift
        return self.fin(img).transpose(1, 2).reshape(b, c, h, w)

    def _time(self, t: Tensor) -> Tensor:
        rates = torch.exp(-math.log(10000) * torch.arange(128) / 128)
        angle = t[:, None].float() * 1000 * rates
        return F.silu(self.t_out(F.silu(self.t_in(torch.cat([angle.cos(), angle.sin()], -1)))))

    def _split(self, x: Tensor, n: int):
        b, length, _ = x.shape
        return x.view(b, length, n, self.heads, 128).permute(2, 0, 3, 1, 4)


def _norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


def _grid(h: int, w: int, index: int) -> Tensor:
    """Rope positions (h*w, 4) of a picture: its index, row and column."""
    cell = torch.arange(h * w)
    return torch.stack([torch.full_like(cell, index), cell // w, cell % w, torch.zeros_like(cell)], -1).float()


def _angles(positions: Tensor) -> Tensor:
    """(…, 4) -> (…, 64): four axes of 32, theta 2000 (flux.hpp)."""
    rates = 2000.0 ** (-torch.arange(16).float() / 16)
    return (positions[..., None] * rates).flatten(-2)


def _cos_sin(angle: Tensor) -> tuple[Tensor, Tensor]:
    return angle.cos(), angle.sin()


def _rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions in interleaved pairs: x (B, heads, L, 128), cos and sin (…, L, 64)."""
    a, b = x[..., 0::2], x[..., 1::2]
    c, s = turn
    return torch.stack([a * c - b * s, a * s + b * c], -1).flatten(-2)


class Sketch(nn.Module):
    """Text and transformer, trained together. `vocabulary`: the engine's token ids of the embedding's rows."""

    def __init__(self, vocabulary: list[int], width: int = 256, depth: int = 4, channels: int = 4 * LATENTS) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.text = Text(len(vocabulary))
        self.dit = Transformer(width, depth, channels)

    def forward(self, x: Tensor, t: Tensor, words: dict[str, Tensor], reference: Tensor | None = None) -> Tensor:
        places, live = words["places"], words["live"]
        features = self.text(words["rows"], places, live)
        return self.dit(x, t, features, places, live, words["silent"], reference)
