"""Inputs read by Grain are those that `fetch` gives; work is done one item in advance."""

import os
import threading
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds

from kdjax.data import DatasetSpec, fetch, load, order
from kdjax.data.sources import Split
from kdjax.data.stream import PIECE, prefetch, read
from kdjax.data.tfds import labelled_split

ROWS = order(3, 800, 20, 0, 26).ravel()  # 520, in three pieces


@pytest.fixture(scope="module")
def digits():
    return load(DatasetSpec(), "").splits["train"]


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_what_is_read_is_what_fetch_gives(digits, threads):
    for rows in (ROWS, ROWS[:7], ROWS[:PIECE]):
        inputs = read(digits, rows, threads)
        assert inputs.dtype == np.uint8
        np.testing.assert_array_equal(inputs, fetch(digits, rows))


class Watched:
    """A source whose readers wait for each other, and which fails where it is told to."""

    def __init__(self, source, readers=1, bad=-1):
        self.source, self.bad, self.meet = source, bad, threading.Barrier(readers)

    def fetch(self, indices):
        self.meet.wait(timeout=30)
        if self.bad in indices:
            raise OSError(f"cannot read {self.bad}")
        return self.source.fetch(indices)


def watched(split, **fields):
    return Split(Watched(split.source, **fields), split.index, split.labels)


def test_threads_read_pieces_of_the_same_chunk(digits):
    np.testing.assert_array_equal(read(watched(digits, readers=3), ROWS, 3), fetch(digits, ROWS))


def test_an_error_of_the_source_is_raised(digits):
    with pytest.raises(OSError, match="cannot read"):
        read(watched(digits, bad=digits.index[ROWS[-1]]), ROWS, 2)


def made(items, fails=-1):
    """(item, the thread that made it), and the list of those made so far."""
    so_far = []

    def make():
        for item in items:
            if item == fails:
                raise OSError(f"cannot make {item}")
            so_far.append(item)
            yield item, threading.current_thread()

    return make(), so_far


def test_the_next_item_is_made_by_a_thread_while_one_is_in_use():
    making, so_far = made(range(5))
    for number, (item, thread) in enumerate(prefetch(making)):
        deadline = time.monotonic() + 10
        while len(so_far) < min(number + 2, 5) and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.01)
        assert so_far == list(range(min(number + 2, 5)))  # the next, and no more
        assert item == number and thread is not threading.current_thread()
    assert number == 4 and list(prefetch([])) == []


def test_an_error_is_raised_where_the_item_would_be_used():
    items = prefetch(made(range(5), fails=2)[0])
    assert [next(items)[0], next(items)[0]] == [0, 1]
    with pytest.raises(OSError, match="cannot make 2"):
        next(items)


def test_who_stops_early_leaves_no_thread_behind():
    items = prefetch(made(range(5))[0])
    _, thread = next(items)
    assert thread.is_alive()
    items.close()
    assert not thread.is_alive()


@pytest.mark.mnist
def test_mnist_is_streamed_as_it_is_fetched():
    directory = os.environ["TFDS_DATA_DIR"]
    builder = tfds.builder("mnist", data_dir=directory, file_format="array_record")
    split = labelled_split(builder, "test", "image", "label")
    for rows in (np.arange(600), np.array([9_999, 5, 5, 0])):
        np.testing.assert_array_equal(read(split, rows, 2), fetch(split, rows))
