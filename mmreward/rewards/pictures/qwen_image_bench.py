"""Qwen-Image-Bench (arXiv:2605.28091): a judge that marks a picture on five checklists of one to a score of
criteria each, 0 (fails), 1 (passes), 2 (excels) or N/A.

The lists, their layout and the system message are the publisher's file, which is fetched and not kept here.
What stands in it under "## HEADING" and "- CRITERION: question" says which criteria there are.
"""

import json
import re
from asyncio import gather
from collections.abc import Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import Any, Literal, NamedTuple

import numpy as np

from ... import models
from ...errors import Unscorable
from ...media import Media
from ...models.pinned import Pin
from ...models.published import published
from ...reading import aside
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score
from ...verifiers.thoughts import after_thinking

Dimension = Literal["Quality", "Aesthetics", "Alignment", "Real-world Fidelity", "Creative Generation"]
DIMENSIONS: dict[str, str] = {
    "Quality": "8a6d823d018c436ca27b699107b51a9e6f13a77cef6c0c550b61668a302d2854",
    "Aesthetics": "17842a0465c43e1dbeefde4751f2820db6f5bfc32118cd26b26c888aebc09560",
    "Alignment": "f7c12833f8b09e05d6175799ef0136453c8f44950bb5f70c3b321c793c42be82",
    "Real-world Fidelity": "4d9cf534b6b8d9fa71d8cbf5694cedcc48fa8c75b57049bb33ab55bf039a898a",
    "Creative Generation": "632992f5e337d6bb331de57fe9e885ca4b178d94098852a8db7754d599572f61",
}
"""Dimension -> SHA-256 of its list."""
SYSTEM = "654a1e24488b20c4e891c71fafe1bf5ad073332886d75745bd7b393edaec345b"
TEMPLATE = "21c74f02756c974e9af2bf2bd652b01383110e2d2f227bfb46277eb8c02f2618"
# The authors' own last commit, as it lies in a fork: later ones of the fork leave criteria out.
WHERE = ("Stability-AI/Qwen-Image-Bench", "b6b556bb14dcb37da873bbb571c29273562804f2", "checklists.py")
PICTURE = "<image>"
FIELDS = ("{prompt}", PICTURE, "{level1_dim}", "{format_checklist}")
MARKS: dict[int, float] = {0: 0.0, 1: 60.0, 2: 100.0}
MISSPELT = {"Creative Generation": {"Feature Mapping": "Feature Matching"}}
"""Names that the released judge writes in the place of its list's."""
SIDE = 1024
"""Pictures with a longer side are squashed to a square of this, as published."""
MOST = 200
"""Criteria of one answer that are read."""


class Lists(NamedTuple):
    """System message, template, and the checklist of each dimension."""

    system: str
    template: str
    lists: Mapping[str, str]


@reward(
    "qwen_image_bench",
    needs=("prompt", "image"),
    range=(0.0, 100.0),
    paper="arXiv:2605.28091",
    licence="Apache-2.0 (Qwen-Image-Bench, its lists and its judge)",
    example={"prompt": "a red circle"},
)
def qwen_image_bench(
    judge: str = "Qwen/Qwen-Image-Bench",
    dimensions: tuple[Dimension, ...] = (),
    questions: str | None = None,
    max_tokens: int = 4096,
    dtype: str = "float32",
) -> Any:
    """Mean, 0 to 100, of a picture's marks on checklists of quality, beauty, alignment, fidelity, creation.

    Each dimension is one question to the judge, which thinks and answers in JSON. A criterion that fails is
    worth 0, one that passes 60, one that excels 100; N/A is left out. Criteria are averaged within their
    heading, headings within their dimension, dimensions in the end: `parts` has dimensions and headings. A
    row with `dims_en`, as in the benchmark's metadata, is asked about the dimensions that it names alone.

    As published: a picture with a side above 1,024 is squashed to 1,024 x 1,024, whatever its shape, and
    stands behind the prompt, within the text; of an answer the text after the thinking counts; a criterion
    that is written without its heading, or under another one, goes to its own. Otherwise than published: an
    answer that is cut off, is no JSON, or has a mark that is none of these fails the picture. Upstream leaves
    the dimension, or the criterion, out of the mean, so that a judge that says nothing of a picture's worst
    side makes it better. Where nothing applies at all the score is "na".

    Upstream runs the judge greedily with a repetition penalty of 1.05; here the penalty is that of the
    checkpoint's own generation settings, and thinking its chat template's.

    Args:
        judge: the released one (27 billion weights of the Qwen3.5 family), or another VLM (hub id, folder, or
            MODEL@URL for a served one); marks of another are other numbers.
        dimensions: those asked about; () for all five.
        questions: a file of your own in the place of the published texts, JSON with `system`, `template` and
            `lists` (dimension -> text).
        max_tokens: length at which an answer is cut off.
        dtype: of the judge.

    Raises:
        ValueError: the published file is not on this machine, with the command that fetches it; or yours has
            another form.
    """
    found = _lists(questions)
    asked: tuple[str, ...] = dimensions or tuple(DIMENSIONS)
    vlm = models.vlm(judge, dtype=dtype)

    async def score(sample: Sample) -> Score:
        assert sample.image is not None
        wanted = [name for name in _of_row(sample.meta) or asked if name in asked]
        if not wanted:
            raise Unscorable("dims_en names no dimension that is asked about", "na")
        picture = await aside(partial(squashed, sample.image))
        answers = await gather(*(_answer(name, picture, sample.prompt) for name in wanted))
        parts: dict[str, float] = {}
        failed: list[str] = []
        for name, answer in zip(wanted, answers, strict=True):
            headings = read_marks(answer, name, found.lists[name])
            values = {heading: fmean(marks.values()) for heading, marks in headings.items() if marks}
            if values:
                parts[name] = fmean(values.values())
            parts |= {f"{name}/{heading}": value for heading, value in values.items()}
            failed += [one for marks in headings.values() for one, mark in marks.items() if mark == 0]
        if not any(name in parts for name in wanted):
            raise Unscorable("no criterion applies to this picture", "na")
        value = fmean(parts[name] for name in wanted if name in parts)
        return Score(value, parts, note=f"fails: {', '.join(failed)}"[:1000] if failed else "")

    async def _answer(name: str, picture: Media, prompt: str) -> str:
        text, place = filled(found.template, prompt, name, found.lists[name])
        written = await vlm.write(picture, text, max_tokens=max_tokens, system=found.system, places=(place,))
        if not written.finished:
            raise Unscorable(f"{name}: cut off after {written.tokens} tokens", "unparsable")
        return written.text

    return score


def squashed(picture: Media) -> Media:
    """The picture as upstream shows it; see `SIDE`."""
    if max(picture.size) <= SIDE:
        return picture
    from PIL import Image

    small = Image.fromarray(picture.array()).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return Media(np.asarray(small))


def filled(template: str, prompt: str, dimension: str, checklist: str) -> tuple[str, int]:
    """The question, and the place of the picture in it; nothing that a prompt holds is taken for a field."""
    values = dict(zip(FIELDS, (prompt, "", dimension, checklist), strict=True))
    pieces = re.split("|".join(map(re.escape, FIELDS)), template)
    names = re.findall("|".join(map(re.escape, FIELDS)), template)
    text, place = _braces(pieces[0]), 0
    for name, piece in zip(names, pieces[1:], strict=True):
        place = len(text) if name == PICTURE else place
        text += values[name] + _braces(piece)
    return text, place


def _braces(text: str) -> str:
    """Doubled braces of a Python template, as `str.format` writes them."""
    return text.replace("{{", "{").replace("}}", "}")


# --- answers ------------------------------------------------------------------------------------------------


def criteria_of(checklist: str) -> dict[str, str]:
    """Criterion -> its heading, as a checklist lays them out."""
    found, heading = {}, ""
    for line in checklist.splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ").strip()
        elif line.startswith("- ") and ":" in line:
            found[line.removeprefix("- ").partition(":")[0].strip()] = heading
    return found


def read_marks(text: str, dimension: str, checklist: str) -> dict[str, dict[str, float]]:
    """Heading -> criterion -> 0, 60 or 100, of a judge's answer; what is N/A is left out.

    Raises:
        Unscorable: "unparsable" for an answer that is no object of marks, "missing" for an empty one,
            "out_of_range" for a mark that is none.
    """
    known = criteria_of(checklist)
    found: dict[str, dict[str, float]] = {}
    for written, name, mark in _entries(_object(text, dimension)):
        criterion = MISSPELT.get(dimension, {}).get(name, name)
        heading = found.setdefault(known.get(criterion, written or criterion), {})
        value = _mark(mark, f"{dimension}/{criterion}")
        noted("marked", "{}/{}: {}", dimension, criterion, mark)
        if value is not None:
            heading[criterion] = value
    if not found:
        raise Unscorable(f"{dimension}: the judge marked nothing", "missing")
    return found


def _object(text: str, dimension: str) -> dict[str, Any]:
    body = after_thinking(text).strip()
    start, end = body.find("{"), body.rfind("}")
    try:
        found = json.loads(body[start : end + 1])
    except (ValueError, RecursionError) as error:
        raise Unscorable(f"{dimension}: no JSON ({error}): {body[:200]}", "unparsable") from None
    if not isinstance(found, dict):
        raise Unscorable(f"{dimension}: no object of marks: {body[:200]}", "unparsable")
    return found


def _entries(found: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """(heading as written or "", criterion, mark); a flat answer has no headings."""
    entries: list[tuple[str, str, Any]] = []
    for name, value in found.items():
        if isinstance(value, dict) and "score" not in value:
            entries += [(name, own, mark) for own, mark in value.items()]
        else:
            entries.append(("", name, value))
    if len(entries) > MOST:
        raise Unscorable(f"{len(entries)} marks; {MOST} are read", "unparsable")
    return entries


def _mark(mark: Any, where: str) -> float | None:
    value = mark.get("score") if isinstance(mark, dict) else mark
    if isinstance(value, str) and value.strip().upper() == "N/A":
        return None
    if isinstance(value, str) and value.strip() in ("0", "1", "2"):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value not in MARKS:
        raise Unscorable(
            f"{where} has the mark {str(value)[:40]!r}, which is not 0, 1, 2 or N/A", "out_of_range"
        )
    return MARKS[int(value)]


def _of_row(meta: Mapping[str, Any]) -> Sequence[str]:
    """Dimensions of a row of the benchmark: "Quality / Realism / Noise; Alignment / Layout / 2D Space"."""
    said = meta.get("dims_en")
    if said is None:
        return ()
    if not isinstance(said, str):
        raise Unscorable(f"dims_en is {type(said).__name__}, not text")
    return list(dict.fromkeys(part.partition("/")[0].strip() for part in said.split(";") if part.strip()))


# --- the published texts ------------------------------------------------------------------------------------


def _lists(questions: str | None) -> Lists:
    if questions is not None:
        return published(Pin(*WHERE, "USER_PROMPT_TEMPLATE", TEMPLATE), _own, questions)
    names = {"SYSTEM_PROMPT": SYSTEM, "USER_PROMPT_TEMPLATE": TEMPLATE}
    system, template = (published(Pin(*WHERE, name, sha256), str) for name, sha256 in names.items())
    lists = {
        name: published(Pin(*WHERE, f"{re.sub('[ -]', '_', name.upper())}_CHECKLIST", sha256), str)
        for name, sha256 in DIMENSIONS.items()
    }
    return Lists(system, template, lists)


def _own(text: str) -> Lists:
    found = json.loads(text)
    if not isinstance(found, dict) or not {"system", "template", "lists"} <= set(found):
        raise ValueError("it has not system, template and lists")
    lists = Lists(found["system"], found["template"], found["lists"])
    if missing := [field for field in FIELDS if lists.template.count(field) != 1]:
        raise ValueError(f"its template has not one {missing[0]}")
    if missing := [name for name in DIMENSIONS if not criteria_of(lists.lists.get(name, ""))]:
        raise ValueError(f"its lists have no criterion of {missing[0]}")
    return lists
