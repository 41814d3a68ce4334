"""Names of clusters by their terms: how many rows hold them, and whether they say the class.

Texts of real sets are clustered by default (K given) and named. Counted over clusters:

- *say the class*: names that hold a word of the name of the class that most rows have, by its stem;
  classes of stackoverflow are its tags, those of banking77 the intents;
- *first*, *any*: share of a cluster's rows that hold its first term, or any of its terms;
- *rare*: terms that fewer than one row in ten of their cluster holds;
- *broken*: terms that begin or end in a stop word, but for one that nearly always stands so.

    python benchmarks/names.py [--sets banking77,stackoverflow,tweet] [--cache FOLDER] [--list]

Prints the table, with ``--list`` also every name; ``--out NAME`` keeps it as
benchmarks/results/names/NAME.json.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _sets import DATA, ROOT, markdown, write_cell

import fmcluster as fmc
from fmcluster.result.naming import name_by_terms
from fmcluster.result.naming.phrases import term_table
from fmcluster.utils.words import stem_words, stop_words

SETS = ("banking77", "stackoverflow", "tweet")
N_ROWS, RARE = 4_000, 0.1
COLUMNS = ("clusters", "say_class", "first", "any", "rare", "broken")


def read(name: str) -> tuple[np.ndarray, np.ndarray, list[str], list[str] | None]:
    """Return embeddings, classes, texts and names of classes (None where they are numbers)."""
    table = pd.read_parquet(DATA.parent / "data" / f"{name}.parquet")
    with np.load(DATA / f"{name}.npz") as stored:
        x = stored["x"].astype(np.float32)
    rows = np.sort(np.random.default_rng(0).permutation(len(x))[:N_ROWS])
    texts, y = table["text"].astype(str).to_numpy()[rows].tolist(), table["label"].to_numpy()[rows]
    path = DATA.parent / "data" / f"{name}.names.json"
    return x[rows], y, texts, json.loads(path.read_text()) if path.exists() else None


def clustered(name: str, x: np.ndarray, k: int, cache: Path | None) -> fmc.ClusterResult:
    """Return the default clustering, kept in a folder if one is given."""
    folder = None if cache is None else cache / f"{name}-{len(x)}"
    if folder is not None and folder.exists():
        return fmc.ClusterResult.load(folder)
    result = fmc.cluster(x, n_clusters=k, random_state=0)
    if folder is not None:
        result.save(folder)
    return result


def measured(
    result: fmc.ClusterResult, y: np.ndarray, texts: list[str], classes: list[str] | None
) -> dict[str, Any]:
    """Return the counts, and the names with the classes of their rows."""
    table = term_table(texts, ["en"])
    place = {term: at for at, term in enumerate(table.terms)}
    holds, stops = table.holds.tocsc(), stop_words(["en"])
    counts: dict[str, list[float]] = {"say_class": [], "first": [], "any": [], "rare": []}
    broken, names = 0, []
    for c, name in enumerate(result.names or ()):
        rows = np.flatnonzero(result.labels == c)
        terms = [term for term in name.split(", ") if term in place]
        held = (
            np.stack([holds[rows, place[t]].toarray().ravel() > 0 for t in terms])
            if terms
            else None
        )
        counts["first"].append(0.0 if held is None else float(held[0].mean()))
        counts["any"].append(0.0 if held is None else float(held.any(axis=0).mean()))
        counts["rare"] += [] if held is None else (held.mean(axis=1) < RARE).tolist()
        broken += sum(t.split()[0] in stops or t.split()[-1] in stops for t in terms)
        main = int(np.bincount(y[rows]).argmax()) if len(rows) else -1
        said = str(main) if classes is None or main < 0 else classes[main]
        if classes is not None:
            counts["say_class"].append(bool(stems(name) & stems(said)))
        names.append([int(len(rows)), name, said, float((y[rows] == main).mean())])
    shares = {key: float(np.mean(each)) if each else None for key, each in counts.items()}
    return {"clusters": len(names), **shares, "broken": broken, "names": names}


def stems(text: str) -> set[str]:
    """Return the stems of the words of a name that are no stop words."""
    words = [w for w in re.split(r"[^a-z0-9]+", text.lower()) if w and w not in stop_words(["en"])]
    return set(stem_words(words, ["en"]))


def main() -> None:
    """Name and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--out")
    asked = parser.parse_args()
    found, rows = {}, []
    for name in asked.sets.split(","):
        x, y, texts, classes = read(name)
        result = clustered(name, x, len(np.unique(y)), asked.cache)
        found[name] = measured(name_by_terms(result, texts, language="en"), y, texts, classes)
        cells = [found[name][key] for key in COLUMNS]
        shown = [
            f"{100 * v:.1f} %" if isinstance(v, float) else "" if v is None else v for v in cells
        ]
        rows.append([name, *shown])
        for size, given, said, share in found[name]["names"] if asked.list else ():
            print(f"{size:5d}  {given:60s} {said} {100 * share:.0f} %")
    print(markdown(["set", "clusters", "say the class", "first", "any", "rare", "broken"], rows))
    if asked.out:
        write_cell(ROOT / "benchmarks" / "results" / "names" / f"{asked.out}.json", found)


if __name__ == "__main__":
    main()
