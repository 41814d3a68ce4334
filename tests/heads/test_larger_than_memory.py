"""Heads learn from rows on disk that the process has no room for: the system enforces it."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from helpers_fork import run_forked

from fmcluster.embedding.store.store import EmbeddingStore

ROWS, DIMS, CLUSTERS = 210_000, 128, 5
# RLIMIT_DATA counts what a process holds by itself, not the pages of files that it maps.
SCRIPT = """
import json, resource, sys
import numpy as np
from fmcluster import EmbeddingStore
from fmcluster.heads import make_head
from fmcluster.vectors.rows import Rows
from fmcluster.vectors.graph import KNNGraph

kind, name, folder = sys.argv[1:]
Rows.__init__.__kwdefaults__["memory_bytes"] = 2**20
rows = (np.load(f"{folder}/x.npy", mmap_mode="r") if kind == "map"
        else EmbeddingStore.open(f"{folder}/store"))
params = {"scan": {"epochs": 1, "self_label_epochs": 1, "min_steps": 1, "n_heads": 2},
          "kmeans": {"max_iter": 5}, "auto": {"max_rows": 2000}, "gmm": {"max_rows": 5000}}[name]
if name == "auto":  # it joins all rows by their edges: two rows are one here, again five in turn
    rows = rows.reshape(-1, 2 * rows.shape[1])
near = (np.arange(len(rows))[:, None] + np.arange(1, 21) * 5).astype(np.int32) % len(rows)
graph = KNNGraph(near, np.full(near.shape, 0.9, np.float32))
head = make_head(name, n_clusters=5, random_state=0, **params)
few = np.asarray(rows[:4000], np.float32)
head.fit(few).predict(few)  # libraries, threads, pools

def held():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData"))

# Half of the rows; the edges of "auto" and the views of "scan", of some rows, take room beside.
room = int(np.prod(rows.shape)) * 4 * (3 if name in ("auto", "scan") else 2) // 4
resource.setrlimit(resource.RLIMIT_DATA, (held() + room, resource.RLIM_INFINITY))
try:
    np.ones(rows.shape, np.float32)
    print("no limit")
except MemoryError:
    head.fit(rows, graph=graph)
    labels = head.predict(rows)
    shown = labels[:1000].tolist()
    print(json.dumps([bool((labels == head.labels_).all()), head.n_clusters_, shown]))
"""


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    """108 MB of rows around five axes in turn, as one file and as a store of shards."""
    folder = tmp_path_factory.mktemp("disk")
    rng = np.random.default_rng(0)
    x = 0.05 * rng.standard_normal((ROWS, DIMS), dtype=np.float32)
    x[np.arange(ROWS), np.arange(ROWS) % CLUSTERS] += 1
    np.save(folder / "x.npy", x)
    EmbeddingStore.from_array(x).save(folder / "store", shard_rows=35_000)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
@pytest.mark.parametrize(
    ("kind", "name"),
    [("map", "kmeans"), ("store", "kmeans"), ("store", "scan"), ("map", "auto"), ("map", "gmm")],
)
def test_rows_are_never_held_whole(on_disk, kind, name):
    said = run_forked(SCRIPT, kind, name, on_disk)
    equal, n_clusters, labels = json.loads(said.splitlines()[-1])
    assert equal
    assert n_clusters == CLUSTERS
    # One of five in turn, by any names.
    assert labels == (labels[:CLUSTERS] * 200)
    assert len(set(labels)) == CLUSTERS
