"""The facade: raw data to result to prediction, the same everywhere, errors in one line."""

import numpy as np
import pandas as pd
import pytest
import torch
from helpers_text import WordEncoder, topic_texts
from sklearn.metrics import adjusted_rand_score

import fmcluster as fmc
from fmcluster.heads import make_head
from fmcluster.result.predictor import encoder_records, prepared
from fmcluster.utils.errors import DataError, StoreMismatchError


@pytest.fixture
def texts():
    return topic_texts()


@pytest.fixture
def store(texts, tmp_path):
    return fmc.embed(texts, encoder=WordEncoder(), folder=tmp_path / "store")


@pytest.fixture
def result(store):
    return fmc.cluster(store, n_clusters=3, head="kmeans")


def test_texts_become_clusters_by_topic(result):
    y = np.arange(90) % 3
    assert result.evaluate(y)["acc"] == 1.0
    assert result.labels.dtype == np.int64
    assert result.proba.shape == (90, 3)
    assert result.proba.dtype == np.float32
    np.testing.assert_array_equal(result.proba.argmax(axis=1), result.labels)
    np.testing.assert_allclose(result.proba.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(result.cluster_prior.sum(), 1)
    assert result.is_calibrated
    assert result.provenance["encoders"][0]["fingerprint"]["own"] == "words-"


def test_nan_from_the_encoder_is_refused_by_prediction_too(result, texts, monkeypatch):
    whole = WordEncoder.encode
    encoder = WordEncoder()
    result.predict(texts[:3], encoder=encoder)

    def broken(self, rows):
        out = whole(self, rows)
        out[1, 0] = np.nan
        return out

    monkeypatch.setattr(WordEncoder, "encode", broken)
    with pytest.raises(ValueError, match="NaN or infinite.* 1"):
        result.predict(texts[:3], encoder=encoder)


def test_the_same_call_finds_the_store_and_another_encoder_is_refused(texts, store, tmp_path):
    again = fmc.embed(texts, encoder=WordEncoder(), folder=tmp_path / "store")
    np.testing.assert_array_equal(np.asarray(again), np.asarray(store))
    with pytest.raises(StoreMismatchError, match="words-x"):
        fmc.embed(texts, encoder=WordEncoder("x"), folder=tmp_path / "store")


def test_prediction_encodes_new_rows_the_same_way(result, texts):
    np.testing.assert_array_equal(result.predict(texts, encoder=WordEncoder()), result.labels)
    new = result.predict(["football match score today"], encoder=WordEncoder())
    assert new[0] == result.labels[1]
    with pytest.raises(StoreMismatchError, match="words-other"):
        result.predict(texts, encoder=WordEncoder("other"))


def test_a_store_of_another_encoder_is_refused_at_prediction(result, texts, tmp_path):
    other = fmc.embed(texts, encoder=WordEncoder("x"), folder=tmp_path / "other")
    with pytest.raises(StoreMismatchError, match="differs"):
        result.predict(other)


def test_arrays_need_no_encoder_and_raw_rows_need_one(blobs):
    X, _ = blobs(120, 3)
    result = fmc.cluster(X, n_clusters=3, head="kmeans")
    np.testing.assert_array_equal(result.ids, np.arange(120))
    np.testing.assert_array_equal(result.predict(X), result.labels)
    with pytest.raises(DataError, match="give embeddings"):
        result.predict(["a text"])


def test_embed_gives_arrays_and_stores_back(blobs, store):
    X, _ = blobs(30, 3)
    np.testing.assert_array_equal(np.asarray(fmc.embed(X)), X)
    assert fmc.embed(store) is store
    assert encoder_records(fmc.embed(X)) == []


def test_preprocessing_is_repeated_by_prediction(blobs):
    X, _ = blobs(150, 3)
    result = fmc.cluster(3 * X + 7, n_clusters=3, head="kmeans", preprocess="pca=4,whiten,l2")
    np.testing.assert_array_equal(result.predict(3 * X + 7), result.labels)
    assert result.provenance["preprocess"][0]["steps"] == "pca=4,whiten,l2"
    assert prepared(result, 3 * X + 7).shape == (150, 4)
    with pytest.raises(ValueError, match="2 spaces were given"):
        result.predict([X, X])


def test_several_spaces_under_the_same_rows(texts, tmp_path):
    store = fmc.embed(texts, encoder=[WordEncoder(), WordEncoder("b")], folder=tmp_path / "two")
    assert len(store.spaces) == 2
    result = fmc.cluster(store, n_clusters=3, head="kmeans")
    assert result.evaluate(np.arange(90) % 3)["acc"] == 1.0
    again = result.predict(texts, encoder=[WordEncoder(), WordEncoder("b")])
    np.testing.assert_array_equal(again, result.labels)


def test_a_lexical_space_travels_with_the_saved_result(texts, tmp_path):
    store = fmc.embed(texts, encoder="tfidf", folder=tmp_path / "tfidf")
    fmc.cluster(store, n_clusters=3, head="kmeans").save(tmp_path / "run")
    again = fmc.ClusterResult.load(tmp_path / "run")
    np.testing.assert_array_equal(again.predict(texts), again.labels)


def test_rows_that_could_not_be_read_are_kept_in_doubt(texts, tmp_path):
    texts[4] = ""
    store = fmc.embed(texts, encoder=WordEncoder(), folder=tmp_path / "m", on_error="mark")
    result = fmc.cluster(store, n_clusters=3, head="kmeans")
    assert result.provenance["unreadable_ids"] == [4]
    assert result.confidence[4] == pytest.approx(1 / 3, abs=1e-3)
    assert result.confidence[5] > 0.5
    np.testing.assert_array_equal(result.proba.argmax(axis=1), result.labels)


def test_equal_seeds_give_equal_results(blobs):
    X, _ = blobs(200, 4)
    a, b = (fmc.cluster(X, n_clusters=4, head="kmeans", random_state=5) for _ in range(2))
    np.testing.assert_array_equal(a.labels, b.labels)
    np.testing.assert_array_equal(a.proba, b.proba)


def test_a_prior_is_refused_where_nothing_balances(blobs):
    X, _ = blobs(60, 3)
    with pytest.raises(ValueError, match="'kmeans' does not balance"):
        fmc.cluster(X, n_clusters=3, head="kmeans", cluster_prior="uniform")
    with pytest.raises(ValueError, match="'nonsense' is not known"):
        fmc.cluster(X, n_clusters=3, head="nonsense")


def test_an_own_head_is_taken_as_it_is(blobs):
    X, _ = blobs(60, 3)
    head = make_head("kmeans", n_clusters=3, random_state=1)
    assert fmc.cluster(X, head=head, calibrate=False).head is head


def test_what_an_own_head_would_not_hear_of_is_refused(blobs):
    x, _ = blobs(n=60, k=3, d=8)
    head = make_head("scan", n_clusters=3, epochs=1)
    for given in ({"n_clusters": 5}, {"cluster_prior": "estimate"}, {"head_params": {"epochs": 2}}):
        name, value = next(iter(given.get("head_params", given).items()))
        with pytest.raises(ValueError, match=f"{name}={value!r} is given beside a head that has"):
            fmc.cluster(x, head=head, **given)
    own = make_head("kmeans", n_clusters=3)
    assert fmc.cluster(x, head=own, n_clusters=3, head_params={"n_clusters": 3}).n_clusters == 3
    for no_head in (None, 3):
        with pytest.raises(TypeError, match=f"head={no_head} is no head"):
            fmc.cluster(x, head=no_head)


def test_scores_stay_scores_without_calibration(blobs):
    X, _ = blobs(60, 3)
    result = fmc.cluster(X, n_clusters=3, head="kmeans", calibrate=False)
    assert not result.is_calibrated
    assert "not calibrated" in repr(result)
    np.testing.assert_array_equal(result.confidence, result.score)


@pytest.mark.parametrize(
    ("X", "k", "message"),
    [
        (np.ones((1, 4)), 1, "n_samples=1"),
        (np.ones((20, 4)), 3, "distinct rows, 1"),
        (np.eye(5), 9, "n_samples=5"),
        (np.full((9, 2), np.nan), 2, "NaN or infinite"),
        (np.eye(5), "many", "positive integer or 'auto'"),
    ],
)
def test_bad_input_is_one_line(X, k, message):
    with pytest.raises((ValueError, TypeError), match=message):
        fmc.cluster(X, n_clusters=k, head="kmeans")


def as_tensor(x):
    return torch.tensor(x, dtype=torch.bfloat16, requires_grad=True)


@pytest.mark.parametrize(
    "kind",
    [
        np.asarray,
        torch.tensor,
        as_tensor,
        lambda x: [torch.tensor(row) for row in x],
        lambda x: x.tolist(),
        pd.DataFrame,
        lambda x: [row[None] for row in x],
    ],
    ids=["array", "tensor", "bf16", "tensors", "lists", "frame", "rows"],
)
def test_embeddings_of_any_kind_are_clustered(blobs, kind):
    x = blobs(60, 3, d=8).x
    labels = fmc.cluster(kind(x), n_clusters=3, head="kmeans").labels
    expected = fmc.cluster(x, n_clusters=3, head="kmeans").labels
    assert adjusted_rand_score(labels, expected) == 1


def test_an_array_is_written_where_it_is_asked_for(blobs, tmp_path):
    x = blobs(30, 3).x
    store = fmc.embed(x, folder=tmp_path / "s", dtype="float16")
    np.save(tmp_path / "x.npy", x)
    twin = fmc.embed(tmp_path / "x.npy", folder=tmp_path / "t", dtype="float16")
    assert (tmp_path / "s" / "manifest.json").is_file()
    assert store.dtype == twin.dtype == np.float16
    assert np.array_equal(np.asarray(store), np.asarray(twin))


def test_rows_of_zeros_are_known_to_be_unknown(blobs):
    x = blobs(60, 3).x.copy()
    x[:4] = 0
    for head in ("auto", "kmeans"):
        result = fmc.cluster(x, n_clusters=3, head=head)
        assert (result.confidence[:4] < 0.334).all() and (result.confidence[4:] > 0.4).all()
        assert (result.predict_proba(x[:2]).max(axis=1) < 0.334).all()
        assert (result.proba.argmax(axis=1) == result.labels).all()


@pytest.mark.parametrize("head", ["kmeans", "auto"])
def test_one_cluster_is_certain_and_says_so(head):
    X = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    one = fmc.cluster(X, n_clusters=1, head=head)
    record = {"method": "one cluster", "n_labels": 0, "level": 1.0}
    assert one.is_calibrated and one.provenance["calibration"] == record
    assert one.with_answers({3: "all"}).provenance["calibration"] == {**record, "n_labels": 1}
    two = one.with_answers({3: "this", 4: "that"})  # calibrated as it was asked for
    assert two.n_clusters == 2 and two.is_calibrated
    plain = fmc.cluster(X, n_clusters=1, head=head, calibrate=False)
    assert not plain.is_calibrated and not plain.with_answers({3: "all"}).is_calibrated


@pytest.mark.parametrize("call", ["cluster", "embed"])
def test_an_encoder_that_has_nothing_to_encode_is_said(blobs, call, caplog):
    x = blobs(n=40, k=2).x
    for data in (x, fmc.embed(x)):
        caplog.clear()
        if call == "embed":
            fmc.embed(data, encoder="tfidf")
        else:
            fmc.cluster(data, n_clusters=2, head="kmeans", encoder="tfidf")
        assert "encoder='tfidf' is not used: the data is embeddings already" in caplog.text


def test_hidden_values_of_a_masked_array_are_not_read(blobs):
    x = blobs(n=40, k=2).x
    hidden = np.ma.masked_less(x, x.min() + 1e-6)
    for call in (
        lambda: fmc.cluster(hidden, n_clusters=2, head="kmeans"),
        lambda: fmc.cluster([x, hidden], n_clusters=2, head="kmeans"),
        lambda: fmc.embed(hidden),
        lambda: fmc.heads.make_head("kmeans", n_clusters=2).fit(hidden),
        lambda: fmc.cluster(x, n_clusters=2, head="kmeans").evaluate(
            np.ma.masked_equal(np.arange(40) % 2, 1)
        ),
    ):
        with pytest.raises(ValueError, match=r"masked array that hides \d+ value"):
            call()
    shown = np.ma.array(x, mask=False)
    assert fmc.cluster(shown, n_clusters=2, head="kmeans").n_clusters == 2
