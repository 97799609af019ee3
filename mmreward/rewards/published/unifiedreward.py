"""UnifiedReward (arXiv:2503.05236) on one picture or clip: final mark, marks by axis, and marks of an edit.

Forms: "final" is version 1 (elements with 0 or 1, then `Final Score:` from 1 to 5; of a clip five marks from
1 to 4, then one from 1 to 10); "axes" is version 2.0 (`Alignment Score (1-5): 2.6947`, and two more);
"edit" and "quality" are UnifiedReward-Edit (two marks from 0 to 25 in JSON, the words of VIEScore). Its own
scripts ask with `do_sample`, which a server ignores, so that its default temperature applies there; here the
temperature is in the request. Two candidates are compared in `unifiedreward_pair`.
"""

import re
from typing import Any, Literal

from ... import models
from ...errors import Unscorable
from ...models.pinned import Pin
from ...registry import reward
from ...types import Sample, Score
from ...verifiers.text import nfkc
from .declaring import (
    Judge,
    Marks,
    Options,
    clip,
    final_between,
    frames,
    judged,
    mean_between,
    picture,
    source,
)
from .grammar import body_of, certain, json_marks, labelled, mark_of
from .wording import Prompt, Wording, worded

REPOSITORY, COMMIT = "CodeGoat24/UnifiedReward", "ff6f520247a2d36e2aff7b2ba53a935afd437f66"
CONTENT = "messages.['content'].['text']"
V1, V2, EDIT = "inference_qwen/", "inference_qwen/UnifiedReward-2.0-inference/", "UnifiedReward-Edit/"
FINAL = re.compile(r"[\s#*>\-]*final score[\s*]*(?:\(1-\d+\))?[\s*]*:(.*)")
ELEMENT = re.compile(r"[\s\-*\d.)]*([^:]{1,120}\([^():]{1,40}\))\s*:[\s*]*([^:]*)")
CLIP_AXES = (
    "visual quality",
    "temporal consistency",
    "dynamic degree",
    "text-to-video alignment",
    "factual consistency",
)
IMAGE_AXES = ("Alignment Score", "Coherence Score", "Style Score")
VIDEO_AXES = ("Alignment Score", "Physics Score", "Style Score")
VIE = {"edit": ("success", "restraint"), "quality": ("naturalness", "artifacts")}
SCALE = 25.0


def read_final(text: str, high: float, low: float = 1) -> float:
    """The mark after `Final Score:`, from `low` to `high`.

    Raises:
        Unscorable: "missing" without one, "unparsable" for two that differ; see also `grammar.mark_of` and
            `grammar.certain`.
    """
    lines = [nfkc(line[:400]).casefold() for line in certain(body_of(text)).splitlines()]
    found = {
        mark_of(match[1], low, high, "Final Score") for line in lines if (match := FINAL.fullmatch(line))
    }
    if not found:
        raise Unscorable(f"no final score in: {text[:200]}", "missing")
    if len(found) > 1:
        raise Unscorable(f"two final scores: {sorted(map(str, found))}", "unparsable")
    mark = found.pop()
    assert mark is not None, "N/A is refused"
    return mark


def read_picture(text: str) -> Marks:
    """Version 1 of a picture: elements of the caption, each there or not, and the final mark.

    Raises:
        Unscorable: see `read_final`; "unparsable" for an element that is neither 0 nor 1.
    """
    final = read_final(text, 5)
    seen = []
    for line in body_of(text).splitlines():
        if (match := ELEMENT.fullmatch(nfkc(line[:200]).strip())) is None:
            continue
        said = match[2].strip(" *.")
        if said not in ("0", "1"):
            raise Unscorable(f"the element {match[1][:40]!r} is {said[:20]!r}, neither 0 nor 1", "unparsable")
        seen.append(float(said))
    return Marks({"final": final, **({"elements": sum(seen) / len(seen)} if seen else {})}, final)


def read_clip(text: str) -> Marks:
    """Version 1 of a clip: five marks from 1 to 4, and the final mark from 1 to 10.

    Raises:
        Unscorable: see `read_final` and `grammar.labelled`.
    """
    final = read_final(text, 10)
    return Marks({"final": final, **labelled(body_of(text), CLIP_AXES, 1, 4)}, final)


def read_axes(text: str, labels: tuple[str, ...]) -> Marks:
    """Version 2.0: three marks from 1 to 5; float noise is no mistake.

    Raises:
        Unscorable: see `grammar.labelled`.
    """
    found = labelled(body_of(text), labels, 1, 5, suffix=r"(?:\(1\s*-\s*5\))?")
    return Marks({label.partition(" ")[0].casefold(): mark for label, mark in found.items()})


def read_vie(text: str, form: str, high: float = SCALE) -> Marks:
    """Two marks from 0 to `high` in JSON.

    Raises:
        Unscorable: see `grammar.json_marks`.
    """
    names = VIE[form]
    return Marks(dict(zip(names, json_marks(body_of(text), len(names), 0, high), strict=True)))


def least(marks: Marks) -> float:
    """The smaller of an edit's two marks, mapped from [0, 25] to [0, 1], as in VIEScore."""
    return min(marks.parts.values()) / SCALE


# --- prompts ----------------------------------------------------------------------------------------------

OWN_AXES = "Judge this {kind}, made for the caption: {{prompt}}\nWrite exactly:\n{lines}"


def _axes(kind: str, labels: tuple[str, ...]) -> str:
    return OWN_AXES.format(kind=kind, lines="\n".join(f"{label} (1-5): a number" for label in labels))


OWN_VIE = (
    "Mark {what} with two numbers from 0 to 25: {names}.\n{{prompt}}\n"
    'Write exactly: {{"reasoning": "one sentence", "score": [first, second]}}'
)
PICTURES = {
    "final": Judge(
        prompt=Prompt(
            pins=(Pin(REPOSITORY, COMMIT, V1 + "image_generation/qwen_point_score_image_generation.py",
                      CONTENT, "b691b5ff2d2a0a37f8d1e75c926b4f580fb8130069eb25ad0271600874c52904"),),
            own="List what this caption names as `thing (kind): 1` where the picture shows it, else 0, then "
            "write `Final Score: ` and a mark from 1 to 5.\nCaption: {prompt}",
        ),
        shows=(picture(),),
        grammar=read_picture,
        aggregate=final_between(1, 5),
    ),
    "axes": Judge(
        prompt=Prompt(
            pins=(Pin(REPOSITORY, COMMIT, V2 + "point_score_ACS_image_generation.py", "problem",
                      "26b7b69f0ac7e57191730fa7fb4130737af3dce280c3320ffaec8013d68594c2"),),
            own=_axes("picture", IMAGE_AXES),
        ),
        shows=(picture(),),
        grammar=lambda text: read_axes(text, IMAGE_AXES),
        aggregate=mean_between(1, 5),
    ),
    "edit": Judge(
        prompt=Prompt(
            pins=(Pin(REPOSITORY, COMMIT, EDIT + "edit_pointwise_instruction_following.py", "problem",
                      "c91bd5942a17fdd3cfc7c2066b162fd91ba7500e53babed3b7773fefcf2ec43e"),),
            fields={"{instruction}": "prompt"},
            own=OWN_VIE.format(what="the second picture, an edit of the first,",
                               names="how far the edit succeeds, and how little else was changed"),
        ),
        shows=(source(), picture()),
        grammar=lambda text: read_vie(text, "edit"),
        aggregate=least,
    ),
    "quality": Judge(
        prompt=Prompt(
            pins=(Pin(REPOSITORY, COMMIT, EDIT + "edit_pointwise_quality.py", "problem",
                      "ddb40baa511dbf2fd619474e5a0fcd043c6325f976bfc8fd1f8b9fbf4c521113"),),
            fields={},
            own=OWN_VIE.format(what="this picture", names="how natural it is, and how free of artifacts")
            .replace("{prompt}\n", ""),
        ),
        shows=(picture(),),
        grammar=lambda text: read_vie(text, "quality"),
        aggregate=least,
    ),
}  # fmt: skip
CLIPS = {
    "final": Judge(
        prompt=Prompt(
            pins=(Pin(REPOSITORY, COMMIT, V1 + "video_generation/qwen_point_score_video_generation.py",
                      CONTENT, "9fd22d429c1c3dd90103af06512ff863f445f166683512fc282cbdd7b6e2de42"),),
            own="Mark this clip, made for the caption: {prompt}\nWrite exactly these lines, marks from 1 "
            "to 4 and a final one from 1 to 10:\n" + "\n".join(f"{axis}: mark" for axis in CLIP_AXES)
            + "\nFinal Score: mark",
        ),
        shows=(clip(),),
        grammar=read_clip,
        aggregate=final_between(1, 10),
    ),
    "axes": Judge(
        prompt=Prompt(
            pins=(Pin(REPOSITORY, COMMIT, V2 + "point_score_APS_video_generation.py", "problem",
                      "c65c7e4953fe911cde24bbf17179d37d6799c153efc7f613ecb55b7d3a35f316"),),
            own=_axes("clip by its frames", VIDEO_AXES),
        ),
        shows=(frames(16, "floor"),),
        grammar=lambda text: read_axes(text, VIDEO_AXES),
        aggregate=mean_between(1, 5),
    ),
}  # fmt: skip
Form = Literal["final", "axes", "edit", "quality"]


LICENCE = "MIT (UnifiedReward's prompts); the judge's own"


@reward(
    "unifiedreward", needs=("prompt", "shown"), range=(0.0, 1.0), paper="arXiv:2503.05236", licence=LICENCE
)
def unifiedreward(
    judge: str = "CodeGoat24/UnifiedReward-2.0-qwen3vl-8b",
    form: Form = "axes",
    words: str = "published",
    max_tokens: int = 2048,
    temperature: float = 0.0,
    seed: int = 0,
    votes: int = 1,
    dtype: str = "float32",
) -> Any:
    """The judge's mark of a picture or clip, mapped from its scale to [0, 1]; its words are in the note.

    "final" is the final mark, "axes" the mean of three, "edit" and "quality" the smaller of two; `parts` has
    the marks on their own scale. A mark that is not there is "missing", one outside the scale "out_of_range"
    (upstream takes 0, or any three numbers). A trainer that divides a picture's mark from 1 to 5 by 5
    has 0.2 + 0.8 times the value here: `scale: unifiedreward/5`.

    Clips are shown as upstream does: in the form "axes" 16 frames floor(n T / 16) as pictures, in the form
    "final" as a clip, of which the model takes its own frames (MODEL@URL?clips=video on a server).

    Args:
        judge: a VLM (hub id, folder, "mini-vlm", or MODEL@URL for a served one); "CodeGoat24/UnifiedReward-
            qwen-7b" for "final", "CodeGoat24/UnifiedReward-Edit-qwen3vl-8b" for the last two.
        form: "final" (version 1), "axes" (2.0), "edit" (the source is the first of `inputs`) or "quality".
        words: "published", "own", or a folder with FORM_image.txt and FORM_video.txt (a file for edits); see
            `published.wording.worded`.
        max_tokens: length at which a judgement is cut off.
        temperature: of the sampling; 0 is greedy.
        seed: of the sampling; that of the first vote.
        votes: samples whose mean is taken; `parts["uncertainty"]` is their standard deviation.
        dtype: of the judge.
    """
    if form not in PICTURES:
        raise ValueError(f"form is {form!r}: {', '.join(PICTURES)}")
    options = Options(max_tokens, temperature, seed, votes).checked()
    forms: dict[str, tuple[Judge[Marks], Wording]] = {
        kind: (table[form], worded(words, table[form].prompt, f"{form}_{kind}" if form in CLIPS else ""))
        for kind, table in (("image", PICTURES), ("video", CLIPS))
        if form in table
    }
    vlm = models.vlm(judge, dtype=dtype)

    async def score(sample: Sample) -> Score:
        kind = "image" if sample.image is not None else "video"
        if kind not in forms:
            raise Unscorable(f"the form {form} judges pictures, and this is a clip", "missing")
        return await judged(vlm, *forms[kind], (sample,), options)

    return score
