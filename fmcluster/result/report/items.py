"""The raw rows a page shows: texts cut short, images as thumbnails, recordings as short clips."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.embedding.data.audio import is_recording, playable, to_sound
from fmcluster.embedding.data.values import is_pil, read_image
from fmcluster.utils.ids import IdIndex

# Side of a thumbnail by how many are shown: even noise, which hardly compresses, stays small.
THUMBNAIL_SIDES = ((600, 64), (1_200, 48), (10**9, 32))
# Side of a picture on the map: 2,500 of them are one JPEG of about 2 MB.
SPRITE_SIDE = 32
# Of a recording so much is enough to know it by: 300 clips are 6 MB.
CLIP_SECONDS = 4.0
# Side of the pictures that are held until the page is made: twice a thumbnail's, 48 kB each.
HELD_SIDE = 128


class Items:
    """Raw rows by row number of a result.

    Parameters
    ----------
    items : Source, sequence or None
        Where the raw rows are. A `Source` names its rows and is asked by these names; a sequence
        is in the order of the result's rows, or of the data where ids are its row numbers.
    index : IdIndex
        Rows of the result by id.
    """

    def __init__(self, items: Any, index: IdIndex) -> None:
        self.items = items
        self.index = index
        self.kind = "none"
        self.missing_reason = "" if items is not None else "no raw data was given"
        self.side = THUMBNAIL_SIDES[0][1]
        self._rows: dict[int, Any] = {}
        if items is not None:
            self.kind = _kind(items, next(iter(items), None))
            if self.kind == "none":
                self.missing_reason = "the data are embeddings: texts or pictures come by items="

    def load(self, rows: NDArray[np.int64], *, n_examples: int = 0) -> None:
        """Read the rows that will be shown, in one pass; `n_examples` of them as thumbnails."""
        self.side = next(side for most, side in THUMBNAIL_SIDES if n_examples <= most)
        if self.items is None or self.kind == "none":
            return
        positions = self._positions(rows)
        if not positions:
            return
        decode = getattr(self.items, "decode", None)
        for position, raw in enumerate(itertools.islice(iter(self.items), max(positions) + 1)):
            row = positions.get(position)
            if row is not None:
                if decode is not None:
                    raw = decode([raw], position, on_error="skip").rows[0]
                self._rows[row] = _held(raw)

    def _positions(self, rows: NDArray[np.int64]) -> dict[int, int]:
        """Return the place in the items of each row: {place: row}, by name and never by number."""
        names = getattr(self.items, "ids", None)
        if callable(names):
            return self._positions_of_names(rows, names)
        count = len(self.items) if hasattr(self.items, "__len__") else self.index.n_source
        if count == len(self.index.ids):
            return {int(row): int(row) for row in rows}
        if count == self.index.n_source and self.index.are_positions:
            return {int(self.index.ids[row]): int(row) for row in rows}
        return self._none(f"{count} items were given for {len(self.index.ids)} rows")

    def _positions_of_names(self, rows: NDArray[np.int64], names: Any) -> dict[int, int]:
        count = self.items.n_rows
        if count is None:  # a stream of unknown length: rows are numbered as they come
            if not self.index.are_positions:
                return self._none("the stream does not name its rows")
            return {int(self.index.ids[row]): int(row) for row in rows}
        if getattr(self.items, "numbers_rows", False) and not self.index.are_positions:
            return self._none(
                f"rows of the data have no ids, those of the result are names such as "
                f"{self.index.ids[0].item()!r}: name the id column"
            )
        found = self.index.find(names(0, count))
        wanted = np.isin(found, rows)
        return {int(place): int(found[place]) for place in np.flatnonzero(wanted)}

    def _none(self, reason: str) -> dict[int, int]:
        self.kind, self.missing_reason = "none", reason
        return {}

    def text(self, row: int, length: int) -> str:
        """Return the row's text, cut; empty for images and missing rows."""
        value = self._rows.get(row)
        if not isinstance(value, str):
            return ""
        value = " ".join(value.split())
        return value if len(value) <= length else value[: length - 1] + "…"

    def show(self, row: int, length: int) -> dict[str, str]:
        """Return what a page shows of a row: ``text``, or a data URL, ``image`` or ``audio``."""
        value = self._rows.get(row)
        if value is None:
            return {}
        if isinstance(value, str):
            return {"text": self.text(row, length)}
        if isinstance(value, Clip):
            return {"audio": value.url}
        return {"image": thumbnail(value, self.side)}

    def sprite(self, rows: list[int]) -> str | None:
        """Return one JPEG of small pictures of these rows in order, for the map; None for texts."""
        if self.kind != "image" or not rows:
            return None
        from PIL import Image

        columns = int(np.ceil(np.sqrt(len(rows))))
        sheet = Image.new("RGB", (columns * SPRITE_SIDE, columns * SPRITE_SIDE))
        for place, row in enumerate(rows):
            value = self._rows.get(row)
            if value is not None:
                small = value.convert("RGB").resize((SPRITE_SIDE, SPRITE_SIDE))
                sheet.paste(small, (place % columns * SPRITE_SIDE, place // columns * SPRITE_SIDE))
        # At 32 pixels blocks are hardly seen; higher is a larger page.
        return _data_url(sheet, quality=55)


def read_items(items: Any, index: IdIndex, rows: Sequence[NDArray[np.int64]]) -> Items:
    """Return the texts or pictures of the rows of some clusters; `items` None stands for none."""
    found = Items(items, index)
    wanted = np.unique(np.concatenate([*rows, np.empty(0, np.int64)])).astype(np.int64)
    found.load(wanted, n_examples=len(wanted))
    return found


@dataclass(frozen=True)
class Clip:
    """The beginning of a recording, as what an audio element plays."""

    url: str


def _kind(items: Any, first: Any) -> str:
    modality = getattr(items, "modality", None)
    if modality == "embedding":
        return "none"
    if modality in ("text", "image", "audio"):
        return str(modality)
    if isinstance(first, str):
        return "text"
    return "audio" if is_recording(first) else "image"


def _held(row: Any) -> Any:
    """Return what is held of a row until the page is made: little, for hundreds are."""
    if row is None or isinstance(row, str):
        return row
    return _clip(row) if is_recording(row) else _shrunk(row)


def _clip(row: Any) -> Clip:
    content, mime = playable(to_sound(row), seconds=CLIP_SECONDS)
    return Clip(f"data:{mime};base64," + base64.b64encode(content).decode())


def _shrunk(image: Any) -> Any:
    """Return a picture no larger than is needed of it: hundreds are held until the page is made."""
    if not is_pil(image) or max(image.size) <= HELD_SIDE:
        return image
    decoded = read_image(image)  # one that was opened by name stays unread
    small = decoded.copy() if decoded is image else decoded
    small.thumbnail((HELD_SIDE, HELD_SIDE))
    return small


# As the largest of `THUMBNAIL_SIDES`: smaller is hard to know, larger makes pages large.
def thumbnail(image: Any, side: int = 64) -> str:
    """Return a picture as a small data URL."""
    from PIL import Image

    small = image.convert("RGB")
    if max(small.size) < side:
        factor = side // max(small.size)
        small = small.resize(
            (small.width * factor, small.height * factor), Image.Resampling.NEAREST
        )
    small.thumbnail((side, side))
    # Blocks are seen below it; higher is a larger page.
    return _data_url(small, quality=70)


def _data_url(image: Any, *, quality: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
