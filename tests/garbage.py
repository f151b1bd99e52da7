"""Emulated devices live in the tests' own process, where collecting the garbage of a long session takes its time."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """LeRobot's driver waits 50 ms for an answer, and then gives up; a collection may take longer."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
