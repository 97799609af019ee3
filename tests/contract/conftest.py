"""Fixtures of the contracts: an engine, pictures of the miniature in memory and as files, who reads these."""

import threading

import pytest
from support.miniature import draw_scenes

from mmreward import Engine, reading


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


@pytest.fixture(scope="module")
def scenes():
    return draw_scenes()


@pytest.fixture(scope="module")
def files(scenes, tmp_path_factory):
    """Captions with the paths of their pictures."""
    folder = tmp_path_factory.mktemp("scenes")
    for number, (_, image) in enumerate(scenes):
        image.picture().save(folder / f"{number}.png")
    return [(text, folder / f"{number}.png") for number, (text, _) in enumerate(scenes)]


@pytest.fixture
def readers(monkeypatch):
    """Names of the threads that read files."""
    names, usual = set(), reading._read
    monkeypatch.setattr(
        reading, "_read", lambda *args: names.add(threading.current_thread().name) or usual(*args)
    )
    return names
