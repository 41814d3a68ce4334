r"""Static text encoders: a vector a token, and a text is their mean. No network, no torch.

    z_i = \frac{1}{|t_i|} \sum_{j \in t_i} E_j, \qquad z_i \leftarrow z_i / \lVert z_i \rVert

with E (vocabulary, d) distilled from a language model's own token embeddings (WordLlama). Its
leading dimensions are embeddings too (Matryoshka, arXiv 2205.13147): ``truncate_dim`` keeps those.
"""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.embedding.encoders import sources
from fmcluster.embedding.encoders.texts.batches import check_texts
from fmcluster.embedding.encoders.texts.options import TextOptions, check_dim, refuse_options
from fmcluster.utils import files as _files
from fmcluster.utils.errors import MissingExtraError

# Texts at once: words that come back are tokenised once, and memory stays at some ten megabytes.
CHUNK = 16_384
MODEL2VEC_TOKENS = 512  # what model2vec reads of a text where its config does not say
_SPACE = "\u2581"  # what SentencePiece writes for a space
WORDLLAMA = "packaged:wordllama"
_WEIGHTS, _KEY = "weights/l2_supercat_256.safetensors", "embedding.weight"
_TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"


class StaticEncoder:
    """Mean of token vectors, rows of unit length: an Encoder.

    Parameters
    ----------
    vectors : array (vocabulary, d)
        One a token.
    tokenizer : Path
        The ``tokenizer.json`` of the tokenizers library.
    name : str
        What it is called in specs and fingerprints.
    weights : str
        Digest of vectors and tokenizer.
    truncate_dim : int, optional
        Leading dimensions kept; None keeps all.
    limit : int, optional
        Tokens read of a text; None reads all of it.
    origin : mapping, optional
        What finds the files again, in place of the name alone (see `sources.origin`).

    Attributes
    ----------
    truncated : int
        Texts so far that were longer than `limit`, and were cut.

    Notes
    -----
    A text in which the tokenizer finds nothing has no direction: its row is zero.
    """

    def __init__(
        self,
        vectors: NDArray[Any],
        tokenizer: Path,
        *,
        name: str,
        weights: str,
        truncate_dim: int | None = None,
        limit: int | None = None,
        origin: dict[str, Any] | None = None,
    ) -> None:
        from tokenizers import Tokenizer

        width = check_dim(truncate_dim, vectors.shape[1], name)
        self.vectors = np.ascontiguousarray(vectors[:, :width], dtype=np.float32)
        self.tokenizer = Tokenizer.from_file(str(tokenizer))
        self._splits = limit is None and _splits_at_spaces(tokenizer)
        self.limit, self.truncated = limit, 0
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.modality: str | None = "text"
        self.dim: int | None = width
        kept = {} if truncate_dim is None else {"truncate_dim": width}
        found = origin or {"encoder": name}
        self.spec: dict[str, Any] = {**found, "modality": "text", **kept}
        self._fingerprint: dict[str, Any] = {
            "encoder": name,
            "weights": weights,
            "preprocessing": "the package's tokenizer",
            "pooling": "mean of token vectors",
            "normalisation": "l2",
            "precision": "fp32",
            "truncation": limit,
            **kept,
        }

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that changes an embedding, as JSON-able values."""
        return dict(self._fingerprint)

    def encode(self, rows: list[Any]) -> NDArray[np.float32]:
        """Return unit rows (n, d) float32 of texts."""
        rows = list(rows)
        check_texts(rows)
        out = np.zeros((len(rows), self.vectors.shape[1]), np.float32)
        for low in range(0, len(rows), CHUNK):
            out[low : low + CHUNK] = self._pooled(rows[low : low + CHUNK])
        return out

    def count_truncated(self, rows: list[Any]) -> None:
        """Count the texts that are cut, as `encode` does, without pooling any."""
        if self.limit is not None:
            self._sums(list(rows))

    def _pooled(self, rows: list[str]) -> NDArray[np.float32]:
        """Return the unit means of some texts: their words' sums of token vectors, added up."""
        pieces = [_words(row) if self._splits else None for row in rows]
        number: dict[str, int] = {}
        words: list[int] = []
        counts: list[int] = []
        for row, split in zip(rows, pieces, strict=True):
            found = [row] if split is None else split
            words += [number.setdefault(word, len(number)) for word in found]
            counts.append(len(found))
        # The mean's length cancels out in a unit row: the sum will do.
        sums = _counted(words, counts, len(number)) @ self._sums(list(number))
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        return np.asarray(sums / np.where(norms > 0, norms, 1.0), np.float32)

    def _sums(self, words: list[str]) -> NDArray[np.float32]:
        """Return the sums of token vectors (m, d) of words or whole texts."""
        # Offsets are not needed, and finding them takes longer than the tokens.
        encoded = self.tokenizer.encode_batch_fast(words, add_special_tokens=False)
        tokens = [each.ids for each in encoded]
        if self.limit is not None:
            self.truncated += sum(len(each) > self.limit for each in tokens)
            tokens = [each[: self.limit] for each in tokens]
        # As the package does with tokens that were added to the tokenizer and have no vector.
        last = len(self.vectors) - 1
        ids = np.minimum(list(itertools.chain.from_iterable(tokens)), last)
        return _counted(ids, [len(each) for each in tokens], last + 1) @ self.vectors


def _counted(columns: Any, counts: list[int], width: int) -> Any:
    """Return the sparse matrix (n, width) with a one for each of a row's columns."""
    from scipy.sparse import csr_matrix

    ones, ends = np.ones(len(columns), np.float32), np.cumsum([0, *counts])
    return csr_matrix((ones, np.asarray(columns, np.int64), ends), shape=(len(counts), width))


def _words(text: str) -> list[str] | None:
    """Return the words of a text as they stand between single spaces; None where that is unsure."""
    if "  " in text or text[:1] == " " or text[-1:] == " " or _SPACE in text or "<" in text:
        return None
    return text.split(" ")


def _splits_at_spaces(tokenizer: Path) -> bool:
    """Return whether words give, one by one, the tokens that they give in their text.

    So it is where the tokenizer turns each space into a mark that begins the next word, and no
    token holds that mark behind another character: a word is then tokenised once, however often
    it occurs.
    """
    settings = _files.read_json(tokenizer)
    model, normalizer = settings.get("model") or {}, settings.get("normalizer") or {}
    kinds = [step.get("type") for step in normalizer.get("normalizers", ())]
    plain = settings.get("pre_tokenizer") is None and kinds == ["Prepend", "Replace"]
    if not plain or model.get("type") != "BPE":
        return False
    added = [str(token.get("content")) for token in settings.get("added_tokens", ())]
    return all("<" in token for token in added) and not any(
        _SPACE in token.lstrip(_SPACE) for token in model["vocab"]
    )


def wordllama(*, truncate_dim: int | None = None) -> StaticEncoder:
    """Return WordLlama's 256 static dimensions from the files of its package.

    The package itself is not imported: its loader reaches for the network.

    Raises
    ------
    MissingExtraError
        The package, or one of its two files, is not installed.
    """
    from safetensors.numpy import load_file

    folder = wordllama_folder()
    if folder is None:
        raise MissingExtraError(
            "wordllama is not installed: run `pip install 'fmcluster[packaged]'`"
        )
    weights, tokenizer = folder / _WEIGHTS, folder / _TOKENIZER
    return StaticEncoder(
        load_file(weights)[_KEY],
        tokenizer,
        name=WORDLLAMA,
        weights=_files.stable_hash([_files.digest_file(weights), _files.digest_file(tokenizer)]),
        truncate_dim=truncate_dim,
    )


def is_model2vec(folder: Path) -> bool:
    """Return whether a folder holds a static model of model2vec's format."""
    about = _files.read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    files = (folder / "tokenizer.json", folder / "model.safetensors")
    return about.get("model_type") == "model2vec" and all(file.is_file() for file in files)


def model2vec(
    folder: Path,
    *,
    name: str | None = None,
    revision: str | None = None,
    options: TextOptions | None = None,
) -> StaticEncoder:
    """Return a static model as model2vec saves it, read without that library and without torch.

    Raises
    ------
    ValueError
        Tensors that do not fit each other or the tokenizer, or options other than `truncate_dim`
        and `max_length`.
    """
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    asked = options or TextOptions()
    shown = name or folder.name
    refuse_options(shown, asked.asked, takes=("truncate_dim", "max_length"))
    tensors = load_file(folder / "model.safetensors")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    n_tokens = tokenizer.get_vocab_size()
    mapping = tensors.get("mapping", np.arange(n_tokens))
    weights = tensors.get("weights", np.ones(n_tokens))
    vectors = tensors.get("embeddings", np.empty((0, 0)))
    fits = len(mapping) == len(weights) == n_tokens and 0 <= mapping.min()
    if not fits or mapping.max() >= len(vectors):
        raise ValueError(
            f"{folder} has {n_tokens} tokens and {len(vectors)} vectors, {len(mapping)} places and "
            f"{len(weights)} weights of them: its files do not belong together, save it again"
        )
    # A vector for each token, its weight in it: vocabularies are small.
    table = vectors[mapping].astype(np.float32) * weights[:, None].astype(np.float32)
    unknown = _files.read_json(folder / "tokenizer.json").get("model", {}).get("unk_token")
    place = tokenizer.token_to_id(unknown) if unknown else None
    if place is not None:
        table[place] = 0  # what the tokenizer does not know has no part in the mean
    about = _files.read_json(folder / "config.json")
    return StaticEncoder(
        table,
        folder / "tokenizer.json",
        name=shown,
        weights=sources.folder_digest(folder),
        truncate_dim=asked.truncate_dim,
        limit=asked.max_length or about.get("max_length", MODEL2VEC_TOKENS),
        origin={
            **sources.origin(folder, name, revision),
            **({} if asked.max_length is None else {"max_length": asked.max_length}),
        },
    )


def wordllama_folder() -> Path | None:
    """Return the folder of the installed package, None where it or its files are not there."""
    found = importlib.util.find_spec("wordllama")
    if found is None or not found.origin:
        return None
    folder = Path(found.origin).parent
    return folder if all((folder / name).is_file() for name in (_WEIGHTS, _TOKENIZER)) else None
