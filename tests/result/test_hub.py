"""A pipeline travels as tensors, JSON and a card; whatever else a folder holds is refused."""

import json
import pickletools
import re
import time

import numpy as np
import pytest
from helpers_text import TOPICS, WordEncoder, topic_texts
from huggingface_hub import ModelCard, constants

import fmcluster as fmc
from fmcluster.result.hub import from_pretrained, push_to_hub, save_pretrained
from fmcluster.utils.errors import CorruptShardError, EncoderUnavailableError

REPO = "me/topics"
ALLOWED = {".json", ".safetensors", ".npy", ".md", ".parquet"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A result of texts in two spaces, one of them fitted on the data, with labels given."""
    folder = tmp_path_factory.mktemp("made") / "store"
    store = fmc.embed(topic_texts(), encoder="tfidf", folder=folder)
    result = fmc.cluster(store, n_clusters=3, head="kmeans", preprocess="center,l2")
    ids = np.arange(0, 90, 3)
    return result.calibrate(ids + ids % 2, [TOPICS[i % 3] for i in ids + ids % 2])


@pytest.fixture
def saved(made, tmp_path):
    metrics = made.evaluate(np.arange(90) % 3)
    return save_pretrained(made, tmp_path / "topics", metrics=metrics)


def edit(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_a_pipeline_comes_back_the_same(made, saved):
    again = fmc.from_pretrained(saved)
    new = ["apple pie", "football score", "stock price"]
    np.testing.assert_array_equal(again.predict_proba(new), made.predict_proba(new))
    np.testing.assert_array_equal(again.predict(topic_texts()), made.labels)
    assert again.names == made.names
    assert again.n_clusters == 3
    assert again.metrics["acc"] == 1.0
    assert again.provenance["encoders"][0]["name"] == made.provenance["encoders"][0]["name"]


def test_a_loaded_pipeline_can_be_saved_again(saved, tmp_path):
    again = save_pretrained(from_pretrained(saved), tmp_path / "two")
    for name in ("pipeline.safetensors", "head/model.safetensors"):
        assert (again / name).read_bytes() == (saved / name).read_bytes()
    assert from_pretrained(again).metrics["acc"] == 1.0


def test_arrays_and_user_encoders_travel_too(blobs, tmp_path):
    X, _ = blobs(120, 3)
    result = fmc.cluster(X, n_clusters=3, head="scan", head_params={"epochs": 2})
    again = from_pretrained(save_pretrained(result, tmp_path / "a"))
    np.testing.assert_array_equal(again.predict_proba(X), result.predict_proba(X))
    store = fmc.embed(topic_texts(), encoder=WordEncoder(), folder=tmp_path / "s")
    result = fmc.cluster(store, n_clusters=3, head="kmeans")
    again = from_pretrained(save_pretrained(result, tmp_path / "b"))
    assert again.predict(["apple pie"], encoder=WordEncoder()).shape == (1,)
    with pytest.raises(ValueError, match="pass the object"):
        again.predict(["apple pie"])


def opcodes(path):
    """Whether a file, or anything after its first byte that looks so, unpickles."""
    try:
        return [op.name for op, *_ in pickletools.genops(path.read_bytes())]
    except Exception:
        return []


def test_no_saved_file_holds_a_pickle(made, saved, tmp_path):
    made.save(tmp_path / "run")
    files = [p for root in (saved, tmp_path / "run") for p in root.rglob("*") if p.is_file()]
    assert len(files) > 12
    for path in files:
        assert path.suffix in ALLOWED, path
        assert "STOP" not in opcodes(path), path
        content = path.read_bytes()
        assert not content.startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK"))
        if path.suffix == ".npy":
            assert b"'|O'" not in content[:128]


# -- the card ---------------------------------------------------------------------------------


def test_the_card_is_valid_and_says_what_the_result_says(made, saved):
    card = ModelCard.load(saved / "README.md")
    assert card.data.library_name == "fmcluster"
    assert card.data.license == "apache-2.0"
    assert {"clustering", "kmeans"} <= set(card.data.tags)
    metrics = made.evaluate(np.arange(90) % 3)
    found = {r.metric_type: r.metric_value for r in card.data.eval_results}
    assert found == {
        key: pytest.approx(metrics[key], abs=1e-4)
        for key in ("acc", "nmi", "ari", "macro_acc", "ece")
    }
    for name in made.names:
        assert f"| {name} |" in card.text


def test_the_snippet_of_the_card_runs(made, saved, monkeypatch):
    snippet = re.search(r"```python\n(.*?)```", (saved / "README.md").read_text(), re.S).group(1)
    monkeypatch.chdir(saved.parent)
    scope = {}
    exec(snippet, scope)
    assert scope["pipeline"].predict(["apple pie"]).tolist() == made.predict(["apple pie"]).tolist()


def test_hostile_names_stay_in_their_cell(made, tmp_path):
    import dataclasses

    odd = dataclasses.replace(made.pipeline, names=("a|b", "<script>x</script>", "c\n---\nd"))
    text = (save_pretrained(odd, tmp_path / "odd") / "README.md").read_text()
    assert "a\\|b" in text
    assert "<script>" not in text
    assert "\n---\nd" not in text
    assert ModelCard(text).data.library_name == "fmcluster"


# -- pushing and fetching ---------------------------------------------------------------------


class FakeApi:
    """Keeps what would be uploaded."""

    calls = []

    def __init__(self, token=None):
        self.token = token

    def create_repo(self, repo_id, **options):
        self.calls.append(("create", repo_id, options))

    def upload_folder(self, *, repo_id, folder_path, allow_patterns, **options):
        from pathlib import Path

        names = sorted(
            str(p.relative_to(folder_path)) for p in Path(folder_path).rglob("*") if p.is_file()
        )
        card = Path(folder_path, "README.md")
        self.calls.append(("upload", repo_id, names, card.read_text() if card.exists() else ""))

        class Commit:
            commit_url = f"https://hub/{repo_id}/commit/1"

        return Commit


@pytest.fixture
def fake_api(monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi", FakeApi)
    FakeApi.calls = []
    return FakeApi.calls


def test_push_uploads_the_pipeline_with_its_card(made, fake_api):
    assert made.push_to_hub(REPO, private=True).endswith("/me/topics/commit/1")
    (_, _, options), (_, repo, names, card) = fake_api
    assert options == {"private": True, "exist_ok": True}
    assert repo == REPO
    assert {"README.md", "config.json", "pipeline.json", "head/config.json"} <= set(names)
    assert f'from_pretrained("{REPO}")' in card
    assert not [name for name in names if name.endswith((".pkl", ".bin", ".pt"))]


def test_a_head_alone_can_be_pushed(made, fake_api):
    push_to_hub(made.head, "me/head")
    assert fake_api[-1][2] == ["config.json", "model.safetensors"]


def test_a_saved_run_is_pushed_after_loading(made, fake_api, tmp_path):
    made.save(tmp_path / "run")
    fmc.ClusterResult.load(tmp_path / "run").push_to_hub(REPO)
    assert "pipeline.safetensors" in fake_api[-1][2]


def hub_layout(folder, cache, revision="a" * 40):
    """Copy a folder into the layout of the Hub's cache."""
    import shutil

    root = cache / ("models--" + REPO.replace("/", "--"))
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(revision)
    shutil.copytree(folder, root / "snapshots" / revision)


@pytest.fixture
def offline(monkeypatch):
    """What HF_HUB_OFFLINE=1 sets when a process starts; any request is an error."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("socket.socket.connect", lambda *a: pytest.fail("asked the network"))


def test_offline_a_warm_cache_serves(made, saved, offline, tmp_path):
    hub_layout(saved, tmp_path / "hub")
    again = from_pretrained(REPO, cache_dir=tmp_path / "hub")
    np.testing.assert_array_equal(again.predict(["apple pie"]), made.predict(["apple pie"]))
    exact = from_pretrained(REPO, revision="a" * 40, cache_dir=tmp_path / "hub")
    assert exact.n_clusters == 3


@pytest.mark.usefixtures("offline")
def test_offline_a_cold_cache_fails_at_once_with_a_hint(tmp_path):
    started = time.perf_counter()
    with pytest.raises(EncoderUnavailableError, match="go online once.*or give a local folder"):
        from_pretrained(REPO, cache_dir=tmp_path / "cold")
    assert time.perf_counter() - started < 5


def test_what_is_no_repository_name_is_said_so():
    with pytest.raises(ValueError, match="neither a folder nor a Hub id"):
        from_pretrained("no such/folder/here")


# -- what is refused --------------------------------------------------------------------------


def test_a_folder_without_a_pipeline_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"{not json"),
        ("config.json", b"[]"),
        ("config.json", b'{"format": "other/9"}'),
        ("config.json", b'{"format": "fmcluster.pipeline/1"}'),
        ("pipeline.json", b"[]"),
        ("pipeline.json", b"{}"),
        ("pipeline.json", b'{"preprocess": 7}'),
        ("pipeline.safetensors", b"\xff" * 16),
        ("pipeline.safetensors", b""),
        ("head/model.safetensors", (2**62).to_bytes(8, "little") + b"{}"),
        ("head/model.safetensors", b"\x80\x04K\x01."),
        ("head/config.json", b"{}"),
        ("head/config.json", b"null"),
    ],
)
def test_damaged_files_are_refused(saved, name, content):
    (saved / name).write_bytes(content)
    with pytest.raises(CorruptShardError):
        from_pretrained(saved)


def huge_header():
    """A header that states more than any machine holds."""
    header = {"x": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 2**62]}}
    body = json.dumps(header).encode()
    return len(body).to_bytes(8, "little") + body


def test_a_stated_size_is_never_believed(saved):
    (saved / "pipeline.safetensors").write_bytes(huge_header())
    with pytest.raises(CorruptShardError):
        from_pretrained(saved)
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 1048576), }\n"
    huge = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    from fmcluster.utils.files import read_array

    (saved / "x.npy").write_bytes(huge)
    with pytest.raises(CorruptShardError, match=r"x\.npy"):
        read_array(saved / "x.npy")


@pytest.mark.parametrize("number", ["../../etc", -1, "0/../../x", None])
def test_states_outside_the_folder_are_refused(saved, number):
    edit(saved / "pipeline.json", lambda c: c.update(encoder_states=[number]))
    with pytest.raises((CorruptShardError, ValueError)):
        from_pretrained(saved)


def test_state_names_that_leave_the_folder_are_refused(saved):
    from fmcluster.utils.files import stable_hash

    path = saved / "encoders" / "encoder0.json"

    def change(body):
        body.pop("digest")
        body["arrays"] = {"../../../etc/passwd": "0"}
        body["digest"] = stable_hash(body)

    edit(path, change)
    with pytest.raises(CorruptShardError, match="not plain"):
        from_pretrained(saved)


@pytest.mark.parametrize("name", ["../../evil", "os.system", "__import__"])
def test_a_head_that_is_not_ours_is_refused(saved, name):
    edit(saved / "head" / "config.json", lambda c: c.update(head=name))
    with pytest.raises(ValueError, match="is not known"):
        from_pretrained(saved)


def test_unknown_head_arguments_are_refused(saved):
    edit(saved / "head" / "config.json", lambda c: c["params"].update(hook="os.system"))
    with pytest.raises(CorruptShardError, match="hook"):
        from_pretrained(saved)


@pytest.mark.parametrize("flag", ["auto_map", "trust_remote_code"])
def test_a_folder_that_asks_for_code_is_refused(saved, flag):
    edit(saved / "config.json", lambda c: c["provenance"].update({flag: 1}))
    with pytest.raises(CorruptShardError, match="never run"):
        from_pretrained(saved)


def test_an_encoder_that_asks_for_code_is_not_built(saved):
    """Its spec may record that it once ran code; that is no leave to run it here."""
    spec = {"trust_remote_code": True}
    edit(saved / "config.json", lambda c: c["provenance"]["encoders"][0]["spec"].update(spec))
    with pytest.raises(ValueError, match="runs Python code of its own"):
        from_pretrained(saved).predict(["a text"])


def test_names_that_do_not_fit_are_refused(saved):
    edit(saved / "config.json", lambda c: c.update(names=["a"]))
    with pytest.raises(CorruptShardError, match="1 names for 3 clusters"):
        from_pretrained(saved)


def test_a_changed_weight_file_is_refused(saved):
    path = saved / "head" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(CorruptShardError, match="digest"):
        from_pretrained(saved)


def test_the_pipeline_of_a_result_has_no_rows(made):
    pipeline = made.pipeline
    assert not hasattr(pipeline, "labels")
    assert not hasattr(pipeline, "embeddings")


def test_what_a_person_said_of_single_rows_is_not_published(blobs, tmp_path):
    x, _ = blobs(n=60, k=3, d=8)
    ids = np.array([f"patient-{i}" for i in range(60)])
    result = fmc.cluster(fmc.EmbeddingStore.from_array(x, ids=ids), n_clusters=3)
    moved = result.move(["patient-7"], int(result.labels[0]))
    answered = moved.with_answers(labels={"patient-9": "ill"}).calibrate(["patient-11"], ["ill"])
    folder = save_pretrained(answered, tmp_path / "shared")
    for path in folder.rglob("*"):
        assert path.is_dir() or b"patient-" not in path.read_bytes(), path
