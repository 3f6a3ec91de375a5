"""Inputs read by Grain are those that `fetch` gives, in order, one chunk ahead."""

import os
import threading
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds

from kdjax.data import fetch, load, order
from kdjax.sources import Split
from kdjax.spec import DatasetSpec
from kdjax.stream import PIECE, chunks
from kdjax.tfds_source import labelled_split

ORDER = order(3, 800, 20, 0, 130).reshape(5, -1)  # five chunks of 520 rows, in three pieces


@pytest.fixture(scope="module")
def digits():
    return load(DatasetSpec(), "").splits["train"]


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_chunks_are_what_fetch_gives(digits, threads):
    positions = [*ORDER, ORDER[0][:7], ORDER[0][:PIECE]]
    read = list(chunks(digits, iter(positions), threads))
    assert len(read) == 7
    for inputs, rows in zip(read, positions, strict=True):
        assert inputs.dtype == np.uint8
        np.testing.assert_array_equal(inputs, fetch(digits, rows))


def test_reading_resumes_at_any_chunk(digits):
    whole, rest = list(chunks(digits, ORDER, 2)), list(chunks(digits, ORDER[3:], 2))
    np.testing.assert_array_equal(whole[3:], rest)
    assert list(chunks(digits, [], 2)) == []


class Watched:
    """A source that notes who reads and fails where it is told to."""

    def __init__(self, source, bad=-1):
        self.source, self.bad, self.reads = source, bad, []

    def fetch(self, indices):
        self.reads.append((threading.current_thread().name, len(indices)))
        if self.bad in indices:
            raise OSError(f"cannot read {self.bad}")
        return self.source.fetch(indices)


def watched(split, **fields):
    return Split(Watched(split.source, **fields), split.index, split.labels)


def test_the_next_chunk_is_read_while_one_is_in_use(digits):
    split, asked = watched(digits), []
    positions = (asked.append(i) or rows for i, rows in enumerate(ORDER))
    reading = chunks(split, positions, 2)
    next(reading)
    deadline = time.monotonic() + 10
    while sum(count for _, count in split.source.reads) < 1040 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sum(count for _, count in split.source.reads) == 1040  # two chunks, and no more
    assert asked == [0, 1]
    assert threading.current_thread().name not in {name for name, _ in split.source.reads}
    reading.close()


def test_an_error_of_the_source_is_raised_where_the_chunk_is_used(digits):
    split = watched(digits, bad=digits.index[600])
    first, second = np.arange(300), np.arange(300, 700)
    reading = chunks(split, [first, second], 2)
    np.testing.assert_array_equal(next(reading), fetch(digits, first))
    with pytest.raises(OSError, match="cannot read"):
        next(reading)


@pytest.mark.mnist
def test_mnist_is_streamed_as_it_is_fetched():
    directory = os.environ["TFDS_DATA_DIR"]
    builder = tfds.builder("mnist", data_dir=directory, file_format="array_record")
    split = labelled_split(builder, "test", "image", "label")
    positions = [np.arange(600), np.array([9_999, 5, 5, 0]), np.arange(3_000, 3_300)]
    for inputs, rows in zip(chunks(split, positions, 2), positions, strict=True):
        np.testing.assert_array_equal(inputs, fetch(split, rows))
