"""MM-RLHF-Reward (arXiv:2502.10391): a model that first writes a critique of a response, and then gives a
number to question, response and critique together.
"""

import math
from typing import Any, Literal

from ... import models
from ...errors import Unscorable
from ...models.vlms.answers import shown_to
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score
from ...verifiers.response import spoken

PICTURE = "<image>"
TURNS = ("<|im_start|>", "<|im_end|>")


@reward(
    "mm_rlhf",
    needs=("prompt", "response"),
    optional=("shown", "inputs"),
    range=(-math.inf, math.inf),
    paper="arXiv:2502.10391",
    licence="MIT (yifanzhang114/MM-RLHF-Reward-7B-llava-ov-qwen); its prompt Apache-2.0 (yfzhang114/MM-RLHF)",
    example={"prompt": "how many shapes are there?", "response": "two"},
)
def mm_rlhf(
    weights: str = "yifanzhang114/MM-RLHF-Reward-7B-llava-ov-qwen",
    critique: Literal["written", "given", "none"] = "written",
    whole: bool = True,
    max_tokens: int = 4096,
    words: str = "published",
    dtype: str = "float32",
) -> Any:
    """Preference for a response to a question about a picture, without bounds or a unit, after a critique.

    The model writes an evaluation of the response, greedily, and its head reads the last token of the chat
    that the question, the response and this evaluation make. `note` has the critique, `parts` the number of
    its characters. Of two responses to one question, sigmoid of the difference is the probability that the
    first is preferred; different questions do not compare.

    One picture at most (`image`, or the only one of `inputs`); without one the prompt has no place for it. 8
    billion weights: 16 GB in bfloat16, 32 GB in float32. Writing is nearly all of the time: "none" does
    without, as the publisher's `wo_critic` does, which costs accuracy. Beside the publisher's own code
    (transformers 4.45, float32) on a tiny checkpoint of its format, critiques are the same and values differ
    by 5e-7.

    Traps. The publisher's evaluation hands the model one tensor of tiles where its code expects a list, and
    so shows it the picture squashed to 384 x 384 alone; its published figures are of that (`whole`). The same
    lines show it the first frame alone of a clip: clips are refused here. `<image>` in a question is taken
    out, as published. A question or response with a token that ends a turn, or a given critique with one, is
    a failure and no score, for it could write its own praise.

    Args:
        weights: a hub id or folder in the format of the LLaVA-NeXT code (`llava_qwen`, with `rm_head`).
        critique: "written" by the model; "given" reads it of `meta["critique"]`, as the publisher's
            `use_gt_critic` does; "none" gives a number to question and response alone.
        whole: False shows the picture's tiles as well, up to nine, as in training.
        max_tokens: of the critique, at most; a longer one is read as far as it came, as published.
        words: "published", the prompt that `mmreward fetch mm_rlhf` brings; a copy of the publisher's file;
            or a file with a text of your own, with {question} and {answer} once each.
        dtype: of the body; the head is in float32.

    Raises:
        ValueError: weights or prompt are not on this machine; an unknown critique; max_tokens below 1.
    """
    if critique not in ("written", "given", "none"):
        raise ValueError(f"critique is written, given or none, not {critique!r}")
    if max_tokens < 1:
        raise ValueError(f"max_tokens={max_tokens}: expected a number of tokens above 0")
    template = models.prompt_of(("mm_rlhf",), words, ("{question}", "{answer}"))
    net = models.llava_reward(weights, whole=whole, dtype=dtype)

    async def score(sample: Sample) -> Score:
        from ...models.vlms.llava import chat_of

        response = spoken(sample.response)
        media = shown_to(sample)
        if len(media) > 1 or any(one.kind == "video" for one in media):
            shown = ", ".join(one.kind for one in media)
            raise Unscorable(f"MM-RLHF-Reward reads one picture at most, and the sample shows {shown}")
        picture = media[0] if media else None
        _refuse_turns(sample.prompt, response)
        text = _asked(template, sample.prompt, response, picture is not None)
        said, ended = "", True
        if critique == "given":
            said = str(sample.meta.get("critique") or "")
            if not said.strip():
                raise Unscorable('the row has no meta["critique"]', "unparsable")
            _refuse_turns(said)
        elif critique == "written":
            said, ended = await net.write(chat_of(text, "", picture), max_tokens)
            noted("wrote", said or "(nothing)")
        value = await net.value(chat_of(text, said, picture))
        noted("read", "{} at the end of the chat, with a critique of {} characters", value, len(said))
        parts = {"critique_characters": float(len(said)), "critique_ended": float(ended)}
        return Score(value, parts, note=said)

    return score


def _asked(template: str, question: str, answer: str, picture: bool) -> str:
    """Text of the user's turn; what stands in the braces is filled in at once, so that no value is searched
    for another's place."""
    places = {"{question}": question, "{answer}": answer}
    first, second = sorted(places, key=template.index)
    before, _, rest = template.partition(first)
    between, _, after = rest.partition(second)
    text = before + places[first] + between + places[second] + after
    if picture:
        return f"{PICTURE}\n{text.replace(PICTURE, '').strip()}"
    if PICTURE in text:
        raise Unscorable(f"prompt or response contain {PICTURE}, and the sample shows no picture")
    return text


def _refuse_turns(*texts: str) -> None:
    for token in TURNS:
        if any(token in text for text in texts):
            raise Unscorable(f"prompt, response or critique contain {token}, which begins or ends a turn")
