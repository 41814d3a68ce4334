"""Small nasty files of the kinds that people really have, written into a folder.

Run as a script to look at them: ``python tests/corpus/make.py FOLDER``.
"""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image


class TextEncoder:
    """Two columns that tell texts apart: length and sum of code points, over 64."""

    modality = "text"
    fingerprint = "corpus-text"

    def encode(self, rows):
        return np.array([[len(row) / 64, sum(map(ord, row)) / 4096] for row in rows])


class ImageEncoder:
    """The mean color of an image."""

    modality = "image"
    fingerprint = "corpus-image"

    def encode(self, rows):
        assert {image.mode for image in rows} == {"RGB"}
        return np.array([np.asarray(image).reshape(-1, 3).mean(axis=0) for image in rows])


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def plain(color=(255, 0, 0), size=(6, 4)) -> Image.Image:
    return Image.new("RGB", size, color)


def make(root: Path) -> Path:
    """Write the whole corpus below `root` and return it."""
    texts(root / "texts")
    tables(root / "tables")
    images(root / "images")
    arrays(root / "arrays")
    return root


def texts(root: Path) -> None:
    root.mkdir(parents=True)
    lines = "naïve\nca\u00f1\u00f3n\n"
    (root / "utf8.txt").write_bytes(lines.encode())
    (root / "bom.txt").write_bytes(lines.encode("utf-8-sig"))
    (root / "utf16.txt").write_bytes(lines.encode("utf-16"))
    (root / "utf16le.txt").write_bytes(lines.encode("utf-16-le"))
    (root / "cp1252.txt").write_bytes(lines.encode("cp1252"))
    (root / "none.txt").write_bytes(b"caf\x81\n")
    half = json.dumps({"text": "a"}) + '\n{"text": "cut \\ud83d"}\n' + json.dumps({"text": "b"})
    (root / "surrogate.jsonl").write_text(half)


def tables(root: Path) -> None:
    root.mkdir(parents=True)
    rows = [("01", "a, b", "x"), ("1", "c", "NA"), ("00000", "d; e", "x")]
    for name, sep, encoding in (
        ("comma.csv", ",", "utf-8"),
        ("semicolon.csv", ";", "utf-8"),
        ("tab.csv", "\t", "utf-8-sig"),
        ("tab.tsv", "\t", "utf-8"),
        ("bar.csv", "|", "utf-16"),
    ):
        frame = pd.DataFrame(rows, columns=["id", "text", "label"])
        frame.to_csv(root / name, sep=sep, index=False, encoding=encoding)
    (root / "excel.csv").write_text("sep=;\nid;text;label\n01;a, b;x\n1;c;NA\n00000;d;x\n")
    (root / "cp1252.csv").write_bytes("text,label\ncafé,x\n".encode("cp1252"))
    (root / "more.csv").write_text("text,label\na,x\nb,y,\n")
    (root / "fewer.csv").write_text("text,label\na,x\nb\n")
    (root / "unquoted.csv").write_text("text,label\na,x\none, two,y\n")
    (root / "unclosed.csv").write_text('text,label\na,x\n"b,y\nc,z\n')
    (root / "long.csv").write_text("text,label\n" + "x" * 200_000 + ",y\n")
    (root / "lines.csv").write_text('text,label\n"two\nlines",x\n\nlast,y')
    (root / "vectors.csv").write_text('v,label\n"[0.1, 0.2]",x\n"[1e-3, 4]",y\n')
    hashes = np.array([2**63 + 1, 5, 2**64 - 1], np.uint64)
    pd.DataFrame({"id": hashes, "text": ["a", "b", "c"]}).to_parquet(root / "hash.parquet")
    split = root / "split"
    split.mkdir()
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        pd.DataFrame({"text": [name]}).to_parquet(split / f"{name}.parquet")
    two = root / "two"
    two.mkdir()
    pd.DataFrame({"text": ["a"]}).to_parquet(two / "a.parquet")
    pd.DataFrame({"title": ["b"]}).to_parquet(two / "b.parquet")


def images(root: Path) -> None:
    root.mkdir(parents=True)
    plain().save(root / "private.png")
    folder = root / "folder"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.jpg", "b.jfif", "sub/c.jpe", "d.JPG"):
        (folder / name).write_bytes(encoded(plain(), "JPEG"))
    (folder / "notes.md").write_text("not an image")
    if os.name == "posix":
        linked = root / "linked"
        linked.mkdir()
        (linked / "photos").symlink_to(folder)
        (folder / "sub" / "loop").symlink_to(folder)
        odd = root / "odd"
        odd.mkdir()
        (odd / "good.png").write_bytes(encoded(plain()))
        os.mkfifo(odd / "pipe.png")
        (odd / "zero.png").symlink_to("/dev/zero")
        (odd / "script.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
        named = root / "named"
        named.mkdir()
        (named / os.fsdecode(b"caf\xe9.png")).write_bytes(encoded(plain()))
    lists = root / "lists"
    lists.mkdir()
    (lists / "a.png").write_bytes(encoded(plain((0, 255, 0))))
    (lists / "index.csv").write_text("file,label\ngone.png,x\na.png,y\n")
    (lists / "lost.csv").write_text("file,label\ngone.png,x\nfar.png,y\n")
    for name, path in (("up", "../private.png"), ("absolute", str(root / "private.png"))):
        rows = [{"bytes": None, "path": "lists/a.png"}, {"bytes": None, "path": path}]
        pd.DataFrame({"image": rows}).to_parquet(root / f"{name}.parquet")


def arrays(root: Path) -> None:
    root.mkdir(parents=True)
    X = np.arange(12, dtype=np.float64).reshape(4, 3)
    np.save(root / "x.npy", X)


TOPICS = {"apple": (200, 30, 30), "ball": (30, 200, 30), "coin": (30, 30, 200)}
N_TICKETS = 36
WRONG = 7  # the row whose label is another topic's


class TopicEncoder:
    """Texts by the topic they name, images by their mean color; rows differ a little."""

    fingerprint = "corpus-topics"

    def encode(self, rows):
        return np.array([self._one(row) for row in rows])

    def _one(self, row):
        if isinstance(row, str):
            near = [10.0 * (name in row) for name in TOPICS]
            return [*near, len(row) / 20, sum(map(ord, row)) % 7 / 20]
        return [*np.asarray(row).reshape(-1, 3).mean(axis=0) / 20, 0.0, 0.0]


def tickets() -> pd.DataFrame:
    """Return rows of three topics whose ids look like row numbers and are none."""
    draw = np.random.default_rng(0)
    names = list(TOPICS)
    topics = [names[i % 3] for i in range(N_TICKETS)]
    texts = [f"a, {topic}; =sum({i})\nand {'é' * (i % 5)}" for i, topic in enumerate(topics)]
    labels = [names[(i + (i == WRONG)) % 3] for i in range(N_TICKETS)]
    ticket = draw.permutation(N_TICKETS)
    return pd.DataFrame({"ticket": ticket, "text": texts, "label": labels, "topic": topics})


def ticket_files(root: Path) -> dict[str, pd.DataFrame]:
    """Write the tickets in many forms; return what the rows of each are, by its path."""
    root.mkdir(parents=True)
    frame = tickets()
    text = frame.assign(ticket=[f"{i:03d}" for i in frame.ticket])
    large = frame.assign(ticket=(frame.ticket.to_numpy().astype(np.uint64) + np.uint64(2**63)))
    frame.to_csv(root / "comma.csv", index=False)
    text.to_csv(root / "semicolon.csv", sep=";", index=False, encoding="utf-16")
    frame.to_csv(root / "old.tsv", sep="\t", index=False, encoding="cp1252")
    large.to_parquet(root / "hash.parquet")
    lines = [json.dumps(row) for row in text.to_dict(orient="records")]
    (root / "lines.jsonl").write_text("\ufeff" + "\n\n".join(lines), encoding="utf-8")
    found = {
        "comma.csv": frame,
        "semicolon.csv": text,
        "old.tsv": frame,
        "hash.parquet": large.assign(ticket=large.ticket.astype(str)),
        "lines.jsonl": text,
    }
    folder = root / "photos"
    for number, row in enumerate(frame.itertuples()):
        place = folder / row.label / f"{row.ticket:03d}.jfif"
        place.parent.mkdir(parents=True, exist_ok=True)
        color = [value + number % 5 for value in TOPICS[row.topic]]
        place.write_bytes(encoded(plain(tuple(color)), "JPEG"))
    places = [f"{row.label}/{row.ticket:03d}.jfif" for row in frame.itertuples()]
    found["photos"] = frame.assign(ticket=places)
    listed = frame.assign(text=places)
    listed.to_csv(folder / "index.csv", index=False)
    found["photos/index.csv"] = listed
    (folder / "index.jsonl").write_text(listed.to_json(orient="records", lines=True))
    found["photos/index.jsonl"] = listed
    absolute = frame.assign(text=[str(folder / place) for place in places])
    absolute.to_csv(root / "absolute.csv", index=False)
    found["absolute.csv"] = absolute
    return found


def modes() -> dict[str, tuple[Image.Image, tuple[float, float, float]]]:
    """Pictures of every mode, and the mean color that an encoder has to see."""
    logo = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    logo.paste((0, 0, 0, 255), (0, 0, 2, 4))
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([10, 20, 30])
    clear = palette.copy()
    clear.info["transparency"] = 0
    key = plain((1, 2, 3))
    key.info["transparency"] = (1, 2, 3)
    return {
        "RGB": (plain((1, 2, 3)), (1, 2, 3)),
        "RGB with a key color": (key, (255, 255, 255)),
        "RGBA logo": (logo, (127.5, 127.5, 127.5)),
        "LA": (Image.new("LA", (2, 2), (9, 0)), (255, 255, 255)),
        "P": (palette, (10, 20, 30)),
        "P transparent": (clear, (255, 255, 255)),
        "1": (Image.new("1", (2, 2), 1), (255, 255, 255)),
        "I;16": (Image.fromarray(np.full((2, 2), 257 * 40, np.uint16)), (40, 40, 40)),
        "I": (Image.new("I", (2, 2), 257 * 40), (40, 40, 40)),
        "I beyond 16 bits": (Image.new("I", (2, 2), 10**6), (255, 255, 255)),
        "F": (Image.new("F", (2, 2), 0.2), (51, 51, 51)),
        "CMYK": (Image.new("CMYK", (2, 2), (0, 0, 0, 0)), (255, 255, 255)),
    }


if __name__ == "__main__":
    make(Path(sys.argv[1]))
