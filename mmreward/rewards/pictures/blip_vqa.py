"""BLIP-VQA (T2I-CompBench, arXiv:2307.06350): whether a picture shows every phrase of its prompt, by BLIP's
yes or no to each.
"""

import json
import math
import re
from asyncio import gather
from typing import Any

from ... import models
from ...errors import Unscorable
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score

URL = (
    "https://storage.googleapis.com/sfr-vision-language-research/BLIP/models/model_base_vqa_capfilt_large.pth"
)
MAX_PHRASES = 8
"""Phrases of one prompt; upstream asks as many and leaves the rest out."""
LEFT_OUT = ("top", "the side", "the left", "the right")
"""Phrases that upstream does not ask about."""
MOST_WORDS = 4
"""Words of a phrase that is found without a parser, its article apart."""
ARTICLES = ("a", "an", "the")
# fmt: off
FUNCTION_WORDS = frozenset({
    "about", "above", "across", "against", "along", "amid", "among", "around", "as", "at", "behind",
    "below", "beneath", "beside", "between", "beyond", "by", "down", "during", "for", "from", "has",
    "have", "in", "inside", "into", "is", "are", "was", "near", "of", "off", "on", "onto", "or", "out",
    "over", "past", "that", "through", "to", "toward", "towards", "under", "up", "upon", "which", "while",
    "who", "with", "within", "without",
})
# fmt: on
"""Words that no plain noun phrase holds."""


@reward(
    "blip_vqa",
    needs=("prompt", "image"),
    range=(0.0, 1.0),
    paper="arXiv:2307.06350",
    licence="BSD-3-Clause (BLIP), MIT (T2I-CompBench)",
    example={"meta": {"phrases": ["a red circle", "a blue square"]}},
)
def blip_vqa(
    file: str | None = None, tokenizer: str = "google-bert/bert-base-uncased", dtype: str = "float32"
) -> Any:
    """Product, 0 to 1, of BLIP's P(yes) / (P(yes) + P(no)) over the noun phrases of the prompt.

    T2I-CompBench's score of attribute binding (color, shape, texture): each phrase is asked with a question
    mark after it ("a red circle?"), at the first word of the answer. One phrase that is missing ruins the
    product, and a prompt of many phrases is worth less than one of few: compare pictures of one prompt.
    `parts` has the least, the geometric mean and the number of phrases.

    The phrases are `meta.phrases`, a list, which should be the noun chunks of spaCy's en_core_web_sm, as
    upstream's are. Without it only prompts of the form "a red circle and a blue square" are taken apart here:
    phrases of up to four words and an article between commas and "and", without a preposition. Any other
    prompt is "missing" its phrases: upstream scores a prompt in which it finds none with 1, and is silent
    about the ninth phrase and those after it, which are refused here. "top", "the side", "the left" and "the
    right" are not asked about, as upstream.

    The file is the one that BLIP's authors released, with pictures of 480 pixels. transformers' own processor
    does not begin a question as BLIP was trained to, which gives other numbers. Upstream rounds each
    probability to four digits before it multiplies; here nothing is rounded. Beside upstream's own code
    (transformers 4.46, float32) on a tiny checkpoint of this format, probabilities differ by less than a
    millionth.

    Args:
        file: model_base_vqa_capfilt_large.pth; without it, that in torch.hub's cache.
        tokenizer: of BERT, a hub id or a folder.
        dtype: of the network.

    Raises:
        ValueError: the file or the tokenizer is not on this machine, with the command that fetches it.
    """
    weights = models.downloaded(URL) if file is None else file
    models.needed(tokenizer, *models.TOKENIZER)
    network = models.blip_vqa(weights, tokenizer, dtype=dtype)

    async def score(sample: Sample) -> Score:
        assert sample.image is not None
        phrases = phrases_of(sample)
        sure = await gather(*(network.yes(sample.image, f"{phrase}?") for phrase in phrases))
        value = math.prod(sure)
        for phrase, probability in zip(phrases, sure, strict=True):
            noted("asked", "{}? yes with a probability of {}", phrase, probability)
        least = min(range(len(sure)), key=lambda place: sure[place])
        parts = {"least": sure[least], "gm": value ** (1 / len(sure)), "phrases": float(len(sure))}
        return Score(value, parts, note=f"least sure of: {phrases[least][:200]}")

    return score


def phrases_of(sample: Sample) -> list[str]:
    """Noun phrases of a sample: those of `meta.phrases`, or of a prompt that is a plain list of them.

    Raises:
        Unscorable: "missing" where they are neither given nor plain; else what is wrong with them.
    """
    given = sample.meta.get("phrases")
    if given is None:
        return plain_phrases(sample.prompt)
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError) as error:
            raise Unscorable(f"phrases is not JSON: {error}") from None
    if not isinstance(given, list | tuple) or not all(isinstance(one, str) and one.strip() for one in given):
        raise Unscorable(f"phrases is {str(given)[:60]!r}, not a list of texts")
    asked = [one for one in given if one not in LEFT_OUT]
    if not asked:
        raise Unscorable("there are no phrases to ask about", "missing")
    if len(asked) > MAX_PHRASES:
        raise Unscorable(f"{len(asked)} phrases for one picture; the limit is {MAX_PHRASES}")
    return asked


def plain_phrases(prompt: str) -> list[str]:
    """Phrases of a prompt that is nothing but a list of them, such as "a red circle and a blue square".

    Raises:
        Unscorable: "missing" for any other prompt.
    """
    pieces = re.split(r",\s*and\s+|,\s*|\s+and\s+", prompt.strip().rstrip("."))
    for piece in pieces:
        words = piece.lower().split()
        bare = words[1:] if words[:1] and words[0] in ARTICLES else words
        plain = all(word.replace("-", "").isalpha() and word not in FUNCTION_WORDS for word in bare)
        if not 1 <= len(bare) <= MOST_WORDS or not plain:
            raise Unscorable(
                f"the phrases of this prompt are not known (at {piece[:60]!r}): give them as `phrases`, the "
                "noun chunks of spaCy",
                "missing",
            )
    if not 2 <= len(pieces) <= MAX_PHRASES:
        raise Unscorable(
            f"a prompt of {len(pieces)} phrases is not taken apart here: give them as `phrases`", "missing"
        )
    return pieces
