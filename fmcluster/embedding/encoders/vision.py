"""Image encoders of transformers: DINOv2, DINOv3, CLIP, SigLIP, ViT and others of their kind.

The row is the normalized CLS state (``cls``), the mean of the patch states (``mean``), the model's
own pooled output (``pooler``) or CLIP's projection into the shared space (``projection``).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.embedding.data.images import RGB_RULE, to_rgb
from fmcluster.embedding.encoders import sources
from fmcluster.embedding.encoders.base import TorchEncoder
from fmcluster.utils import files as _files
from fmcluster.utils.validation import check_in

if TYPE_CHECKING:
    import torch

POOLINGS = ("cls", "mean", "pooler", "projection")
# What each family's authors embed with; a ViT classifier's checkpoint has no trained pooler.
DEFAULT_POOLING = {
    "clip": "projection",
    "siglip": "pooler",
    "siglip2": "pooler",
    "siglip_vision_model": "pooler",
    "siglip2_vision_model": "pooler",
    "convnext": "pooler",
    "convnextv2": "pooler",
    "dinov3_convnext": "pooler",
    "resnet": "pooler",
    "efficientnet": "pooler",
}
TWO_TOWERS = ("clip", "siglip", "siglip2")
CONVOLUTIONAL = ("convnext", "convnextv2", "dinov3_convnext", "resnet", "efficientnet")
KNOWN = (*DEFAULT_POOLING, "clip_vision_model", "dinov2", "dinov2_with_registers", "dinov3_vit")
KNOWN += ("vit", "vit_mae", "vit_msn", "deit", "beit", "ijepa", "swin", "swinv2", "data2vec-vision")


def is_vision(folder: Path) -> bool:
    """Return whether the folder's model takes images."""
    kind = _files.read_json(folder / "config.json").get("model_type")
    return kind in KNOWN or (folder / "preprocessor_config.json").is_file()


class VisionEncoder(TorchEncoder):
    """A transformers image model, frozen, with the image processor of its folder.

    Parameters
    ----------
    folder : Path
        Model and image processor as `save_pretrained` leaves them.
    name, revision : str, optional
        Hub id and commit; without them the weights' digest identifies the encoder.
    pooling : "cls", "mean", "pooler" or "projection", optional
        None takes the family's own (the table above; ``cls`` where it says nothing).
    device, batch_size, precision
        See :class:`fmcluster.embedding.encoders.base.TorchEncoder`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str | None = None,
        revision: str | None = None,
        pooling: str | None = None,
        device: str | torch.device | None = None,
        batch_size: int | None = None,
        precision: str = "auto",
    ) -> None:
        from transformers import AutoImageProcessor

        self.kind = str(_files.read_json(folder / "config.json").get("model_type"))
        self.pooling = check_in(
            pooling or DEFAULT_POOLING.get(self.kind, "cls"), POOLINGS, "pooling"
        )
        with sources.quiet_loading():
            self.processor = AutoImageProcessor.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        super().__init__(
            _load(folder, self.kind, self.pooling),
            modality="image",
            fingerprint={
                **sources.identity(folder, name, revision),
                "preprocessing": f"{RGB_RULE};{_settings(self.processor)}",
                "pooling": self.pooling,
                "normalisation": "none",
                "truncation": None,
            },
            spec={**sources.origin(folder, name, revision), "pooling": self.pooling},
            device=device,
            batch_size=batch_size,
            precision=precision,
            cpu_gains=True,
            channels_last=self.kind in CONVOLUTIONAL,
        )

    def batch(self, prepared: list[Any], take: NDArray[np.int64]) -> dict[str, torch.Tensor]:
        """Return what the image processor makes of the rows."""
        images = [to_rgb(prepared[row]) for row in take]
        inputs = self.processor(images=images, return_tensors="pt")
        return {key: self.to_device(value) for key, value in inputs.items()}

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the pooled embeddings (b, d)."""
        if self.kind in TWO_TOWERS:
            if self.pooling in ("pooler", "projection"):
                found = self.module.get_image_features(**inputs)
                return found if hasattr(found, "shape") else found.pooler_output
            output = self.module.vision_model(**inputs)
        else:
            output = self.module(**inputs)
        if self.pooling == "pooler":
            return output.pooler_output.flatten(1)
        states = output.last_hidden_state
        if states.ndim == 4:  # a feature map (b, d, h, w) has no CLS; its mean is its pooling
            return states.float().mean(dim=(2, 3))
        if self.pooling == "cls":
            return states[:, 0]
        first = 1 + int(getattr(self.module.config, "num_register_tokens", 0) or 0)
        return states[:, 0 if "siglip" in self.kind else first :].float().mean(dim=1)


def _load(folder: Path, kind: str, pooling: str) -> torch.nn.Module:
    """Return the image model of the folder, without the text tower, its weights complete."""
    from transformers import AutoModel

    if pooling == "projection" and kind != "clip":
        raise ValueError(f"pooling='projection' is CLIP's; {kind!r} has cls, mean and pooler")
    with sources.quiet_loading():
        module, info = AutoModel.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, output_loading_info=True
        )
    unused = () if pooling == "pooler" else ("pooler.",)
    sources.check_loaded(info, folder, unused=(*unused, "mask_token", "text_model."))
    if kind in TWO_TOWERS:
        for part in ("text_model", "text_projection"):
            if hasattr(module, part):
                delattr(module, part)
    return module


def _settings(processor: Any) -> str:
    """Return a digest of what the processor does to pixels, its class and version aside."""
    settings = processor.to_dict()
    ignored = (
        "image_processor_type",
        "_processor_class",
        "device",
        "data_format",
        "return_tensors",
    )
    kept = {key: value for key, value in settings.items() if key not in ignored}
    return _files.stable_hash({key: str(value) for key, value in kept.items() if value is not None})
