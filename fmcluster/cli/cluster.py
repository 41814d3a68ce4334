"""``fmcluster cluster``: raw data or embeddings into a saved result and a report."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from fmcluster.cli import options
from fmcluster.cli.answers import add_answers, read_answers
from fmcluster.cli.labels import add_labels, load_labels
from fmcluster.cli.naming import add_naming, named, namer_of
from fmcluster.cli.places import note_place
from fmcluster.utils.ids import IdIndex

EXAMPLE = (
    "fmcluster cluster data.parquet --column text --encoder packaged:minilm "
    "--n-clusters 20 --out run/"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    options.add_data(parser)
    options.add_encoder(parser)
    add_labels(parser)
    add_answers(parser)
    parser.add_argument("--n-clusters", default="auto", metavar="K", help="a number, or auto")
    parser.add_argument("--head", default="auto", help="see `fmcluster heads` (default: auto)")
    parser.add_argument(
        "--cluster-prior",
        default="auto",
        metavar="PRIOR",
        help="auto, uniform, estimate, or a .npy file of k shares",
    )
    parser.add_argument("--preprocess", metavar="STEPS", help='such as "pca=64,whiten,l2"')
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another argument of the head; repeat for several",
    )
    add_naming(parser)
    parser.add_argument("--no-calibrate", action="store_true", help="keep the head's own scores")
    parser.add_argument("--no-report", action="store_true", help="write no report.html")
    options.add_out(parser, "folder of the result", required=True)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Embed where needed, cluster, evaluate where labels are known, save, report."""
    from fmcluster import api as pipeline

    out = options.result_place(args.out)
    namer = namer_of(args)
    started = time.perf_counter()
    store = options.load_data(args)
    embedded = time.perf_counter()
    index = IdIndex(np.asarray(store.ids), tuple(store.skipped_ids))
    y = load_labels(args, index, source=getattr(store, "source", None))
    result = pipeline.cluster(
        store,
        n_clusters=cluster_number(args.n_clusters),
        head=args.head,
        cluster_prior=_prior(args.cluster_prior),
        random_state=args.seed,
        preprocess=args.preprocess,
        calibrate=not args.no_calibrate,
        **read_answers(args.answers, index),
        head_params=dict(map(parse_param, args.param)),
    )
    result = named(args, result, namer)
    clustered = time.perf_counter()
    metrics = None if y is None else result.evaluate(y)
    result.save(out, metrics=metrics)
    note_place(args, store)
    report = None
    if not args.no_report:
        report = str(result.report(out / "report.html", labels=y, title=Path(args.data).stem))
    return {
        "out": str(out),
        "report": report,
        "rows": result.n_rows,
        "n_clusters": result.n_clusters,
        # Made for the report and shown in it; without one they would cost seconds.
        "levels": [level.n_clusters for level in result.levels] if report else None,
        "n_answers": len(result.answers),
        "head": result.head.name,
        "calibrated": result.is_calibrated,
        "mean_confidence": float(result.confidence.mean()),
        "sizes": np.sort(result.sizes)[::-1].tolist(),
        "skipped_ids": store.skipped_ids,
        **({} if metrics is None else options.jsonable(metrics)),
        "embed_seconds": round(embedded - started, 3),
        "embed_rows_per_second": round(result.n_rows / max(embedded - started, 1e-9), 1),
        "cluster_seconds": round(clustered - embedded, 3),
    }


def cluster_number(text: str) -> int | str:
    """Turn the argument into a number or "auto"."""
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"--n-clusters {text!r}: give a whole number or auto") from None


def _prior(text: str) -> Any:
    if text.endswith(".npy"):
        from fmcluster.utils.files import read_array

        if not Path(text).is_file():
            raise FileNotFoundError(f"{text}: no such file of cluster shares")
        return read_array(text)
    return text


def parse_param(text: str) -> tuple[str, Any]:
    """Turn ``name=value`` into a name and a YAML value."""
    import yaml

    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise ValueError(f"--param {text!r}: write it as name=value")
    return name, yaml.safe_load(value)


def render(payload: dict[str, Any]) -> str:
    """Say what came out."""
    sizes = payload["sizes"]
    word = "confidence" if payload["calibrated"] else "score (not calibrated)"
    lines = [
        f"{payload['rows']} rows in {payload['n_clusters']} clusters by {payload['head']}",
        f"sizes {sizes[0]} / {sizes[len(sizes) // 2]} / {sizes[-1]} (largest / middle / smallest)",
        f"mean {word} {100 * payload['mean_confidence']:.1f} %",
    ]
    if payload["levels"] and len(payload["levels"]) > 1:
        others = ", ".join(map(str, payload["levels"]))
        lines.append(f"numbers of clusters worth a look: {others}")
    if payload["n_answers"]:
        lines.append(f"{payload['n_answers']} answers are held")
    if "acc" in payload:
        lines.append(options.numbers({k: v for k, v in payload.items() if v is not None}))
    lines.append(
        f"embedding {payload['embed_seconds']} s ({payload['embed_rows_per_second']} rows/s), "
        f"clustering {payload['cluster_seconds']} s"
    )
    if payload["skipped_ids"]:
        lines.append(f"{len(payload['skipped_ids'])} rows were skipped")
    lines.append(f"open {payload['report'] or payload['out']}")
    return "\n".join(lines)
