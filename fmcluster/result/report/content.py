"""What a report shows, collected from a result as plain data: facts, clusters, rows, lists."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmcluster.functional.metrics import matched_correct
from fmcluster.result.cluster import mean_confidence, names_of, ranked_rows
from fmcluster.result.report import figures
from fmcluster.result.report.confusion import Confusions, find_confusions
from fmcluster.result.report.items import Items
from fmcluster.result.report.lists import example, find_lists, list_data
from fmcluster.result.report.rows import choose_rows, level_data, row_data
from fmcluster.result.report.typical import chooser
from fmcluster.result.report.words import trust
from fmcluster.utils.validation import check_in, check_labels

if TYPE_CHECKING:
    from fmcluster.result.result import ClusterResult

# Examples over all clusters together: bounds the page's size for a thousand clusters.
MOST_EXAMPLES = 2_400
# Of recordings, 20 kB each: 6 MB.
MOST_CLIPS = 300
# Of one cluster, two thirds of them typical: what a person reads of it.
MOST_OF_ONE = 12
# Estimated sizes that are so near to the counted ones say nothing more.
SAME_SIZE = 0.05
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
Examples = list[tuple[NDArray[np.int64], NDArray[np.int64]]]


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
    chosen = _examples(result, MOST_CLIPS if shown.kind == "audio" else MOST_EXAMPLES)
    confusions = find_confusions(result)
    lists = find_lists(result, to_label=to_label, issues=issues)
    rows, pictured = choose_rows(result)
    between = [pair.between for pair in confusions.pairs]
    wanted = np.unique(np.concatenate([*chain.from_iterable(chosen), *lists.shown, *between]))
    on_map = {"text": rows, "image": pictured}.get(shown.kind, wanted[:0])
    shown.load(np.union1d(wanted, on_map).astype(np.int64), n_examples=len(wanted))
    return {
        "title": title,
        "kind": shown.kind,
        "facts": _facts(result, shown),
        "trust": trust(result, confusions.pairs, names=names_of(result), y=y),
        "metrics": _metrics(metrics),
        "word": "confidence" if result.is_calibrated else "score",
        "clusters": _clusters(result, shown, chosen, confusions),
        "map": row_data(result, shown, rows, pictured, projection=projection),
        "levels": level_data(result, rows),
        "confusions": _confusions(result, shown, confusions),
        **list_data(result, shown, lists, issues),
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
        (
            "Sizes (bars) and estimated true sizes (line)",
            figures.sizes(result.sizes, result.cluster_prior),
        ),
        (f"Rows by {word}", figures.histogram(result.confidence, word=word)),
    ]
    if y is not None:
        correct = matched_correct(y, result.labels)
        drawn.append(("Reliability", figures.reliability(result.confidence, correct)))
        drawn.append(("Accuracy over coverage", figures.risk_coverage(result.confidence, correct)))
    return drawn


def _examples(result: ClusterResult, most: int) -> Examples:
    """Return (typical rows, least confident rows) of each cluster."""
    each = int(np.clip(most // result.n_clusters, 1, MOST_OF_ONE))
    typical, unsure = max(1, each * 2 // 3), each // 3
    choose = chooser(result)
    pairs = []
    for rows in ranked_rows(result):
        top = choose(rows, typical)
        rest = rows[~np.isin(rows, top)]
        pairs.append((top, rest[max(0, len(rest) - unsure) :][::-1]))
    return pairs


def _clusters(
    result: ClusterResult, items: Items, chosen: Examples, confusions: Confusions
) -> list[dict[str, Any]]:
    sizes, names = result.sizes, names_of(result)
    sure = np.nan_to_num(mean_confidence(result))
    return [
        {
            "label": label,
            "name": names[label],
            "size": int(sizes[label]),
            "prior": round(float(result.cluster_prior[label]), 5),
            "estimate": _estimate(int(sizes[label]), float(result.cluster_prior[label]), result),
            "confidence": round(float(sure[label]), 4),
            "confused": [
                {"label": other, "rows": round(rows, 1)} for other, rows in confusions.of(label)
            ],
            "typical": [example(result, items, row) for row in typical],
            "unsure": [example(result, items, row) for row in unsure],
        }
        for label, (typical, unsure) in enumerate(chosen)
    ]


def _estimate(size: int, share: float, result: ClusterResult) -> str:
    """Return in words what the estimated share says that the counted rows do not; often nothing."""
    expected = share * int((result.labels >= 0).sum())
    if abs(expected - size) < max(1.0, SAME_SIZE * size):
        return ""
    number = f"about {expected:,.0f} ({100 * share:.1f} %)"
    if expected < size:
        return f"its true size is {number}: some of its rows likely belong elsewhere"
    return f"its true size is {number}: some rows of other clusters likely belong here"


def _confusions(
    result: ClusterResult, items: Items, confusions: Confusions
) -> list[dict[str, Any]]:
    return [
        {
            "a": pair.a,
            "b": pair.b,
            "rows": round(pair.rows, 1),
            "may_be_one": pair.may_be_one,
            "between": [example(result, items, row) for row in pair.between],
        }
        for pair in confusions.pairs
    ]
