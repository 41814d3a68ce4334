"""No path of this machine is in what is shown to others, and predict finds the encoder again."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import fmcluster as fmc
from fmcluster.cli.main import main
from fmcluster.embedding.encoders.places import found_spec, recall, shared_record, shown_name
from fmcluster.hub import from_pretrained, save_pretrained
from fmcluster.utils.errors import StoreMismatchError


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("/home/ann/models/tuned", "tuned"),
        ("/home/ann/models/tuned/", "tuned"),
        ("open_clip:ViT-B-32//home/ann/best.pt", "open_clip:ViT-B-32/best.pt"),
        ("open_clip:ViT-B-32/laion2b_s34b_b79k", "open_clip:ViT-B-32/laion2b_s34b_b79k"),
        ("facebook/dinov2-base", "facebook/dinov2-base"),
        ("packaged:minilm", "packaged:minilm"),
        ("tfidf", "tfidf"),
    ],
)
def test_a_path_is_shown_by_its_last_name(name, shown):
    assert shown_name(name) == shown
    assert shown_name(shown) == shown


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FMCLUSTER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def run(bert_folder, texts, tmp_path, cache):
    """A saved result of a local encoder below a folder that says who its user is."""
    model = tmp_path / "secretuser" / "tuned"
    shutil.copytree(bert_folder, model)
    store = fmc.embed(texts, encoder=str(model))
    result = fmc.cluster(store, n_clusters=2, head="kmeans", calibrate=False)
    result.report(tmp_path / "report.html")
    result.save(tmp_path / "run")
    save_pretrained(result, tmp_path / "pipeline")
    return model, result


def test_no_path_leaves_with_a_result(run, tmp_path):
    written = [tmp_path / "report.html"]
    for folder in ("run", "pipeline"):
        written += [path for path in (tmp_path / folder).rglob("*") if path.is_file()]
    for path in written:
        assert b"secretuser" not in path.read_bytes(), path
    about = json.loads((tmp_path / "run" / "result.json").read_text())
    (record,) = about["provenance"]["encoders"]
    assert (record["name"], record["spec"]["encoder"]) == ("tuned", "tuned")
    assert len(record["fingerprint"]["weights"]) >= 32
    card = (tmp_path / "pipeline" / "README.md").read_text()
    assert "base_model" not in card and "`tuned`" in card


def test_predict_finds_the_encoder_on_this_machine(run, texts, tmp_path):
    _, result = run
    for again in (fmc.ClusterResult.load(tmp_path / "run"), from_pretrained(tmp_path / "pipeline")):
        np.testing.assert_array_equal(again.predict(texts), result.labels)


def test_a_moved_encoder_is_named_and_taken_where_it_is_now(run, texts, tmp_path, capsys):
    model, result = run
    moved = model.rename(tmp_path / "elsewhere")
    again = fmc.ClusterResult.load(tmp_path / "run")
    with pytest.raises(ValueError, match=r"'tuned' is no longer at .*encoder=FOLDER"):
        again.predict(texts)
    np.testing.assert_array_equal(again.predict(texts, encoder=moved), result.labels)
    (tmp_path / "new.txt").write_text("\n".join(texts))
    asked = ["predict", str(tmp_path / "run"), str(tmp_path / "new.txt"), "--out"]
    out = tmp_path / "found.parquet"
    assert main([*asked, str(out)]) != 0
    assert "encoder" in capsys.readouterr().err
    assert main([*asked, str(out), "--encoder", str(moved)]) == 0
    # A store of the moved folder is of the same encoder, whatever the folder is called.
    store = fmc.embed(texts, encoder=moved)
    np.testing.assert_array_equal(again.predict(store), result.labels)


def test_another_encoder_in_its_place_is_refused(run, texts, tmp_path):
    model, _ = run
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 0.5}))
    with pytest.raises(StoreMismatchError, match="weights"):
        fmc.ClusterResult.load(tmp_path / "run").predict(texts)


def test_on_another_machine_the_error_says_what_to_give(run, texts, tmp_path, cache):
    shutil.rmtree(cache)
    again = fmc.ClusterResult.load(tmp_path / "run")
    with pytest.raises(ValueError, match="encoder=FOLDER"):
        again.predict(texts)


def test_paths_of_older_results_are_taken_out_when_they_are_read(cache, tmp_path):
    spec = {"encoder": str(tmp_path / "m"), "modality": "text"}
    old = {"name": str(tmp_path / "m"), "fingerprint": {"weights": "abc"}, "spec": spec}
    (tmp_path / "m").mkdir()
    new = shared_record(old)
    assert str(tmp_path) not in json.dumps(new)
    assert shared_record(new) == new
    assert recall(new["fingerprint"]) == str(tmp_path / "m")
    assert found_spec(new["spec"], new["fingerprint"])["encoder"] == str(tmp_path / "m")


def test_an_encoder_that_moved_keeps_its_options():
    from fmcluster.embedding.encoders.places import moved_spec

    spec = {"encoder": "tuned", "local": True, "pooling": "cls", "prompt": "query: "}
    expected = {"encoder": "/new/tuned", "pooling": "cls", "prompt": "query: "}
    assert moved_spec(spec, "/new/tuned") == expected
    assert moved_spec({"encoder": "tuned", "precision": "fp32"}, "/new/tuned") == "/new/tuned"
    own = object()
    assert moved_spec(spec, own) is own
