"""The tables of worlds: gains over k-means, sizes and confidence, by kind and by purity."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from _sets import markdown

# Peers that the default head has to be at least as good as; which one is best differs by world.
RIVALS = ("average", "ward", "umap+kmeans", "evoc")
# How near an estimated number of clusters has to be to count as found.
NEAR = 0.3
NEAR_LEVEL = 0.15
Rows = list[dict[str, Any]]
HEADER = (
    "method",
    "worlds",
    "ACC",
    "over k-means",
    "least",
    "macro over k-means",
    "over best peer",
    "TV",
    "TV prior",
    "ECE",
    "most",
    "AUROC",
    "CPU s",
)


def page(rows: Rows, *, names: bool) -> str:
    """Return all tables of the rows of one half.

    Parameters
    ----------
    rows : list of dict
        Lines of `worlds.py run`.
    names : bool
        Whether the worlds where a head loses most are named: not of the confirming half.
    """
    failed = [row for row in rows if "error" in row]
    rows = over_seeds([row for row in rows if "error" not in row])
    partitions = [row for row in rows if "acc" in row]
    parts = []
    for title, chosen in groups(partitions):
        parts.append(f"### {title}\n\n{markdown(HEADER, lines(chosen, partitions))}")
    if two := two_spaces(partitions):
        parts.append("### Two spaces over the better single one\n\n" + two)
    if counted := [row for row in rows if "k_estimate" in row]:
        parts.append("### Number of clusters\n\n" + numbers(counted))
    if names and partitions:
        parts.append("### Where it is weakest\n\n" + weakest(partitions))
    for row in failed:
        where = f" on {row['world']}" if names else ""
        parts.append(f"{row['method']} failed{where}: {row['error']}\n")
    return "\n".join(parts)


def over_seeds(rows: Rows) -> Rows:
    """Return one row for each world and method: the mean of its seeds."""
    runs: dict[tuple[str, str], Rows] = defaultdict(list)
    for row in rows:
        runs[row["world"], row["method"]].append(row)
    return [
        {
            key: float(np.mean([run[key] for run in of_world])) if is_figure(key, value) else value
            for key, value in of_world[0].items()
        }
        for of_world in runs.values()
    ]


def is_figure(key: str, value: Any) -> bool:
    """Say whether a value is measured, and not what the world is."""
    return key not in ("n", "k", "seed", "purity") and isinstance(value, int | float)


def groups(rows: Rows) -> list[tuple[str, Rows]]:
    """Return titled parts of the rows: kinds of worlds, and thirds of purity."""
    single = [row for row in rows if "+" not in row["encoder"]]
    found = [("All worlds of one space", single)]
    found += [
        (f"{kind[0].upper()}{kind[1:]} worlds", [row for row in single if row["kind"] == kind])
        for kind in ("natural", "even", "long tail")
    ]
    pure = {row["world"]: row["purity"] for row in single}
    low, high = np.quantile(list(pure.values()) or [0.0], [1 / 3, 2 / 3])
    for title, least, most in (
        ("Impure neighbors", -np.inf, low),
        ("Middling neighbors", low, high),
        ("Pure neighbors", high, np.inf),
    ):
        for tail in (False, True):
            chosen = [
                row
                for row in single
                if least < row["purity"] <= most and (row["kind"] == "long tail") == tail
            ]
            title_of = f"{title} ({max(least, 0):.2f} to {min(most, 1):.2f})"
            found.append((f"{title_of}, {'long tail' if tail else 'natural and even'}", chosen))
    found.append(("Worlds of two spaces", [row for row in rows if "+" in row["encoder"]]))
    return [(title, chosen) for title, chosen in found if chosen]


def lines(chosen: Rows, everything: Rows) -> Iterable[list[Any]]:
    """Yield a line for each method, best first, and one for the best rival of each world."""
    base = {row["world"]: row for row in everything if row["method"] == "kmeans"}
    best: dict[str, dict[str, Any]] = {}
    for row in everything:
        if row["method"] in RIVALS and row["acc"] > best.get(row["world"], {"acc": -1})["acc"]:
            best[row["world"]] = row
    by_method: dict[str, Rows] = defaultdict(list)
    for row in chosen:
        by_method[row["method"]].append(row)
    there = {row["world"] for row in chosen}
    rivals = [best[world] for world in sorted(there & best.keys())]
    for method, of_method in sorted(by_method.items(), key=lambda item: -mean(item[1], "acc")):
        yield line(method, of_method, base, best)
    if rivals:
        yield line("*best peer of each world*", rivals, base, best)


def line(name: str, rows: Rows, base: dict[str, Any], best: dict[str, Any]) -> list[Any]:
    """Return the figures of a method in percent."""

    def over(other: dict[str, Any], key: str) -> list[float]:
        return [row[key] - other[row["world"]][key] for row in rows if row["world"] in other]

    gains = over(base, "acc")
    return [
        name,
        len(rows),
        percent(mean(rows, "acc")),
        percent(average(gains), sign=True),
        percent(min(gains, default=np.nan), sign=True),
        percent(average(over(base, "macro_acc")), sign=True),
        percent(average(over(best, "acc")), sign=True),
        decimals(mean(rows, "tv")),
        decimals(mean(rows, "tv_prior")),
        percent(mean(rows, "ece")),
        percent(max((row["ece"] for row in rows if "ece" in row), default=np.nan)),
        percent(mean(rows, "auroc")),
        f"{mean(rows, 'cpu_seconds'):.1f}",
    ]


def two_spaces(rows: Rows) -> str:
    """Return how much two spaces give over the better one of them, for each method."""
    acc = {(row["cut"], row["encoder"], row["method"]): row["acc"] for row in rows}
    gains: dict[str, list[float]] = defaultdict(list)
    for (cut, encoder, method), value in acc.items():
        alone = [acc.get((cut, one, method)) for one in encoder.split("+")]
        if len(alone) > 1 and None not in alone:
            gains[method].append(value - max(one for one in alone if one is not None))
    header = ["method", "worlds", "mean", "least", "share more than a point under"]
    body = [
        [
            method,
            len(values),
            percent(average(values), sign=True),
            percent(min(values), sign=True),
            percent(float((np.array(values) < -0.01).mean())),
        ]
        for method, values in gains.items()
    ]
    return markdown(header, body) if body else ""


def numbers(rows: Rows) -> str:
    """Return how far estimated numbers of clusters are from the number of classes."""
    body = []
    for kind in ("natural", "even", "long tail"):
        chosen = [r for r in rows if r["kind"] == kind]
        if chosen:
            off = np.array([abs(r["k_estimate"] - r["k"]) / r["k"] for r in chosen])
            ratio = [r["k_estimate"] / r["k"] for r in chosen]
            double = np.abs(np.log(ratio)) <= np.log(2)
            level = [
                min(abs(k - r["k"]) for k in r["levels"]) <= NEAR_LEVEL * r["k"] for r in chosen
            ]
            body.append(
                [kind, len(off), decimals(float(off.mean()))]
                + [percent(float(np.mean(s))) for s in (off <= NEAR, double, level)]
                + [decimals(average([len(r["levels"]) for r in chosen]))]
            )
    header = ["worlds", "number", "mean of abs(k - K) / K", "% within 30 %", "% within twice"]
    return markdown([*header, "% with a level within 15 %", "levels"], body)


def weakest(rows: Rows, n_shown: int = 12) -> str:
    """Return the worlds where each head is furthest under the best of k-means and its rivals."""
    peers: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for row in rows:
        if row["method"] in ("kmeans", *RIVALS):
            peers[row["world"]].append((row["acc"], row["method"]))
    heads = [row for row in rows if "ece" in row and row["world"] in peers]
    heads.sort(key=lambda row: row["acc"] - max(peers[row["world"]])[0])
    body = []
    for row in heads[:n_shown]:
        acc, name = max(peers[row["world"]])
        body.append([row["world"], row["method"], percent(row["acc"]), f"{name} {percent(acc)}"])
        body[-1] += [decimals(row["purity"]), decimals(row["tv"]), percent(row["ece"])]
    header = ["world", "method", "ACC", "best peer", "purity", "TV", "ECE"]
    return markdown(header, body) if body else "No head and peer ran on one world.\n"


def mean(rows: Rows, key: str) -> float:
    """Return the mean of a figure over the rows that have it; nan where none has."""
    return average([row[key] for row in rows if key in row])


def average(values: list[float]) -> float:
    """Return the mean, nan of nothing."""
    return float(np.mean(values)) if values else float("nan")


def percent(value: float, *, sign: bool = False) -> str:
    """Return a share in percent, empty where there is none."""
    return shown(100 * value, ("{:+.1f}" if sign else "{:.1f}").format)


def decimals(value: float) -> str:
    """Return a number with two decimals, empty where there is none."""
    return shown(value, "{:.2f}".format)


def shown(value: float, how: Callable[[float], str]) -> str:
    """Return a number as text, empty where there is none."""
    return "" if np.isnan(value) else how(value)
