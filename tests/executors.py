"""An executor for tests of what runs jobs in worker processes."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Self


class InProcess:
    """An executor without processes: patches and files of a test reach its jobs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.open = False

    def shutdown(self, **kwargs: Any) -> None:
        self.open = False

    def submit(self, job: Callable[..., None], *args: Any) -> "Future[None]":
        assert self.open
        future: Future[None] = Future()
        try:
            future.set_result(job(*args))
        except Exception as error:
            future.set_exception(error)
        return future
