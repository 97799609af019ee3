"""RationalRewards (arXiv:2604.11626): Qwen3-VL-8B that justifies every aspect before it marks it from 1 to 4.

Its text is `# Detailed Judgement` with a numbered block for each aspect (`## Justification`, `## Score`, or
`## Score A`, `## Score B` and `## Winner` of a pair), `# Summary`, and of one picture `# User Request
Refinement`. Only lines of those blocks are read: the analysis before and the summary after may name aspects
and numbers, too. Upstream's modular reader looks for a heading that its prompt does not have, and so marks
physical quality 2.5 and text faithfulness with the mark of text rendering; bold marks are not found there.
"""

import re
from collections.abc import Mapping, Sequence
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
    PairMarks,
    by_sum,
    judged,
    mean_between,
    picture,
    source,
)
from .grammar import body_of, mark_of
from .wording import Prompt, worded

LOW, HIGH = 1.0, 4.0
FAITHFUL, KEPT, QUALITY, RENDERING = (
    "text_faithfulness",
    "image_faithfulness",
    "physical_quality",
    "text_rendering",
)
HEADINGS = {
    FAITHFUL: ("text faithfulness",),
    KEPT: ("image faithfulness",),
    QUALITY: ("physical and visual quality", "physical & visual quality", "physical quality"),
    RENDERING: ("text rendering",),
}
ASPECTS = {"t2i": (FAITHFUL, QUALITY, RENDERING), "edit": (FAITHFUL, KEPT, QUALITY, RENDERING)}
NUMBERED = re.compile(r"\d{1,2}[.)]\s*")
REMARK = re.compile(r"\s*\([^()]*\)$")
LINE = re.compile(r"(score|winner)(?:\s+([ab]))?[\s*]*:(.*)")
START, ENDS = ("detailed judgement", "detailed judgment"), ("summary", "user request refinement")
ORNAMENT = " #*_`>-:\t"
WINNERS = {"image a": "1", "a": "1", "image b": "2", "b": "2", "it's a tie": "", "tie": "", "a tie": ""}


def lines_of(text: str) -> list[str]:
    """Lines of the detailed judgement, in lower case; all where it has no such heading.

    Raises:
        Unscorable: "unparsable" for two of them; see also `grammar.body_of`.
    """
    lines = [nfkc(line[:2000]).casefold().strip() for line in body_of(text).splitlines()]
    starts = [number for number, line in enumerate(lines) if line.strip(ORNAMENT) in START]
    if len(starts) > 1:
        raise Unscorable(f"{len(starts)} detailed judgements where one is expected", "unparsable")
    kept = lines[starts[0] + 1 :] if starts else lines
    for number, line in enumerate(kept):
        if line.startswith("#") and line.strip(ORNAMENT).startswith(ENDS):
            return kept[:number]
    return kept


def heading_of(line: str) -> str:
    """Words of a heading without ornament, number and remark."""
    bare = NUMBERED.sub("", line.strip(ORNAMENT), count=1).strip(ORNAMENT)
    return REMARK.sub("", bare[:80]).strip(ORNAMENT)


def fields_of(text: str, aspects: Sequence[str]) -> dict[tuple[str, str], str]:
    """(aspect, "score" or "winner", with " a" or " b" for one of a pair) -> what stands there.

    Raises:
        Unscorable: "unparsable" where a field stands twice with different words; "missing" for an aspect
            without a block.
    """
    known = {heading: aspect for aspect in aspects for heading in HEADINGS[aspect]}
    found: dict[tuple[str, str], str] = {}
    seen: set[str] = set()
    current, awaiting = "", ""
    for line in lines_of(text):
        if (heading := heading_of(line)) in known:
            current, awaiting = known[heading], ""
            seen.add(current)
            continue
        if NUMBERED.match(line.strip(ORNAMENT)) and line.endswith((":", ":**")):
            current, awaiting = "", ""  # an aspect that nobody asked for
            continue
        # A field's words stand beside it, or on the next line that says anything.
        words = line
        if current and (field := LINE.fullmatch(line.lstrip(ORNAMENT))) is not None:
            awaiting, words = f"{field[1]} {field[2] or ''}".strip(), field[3]
        if not awaiting or not (words := words.strip(" *_`\t")):
            continue
        if (before := found.setdefault((current, awaiting), words)) != words:
            reason = f"{current} has two fields {awaiting}: {before[:40]!r} and {words[:40]!r}"
            raise Unscorable(reason, "unparsable")
        awaiting = ""
    if absent := [aspect for aspect in aspects if aspect not in seen]:
        raise Unscorable(f"no judgement of {', '.join(absent)} in: {text[:200]}", "missing")
    return found


def read_point(text: str, aspects: Sequence[str]) -> Marks:
    """Marks of one picture; only text rendering may be N/A.

    Raises:
        Unscorable: see `fields_of` and `grammar.mark_of`.
    """
    found = fields_of(text, aspects)
    return Marks({aspect: _mark(found, aspect, "score") for aspect in aspects})


def read_pair(text: str, aspects: Sequence[str]) -> PairMarks:
    """Marks of two pictures. The winners that the judge names are held against its marks: where most of them
    are the picture with the smaller sum, it contradicts itself.

    Raises:
        Unscorable: see `fields_of` and `grammar.mark_of`; "unparsable" for a winner that is none.
    """
    found = fields_of(text, aspects)
    first = {aspect: _mark(found, aspect, "score a") for aspect in aspects}
    second = {aspect: _mark(found, aspect, "score b") for aspect in aspects}
    for aspect in aspects:
        if (first[aspect] is None) != (second[aspect] is None):
            raise Unscorable(f"{aspect} applies to one of the two pictures only", "unparsable")
    winners = [_winner(found, aspect) for aspect in aspects if (aspect, "winner") in found]
    named = [winner for winner in winners if winner]
    marks = PairMarks(first, second)
    balance = 2 * named.count("1") - len(named)
    difference = sum(marks.parts.values())
    if balance * difference < 0:
        words = f"the winners are mostly image {'A' if balance > 0 else 'B'}, the marks say the other"
        marks = marks._replace(contradiction=words)
    return marks


def _mark(found: Mapping[tuple[str, str], str], aspect: str, name: str) -> float | None:
    words = found.get((aspect, name), "")
    return mark_of(words, LOW, HIGH, f"{aspect} {name}", optional=aspect == RENDERING)


def _winner(found: Mapping[tuple[str, str], str], aspect: str) -> str | None:
    words = found[aspect, "winner"].strip(" .[]*").replace("\u2019", "'")
    if words in ("n/a", "na") and aspect == RENDERING:
        return None
    if words not in WINNERS:
        raise Unscorable(
            f"the winner of {aspect} is {words[:40]!r}, neither image A nor image B", "unparsable"
        )
    return WINNERS[words]


# --- prompts ----------------------------------------------------------------------------------------------

REPOSITORY, COMMIT = "TIGER-AI-Lab/RationalRewards", "44e27ab68d537bee8a6831efe000701664853435"
RL = "diffusion_rl_training/train_qwen_edit_rationalrewards.py"
INFERENCE = "reward_model_evaluation/rm_inference/inference_mmrb2_"
PORT = ("X-GenGroup/Flow-Factory", "a0b2bc5a2b4fbf9125429b3fb70c0c5d7631047c")
PORTED = "src/flow_factory/rewards/rational_rewards_t2i.py"
BLOCK = "{number}. {name}:\n## Justification: why\n## Score: a number from 1 to 4{extra}\n"
PAIR_BLOCK = (
    "{number}. {name}:\n## Justification: why\n## Score A: a number from 1 to 4{extra}\n"
    "## Score B: the same\n## Winner: Image A, Image B or It's a tie{extra}\n"
)


def _layout(block: str, aspects: Sequence[str]) -> str:
    return "# Detailed Judgement\n" + "".join(
        block.format(
            number=number,
            name=HEADINGS[aspect][0].title().replace(" And ", " and "),
            extra=", or N/A if no text is asked for" if aspect == RENDERING else "",
        )
        for number, aspect in enumerate(aspects, 1)
    )


OWN = {
    "t2i": "Judge this picture <image>, which was made for the request: {prompt}\n",
    "edit": "Judge an edit for the request: {prompt}\nSource: <image>\nEdited: <image>\n",
}
OWN_PAIR = {
    "t2i": "Compare two pictures made for the request: {prompt}\nA: <image>\nB: <image>\n",
    "edit": "Compare two edits for the request: {prompt}\nSource: <image>\nA: <image>\nB: <image>\n",
}
TOLD = "Marks go from 1 (worst) to 4 (best) and may have decimals. Use exactly this layout:\n"
CLOSING = "# Summary: one sentence\n# User Request Refinement:\n## Refined Request: a better request"
REQUEST = {"{request}": "prompt"}
POINT = {
    "t2i": Prompt(
        pins=(
            Pin(*PORT, PORTED, "build_scoring_user_content.text_before",
                "80ba21867d0339db75a9709e5372cb5c70e632f6116646bf5dbfc2e1c2b59b7d"),
            Pin(*PORT, PORTED, "T2I_SCORING_PROMPT_SUFFIX",
                "161a8b5f24f229cf77cf10946cb0cf807b67972a8101d559265feda0a1d487ee"),
        ),
        make="<image>".join,
        system=(
            Pin(*PORT, PORTED, "RATIONAL_T2I_SYSTEM_PROMPT",
                "2fa66ca8679e6eedc5c9c8832c89b6953f64f74da34e921ddbf9f9e37faa965b"),
        ),
        own=OWN["t2i"] + TOLD + _layout(BLOCK, ASPECTS["t2i"]) + CLOSING,
    ),
    "edit": Prompt(
        pins=(
            Pin(REPOSITORY, COMMIT, RL, "TASK_RELATED_TEMPLATE",
                "6bfb35d6d7c088c6a45e1e71624f89079a2d4bd5260b9f04ed8d10487f531cfe"),
            Pin(REPOSITORY, COMMIT, RL, "COMMON_TASK_GUIDELINE",
                "210e61c0c7d2e52bc512bef49e7ddcc5cb47792a4e49daa89ae660abe4e45e89"),
        ),
        make="\n\n".join,
        fields=REQUEST,
        system=(
            Pin(REPOSITORY, COMMIT, RL, "SYSTEM_PROMPT",
                "5463ca34f3c70f45b5cb1624a66c48f5bc0ab70bead56086960a87a45cda6e5e"),
        ),
        own=OWN["edit"] + TOLD + _layout(BLOCK, ASPECTS["edit"]) + CLOSING,
    ),
}  # fmt: skip
PAIR = {
    "t2i": Prompt(
        pins=(
            Pin(REPOSITORY, COMMIT, INFERENCE + "imggen.py", "instruction",
                "845b41f20c6f6884d53b6323b057b8c3e543baf2fd352101af715afaff7b64a3"),
        ),
        fields=REQUEST,
        own=OWN_PAIR["t2i"] + TOLD + _layout(PAIR_BLOCK, ASPECTS["t2i"]) + "# Summary: one sentence",
    ),
    "edit": Prompt(
        pins=(
            Pin(REPOSITORY, COMMIT, INFERENCE + "imgedit.py", "instruction",
                "b7e28e7c98ea7514c5a6d44a86dfab2e56a9b0eb39bda0f301f8b292213ed373"),
        ),
        fields=REQUEST,
        own=OWN_PAIR["edit"] + TOLD + _layout(PAIR_BLOCK, ASPECTS["edit"]) + "# Summary: one sentence",
    ),
}  # fmt: skip
Task = Literal["t2i", "edit"]


LICENCE = "none stated for the prompts of pairs, Apache-2.0 for the others; the judge's own"


@reward(
    "rationalrewards", needs=("prompt", "image"), range=(0.0, 1.0), paper="arXiv:2604.11626", licence=LICENCE
)
def rationalrewards(
    judge: str = "TIGER-Lab/RationalRewards-8B-T2I",
    task: Task = "t2i",
    aspects: Sequence[str] = (),
    words: str = "published",
    max_tokens: int = 2048,
    temperature: float = 0.0,
    seed: int = 0,
    votes: int = 1,
    dtype: str = "float32",
) -> Any:
    """Mean mark of the aspects that apply, mapped from [1, 4] to [0, 1]; the critique is in the note.

    `parts` holds the marks: text_faithfulness, physical_quality, text_rendering, and image_faithfulness of an
    edit. An aspect without a mark is "missing", one outside the scale "out_of_range", and only text rendering
    may be N/A; upstream pays 0 for a judgement that it cannot read. Its training on edits leaves
    image_faithfulness out of the mean (`aspects`), and samples at temperature 0.1.

    The published words of `task="edit"` are the publisher's; those of "t2i" are Flow-Factory's, which the
    authors wrote there, as their own repository has none for one picture.

    Args:
        judge: a VLM (hub id, folder, "mini-vlm", or MODEL@URL for a served one).
            "TIGER-Lab/RationalRewards-8B-Edit" for edits.
        task: "t2i", or "edit", where the source picture is the first of `inputs`.
        aspects: those of which the mean is taken; all by default.
        words: "published", "own", or a file; see `published.wording.worded`.
        max_tokens: length at which a judgement is cut off.
        temperature: of the sampling; 0 is greedy.
        seed: of the sampling; that of the first vote.
        votes: samples whose mean is taken; `parts["uncertainty"]` is their standard deviation.
        dtype: of the judge.
    """
    known = ASPECTS[_task(task)]
    if unknown := [aspect for aspect in aspects if aspect not in known]:
        raise ValueError(f"{unknown[0]!r} is no aspect of {task}: {', '.join(known)}")
    options = Options(max_tokens, temperature, seed, votes).checked()
    chosen = tuple(aspects) or known

    def grammar(text: str) -> Marks:
        marks = read_point(text, known)
        return Marks({aspect: marks.scores[aspect] for aspect in chosen})

    shows = (picture(),) if task == "t2i" else (source(), picture())
    declared = Judge(prompt=POINT[task], shows=shows, grammar=grammar, aggregate=mean_between(LOW, HIGH))
    wording = worded(words, declared.prompt)
    vlm = models.vlm(judge, dtype=dtype)

    async def score(sample: Sample) -> Score:
        return await judged(vlm, declared, wording, (sample,), options)

    return score


@reward("rationalrewards_pair", needs=("prompt", "image"), range=(0.0, 1.0), arity="pair",
        paper="arXiv:2604.11626",
        licence=LICENCE)  # fmt: skip
def rationalrewards_pair(
    judge: str = "TIGER-Lab/RationalRewards-8B-T2I",
    task: Task = "t2i",
    words: str = "published",
    contradictions: Literal["fail", "keep"] = "fail",
    max_tokens: int = 4096,
    temperature: float = 0.0,
    seed: int = 0,
    votes: int = 1,
    dtype: str = "float32",
) -> Any:
    """1 where the first picture has the larger sum of marks, 0 where the second has, 0.5 for equal sums.

    Both orders are asked, and `parts["swing"]` is their disagreement; `parts` also holds the difference of
    the marks by aspect. Upstream takes the sums as well, fills in 2.5 for a mark that it does not find, and
    asks in one order.

    Args:
        judge, task, words, max_tokens, temperature, seed, votes, dtype: see `rationalrewards`.
        contradictions: "fail" where most winners that the judge names have the smaller sum ("unparsable");
            "keep" takes the sums and says so in `parts["contradiction"]`.
    """
    aspects = ASPECTS[_task(task)]
    options = Options(max_tokens, temperature, seed, votes, contradictions).checked()
    declared = Judge(
        prompt=PAIR[task],
        shows=(*((source(),) if task == "edit" else ()), picture(0), picture(1)),
        grammar=lambda text: read_pair(text, aspects),
        aggregate=by_sum,
    )
    wording = worded(words, declared.prompt)
    vlm = models.vlm(judge, dtype=dtype)

    async def score(first: Sample, second: Sample) -> Score:
        return await judged(vlm, declared, wording, (first, second), options)

    return score


def _task(task: str) -> Task:
    if task not in ASPECTS:
        raise ValueError(f"task is {task!r}: t2i or edit")
    return task  # type: ignore[return-value]
