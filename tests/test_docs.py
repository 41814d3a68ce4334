"""Every Python snippet of the docs and the README runs; the reference is up to date."""

import importlib
import importlib.util
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fmcluster.cli.main import main

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if page.name != "reference.md"]
SUBJECTS = (
    "my invoice is wrong", "where is my parcel", "reset my password", "cancel my subscription",
    "the app crashes on start", "refund for a broken lamp", "change my delivery address",
    "update the payment card",
)  # fmt: skip


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.S)


@pytest.fixture
def workspace(tmp_path, monkeypatch, blobs):
    """A folder with what the pages speak of, in tiny."""
    pytest.importorskip("sentence_transformers")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FMCLUSTER_CACHE", str(tmp_path / "cache"))
    tickets = [f"{SUBJECTS[i % 8]} since day {i}" for i in range(96)]
    Path("tickets.txt").write_text("\n".join(tickets) + "\n")
    pd.DataFrame({"text": tickets}).to_csv("tickets.csv", index=False)
    X, y = blobs(300, 20, d=32)
    np.save("embeddings.npy", X)
    np.save("labels.npy", y)
    Path("photos").mkdir()
    draw = np.random.default_rng(0)
    for i in range(36):
        pixels = draw.integers(0, 60, (16, 16, 3)) + 190 * np.eye(3, dtype=int)[i % 3]
        Image.fromarray(pixels.astype(np.uint8)).save(f"photos/{i}.png")
    return tmp_path


@pytest.mark.filterwarnings("ignore::fmcluster.utils.errors.CollapseWarning")
@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
@pytest.mark.usefixtures("workspace")
def test_snippets_run(page):
    scope = {"__name__": "snippet"}
    for number, code in enumerate(blocks(page, "python")):
        exec(compile(code, f"{page.name}[{number}]", "exec"), scope)


@pytest.mark.usefixtures("workspace")
def test_the_command_of_the_first_page_runs(capsys):
    lines = [
        line for block in blocks(ROOT / "docs" / "start.md", "sh") for line in block.split("\n")
    ]
    commands = [line for line in lines if line.startswith("fmcluster cluster")]
    assert commands
    for line in commands:
        assert main([*shlex.split(line, comments=True)[1:], "--quiet"]) == 0
    assert Path("run/report.html").is_file()


def test_the_readme_opens_with_its_two_commands():
    assert [
        line.split()[:2] for line in blocks(ROOT / "README.md", "sh")[0].strip().split("\n")
    ] == [
        ["make", "demo"],
        ["make", "test"],
    ]


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target


def test_the_reference_has_every_public_name():
    path = ROOT / "docs" / "make_reference.py"
    spec = importlib.util.spec_from_file_location("make_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def headings(text):
        return re.findall(r"^##? (.*)$", text, re.M)

    written = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert headings(written) == headings(module.build()), "run: python docs/make_reference.py"


def test_the_head_of_contributing_keeps_the_contract(blobs, tmp_path, monkeypatch):
    from sklearn.metrics import adjusted_rand_score
    from sklearn.utils.estimator_checks import check_estimator

    import fmcluster as fmc

    code = blocks(ROOT / "CONTRIBUTING.md", "python")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 50
    (tmp_path / "contributed_median.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    median_head = importlib.import_module("contributed_median").MedianHead
    head = median_head(n_clusters=4, random_state=0)
    X, y = blobs(240, 4)
    result = fmc.cluster(X, head=head)
    assert adjusted_rand_score(y, result.labels) > 0.6
    np.testing.assert_array_equal(head.predict(X), head.labels_)
    head.save_pretrained(tmp_path)
    from fmcluster.heads.base import read_head_config

    again = median_head._from_saved(tmp_path, read_head_config(tmp_path))
    np.testing.assert_array_equal(again.predict_proba(X), head.predict_proba(X))
    results = check_estimator(median_head(n_clusters=2), on_fail=None, on_skip=None)
    failed = [r["check_name"] for r in results if r["status"] == "failed"]
    assert failed == []
