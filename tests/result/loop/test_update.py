"""New rows come to a result: old ones stay, what fits nothing is told apart, ids never collide."""

import dataclasses
import logging

import numpy as np
import pandas as pd
import pytest

import fmcluster as fmc
from fmcluster.functional.conformal import discoveries, tail_p_values
from fmcluster.result.loop.batch import novel_rows
from fmcluster.result.loop.grow import Grow, find_clusters, grown_columns
from fmcluster.result.loop.joined import JoinedSource, joined_source
from fmcluster.result.loop.reference import SAMPLE, Reference, Sample, extended, reference_of
from fmcluster.utils.errors import CorruptShardError, DataError, StoreMismatchError

VOCABULARY = {
    "money": "refund invoice payment card charge bill".split(),
    "access": "login password account reset email user".split(),
    "parcel": "delivery courier shipping late package depot".split(),
    "photo": "camera lens blur focus zoom shutter".split(),
}
WORDS = [word for topic in VOCABULARY.values() for word in topic]


class WordCounts:
    """Counts of known words: topics share none."""

    fingerprint = {"encoder": "word counts"}

    def __init__(self):
        self.seen = 0

    def encode(self, rows):
        self.seen += len(rows)
        return np.array([[row.split().count(w) + 0.01 for w in WORDS] for row in rows])


def texts(topics, each, seed=0):
    generator = np.random.default_rng(seed)
    return [
        " ".join(generator.choice(VOCABULARY[topic], 4, replace=False))
        for topic in topics
        for _ in range(each)
    ]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FMCLUSTER_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def data(blobs):
    """Rows of four clusters to cluster, rows of the same to come, and rows of two others."""
    x, y = blobs(480, 6)
    known = np.flatnonzero(y < 4)
    return x[known[::2]], x[known[1::2]], x[y == 4], x[y == 5]


@pytest.fixture(scope="module")
def result(data):
    return fmc.cluster(data[0], n_clusters=4, head="kmeans")


def check(grown):
    """Hold a grown result against what every result promises."""
    placed = grown.labels >= 0
    np.testing.assert_allclose(grown.proba.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(grown.proba.argmax(axis=1)[placed], grown.labels[placed])
    np.testing.assert_allclose(grown.confidence, grown.proba.max(axis=1), atol=1e-6)
    assert grown.labels.dtype == np.int64 and grown.proba.dtype == np.float32
    assert grown.score.shape == grown.confidence.shape == (grown.n_rows,)
    assert grown.cluster_prior.sum() == pytest.approx(1) and (grown.cluster_prior > 0).all()
    assert len(np.unique(grown.ids)) == grown.n_rows == len(grown.proba)
    assert grown.sizes.sum() == placed.sum()
    np.testing.assert_allclose(grown.proba[~placed], 1 / grown.n_clusters)
    assert set(grown.novel.tolist()) == set(grown.ids[~placed].tolist())


def test_old_rows_stay_and_new_ones_get_what_predict_gives(data, result):
    grown = result.update(data[1])
    n = result.n_rows
    check(grown)
    assert grown.n_rows == n + len(data[1]) and grown.n_clusters == 4
    for name in ("labels", "proba", "ids", "confidence", "score"):
        np.testing.assert_array_equal(getattr(grown, name)[:n], getattr(result, name))
    placed = grown.labels[n:] >= 0
    assert placed.mean() > 0.97
    np.testing.assert_array_equal(grown.labels[n:][placed], result.predict(data[1])[placed])
    assert grown.ids[n:].tolist() == list(range(n, grown.n_rows))
    assert grown.graph.n_rows == grown.n_rows and grown.graph.k == result.graph.k
    assert grown.provenance["updates"][0]["rows"] == len(data[1])
    assert "updates" not in result.provenance and result.n_rows == n


def test_what_fits_nothing_is_told_apart(data, result):
    grown = result.update(np.concatenate([data[1], data[2]]))
    check(grown)
    new = grown.labels[result.n_rows :]
    assert (new[len(data[1]) :] == -1).mean() > 0.95 and (new[: len(data[1])] == -1).mean() < 0.05
    assert grown.n_clusters == 4 and (grown.novel >= result.n_rows).all()
    assert grown.provenance["updates"][0]["fit_nothing"] == len(grown.novel)
    assert "ClusterResult" in repr(grown)


def test_a_batch_without_novelty_yields_none_nearly_always(blobs):
    found = []
    for seed in range(20):
        x, _ = blobs(200, 4, seed=seed)
        result = fmc.cluster(x[:150], n_clusters=4, head="kmeans")
        found.append(len(result.update(x[150:]).novel))
    assert np.mean(np.array(found) > 0) <= 0.15 and sum(found) <= 0.01 * 20 * 50


def test_one_odd_row_among_many(data, result):
    odd = np.linalg.svd(data[0])[2][-1:]  # orthogonal to what the rows share
    grown = result.update(np.concatenate([data[1][:60], odd]))
    assert (grown.n_rows - 1) in grown.novel.tolist() and len(grown.novel) <= 2


def test_new_clusters_for_what_fits_none(data, result):
    n, m = result.n_rows, len(data[1])
    grown = result.update(np.concatenate([data[1], data[2], data[3]]), new_clusters="auto")
    check(grown)
    assert grown.n_clusters == 6 and len(grown.novel) <= 4
    np.testing.assert_array_equal(grown.labels[:n], result.labels)
    np.testing.assert_array_equal(grown.proba[:n, :4], result.proba)
    assert not grown.proba[:n, 4:].any()
    first, second = grown.labels[n + m : n + m + 80], grown.labels[n + m + 80 :]
    most = [np.bincount(each[each >= 0]).argmax() for each in (first, second)]
    assert sorted(most) == [4, 5]
    assert [(each == c).mean() > 0.95 for each, c in zip((first, second), most, strict=True)] == [
        True
    ] * 2
    assert grown.sizes[4] >= grown.sizes[5] and grown.edits[-1] == {
        "op": "update",
        "new_clusters": 2,
    }


def test_predict_knows_the_new_clusters(blobs, data, result, tmp_path):
    x, y = blobs(480, 6)
    grown = result.update(
        np.concatenate([data[1], data[2][::2], data[3][::2]]), new_clusters="auto"
    )
    for each in (data[2][1::2], data[3][1::2]):
        assert (grown.predict(each) >= 4).mean() > 0.95
        assert len(np.unique(grown.predict(each))) == 1
    same = grown.predict(data[1]) == result.predict(data[1])
    assert same.mean() > 0.98
    proba = grown.predict_proba(x)
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-5)
    assert proba.shape == (480, 6)
    grown.save(tmp_path / "grown")
    loaded = fmc.ClusterResult.load(tmp_path / "grown")
    np.testing.assert_array_equal(loaded.predict_proba(x), proba)
    for name in ("labels", "proba", "ids", "confidence"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(grown, name))
    assert loaded.novel.tolist() == grown.novel.tolist() and loaded.n_clusters == 6


def test_scattered_rows_make_no_cluster(data, result):
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(6, data[0].shape[1]))
    grown = result.update(
        np.concatenate([data[1][:20], data[2][:3], -data[0][:1], noise]), new_clusters="auto"
    )
    check(grown)
    assert grown.n_clusters == 4 and len(grown.novel) >= 3


def test_rows_without_a_cluster_wait_for_others_like_them(data, result):
    """Three rows are too few; with six more they are a cluster, and only they change."""
    first = result.update(np.concatenate([data[1][:30], data[2][:3]]), new_clusters="auto")
    waiting = np.flatnonzero(first.labels < 0)
    assert first.n_clusters == 4 and len(waiting) >= 3
    second = first.update(np.concatenate([data[1][30:60], data[2][3:12]]), new_clusters="auto")
    check(second)
    assert second.n_clusters == 5 and (second.labels[waiting[-3:]] == 4).all()
    placed = first.labels >= 0
    np.testing.assert_array_equal(second.labels[: first.n_rows][placed], first.labels[placed])
    assert (second.labels[-9:] == 4).mean() > 0.8
    third = second.update(np.concatenate([data[1][60:90], data[2][12:22]]))
    assert (third.labels[-10:] == 4).mean() >= 0.9


def test_without_new_clusters_yesterdays_odd_rows_stay_odd_today(data, result):
    first = result.update(np.concatenate([data[1][:30], data[2][:40]]))
    again = first.update(data[2][40:60])
    assert (again.labels[-20:] == -1).mean() > 0.9  # they are near each other, and near no cluster


def test_rows_of_zeros_have_no_cluster_and_make_none(data, result):
    batch = np.concatenate([data[1][:10], np.zeros((7, data[0].shape[1]))])
    grown = result.update(batch, new_clusters="auto")
    check(grown)
    assert grown.labels[-7:].tolist() == [-1] * 7 and grown.n_clusters == 4
    assert grown.provenance["updates"][0]["fit_nothing"] == 0
    more = result.update(np.concatenate([batch, data[2][:40]]), new_clusters="auto")
    assert more.n_clusters == 5
    np.testing.assert_allclose(more.predict_proba(np.zeros((1, 16))), 0.2, atol=1e-4)


def test_several_spaces_and_preprocessing(blobs):
    x, y = blobs(240, 4, seed=1)
    spaces = [x, x[:, ::-1].copy()]
    old, new, odd = np.flatnonzero(y < 3)[::2], np.flatnonzero(y < 3)[1::2], np.flatnonzero(y == 3)
    take = lambda rows: [space[rows] for space in spaces]  # noqa: E731
    for given in (take, lambda rows: x[rows]):
        result = fmc.cluster(given(old), n_clusters=3, preprocess="pca=8,l2", head="auto")
        grown = result.update(given(np.concatenate([new, odd])), new_clusters="auto")
        check(grown)
        assert grown.n_clusters == 4 and (grown.labels[-len(odd) :] == 3).mean() > 0.9
        assert (grown.predict(given(odd)) == 3).mean() > 0.9


def test_edits_before_and_after(data, result):
    merged = result.merge([0, 2], name="both").rename({1: "one"})
    grown = merged.update(np.concatenate([data[1], data[2]]), new_clusters="auto")
    check(grown)
    assert grown.n_clusters == 4 and grown.names[:2] == ("both", "one")
    assert grown.names[3] == "cluster 3"
    n = result.n_rows
    placed = grown.labels[n : n + len(data[1])] >= 0
    np.testing.assert_array_equal(
        grown.labels[n : n + len(data[1])][placed], merged.predict(data[1])[placed]
    )
    with pytest.raises(ValueError, match="rows were added since"):
        grown.undo()
    again = grown.merge([3, 1], name="three and one")
    check(again)
    assert again.n_clusters == 3
    assert (again.predict(data[2]) == 1).mean() > 0.95
    back = again.undo()
    np.testing.assert_array_equal(back.labels, grown.labels)
    np.testing.assert_array_equal(back.proba, grown.proba)


# --- ids ----------------------------------------------------------------------------------------


def named(result, prefix="r"):
    return dataclasses.replace(result, ids=np.array([f"{prefix}{i}" for i in range(result.n_rows)]))


def test_numbers_go_on_after_the_last_row_of_the_data(data, result):
    left_out = dataclasses.replace(
        result.with_pipeline(provenance={**result.provenance, "skipped_ids": [3, 7]}),
        ids=np.setdiff1d(np.arange(162), [3, 7]),
    )
    grown = left_out.update(data[1][:5])
    assert grown.ids[-5:].tolist() == [162, 163, 164, 165, 166]
    assert grown.index.are_positions
    twice = grown.update(data[1][5:8])
    assert twice.ids[-3:].tolist() == [167, 168, 169] and len(twice.provenance["updates"]) == 2


def test_names_are_kept_and_never_collide(data, result):
    mine = named(result)
    store = fmc.EmbeddingStore.from_array(data[1][:4], ids=["a", "b", "c", "r7"])
    with pytest.raises(DataError, match=r"1 of 4 new ids are already in the result, such as 'r7'"):
        mine.update(store)
    grown = mine.update(store, on_known="skip")
    check(grown)
    assert grown.ids[-3:].tolist() == ["a", "b", "c"] and grown.n_rows == mine.n_rows + 3
    assert grown.provenance["updates"][0]["left_out"] == 1
    np.testing.assert_array_equal(grown.proba[-3:], mine.predict_proba(data[1][:3]))
    with pytest.raises(DataError, match="no new rows: 4 of 4 are already in the result"):
        grown.update(store, on_known="skip")


@pytest.mark.parametrize("data_of", [lambda x: x, fmc.EmbeddingStore.from_array])
def test_ids_of_another_kind_are_refused(data, result, data_of):
    with pytest.raises(DataError, match=r"ids of this result are .*'r0'"):
        named(result).update(data_of(data[1][:4]))
    words = fmc.EmbeddingStore.from_array(data[1][:2], ids=["a", "b"])
    with pytest.raises(DataError, match=r"such as 0, new ids are such as 'a'"):
        result.update(words)


def test_tickets_of_the_users_own(data, result):
    """Integers that are no row numbers are names: they stay, and collide where they do."""
    mine = dataclasses.replace(result, ids=np.arange(5000, 5160))
    new = fmc.EmbeddingStore.from_array(data[1][:3], ids=[7, 6000, 9])
    assert mine.update(new).ids[-3:].tolist() == [7, 6000, 9]
    again = fmc.EmbeddingStore.from_array(data[1][:2], ids=[5003, 5])
    with pytest.raises(DataError, match="such as 5003"):
        mine.update(again)


# --- raw rows -----------------------------------------------------------------------------------


@pytest.fixture
def tickets(tmp_path):
    monday = pd.DataFrame({"text": texts(["money", "access", "parcel"], 20)})
    monday.insert(0, "ticket", np.arange(100, 160))
    monday.to_csv(tmp_path / "monday.csv", index=False)
    rows = texts(["money", "access", "parcel", "photo"], 8, seed=1)
    tuesday = pd.DataFrame({"ticket": np.arange(200, 232), "text": rows})
    tuesday.to_csv(tmp_path / "tuesday.csv", index=False)
    return tmp_path


def test_daily_tickets(tickets):
    options = {"column": "text", "id_column": "ticket"}
    store = fmc.embed(tickets / "monday.csv", encoder=WordCounts(), **options)
    result = fmc.cluster(store, n_clusters=3)
    assert result.provenance["id_column"] == "ticket"
    counting = WordCounts()
    grown = result.update(
        tickets / "tuesday.csv", column="text", encoder=counting, new_clusters="auto"
    )
    check(grown)
    assert counting.seen == 32 and grown.ids[60:].tolist() == list(range(200, 232))
    assert grown.n_clusters == 4 and (grown.labels[-8:] == 3).all()
    assert set(grown.names[3].split(", ")) <= set(VOCABULARY["photo"])
    assert grown.names[:3] == result.names
    page = grown.report(tickets / "report.html").read_text()
    assert "camera" in page and "refund" in page
    with pytest.raises(DataError, match="are already in the result, such as 200"):
        grown.update(tickets / "tuesday.csv", column="text", encoder=counting)
    grown.save(tickets / "run")
    loaded = fmc.ClusterResult.load(tickets / "run")
    assert loaded.ids.tolist() == grown.ids.tolist() and loaded.names == grown.names


def test_a_loaded_result_tells_novelty_by_its_sample(tickets):
    options = {"column": "text", "id_column": "ticket"}
    store = fmc.embed(tickets / "monday.csv", encoder=WordCounts(), **options)
    fmc.cluster(store, n_clusters=3).save(tickets / "run")
    loaded = fmc.ClusterResult.load(tickets / "run")
    assert loaded.embeddings is None and loaded.reference.x.shape == (60, 24)
    grown = loaded.update(
        tickets / "tuesday.csv", column="text", encoder=WordCounts(), new_clusters="auto"
    )
    check(grown)
    assert (grown.labels[-8:] == 3).all() and grown.graph is None and grown.embeddings is None
    assert set(grown.names[3].split(", ")) <= set(VOCABULARY["photo"])
    assert len(grown.reference.rows) == 92
    grown.save(tickets / "run2")
    rows = texts(["money", "access", "parcel", "photo"], 2, seed=3)
    again = fmc.ClusterResult.load(tickets / "run2").update(
        pd.DataFrame({"ticket": range(300, 308), "text": rows}),
        column="text",
        id_column="ticket",
        encoder=WordCounts(),
    )
    assert again.labels[-2:].tolist() == [3] * 2  # of the cluster that came: not unlike anything


def test_unreadable_rows_as_asked(tickets):
    store = fmc.embed(texts(["money", "access", "parcel"], 20), encoder=WordCounts())
    result = fmc.cluster(store, n_clusters=3)
    rows = [*texts(["money"], 3), "", *texts(["access"], 2)]
    with pytest.raises(DataError, match="row 3: the text is empty"):
        result.update(rows, encoder=WordCounts())
    skipped = result.update(rows, encoder=WordCounts(), on_error="skip")
    check(skipped)
    assert skipped.ids[60:].tolist() == [60, 61, 62, 64, 65]
    assert skipped.provenance["skipped_ids"] == [63]
    marked = result.update(rows, encoder=WordCounts(), on_error="mark")
    check(marked)
    assert marked.labels[63] == -1 and marked.novel.tolist() == [63]
    assert marked.provenance["unreadable_ids"] == [63]
    after = skipped.update(texts(["parcel"], 2), encoder=WordCounts())
    assert after.ids[-2:].tolist() == [66, 67]


def test_another_encoder_is_refused_and_nothing_changed(tickets):
    class Other(WordCounts):
        fingerprint = {"encoder": "other"}

    store = fmc.embed(texts(["money", "access"], 20), encoder=WordCounts())
    result = fmc.cluster(store, n_clusters=2)
    before = result.labels.copy(), dict(result.provenance)
    with pytest.raises(StoreMismatchError, match="the encoder differs"):
        result.update(texts(["money"], 2), encoder=Other())
    other = fmc.embed(texts(["money"], 2), encoder=Other())
    with pytest.raises(StoreMismatchError, match="the encoder differs"):
        result.update(other)
    np.testing.assert_array_equal(result.labels, before[0])
    assert result.provenance == before[1]


def test_a_space_fitted_on_other_rows_is_refused(tickets):
    """Of the same name, settings and width, and yet another space."""
    mine = texts(["money", "access", "parcel"], 20)
    store = fmc.embed(mine, encoder=[WordCounts(), "tfidf"])
    result = fmc.cluster(store, n_clusters=3, head="kmeans")
    other = fmc.embed(mine[::-1] + ["refund refund camera"], encoder=[WordCounts(), "tfidf"])
    for ask in (result.predict, result.update, result.drift, result.attach):
        with pytest.raises(StoreMismatchError, match="'tfidf' of the store was fitted on other"):
            ask(other)
    assert result.attach(store).n_rows == 60
    copy = store.save(tickets / "copy")
    np.testing.assert_array_equal(result.predict(copy), result.predict(store))
    rows = pd.DataFrame({"text": ["refund card", "login user"]})
    encoder = [WordCounts(), None]
    grown = result.update(rows, column="text", encoder=encoder)
    assert grown.ids[-2:].tolist() == [60, 61]
    grown.save(tickets / "run")
    loaded = fmc.ClusterResult.load(tickets / "run")
    with pytest.raises(StoreMismatchError, match="fitted on other"):
        loaded.predict(other)
    np.testing.assert_array_equal(loaded.predict(store), result.predict(store))


# --- what reads a grown result ------------------------------------------------------------------


def test_rows_of_no_cluster_everywhere(data, result, tmp_path):
    grown = result.update(np.concatenate([data[1], data[2][:30]]))
    y = np.concatenate([result.labels, result.predict(data[1]), np.full(30, 9)])
    figures = grown.evaluate(y)
    assert figures["acc"] == pytest.approx((grown.labels == y).mean())  # none is never right
    assert grown.cluster(0).size == grown.sizes[0]
    assert len(grown.outlier_score) == grown.n_rows and len(grown.top(2)[0]) == grown.n_rows
    picked = fmc.query(grown, budget=20)
    assert len(picked) == 20
    assert len(fmc.find_label_issues(grown, y)) >= 0
    page = grown.report(tmp_path / "r.html").read_text()
    assert "rows in no cluster" in page
    datasets = pytest.importorskip("datasets")
    ds = datasets.Dataset.from_dict({"x": list(range(grown.n_rows))})
    column = grown.to_dataset(ds)["cluster"]
    assert [value is None for value in column] == (grown.labels < 0).tolist()
    few = grown.calibrate(grown.ids[:40], y[:40])
    np.testing.assert_array_equal(few.labels, grown.labels)


def test_names_of_rows_in_no_cluster_are_none_in_the_table(data, result, tmp_path):
    mine = result.rename({0: "a"}).update(data[2])
    mine.save(tmp_path / "run")
    table = pd.read_parquet(tmp_path / "run" / "clusters.parquet")
    assert table["name"].isna().tolist() == (mine.labels < 0).tolist()
    assert (table["cluster"] == mine.labels).all()


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"alpha": 0}, "alpha"),
        ({"alpha": 1.0}, "alpha"),
        ({"new_clusters": "many"}, "new_clusters='many' is not known"),
        ({"on_known": "replace"}, "on_known='replace' is not known"),
        ({"on_error": "ignore"}, "on_error='ignore' is not known"),
        ({"column": "text"}, "embeddings have no columns"),
    ],
)
def test_options_are_checked_first(data, result, options, says):
    with pytest.raises(ValueError, match=says):
        result.update(data[1], **options)


def test_other_dimensions(data, result):
    with pytest.raises(ValueError, match="features|dimensions"):
        result.update(data[1][:, :9])
    with pytest.raises((ValueError, DataError)):
        result.update(np.empty((0, 16)))


def test_without_anything_to_hold_rows_against(data, result, caplog):
    bare = dataclasses.replace(result, embeddings=None, graph=None)
    with caplog.at_level(logging.WARNING):
        grown = bare.update(data[2], new_clusters="auto")
    assert "no row can be told to fit nothing" in caplog.text
    check(grown)
    assert (grown.labels >= 0).all() and grown.n_clusters == 4 and grown.graph is None


# --- pieces -------------------------------------------------------------------------------------


def test_the_sample_is_small_and_grows_evenly(blobs, tmp_path, monkeypatch):
    from fmcluster.result.loop import reference

    monkeypatch.setattr(reference, "SAMPLE", 50)
    x, _ = blobs(200, 4)
    result = fmc.cluster(x, n_clusters=4, head="kmeans")
    result.save(tmp_path / "run")
    loaded = fmc.ClusterResult.load(tmp_path / "run")
    assert loaded.reference.x.shape == (50, 16) and loaded.reference.x.dtype == np.float16
    np.testing.assert_allclose(loaded.reference.x, x[loaded.reference.rows], atol=1e-3)
    more = extended(loaded.reference, np.arange(200, 260), x[:60])
    assert len(more.rows) == 50 and more.rows.max() >= 250 and more.rows.min() < 10
    assert extended(None, np.arange(3), x[:3]) is None and SAMPLE == 2000
    np.save(tmp_path / "run" / "reference_rows.npy", np.arange(1000, 1050))
    with pytest.raises(CorruptShardError, match="checksum"):
        fmc.ClusterResult.load(tmp_path / "run")


def test_a_reference_has_only_rows_of_clusters(data, result):
    assert reference_of(result).graph is result.graph
    grown = result.update(np.concatenate([data[1], data[2]]))
    held = reference_of(grown)
    assert len(held.labels) == (grown.labels >= 0).sum() and (held.labels >= 0).all()
    bare = dataclasses.replace(grown, embeddings=None)
    assert reference_of(bare) is None
    one = dataclasses.replace(bare, reference=Sample(np.array([0]), np.ones((1, 16), np.float16)))
    assert reference_of(one) is None


def test_grown_columns_stay_a_distribution():
    proba = np.array([[0.7, 0.3], [0.5, 0.5]], np.float32)
    out = grown_columns(proba, np.array([[0.5, 0.1], [0.0, 0.0]]))
    np.testing.assert_allclose(out, [[0.28, 0.12, 0.5, 0.1], [0.5, 0.5, 0, 0]], atol=1e-6)
    step = Grow(None, (0.1, 0.05))
    assert step.count(3) == 5 and step.named(None, 3) is None
    np.testing.assert_allclose(step.shares(np.array([0.5, 0.5])), [0.425, 0.425, 0.1, 0.05])
    assert step.named(("a", "b"), 2) == ("a", "b", "cluster 2", "cluster 3")


def test_few_rows_make_no_cluster(data, result):
    held = reference_of(result)
    assert find_clusters(data[2][:4], held, seed=0).tolist() == [-1] * 4
    assert find_clusters(data[2][:0], held, seed=0).shape == (0,)
    assert find_clusters(data[2][:6], held, seed=0).tolist() == [0] * 6


def test_two_sources_read_as_one():
    from fmcluster.embedding.data.source import Source

    both = JoinedSource(Source(["a", "b", ""]), Source(["d", "e"]), offset=3)
    assert list(both) == ["a", "b", "", "d", "e"] and both.n_rows == 5 and both.numbers_rows
    assert both.ids(0, 5).tolist() == [0, 1, 2, 3, 4] and both.ids(3, 5).tolist() == [3, 4]
    assert list(both.pieces(2, [0, 2])) == [(0, ["a", "b"]), (2, ["e"])]
    block = both.decode(["b", "", "d"], 1, on_error="skip")
    assert block.rows == ["b", None, "d"] and list(block.problems) == [1]
    assert block.ids.tolist() == [1, 2, 3]
    alone = JoinedSource(None, Source(["x"]), offset=7)
    assert list(alone) == ["x"] and alone.ids(0, 1).tolist() == [7]
    assert joined_source(None, Source(["x"]), 0) is None
    assert joined_source(Source(["x"]), Source(np.zeros((2, 2))), 0) is None


# --- a batch ------------------------------------------------------------------------------------


def overlapping(generator, n, centers):
    """Rows whose clusters overlap: none of an unseen one is strange by itself."""
    y = generator.integers(len(centers), size=n)
    x = centers[y] + 1.1 * generator.normal(size=(n, centers.shape[1]))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), y


def test_a_group_is_found_where_no_row_of_it_is_strange_by_itself():
    generator = np.random.default_rng(0)
    centers = generator.normal(size=(12, 24))
    x, _ = overlapping(generator, 600, centers[:10])
    held = Reference(x, np.zeros(600, np.int64))
    old, _ = overlapping(generator, 120, centers[:10])
    group, _ = overlapping(generator, 24, centers[10:11])
    found = novel_rows(held, np.concatenate([old, group]), alpha=0.05)
    strange, _ = held.strangeness(np.concatenate([old, group]))
    alone = discoveries(tail_p_values(strange, held.scores), 0.05)
    assert found[120:].mean() > 0.6 and found[:120].mean() < 0.05
    assert not alone[120:].any()
    assert novel_rows(held, old, alpha=0.05).mean() < 0.03


def test_a_text_that_came_many_times_is_no_group():
    generator = np.random.default_rng(1)
    centers = generator.normal(size=(8, 24))
    x, _ = overlapping(generator, 400, centers)
    batch, _ = overlapping(generator, 60, centers)
    batch = np.concatenate([batch, np.repeat(batch[:1], 15, axis=0)])
    assert not novel_rows(Reference(x, np.zeros(400, np.int64)), batch, alpha=0.05)[60:].any()


def test_novelty_of_tiny_batches_and_references():
    generator = np.random.default_rng(2)
    x, _ = overlapping(generator, 40, generator.normal(size=(2, 8)))
    held = Reference(x[:5], np.zeros(5, np.int64))
    for m in (0, 1, 2, 35):
        assert novel_rows(held, x[5 : 5 + m], alpha=0.05).shape == (m,)
    zeros = np.zeros((3, 8), np.float32)
    assert not novel_rows(held, zeros, alpha=0.05).any()
    with pytest.raises(ValueError, match="new rows have 3 dimensions, the result's 8"):
        novel_rows(held, zeros[:, :3], alpha=0.05)


def test_equal_batches_are_told_equally(data, result):
    held = reference_of(result)
    batch = np.concatenate([data[1], data[2]])
    first = novel_rows(held, batch, alpha=0.05, seed=3)
    np.testing.assert_array_equal(first, novel_rows(held, batch, alpha=0.05, seed=3))


def test_labels_of_rows_in_no_cluster_name_none_and_these_stay_in_none(data, result):
    grown = result.update(np.concatenate([data[1], data[2]]))
    rows = np.arange(0, 60)
    names = [f"class {c}" for c in grown.labels[rows]]
    ids = np.r_[grown.ids[rows], grown.novel]
    calibrated = grown.calibrate(ids, [*names, *["new"] * len(grown.novel)])
    check(calibrated)
    assert calibrated.novel.tolist() == grown.novel.tolist() and len(grown.novel)
    assert calibrated.names == tuple(f"class {c}" for c in range(4))
    alone = grown.calibrate(grown.ids[rows], names)
    np.testing.assert_array_equal(alone.confidence, calibrated.confidence)
    with pytest.raises(ValueError, match=r"in no cluster \(-1\).*with_answers"):
        grown.calibrate(grown.novel, ["new"] * len(grown.novel))


def test_one_row_is_asked_for_as_a_row(data, result):
    for ask in (result.predict, result.update, result.drift):
        with pytest.raises(ValueError, match=r"shape \(16,\): one row is x.reshape") as raised:
            ask(data[1][0])
        assert "\n" not in str(raised.value)


def test_rows_that_all_have_copies_take_new_ones(blobs):
    """Then the middle distance is zero, and its logarithm none."""
    x, y = blobs(12, 6)
    x = np.repeat(x, 20, axis=0)
    result = fmc.cluster(x, n_clusters=3, head="kmeans")
    grown = result.update(np.concatenate([x[::20], np.tile(-x[0], (6, 1))]))
    check(grown)
    np.testing.assert_array_equal(grown.labels[240:252], result.labels[::20])
    assert np.isfinite(result.drift(x[::20]).p_values).all()


def test_new_rows_that_are_all_the_same_are_one_new_cluster(data, result):
    grown = result.update(np.concatenate([data[1][:4], np.repeat(data[2][:1], 10, axis=0)]))
    assert len(grown.novel) == 10
    grown = result.update(np.repeat(data[2][:1], 10, axis=0), new_clusters="auto")
    check(grown)
    assert grown.n_clusters == 5 and (grown.labels[-10:] == 4).all()
    with pytest.raises(ValueError, match="cluster 4 does not fall apart: its 10 rows are all the"):
        grown.split(4, into="auto")
