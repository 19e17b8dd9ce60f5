"""One small cluster for all tests of this folder, and of those beside it in the same process."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """Ray with eight CPUs by count; left as found."""
    import ray

    if ray.is_initialized():  # another folder's tests run in the same session
        yield
        return
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()
