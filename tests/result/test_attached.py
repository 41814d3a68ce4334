"""`attach`: the result's own rows, by id where they have one; others are refused."""

import numpy as np
import pytest

import fmcluster as fmc
from fmcluster.utils.errors import StoreMismatchError


@pytest.fixture(scope="module")
def world(blobs):
    x, _ = blobs(n=120, k=3, d=8)
    ids = np.array([f"ticket-{i}" for i in range(len(x))])
    return x, ids, fmc.cluster(fmc.EmbeddingStore.from_array(x, ids=ids), n_clusters=3)


def test_rows_of_a_store_are_found_by_their_ids(world):
    x, ids, result = world
    order = np.random.default_rng(0).permutation(len(x))
    store = fmc.EmbeddingStore.from_array(x[order], ids=ids[order])
    np.testing.assert_array_equal(np.asarray(result.attach(store).embeddings), x)
    same = result.attach(fmc.EmbeddingStore.from_array(x, ids=ids))
    np.testing.assert_array_equal(np.asarray(same.embeddings), x)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda x, ids: x[:100], ValueError, "100 rows, the result 120"),
        (lambda x, ids: x[:, :4], ValueError, r"\[4\] dimensions, the result was made from \[8\]"),
        (lambda x, ids: x[0], ValueError, r"shape \(8,\)"),
        (lambda x, ids: [x, x], ValueError, "2 spaces were given"),
        (
            lambda x, ids: fmc.EmbeddingStore.from_array(x, ids=["no", *ids[1:]]),
            StoreMismatchError,
            "lacks 1 of the result's 120 ids, such as 'ticket-0'",
        ),
    ],
)
def test_other_rows_are_refused_in_one_line(world, change, error, said):
    x, ids, result = world
    with pytest.raises(error, match=said) as raised:
        result.attach(change(x, ids))
    assert "\n" not in str(raised.value)


def test_rows_in_another_order_are_told_by_what_is_kept_with_the_result(world, blobs, tmp_path):
    x, _, _ = world
    result = fmc.cluster(x, n_clusters=3, preprocess="center,l2")
    result.save(tmp_path / "run")
    loaded = fmc.ClusterResult.load(tmp_path / "run")
    np.testing.assert_allclose(
        np.asarray(loaded.attach(x.astype(np.float16)).embeddings),
        np.asarray(result.embeddings),
        atol=2e-3,
    )
    for one in (result, loaded):
        with pytest.raises(ValueError, match="row 0 of the embeddings is not the result's"):
            one.attach(x[::-1])
