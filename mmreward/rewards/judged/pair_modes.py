"""Modes of a comparison of two pictures in which the judge, or the person who asks, says what counts.

- "principles" (SPCT, arXiv:2504.02495): the judge chooses and weighs principles, and marks both by each.
- "given" (RewardAnything, arXiv:2506.03637): a principle in words; scores of both, and their order.
- "chain" (RM-R1, arXiv:2505.02387): the judge says what kind of task it is, writes a rubric with reasons (or
  solves the task), weighs both by it, and decides. The published messages are pinned; pictures stand where
  the answers did.
- "contrast" (CDRRM, arXiv:2603.08035): a model contrasts the two without saying which is better, and makes
  up to five rubrics of what sets them apart, or they were learned from labelled pairs and stand in a file;
  the judge sees the rubrics alone, and decides by each.

What a mode's form does not allow is a typed failure; a verdict against its own marks is a contradiction.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence

from ...errors import Unscorable
from ...models.pinned import Pin
from ...models.vlms.answers import VLM
from ...tracing import noted
from ...types import Sample
from ..published.declaring import Judge, ballot, picture, written
from ..published.grammar import TIE, body_of, mark_of, preferred
from ..published.votes import Options, PairMarks, Vote, by_sum, by_verdict
from ..published.wording import PICTURE, Prompt, Wording, values_of
from .aspects import plain_line
from .modes import CHOOSE, by_principle, read_principles, read_ranked, refuse_others, rubrics_of

BOTH = (picture(0), picture(1))

# --- principles of the judge's own ------------------------------------------------------------------------

SCORE = re.compile(r"score ?(?:of (?:picture|image) )?([12]) ?(?:\([^()\d]{0,20}\))?:(.*)")


def read_both(text: str, low: float, high: float) -> PairMarks:
    """Marks of two pictures by the judge's own principles, times their weights, of which the sum is 1.

    Raises:
        Unscorable: as `modes.read_principles`; "missing" where a principle has no two marks, "unparsable" for
            one that has two of one picture that differ, or applies to one picture alone, "out_of_range".
    """
    body = body_of(text)
    weights = read_principles(body)
    refuse_others(body, weights, 2)
    total = sum(weights.values())
    found: dict[tuple[str, str], float | None] = {}
    current = ""
    for line in body.splitlines():
        words = re.sub(r"^\d+[.)]\s*", "", plain_line(line[:600]))
        if (head := words.strip(" :")) in weights:
            current = head
        elif current and (match := SCORE.fullmatch(words)) is not None:
            place = (current, match[1])
            mark = mark_of(match[2], low, high, current, optional=True)
            if found.setdefault(place, mark) != mark:
                raise Unscorable(f"{current} has two scores of picture {match[1]}", "unparsable")
    first, second = ({name: found.get((name, place), -1.0) for name in weights} for place in "12")
    for name in weights:
        if any((name, place) not in found for place in "12"):
            raise Unscorable(f"{name} has no score of both pictures in: {text[:200]}", "missing")
        if (first[name] is None) != (second[name] is None):
            raise Unscorable(f"{name} applies to one of the pictures alone", "unparsable")
    return PairMarks(_weighed(first, weights, total), _weighed(second, weights, total))


def _weighed(
    side: Mapping[str, float | None], weights: Mapping[str, float], total: float
) -> Mapping[str, float | None]:
    return {name: None if (mark := side[name]) is None else weights[name] / total * mark for name in weights}


def principles(low: float, high: float, _: str) -> Judge[PairMarks]:
    """Judge of two by principles of its own."""
    layout = CHOOSE.format(low=f"{low:g}", high=f"{high:g}")
    return Judge(
        prompt=Prompt(
            own="Compare two pictures made for the request.\nRequest: {prompt}\n"
            + layout
            + "Score 1: <number or N/A>\nScore 2: <number or N/A>"
        ),
        shows=BOTH,
        grammar=lambda text: read_both(text, low, high),
        aggregate=by_sum,
    )


# --- a principle in words ---------------------------------------------------------------------------------


def read_order(text: str) -> PairMarks:
    """Scores of two pictures from 1 to 5 and their order, which must be that of the scores.

    Raises:
        Unscorable: as `modes.read_ranked`.
    """
    (first, second), wrong = read_ranked(text, 2)
    return PairMarks({"principle": first}, {"principle": second}, None, wrong)


def given(_: float, __: float, principle: str) -> Judge[PairMarks]:
    """Judge of two by a principle in words."""
    return Judge(prompt=by_principle(principle, 2), shows=BOTH, grammar=read_order, aggregate=by_sum)


# --- a chain of rubrics -----------------------------------------------------------------------------------

RM_R1 = ("RM-R1-UIUC/RM-R1", "d4c2542f0608e019074b9b2322fe6502e6ab7ab0",
         "eval/RM-Bench/rewardbench/generative.py")  # fmt: skip
OWN_CHAIN = """Compare two pictures made for a request. Say first what kind of task it is: \
<type>Reasoning</type> where the request has a right answer, else <type>Chat</type>. For Reasoning write \
the answer in <solution></solution>; for Chat a rubric with weights in <rubric></rubric>, and reasons in \
<justify></justify> inside. Then weigh both pictures by that in <eval></eval>, and end with \
<answer>[[A]]</answer> or <answer>[[B]]</answer>."""
KINDS = {"chat": "rubric", "reasoning": "solution"}
"""What comes before the evaluation, by the kind of the task."""
ANSWERED = re.compile(r"\[\[\s*([AB])\s*\]\]\.?")


def _with_pictures(pieces: Sequence[str]) -> str:
    text = "".join(pieces)
    for answer in ("{answer_a}", "{answer_b}"):
        text = text.replace(answer, PICTURE)
    return text


def read_chain(text: str) -> PairMarks:
    """Verdict of a chain of rubrics: a kind of task, what it asks for, an evaluation and an answer, in order.

    Raises:
        Unscorable: "missing" without one of the four, "unparsable" for one that is there twice, is empty or
            stands elsewhere, or an answer that is neither [[A]] nor [[B]].
    """
    body = body_of(text)
    kind = _tagged(body, "type", 0)[0].strip().casefold()
    if kind not in KINDS:
        raise Unscorable(f"the kind of the task is {kind[:40]!r}, neither Chat nor Reasoning", "unparsable")
    end = 0
    for tag in ("type", KINDS[kind], "eval", "answer"):
        inside, end = _tagged(body, tag, end)
        if not inside.strip():
            raise Unscorable(f"<{tag}> is empty", "unparsable")
    if (found := ANSWERED.fullmatch(inside.strip(" *\n"))) is None or body[end:].strip(" .*`\n"):
        raise Unscorable(f"the answer {body[-80:].strip()!r} is neither [[A]] nor [[B]]", "unparsable")
    return PairMarks({}, {}, "1" if found[1] == "A" else "2")


def _tagged(body: str, tag: str, start: int) -> tuple[str, int]:
    """Text between a pair of tags that is there once, and where it ends."""
    opened, closed = f"<{tag}>", f"</{tag}>"
    if opened not in body or closed not in body:
        raise Unscorable(f"there is no {opened}...{closed} in: {body[:200]}", "missing")
    if body.count(opened) > 1 or body.count(closed) > 1:
        raise Unscorable(f"{opened} is there twice", "unparsable")
    begin, end = body.index(opened), body.index(closed)
    if not start <= begin < end:
        raise Unscorable(f"{opened} does not stand in its place", "unparsable")
    return body[begin + len(opened) : end], end + len(closed)


def chain(_: float, __: float, ___: str) -> Judge[PairMarks]:
    """Judge of two by a chain of rubrics."""
    own = f"Request: {{prompt}}\nPicture A: {PICTURE}\nPicture B: {PICTURE}"
    return Judge(
        prompt=Prompt(
            pins=(Pin(*RM_R1, "RM_R1_SINGLE_TURN_INSTRUCT_USER_PROMPT",
                      "5fa3baf9813bdf0ed9b8601be6fe162ab82e37467e0843c32cfbc22792c65ac2"),),
            system=(Pin(*RM_R1, "RM_R1_INSTRUCT_SYSTEM_PROMPT",
                        "e0bf09a87f19837abf172278c348e8fc6ed36034f4f39b98191910533c3df3ed"),),
            fields={"{question}": "prompt"},
            make=_with_pictures,
            own=own,
            own_system=OWN_CHAIN,
        ),
        shows=BOTH,
        grammar=read_chain,
        aggregate=by_verdict,
    )  # fmt: skip


PAIR_MODES: dict[str, Callable[[float, float, str], Judge[PairMarks]]] = {
    "principles": principles,
    "given": given,
    "chain": chain,
}
"""Modes whose judge writes one text, by name: made of the scale and of the principle in words."""

# --- rubrics by contrast ----------------------------------------------------------------------------------

MOST_RUBRICS = 5
CONTRAST = """Two pictures were made for the request: {prompt}
Say how they differ, one line for each respect, without saying which is better. Then write one to five \
rubrics made of these differences: what a good picture for this request has, to be seen in a picture alone.
Contrast: <in one respect, picture 1 and picture 2>
Rubric: <one rubric>"""
BY_RUBRICS = """Two pictures were made for the request: {prompt}
Which one fits it better by these rubrics?
{rubrics}
Say of each rubric which picture fulfils it better, then which is better:
Rubric <number>: <1, 2 or tie>
<answer>1 or 2</answer>"""
RUBRIC = re.compile(r"rubric(?: \d)?:(.*)")
DECIDED = re.compile(r"rubric (\d):(.*)")


def read_rubrics(text: str) -> list[str]:
    """One to five rubrics, made of at least one contrast.

    Raises:
        Unscorable: "missing" without a contrast or a rubric; "unparsable" for more than five, one twice, or
            one that is empty.
    """
    written = [line[:600] for line in body_of(text).splitlines()]
    lines = [(" ".join(line.replace("*", "").split()), plain_line(line)) for line in written]
    if not any(re.match(r"contrast(?: \d{1,2})?: ?\S", plain) for _, plain in lines):
        raise Unscorable(f"no contrast in: {text[:200]}", "missing")
    said = [raw.partition(":")[2].strip() for raw, plain in lines if RUBRIC.fullmatch(plain)]
    if not said:
        raise Unscorable(f"no rubric in: {text[:200]}", "missing")
    if len(said) > MOST_RUBRICS or not all(said) or len({one.casefold() for one in said}) < len(said):
        raise Unscorable(f"the rubrics are {len(said)}, one is empty, or one is there twice", "unparsable")
    noted("rubrics", "{}", said)
    return said


def read_decided(text: str, number: int) -> PairMarks:
    """Decision by each of so many rubrics, and the verdict, which must not be against most of them.

    Raises:
        Unscorable: "missing" without one, "unparsable" for one that differs from itself or is no decision.
    """
    body = body_of(text)
    found: dict[int, str] = {}
    for line in body.splitlines():
        if (match := DECIDED.fullmatch(plain_line(line[:600]))) is None:
            continue
        place, said = int(match[1]), preferred(match[2])
        if not 1 <= place <= number or found.setdefault(place, said) != said:
            raise Unscorable(f"rubric {place} is none of {number}, or is decided twice", "unparsable")
    if len(found) < number:
        raise Unscorable(f"{len(found)} of {number} rubrics are decided in: {text[:200]}", "missing")
    verdict = preferred(_tagged(body, "answer", 0)[0])
    wins = {place: float(sum(said == place for said in found.values())) for place in "12"}
    against = verdict != TIE and wins[verdict] < max(wins.values())
    wrong = f"picture {verdict} is to be better, and most rubrics say the other" if against else ""
    return PairMarks({"rubrics": wins["1"]}, {"rubrics": wins["2"]}, verdict, wrong)


WRITING = Wording(CONTRAST, "", (("{prompt}", "prompt"),), f"own {CONTRAST} {BY_RUBRICS}")
"""Words of the first of two questions; the second's depend on the answer."""


def few_rubrics(file: str) -> tuple[str, ...]:
    """Rubrics of a file, few enough for one decision.

    Raises:
        ValueError: more than five; see also `modes.rubrics_of`.
    """
    found = rubrics_of(file)
    if len(found) > MOST_RUBRICS:
        raise ValueError(f"{file} has {len(found)} rubrics; a decision is by {MOST_RUBRICS} at most")
    return found


async def contrast_ballot(
    vlm: VLM, writer: VLM, options: Options, samples: Sequence[Sample], rubrics: Sequence[str] = ()
) -> Callable[[int], Awaitable[Vote[PairMarks]]]:
    """Maker of the vote of a number: rubrics, by the writer where none are given, and what the judge decides.

    Raises:
        Unscorable: "missing" without two pictures.
    """
    media = tuple(media for look in BOTH for media in look(samples))
    text, _ = WRITING.filled(values_of(samples))

    async def vote(number: int) -> Vote[PairMarks]:
        said, chosen = "", rubrics
        if not rubrics:
            said = await written(writer, media, text, WRITING, options, options.seed + number)
            chosen = read_rubrics(said)
        listed = "\n".join(f"{place}. {rubric}" for place, rubric in enumerate(chosen, 1))
        words = BY_RUBRICS.replace("{rubrics}", listed.replace("{prompt}", "the request"))
        judge = Judge(
            prompt=Prompt(own=words),
            shows=BOTH,
            grammar=lambda answer: read_decided(answer, len(chosen)),
            aggregate=by_verdict,
        )
        decide, _ = await ballot(vlm, judge, Wording(words, "", WRITING.fields, ""), samples, options)
        decided = await decide(number)
        return decided._replace(words="\n\n".join(filter(None, (said, decided.words))))

    return vote
