"""The form of a response: tags in order, and something inside them."""

from typing import Any, Literal

from ..registry import reward
from ..types import Sample, Score
from ..verifiers.form import PARTS, Form, judge
from ..verifiers.peers.forms import PEERS
from ..verifiers.verdict import Verdict

Preset = Literal["declared", "v_triune", "vlm_r1", "trl"]


@reward(
    "format",
    needs=("response",),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2505.18129",
    example={
        "response": "<think>The sign to the left reads exit, in white.</think>\n<answer>EXIT</answer>",
    },
)
def format_(
    think: bool | Literal["optional"] = True,
    answer: bool = True,
    boxed: bool = False,
    min_think_chars: int = 32,
    prefilled: bool = False,
    preset: Preset = "declared",
) -> Any:
    """The fraction of the declared items that are there, once and in order, 0 to 1.

    Items are the thinking's tags, enough thinking inside them, the answer's tags around something, and the
    box. An empty shell of tags earns less than a form that is filled. What the answer says does not matter
    here. Each item is one of `parts`; one that is not declared is 0.

    Args:
        think: `<think>` ... `</think>` comes first; "optional" lets it come, and asks for nothing.
        answer: `<answer>` ... `</answer>` comes last.
        boxed: exactly one `\\boxed{...}` in the answer, or after the thinking where `answer` is off.
        min_think_chars: characters, spaces not counted, from which the thinking counts in full; 0 does not
            look at it.
        prefilled: the template opens `<think>` in the prompt.
        preset: "declared" is the above; "v_triune", "vlm_r1" and "trl" compute what those do, defects
            included, for comparison, and take none of the other arguments.
    """
    form = Form(think=think, answer=answer, boxed=boxed, min_think_chars=min_think_chars, prefilled=prefilled)
    if preset != "declared" and form != Form():
        raise ValueError(f"the preset {preset!r} has its own form; leave the other arguments out")

    async def score(sample: Sample) -> Score:
        response = sample.response or ""
        if preset == "declared":
            verdict = judge(response, form)
        else:
            value = PEERS[preset](response)
            verdict = Verdict(value, dict.fromkeys(PARTS, 0.0), "" if value else f"not in {preset}'s form")
        return Score(verdict.value, verdict.parts, note=verdict.note)

    return score
