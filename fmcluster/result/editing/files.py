"""The files of edits: the steps of a pipeline, and what a result was before them.

``edits/`` holds ``edits.json``, a head for each split and tensors for each calibration; a pipeline
without edits has no such folder. ``unedited/`` holds the rows of a result before its first edit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fmcluster.calibration import Calibrator
from fmcluster.heads import load_head
from fmcluster.result.editing.apply import ROWS
from fmcluster.result.editing.chain import Clustering, Edit, Unedited
from fmcluster.result.editing.steps import STEPS, Recalibrate, Split
from fmcluster.result.loop.grow import Grow, NewClusters
from fmcluster.utils.errors import CorruptShardError
from fmcluster.utils.files import (
    as_corrupt,
    atomic_path,
    read_array,
    read_json,
    write_array,
    write_json,
)

FORMAT = "fmcluster.edits/1"
EDITS, UNEDITED = "edits", "unedited"
# Fields that JSON does not hold: a head's folder, tensors of a calibrator and of new clusters.
TENSORS = {"head", "calibrator", "model"}


def write_edits(edits: Sequence[Edit], folder: Path) -> None:
    """Write the steps of a pipeline below `folder`; nothing where there are none."""
    from safetensors.numpy import save_file

    if not edits:
        return
    steps = []
    for number, edit in enumerate(edits):
        fields = {f.name: getattr(edit, f.name) for f in dataclasses.fields(edit)}
        step: dict[str, Any] = {k: v for k, v in fields.items() if k not in TENSORS}
        if isinstance(edit, Split) and edit.head is not None:
            (folder / EDITS / str(number)).mkdir(parents=True)
            edit.head.write(folder / EDITS / str(number))
        if isinstance(edit, Recalibrate) and edit.calibrator is not None:
            arrays, step["calibrator"] = edit.calibrator.state()
            arrays = {key: np.ascontiguousarray(value) for key, value in arrays.items()}
            with atomic_path(folder / EDITS / f"{number}.safetensors") as temporary:
                save_file(arrays, temporary)
        if isinstance(edit, Grow) and edit.model is not None:
            with atomic_path(folder / EDITS / f"{number}.safetensors") as temporary:
                save_file(edit.model.arrays(), temporary)
        steps.append({"op": edit.op, **step})
    write_json(folder / EDITS / "edits.json", {"format": FORMAT, "edits": steps})


def read_edits(folder: Path, n_clusters: int) -> tuple[Edit, ...]:
    """Read the steps that `write_edits` wrote below `folder`; none where it wrote none.

    Raises
    ------
    CorruptShardError
        A file is damaged, of a later version, or not of a head with `n_clusters` clusters.
    """
    path = folder / EDITS / "edits.json"
    if not path.is_file():
        return ()
    saved = read_json(path)
    if not isinstance(saved, dict) or saved.get("format") != FORMAT:
        raise CorruptShardError(f"{path} is not of format {FORMAT!r}: update fmcluster")
    with as_corrupt(folder / EDITS):
        edits = tuple(_edit_of(path, number, each) for number, each in enumerate(saved["edits"]))
        for edit in edits:
            if not edit.fits(n_clusters):
                raise CorruptShardError(
                    f"{path}: {edit.log()} is no edit of {n_clusters} clusters: save it again"
                )
            n_clusters = edit.count(n_clusters)
    return edits


def _edit_of(path: Path, number: int, saved: dict[str, Any]) -> Edit:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    kind = (STEPS | {Grow.op: Grow}).get(saved["op"])
    if kind is None:
        raise CorruptShardError(f"{path} has an edit {saved['op']!r}: update fmcluster")
    given = {key: _frozen(value) for key, value in saved.items() if key != "op"}
    if kind is Split:
        given["head"] = load_head(path.parent / str(number))
    if kind in (Recalibrate, Grow):
        try:
            arrays = load_file(path.parent / f"{number}.safetensors")
        except (SafetensorError, ValueError, OSError) as error:
            raise CorruptShardError(f"{path.parent}/{number}.safetensors: {error}") from None
    if kind is Grow:
        given["model"] = NewClusters(**arrays)
    if kind is Recalibrate:
        given["given"] = saved["given"]
        given["calibrator"] = Calibrator.from_state(arrays, saved["calibrator"])
    return kind(**given)


def _frozen(value: Any) -> Any:
    """Return lists as tuples, as the steps hold them."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def write_unedited(unedited: Unedited | None, folder: Path) -> None:
    """Write what a result was before its edits below `folder`; nothing where it has none."""
    if unedited is None:
        return
    for name in ROWS:
        write_array(folder / UNEDITED / f"{name}.npy", getattr(unedited.rows, name))
    for number, parts in enumerate(unedited.parts):
        if parts is not None:
            write_array(folder / UNEDITED / f"parts.{number}.npy", parts)
    about = {"names": unedited.rows.names, "n_edits": len(unedited.parts)}
    write_json(folder / UNEDITED / "unedited.json", about)


def read_unedited(folder: Path) -> Unedited | None:
    """Read what `write_unedited` wrote below `folder`."""
    base = folder / UNEDITED
    if not (base / "unedited.json").is_file():
        return None
    about = read_json(base / "unedited.json")
    rows = {name: read_array(base / f"{name}.npy") for name in ROWS}
    paths = [base / f"parts.{number}.npy" for number in range(about["n_edits"])]
    parts = tuple(read_array(path) if path.is_file() else None for path in paths)
    return Unedited(Clustering(**rows, names=_frozen(about["names"])), parts)
