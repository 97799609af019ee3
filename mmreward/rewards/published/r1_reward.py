"""R1-Reward (arXiv:2505.02835): Qwen2.5-VL-7B that compares two answers to a question about what is shown.

Its text is `<think>...</think><answer>1</answer>`. Upstream's evaluation puts the right answer first always,
and takes whatever it cannot read for a 2.
"""

from typing import Any

from ... import models
from ...errors import Unscorable
from ...models.pinned import Pin
from ...registry import reward
from ...types import Sample, Score
from .declaring import (
    Judge,
    Options,
    PairMarks,
    answered,
    by_verdict,
    judged_answers,
)
from .grammar import answered_of
from .wording import Prompt, worded


def read_choice(text: str) -> PairMarks:
    """The answer 1 or 2 after reasoning; a tie is not permitted.

    Raises:
        Unscorable: "unparsable" for anything else.
    """
    thought, answer = answered_of(text)
    if not thought:
        raise Unscorable("there is no reasoning before the answer", "unparsable")
    bare = answer.strip(" .*`'\"")
    if bare not in ("1", "2"):
        raise Unscorable(f"the answer is {answer[:40]!r}, neither 1 nor 2", "unparsable")
    return PairMarks({}, {}, bare)


JUDGE = Judge(
    prompt=Prompt(
        pins=(
            Pin("yfzhang114/r1_reward", "3693413abedd4a1efaa9484143acfaa5d78a8d2b",
                "inference/VL-Reward-Bench/r1_reward.py", "make_conv_rm.prompt_template",
                "5593ecd7d4d7ec962076e313f8b061a91e39e1b68f6517afb4278a3bbdc89245"),
        ),
        fields={"{question}": "prompt", "{answer1}": "first", "{answer2}": "second"},
        own="Which of two responses to the question is better? Think between <think> and </think>, then "
        "write <answer>1</answer> or <answer>2</answer>.\nQuestion: {prompt}\nResponse 1: {first}\n"
        "Response 2: {second}",
    ),
    shows=(answered(),),
    grammar=read_choice,
    aggregate=by_verdict,
)  # fmt: skip


LICENCE = "Apache-2.0 (R1-Reward's prompt); the judge's own"


@reward(
    "r1_reward",
    needs=("prompt", "response"),
    optional=("shown", "inputs"),
    range=(0.0, 1.0),
    arity="pair",
    paper="arXiv:2505.02835",
    licence=LICENCE,
)
def r1_reward(
    judge: str = "yifanzhang114/R1-Reward",
    words: str = "published",
    max_tokens: int = 4096,
    temperature: float = 0.0,
    seed: int = 0,
    votes: int = 1,
    dtype: str = "float32",
) -> Any:
    """1 where the judge prefers the first of two responses to one question, 0 where the second.

    Both orders are asked, and `parts["swing"]` is their disagreement: 1, and a value of 0.5, for a judge that
    goes by the place. The pictures or the clip of the question are shown; of a response, what follows its
    reasoning. One that is empty or cut off loses to one that is not. With several votes the value is
    their mean; upstream takes the majority of 5 or 15.

    Args:
        judge: a VLM (hub id, folder, "mini-vlm", or MODEL@URL for a served one).
        words: "published", "own", or a file; see `published.wording.worded`.
        max_tokens: length at which a judgement is cut off.
        temperature: of the sampling; 0 is greedy.
        seed: of the sampling; that of the first vote.
        votes: samples whose mean is taken.
        dtype: of the judge.
    """
    options = Options(max_tokens, temperature, seed, votes).checked()
    wording = worded(words, JUDGE.prompt)
    vlm = models.vlm(judge, dtype=dtype)

    async def score(first: Sample, second: Sample) -> Score:
        return await judged_answers(vlm, JUDGE, wording, (first, second), options)

    return score
