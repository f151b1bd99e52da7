"""Worker processes that end when what started them does, however it ended."""

import multiprocessing
import os
import sys
import threading
from multiprocessing.context import BaseContext


def worker_context() -> BaseContext:
    """How workers are started: never by forking a process that has threads."""
    return multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")


def end_with_parent() -> None:
    """In a worker: outlive the parent by no moment, even if it is killed, and write into nothing of its successor's."""
    threading.Thread(target=_wait_and_exit, daemon=True).start()


def _wait_and_exit() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def end_workers() -> None:
    """In the parent: stop all workers at once, whatever they are at."""
    for child in multiprocessing.active_children():
        child.terminate()
