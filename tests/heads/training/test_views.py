"""Views: neighbors are neighbors, lengths are kept, strong drops dimensions, streams repeat."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fmcluster.embedding.store.store import EmbeddingStore
from fmcluster.heads import make_head
from fmcluster.heads.training.data import TrainData
from fmcluster.heads.training.views import STRONG_DROPOUT, Views
from fmcluster.utils import distributed
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import Rows, as_spaces

ROWS = torch.arange(64)


@pytest.fixture(scope="module")
def data(blobs):
    x, _ = blobs(n=200, k=4, d=64)
    lengths = np.random.default_rng(1).uniform(0.5, 4, size=(200, 1)).astype(np.float32)
    other = blobs(n=200, k=4, d=6, seed=1).x
    graph = KNNGraph.build(x, k=5)
    return TrainData([Rows(x * lengths), Rows(other)], graph.indices, 4, seed=0)


def cosines(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cosine_similarity(a, b, dim=1)


def test_a_batch_is_its_rows(data):
    batch = Views(data, seed=0).batch(torch.tensor([7, 3, 7]))
    assert len(batch) == 3
    for x, space in zip(batch.x, data.spaces, strict=True):
        np.testing.assert_array_equal(x, space.source[[7, 3, 7]])


def test_neighbor_rows_are_neighbors_and_all_of_them_come(data):
    views = Views(data, seed=0)
    seen = [set() for _ in range(64)]
    for _ in range(60):
        near, xs = views.batch(ROWS).neighbor()
        for row, found in enumerate(near.tolist()):
            assert found in data.neighbors[row]
            seen[row].add(found)
        for x, space in zip(xs, data.spaces, strict=True):
            np.testing.assert_array_equal(x, space.source[near])
    assert np.mean([len(found) for found in seen]) > 4.9  # of five


def test_without_a_graph_a_row_is_its_own_neighbor(data):
    alone = TrainData(data.spaces, None, 4, seed=0)
    near, xs = Views(alone, seed=0).batch(ROWS).neighbor()
    assert torch.equal(near, ROWS)
    np.testing.assert_array_equal(xs[0], data.spaces[0].source[:64])


def test_pairs_are_every_other_row_and_then_a_neighbor_of_each(data):
    batch = Views(data, seed=0).batch(ROWS)
    near = Views(data, seed=0).neighbor_rows(ROWS[::2])
    for found, x, space in zip(batch.pairs(), batch.x, data.spaces, strict=True):
        assert torch.equal(found[:32], x[::2])
        np.testing.assert_array_equal(found[32:], space.source[near])
        assert found.shape == x.shape


def test_weak_views_keep_the_length_and_are_near(data):
    views = Views(data, seed=0)
    clean = views.batch(ROWS).x
    for view, x in zip(views.batch(ROWS).weak(), clean, strict=True):
        torch.testing.assert_close(view.norm(dim=1), x.norm(dim=1))
        assert not torch.equal(view, x)
        assert cosines(view, x).min() > 0.9
    strong = views.batch(ROWS).strong()
    assert cosines(strong[0], clean[0]).mean() < cosines(views.weak(clean)[0], clean[0]).mean()


def test_strong_views_drop_dimensions_and_keep_the_length(data):
    views = Views(data, seed=0)
    batch = views.batch(ROWS)
    dropped = [batch.strong() for _ in range(20)]
    for space, x in enumerate(batch.x):
        found = torch.stack([view[space] for view in dropped])
        torch.testing.assert_close(found.norm(dim=2), x.norm(dim=1).expand(20, -1))
        share = (found == 0).float().mean()
        assert float(share) == pytest.approx(STRONG_DROPOUT, abs=0.02)
    # Which ones are dropped differs from row to row.
    assert len({tuple(row.tolist()) for row in dropped[0][0] == 0}) == 64


def test_half_of_the_strong_views_are_unmixed(data):
    views = Views(data, seed=0)
    batch = views.batch(ROWS)
    pure = []
    for _ in range(20):
        view, x = batch.strong()[0], batch.x[0]
        ratio = torch.where(view != 0, view / x, torch.nan)
        spread = (
            ratio.nan_to_num(-torch.inf).max(1).values - ratio.nan_to_num(torch.inf).min(1).values
        )
        pure.append(spread.abs() < 1e-3 * ratio.nanmean(dim=1).abs())
    assert float(torch.stack(pure).float().mean()) == pytest.approx(0.5, abs=0.05)


def test_a_view_of_a_zero_row_is_finite():
    x = np.zeros((4, 8), np.float32)
    views = Views(TrainData([Rows(x)], None, 2, seed=0), seed=0)
    batch = views.batch(torch.arange(4))
    for view in (batch.weak()[0], batch.strong()[0]):
        assert torch.equal(view, torch.zeros(4, 8))


def stored(x: np.ndarray, n_views: int) -> EmbeddingStore:
    views = [x + np.float32(100 * (i + 1)) for i in range(n_views)]
    return EmbeddingStore({"embedding": x}, views={"embedding": views})


def test_cached_views_are_used_where_the_store_has_them(blobs):
    x, _ = blobs(n=50, k=2, d=8)
    data = TrainData(as_spaces(stored(x, 3)), None, 2, seed=0)
    views = Views(data, seed=0)
    assert views.n_cached == 3
    rows = torch.tensor([4, 40, 4])
    picks = set()
    for _ in range(40):
        batch = views.batch(rows)
        torch.testing.assert_close(batch.x[0], torch.from_numpy(x[rows]))
        for view in (batch.weak()[0], batch.strong()[0]):
            shift = (view - batch.x[0]).round()
            assert shift.unique().numel() == 1  # one view for the batch, unchanged
            picks.add(int(shift[0, 0]))
    assert picks == {100, 200, 300}


def test_cached_views_are_used_only_if_every_space_has_them(blobs):
    x, _ = blobs(n=50, k=2, d=8)
    data = TrainData(as_spaces([stored(x, 2), x]), None, 2, seed=0)
    views = Views(data, seed=0)
    assert views.n_cached == 0
    assert views.cached(torch.arange(3)) is None
    assert len(views.batch(torch.arange(3)).strong()) == 2


def test_a_head_learns_from_cached_views(blobs):
    x, _ = blobs(n=120, k=3, d=8)
    params = dict(n_clusters=3, random_state=0, epochs=2, min_steps=20, self_label_epochs=2)
    plain = make_head("scan", **params).fit(x)
    cached = make_head("scan", **params).fit(stored(x, 2))
    first, second = (head.history_[-1]["loss"] for head in (plain, cached))
    assert first != second


def draw(views: Views, epoch: int) -> list[torch.Tensor]:
    views.restart(epoch)
    batch = views.batch(ROWS)
    return [batch.neighbor()[0].float(), *batch.weak(), *batch.strong()]


def test_the_stream_of_an_epoch_repeats_whatever_came_before(data):
    first, other = Views(data, seed=5), Views(data, seed=5)
    expected = draw(first, 3)
    draw(other, 0), draw(other, 1)
    torch.testing.assert_close(draw(other, 3), expected, rtol=0, atol=0)
    assert not torch.equal(draw(other, 4)[-1], expected[-1])
    assert not torch.equal(draw(Views(data, seed=6), 3)[-1], expected[-1])


def test_views_leave_torchs_own_stream_alone(data):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    draw(Views(data, seed=0), 0)
    assert torch.equal(torch.rand(3), expected)


def test_two_processes_see_the_views_of_one(data, monkeypatch):
    whole = Views(data, seed=0)
    expected = [whole.neighbor_rows(ROWS), whole.weak(data.take(ROWS))[1]]
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    found: list[list[torch.Tensor]] = [[], []]
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        views, mine = Views(data, seed=0), ROWS[32 * rank : 32 * rank + 32]
        found[0].append(views.neighbor_rows(mine))
        # The unit of the noise is the batch's own spread: compare its direction.
        x = data.take(mine)[1]
        found[1].append(views.weak([data.take(mine)[0], x])[1])
    assert torch.equal(torch.cat(found[0]), expected[0])
    torch.testing.assert_close(torch.cat(found[1]), expected[1], atol=5e-3, rtol=0)
