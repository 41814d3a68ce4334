"""Fixtures that every test file may use."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

# What takes longest, longest first: half a minute and more on one busy core.
SLOWEST = (
    "test_embed.py",
    "test_docs_code.py",
    "test_ray_engine.py",
    "test_estimate.py",
    "test_two_processes.py",
    "test_robust.py",
    "test_larger_than_memory.py",
    "test_ot.py",
    "test_balanced_number.py",
    "test_auto.py",
    "test_auto_threads.py",
    "test_readers.py",
    "test_candidates.py",
    "test_checkpoint.py",
    "test_lloyd.py",
    "test_app_browser.py",
    "test_gpu_script.py",
    "test_browser.py",
    "test_update.py",
    "test_cdc.py",
    "test_streams.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slowest files first: one that is begun last is waited for (``--dist loadfile``)."""
    place = {name: number for number, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(SLOWEST)))


def pytest_collection_finish() -> None:
    """Leave thousands of tests and modules out of what is looked through for garbage."""
    gc.collect()
    gc.freeze()


class Blobs(NamedTuple):
    """Rows of unit length and the cluster each was drawn from."""

    x: np.ndarray
    y: np.ndarray


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real data beside the repository; the test skips where it is absent."""
    root = Path(__file__).resolve().parents[1] / ".." / "shared"
    if not (root / "embeddings").is_dir():
        pytest.skip("no ../shared beside the repository")
    return root.resolve()


@pytest.fixture(scope="session")
def blobs():
    """Make small L2-normalised Gaussian clusters: ``blobs(n=..., k=..., d=..., sizes=...)``."""

    def make(
        n: int = 300,
        k: int = 4,
        d: int = 16,
        *,
        spread: float = 0.15,
        sizes: list[int] | None = None,
        seed: int = 0,
    ) -> Blobs:
        rng = np.random.default_rng(seed)
        sizes = sizes or [n // k + (i < n % k) for i in range(k)]
        y = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
        centres = np.linalg.qr(rng.normal(size=(max(d, len(sizes)), d)))[0]
        if len(sizes) > d:
            centres = rng.normal(size=(len(sizes), d))
        centres = centres[: len(sizes)] / np.linalg.norm(centres[: len(sizes)], axis=1)[:, None]
        x = centres[y] + spread * rng.normal(size=(len(y), d))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        return Blobs(x.astype(np.float32), y.astype(np.int64))

    return make
