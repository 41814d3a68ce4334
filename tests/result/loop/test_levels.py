"""Levels are nested, cheap to list, and each is a result that predicts."""

import dataclasses

import numpy as np
import pytest
from scipy.cluster.hierarchy import dendrogram, fcluster, is_valid_linkage

import fmcluster as fmc
from fmcluster.result.loop.edits import apply_edits
from fmcluster.result.loop.levels import Level
from fmcluster.vectors.rows import unit_rows


def families(seed=0, n=640):
    """Rows of 4 families of 5 clusters each."""
    rng = np.random.default_rng(seed)
    family = np.repeat(rng.normal(size=(4, 40)), 5, axis=0)
    centers = family + 0.6 * rng.normal(size=(20, 40))
    y = rng.integers(0, 20, n)
    return unit_rows(centers[y] + 0.5 * rng.normal(size=(n, 40))), y // 5, y


@pytest.fixture(scope="module")
def world():
    return families()


@pytest.fixture(scope="module")
def coarse(world):
    return fmc.cluster(world[0], n_clusters=4, head="kmeans")


@pytest.fixture(scope="module")
def fine(world):
    return fmc.cluster(world[0], n_clusters=20, head="kmeans")


def uncalibrated(result):
    """The result as one whose levels are not calibrated, which takes a second each."""
    return result.with_pipeline(provenance={**result.provenance, "calibration": None})


def crossings(coarser, finer):
    """Clusters of the finer labels that lie in more than one of the coarser."""
    pairs = np.unique(np.stack([coarser, finer]), axis=1)
    return pairs.shape[1] - len(np.unique(finer))


def test_both_levels_of_a_known_hierarchy_are_listed(coarse, fine):
    for result in (coarse, fine):
        numbers = [level.n_clusters for level in result.levels]
        assert numbers == sorted(numbers) and result.n_clusters in numbers
        assert min(abs(k / 4 - 1) for k in numbers) <= 0.15
        assert min(abs(k / 20 - 1) for k in numbers) <= 0.15
        best = [level for level in result.levels if level.is_best]
        assert best == [max(result.levels, key=lambda level: level.score)]


def test_what_auto_chose_is_best(blobs):
    result = fmc.cluster(blobs(120, 3).x, n_clusters="auto", head="kmeans")
    assert [level.n_clusters for level in result.levels if level.is_best] == [result.n_clusters]


def test_levels_never_cross(coarse, fine):
    for result in map(uncalibrated, (coarse, fine)):
        labels = [result.at_level(k).labels for k in (1, 2, 3, 4, 7, 12, 20, 24, 31)]
        for number, one in enumerate(labels):
            for finer in labels[number + 1 :]:
                assert crossings(one, finer) == 0


def test_levels_find_the_classes_and_know_how_sure_they_are(world, coarse, fine):
    x, families_, classes = world
    unions, parts = fine.at_level(4), coarse.at_level(20)
    assert unions.evaluate(families_)["acc"] > 0.99 and unions.evaluate(families_)["ece"] < 0.05
    assert parts.evaluate(classes)["acc"] > 0.9 and parts.evaluate(classes)["ece"] < 0.1


@pytest.mark.parametrize("k", [1, 2, 4, 9, 20])
def test_a_level_is_a_result_that_predicts_and_saves(coarse, world, tmp_path, k):
    level = coarse.at_level(k)
    assert level.n_clusters == k and level.proba.shape == (640, k)
    np.testing.assert_allclose(level.proba.sum(axis=1), 1, atol=1e-4)
    np.testing.assert_array_equal(level.proba.argmax(axis=1), level.labels)
    np.testing.assert_array_equal(level.predict(world[0]), level.labels)
    assert level.cluster_prior.sum() == pytest.approx(1)
    assert (np.bincount(level.labels, minlength=k) > 0).all()
    level.save(tmp_path / "level")
    again = fmc.ClusterResult.load(tmp_path / "level")
    np.testing.assert_array_equal(again.predict(world[0]), level.labels)
    np.testing.assert_array_equal(coarse.at_level(k).labels, level.labels)


def test_the_own_level_is_the_result_and_a_coarser_one_is_a_merge(fine):
    assert fine.at_level(20) is fine
    level = fine.at_level(7)
    assert [edit["op"] for edit in level.edits] == ["merge", "calibrate"]
    np.testing.assert_array_equal(level.undo().undo().labels, fine.labels)
    np.testing.assert_array_equal(apply_edits(fine, level.edits).proba, level.proba)


def test_unions_add_probabilities_and_shares(fine):
    fine = dataclasses.replace(
        fine.with_pipeline(provenance={**fine.provenance, "calibration": None})
    )
    level = fine.at_level(4)
    member = np.zeros((20, 4))
    member[fine.labels, level.labels] = 1
    np.testing.assert_allclose(level.cluster_prior, fine.cluster_prior @ member, atol=1e-6)
    same = (fine.proba @ member).argmax(axis=1) == level.labels
    np.testing.assert_allclose(level.proba[same], (fine.proba @ member)[same], atol=1e-5)


def test_the_tree_is_a_linkage_that_scipy_takes(fine):
    tree = fine.tree
    assert tree.shape == (19, 4) and is_valid_linkage(tree)
    assert (np.diff(tree[:, 2]) >= 0).all() and tree[-1, 3] == 20
    assert len(dendrogram(tree, no_plot=True)["leaves"]) == 20
    groups = fcluster(tree, 4, criterion="maxclust")
    assert crossings(groups, fine.at_level(4).labels[np.unique(fine.labels, True)[1]]) == 0


def test_a_loaded_result_knows_unions_by_what_is_saved(fine, world, tmp_path):
    fine.save(tmp_path / "run")
    again = fmc.ClusterResult.load(tmp_path / "run")
    assert again.levels[-1].n_clusters == 20
    assert 4 in [level.n_clusters for level in again.levels]
    assert again.at_level(4).evaluate(world[1])["acc"] > 0.99
    assert is_valid_linkage(again.tree)
    by_graph = dataclasses.replace(again, reference=None)
    assert by_graph.levels[-1].n_clusters == 20 and is_valid_linkage(by_graph.tree)
    assert by_graph.at_level(4).evaluate(world[1])["acc"] > 0.99
    for result in (again, by_graph):
        with pytest.raises(ValueError, match="needs the embeddings"):
            result.at_level(21)
    attached = again.attach(world[0])
    assert attached.levels == fine.levels
    np.testing.assert_array_equal(attached.at_level(25).labels, fine.at_level(25).labels)


def test_rows_of_no_cluster_stay_so(coarse):
    labels = coarse.labels.copy()
    labels[:9] = -1
    some = dataclasses.replace(coarse, labels=labels)
    for result in (some, dataclasses.replace(some, embeddings=None)):
        assert 4 in [level.n_clusters for level in result.levels]
        assert is_valid_linkage(result.tree)
        level = result.at_level(2)
        assert (level.labels[:9] == -1).all() and set(level.labels[9:]) == {0, 1}
    assert (some.at_level(8).labels[:9] == -1).all()


def test_names_follow(fine):
    named = fine.rename({c: f"topic {c}" for c in range(20)})
    unions, parts = named.at_level(3), named.at_level(24)
    assert set(unions.names) < set(named.names) and len(set(parts.names)) == 24


def test_one_cluster_and_equal_rows():
    one = fmc.cluster(np.ones((40, 3), np.float32), n_clusters=1, head="kmeans")
    assert one.levels == (Level(1, 0.0, True),)
    assert one.tree.shape == (0, 4) and one.at_level(1) is one
    with pytest.raises(ValueError, match=r"n_clusters=2 is outside 1..1"):
        one.at_level(2)


def test_one_cluster_of_several(blobs):
    one = fmc.cluster(blobs(200, 3).x, n_clusters=1, head="kmeans")
    assert {1, 3} <= {level.n_clusters for level in one.levels}
    assert one.at_level(3).evaluate(blobs(200, 3).y)["acc"] == 1


def test_bad_numbers_are_refused(coarse):
    for k in (0, -3, 10_000):
        with pytest.raises(ValueError, match=rf"n_clusters={k} is outside 1.."):
            coarse.at_level(k)
    for k in (2.5, "4", True):
        with pytest.raises(TypeError, match="whole number"):
            coarse.at_level(k)
    bare = dataclasses.replace(coarse, embeddings=None, graph=None)
    for ask in (lambda: bare.levels, lambda: bare.tree, lambda: bare.at_level(2)):
        with pytest.raises(ValueError, match="attach"):
            ask()


def test_rows_of_zeros_start_no_leaf():
    rng = np.random.default_rng(0)
    few, many = np.eye(8)[0] + 0.1 * rng.normal(size=(5, 8)), np.eye(8)[1:5]
    many = np.repeat(many, 30, axis=0) + 0.1 * rng.normal(size=(120, 8))
    X = np.concatenate([few, many, np.zeros((60, 8))])
    alone = 0
    for seed in range(
        12
    ):  # rows of zeros go to the first cluster, which is one of few rows in some
        result = fmc.cluster(X, head="kmeans", n_clusters=5, random_state=seed)
        alone += (result.labels[:5] == result.labels[-1]).all()
        assert 5 in [level.n_clusters for level in result.levels]
        finer = result.at_level(8)
        assert finer.n_clusters == 8 and np.isfinite(finer.proba).all()
    assert alone > 0
