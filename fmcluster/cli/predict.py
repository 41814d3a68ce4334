"""``fmcluster predict``: new data into the clusters of a saved result."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from fmcluster.cli import incoming, options
from fmcluster.cli.labels import write_table
from fmcluster.utils.blocks import picked, row_argmax, row_max

EXAMPLE = "fmcluster predict run/ new.parquet --column text --out assigned.parquet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    incoming.add_data(parser)
    parser.add_argument("--id-column", help="column that holds row ids (default: as clustered)")
    options.add_on_error(parser)
    parser.add_argument(
        "--encoder",
        action="append",
        metavar="DIR",
        help="where the encoder's folder is now, if it was moved; repeat for several spaces",
    )
    parser.add_argument(
        "--encoder-option",
        action=options.EncoderOption,
        metavar="NAME=VALUE",
        help="of the --encoder before it; trust_remote_code=true is asked for anew",
    )
    parser.add_argument("--batch-size", type=int, metavar="N")
    parser.add_argument("--device")
    about = "Parquet (or, by its ending, CSV) of id, cluster, confidence"
    options.add_out(parser, about, metavar="FILE", required=True)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Encode as the result's data was, assign, write."""
    import pyarrow as pa
    from pyarrow import parquet

    from fmcluster.result.loop.incoming import source_of
    from fmcluster.result.result import ClusterResult
    from fmcluster.utils.files import atomic_path
    from fmcluster.vectors.rows import is_embeddings

    result = ClusterResult.load(args.result)
    data = incoming.new_data(args)
    if not is_embeddings(data):  # ids come from the column that the result's are from
        data = source_of(data, result, column=args.column, id_column=args.id_column)
    found = result.pipeline.predict_rows(
        data,
        encoder=args.encoder[0] if args.encoder and len(args.encoder) == 1 else args.encoder,
        batch_size=args.batch_size,
        device=args.device,
        on_error="raise" if args.on_error == "raise" else "mark",
    )
    kept = np.arange(len(found.ids))
    if args.on_error == "skip" and found.unreadable:
        kept = np.flatnonzero(~np.isin(found.ids, list(found.unreadable)))
    ids, proba = found.ids[kept], picked(found.proba, kept)
    labels, sure = row_argmax(proba), row_max(proba)
    columns: dict[str, Any] = {"id": ids, "cluster": labels, "confidence": sure}
    if result.names:
        columns["name"] = np.array(result.names, dtype=object)[labels]
    table = pa.table(columns)
    if Path(args.out).suffix.lower() in (".csv", ".tsv"):
        write_table(args.out, table.to_pandas())
    else:
        with atomic_path(args.out) as temporary:
            parquet.write_table(table, temporary)
    return {
        "out": args.out,
        "rows": len(proba),
        "n_clusters": result.n_clusters,
        "unreadable_ids": list(found.unreadable),
        "mean_confidence": float(sure.mean()),
        "sizes": np.bincount(labels, minlength=result.n_clusters).tolist(),
    }


def render(payload: dict[str, Any]) -> str:
    """Say what came out."""
    return (
        f"{payload['rows']} rows assigned to {payload['n_clusters']} clusters, mean confidence "
        f"{100 * payload['mean_confidence']:.1f} %\nwritten to {payload['out']}"
    )
