"""What `gpu.py` times."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from _gpu_parts import GIVEN, Where, drawn_graph, planted
from _gpu_vit import RandomViT
from _speed_cases import EPOCHS

from fmcluster.functional.metrics import evaluate
from fmcluster.heads import make_head
from fmcluster.heads.training.loop import _Loop
from fmcluster.heads.training.objective import TrainOptions
from fmcluster.utils.spent import recorded
from fmcluster.utils.stopping import Stopped
from fmcluster.vectors.exact_torch import search_on
from fmcluster.vectors.fit_data import HeadData
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import as_spaces

CLUSTERS = 100


def ceiling(where: Where, dtype: torch.dtype) -> float:
    """Return the operations a second of a large matrix product."""
    size = where.size(8_192, 128)
    a, b = (torch.randn(size, size, device=where.device).to(dtype) for _ in "ab")
    for _ in range(3):
        a @ b
    rounds = where.size(20, 3)
    _, seconds = where.timed(lambda: [a @ b for _ in range(rounds)])
    return 2.0 * size**3 * rounds / seconds


def products(where: Where) -> dict[str, Any]:
    """Time large matrix products: what everything else is a share of."""
    kinds = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp64": torch.float64}
    rates = {name: round(ceiling(where, kind) / 1e12, 3) for name, kind in kinds.items()}
    return {"tera_operations_a_second": rates}


def embedding(where: Where) -> dict[str, Any]:
    """Embed images that are in memory by ViT-B/14 and B/32; the share of the bf16 ceiling."""
    kinds = {"ViT-B/14": "vit_base_patch14_dinov2", "ViT-B/32": "vit_base_patch32_224"}
    size, n_rows = 224, 4_096
    if where.small:
        kinds, size, n_rows = {"ViT-Ti/16": "vit_tiny_patch16_224"}, 32, 40
    images = np.random.default_rng(0).integers(0, 256, (n_rows, 3, size, size), dtype=np.uint8)
    top, found = ceiling(where, torch.bfloat16), {}
    for title, name in kinds.items():
        encoder = RandomViT(name, size, device=where.device, precision="bf16")
        rows = list(images)
        encoder.encode(rows[:256])
        with recorded() as seconds:
            _, whole = where.timed(lambda encoder=encoder, rows=rows: encoder.encode(rows))
        rate = n_rows / whole
        found[title] = {
            "images_a_second": round(rate, 1),
            "giga_operations_an_image": round(encoder.operations / 1e9, 2),
            "share_of_ceiling": round(rate * encoder.operations / top, 3),
            "share_of_ceiling_in_forward": round(
                n_rows * encoder.operations / seconds["forward"] / top, 3
            ),
            "forward_share": round(seconds["forward"] / whole, 3),
        }
    return {"ceiling_tera": round(top / 1e12, 1), **found}


def neighbors(where: Where) -> dict[str, Any]:
    """Time the exact neighbors of a million rows; of some of them where not all have time."""
    n, d = where.size(1_000_000, 2_000), where.size(384, 16)
    x, _ = planted(n, d, CLUSTERS, device=where.device)
    some = x[: where.size(20_000, 200)]
    device, kept = where.device, []

    def search() -> bool:
        return search_on(device, some, x, GIVEN, lambda *_: kept.append(1), others=True)

    search()
    done, seconds = where.timed(search)
    found = {
        "rows": n,
        "dims": d,
        "had_room": done,
        "milliseconds_a_thousand_queries": round(1e6 * seconds / len(some), 3),
    }
    with where.on(however_little=where.small):
        graph, whole = where.timed(lambda: KNNGraph.build(x, k=GIVEN, method="exact"))
    return {**found, "whole_seconds": round(whole, 2), "recall": graph.recall}


def auto(where: Where) -> dict[str, Any]:
    """Time the default head on a million rows, neighbors given, and the prediction of all."""
    n, d = where.size(1_000_000, 1_000), where.size(384, 16)
    k = where.size(CLUSTERS, 10)
    x, y = planted(n, d, k, device=where.device)
    graph = drawn_graph(n, k)
    head = make_head("auto", n_clusters=k, random_state=0)
    with where.on(however_little=where.small):
        _, fit = where.timed(lambda: head.fit(x, graph=graph))
        labels, predict = where.timed(lambda: head.predict(x))
    return {
        "rows": n,
        "dims": d,
        "fit_seconds": round(fit, 2),
        "predict_seconds": round(predict, 2),
        "acc": round(float(evaluate(y, labels)["acc"]), 4),
    }


def epoch_of(name: str) -> Callable[[Where], dict[str, Any]]:
    """Return the timing of a trained head's epochs: one a stage, neighbors given."""

    def run(where: Where) -> dict[str, Any]:
        n, d = where.size(1_000_000, 600), where.size(768, 16)
        k = where.size(CLUSTERS, 5)
        x, graph = _rows_of(where, n, d, k)
        head = make_head(name, n_clusters=k, random_state=0)
        known = head.get_params()
        short = {key: 1 for key in (*EPOCHS, "min_steps") if key in known}
        if known.get("n_neighbors", 0) > GIVEN:
            short["n_neighbors"] = GIVEN
        head.set_params(options=TrainOptions(device=where.device.type), **short)
        data = HeadData(as_spaces(x), k, 0, graph)
        head.space_dims_ = [d]
        epochs, begun = _timed_epochs(where, lambda: head._fit(data))
        return {"rows": n, "dims": d, "changed": short, "begun": begun, **epochs}

    return run


def _rows_of(where: Where, n: int, d: int, k: int, kept: dict[Any, Any] = {}) -> Any:  # noqa: B006
    """Return the same rows and neighbors to all heads: to draw them takes seconds."""
    if (n, d, k) not in kept:
        kept.clear()
        kept[n, d, k] = planted(n, d, k, device=where.device)[0], drawn_graph(n, k)
    return kept[n, d, k]


def _timed_epochs(where: Where, fit: Callable[[], Any]) -> tuple[dict[str, Any], float]:
    """Return the seconds of the epochs of a fit, and those before the first; stopped or not."""
    inner, seconds, first = _Loop._epoch, [], []

    def timed(self: Any, number: int) -> dict[str, float]:
        first.append(time.perf_counter())
        record, own = where.timed(lambda: inner(self, number))
        seconds.append(round(own, 3))
        return record

    _Loop._epoch = timed  # type: ignore[method-assign]
    start, stopped = time.perf_counter(), False
    try:
        with where.on(however_little=where.small):
            fit()
    except Stopped:
        stopped = True
    finally:
        _Loop._epoch = inner  # type: ignore[method-assign]
    found: dict[str, Any] = {"epoch_seconds": seconds}
    if stopped:
        found["left_out"] = "told to end before the last of its stages was done"
    begun = round((first[0] if first else time.perf_counter()) - start, 3)
    return found, begun
