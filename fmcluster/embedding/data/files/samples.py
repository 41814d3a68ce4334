"""Archives whose files belong together by name (WebDataset): a row a key, a column an ending.

``000001.jpg``, ``000001.txt`` and ``000001.json`` are one row, named ``000001``. Columns are called
by the endings (``jpg``, or ``jpg;png`` for any of them), by kind (``image``, ``audio``, ``text``),
or by a field of the JSON file (``json.caption``).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from fmcluster.embedding.data.columns import Reader
from fmcluster.embedding.data.files.archives import is_hidden, member_bytes, members, names_in
from fmcluster.embedding.data.ids import column_from_text, ids_of_paths
from fmcluster.embedding.data.media import MEDIA, media_of_name, suffixes_of
from fmcluster.utils.errors import DataError

# Endings whose content is a text.
TEXTS = ("txt", "text", "caption", "cls", "transcript")
KEY = "__key__"


@dataclass(frozen=True)
class Samples:
    """The samples of one or several archives.

    Attributes
    ----------
    paths : list of Path
        The archives.
    keys : list of list of str
        The samples of each archive, in its order.
    endings : list of str
        All endings that there are.
    fields : list of str
        ``json.NAME`` for each field of the first sample's JSON file.
    """

    paths: list[Path]
    keys: list[list[str]]
    endings: list[str]
    fields: list[str]

    @property
    def columns(self) -> list[str]:
        """What a column may be called."""
        return [*self.endings, *self.fields]

    def ids(self) -> list[str]:
        """Return the keys; with their archive's name where a key is in several."""
        flat = list(itertools.chain(*self.keys))
        if len(set(flat)) < len(flat):
            named = zip(self.paths, self.keys, strict=True)
            flat = [f"{path.name.partition('.')[0]}/{key}" for path, keys in named for key in keys]
        return ids_of_paths(flat)

    def endings_of(self, column: str) -> tuple[str, ...]:
        """Return the endings that a column's files have; of a field, that of the JSON file."""
        if column in self.fields:
            return (column.partition(".")[0],)
        if column in MEDIA:
            known = {suffix.lstrip(".") for suffix in suffixes_of(column)}
            return tuple(e for e in self.endings if e.rpartition(".")[2].lower() in known)
        if column == "text" and "text" not in self.endings:
            return tuple(e for e in self.endings if e in TEXTS[:1])
        return tuple(e for e in self.endings if e in column.split(";"))

    def media_of(self, column: str) -> str | None:
        """Return "image" or "audio" where a column's files are of that kind."""
        kinds = {media_of_name(f"x.{ending}") for ending in self.endings_of(column)}
        return None if column in self.fields else next((m for m in MEDIA if m in kinds), None)


def key_of(name: str) -> tuple[str, str]:
    """Return a file's key and ending: its path up to the first point of its name, and the rest.

    >>> key_of("a.b/000001.seg.png")
    ('a.b/000001', 'seg.png')
    """
    path = PurePosixPath(name)
    stem, _, ending = path.name.partition(".")
    return path.with_name(stem).as_posix() if stem else name, ending


def open_samples(paths: Sequence[Path], column: str) -> Reader:
    """Read a column of the samples of archives.

    Raises
    ------
    DataError
        An archive cannot be read, has no such column, or a key's files lie apart.
    """
    samples = _listed(list(paths))
    if not samples.endings_of(column):
        raise DataError(
            f"no column {column!r} in {paths[0]}: it has {', '.join(samples.columns[:20])}"
        )

    def values_of(other: str) -> Sequence[Any]:
        if other == KEY:
            return samples.ids()
        if not samples.endings_of(other):
            raise DataError(f"no column {other!r}: the data has {', '.join(samples.columns[:20])}")
        found = list(_values(samples, other))
        plain = all(isinstance(value, str) for value in found)
        return column_from_text([v.strip() for v in found]) if plain else found

    return Reader(
        lambda start: itertools.islice(_values(samples, column), start, None),
        sum(map(len, samples.keys)),
        column,
        ids=samples.ids(),
        values_of=values_of,
        seekable=False,
        files=tuple(paths),
        media=samples.media_of(column),
    )


def _listed(paths: list[Path]) -> Samples:
    """Return the samples by the names of the files alone, and the fields of the first JSON."""
    keys: list[list[str]] = []
    endings: dict[str, None] = {}
    for path in paths:
        own: dict[str, None] = {}
        last = ""
        for name in names_in(path):
            if is_hidden(name):
                continue
            key, ending = key_of(name)
            if not ending:
                continue
            if key in own and key != last:
                raise DataError(
                    f"{path}: the files of {key!r} lie apart, {name!r} is behind those of "
                    f"{last!r}: pack the archive sorted by name"
                )
            own[key], endings[ending], last = None, None, key
        if not own:
            raise DataError(f"{path} holds no samples: no file in it has an ending")
        keys.append(list(own))
    told = Samples(paths, keys, list(endings), [])
    fields = []
    for ending in (each for each in endings if each.rpartition(".")[2] == "json"):
        first = next((v for v in _contents(told, (ending,)) if v is not None), b"")
        try:
            value = json.loads(first)
        except ValueError:
            continue  # the row itself will be named
        fields += [f"{ending}.{name}" for name in value] if isinstance(value, dict) else []
    return Samples(paths, keys, list(endings), fields)


def _contents(samples: Samples, endings: tuple[str, ...]) -> Iterator[bytes | None]:
    """Yield the bytes of the first file of these endings, or None, for each sample in order."""
    for path, keys in zip(samples.paths, samples.keys, strict=True):
        number, found = 0, None
        for name, opened in members(path):
            key, ending = key_of(name)
            if is_hidden(name) or not ending:
                continue
            while keys[number] != key:  # the sample before it is whole
                yield found
                number, found = number + 1, None
            if ending in endings and found is None:
                found = member_bytes(opened)
        for _ in keys[number:]:
            yield found
            found = None


def _values(samples: Samples, column: str) -> Iterator[Any]:
    """Yield a column's values: bytes of files, texts, or fields of JSON."""
    media, endings = samples.media_of(column), samples.endings_of(column)
    for content in _contents(samples, endings):
        if content is None or media:
            yield content
            continue
        # What is not UTF-8 becomes half characters, which no encoder takes: the row is named.
        text = content.decode("utf-8", "surrogateescape")
        yield _field(text, column.partition(".")[2]) if column in samples.fields else text


def _field(text: str, name: str) -> Any:
    """Return a field of a JSON object; of what is none, a text that names the row when read."""
    try:
        value: Any = json.loads(text)
    except ValueError:
        return "\udc80 no JSON"
    return value.get(name) if isinstance(value, Mapping) else None
