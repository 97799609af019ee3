"""Warnings of Pillow's are not shown while it decodes, and no filter stays behind, whatever overlaps."""

import io
import os
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from mmreward import Media
from mmreward.errors import Hushed


def pillow(message="odd", category=UserWarning):
    warnings.warn_explicit(message, category, "TiffImagePlugin.py", 1, "PIL.TiffImagePlugin")


def filters():
    return [tuple(one) for one in warnings.filters]


def test_threads_that_overlap_leave_no_filter_behind():
    before = filters()
    data = io.BytesIO()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(data, "JPEG")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: Media(data.getvalue()).array(), range(2000)))
    assert filters() == before


def test_the_packages_warnings_alone_are_hushed_until_the_last_has_left():
    hushed, inside, leave = Hushed("PIL"), threading.Event(), threading.Event()

    def other():
        with hushed:
            inside.set()
            assert leave.wait(20)

    thread = threading.Thread(target=other)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with hushed:
            thread.start()
            assert inside.wait(20)
            pillow()
        pillow("still inside", RuntimeWarning)
        warnings.warn_explicit("torch's", UserWarning, "t.py", 1, "torch")
        warnings.warn_explicit("no PIL", UserWarning, "p.py", 1, "PILLOW")
        leave.set()
        thread.join()
        pillow("outside")
    assert [str(one.message) for one in shown] == ["torch's", "no PIL", "outside"]


def test_what_is_raised_inside_takes_the_filter_down():
    before, hushed = filters(), Hushed("PIL")
    with pytest.raises(KeyError), hushed:
        raise KeyError
    assert filters() == before


def test_a_fork_in_the_middle_has_no_filter_and_can_enter():
    before, hushed = filters(), Hushed("PIL")
    read, write = os.pipe()
    with hushed:
        child = os.fork()
        if not child:
            clean = filters() == before
            with hushed:
                entered = filters() != before
            os.write(write, b"ok" if clean and entered and filters() == before else b"no")
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 2) == b"ok" and filters() == before
