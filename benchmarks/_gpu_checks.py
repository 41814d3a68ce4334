"""What `gpu.py` checks: the device's answers against the processor's."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _gpu_parts import Where, compared, planted
from _gpu_vit import RandomViT

from fmcluster.functional.labels.spread import affinity, spread_labels
from fmcluster.functional.ot import sinkhorn
from fmcluster.heads import make_head
from fmcluster.heads.training.loop import _Loop
from fmcluster.heads.training.objective import TrainOptions
from fmcluster.partition.kmeans import spherical_kmeans
from fmcluster.vectors.exact import nearest_rows
from fmcluster.vectors.graph import KNNGraph

# A head's labels on both devices: ten epochs are enough for clusters that lie apart.
SHORT = {"epochs": 10, "self_label_epochs": 5, "pretrain_epochs": 5, "semi_epochs": 5}


def neighbors(where: Where) -> dict[str, Any]:
    """Compare exact neighbors: the same rows, but where cosines are equal to rounding."""
    x, _ = planted(where.size(20_000, 500), where.size(256, 16), 20)
    (there, cosines), (here, expected) = where.both(lambda _: nearest_rows(x, 20))
    same = np.mean([len(np.intersect1d(a, b)) for a, b in zip(there, here, strict=True)]) / 20
    error = float(np.abs(cosines - expected).max())
    passed = bool(same >= 0.999 and error < 1e-5)
    return {"passed": passed, "same": round(float(same), 5), "largest_difference": error}


def k_means(where: Where) -> dict[str, Any]:
    """Compare the objectives of k-means from several starts."""
    x, _ = planted(where.size(20_000, 600), where.size(128, 16), 20)
    means = [
        float((x @ found.T).max(axis=1).mean())
        for found in where.both(lambda _: spherical_kmeans(x, 20, n_init=8, seed=0))
    ]
    return {"passed": means[0] > 0.99 * means[1], "mean_cosine": [round(m, 5) for m in means]}


def transport(where: Where) -> dict[str, Any]:
    """Compare plans: of a tensor that is on the device, and of an array."""
    scores = np.random.default_rng(0).normal(size=(where.size(50_000, 400), 20)).astype(np.float32)
    uneven = np.arange(1, 21) / np.arange(1, 21).sum()
    given = {"col_marginal": uneven, "epsilon": 0.1, "tol": 1e-6}
    there = sinkhorn(torch.from_numpy(scores).to(where.device), **given)
    here = sinkhorn(scores, **given)
    gap = torch.as_tensor(there.col_potential).cpu().numpy() - np.asarray(here.col_potential)
    error = float(np.ptp(gap))  # a constant moves nothing
    passed = bool(error < 1e-3 and there.status == here.status)
    return {"passed": passed, "largest_difference": error, "status": there.status}


def mixture(where: Where) -> dict[str, Any]:
    """Compare Gaussian mixtures."""
    x, y = planted(where.size(20_000, 400), where.size(128, 16), 10)
    there, here = where.both(
        lambda _: make_head("gmm", n_clusters=10, random_state=0).fit(x).labels_
    )
    return compared(y, there, here, least=0.99)


def spread(where: Where) -> dict[str, Any]:
    """Compare labels that are spread from a hundred rows."""
    x, y = planted(where.size(20_000, 400), where.size(128, 16), 10)
    graph = KNNGraph.build(x, k=15)
    edges, rows = affinity(graph.indices, graph.similarities), np.arange(100)
    there, here = (
        spread_labels(x - x.mean(axis=0), edges, rows, y[rows], 10, device=device)[0]
        for device in (where.device, None)
    )
    same = float((there.argmax(axis=1) == here.argmax(axis=1)).mean())
    return {"passed": same > 0.999, "same": round(same, 5)}


def prediction(where: Where) -> dict[str, Any]:
    """Compare the probabilities that fitted heads give rows."""
    x, _ = planted(where.size(20_000, 400), where.size(128, 16), 10)
    errors = {}
    for name in ("auto", "scan"):
        with where.off():
            head = fitted(name, x[: len(x) // 2], "cpu")
        there, here = where.both(lambda _, head=head: head.predict_proba(x))
        errors[name] = float(np.abs(there - here).max())
    return {"passed": max(errors.values()) < 1e-5, "largest_difference": errors}


def fitted(name: str, x: Any, device: str, n_clusters: int = 10, **more: Any) -> Any:
    """Return a head that is fitted on a device, its training short."""
    head = make_head(name, n_clusters=n_clusters, random_state=0)
    known = head.get_params()
    head.set_params(**{key: value for key, value in SHORT.items() if key in known})
    if "options" in known:
        head.set_params(options=TrainOptions(device=device, **more))
    if "min_steps" in known:
        head.set_params(min_steps=1)
    if "hidden" in known and name in ("dec", "idec"):
        head.set_params(hidden=(64, 64, 128))
    return head.fit(x)


def auto(where: Where) -> dict[str, Any]:
    """Compare the default head's labels."""
    x, y = planted(where.size(20_000, 400), where.size(128, 16), 10)
    there, here = where.both(lambda device: fitted("auto", x, device).labels_)
    return compared(y, there, here, least=0.99)


def head_of(name: str) -> Callable[[Where], dict[str, Any]]:
    """Return the check of a trained head."""

    def check(where: Where) -> dict[str, Any]:
        x, y = planted(where.size(2_000, 200), where.size(64, 16), 5)
        there, here = where.both(lambda device: fitted(name, x, device, n_clusters=5).labels_)
        return compared(y, there, here, least=0.99)

    return check


class _Broken(Exception):
    """A fit is cut off where a checkpoint was written."""


def resume(where: Where) -> dict[str, Any]:
    """Begin a fit on one device and end it on the other; the losses go on where they were."""
    x, y = planted(where.size(2_000, 200), where.size(64, 16), 5)
    unbroken = fitted("scan", x, "cpu", n_clusters=5)
    found: dict[str, Any] = {"passed": True}
    devices = (where.device.type, "cpu")
    for first, second in (devices, devices[::-1]):
        with tempfile.TemporaryDirectory() as folder:
            seen = _cut_off(x, first, folder)
            head = fitted("scan", x, second, n_clusters=5, checkpoint_dir=folder)
        result = compared(y, head.labels_, unbroken.labels_, least=0.99)
        kept = [epoch["loss"] for epoch in head.history_[: len(seen)]]
        result["passed"] &= kept == seen and len(head.history_) == len(unbroken.history_)
        found[f"{first} then {second}"] = result
        found["passed"] &= result["passed"]
    return found


def _cut_off(x: Any, device: str, folder: str) -> list[float]:
    """Fit until the fourth epoch; return the losses of those that were kept."""
    inner, losses = _Loop._epoch, []

    def until_the_fourth(self: Any, number: int) -> dict[str, float]:
        if number == 3:
            raise _Broken
        record = inner(self, number)
        losses.append(record["loss"])
        return record

    _Loop._epoch = until_the_fourth  # type: ignore[method-assign]
    try:
        fitted("scan", x, device, n_clusters=5, checkpoint_dir=folder)
    except _Broken:
        pass
    finally:
        _Loop._epoch = inner  # type: ignore[method-assign]
    return losses


def encoder(where: Where) -> dict[str, Any]:
    """Compare embeddings in bf16 on the device with those in fp32 on the processor."""
    name, size = ("vit_tiny_patch16_224", 32) if where.small else ("vit_small_patch16_224", 224)
    images = np.random.default_rng(0).integers(0, 256, (16, 3, size, size), dtype=np.uint8)
    there = RandomViT(name, size, device=where.device, precision="bf16").encode(list(images))
    here = RandomViT(name, size, device="cpu", precision="fp32").encode(list(images))
    lengths = np.linalg.norm(there, axis=1) * np.linalg.norm(here, axis=1)
    least = float(((there * here).sum(axis=1) / lengths).min())
    return {"passed": least > 0.99, "least_cosine": round(least, 5)}
