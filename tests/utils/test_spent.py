"""Seconds go to the record that is open on this thread, and nowhere else."""

import threading
import time

from fmcluster.utils.spent import recorded, spent


def test_parts_add_up_and_an_error_counts_too():
    with recorded() as seconds:
        for _ in range(2):
            with spent("work"):
                time.sleep(0.02)
        try:
            with spent("other"):
                raise ValueError
        except ValueError:
            pass
    assert 0.04 <= seconds["work"] < 1
    assert 0 <= seconds["other"] < 0.02
    with spent("work"):
        time.sleep(0.01)
    assert set(seconds) == {"work", "other"}


def test_the_inner_record_takes_what_is_inside():
    with recorded() as outer, recorded() as inner, spent("work"):
        pass
    assert "work" in inner and "work" not in outer


def test_another_thread_has_no_record():
    def work():
        with spent("work"):
            pass

    with recorded() as seconds:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert not seconds
