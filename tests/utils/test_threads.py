"""How many threads to use."""

import pytest

from fmcluster.utils.threads import n_threads


def test_the_variable_overrides_what_the_machine_has(monkeypatch):
    monkeypatch.setenv("FMCLUSTER_THREADS", "3")
    assert n_threads() == 3
    monkeypatch.delenv("FMCLUSTER_THREADS")
    assert n_threads() >= 1


def test_the_quota_of_the_container_counts(monkeypatch):
    monkeypatch.delenv("FMCLUSTER_THREADS", raising=False)
    monkeypatch.setattr("joblib.cpu_count", lambda: 2)
    assert n_threads() == 2


@pytest.mark.parametrize("asked", ["0", "-1", "many", "1.5"])
def test_nonsense_is_one_clear_line(monkeypatch, asked):
    monkeypatch.setenv("FMCLUSTER_THREADS", asked)
    with pytest.raises(ValueError, match="FMCLUSTER_THREADS='.*': give a whole number"):
        n_threads()
