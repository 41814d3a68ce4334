"""``fmcluster estimate``: how many clusters, and of which sizes, without labels."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fmcluster.cli import options

EXAMPLE = "fmcluster estimate embeddings.npy --k-range 2 100"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_data(parser)
    options.add_encoder(parser)
    # One is no clustering; each number more takes a cut and scores.
    parser.add_argument("--k-range", nargs=2, type=int, default=(2, 200), metavar=("LOW", "HIGH"))


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Estimate from a saved result's probabilities, or from embeddings."""
    from fmcluster.partition.estimates import estimate

    if (Path(args.data) / "result.json").is_file():
        from fmcluster.result.result import ClusterResult

        result = ClusterResult.load(args.data)
        return _sizes(estimate.estimate_prior(result, random_state=args.seed), result.n_clusters)
    store = options.load_data(args)
    found = estimate.estimate_n_clusters(store, tuple(args.k_range), random_state=args.seed)
    sizes = estimate.estimate_sizes(store, found.best, random_state=args.seed)
    return {
        **_sizes(sizes, found.best),
        "interval": list(found.interval),
        "is_confident": bool(found.is_confident),
        "curve": {key: list(values) for key, values in found.curve.items()},
    }


def _sizes(estimated: Any, n_clusters: int) -> dict[str, Any]:
    return {
        "n_clusters": int(n_clusters),
        "prior": sorted(estimated.prior.tolist(), reverse=True),
        "imbalance_ratio": float(estimated.imbalance_ratio),
        "imbalance_interval": [float(v) for v in estimated.interval],
    }


def render(payload: dict[str, Any]) -> str:
    """Say what was found."""
    low, high = payload["imbalance_interval"]
    lines = [f"{payload['n_clusters']} clusters"]
    if "interval" in payload:
        lines[0] += f" (between {payload['interval'][0]} and {payload['interval'][1]})"
        if not payload["is_confident"]:
            lines.append("no clear structure: the number is a guess")
    lines.append(
        f"largest : smallest {payload['imbalance_ratio']:.1f} (between {low:.1f} and {high:.1f})"
    )
    shown = ", ".join(f"{100 * share:.1f}" for share in payload["prior"][:10])
    lines.append(f"shares, largest first (%): {shown}{' ...' * (len(payload['prior']) > 10)}")
    return "\n".join(lines)
