"""Permute rows, rename ids, drop rows: each id keeps its embedding, cluster, verdict and label."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fmcluster as fmc
from fmcluster.embedding.data.labels import read_labels

N = 30
TOPICS = ("apple", "ball", "coin")
WRONG = 4
few = settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class TopicEncoder:
    """Vectors that a text alone decides."""

    fingerprint = "topics"

    def encode(self, rows):
        return np.array(
            [[*(10.0 * (t in row) for t in TOPICS), int(row.split()[1]) / 50] for row in rows]
        )


def base() -> pd.DataFrame:
    topics = [TOPICS[i % 3] for i in range(N)]
    labels = [TOPICS[(i + (i == WRONG)) % 3] for i in range(N)]
    texts = [f"{topic} {i}" for i, topic in enumerate(topics)]
    return pd.DataFrame({"key": range(N), "text": texts, "label": labels})


def answers(frame: pd.DataFrame, path) -> dict[str, dict]:
    """Return what the product says of each row, by its key and never by its place or id."""
    frame.to_csv(path, index=False)
    key = dict(zip(frame["id"].tolist(), frame["key"].tolist(), strict=True))
    store = fmc.embed(path, encoder=TopicEncoder(), column="text", id_column="id", dtype="float32")
    assert store.ids.tolist() == frame["id"].tolist()
    result = fmc.cluster(store, n_clusters=3, head="kmeans")
    labels = read_labels(path, "label", ids=result.ids, id_column="id")
    issues = fmc.find_label_issues(result, labels)
    turned = frame["id"].tolist()[::-1]
    back = result.to_dataset(Dataset.from_dict({"id": turned}), id_column="id")
    number = {key[i]: int(c) for i, c in zip(turned, back["cluster"], strict=True)}
    topic = {key[i]: int(c) for i, c in zip(result.ids.tolist(), result.labels, strict=True)}
    assert number == topic
    groups = {}
    for row, cluster in topic.items():
        groups.setdefault(cluster, set()).add(row)
    asked = fmc.query(result, budget=4, random_state=0).tolist()
    assert len(set(asked)) == 4 and set(asked) <= set(key)
    return {
        "embedding": {
            key[i]: row.tolist()
            for i, row in zip(store.ids.tolist(), np.asarray(store), strict=True)
        },
        "clusters": {frozenset(group) for group in groups.values()},
        "wrong": {key[i] for i in issues.id.tolist()},
        "label": {key[i]: label for i, label in zip(result.ids.tolist(), labels, strict=True)},
    }


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    frame = base().assign(id=range(N))
    found = answers(frame, tmp_path_factory.mktemp("known") / "rows.csv")
    assert found["wrong"] == {WRONG}
    return found


@given(order=st.permutations(range(N)), ids=st.permutations(range(N)))
@few
def test_rows_in_another_order_with_other_numbers_for_names(known, tmp_path, order, ids):
    frame = base().assign(id=ids).iloc[list(order)]
    assert answers(frame, tmp_path / "rows.csv") == known


@given(
    ids=st.lists(
        st.one_of(
            st.integers(-(2**63), 2**64 - 1).map(str),
            st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=1),
        ).filter(lambda text: text.strip() == text),
        min_size=N,
        max_size=N,
        unique=True,
    )
)
@few
def test_ids_of_any_text(known, tmp_path, ids):
    ids = ["x", *ids[1:]] if "x" not in ids else ids  # one at least is no number: all are text
    assert answers(base().assign(id=ids), tmp_path / "rows.csv") == known


@given(dropped=st.sets(st.sampled_from([i for i in range(N) if i != WRONG]), max_size=8))
@few
def test_rows_left_out(known, tmp_path, dropped):
    frame = base().assign(id=range(100, 100 + N))
    found = answers(frame[~frame.key.isin(dropped)], tmp_path / "rows.csv")
    for name in ("embedding", "label"):
        assert found[name] == {k: v for k, v in known[name].items() if k not in dropped}
    assert found["clusters"] == {group - dropped for group in known["clusters"]}
    assert found["wrong"] == known["wrong"]
