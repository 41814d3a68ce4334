"""``fmcluster demo``: 1,797 real digit scans, from raw images to a report, without network."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from fmcluster.cli.options import jsonable, numbers

ENCODER = "packaged:efficientnet-lite0"
HEAD = "auto"
# Whitening counts: 8 x 8 digits through a network of photographs differ little in few directions.
PREPROCESS = "pca=64,whiten,l2"
EXAMPLE = "fmcluster demo --out demo/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--out", default="demo", metavar="DIR", help="where the result goes")
    parser.add_argument("--head", default=HEAD, help=f"cluster head (default: {HEAD})")
    parser.add_argument("--limit", type=int, metavar="N", help="use the first N images only")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Embed, cluster, calibrate, evaluate, report."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    from fmcluster import api as pipeline
    from fmcluster.embedding.data.source import Source
    from fmcluster.result.files import BESIDE, MARKER
    from fmcluster.utils.folders import check_replaceable

    started = time.perf_counter()
    digits = load_digits()
    count = args.limit or len(digits.images)
    scans = (digits.images[:count] * (255 / 16)).round().astype(np.uint8)
    source = Source([Image.fromarray(scan) for scan in scans])
    out = Path(args.out)
    check_replaceable(out, MARKER, beside=BESIDE)
    store = pipeline.embed(source, encoder=ENCODER, folder=out / "store")
    embedded = time.perf_counter()
    result = pipeline.cluster(
        store, n_clusters=10, head=args.head, random_state=args.seed, preprocess=PREPROCESS
    )
    y = digits.target[:count]
    metrics = result.evaluate(y)
    result.save(out, metrics=metrics)
    report = result.report(out / "report.html", items=source, labels=y, title="Digit scans")
    return {
        "out": str(out),
        "report": str(report),
        "rows": count,
        "n_clusters": result.n_clusters,
        "head": result.head.name,
        **jsonable(metrics),
        "mean_confidence": float(result.confidence.mean()),
        "embed_seconds": round(embedded - started, 2),
        "seconds": round(time.perf_counter() - started, 2),
    }


def render(payload: dict[str, Any]) -> str:
    """Say what came out."""
    return (
        f"{payload['rows']} images in {payload['n_clusters']} clusters by {payload['head']}\n"
        f"{numbers(payload)}\n"
        f"mean confidence {100 * payload['mean_confidence']:.1f} %, {payload['seconds']} s\n"
        f"open {payload['report']}"
    )
