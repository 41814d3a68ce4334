"""A fit that is killed, or that finds the disk full, goes on as if nothing had happened."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest
from helpers_fork import run_forked

from fmcluster.heads import make_head
from fmcluster.heads.training.objective import TrainOptions
from fmcluster.utils.errors import CorruptShardError
from fmcluster.vectors.graph import KNNGraph

PARAMS = {
    "n_clusters": 3, "random_state": 0, "epochs": 12, "self_label_epochs": 6, "min_steps": 0,
    "batch_size": 64, "n_heads": 2,
}  # fmt: skip

SHORT = {"epochs": 4, "self_label_epochs": 2}
# One process imports torch; every fit, the killed ones too, is a fork of it.
KILLS = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np
import torch
import safetensors.torch
from fmcluster.utils import distributed
from fmcluster.heads import make_head
from fmcluster.heads.training.objective import TrainOptions
from fmcluster.vectors.graph import KNNGraph

folder, params = Path(sys.argv[1]), eval(sys.argv[2])
torch.set_num_threads(1)
x = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
x[:100, 0] += 4
x[100:200, 1] += 4
# What is loaded late is loaded before the forks; no gradient is: its threads do not fork.
KNNGraph.build(x, k=2)
make_head("scan"), make_head("kmeans", n_clusters=3).fit(x)
optimizer = torch.optim.Adam([torch.ones(1)], foreach=True)
distributed.accelerator(torch.device('cpu')).prepare(optimizer)

def fit(name):
    pid = os.fork()
    if pid == 0:
        options = TrainOptions(checkpoint_dir=str(folder / name))
        head = make_head("scan", options=options, **params).fit(x)
        head.save_pretrained(folder / (name + ".head"))
        os._exit(0)
    return pid

def result(name):
    return (folder / (name + ".head") / "model.safetensors").read_bytes()

start = time.monotonic()
assert os.waitpid(fit("whole"), 0)[1] == 0
whole, draw, partial = time.monotonic() - start, random.Random(0), 0
for number in range(20):
    name = f"killed{number}"
    pid = fit(name)
    time.sleep(draw.uniform(0.05, 0.95) * whole)
    os.kill(pid, signal.SIGKILL)
    ended = os.waitpid(pid, 0)[1]
    kept = list((folder / name).rglob("checkpoint.safetensors"))
    partial += bool(kept) and ended == signal.SIGKILL
    assert os.waitpid(fit(name), 0)[1] == 0, "the resumed fit failed"
    assert result(name) == result("whole"), f"{name} differs after {kept}"
    assert not list(folder.rglob(".*.tmp")), "a killed fit left half a file"
print(partial)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks one process that has torch")
def test_twenty_kills_of_twenty_resume_to_equal_bytes(tmp_path):
    partial = int(run_forked(KILLS, tmp_path, repr(PARAMS | SHORT)))
    assert partial >= 5, "too few of the kills hit a fit with an epoch behind it"


@contextlib.contextmanager
def no_file_above(n_bytes):
    """A disk that is full for any file longer than this, to every way of writing."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_ends_the_fit_and_keeps_the_last_epoch(blobs, tmp_path, monkeypatch):
    x = blobs(n=300, k=3, d=8).x
    unbroken = make_head("scan", **PARAMS).fit(x)
    head = make_head("scan", options=TrainOptions(checkpoint_dir=str(tmp_path)), **PARAMS)
    inner, seen = type(unbroken)._stage, []

    def full_at_the_second_stage(self, name, *rest, **more):
        seen.append(name)
        with no_file_above(500) if len(seen) == 2 else contextlib.nullcontext():
            return inner(self, name, *rest, **more)

    monkeypatch.setattr(type(unbroken), "_stage", full_at_the_second_stage)
    with pytest.raises(OSError, match="checkpoint.safetensors"):
        head.fit(x)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.name for path in files] == ["checkpoint.safetensors"]
    monkeypatch.setattr(type(unbroken), "_stage", inner)
    np.testing.assert_array_equal(head.fit(x).predict_proba(x), unbroken.predict_proba(x))


def test_a_full_disk_keeps_the_head_that_was_saved(blobs, tmp_path):
    x = blobs(n=90, k=3, d=64).x
    head = make_head("kmeans", n_clusters=3, random_state=0).fit(x)
    head.save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other = make_head("kmeans", n_clusters=2, random_state=0).fit(x)
    with pytest.raises(OSError), no_file_above(200):
        other.save_pretrained(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("change", ["rows", "neighbors"])
def test_a_checkpoint_of_other_data_is_not_resumed(blobs, tmp_path, change):
    """Of the same shape, as the data set of the next day is."""
    x = blobs(n=300, k=3, d=8).x
    options = TrainOptions(checkpoint_dir=str(tmp_path))
    first, alone = {}, {}
    if change == "rows":
        other = np.ascontiguousarray(x[::-1]) + 1
    else:
        other = x
        first["graph"] = KNNGraph.build(x, k=20)
        alone["graph"] = KNNGraph.build(blobs(n=300, k=3, d=8, seed=5).x, k=20)
    make_head("scan", options=options, **PARAMS).fit(x, **first)
    unbroken = make_head("scan", **PARAMS).fit(other, **alone)
    again = make_head("scan", options=options, **PARAMS).fit(other, **alone)
    np.testing.assert_array_equal(again.predict_proba(other), unbroken.predict_proba(other))


@pytest.mark.parametrize("harm", ["cut", "flip", "header"])
def test_a_damaged_checkpoint_is_refused(blobs, tmp_path, harm):
    x = blobs(n=300, k=3, d=8).x
    head = make_head("scan", options=TrainOptions(checkpoint_dir=str(tmp_path)), **PARAMS).fit(x)
    path = next(Path(tmp_path).rglob("checkpoint.safetensors"))
    content = bytearray(path.read_bytes())
    if harm == "cut":
        del content[-20:]
    elif harm == "flip":
        content[-9] ^= 0x40
    else:
        content[:8] = (2**60).to_bytes(8, "little")
    path.write_bytes(bytes(content))
    with pytest.raises(CorruptShardError, match=r"checkpoint\.safetensors.*remove it"):
        head.fit(x)
