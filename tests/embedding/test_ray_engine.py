"""Ray as the engine: the store is the ordinary engine's, byte for byte, whatever happens."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from fmcluster.cli.main import main
from fmcluster.embedding.embed import embed_to_store
from fmcluster.embedding.ray_engine import Share, _packed, raise_first, share_out
from fmcluster.utils.errors import DataError, MissingExtraError

TEXTS = [f"text number {i}" for i in range(120)]


class Hashed:
    """An encoder whose vectors depend on the text alone; may kill its process, or fail."""

    modality, dim = "text", 8

    def __init__(self, log=None, kill_at=None, deaths=1, nan_at=None, name="hashed"):
        self.log, self.kill_at, self.deaths, self.nan_at = log, kill_at, deaths, nan_at
        self.fingerprint = self.spec = {"encoder": name}

    def encode(self, rows):
        if self.log is not None:
            with open(self.log, "a", encoding="utf-8") as handle:
                handle.write(f"{os.getpid()} {rows[0]}\n")
            if self.kill_at in rows and self.starts().count(rows[0]) <= self.deaths:
                self.log.with_name(".half.tmp").touch()
                os.kill(os.getpid(), signal.SIGKILL)
        out = np.empty((len(rows), 8), np.float32)
        for i, row in enumerate(rows):
            seed = int.from_bytes(hashlib.sha256(row.encode()).digest()[:8], "little")
            out[i] = np.random.default_rng(seed).standard_normal(8)
            if row == self.nan_at:
                out[i] = np.nan
        return out

    def starts(self):
        """Return the first row of every call, in order."""
        return [line.split(" ", 1)[1] for line in self.log.read_text().splitlines()]


def digests(folder: Path) -> dict[str, str]:
    """Return the digest of every file of a store but its lock and the test's own."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.name not in (".lock", "log")
    }


@pytest.fixture(scope="module")
def two_workers():
    """A local Ray cluster of two workers."""
    ray = pytest.importorskip("ray")
    here = str(Path(__file__).parent)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join([here, *sys.path])}},
    )
    yield ray
    ray.shutdown()


@pytest.mark.dist
@pytest.mark.timeout(120)
def test_the_command_starts_a_cluster_and_leaves_only_the_store(tmp_path, capfd, monkeypatch):
    ray = pytest.importorskip("ray")
    (tmp_path / "data.txt").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    asked = ["embed", "data.txt", "--encoder", "tfidf"]
    assert main([*asked, "--out", "local"]) == 0
    told = capfd.readouterr().out.splitlines()[0]
    assert main([*asked, "--out", "ray", "--engine", "ray", "--workers", "2"]) == 0
    assert not ray.is_initialized()
    said = capfd.readouterr()
    assert (said.out.splitlines()[0], said.err) == (told, "")
    assert digests(tmp_path / "ray") == digests(tmp_path / "local")


@pytest.mark.dist
@pytest.mark.slow
@pytest.mark.timeout(120)
class TestOnACluster:
    def test_a_killed_actor_costs_only_its_shard(self, two_workers, tmp_path):
        texts = [*TEXTS[:20], None, *TEXTS[20:]]
        common = {"shard_rows": 16, "on_error": "skip", "dtype": "float32"}
        other = Hashed(name="other")
        embed_to_store(texts, [Hashed(), other], folder=tmp_path / "local", **common)
        folder = tmp_path / "ray"
        folder.mkdir()
        # A hidden file is allowed in a new folder.
        killer = Hashed(folder / ".log", kill_at=TEXTS[50])
        store = embed_to_store(texts, [killer, other], folder=folder, engine="ray", **common)
        assert len(store) == 120 and store.skipped_ids == [20]
        firsts = [row for row in texts[::16] if row is not None]
        assert sorted(killer.starts()) == sorted([*firsts, texts[48]])
        killer.log.unlink()
        assert digests(folder) == digests(tmp_path / "local")  # nor is a temporary file left
        assert len(digests(folder)) > 8 * 5

    def test_an_error_is_raised_as_it_is_and_a_second_call_goes_on(self, two_workers, tmp_path):
        folder = tmp_path / "store"
        given = {"folder": folder, "shard_rows": 16, "engine": "ray", "workers": 1}
        with pytest.raises(ValueError, match="^encoder 'hashed'.*NaN.* 50;") as caught:
            embed_to_store(TEXTS, Hashed(nan_at=TEXTS[50]), **given)
        assert "\n" not in str(caught.value)
        kept = {path: path.stat().st_mtime_ns for path in folder.glob("shard-*.json")}
        assert 3 <= len(kept) < 8
        encoder = Hashed(tmp_path / "log")
        embed_to_store(TEXTS, encoder, **given)
        made = {int(path.stem.split("-")[1]) for path in kept}
        assert encoder.starts() == [TEXTS[16 * i] for i in range(8) if i not in made]
        assert {path: path.stat().st_mtime_ns for path in kept} == kept
        embed_to_store(TEXTS, Hashed(), folder=tmp_path / "ordinary", shard_rows=16)
        assert digests(folder) == digests(tmp_path / "ordinary")

    def test_a_shard_that_ends_every_actor_ends_the_run(self, two_workers, tmp_path, monkeypatch):
        monkeypatch.setattr("fmcluster.embedding.ray_engine.MOST_DEATHS", 2)
        killer = Hashed(tmp_path / "log", kill_at=TEXTS[50], deaths=9)
        given = {"folder": tmp_path / "store", "shard_rows": 64, "workers": 1}
        with pytest.raises(RuntimeError, match="given to 2 actors.*run the same") as caught:
            embed_to_store(TEXTS, killer, engine="ray", **given)
        assert "\n" not in str(caught.value)
        assert killer.starts().count(TEXTS[0]) == 2


class TestAtTheDoor:
    def test_an_unknown_engine_is_quoted(self, tmp_path):
        with pytest.raises(ValueError, match="engine.*'dask'"):
            embed_to_store(TEXTS, Hashed(), folder=tmp_path, engine="dask")

    def test_an_unknown_engine_on_the_command_line(self, tmp_path, capsys):
        assert main(["embed", str(tmp_path), "--engine", "dask"]) == 2
        assert "'dask'" in capsys.readouterr().err.splitlines()[0]

    def test_no_workers_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="workers"):
            embed_to_store(TEXTS, Hashed(), folder=tmp_path, engine="ray", workers=0)

    def test_without_ray_the_command_that_installs_it_is_named(self, tmp_path, monkeypatch):
        for module in ("ray", "ray.data"):
            monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(MissingExtraError, match=r"fmcluster\[ray\]") as caught:
            embed_to_store(TEXTS, Hashed(), folder=tmp_path / "store", engine="ray")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "store").exists()

    def test_a_whole_store_needs_no_ray(self, tmp_path, monkeypatch):
        embed_to_store(TEXTS, Hashed(), folder=tmp_path)
        monkeypatch.setitem(sys.modules, "ray", None)
        assert len(embed_to_store(TEXTS, Hashed(), folder=tmp_path, engine="ray")) == 120

    def test_a_stream_cannot_be_handed_out(self, tmp_path):
        from datasets import Dataset

        stream = Dataset.from_dict({"text": TEXTS}).to_iterable_dataset()
        with pytest.raises(DataError, match="stream"):
            embed_to_store(stream, Hashed(), folder=tmp_path, engine="ray")

    def test_launched_processes_are_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr("fmcluster.utils.distributed.is_launched", lambda: True)
        monkeypatch.setattr("fmcluster.utils.distributed.is_main", lambda: True)
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(ValueError, match="each of 2 launched processes"):
            embed_to_store(TEXTS, Hashed(), folder=tmp_path, engine="ray")

    def test_importing_the_package_does_not_import_ray(self):
        code = "import sys, fmcluster, fmcluster.embedding; sys.exit('ray' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def node(cores, gpus=0, alive=True):
    """A machine, as Ray describes it."""
    resources = {"CPU": float(cores), "memory": 1e9, **({"GPU": float(gpus)} if gpus else {})}
    return {"Alive": alive, "Resources": resources if alive else {}}


class TestShare:
    """No machine is asked for more cores or GPUs than it has."""

    @pytest.mark.parametrize(
        ("nodes", "n_shards", "workers", "expected"),
        [
            ([node(8)], 100, None, Share(8, 1)),
            ([node(8)], 3, None, Share(3, 2)),  # few shards: the cores are divided
            ([node(8)], 100, 2, Share(2, 4)),
            ([node(8)], 100, 64, Share(8, 1)),
            ([node(8), node(8), node(8)], 100, 2, Share(2, 8)),  # not 12: no machine has them
            ([node(8), node(8), node(8)], 100, 5, Share(5, 4)),
            ([node(2), node(6)], 100, 3, Share(3, 3 - 1)),
            ([node(4), node(64, alive=False)], 100, None, Share(4, 1)),
            ([node(16, 2), node(4)], 100, None, Share(2, 4, 1.0)),
            ([node(2, 2)], 100, None, Share(2, 1, 1.0)),
            ([node(16, 2)], 100, 6, Share(6, 2, 1 / 3)),
            ([node(16, 4)], 1, None, Share(1, 4, 1.0)),
            ([node(0)], 5, None, Share(1, 1)),  # a cluster that grows when asked
        ],
    )
    def test_cores_and_gpus(self, nodes, n_shards, workers, expected):
        assert share_out(nodes, [Hashed()], n_shards, workers=workers) == expected

    def test_encoders_that_cannot_use_a_gpu_leave_it_alone(self):
        from fmcluster.embedding.encoders import resolve

        asked = Hashed()
        asked.asked_device = "cpu"
        tfidf = resolve("tfidf", modality="text")
        assert share_out([node(4, 1)], [tfidf, asked], 9) == Share(4, 1)
        assert share_out([node(4, 1)], [tfidf, Hashed()], 9) == Share(1, 4, 1.0)


def test_an_exception_travels_whole_or_as_what_it_says():
    pytest.importorskip("ray")
    with pytest.raises(OSError, match="full") as caught:
        raise_first([b"", _packed(OSError(28, "the disk is full"))])
    assert caught.value.errno == 28

    bound = KeyError("odd")
    bound.held = threading.Lock()
    with pytest.raises(RuntimeError, match="KeyError: 'odd'"):
        raise_first([_packed(bound)])
    raise_first([b"", b""])
