"""One small Ray cluster for all tests of this folder: starting one takes seconds."""

import os
from pathlib import Path

import pytest

TESTS = str(Path(__file__).parents[1])


@pytest.fixture(scope="session")
def cluster():
    """Four CPUs by count, so that actors of several networks fit; the actors find the tests' own modules."""
    ray = pytest.importorskip("ray")
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (TESTS, before)))
    ray.init(
        address="local",
        num_cpus=4,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        object_store_memory=200 << 20,
    )
    yield ray
    ray.shutdown()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before
