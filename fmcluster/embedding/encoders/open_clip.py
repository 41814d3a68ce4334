"""CLIP models of open_clip: the image tower, and its text tower for a vocabulary.

An architecture and its quick-GELU twin take each other's weights without complaint and then embed
wrongly (open_clip issue 771). A tag says which of the two it was trained with, so the tag decides;
a checkpoint file cannot say, so a twin is pointed out.
"""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.embedding.data.images import RGB_RULE, to_rgb
from fmcluster.embedding.encoders import sources
from fmcluster.embedding.encoders.base import RUN, Run, TorchEncoder, eval_mode
from fmcluster.utils import files as _files

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)


def load(
    name: str,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    run: Run = RUN,
) -> OpenClipEncoder:
    """Return the encoder of ``ARCH/TAG`` or ``ARCH/path/to/checkpoint``.

    Raises
    ------
    ValueError
        No such architecture, tag or file; what there is is listed.
    EncoderUnavailableError
        The tag's weights can be neither found in the cache nor fetched.
    """
    import open_clip as library

    arch, _, weights = name.partition("/")
    if library.get_model_config(arch) is None:
        near = sources.did_you_mean(arch, library.list_models())
        raise ValueError(
            f"open_clip has no architecture {arch!r}{near}: write open_clip:ARCH/TAG, as in "
            "open_clip:ViT-B-32/laion2b_s34b_b79k"
        )
    tags = library.list_pretrained_tags_by_model(arch)
    tag_config = library.get_pretrained_cfg(arch, weights) if weights in tags else None
    if tag_config is None and not Path(weights).expanduser().is_file():
        raise ValueError(
            f"open_clip has no weights {weights!r} for {arch!r} and there is no such file: "
            f"its tags are {', '.join(tags) or 'none'}"
        )
    file = _weights_file(library, name, tag_config, weights, cache_dir)
    quick = _quick_gelu(library, arch, tag_config)
    model = _create(library, arch, file, force_quick_gelu=quick, tag_config=tag_config)
    identity = {"encoder": f"open_clip:{arch}/{weights}" if tag_config else f"open_clip:{arch}"}
    return OpenClipEncoder(
        model,
        library.get_tokenizer(arch),
        fingerprint={**identity, "weights": _files.digest_file(file), "quick_gelu": quick},
        spec={"encoder": f"open_clip:{arch}/{weights if tag_config else file.resolve()}"},
        run=run,
    )


def load_folder(
    folder: Path,
    *,
    name: str | None = None,
    revision: str | None = None,
    run: Run = RUN,
) -> OpenClipEncoder:
    """Return the encoder of a folder with `open_clip_config.json` and weights."""
    import open_clip as library

    if not sources.weight_files(folder):
        raise ValueError(f"{folder} holds an open_clip_config.json but no weights: add them")
    address = f"local-dir:{folder}"
    config = _files.read_json(folder / "open_clip_config.json")["model_cfg"]
    return OpenClipEncoder(
        library.create_model(address, require_pretrained=True),
        library.get_tokenizer(address),
        fingerprint={
            **sources.identity(folder, name, revision),
            "quick_gelu": bool(config.get("quick_gelu", False)),
        },
        spec=sources.origin(folder, name, revision),
        run=run,
    )


class OpenClipEncoder(TorchEncoder):
    """The image tower of an open_clip model, its projection as the embedding, not normalized.

    Parameters
    ----------
    model : torch.nn.Module
        As open_clip creates it, with its preprocessing attached.
    tokenizer : callable
        Texts to token ids (n, context).
    fingerprint, spec : dict
        Which weights; preprocessing, pooling and precision are added here.
    run : Run
        How it runs.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        fingerprint: dict[str, Any],
        spec: dict[str, Any],
        run: Run = RUN,
    ) -> None:
        from open_clip.transform import PreprocessCfg, image_transform_v2

        settings = dict(model.visual.preprocess_cfg)
        self.preprocess = image_transform_v2(PreprocessCfg(**settings), is_train=False)
        self.tokenizer = tokenizer
        kept = {key: str(value) for key, value in sorted(settings.items())}
        super().__init__(
            model,
            modality="image",
            fingerprint={
                **fingerprint,
                "preprocessing": f"{RGB_RULE};{_files.stable_hash(kept)}",
                "pooling": "projection",
                "normalisation": "none",
                "truncation": None,
            },
            spec=spec,
            run=run,
            cpu_gains=True,
        )

    def batch(self, prepared: list[Any], take: NDArray[np.int64]) -> torch.Tensor:
        """Return preprocessed images (b, 3, s, s)."""
        import torch

        pixels = torch.stack([self.preprocess(to_rgb(prepared[row])) for row in take])
        return self.to_device(pixels)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the image tower's projection (b, d)."""
        return self.module.encode_image(inputs)

    def encode_text(self, texts: list[str]) -> NDArray[np.float32]:
        """Return text-tower embeddings (n, d) in the images' space, L2-normalized: a vocabulary."""
        parts = []
        size = self.batch_size or 64  # of 77 tokens: little memory anywhere
        with eval_mode(self.module):
            for start in range(0, len(texts), size):
                tokens = self.tokenizer(list(texts[start : start + size])).to(self.device)
                found = self.module.encode_text(tokens, normalize=True)
                parts.append(found.float().cpu().numpy())
        return np.concatenate(parts) if parts else np.empty((0, self.dim or 0), np.float32)


def _weights_file(
    library: Any,
    name: str,
    tag_config: dict[str, Any] | None,
    weights: str,
    cache_dir: str | os.PathLike[str] | None,
) -> Path:
    """Return the checkpoint on disk, fetching a tag's once."""
    if tag_config is None:
        return Path(weights).expanduser()
    cache = None if cache_dir is None else os.fspath(cache_dir)
    try:
        return Path(library.download_pretrained(tag_config, cache_dir=cache))
    except Exception as error:  # urllib's, the Hub client's and the system's errors alike
        raise sources.unavailable(f"open_clip:{name}", error) from error


def _quick_gelu(library: Any, arch: str, tag_config: dict[str, Any] | None) -> bool:
    """Return whether the weights want quick GELU, warning where that is not what `arch` says."""
    own = bool(library.get_model_config(arch).get("quick_gelu", False))
    if tag_config is None:
        if f"{arch}-quickgelu" in library.list_models():
            logger.warning(
                "%s has a quick-GELU twin that takes the same weights: if this checkpoint was "
                "trained with it, ask for %s-quickgelu, or its embeddings are wrong",
                arch,
                arch,
            )
        return own
    wanted = bool(tag_config.get("quick_gelu", False))
    if wanted != own:
        if own:
            raise ValueError(
                f"architecture {arch!r} uses quick GELU and this tag's weights do not: "
                f"ask for {arch.removesuffix('-quickgelu')!r}"
            )
        logger.warning("the tag's weights were trained with quick GELU: %s follows them", arch)
    return wanted


def _create(
    library: Any,
    arch: str,
    file: Path,
    *,
    force_quick_gelu: bool,
    tag_config: dict[str, Any] | None,
) -> Any:
    """Return the model with the file's weights and the tag's own preprocessing."""
    keys = ("mean", "std", "interpolation", "resize_mode")
    preprocess = {key: tag_config[key] for key in keys if tag_config and key in tag_config}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return library.create_model(
            arch,
            pretrained=os.fspath(file),
            force_quick_gelu=force_quick_gelu,
            force_preprocess_cfg=preprocess,
            require_pretrained=True,
        )
