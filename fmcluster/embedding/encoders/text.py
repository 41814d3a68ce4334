"""Text encoders: sentence-transformers folders, and plain transformers with mean or CLS pooling.

Texts are tokenised once, sorted by token length and batched so that next to no padding is
computed; an attention mask is given only to batches that hold padding. An embedding therefore
does not depend on what else is in its batch.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.embedding.encoders import sources
from fmcluster.embedding.encoders.base import RUN, Run, TorchEncoder
from fmcluster.embedding.encoders.texts.batches import LengthBatched, check_texts, count_longer
from fmcluster.embedding.encoders.texts.chunks import Chunker
from fmcluster.embedding.encoders.texts.options import (
    TextOptions,
    check_dim,
    check_length,
    known_limits,
    known_prompts,
    prompt_of,
)
from fmcluster.embedding.encoders.texts.sentence import SentenceEncoder
from fmcluster.utils import files as _files
from fmcluster.utils.validation import check_in

if TYPE_CHECKING:
    import torch

POOLINGS = ("mean", "cls")
# Where no limit is known: the positions that BERT and its kin were trained with.
LONGEST = 512


def load_folder(
    folder: Path,
    *,
    name: str | None = None,
    revision: str | None = None,
    pooling: str | None = None,
    options: TextOptions | None = None,
    trust_remote_code: bool = False,
    run: Run = RUN,
) -> TorchEncoder:
    """Return the encoder a folder holds: its own modules where listed, else pooled tokens.

    A sentence-transformers folder of Transformer, Pooling (mean or CLS) and Normalize needs
    transformers alone; any other module brings in sentence-transformers itself.
    """
    known: dict[str, Any] = {
        "name": name,
        "revision": revision,
        "options": options,
        "trust_remote_code": trust_remote_code,
        "run": run,
    }
    if not (folder / "modules.json").is_file():
        return TextEncoder(folder, pooling=pooling or "mean", **known)
    plan = _plain_modules(folder, prompted=bool(options and options.prompt))
    if plan is None:
        return SentenceEncoder(folder, **known)
    return TextEncoder(**{**plan, "pooling": pooling or plan["pooling"]}, **known)


def _plain_modules(folder: Path, *, prompted: bool) -> dict[str, Any] | None:
    """Read modules.json; None where only sentence-transformers itself does it justice."""
    modules = _files.read_json(folder / "modules.json")
    kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        return None
    if known_prompts(folder)[1]:
        return None
    about = _files.read_json(folder / modules[1]["path"] / "config.json")
    pooling = _pooling(about)
    # Some instruction models leave the prompt's tokens out of the mean.
    if pooling is None or (prompted and about.get("include_prompt") is False):
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


class TextEncoder(LengthBatched):
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
    options : TextOptions, optional
        What the user asked: prompt, dimensions, length (above `max_length`), long texts, backend.
    trust_remote_code : bool
        Whether Python code that lies in the folder may run.
    run : Run
        How it runs.
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
        options: TextOptions | None = None,
        trust_remote_code: bool = False,
        run: Run = RUN,
    ) -> None:
        from transformers import AutoTokenizer

        check_in(pooling, POOLINGS, "pooling")
        root = root or folder
        self.pooling = pooling
        self.normalise = normalise
        self.options = asked = options or TextOptions()
        identity = sources.identity(root, name, revision, trusted=trust_remote_code)
        with sources.quiet_loading(), sources.code_refused(name or root.name):
            self.tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=trust_remote_code
            )
            load = functools.partial(
                sources.load_model, folder, trusted=trust_remote_code, unused=("pooler.",)
            )
            if asked.backend == "torch":
                module = load()
            else:
                from fmcluster.embedding.encoders.texts import graphs

                module, graph_precision = graphs.text_graph(
                    folder,
                    root,
                    backend=asked.backend,
                    precision=run.precision,
                    device=run.device,
                    identity=identity,
                    load=load,
                    trusted=trust_remote_code,
                )
                identity |= graphs.graph_digest(folder, root, asked.backend)
                run = replace(run, device="cpu", precision="fp32")
        self.prompt = prompt_of(asked.prompt, *known_prompts(root))
        self.max_length = _token_limit(max_length, self.tokenizer, module.config)
        overhead = len(self.tokenizer(self.prompt)["input_ids"])
        if asked.max_length is not None:
            longest = _token_limit(10**9, self.tokenizer, module.config)
            check_length(asked.max_length, longest, overhead)
            self.max_length = asked.max_length
        if asked.long == "chunk-mean":
            check_length(self.max_length, None, overhead)
            self.chunker = Chunker(self.tokenizer, self.max_length - overhead)
        width = check_dim(asked.truncate_dim, int(module.config.hidden_size), name or root.name)
        said = f"; prompt {self.prompt!r}" if self.prompt else ""
        super().__init__(
            module,
            modality="text",
            fingerprint={
                **identity,
                "preprocessing": f"the folder's tokenizer{said}",
                "pooling": pooling,
                "normalisation": "l2" if normalise else "none",
                "truncation": self.max_length,
                **asked.fingerprint,
            },
            spec={
                **sources.origin(root, name, revision, trusted=trust_remote_code),
                "pooling": pooling,
                **asked.asked,
            },
            run=run,
        )
        self.dim = width
        if asked.backend != "torch":  # what torch runs of it, pooling and norms, is fp32
            self.precision = graph_precision
            self._fingerprint["precision"] = self.spec["precision"] = graph_precision

    def prepare(self, rows: list[Any]) -> tuple[Any, NDArray[np.int64]]:
        """Return token ids a row, unpadded, and their lengths."""
        check_texts(rows)
        if self.prompt:
            rows = [self.prompt + row for row in rows]
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
            self.truncated += count_longer(self.tokenizer, full, self.max_length)
        return tokens, np.fromiter(map(len, tokens), np.int64, len(tokens))

    def batch(self, prepared: Any, take: NDArray[np.int64]) -> Any:
        """Return ids (b, l) padded to the longest, and the mask, None where nothing is padded."""
        import torch

        rows = [prepared[row] for row in take]
        longest = max(1, *map(len, rows))
        padding = self.tokenizer.pad_token_id or 0
        ids = np.full((len(rows), longest), padding, np.int64)
        mask = np.zeros((len(rows), longest), np.int64)
        for slot, row in enumerate(rows):
            # A tokenizer may pad on the left; ours is always on the right, positions stay 0, 1, ...
            ids[slot, : len(row)] = row
            mask[slot, : len(row)] = 1
        padded = None if mask.all() else self.to_device(torch.from_numpy(mask))
        return self.to_device(torch.from_numpy(ids)), padded

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
        whole = torch.nn.functional.normalize(pooled, dim=1) if self.normalise else pooled
        return self.shortened(whole)


def _token_limit(asked: int | None, tokenizer: Any, config: Any) -> int:
    """Return the tokens kept: what was asked, the tokenizer's limit or the position table's."""
    return min([int(asked or LONGEST), *known_limits(tokenizer, config)])
