"""SCAN: planted clusters, the choice of the head, self-labeling by hand, regularizers, resume."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from head_contract import accuracy, hold_to_contract, hold_to_sklearn
from torch import nn
from torch.nn import functional as F

from fmcluster.functional.losses import consistency, entropy
from fmcluster.heads import make_head
from fmcluster.heads.scan import SCANObjective, SelfLabelObjective
from fmcluster.heads.training.data import TrainData
from fmcluster.heads.training.objective import TrainOptions
from fmcluster.heads.training.prior import PriorTarget
from fmcluster.utils.errors import TrainingError
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import Rows

QUICK = {"n_clusters": 4, "epochs": 4, "min_steps": 150, "self_label_epochs": 2, "n_heads": 4}


# --- the clustering step ---------------------------------------------------------------------


@pytest.mark.parametrize("self_label_epochs", [0, 2])
def test_planted_clusters_are_found(blobs, tmp_path, self_label_epochs):
    x, y = blobs(n=160, k=4, d=16)
    params = {**QUICK, "min_steps": 100, "self_label_epochs": self_label_epochs}
    head = hold_to_contract("scan", x, tmp_path, **params)
    assert accuracy(head, y) == 1.0
    stages = [record["stage"] for record in head.history_]
    assert ("self-label-none" in stages) == bool(self_label_epochs)
    first, last = (head.history_[i] for i in (0, stages.count("cluster") - 1))
    assert last["loss"] < first["loss"] and last["consistency"] < first["consistency"]


def uniform(n_heads: int, k: int) -> PriorTarget:
    shares = torch.full((k,), 1 / k)
    return PriorTarget(shares, shares.repeat(n_heads, 1), True)


@pytest.fixture
def data(blobs):
    x, _ = blobs(n=120, k=3, d=8)
    return TrainData([Rows(x)], KNNGraph.build(x, k=5).indices, 3, seed=0)


def test_the_loss_is_consistency_and_weighted_divergence_summed_over_heads(data):
    objective = SCANObjective([8], 3, n_heads=2, weight=5.0, prior=uniform(2, 3))
    objective.start(data)
    near = data.neighbor_tensor[:, 0].long()
    x = data.spaces[0].source
    batch = SimpleNamespace(x=[torch.from_numpy(x)], neighbor=lambda: (near, data.take(near)))
    found = objective(batch)
    z = (x - x.mean(axis=0)) / np.sqrt(((x - x.mean(axis=0)) ** 2).mean())
    weight, bias = (p.detach().numpy() for p in objective.heads.linear.parameters())
    expected = 0.0
    for h in range(2):
        scores = z @ weight[3 * h : 3 * h + 3].T + bias[3 * h : 3 * h + 3]
        p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        mass = p.mean(axis=0)
        expected -= np.log((p * p[near]).sum(axis=1)).mean()
        expected += 5 * (mass * np.log(mass * 3)).sum()
    assert float(found["loss"].detach()) == pytest.approx(expected, rel=1e-4)


def test_the_best_head_has_the_lowest_consistency_minus_entropy(data):
    objective = SCANObjective([8], 3, n_heads=6, weight=5.0, prior=uniform(6, 3))
    objective.start(data)
    x = torch.from_numpy(data.spaces[0].source)
    q = data.take(data.neighbor_tensor[:, 0].long())
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            weight = objective.heads.linear.weight
            weight.copy_(torch.randn(weight.shape, generator=generator))
            p, near = objective.proba([x]), objective.proba(q)
            value = consistency(p, near) - entropy(p.mean(dim=0))
        assert objective.best_head(data) == int(value.argmin())


def test_a_head_that_collapsed_or_is_undecided_is_not_chosen(data, blobs):
    y = torch.from_numpy(blobs(n=120, k=3, d=8).y)
    right, collapsed = 9.0 * F.one_hot(y, 3), 9.0 * F.one_hot(0 * y, 3)
    stacked = torch.stack([collapsed, 0.0 * right, right], dim=1).float().softmax(dim=-1)
    objective = SCANObjective([8], 3, n_heads=3, weight=5.0, prior=uniform(3, 3))
    rows = torch.from_numpy(data.spaces[0].source)
    objective.proba = lambda xs: stacked[torch.cdist(xs[0], rows).argmin(dim=1)]
    assert objective.best_head(data) == 2


def test_the_network_of_a_head_is_that_head(data):
    objective = SCANObjective([8], 3, n_heads=4, weight=5.0, prior=uniform(4, 3))
    objective.start(data)
    xs = data.take(torch.arange(120))
    for head in range(4):
        found = objective.network(head)(xs).softmax(dim=1)
        torch.testing.assert_close(found, objective.proba(xs)[:, head])


# --- priors ----------------------------------------------------------------------------------


def test_a_prior_is_followed_on_a_long_tail(blobs):
    sizes = [180, 70, 30, 20]
    x, y = blobs(d=16, sizes=sizes)
    params = {**QUICK, "self_label_epochs": 0}
    prior = np.array(sizes)[[2, 0, 3, 1]] / 300
    told = make_head("scan", random_state=0, cluster_prior=prior, **params).fit(x)
    even = make_head("scan", random_state=0, **params).fit(x)
    np.testing.assert_allclose(np.sort(told.cluster_prior_), np.sort(prior), atol=1e-6)
    # An even prior cuts the large cluster up; the told one keeps it.
    assert accuracy(told, y) > 0.85 > 0.7 > accuracy(even, y)
    # The largest share went to the cluster that is largest.
    assert told.cluster_prior_.argmax() == np.bincount(told.labels_).argmax()
    np.testing.assert_allclose(even.cluster_prior_, np.bincount(even.labels_) / 300)


def test_an_even_array_is_uniform(blobs):
    x, _ = blobs(n=80, k=4, d=8)
    params = {**QUICK, "min_steps": 10, "self_label_epochs": 0, "random_state": 0}
    word = make_head("scan", cluster_prior="uniform", **params).fit(x)
    array = make_head("scan", cluster_prior=[0.25] * 4, **params).fit(x)
    np.testing.assert_array_equal(word.predict_proba(x), array.predict_proba(x))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"cluster_prior": [0.5, 0.5]}, r"cluster_prior has shape \(2,\), expected \(4,\)"),
        ({"cluster_prior": [0.5, 0.5, 0.0, 0.0]}, "cluster_prior must be positive"),
        ({"cluster_prior": [1, 1, 1, 1]}, "cluster_prior must sum to 1"),
        ({"cluster_prior": "even"}, "cluster_prior='even'"),
        ({"regularizer": "dropout"}, "regularizer='dropout' is not known.*'focal'"),
        ({"threshold": 1.2}, r"threshold=1.2 is outside \[0, 1\]"),
    ],
)
def test_bad_arguments_are_quoted(blobs, arguments, match):
    with pytest.raises(ValueError, match=match):
        make_head("scan", **{**QUICK, **arguments}).fit(blobs(n=40, k=4, d=8).x)


# --- self-labeling --------------------------------------------------------------------------


class Table(nn.Module):
    """Logits (n, k) looked up by a row's first number."""

    def __init__(self, proba: torch.Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(proba.clamp_min(1e-9).log())

    def forward(self, xs: list[torch.Tensor]) -> torch.Tensor:
        return self.logits[xs[0][:, 0].long()]


def labeled(confidences: list[list[float]], **params) -> tuple[SelfLabelObjective, TrainData]:
    """Objective on rows whose confidence in cluster k is ``confidences[k]``."""
    k = len(confidences)
    rows = [
        [c if j == cluster else (1 - c) / (k - 1) for j in range(k)]
        for cluster, given in enumerate(confidences)
        for c in given
    ]
    x = np.arange(len(rows), dtype=np.float32)[:, None]
    settings = {"threshold": 0.9, "regularizer": "none", "strength": 0.0, **params}
    objective = SelfLabelObjective(Table(torch.tensor(rows)), **settings)
    data = TrainData([Rows(x)], None, k, seed=0)
    objective.before_epoch(0, data)
    return objective, data


def test_rows_above_the_threshold_are_chosen():
    objective, _ = labeled([[0.99, 0.95, 0.6, 0.7], [0.98, 0.91, 0.92, 0.55]])
    assert objective.chosen.tolist() == [True, True, False, False, True, True, True, False]
    assert objective.targets.tolist() == [0] * 4 + [1] * 4


def test_a_cluster_below_the_threshold_gives_its_surest_fifth():
    unsure = np.linspace(0.55, 0.8, 10).round(4).tolist()
    objective, _ = labeled([[0.99] * 4, unsure])
    assert objective.chosen[:4].all()
    assert objective.chosen[4:].tolist() == [False] * 8 + [True] * 2
    assert objective.targets[4:].tolist() == [1] * 10


def test_class_weights_even_the_chosen_rows_out():
    objective, _ = labeled([[0.99] * 6, [0.95] * 2, [0.95] * 1])
    weights = objective.class_weight
    torch.testing.assert_close(weights, torch.tensor([9 / 6, 9 / 2, 9 / 1]) / 3)
    # Every cluster has the same total weight.
    torch.testing.assert_close(weights * torch.tensor([6, 2, 1]), torch.full((3,), 3.0))


def test_a_cluster_without_rows_weighs_nothing():
    objective, _ = labeled([[0.99] * 6, [], [0.95] * 3])
    torch.testing.assert_close(objective.class_weight, torch.tensor([9 / 6, 0.0, 9 / 3]) / 2)


def by_hand(kind: str, log_p: np.ndarray, target: int, strength: float) -> float:
    if kind == "label_smoothing":
        return -(1 - strength) * log_p[target] - strength * log_p.mean()
    if kind == "focal":
        return -((1 - np.exp(log_p[target])) ** strength) * log_p[target]
    return -log_p[target] + (strength * np.abs(log_p).mean() if kind == "l1" else 0.0)


@pytest.mark.parametrize(
    ("kind", "strength"), [("none", 0.0), ("label_smoothing", 0.2), ("focal", 2.0), ("l1", 0.3)]
)
def test_the_self_labeling_loss_by_hand(kind, strength):
    confidences = [[0.99, 0.95, 0.6], [0.92, 0.97, 0.98]]
    objective, data = labeled(confidences, regularizer=kind, strength=strength)
    rows = torch.tensor([0, 2, 3, 4])  # row 2 is not chosen
    found = objective(SimpleNamespace(rows=rows, strong=lambda: data.take(rows)))
    log_p = objective.network.logits.detach().numpy()
    weight = [5 / 2 / 2, 5 / 3 / 2, 5 / 3 / 2]
    losses = [by_hand(kind, log_p[row], row // 3, strength) for row in (0, 3, 4)]
    expected = np.dot(weight, losses) / sum(weight)
    assert float(found["loss"].detach()) == pytest.approx(expected, rel=1e-4)
    assert float(found["share_labeled"]) == 0.75


def test_a_batch_without_chosen_rows_has_no_loss():
    objective, data = labeled([[0.99, 0.6], [0.95, 0.6]])
    rows = torch.tensor([1, 3])
    found = objective(SimpleNamespace(rows=rows, strong=lambda: data.take(rows)))
    found["loss"].backward()
    assert float(found["loss"].detach()) == 0
    assert objective.network.logits.grad.abs().max() == 0


@pytest.fixture(scope="module")
def overlapping(blobs):
    return blobs(n=300, k=4, d=16, spread=0.4)


def test_regularizers_lower_the_confidence(overlapping, tmp_path):
    x, _ = overlapping
    # The clustering step is trained once and taken from its checkpoint after that.
    params = {**QUICK, "min_steps": 60, "self_label_epochs": 25, "random_state": 0}
    params["learning_rate"] = 1e-2
    params["options"] = TrainOptions(checkpoint_dir=str(tmp_path))

    def confidence(regularizer: str, strength: float | None = None) -> float:
        head = make_head("scan", regularizer=regularizer, regularizer_strength=strength, **params)
        return float(head.fit(x).predict_proba(x).max(axis=1).mean())

    plain = confidence("none")
    smooth, smoother = confidence("label_smoothing"), confidence("label_smoothing", 0.4)
    assert smoother < smooth < plain - 0.005
    assert confidence("focal") < plain - 0.005
    assert confidence("l1", 0.1) < plain - 0.005


# --- runs ------------------------------------------------------------------------------------


def test_equal_seeds_give_equal_labels_on_any_number_of_threads(overlapping):
    x, _ = overlapping
    before, found = torch.get_num_threads(), []
    params = {**QUICK, "min_steps": 40}
    for threads, seed in ((1, 3), (2, 3), (1, 4)):
        torch.set_num_threads(threads)
        head = make_head("scan", random_state=seed, **params).fit(x)
        found.append(head.predict_proba(x))
    torch.set_num_threads(before)
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


BROKEN = {**QUICK, "epochs": 5, "min_steps": 5, "self_label_epochs": 5, "batch_size": 100}
BROKEN |= {"random_state": 0, "cluster_prior": [0.4, 0.3, 0.2, 0.1]}


def broken_and_resumed(x, folder, monkeypatch, cls):
    """Fit with a break before the fourth epoch of `cls`, again to the end, and the epochs seen."""
    options = TrainOptions(checkpoint_dir=str(folder))
    whole, seen = cls.before_epoch, []

    def breaks(self, epoch, data):
        if epoch == 3:
            raise TrainingError("power cut")
        whole(self, epoch, data)

    def counts(self, epoch, data):
        seen.append(epoch)
        whole(self, epoch, data)

    monkeypatch.setattr(cls, "before_epoch", breaks)
    with pytest.raises(TrainingError, match="power cut"):
        make_head("scan", options=options, **BROKEN).fit(x)
    monkeypatch.setattr(cls, "before_epoch", counts)
    return make_head("scan", options=options, **BROKEN).fit(x), seen


@pytest.mark.parametrize("cls", [SCANObjective, SelfLabelObjective])
def test_a_run_that_broke_off_goes_on_as_if_it_had_not(overlapping, tmp_path, monkeypatch, cls):
    x, _ = overlapping
    unbroken = make_head("scan", **BROKEN).fit(x)
    resumed, seen = broken_and_resumed(x, tmp_path, monkeypatch, cls)
    assert seen == [3, 4]
    assert resumed.history_ == unbroken.history_
    np.testing.assert_array_equal(resumed.predict_proba(x), unbroken.predict_proba(x))


@pytest.mark.parametrize(
    "cls",
    [
        SCANObjective,
        SelfLabelObjective,
    ],
)
def test_the_prior_of_a_resumed_run_is_that_of_the_unbroken_one(
    overlapping, tmp_path, monkeypatch, cls
):
    x, _ = overlapping
    unbroken = make_head("scan", **BROKEN).fit(x)
    resumed, _ = broken_and_resumed(x, tmp_path, monkeypatch, cls)
    np.testing.assert_array_equal(resumed.cluster_prior_, unbroken.cluster_prior_)


def test_one_clustering_step_serves_every_regularizer(overlapping, tmp_path, monkeypatch):
    x, _ = overlapping
    params = {**QUICK, "min_steps": 20, "random_state": 0}
    options = TrainOptions(checkpoint_dir=str(tmp_path))
    make_head("scan", options=options, **params).fit(x)
    fresh = make_head("scan", regularizer="focal", **params).fit(x)

    def never(self, batch):
        raise AssertionError("the clustering step ran again")

    monkeypatch.setattr(SCANObjective, "forward", never)
    focal = make_head("scan", regularizer="focal", options=options, **params).fit(x)
    np.testing.assert_array_equal(focal.predict_proba(x), fresh.predict_proba(x))


def test_loss_curves_of_both_stages_are_written(blobs, tmp_path):
    x, _ = blobs(n=80, k=4, d=8)
    options = TrainOptions(log_dir=str(tmp_path / "logs"))
    head = make_head("scan", random_state=0, options=options, **{**QUICK, "min_steps": 6}).fit(x)
    lines = (tmp_path / "logs" / "history.jsonl").read_text().splitlines()
    written = [json.loads(line) for line in lines]
    assert written == [
        {key: value for key, value in record.items() if key != "stage"} for record in head.history_
    ]
    assert {"size_divergence", "share_labeled"} <= set().union(*written)


def test_several_spaces(blobs):
    x, y = blobs(n=160, k=4, d=16)
    head = make_head("scan", random_state=0, **QUICK).fit([x, blobs(n=160, k=4, d=6, seed=1).x])
    assert head.space_dims_ == [16, 6]
    assert accuracy(head, y) > 0.5


def test_scikit_learn_checks():
    hold_to_sklearn("scan", epochs=2, min_steps=10, self_label_epochs=1, n_heads=2)
