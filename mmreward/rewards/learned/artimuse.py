"""ArtiMuse (arXiv:2507.14533): a picture's beauty, 0 to 100, as the expectation of 101 tokens of two letters
that a language model would say of it.
"""

from typing import Any

from ... import models
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score

LETTERS = tuple(
    first + chr(ord("a") + at)
    for first, count in {"a": 26, "c": 25, "d": 25, "e": 25}.items()
    for at in range(count)
)
"""Token of each score from 0 to 100: aa to az, ca to cy, da to dy, ea to ey."""


@reward(
    "artimuse",
    needs=("image",),
    range=(0.0, 100.0),
    uses_prompt=False,
    paper="arXiv:2507.14533",
    licence="none is named (thunderbolt215/ArtiMuse); its body MIT and Apache-2.0 (InternVL3, Qwen2.5)",
)
def artimuse(
    weights: str = "Thunderbolt215215/ArtiMuse", words: str = "published", dtype: str = "float32"
) -> Any:
    """Beauty of a picture, 0 to 100: the mean of 101 scores by the probability of their tokens.

    The model answers a fixed question with two letters for a number, and the probabilities of all 101 tokens
    against one another as its next word give the mean. `parts` has their spread, `std`. The prompt that a
    picture was made for is not looked at. The picture is squashed to 448 x 448, so a panorama looks narrow.

    The checkpoint (InternVL3 of 8 billion weights) is read as it is published, and its code is not run: 16
    GB in bfloat16, as the publisher runs it, 32 GB in float32. There are others by the same name with the
    data that they were tuned on behind it (`ArtiMuse_AVA`, `_PARA`, `_TAD66K`, `_FLICKR-AES`), whose scores
    do not compare.

    Trap: the publisher's code takes the config's `system_message` though it be null, and so tells the model
    "None" where other InternVLs are told a sentence. What the config says is followed here as there.

    Args:
        weights: a hub id or folder in the published format (`internvl_chat`).
        words: "published", the question and the system message that `mmreward fetch artimuse` brings; or a
            folder with question.txt and system.txt of your own.
        dtype: of the network; probabilities are computed in float32.

    Raises:
        ValueError: weights or texts are not on this machine, with the command that fetches them.
    """
    question = models.prompt_of(("artimuse",), words, name="question")
    system = models.prompt_of(("internvl system",), words, name="system")
    net = models.internvl(weights, dtype=dtype)

    async def score(sample: Sample) -> Score:
        from ...models.vlms.internvl import ASSISTANT, BEGIN, CLOSE, PICTURE, USER

        assert sample.image is not None
        text = f"{BEGIN}system\n{net.system(system, strictly=True)}{CLOSE}"
        text += f"{USER}{PICTURE}\n{question}{CLOSE}{ASSISTANT}"
        (probs,) = await net.marks(text, (sample.image,), LETTERS, tiles=1)
        value = sum(number * prob for number, prob in enumerate(probs))
        std = sum(prob * (number - value) ** 2 for number, prob in enumerate(probs)) ** 0.5
        likeliest = max(range(len(probs)), key=probs.__getitem__)
        noted("read", "{} on average, {} the likeliest of 101 scores", value, likeliest)
        return Score(min(max(value, 0.0), 100.0), {"std": std, "likeliest": float(likeliest)})

    return score
