"""What README and docs say is so; that their code runs is held by test_docs_code.py."""

import importlib
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if page.name != "reference.md"]


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.S)


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


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_files_and_modules_that_pages_name_exist(page):
    text = page.read_text(encoding="utf-8")
    files = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert set(re.findall(r"`(test_\w+\.py)`", text)) <= files
    for module in re.findall(r"^\s*from (fmcluster[\w.]*) import", text, re.M):
        aliases = {"fmcluster.clean", "fmcluster.adapters", "fmcluster.calibrate", "fmcluster.hub"}
        assert module not in aliases, f"{module} is the former name"
        assert importlib.util.find_spec(module), module
    for path in re.findall(r"`((?:fmcluster|heads|tests|recipes|benchmarks)/[\w/.]*)`", text):
        assert (ROOT / path).exists() or (ROOT / "fmcluster" / path).exists(), path


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_spelling_is_american(page):
    named = r"<!-- (noise|detectors) -->.*?<!-- /\1 -->"  # names of methods
    text = re.sub(named, "", page.read_text("utf-8"), flags=re.S)
    british = r"\b\w*(?:neighbour|labell(?:ed|ing)|centre|normalis|colour|behaviour|licence)\w*"
    assert re.findall(british, text, re.I) == []


def test_the_glossary_is_in_order_and_has_the_words():
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    terms = re.findall(r"^### (.*)$", text, re.M)
    assert terms == sorted(terms, key=str.lower)
    wanted = """ACC, ARI, AURC, AUROC, Base partitions, Calibration, Calibrated without labels,
    Confidence, ECE, Embedding, Fingerprint, FPR95, Head, Imbalance ratio, Landmark, Long tail,
    Macro ACC, Mini-cluster, Neighbor graph, NMI, Noise transition matrix, Partition, Prior,
    Propagation, Provenance, Query strategy, Recall, Score, Space, Store, Transport plan"""
    for word in wanted.replace("\n", " ").split(","):
        assert any(term.startswith(word.strip()) for term in terms), word
    assert all(part.strip().count("\n\n") <= 1 for part in re.split(r"^### ", text, flags=re.M)[1:])


def survey_of(name):
    """ACC of each head on a set, as the committed survey has it."""
    text = (ROOT / "benchmarks" / "results" / "survey" / "README.md").read_text(encoding="utf-8")
    table = text.split(f"## {name} (")[1].split("\n## ")[0]
    return {row[1].strip(): row[3].strip() for row in rows_of(table)}


def rows_of(table):
    return [line.split("|") for line in table.split("\n") if line.startswith("| ")][1:]


def test_which_head_says_what_the_code_and_the_results_say():
    from fmcluster.heads import list_heads, make_head

    text = (ROOT / "docs" / "which-head.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in row[1:-1]] for row in rows_of(text.split("## All heads")[1])]
    assert [row[0].strip("`") for row in rows] == list_heads()
    even, tail = survey_of("stackoverflow"), survey_of("stackoverflow_lt100")
    survey = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    survey = survey.split("<!-- survey -->")[1].split("<!-- /survey -->")[0]
    means = {row[1].strip(): (row[4].strip(), row[8].strip()) for row in rows_of(survey)}
    growth = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    for name, _, number, prior, own, *figures, times, paper in rows:
        head = make_head(name.strip("`"))
        assert (number == "no") == (head.n_clusters == "auto"), name
        assert (prior == "yes") == hasattr(head, "cluster_prior"), name
        assert (own == "yes") == head.self_calibrated, name
        known = means[head.name]
        assert figures == [even[head.name], tail[head.name], *known], name
        measured = rf"{name} {re.escape(times)}\b|^\| {name} \|.*\| {times[:-2]} \|"
        assert times == "‡" or re.search(measured, growth, re.M), name
        assert paper


def test_the_head_of_contributing_keeps_the_contract(blobs, tmp_path, monkeypatch):
    from sklearn.base import clone
    from sklearn.metrics import adjusted_rand_score
    from sklearn.utils.estimator_checks import check_estimator

    import fmcluster as fmc

    code = blocks(ROOT / "CONTRIBUTING.md", "python")[0]
    assert "@dataclass(eq=False, repr=False)" in code
    assert len([line for line in code.splitlines() if line.strip()]) <= 50
    (tmp_path / "contributed_median.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    median_head = importlib.import_module("contributed_median").MedianHead
    head = median_head(n_clusters=4, random_state=0)
    assert head.get_params() == {"n_clusters": 4, "max_iter": 20, "random_state": 0}
    assert clone(head).get_params() == head.get_params()
    with pytest.raises(TypeError):
        median_head(4, 20)  # all but the number of clusters by name
    X, y = blobs(240, 4)
    result = fmc.cluster(X, head=head)
    assert adjusted_rand_score(y, result.labels) > 0.6
    np.testing.assert_array_equal(head.predict(X), head.labels_)
    head.save_pretrained(tmp_path / "head")
    from fmcluster.heads.config import read_head_config

    again = median_head._from_saved(tmp_path / "head", read_head_config(tmp_path / "head"))
    np.testing.assert_array_equal(again.predict_proba(X), head.predict_proba(X))
    results = check_estimator(median_head(n_clusters=2), on_fail=None, on_skip=None)
    failed = [r["check_name"] for r in results if r["status"] == "failed"]
    assert failed == []


def test_tables_are_what_the_committed_results_say(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    readme = importlib.import_module("readme")
    for page in readme.PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert readme.rewritten(text) == text, f"{page}: run python benchmarks/readme.py"
    shown = re.findall(r"^<!-- ([\w-]+) -->$", (ROOT / "README.md").read_text("utf-8"), re.M)
    assert shown == ["example", "headline"]  # one table; the others are in docs/benchmarks.md


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    table = index.split("## All pages")[1]
    listed = {(ROOT / "docs" / link).resolve() for link in re.findall(r"\]\(([^)#]+)\)", table)}
    assert listed == {page.resolve() for page in PAGES[1:]} - {ROOT / "docs" / "README.md"} | {
        ROOT / "docs" / "reference.md"
    }


def test_pictures_are_small_and_used():
    pictures = sorted((ROOT / "docs" / "pictures").iterdir())
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for picture in pictures:
        assert picture.suffix == ".png" and picture.stat().st_size < 150_000, picture.name
        assert f"pictures/{picture.name})" in text, f"{picture.name} is on no page"
