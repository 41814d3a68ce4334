"""A vision transformer of random weights as an encoder: what a row costs, without a download."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fmcluster.embedding.encoders.base import Run, TorchEncoder


class RandomViT(TorchEncoder):
    """An encoder of pixels (3, s, s) of one byte, weights from a fixed seed.

    Parameters
    ----------
    name : str
        An architecture of timm.
    size : int
        Pixels a side.
    **settings
        Device, precision and batch size, as of every encoder.
    """

    def __init__(self, name: str, size: int, **settings: Any) -> None:
        import timm

        torch.manual_seed(0)
        model = timm.create_model(name, pretrained=False, num_classes=0, img_size=size)
        self.operations = operations(model)
        run = Run(**settings)
        super().__init__(model, modality="image", fingerprint={}, spec={}, run=run)

    def prepare(self, rows: list[Any]) -> tuple[torch.Tensor, None]:
        """Return all pixels as one tensor of bytes."""
        return torch.from_numpy(np.stack(rows)), None

    def batch(self, prepared: torch.Tensor, take: NDArray[np.int64]) -> torch.Tensor:
        """Return pixels as numbers around zero: bytes are sent, and made numbers there."""
        return self.to_device(prepared[torch.from_numpy(take)].to(self.device).float() / 127.5 - 1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the model's own pooled row."""
        return self.module(inputs)


def operations(model: Any) -> float:
    """Return the operations of a forward pass of one image: products of matrices alone."""
    width, depth = model.embed_dim, len(model.blocks)
    patches = model.patch_embed.num_patches
    tokens = patches + model.num_prefix_tokens
    weights = sum(w.numel() for w in model.blocks.parameters() if w.dim() == 2)
    pixels = model.patch_embed.proj.weight.numel()
    return 2.0 * (patches * pixels + tokens * weights + 2 * depth * tokens**2 * width)
