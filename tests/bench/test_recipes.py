"""Every recipe is valid, names what it is held against, and runs on tiny local data."""

import io
import json

import numpy as np
import pandas as pd
import pytest
import yaml
from helpers_text import WordEncoder, topic_texts
from PIL import Image

from fmcluster.bench import recipes
from fmcluster.cli.main import main
from fmcluster.utils.errors import DataError

NAMES = recipes.list_recipes()
PUBLISHED = (
    "cifar10 cifar20 stl10 imagenet10 imagenet_dogs tiny_imagenet cifar100_lt agnews "
    "searchsnippets stackoverflow biomedical tweet googlenews_ts googlenews_t googlenews_s"
).split()
# Enough to run every line of a head, not enough to learn anything.
SHORT = {
    "epochs": 1, "min_steps": 2, "self_label_epochs": 1, "pretrain_epochs": 1, "semi_epochs": 1,
    "warmup_epochs": 1, "n_starts": 1, "hidden": 16,
}  # fmt: skip


class GreyEncoder:
    """Mean colours of the quarters of an image."""

    modality = "image"
    fingerprint = "grey-1"

    def encode(self, rows):
        pixels = np.stack([np.asarray(row.resize((4, 4)), np.float32) for row in rows])
        return pixels.reshape(len(rows), -1)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "t.parquet"
    frame = pd.DataFrame({"text": topic_texts(120), "label": np.arange(120) % 3})
    frame.to_parquet(path)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    draw = np.random.default_rng(0)
    rows = []
    for i in range(120):
        pixels = draw.integers(0, 60, (8, 8, 3)) + 60 * np.eye(3, dtype=int)[i % 3] * 3
        buffer = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
        rows.append({"bytes": buffer.getvalue(), "path": None})
    path = tmp_path_factory.mktemp("images") / "i.parquet"
    pd.DataFrame({"image": rows, "label": np.arange(120) % 3}).to_parquet(path)
    return path


def quick(recipe):
    """The recipe with the shortest schedule its head knows."""
    import dataclasses

    from fmcluster.heads import make_head

    known = make_head(recipe.head).get_params(deep=False)
    short = {key: value for key, value in SHORT.items() if key in known}
    if isinstance(known.get("hidden"), tuple):
        short["hidden"] = (16, 16)
    return dataclasses.replace(recipe, params={**recipe.params, **short})


def test_the_published_experiments_and_every_head_have_one():
    from fmcluster.heads import list_heads

    assert set(PUBLISHED) <= set(NAMES)
    assert {f"heads/{name}" for name in list_heads()} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_names_data_encoder_and_number(name):
    recipe = recipes.load_recipe(name)
    assert recipe.title
    assert recipe.data.hub or recipe.data.source
    assert recipe.data.column
    assert recipe.data.label
    assert recipe.encoder
    assert recipe.published["paper"]
    numbers = [recipe.published[key] for key in recipes.METRICS if key in recipe.published]
    assert all(0 < number <= 100 for number in numbers)
    assert numbers or recipe.published["measured_on"]
    if not name.startswith("heads/"):
        assert numbers


@pytest.mark.filterwarnings("ignore::fmcluster.utils.errors.CollapseWarning")
@pytest.mark.parametrize("name", NAMES)
def test_each_runs_on_tiny_local_data(name, texts, images, tmp_path):
    recipe = quick(recipes.load_recipe(name))
    is_text = recipe.data.column == "text"
    encoder = None if recipe.encoder == "pixels" else WordEncoder() if is_text else GreyEncoder()
    result, y, summary = recipes.run_recipe(
        recipe, data=texts if is_text else images, limit=100, encoder=encoder, cache_dir=tmp_path
    )
    assert len(y) == result.n_rows <= 100
    assert result.n_clusters <= 20
    assert result.is_calibrated or result.n_clusters == 1
    assert 0 <= summary["measured"]["acc"] <= 100
    assert not summary["comparable"]
    assert summary["published"]["paper"] == recipe.published["paper"]


def test_the_readme_has_a_line_for_each():
    text = (recipes.recipe_folders()[0] / "README.md").read_text()
    for name in NAMES:
        assert f"({name}.yaml)" in text, name


def test_the_command_runs_one_and_saves_it(texts, tmp_path, capsys):
    argv = ["run", "heads/kmeans", "--data", texts, "--encoder", "tfidf", "--limit", "90"]
    argv += ["--out", tmp_path / "run", "--cache-dir", tmp_path / "c", "--json"]
    assert main([str(a) for a in argv]) == 0
    payload = json.loads(capsys.readouterr().out)
    assert payload["rows"] == 90
    assert payload["encoder"] == ["tfidf"]
    assert payload["measured"]["acc"] > 30
    assert (tmp_path / "run" / "report.html").is_file()
    about = json.loads((tmp_path / "run" / "result.json").read_text())
    assert about["metrics"]["acc"] == pytest.approx(payload["measured"]["acc"] / 100, abs=1e-4)


def test_the_command_lists_and_renders(texts, tmp_path, capsys):
    assert main(["run"]) == 0
    assert "cifar100_lt" in capsys.readouterr().out
    argv = ["run", "recipes/heads/kmeans.yaml", "--data", str(texts), "--encoder", "tfidf"]
    assert main([*argv, "--cache-dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "published  no number" in out
    assert "not comparable" in out


def test_arrays_and_folders_of_images_serve_too(tmp_path, blobs, images):
    np.save(tmp_path / "X.npy", blobs(60, 4)[0])
    recipe = recipes.load_recipe("heads/kmeans")
    result, y, summary = recipes.run_recipe(recipe, data=tmp_path / "X.npy")
    assert (result.n_clusters, y, summary["measured"]) == (4, None, {})
    for i in range(40):
        folder = tmp_path / "pics" / f"class{i % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (200 * (i % 2), i, 90)).save(folder / f"{i}.png")
    recipe = recipes.load_recipe("cifar10_temi")
    result, y, _ = recipes.run_recipe(
        quick(recipe), data=tmp_path / "pics", encoder=GreyEncoder(), cache_dir=tmp_path / "c"
    )
    assert sorted(set(y)) == ["class0", "class1"]
    assert result.n_rows == 40


def test_subsets_are_those_asked_for():
    y = np.repeat(np.arange(10), 50)
    about = recipes.RecipeData(classes=[2, 5])
    kept = recipes._subset(about, y, 500, None, 0)
    assert set(y[kept]) == {2, 5}
    assert len(kept) == 100
    about = recipes.RecipeData(imbalance_ratio=10)
    sizes = np.bincount(y[recipes._subset(about, y, 500, None, 0)])
    assert sizes.max() / sizes.min() == pytest.approx(10, rel=0.1)
    first = recipes._subset(recipes.RecipeData(), y, 500, 60, 0)
    np.testing.assert_array_equal(first, recipes._subset(recipes.RecipeData(), y, 500, 60, 0))
    assert len(first) == 60
    assert len(np.unique(y[first])) == 10


GOOD = yaml.safe_load((recipes.find_recipe("heads/scan")).read_text())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head": "nothing"}, "not known"),
        ({"params": {"epoch": 3}}, "no argument 'epoch'"),
        ({"preprocess": "pca"}, "pca=64"),
        ({"n_clusters": 0}, "whole number"),
        ({"published": {}}, "must name a paper"),
        ({"colour": 1}, "unknown field 'colour'"),
        ({"data": {"hub": "a/b", "rows": 3}}, "rows"),
        ({"title": None, "encoder": ...}, "'encoder' is missing"),
    ],
)
def test_mistakes_are_named_before_anything_runs(change, message, tmp_path):
    value = {k: v for k, v in {**GOOD, **change}.items() if v is not ...}
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(value))
    with pytest.raises(ValueError, match=message) as caught:
        recipes.load_recipe(path)
    assert str(path) in str(caught.value)


def test_yaml_that_would_run_code_is_refused(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(ValueError, match="recipe"):
        recipes.load_recipe(path)


def test_aliases_that_grow_to_billions_are_refused_at_once(tmp_path):
    path = tmp_path / "r.yaml"
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    for i in range(1, 20):
        lines.append(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]")
    path.write_text("\n".join([*lines, "n_clusters: *a19"]))
    with pytest.raises(ValueError, match="aliases"):
        recipes.load_recipe(path)


def test_what_is_not_there_is_said(tmp_path, capsys, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no such recipe"):
        recipes.load_recipe("../../no/such/recipe")
    assert main(["run", "cifar11"]) == 2
    assert "no such recipe" in capsys.readouterr().err
    with pytest.raises(DataError, match="no copy of this data on the Hub"):
        recipes.run_recipe(recipes.load_recipe("tweet"))

    def unreachable(*args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr("datasets.load_dataset", unreachable)
    with pytest.raises(DataError, match="cannot be had from the Hub"):
        recipes.run_recipe(recipes.load_recipe("cifar10"))


def test_the_hub_is_read_as_the_recipe_says(monkeypatch, tmp_path):
    from datasets import Dataset

    asked = []

    def load_dataset(hub, *, split):
        asked.append((hub, split))
        return Dataset.from_dict({"text": topic_texts(60), "label": [i % 3 for i in range(60)]})

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    recipe = recipes.load_recipe("heads/kmeans")
    _, y, summary = recipes.run_recipe(recipe, limit=45, encoder=WordEncoder(), cache_dir=tmp_path)
    assert asked == [("fancyzhx/ag_news", "test")]
    assert len(y) == summary["rows"] == 45
