"""VisualPRM (arXiv:2503.10291): a process reward of a response, by the probability of "+" behind each of its
steps.
"""

import math
from typing import Any

from ... import models
from ...errors import Unscorable
from ...models.vlms.answers import shown_to
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score
from ...verifiers.response import spoken
from ..judged.steps import Aggregate, aggregate, check_aggregate

BETWEEN = "\n\n"
"""What parts two steps."""
GOOD, BAD = "+", "-"


@reward(
    "visualprm",
    needs=("prompt", "response"),
    optional=("shown", "inputs"),
    range=(0.0, 1.0),
    paper="arXiv:2503.10291",
    licence="MIT (OpenGVLab/VisualPRM-8B, OpenGVLab/InternVL)",
    example={"prompt": "how many shapes are there?", "response": "I see a circle.\n\nI see a square.\n\ntwo"},
)
def visualprm(
    weights: str = "OpenGVLab/VisualPRM-8B",
    how: Aggregate = "mean",
    max_steps: int = 0,
    max_num: int = 12,
    words: str = "published",
    dtype: str = "float32",
) -> Any:
    """Probability, 0 to 1, that the steps of a response are right, as one number.

    Steps are parted by an empty line. Each is a turn of the user, answered by "+" whatever it is
    worth, and a step's number is the probability of "+" against "-" where that answer is predicted: all of
    them are read in one forward pass, which is what the publisher's `soft_v2` computes. `parts` holds each
    step's number (`step_1`, ...), the worst and how many there are. On VisualProcessBench a step counts as
    right above 0.85.

    Pictures are optional: one stands before the question, unless the question places it with <image>;
    several must be placed so. VisualPRM-8B (InternVL2.5, InternLM2) and VisualPRM-8B-v1_1 (Qwen2) are read as
    they are published, and their code is not run: 16 GB in bfloat16, 32 GB in float32. Beside that code
    (transformers 4.45, float32) on tiny checkpoints of both formats, values differ by less than 1e-6.

    Traps. An adaptation of the publisher's class for a benchmark hands the model no picture, so that it
    judges blindly. An empty step becomes a turn without an end in the publisher's lines; here it is left
    out. A prompt or response with a token that begins or ends a turn could answer for itself: it is a
    failure and no score.

    Args:
        weights: a hub id or folder in the published format (`internvl_chat`).
        how: the steps' numbers become one by "mean" (the publisher's), "min", "product", "last" or
            "soft_min"; best of N picks better with the mean than with the least (41.1 to 40.4).
        max_steps: neighbours are put together until there are at most as many; 12 in the paper, 0 for no
            limit, as in the publisher's code by itself.
        max_num: tiles of a picture, at most, its thumbnail not counted.
        words: "published", the system message that `mmreward fetch visualprm` brings; a copy of the
            publisher's file; or a file with a text of your own. A checkpoint whose config has a message of
            its own is read with that.
        dtype: of the network; probabilities are computed in float32.

    Raises:
        ValueError: weights or message are not on this machine; an unknown `how`; max_steps below 0 or
            max_num below 1.
    """
    check_aggregate(how)
    if max_steps < 0 or max_num < 1:
        raise ValueError(f"max_steps={max_steps} and max_num={max_num}: expected from 0 and from 1 up")
    system = models.prompt_of(("internvl system",), words, name="system")
    net = models.internvl(weights, dtype=dtype)

    async def score(sample: Sample) -> Score:
        from ...models.vlms.internvl import ASSISTANT, BEGIN, CLOSE, MARKS, PICTURE, USER

        response, media = spoken(sample.response), shown_to(sample)
        if any(one.kind == "video" for one in media):
            raise Unscorable("VisualPRM reads pictures, and the sample shows a clip")
        for token in MARKS:
            if token in sample.prompt or token in response:
                raise Unscorable(f"prompt or response contain {token}, which begins or ends a turn")
        question = sample.prompt
        if media and PICTURE not in question:
            question = f"{PICTURE}\n{question}"
        if (places := question.count(PICTURE)) != len(media):
            raise Unscorable(f"{len(media)} pictures, and {places} places for them ({PICTURE}) in the prompt")
        steps = steps_of(response, max_steps)
        asked = [f"### Question:\n{question}\n\n### Solution Process:\n{steps[0]}", *steps[1:]]
        text = f"{BEGIN}system\n{net.system(system)}{CLOSE}"
        text += "".join(f"{USER}{step}{CLOSE}{ASSISTANT}{GOOD}{CLOSE}" for step in asked)
        found = await net.marks(text, media, (GOOD, BAD), answer=GOOD, tiles=max_num)
        levels = [good for good, _ in found]
        noted("read", "{} behind {} steps", levels, len(steps))
        if len(levels) != len(steps):
            raise Unscorable(f"{len(levels)} places to read for {len(steps)} steps", "unparsable")
        parts = {f"step_{number}": level for number, level in enumerate(levels, 1)}
        return Score(aggregate(levels, how), {"steps": float(len(steps)), "worst": min(levels), **parts})

    return score


def steps_of(response: str, most: int = 0) -> list[str]:
    """Steps of a response, of which none is empty; with a limit neighbours are put together, as many in each
    as it takes."""
    steps = [step for step in response.split(BETWEEN) if step]
    if not most:
        return steps
    size = math.ceil(len(steps) / most)
    return [BETWEEN.join(steps[at : at + size]) for at in range(0, len(steps), size)]
