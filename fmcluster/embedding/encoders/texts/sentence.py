"""Sentence-transformers folders of any modules, run by that library itself."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.embedding.encoders import sources
from fmcluster.embedding.encoders.base import RUN, Run
from fmcluster.embedding.encoders.texts.batches import LengthBatched, check_texts, count_longer
from fmcluster.embedding.encoders.texts.chunks import Chunker
from fmcluster.embedding.encoders.texts.options import (
    TextOptions,
    check_dim,
    check_length,
    known_limits,
    prompt_of,
)
from fmcluster.utils.optional import require

if TYPE_CHECKING:
    import torch


class SentenceEncoder(LengthBatched):
    """A sentence-transformers folder, run by that library's own modules.

    Parameters
    ----------
    folder : Path
        A folder with `modules.json`.
    options : TextOptions, optional
        Prompt, dimensions, length, long texts.
    name, revision, trust_remote_code, run
        As for :class:`fmcluster.embedding.encoders.text.TextEncoder`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str | None = None,
        revision: str | None = None,
        options: TextOptions | None = None,
        trust_remote_code: bool = False,
        run: Run = RUN,
    ) -> None:
        library = require("sentence_transformers", extra="text", package="sentence-transformers")
        self.options = asked = options or TextOptions()
        if not trust_remote_code:
            sources.check_modules(folder)
        with sources.quiet_loading(), sources.code_refused(name or folder.name):
            model = library.SentenceTransformer(
                str(folder),
                device="cpu",
                local_files_only=True,
                trust_remote_code=trust_remote_code,
            )
        self.prompt = prompt_of(asked.prompt, model.prompts or {}, model.default_prompt_name)
        kinds = [type(module).__name__ for module in model]
        if asked.backend != "torch":
            raise ValueError(
                f"backend={asked.backend!r} runs models of mean or CLS pooling; "
                f"{name or folder.name!r} is made of {', '.join(kinds)}: leave backend out"
            )
        self.normalise = kinds[-1] == "Normalize"
        _set_length(model, asked, self.prompt)
        if asked.long == "chunk-mean":
            overhead = _overhead(model, self.prompt)
            check_length(model.max_seq_length or 1, None, overhead)
            self.chunker = Chunker(model.tokenizer, (model.max_seq_length or 0) - overhead)
        # The library takes its model's default prompt where none, not even an empty one, is said.
        self._said = self.prompt if self.prompt or model.default_prompt_name else None
        if asked.truncate_dim is not None and (width := _width(model)):
            check_dim(asked.truncate_dim, width, name or folder.name)
        super().__init__(
            model,
            modality="text",
            fingerprint={
                **sources.identity(folder, name, revision, trusted=trust_remote_code),
                "preprocessing": f"the folder's tokenizer; prompt {self.prompt!r}",
                "pooling": "sentence-transformers: " + ", ".join(kinds),
                "normalisation": "l2" if self.normalise else "none",
                "truncation": model.max_seq_length,
                **asked.fingerprint,
            },
            spec={
                **sources.origin(folder, name, revision, trusted=trust_remote_code),
                **asked.asked,
            },
            run=run,
        )

    def prepare(self, rows: list[Any]) -> tuple[Any, NDArray[np.int64]]:
        """Return the texts, and their lengths in characters: tokens are not ours to count here."""
        check_texts(rows)
        limit = self.module.max_seq_length
        if limit:
            # A token is a character at least: only long texts need to be counted.
            long = [text for row in rows if len(text := self.prompt + row) > limit - 2]
            with contextlib.suppress(AttributeError, TypeError, KeyError):
                self.truncated += count_longer(self.module.tokenizer, long, limit)
        return rows, np.fromiter((len(self.prompt) + len(row) for row in rows), np.int64, len(rows))

    def rows_per_batch(self, length: int) -> int:
        """Return how many texts of `length` characters make a batch."""
        # Four characters a token, as of English.
        return super().rows_per_batch(1 + length // 4)

    def batch(self, prepared: Any, take: NDArray[np.int64]) -> Any:
        """Return the library's features of a batch."""
        return [prepared[row] for row in take]

    def forward(self, inputs: Any) -> torch.Tensor:
        """Return the sentence embeddings (b, d)."""
        values = self.module.encode(
            inputs,
            batch_size=len(inputs),
            prompt=self._said,
            convert_to_tensor=True,
            show_progress_bar=False,
        )
        return self.shortened(values)


def _set_length(model: Any, asked: TextOptions, prompt: str) -> None:
    """Let the library's model read as many tokens as was asked."""
    if asked.max_length is None:
        return
    body = getattr(model[0], "auto_model", None)
    known = known_limits(model.tokenizer, getattr(body, "config", None))
    check_length(asked.max_length, min(known, default=None), _overhead(model, prompt))
    model.max_seq_length = int(asked.max_length)


def _width(model: Any) -> int | None:
    """Return the model's dimensions, where it says them; the method was renamed once."""
    ask = getattr(model, "get_embedding_dimension", None)
    return (ask or model.get_sentence_embedding_dimension)()


def _overhead(model: Any, prompt: str) -> int:
    """Return the tokens that are not the text's own: special ones, and the prompt's."""
    return len(model.tokenizer(prompt)["input_ids"])
