"""Sublinear TF-IDF with a truncated SVD: a second space for texts, fitted on the data.

    w_ij = (1 + ln tf_ij) * (ln((1 + n) / (1 + df_j)) + 1),   z_i = w_i V_d / ||w_i V_d||

with V_d the d leading right singular vectors. Beside a sentence encoder it brings in the words
themselves (the co-trained view of COTC, EMNLP 2024).

Words are those of `fmcluster.utils.words`, in any script, without the stop words of the languages
that the texts are in. What was fitted before that (rules 1: English alone) loads and encodes as it
did.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError

from fmcluster.utils import files as _files
from fmcluster.utils.errors import CorruptShardError
from fmcluster.utils.words import RULES, Tokenizer, check_languages, main_languages, stop_words
from fmcluster.utils.words.tokens import FIRST_PATTERN

# Texts that a term must be in: rarer ones are typing errors and names, and half of a vocabulary.
MIN_DF = 3
# Rows that vocabulary and directions are learnt from: memory stays bounded, and both have
# settled long before.
FIT_ROWS = 200_000


class TfidfEncoder:
    """TF-IDF, SVD, unit rows: an Encoder that is fitted before it encodes.

    Parameters
    ----------
    dim : int
        Directions kept; fewer where the data have fewer rows or terms.
    random_state : int
        Seed of the SVD's start and of the sample where there are more than 200,000 texts.
    language : str or sequence of str
        ISO 639-1 codes whose stop words are left out; "auto" finds the languages of the texts.

    Notes
    -----
    A text without a known word has no direction: its row is zero.
    """

    def __init__(
        self, *, dim: int = 128, random_state: int = 0, language: str | Sequence[str] = "auto"
    ) -> None:
        self.dim: int | None = dim
        self.random_state = random_state
        self.modality: str | None = "text"
        self.spec: dict[str, Any] = {"encoder": "tfidf", "modality": "text"}
        self.languages = check_languages(language)
        if self.languages is not None:
            self.spec["language"] = list(self.languages)
        self._asked = "found" if self.languages is None else "+".join(self.languages)
        self._rules = RULES
        self.fitted = False
        self._vectorizer: Any = None
        self._idf: NDArray[np.float64] | None = None
        self._directions: NDArray[np.float32] | None = None
        self._min_df = MIN_DF

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Settings and, once fitted, the digest of vocabulary, weights and directions."""
        return {
            "encoder": "tfidf",
            "weights": self._digest() if self.fitted else None,
            "preprocessing": self._preprocessing(),
            "pooling": f"svd {self.dim}",
            "normalisation": "l2",
            "precision": "fp32",
            "truncation": None,
        }

    def fit(self, texts: Iterable[str]) -> TfidfEncoder:
        """Learn vocabulary, weights and directions from `texts`.

        Raises
        ------
        ValueError
            No text holds a word.
        """
        from sklearn.decomposition import TruncatedSVD

        rows = _sample(texts, FIT_ROWS, self.random_state)
        if self._asked == "found":
            self.languages = main_languages(rows)
        counts, self._min_df = self._learn_words(rows)
        frequency = np.asarray((counts > 0).sum(axis=0)).ravel()
        self._idf = np.log((1 + counts.shape[0]) / (1 + frequency)) + 1
        weights = self._weigh(counts)
        dim = max(1, min(int(self.dim or 1), weights.shape[0] - 1, weights.shape[1] - 1))
        if weights.shape[1] == 1:
            directions = np.ones((1, 1))
        else:
            # Seven power iterations: what scikit-learn takes by itself for few components.
            svd = TruncatedSVD(dim, n_iter=7, random_state=self.random_state)
            directions = svd.fit(weights).components_
        self._directions = np.ascontiguousarray(directions.T, dtype=np.float32)
        self.dim = self._directions.shape[1]
        self.fitted = True
        return self

    def encode(self, rows: list[Any]) -> NDArray[np.float32]:
        """Return unit rows (n, d) float32 of texts.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        """
        if self._directions is None:
            raise NotFittedError("the tfidf encoder is fitted on the data first: call fit(texts)")
        values = self._weigh(self._vectorizer.transform(list(rows))) @ self._directions
        norms = np.linalg.norm(values, axis=1, keepdims=True)
        return (values / np.where(norms > 1e-12, norms, 1.0)).astype(np.float32)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return what :meth:`from_state` needs: arrays, and a JSON-able dict."""
        if self._directions is None or self._idf is None:
            raise NotFittedError("the tfidf encoder has no state before fit(texts)")
        arrays: dict[str, NDArray[Any]] = {"idf": self._idf, "directions": self._directions}
        return arrays, {
            "vocabulary": list(map(str, self._vectorizer.get_feature_names_out())),
            "min_df": self._min_df,
            "random_state": self.random_state,
            "rules": self._rules,
            "languages": list(self.languages or ()),
            "language": self._asked,
        }

    @classmethod
    def from_state(cls, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> TfidfEncoder:
        """Return the encoder that was saved.

        Raises
        ------
        CorruptShardError
            Arrays and vocabulary do not fit each other.
        """
        terms, directions = list(meta["vocabulary"]), np.asarray(arrays["directions"], np.float32)
        idf = np.asarray(arrays["idf"], np.float64)
        if directions.ndim != 2 or not len(terms) == len(idf) == len(directions):
            raise CorruptShardError(
                f"a tfidf state of {len(terms)} terms has weights {idf.shape} and directions "
                f"{directions.shape}: it is damaged"
            )
        found = cls(dim=directions.shape[1], random_state=int(meta["random_state"]))
        found._rules = int(meta.get("rules", 1))
        if found._rules > RULES:
            raise CorruptShardError(
                f"a tfidf state follows rules {found._rules}, this version knows {RULES}: update "
                "fmcluster"
            )
        found.languages = tuple(meta.get("languages", ("en",)))
        found._asked = str(meta.get("language", "found"))
        if found._asked != "found":
            found.spec["language"] = list(found.languages)
        found._vectorizer = found._counter(min_df=1, vocabulary=terms)
        found._min_df = int(meta["min_df"])
        found._idf, found._directions, found.fitted = idf, directions, True
        return found

    def _learn_words(self, rows: list[str]) -> tuple[Any, int]:
        """Return counts (n, terms); terms of one text only are kept where all are that rare."""
        for min_df in (MIN_DF, 1):
            self._vectorizer = self._counter(min_df=min_df, vocabulary=None)
            try:
                counts = self._vectorizer.fit_transform(rows)
            except ValueError:
                continue
            # Fewer terms than these say nothing of most texts of a small set.
            if min_df == 1 or (len(rows) >= 100 and counts.shape[1] >= 16):
                return counts, min_df
        raise ValueError(
            f"none of {len(rows)} texts holds a word beyond stop words "
            f"({', '.join(self.languages or ())}): tfidf has nothing to learn, leave it out"
        )

    def _counter(self, *, min_df: int, vocabulary: list[str] | None) -> Any:
        """Return the word counter by the encoder's rules."""
        from sklearn.feature_extraction.text import CountVectorizer

        analyzer = Tokenizer(stop_words(self.languages or ()), rules=self._rules)
        return CountVectorizer(analyzer=analyzer, min_df=min_df, vocabulary=vocabulary)

    def _preprocessing(self) -> str:
        """Return what makes tokens of texts, for the fingerprint."""
        if self._rules == 1:
            return f"lowercase;english stop words;{FIRST_PATTERN};sublinear tf-idf"
        return f"words {self._rules};stop words {self._asked};sublinear tf-idf"

    def _weigh(self, counts: Any) -> Any:
        """Return unit rows of sublinear TF-IDF from counts (n, terms), sparse."""
        from sklearn.preprocessing import normalize

        weights = counts.astype(np.float64, copy=True).tocsr()
        np.log(weights.data, out=weights.data)
        weights.data += 1
        weights.data *= np.asarray(self._idf)[weights.indices]
        return normalize(weights, copy=False)

    def _digest(self) -> str:
        arrays, meta = self.state()
        parts = [_files.digest_bytes(np.ascontiguousarray(a).tobytes()) for a in arrays.values()]
        return _files.stable_hash([meta["vocabulary"], parts])


def _sample(texts: Iterable[str], limit: int, seed: int) -> list[str]:
    """Return all texts, or a seeded uniform sample of `limit`, in one pass (reservoir)."""
    generator = np.random.default_rng(seed)
    kept: list[str] = []
    for number, text in enumerate(texts):
        if number < limit:
            kept.append(text)
        elif (slot := int(generator.integers(number + 1))) < limit:
            kept[slot] = text
    return kept
