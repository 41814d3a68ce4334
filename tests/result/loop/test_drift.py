"""Drift: shares then and now, a test that rarely raises a false alarm, rows unlike anything."""

import dataclasses
import logging

import numpy as np
import pytest
from scipy.stats import fisher_exact

import fmcluster as fmc
from fmcluster.result.loop.drift import _holm, _permuted
from fmcluster.utils.errors import DataError


@pytest.fixture(scope="module")
def data(blobs):
    x, y = blobs(900, 5)
    return x, y


@pytest.fixture(scope="module")
def result(data):
    x, y = data
    return fmc.cluster(x[:400][y[:400] < 4], n_clusters=4, head="kmeans")


def share_of(result, rows, c):
    return float((result.predict(rows) == c).mean())


def test_no_drift_is_none(data, result):
    x, y = data
    found = result.drift(x[400:][y[400:] < 4])
    assert found.p_value > 0.05 and found.p_adjusted.min() > 0.05
    assert found.unlike_anything < 0.05 and found.unlike_p_value > 0.05
    np.testing.assert_allclose(found.old_share.sum(), 1)
    np.testing.assert_allclose(found.new_share.sum(), 1)
    assert (found.interval[:, 0] <= found.new_share).all()
    assert (found.new_share <= found.interval[:, 1]).all()
    assert found.n_old == result.n_rows and abs(found.n_new - (y[400:] < 4).sum()) <= 8
    again = result.drift(x[400:][y[400:] < 4])
    np.testing.assert_array_equal(found.interval, again.interval)
    assert found.p_value == again.p_value


def test_a_cluster_that_grows_is_found_and_measured(data, result):
    x, y = data
    rows = np.flatnonzero(y < 4)
    rows = rows[rows >= 400]
    fewer = np.concatenate([rows[y[rows] == 0], rows[y[rows] != 0][::3]])
    grown = int(np.bincount(result.predict(x[y == 0])).argmax())
    found = result.drift(x[fewer])
    true = float((y[fewer] == 0).mean())
    assert found.p_value < 0.01 and found.p_adjusted[grown] < 0.01
    assert found.interval[grown, 0] > found.old_share[grown]
    assert found.interval[grown, 0] <= true <= found.interval[grown, 1]
    assert found.new_share[grown] == pytest.approx(true, abs=0.05)
    table = found.table()
    assert table["cluster"][0] == grown and table["p_value"].is_monotonic_increasing
    assert list(table.columns) == [
        "cluster", "name", "old_share", "new_share", "low", "high", "p_value", "p_adjusted",
    ]  # fmt: skip
    assert len(table) == 4 and table["name"][0] == f"cluster {grown}"


def test_rows_unlike_anything_are_counted_and_leave_the_shares_alone(data, result):
    x, y = data
    old = np.flatnonzero(y < 4)
    old, odd = old[old >= 400], np.flatnonzero(y == 4)
    found = result.drift(x[np.concatenate([old, odd])])
    true = len(odd) / (len(odd) + len(old))
    assert found.unlike_p_value < 1e-6
    assert found.unlike_interval[0] <= true <= found.unlike_interval[1]
    assert found.unlike_anything == pytest.approx(true, abs=0.06)
    assert found.p_value > 0.05 and found.n_new < len(old) + 10


def test_false_alarms_are_as_rare_as_they_say():
    generator = np.random.default_rng(0)
    shares = np.array([0.5, 0.3, 0.15, 0.05])
    pairs = [[generator.multinomial(size, shares) for size in (120, 60)] for _ in range(400)]
    found = np.array([_permuted(old, new, seed=0) for old, new in pairs])
    assert 0.02 < (found < 0.05).mean() < 0.08 and 0.4 < (found < 0.5).mean() < 0.6


def test_real_fits_raise_no_more_of_them(blobs):
    found = []
    for seed in range(8):
        x, _ = blobs(160, 4, seed=seed, spread=0.3)
        result = fmc.cluster(x[:100], n_clusters=4, head="kmeans", calibrate=False)
        counts = [np.bincount(result.predict(rows), minlength=4) for rows in (x[:100], x[100:])]
        found.append(_permuted(*counts, seed=0))
    assert (np.array(found) < 0.05).sum() <= 2


def test_intervals_cover_the_true_share(blobs):
    hits = []
    for seed in range(3):
        x, y = blobs(400, 4, seed=seed, spread=0.25)
        result = fmc.cluster(x[:200], n_clusters=4, head="kmeans")
        found = result.drift(x[200:])
        expected = np.bincount(result.predict(x), minlength=4) / 400
        hits += ((found.interval[:, 0] <= expected) & (expected <= found.interval[:, 1])).tolist()
    assert np.mean(hits) >= 0.85


def test_a_cluster_without_new_rows_has_an_interval(data, result):
    x, y = data
    c = int(result.predict(x[y == 1])[0])
    found = result.drift(x[y == 0][:60])
    assert found.new_share[c] < 0.01 and 0.02 < found.interval[c, 1] < 0.12


def test_answers_and_moves_are_no_drift(data, result):
    x, y = data
    ids = result.ids[result.labels == 0][:30]
    moved = result.move(ids, 1)
    new = x[400:][y[400:] < 4]
    assert moved.drift(new).p_value == result.drift(new).p_value
    merged = result.merge([0, 1], name="both").drift(new)
    assert len(merged.old_share) == 3 and merged.p_value > 0.05
    assert merged.table()["name"].str.contains("both").any()


def test_grown_and_loaded_results(data, result, tmp_path):
    x, y = data
    new = x[400:][y[400:] < 4]
    grown = result.update(np.concatenate([new[:100], x[y == 4][:40]]))
    found = grown.drift(new[100:])
    assert found.n_old == (grown.labels >= 0).sum() and found.p_value > 0.01
    result.save(tmp_path / "run")
    loaded = fmc.ClusterResult.load(tmp_path / "run").drift(new)
    direct = result.drift(new)
    assert loaded.unlike_anything == pytest.approx(direct.unlike_anything, abs=0.02)
    np.testing.assert_allclose(loaded.new_share, direct.new_share, atol=0.02)


def test_without_anything_to_hold_rows_against(data, result, caplog):
    bare = dataclasses.replace(result, embeddings=None, graph=None)
    with caplog.at_level(logging.WARNING):
        found = bare.drift(data[0][400:450])
    assert "unlike anything is not known" in caplog.text
    assert np.isnan(found.unlike_anything) and np.isnan(found.unlike_p_value)
    assert 0 < found.p_value <= 1


def test_one_cluster_cannot_drift(blobs):
    x, _ = blobs(60, 2)
    result = fmc.cluster(x[:40], n_clusters=1, head="kmeans")
    found = result.drift(x[40:])
    assert found.p_value == 1 and found.old_share.tolist() == found.new_share.tolist() == [1.0]


def test_rows_of_zeros_are_left_out(data, result):
    new = data[0][400:460]
    with_zeros = result.drift(np.concatenate([new, np.zeros((9, 16))]))
    np.testing.assert_array_equal(with_zeros.new_share, result.drift(new).new_share)
    with pytest.raises(DataError, match="none of the 9 new rows holds anything"):
        result.drift(np.zeros((9, 16)))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"level": 1.0}, "level=1 is outside"),
        ({"level": 0}, "level"),
        ({"on_error": "mark"}, "on_error='mark' is not known"),
    ],
)
def test_options_are_checked_first(data, result, options, says):
    with pytest.raises(ValueError, match=says):
        result.drift(data[0][400:450], **options)


def test_other_dimensions(data, result):
    with pytest.raises(ValueError, match="features|dimensions"):
        result.drift(data[0][400:450, :9])


def test_p_values_of_known_tables():
    assert _holm(np.array([0.01, 0.04, 0.03])).tolist() == [0.03, 0.06, 0.06]
    assert _holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]
    old, new = np.array([50, 50]), np.array([10, 30])
    exact = fisher_exact([[10, 30], [50, 50]]).pvalue
    assert _permuted(old, new, seed=0) == pytest.approx(exact, abs=0.01)
    assert _permuted(old, np.array([20, 20]), seed=0) == 1.0
