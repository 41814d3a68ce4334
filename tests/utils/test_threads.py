"""How many threads to use, and how libraries' threads wait."""

import os
import subprocess
import sys
import threading

import pytest
import torch

from fmcluster.utils import threads
from fmcluster.utils.threads import calm_libraries, n_threads, one_torch_thread


def test_the_variable_overrides_what_the_machine_has(monkeypatch):
    monkeypatch.setenv("FMCLUSTER_THREADS", "3")
    assert n_threads() == 3
    monkeypatch.delenv("FMCLUSTER_THREADS")
    assert 1 <= n_threads() <= os.cpu_count()


@pytest.mark.parametrize(
    ("quota", "cores"), [(None, 8), (0.5, 1), (1.2, 2), (2.0, 2), (7.01, 8), (100.0, 8)]
)
def test_the_quota_of_the_container_counts(monkeypatch, quota, cores):
    monkeypatch.delenv("FMCLUSTER_THREADS", raising=False)
    monkeypatch.setattr(threads, "_cores_seen", lambda: 8)
    monkeypatch.setattr(threads, "_quota", lambda: quota)
    assert n_threads() == cores


def files(root, contents):
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ({}, None),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2.5),
        (  # a group inside another: the tighter of both
            {
                "proc/self/cgroup": "0::/jobs/mine\n",
                "sys/fs/cgroup/jobs/cpu.max": "400000 100000\n",
                "sys/fs/cgroup/jobs/mine/cpu.max": "150000 100000\n",
            },
            1.5,
        ),
        (  # the host's path, seen from inside
            {"proc/self/cgroup": "0::/../x\n", "sys/fs/cgroup/cpu.max": "100000 50000"},
            2.0,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/docker/1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            3.0,
        ),
        (
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
        ({"sys/fs/cgroup/cpu.max": "nonsense"}, None),
    ],
)
def test_quotas_are_read_as_the_kernel_writes_them(tmp_path, contents, expected):
    files(tmp_path, contents)
    assert threads._quota(str(tmp_path)) == expected


@pytest.mark.parametrize("asked", ["0", "-1", "many", "1.5"])
def test_nonsense_is_one_clear_line(monkeypatch, asked):
    monkeypatch.setenv("FMCLUSTER_THREADS", asked)
    with pytest.raises(ValueError, match="FMCLUSTER_THREADS='.*': give a whole number"):
        n_threads()


def test_what_the_user_has_set_is_kept(monkeypatch):
    monkeypatch.setenv("FMCLUSTER_THREADS", "1")
    monkeypatch.setattr(threads, "_cores_seen", lambda: 4)
    given = {"OMP_WAIT_POLICY": "ACTIVE", "OMP_NUM_THREADS": "3"}
    calm_libraries(given)
    assert given == {"OMP_WAIT_POLICY": "ACTIVE", "OMP_NUM_THREADS": "3"}
    free: dict[str, str] = {}
    calm_libraries(free)
    assert free == {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}


def test_libraries_count_for_themselves_where_only_the_machine_bounds_them(monkeypatch):
    monkeypatch.delenv("FMCLUSTER_THREADS", raising=False)
    monkeypatch.setattr(threads, "_cores_seen", lambda: 4)
    monkeypatch.setattr(threads, "_quota", lambda: None)
    given: dict[str, str] = {}
    calm_libraries(given)
    assert given == {"OMP_WAIT_POLICY": "PASSIVE"}


def test_the_command_line_calms_them_before_any_is_loaded():
    code = (
        "import os, sys\nfrom fmcluster.cli.main import _calm\n_calm()\n"
        "print(os.environ['OMP_WAIT_POLICY'], os.environ['OMP_NUM_THREADS'])\n"
        "print({'numpy', 'torch', 'faiss', 'joblib'} & set(sys.modules))"
    )
    env = {key: value for key, value in os.environ.items() if not key.startswith("OMP")}
    env["FMCLUSTER_THREADS"] = "1"
    found = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    lines = found.stdout.splitlines()[-2:]
    if threads._cores_seen() > 1:
        assert lines == ["PASSIVE 1", "set()"]


def test_one_torch_thread_inside_another_changes_nothing():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with one_torch_thread():
            with one_torch_thread():
                assert torch.get_num_threads() == 1
            assert torch.get_num_threads() == 1
            other = []
            thread = threading.Thread(target=lambda: other.append(_inside()))
            thread.start()
            thread.join()
            assert other == [1]
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def _inside():
    with one_torch_thread():
        return torch.get_num_threads()
