"""The script for a GPU runs every part, here on tiny sizes with the processor in its place."""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path

import pytest

from fmcluster.utils import distributed
from fmcluster.utils.stopping import check_stopped

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setenv("FMCLUSTER_NO_PROGRESS", "1")
    return importlib.import_module("gpu")


def run(script, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
    return script.main()


@pytest.mark.slow
def test_every_part_holds_where_the_processor_stands_in(script, monkeypatch, tmp_path, capsys):
    out = tmp_path / "gpu.json"
    asked = ("--device", "cpu", "--small", "--out", str(out))
    assert run(script, monkeypatch, *asked) == 0, capsys.readouterr().out[-3000:]
    written = json.loads(out.read_text(encoding="utf-8"))
    assert "stands in" in written["about"]["device"] and written["about"]["small"]
    parts = written["parts"]
    assert list(parts) == list(script.PARTS)
    assert all(found["passed"] for name, found in parts.items() if name.startswith("check"))
    assert not any("error" in found or "left_out" in found for found in parts.values())
    assert all(parts[f"time epoch {name}"]["epoch_seconds"] for name in script.TRAINED)
    assert parts["time auto"]["acc"] > 0.9
    assert parts["time neighbors"]["recall"] == 1.0


def test_without_a_gpu_it_says_why_and_is_no_failure(script, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert run(script, monkeypatch) == 0
    assert "skipped: torch" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("asked", "said"),
    [(["--device", "cpu"], "--small"), (["--device", "cpu", "--small", "--only", "x"], "'x'")],
)
def test_what_cannot_be_run_is_refused(script, monkeypatch, capsys, asked, said):
    with pytest.raises(SystemExit):
        run(script, monkeypatch, *asked)
    assert said in capsys.readouterr().err


def place(script, device="cpu"):
    parts = importlib.import_module("_gpu_parts")
    return parts.Where(importlib.import_module("torch").device(device), True)


def test_a_part_is_told_to_end_and_a_broken_one_fails(script):
    def endless(where):
        while True:
            check_stopped()
            time.sleep(0.01)

    def broken(where):
        raise ValueError("no such kernel")

    assert "told to end" in script.run_part(endless, place(script), 0.1)["left_out"]
    found = script.run_part(broken, place(script), 5)
    assert found["passed"] is False and "no such kernel" in found["error"]
    late = script.run_parts(place(script), ["time products"], 0.01)
    assert late == {"time products": {"left_out": "no time was left"}}


def test_the_device_is_taken_and_given_back(script):
    before = distributed.gpu
    with place(script).on() as name:
        assert name == "cpu" and distributed.gpu().type == "cpu"
    with place(script).off():
        assert distributed.gpu() is None
    assert distributed.gpu is before


def test_operations_of_a_transformer_are_those_of_its_products(script):
    vit = importlib.import_module("_gpu_vit")
    encoder = vit.RandomViT("vit_tiny_patch16_224", 32, device="cpu")
    # 4 patches of 768 values to 192; 5 tokens, 12 blocks of 12 * 192^2 weights, and attention.
    expected = 2 * (4 * 768 * 192 + 5 * 12 * 12 * 192**2 + 2 * 12 * 25 * 192)
    assert encoder.operations == expected


def test_the_results_of_a_gpu_are_those_of_a_gpu():
    path = BENCHMARKS / "results" / "gpu.json"
    if not path.is_file():
        pytest.skip("not measured: no GPU was there yet")
    written = json.loads(path.read_text(encoding="utf-8"))
    assert not written["about"]["small"] and written["about"]["seconds"] < 240
