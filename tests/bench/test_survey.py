"""The survey's table: means over seeds, and the heads that it must give a reason for."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "survey.py"


@pytest.fixture(scope="module")
def survey():
    spec = importlib.util.spec_from_file_location("survey", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cell(of: str, head: str, seed: int, acc: float) -> dict:
    metrics = {"acc": acc, "nmi": 0.5, "ari": 0.5, "ece": 0.1}
    about = {"n_rows": 9, "n_classes": 3, "seconds": 1.0, "cpu_seconds": 1.0}
    return {"set": of, "head": head, "seed": seed, "metrics": metrics, **about}


def test_heads_under_kmeans_are_compared_on_the_seeds_that_both_have(survey):
    cells = [cell("agnews", "kmeans", seed, acc) for seed, acc in enumerate((0.6, 0.8))]
    cells += [cell("agnews", "hdbscan", 0, 0.595), cell("agnews", "nmf", 1, 0.75)]
    cells += [cell("tweet", "kmeans", 0, 0.9), cell("tweet", "nmf", 0, 0.1)]
    (line,) = survey.under_kmeans(cells)
    assert line == "| agnews | nmf | 1 | 75.0 | 80.0 | not explained yet |"
    (line,) = survey.under_kmeans([*cells[:2], cell("agnews", "hdbscan", 1, 0.7)])
    assert line.endswith(f"| 70.0 | 80.0 | {survey.WHY_UNDER['hdbscan']} |")


def test_table_shows_means_and_failures(survey, tmp_path):
    found = [cell("agnews", "kmeans", seed, acc) for seed, acc in enumerate((0.6, 0.8))]
    found.append({"set": "agnews", "head": "scan", "seed": 0, "error": "TrainingError: stopped"})
    for one in found:
        path = tmp_path / f"{one['set']}--{one['head']}--{one['seed']}.json"
        path.write_text(json.dumps(one), encoding="utf-8")
    lines = survey.table(tmp_path).splitlines()
    assert "| kmeans | 2 | 70.0 | 50.0 | 50.0 | 10.0 | 1.0 | 1.0 |" in lines
    assert "| scan | 0 | failed | | | | | |" in lines
    assert not any("under k-means" in line for line in lines)
