"""Models of timm, without their classifier: ViTs, Perception Encoders, ConvNeXt, Swin and others.

A name is ``timm:ARCH.TAG`` (weights that timm's authors keep on the Hub), ``timm:ARCH/path/file``
(a checkpoint of that architecture), or a folder or Hub id in timm's own format (``config.json``
with an `architecture`). The row is the model's own pooled output, which is CLS, mean or attention
pool as the model says, or ``cls``, ``mean`` or ``cls+mean`` of its last tokens.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.embedding.data.images import RGB_RULE, to_rgb
from fmcluster.embedding.encoders import sources
from fmcluster.embedding.encoders.base import RUN, Run, TorchEncoder
from fmcluster.embedding.encoders.images.poolings import check_pooling, pooled_states
from fmcluster.utils import files as _files

if TYPE_CHECKING:
    import torch

POOLINGS = ("pooler", "cls", "mean", "cls+mean", "attention")
_ARCHITECTURE = "architecture"


def load(
    name: str,
    *,
    pooling: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    run: Run = RUN,
) -> TimmEncoder:
    """Return the encoder of ``ARCH.TAG`` or ``ARCH/path/to/checkpoint``.

    Raises
    ------
    ValueError
        No such architecture, tag or file; what there is is said.
    EncoderUnavailableError
        The tag's weights can be neither found in the cache nor fetched.
    """
    import timm as library

    full, slash, file = name.partition("/")
    arch, _, tag = full.partition(".")
    if not library.is_model(arch):
        near = sources.did_you_mean(arch, library.list_models())
        raise ValueError(
            f"timm has no architecture {arch!r}{near}: write timm:ARCH.TAG, as in "
            "timm:vit_small_patch14_dinov2.lvd142m, or timm:ARCH/path/to/checkpoint"
        )
    if slash:
        weights = Path(file).expanduser()
        if not weights.is_file():
            raise ValueError(f"'timm:{name}': there is no file {file}")
        return TimmEncoder(
            library.create_model(full, pretrained=False, num_classes=0),
            weights,
            fingerprint={"encoder": f"timm:{full}", "weights": _files.digest_file(weights)},
            spec={"encoder": f"timm:{full}/{weights.resolve()}"},
            pooling=pooling,
            run=run,
        )
    tags = library.list_pretrained(f"{arch}.*") if tag else library.list_pretrained(arch)
    about = library.get_pretrained_cfg(full) if full in tags or not tag else None
    repo = _repository(full, about)
    if repo is None:
        raise ValueError(
            f"timm has no weights {full!r} on the Hub; of {arch!r} it has "
            f"{', '.join(library.list_pretrained(f'{arch}.*')) or 'none'}: give one of them, or "
            "timm:ARCH/path/to/checkpoint"
        )
    folder, revision = sources.hub_folder(repo, cache_dir=cache_dir)
    return load_folder(folder, name=repo, revision=revision, pooling=pooling, run=run)


def _repository(full: str, about: Any) -> str | None:
    """Return the Hub repository of a pretrained tag, None where its weights are elsewhere."""
    repo = getattr(about, "hf_hub_id", None)
    if not repo:
        return None
    return f"{repo}{full if '.' in full else f'{full}.{about.tag}'}" if repo[-1] == "/" else repo


def is_timm(folder: Path) -> bool:
    """Return whether a folder holds a model in timm's format."""
    about = _files.read_json(folder / "config.json")
    return _ARCHITECTURE in about and "model_type" not in about


def load_folder(
    folder: Path,
    *,
    name: str | None = None,
    revision: str | None = None,
    pooling: str | None = None,
    run: Run = RUN,
) -> TimmEncoder:
    """Return the encoder of a folder that timm's `save_for_hf` wrote, or of a Hub repository."""
    import timm as library

    arch = str(_files.read_json(folder / "config.json").get(_ARCHITECTURE))
    found = sources.weight_files(folder)
    if not library.is_model(arch.partition(".")[0]) or not found:
        raise ValueError(
            f"{folder} names the architecture {arch!r} and holds {len(found)} files of weights: "
            "give a folder that timm's save_for_hf wrote, of a model that this timm knows"
        )
    return TimmEncoder(
        library.create_model(f"local-dir:{folder}", pretrained=False, num_classes=0),
        found[0],
        fingerprint=sources.identity(folder, name, revision),
        spec=sources.origin(folder, name, revision),
        pooling=pooling,
        run=run,
    )


class TimmEncoder(TorchEncoder):
    """A timm model without its classifier, with the preprocessing that its weights were made for.

    Parameters
    ----------
    model : torch.nn.Module
        As ``timm.create_model(..., num_classes=0)`` makes it.
    weights : Path
        What is loaded into it.
    fingerprint, spec : dict
        Which weights; preprocessing, pooling and precision are added here.
    pooling : "pooler", "cls", "mean", "cls+mean" or "attention", optional
        None takes the model's own, "pooler"; "attention" is that, where it is an attention pool.
    run : Run
        How it runs.

    Raises
    ------
    ValueError
        A pooling that the model does not have, or weights that are partly missing.
    """

    def __init__(
        self,
        model: Any,
        weights: Path,
        *,
        fingerprint: dict[str, Any],
        spec: dict[str, Any],
        pooling: str | None = None,
        run: Run = RUN,
    ) -> None:
        import timm as library

        self.pooling = _choose(model, pooling)
        _fill(library, model, weights)
        settings = library.data.resolve_model_data_config(model)
        self.preprocess = library.data.create_transform(**settings, is_training=False)
        kept = {key: str(value) for key, value in sorted(settings.items())}
        own = f"pooler, {getattr(model, 'global_pool', '') or 'its own'}"
        super().__init__(
            model,
            modality="image",
            fingerprint={
                **fingerprint,
                "preprocessing": f"{RGB_RULE};{_files.stable_hash(kept)}",
                "pooling": own if self.pooling == "pooler" else self.pooling,
                "normalisation": "none",
                "truncation": None,
            },
            spec={**spec, "pooling": self.pooling},
            run=run,
            cpu_gains=True,
            channels_last=not hasattr(model, "num_prefix_tokens"),
        )

    def batch(self, prepared: list[Any], take: NDArray[np.int64]) -> torch.Tensor:
        """Return preprocessed images (b, 3, s, s)."""
        import torch

        return self.to_device(torch.stack([self.preprocess(to_rgb(prepared[row])) for row in take]))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the pooled embeddings (b, d)."""
        states = self.module.forward_features(inputs)
        if self.pooling == "pooler":
            return self.module.forward_head(states, pre_logits=True)
        return pooled_states(states, self.pooling, int(self.module.num_prefix_tokens))


def _choose(model: Any, asked: str | None) -> str:
    """Return the pooling; only models of tokens have another than their own."""
    if asked is None:
        return "pooler"
    tokens = getattr(model, "num_prefix_tokens", None)
    cls = tokens is not None and getattr(model, "cls_token", None) is not None
    takes = {
        "cls": cls,
        "cls+mean": cls,
        "mean": tokens is not None,
        "attention": getattr(model, "attn_pool", None) is not None,
    }
    return check_pooling(asked, POOLINGS, takes, type(model).__name__)


def _fill(library: Any, model: Any, weights: Path) -> None:
    """Load the weights, all of them: what is missing would be random, and silently so."""
    state = library.models.load_state_dict(str(weights), weights_only=True)
    wrong = [
        key
        for key, value in model.state_dict().items()
        if key not in state or state[key].shape != value.shape
    ]
    if wrong:
        raise ValueError(
            f"{weights.name} lacks weights of the model ({len(wrong)} missing or of another shape, "
            f"as {', '.join(wrong[:3])}): where it is an older checkpoint, load it with timm and "
            "save it with timm.models.save_for_hf"
        )
    model.load_state_dict(state, strict=False)
