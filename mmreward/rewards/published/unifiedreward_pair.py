"""UnifiedReward on two candidates (arXiv:2503.05236, Think: 2505.03318): verdict, shares, reasoning, edits.

Forms: "rank" is version 1 ("Image 2 is better.", "Both images are equally good."); "shares" is version 2.0
(for each of three axes two marks whose sum is 1); "think" is UnifiedReward-Think, which marks both from 1 to
10 by dimension, adds the marks up in writing (`Image 1: 9+8+8=25`) and answers; "edit" and "edit_marks" are
UnifiedReward-Edit. What does not add up contradicts itself: shares with another sum, a total that is not that
of its summands, a verdict for the candidate with the smaller total. "flex" is UnifiedReward-Flex, see `flex`.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

from ... import models
from ...errors import Unscorable
from ...models.pinned import Pin
from ...registry import reward
from ...types import Sample, Score
from ...verifiers.text import nfkc
from .declaring import (
    Judge,
    Look,
    Options,
    PairMarks,
    by_share,
    by_sum,
    by_verdict,
    clip,
    frames,
    judged,
    picture,
    source,
)
from .flex import read_flex
from .grammar import answered_of, body_of, certain, mark_of, preferred, verdict_in
from .unifiedreward import COMMIT, CONTENT, EDIT, IMAGE_AXES, REPOSITORY, V1, V2
from .wording import Prompt, Wording, worded

NEAR = 0.01
"""Largest distance of two shares' sum from 1: they are written with float noise, or with two digits."""
AXIS = re.compile(r"[\s#*]*(alignment|coherence|style)\s+score[\s*]*:?[\s*]*")
CANDIDATE = re.compile(r"[\s#*\-]*(?:edited\s+)?(image|video)\s+([12])(?:\s+score)?[\s*]*:(.*)")
TOTAL = re.compile(
    r"[\s*\-]*(image|video|answer)\s+([12])[\s*]*:\s*([\d.+\s]{1,200})=\s*([\d.]{1,12})[\s*]*(?:/\s*\d{1,4})?[\s.*]*"
)
OF_TEN = re.compile(r"(image|video|answer)\s+([12])\s*\(\s*([\d.]{1,6})\s*/\s*10\s*\)")


def read_rank(text: str, noun: str) -> PairMarks:
    """Verdict in words, after the reasoning.

    Raises:
        Unscorable: see `grammar.verdict_in`.
    """
    return PairMarks({}, {}, verdict_in(body_of(text), noun))


def read_shares(text: str, noun: str) -> PairMarks:
    """Two marks from 0 to 1 by axis; axes whose marks have another sum than 1 are a contradiction.

    Raises:
        Unscorable: "missing" where an axis has not both marks; see also `grammar.mark_of` and
            `grammar.certain`.
    """
    names = [label.partition(" ")[0].casefold() for label in IMAGE_AXES]
    marks: dict[tuple[str, str], float] = {}
    axis = ""
    for line in certain(body_of(text)).splitlines():
        plain = nfkc(line[:400]).casefold()
        if (heading := AXIS.fullmatch(plain)) is not None:
            axis = heading[1]
        elif axis and (match := CANDIDATE.fullmatch(plain)) is not None and match[1] == noun:
            _once(marks, (axis, match[2]), mark_of(match[3], 0, 1, f"{axis} of {noun} {match[2]}"))
    if absent := [name for name in names for place in "12" if (name, place) not in marks]:
        raise Unscorable(f"no two marks for {', '.join(dict.fromkeys(absent))} in: {text[:200]}", "missing")
    first, second = ({name: marks[name, place] for name in names} for place in "12")
    off = [name for name in names if abs(first[name] + second[name] - 1) > NEAR]
    words = f"the marks for {', '.join(off)} do not have the sum 1" if off else ""
    return PairMarks(first, second, contradiction=words)


def read_marks(text: str, noun: str = "image") -> PairMarks:
    """One signed mark of each of two edits; upstream's pattern drops the sign and finds no integers.

    Raises:
        Unscorable: "missing" without both; see also `grammar.mark_of` and `grammar.certain`.
    """
    marks: dict[tuple[str, str], float] = {}
    for line in certain(body_of(text)).splitlines():
        match = CANDIDATE.fullmatch(nfkc(line[:400]).casefold())
        if match is not None and match[1] == noun:
            _once(marks, ("overall", match[2]), mark_of(match[3], -1000, 1000, f"{noun} {match[2]}"))
    if len(marks) < 2:
        raise Unscorable(f"no mark for each of the two {noun}s in: {text[:200]}", "missing")
    return PairMarks({"overall": marks["overall", "1"]}, {"overall": marks["overall", "2"]})


def _once(marks: dict[tuple[str, str], float], key: tuple[str, str], mark: float | None) -> None:
    assert mark is not None, "N/A is refused"
    if marks.setdefault(key, mark) != mark:
        raise Unscorable(f"{' '.join(key)} has two marks, {marks[key]:g} and {mark:g}", "unparsable")


def read_think(text: str, noun: str) -> PairMarks:
    """Verdict in `<answer>` tags after reasoning with totals, which are added up again.

    Totals may be absent, as the judge was also trained on answers without. The verdict is the answer's alone:
    upstream looks for it anywhere, also in the reasoning.

    Raises:
        Unscorable: "unparsable" without reasoning and one answer that is a verdict.
    """
    thought, answer = answered_of(text)
    if not thought:
        raise Unscorable("there is no reasoning before the answer", "unparsable")
    verdict = preferred(answer)
    plain = nfkc(thought).casefold()
    totals: dict[str, tuple[list[float], float]] = {}
    for line in plain.splitlines():
        match = TOTAL.fullmatch(line[:400])
        if match is None or match[1] != noun:
            continue
        total = ([_number(one) for one in match[3].split("+")], _number(match[4]))
        if totals.setdefault(match[2], total) != total:
            raise Unscorable(f"{noun} {match[2]} has two totals", "unparsable")
    listed = {
        place: [_number(m[3]) for m in OF_TEN.finditer(plain) if m[1] == noun and m[2] == place]
        for place in "12"
    }
    if set(totals) != {"1", "2"}:
        return PairMarks({}, {}, verdict)
    first, second = totals["1"][1], totals["2"][1]
    return PairMarks(
        {"total": first}, {"total": second}, verdict, _contradiction(totals, listed, verdict, noun)
    )


def _contradiction(
    totals: Mapping[str, tuple[list[float], float]],
    listed: Mapping[str, list[float]],
    verdict: str,
    noun: str,
) -> str:
    for place, (summands, total) in sorted(totals.items()):
        if abs(sum(summands) - total) > 1e-6:
            return f"the total of {noun} {place} is {sum(summands):g}, and it says {total:g}"
        # A rationale may name a mark again; then there are more than were added up.
        if len(listed[place]) == len(summands) and sorted(listed[place]) != sorted(summands):
            return f"the total of {noun} {place} adds up other marks than it gave"
    difference = totals["1"][1] - totals["2"][1]
    if (difference > 0 and verdict == "2") or (difference < 0 and verdict == "1"):
        return f"{noun} {verdict} is to be better, and has the smaller total"
    return ""


def _number(words: str) -> float:
    try:
        return float(words)
    except ValueError:
        raise Unscorable(f"{words.strip()[:20]!r} in a total is no number", "unparsable") from None


# --- prompts ----------------------------------------------------------------------------------------------

THINK = "UnifiedReward-Think/inference_qwen/"
ANSWER = (
    "Think between <think> and </think>: mark both from 1 to 10 by dimension and add the marks up as "
    "`{noun} 1: 8+7=15`, then write `{noun} 1 is better` or `{noun} 2 is better` between <answer> and "
    "</answer>."
)
FLEX = (
    '{{"categories": [{{"name": "", "dims": [{{"name": "", "reason_1": "", "reason_2": "", '
    '"score_1": 0, "score_2": 10}}], "cat_winner": "{noun} 2"}}], "reason": "", "winner": "{noun} 2"}}'
)
SHARES = "\n".join(f"{label}:\n {{noun}} 1: a share\n {{noun}} 2: the rest to 1" for label in IMAGE_AXES)
OWN = {
    "rank": "Which of two {nouns} made for the caption is better?\nCaption: {{prompt}}\nAnswer with "
    "`{noun} 1 is better.`, `{noun} 2 is better.` or `Both {nouns} are equally good.`",
    "shares": "Compare two {nouns} made for the caption: {{prompt}}\nWrite exactly:\n" + SHARES,
    "think": "Compare two {nouns} made for the caption: {{prompt}}\n" + ANSWER,
    "flex": "Compare two {nouns} made for the caption: {{prompt}}\nChoose categories and dimensions, and "
    "give the two marks of each with the sum 10. Write one JSON object: " + FLEX,
}


def _own(form: str, noun: str) -> str:
    return OWN[form].format(noun=noun.title(), nouns=f"{noun}s")


def _judge(
    form: str, noun: str, pin: tuple[str, str, str], shows: tuple[Look, ...],
    grammar: Callable[[str, str], PairMarks], aggregate: Callable[[PairMarks], float],
) -> Judge[PairMarks]:  # fmt: skip
    prompt = Prompt(pins=(Pin(REPOSITORY, COMMIT, *pin),), own=_own(form, noun))
    return Judge(prompt=prompt, shows=shows, grammar=lambda text: grammar(text, noun), aggregate=aggregate)


BOTH = (picture(0), picture(1))
EDITS = (source(), *BOTH)
OWN_EDIT = "The first picture was edited in two ways, image 1 and image 2, for the request: {prompt}\n"
FIELDS = {"{instruction}": "prompt"}
PICTURES: dict[str, Judge[PairMarks]] = {
    "rank": _judge("rank", "image", (V1 + "image_generation/qwen_pair_rank_image_generation.py", CONTENT,
                   "9fa0115144d4037d15c2c2d000b5efcc2561e0a25658f080d67762bfff65346a"),
                   BOTH, read_rank, by_verdict),
    "shares": _judge("shares", "image", (V2 + "pair_score_image_generation.py", "problem",
                     "749fa5ec25a149302b8a78997fb4f9395727affc9e14377e10eded4d1dc8dda9"),
                     BOTH, read_shares, by_share),
    "think": _judge("think", "image", (THINK + "UnifiedReward-Think-qwen3-inference/"
                    "qwen3_infer_cot_image_generation.py", "problem",
                    "edbc1f4bf7acdcc4320296a989084edb1df2c31860df51a84be5534653a121cd"),
                    BOTH, read_think, by_verdict),
    "flex": _judge("flex", "image", ("UnifiedReward-Flex/flex_pair_rank_image_generation.py", "problem",
                   "c52d1b6c9d29cc6aa2f243284701f7efefe13d89f28427ea44bd176c2471974a"),
                   BOTH, read_flex, by_verdict),
    "edit": Judge(
        prompt=Prompt(
            pins=(Pin(REPOSITORY, COMMIT, EDIT + "edit_pairwise_rank.py", "problem",
                      "079ba8ca7cb0b920830d40cfc30e36715fef371cded28fadad71d8c720fdbeca"),),
            fields=FIELDS,
            own=OWN_EDIT + "Answer with `Image 1 is better.` or `Image 2 is better.`",
        ),
        shows=EDITS, grammar=lambda text: read_rank(text, "image"), aggregate=by_verdict,
    ),
    "edit_marks": Judge(
        prompt=Prompt(
            pins=(Pin(REPOSITORY, COMMIT, EDIT + "edit_paiwise_score.py", "problem",
                      "2d78b8aa74c8eed976ac400feec7823c4dad095fff1a72710a97368bf59d637c"),),
            fields=FIELDS,
            own=OWN_EDIT + "Write a mark of each, which may be below 0:\nImage 1: mark\nImage 2: mark",
        ),
        shows=EDITS, grammar=read_marks, aggregate=by_sum,
    ),
}  # fmt: skip
CLIPS: dict[str, Judge[PairMarks]] = {
    "rank": _judge("rank", "video", (V1 + "video_generation/qwen_pair_rank_video_generation.py", CONTENT,
                   "897f9fe5beeffb3b447a3ec0a1cf71ec13d067db105ce431ee690a71de916b5c"),
                   (clip(0), clip(1)), read_rank, by_verdict),
    "shares": _judge("shares", "video", (V2 + "pair_score_video_generation.py", "problem",
                     "d56aa2f648a65fb0a2b0e7159e82db5fedcf870a6899d79a30808b03748d1d27"),
                     (frames(8, "floor", 0), frames(8, "floor", 1)), read_shares, by_share),
    "think": _judge("think", "video", (THINK + "UnifiedReward-Think-qwen3-inference/"
                    "qwen3_infer_cot_video_generation.py", "problem",
                    "0c3e7a92fc6db99552a5481297153645a4baa001a30538c5860f31ee1bad6c21"),
                    (frames(8, "ends", 0), frames(8, "ends", 1)), read_think, by_verdict),
    "flex": _judge("flex", "video", ("UnifiedReward-Flex/flex_pair_rank_video_generation.py", "problem",
                   "0ddcd59a40067e61ceac69ba7925c7d7a9af3a3840031c9ea7a4d9997fa19498"),
                   (frames(8, "ends", 0), frames(8, "ends", 1)), read_flex, by_verdict),
}  # fmt: skip
Form = Literal["rank", "shares", "think", "flex", "edit", "edit_marks"]


LICENCE = "MIT (UnifiedReward's prompts); the judge's own"


@reward("unifiedreward_pair", needs=("prompt", "shown"), range=(0.0, 1.0), arity="pair",
        paper="arXiv:2503.05236, arXiv:2505.03318",
        licence=LICENCE)  # fmt: skip
def unifiedreward_pair(
    judge: str = "CodeGoat24/UnifiedReward-Think-qwen3vl-8b",
    form: Form = "think",
    words: str = "published",
    contradictions: Literal["fail", "keep"] = "fail",
    max_tokens: int = 4096,
    temperature: float = 0.0,
    seed: int = 0,
    votes: int = 1,
    dtype: str = "float32",
) -> Any:
    """1 where the judge prefers the first of two pictures or clips, 0 for the second, 0.5 for a tie.

    In the form "shares" it is the first one's mean share of the marks. Both orders are asked, and
    `parts["swing"]` is their disagreement, 1 for a judge that goes by the place.

    Args:
        judge: a VLM (hub id, folder, "mini-vlm", or MODEL@URL for a served one): of version 1 for "rank", 2.0
            for "shares", Think and Flex for those, "CodeGoat24/UnifiedReward-Edit-qwen3vl-8b" for edits.
        form: "rank", "shares", "think", "flex", or of edits, whose source is the first of `inputs`, "edit"
            and "edit_marks".
        words: "published", "own", or a folder with FORM_image.txt and FORM_video.txt (a file for edits); see
            `published.wording.worded`.
        contradictions: "fail" where shares have another sum than 1, a total is not that of its marks, or the
            verdict is against the totals ("unparsable"); "keep" takes the verdict and says so in
            `parts["contradiction"]`.
        max_tokens: length at which a judgement is cut off; upstream's 512 cut long reasoning.
        temperature: of the sampling; 0 is greedy.
        seed: of the sampling; that of the first vote.
        votes: samples whose mean is taken.
        dtype: of the judge.
    """
    if form not in PICTURES:
        raise ValueError(f"form is {form!r}: {', '.join(PICTURES)}")
    options = Options(max_tokens, temperature, seed, votes, contradictions).checked()
    forms: dict[str, tuple[Judge[PairMarks], Wording]] = {
        kind: (table[form], worded(words, table[form].prompt, f"{form}_{kind}" if form in CLIPS else ""))
        for kind, table in (("image", PICTURES), ("video", CLIPS))
        if form in table
    }
    vlm = models.vlm(judge, dtype=dtype)

    async def score(first: Sample, second: Sample) -> Score:
        kind = "image" if first.image is not None else "video"
        if kind not in forms:
            raise Unscorable(f"the form {form} judges pictures, and this is a clip", "missing")
        return await judged(vlm, *forms[kind], (first, second), options)

    return score
