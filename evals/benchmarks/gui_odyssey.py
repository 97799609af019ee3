"""GUI-Odyssey (arXiv:2406.08451): actions across apps, by step and episode, under every published rule.

Labels are the published annotations, an episode in each JSON file: the folder `annotations` (or the one it
lies in), or a file of `splits`, whose `test` episodes are then read from the `annotations` beside its folder.
Coordinates are 0 to 1000; a scroll's direction is the finger's, as in the authors' "SCROLL: UP". Ids are
"EPISODE/STEP".

The authors' score (AMS) is `odyssey/step`, and their success rate `odyssey/episode`. What their script calls
"micro" for the random split is the mean over the six categories; both are here under what they are, and a
missing step is wrong, where their script passes over its episode.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .android_control import PLACE, answer, columns, tables
from .android_control import RULES as BY_STEP
from .android_control import step_item as _step_item
from .benchmark import COPY, Answers, Benchmark, Columns, Item, Rule
from .figures import macro_mean, mean_of_known

KEYS = ("KEY_HOME", "KEY_BACK", "KEY_APPSELECT")
TYPED = ("TYPE", "TEXT")


def read(path: Path) -> list[Item]:
    """The steps of all episodes, or of the test episodes of a split.

    Raises:
        ValueError: no annotations, or an episode that is not of their form.
    """
    if path.is_file():
        split = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(split, Mapping) or not isinstance(split.get("test"), list):
            raise ValueError(f"{path} is no split: it has no list `test`")
        folder = path.parent.parent / "annotations"
        files = [folder / str(name) for name in split["test"]]
    else:
        folder = path / "annotations" if (path / "annotations").is_dir() else path
        files = sorted(folder.glob("*.json"))
    if not files:
        raise ValueError(f"{path} has no annotations/*.json")
    return [item for file in files for item in _episode(file)]


def _episode(file: Path) -> list[Item]:
    if not file.is_file():
        raise ValueError(f"{file} is not there, and the split names it")
    about = json.loads(file.read_text(encoding="utf-8"))
    try:
        device, episode = about["device_info"], about["episode_id"]
        size = (float(device["h"]), float(device["w"]))
        group = str(about["task_info"]["category"])
        steps = [
            (step["step"], _right(str(step["action"]), step["info"]), step.get("sam2_bbox"))
            for step in about["steps"]
        ]
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{file} is no episode of GUI-Odyssey: {error!r}") from None
    return [
        _step_item(
            episode, number, size, {"action": action, **({"boxes": [box]} if box else {})}, str(file),
            space="norm_1000", group=group,
        )
        for number, action, box in steps
    ]  # fmt: skip


def _right(action: str, info: Any) -> dict[str, Any]:
    """Right action of a step, as its authors write it."""
    if info in KEYS:
        return {"type": str(info).lower()}
    if action in ("CLICK", "LONG_PRESS"):
        return {"type": action, "point": info[0]}
    if action == "SCROLL":
        (x1, y1), (x2, y2) = info
        across, down = x2 - x1, y2 - y1
        if abs(across) > abs(down):
            return {"type": "swipe", "direction": "left" if across < 0 else "right"}
        return {"type": "swipe", "direction": "up" if down < 0 else "down"}
    return {"type": "TYPE", "text": info} if action in TYPED else {"type": action}


def _by_category(found: Columns) -> float:
    return macro_mean(found["step"][:, PLACE["odyssey"]], found["group"])


def _success_by_category(found: Columns) -> float:
    """Mean over categories of the share of episodes without a wrong step."""
    key = found["episode"] * (int(found[COPY].max()) + 1) + found[COPY]
    _, first, place = np.unique(key, return_index=True, return_inverse=True)
    wrong = np.bincount(place, weights=1 - found["step"][:, PLACE["odyssey"]])
    groups = found["group"][first]
    shares = [mean_of_known((wrong[groups == group] == 0).astype(float)) for group in np.unique(groups)]
    return float(np.mean(shares))


RULES = (
    Rule(name="AMS/categories", words="odyssey/step, mean over categories; their \"micro\"",
         of=_by_category),
    Rule(name="SR/categories", words="odyssey/episode, mean over categories", of=_success_by_category),
    *BY_STEP,
)  # fmt: skip


def cautions(items: Sequence[Item], answers: Answers) -> list[str]:
    """What to mind before the figures are compared."""
    return ["one number means nothing without its rule; the authors' own is `odyssey`"]


BENCHMARK = Benchmark(
    name="gui-odyssey",
    summary="actions across apps by step and episode, under every published rule of a match",
    paper="arXiv:2406.08451",
    unit="episode",
    labels="the folder annotations, or a file of splits",
    read=read,
    answer=answer,
    columns=columns,
    rules=RULES,
    cautions=cautions,
    tables=tables,
)
