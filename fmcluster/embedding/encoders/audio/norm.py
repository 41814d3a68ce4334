"""A norm over time that passes over padding."""

from __future__ import annotations

import torch


class NormOverOwnFrames(torch.nn.Module):
    """Group norm of one group a channel, (b, c, t), over the first `valid` frames of each row.

    Parameters
    ----------
    norm : torch.nn.GroupNorm
        What it stands for: where nothing is padded, it is asked itself.

    Attributes
    ----------
    valid : Tensor (b,) or None
        Frames of each row that are none of padding; None where all are.
    """

    def __init__(self, norm: torch.nn.GroupNorm) -> None:
        super().__init__()
        self.norm = norm
        self.valid: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the normalized frames; those of padding are of no meaning."""
        if self.valid is None:
            return self.norm(x)
        count = self.valid[:, None, None].float()
        there = torch.arange(x.shape[2], device=x.device) < self.valid[:, None, None]
        values = x.float()
        mean = values.masked_fill(~there, 0).sum(2, keepdim=True) / count
        apart = (values - mean).masked_fill(~there, 0)
        scale = (apart.square().sum(2, keepdim=True) / count + self.norm.eps).rsqrt()
        weight, bias = self.norm.weight[None, :, None], self.norm.bias[None, :, None]
        return (apart * scale * weight + bias).to(x.dtype)
