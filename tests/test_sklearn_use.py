"""Heads in scikit-learn's own tools, in BERTopic and under mteb."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score, silhouette_score
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import fmcluster as fmc
from fmcluster.heads import make_head
from fmcluster.integrations import TopicClusterer, mteb_clustering
from fmcluster.partition.scorers import modularity_silhouette_scorer, partition_score
from fmcluster.utils.errors import MissingExtraError


@pytest.fixture
def data(blobs):
    return blobs(240, 4, spread=0.2)


@pytest.mark.parametrize("name", ["kmeans", "scan", "spectral"])
def test_a_head_ends_a_pipeline(name, data):
    X, y = data
    steps = [("pre", fmc.Preprocessor("pca=8,l2")), ("head", make_head(name, n_clusters=4))]
    pipe = Pipeline(steps).set_params(head__random_state=0)
    labels = pipe.fit_predict(X)
    assert adjusted_rand_score(y, labels) > 0.9
    np.testing.assert_array_equal(pipe.predict(X), labels)
    np.testing.assert_allclose(pipe.predict_proba(X).sum(axis=1), 1, atol=1e-5)


def test_a_learned_representation_feeds_the_next_step(data):
    X, y = data
    pipe = make_pipeline(
        make_head("simclr", n_clusters=4, n_out=8, epochs=2, random_state=0),
        make_head("kmeans", n_clusters=4, random_state=0),
    )
    assert adjusted_rand_score(y, pipe.fit_predict(X)) > 0.8


def test_clones_are_unfitted_and_fit_the_same(data):
    head = make_head("scan", n_clusters=4, epochs=3, random_state=0).fit(data.x)
    twin = clone(head)
    assert twin.get_params() == head.get_params()
    assert not hasattr(twin, "labels_")
    np.testing.assert_array_equal(twin.fit(data.x).labels_, head.labels_)


def test_set_output_names_the_columns(data):
    pandas = pytest.importorskip("pandas")
    step = fmc.Preprocessor("pca=3").set_output(transform="pandas").fit(data.x)
    frame = step.transform(data.x)
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == ["preprocessor0", "preprocessor1", "preprocessor2"]
    np.testing.assert_allclose(frame.to_numpy(), fmc.Preprocessor("pca=3").fit_transform(data.x))
    pipe = make_pipeline(StandardScaler(), make_head("kmeans", n_clusters=4, random_state=0))
    labels = pipe.set_output(transform="pandas").fit_predict(data.x)
    assert adjusted_rand_score(data.y, labels) > 0.9


# -- searching without labels -----------------------------------------------------------------


def test_a_search_finds_the_number_of_clusters(data):
    head = make_head("kmeans", random_state=0)
    grid = {"n_clusters": [2, 3, 4, 6, 9]}
    cv = KFold(3, shuffle=True, random_state=0)
    search = GridSearchCV(head, grid, scoring=modularity_silhouette_scorer, cv=cv).fit(data.x)
    assert search.best_params_ == {"n_clusters": 4}
    assert adjusted_rand_score(data.y, search.predict(data.x)) > 0.9


def test_a_search_goes_through_a_pipeline(data):
    pipe = Pipeline([("pre", fmc.Preprocessor()), ("head", make_head("kmeans", random_state=0))])
    grid = {"pre__steps": ["pca=2", "pca=8,l2"], "head__n_clusters": [2, 4]}
    search = GridSearchCV(pipe, grid, scoring=modularity_silhouette_scorer, cv=2).fit(data.x)
    assert search.best_params_["head__n_clusters"] == 4


def test_the_scorer_reads_no_labels(data):
    head = make_head("kmeans", n_clusters=4, random_state=0).fit(data.x)
    plain = modularity_silhouette_scorer(head, data.x)
    assert modularity_silhouette_scorer(head, data.x, data.y) == plain
    assert modularity_silhouette_scorer(head, data.x, np.zeros(len(data.y))) == plain


def test_the_score_ranks_as_the_silhouette_does_and_ignores_names(data):
    draw = np.random.default_rng(0)
    scores, oracle = [], []
    for share in (0, 0.1, 0.3, 0.6):
        labels = data.y.copy()
        moved = draw.random(len(labels)) < share
        labels[moved] = draw.integers(0, 4, moved.sum())
        scores.append(partition_score(data.x, labels))
        oracle.append(silhouette_score(data.x, labels, metric="cosine"))
    assert np.all(np.diff(scores) < 0)
    assert np.all(np.diff(oracle) < 0)
    renamed = np.array([7, 3, 11, 5])[data.y]
    assert partition_score(data.x, renamed) == pytest.approx(scores[0])
    assert partition_score(data.x, np.zeros(240, int)) == pytest.approx(0)


def test_a_score_says_what_is_wrong(data):
    with pytest.raises(ValueError, match="3 labels were given for 240 rows"):
        partition_score(data.x, np.zeros(3, int))
    with pytest.raises(ValueError, match="at least 3"):
        partition_score(data.x[:2], np.zeros(2, int))


# -- BERTopic ---------------------------------------------------------------------------------


class TopicModelStandIn:
    """What BERTopic asks of its clustering model, in the order in which it asks."""

    def __init__(self, hdbscan_model):
        self.hdbscan_model = hdbscan_model

    def fit_transform(self, embeddings):
        try:
            self.hdbscan_model.fit(embeddings, y=None)
        except TypeError:
            self.hdbscan_model.fit(embeddings)
        labels = self.hdbscan_model.labels_
        return labels, getattr(self.hdbscan_model, "probabilities_", None)

    def transform(self, embeddings):
        return self.hdbscan_model.predict(embeddings), None


@pytest.mark.parametrize("model", [make_head("kmeans", n_clusters=4), TopicClusterer("kmeans")])
def test_a_topic_model_takes_a_head(model, data):
    model = clone(model).set_params(n_clusters=4)
    topics, probabilities = TopicModelStandIn(model).fit_transform(data.x)
    assert adjusted_rand_score(data.y, topics) > 0.9
    if probabilities is not None:
        assert probabilities.shape == (240,)
        assert ((probabilities > 0) & (probabilities <= 1)).all()
    np.testing.assert_array_equal(model.predict(data.x), topics)


def test_unsure_documents_become_the_outlier_topic(data):
    model = TopicClusterer("kmeans", n_clusters=4).fit(data.x)
    bar = float(np.quantile(model.probabilities_, 0.2))
    strict = TopicClusterer("kmeans", n_clusters=4, min_confidence=bar).fit(data.x)
    np.testing.assert_array_equal(strict.labels_ == -1, model.probabilities_ < bar)
    np.testing.assert_array_equal(strict.predict(data.x), strict.labels_)
    kept = strict.labels_ >= 0
    np.testing.assert_array_equal(strict.labels_[kept], model.labels_[kept])
    np.testing.assert_allclose(strict.predict_proba(data.x).max(axis=1), strict.probabilities_)
    with pytest.raises(ValueError, match="min_confidence"):
        TopicClusterer(min_confidence=2).fit(data.x)


def test_the_real_bertopic_takes_a_head():
    bertopic = pytest.importorskip("bertopic")
    from bertopic.dimensionality import BaseDimensionalityReduction
    from helpers_text import TOPICS, WordEncoder, topic_texts

    texts = topic_texts(90)
    model = bertopic.BERTopic(
        hdbscan_model=TopicClusterer("kmeans", n_clusters=3),
        umap_model=BaseDimensionalityReduction(),
        embedding_model=None,
    )
    X = WordEncoder().encode(texts)
    topics, probabilities = model.fit_transform(texts, embeddings=X)
    assert adjusted_rand_score(np.arange(90) % 3, topics) == 1.0
    assert len(probabilities) == 90
    words = {word for word, _ in model.get_topic(topics[0])}
    assert set(TOPICS[0].split()) <= words
    again, _ = model.transform(texts[:6], embeddings=X[:6])
    assert list(again) == list(topics[:6])


# -- mteb -------------------------------------------------------------------------------------


def test_mteb_clusters_with_a_head(data):
    pytest.importorskip("mteb")
    import random

    import mteb.abstasks.clustering as tasks

    def run(max_depth=None):
        return tasks._evaluate_clustering_bootstrapped(
            data.x,
            [[str(label)] for label in data.y],
            n_clusters=2,
            cluster_size=120,
            kmean_batch_size=64,
            max_depth=max_depth,
            rng_state=random.Random(0),
            seed=0,
        )

    original = tasks.MiniBatchKMeans
    with mteb_clustering("kmeans", params={"n_init": 2}):
        head = tasks.MiniBatchKMeans(n_clusters=3, batch_size=8, init="k-means++", n_init=1)
        assert (head.name, head.n_clusters, head.n_init) == ("kmeans", 3, 2)
        scores, _ = run()
    assert tasks.MiniBatchKMeans is original
    assert np.mean(scores["v_measure"]["Level 0"]) > 0.9


def test_without_mteb_the_package_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(MissingExtraError, match="mteb"), mteb_clustering("kmeans"):
        pass


def test_the_adapter_clones_and_refuses_bad_rows(data):
    model = TopicClusterer("kmeans", n_clusters=4, min_confidence=0.1, params={"n_init": 1})
    assert clone(model).get_params() == model.get_params()
    bad = data.x.copy()
    bad[3, 1] = np.nan
    with pytest.raises(ValueError, match="3"):
        model.fit(bad)


def test_a_head_that_calibrates_itself_is_not_calibrated_again(blobs):
    x, _ = blobs(240, 4, d=16)
    model = TopicClusterer("auto", n_clusters=4).fit(x)
    alone = make_head("auto", n_clusters=4, random_state=0).fit(x)
    assert model.calibrator_ is None
    assert np.array_equal(model.predict_proba(x), alone.predict_proba(x))
    assert np.array_equal(model.probabilities_, alone.predict_proba(x).max(axis=1))
