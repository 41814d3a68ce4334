"""Worlds: both halves stay what they are, cuts have their profiles, results go on and are read."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def module(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setenv("FMCLUSTER_WORLDS", str(tmp_path / "cache"))
    sets = importlib.import_module("_world_sets")
    for cached in (sets.labels_of, sets.texts_of, sets.rows_of):
        cached.cache_clear()
    return importlib.import_module


@pytest.fixture
def digits(module):
    """The digits as pixels in a cache of their own, and the worlds of them."""
    embedding = module("_world_embed")
    embedding.prepare("digits")
    embedding.embed("digits", "pixels")
    return [world for world in module("_worlds").worlds() if world.set == "digits"]


def test_a_cut_is_in_one_half_whatever_it_is_seen_through(module):
    worlds = module("_worlds").worlds
    halves, encoders = {}, {}
    for world in worlds():
        halves.setdefault(world.cut, set()).add(world.half)
        encoders.setdefault(world.cut, []).append(world.encoder)
    assert all(len(half) == 1 for half in halves.values())
    assert max(len(set(names)) for names in encoders.values()) >= 4
    assert len({world.name for world in worlds()}) == len(worlds()) > 200
    think = len(worlds("think")) / len(worlds())
    assert 0.4 < think < 0.6 and len(worlds("think")) + len(worlds("confirm")) == len(worlds())
    with pytest.raises(ValueError, match="half='both' must be"):
        worlds("both")


def test_the_halves_do_not_move(module):
    """What was thought with must not become what confirms: the hash is pinned."""
    find = module("_worlds").find
    expected = {
        "stackoverflow-8-exp10@minilm": "think",
        "stackoverflow-8-exp50@minilm": "confirm",
        "agnews-all-exp100@minilm+tfidf": "think",
        "tweet-all-natural@minilm": "confirm",
        "cifar10_test-all-natural@lite2-96": "confirm",
    }
    assert {name: find(name).half for name in expected} == expected
    full = find("stackoverflow-all-exp50-full@minilm")
    assert full.cut == find("stackoverflow-all-exp50@minilm").cut and full.rows == 10_000
    with pytest.raises(ValueError, match="no world 'tweet-9'; there are tweet-4-exp10@minilm"):
        find("tweet-9")


def test_single_spaces_of_a_pair_are_worlds_too(module):
    worlds = module("_worlds").worlds()
    there = {(world.cut, world.encoder) for world in worlds}
    pairs = [world for world in worlds if len(world.encoders) == 2]
    assert pairs
    assert all((world.cut, one) in there for world in pairs for one in world.encoders)


@pytest.mark.parametrize("profile", ["exp", "pareto"])
def test_profiles_fall_from_one_to_the_ratio(module, profile):
    shares = module("_worlds").shares
    for n_classes, ratio in ((4, 10), (20, 100)):
        falling = shares(n_classes, profile, ratio)
        assert falling[0] == 1 and falling[-1] == pytest.approx(1 / ratio)
        assert (np.diff(falling) < 0).all()
    assert (shares(5, "even", 1) == 1).all()
    assert shares(20, "pareto", 50).sum() < shares(20, "exp", 50).sum()
    with pytest.raises(ValueError, match="profile='zipf' must be"):
        shares(4, "zipf", 10)


def test_cuts_have_the_sizes_they_say(module):
    cuts = module("_worlds")
    y = np.repeat(np.arange(20), 500)
    for name, n_classes in (("stackoverflow-8-exp10@minilm", 8), ("banking77-20-even@minilm", 20)):
        rows = cuts.cut_rows(y, cuts.find(name))
        sizes = np.sort(np.unique(y[rows], return_counts=True)[1])
        ratio = cuts.find(name).ratio
        assert len(sizes) == n_classes and len(rows) <= cuts.CAP + n_classes
        assert sizes[-1] / sizes[0] == pytest.approx(ratio, rel=0.1)
        assert (np.diff(rows) > 0).all()
        np.testing.assert_array_equal(rows, cuts.cut_rows(y, cuts.find(name)))
    natural = cuts.cut_rows(y, cuts.find("stackoverflow-all-natural@minilm"))
    full = cuts.cut_rows(y, cuts.find("stackoverflow-all-natural-full@minilm"))
    assert len(natural) == 3000 and len(full) == 10_000
    # One draw: rows of an encoder are those of another, however many are kept.
    assert set(natural) <= set(full)


def test_skewed_sets_keep_their_order(module):
    """The largest classes of a skewed set become the head, or a cut of it would have no rows."""
    cuts = module("_worlds")
    sizes = np.arange(40, 0, -1) ** 2
    y = np.repeat(np.arange(40), sizes)
    rows = cuts.cut_rows(y, cuts.find("googlenews_t-20-exp50@minilm"))
    kept = np.bincount(y[rows], minlength=40)
    assert (np.diff(kept[kept > 0]) <= 0).all() and (kept > 0).sum() == 20
    with pytest.raises(ValueError, match="3 classes of googlenews_t have .* rows, not 20"):
        cuts.cut_rows(np.repeat(np.arange(3), 50), cuts.find("googlenews_t-20-natural@minilm"))


def test_worlds_load_from_the_cache(module, digits):
    cuts = module("_worlds")
    for world in digits:
        X, y, texts = cuts.load(world)
        assert X.shape == (len(y), 64) and X.dtype == np.float32 and texts is None
        assert set(y) == set(range(y.max() + 1))
    with pytest.raises(FileNotFoundError, match="worlds.py embed --sets bbc"):
        cuts.load(cuts.find("bbc-all-natural@minilm"))


def test_mail_is_read_as_a_person_would(module):
    text = module("_world_embed").mail_text(
        "From: a@example.org\nSubject: Rates\nContent-Type: text/html\n"
        "Content-Transfer-Encoding: quoted-printable\n\n"
        "<html><style>p {color: red}</style><!-- a --><p>Save =\nnow &amp; here</p>\n"
    )
    assert text == "Rates. Save now & here"


def test_figures_tell_sizes_and_purity(module):
    methods = module("_world_methods")
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [60, 30, 10])
    X = (np.eye(3)[y] + rng.normal(0, 0.05, (100, 3))).astype(np.float32)
    for peer in ("kmeans", "average", "ward"):
        row = methods.Runner().row(peer, X, y, 0)
        assert row["acc"] == 1 and row["tv"] == 0 and row["cpu_seconds"] >= 0
    assert methods.purity(X, y) > 0.95
    assert methods.variation([60, 30, 10], [0.1, 0.5, 0.4]) == pytest.approx(0.1)
    assert methods.variation([50, 50], [100]) == pytest.approx(0.5)
    found = methods.Found(np.where(y == 2, -1, y))
    assert methods.figures(y, found)["noise"] == pytest.approx(0.1)


def test_a_row_of_zeros_has_a_place_in_every_tree(module):
    methods = module("_world_methods")
    y = np.repeat([0, 1], 20)
    X = np.array([[1, 0.3], [0.3, 1]], dtype=np.float32)[y]
    X[3], y[3] = 0, 2
    for peer in ("average", "ward"):
        assert methods.Runner().row(peer, X, y, 0)["acc"] == 1


def test_results_go_on_and_the_confirming_half_is_kept_apart(
    module, digits, monkeypatch, tmp_path, capsys
):
    script = module("worlds")
    monkeypatch.setattr(script, "RESULTS", tmp_path)
    out = tmp_path / "peers.jsonl"
    command = ["worlds.py", "run", "--head", "kmeans", "--k-estimate", "--worlds", "digits-4"]
    files = [out, tmp_path / "peers-confirm.jsonl"]
    for _ in range(2):  # the second time everything is there
        monkeypatch.setattr(sys, "argv", [*command, "--out", str(out)])
        script.main()
    written = [row for path in files for row in script.read(path)]
    assert [row["world"] for row in written] == ["digits-4-exp10@pixels"] * 2
    counted, head = written
    assert head["method"] == "kmeans head" and head["k"] == 4 and head["purity"] > 0.9
    assert head["acc"] > 0.5 and 0 <= head["ece"] < 0.5 and counted["k_estimate"] >= 2
    assert all(row["half"] == "confirm" for row in script.read(files[1]))
    monkeypatch.setattr(sys, "argv", ["worlds.py", "table", str(out), "--half", "confirm"])
    with pytest.raises(SystemExit, match="no results|say --why"):
        script.main()


def test_a_look_is_counted_and_names_no_world(module, monkeypatch, tmp_path, capsys):
    script = module("worlds")
    monkeypatch.setattr(script, "RESULTS", tmp_path)
    about = {"set": "s", "n": 100, "k": 4, "seed": 0, "kind": "long tail"}
    values = {"macro_acc": 0.5, "tv": 0.1, "cpu_seconds": 1.0}
    rows = [
        {"world": f"{cut}@{code}", "cut": cut, "encoder": code, "purity": 0.1 * i + 0.5}
        | about
        | values
        | {"method": method, "acc": acc, "half": "confirm"}
        | ({"ece": 0.05, "auroc": 0.8} if method == "auto" else {})
        for i, cut in enumerate(("one", "two", "three"))
        for code in ("a", "b", "a+b")
        for method, acc in (("kmeans", 0.5), ("ward", 0.6), ("auto", 0.7 - 0.2 * (code == "a+b")))
    ]
    rows.append({"world": "one@a", "method": "evoc", "seed": 0, "error": "ValueError: no"})
    path = tmp_path / "auto-confirm.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    asked = ["worlds.py", "table", str(tmp_path / "auto.jsonl"), "--half", "confirm"]
    monkeypatch.setattr(sys, "argv", asked)
    with pytest.raises(SystemExit, match="say --why"):
        script.main()
    for why in ("sizes stay in the vote", "the student"):
        monkeypatch.setattr(sys, "argv", [*asked, "--why", why])
        script.main()
    looks = (tmp_path / "looks.md").read_text(encoding="utf-8")
    assert "- 1. auto.jsonl: sizes stay in the vote" in looks and "- 2. auto.jsonl: the" in looks
    printed = capsys.readouterr().out
    assert "one@a" not in printed and "evoc failed: ValueError: no" in printed
    assert "| auto | 6 | 70.0 | +20.0 | +20.0 | +0.0 | +10.0 | 0.10 |  | 5.0 | 5.0 | 80.0 |" in (
        printed
    )
    assert "| auto | 3 | -20.0 | -20.0 | 100.0 |" in printed
