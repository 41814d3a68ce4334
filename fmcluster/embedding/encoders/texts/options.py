"""What may be asked of a text encoder beyond its name: prompt, dimensions, length, engine.

They stand in its spec, as in ``{"encoder": "intfloat/e5-base-v2", "prompt": "query: "}``, and all
of them in its fingerprint; what is not asked leaves both as they were.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fmcluster.utils import files as _files
from fmcluster.utils.validation import check_in

LONG = ("cut", "chunk-mean")
BACKENDS = ("torch", "onnx", "openvino")
NAMES = ("prompt", "truncate_dim", "max_length", "long", "backend")
# What an option is where nobody says it: it then stands in no spec.
_DEFAULTS = {"long": "cut", "backend": "torch"}
SETTINGS = "config_sentence_transformers.json"
# One word of letters: what people type for a prompt's name, and never for a prompt itself.
_WORD = re.compile(r"[\w-]+")


@dataclass(frozen=True)
class TextOptions:
    """Options of a text encoder.

    Attributes
    ----------
    prompt : str, optional
        Put before every text: the name of one of the model's own prompts ("query"), or the prompt
        itself ("query: "). None takes the model's default one, "" none at all.
    truncate_dim : int, optional
        Leading dimensions kept (Matryoshka, arXiv 2205.13147); rows of unit length stay such.
    max_length : int, optional
        Tokens read of a text, special ones included; None takes the model's own limit.
    long : "cut" or "chunk-mean"
        What becomes of longer texts: "cut" at the limit (and counted), or encoded in chunks that
        are averaged, weighted by their tokens.
    backend : "torch", "onnx" or "openvino"
        What runs the model; the latter two in ``precision="int8"`` as well, on the processor.
    """

    prompt: str | None = None
    truncate_dim: int | None = None
    max_length: int | None = None
    long: str = "cut"
    backend: str = "torch"

    def __post_init__(self) -> None:
        """Refuse what can be refused before a model is loaded."""
        check_in(self.long, LONG, "long")
        check_in(self.backend, BACKENDS, "backend")
        if self.prompt is not None and not isinstance(self.prompt, str):
            raise TypeError(f"prompt={self.prompt!r} must be a string")
        for name in ("truncate_dim", "max_length"):
            value = getattr(self, name)
            whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
            if value is not None and not (whole and value >= 1):
                raise ValueError(f"{name}={value!r} must be a positive integer")

    @property
    def asked(self) -> dict[str, Any]:
        """The options that were asked, as they stand in a spec."""
        found = {name: getattr(self, name) for name in NAMES}
        return {k: v for k, v in found.items() if v is not None and v != _DEFAULTS.get(k)}

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What changes embeddings and has no older place in the fingerprint."""
        return {k: v for k, v in self.asked.items() if k in ("truncate_dim", "long", "backend")}


def known_prompts(folder: Path) -> tuple[dict[str, str], str | None]:
    """Return the prompts that a sentence-transformers folder names, and the default one's name."""
    path = folder / SETTINGS
    head = _files.read_json(path) if path.is_file() else {}
    return dict(head.get("prompts") or {}), head.get("default_prompt_name")


def prompt_of(asked: str | None, prompts: Mapping[str, str], default: str | None) -> str:
    """Return the prompt itself: of the asked name, as it is given, or the model's default.

    Raises
    ------
    ValueError
        A name that the model does not have.
    """
    if asked is None:
        return prompts.get(default or "") or ""
    if asked in prompts:
        return prompts[asked] or ""
    if _WORD.fullmatch(asked):
        raise ValueError(
            f"prompt={asked!r} is no prompt of this model (it names "
            f"{', '.join(map(repr, prompts)) or 'none'}): give one of these, or the prompt itself "
            f"with its separator, as {asked + ': '!r}"
        )
    return asked


def check_dim(truncate_dim: int | None, dim: int, name: Any) -> int:
    """Return the dimensions kept of `dim`.

    Raises
    ------
    ValueError
        More are asked than there are, or none.
    """
    if truncate_dim is None:
        return dim
    if not 1 <= truncate_dim <= dim:
        raise ValueError(
            f"truncate_dim={truncate_dim}: encoder {name!r} has {dim} dimensions, keep 1 to {dim}"
        )
    return int(truncate_dim)


def check_length(max_length: int | None, longest: int | None, overhead: int) -> None:
    """Refuse a length beyond the model's positions, or without room for a token of the text."""
    if max_length is None:
        return
    if longest is not None and max_length > longest:
        raise ValueError(f"max_length={max_length}: the model reads {longest} tokens at most")
    if max_length <= overhead:
        raise ValueError(
            f"max_length={max_length} leaves no room for the text: prompt and special tokens take "
            f"{overhead}"
        )


def known_limits(tokenizer: Any, config: Any) -> list[int]:
    """Return the tokens that a tokenizer and a model's table of positions allow, where they say."""
    limits = [
        getattr(tokenizer, "model_max_length", None),
        getattr(config, "max_position_embeddings", None),
    ]
    # A tokenizer without a limit says 10^30.
    return [int(limit) for limit in limits if limit and limit < 10**6]


def refuse_options(name: Any, given: Mapping[str, Any], *, takes: tuple[str, ...] = ()) -> None:
    """Refuse options that an encoder does not have; None stands for "not asked"."""
    wrong = [key for key, value in given.items() if value is not None and key not in takes]
    if wrong:
        raise ValueError(
            f"encoder {name!r} takes no {', '.join(wrong)}: it has "
            f"{', '.join(takes) or 'no options'}"
        )
