"""Published texts by name: prompts that a released model was trained on, each by address, symbol and hash.

Such a text is its publisher's data and is not kept here: one file of the publisher's repository, at a fixed
commit, is brought to this machine (`mmreward fetch REWARD`, or the command that the message names), the
literal is taken out of it without running anything, and its hash is checked. A copy of the file somewhere
else will do (`prompt_file`), as long as the text in it is the same.

Imports no torch.
"""

import ast
import hashlib
import os
from pathlib import Path
from typing import NamedTuple

from .wants import Want, note, noting


class Pin(NamedTuple):
    """A string literal of a file in a repository of GitHub: the value of `symbol`, with its SHA-256."""

    repository: str
    commit: str
    path: str
    symbol: str
    sha256: str

    @property
    def url(self) -> str:
        return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{self.path}"

    @property
    def place(self) -> Path:
        """Where the file belongs on this machine."""
        cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
        return cache / "mmreward" / "published" / self.commit / Path(self.path).name


_EDITREWARD = ("TIGER-AI-Lab/EditReward", "edb027edde6080b8a9521ef8e87049b3797f8374")
_VIDEOALIGN = ("KwaiVGI/VideoAlign", "219ab9db64c045e5181a2202d11f686439351292")
_DIFFSYNTH = ("modelscope/DiffSynth-Studio", "fed7b18fac2ed4cb802796eec91970e7659bccde")
PINS = {
    "editreward following": Pin(
        *_EDITREWARD,
        "EditReward/dataset/prompts.py",
        "INSTRUCTION_EDIT_FOLLOWING",
        "da5bfc26898cc8e0e534a29675ad78c3462d331b7feaebf13bae5aa50195864f",
    ),
    "editreward quality": Pin(
        *_EDITREWARD,
        "EditReward/dataset/prompts.py",
        "INSTRUCTION_EDIT_QUALITY",
        "89bbc5c2ac1bbea9c45a0fde298e9a97d1c079170a30780392c577fc1cd8d286",
    ),
    "editreward end": Pin(
        *_EDITREWARD,
        "EditReward/dataset/data_collator_qwen_edit.py",
        "prompt_with_special_token",
        "2471faca094ae5bd6fe17b71dce20c3d7583625545e235889f7e74e7eeb69d0a",
    ),
    # The publisher's own file is in its wheel (hpsv3 1.0.0), with these very texts.
    "hpsv3": Pin(
        *_DIFFSYNTH,
        "diffsynth/models/hpsv3.py",
        "HPSV3_INSTRUCTION",
        "0393599dad45a971903d1d62a3acf9bad3ccccdafa7f40f680523419e1f68b7a",
    ),
    "hpsv3 end": Pin(
        *_DIFFSYNTH,
        "diffsynth/models/hpsv3.py",
        "HPSV3_PROMPT_WITH_SPECIAL_TOKEN",
        "2471faca094ae5bd6fe17b71dce20c3d7583625545e235889f7e74e7eeb69d0a",
    ),
    "videoreward": Pin(
        *_VIDEOALIGN,
        "prompt_template.py",
        "DETAILED_PROMPT_WITH_SPECIAL_TOKEN",
        "fdb6309bac618dd0c8b1b589d3a0970a974f7856eecbb355a190b2dce54af700",
    ),
}
"""Name -> text. What stands in several repositories is taken where it has the publisher's hash."""


def pinned(name: str, file: str | None = None) -> str:
    """A published text.

    Args:
        name: in `PINS`.
        file: a copy of the publisher's file, or a folder with it under its own name; None takes the one that
            `mmreward fetch` brings.

    Raises:
        ValueError: the file is not there (with the command that fetches it), has no such literal, or another
            text.
    """
    pin = PINS[name]
    if noting():
        if file is None:
            note(Want("url", pin.url, "pinned", to=str(pin.place)))
        return ""
    path = pin.place if file is None else Path(file)
    path = path / pin.place.name if path.is_dir() else path
    if not path.is_file():
        if file is not None:
            raise ValueError(f"no file at {path}")
        command = f"curl -fL --create-dirs -o '{path}' '{pin.url}'"
        raise ValueError(f"the published text {name!r} is not on this machine: fetch it with `{command}`")
    text = literal_of(path, pin.symbol)
    found = hashlib.sha256(text.encode()).hexdigest()
    if found != pin.sha256:
        raise ValueError(
            f"{pin.symbol} in {path} is not the published text: its SHA-256 is {found[:12]}..., and not "
            f"{pin.sha256[:12]}...; take the file of {pin.url}"
        )
    return text


def prompt_of(
    names: tuple[str, ...], own: str | None = None, file: str | None = None, places: tuple[str, ...] = ()
) -> str:
    """A published prompt, put together of its pieces; or one of the user's own.

    Args:
        names: of the pieces in `PINS`, in their order.
        own: a text instead.
        file: as for `pinned`.
        places: what must stand in the prompt once each.

    Raises:
        ValueError: as for `pinned`; a place that is missing, or there twice.
    """
    text = own if own is not None else "".join(pinned(name, file) for name in names)
    for place in () if noting() and own is None else places:
        if text.count(place) != 1:
            raise ValueError(
                f"prompt has {place} {text.count(place)} times, and needs it once: {text[:80]!r}"
            )
    return text


def literal_of(path: Path, symbol: str) -> str:
    """The string that a Python file assigns to a name at its top level; the file is not run.

    Raises:
        ValueError: the file is no Python, or assigns no string to the name.
    """
    try:
        body = ast.parse(path.read_text(encoding="utf-8")).body
    except (SyntaxError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as Python ({type(error).__name__})") from None
    for statement in body:
        if isinstance(statement, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == symbol for target in statement.targets
        ):
            value = statement.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                return value.value
    raise ValueError(f"{path} assigns no text to {symbol}: is it the publisher's file?")
