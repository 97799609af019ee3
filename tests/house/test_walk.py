"""A newcomer's walk: how many files a sample passes, from the command or the engine to its score and back.

`python tests/house/test_walk.py` prints the files in the order in which they first handle the sample.
"""

import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from typer.testing import CliRunner

import mmreward
from mmreward import Engine, Media, Sample
from mmreward.cli import app
from mmreward.mini.world import describe, render, sample_scene

ROOT = str(Path(mmreward.__file__).parent)
SCORE, CHECKLIST = 19, 15
"""The most files that `mmreward score` passes a sample through, and that a picture passes in a checklist. An
encoder counts twice: its handle is a file of its own, because stored scores are looked up without torch.
`media.py` is one of the 15 where threads that read files begin during the walk, not where some are there."""


def walked(run: Callable[[], Any]) -> list[str]:
    """Files of mmreward in which a function is handed a sample or its media during `run`, on any thread."""
    files: dict[str, None] = {}

    def trace(frame: FrameType, event: str, _: Any) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(ROOT) and name not in files:
            count = frame.f_code.co_argcount + frame.f_code.co_kwonlyargcount
            given = (frame.f_locals.get(argument) for argument in frame.f_code.co_varnames[:count])
            if any(map(_handles, given)):
                files[name] = None

    threading.setprofile(trace)
    sys.setprofile(trace)
    try:
        run()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return [str(Path(name).relative_to(ROOT)) for name in files]


def _handles(value: Any, depth: int = 2) -> bool:
    """Whether it is a sample or media, or holds one: in a list, a mapping, or a field of a dataclass."""
    if isinstance(value, Sample | Media):
        return True
    if not depth:
        return False
    if isinstance(value, Mapping):
        value = list(value.values())
    elif is_dataclass(value) and not isinstance(value, type):
        value = [getattr(value, field.name, None) for field in fields(value)]
    return isinstance(value, list | tuple) and any(_handles(one, depth - 1) for one in value[:16])


def picture() -> tuple[str, Any]:
    import numpy as np

    scene = sample_scene(np.random.default_rng(0))
    return str(describe(scene)), render(scene)


def score_command(folder: Path) -> list[str]:
    caption, drawn = picture()
    drawn.save(folder / "a.png")
    (folder / "a.txt").write_text(caption)
    arguments = [
        "score",
        str(folder),
        "--reward",
        "clipscore:weights=mini-clip",
        "--out",
        str(folder / "out.parquet"),
    ]

    def run() -> None:
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output

    return walked(run)


def checklist(folder: Path) -> list[str]:
    caption, drawn = picture()
    drawn.save(folder / "a.png")
    sample = Sample(prompt=caption, image=Media(folder / "a.png"))

    def run() -> None:
        with Engine("cpu") as engine:
            assert engine.score([sample], {"checklist": {"judge": "mini-vlm"}})["checklist"][0].ok

    return walked(run)


def test_the_score_command_is_a_short_walk(tmp_path):
    files = score_command(tmp_path)
    assert "data/run.py" in files and "rewards/learned/clip.py" in files
    assert len(files) <= SCORE, files


def test_a_picture_through_a_checklist_is_a_short_walk(tmp_path):
    files = checklist(tmp_path)
    assert "rewards/judged/checklist.py" in files and "models/vlms/vision.py" in files
    assert len(files) <= CHECKLIST, files


if __name__ == "__main__":
    from tempfile import TemporaryDirectory

    for walk in (score_command, checklist):
        with TemporaryDirectory() as temporary:
            found = walk(Path(temporary))
        print(f"{walk.__name__}: {len(found)} files\n  " + "\n  ".join(found))
