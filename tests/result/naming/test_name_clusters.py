"""`name_clusters`: whose names, in which language, by which namer, and what is kept of it."""

import dataclasses
import json

import numpy as np
import pytest
from helpers_languages import bank_texts
from helpers_text import TOPICS, WordEncoder, topic_texts

import fmcluster as fmc
from fmcluster.result.naming import Named, name_by_terms, name_clusters, with_names
from fmcluster.result.naming.audit import NAMES_AUDIT
from fmcluster.utils.errors import CorruptShardError, NamingError


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("named") / "store"
    store = fmc.embed(topic_texts(), encoder=WordEncoder(), folder=folder)
    return fmc.cluster(store, n_clusters=3, head="kmeans")


def first_word(terms, examples, siblings):
    """A namer."""
    return terms[0].split()[0].upper()


def test_a_namer_is_shown_terms_typical_texts_and_near_names(result):
    calls = []

    def namer(terms, examples, siblings):
        calls.append((terms, examples, siblings))
        return f"cluster of {terms[0]}"

    named = result.name_clusters(namer=namer, n_examples=4)
    for (terms, examples, siblings), c in zip(calls, range(3), strict=True):
        topic = next(topic for topic in TOPICS if examples[0].startswith(topic))
        assert set(" ".join(terms).split()) <= set(topic.split())
        assert len(examples) == 4 and all(text.startswith(topic) for text in examples)
        assert named.names[c] == f"cluster of {terms[0]}" and named.names[c] not in siblings
    assert calls[2][2] and set(calls[2][2]) <= {*named.names[:2], *result.names}
    assert all(name.startswith("cluster of") for name in calls[2][2])  # those named before it
    assert result.names != named.names and result.name_audit == ()


def test_texts_that_are_the_same_are_shown_once(result):
    texts = ["same TEXT", "same  text", "other text"] * 30
    seen = []
    name_clusters(result, texts, namer=lambda t, e, s: seen.append(e) or "x")
    assert all(len(examples) == 2 for examples in seen) or all(len(e) <= 2 for e in seen)


def test_names_of_a_namer_are_unique_and_of_one_line(result):
    named = result.name_clusters(namer=lambda t, e, s: "  the\n same \u202eone ")
    assert named.names == ("the same one", "the same one (2)", "the same one (3)")
    assert [record["name"] for record in named.name_audit] == list(named.names)


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (None, TypeError, "returned None"),
        (7, TypeError, "returned 7"),
        (" \n", ValueError, "empty"),
    ],
)
def test_what_is_no_name_is_refused(result, answer, error, message):
    with pytest.raises(error, match=message):
        result.name_clusters(namer=lambda t, e, s: answer)


def test_an_error_of_a_namer_is_not_swallowed_but_for_its_own(result):
    def broken(terms, examples, siblings):
        raise KeyError("oops")

    with pytest.raises(KeyError, match="oops"):
        result.name_clusters(namer=broken)


def test_a_cluster_whose_namer_failed_keeps_its_terms_with_a_warning(result):
    def namer(terms, examples, siblings):
        if "football" in " ".join(terms):
            raise NamingError("no answer", audit={"answer": "??"})
        return "fine"

    with pytest.warns(UserWarning, match="keeps the name of its terms, .*football.*no answer"):
        named = result.name_clusters(namer=namer)
    kept = next(name for name in named.names if "football" in name)
    record = next(r for r in named.name_audit if r["name"] == kept)
    assert record["error"] == "no answer" and record["answer"] == "??"
    assert sum(name.startswith("fine") for name in named.names) == 2


@pytest.mark.parametrize("final", [True, False])
def test_an_endpoint_that_is_gone_is_not_asked_for_every_cluster(blobs, final):
    texts = [f"word{c} text {i}" for i, c in enumerate(blobs(k=8, n=160).y)]
    result = fmc.cluster(blobs(k=8, n=160).x, n_clusters=8, head="kmeans")
    calls = []

    def gone(terms, examples, siblings):
        calls.append(1)
        raise NamingError("gone", final=final)

    with pytest.warns(UserWarning, match="and so do all after it: gone"):
        named = name_clusters(result, texts, namer=gone)
    assert len(calls) == (1 if final else 3)
    assert named.names == name_by_terms(result, texts).names
    assert sum("not asked" in record["error"] for record in named.name_audit) == 8 - len(calls)


def test_the_record_is_saved_with_the_result_and_not_with_the_pipeline(result, tmp_path):
    namer = lambda t, e, s: Named("Bühne " + t[0], {"answer": e[0]})  # noqa: E731
    named = result.name_clusters(namer=namer)
    named.save(tmp_path / "run")
    lines = (tmp_path / "run" / NAMES_AUDIT).read_text(encoding="utf8").splitlines()
    assert len(lines) == 3
    for line, name in zip(lines, named.names, strict=True):
        record = json.loads(line)
        assert record["name"] == name and record["answer"].split()[1] in name
        rows = result.rows_of(record["example_ids"])
        assert (result.labels[rows] == record["cluster"]).all()
    loaded = fmc.ClusterResult.load(tmp_path / "run")
    assert loaded.name_audit == named.name_audit and loaded.names == named.names
    fmc.save_pretrained(named, tmp_path / "pipeline")
    assert not list((tmp_path / "pipeline").rglob("*audit*"))
    both = dataclasses.replace(loaded, source=result.source).name_clusters(namer=first_word)
    assert len(both.name_audit) == 6
    result.save(tmp_path / "run")  # a result that no namer named leaves no record of another
    assert not (tmp_path / "run" / NAMES_AUDIT).exists()
    named.save(tmp_path / "run")
    with open(tmp_path / "run" / NAMES_AUDIT, "a") as handle:
        handle.write("no json\n")
    with pytest.raises(CorruptShardError):
        fmc.ClusterResult.load(tmp_path / "run")


def test_names_that_a_person_gave_are_kept(result):
    renamed = result.rename({1: "mine"})
    assert renamed.name_clusters(namer=first_word).names[1] == "mine"
    assert name_by_terms(renamed).names[1] != "mine"
    assert renamed.name_clusters(clusters=[1], namer=first_word).names[1] != "mine"
    ids = np.arange(30)
    told = result.calibrate(ids, [TOPICS[i % 3].split()[0] for i in ids])
    assert told.name_clusters(namer=first_word).names == told.names


def test_new_names_of_an_edited_result_are_an_edit_that_undo_takes_back(result):
    merged = result.merge([0, 1])
    named = merged.name_clusters(namer=first_word)
    assert named.edits[-1]["op"] == "rename" and named.names != merged.names
    assert named.undo().names == merged.names
    again = named.name_clusters(namer=lambda t, e, s: "again " + t[0])
    assert all(name.startswith("again") for name in again.names)  # a namer's names are no person's


def test_only_the_clusters_that_were_asked_for_are_named(result):
    calls = []
    named = result.name_clusters(clusters=[2, 2], namer=lambda *a: calls.append(1) or "two")
    assert named.names == (*result.names[:2], "two") and len(calls) == 1
    with pytest.raises(ValueError, match="cluster 3 is outside 0..2"):
        result.name_clusters(clusters=[3])


def test_texts_are_given_one_a_row(result):
    with pytest.raises(ValueError, match="2 texts were given for 90 rows"):
        name_clusters(result, ["a", "b"])
    with pytest.raises(TypeError, match="text 3 is 3"):
        name_clusters(result, ["a", "b", "c", 3] + ["x"] * 86)
    some = [text if i % 2 else None for i, text in enumerate(topic_texts())]
    assert set(name_clusters(result, some).names) == set(result.names)
    with pytest.raises(ValueError, match="no texts to name clusters by"):
        name_clusters(dataclasses.replace(result, source=None))
    with pytest.raises(ValueError, match="language 'klingon' is no ISO 639 code"):
        name_clusters(result, language="klingon")


def test_the_language_decides_which_words_are_empty(blobs):
    texts, topics = bank_texts("de")
    x = np.eye(4, dtype=np.float32)[topics] + 0.01 * np.random.default_rng(0).normal(size=(24, 4))
    result = fmc.cluster(x, n_clusters=4, head="kmeans")
    found = name_clusters(result, texts)
    assert found.names == name_clusters(result, texts, language="de").names
    words = {w for name in found.names for term in name.split(", ") for w in term.split()}
    assert "Überweisung" in words and not {"die", "mein", "und", "ist"} & words


def test_made_up_numbers_are_no_name_of_another_cluster(result):
    assert with_names(result, ["a", "a", "a (2)"]).names == ("a", "a (3)", "a (2)")
