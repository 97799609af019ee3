"""VisionReward (arXiv:2412.21059): a list of yes-or-no questions about one picture or clip, each answer with
a weight of its own.

The publisher's loop encodes the picture anew for every question and needs a quarter of an hour for one. Here
all questions run in one batch, which encodes it once.
"""

import json
from asyncio import gather
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from ... import models
from ...errors import Unscorable
from ...media import Media
from ...models.pinned import Pin
from ...models.published import published
from ...models.vlms.answers import VLM, YES_NO, Read
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score
from ..judged.vqascore import vqascore

REPOSITORY, COMMIT = "THUDM/VisionReward", "511960d61a777b2008cd486a85a090ba96792a32"
IMAGE_QUESTIONS, IMAGE_WEIGHTS, VIDEO_QUESTIONS, VIDEO_WEIGHTS = (
    Pin(REPOSITORY, COMMIT, path, "", sha256)
    for path, sha256 in (
        (
            "VisionReward_Image/VisionReward_image_qa_select.txt",
            "2b603df2f4e30fe8879d85e1bf38f30ad8292278b939e31bf88bf7cf9ff22c33",
        ),
        (
            "VisionReward_Image/weight_select.json",
            "4b60192fa96e0dda0c9101ed61141f89b85bb9669479e3b8eb42cc10611a68c9",
        ),
        (
            "VisionReward_Video/VisionReward_video_qa_select.txt",
            "79de7f5e135a7957144826056a83be63fd6ddcbc61ba6460e09a0b09da580ee3",
        ),
        (
            "VisionReward_Video/weight.json",
            "0c6367f244ae64fa881e93f0033f2a4362176893ed2f946223ec64a57e3c9204",
        ),
    )
)
IMAGE_RANGE, VIDEO_RANGE = (-2.54, 4.9), (-0.217, 0.217)
"""Wide enough for the published weights, the alignment lying in 0 to 1."""
IMAGE_COUNT, VIDEO_COUNT = 30, 29
MASKS = {0: (22, 23, 24, 28, 29), 1: (25, 26), 2: (27,)}
"""Place of a question that has no weight (is there a body, a face, a hand?) -> those that count nothing where
its answer is no."""
PROMPT = "[[prompt]]"
SUFFIX = " Answer yes or no."


class Weights(NamedTuple):
    """Weights of a list's answers; of pictures, that of the alignment comes first."""

    coef: tuple[float, ...]
    intercept: float = 0.0


@reward(
    "visionreward",
    needs=("prompt", "image"),
    range=IMAGE_RANGE,
    paper="arXiv:2412.21059",
    licence="Apache-2.0 (VisionReward's questions and weights); the judges' own",
    example={"prompt": "a red circle"},
)
def visionreward(
    judge: str = "Qwen/Qwen3-VL-8B-Instruct",
    alignment: str = "zhiqiulin/clip-flant5-xxl",
    questions: str | None = None,
    coefficients: str | None = None,
    suffix: str = SUFFIX,
    soft: bool = False,
    min_mass: float = 0.5,
    dtype: str = "float32",
) -> Any:
    """Weighted sum of VQAScore and of 27 answers of 1 (yes) or -1 (no) about a picture, as published.

    The three first of the 30 questions ask whether a body, a face and hands are in the picture, and have no
    weight: where the answer is no, what is asked about them counts 0 and not -1. By the publisher's table the
    two questions about harmfulness hang on the body, so that a picture without one earns nothing by being
    harmless; that is kept. VQAScore has nearly half of the weight. `parts` has every answer after that.

    The publisher's own model (CogVLM2 of Llama 3, 19B, in a format of SwissArmyTransformer) has no class in
    transformers and is not loaded here: any VLM of `mmreward.models.vlm` answers in its place, by the
    likelier of yes and no at its first token. Numbers of another judge are other numbers than the published
    ones, and compare among themselves. As published, an answer that is neither counts as no; the note says
    how many there were, and a picture of which no question was answered has no score.

    The questions and weights are VisionReward's files, which `mmreward fetch visionreward` brings.

    Args:
        judge: a VLM (hub id, folder, "mini-vlm", or MODEL@URL for a served one).
        alignment: the judge of `vqascore` that gives the first number; the default is the publisher's, of 11
            billion weights. With another one this term, too, is another.
        questions: a file of 30 lines with questions of your own in the published order of matters.
        coefficients: a file of your own with {"coef": 28 numbers, "intercept": [one]}.
        suffix: what follows each question, so that a judge answers by one word; "" asks as published, which
            the publisher's own judge was trained on.
        soft: an answer is 2 P(yes) - 1, and a mask its P(yes), both of yes and no alone.
        min_mass: a question is answered where yes and no have this much probability together.
        dtype: of both judges.

    Raises:
        ValueError: the lists are not on this machine, or a file of yours has another form, or weights that
            leave the range.
    """
    ask = published(IMAGE_QUESTIONS, lambda text: _questions(text, IMAGE_COUNT), questions)
    weights = published(IMAGE_WEIGHTS, _image_weights, coefficients)
    vlm = models.vlm(judge, dtype=dtype)
    aligned: Callable[[Sample], Awaitable[Score]]
    aligned, _ = vqascore(judge=alignment, dtype=dtype)

    async def score(sample: Sample) -> Score:
        asked = _answers(vlm, sample.image, sample.prompt, ask, suffix, soft, min_mass)
        fit, answers = await gather(aligned(sample), asked)
        counted = masked(answers.values)
        value = weights.coef[0] * fit.value + weights.intercept
        value += sum(weight * answer for weight, answer in zip(weights.coef[1:], counted, strict=True))
        noted("weighed", "VQAScore {} x {} and {} answers", fit.value, weights.coef[0], len(counted))
        parts = {"alignment": fit.value} | _named(ask[len(MASKS) :], counted, len(MASKS))
        return Score(value, parts, note=answers.note)

    return score


@reward(
    "visionreward_video",
    needs=("prompt", "video"),
    range=VIDEO_RANGE,
    paper="arXiv:2412.21059",
    licence="Apache-2.0 (VisionReward's questions and weights); the judge's own",
    example={"prompt": "a red circle"},
)
def visionreward_video(
    judge: str = "Qwen/Qwen3-VL-8B-Instruct",
    questions: str | None = None,
    coefficients: str | None = None,
    suffix: str = SUFFIX,
    soft: bool = False,
    min_mass: float = 0.5,
    dtype: str = "float32",
) -> Any:
    """Mean of 29 weighted answers of 1 (yes) or -1 (no) about a clip, as published; about -0.2 to 0.2.

    Three of the questions name the prompt; none is a mask. What `visionreward` says of judges, answers and
    files holds here, too. The publisher takes "yes" in small letters for yes and "Yes" for no; here every
    spelling of yes is one, because other judges write it otherwise. Its frames are the nearest to each whole
    second, 24 at most; a judge here sees those that it takes itself (two a second of Qwen's: say
    `?max_frames=24` behind its name for as many at most). Questions are asked without the line's end, which
    the publisher leaves in them.

    Args:
        judge: a VLM that reads clips (hub id, folder, "mini-vlm", or MODEL@URL for a served one).
        questions: a file of 29 lines with questions of your own, with [[prompt]] in the place of the prompt.
        coefficients: a file of your own, a list of 29 numbers.
        suffix: what follows each question, so that a judge answers by one word.
        soft: an answer is 2 P(yes) - 1, of yes and no alone.
        min_mass: a question is answered where yes and no have this much probability together.
        dtype: of the judge.

    Raises:
        ValueError: as for `visionreward`.
    """
    ask = published(VIDEO_QUESTIONS, lambda text: _questions(text, VIDEO_COUNT), questions)
    weights = published(VIDEO_WEIGHTS, _video_weights, coefficients)
    vlm = models.vlm(judge, dtype=dtype)

    async def score(sample: Sample) -> Score:
        answers = await _answers(vlm, sample.video, sample.prompt, ask, suffix, soft, min_mass)
        value = sum(weight * answer for weight, answer in zip(weights.coef, answers.values, strict=True))
        noted("weighed", "the mean of {} answers", len(ask))
        return Score(value / len(ask), _named(ask, answers.values), note=answers.note)

    return score


# --- asking -------------------------------------------------------------------------------------------------


class Answers(NamedTuple):
    """One number from -1 (no) to 1 (yes) for each question, and a note about those that were not answered."""

    values: list[float]
    note: str = ""


async def _answers(
    vlm: VLM,
    media: Media | None,
    prompt: str,
    questions: Sequence[str],
    suffix: str,
    soft: bool,
    min_mass: float,
) -> Answers:
    texts = [question.replace(PROMPT, prompt) + suffix for question in questions]
    reads = await gather(*(vlm.read(media, text, YES_NO) for text in texts))
    silent = [place for place, read in enumerate(reads, 1) if read.mass < min_mass]
    if len(silent) == len(reads):
        most = max(read.mass for read in reads)
        raise Unscorable(
            f"no question was answered: yes and no have at most {most:.3f} of the probability", "unparsable"
        )
    note = f"not answered, counted as no: {', '.join(map(str, silent))}" if silent else ""
    return Answers([_answer(read, soft, min_mass) for read in reads], note)


def _answer(read: Read, soft: bool, min_mass: float) -> float:
    if read.mass < min_mass:
        return -1.0
    return 2 * read.probs["yes"] - 1 if soft else (1.0 if read.answer == "yes" else -1.0)


def masked(answers: Sequence[float]) -> list[float]:
    """Answers that have a weight, without the masks: each 0 where its mask's answer is no."""
    counted = list(answers)
    for mask, places in MASKS.items():
        for place in places:
            counted[place] *= (answers[mask] + 1) / 2
    return counted[len(MASKS) :]


def _named(questions: Sequence[str], answers: Sequence[float], before: int = 0) -> dict[str, float]:
    numbered = enumerate(zip(questions, answers, strict=True), start=before + 1)
    return {f"q{number}: {question}": answer for number, (question, answer) in numbered}


# --- the published files ------------------------------------------------------------------------------------


def _questions(text: str, count: int) -> list[str]:
    """Lines that are not blank: two of the published lists end with a line break, and two do not."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) != count:
        raise ValueError(f"{len(lines)} questions, where the weights are for {count}")
    return lines


def _image_weights(text: str) -> Weights:
    found = json.loads(text)
    if not isinstance(found, dict) or not {"coef", "intercept"} <= set(found):
        raise ValueError("these weights have no coef and intercept")
    (intercept,) = _numbers(found["intercept"], 1)
    weights = Weights(_numbers(found["coef"], IMAGE_COUNT - len(MASKS) + 1), intercept)
    first, *rest = weights.coef
    spread = sum(map(abs, rest))
    _check_range(intercept - spread + min(first, 0), intercept + spread + max(first, 0), IMAGE_RANGE)
    return weights


def _video_weights(text: str) -> Weights:
    weights = Weights(_numbers(json.loads(text), VIDEO_COUNT))
    spread = sum(map(abs, weights.coef)) / VIDEO_COUNT
    _check_range(-spread, spread, VIDEO_RANGE)
    return weights


def _numbers(found: Any, count: int) -> tuple[float, ...]:
    if not isinstance(found, list) or not all(isinstance(n, int | float) for n in found):
        raise ValueError(f"{str(found)[:60]!r} is no list of numbers")
    if len(found) != count:
        raise ValueError(f"{len(found)} weights, where {count} are needed")
    return tuple(map(float, found))


def _check_range(low: float, high: float, declared: tuple[float, float]) -> None:
    if not declared[0] <= low <= high <= declared[1]:
        raise ValueError(
            f"these weights give values from {low:.3g} to {high:.3g}, outside of [{declared[0]}, "
            f"{declared[1]}]: make them smaller"
        )
