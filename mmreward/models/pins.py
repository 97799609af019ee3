"""Prompts that released scalar reward models were trained on, by name: see `pinned`.

Imports no torch.
"""

from pathlib import Path

from .pinned import Pin, needed
from .wants import noting

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


def prompt_of(
    names: tuple[str, ...], own: str | None = None, file: str | None = None, places: tuple[str, ...] = ()
) -> str:
    """A published prompt, put together of its pieces; or one of the user's own.

    Args:
        names: of the pieces in `PINS`, in their order.
        own: a text instead.
        file: a copy of the publisher's file, or a folder with it under its own name; None takes the one that
            `mmreward fetch` brings.
        places: what must stand in the prompt once each.

    Raises:
        ValueError: as `Pin.text`; a place that is missing, or there twice.
    """
    text = own if own is not None else "".join(_text(PINS[name], file) for name in names)
    for place in () if noting() and own is None else places:
        if text.count(place) != 1:
            raise ValueError(
                f"prompt has {place} {text.count(place)} times, and needs it once: {text[:80]!r}"
            )
    return text


def _text(pin: Pin, file: str | None) -> str:
    if file is not None:
        path = Path(file)
        return pin.text(path / Path(pin.path).name if path.is_dir() else path)
    return pin.text() if needed(pin) else ""
