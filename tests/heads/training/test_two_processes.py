"""Two processes (gloo, on CPU) find what one finds: k-means, SCAN, transport plans."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers_ranks import run_alone, run_ranks
from sklearn.metrics import adjusted_rand_score

from fmcluster.vectors.rows import Rows

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import json, sys
import numpy as np
from fmcluster.utils import distributed
from fmcluster.heads import make_head
from fmcluster.vectors.rows import Rows

kinds = {
    "kmeans": ("kmeans", 2**31, {}),
    "kmeans on disk": ("kmeans", 1000, {}),
    "scan": ("scan", 2**31, {"epochs": 3, "min_steps": 60, "self_label_epochs": 1}),
    "scan on disk": ("scan", 1000, {"epochs": 3, "min_steps": 60, "self_label_epochs": 1}),
    "sela": ("sela", 2**31, {"epochs": 2, "batch_size": 64}),
    "p2ot on disk": ("p2ot", 1000, {"epochs": 2, "batch_size": 64}),
    "sp2ot": ("sp2ot", 2**31, {"epochs": 2, "batch_size": 64}),
}

def work(folder, name):
    x = np.load(f"{folder}/x.npy", mmap_mode="r")
    found = {}
    for kind, (head, memory, params) in kinds.items():
        Rows.__init__.__kwdefaults__["memory_bytes"] = memory
        head = make_head(head, n_clusters=6, random_state=0, **params).fit(x)
        found[kind] = {"labels": head.labels_.tolist(), "history": getattr(head, "history_", None)}
        if head.name == "kmeans":
            cosines = (np.asarray(x) * head.cluster_centers_[head.labels_]).sum(axis=1)
            found[kind]["inertia"] = float((2 - 2 * cosines.astype(np.float64)).sum())
    with open(f"{folder}/{name}.{distributed.rank()}", "w") as handle:
        json.dump(found, handle)
"""
LAUNCHED = """
import sys
import numpy as np
from fmcluster.utils import distributed

distributed.barrier()
rank = distributed.rank()
total = distributed.sum_over_ranks(np.array([1.0, rank]))
with open(f"{sys.argv[1]}/{rank}", "w") as handle:
    handle.write(f"{distributed.is_launched()} {total.tolist()} {distributed.my_share(10)}")
"""


@pytest.fixture(scope="module")
def fits(blobs, tmp_path_factory):
    """What one process found, and what each of two did."""
    folder = tmp_path_factory.mktemp("two")
    # Overlapping clusters: a different start would end elsewhere.
    np.save(folder / "x.npy", blobs(n=900, k=6, d=16, spread=0.3).x)
    run_ranks(SCRIPT, folder, "two")
    with pytest.MonkeyPatch.context() as patch:
        defaults = Rows.__init__.__kwdefaults__
        patch.setitem(defaults, "memory_bytes", defaults["memory_bytes"])  # `work` sets it
        run_alone(SCRIPT, folder, "one")
    return [json.loads((folder / name).read_text()) for name in ("one.0", "two.0", "two.1")]


@pytest.mark.dist
def test_processes_that_people_launch_know_of_each_other(tmp_path):
    """The others here are forked, with what a launcher sets: it takes three times as long."""
    (tmp_path / "launched.py").write_text(LAUNCHED)
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--main_process_port", "0"]
    launch += ["--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
    environ = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        [sys.executable, *launch, str(tmp_path / "launched.py"), str(tmp_path)],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert [(tmp_path / str(rank)).read_text() for rank in (0, 1)] == [
        "True [2.0, 1.0] range(0, 10, 2)",
        "True [2.0, 1.0] range(1, 10, 2)",
    ]


@pytest.mark.dist
@pytest.mark.parametrize("kind", ["kmeans", "kmeans on disk"])
def test_inertia_is_equal(fits, kind):
    one, *two = (found[kind]["inertia"] for found in fits)
    assert two == pytest.approx([one, one], rel=1e-5)


@pytest.mark.dist
@pytest.mark.parametrize("kind", ["scan", "scan on disk"])
def test_scan_finds_the_same_clusters(fits, kind):
    one, *two = (found[kind]["labels"] for found in fits)
    assert two[0] == two[1]
    assert len(set(one)) == 6
    assert adjusted_rand_score(one, two[0]) >= 0.98


@pytest.mark.dist
@pytest.mark.parametrize("kind", ["sela", "p2ot on disk", "sp2ot"])
def test_a_plan_solved_in_parts_is_the_plan_of_all_rows(fits, kind):
    one, *two = (found[kind] for found in fits)
    assert two[0]["labels"] == two[1]["labels"]
    assert adjusted_rand_score(one["labels"], two[0]["labels"]) >= 0.98
    # The mass is the plan's own; the loss is of equal targets, weights and views.
    for key, within in (("assigned", 1e-3), ("loss", 1e-2)):
        curve = [record[key] for record in one["history"]]
        assert [record[key] for record in two[0]["history"]] == pytest.approx(curve, rel=within)
