"""The report's figures as inline SVG, drawn by hand: no script, no library, colors by the page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster.functional.calibration import N_BINS

# Units of a drawing that is scaled to its place: three to two; the margins hold ticks and labels.
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 360, 240, 44, 36, 10, 10


def _x(value: float) -> float:
    return round(LEFT + value * (WIDTH - LEFT - RIGHT), 1)


def _y(value: float) -> float:
    return round(HEIGHT - BOTTOM - value * (HEIGHT - BOTTOM - TOP), 1)


def _frame(
    body: str,
    *,
    title: str,
    x_label: str,
    y_label: str,
    x_ticks: Sequence[tuple[float, str]] = ((0, "0"), (0.5, "0.5"), (1, "1")),
    y_ticks: Sequence[tuple[float, str]] = ((0, "0"), (0.5, "0.5"), (1, "1")),
) -> str:
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title>",
    ]
    for position, text in y_ticks:
        y = _y(position)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(
            f'<text class="tick" x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{text}</text>'
        )
    for position, text in x_ticks:
        parts.append(
            f'<text class="tick" x="{_x(position)}" y="{HEIGHT - BOTTOM + 15}" '
            f'text-anchor="middle">{text}</text>'
        )
    parts.append(body)
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text class="label" x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
    )
    center = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text class="label" transform="translate(11 {center}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_label)}</text></svg>'
    )
    return "".join(parts)


def _path(xs: NDArray[Any], ys: NDArray[Any], css: str) -> str:
    points = " ".join(f"{_x(float(x))},{_y(float(y))}" for x, y in zip(xs, ys, strict=True))
    return f'<polyline class="{css}" points="{points}"/>'


def _bar(x: float, share: float, width: float, tip: str = "") -> str:
    y = _y(share)
    end = f"><title>{tip}</title></rect>" if tip else "/>"
    height = round(_y(0) - y, 1)
    return f'<rect class="bar" x="{_x(x)}" y="{y}" width="{width}" height="{height}"{end}'


def histogram(confidence: NDArray[Any], *, word: str = "confidence") -> str:
    """Draw how many rows have which confidence, in twenty bins."""
    # Steps of five hundredths: of fewer the shape is lost, of more it is ragged where rows are few.
    counts, edges = np.histogram(np.clip(confidence, 0, 1), bins=20, range=(0, 1))
    top = max(int(counts.max()), 1)
    bars = [
        _bar(a, count / top, round(_x(b) - _x(a) - 1, 1), f"{a:.2f} to {b:.2f}: {count} rows")
        for count, (a, b) in zip(counts, pairwise(edges), strict=True)
    ]
    return _frame(
        "".join(bars),
        title=f"Rows by {word}",
        x_label=word,
        y_label="rows",
        y_ticks=((0, "0"), (1, str(top))),
    )


def sizes(counts: NDArray[Any], prior: NDArray[Any]) -> str:
    """Draw cluster sizes, largest first, as bars and the estimated shares as a line."""
    order = np.argsort(-counts, kind="stable")
    total, k = counts.sum(), len(counts)
    shares, expected = counts[order] / total, np.sort(prior)[::-1]
    top = max(float(shares.max()), float(expected.max()))
    width = round(max((_x(1) - _x(0)) / k - (1 if k < 100 else 0), 0.4), 2)
    body = [_bar(rank / k, share / top, width) for rank, share in enumerate(shares)]
    body.append(_path((np.arange(k) + 0.5) / k, expected / top, "line"))
    return _frame(
        "".join(body),
        title="Cluster sizes (bars) and estimated shares (line)",
        x_label=f"{k} clusters, largest first",
        y_label="share of rows",
        x_ticks=(),
        y_ticks=((0, "0"), (1, f"{top:.3f}")),
    )


def reliability(confidence: NDArray[Any], correct: NDArray[Any]) -> str:
    """Draw accuracy over confidence; the diagonal is perfect calibration."""
    bins = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    width = round((_x(1) - _x(0)) / N_BINS - 1, 1)
    body = [f'<line class="diagonal" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>']
    for b in range(N_BINS):
        inside = bins == b
        if inside.any():
            accuracy, mean = float(correct[inside].mean()), confidence[inside].mean()
            tip = f"confidence {mean:.3f}, accuracy {accuracy:.3f}, {int(inside.sum())} rows"
            body.append(_bar(b / N_BINS, accuracy, width, tip))
    return _frame(
        "".join(body), title="Reliability diagram", x_label="confidence", y_label="accuracy"
    )


def risk_coverage(confidence: NDArray[Any], correct: NDArray[Any]) -> str:
    """Draw the accuracy of the most confident rows over the share of rows that are kept."""
    order = np.argsort(-confidence, kind="stable")
    accuracy = np.cumsum(correct[order]) / np.arange(1, len(order) + 1)
    coverage = np.arange(1, len(order) + 1) / len(order)
    # A pixel or two apart: more are not seen. An axis that began at 1 would have no height.
    pick = np.unique(np.linspace(0, len(order) - 1, 200).astype(int))
    floor = min(0.95, float(np.floor(accuracy[pick].min() * 10) / 10))
    body = _path(coverage[pick], (accuracy[pick] - floor) / (1 - floor), "line")
    return _frame(
        body,
        title="Accuracy over coverage",
        x_label="share of rows kept, most confident first",
        y_label="accuracy",
        y_ticks=((0, f"{floor:.2f}"), (1, "1")),
    )
