"""UnifiedReward on answers to a question about a picture (arXiv:2503.05236, Think: arXiv:2505.03318).

One answer is marked from 0 to 100 after five criteria, as by LLaVA-Critic, on whose data it was trained; of
two, "rank" names the better in words and "think" marks both by dimension, adds the marks up and answers (see
`unifiedreward_pair`).
"""

from dataclasses import replace
from typing import Any, Literal

from ... import models
from ...models.pinned import Pin
from ...registry import reward
from ...types import Sample, Score
from ...verifiers.response import read_or_wrong, reply_of
from .declaring import (
    Judge,
    Marks,
    Options,
    PairMarks,
    answered,
    by_verdict,
    final_between,
    judged,
    judged_answers,
)
from .unifiedreward import COMMIT, REPOSITORY, V1, read_final
from .unifiedreward_pair import ANSWER, THINK, read_rank, read_think
from .wording import Prompt, worded

TOP = 100.0
PARTS = ("final",)
TWO = {"{Query}": "prompt", "{R1}": "first", "{R2}": "second"}
OWN_TWO = "Question: {prompt}\nAnswer 1: {first}\nAnswer 2: {second}"


def read_mark(text: str) -> Marks:
    """The mark after `Final Score:`, from 0 to 100.

    Raises:
        Unscorable: see `unifiedreward.read_final`.
    """
    final = read_final(text, TOP, 0.0)
    return Marks({"final": final}, final)


ONE = Judge(
    prompt=Prompt(
        pins=(
            Pin(REPOSITORY, COMMIT, V1 + "image_understanding/qwen_point_score_image_understanding.py",
                "prompt_text", "73784ca6261f87d211cc2a03d90bda45417c2fe5620fc33bbff8ed6cdd85f901"),
        ),
        fields={"{Query}": "prompt", "{Response}": "response"},
        own="How good is this response to the question? Explain in a line, then write `Final Score: ` and a "
        "mark from 0 to 100.\nQuestion: {prompt}\nResponse: {response}",
    ),
    shows=(answered(),),
    grammar=read_mark,
    aggregate=final_between(0, TOP),
)  # fmt: skip
BOTH: dict[str, Judge[PairMarks]] = {
    "rank": Judge(
        prompt=Prompt(
            pins=(
                Pin(REPOSITORY, COMMIT, V1 + "image_understanding/qwen_pair_rank_image_understanding.py",
                    "prompt_text", "150b02e0fab6d102e2c8e54caf9d0c46ad7d56ecb7ef5fc4eafa7db8335ba6a1"),
            ),
            fields=TWO,
            own="Which of two answers to the question is better? Write `Answer 1 is better.` or "
            "`Answer 2 is better.`\n" + OWN_TWO,
        ),
        shows=(answered(),),
        grammar=lambda text: read_rank(text, "answer"),
        aggregate=by_verdict,
    ),
    "think": Judge(
        prompt=Prompt(
            pins=(
                Pin(REPOSITORY, COMMIT, THINK + "UnifiedReward-Think-qwen3-inference/"
                    "qwen3_infer_cot_image_understanding.py", "problem",
                    "22c4a324e9fe356cd1a40a864647a12e638b3e14524285c6091211f8ff221f10"),
            ),
            fields=TWO,
            own="Compare two answers to the question.\n" + ANSWER.format(noun="Answer") + "\n" + OWN_TWO,
        ),
        shows=(answered(),),
        grammar=lambda text: read_think(text, "answer"),
        aggregate=by_verdict,
    ),
}  # fmt: skip
Form = Literal["rank", "think"]


LICENCE = "MIT (UnifiedReward's prompts); the judge's own"


@reward("unifiedreward_answer", needs=("prompt", "response"), optional=("shown", "inputs"),
        range=(0.0, 1.0), paper="arXiv:2503.05236",
        licence=LICENCE,
        example={"prompt": "What is shown?", "response": "A red circle."})  # fmt: skip
def unifiedreward_answer(
    judge: str = "CodeGoat24/UnifiedReward-qwen-7b",
    words: str = "published",
    max_tokens: int = 2048,
    temperature: float = 0.0,
    seed: int = 0,
    votes: int = 1,
    dtype: str = "float32",
) -> Any:
    """The judge's mark of a response, mapped from [0, 100] to [0, 1]; its words are in the note.

    The pictures or the clip of the question are shown; of the response, what follows its reasoning. An empty
    response, or one that was cut off, is worth 0 with `parts["parsed"]` 0.

    Args:
        judge: a VLM (hub id, folder, "mini-vlm", or MODEL@URL for a served one).
        words: "published", "own", or a file; see `published.wording.worded`.
        max_tokens: length at which a judgement is cut off.
        temperature: of the sampling; 0 is greedy.
        seed: of the sampling; that of the first vote.
        votes: samples whose mean is taken; `parts["uncertainty"]` is their standard deviation.
        dtype: of the judge.
    """
    options = Options(max_tokens, temperature, seed, votes).checked()
    wording = worded(words, ONE.prompt)
    vlm = models.vlm(judge, dtype=dtype)

    async def score(sample: Sample) -> Score:
        found = read_or_wrong(lambda: reply_of(sample.response or ""), PARTS)
        if isinstance(found, Score):
            return found
        marked = await judged(vlm, ONE, wording, (replace(sample, response=found),), options)
        return replace(marked, parts={"parsed": 1.0, **marked.parts})

    return score


@reward("unifiedreward_answers", needs=("prompt", "response"), optional=("shown", "inputs"),
        range=(0.0, 1.0), arity="pair",
        paper="arXiv:2503.05236, arXiv:2505.03318",
        licence=LICENCE)  # fmt: skip
def unifiedreward_answers(
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
    """1 where the judge prefers the first of two responses to a question, 0 where the second, 0.5 for a tie.

    Args:
        judge, words, contradictions, max_tokens, temperature, seed, votes, dtype: see `unifiedreward_pair`.
        form: "rank" (version 1) or "think".
    """
    if form not in BOTH:
        raise ValueError(f"form is {form!r}: {', '.join(BOTH)}")
    options = Options(max_tokens, temperature, seed, votes, contradictions).checked()
    declared = BOTH[form]
    wording = worded(words, declared.prompt)
    vlm = models.vlm(judge, dtype=dtype)

    async def score(first: Sample, second: Sample) -> Score:
        return await judged_answers(vlm, declared, wording, (first, second), options)

    return score
