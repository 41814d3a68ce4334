"""Nodes: what edges join is joined first, small groups stay, sums over nodes are sums over rows."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from fmcluster.partition import nodes
from fmcluster.partition.nodes import affinities, coarsen, node_context
from fmcluster.partition.refine import RefinementContext, refine
from fmcluster.partition.scores import edge_mass, score_candidate
from fmcluster.vectors.graph import KNNGraph


@pytest.fixture
def tailed(blobs):
    return blobs(k=6, d=24, spread=0.2, sizes=[400, 160, 80, 40, 20, 10], seed=2)


def context_of(x: np.ndarray) -> RefinementContext:
    return RefinementContext(x, KNNGraph.build(x, k=10))


@pytest.mark.parametrize("most", [300, 100, 30])
def test_as_many_nodes_as_were_asked_for_and_pure_ones(tailed, most):
    node = coarsen(affinities(KNNGraph.build(tailed.x, k=10)), most)
    assert len(np.unique(node)) == node.max() + 1 == most
    table = np.zeros((most, 6))
    np.add.at(table, (node, tailed.y), 1)
    assert table.max(axis=1).sum() / len(node) > 0.97
    assert (np.bincount(table.argmax(axis=1), minlength=6) > 0).all()  # the smallest class, too


def test_few_rows_are_nodes_of_their_own(tailed):
    graph = KNNGraph.build(tailed.x, k=10)
    np.testing.assert_array_equal(
        coarsen(affinities(graph), len(tailed.x)), np.arange(len(tailed.x))
    )
    context = context_of(tailed.x)
    assert node_context(context, np.arange(len(tailed.x))) is context


def test_a_graph_of_several_parts_ends_where_no_edge_is_left():
    x = np.repeat(np.eye(40, dtype=np.float32), 5, axis=0)
    node = coarsen(affinities(KNNGraph.build(x, k=4)), 10)
    assert node.max() + 1 == 40
    np.testing.assert_array_equal(node, np.repeat(np.arange(40), 5))


@pytest.mark.parametrize("kind", ["equal rows in a ring", "hubs that are the best of many"])
def test_rounds_are_few_whatever_the_edges(kind, monkeypatch):
    n, rounds = 20_000, []
    if kind.startswith("equal"):
        near = (np.arange(n)[:, None] + np.arange(1, 11)) % n
        matrix = affinities(KNNGraph(near.astype(np.int32), np.full((n, 10), 0.9, np.float32)))
    else:
        hub = np.arange(10, n) % 10
        star = csr_matrix((np.linspace(0.5, 1, n - 10), (np.arange(10, n), hub)), shape=(n, n))
        matrix = (star + star.T).tocsr().astype(np.float32)
    contract = nodes.contracted
    monkeypatch.setattr(nodes, "contracted", lambda *a: rounds.append(1) or contract(*a))
    node = coarsen(matrix, 100)
    assert node.max() + 1 == 100
    assert len(rounds) < 80


def test_nodes_sum_what_their_rows_have(tailed):
    context = context_of(tailed.x)
    node = coarsen(context.affinity, 150)
    nodes = node_context(context, node)
    assert nodes.weights.sum() == len(tailed.x) and nodes.mass.sum() == pytest.approx(1)
    np.testing.assert_allclose(np.asarray(nodes.smoothing.sum(axis=1)).ravel(), 1, atol=1e-5)
    labels = np.arange(150) % 4
    by_node = edge_mass(labels, 4, nodes.edges)
    np.testing.assert_allclose(by_node, edge_mass(labels[node], 4, context.near))
    lifted = context.smoothing @ np.eye(4)[labels[node]]
    mean = np.stack([lifted[node == a].mean(axis=0) for a in range(150)])
    np.testing.assert_allclose(nodes.smoothing @ np.eye(4)[labels], mean, atol=1e-5)


def test_equal_rows_as_nodes_refine_as_the_rows_do(blobs):
    data = blobs(n=200, k=4, d=8, spread=0.5)
    x, y = np.repeat(data.x, 3, axis=0), np.repeat(data.y, 3)
    context = RefinementContext(x, KNNGraph.build(x, k=8))
    nodes = node_context(context, np.repeat(np.arange(200), 3))
    assert nodes.scatter == pytest.approx(context.scatter, abs=1e-5)
    a = score_candidate(nodes, data.y, 4, "a")
    b = score_candidate(context, y, 4, "b")
    assert a.modularity == pytest.approx(b.modularity, abs=1e-6)
    assert a.silhouette == pytest.approx(b.silhouette, abs=0.02)  # nodes are left out whole
    few, all_ = refine(nodes, data.y, 4).argmax(axis=1), refine(context, y, 4).argmax(axis=1)
    assert (few == all_[::3]).mean() > 0.97
