"""Labels of some rows as fixed assignments, in every head that takes them."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from head_contract import accuracy

import fmcluster as fmc
from fmcluster.functional.labels.answers import RowAnswers
from fmcluster.heads import list_heads, load_head, make_head
from fmcluster.heads.families.transport import CosineNetwork, TransportObjective
from fmcluster.heads.networks.dual import CDCNetwork, DualHead
from fmcluster.heads.networks.layers import JointInput, UnitInput
from fmcluster.heads.scan import SelfLabelObjective
from fmcluster.heads.training.data import TrainData
from fmcluster.heads.training.objective import TrainOptions
from fmcluster.heads.training.prior import PriorTarget
from fmcluster.heads.training.views import Views
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import Rows

SETTINGS = {
    "kmeans": {},
    "scan": {
        "epochs": 5,
        "self_label_epochs": 2,
        "min_steps": 80,
        "batch_size": 128,
        "learning_rate": 1e-2,
    },
    "cdc": {"epochs": 5, "batch_size": 128, "hidden": 32, "n_starts": 3, "min_steps": 30},
    "p2ot": {"epochs": 8, "batch_size": 64},
    "sp2ot": {"epochs": 8, "batch_size": 64},
}
HEADS = pytest.mark.parametrize("name", SETTINGS)


@pytest.fixture(scope="module")
def world(blobs):
    """Rows of six overlapping clusters with a long tail, and 30 labels."""
    x, y = blobs(d=16, sizes=[180, 90, 50, 30, 20, 10], spread=0.27, seed=3)
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.permutation(np.flatnonzero(y == c))[:5] for c in range(6)])
    return x, y, RowAnswers(rows, y[rows], 6)


@pytest.fixture(scope="module")
def fits(world):
    """Each head without labels and with them, fitted once: ``fits(name) -> (plain, told)``."""
    return functools.cache(lambda name: (fitted(name, world[0]), fitted(name, world[0], world[2])))


def fitted(name, x, answers=None, n_clusters=6, **params):
    head = make_head(name, n_clusters=n_clusters, random_state=0, **SETTINGS[name], **params)
    return head.fit(x, answers=answers)


@HEADS
def test_labels_help_and_hold(world, fits, name):
    _, y, answers = world
    plain, told = fits(name)
    assert accuracy(told, y) >= accuracy(plain, y)
    assert (told.labels_[answers.rows] == answers.target).mean() >= 0.8
    # Class c is column c, without any matching.
    assert (told.labels_ == y).mean() == pytest.approx(accuracy(told, y), abs=0.02)


@HEADS
def test_other_numbers_of_the_classes_are_other_columns(world, name):
    x, y, answers = world
    few = answers.target < 3  # three clusters remain without a class
    turned = RowAnswers(answers.rows[few], 2 - answers.target[few], 3)
    told = fitted(name, x, turned)
    assert told.n_clusters_ == 6
    assert told.predict_proba(x).shape == (len(x), 6)
    assert (told.predict(x[turned.rows]) == turned.target).mean() >= 0.8


@HEADS
def test_no_labels_change_nothing(world, fits, name):
    x, _, answers = world
    plain, _ = fits(name)
    none = fitted(name, x, RowAnswers(answers.rows[:0], answers.target[:0], 0))
    np.testing.assert_array_equal(plain.predict_proba(x), none.predict_proba(x))


@HEADS
def test_what_labels_made_is_saved(world, fits, name, tmp_path):
    x, (_, told) = world[0], fits(name)
    told.save_pretrained(tmp_path / "head")
    np.testing.assert_array_equal(load_head(tmp_path / "head").predict(x), told.labels_)


@HEADS
def test_answers_flow_back(world, name):
    x, y, answers = world
    params = SETTINGS[name]
    result = fmc.cluster(x, n_clusters=6, head=name, head_params=params, calibrate=False)
    labels = {int(i): f"class {y[i]}" for i in answers.rows}
    better = result.with_answers(labels=labels)
    assert better.answers.labels == labels
    assert set(better.names) == set(labels.values())
    assert [better.names[better.labels[i]] for i in labels] == list(labels.values())
    assert (better.confidence[list(labels)] == 1).all()
    assert better.evaluate(y)["acc"] >= result.evaluate(y)["acc"]
    assert result.answers.labels == {}


@HEADS
def test_links_are_refused(world, name):
    with pytest.raises(ValueError, match=f"'{name}' takes no links: 'auto'"):
        fmc.cluster(world[0], n_clusters=6, head=name, must_link=[[0, 1]])


def test_these_and_no_others_take_labels():
    takers = [name for name in list_heads() if make_head(name).takes_answers == ("labels",)]
    assert sorted(takers) == sorted(SETTINGS)


def test_a_checkpoint_of_other_labels_is_not_resumed(world, tmp_path):
    x, _, answers = world
    options = TrainOptions(checkpoint_dir=str(tmp_path))
    fitted("p2ot", x, answers, options=options)
    turned = RowAnswers(answers.rows, 5 - answers.target, 6)
    told = fitted("p2ot", x, turned, options=options)
    assert (told.labels_[turned.rows] == turned.target).mean() >= 0.8


def test_rows_on_disk_hold_labels_as_rows_in_memory(world, tmp_path):
    x, _, answers = world
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    here, there = fitted("kmeans", x, answers), fitted("kmeans", mapped, answers)
    assert (here.labels_ == there.labels_).mean() > 0.99


def train_data(x, answers, k, *, n_neighbors=5):
    graph = KNNGraph.build(x, k=n_neighbors).indices
    return TrainData([Rows(x)], graph, k, seed=0, answers=answers)


def test_the_target_of_a_labeled_row_is_its_class_alone(world):
    x, _, answers = world
    data = train_data(x, answers, 6)
    even = torch.full((6,), 1 / 6)
    objective = TransportObjective(
        CosineNetwork([16], 6), prior=PriorTarget(even, even, True), epsilon=0.1, col_penalty=1.0
    )
    objective.start(data)
    objective.before_epoch(0, data)
    batch = Views(data, seed=0).batch(torch.arange(len(x)))
    held = objective.held(objective.target(batch), batch)
    known = torch.from_numpy(answers.rows)
    assert (held[known] == torch.eye(6)[torch.from_numpy(answers.target)]).all()
    others = np.setdiff1d(np.arange(len(x)), answers.rows)
    torch.testing.assert_close(held[others], objective.target(batch)[others])


def test_labeled_rows_teach_their_class_however_sure_the_network_is(world):
    x, _, answers = world
    objective = SelfLabelObjective(
        torch.nn.Sequential(JointInput([16]), torch.nn.Linear(16, 6)),
        threshold=0.99,
        regularizer="none",
        strength=0.0,
    )
    objective.before_epoch(0, train_data(x, answers, 6))
    assert objective.chosen[answers.rows].all()
    np.testing.assert_array_equal(objective.targets[answers.rows], answers.target)


def test_starts_are_brought_into_one_order_behind_the_classes(world):
    x, _, answers = world
    few = answers.target < 3
    data = train_data(x, RowAnswers(answers.rows[few], answers.target[few], 3), 6)
    network = CDCNetwork(UnitInput([16]), DualHead(16, 8, 6, 2)).eval()
    linear = network.head.last.linear
    order = torch.tensor([0, 1, 2, 5, 3, 4])  # the second start is the first one in this order
    with torch.no_grad():
        linear.weight[6:] = linear.weight[:6][order]
        linear.bias[6:] = linear.bias[:6][order]
        before = linear.weight[:6].clone()
        network.align(data)
    assert (linear.weight[:3] == before[:3]).all()
    assert (linear.weight[6:] == linear.weight[:6]).all()
