"""``fmcluster demo``: 1,797 real digit scans, from raw images to a report, without network."""

from __future__ import annotations

import argparse
import importlib.util
import io
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmcluster.cli.options import add_out, jsonable, numbers, result_place

if TYPE_CHECKING:
    import pyarrow as pa

# Digits are 8 x 8. At 96 pixels embedding took three times as long, twelve of eighteen seconds, and
# four digits of a hundred more were right.
ENCODER = "packaged:efficientnet-lite0@64"
HEAD = "auto"
# Whitening counts: 8 x 8 digits through a network of photographs differ little in few directions.
PREPROCESS = "pca=64,whiten,l2"
# Beside the result, where `app` and `report` look for it.
DATA = "data.parquet"
EXAMPLE = "fmcluster demo --out demo/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_out(parser, "where the result goes", default="demo")
    parser.add_argument("--head", default=HEAD, help=f"cluster head (default: {HEAD})")
    parser.add_argument("--limit", type=int, metavar="N", help="use the first N images only")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Write the scans as a table, then do with it what one does with data of one's own."""
    from pyarrow import parquet

    from fmcluster import api as pipeline
    from fmcluster.embedding.data.source import Source
    from fmcluster.utils.files import atomic_path

    started = time.perf_counter()
    out = result_place(args.out)
    scans = _scans(args.limit)
    out.mkdir(parents=True, exist_ok=True)
    data = out / DATA
    with atomic_path(data) as temporary:
        parquet.write_table(scans, temporary)
    source = Source(data, column="image")
    store = pipeline.embed(source, encoder=ENCODER, folder=out / "store")
    embedded = time.perf_counter()
    result = pipeline.cluster(
        store, n_clusters=10, head=args.head, random_state=args.seed, preprocess=PREPROCESS
    )
    y = scans["digit"].to_numpy()
    metrics = result.evaluate(y)
    result.save(out, metrics=metrics)
    report = result.report(out / "report.html", items=source, labels=y, title="Digit scans")
    return {
        "out": str(out),
        "report": str(report),
        "data": str(data),
        "rows": len(scans),
        "n_clusters": result.n_clusters,
        "head": result.head.name,
        **jsonable(metrics),
        "mean_confidence": float(result.confidence.mean()),
        "embed_seconds": round(embedded - started, 2),
        "seconds": round(time.perf_counter() - started, 2),
        "next": _next(out),
    }


def _scans(limit: int | None) -> pa.Table:
    """Return the scans as PNG files in a column ``image``, and what they show as ``digit``."""
    import numpy as np
    import pyarrow as pa
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    if limit is not None and not 2 <= limit <= len(digits.images):
        raise ValueError(f"--limit {limit}: give a number of 2 to {len(digits.images)}")
    pictures = []
    # The scans' grays are 0 to 16, a PNG's 0 to 255.
    for scan in (digits.images[:limit] * (255 / 16)).round().astype(np.uint8):
        file = io.BytesIO()
        Image.fromarray(scan).save(file, "PNG")
        pictures.append(file.getvalue())
    return pa.table({"image": pictures, "digit": digits.target[:limit]})


def _next(out: Path) -> list[dict[str, str]]:
    """Return what one may do now: a command as it can be typed here, and why."""
    me, where = _called(), shlex.quote(str(out))
    app = importlib.util.find_spec("uvicorn") and importlib.util.find_spec("starlette")
    return [
        {
            "command": f"{me} app {where}",
            "why": "look, search, label, merge and save on a page of this machine"
            + ("" if app else " (first: pip install 'fmcluster[app]')"),
        },
        {
            "command": f"{me} query {where} --budget 50 --out to_label.csv",
            "why": "which 50 rows are worth a label",
        },
        {
            "command": f"{me} cluster YOUR_FOLDER_OR_TABLE --out run",
            "why": "the same with images or texts of yours",
        },
    ]


def _called() -> str:
    """Return how this program was called: under make it is not on the path."""
    called = sys.argv[0]
    if Path(called).name == "__main__.py":
        return "python -m fmcluster"
    if Path(called).stem != "fmcluster":  # called from Python
        return "fmcluster"
    found = shutil.which("fmcluster")
    here = found is not None and Path(found).resolve() == Path(called).resolve()
    return "fmcluster" if here else called


def render(payload: dict[str, Any]) -> str:
    """Say what came out, and what one may do next."""
    steps = "\n".join(f"  {step['command']}\n      {step['why']}" for step in payload["next"])
    return (
        f"{payload['rows']} images in {payload['n_clusters']} clusters by {payload['head']}\n"
        f"{numbers(payload)}\n"
        f"mean confidence {100 * payload['mean_confidence']:.1f} %, {payload['seconds']} s\n"
        f"open {payload['report']}; the pictures are in {payload['data']}\n\n"
        f"next:\n{steps}"
    )
