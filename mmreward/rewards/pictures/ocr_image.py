"""Text rendering: the text that a picture shows against the text that was asked for.

The picture is read by RapidOCR, once for all rewards that want its text. Every character too many costs as
much as one too few, so that writing everywhere does not pay: under the formula of flow_grpo, which other
suites took over, it does. That formula is here as a preset, for comparison with published runs.
"""

from collections.abc import Sequence
from functools import partial
from itertools import permutations
from typing import TYPE_CHECKING, Any, Literal

from ... import models
from ...errors import Unscorable
from ...reading import aside
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score
from ...verifiers.quotations import quoted
from ...verifiers.text import edit_distance, normalise

if TYPE_CHECKING:
    from ...models.texts import Line

Source = Literal["auto", "target", "prompt"]

MAX_STRINGS = 16
"""Texts that one picture may be asked to show."""
MAX_CHARACTERS = 1000
"""Characters of these together; matching takes time with their number."""
MAX_PERMUTED = 4
"""Texts up to which every order is tried."""
MAX_MATCHES = 1000
"""Lines times texts up to which lines are matched with texts one by one."""


def wanted_of(sample: Sample, text: Source = "auto") -> list[str]:
    """The texts that a picture is to show: the target's, or the prompt's quoted strings.

    Raises:
        Unscorable: "na" where the prompt quotes nothing; "missing" where there is no target, or an empty one;
            else a target that is no text, or too much of it.
    """
    target = sample.target
    if text == "prompt" or (text == "auto" and target is None):
        found = quoted(sample.prompt) if isinstance(sample.prompt, str) else []
        if not found:
            raise Unscorable("the prompt quotes no text: put what is to be shown in quotation marks", "na")
        return _within_limits(found)
    if target is None:
        raise Unscorable("the sample has no target", "missing")
    texts = [target] if isinstance(target, str) else target
    if not isinstance(texts, list | tuple) or not all(isinstance(one, str) for one in texts):
        raise Unscorable(f"the target {str(target)[:80]!r} is no text, nor a list of texts")
    if not texts or not all(one.strip() for one in texts):
        raise Unscorable("the target's text is empty: leave the target out to take the prompt's", "missing")
    return _within_limits(list(texts))


def _within_limits(texts: list[str]) -> list[str]:
    if len(texts) > MAX_STRINGS:
        raise Unscorable(f"{len(texts)} texts for one picture; the limit is {MAX_STRINGS}")
    if (characters := sum(map(len, texts))) > MAX_CHARACTERS:
        raise Unscorable(f"{characters} characters of text for one picture; the limit is {MAX_CHARACTERS}")
    return texts


def rendering(lines: Sequence[str], wanted: Sequence[str], *, order: bool = False) -> tuple[float, float]:
    """Agreement (0 to 1) of a picture's lines with the wanted texts, and the share of texts that it contains.

    The agreement is 1 - edits / max(characters wanted, characters read), without spaces. The edits are the
    fewest of those that were found: with the texts in their given order; unless `order`, also in every other
    order (up to `MAX_PERMUTED` texts), and with every line laid to the text that it brings nearest.
    """
    pieces = ["".join(line.split()) for line in lines]
    texts = ["".join(text.split()) for text in wanted]
    read, whole = "".join(pieces), "".join(texts)
    edits = edit_distance(read, whole)
    if not order and len(texts) > 1:
        if len(texts) <= MAX_PERMUTED:
            edits = min(edits, *(edit_distance(read, "".join(one)) for one in permutations(texts)))
        if len(texts) * len(pieces) <= MAX_MATCHES:
            edits = min(edits, _matched(pieces, texts))
    contained = sum(text in read for text in texts) / len(texts)
    return 1 - edits / max(len(read), len(whole)), contained


def _matched(pieces: Sequence[str], texts: Sequence[str]) -> int:
    """Edits when each piece is appended to the text that it brings nearest, or to none."""
    shown = [""] * len(texts)
    edits = [len(text) for text in texts]
    surplus = 0
    for piece in pieces:
        after = [edit_distance(had + piece, text) for had, text in zip(shown, texts, strict=True)]
        cost, best = min((after[index] - edits[index], index) for index in range(len(texts)))
        if cost < len(piece):
            shown[best] += piece
            edits[best] = after[best]
        else:
            surplus += len(piece)
    return sum(edits) + surplus


def flow_grpo(read: str, wanted: str) -> float:
    """The value of flow_grpo's OCR reward (github.com/yifan123/flow_grpo, ocr.py): 1 - min(d, n) / n.

    d is the edit distance without spaces and case, n the length of the wanted text, and d is 0 where the
    wanted text occurs anywhere in what was read.
    """
    read, wanted = read.replace(" ", "").lower(), wanted.replace(" ", "").lower()
    if wanted in read:
        return 1.0
    return 1 - min(edit_distance(read, wanted), len(wanted)) / len(wanted)


@reward(
    "ocr_image",
    needs=("image",),
    range=(0.0, 1.0),
    paper="arXiv:2505.05470",
    licence="Apache-2.0 (RapidOCR, PP-OCR)",
    example={"target": "EXIT 24A"},
)
def ocr_image(
    text: Source = "auto",
    order: bool = False,
    casefold: bool = True,
    punctuation: bool = True,
    min_confidence: float = 0.5,
    preset: Literal["flow_grpo"] | None = None,
) -> Any:
    """Agreement of the text in a picture with the text asked for, 0 to 1, by normalised edit distance.

    Asked for is `sample.target`, a text or a list of texts that are all to be shown; without one, the quoted
    strings of the prompt: straight, curly and low-high marks, guillemets, corner brackets, and single quotes
    where there are no others. A prompt that quotes nothing is "na", an empty target "missing".

    The value is 1 - edits / max(characters wanted, characters read), in Unicode's NFKC form and without
    spaces, which readers of text lose. A picture without text is worth 0, the text alone 1, and the same text
    written ten times 0.1. Several texts count together, in any order unless `order`.

    Reads with the models that RapidOCR's wheel ships (`pip install "mmreward[ocr]"`), on the CPU and without
    a network: English and other Latin text, which is tested here; Chinese and Japanese by RapidOCR's own
    account. Text upside down is not read.

    `parts`: `contained` is the share of texts that occur in the picture letter by letter, `exact` 1 where it
    shows them and nothing else, `read` the characters read, `confidence` the reader's own mean. `note` has
    what was read.

    The preset "flow_grpo" is the published 1 - min(d, n) / n, n the characters of the text. Its traps: it
    pays in full for the text anywhere, inside a longer word ("cat" in "concatenate"), amid other text, or
    sprayed ten times; it takes one text, between the first two straight double quotes; without them it stops
    the run, and for an empty text it divides by zero (here: "na" and "missing"). `parts["symmetric"]` is then
    what the reward is worth without the preset: watch it. The published one reads with PaddleOCR 2.9.1, to
    which it gives RGB for BGR; the formula is the same here, the reader is not.

    Args:
        text: where the text comes from: "target", "prompt", or "auto", the target where there is one.
        order: several texts must come in the order given, from the top left.
        casefold: ignore case.
        punctuation: without, it is dropped from both sides.
        min_confidence: lines that the reader is less sure of are left out.
        preset: "flow_grpo" for the formula above; it fixes `order`, `casefold`, `punctuation` and
            `min_confidence`.
    """
    if not 0 <= min_confidence <= 1:
        raise ValueError(f"min_confidence is a probability, 0 to 1, not {min_confidence}")
    if preset and (order, casefold, punctuation, min_confidence) != (False, True, True, 0.5):
        raise ValueError(
            "preset: flow_grpo fixes order, casefold, punctuation and min_confidence: leave them out"
        )
    reader = models.text_reader()

    def grade(lines: "Sequence[Line]", wanted: Sequence[str], least: float) -> Score:
        kept = [line for line in lines if line.confidence >= least]
        noted("asked for", "{}", wanted)
        noted("read", "{}", {line.text: line.confidence for line in lines} or "no text")
        read, texts = (
            [normalise(one, casefold=casefold, punctuation=punctuation) for one in several]
            for several in ([line.text for line in kept], wanted)
        )
        if not all(texts):
            raise Unscorable(f"nothing is left of the text {wanted[texts.index('')]!r} without punctuation")
        value, contained = rendering(read, texts, order=order)
        noted("compared", "{} with {}: {}, {} of the texts letter by letter", read, texts, value, contained)
        parts = {
            "contained": contained,
            "exact": float(value == 1),
            "read": float(sum(len("".join(line.split())) for line in read)),
            "confidence": sum(line.confidence for line in kept) / len(kept) if kept else 0.0,
        }
        return Score(value, parts, note=_note([line.text for line in kept]))

    async def score(sample: Sample) -> Score:
        assert sample.image is not None
        if preset:
            wanted = [_published(sample, text)]
            lines = await reader.lines(sample.image)
            fair = await aside(partial(grade, lines, wanted, 0.5))
            positive = [line.text for line in lines if line.confidence > 0]
            value = await aside(partial(flow_grpo, "".join(positive), wanted[0]))
            return Score(value, {**fair.parts, "symmetric": fair.value}, note=_note(positive))
        wanted = wanted_of(sample, text)
        lines = await reader.lines(sample.image)
        return await aside(partial(grade, lines, wanted, min_confidence))

    return score


def _published(sample: Sample, text: Source) -> str:
    """The one text of flow_grpo's formula.

    Raises:
        Unscorable: as `wanted_of`, or several texts.
    """
    if text == "target" or (text == "auto" and sample.target is not None):
        wanted = wanted_of(sample, "target")
        if len(wanted) > 1:
            raise Unscorable(f"preset flow_grpo takes one text, and the target has {len(wanted)}")
        return wanted[0]
    parts = sample.prompt.split('"') if isinstance(sample.prompt, str) else []
    if len(parts) < 2:
        raise Unscorable('the prompt has no " around a text, as preset flow_grpo wants it', "na")
    if not parts[1].strip():
        raise Unscorable("the prompt's quoted text is empty", "missing")
    return _within_limits([parts[1]])[0]


def _note(lines: Sequence[str]) -> str:
    read = " | ".join(lines)
    return f"read: {read[:200]}" if read else "no text was read"
