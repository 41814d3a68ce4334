"""Nasty files through six commands, by Python and by command line, with one table of outcomes.

Whatever the form of a file, rows are known by their ids: clusters are the topics, the one wrong
label is found by its ticket, and what is asked about or shown is a ticket's own text.
"""

from __future__ import annotations

import json
import os

import numpy as np
import pandas as pd
import pytest
from corpus_of import corpus
from datasets import Dataset

import fmcluster as fmc
from fmcluster.cli.main import main
from fmcluster.embedding import encoders
from fmcluster.embedding.data.labels import read_labels

# file -> how its ids and labels are named.
FILES = {
    "comma.csv": {"id_column": "ticket", "column": "text"},
    "semicolon.csv": {"id_column": "ticket", "column": "text"},
    "old.tsv": {"id_column": "ticket", "column": "text"},
    "hash.parquet": {"id_column": "ticket", "column": "text"},
    "lines.jsonl": {"id_column": "ticket", "column": "text"},
    "photos": {},
    "photos/index.csv": {"id_column": "ticket", "column": "text"},
    "photos/index.jsonl": {"id_column": "ticket", "column": "text"},
    "absolute.csv": {"id_column": "ticket", "column": "text"},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("tickets") / "files"


@pytest.fixture(scope="module")
def truth(root):
    return corpus.ticket_files(root)


@pytest.fixture(autouse=True)
def stand_in(tmp_path, monkeypatch):
    """The name of an encoder that costs nothing, for the command line."""
    monkeypatch.setenv("FMCLUSTER_CACHE", str(tmp_path / "cache"))
    known = encoders._from_name

    def named(name, extra, modality, *rest):
        if name != "stand-in":
            return known(name, extra, modality, *rest)
        return encoders._from_object(corpus.TopicEncoder(), modality)

    monkeypatch.setattr(encoders, "_from_name", named)
    return "stand-in"


def same_partition(clusters, topics) -> bool:
    pairs = set(zip(clusters, topics, strict=True))
    return len(pairs) == len(set(clusters)) == len(set(topics)) == 3


@pytest.mark.parametrize("name", FILES)
def test_by_python(name, root, truth, tmp_path):
    rows, path, how = truth[name].set_index("ticket"), root / name, FILES[name]
    store = fmc.embed(path, encoder=corpus.TopicEncoder(), **how)
    assert sorted(store.ids.tolist()) == sorted(rows.index.tolist())
    result = fmc.cluster(store, n_clusters=3, head="kmeans")
    topics = rows.loc[result.ids.tolist(), "topic"].tolist()
    assert same_partition(result.labels.tolist(), topics)
    predicted = result.pipeline.predict_rows(path, encoder=corpus.TopicEncoder(), **how)
    assert predicted.ids.tolist() == result.ids.tolist()
    assert predicted.proba.argmax(axis=1).tolist() == result.labels.tolist()
    given = read_labels(path, None if path.is_dir() else "label")
    table = fmc.find_label_issues(result, given)
    wrong = rows.index[corpus.WRONG]
    assert table.id.tolist() == [wrong]
    assert table.suggested.tolist() == [rows.loc[wrong, "topic"]]
    asked = fmc.query(result, budget=5, random_state=0)
    assert len(set(asked.tolist()) & set(rows.index)) == 5
    page = result.report(tmp_path / "report.html", to_label=asked).read_text()
    if "text" in how.get("column", "") and rows.text.iloc[0].startswith("a, "):
        assert all(f"=sum({rows.index.get_loc(i)})" in page for i in asked.tolist())
    else:
        assert page.count("data:image/jpeg") >= 5
    turned = rows.index[::-1].tolist()
    back = result.to_dataset(Dataset.from_dict({"ticket": turned}), id_column="ticket")
    of_id = dict(zip(result.ids.tolist(), result.labels.tolist(), strict=True))
    assert list(back["cluster"]) == [of_id[ticket] for ticket in turned]


@pytest.mark.parametrize("name", FILES)
def test_by_command_line(name, root, truth, tmp_path, capsys, stand_in):
    rows, path, how = truth[name].set_index("ticket"), root / name, FILES[name]
    words = [f"--{key.replace('_', '-')}={value}" for key, value in how.items()]
    labels = ["--labels-from-folders"] if path.is_dir() else ["--labels-column", "label"]
    encoder = ["--encoder", stand_in]

    def run(*args, code=0):
        assert main([*map(str, args), "--json", "--quiet"]) == code
        return json.loads(capsys.readouterr().out)

    def key(values):
        kind = type(rows.index[0].item() if hasattr(rows.index[0], "item") else rows.index[0])
        return [kind(value) for value in values]

    made = run("embed", path, *words, *encoder, "--out", tmp_path / "store")
    assert made["rows"] == len(rows)
    run("cluster", path, *words, *encoder, *labels, "--n-clusters", 3, "--head", "kmeans",
        "--out", tmp_path / "run")  # fmt: skip
    found = pd.read_parquet(tmp_path / "run" / "clusters.parquet")
    assert same_partition(found.cluster, rows.loc[key(found.id), "topic"])
    run("predict", tmp_path / "run", path, *words, *encoder, "--out", tmp_path / "new.parquet")
    new = pd.read_parquet(tmp_path / "new.parquet")
    pd.testing.assert_series_equal(new.set_index("id").cluster, found.set_index("id").cluster)
    run("clean", path, *words, *encoder, *labels, "--out", tmp_path / "issues.csv")
    issues = pd.read_csv(tmp_path / "issues.csv", dtype=str)
    assert key(issues.id) == [rows.index[corpus.WRONG]]
    run("query", tmp_path / "run", "--budget", 5, "--embeddings", tmp_path / "store",
        "--out", tmp_path / "ask.csv")  # fmt: skip
    asked = key(pd.read_csv(tmp_path / "ask.csv", dtype=str).id)
    assert len(set(asked) & set(rows.index)) == 5
    run("report", tmp_path / "run", "--data", path, *words, *labels, "--embeddings",
        tmp_path / "store", "--to-label", tmp_path / "ask.csv", "--issues",
        tmp_path / "issues.csv", "--out", tmp_path / "page.html")  # fmt: skip
    page = (tmp_path / "page.html").read_text()
    if rows.text.iloc[0].startswith("a, ") and not path.is_dir():
        assert all(f"=sum({rows.index.get_loc(i)})" in page for i in [*asked, *key(issues.id)])
    assert str(rows.index[corpus.WRONG]) in page
    for file in ("run", "page.html"):
        for written in [tmp_path / file, *(tmp_path / file).rglob("*")]:
            if written.is_file() and name != "absolute.csv":
                assert os.fsencode(tmp_path) not in written.read_bytes(), written


def test_the_order_of_a_file_does_not_matter(root, truth, tmp_path):
    found = []
    for seed in (None, 1):
        frame = corpus.tickets()
        frame = frame if seed is None else frame.sample(frac=1, random_state=seed)
        path = tmp_path / f"{seed}.csv"
        frame.to_csv(path, index=False)
        store = fmc.embed(path, encoder=corpus.TopicEncoder(), column="text", id_column="ticket")
        table = fmc.find_label_issues(store, frame.label.tolist())
        found.append((table.id.tolist(), np.asarray(store)[np.argsort(store.ids)].tolist()))
    assert found[0] == found[1]
