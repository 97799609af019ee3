"""RoboArena's evaluation sessions: policies in one scene, side by side, with the partial success of each.

Labels are the folders as they are published: `evaluation_sessions/SESSION/metadata.yaml` with
`language_instruction` and `policies` ({ID: {policy_name, partial_success}}), and the clips of each in
`ID_POLICY/*_left.mp4`. An id is "SESSION/ID". The unit is the session, in which policies share the scene; the
left camera alone is shown, for the right one has the same label and is no second episode.

Predictions and rules are those of `robot-episodes`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmreward.strict_yaml import parse_yaml

from . import episodes
from .benchmark import Benchmark, Item

FOLDER, FILE = "evaluation_sessions", "metadata.yaml"
CAMERA = "left"


def read(path: Path) -> list[Item]:
    """The policies of every session below a folder.

    Raises:
        ValueError: no sessions, or one whose metadata are not of this form.
    """
    root = path / FOLDER if (path / FOLDER).is_dir() else path
    files = sorted(root.glob(f"*/{FILE}"))
    if not files:
        raise ValueError(f"{path} holds no {FOLDER}/SESSION/{FILE}")
    return [item for file in files for item in _session(file, path)]


def _session(file: Path, root: Path) -> list[Item]:
    about = parse_yaml(file.read_text(encoding="utf-8"))
    task = about.get("language_instruction") if isinstance(about, Mapping) else None
    policies = about.get("policies") if isinstance(about, Mapping) else None
    if not isinstance(task, str) or not isinstance(policies, Mapping) or not policies:
        raise ValueError(f"{file} has no language_instruction and policies")
    session = file.parent.name
    return [_item(file, root, session, task, str(name), one) for name, one in policies.items()]


def _item(file: Path, root: Path, session: str, task: str, name: str, about: Any) -> Item:
    policy = about.get("policy_name") if isinstance(about, Mapping) else None
    share = about.get("partial_success") if isinstance(about, Mapping) else None
    if not isinstance(policy, str) or isinstance(share, bool) or not isinstance(share, int | float):
        raise ValueError(f"{file}: policy {name} has no policy_name and partial_success")
    if not 0 <= share <= 1:
        raise ValueError(f"{file}: partial_success of {name} is {share}, not from 0 to 1")
    clips = sorted((file.parent / f"{name}_{policy}").glob(f"*_{CAMERA}.mp4"))
    facts = {
        "task": f"{session}: {task}",
        "policy": policy,
        "frames": None,
        "video": clips[0].relative_to(root).as_posix() if clips else None,
        "prompt": task,
    }
    return Item(id=f"{session}/{name}", gold=float(share), unit=session, facts=facts)


BENCHMARK = Benchmark(
    name="roboarena",
    summary="policies in one scene by partial success: ranking, order within a session, success",
    paper="arXiv:2506.18123",
    unit="session",
    labels="the folder evaluation_sessions",
    read=read,
    answer=episodes.answer,
    columns=episodes.columns,
    rules=episodes.RULES,
    rows=episodes.rows,
    scored=episodes.scored,
    cautions=episodes.cautions,
    tables=episodes.tables,
)
