"""New rows: how well unseen classes are told apart, and how often drift raises false alarms.

*novelty*: a twentieth of the classes is hidden, old rows are drawn from the others, a batch from
both. Shares of the hidden rows that are named (`found`), of what is named that is chance, of the
other rows that are named, of batches of old classes alone in which any row is named, and of hidden
rows named where eight rows of each class were old (a small cluster that grows is not unseen).

*drift*: random halves, so that nothing drifted: how often p < .05, and how often the interval of a
new share holds the old one; and the same with one class cut to 40 %.

    python benchmarks/new_rows.py [--sets agnews,tweet] [--draws 10] [--parts novelty,drift]

Written to benchmarks/results/new_rows.json.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from _sets import ROOT, load

import fmcluster as fmc
from fmcluster.result.loop.batch import novel_rows
from fmcluster.result.loop.reference import Reference
from fmcluster.vectors.rows import unit_rows

SETS = ("agnews", "stackoverflow", "banking77", "tweet", "googlenews_t", "cifar10_test")
N_OLD, N_NEW, N_ROWS, FEW = 600, 120, 2_400, 8


def novelty(x: np.ndarray, y: np.ndarray, seed: int) -> dict[str, float] | None:
    """Return the figures of one draw; None where the set is too small."""
    generator = np.random.default_rng(seed)
    classes, sizes = np.unique(y, return_counts=True)
    large = classes[sizes >= 20]
    hidden = generator.choice(large, max(1, len(classes) // 20), replace=False)
    seen = generator.permutation(np.flatnonzero(~np.isin(y, hidden)))[: N_OLD + N_NEW]
    unseen = generator.permutation(np.flatnonzero(np.isin(y, hidden)))
    few = np.concatenate([unseen[y[unseen] == c][:FEW] for c in hidden])
    rest = np.setdiff1d(unseen, few)[: N_NEW // 5]
    if len(seen) < N_OLD + N_NEW or len(rest) < FEW:
        return None
    old, new, odd = (unit_rows(x[rows]) for rows in (seen[:N_OLD], seen[N_OLD:], rest))
    batch = np.concatenate([new, odd])
    found = _named(old, batch, seed)
    surge = _named(np.concatenate([old, unit_rows(x[few])]), batch, seed)
    alone = _named(old, new, seed)
    return {
        "found": found[N_NEW:].mean(),
        "chance_among_named": found[:N_NEW].sum() / max(found.sum(), 1),
        "others_named": found[:N_NEW].mean(),
        "any_of_old_classes": float(alone.any()),
        "small_cluster_named": surge[N_NEW:].mean(),
    }


def _named(old: np.ndarray, batch: np.ndarray, seed: int) -> np.ndarray:
    return novel_rows(Reference(old, np.zeros(len(old), np.int64)), batch, alpha=0.05, seed=seed)


def drift(x: np.ndarray, y: np.ndarray, seed: int) -> dict[str, float]:
    """Return the figures of one draw."""
    generator = np.random.default_rng(seed)
    rows = generator.permutation(len(y))[:1_000]
    old, new = rows[:600], rows[600:]
    k = min(len(np.unique(y)), 12)
    result = fmc.cluster(x[old], n_clusters=k, random_state=seed)
    same = result.drift(x[new], random_state=seed)
    largest = np.bincount(y[new]).argmax()
    kept = new[(y[new] != largest) | (generator.random(len(new)) < 0.4)]
    inside = (same.interval[:, 0] <= same.old_share) & (same.old_share <= same.interval[:, 1])
    return {
        "false_alarm": float(same.p_value < 0.05),
        "false_alarm_of_any_cluster": float(same.p_adjusted.min() < 0.05),
        "covered": inside.mean(),
        "unlike_false_alarm": float(same.unlike_p_value < 0.05),
        "found": float(result.drift(x[kept], random_state=seed).p_value < 0.05),
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--parts", default="novelty,drift")
    args = parser.parse_args()
    out: dict[str, dict[str, dict[str, float]]] = {}
    for part in args.parts.split(","):
        for name in args.sets.split(","):
            x, y = load(name, N_ROWS, 0)
            x = np.asarray(x, np.float32)
            draws = [(novelty if part == "novelty" else drift)(x, y, s) for s in range(args.draws)]
            kept = [draw for draw in draws if draw is not None]
            if not kept:
                continue
            figures = {key: round(float(np.mean([d[key] for d in kept])), 3) for key in kept[0]}
            out.setdefault(part, {})[name] = figures
            print(part, name, figures, flush=True)  # noqa: T201
        means = list(out.get(part, {}).values())
        mean = {k: round(float(np.mean([each[k] for each in means])), 3) for k in means[0]}
        out[part]["mean"] = mean
        print(part, "mean", mean, flush=True)  # noqa: T201
    path = ROOT / "benchmarks" / "results" / "new_rows.json"
    path.write_text(json.dumps({"draws": args.draws, **out}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
