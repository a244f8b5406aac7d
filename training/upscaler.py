"""The upscaler as stable-diffusion.cpp computes it (`src/esrgan.hpp`): 64 features, growth 32, four times as large.

The engine counts the blocks and reads the scale from the names of the tensors, which are the names here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEATURES, GROWTH, SCALE = 64, 32, 4
BLOCKS = 1


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2, inplace=True)


class Dense(nn.Module):
    """Five convolutions, each of all that came before it (ResidualDenseBlock)."""

    def __init__(self) -> None:
        super().__init__()
        for i in range(1, 6):
            self.add_module(f"conv{i}", _conv(FEATURES + (i - 1) * GROWTH, GROWTH if i < 5 else FEATURES))

    def forward(self, x: Tensor) -> Tensor:
        seen = x
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen = torch.cat([seen, _leaky(conv(seen))], 1)
        return self.conv5(seen) * 0.2 + x


class Residual(nn.Module):
    """Three of them and a skip (RRDB)."""

    def __init__(self) -> None:
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = Dense(), Dense(), Dense()

    def forward(self, x: Tensor) -> Tensor:
        return self.rdb3(self.rdb2(self.rdb1(x))) * 0.2 + x


class Upscaler(nn.Module):
    """Pictures (B, 3, h, w) in 0..1 to (B, 3, 4h, 4w) (RRDBNet)."""

    def __init__(self, blocks: int = BLOCKS) -> None:
        super().__init__()
        self.conv_first = _conv(3, FEATURES)
        self.body = nn.ModuleList(Residual() for _ in range(blocks))
        self.conv_body, self.conv_up1, self.conv_up2, self.conv_hr = (_conv(FEATURES, FEATURES) for _ in range(4))
        self.conv_last = _conv(FEATURES, 3)
        nn.init.constant_(self.conv_last.bias, 0.5)

    def forward(self, x: Tensor) -> Tensor:
        # bfloat16 has no 256 steps between dark and white: the first and the last do without.
        with torch.autocast(x.device.type, enabled=False):
            h = first = self.conv_first(x)
        for block in self.body:
            h = block(h)
        h = first + self.conv_body(h)
        h = _leaky(self.conv_up1(F.interpolate(h, scale_factor=2, mode="nearest")))
        h = _leaky(self.conv_up2(F.interpolate(h, scale_factor=2, mode="nearest")))
        h = _leaky(self.conv_hr(h))
        with torch.autocast(x.device.type, enabled=False):
            return self.conv_last(h.float())
