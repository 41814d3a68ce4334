"""What a fit is asked: counts are whole numbers, of every head, before anything is computed."""

import dataclasses

import numpy as np
import pytest

import fmcluster as fmc
from fmcluster.heads import list_heads, make_head
from fmcluster.heads.training.objective import TrainOptions


def counts():
    """Every argument of every head that is declared as a whole number."""
    for name in list_heads():
        head = make_head(name)
        for each in dataclasses.fields(head):
            if each.init and each.type in ("int", "int | None"):
                yield name, each.name


ALL = list(counts())


def test_there_are_such_arguments():
    assert len(ALL) > 60 and ("kmeans", "n_init") in ALL and ("scan", "epochs") in ALL


@pytest.mark.parametrize(("name", "argument"), ALL)
def test_half_of_one_is_refused_by_its_name(name, argument):
    X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    for wrong in (2.5, "ten", True):
        head = make_head(name, n_clusters=2, **{argument: wrong})
        with pytest.raises(TypeError, match=f"{argument} must be .*number, got .*{wrong}"):
            fmc.cluster(X, head=head)
        with pytest.raises(TypeError, match=f"{argument} must be .*number, got .*{wrong}"):
            head.fit(X)


def test_numpy_integers_are_whole_numbers(blobs):
    head = make_head("kmeans", n_clusters=3, n_init=np.int64(2), max_iter=np.int32(5))
    assert head.fit(blobs(n=60, k=3).x).n_clusters_ == 3


def test_options_are_checked_where_they_are_made():
    with pytest.raises(TypeError, match="gradient_accumulation must be a whole number, got 1.5"):
        TrainOptions(gradient_accumulation=1.5)
