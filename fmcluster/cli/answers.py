"""A person's answers from a table: classes of rows (id, label) or pairs (id_a, id_b, same)."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from fmcluster.cli.labels import ANSWER_COLUMNS, read_table
from fmcluster.utils.errors import DataError
from fmcluster.utils.ids import IdIndex

PAIR = ["id_a", "id_b", "same"]
# A column with empty cells is written as 1.0 and 0.0 by pandas.
SAME = {"1", "1.0", "true", "yes", "y", "same"}
DIFFERENT = {"0", "0.0", "false", "no", "n", "different"}


def add_answers(parser: argparse.ArgumentParser) -> None:
    """Add the answers, which the clusters hold."""
    parser.add_argument(
        "--answers",
        metavar="FILE",
        action="append",
        default=[],
        help="table with columns id and label, or id_a, id_b and same (yes or no): the clusters "
        "hold them and are named after the labels; repeat for several files",
    )


def read_answers(paths: list[str], index: IdIndex) -> dict[str, Any]:
    """Return the arguments `labels`, `must_link` and `cannot_link` of `cluster`; None for no such.

    Rows whose cell is empty were not answered and are passed over.

    Raises
    ------
    DataError
        A table without the columns, a value of `same` that is neither yes nor no, an id with two
        labels.
    """
    labels: dict[Any, str] = {}
    links: dict[bool, list[list[Any]]] = {True: [], False: []}
    for path in paths:
        table = read_table(path, [], index=index)
        label = next((c for c in ANSWER_COLUMNS if c in table), None)
        if "id" in table and label is not None:
            for one, value in zip(table["id"].tolist(), table[label], strict=True):
                if value != "" and labels.setdefault(one, value) != value:
                    raise DataError(
                        f"{path}: row {one!r} is {labels[one]!r} and {value!r}: say one"
                    )
        elif set(PAIR) <= set(table.columns):
            told = table[table["same"].str.strip() != ""]
            ids = [index.parse(told[column].tolist(), name=column).tolist() for column in PAIR[:2]]
            for a, b, same in zip(*ids, told["same"].str.strip().str.lower(), strict=True):
                if same not in SAME | DIFFERENT:
                    raise DataError(f"{path}: same is {same!r} for {a!r} and {b!r}: say yes or no")
                links[same in SAME].append([a, b])
        else:
            raise DataError(
                f"{path} has columns {list(table.columns)}: id and label are needed, or id_a, id_b "
                "and same"
            )
    must, cannot = (np.asarray(links[same]) if links[same] else None for same in (True, False))
    return {"labels": labels or None, "must_link": must, "cannot_link": cannot}
