from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from fmcluster.embedding.encoders import base
from fmcluster.embedding.encoders.base import (
    Encoder,
    Run,
    TorchEncoder,
    choose_precision,
    is_out_of_memory,
)
from fmcluster.utils.spent import recorded


class Scaled(TorchEncoder):
    """Numbers times a weight; remembers its batches and has room for `room` rows."""

    def __init__(self, *, room=10**9, lengths=None, error=RuntimeError, **options):
        import torch

        super().__init__(
            torch.nn.Linear(2, 3),
            modality="text",
            fingerprint={"encoder": "t"},
            spec={},
            run=Run(**options),
        )
        self.room, self.lengths, self.error, self.sizes = room, lengths, error, []

    def prepare(self, rows):
        return np.asarray(rows, np.float32), self.lengths

    def batch(self, prepared, take):
        import torch

        if len(take) > self.room:
            raise self.error("DefaultCPUAllocator: can't allocate memory: you tried")
        self.sizes.append(len(take))
        return self.to_device(torch.from_numpy(prepared[take]))

    def forward(self, inputs):
        import torch

        assert torch.is_inference_mode_enabled()
        assert not self.module.training
        return self.module(inputs)


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(50, 2)).tolist()


@pytest.mark.parametrize("error", [RuntimeError, MemoryError])
def test_out_of_memory_halves_the_batch_and_logs_it(rows, caplog, error):
    encoder = Scaled(room=10, error=error, batch_size=32, precision="fp32")
    with caplog.at_level(logging.INFO, logger=base.__name__):
        out = encoder.encode(rows)
    assert encoder.sizes == [8, 8, 8, 8, 8, 8, 2]
    assert encoder.batch_size == 8
    assert "trying 16" in caplog.text
    assert "final batch size: 8" in caplog.text
    expected = np.asarray(rows, np.float32) @ encoder.module.weight.numpy().T
    np.testing.assert_allclose(out, expected + encoder.module.bias.numpy(), atol=1e-6)
    assert encoder.dim == 3
    encoder.encode(rows)
    assert max(encoder.sizes) == 8, "the size that fitted is kept"


def test_the_automatic_batch_size_is_halved_too(rows):
    encoder = Scaled(room=5, precision="fp32")
    encoder.encode(rows)
    assert encoder.batch_size == 4


def test_one_row_that_does_not_fit_is_an_error(rows):
    with pytest.raises(RuntimeError, match="allocate memory"):
        Scaled(room=0, precision="fp32").encode(rows)


def test_other_errors_pass_at_once(rows):
    encoder = Scaled(precision="fp32")
    with pytest.raises(RuntimeError, match="shapes"):
        encoder.encode([row + [1.0] for row in rows])


def test_rows_are_sorted_by_length_and_put_back(rows):
    lengths = np.random.default_rng(1).integers(1, 9, size=50)
    plain = Scaled(precision="fp32", batch_size=50)
    ragged = Scaled(precision="fp32", batch_size=7, lengths=lengths)
    ragged.module.load_state_dict(plain.module.state_dict())
    np.testing.assert_allclose(ragged.encode(rows), plain.encode(rows), atol=1e-6)


def test_nan_is_handed_on_for_the_store_to_name(rows):
    encoder = Scaled(precision="fp32")
    rows[3] = [np.nan, 0.0]
    out = encoder.encode(rows)
    assert np.isnan(out[3]).all()
    assert np.isfinite(np.delete(out, 3, axis=0)).all()


def test_what_counts_as_out_of_memory():
    import torch

    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_precision_auto_by_device(monkeypatch):
    import torch

    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    for native in (True, False):
        monkeypatch.setattr(base, "cpu_has_bf16", lambda native=native: native)
        assert choose_precision("auto", cpu, cpu_gains=False) == "fp32"
        assert choose_precision("auto", cpu, cpu_gains=True) == ("bf16" if native else "fp32")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert choose_precision("auto", gpu, cpu_gains=False) == "bf16"
    assert choose_precision("fp32", gpu, cpu_gains=True) == "fp32"
    with pytest.raises(ValueError, match="precision='fp8'"):
        choose_precision("fp8", cpu, cpu_gains=True)


@pytest.mark.parametrize("size", [0, -1, True])
def test_batch_size_is_positive(size):
    with pytest.raises(ValueError, match="batch_size"):
        Scaled(batch_size=size)


def test_protocol_and_empty_input():
    encoder = Scaled(precision="bf16")
    assert isinstance(encoder, Encoder)
    assert encoder.fingerprint == {"encoder": "t", "precision": "bf16"}
    assert encoder.encode([]).shape == (0, 0)
    assert encoder.encode([[1.0, 2.0]]).dtype == np.float32


def test_import_is_light():
    code = (
        "import sys, fmcluster.embedding.encoders.base, fmcluster.embedding.encoders.augment;"
        "heavy = {'torch', 'transformers', 'open_clip', 'datasets'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


class Slow(Scaled):
    """Takes its time to make a batch, and to run it."""

    def batch(self, prepared, take):
        import torch

        self.counts.append((threading.current_thread().name, torch.get_num_threads()))
        time.sleep(0.03)
        return super().batch(prepared, take)

    def forward(self, inputs):
        time.sleep(0.03)
        return super().forward(inputs)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_batches_are_made_while_the_model_runs(rows, monkeypatch, modality):
    import torch

    monkeypatch.setenv("FMCLUSTER_THREADS", "4")
    encoder = Slow(precision="fp32", batch_size=5)
    encoder.makers = base.IMAGE_MAKERS if modality == "image" else 1
    encoder.counts = []
    before = torch.get_num_threads()
    with recorded() as seconds:
        start = time.perf_counter()
        out = encoder.encode(rows)
        whole = time.perf_counter() - start
    expected = np.asarray(rows, np.float32) @ encoder.module.weight.numpy().T
    np.testing.assert_allclose(out, expected + encoder.module.bias.numpy(), atol=1e-6)
    assert whole < 0.5, "ten batches one after the other take 0.6 seconds"
    assert seconds["forward"] > 0.6 * whole
    assert {count for _, count in encoder.counts} == {1}
    names = {name for name, _ in encoder.counts}
    assert all(name.startswith("fmcluster-batch") for name in names)
    assert len(names) == (4 if modality == "image" else 1)
    assert torch.get_num_threads() == before
    assert not [t for t in threading.enumerate() if t.name.startswith("fmcluster-batch")]


def test_one_core_makes_batches_itself(rows, monkeypatch):
    monkeypatch.setenv("FMCLUSTER_THREADS", "1")
    encoder = Slow(precision="fp32", batch_size=25)
    encoder.counts = []
    encoder.encode(rows)
    assert {name for name, _ in encoder.counts} == {threading.current_thread().name}


def test_no_room_in_a_thread_halves_the_batch_too(rows, monkeypatch):
    monkeypatch.setenv("FMCLUSTER_THREADS", "4")
    encoder = Scaled(room=10, batch_size=16, precision="fp32")
    encoder.makers = 4
    out = encoder.encode(rows)
    assert encoder.batch_size == 8
    expected = np.asarray(rows, np.float32) @ encoder.module.weight.numpy().T
    np.testing.assert_allclose(out, expected + encoder.module.bias.numpy(), atol=1e-6)


def test_a_gpu_is_asked_for_a_batch_when_the_next_is_on_its_way(rows, monkeypatch):
    """The device is a name alone: what runs is the processor."""
    order = []

    class Watched(Scaled):
        def forward(self, inputs):
            order.append("forward")
            return super().forward(inputs)

        def _fetched(self, take, found):
            order.append("fetched")
            return super()._fetched(take, found)

        def to_device(self, tensor):
            return tensor

    encoder = Watched(precision="fp32", batch_size=20)
    encoder.device = type("Device", (), {"type": "cuda"})()
    out = encoder.encode(rows)
    assert order == ["forward", "forward", "fetched", "forward", "fetched", "fetched"]
    assert out.shape == (50, 3)
