"""Text encoders: sentence-transformers folders, and plain transformers with mean or CLS pooling.

Texts are tokenised once, sorted by token length and batched so that next to no padding is
computed; an attention mask is given only to batches that hold padding. An embedding therefore
does not depend on what else is in its batch.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.embedding.encoders import sources
from fmcluster.embedding.encoders.base import TorchEncoder
from fmcluster.utils import files as _files
from fmcluster.utils.optional import require
from fmcluster.utils.validation import check_in

if TYPE_CHECKING:
    import torch

POOLINGS = ("mean", "cls")
# Tokens a batch: what keeps activations in a processor's cache, and what fills a GPU.
CPU_TOKENS, GPU_TOKENS = 1024, 65536
# Where no limit is known: the positions that BERT and its kin were trained with.
LONGEST = 512


def load_folder(
    folder: Path,
    *,
    name: str | None = None,
    revision: str | None = None,
    pooling: str | None = None,
    device: str | torch.device | None = None,
    batch_size: int | None = None,
    precision: str = "auto",
) -> TorchEncoder:
    """Return the encoder a folder holds: its own modules where listed, else pooled tokens.

    A sentence-transformers folder of Transformer, Pooling (mean or CLS) and Normalize needs
    transformers alone; any other module brings in sentence-transformers itself.
    """
    options: dict[str, Any] = {"device": device, "batch_size": batch_size, "precision": precision}
    known: dict[str, Any] = {"name": name, "revision": revision}
    if not (folder / "modules.json").is_file():
        return TextEncoder(folder, pooling=pooling or "mean", **known, **options)
    plan = _plain_modules(folder)
    if plan is None:
        return SentenceEncoder(folder, **known, **options)
    return TextEncoder(**{**plan, "pooling": pooling or plan["pooling"]}, **known, **options)


def _plain_modules(folder: Path) -> dict[str, Any] | None:
    """Read modules.json; None where only sentence-transformers itself does it justice."""
    modules = _files.read_json(folder / "modules.json")
    kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        return None
    settings = folder / "config_sentence_transformers.json"
    head = _files.read_json(settings) if settings.is_file() else {}
    if head.get("default_prompt_name"):
        return None
    pooling = _pooling(_files.read_json(folder / modules[1]["path"] / "config.json"))
    if pooling is None:
        return None
    own = folder / modules[0]["path"]
    limits = own / "sentence_bert_config.json"
    config = _files.read_json(limits) if limits.is_file() else {}
    if config.get("do_lower_case") or config.get("transformer_task", "feature-extraction") != (
        "feature-extraction"
    ):
        return None
    return {
        "folder": own,
        "root": folder,
        "pooling": pooling,
        "normalise": len(kinds) == 3,
        "max_length": config.get("max_seq_length"),
    }


def _pooling(config: dict[str, Any]) -> str | None:
    """Return "mean" or "cls" from a Pooling module's config, old or new; None for any other."""
    mode = config.get("pooling_mode")
    if mode is None:
        active = [key for key, value in config.items() if key.startswith("pooling_mode_") and value]
        names = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
        mode = names.get(active[0]) if len(active) == 1 else None
    return mode if mode in POOLINGS else None


def _longer(tokenizer: Any, rows: list[str], limit: int) -> int:
    """Return how many of `rows` have more than `limit` tokens."""
    return sum(len(ids) > limit for ids in tokenizer(rows)["input_ids"]) if rows else 0


class _LengthBatched(TorchEncoder):
    """Texts as token ids without padding, in batches of a set number of tokens.

    Attributes
    ----------
    truncated : int
        Texts so far that were longer than the token limit, and were cut.
    """

    truncated = 0

    def rows_per_batch(self, length: int) -> int:
        """Return how many texts of `length` tokens make a batch."""
        budget = CPU_TOKENS if self.device.type == "cpu" else GPU_TOKENS
        return max(1, min(budget // max(length, 1), 4096))

    def count_truncated(self, rows: list[Any]) -> None:
        """Count the texts that are cut, as `encode` does, without encoding any."""
        self.prepare(rows)

    def check_texts(self, rows: list[Any]) -> None:
        """Refuse what is not text."""
        for number, row in enumerate(rows):
            if not isinstance(row, str):
                raise TypeError(
                    f"a text encoder needs strings, row {number} is {type(row).__name__}: "
                    "choose the text column, or an image encoder"
                )


class TextEncoder(_LengthBatched):
    """A transformers model with mean or CLS pooling, L2-normalized or not.

    Parameters
    ----------
    folder : Path
        Model and tokenizer as `save_pretrained` leaves them.
    root : Path, optional
        The sentence-transformers folder around it.
    name, revision : str, optional
        Hub id (or "packaged:minilm") and commit; without them the weights' digest identifies it.
    pooling : "mean" or "cls"
        Mean over the tokens that are not padding, or the first token's state.
    normalise : bool
        Rows of unit length.
    max_length : int, optional
        Tokens kept; None takes the tokenizer's own limit, at most 512.
    device, batch_size, precision
        See :class:`fmcluster.embedding.encoders.base.TorchEncoder`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        root: Path | None = None,
        name: str | None = None,
        revision: str | None = None,
        pooling: str = "mean",
        normalise: bool = False,
        max_length: int | None = None,
        device: str | torch.device | None = None,
        batch_size: int | None = None,
        precision: str = "auto",
    ) -> None:
        from transformers import AutoModel, AutoTokenizer

        check_in(pooling, POOLINGS, "pooling")
        root = root or folder
        with sources.quiet_loading():
            self.tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            module, info = AutoModel.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        sources.check_loaded(info, folder, unused=("pooler.",))
        self.pooling = pooling
        self.normalise = normalise
        self.max_length = _token_limit(max_length, self.tokenizer, module.config)
        super().__init__(
            module,
            modality="text",
            fingerprint={
                **sources.identity(root, name, revision),
                "preprocessing": "the folder's tokenizer",
                "pooling": pooling,
                "normalisation": "l2" if normalise else "none",
                "truncation": self.max_length,
            },
            spec={**sources.origin(root, name, revision), "pooling": pooling},
            device=device,
            batch_size=batch_size,
            precision=precision,
        )
        self.dim = int(module.config.hidden_size)

    def prepare(self, rows: list[Any]) -> tuple[Any, NDArray[np.int64]]:
        """Return token ids a row, unpadded, and their lengths."""
        self.check_texts(rows)
        encoded = self.tokenizer(
            rows,
            truncation=True,
            max_length=self.max_length,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        tokens = encoded["input_ids"]
        if encoded.encodings:
            self.truncated += sum(bool(each.overflowing) for each in encoded.encodings)
        else:
            full = [
                row for row, ids in zip(rows, tokens, strict=True) if len(ids) >= self.max_length
            ]
            self.truncated += _longer(self.tokenizer, full, self.max_length)
        return tokens, np.fromiter(map(len, tokens), np.int64, len(tokens))

    def batch(self, prepared: Any, take: NDArray[np.int64]) -> Any:
        """Return ids (b, l) padded to the longest, and the mask, None where nothing is padded."""
        import torch

        rows = [prepared[row] for row in take]
        longest = max(1, *map(len, rows)) if len(rows) > 1 else max(1, len(rows[0]))
        padding = self.tokenizer.pad_token_id or 0
        ids = np.full((len(rows), longest), padding, np.int64)
        mask = np.zeros((len(rows), longest), np.int64)
        for slot, row in enumerate(rows):
            # A tokenizer may pad on the left; ours is always on the right, positions stay 0, 1, ...
            ids[slot, : len(row)] = row
            mask[slot, : len(row)] = 1
        full = bool(mask.all())
        return (
            self.to_device(torch.from_numpy(ids)),
            None if full else self.to_device(torch.from_numpy(mask)),
        )

    def forward(self, inputs: Any) -> torch.Tensor:
        """Return pooled states (b, d)."""
        import torch

        ids, mask = inputs
        states = self.module(input_ids=ids, attention_mask=mask).last_hidden_state
        if self.pooling == "cls":
            pooled = states[:, 0].float()
        elif mask is None:
            pooled = states.float().mean(dim=1)
        else:
            weight = mask.unsqueeze(-1).float()
            pooled = (states.float() * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1e-9)
        return torch.nn.functional.normalize(pooled, dim=1) if self.normalise else pooled


def _token_limit(asked: int | None, tokenizer: Any, config: Any) -> int:
    """Return the tokens kept: what was asked, the tokenizer's limit or the position table's."""
    limits = [tokenizer.model_max_length, getattr(config, "max_position_embeddings", None)]
    known = [int(limit) for limit in limits if limit and limit < 10**6]
    if asked:
        return min([int(asked), *known])
    return min([LONGEST, *known])


class SentenceEncoder(_LengthBatched):
    """Any other sentence-transformers folder, run by that library's own modules.

    Parameters
    ----------
    folder : Path
        A folder with `modules.json`.
    name, revision, device, batch_size, precision
        As for :class:`TextEncoder`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str | None = None,
        revision: str | None = None,
        device: str | torch.device | None = None,
        batch_size: int | None = None,
        precision: str = "auto",
    ) -> None:
        library = require("sentence_transformers", extra="text", package="sentence-transformers")
        sources.check_modules(folder)
        with sources.quiet_loading():
            model = library.SentenceTransformer(
                str(folder), device="cpu", local_files_only=True, trust_remote_code=False
            )
        prompts = model.prompts or {}
        self.prompt = prompts.get(model.default_prompt_name) or ""
        kinds = [type(module).__name__ for module in model]
        super().__init__(
            model,
            modality="text",
            fingerprint={
                **sources.identity(folder, name, revision),
                "preprocessing": f"the folder's tokenizer; prompt {self.prompt!r}",
                "pooling": "sentence-transformers: " + ", ".join(kinds),
                "normalisation": "l2" if kinds[-1] == "Normalize" else "none",
                "truncation": model.max_seq_length,
            },
            spec=sources.origin(folder, name, revision),
            device=device,
            batch_size=batch_size,
            precision=precision,
        )

    def prepare(self, rows: list[Any]) -> tuple[Any, NDArray[np.int64]]:
        """Return the texts, and their lengths in characters: tokens are not ours to count here."""
        self.check_texts(rows)
        limit = self.module.max_seq_length
        if limit:
            # A token is a character at least: only long texts need to be counted.
            long = [text for row in rows if len(text := self.prompt + row) > limit - 2]
            with contextlib.suppress(AttributeError, TypeError, KeyError):
                self.truncated += _longer(self.module.tokenizer, long, limit)
        return rows, np.fromiter((len(self.prompt) + len(row) for row in rows), np.int64, len(rows))

    def rows_per_batch(self, length: int) -> int:
        """Return how many texts of `length` characters make a batch."""
        return super().rows_per_batch(1 + length // 4)

    def batch(self, prepared: Any, take: NDArray[np.int64]) -> Any:
        """Return the library's features of a batch."""
        return [prepared[row] for row in take]

    def forward(self, inputs: Any) -> torch.Tensor:
        """Return the sentence embeddings (b, d)."""
        return self.module.encode(
            inputs,
            batch_size=len(inputs),
            prompt=self.prompt or None,
            convert_to_tensor=True,
            show_progress_bar=False,
        )
