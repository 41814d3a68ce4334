"""The loop: schedules, checkpoints, early stop, precision, accumulation, errors, two processes."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from helpers_ranks import run_alone, run_ranks
from torch import nn

from fmcluster.heads import make_head
from fmcluster.heads.training.data import TrainData, shuffled
from fmcluster.heads.training.loop import _Loop, train
from fmcluster.heads.training.objective import Objective, Schedule, TrainOptions
from fmcluster.utils.errors import TrainingError
from fmcluster.vectors.rows import Rows, as_spaces


class Regression(Objective):
    """Fit the mean row: a convex problem whose loss is known."""

    def __init__(self, n_dims: int, *, break_at: int | None = None) -> None:
        super().__init__()
        self.center = nn.Parameter(torch.zeros(n_dims))
        self.break_at = break_at
        self.epoch = 0
        self.n_steps = 0
        self.sizes: list[int] = []

    def before_epoch(self, epoch, data):
        self.epoch = epoch

    def forward(self, batch):
        self.sizes.append(len(batch))
        loss = (batch.x[0] - self.center).pow(2).mean()
        if self.break_at is not None and self.epoch >= self.break_at:
            loss = loss * float("nan")
        return {"loss": loss, "twice": 2 * loss}

    def after_step(self):
        self.n_steps += 1


@pytest.fixture
def data(blobs):
    x, _ = blobs(n=60, k=3, d=8)
    return TrainData([Rows(x)], None, 3, seed=0)


def test_the_mean_row_is_found(data):
    objective = Regression(8)
    curve = train(objective, data, Schedule(60, 20, 0.05, cosine=True))
    mean = data.spaces[0].source.mean(axis=0)
    np.testing.assert_allclose(objective.center.detach(), mean, atol=0.02)
    assert [record["epoch"] for record in curve] == list(range(60))
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert curve[0]["twice"] == pytest.approx(2 * curve[0]["loss"])


def test_steps_have_equal_sizes_and_few_rows_get_more_epochs(data):
    objective = Regression(8)
    train(objective, data, Schedule(1, 40, 0.01))
    assert objective.sizes == [30, 30]  # 60 rows in steps of about 40: two of 30
    objective = Regression(8)
    curve = train(objective, data, Schedule(1, 30, 0.01, min_steps=10))
    assert len(curve) == 5
    objective = Regression(8)
    train(objective, data, Schedule(1, 30, 0.01, min_steps=10_000))
    assert objective.n_steps == 60  # never more steps than rows


def denormals_are_zero():
    return not bool(torch.tensor(1e-40) * 1)


@pytest.mark.parametrize("outside", [False, True])
def test_denormal_numbers_are_zero_while_training_and_as_before_after(data, outside):
    seen = []

    class Probe(Regression):
        def after_step(self):
            seen.append(denormals_are_zero())

    if not torch.set_flush_denormal(outside):
        pytest.skip("this processor cannot flush denormal numbers")
    try:
        train(Probe(8), data, Schedule(1, 30, 0.01))
        assert denormals_are_zero() is outside
    finally:
        torch.set_flush_denormal(False)
    assert seen == [True, True]


def test_unknown_optimizer_is_named(data):
    with pytest.raises(ValueError, match="optimizer"):
        train(Regression(8), data, Schedule(1, optimizer="lion"))


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_every_optimizer_lowers_the_loss(data, optimizer):
    curve = train(Regression(8), data, Schedule(8, 20, 0.05, optimizer=optimizer))
    assert curve[-1]["loss"] < curve[0]["loss"]


def test_warmup_and_clipping_hold_the_first_step_back(data):
    fast, slow = Regression(8), Regression(8)
    train(fast, data, Schedule(1, 60, 0.1, optimizer="sgd"))
    train(slow, data, Schedule(1, 60, 0.1, optimizer="sgd", warmup_epochs=10))
    ratio = slow.center.detach().norm() / fast.center.detach().norm()
    assert float(ratio) == pytest.approx(0.1, rel=1e-3)
    clipped = Regression(8)
    train(clipped, data, Schedule(1, 60, 0.1, optimizer="sgd", max_grad_norm=1e-3))
    assert float(clipped.center.detach().norm()) == pytest.approx(1e-4, rel=1e-2)


def test_accumulated_batches_make_one_step(data):
    whole, parts = Regression(8), Regression(8)
    train(whole, data, Schedule(1, 60, 0.1, optimizer="sgd"))
    options = TrainOptions(gradient_accumulation=3)
    train(parts, data, Schedule(1, 20, 0.1, optimizer="sgd"), options=options)
    assert len(parts.sizes) == 3
    torch.testing.assert_close(parts.center, whole.center)


def test_nonfinite_loss_names_epoch_and_rate_and_keeps_the_last_state(data, tmp_path):
    options = TrainOptions(checkpoint_dir=str(tmp_path))
    schedule = Schedule(5, 60, 0.02)
    with pytest.raises(TrainingError, match=r"epoch 3.*learning rate 0\.02.*checkpoint"):
        train(Regression(8, break_at=2), data, schedule, options=options)
    rest = Regression(8)
    curve = train(rest, data, schedule, options=options)
    assert len(curve) == 5
    assert rest.n_steps == 3  # two epochs came from the checkpoint


def test_resumed_run_equals_an_unbroken_one(data, tmp_path):
    schedule = Schedule(6, 20, 0.05, cosine=True)
    unbroken = Regression(8)
    expected = train(unbroken, data, schedule)
    options = TrainOptions(checkpoint_dir=str(tmp_path))
    with pytest.raises(TrainingError):
        train(Regression(8, break_at=4), data, schedule, options=options)
    resumed = Regression(8)
    curve = train(resumed, data, schedule, options=options)
    assert torch.equal(resumed.center, unbroken.center)
    assert curve == expected


def test_checkpoint_of_other_settings_is_not_resumed(data, tmp_path):
    options = TrainOptions(checkpoint_dir=str(tmp_path))
    train(Regression(8), data, Schedule(3, 20, 0.05), options=options, settings={"a": 1})
    other = Regression(8)
    train(other, data, Schedule(3, 20, 0.05), options=options, settings={"a": 2})
    assert other.n_steps == 9


def test_patience_stops_and_stays_stopped(data, tmp_path):
    class Flat(Regression):
        def criterion(self, data):
            return 1.0

    options = TrainOptions(checkpoint_dir=str(tmp_path))
    schedule = Schedule(50, 60, 0.01, patience=3)
    assert len(train(Flat(8), data, schedule, options=options)) == 4
    again = Flat(8)
    assert len(train(again, data, schedule, options=options)) == 4
    assert again.n_steps == 0


def test_bf16_is_close_to_fp32(blobs):
    x, y = blobs(n=200, k=3, d=8)
    params = dict(n_clusters=3, random_state=0, epochs=5, min_steps=40, self_label_epochs=0)
    full = make_head("scan", **params).fit(x)
    options = TrainOptions(mixed_precision="bf16")
    half = make_head("scan", options=options, **params).fit(x)
    assert half.history_[-1]["loss"] == pytest.approx(full.history_[-1]["loss"], rel=0.1)
    assert half.network_[1].weight.dtype == torch.float64


def test_loss_curves_are_lines_of_json(data, tmp_path):
    curve = train(Regression(8), data, Schedule(3, 20), options=TrainOptions(log_dir=str(tmp_path)))
    lines = (tmp_path / "history.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == curve


def test_number_of_threads_is_restored_and_does_not_matter(blobs):
    x, _ = blobs(n=120, k=3, d=8)
    before = torch.get_num_threads()
    labels = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        head = make_head("cdc", n_clusters=3, random_state=3, hidden=16, n_starts=2, epochs=2)
        labels.append(head.fit(x).labels_)
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    np.testing.assert_array_equal(*labels)


def test_rows_on_disk_are_all_visited_once(monkeypatch, tmp_path, blobs):
    x, _ = blobs(n=500, k=3, d=8)
    np.save(tmp_path / "x.npy", x)
    rows = Rows(np.load(tmp_path / "x.npy", mmap_mode="r"), memory_bytes=100)
    assert not rows.in_memory
    monkeypatch.setattr("fmcluster.vectors.rows.BLOCK_ROWS", 64)
    order = shuffled([rows], np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(order), np.arange(500))
    data = TrainData([rows], None, 3, seed=0)
    torch.testing.assert_close(data.take(torch.tensor([3, 499]))[0], torch.from_numpy(x[[3, 499]]))
    found = data.map(lambda xs: xs[0])
    torch.testing.assert_close(found, torch.from_numpy(x))


def test_samples_miss_no_part_of_ordered_or_periodic_rows(blobs):
    x = np.arange(1000, dtype=np.float32)[:, None]
    data = TrainData([Rows(x)], None, 2, seed=3)
    assert len(data.sample(5000)[0]) == 1000
    picked = data.sample(600)[0][:, 0].numpy()
    assert len(np.unique(picked)) == 600
    assert (np.diff(picked) > 0).all()
    assert np.bincount(picked.astype(int) // 100).min() > 40
    assert np.bincount(picked.astype(int) % 5).min() > 90


def test_a_read_only_map_trains_without_a_warning(tmp_path, blobs):
    x, _ = blobs(n=100, k=3, d=8)
    np.save(tmp_path / "x.npy", x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mapped = TrainData([Rows(np.load(tmp_path / "x.npy", mmap_mode="r"))], None, 3, seed=0)
    torch.testing.assert_close(mapped.tensors[0], torch.from_numpy(x))


def test_quality_from_disk_is_that_from_memory(monkeypatch, tmp_path, blobs):
    x, y = blobs(n=400, k=4, d=16)
    np.save(tmp_path / "x.npy", x)
    monkeypatch.setattr(Rows.__init__, "__kwdefaults__", {"views": None, "memory_bytes": 1000})
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert not as_spaces(mapped)[0].in_memory
    params = dict(n_clusters=4, random_state=0, epochs=3, min_steps=150, self_label_epochs=1)
    head = make_head("scan", **params).fit(mapped)
    from sklearn.metrics import adjusted_rand_score

    assert adjusted_rand_score(y, head.labels_) > 0.95


SCRIPT = """
import json
import numpy as np
from fmcluster.utils import distributed
from fmcluster.heads import make_head

def work(path, heads):
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(3, 8))
    x = (centers[rng.integers(3, size=240)] + 0.3 * rng.normal(size=(240, 8))).astype(np.float32)
    out = {}
    for name, params in json.loads(heads).items():
        head = make_head(name, n_clusters=3, random_state=0, **params).fit(x)
        out[name] = {"loss": [record["loss"] for record in head.history_],
                     "labels": head.labels_.tolist()}
    with open(f"{path}.{distributed.rank()}", "w") as handle:
        json.dump(out, handle)
"""
HEADS = {
    "scan": {"epochs": 2, "min_steps": 0, "self_label_epochs": 1, "batch_size": 80},
    "cdc": {"epochs": 2, "min_steps": 0, "hidden": 16, "n_starts": 2, "batch_size": 80},
    "temi": {"epochs": 2, "min_steps": 0, "hidden": 16, "bottleneck": 8, "n_heads": 2},
    "turtle": {"epochs": 2, "min_steps": 0, "batch_size": 120},
}


@pytest.mark.dist
def test_two_processes_give_the_losses_of_one(tmp_path):
    found = {}
    for name, run in (("one", run_alone), ("two", run_ranks)):
        run(SCRIPT, tmp_path / "out", json.dumps(HEADS))
        found[name] = json.loads((tmp_path / "out.0").read_text())
    second = json.loads((tmp_path / "out.1").read_text())
    for head in HEADS:
        np.testing.assert_allclose(
            found["two"][head]["loss"], found["one"][head]["loss"], rtol=2e-3, atol=1e-4
        )
        assert second[head]["loss"] == found["two"][head]["loss"]
        assert second[head]["labels"] == found["two"][head]["labels"]


def test_a_loss_that_breaks_on_a_gpu_is_seen_at_the_end_of_its_epoch(data, monkeypatch):
    """There a look at each loss would wait for it; the step is named all the same."""
    inner = _Loop.run

    def run(self):
        self.checks_each_step = False
        return inner(self)

    monkeypatch.setattr(_Loop, "run", run)
    objective = Regression(8, break_at=1)
    with pytest.raises(TrainingError, match="epoch 2, step 1,"):
        train(objective, data, Schedule(3, 20, 0.05))
    assert objective.n_steps == 6
