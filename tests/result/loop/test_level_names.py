"""Clusters of a level are named by their own texts; names are unique, a person's are kept."""

import numpy as np
import pytest

import fmcluster as fmc

SUBJECTS = {
    "card": ("expired", "swallowed", "stolen"),
    "transfer": ("declined", "delayed", "reversed"),
    "exchange": ("euro", "dollar", "yen"),
}
PAIRS = [(subject, detail) for subject, details in SUBJECTS.items() for detail in details]
FILLER = ("morning", "evening", "office", "street", "bank", "airport", "phone")


class Spelled:
    """Embeds a text by its subject and detail, which lie near one another in a subject."""

    def encode(self, texts):
        """Return (n, 14) rows."""
        words = [*SUBJECTS, *(detail for _, detail in PAIRS)]
        scale = np.repeat([1.0, 0.7], [len(SUBJECTS), len(PAIRS)])
        rows = [[word in text.split() for word in words] for text in texts]
        draw = np.random.default_rng(len(texts)).normal(size=(len(texts), 2 + len(words)))
        return np.pad(np.array(rows) * scale, ((0, 0), (0, 2))) + 0.05 * draw


@pytest.fixture(scope="module")
def texts():
    rows = [PAIRS[i % 9] for i in range(270)]
    return [f"{s} {d} {FILLER[i % 7]} {FILLER[i % 5]}" for i, (s, d) in enumerate(rows)]


@pytest.fixture(scope="module")
def store(texts):
    return fmc.embed(texts, encoder=Spelled())


@pytest.fixture(scope="module")
def result(store):
    return fmc.cluster(store, n_clusters=9, head="kmeans")


def subject_of(result, texts):
    """The subject of the most rows of each cluster."""
    words = np.array([text.split()[0] for text in texts])
    found = []
    for c in range(result.n_clusters):
        each, counts = np.unique(words[result.labels == c], return_counts=True)
        found.append(str(each[counts.argmax()]))
    return found


def test_a_union_is_named_by_what_all_its_rows_hold(result, texts):
    level = result.at_level(3)
    assert sorted(subject_of(level, texts)) == sorted(SUBJECTS)
    for name, subject in zip(level.names, subject_of(level, texts), strict=True):
        assert subject in name.split(", ")[0].split()
    assert not set(level.names) & set(result.names), "names of its own"


def test_parts_of_a_cluster_are_named_by_what_sets_them_apart(store, texts):
    coarse = fmc.cluster(store, n_clusters=3, head="kmeans")
    level = coarse.at_level(9)
    details = np.array([text.split()[1] for text in texts])
    found = 0
    for c, name in enumerate(level.names):
        each, counts = np.unique(details[level.labels == c], return_counts=True)
        found += str(each[counts.argmax()]) in name
    assert found >= 8, level.names


@pytest.mark.parametrize("k", [2, 3, 5, 7, 9, 12, 20])
def test_names_of_every_level_are_unique_and_none_is_empty(result, k):
    names = result.at_level(k).names
    assert len(names) == k == len(set(names)) and all(name.strip() for name in names)


@pytest.mark.parametrize("k", [3, 8, 12])
def test_clusters_that_a_level_leaves_as_they_are_keep_their_names(result, k):
    level, kept = result.at_level(k), 0
    for c, name in enumerate(level.names):
        [inside, *others] = np.unique(result.labels[level.labels == c])
        if not others and (level.labels == c).sum() == result.sizes[inside]:
            kept += 1
            assert name == result.names[inside]
    assert kept == {3: 0, 8: 7, 12: 6}[k]


def test_a_name_that_a_person_gave_goes_with_its_largest_part(result):
    sizes = result.sizes
    named = result.rename({c: f"mine {c}" for c in range(9)})
    level = named.at_level(3)
    for c, name in enumerate(level.names):
        inside = np.unique(result.labels[level.labels == c])
        largest = max(inside, key=lambda j: (sizes[j], -j))
        assert name == f"mine {largest}"
    parts = named.at_level(12).names
    assert len(set(parts)) == 12
    assert all(name.startswith("mine ") for name in parts)
    assert sum(" / " in name for name in parts) >= 2, "name / 1, name / 2"


def test_names_of_levels_are_kept_on_the_disk(result, tmp_path):
    level = result.at_level(4)
    level.save(tmp_path / "run")
    assert fmc.ClusterResult.load(tmp_path / "run").names == level.names
