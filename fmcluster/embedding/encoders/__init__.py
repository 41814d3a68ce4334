"""Frozen encoders: one `encode` method, one file a family, resolved from a name.

Importing this package loads neither torch nor transformers; :func:`resolve` does when asked.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmcluster.embedding.encoders.base import Encoder, Run
from fmcluster.embedding.encoders.texts import options as text_options
from fmcluster.utils.validation import check_in

if TYPE_CHECKING:
    import torch

__all__ = ["AUTO", "Encoder", "resolve"]

AUTO = {
    "image": "facebook/dinov2-base",
    "audio": "laion/clap-htsat-unfused",
    "text": "sentence-transformers/all-MiniLM-L6-v2",
}
MODALITIES = (None, "image", "audio", "text")
# How rows of a modality are called.
ROWS = {"image": "images", "audio": "recordings", "text": "texts"}
# What a spec may hold beside the options of texts; "local" and "class" come of saved ones.
KNOWN = {"encoder", "modality", "precision", "local", "class", "tower"}
OPTIONS = ("pooling", "revision", "trust_remote_code", "language")


def resolve(
    encoder: Any,
    *,
    modality: str | None = None,
    device: str | torch.device | None = None,
    batch_size: int | None = None,
    precision: str = "auto",
    cache_dir: str | os.PathLike[str] | None = None,
) -> Encoder:
    """Return the encoder that a name, a folder, a spec or an object stands for.

    Parameters
    ----------
    encoder : str, path, mapping or object
        A Hub id, ``open_clip:ARCH/TAG`` or ``timm:ARCH.TAG`` (or either's ARCH/path/to/checkpoint),
        a local folder of any kind, ``packaged:minilm``, ``packaged:wordllama[@DIM]``,
        ``packaged:efficientnet-lite2[@SIDE]`` or ``-lite0``, ``packaged:resemblyzer``, ``tfidf``,
        ``auto`` (by `modality`); the `spec` of an encoder; or any object with
        ``encode(list) -> (n, d) array``. A spec
        carries options: ``{"encoder": "intfloat/e5-base-v2", "prompt": "query: "}``; see
        :class:`fmcluster.embedding.encoders.texts.options.TextOptions`. Beside these there are
        ``pooling``, ``revision``, and ``trust_remote_code``: True lets Python code that a model's
        repository brings run here, and nothing else does.
    modality : "image", "audio" or "text", optional
        What the rows are: decides ``auto``, and is checked against the encoder's own.
    device : optional
        None takes the one Accelerate gives this process.
    batch_size : int, optional
        None chooses by family and device.
    precision : "auto", "fp32", "bf16" or "int8"
        "auto" is bf16 on a GPU, and on CPUs where the family was measured to gain by it; "int8" is
        for text encoders whose backend is "onnx" or "openvino".
    cache_dir : path, optional
        The Hub's cache; None is its own default.

    Raises
    ------
    ValueError
        The name is not known, or the encoder is of the other modality.
    EncoderUnavailableError
        The Hub is out of reach and nothing is cached, or there is no such repository.
    MissingExtraError
        An optional package is needed.
    """
    check_in(modality, MODALITIES, "modality")
    run = Run(device, batch_size, precision)
    if isinstance(encoder, Mapping):
        found = _from_spec(dict(encoder), run, cache_dir)
    elif isinstance(encoder, (str, os.PathLike)):
        found = _from_name(os.fspath(encoder), {}, modality, run, cache_dir)
    else:
        found = _from_object(encoder, modality)
    if modality and found.modality and found.modality != modality:
        raise ValueError(
            f"encoder {found.spec.get('encoder')!r} takes {ROWS[found.modality]}, the data are "
            f"{ROWS[modality]}: choose another encoder, or the column that holds "
            f"{ROWS[found.modality]}"
        )
    return found


def _from_spec(spec: dict[str, Any], run: Run, cache_dir: str | os.PathLike[str] | None) -> Encoder:
    """Return the encoder of a saved spec, in the precision it had."""
    name = spec.get("encoder")
    if not isinstance(name, str) or name == "custom":
        raise ValueError(
            f"encoder spec {spec!r} names no encoder that can be built from a name: "
            "pass the object with `encode` itself"
        )
    if run.precision == "auto":
        run = replace(run, precision=spec.get("precision", "auto"))
    unknown = sorted(spec.keys() - KNOWN - {*OPTIONS, *text_options.NAMES})
    if unknown:
        raise ValueError(
            f"encoder {name!r} has no option {', '.join(map(repr, unknown))}: known are "
            f"{', '.join((*OPTIONS, *text_options.NAMES))}"
        )
    if spec.get("tower") == "text":
        from fmcluster.embedding.encoders.texts.tower import TextTower

        own = {key: value for key, value in spec.items() if key != "tower"}
        return TextTower(_from_spec({**own, "modality": "image"}, run, cache_dir))
    asked = {key: spec[key] for key in text_options.NAMES if spec.get(key) is not None}
    extra = {key: spec[key] for key in OPTIONS if spec.get(key) is not None}
    if not isinstance(extra.get("trust_remote_code", False), bool):
        raise TypeError(
            f"trust_remote_code={extra['trust_remote_code']!r} must be True or False: True lets "
            f"code of {name!r} run here"
        )
    if asked:
        extra["options"] = text_options.TextOptions(**asked)
    return _from_name(name, extra, spec.get("modality"), run, cache_dir)


def _from_name(
    name: str,
    extra: dict[str, Any],
    modality: str | None,
    run: Run,
    cache_dir: str | os.PathLike[str] | None,
) -> Encoder:
    """Return the encoder of a string."""
    if name == "auto":
        if modality is None:
            raise ValueError(
                "encoder='auto' needs the modality: say modality='image', 'audio' or 'text'"
            )
        name = AUTO[modality]
    if name == "tfidf":
        from fmcluster.embedding.encoders.tfidf import TfidfEncoder

        return TfidfEncoder(**_only(name, extra, "language"))
    if "language" in extra:  # others read what they were trained on
        text_options.refuse_options(name, {"language": extra["language"]})
    family, colon, rest = name.partition(":")
    if colon and family == "packaged":
        from fmcluster.embedding.encoders import packaged

        _only(name, extra, "pooling", "options")
        return packaged.load(rest, pooling=extra.get("pooling"), text=extra.get("options"), run=run)
    if colon and family == "open_clip":
        from fmcluster.embedding.encoders import open_clip

        _only(name, _projected(extra))
        return open_clip.load(rest, cache_dir=cache_dir, run=run)
    if colon and family == "timm":
        from fmcluster.embedding.encoders.images import timm

        _only(name, extra, "pooling")
        return timm.load(rest, pooling=extra.get("pooling"), cache_dir=cache_dir, run=run)
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return _from_folder(folder, extra, modality, run)
    if folder.is_absolute() or name.startswith((".", "~")) or colon or not name:
        raise ValueError(
            f"encoder {name!r} is not a folder, and not a name that is known: give a Hub id, "
            "'open_clip:ARCH/TAG', 'timm:ARCH.TAG', 'packaged:minilm', "
            "'packaged:efficientnet-lite2', 'tfidf', 'auto' or an object with encode(list)"
        )
    from fmcluster.embedding.encoders.sources import hub_folder

    also: tuple[str, ...] = ("*.py",) if extra.get("trust_remote_code") else ()
    if "options" in extra and extra["options"].backend != "torch":
        also += (f"{extra['options'].backend}/*model.*",)  # beside it lie dozens of variants
    folder, revision = hub_folder(
        name, revision=extra.get("revision"), cache_dir=cache_dir, also=also
    )
    return _from_folder(folder, {**extra, "name": name, "revision": revision}, modality, run)


def _from_folder(folder: Path, known: dict[str, Any], modality: str | None, run: Run) -> Encoder:
    """Return the encoder that a folder of files holds, by what is in it."""
    name = known.get("name") or folder.name
    if (folder / "open_clip_config.json").is_file() and modality != "text":
        from fmcluster.embedding.encoders import open_clip

        return open_clip.load_folder(folder, **_only(name, _projected(known), "revision"), run=run)
    from fmcluster.embedding.encoders.texts import static

    if static.is_model2vec(folder):
        return static.model2vec(folder, **_only(name, known, "revision", "options"))
    from fmcluster.embedding.encoders import text, vision

    if (folder / "modules.json").is_file():
        return text.load_folder(folder, **known, run=run)
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"folder {folder} holds no config.json, modules.json or open_clip_config.json: "
            "give the folder that save_pretrained wrote"
        )
    from fmcluster.embedding.encoders.audio import transformer
    from fmcluster.embedding.encoders.images import timm

    if transformer.is_audio(folder):
        return transformer.AudioEncoder(
            folder, **_only(name, known, "revision", "pooling"), run=run
        )
    if timm.is_timm(folder):
        return timm.load_folder(folder, **_only(name, known, "revision", "pooling"), run=run)
    if vision.is_vision(folder):
        return vision.VisionEncoder(
            folder, **_only(name, known, "revision", "pooling", "trust_remote_code"), run=run
        )
    return text.load_folder(folder, **known, run=run)


def _only(name: str, extra: dict[str, Any], *takes: str) -> dict[str, Any]:
    """Return what an encoder takes, refusing options that it does not have."""
    asked = extra.get("options")
    given = {key: extra.get(key) for key in OPTIONS if extra.get(key) is not False}
    if "options" not in takes and asked is not None:
        given |= asked.asked
    text_options.refuse_options(name, given, takes=takes)
    return {key: extra[key] for key in ("name", *takes) if key in extra}


def _projected(extra: dict[str, Any]) -> dict[str, Any]:
    """Return options without the one pooling that open_clip's image towers have."""
    return {k: v for k, v in extra.items() if (k, v) != ("pooling", "projection")}


def _from_object(encoder: Any, modality: str | None) -> Encoder:
    """Return a user's object, wrapped unless it already is a whole Encoder."""
    if not callable(getattr(encoder, "encode", None)):
        raise TypeError(
            f"encoder must be a name or an object with encode(list) -> (n, d) array, "
            f"got {encoder!r} of type {type(encoder).__name__}"
        )
    if isinstance(encoder, Encoder):
        return encoder
    from fmcluster.embedding.encoders.custom import ObjectEncoder

    return ObjectEncoder(encoder, modality=modality)
