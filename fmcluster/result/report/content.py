"""What a report shows, collected from a result as plain data: facts, clusters, map, tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmcluster.functional.metrics import matched_correct
from fmcluster.result.report import figures
from fmcluster.result.report.items import Items
from fmcluster.utils.random import seed_of
from fmcluster.utils.validation import check_in, check_labels

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult

# Points of the map: about 1.5 MB of the page, and still drawn at once; pictures cost more each.
MAP_ROWS = 20_000
MAP_IMAGES = 2_500
# Examples over all clusters together: bounds the page's size for a thousand clusters.
MOST_EXAMPLES = 2_400
# Rows of a list that are shown with their text or picture; the others keep their numbers only.
MOST_LISTED = 1_000
# Characters shown of a text: three lines beside a cluster, one beside a point.
TEXT_LENGTH = 240
MAP_TEXT_LENGTH = 90
FIRST = {
    "acc": "accuracy",
    "nmi": "NMI",
    "ari": "ARI",
    "macro_acc": "accuracy, every class alike",
    "head_acc": "of large classes",
    "tail_acc": "of small classes",
    "ece": "calibration error",
    "auroc": "AUROC of confidence",
}
PROJECTIONS = ("neighbours", "pca", "umap")


def page_data(
    result: ClusterResult,
    *,
    items: Any,
    labels: ArrayLike | None,
    title: str,
    projection: str,
    to_label: Any,
    issues: Any,
) -> dict[str, Any]:
    """Return everything the page shows, JSON-able but for "figures" (SVG texts)."""
    check_in(projection, PROJECTIONS, "projection")
    shown = Items(items, result.index)
    y = None if labels is None else check_labels(labels, result.n_rows)
    metrics = {} if y is None else result.evaluate(y)
    chosen = _examples(result)
    map_rows = _map_rows(result, limit=MAP_IMAGES if shown.kind == "image" else MAP_ROWS)
    listed = _rows_of(result, to_label)
    flagged = _issue_rows(result, issues)
    lists = [rows[:MOST_LISTED] for rows in (listed, flagged)]
    wanted = np.unique(np.concatenate([*[r for pair in chosen for r in pair], *lists]))
    shown.load(np.union1d(wanted, map_rows).astype(np.int64), n_examples=len(wanted))
    return {
        "title": title,
        "kind": shown.kind,
        "facts": _facts(result, shown),
        "metrics": _metrics(metrics),
        "word": "confidence" if result.is_calibrated else "score",
        "clusters": _clusters(result, shown, chosen),
        "map": _map(result, shown, map_rows, projection),
        "to_label": _to_label(result, shown, listed),
        "issues": _issues(result, shown, issues, flagged),
        "figures": _figures(result, y),
    }


def _facts(result: ClusterResult, items: Items) -> list[tuple[str, str]]:
    sizes = np.sort(result.sizes)[::-1]
    about = result.provenance
    calibration = about.get("calibration") or {}
    facts = [
        ("rows", f"{result.n_rows:,}"),
        ("clusters", f"{result.n_clusters:,}"),
        (
            "largest / middle / smallest",
            f"{sizes[0]:,} / {sizes[len(sizes) // 2]:,} / {sizes[-1]:,}",
        ),
        ("head", result.head.name),
        (
            "mean confidence" if result.is_calibrated else "mean score (not calibrated)",
            f"{100 * float(result.confidence.mean()):.1f} %",
        ),
    ]
    if len(result.novel):
        facts.insert(2, ("rows in no cluster", f"{len(result.novel):,}"))
    if len(result.answers):
        facts.append(("answers held", f"{len(result.answers):,}"))
    if result.edits:
        facts.append(("edits", ", ".join(str(edit["op"]) for edit in result.edits)))
    if result.n_clusters > 1 and not (result.embeddings is None and result.graph is None):
        others = [level.n_clusters for level in result.levels]
        if len(others) > 1:
            facts.append(("numbers of clusters worth a look", ", ".join(map(str, others))))
    if calibration.get("method"):
        facts.append(("calibrated by", str(calibration["method"])))
    encoders = ", ".join(record["name"] for record in about.get("encoders") or [])
    if encoders:
        facts.append(("encoder", encoders))
    if items.missing_reason:
        facts.append(("examples", items.missing_reason))
    return facts


def _metrics(metrics: dict[str, float]) -> dict[str, list[tuple[str, str]]]:
    """Return what people ask first, in words and percent, and the rest as it is."""
    if not metrics:
        return {}
    known = {key: value for key, value in metrics.items() if np.isfinite(value)}
    first = [(words, f"{100 * known[key]:.1f} %") for key, words in FIRST.items() if key in known]
    rest = [(key, f"{value:.4g}") for key, value in known.items() if key not in FIRST]
    return {"first": first, "rest": rest}


def _figures(result: ClusterResult, y: NDArray[Any] | None) -> list[tuple[str, str]]:
    word = "confidence" if result.is_calibrated else "score"
    drawn = [
        ("Sizes and estimated shares", figures.sizes(result.sizes, result.cluster_prior)),
        (f"Rows by {word}", figures.histogram(result.confidence, word=word)),
    ]
    if y is not None:
        correct = matched_correct(y, result.labels)
        drawn.append(("Reliability", figures.reliability(result.confidence, correct)))
        drawn.append(("Accuracy over coverage", figures.risk_coverage(result.confidence, correct)))
    return drawn


def _examples(result: ClusterResult) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return (typical rows, least confident rows) of each cluster."""
    each = int(np.clip(MOST_EXAMPLES // result.n_clusters, 2, 12))
    typical, unsure = max(1, each * 2 // 3), max(1, each // 3)
    order = np.lexsort((-result.confidence, result.labels))
    bounds = np.searchsorted(result.labels[order], np.arange(result.n_clusters + 1))
    pairs = []
    for a, b in zip(bounds[:-1], bounds[1:], strict=True):
        rows = order[a:b]
        top = rows[:typical]
        pairs.append((top, rows[max(len(top), len(rows) - unsure) :][::-1]))
    return pairs


def _clusters(
    result: ClusterResult,
    items: Items,
    chosen: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> list[dict[str, Any]]:
    sizes = result.sizes
    rest = np.zeros((result.n_clusters, result.n_clusters))
    there = result.labels >= 0
    labels = result.labels[there]
    np.add.at(rest, labels, result.proba[there])
    np.fill_diagonal(rest, -1)
    sure = np.bincount(labels, result.confidence[there], result.n_clusters) / np.maximum(sizes, 1)
    clusters = []
    for label, (typical, unsure) in enumerate(chosen):
        clusters.append(
            {
                "label": label,
                "name": result.names[label] if result.names else f"cluster {label}",
                "size": int(sizes[label]),
                "prior": round(float(result.cluster_prior[label]), 5),
                "confidence": round(float(sure[label]), 4),
                "nearest": int(rest[label].argmax()) if result.n_clusters > 1 else None,
                "typical": [_example(result, items, row) for row in typical],
                "unsure": [_example(result, items, row) for row in unsure],
            }
        )
    return clusters


def _example(result: ClusterResult, items: Items | None, row: int) -> dict[str, Any]:
    return {
        "id": str(result.ids[row]),
        "confidence": round(float(result.confidence[row]), 3),
        **(items.show(int(row), TEXT_LENGTH) if items else {}),
    }


def _map_rows(result: ClusterResult, *, limit: int) -> NDArray[np.int64]:
    """Return the rows on the map: all, or an even sample that has every cluster."""
    if result.embeddings is None:
        return np.empty(0, np.int64)
    if result.n_rows <= limit:
        return np.arange(result.n_rows)
    generator = np.random.default_rng(seed_of(0, "map"))
    rows = generator.choice(result.n_rows, limit, replace=False)
    first = np.unique(result.labels, return_index=True)[1]
    return np.unique(np.concatenate([rows[: max(0, limit - len(first))], first]))


def _map(
    result: ClusterResult, items: Items, rows: NDArray[np.int64], projection: str
) -> dict[str, Any]:
    if not len(rows):
        return {
            "x": [],
            "y": [],
            "label": [],
            "confidence": [],
            "id": [],
            "text": [],
            "sprite": None,
        }
    from fmcluster.result.report.projection import project

    points = project(result, rows, method=projection)
    scaled = np.round(1000 * points).astype(int)
    return {
        "method": projection,
        "x": scaled[:, 0].tolist(),
        "y": scaled[:, 1].tolist(),
        "label": result.labels[rows].tolist(),
        "confidence": np.round(100 * result.confidence[rows]).astype(int).tolist(),
        "id": [str(i) for i in result.ids[rows]],
        "text": [items.text(int(row), MAP_TEXT_LENGTH) for row in rows],
        "sprite": items.sprite([int(row) for row in rows]),
    }


def _rows_of(result: ClusterResult, ids: Any) -> NDArray[np.int64]:
    return np.empty(0, np.int64) if ids is None else result.rows_of(ids)


def _to_label(result: ClusterResult, items: Items, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
    return [
        {
            "cluster": int(result.labels[row]),
            **_example(result, items if place < MOST_LISTED else None, int(row)),
        }
        for place, row in enumerate(rows)
    ]


def _issue_rows(result: ClusterResult, issues: Any) -> NDArray[np.int64]:
    return np.empty(0, np.int64) if issues is None else result.rows_of(issues["id"].to_numpy())


def _issues(
    result: ClusterResult, items: Items, issues: Any, rows: NDArray[np.int64]
) -> list[dict[str, Any]]:
    if issues is None:
        return []
    return [
        {
            "given": str(given),
            "suggested": str(suggested),
            "score": round(float(score), 4),
            **_example(result, items if place < MOST_LISTED else None, int(row)),
        }
        for place, (row, given, suggested, score) in enumerate(
            zip(rows, issues["given"], issues["suggested"], issues["score"], strict=True)
        )
    ]
