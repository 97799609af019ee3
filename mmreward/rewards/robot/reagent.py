"""ReAgent-V (arXiv:2506.01300): a judgement of an episode, a critique of it, and three stances to revise it.

The judge marks the episode, a critic reports on the mark, and a conservative, a neutral and an aggressive
reviser each answer again with a confidence. The publisher asks the model once more to merge them; its code
fills that prompt's braces with `$`, so the answers never reach it. Here the rule that the prompt states is
computed: where all three are surer than their thresholds their mean, else the answer of the surest.

An answer that cannot be read has the confidence 0 at the publisher's, and a mark that cannot has the value 0.
Here a stance that cannot be read is left out and counted, and a first mark that cannot is a failure.
"""

from asyncio import gather
from collections.abc import Mapping
from statistics import fmean
from typing import Any, NamedTuple

from ... import models
from ...engine.episodes import frames_of
from ...errors import Unscorable
from ...models.pinned import Pin
from ...registry import reward
from ...tracing import noted
from ...trajectories import check_rule
from ...types import Sample, Score
from ..published.grammar import json_mark, object_in
from ..published.wording import Prompt, worded

LOW, HIGH = 0.0, 10.0
LONGEST = 4000
"""Characters of a report that the stances are shown."""
_REAGENT = (
    "aiming-lab/ReAgent-V",
    "c0cda9c6590ecf331a9b32875726a8e3c7558a00",
    "ReAgent-V/ReAgentV_utils/prompt_builder/prompt.py",
)
QUESTION = """The pictures show, in order, an episode of a robot that was told: {prompt}
Did it succeed, and how well did it go? Answer with JSON alone, in this form:
{"success_or_failure": {"score": 0 or 1, "reason": "..."}, "overall_assessment": {"score": from 0 (nothing \
that was asked) to 10 (all of it, cleanly), "reason": "..."}}"""
"""In words of our own: the publisher's question about robots is not in its repository."""
CRITIC = Prompt(
    pins=(
        Pin(*_REAGENT, "eval_reward_prompt_template",
            "2be222916bae42d2d578039f04e8c5079d9e512d16f7722599000cb37f814a06"),
    ),
    make=lambda pieces: pieces[0].replace("{{", "{").replace("}}", "}"),  # it goes through `str.format`
    fields={"{question}": "question", "{context}": "context", "{initial_answer}": "answer"},
    own="Asked: {question} Known besides: {context} Somebody answered: {answer}\nSay what in the pictures "
    "speaks for that answer and what against it, and what it leaves out.",
)  # fmt: skip
_STANCE = {"$text": "question", "$answer": "answer", "$eval_report": "report"}
_ASKED = "Asked: {question}\nAnswered: {answer}\nReport on that: {report}\n"
_FORM = ' Answer with JSON alone: {"final_answer": the answer in its own form, "confidence": from 0 to 1}'


class Stance(NamedTuple):
    """A way to revise: its prompt, and the confidence above which its answer may be merged with others'."""

    prompt: Prompt
    threshold: float


STANCES = {
    "conservative": Stance(
        Prompt(
            pins=(
                Pin(*_REAGENT, "conservative_template_str",
                    "640078ab13af8e872a2ece4b57fd5363b1538e47ff353b9624acb3dcbf87c28f"),
            ),
            fields=_STANCE,
            own=f"{_ASKED}Keep the answer unless the pictures plainly contradict it.{_FORM}",
        ),
        0.6,
    ),
    "neutral": Stance(
        Prompt(
            pins=(
                Pin(*_REAGENT, "neutral_template_str",
                    "99fac8404f110ede7538e362970ca29fc7bd8f78d99214dfbf1824d0ca07be3d"),
            ),
            fields=_STANCE,
            own=f"{_ASKED}Correct the answer where something was seen wrongly, and only there.{_FORM}",
        ),
        0.7,
    ),
    "aggressive": Stance(
        Prompt(
            pins=(
                Pin(*_REAGENT, "aggressive_template_str",
                    "86085ac3f2387130c6a8f988fad509189f1914fb0b425056a0f619ee33061e48"),
            ),
            fields=_STANCE,
            own=f"{_ASKED}Doubt the answer: look again and judge from the beginning.{_FORM}",
        ),
        0.8,
    ),
}  # fmt: skip


class Mark(NamedTuple):
    """Success, 0 to 1, and the overall mark, 0 to 10, with the confidence that a stance has in it."""

    success: float
    overall: float
    confidence: float = 1.0


def read_mark(text: str) -> Mark:
    """The mark that a judge wrote.

    Raises:
        Unscorable: "unparsable" for what is no such object, "out_of_range".
    """
    return _mark(object_in(text))


def _mark(found: Mapping[str, Any]) -> Mark:
    scores = []
    for name, high in (("success_or_failure", 1.0), ("overall_assessment", HIGH)):
        part = found.get(name)
        if not isinstance(part, Mapping) or "score" not in part:
            raise Unscorable(f"the judgement has no score of {name}", "unparsable")
        scores.append(json_mark(part["score"], LOW, high, name))
    return Mark(*scores)


def read_stance(text: str) -> Mark:
    """The mark of a stance with its confidence; its final answer is an object, or JSON in a text.

    Raises:
        Unscorable: as `read_mark`.
    """
    found = object_in(text)
    answer = found.get("final_answer")
    confidence = json_mark(found.get("confidence"), 0.0, 1.0, "the confidence")
    mark = _mark(answer) if isinstance(answer, Mapping) else read_mark(str(answer))
    return mark._replace(confidence=confidence)


def merged(marks: Mapping[str, Mark]) -> tuple[Mark, bool]:
    """One mark of the stances' marks, and True where it is the mean of all three.

    Of equal confidence the stance that changes least counts.

    >>> sure = {"conservative": Mark(1, 8, 0.6), "neutral": Mark(1, 9, 0.7), "aggressive": Mark(0, 4, 0.8)}
    >>> merged(sure)[0].overall, merged({**sure, "neutral": Mark(1, 9, 0.5)})[0].overall
    (7.0, 4)
    """
    if all(name in marks and marks[name].confidence >= one.threshold for name, one in STANCES.items()):
        every = [marks[name] for name in STANCES]
        means = (fmean(one[place] for one in every) for place in range(3))
        return Mark(*means), True
    return max((marks[name] for name in STANCES if name in marks), key=lambda one: one.confidence), False


@reward("reagent", needs=("prompt", "episode"), range=(LOW, HIGH), paper="arXiv:2506.01300",
        licence="no licence was published with the prompts; the judge's own")  # fmt: skip
def reagent(
    judge: str = "Qwen/Qwen2.5-VL-7B-Instruct",
    frames: str | int = "8",
    view: str = "",
    words: str = "published",
    max_tokens: int = 512,
    dtype: str = "float32",
) -> Any:
    """Mark of an episode, 0 to 10, by a judge that criticises its own mark and revises it in three stances.

    Five questions about the same frames: the mark, a report on it, and a conservative, a neutral and an
    aggressive revision. `parts` holds the merged `success` (0 to 1), the `first` mark, the mark and
    confidence of each stance that could be read (`neutral`, `neutral_confidence`), their number as `stances`,
    and `fused`, 1 where all three were sure enough to be averaged. `mmreward pairs` makes the publisher's
    preference pairs of it, the best episode of a task against the worst.

    Args:
        judge: a VLM (hub id, folder, "mini-vlm", or MODEL@URL for a served one).
        frames: which frames are looked at, see `trajectories`.
        view: whose, where the steps have several.
        words: of the critic and the stances: "published", "own", or a folder with critic.txt,
            conservative.txt, neutral.txt and aggressive.txt; see `published.wording.worded`.
        max_tokens: length at which an answer is cut off.
        dtype: of a judge in this process.

    Raises:
        ValueError: `frames` is something else, or words that are not there.
    """
    rule = check_rule(frames)
    critic = worded(words, CRITIC, "critic")
    wordings = {name: worded(words, stance.prompt, name) for name, stance in STANCES.items()}
    vlm = models.vlm(judge, dtype=dtype)

    async def score(sample: Sample) -> Score:
        seen = await frames_of(sample, rule, view=view)
        question = QUESTION.replace("{prompt}", sample.prompt)

        async def said(text: str) -> str:
            written = await vlm.write(seen.pictures, text, max_tokens=max_tokens)
            if not written.finished:
                raise Unscorable(f"cut off after {written.tokens} tokens", "unparsable")
            return written.text

        answer = await said(question)
        first = read_mark(answer)
        noted("first", "{} of 10", first.overall)
        told = {"question": question, "answer": answer.strip(), "context": "nothing"}
        asked, _ = critic.filled(told)
        report = (await said(asked)).strip()[:LONGEST]

        async def revised(name: str) -> Mark | None:
            text, _ = wordings[name].filled({**told, "report": report})
            try:
                return read_stance(await said(text))
            except Unscorable as error:
                noted(name, "could not be read: {}", str(error))
                return None

        every = dict(zip(STANCES, await gather(*map(revised, STANCES)), strict=True))
        marks = {name: mark for name, mark in every.items() if mark is not None}
        if not marks:
            raise Unscorable("none of the three stances could be read", "unparsable")
        final, fused = merged(marks)
        parts = {"success": final.success, "first": first.overall, "stances": float(len(marks))}
        parts["fused"] = float(fused)
        for name, mark in marks.items():
            noted(name, "{} of 10, sure by {}", mark.overall, mark.confidence)
            parts |= {name: mark.overall, f"{name}_confidence": mark.confidence}
        return Score(final.overall, parts)

    return score
