"""DeQA-Score (arXiv:2501.11561) and Q-Align (arXiv:2312.17090): a picture's quality as the expectation of
five words, "excellent" to "bad", that a language model would say of it.
"""

from typing import Any, Literal

from ... import models
from ...models.pinned import Pin
from ...models.published import published
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score

GRADES = {"excellent": 5.0, "good": 4.0, "fair": 3.0, "poor": 2.0, "bad": 1.0}
PICTURE = "<|image|>"
QUALITY = "d975793ba5f3d44919ec528d835d2ea39be9513d991a2641419885ca8843e55c"
"""Hash of the question about quality, which both publishers ask in the same words."""
DEQA = Pin(
    "zhiyuanyou/DeQA-Score",
    "8e4abc826ed84a15f7c0bc3ac119e8b9245c7b2f",
    "src/evaluate/scorer.py",
    "prompt",
    QUALITY,
)
Q_ALIGN = {
    task: Pin(
        "Q-Future/Q-Align",
        "14dfdffb3b970c0727d48938b8f3741a65acbd6e",
        "q_align/evaluate/scorer.py",
        "prompt",
        sha256,
    )
    for task, sha256 in {
        "quality": QUALITY,
        "aesthetics": "a090c96c72274647066acf6987a8b4e1ece42cbe5f124b077b400742b55e67ee",
    }.items()
}


@reward(
    "deqa",
    needs=("image",),
    range=(1.0, 5.0),
    uses_prompt=False,
    paper="arXiv:2501.11561",
    licence="MIT (DeQA-Score's code); the weights are of a Llama 2",
)
def deqa(
    weights: str = "zhiyuanyou/DeQA-Score-Mix3", words: str = "published", dtype: str = "float32"
) -> Any:
    """Technical quality, 1 to 5: the mean of five grades by the probability of their words.

    DeQA-Score asks a fixed question and reads the probabilities of "excellent", "good", "fair", "poor" and
    "bad" against one another as the answer's next word. `parts` has them, and their spread `std`, which the
    model was trained on as well. The prompt that a picture was made for is not looked at. Trainers divide it
    by 5, so that the least is 0.2 and not 0: `scale: deqa/5`.

    The checkpoint is read as it is published (mPLUG-Owl2, 7 billion weights, which takes transformers 4.36
    elsewhere): 28 GB in float32, half of it in float16, which the publisher runs. The picture is padded to a
    square with the mean colour before it is resized to 448. Beside the publisher's own code (transformers
    4.36, float32) on a tiny checkpoint of its format, values differ by less than a hundred-thousandth.

    The question is the publisher's file, which `mmreward fetch deqa` brings.

    Args:
        weights: a hub id, or a folder with config.json, the shards of tensors, tokenizer.model and
            preprocessor_config.json.
        words: "published", or a file with a question of your own, with <|image|> in the place of the picture.
        dtype: of the network; the probabilities are computed in float32.

    Raises:
        ValueError: the weights or the question are not on this machine, with the command that fetches them.
    """
    return _graded(weights, DEQA, words, dtype)


@reward(
    "qalign",
    needs=("image",),
    range=(1.0, 5.0),
    uses_prompt=False,
    paper="arXiv:2312.17090",
    licence="S-Lab 1.0, not for commercial use (Q-Align's question); the weights are of a Llama 2",
)
def qalign(
    weights: str = "q-future/one-align",
    task: Literal["quality", "aesthetics"] = "quality",
    words: str = "published",
    dtype: str = "float32",
) -> Any:
    """Quality or beauty of a picture, 1 to 5: the mean of five grades by the probability of their words.

    One checkpoint (OneAlign) answers both questions; they are two scores that do not compare. It is read as
    `deqa` is, which has its architecture and was trained from the same base. The scale is that of the hub's
    own code and of pyiqa. The repository's scorer gives (x - 1) / 4, 0 to 1, in its place.

    A score never depends on the other pictures of a batch, which pyiqa's port refuses to have.

    Args:
        weights: as for `deqa`.
        task: "quality" or "aesthetics".
        words: as for `deqa`.
        dtype: of the network; the probabilities are computed in float32.

    Raises:
        ValueError: as for `deqa`.
    """
    return _graded(weights, Q_ALIGN[task], words, dtype)


def _graded(weights: str, pin: Pin, words: str, dtype: str) -> Any:
    prompt = published(pin, _asking, None if words == "published" else words)
    network = models.grader(weights, dtype=dtype)

    async def score(sample: Sample) -> Score:
        assert sample.image is not None
        probs = dict(zip(GRADES, await network.levels(sample.image, prompt), strict=True))
        value = sum(grade * probs[word] for word, grade in GRADES.items())
        std = sum(probs[word] * (grade - value) ** 2 for word, grade in GRADES.items()) ** 0.5
        noted("read", "{} as the next word", probs)
        return Score(min(max(value, 1.0), 5.0), {**probs, "std": std})

    return score


def _asking(text: str) -> str:
    if text.count(PICTURE) != 1:
        raise ValueError(
            f"the question has {text.count(PICTURE)} places for the picture ({PICTURE}), not one"
        )
    return text.rstrip("\n")
