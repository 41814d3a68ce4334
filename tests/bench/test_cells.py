"""Cells are skipped when finished, tables add up, the gate fails when it should."""

import gc
import json

import numpy as np
import pytest

from fmcluster.bench import datasets
from fmcluster.bench.cells import (
    Cell,
    load_records,
    measure,
    peak_memory,
    run_cells,
    sorted_total_variation,
)
from fmcluster.bench.methods import Method, Outcome, method
from fmcluster.bench.tables import collect, compare, markdown
from fmcluster.cli.main import main


@pytest.fixture
def folder(blobs, tmp_path):
    for name, sizes in (("even", [60, 60, 60]), ("long", [120, 30, 10])):
        x, y = blobs(sizes=sizes)
        np.savez(tmp_path / f"{name}.npz", x=x.astype(np.float16), y=y)
    return tmp_path


def load_from(folder):
    return lambda name: datasets.load(name, folder)


def test_sets_are_read_and_cut_along_the_exponential_profile(folder):
    data = datasets.load("even@10", folder)
    counts = np.sort(np.bincount(data.y))[::-1]
    assert counts.tolist() == [60, 18, 6]
    assert data.n_classes == 3
    assert data.graph.n_rows == len(data.y)
    np.testing.assert_array_equal(datasets.load("even@10", folder).y, data.y)
    with pytest.raises(FileNotFoundError, match=r"no data set 'nope'.*even, long"):
        datasets.load("nope", folder)


def test_a_finished_cell_is_skipped_and_a_changed_one_is_run(folder, tmp_path):
    cells = [Cell("s", "even", method("kmeans"), seed) for seed in (0, 1)]
    assert run_cells(cells, load_from(folder), tmp_path / "out") == {
        "ran": 2, "skipped": 0, "failed": 0,
    }  # fmt: skip
    assert run_cells(cells, load_from(folder), tmp_path / "out")["skipped"] == 2
    other = [Cell("s", "even", method("kmeans:n_init=2"), 0)]
    assert run_cells(other, load_from(folder), tmp_path / "out")["ran"] == 1
    record = load_records(tmp_path / "out", "s")[0]
    assert record["metrics"]["acc"] == 1.0
    assert record["metrics"]["prior_tv"] < 0.01
    assert record["seconds"] > 0


def test_a_failing_method_is_recorded_not_tabulated(folder, tmp_path):
    def broken(data, seed):
        raise RuntimeError("no luck")

    cells = [Cell("s", "even", Method("broken", broken), 0)]
    assert run_cells(cells, load_from(folder), tmp_path / "out")["failed"] == 1
    path = next((tmp_path / "out").rglob("*.json"))
    assert "no luck" in json.loads(path.read_text())["error"]
    assert load_records(tmp_path / "out") == []


def test_noise_and_sizes_are_measured():
    y = np.array([0, 0, 0, 1])
    metrics = measure(Outcome(np.array([0, 0, -1, 1])), y)
    assert metrics["acc"] == 0.75
    assert metrics["k_error"] == 0
    assert sorted_total_variation(np.array([0.25, 0.75]), y) == 0
    assert sorted_total_variation(np.array([0.5, 0.5]), y) == pytest.approx(0.25)
    assert sorted_total_variation(np.array([1.0]), y) == pytest.approx(0.25)


def test_peak_memory_sees_an_allocation():
    gc.collect()  # what other tests left must not be freed meanwhile
    with peak_memory(0.005) as peak:
        block = np.ones((160, 2**17))
        block += 1
    assert peak.mb > 20


def record(dataset, name, seed, **metrics):
    return {"dataset": dataset, "method": name, "seed": seed, "seconds": 1.0, "metrics": metrics}


def test_tables_give_mean_and_spread_over_seeds():
    records = [record("a", "m", 0, acc=0.8), record("a", "m", 1, acc=0.6)]
    assert collect(records)["a", "m"]["acc"] == [0.8, 0.6]
    text = markdown([*records, record("b", "m", 0, acc=0.5), record("b", "n", 0, acc=0.9)])
    assert "| m | 70.0 ±10.0 | 1.0 |" in text
    assert "mean over the 2 sets" in text
    assert text.split("mean over")[1].count("| n |") == 0
    assert text.index("| n | 90.0") < text.index("| m | 50.0")


def test_the_gate_sees_a_fall_and_allows_noise():
    then = [record("a", "m", 0, acc=0.80, ece=0.05)]
    assert compare([record("a", "m", 0, acc=0.79, ece=0.06)], then) == []
    worse = compare([record("a", "m", 0, acc=0.70, ece=0.09)], then)
    assert [(w["metric"], w["before"], w["after"]) for w in worse] == [
        ("acc", 0.8, 0.7), ("ece", 0.05, 0.09),
    ]  # fmt: skip


def test_the_command_runs_compares_and_exits_3(folder, tmp_path, capsys):
    argv = ["bench", "balanced", "--data", str(folder), "--dataset", "even", "--seeds", "1",
            "--head", "kmeans", "--out", str(tmp_path / "now"), "--quiet"]  # fmt: skip
    assert main([*argv, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ran"] == 1
    then = json.loads(next((tmp_path / "now").rglob("*.json")).read_text())
    then["metrics"]["acc"] = 1.5
    (tmp_path / "then" / "balanced").mkdir(parents=True)
    (tmp_path / "then" / "balanced" / "even__kmeans__s0.json").write_text(json.dumps(then))
    assert main([*argv, "--compare", str(tmp_path / "then")]) == 3
    assert "worse: even kmeans acc 1.5" in capsys.readouterr().out
    assert "kmeans" in (tmp_path / "now" / "balanced.md").read_text()
    assert main(["bench", "nonsense"]) == 2
    assert main(["bench", "list"]) == 0
    assert "tweet" in capsys.readouterr().out


def test_unknown_methods_are_named():
    with pytest.raises(ValueError, match="'nope' is not known"):
        method("nope")
    assert method("scan:epochs=3,cluster_prior=estimate").settings["epochs"] == 3


@pytest.mark.parametrize("peer", ["faiss-kmeans", "gmm-diag", "ward", "average-linkage"])
def test_peers_find_planted_clusters(folder, peer):
    data = datasets.load("long", folder)
    assert measure(method(f"peer/{peer}").run(data, 0), data.y)["acc"] > 0.5
