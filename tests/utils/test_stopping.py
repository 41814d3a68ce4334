"""Work that is told to end does, in its own thread and in those that it gives work to."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fmcluster.heads import make_head
from fmcluster.utils.stopping import Stopped, carried, check_stopped, stoppable


class Turns(threading.Event):
    """Set once it was looked at so often."""

    def __init__(self, turns):
        super().__init__()
        self.left = turns

    def is_set(self):
        self.left -= 1
        return self.left < 0


def test_only_who_is_told_ends():
    check_stopped()
    told = threading.Event()
    with stoppable(told):
        check_stopped()
        told.set()
        with pytest.raises(Stopped):
            check_stopped()
        with stoppable(None):
            check_stopped()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(check_stopped).result()  # the work of somebody else
    check_stopped()


def test_a_pool_ends_with_who_fills_it():
    told, done = threading.Event(), []

    def job(number):
        done.append(number)
        told.set()

    with stoppable(told), ThreadPoolExecutor(1) as pool, pytest.raises(Stopped):
        list(pool.map(carried(job), range(5)))
    assert done == [0]


@pytest.mark.parametrize(
    ("name", "turns", "more"),
    [("auto", 40, {}), ("scan", 30, {"epochs": 50}), ("kmeans", 0, {}), ("temi", 20, {})],
)
def test_fits_end_between_two_rounds(blobs, name, turns, more):
    x, _ = blobs(n=200, k=3, d=8)
    told = Turns(turns)
    with stoppable(told), pytest.raises(Stopped):
        make_head(name, n_clusters=3, random_state=0, **more).fit(x)
    assert told.left < 0
    # Nothing that it had set for the time of the fit is left behind.
    labels = make_head("kmeans", n_clusters=3, random_state=0).fit(x).labels_
    assert len(np.unique(labels)) == 3
