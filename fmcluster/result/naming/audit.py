"""``names_audit.jsonl``: what a namer was asked and what it answered, one line a cluster."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fmcluster.utils.errors import CorruptShardError
from fmcluster.utils.files import write_text

NAMES_AUDIT = "names_audit.jsonl"


def write_audit(records: Sequence[dict[str, Any]], folder: Path) -> None:
    """Write the records below `folder`; nothing where there are none."""
    if records:
        lines = [json.dumps(record, ensure_ascii=False, default=str) for record in records]
        write_text(folder / NAMES_AUDIT, "\n".join(lines) + "\n")


def read_audit(folder: Path) -> tuple[dict[str, Any], ...]:
    """Read the records that `write_audit` wrote; none where it wrote none.

    Raises
    ------
    CorruptShardError
        A line is no record.
    """
    path = folder / NAMES_AUDIT
    if not path.is_file():
        return ()
    records = []
    for number, line in enumerate(path.read_text(encoding="utf8").splitlines(), 1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            # A line of a terminal is enough to find the place by.
            raise CorruptShardError(f"{path} has no record in line {number}: {line[:80]!r}")
        records.append(record)
    return tuple(records)
