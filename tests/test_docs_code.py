"""Every code block of README, docs and recipes runs, or stands in one table with why not.

Python blocks of a page run in one scope. Lines of shell blocks run one after another in a folder
with what the pages speak of, in tiny; where a command would reach for the Hub, options that keep it
here are added.
"""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fmcluster.cli.main import main

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", *DOCS, ROOT / "recipes" / "README.md"]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
SUBJECTS = (
    "my invoice is wrong", "where is my parcel", "reset my password", "cancel my subscription",
    "the app crashes on start", "refund for a broken lamp", "change my delivery address",
    "update the payment card",
)  # fmt: skip
# Commands that are not run: how they begin, and why.
NOT_RUN = {
    "pip install": "reaches for the package index",
    "make ": "sets up an environment of its own; `make demo` and `make test` are run by CI",
    "accelerate launch": "takes eight GPUs; two processes are started in test_two_processes.py",
    "ACCELERATE_USE_CPU=true accelerate launch": "as above",
    "#!/bin/bash": "a job of Slurm",
    "#SBATCH": "a job of Slurm",
    "export MAIN=": "a job of Slurm",
    "srun ": "a job of Slurm",
    "fmcluster cluster --namer": "asks a language model; test_chat_namer.py has a stand-in",
    "fmcluster report run/ --namer": "as above",
    "ray start": "starts a cluster; test_ray_engine.py starts one",
    "fmcluster embed /shared/photos": "takes the cluster of `ray start`; test_ray_engine.py",
    "fmcluster app": "serves until it is interrupted; test_app.py starts it so",
    "curl http://127.0.0.1:PORT": "talks to the app; test_app.py and test_server.py post the same",
    "fmcluster run cifar10": "data from the Hub; test_recipes.py runs recipes on local data",
    "fmcluster cluster recordings/": "recordings; test_voices.py clusters some from the shell",
    "fmcluster bench": "five sets and three seeds; test_cells.py runs a suite",
    "fmcluster demo": "half a minute; test_demo.py runs it on 150 scans",
}
# Languages of blocks that are no code.
NO_CODE = {"math", "text", "csv", "json"}
# Options that stand for what the machine lacks: how the command begins -> the options, and why.
STAND_INS = {
    "fmcluster cluster photos/": (
        ["--encoder", "packaged:efficientnet-lite0", "--n-clusters", "3"],
        "the default encoder is on the Hub; 36 photos are no 20 clusters",
    ),
    "fmcluster cluster tickets.csv": (["--encoder", "tfidf"], "the default encoder is on the Hub"),
    "fmcluster clean tickets.csv": (["--encoder", "tfidf"], "the default encoder is on the Hub"),
    "fmcluster clean data.parquet": (["--encoder", "tfidf"], "the default encoder is on the Hub"),
    "fmcluster run stackoverflow": (
        ["--encoder", "packaged:minilm", "--limit", "80"],
        "the recipe's encoder is on the Hub, and the data here have 96 rows",
    ),
    "fmcluster query run/ --budget 100": (["--budget", "50"], "the run here has 96 rows"),
    "fmcluster query run/ --budget 200": (["--budget", "60"], "the run here has 96 rows"),
}
# What ends with another code than 0, by intention: 3 says that a check did not hold.
ENDS_WITH_3 = ("fmcluster certify", "fmcluster clean data.parquet")


def blocks(page):
    """(language, content) of each fenced block; signatures of the reference are no code."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)
    return [b for b in found if not (page.name == "reference.md" and b[0] == "python")]


def commands(content):
    """The commands of a shell block, without comments, continued lines joined."""
    joined = re.sub(r"\\\n\s*", " ", content)
    joined = re.sub(r"'[^']*'", lambda quoted: quoted[0].replace("\n", " "), joined)
    return [line for line in map(str.strip, joined.split("\n")) if line]


def reason_not_to_run(command):
    return next((why for start, why in NOT_RUN.items() if command.startswith(start)), None)


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """The files that pages speak of, made once; embeddings of the same texts are cached once."""
    pytest.importorskip("sentence_transformers")
    stage = tmp_path_factory.mktemp("stage")
    folder = stage / "files"
    folder.mkdir()
    tickets = [f"{SUBJECTS[i % 8]} since day {i}" for i in range(96)]
    (folder / "tickets.txt").write_text("\n".join(tickets) + "\n")
    table = pd.DataFrame({"text": tickets, "label": [SUBJECTS[i % 8] for i in range(96)]})
    table.loc[5, "label"] = SUBJECTS[0]  # a wrong one
    table.to_csv(folder / "tickets.csv", index=False)
    table.to_parquet(folder / "data.parquet")
    table.rename(columns={"text": "title"}).to_parquet(folder / "stackoverflow.parquet")
    new = pd.DataFrame({"text": [f"{SUBJECTS[i % 8]} again {i}" for i in range(24)]})
    new.to_csv(folder / "new.csv", index=False)
    new.to_parquet(folder / "new.parquet")
    answered = pd.DataFrame({"id": range(40), "label": [SUBJECTS[i % 8] for i in range(40)]})
    answered.to_csv(folder / "answers.csv", index=False)
    draw = np.random.default_rng(0)
    y = draw.permutation(np.repeat(np.arange(20), 15))
    centers = np.linalg.qr(draw.normal(size=(32, 32)))[0][:20]
    X = centers[y] + 0.15 * draw.normal(size=(300, 32))
    np.save(folder / "embeddings.npy", (X / np.linalg.norm(X, axis=1)[:, None]).astype(np.float32))
    np.save(folder / "labels.npy", y)
    (folder / "photos").mkdir()
    for i in range(36):
        pixels = draw.integers(0, 60, (16, 16, 3)) + 190 * np.eye(3, dtype=int)[i % 3]
        Image.fromarray(pixels.astype(np.uint8)).save(folder / "photos" / f"{i}.png")
    return stage


@pytest.fixture
def workspace(stage, tmp_path, monkeypatch):
    """A folder of one's own with the files of the stage."""
    shutil.copytree(stage / "files", tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("FMCLUSTER_CACHE", str(stage / "cache"))
    monkeypatch.setenv("MPLBACKEND", "Agg")
    return tmp_path / "here"


@pytest.fixture(scope="module")
def made_run(stage):
    """A run of the tickets, which pages about what comes after begin from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FMCLUSTER_CACHE", str(stage / "cache"))
        patch.chdir(stage / "files")
        command = "cluster tickets.csv --column text --encoder packaged:minilm --n-clusters 8"
        assert main([*command.split(), "--out", str(stage / "run"), "--quiet"]) == 0
    return stage / "run"


@pytest.mark.filterwarnings("ignore::fmcluster.utils.errors.CollapseWarning")
@pytest.mark.parametrize("page", PAGES[1:], ids=NAMES[1:])  # the README's has a test of its own
@pytest.mark.usefixtures("workspace")
def test_python_runs(page):
    code = [content for language, content in blocks(page) if language == "python"]
    if any(".plot(" in content for content in code):
        pytest.importorskip("matplotlib")
    scope = {"__name__": "snippet"}
    for number, content in enumerate(code):
        exec(compile(content, f"{page.name}[{number}]", "exec"), scope)


@pytest.mark.filterwarnings("ignore::fmcluster.utils.errors.CollapseWarning")
@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_run(page, workspace, made_run, capsys):
    shell = [commands(content) for language, content in blocks(page) if language == "sh"]
    todo = [c for block in shell for c in block if not reason_not_to_run(c)]
    assert all(command.startswith("fmcluster ") for command in todo), todo
    if not todo:
        return
    shutil.copytree(made_run, "run")
    for command in todo:
        if "--answers drawn.csv" in command:  # a person's part, as the page says
            drawn = pd.read_csv("drawn.csv")
            drawn.assign(label=[SUBJECTS[i % 8] for i in drawn["id"]]).to_csv("drawn.csv")
        words = shlex.split(command, comments=True)[1:]
        more = next((o for start, (o, _) in STAND_INS.items() if command.startswith(start)), [])
        for option, value in zip(more[::2], more[1::2], strict=True):
            if option in words and option != "--encoder":
                words[words.index(option) + 1] = value
            elif option not in words:
                words += [option, value]
        code = main([*words, "--quiet"])
        said = capsys.readouterr()
        wanted = (0, 3) if command.startswith(ENDS_WITH_3) else (0,)
        assert code in wanted, f"{command}: {said.err}"


def test_what_the_pages_promise_is_on_the_disk(workspace, capsys):
    """The commands of the first page leave what it says they leave."""
    lines = [c for lang, content in blocks(ROOT / "docs/start.md") if lang == "sh"
             for c in commands(content) if c.startswith("fmcluster cluster")]  # fmt: skip
    assert lines
    for line in lines:
        assert main([*shlex.split(line, comments=True)[1:], "--quiet"]) == 0
    assert Path("run/report.html").is_file()
    assert list(pd.read_parquet("run/clusters.parquet"))[:3] == ["id", "cluster", "confidence"]


def test_every_block_is_run_or_named():
    languages = {language for page in PAGES for language, _ in blocks(page)}
    assert languages <= {"python", "sh"} | NO_CODE
    every = [
        command
        for page in [*PAGES, ROOT / "CONTRIBUTING.md"]
        for language, content in blocks(page)
        if language == "sh"
        for command in commands(content)
    ]
    for start in [*NOT_RUN, *STAND_INS]:
        assert any(command.startswith(start) for command in every), f"{start!r} is on no page"
    assert all(why for why in NOT_RUN.values())


def test_the_readme_prints_what_it_shows(capsys, monkeypatch, tmp_path):
    """Words as they are; numbers as near as another processor may bring them."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", text, re.S)[1]
    shown = re.search(r"<!-- example -->\n```text\n(.*?)```", text, re.S)[1]
    assert len([line for line in code.split("\n") if line and not line.startswith("print")]) <= 7
    capsys.readouterr()
    exec(compile(code, "README", "exec"), {"__name__": "snippet"})
    said = capsys.readouterr().out
    number = r"\d+(?:\.\d+)?"
    assert re.sub(number, "#", said).split() == re.sub(number, "#", shown).split()
    for new, old in zip(re.findall(number, said), re.findall(number, shown), strict=True):
        assert float(new) == pytest.approx(float(old), rel=0.15, abs=0.04)
