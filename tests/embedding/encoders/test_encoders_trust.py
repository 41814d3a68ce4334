"""Code that a model brings: it runs when that is asked for, and never else."""

from __future__ import annotations

import json

import numpy as np
import pytest

import fmcluster as fmc
from fmcluster.cli.main import main
from fmcluster.embedding.encoders import resolve
from fmcluster.embedding.encoders.places import found_spec, moved_spec

CONFIGURATION = """
import os
from pathlib import Path

from transformers import PretrainedConfig

Path(os.environ["ODD_MARK"]).touch()


class OddConfig(PretrainedConfig):
    model_type = "odd"

    def __init__(self, vocab_size=40, hidden_size=8, **other):
        super().__init__(**other)
        self.vocab_size, self.hidden_size = vocab_size, hidden_size
"""
MODELING = """
import torch
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from .configuration_odd import OddConfig


class OddModel(PreTrainedModel):
    config_class = OddConfig

    def __init__(self, config):
        super().__init__(config)
        self.words = torch.nn.Embedding(config.vocab_size, config.hidden_size)
        self.post_init()

    def forward(self, input_ids, attention_mask=None):
        return BaseModelOutput(last_hidden_state=self.words(input_ids) * 2)
"""


@pytest.fixture
def mark(tmp_path, monkeypatch):
    """A file that the model's code makes when it runs."""
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setenv("FMCLUSTER_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "it-ran"
    monkeypatch.setenv("ODD_MARK", str(file))
    return file


@pytest.fixture
def odd(tmp_path, bert_folder):
    """A folder whose model is one of its own Python files."""
    from safetensors.numpy import save_file
    from transformers import AutoTokenizer

    folder = tmp_path / "odd"
    AutoTokenizer.from_pretrained(bert_folder).save_pretrained(folder)
    (folder / "configuration_odd.py").write_text(CONFIGURATION)
    (folder / "modeling_odd.py").write_text(MODELING)
    about = {
        "model_type": "odd", "architectures": ["OddModel"], "vocab_size": 40, "hidden_size": 8,
        "auto_map": {
            "AutoConfig": "configuration_odd.OddConfig", "AutoModel": "modeling_odd.OddModel",
        },
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(about))
    words = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    save_file({"words.weight": words}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def trusted(folder, **more):
    return {"encoder": str(folder), "trust_remote_code": True, **more}


@pytest.mark.parametrize("spec", [{}, {"trust_remote_code": False}])
def test_nothing_runs_unasked(spec, odd, mark):
    with pytest.raises(ValueError, match="say trust_remote_code=True") as caught:
        resolve({"encoder": str(odd), **spec}, modality="text")
    assert "\n" not in str(caught.value)
    assert not mark.exists()


def test_it_runs_when_asked_and_the_code_is_in_the_fingerprint(odd, mark, texts):
    encoder = resolve(trusted(odd), modality="text", precision="fp32")
    assert mark.exists()
    assert encoder.encode(texts[:5]).shape == (5, 8)
    assert encoder.fingerprint["trust_remote_code"] is encoder.spec["trust_remote_code"] is True
    (odd / "modeling_odd.py").write_text(MODELING + "\n# another\n")
    assert resolve(trusted(odd), modality="text").fingerprint != encoder.fingerprint


def test_store_and_result_record_it_and_do_not_say_it_for_others(odd, mark, texts, tmp_path):
    store = fmc.embed(texts, encoder=trusted(odd), folder=tmp_path / "store")
    [fingerprint] = store.encoders.values()
    assert fingerprint["trust_remote_code"] is True
    fmc.cluster(store, n_clusters=2, head="kmeans").save(tmp_path / "result")
    result = fmc.ClusterResult.load(tmp_path / "result")
    assert result.provenance["encoders"][0]["spec"]["trust_remote_code"] is True
    mark.unlink()
    with pytest.raises(ValueError, match="say so again with encoder="):
        result.predict(texts[:3])
    with pytest.raises(ValueError, match="say trust_remote_code=True"):
        result.predict(texts[:3], encoder=str(odd))
    assert not mark.exists()
    again = result.predict(texts[:3], encoder=trusted(odd))
    np.testing.assert_array_equal(again, result.labels[:3])
    (tmp_path / "new.txt").write_text("\n".join(texts[:3]))
    words = ["predict", str(tmp_path / "result"), str(tmp_path / "new.txt"), "--encoder", str(odd)]
    out = ["--out", str(tmp_path / "new.parquet"), "--quiet"]
    assert main([*words, *out]) == 2
    assert main([*words, "--encoder-option", "trust_remote_code=true", *out]) == 0
    mark.unlink(missing_ok=True)  # what this process has imported once may not run again
    fmc.save_pretrained(result, tmp_path / "pipeline")
    shared = fmc.from_pretrained(tmp_path / "pipeline")
    with pytest.raises(ValueError, match="say so again with encoder="):
        shared.predict(texts[:3])
    assert not mark.exists()


def test_a_spec_that_moved_keeps_its_options_but_not_the_leave():
    spec = {"encoder": "odd", "pooling": "cls", "prompt": "a: ", "trust_remote_code": True}
    kept = {"pooling": "cls", "prompt": "a: "}
    assert moved_spec(spec, "there") == {"encoder": "there", **kept}
    said = {"encoder": "there", "pooling": "mean", "trust_remote_code": True}
    assert moved_spec(spec, said) == {**kept, **said}
    with pytest.raises(ValueError, match="runs Python code of its own"):
        found_spec(spec, {})


@pytest.mark.parametrize("value", ["yes", 1, "True"])
def test_only_true_is_true(value, odd, mark):
    with pytest.raises(TypeError, match="must be True or False"):
        resolve({"encoder": str(odd), "trust_remote_code": value})
    assert not mark.exists()


@pytest.mark.parametrize("name", ["packaged:minilm", "tfidf", "timm:resnet18", "open_clip:A/b"])
def test_encoders_without_code_of_their_own_take_no_leave(name):
    with pytest.raises(ValueError, match="takes no trust_remote_code"):
        resolve({"encoder": name, "trust_remote_code": True}, modality=None)


def test_python_files_are_fetched_only_then(monkeypatch, odd, mark):
    import huggingface_hub

    asked = []

    def snapshot(repo, *, allow_patterns, **options):
        asked.append(allow_patterns)
        return str(odd)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(ValueError, match="'someone/odd' runs Python code of its own"):
        resolve("someone/odd", modality="text")
    resolve({"encoder": "someone/odd", "trust_remote_code": True}, modality="text")
    assert ["*.py" in patterns for patterns in asked] == [False, True]
