"""Prompts that released scalar reward models were trained on, by name: see `pinned`.

Imports no torch.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from ..registry import record_network
from .pinned import Pin, needed
from .published import PublishedText
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
    "artimuse": Pin(
        "thunderbolt215/ArtiMuse",
        "750d980b6b7e9d99da60a302dcdbcab14e01003f",
        "src/artimuse/internvl/model/internvl_chat/modeling_artimuse.py",
        "question",
        "44add3d4d8e19034638648cf932161dde5dbc191851afac8e6d019cef7d5d6ad",
    ),
    # The template "internvl2_5", which InternVL 2.5 and 3, VisualPRM and ArtiMuse have.
    "internvl system": Pin(
        "OpenGVLab/InternVL",
        "2410d1dbf208f0e799459aff9376e5747dbf41a2",
        "internvl_chat/internvl/conversation.py",
        "system_message",
        "bdb4d179c4c458dd9bd365588d3fd15aba0f2b755b4b192383416f610ad3396e",
    ),
    "mm_rlhf": Pin(
        "yfzhang114/MM-RLHF",
        "7c8af1d2cacc252e4310881d2af4f90eacf2a5f0",
        "llava/eval/eval_mm_reward_bench.py",
        "critic_prompt",
        "7a824ae727d143f84cad78bb31ee2a8710e5682e34dc41f2a8a1d0d430450b94",
    ),
    "videoscore": Pin(
        "TIGER-AI-Lab/VideoScore",
        "8e449734bbeb4aba327b82f2269e7247633a7abc",
        "examples/run_videoscore.py",
        "REGRESSION_QUERY_PROMPT",
        "49b386d9ea3003760c983cc258cf4211faf858d58191f95fcfacdf68a8fed2c0",
    ),
    "videoreward": Pin(
        *_VIDEOALIGN,
        "prompt_template.py",
        "DETAILED_PROMPT_WITH_SPECIAL_TOKEN",
        "fdb6309bac618dd0c8b1b589d3a0970a974f7856eecbb355a190b2dce54af700",
    ),
}
"""Name -> text. What stands in several repositories is taken where it has the publisher's hash."""


def prompt_of(names: tuple[str, ...], words: str, places: tuple[str, ...] = (), name: str = "prompt") -> str:
    """A published prompt, put together of its pieces, or one of the user's own; its hash becomes part of the
    reward's fingerprint.

    Args:
        names: of the pieces in `PINS`, in their order.
        words: "published", the text that `mmreward fetch` brings; a copy of the publisher's Python file; a
            file with a text of your own; or a folder with NAME.txt, or with the publisher's files.
        places: what must stand in the prompt once each.
        name: of the text in such a folder.

    Raises:
        ValueError: as `Pin.text`; a file that cannot be read; a place that is missing, or there twice.
    """
    text = _text([PINS[piece] for piece in names], words, name)
    for place in () if noting() and words == "published" else places:
        if text.count(place) != 1:
            said = f"{text.count(place)} times, and needs it once: {text[:80]!r}"
            raise ValueError(f"the prompt has {place} {said}")
    record_network(PublishedText(name, hashlib.sha256(text.encode()).hexdigest()[:16]))
    return text


def _text(pins: Sequence[Pin], words: str, name: str) -> str:
    if words == "published":
        return "".join([pin.text() if needed(pin) else "" for pin in pins])
    path = Path(words).expanduser()
    own = path / f"{name}.txt" if path.is_dir() else path
    if path.suffix == ".py" or (path.is_dir() and not own.exists()):
        return "".join(pin.text(_copy(pin, path)) for pin in pins)
    try:
        return own.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"words={words!r} is neither published nor a text that can be read: {error}"
        ) from None


def _copy(pin: Pin, path: Path) -> Path:
    """Place of a pin's file: the file itself, or one in a folder, as in the repository or beside others."""
    if not path.is_dir():
        return path
    return path / pin.path if (path / pin.path).exists() else path / Path(pin.path).name
