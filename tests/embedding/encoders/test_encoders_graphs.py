"""Text models run by ONNX Runtime and OpenVINO, against the same models in torch.

`benchmarks/text_engines.py` holds them against MiniLM itself, whose export takes 20 seconds.
"""

from __future__ import annotations

import json
import pickle
from shutil import copyfile

import numpy as np
import pytest

from fmcluster.embedding.encoders import resolve
from fmcluster.embedding.encoders.texts import graphs
from fmcluster.embedding.encoders.texts.sentence import SentenceEncoder
from fmcluster.utils.errors import MissingExtraError

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """One cache for the module: a graph is exported once."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FMCLUSTER_CACHE", str(folder))
        yield folder


def make(folder, backend="onnx", batch_size=None, **options):
    options.setdefault("precision", "fp32")
    spec = {"encoder": str(folder), "backend": backend, **options}
    return resolve(spec, modality="text", batch_size=batch_size)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_equals_torch(backend, bert_folder, texts, cosine, same_whatever_the_batching, cache):
    pytest.importorskip(backend)
    ours = same_whatever_the_batching(
        lambda batch_size: make(bert_folder, backend, batch_size), texts
    )
    torch_encoder = resolve(bert_folder, precision="fp32")
    assert cosine(ours, torch_encoder.encode(texts)) >= 0.9999
    encoder = make(bert_folder, backend)
    assert encoder.fingerprint["backend"] == backend
    assert encoder.fingerprint != torch_encoder.fingerprint
    again = resolve(json.loads(json.dumps(encoder.spec)))
    assert again.fingerprint == encoder.fingerprint
    np.testing.assert_array_equal(again.encode(texts[:3]), encoder.encode(texts[:3]))
    assert len(list((cache / "graphs").glob("*/model.onnx"))) == 1, "both engines read one export"


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_int8_is_close_and_another_encoder(backend, bert_folder, texts, cosine):
    pytest.importorskip(backend)
    whole, small = (make(bert_folder, backend, precision=p) for p in ("fp32", "int8"))
    assert cosine(small.encode(texts), whole.encode(texts)) >= 0.9  # of random weights
    assert (small.precision, small.fingerprint["precision"]) == ("int8", "int8")
    assert small.fingerprint != whole.fingerprint
    assert resolve(small.spec).fingerprint == small.fingerprint
    assert small.module.file.stat().st_size < whole.module.file.stat().st_size


def test_options_of_texts_hold(bert_folder, texts, cosine):
    asked = {"prompt": "how do ", "truncate_dim": 12, "long": "chunk-mean", "max_length": 16}
    theirs = resolve({"encoder": str(bert_folder), **asked, "precision": "fp32"}).encode(texts)
    assert cosine(make(bert_folder, **asked).encode(texts), theirs) >= 0.9999


def test_a_graph_in_the_folder_is_taken(bert_folder, texts, cosine, tmp_path, monkeypatch):
    """Where sentence-transformers saves one; here it is of other weights, to tell them apart."""
    import shutil

    import onnx
    from onnx import numpy_helper

    shutil.copytree(bert_folder, tmp_path / "m")
    plain = make(tmp_path / "m")
    (tmp_path / "m" / "onnx").mkdir()
    model = onnx.load(make(bert_folder).module.file)
    changed = False
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.ndim == 2 and values.shape[1] == 32 and not changed:
            tensor.CopyFrom(numpy_helper.from_array(values[::-1].copy(), tensor.name))
            changed = True
    assert changed
    onnx.save(model, tmp_path / "m" / "onnx" / "model.onnx")
    monkeypatch.setattr(graphs, "_export", lambda *a: pytest.fail("there is a graph"))
    found = make(tmp_path / "m")
    assert found.fingerprint != plain.fingerprint
    assert cosine(found.encode(texts), plain.encode(texts)) < 0.99
    assert make(tmp_path / "m", "onnx", precision="int8").encode(texts).shape == (70, 32)


def test_another_process_opens_its_own(bert_folder, texts):
    encoder = make(bert_folder)
    before = encoder.encode(texts[:9])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(encoder)).encode(texts[:9]), before)


@pytest.mark.parametrize(
    ("spec", "run", "said"),
    [
        ({"backend": "tensorrt"}, {}, "backend='tensorrt' is not known"),
        ({"backend": "onnx"}, {"precision": "bf16"}, "precision with backend='onnx'='bf16'"),
        ({"backend": "onnx"}, {"device": "cuda"}, "runs on the processor, device='cuda'"),
        ({}, {"precision": "int8"}, "whose backend is 'onnx' or 'openvino'"),
    ],
)
def test_what_cannot_be(spec, run, said, bert_folder):
    with pytest.raises(ValueError, match=said) as caught:
        resolve({"encoder": str(bert_folder), **spec}, **run)
    assert "\n" not in str(caught.value)


def test_modules_that_only_the_library_runs(sentence_folder):
    folder = sentence_folder("max")
    assert isinstance(resolve(folder), SentenceEncoder)
    with pytest.raises(ValueError, match="is made of Transformer, Pooling, Normalize"):
        make(folder)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_missing_engine_names_the_extra(backend, bert_folder, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime" if backend == "onnx" else backend, None)
    with pytest.raises(MissingExtraError, match=rf"fmcluster\[{backend}\]"):
        make(bert_folder, backend)


def test_a_model_that_cannot_be_exported(bert_folder, monkeypatch, tmp_path):
    import torch

    monkeypatch.setenv("FMCLUSTER_CACHE", str(tmp_path))

    def fail(*args, **options):
        raise RuntimeError("no such operation\nand much more")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(ValueError, match=r"cannot be exported to ONNX \(no such operation\)"):
        make(bert_folder)
    assert not list((tmp_path / "graphs").glob("*/")), "nothing half made stays"


def test_a_graph_unlike_its_weights_is_refused(bert_folder, monkeypatch, tmp_path):
    exported = make(bert_folder).module.file
    monkeypatch.setattr("torch.onnx.export", lambda m, x, target, **_: copyfile(exported, target))
    monkeypatch.setenv("FMCLUSTER_CACHE", str(tmp_path))
    monkeypatch.setattr(graphs, "MOST_DIFFERENCE", -1.0)
    with pytest.raises(ValueError, match="differs from its weights"):
        make(bert_folder)


def test_a_graph_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match="wants the inputs pixel_values"):
        graphs._checked(["pixel_values"], tmp_path / "model.onnx")
