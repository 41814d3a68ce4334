"""``fmcluster encoders`` and ``--encoder-option``."""

from __future__ import annotations

import json

import pytest

from fmcluster.cli.main import build_parser, main
from fmcluster.cli.options import encoder_of
from fmcluster.embedding.encoders import catalog


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def listed(capsys, *more):
    assert main(["encoders", "--json", *more]) == 0
    return {each["name"]: each for each in json.loads(capsys.readouterr().out)["encoders"]}


def snapshot(cache, repo, config, **files):
    folder = cache / f"models--{repo.replace('/', '--')}" / "snapshots" / "0123"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(config)
    for name, size in files.items():
        (folder / f"{name}.safetensors").write_bytes(b"0" * size)


def test_every_encoder_says_what_it_needs(capsys, empty_cache):
    found = listed(capsys)
    assert found["tfidf"]["at_hand"] is True
    assert found["facebook/dinov2-base"] == {
        "name": "facebook/dinov2-base", "modality": "image", "dim": 768, "license": "Apache-2.0",
        "megabytes": 346, "about": "'auto' for images", "at_hand": False,
    }  # fmt: skip
    assert {each["modality"] for each in found.values()} == {"image", "text"}
    texts = listed(capsys, "--modality", "text")
    assert "packaged:wordllama" in texts
    assert "packaged:efficientnet-lite2" not in texts
    assert all(each["at_hand"] for each in listed(capsys, "--at-hand").values())


def test_packages_that_are_missing_are_not_at_hand(capsys, empty_cache, monkeypatch):
    import sys

    for modules in catalog._MODULES.values():
        for module in modules:
            monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(catalog.importlib.util, "find_spec", lambda name: None)
    found = listed(capsys)
    for name in catalog._MODULES:
        assert found[name]["at_hand"] is False
        assert "fmcluster[packaged]" in found[name]["about"]


@pytest.mark.parametrize("name", [each.name for each in catalog.PACKAGED])
def test_packaged_encoders_are_as_listed(name):
    from fmcluster.embedding.encoders import resolve

    known = next(each for each in catalog.available() if each.name == name)
    if not known.at_hand:
        pytest.skip(f"{name} is not installed")
    encoder = resolve(name, precision="fp32")
    assert (encoder.dim, encoder.modality) == (known.dim, known.modality)


def test_what_the_cache_holds_is_at_hand(capsys, empty_cache):
    dino = '{"model_type": "dinov2", "hidden_size": 768}'
    snapshot(empty_cache, "facebook/dinov2-base", dino, model=10)
    snapshot(empty_cache, "someone/texts", '{"model_type": "bert", "hidden_size": 12}', w=2**21)
    snapshot(empty_cache, "someone/half", "{}")
    snapshot(empty_cache, "someone/broken", "{", w=3)
    found = listed(capsys)
    assert found["facebook/dinov2-base"]["at_hand"] is True
    mine = found["someone/texts"]
    assert (mine["modality"], mine["dim"], mine["megabytes"]) == ("text", 12, 2)
    assert "someone/half" not in found
    assert "not readable" in found["someone/broken"]["about"]


def test_one_a_line(capsys, empty_cache):
    assert main(["encoders"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "takes", "dim", "MB", "license", "at", "hand"]
    assert any(line.startswith("tfidf") and " yes " in line for line in lines)


def test_options_go_to_the_encoder_before_them():
    parser = build_parser("embed")
    args = parser.parse_args(
        ["embed", "d.csv", "--encoder", "a/b", "--encoder-option", "prompt=query: ",
         "--encoder-option", "truncate_dim=64", "--encoder", "tfidf"]
    )  # fmt: skip
    assert encoder_of(args) == [
        {"encoder": "a/b", "prompt": "query: ", "truncate_dim": 64},
        "tfidf",
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--encoder-option", "long=cut"], "follows the --encoder"),
        (["--encoder", "a/b", "--encoder-option", "long"], "'long' is not NAME=VALUE"),
    ],
)
def test_options_that_are_none(given, said, capsys):
    assert main(["embed", "d.csv", *given]) == 2
    assert said in capsys.readouterr().err


def test_an_option_reaches_the_store(tmp_path, capsys):
    pytest.importorskip("wordllama")
    (tmp_path / "d.txt").write_text("a cat\na dog\nsome code\n")
    words = ["embed", str(tmp_path / "d.txt"), "--encoder", "packaged:wordllama"]
    out = ["--out", str(tmp_path / "s"), "--json"]
    assert main([*words, "--encoder-option", "truncate_dim=16", *out]) == 0
    assert json.loads(capsys.readouterr().out)["spaces"] == {"packaged:wordllama": 16}
    assert main([*words, "--encoder-option", "truncate=16", *out]) == 2
    assert "no option 'truncate'" in capsys.readouterr().err
