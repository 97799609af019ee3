"""Fixtures shared by all tests."""

import gc
import io
import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings

from mmreward import Engine, registry
from mmreward.limits import limited

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests run in several processes, each on its core

settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=False,
    phases=[Phase.explicit, Phase.generate],  # shrinking an engine that hangs would take hours
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What a test draws does not depend on the tests before it, which differ from process to process."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine("cpu") as engine:
        yield engine


@pytest.fixture(scope="module", autouse=True)
def small_heap() -> None:
    """What other modules' tests have imported is not gone through again: engines collect garbage when they
    close, which takes half a second where every library is there."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone afterwards."""
    registry.list_rewards()
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))


@pytest.fixture(autouse=True)
def own_limits() -> Iterator[None]:
    """Limits that a test sets are gone afterwards."""
    with limited():
        yield


@pytest.fixture
def png() -> bytes:
    """A 4 x 2 picture whose pixels all differ, as PNG bytes."""
    import numpy as np
    from PIL import Image

    pixels = np.arange(4 * 2 * 3, dtype=np.uint8).reshape(2, 4, 3) * 10
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
