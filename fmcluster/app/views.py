"""What the page is shown of a session, as plain JSON values and flat arrays."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.result.cluster import mean_confidence, names_of, ranked_rows

if TYPE_CHECKING:
    from fmcluster.app.session import Session
    from fmcluster.result.report.confusion import Confusions
    from fmcluster.result.result import ClusterResult

# Rows that stand for a cluster in the list.
# Three show what they have in common; more make the list a long one.
EXAMPLES = 3
# A leading one of these makes a spreadsheet run the cell as a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def figures_of(result: ClusterResult) -> dict[str, float]:
    """Return the expected accuracy and the share of rows that are right to 95 %, with ranges."""
    from fmcluster.result.expected import expected  # the page is there before it is imported

    told, figures = expected(result), {"n_clusters": float(result.n_clusters)}
    for name, each in (("accuracy", told.accuracy), ("covered", told.usable)):
        figures[name] = round(each.value, 4)
        figures[name + "_low"], figures[name + "_high"] = round(each.low, 4), round(each.high, 4)
    return figures


def state(session: Session) -> dict[str, Any]:
    """Return what changes by actions, in a few hundred bytes."""
    from fmcluster.app import incoming

    with session.lock:
        result, sample = session.result, session.sample
        return {
            "version": session.version,
            "rows": result.n_rows,
            "title": session.folder.name,
            "kind": session.rows.kind,
            "word": "confidence" if result.is_calibrated else "score",
            "figures": figures_of(result),
            "answers": len(session.wanted),
            "pending": max(0, session.n_pending),
            "classes": _classes(session),
            # Three lines: what the last answers did, not the history.
            "changes": session.changes[-3:][::-1],
            "problem": session.problem,
            "lost": session.lost,
            "edits": len(result.edits),
            "can_undo": session.can_undo,
            "last": session.actions[-1].op if session.actions else None,
            "is_saved": session.is_saved,
            "can_answer": result.embeddings is not None,
            "takes": {"reason": incoming.why_not(result), "files": incoming.suffixes(result)},
            "sample": None
            if sample is None
            else {"rows": len(sample.ids), "left": len(sample.left), "accuracy": sample.accuracy},
        }


def clusters(session: Session) -> list[dict[str, Any]]:
    """Return a record for each cluster, with rows that stand for it and what it is taken for."""
    from fmcluster.result.report.confusion import find_confusions
    from fmcluster.result.report.typical import chooser

    result = session.result
    sizes, names = result.sizes, names_of(result)
    sure, ranked = np.nan_to_num(mean_confidence(result)), ranked_rows(result)
    choose, confusions = chooser(result), find_confusions(result)
    pairs = {(pair.a, pair.b) for pair in confusions.pairs if pair.may_be_one}
    return [
        {
            "label": label,
            "name": names[label],
            "size": int(sizes[label]),
            "confidence": round(float(sure[label]), 4),
            "confused": _confused(confusions, label, pairs),
            "examples": rows(session, choose(ranked[label], EXAMPLES)),
        }
        for label in range(result.n_clusters)
    ]


def _confused(
    confusions: Confusions, label: int, pairs: set[tuple[int, int]]
) -> list[dict[str, Any]]:
    return [
        {
            "label": other,
            "rows": round(count, 1),
            "may_be_one": (label, other) in pairs or (other, label) in pairs,
        }
        for other, count in confusions.of(label)[:1]
    ]


# Of a text, as of one in a list: `SHORT` of `app.rows`.
def rows(
    session: Session, numbers: NDArray[np.int64], *, length: int = 240
) -> list[dict[str, Any]]:
    """Return what the page shows of some rows."""
    result = session.result
    shown = session.rows.show(numbers, length=length)
    return [
        {
            "row": row,
            "id": str(result.ids[row]),
            "label": int(result.labels[row]),
            "confidence": round(float(result.confidence[row]), 4),
            **item,
        }
        for row, item in zip(numbers.tolist(), shown, strict=True)
    ]


def colors(session: Session, *, n_clusters: int | None = None) -> bytes:
    """Return int32 labels (n,), then uint8 confidence, outlier score and class (n,) of 0..255 each.

    Classes are numbered from 1 in the order of the state's ``classes``; 0 is a row without an
    answer, and the 255th and later classes look alike.

    Parameters
    ----------
    n_clusters : int, optional
        Labels of this level in place of the present clusters.
    """
    result = session.result if n_clusters is None else session.at_level(n_clusters)
    odd = np.zeros(result.n_rows) if session.result.graph is None else session.result.outlier_score
    told = session.wanted.labels
    number = {name: at for at, name in enumerate(_classes(session), 1)}
    classes = np.zeros(result.n_rows, np.uint8)
    # A byte each: classes after that are marked alike.
    named = [min(number[str(value)], 255) for value in told.values()]
    classes[result.index.find(list(told))] = named
    parts = (result.labels.astype("<i4"), _bytes(result.confidence), _bytes(odd), classes)
    return b"".join(part.tobytes() for part in parts)


def _classes(session: Session) -> list[str]:
    return sorted({str(c) for c in session.wanted.classes})


def _bytes(share: NDArray[Any]) -> NDArray[np.uint8]:
    return np.clip(np.rint(255 * np.asarray(share)), 0, 255).astype(np.uint8)


def level(session: Session, n_clusters: int) -> list[dict[str, Any]]:
    """Return number, name and size of each cluster of a level."""
    result = session.at_level(n_clusters)
    found = zip(names_of(result), result.sizes.tolist(), strict=True)
    return [{"label": c, "name": name, "size": size} for c, (name, size) in enumerate(found)]


# A few screens of rows; further neighbors are less and less alike.
def similar(session: Session, row: int, *, count: int = 50) -> list[dict[str, Any]]:
    """Return the row and its nearest neighbors with their cosine, nearest first.

    Raises
    ------
    ValueError
        The result has no neighbor graph.
    """
    graph = session.result.graph
    if graph is None:
        raise ValueError("rows like this one need the neighbor graph, and the result has none")
    near = graph.indices[row, :count].astype(np.int64)
    numbers = np.concatenate([[row], near[near != row]])
    cosine = dict(zip(near.tolist(), graph.similarities[row, :count].tolist(), strict=True))
    found = rows(session, numbers)
    for each in found:
        each["similarity"] = round(float(cosine.get(each["row"], 1.0)), 3)
    return found


def table(session: Session, numbers: NDArray[np.int64]) -> str:
    """Return some rows as CSV: id, cluster, name, confidence and the text, where there is one."""
    result = session.result
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    texts, names = session.rows, [*names_of(result), ""]  # the last one is that of -1
    has_text = texts.kind == "text"
    writer.writerow(["id", "cluster", "name", "confidence", *(["text"] if has_text else [])])
    # In a file texts are whole, but for those as long as a book.
    shown = texts.show(numbers, length=100_000) if has_text else [{}] * len(numbers)
    for row, item in zip(numbers.tolist(), shown, strict=True):
        label = int(result.labels[row])
        cells = [
            result.ids[row].item(),
            label,
            names[label],
            round(float(result.confidence[row]), 4),
        ]
        if has_text:
            cells.append(item.get("text", ""))
        writer.writerow([_harmless(cell) for cell in cells])
    return out.getvalue()


def _harmless(cell: Any) -> Any:
    return "'" + cell if isinstance(cell, str) and cell.startswith(FORMULA) else cell
