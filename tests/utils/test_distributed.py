"""One process: every reduction is the identity, and nothing of torch's state is woken."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers_fork import run_forked

from fmcluster.utils import distributed

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)


def test_one_process_is_the_main_one():
    assert not distributed.is_launched()
    assert distributed.rank() == 0
    assert distributed.world_size() == 1
    assert distributed.is_main()
    distributed.barrier()  # returns


@pytest.mark.parametrize(("size", "launched"), [("1", False), ("2", True), ("16", True)])
def test_a_launcher_is_known_by_its_world_size(monkeypatch, size, launched):
    monkeypatch.setenv("WORLD_SIZE", size)
    assert distributed.is_launched() is launched


def test_every_item_is_this_process_own():
    assert list(distributed.my_share(5)) == [0, 1, 2, 3, 4]
    assert list(distributed.my_share(0)) == []


def of_three_processes(monkeypatch, own, n_items):
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    parts = []
    for rank in range(3):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        parts.append(list(own(n_items)))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    return sum(parts, [])


@pytest.mark.parametrize("n_items", [0, 1, 2, 7, 12])
def test_three_processes_divide_the_items_evenly(monkeypatch, n_items):
    every = list(range(n_items))
    assert sorted(of_three_processes(monkeypatch, distributed.my_share, n_items)) == every
    # Blocks follow one another, too.
    assert of_three_processes(monkeypatch, distributed.my_block, n_items) == every


def test_reductions_are_the_identity_without_a_copy():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert distributed.sum_over_ranks(array) is array
    assert distributed.join_blocks(array, 2) is array
    tensor = torch.arange(3.0, requires_grad=True)
    assert distributed.mean_over_ranks(tensor) is tensor
    distributed.mean_over_ranks(tensor).sum().backward()
    assert torch.equal(tensor.grad, torch.ones(3))


def test_an_asked_device_is_given():
    assert distributed.device("cpu") == torch.device("cpu")
    assert distributed.device(torch.device("meta")).type == "meta"


def test_the_accelerator_trains_on_one_process():
    found = distributed.accelerator(CPU, gradient_accumulation_steps=3)
    assert found.num_processes == 1
    assert found.device.type == "cpu"
    assert found.gradient_accumulation_steps == 3


def test_another_precision_begins_a_new_state():
    # Accelerate refuses a second precision in one process; two heads may differ in theirs.
    seen = []
    for precision in ("no", "bf16", "no"):
        found = distributed.accelerator(CPU, mixed_precision=precision)
        seen.append(found.mixed_precision)
    assert seen == ["no", "bf16", "no"]


OTHER_DEVICE = """
import os
os.environ["ACCELERATE_TORCH_DEVICE"] = "meta"  # what Accelerate gives
import torch
from accelerate.state import AcceleratorState
from fmcluster.utils import distributed

assert distributed.device().type == "meta"
del os.environ["ACCELERATE_TORCH_DEVICE"]
kinds = []
for kind in ("cpu", "meta", "cpu"):
    if kind == "meta":
        os.environ["ACCELERATE_TORCH_DEVICE"] = "meta"
    else:
        os.environ.pop("ACCELERATE_TORCH_DEVICE", None)
    layer = torch.nn.Linear(2, 2, device=kind)
    found = distributed.accelerator(torch.device(kind))
    kinds.append((found.prepare(layer).weight.device.type, AcceleratorState().device.type))
print(kinds, distributed.device().type)
"""


def test_modules_stay_where_they_are_and_the_process_keeps_its_device():
    # A process with a GPU may fit one head on the processor and go on with the GPU.
    expected = [("cpu", "cpu"), ("meta", "meta"), ("cpu", "cpu")]
    assert run_forked(OTHER_DEVICE).strip() == f"{expected} meta"


def test_one_process_needs_neither_torch_nor_accelerate():
    code = (
        "import sys, numpy as np; from fmcluster.utils import distributed as d;"
        "d.barrier(); d.is_main(); d.my_share(3); d.sum_over_ranks(np.ones(2));"
        "print([m for m in ('torch', 'accelerate') if m in sys.modules])"
    )
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=True, text=True
    )
    assert found.stdout.strip() == "[]"


def test_without_a_driver_nothing_of_torch_is_asked(monkeypatch):
    monkeypatch.setattr(distributed, "_has_driver", lambda: False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: pytest.fail("torch was asked"))
    assert distributed.gpu() is None


@pytest.mark.parametrize(
    ("there", "given", "found"),
    [(True, "cuda:1", "cuda:1"), (True, "cpu", None), (False, "cuda:0", None)],
)
def test_the_gpu_is_the_one_that_accelerate_gives(monkeypatch, there, given, found):
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.setattr(distributed, "_has_driver", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: there)
    monkeypatch.setattr(distributed, "device", lambda: torch.device(given))
    assert distributed.gpu() == (torch.device(found) if found else None)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert distributed.gpu() is None
