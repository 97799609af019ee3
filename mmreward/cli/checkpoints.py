"""The command about checkpoints: models, which lists the weights that rewards read unless told otherwise."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from .app import app

if TYPE_CHECKING:
    from ..models.wants import Want

USES = {
    "clip": "dual encoders, by hub id, folder or open_clip:ARCHITECTURE/TAG",
    "vlm": "judges: Qwen2.5-VL, Qwen3-VL, Qwen3.5 by hub id or folder, any other as MODEL@URL",
    "embedder": "encoders of pictures alone",
    "head": "heads on an encoder",
    "classifier": "classifiers of pictures",
    "detector": "detectors",
}
"""Function of `mmreward.models` -> what its checkpoints are called here; others are named as they are."""
SHARED = ("clip", "vlm")
"""Uses whose checkpoints many rewards read: a reward's licence is theirs only where it names them."""
LONG = 60
"""Characters of a name above which it does not widen the column."""
OWN = {"mini-clip": "clip", "mini-vlm": "vlm", "mini-artifact": "classifier"}
"""The miniature's, which come with the package."""


@dataclass
class Checkpoint:
    """One checkpoint, as the list has it: who reads it, where it is, and on which terms."""

    name: str
    use: str
    size: str
    here: str
    licence: str = ""
    rewards: list[str] = field(default_factory=list)


@app.command("models")
def models_command(
    use: Annotated[str, typer.Argument(help="Only these: clip, vlm, head, classifier, detector, ...")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array, for programs.")] = False,
) -> None:
    """List encoders, judges and other checkpoints that are known to work, with size here and licence."""
    from ..errors import nearest

    found = list(known())
    uses = sorted({one.use for one in found})
    if use and use not in uses:
        raise ValueError(f"no checkpoint is loaded as {use!r}: {nearest(use, uses)}")
    shown = [one for one in found if use in ("", one.use)]
    typer.echo(json.dumps([asdict(one) for one in shown], indent=2) if as_json else "\n".join(listed(shown)))


def known() -> Iterator[Checkpoint]:
    """The miniature's checkpoints, then those that rewards read by default, each once."""
    from ..assets import ASSETS
    from ..models.sizes import licence_of, size_words
    from ..registry import find, list_rewards
    from .catalogue import wants_of
    from .weights import size_here, size_of

    for name, use in OWN.items():
        files = [path for path in (ASSETS / name).rglob("*") if path.is_file()]
        here = size_of(sum(path.stat().st_size for path in files))
        yield Checkpoint(name, use, "", here, "Apache-2.0")
    found: dict[tuple[str, str], Checkpoint] = {}
    for entry in (find(info.name) for info in list_rewards()):
        for want in wants_of(entry):
            if _is_one(want):
                key = (want.name, want.use)
                new = Checkpoint(want.name, want.use, size_words([want]), size_here(want), licence_of([want]))
                one = found.setdefault(key, new)
                one.rewards.append(entry.info.name)
                if one.use not in SHARED or "/".join(one.name.split("/")[:2]) in entry.info.licence:
                    one.licence = one.licence or entry.info.licence
    yield from sorted(found.values(), key=lambda one: (one.use not in USES, one.use, one.name))


def _is_one(want: "Want") -> bool:
    """Weights with a name of their own, and no path on this machine or part of a tokenizer."""
    return want.kind not in ("local", "absent") and not want.name.endswith((".txt", ".json"))


def listed(found: list[Checkpoint]) -> Iterator[str]:
    """The list as lines, by use: parameters, and the size of files that are here, which the weights need in
    memory as well."""
    width = max((len(one.name) for one in found if len(one.name) < LONG), default=0)
    for number, use in enumerate(dict.fromkeys(one.use for one in found)):
        if number:
            yield ""
        yield f"[{use}] {USES.get(use, '')}".rstrip()
        for one in found:
            if one.use == use:
                size = f"{one.size}, {one.here}" if one.size else one.here
                yield f"  {one.name:<{width}}  {size:<26}  {', '.join(one.rewards)}".rstrip()
                if one.licence:
                    yield f"  {'':<{width}}  {one.licence}"
    yield ""
    yield "`mmreward fetch REWARD` brings what is not here, and says its size first"
