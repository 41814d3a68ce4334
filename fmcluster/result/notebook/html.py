"""What a notebook shows of a result: sizes, names, confidence and three examples a cluster.

Everything of the data is escaped, colors are the notebook's own, and no script, style sheet or
address is in it, so that it reads the same in a notebook that is not trusted.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fmcluster.result.cluster import mean_confidence, names_of, ranked_rows
from fmcluster.result.loop.joined import is_readable
from fmcluster.result.report.items import Items, read_items

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult

# Clusters that are shown, largest first: two screens. With pictures that is about 100 kB.
MOST_SHOWN = 25
# Three show what they have in common, a line each; more make a row higher than its figures.
N_EXAMPLES = 3
# A line of the table; longer ones would wrap.
TEXT_LENGTH = 80
# Side of a picture: a table row stays one line high.
PICTURE_SIDE = 40
# Rows of raw data that are read through for a picture of a result that nobody asked for by name:
# a second of texts, a few seconds of stored images. Beyond that ids stand in.
MOST_READ = {"text": 50_000, "image": 5_000}
# Everything is inline, since notebooks take style sheets out and set tables to the right.
CELL = "padding:2px 8px;text-align:left;vertical-align:middle"
NUMBER = "padding:2px 8px;text-align:right;vertical-align:middle"
BAR = "display:block;height:4px;background:currentColor;opacity:.45"


def repr_html(result: ClusterResult) -> str:
    """Return the result as an HTML fragment, for notebooks."""
    sizes = result.sizes
    shown = np.argsort(-sizes, kind="stable")[:MOST_SHOWN]
    typical = [rows[:N_EXAMPLES] for rows in ranked_rows(result)]
    items, reason = _items(result, [typical[cluster] for cluster in shown])
    word = "confidence" if result.is_calibrated else "score"
    head = "".join(
        f'<th style="{style}">{text}</th>'
        for text, style in (
            ("cluster", NUMBER), ("name", CELL), ("rows", CELL), ("share", NUMBER),
            (word, NUMBER), ("typical rows", CELL),
        )
    )  # fmt: skip
    names, sure = names_of(result), mean_confidence(result)
    body = "".join(
        _row(
            cluster, names[cluster], sizes, float(sure[cluster]), result.n_rows,
            "".join(_example(result, items, int(row)) for row in typical[cluster]),
        )
        for cluster in shown.tolist()
    )  # fmt: skip
    return (
        f"<div><div>{_title(result, word)}</div>"
        f'<table style="border-collapse:collapse"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table><div>{_footer(result, shown, reason)}</div></div>"
    )


def _title(result: ClusterResult, word: str) -> str:
    parts = [
        f"<b>{result.n_rows:,} rows in {result.n_clusters:,} clusters</b>",
        f"head {escape(result.head.name)}",
        f"mean {word} {_percent(float(result.confidence.mean()))}"
        + ("" if result.is_calibrated else " (not calibrated)"),
    ]
    if len(result.answers):
        parts.append(f"{len(result.answers):,} answers")
    if result.edits:
        parts.append(f"{len(result.edits):,} edits")
    return " · ".join(parts)


def _row(
    cluster: int, name: str, sizes: NDArray[np.int64], sure: float, n_rows: int, examples: str
) -> str:
    size = int(sizes[cluster])
    width = round(100 * size / max(int(sizes.max()), 1), 1)
    return (
        f'<tr><td style="{NUMBER}">{cluster}</td>'
        f'<td style="{CELL}" dir="auto">{escape(name)}</td>'
        f'<td style="{CELL};min-width:6em">{size:,}<span style="{BAR};width:{width}%"></span></td>'
        f'<td style="{NUMBER}">{_percent(size / n_rows)}</td>'
        f'<td style="{NUMBER}">{_percent(sure) if np.isfinite(sure) else "-"}</td>'
        f'<td style="{CELL}">{examples}</td></tr>'
    )


def _example(result: ClusterResult, items: Items, row: int) -> str:
    name = escape(str(result.ids[row]), quote=True)
    content = items.show(row, TEXT_LENGTH)
    if "image" in content:
        return (
            f'<img src="{escape(content["image"], quote=True)}" alt="{name}" title="{name}" '
            'style="display:inline-block;margin:0 3px 0 0">'
        )
    return f'<div dir="auto" title="{name}">{escape(content.get("text") or name)}</div>'


def _items(result: ClusterResult, rows: list[NDArray[np.int64]]) -> tuple[Items, str]:
    """Return the examples' content, and why there is none."""
    nothing = Items(None, result.index)
    source = result.source
    if not is_readable(source):
        return nothing, "typical rows by their ids, the raw data are not at hand"
    most = MOST_READ.get(source.modality, MOST_READ["image"])
    try:
        if source.n_rows > most:
            return nothing, "typical rows by their ids; result.table() reads the raw data"
        items = read_items(source, result.index, rows)
    except (OSError, ValueError) as error:  # a cell that shows something is better than a traceback
        return nothing, f"typical rows by their ids, the raw data cannot be read: {error}"
    items.side = PICTURE_SIDE
    return items, items.missing_reason


def _footer(result: ClusterResult, shown: NDArray[np.int64], reason: str) -> str:
    notes = []
    if len(shown) < result.n_clusters:
        rest = np.delete(result.sizes, shown)
        notes.append(
            f"and {len(rest):,} smaller clusters of {rest.max():,} to {rest.min():,} rows: "
            "result.table() has all"
        )
    if len(result.novel):
        notes.append(f"{len(result.novel):,} rows in no cluster")
    return "<br>".join(escape(note) for note in [*notes, reason] if note)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
