"""Image encoders of transformers: DINOv2, DINOv3, CLIP, SigLIP, AIMv2, ViT and others like them.

What makes a row of the model's states is the family's own choice, or `pooling`: see
:mod:`fmcluster.embedding.encoders.images.poolings`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.embedding.data.images import RGB_RULE, to_rgb
from fmcluster.embedding.encoders import sources
from fmcluster.embedding.encoders.base import RUN, Run, TorchEncoder
from fmcluster.embedding.encoders.images.poolings import (
    FAMILIES,
    choose_pooling,
    family_of,
    pooled_states,
)
from fmcluster.utils import files as _files

if TYPE_CHECKING:
    import torch

# Of settings that do not change what the processor gives.
_IGNORED = ("image_processor_type", "_processor_class", "device", "data_format", "return_tensors")
CONVOLUTIONAL = ("convnext", "convnextv2", "dinov3_convnext", "resnet", "efficientnet")


def is_vision(folder: Path) -> bool:
    """Return whether the folder's model takes images."""
    kind = _files.read_json(folder / "config.json").get("model_type")
    return kind in FAMILIES or (folder / "preprocessor_config.json").is_file()


class VisionEncoder(TorchEncoder):
    """A transformers image model, frozen, with the image processor of its folder.

    Parameters
    ----------
    folder : Path
        Model and image processor as `save_pretrained` leaves them.
    name, revision : str, optional
        Hub id and commit; without them the weights' digest identifies the encoder.
    pooling : "cls", "mean", "cls+mean", "pooler", "attention" or "projection", optional
        None takes the family's own.
    trust_remote_code : bool
        Whether Python code that lies in the folder may run.
    run : Run
        How it runs.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str | None = None,
        revision: str | None = None,
        pooling: str | None = None,
        trust_remote_code: bool = False,
        run: Run = RUN,
    ) -> None:
        from transformers import AutoImageProcessor

        config = _files.read_json(folder / "config.json")
        self.kind = str(config.get("model_type"))
        self.pooling = choose_pooling(self.kind, config, pooling)
        with sources.quiet_loading(), sources.code_refused(name or folder.name):
            self.processor = AutoImageProcessor.from_pretrained(
                folder, local_files_only=True, trust_remote_code=trust_remote_code
            )
            module = _load(folder, self.pooling, trust_remote_code)
        settings = sources.settings_digest(self.processor.to_dict(), *_IGNORED)
        before = self.pooling == "pooler" and family_of(self.kind).projection
        super().__init__(
            module,
            modality="image",
            fingerprint={
                **sources.identity(folder, name, revision, trusted=trust_remote_code),
                "preprocessing": f"{RGB_RULE};{settings}",
                "pooling": "pooler, before the projection" if before else self.pooling,
                "normalisation": "none",
                "truncation": None,
            },
            spec={
                **sources.origin(folder, name, revision, trusted=trust_remote_code),
                "pooling": self.pooling,
            },
            run=run,
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
        if self.pooling == "projection":
            found = self.module.get_image_features(**inputs)
            return found if hasattr(found, "shape") else found.pooler_output
        tower = self.module.vision_model if self._two_towers else self.module
        output = tower(**inputs)
        if self.pooling == "pooler":
            if getattr(output, "pooler_output", None) is None:
                raise ValueError(
                    f"pooling='pooler': {self.kind!r} has no pooled output of its own: "
                    "ask for pooling='cls' or 'mean'"
                )
            return output.pooler_output.flatten(1)
        registers = int(getattr(self.module.config, "num_register_tokens", 0) or 0)
        return pooled_states(
            output.last_hidden_state,
            self.pooling,
            family_of(self.kind).prefix + registers,
            mask=inputs.get("pixel_attention_mask"),
        )

    @property
    def _two_towers(self) -> bool:
        return hasattr(self.module, "get_image_features")


def _load(folder: Path, pooling: str, trusted: bool) -> torch.nn.Module:
    """Return the image model of the folder, without the text tower, its weights complete."""
    unused = () if pooling == "pooler" else ("pooler.",)
    module = sources.load_model(
        folder, trusted=trusted, unused=(*unused, "mask_token", "text_model.")
    )
    for part in ("text_model", "text_projection"):
        if hasattr(module, "get_image_features") and hasattr(module, part):
            delattr(module, part)
    if hasattr(module.config, "mask_ratio"):
        module.config.mask_ratio = 0.0  # an autoencoder is trained on a random part of the patches
    return module
