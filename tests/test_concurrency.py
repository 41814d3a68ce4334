"""Two writers of one folder and a reader meanwhile: each read is whole, of either writer."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fmcluster as fmc
from fmcluster.embedding.store.store import EmbeddingStore
from fmcluster.heads import load_head, make_head
from fmcluster.hub import from_pretrained, save_pretrained
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.index import KNNIndex

SAVES, READS = 6, 12


@pytest.fixture(scope="module")
def made(blobs):
    """Two of everything, told apart by one number: the rows, the clusters or the neighbors."""
    found = {}
    for k in (3, 4):
        x = blobs(n=20 * k, k=k, d=6, seed=k).x
        found[k] = (x, fmc.cluster(x, n_clusters=k, head="kmeans"))
    return found


def store_of(x, result):
    # Of the same rows: another store in its folder is refused.
    return EmbeddingStore.from_array(np.eye(60, 6, dtype=np.float32), np.arange(60) + 60_000)


def check_store(store):
    n = len(store)
    assert np.asarray(store).shape == (n, 6)
    assert store.ids[0] == 1000 * n


def check_result(result):
    np.testing.assert_array_equal(result.proba.argmax(axis=1), result.labels)
    assert result.head.n_clusters_ == result.n_clusters == len(result.labels) // 20
    assert result.graph.n_rows == len(result.labels)


def check_pipeline(pipeline):
    assert pipeline.predict_proba(np.eye(6, dtype=np.float32)).shape == (6, pipeline.n_clusters)
    assert pipeline.provenance["head"]["params"]["n_clusters"] == pipeline.n_clusters


def check_head(head):
    assert head.get_params()["n_clusters"] == head.n_clusters_ == len(head.cluster_prior_)


def check_graph(graph):
    assert graph.indices.shape == (graph.n_rows, graph.n_rows // 20)
    assert graph.indices.max() < graph.n_rows


def check_index(index):
    assert index.search(np.eye(6), index.n_rows)[1].max() == index.n_rows - 1


KINDS = {
    "store": (store_of, lambda made, f: made.save(f), EmbeddingStore.open, check_store),
    "result": (
        lambda x, result: result,
        lambda made, f: made.save(f),
        fmc.ClusterResult.load,
        check_result,
    ),
    "pipeline": (lambda x, result: result, save_pretrained, from_pretrained, check_pipeline),
    "head": (
        lambda x, result: make_head("kmeans", n_clusters=len(x) // 20, random_state=0).fit(x),
        lambda made, f: made.save_pretrained(f),
        load_head,
        check_head,
    ),
    "graph": (
        lambda x, result: KNNGraph.build(x, k=len(x) // 20),
        lambda made, f: made.save(f),
        KNNGraph.load,
        check_graph,
    ),
    "index": (
        lambda x, result: KNNIndex.build(x, method="ivfpq"),
        lambda made, f: made.save(f),
        KNNIndex.load,
        check_index,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_two_writers_and_a_reader(kind, made, tmp_path):
    make, save, load, check = KINDS[kind]
    both = [make(*parts) for parts in made.values()]
    folder = tmp_path / "shared"
    save(both[0], folder)
    done = threading.Event()

    def write(value):
        for _ in range(SAVES):
            save(value, folder)

    def read():
        count = 0
        while count < READS or not done.is_set():
            check(load(folder))
            count += 1
        return count

    with ThreadPoolExecutor(3) as pool:
        reader = pool.submit(read)
        writers = [pool.submit(write, value) for value in both]
        try:
            for writer in writers:
                writer.result(timeout=60)
        finally:
            done.set()
        assert reader.result(timeout=60) >= READS
    check(load(folder))
    # Nothing of any writer is left beside it.
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["shared"]
