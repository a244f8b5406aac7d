"""Muon for hidden matrices and kernels, AdamW for the rest; both with the same learning rate."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def _orthogonal(x: Tensor) -> Tensor:
    """Newton-Schulz, five rounds in bfloat16, with the coefficients of Muon's author."""
    wide = (x if x.shape[0] <= x.shape[1] else x.T).bfloat16()
    wide = wide / (wide.norm() + 1e-7)
    for _ in range(5):
        a = wide @ wide.T
        wide = 3.4445 * wide + (-4.7750 * a + 2.0315 * a @ a) @ wide
    return wide if x.shape[0] <= x.shape[1] else wide.T


class Optimiser:
    """Steps `hidden` by orthogonalised momentum and `rest` by AdamW."""

    def __init__(self, hidden: Iterable[Tensor], rest: Iterable[Tensor]) -> None:
        self.hidden, self.rest = list(hidden), list(rest)
        self.adam = torch.optim.AdamW(self.rest, lr=0.0, betas=(0.9, 0.99), weight_decay=0.0)
        self.momentum = [torch.zeros_like(p).flatten(1) for p in self.hidden]

    def step(self, loss: Tensor, rate: float) -> None:
        for p in (*self.hidden, *self.rest):
            p.grad = None
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.rest, 1.0)
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.adam.step()
        with torch.no_grad():
            for p, m in zip(self.hidden, self.momentum, strict=True):
                if p.grad is None:
                    continue
                g = p.grad.flatten(1)
                m.mul_(0.95).add_(g)
                update = _orthogonal(g + 0.95 * m)
                p.add_(update.to(p.dtype).view(p.shape), alpha=-rate * 0.2 * max(update.shape) ** 0.5)

    def state(self) -> dict:
        return {"adam": self.adam.state_dict(), "momentum": self.momentum}

    def resume(self, state: dict) -> None:
        self.adam.load_state_dict(state["adam"])
        self.momentum = state["momentum"]
