"""Fits in threads equal a fit alone, and nothing moves the random numbers of whoever calls it."""

from __future__ import annotations

import contextlib
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import sklearn.preprocessing  # noqa: F401 - importing it draws from Python's own stream, once
import torch

import fmcluster as fmc
from fmcluster.embedding.encoders.augment import augment
from fmcluster.heads import list_heads, load_head, make_head
from fmcluster.heads.training.determinism import one_thread
from fmcluster.vectors.faiss_index import one_blas_thread

# Small networks that train for a moment: what is shared does not depend on their size.
SHORT = {
    "epochs": 2,
    "min_steps": 4,
    "self_label_epochs": 1,
    "pretrain_epochs": 1,
    "n_starts": 2,
    "n_heads": 2,
}
WIDTH = {"cdc": 8, "temi": 8, "dec": (16, 8), "idec": (16, 8)}


def short(name: str, seed: int):
    head = make_head(name, random_state=seed)
    known = head.get_params()
    quick = {key: value for key, value in SHORT.items() if key in known}
    if name != "hdbscan":
        quick["n_clusters"] = 3
    if name in WIDTH:
        quick["hidden"] = WIDTH[name]
    return head.set_params(**quick)


def state() -> list[bytes]:
    """Return where the three global streams stand, and torch's own settings."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 - the caller's, which must not move
    flushed = float(torch.tensor(1e-40) * 1) == 0
    return [
        torch.get_rng_state().numpy().tobytes(),
        keys.tobytes() + repr((kind, rest)).encode(),
        repr(random.getstate()).encode(),
        repr((torch.get_num_threads(), flushed)).encode(),
    ]


@contextlib.contextmanager
def unmoved():
    before = state()
    yield
    assert [a == b for a, b in zip(before, state(), strict=True)] == [True] * 4


@pytest.fixture(scope="module")
def rows(blobs):
    return blobs(n=60, k=3, d=8).x


@pytest.mark.parametrize("name", list_heads())
def test_fits_in_threads_equal_a_fit_alone(name, rows, tmp_path):
    with unmoved():
        alone = [short(name, seed).fit(rows).predict_proba(rows) for seed in (0, 1)]
    together = threading.Barrier(4)

    def work(seed):
        together.wait(timeout=60)
        torch.manual_seed(100 + seed)  # another's stream, which all threads share
        return short(name, seed).fit(rows).predict_proba(rows)

    with ThreadPoolExecutor(4) as pool:
        for number, found in enumerate(pool.map(work, (0, 1, 0, 1))):
            np.testing.assert_array_equal(found, alone[number % 2])
    head = short(name, 0).fit(rows)
    head.save_pretrained(tmp_path / "head")
    with unmoved():
        np.testing.assert_array_equal(load_head(tmp_path / "head").predict_proba(rows), alone[0])


def test_thread_counts_are_those_from_before_when_the_last_has_left():
    import faiss
    from threadpoolctl import threadpool_info

    def blas():
        # This thread's, of OpenMP, and the process's.
        pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
        shared = [p["num_threads"] for p in pools if p.get("threading_layer") != "openmp"]
        return [faiss.omp_get_max_threads(), *shared]

    with one_blas_thread():
        pass  # loads every BLAS there is
    before, counts = torch.get_num_threads(), blas()
    first, second = threading.Event(), threading.Event()
    seen = {}

    def outer():
        with one_thread(torch.device("cpu")), one_blas_thread():
            first.set()
            second.wait(30)

    def inner():
        first.wait(30)
        with one_thread(torch.device("cpu")), one_blas_thread():
            second.set()
            threads[0].join(30)  # the other leaves first
            seen["inside"] = (torch.get_num_threads(), blas()[0])

    threads = [threading.Thread(target=work) for work in (outer, inner)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert seen["inside"] == (1, 1)
    fresh = []
    late = threading.Thread(target=lambda: fresh.append((torch.get_num_threads(), blas())))
    late.start()
    late.join(30)
    assert (torch.get_num_threads(), blas()) == (before, counts)
    assert fresh == [(before, counts)]


def test_augmented_images_are_the_same_in_threads(rows):
    from PIL import Image

    draw = np.random.default_rng(0)
    images = [Image.fromarray(draw.integers(0, 255, (20, 24, 3), dtype=np.uint8)) for _ in range(6)]

    def pixels(strength):
        found = augment(images, "image", strength=strength, seed=3)
        return np.stack([np.asarray(image) for image in found])

    with unmoved():
        alone = {strength: pixels(strength) for strength in ("weak", "strong")}
    assert not np.array_equal(alone["weak"], alone["strong"])
    with ThreadPoolExecutor(4) as pool:
        asked = ["weak", "strong"] * 4
        for strength, found in zip(asked, pool.map(pixels, asked), strict=True):
            np.testing.assert_array_equal(found, alone[strength])


def test_no_command_moves_the_callers_numbers(tmp_path):
    words = ["invoice", "payment", "refund", "login", "password", "crash", "screen", "update"]
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(words[4 * (i % 2) :][:4], 5)) + f" {i}" for i in range(40)]
    with unmoved():
        store = fmc.embed(texts, encoder="tfidf")
        result = fmc.cluster(store, n_clusters=2, random_state=0)
        result.predict(texts[:5])
        ids = fmc.query(result, budget=6, random_state=0)
        fmc.propagate(result, ids, ["a", "b", "a", "b", "a", "b"])
        result.calibrate(ids, [str(c) for c in result.labels[ids]])
        fmc.find_label_issues(store, result.labels)
        fmc.fit_robust(store, result.labels, random_state=0)
        fmc.estimate_n_clusters(store, k_range=(2, 4), random_state=0)
        fmc.estimate_prior(result)
        result.report(tmp_path / "report.html")
        result.save(tmp_path / "run")
        fmc.ClusterResult.load(tmp_path / "run").predict(texts[:5])
