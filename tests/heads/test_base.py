"""The base of all heads: what it takes, labels without gaps, saving; rows and the size prior."""

from __future__ import annotations

import json
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fmcluster as fmc
from fmcluster.embedding.store.store import EmbeddingStore
from fmcluster.functional.softmax import softmax
from fmcluster.heads import list_heads, load_head, make_head
from fmcluster.heads.base import ClusterHead
from fmcluster.heads.config import read_head_config
from fmcluster.heads.training.data import TrainData
from fmcluster.heads.training.prior import PriorTarget, resolve_prior
from fmcluster.utils.errors import CollapseWarning, CorruptShardError
from fmcluster.vectors.fit_data import HeadData
from fmcluster.vectors.graph import KNNGraph
from fmcluster.vectors.rows import (
    SECONDARY_WEIGHT,
    JointRows,
    Rows,
    as_spaces,
    count_distinct,
    joint,
    unit_rows,
)

# --- rows ------------------------------------------------------------------------------------


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)


def test_every_kind_of_input_becomes_the_same_rows(x, tmp_path):
    np.save(tmp_path / "x.npy", x)
    EmbeddingStore.from_array(x).save(tmp_path / "store", shard_rows=20)
    kinds = [
        x,
        x.tolist(),
        np.asfortranarray(x),
        np.load(tmp_path / "x.npy", mmap_mode="r"),
        EmbeddingStore.from_array(x),
        EmbeddingStore.open(tmp_path / "store"),
        [x],
        (x,),
    ]
    for given in kinds:
        (space,) = as_spaces(given)
        assert space.shape == (50, 6)
        assert space.in_memory
        np.testing.assert_array_equal(np.asarray(space), x)
        np.testing.assert_array_equal(space[[3, 1]], x[[3, 1]])
        assert space[2:4].dtype == np.float32


def test_a_store_of_two_spaces_and_a_list_keep_their_order(x):
    y = x[:, :2] + 1
    store = EmbeddingStore.from_array({"a": x, "b": y})
    for given in (store, [x, y], [EmbeddingStore.from_array(x), y]):
        spaces = as_spaces(given)
        assert [space.n_dims for space in spaces] == [6, 2]
        np.testing.assert_array_equal(np.asarray(spaces[1]), y)
    assert len(as_spaces([store, x])) == 3


def test_spaces_of_different_lengths_and_shapes_are_refused(x):
    with pytest.raises(ValueError, match=r"different numbers of rows: \[50, 49\]"):
        as_spaces([x, x[1:]])
    with pytest.raises(ValueError, match=r"2-D.*\(50,\)"):
        as_spaces(x[:, 0])
    bad = x.copy()
    bad[31, 2] = np.inf
    with pytest.raises(ValueError, match="31"):
        as_spaces([x, bad])


def test_large_sources_stay_where_they_are(x):
    near, far = Rows(x), Rows(x, memory_bytes=x.nbytes - 1)
    assert near.in_memory and not far.in_memory
    assert far.source is x
    for rows in (near, far):
        firsts, blocks = zip(*rows.blocks(16), strict=True)
        assert firsts == (0, 16, 32, 48)
        np.testing.assert_array_equal(np.concatenate(blocks), x)


def test_joint_rows_are_unit_rows_with_the_second_space_counting_less(x):
    y = x[:, :2] * 100
    rows = JointRows(as_spaces([x, y]))
    found = np.asarray(rows)
    assert rows.shape == found.shape == (50, 8)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    ratio = np.linalg.norm(found[:, 6:], axis=1) / np.linalg.norm(found[:, :6], axis=1)
    np.testing.assert_allclose(ratio, SECONDARY_WEIGHT, rtol=1e-5)
    # Cosines of joint rows are the weighted mean of the cosines of the spaces.
    w = np.array([1, SECONDARY_WEIGHT]) ** 2
    expected = sum(v * unit_rows(z) @ unit_rows(z).T for v, z in zip(w, (x, y), strict=True))
    np.testing.assert_allclose(found @ found.T, expected / w.sum(), atol=1e-5)
    np.testing.assert_array_equal(rows[[4, 2]], found[[4, 2]])
    np.testing.assert_array_equal(joint([x, y]), found)
    np.testing.assert_array_equal(joint([x]), unit_rows(x))


def test_distinct_rows_are_counted_until_enough_are_seen(x):
    for n_distinct in (1, 7, 50):
        repeated = x[np.arange(5_000) % n_distinct]
        assert count_distinct(repeated, 10_000) == n_distinct
    assert count_distinct(np.array([[0.0, 1.0], [-0.0, 1.0]]), 5) == 1  # zeros are one value
    late = np.zeros((3_000, 2), np.float32)
    late[-2:] = [[1, 0], [2, 0]]
    assert count_distinct(late, 3) == 3

    class Counting(Rows):
        n_read = 0

        def __getitem__(self, index: Any) -> np.ndarray:
            found = super().__getitem__(index)
            self.n_read += len(found)
            return found

    many = Counting(np.random.default_rng(0).normal(size=(20_000, 2)))
    assert count_distinct(many, 5) >= 5
    assert many.n_read < 2_000


def test_softmax_is_stable():
    found = softmax([[1000.0, 1000.0], [-1e4, 0.0]])
    np.testing.assert_allclose(found, [[0.5, 0.5], [0.0, 1.0]])


# --- the estimator ---------------------------------------------------------------------------


class Nearest(ClusterHead):
    """Columns are the first rows, and some columns that no row is nearest to."""

    name = "nearest"

    def __init__(self, n_clusters: Any = 3, *, dead: tuple[int, ...] = (), random_state: Any = 0):
        self.n_clusters = n_clusters
        self.dead = dead
        self.random_state = random_state

    def _fit(self, data: HeadData) -> None:
        self.data_ = data
        self.centers_ = np.array(data.joint[np.arange(data.n_clusters)])

    def _proba(self, xs):
        proba = softmax(9.0 * joint(xs) @ self.centers_.T)
        proba[:, list(self.dead)] = 0
        return proba


def test_clusters_without_rows_are_dropped_and_labels_stay_consecutive(x):
    with pytest.warns(CollapseWarning, match="kept 3 of 5 clusters: 2 have no row"):
        head = Nearest(5, dead=(0, 3)).fit(x)
    full = softmax(9.0 * unit_rows(x) @ unit_rows(x[:5]).T)[:, [1, 2, 4]]
    assert head.n_clusters_ == 3
    np.testing.assert_array_equal(head.columns_, [1, 2, 4])
    np.testing.assert_array_equal(head.labels_, full.argmax(axis=1))
    proba = head.predict_proba(x)
    np.testing.assert_allclose(proba, full / full.sum(axis=1, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(head.cluster_prior_, np.bincount(head.labels_) / 50)
    assert head.labels_.dtype == np.int64 and proba.dtype == np.float32


def test_rows_are_predicted_once_also_where_clusters_are_dropped(x):
    class Counting(Nearest):
        def _proba(self, xs):
            self.seen_ = getattr(self, "seen_", 0) + len(xs[0])
            return super()._proba(xs)

    head = Counting(5, dead=(0, 3))
    with pytest.warns(CollapseWarning):
        proba = head.fit_predict_proba(x)
    assert head.seen_ == len(x) and proba.shape == (len(x), 3)
    np.testing.assert_allclose(proba, head.predict_proba(x), atol=1e-6)
    np.testing.assert_array_equal(proba.argmax(axis=1), head.labels_)


def test_a_prior_of_the_head_is_cut_to_the_clusters_left(x):
    class Told(Nearest):
        def _fit(self, data):
            super()._fit(data)
            self.cluster_prior_ = np.array([0.4, 0.3, 0.2, 0.1])

    with pytest.warns(CollapseWarning):
        head = Told(4, dead=(1,)).fit(x)
    np.testing.assert_allclose(head.cluster_prior_, np.array([0.4, 0.2, 0.1]) / 0.7)
    assert Told(4).fit(x).cluster_prior_.tolist() == pytest.approx([0.4, 0.3, 0.2, 0.1])


def test_a_second_fit_forgets_the_first(x):
    with pytest.warns(CollapseWarning):
        head = Nearest(5, dead=(0, 3)).fit(x)
    head.set_params(n_clusters=2, dead=()).fit(x)
    assert head.n_clusters_ == 2 and len(head.cluster_prior_) == 2


def test_rows_without_any_probability_are_even(x):
    class Silent(Nearest):
        def _proba(self, xs):
            return super()._proba(xs) * (xs[0][:, :1] > 0)

    head = Silent(3).fit(x)
    proba = head.predict_proba(x)
    np.testing.assert_allclose(proba[x[:, 0] <= 0], 1 / head.n_clusters_)
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-6)


def test_blocks_do_not_change_the_answer(x, monkeypatch):
    whole = Nearest().fit(x)
    monkeypatch.setattr("fmcluster.vectors.rows.BLOCK_ROWS", 7)
    blocked = Nearest().fit(x)
    np.testing.assert_array_equal(whole.labels_, blocked.labels_)
    assert whole.fit_predict(x).tolist() == whole.labels_.tolist()


def test_a_given_graph_is_used_if_wide_enough(x):
    graph = KNNGraph.build(x, k=8)
    data = Nearest().fit(x, graph=graph).data_
    np.testing.assert_array_equal(data.graph(5).indices, graph.indices[:, :5])
    assert data.graph(20).indices.shape == (50, 20)
    assert data.graph(1_000).indices.shape == (50, 49)
    with pytest.raises(ValueError, match="graph has 50 rows, X has 40"):
        Nearest().fit(x[:40], graph=graph)


def test_rows_of_another_shape_are_refused_by_predict(x):
    head = Nearest().fit(x)
    with pytest.raises(ValueError, match="5 features.*expecting 6"):
        head.predict(x[:, :5])
    with pytest.raises(ValueError, match=r"\[6, 2\] dimensions.*\[6\]"):
        head.predict([x, x[:, :2]])
    with pytest.raises(ValueError, match="at least 2 rows"):
        Nearest().fit([x[:1]])
    with pytest.raises(ValueError, match="distinct rows, 2"):
        Nearest(3).fit(np.repeat(x[:2], 4, axis=0))


def test_named_streams_of_one_seed_differ():
    data = HeadData([], 2, 5)
    assert data.seed("a") == HeadData([], 2, 5).seed("a") != data.seed("b")


# --- saving ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(blobs, tmp_path_factory):
    rows = blobs(n=90, k=3, d=8).x
    head = make_head("kmeans", n_clusters=3, random_state=np.int64(4)).fit(rows)
    folder = tmp_path_factory.mktemp("saved") / "head"
    head.save_pretrained(folder)
    return head, rows, folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved[2], tmp_path / "head")


def edit(folder, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_loaded_head_is_the_saved_one_bit_for_bit(saved, folder):
    head, rows, _ = saved
    loaded = load_head(folder)
    assert loaded.get_params() == head.get_params()
    np.testing.assert_array_equal(loaded.predict_proba(rows), head.predict_proba(rows))
    np.testing.assert_array_equal(loaded.cluster_prior_, head.cluster_prior_)
    assert loaded.n_clusters_ == 3 and loaded.n_features_in_ == 8
    loaded.save_pretrained(folder / "again")
    for name in ("config.json", "model.safetensors"):
        assert (folder / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_a_flipped_byte_is_refused(folder):
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(CorruptShardError, match=r"model\.safetensors does not match the digest"):
        load_head(folder)


def test_cut_weights_are_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CorruptShardError, match="not a readable safetensors"):
        load_head(folder)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"params": {"n_clusters": 3, "evil": 1}}, r"unknown params \['evil'\]"),
        ({"format": "fmcluster.head/99"}, "format 'fmcluster.head/99', expected"),
        ({"params": None}, "malformed"),
        ({"space_dims": 8}, "malformed"),
        ({"n_clusters": None}, "malformed"),
    ],
)
def test_a_bad_config_is_refused(folder, changes, match):
    edit(folder, **changes)
    with pytest.raises(CorruptShardError, match=match):
        load_head(folder)


def test_an_unknown_head_is_named(folder):
    edit(folder, head="os.system")
    with pytest.raises(ValueError, match="'os.system' is not known"):
        load_head(folder)


def test_a_folder_without_a_head_says_so(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="no saved head"):
        read_head_config(tmp_path)
    (folder / "config.json").write_text('{"head": "kmeans"}')
    with pytest.raises(CorruptShardError, match="lacks"):
        read_head_config(folder)


def test_unknown_arguments_are_refused():
    with pytest.raises(TypeError, match="'kmeans' has no argument 'epochs'"):
        make_head("kmeans", epochs=3)
    with pytest.raises(ValueError, match="'kmean' is not known.*kmeans"):
        make_head("kmean")


# --- the prior on sizes ----------------------------------------------------------------------


def head_data(rows: np.ndarray, k: int) -> HeadData:
    return HeadData(as_spaces(rows), k, 0)


def test_priors_are_resolved_largest_first(blobs):
    data = head_data(blobs(n=60, k=3, d=8).x, 3)
    np.testing.assert_allclose(resolve_prior("uniform", data), 1 / 3)
    np.testing.assert_allclose(resolve_prior([0.2, 0.5, 0.3], data), [0.5, 0.3, 0.2])
    for bad in ([0.5, 0.5], [0.5, 0.5, 0.0], [1.0, 1.0, 1.0], [np.nan, 0.5, 0.5]):
        with pytest.raises(ValueError, match="cluster_prior"):
            resolve_prior(bad, data)
    with pytest.raises(ValueError, match="cluster_prior='even'"):
        resolve_prior("even", data)


def test_the_estimated_prior_sees_planted_sizes(blobs):
    sizes = [200, 60, 40]
    found = resolve_prior("estimate", head_data(blobs(d=16, sizes=sizes).x, 3))
    np.testing.assert_allclose(found, np.array(sizes) / 300, atol=0.05)
    assert found.sum() == pytest.approx(1)
    assert found.min() >= 0.1 / 3 / 1.1


def test_shares_are_given_out_by_the_rank_of_the_clusters(blobs):
    data = head_data(blobs(n=60, k=3, d=8).x, 3)
    target = PriorTarget.resolve([0.2, 0.5, 0.3], data, n_heads=2)
    assert target.needs_shares and target.target.shape == (2, 3)
    target.align(torch.tensor([[0.1, 0.2, 0.7], [0.4, 0.35, 0.25]]))
    torch.testing.assert_close(target.target, torch.tensor([[0.2, 0.3, 0.5], [0.5, 0.3, 0.2]]))
    rows = TrainData(data.spaces, None, 3, seed=0)
    single = PriorTarget.resolve([0.2, 0.5, 0.3], data)

    def fixed(xs):
        return torch.log(torch.tensor([0.1, 0.7, 0.2])).repeat(len(xs[0]), 1)

    np.testing.assert_allclose(single.shares(fixed, rows), [0.2, 0.5, 0.3], atol=1e-6)


def test_a_mean_over_rows_is_that_of_all_of_them(blobs, monkeypatch):
    monkeypatch.setattr(TrainData.blocks, "__defaults__", (17,))
    rows = TrainData(head_data(blobs(n=60, k=3, d=8).x, 3).spaces, None, 3, seed=0)
    assert [where.stop for where, _ in rows.blocks(rows=range(20, 60))] == [37, 54, 60]
    held = rows.map(lambda xs: xs[0].abs())
    np.testing.assert_array_equal(held, np.abs(rows.spaces[0][:]))
    torch.testing.assert_close(rows.mean(lambda xs: xs[0].abs()), held.mean(dim=0))


def test_an_even_prior_leaves_the_sizes_to_the_rows(blobs):
    data = head_data(blobs(n=60, k=3, d=8).x, 3)
    for even in ("uniform", [1 / 3] * 3):
        target = PriorTarget.resolve(even, data, n_heads=2)
        assert not target.needs_shares
        assert target.shares(nn.Identity(), TrainData(data.spaces, None, 3, seed=0)) is None


@pytest.mark.parametrize("name", list_heads())
def test_one_cluster_holds_every_row_with_certainty(name, blobs, tmp_path):
    x = blobs(40, 2).x
    head = make_head(name, n_clusters=1, random_state=0).fit(x)
    assert head.n_clusters_ == 1 and head.labels_.tolist() == [0] * 40
    assert head.predict_proba(x[:3]).tolist() == [[1.0]] * 3
    head.save_pretrained(tmp_path / name)
    assert load_head(tmp_path / name).predict_proba(x[:2]).tolist() == [[1.0]] * 2


def test_equal_rows_are_one_cluster(blobs):
    head = make_head("auto", random_state=0).fit(np.ones((30, 4), np.float32))
    assert head.n_clusters_ == 1 and set(head.labels_) == {0}


def test_a_graph_that_was_given_is_used(blobs):
    x, y = blobs(240, 4)
    wrong = KNNGraph.build(np.random.default_rng(0).normal(size=x.shape), k=20)
    alone = make_head("auto", n_clusters=4, random_state=0).fit(x)
    given = make_head("auto", n_clusters=4, random_state=0).fit(x, graph=wrong)
    assert not np.array_equal(alone.predict_proba(x), given.predict_proba(x))
    through = fmc.cluster(x, n_clusters=4, random_state=0)
    assert np.array_equal(through.head.predict_proba(x), alone.predict_proba(x))


@pytest.mark.parametrize("head", ["scan", "temi", "spectral"])
def test_a_fit_that_counts_its_clusters_builds_one_graph(head, blobs, monkeypatch):
    built, build = [], KNNGraph.build.__func__

    def counted(cls, x, *, k, **options):
        if isinstance(x, JointRows):  # all rows: no part of them, no nodes
            built.append(k)
        return build(cls, x, k=k, **options)

    monkeypatch.setattr(KNNGraph, "build", classmethod(counted))
    short = {"epochs": 1} if head != "spectral" else {}
    made = make_head(head, n_clusters="auto", random_state=0, **short)
    assert made.fit(blobs(n=400).x).n_clusters_ >= 2
    assert built == [made.n_neighbors]


@pytest.mark.parametrize("head", ["scan", "spectral", "hdbscan", "agglomerative"])
@pytest.mark.parametrize("n_clusters", ["auto", 3])
@pytest.mark.parametrize(
    ("given", "said"), [("ten", "'ten'"), (2.5, "2.5"), (None, "None"), (-3, "-3")]
)
def test_neighbors_are_a_whole_number(head, n_clusters, given, said, blobs):
    made = make_head(head, n_clusters=n_clusters, n_neighbors=given)
    with pytest.raises((TypeError, ValueError), match=f"n_neighbors.*{said}") as caught:
        made.fit(blobs(n=60).x)
    assert "\n" not in str(caught.value)
