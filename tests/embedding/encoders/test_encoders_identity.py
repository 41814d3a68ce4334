"""An encoder object is known by its settings and its code, or not served from the cache."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from fmcluster.embedding.embed import embed_to_store
from fmcluster.embedding.encoders import resolve


class Api:
    """Vectors that depend on a setting."""

    def __init__(self, model, *, options=None):
        self.model, self.options, self.count = model, options, 0

    def encode(self, rows):
        self.count += 1
        return np.full((len(rows), 2), len(self.model), np.float32)


def print_of(encoder):
    return resolve(encoder).fingerprint


def test_settings_of_one_class_are_told_apart():
    small, large = Api("small"), Api("larger")
    assert print_of(small) == print_of(Api("small")) != print_of(large)
    assert print_of(Api("a", options={"x": [1, 2]})) != print_of(Api("a", options={"x": [1, 3]}))
    assert print_of(Api("a", options=np.eye(2))) != print_of(Api("a", options=np.eye(2) * 2))
    before = print_of(small)
    small.encode(["a"])
    assert print_of(small) == before, "a counter that encode keeps is no setting"
    small.model = "medium"
    assert print_of(small) != before


def test_an_edited_encode_is_another_encoder():
    def define(body):
        names = {"np": np}
        exec(f"class Own:\n    def encode(self, rows):\n        return {body}", names)
        return names["Own"]()

    one = print_of(define("np.zeros((len(rows), 2))"))
    assert one == print_of(define("np.zeros((len(rows), 2))"))
    assert one != print_of(define("np.ones((len(rows), 2))"))
    assert one != print_of(define("np.zeros((len(rows), 3))"))


def test_weights_and_limit_of_a_torch_module():
    import torch

    class Net(torch.nn.Module):
        def __init__(self, limit):
            super().__init__()
            self.layer, self.max_seq_length = torch.nn.Linear(2, 2), limit

        def encode(self, rows):
            return torch.ones(len(rows), 2)

    torch.manual_seed(0)
    net = Net(16)
    before = print_of(net)
    assert print_of(net) == before
    net.max_seq_length = 256
    assert print_of(net) != before
    net.max_seq_length = 16
    with torch.no_grad():
        net.layer.bias += 1
    assert print_of(net) != before


def test_the_cache_serves_no_other_setting(tmp_path):
    for model, value in (("small", 5), ("larger", 6), ("small", 5)):
        store = embed_to_store(["a", "b"], Api(model), cache_dir=tmp_path)
        assert np.asarray(store).tolist() == [[value, value]] * 2


def test_what_cannot_be_told_is_not_served_and_says_how_to_name_it(tmp_path, caplog):
    first = Api("small", options=threading.Lock())
    embed_to_store(["a"], first, cache_dir=tmp_path)
    assert "give it an attribute `fingerprint`" in caplog.text and "options" in caplog.text
    again = Api("small", options=threading.Lock())
    embed_to_store(["a"], again, cache_dir=tmp_path)
    assert again.count == 1, "encoded anew"
    again.fingerprint = "small, 1"
    embed_to_store(["a"], again, cache_dir=tmp_path)
    embed_to_store(["a"], again, cache_dir=tmp_path)
    assert again.count == 2


@pytest.mark.parametrize("kind", ["bfloat16", "float32"])
def test_tensors_that_encode_gives_back(kind):
    import torch

    class Own:
        def encode(self, rows):
            made = torch.ones(len(rows), 2, dtype=getattr(torch, kind), requires_grad=True)
            return list(made) if kind == "float32" else made

    assert resolve(Own()).encode(["a", "b"]).tolist() == [[1, 1], [1, 1]]
