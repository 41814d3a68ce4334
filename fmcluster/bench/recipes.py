"""Recipes: a published experiment as a YAML file that names data, encoder, head and the number.

A recipe is read with ``yaml.safe_load``, checked against the signatures it will call before
anything is downloaded, and run through `embed` and `cluster`. Labels are read to build the
published subset (classes, long tail) and to evaluate, never to fit or choose.
"""

from __future__ import annotations

import os
import sysconfig
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmcluster import api as pipeline
from fmcluster.embedding.data.labels import read_labels
from fmcluster.heads import make_head
from fmcluster.partition.estimates.estimate import make_long_tail
from fmcluster.result.result import ClusterResult
from fmcluster.utils.errors import DataError
from fmcluster.utils.random import seed_of
from fmcluster.vectors.preprocess import parse_steps

METRICS = ("acc", "nmi", "ari", "ece")
TABLES = {".parquet", ".csv", ".tsv", ".jsonl"}
# Fewer rows than this a cluster, after --limit, and the number of clusters is lowered.
ROWS_PER_CLUSTER = 5


@dataclass(frozen=True)
class RecipeData:
    """Where the rows are.

    Attributes
    ----------
    hub : str or None
        Hub id; None where no copy on the Hub is known.
    split, column, label : str
        Split, column of texts or images, column of true labels.
    source : str or None
        Where the data can be had otherwise.
    classes : list or None
        Only rows of these labels.
    imbalance_ratio : float or None
        Cut to a long tail of this ratio.
    """

    hub: str | None = None
    split: str = "train"
    column: str | None = None
    label: str | None = None
    source: str | None = None
    classes: list[Any] | None = None
    imbalance_ratio: float | None = None


@dataclass(frozen=True)
class Recipe:
    """One experiment.

    Attributes
    ----------
    title : str
        What it is.
    data : RecipeData
        Rows and labels.
    encoder : str or list of str
        As for `embed`; ``pixels`` takes the pixels themselves.
    head : str
        One of `list_heads`.
    n_clusters : int or "auto"
        Number of clusters.
    published : dict
        ``paper``, numbers in percent (acc, nmi, ari, ece), and ``measured_on`` where they were
        measured on something else than this recipe runs.
    params : dict
        Arguments of the head.
    preprocess : str or None
        Steps as for `Preprocessor`.
    note : str
        What a reader should know.
    """

    title: str
    data: RecipeData
    encoder: Any
    head: str
    n_clusters: int | str
    published: dict[str, Any]
    params: dict[str, Any] = field(default_factory=dict)
    preprocess: str | None = None
    note: str = ""


class PixelEncoder:
    """The pixels of an image as its vector, in 0..1; all images must have one size."""

    modality = "image"
    fingerprint = "fmcluster.pixels/1"

    def encode(self, rows: list[Any]) -> NDArray[np.float32]:
        """Return (n, height * width * channels)."""
        return np.stack([np.asarray(row, np.float32).reshape(-1) / 255 for row in rows])


# -- reading ------------------------------------------------------------------------------------


def recipe_folders() -> list[Path]:
    """Return the folders in which recipes are looked for: the checkout's and the installed ones."""
    package = Path(__file__).resolve().parents[1]
    roots = [
        package.parent / "recipes",
        package.parent / "share" / "fmcluster" / "recipes",
        Path(sysconfig.get_path("data")) / "share" / "fmcluster" / "recipes",
    ]
    return [root for root in roots if root.is_dir()]


def list_recipes() -> list[str]:
    """Return the names of all recipes, such as ``"cifar10"`` and ``"heads/dec"``."""
    names: set[str] = set()
    for root in recipe_folders():
        paths = root.rglob("*.yaml")
        names |= {path.relative_to(root).with_suffix("").as_posix() for path in paths}
    return sorted(names)


def find_recipe(name: str | os.PathLike[str]) -> Path:
    """Return the file of a recipe: a path, or a name of `list_recipes`.

    Raises
    ------
    FileNotFoundError
        Neither; the recipes are listed.
    """
    path = Path(name)
    if path.is_file():
        return path
    inner = Path(*path.parts[1:]) if path.parts[:1] == ("recipes",) else path
    if ".." not in inner.parts and not inner.is_absolute():
        for root in recipe_folders():
            found = root / inner.with_suffix(".yaml")
            if found.is_file():
                return found
    raise FileNotFoundError(
        f"{os.fspath(name)}: no such recipe\ngive a YAML file or one of {', '.join(list_recipes())}"
    )


def load_recipe(name: str | os.PathLike[str]) -> Recipe:
    """Read and check a recipe.

    Raises
    ------
    ValueError
        Unknown or missing fields, an unknown head, arguments that the head does not have, bad
        preprocessing steps; the file is named.
    """
    import yaml

    path = find_recipe(name)
    try:
        text = path.read_text(encoding="utf-8")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            # A few lines of aliases of aliases are billions of values.
            raise ValueError("aliases (*name) are not taken: write the value out")
        return _checked(yaml.safe_load(text))
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise ValueError(f"recipe {path}: {str(error).splitlines()[0]}") from None


def _checked(value: Any) -> Recipe:
    if not isinstance(value, dict):
        raise ValueError(f"a recipe is a mapping of fields, got {type(value).__name__}")
    known = {each.name for each in fields(Recipe)}
    unknown = sorted(set(value) - known)
    if unknown:
        raise ValueError(f"unknown field {unknown[0]!r}: the fields are {sorted(known)}")
    needed = known - {"params", "preprocess", "note"}
    if needed - set(value):
        raise ValueError(f"field {sorted(needed - set(value))[0]!r} is missing")
    recipe = Recipe(**{**value, "data": RecipeData(**value["data"])})
    make_head(recipe.head, **recipe.params)
    parse_steps(recipe.preprocess or "")
    k = recipe.n_clusters
    if k != "auto" and not (isinstance(k, int) and k > 1):
        raise ValueError(f"n_clusters={k!r}: give a whole number above 1, or auto")
    if not isinstance(recipe.published, dict) or not recipe.published.get("paper"):
        raise ValueError("published must name a paper")
    return recipe


# -- running ------------------------------------------------------------------------------------


def run_recipe(
    recipe: Recipe,
    *,
    data: str | os.PathLike[str] | None = None,
    column: str | None = None,
    labels_column: str | None = None,
    limit: int | None = None,
    encoder: Any = None,
    cache_dir: str | os.PathLike[str] | None = None,
    batch_size: int | None = None,
    device: str | None = None,
    random_state: int = 0,
) -> tuple[ClusterResult, NDArray[Any] | None, dict[str, Any]]:
    """Run a recipe and hold it against the published number.

    Parameters
    ----------
    recipe : Recipe
        What `load_recipe` gave.
    data : path, optional
        Local data in place of the Hub's: Parquet, CSV, JSONL, a folder of images a class, ``.npy``
        embeddings.
    column, labels_column : str, optional
        Columns of the local data, where they have other names than the recipe's.
    limit : int, optional
        A random sample of so many rows.
    encoder : str or list, optional
        In place of the recipe's.
    cache_dir, batch_size, device
        As for `embed`.
    random_state : int
        The one seed.

    Returns
    -------
    (result, labels or None, summary)
        The summary has the measured numbers, the published ones, and whether they can be compared.
    """
    rows, name, y = _load(recipe.data, data, column, labels_column)
    keep = _subset(recipe.data, y, len(rows), limit, random_state)
    rows, y = _take(rows, keep), None if y is None else y[keep]
    asked = recipe.encoder if encoder is None else encoder
    store = pipeline.embed(
        rows,
        encoder=_encoder(asked),
        column=name,
        cache_dir=cache_dir,
        batch_size=batch_size,
        device=device,
        random_state=random_state,
    )
    result = pipeline.cluster(
        store,
        n_clusters=_n_clusters(recipe.n_clusters, len(keep)),
        head=recipe.head,
        head_params=recipe.params,
        preprocess=recipe.preprocess,
        random_state=random_state,
    )
    same = (
        limit is None and encoder is None and data is None and "measured_on" not in recipe.published
    )
    return result, y, _summary(recipe, result, y, comparable=same)


def _summary(
    recipe: Recipe, result: ClusterResult, y: NDArray[Any] | None, *, comparable: bool
) -> dict[str, Any]:
    measured = {} if y is None else result.evaluate(y)
    found = {key: round(100 * float(measured[key]), 2) for key in METRICS if key in measured}
    numbers = {key: recipe.published[key] for key in METRICS if key in recipe.published}
    return {
        "title": recipe.title,
        "head": recipe.head,
        "encoder": recipe.encoder,
        "rows": result.n_rows,
        "n_clusters": result.n_clusters,
        "mean_confidence": round(100 * float(result.confidence.mean()), 2),
        "measured": found,
        "published": {**numbers, "paper": recipe.published["paper"]},
        "published_on": recipe.published.get("measured_on"),
        "comparable": comparable and bool(found) and bool(numbers),
    }


def _encoder(name: Any) -> Any:
    if isinstance(name, (list, tuple)):
        return [_encoder(each) for each in name]
    return PixelEncoder() if name == "pixels" else name


def _n_clusters(asked: int | str, n_rows: int) -> int | str:
    return asked if isinstance(asked, str) else max(2, min(asked, n_rows // ROWS_PER_CLUSTER))


def _load(
    about: RecipeData,
    path: str | os.PathLike[str] | None,
    column: str | None,
    labels_column: str | None,
) -> tuple[Any, str | None, NDArray[Any] | None]:
    """Return rows, the column of the data in them, and labels where there are any."""
    if path is None:
        ds = _from_hub(about)
        return ds, about.column, None if about.label is None else read_labels(ds, about.label)
    local = Path(path)
    if not local.exists():
        raise FileNotFoundError(f"{local}: no such file or folder")
    if local.is_dir():
        from fmcluster.embedding.data.files.folders import list_files

        _, names = list_files(local, "image")
        return [str(local / name) for name in names], None, read_labels(local)
    if local.suffix.lower() not in TABLES:
        return np.load(local, mmap_mode="r", allow_pickle=False), None, None
    table = _read_table(local)
    name = column or (about.column if about.column in table.columns else None)
    found = [each for each in (labels_column, about.label, "label") if each in table.columns]
    if labels_column and labels_column not in table.columns:
        raise DataError(f"{local} has no column {labels_column!r}: {list(table.columns)}")
    return table, name, table[found[0]].to_numpy() if found else None


def _read_table(path: Path) -> Any:
    import pandas as pd

    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return pd.read_parquet(path)
    if suffix == ".jsonl":
        return pd.read_json(path, lines=True)
    return pd.read_csv(path, sep="\t" if suffix == ".tsv" else ",")


def _from_hub(about: RecipeData) -> Any:
    from datasets import load_dataset

    if about.hub is None:
        raise DataError(
            "no copy of this data on the Hub is known\n"
            f"get it from {about.source} and pass it with --data FILE"
        )
    try:
        return load_dataset(about.hub, split=about.split)
    except Exception as error:  # noqa: BLE001
        raise DataError(
            f"{about.hub!r} cannot be had from the Hub ({type(error).__name__})\n"
            "go online once to cache it, or pass local data with --data FILE"
        ) from None


def _take(rows: Any, keep: NDArray[np.int64]) -> Any:
    if hasattr(rows, "iloc"):
        return rows.iloc[keep].reset_index(drop=True)
    if isinstance(rows, list):
        return [rows[i] for i in keep]
    if isinstance(rows, np.ndarray):
        return np.asarray(rows[keep])
    return rows if len(keep) == len(rows) else rows.select(keep)


def _subset(
    about: RecipeData, y: NDArray[Any] | None, n: int, limit: int | None, random_state: int
) -> NDArray[np.int64]:
    """Return the rows of the published subset, then a random `limit` of them, ascending."""
    keep = np.arange(n)
    if y is not None and about.classes is not None:
        kept = keep[np.isin(y, about.classes)]
        # Local data that is the subset already has other labels: it is taken as it is.
        keep = kept if len(kept) else keep
    if y is not None and about.imbalance_ratio is not None:
        cut = make_long_tail(y[keep], about.imbalance_ratio, random_state=random_state)
        keep = keep[cut]
    if limit is not None and limit < len(keep):
        generator = np.random.default_rng(seed_of(random_state, "recipe"))
        keep = np.sort(generator.choice(keep, limit, replace=False))
    return keep
