"""Arguments that several commands share, and how they become calls of the Python API."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fmcluster.utils.files import check_place

# The parts that rows of pairs can have.
PARTS = ("image", "audio", "text")


def column(text: str) -> str | dict[str, str]:
    """Return what ``--column`` names: one column, or one for each part of pairs.

    >>> column("text"), column("image=photo,text=caption")
    ('text', {'image': 'photo', 'text': 'caption'})
    """
    named = [each.partition("=") for each in text.split(",")]
    if not all(equals and part in PARTS for part, equals, _ in named):
        return text
    parts = {part: name for part, _, name in named}
    if len(parts) < len(named) or not all(parts.values()):
        raise argparse.ArgumentTypeError(f"{text!r} does not name one column for each part")
    return parts


def add_column(parser: argparse.ArgumentParser) -> None:
    """Add the column of the rows."""
    parser.add_argument(
        "--column",
        type=column,
        metavar="NAME",
        help="column that holds the texts, images or recordings; image=NAME,text=NAME for pairs",
    )


def add_result(parser: argparse.ArgumentParser) -> None:
    """Add the saved result."""
    parser.add_argument("result", help="folder that `fmcluster cluster --out` wrote")


def add_out(
    parser: argparse.ArgumentParser,
    about: str,
    *,
    metavar: str = "DIR",
    required: bool = False,
    default: str | None = None,
) -> None:
    """Add the place of what is written: a folder (DIR), or a file (FILE)."""
    kind = new_place if metavar == "DIR" else new_file
    parser.add_argument(
        "--out", type=kind, metavar=metavar, required=required, default=default, help=about
    )


def result_place(text: str) -> Path:
    """Return where a result is to be saved, refused before the work where it cannot be."""
    from fmcluster.result.files import BESIDE, MARKER
    from fmcluster.utils.folders import check_replaceable

    check_replaceable(text, MARKER, beside=BESIDE)
    return Path(text)


def check_there(data: str) -> None:
    """Raise FileNotFoundError where no file, folder, pattern or URL is given."""
    from fmcluster.embedding.data.files.remote import is_url
    from fmcluster.embedding.data.readers import is_pattern

    if not (is_url(data) or Path(data).exists() or is_pattern(data)):
        raise FileNotFoundError(f"{data}: no such file or folder")


class EncoderOption(argparse.Action):
    """``--encoder-option NAME=VALUE``: an option of the ``--encoder`` before it, into its spec."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Turn the last encoder's name into a spec that holds the option."""
        name, equals, value = str(values).partition("=")
        if not equals or not name:
            parser.error(f"argument {option_string}: {values!r} is not NAME=VALUE")
        given = list(getattr(namespace, "encoder", None) or [])
        if not given:
            parser.error(f"argument {option_string}: it follows the --encoder that it is for")
        spec = given[-1] if isinstance(given[-1], dict) else {"encoder": given[-1]}
        said: Any = value
        if name in ("truncate_dim", "max_length") and value.isdecimal():
            said = int(value)
        if name == "trust_remote_code":
            if value.lower() not in ("true", "false"):
                parser.error(f"argument {option_string}: {name} is true or false, got {value!r}")
            said = value.lower() == "true"
        namespace.encoder = [*given[:-1], {**spec, name: said}]


def add_on_error(
    parser: argparse.ArgumentParser, choices: Sequence[str] = ("raise", "skip", "mark")
) -> None:
    """Add what becomes of rows that cannot be read."""
    parser.add_argument(
        "--on-error",
        choices=choices,
        default="raise",
        help="what to do with rows that cannot be read (default: raise)",
    )


def new_place(text: str) -> str:
    """Return the value of ``--out``, refused before the work where nothing can be written there."""
    try:
        check_place(text)
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def new_file(text: str) -> str:
    """Return the value of an ``--out`` that is a file: no folder, either."""
    if Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder: name a file")
    return new_place(text)


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add the data and how to read it."""
    parser.add_argument(
        "data",
        help="file (csv, parquet, jsonl, json, txt, npy, xlsx; zip or tar of images or "
        "recordings), 'part-*.parquet', folder of images or recordings, store",
    )
    add_column(parser)
    parser.add_argument("--id-column", help="column that holds row ids (default: row numbers)")
    parser.add_argument(
        "--modality", choices=("image", "audio", "text"), help="only where it is unclear"
    )
    add_on_error(parser)
    parser.add_argument("--split", metavar="NAME", help="which split, where the data has several")
    parser.add_argument("--limit", type=int, metavar="N", help="read N rows and no more")


def add_encoder(parser: argparse.ArgumentParser) -> None:
    """Add the encoder and how to run it."""
    parser.add_argument(
        "--encoder",
        action="append",  # a later --encoder-option makes the last one a spec
        metavar="NAME",
        help="Hub id, folder, open_clip:ARCH/TAG, packaged:NAME (see `fmcluster encoders`), "
        "tfidf or auto; repeat for several spaces",
    )
    parser.add_argument(
        "--encoder-option",
        action=EncoderOption,
        metavar="NAME=VALUE",
        help="of the --encoder before it: prompt, truncate_dim, max_length, long=chunk-mean, "
        "pooling, backend, precision=int8, revision, trust_remote_code; repeat",
    )
    parser.add_argument("--batch-size", type=int, metavar="N", help="default: chosen, then halved")
    parser.add_argument("--device", help="default: what accelerate gives")
    parser.add_argument(
        "--precision", choices=("auto", "fp32", "bf16"), default="auto", help="of the encoder"
    )
    parser.add_argument(
        "--dtype", choices=("float16", "float32"), default="float16", help="of the store"
    )
    parser.add_argument("--views", type=int, default=0, metavar="N", help="augmented views to keep")
    parser.add_argument("--augment", choices=("weak", "strong"), default="weak")
    parser.add_argument("--cache-dir", help="where stores are kept when no folder is named")


def encoder_of(args: argparse.Namespace) -> Any:
    """Return one encoder name, a list of several, or None for the default."""
    if not args.encoder:
        return None
    if isinstance(args.column, dict):
        return _by_part(args.encoder)
    return args.encoder[0] if len(args.encoder) == 1 else list(args.encoder)


def _by_part(given: list[Any]) -> Any:
    """Return the encoders of pairs by part, or the one of both."""
    parts: dict[str, list[Any]] = {}
    for each in given:
        name = each["encoder"] if isinstance(each, dict) else each
        part, equals, own = name.partition("=")
        if equals and part in PARTS:
            parts.setdefault(part, []).append({**each, "encoder": own} if name is not each else own)
    if not parts and len(given) == 1:
        return given[0]
    if sum(map(len, parts.values())) < len(given):
        raise ValueError(
            f"--encoder {' '.join(map(str, given))}: pairs take an encoder for each part, as "
            "--encoder image=packaged:efficientnet-lite2 --encoder text=packaged:minilm"
        )
    return parts


def load_data(args: argparse.Namespace, *, folder: str | Path | None = None) -> Any:
    """Return the embedding store of the data: opened, read as vectors, or embedded now."""
    from fmcluster.api import embed
    from fmcluster.embedding.store.store import EmbeddingStore

    check_there(args.data)
    path = Path(args.data)
    if (path / "manifest.json").is_file():
        return embed(EmbeddingStore.open(path), encoder=encoder_of(args))
    return embed(
        args.data,
        encoder=encoder_of(args),
        column=args.column,
        split=args.split,
        folder=folder,
        cache_dir=args.cache_dir,
        n_views=args.views,
        augment=args.augment,
        batch_size=args.batch_size,
        device=args.device,
        precision=args.precision,
        dtype=args.dtype,
        on_error=args.on_error,
        repair=getattr(args, "repair", False),
        reuse=getattr(args, "reuse", None) or True,
        engine=getattr(args, "engine", "local"),
        workers=getattr(args, "workers", None),
        n_rows=args.limit,
        id_column=args.id_column,
        modality=args.modality,
        random_state=args.seed,
    )


def open_embeddings(path: str | Path) -> Any:
    """Return ready embeddings: a store, or a ``.npy`` array as a memory map."""
    from fmcluster.embedding.store.store import EmbeddingStore
    from fmcluster.utils.files import read_array

    return EmbeddingStore.open(path) if Path(path).is_dir() else read_array(path, mmap=True)


def numbers(metrics: dict[str, float]) -> str:
    """Render metrics as one line of percentages."""
    shown = [
        f"{key} {100 * metrics[key]:.1f}"
        for key in ("acc", "nmi", "ari", "macro_acc", "tail_acc", "ece", "auroc")
        if key in metrics and np.isfinite(metrics[key])
    ]
    return "  ".join(shown) + "  (%)"


def jsonable(metrics: dict[str, float]) -> dict[str, float | None]:
    """Return metrics with NaN as None, which JSON knows; the number of clusters stays apart."""
    kept = {k: v for k, v in metrics.items() if k != "n_clusters"}
    return {k: (float(v) if np.isfinite(v) else None) for k, v in kept.items()}
