from __future__ import annotations

import numpy as np
import pytest
import torch
from head_contract import hold_to_sklearn
from representation import hold_to_representation
from sklearn.metrics import normalized_mutual_info_score

from fmcluster.heads import make_head
from fmcluster.heads.dec import DECObjective, group_means, target_distribution
from fmcluster.heads.networks.autoencoder import AutoEncoder, StudentT
from fmcluster.heads.training.objective import TrainOptions
from fmcluster.utils.errors import TrainingError

SMALL = {"hidden": (32, 32), "pretrain_epochs": 30, "epochs": 3, "batch_size": 60, "min_steps": 0}


@pytest.mark.parametrize("name", ["dec", "idec"])
def test_contract(blobs, tmp_path, name):
    head = hold_to_representation(name, blobs(n=240, k=4, spread=0.1), tmp_path, **SMALL)
    stages = [record["stage"] for record in head.history_]
    assert stages == ["pretrain"] * 30 + ["cluster"] * 3
    assert head.history_[29]["loss"] < 0.6 * head.history_[0]["loss"]
    assert ("reconstruction" in head.history_[-1]) == (name == "idec")


@pytest.mark.parametrize("name", ["dec", "idec"])
def test_scikit_learn_checks(name):
    hold_to_sklearn(name, hidden=(16,), pretrain_epochs=2, epochs=1, min_steps=0)


def test_student_t_is_the_published_kernel():
    student = StudentT(3, 4)
    z = torch.randn(10, 3)
    distance = torch.cdist(z, student.centres).pow(2)
    kernel = 1 / (1 + distance)
    expected = kernel / kernel.sum(dim=1, keepdim=True)
    np.testing.assert_allclose(
        student(z).softmax(dim=1).detach(), expected.detach(), rtol=1e-4, atol=1e-6
    )


def test_target_is_the_published_formula():
    q = torch.tensor([[0.6, 0.4], [0.9, 0.1], [0.5, 0.5]])
    f = q.sum(dim=0)
    for i in range(3):
        weight = [float(q[i, k] ** 2 / f[k]) for k in range(2)]
        np.testing.assert_allclose(target_distribution(q)[i], np.array(weight) / sum(weight))


def test_target_sharpens():
    q = torch.tensor([[0.7, 0.3], [0.3, 0.7]])
    assert target_distribution(q)[0, 0] > 0.7


def test_code_is_as_wide_as_the_clusters_but_at_least_ten(blobs):
    x = blobs(n=60, k=3).x
    head = make_head("dec", n_clusters=12, hidden=(8,), pretrain_epochs=1, epochs=1)
    assert head.fit(x).transform(x).shape == (60, 12)
    assert head.set_params(n_clusters=3).fit(x).transform(x).shape == (60, 10)


def test_few_rows_get_more_epochs(blobs):
    given = {"hidden": (8,), "batch_size": 30, "pretrain_epochs": 3, "epochs": 2}
    head = make_head("dec", n_clusters=3, min_steps=40, random_state=0, **given)
    stages = [record["stage"] for record in head.fit(blobs(n=60, k=3).x).history_]
    assert stages == ["pretrain"] * 20 + ["cluster"] * 5


def test_centers_are_means_and_an_empty_cluster_keeps_what_it_had():
    codes = np.array([[1, 0], [3, 0], [0, 4]], np.float32)
    found = group_means(codes, np.array([0, 0, 2]), np.full((3, 2), 7.0))
    np.testing.assert_allclose(found, [[2, 0], [7, 7], [0, 4]])


def test_a_run_that_broke_off_goes_on_as_if_it_had_not(blobs, tmp_path, monkeypatch):
    x, given = blobs(n=240, k=4, spread=0.6).x, {**SMALL, "n_clusters": 4, "random_state": 0}
    unbroken = make_head("dec", **given).fit(x)
    given["options"] = TrainOptions(checkpoint_dir=str(tmp_path))
    whole = DECObjective.before_epoch

    def breaks(self, epoch, data):
        if epoch == 2:
            raise TrainingError("power cut")
        whole(self, epoch, data)

    monkeypatch.setattr(DECObjective, "before_epoch", breaks)
    with pytest.raises(TrainingError, match="power cut"):
        make_head("dec", **given).fit(x)
    monkeypatch.setattr(DECObjective, "before_epoch", whole)
    resumed = make_head("dec", **given).fit(x)
    assert resumed.history_ == unbroken.history_
    np.testing.assert_array_equal(resumed.predict_proba(x), unbroken.predict_proba(x))


def test_layers_start_at_maps_that_keep_lengths():
    network = AutoEncoder([12], (16, 24), 5, 3)
    wide, wider, code = [m.weight for m in network.encoder if isinstance(m, torch.nn.Linear)]
    torch.testing.assert_close(wide.T @ wide, 2 * torch.eye(12), atol=1e-5, rtol=0)
    torch.testing.assert_close(wider.T @ wider, 2 * torch.eye(16), atol=1e-5, rtol=0)
    torch.testing.assert_close(code @ code.T, torch.eye(5), atol=1e-5, rtol=0)
    assert all(not m.bias.any() for m in network.decoder if isinstance(m, torch.nn.Linear))
    own = AutoEncoder([12], (16, 24), 5, 3, orthogonal=False).encoder[0].weight
    assert (own.T @ own).diagonal().max() < 1, "PyTorch's own start"


def test_the_first_target_and_centers_are_those_of_the_graphs_clusters(blobs, monkeypatch):
    x, seen = blobs(n=240, k=4, spread=0.3).x, []
    before_epoch = DECObjective.before_epoch

    def watched(self, epoch, data):
        codes = data.map(self.network.embed).numpy()
        before_epoch(self, epoch, data)
        centers = self.network.student.centres.detach().clone().numpy()
        seen.append((codes, self.q.numpy().copy(), centers))

    monkeypatch.setattr(DECObjective, "before_epoch", watched)
    make_head("dec", n_clusters=4, random_state=0, **{**SMALL, "epochs": 1}).fit(x)
    codes, q, centers = seen[0]
    graph = make_head("spectral", n_clusters=4, random_state=0).fit(codes)
    assert normalized_mutual_info_score(graph.labels_, q.argmax(axis=1)) > 0.95
    np.testing.assert_allclose(q.sum(axis=1), 1, atol=1e-5)
    own = group_means(codes, q.argmax(axis=1), centers)
    np.testing.assert_allclose(centers, own, atol=1e-4)


def test_threads_do_not_change_labels(blobs):
    x, found = blobs(n=240, k=4, spread=0.4).x, []
    before = torch.get_num_threads()
    try:
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            found.append(make_head("dec", n_clusters=4, random_state=0, **SMALL).fit(x))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*(head.predict_proba(x) for head in found))
