"""OCR: text read from a picture, against one or several transcriptions, by character or word error rate or
ANLS."""

from collections.abc import Sequence
from typing import Any, Literal

from ...errors import Unscorable
from ...limits import limits, most
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score
from ...verifiers.reading import boxes_of, undressed, visible, without_lead
from ...verifiers.response import MAX_ANSWER, Reading, Verdict, segment, verified
from ...verifiers.text import edit_distance, nfkc, normalise

Mode = Literal["cer", "wer", "anls", "exact"]
PARTS = ("exact", "similarity")

ANLS_THRESHOLD = 0.5
"""Normalised distance from which ANLS gives nothing (arXiv:1907.00490)."""


def references_of(target: Any) -> list[str]:
    """Read the transcriptions of a target: a text (an empty one says that there is nothing to read), or
    several.

    Raises:
        Unscorable: there is none, or one that is no text.
    """
    texts = [target] if isinstance(target, str) else target
    if not isinstance(texts, list | tuple) or not texts or not all(isinstance(t, str) for t in texts):
        raise Unscorable(f"the target {str(target)[:80]!r} is no text, nor a list of texts")
    if sum(map(len, texts)) > limits().text_characters:
        raise Unscorable(
            f"the target's texts have more characters together than the limit of {most('text_characters')}"
        )
    return list(texts)


def transcriptions(answer: str, reading: Reading = "clear") -> list[str]:
    """Transcriptions that an answer may be meant to give: as it stands, and in the clear reading without its
    dress, "The answer is", and a full stop.

    What looks like dress may be part of the text in the picture, so all of them are compared; they are one
    text, written more or less plainly, and not two guesses.
    """
    found = [answer]
    if reading == "clear" and len(answer) <= MAX_ANSWER:
        boxes, _ = boxes_of(answer)
        bare = undressed(nfkc(visible(boxes[0].content if len(boxes) == 1 else answer)))
        found += [bare, without_lead(bare)]
        full_stops = (".", "\u3002")
        found += [undressed(text[:-1]) for text in found if text.endswith(full_stops) and text[-2:] != ".."]
    return list(dict.fromkeys(found))


def grade_transcription(
    answer: str,
    references: Sequence[str],
    *,
    mode: Mode = "cer",
    casefold: bool = False,
    punctuation: bool = True,
) -> Verdict:
    """Grade an answer by its best agreement with any reference, 0 to 1.

    cer and wer: max(0, 1 - distance / length of the reference), by characters and by words. anls: 1 minus
    the distance over the longer of the two, and 0 from `ANLS_THRESHOLD` on. exact: 1 for equal texts. An
    empty answer is worth 0 unless the reference is empty, and so is any other one where it is. An answer of
    more than 4 times a reference's length + 64 characters is not compared with it: it agrees by 0.

    `parts["similarity"]` is 1 - min(1, distance / length) before any threshold, `parts["exact"]` 1 where
    the answer equals the reference.

    Raises:
        Unscorable: a reference has no characters left without its punctuation.
    """
    verdicts = []
    for reference in references:
        truth = normalise(reference, casefold=casefold, punctuation=punctuation)
        if reference.strip() and not truth:
            raise Unscorable(f"nothing is left of the target {reference!r} without punctuation")
        if len(answer) > 4 * len(reference) + 64:
            continue
        found = normalise(answer, casefold=casefold, punctuation=punctuation)
        similarity = _similarity(found, truth, mode)
        value = 0.0 if mode == "anls" and similarity <= 1 - ANLS_THRESHOLD else similarity
        noted("compared", "{} with {}: similarity {}, worth {}", found, truth, similarity, value)
        verdicts.append(Verdict(value, {"exact": float(found == truth), "similarity": similarity}))
    too_long = Verdict(0.0, dict.fromkeys(PARTS, 0.0), "too long for any reference")
    return max(verdicts, key=lambda v: (v.value, v.parts["similarity"]), default=too_long)


def _similarity(found: str, truth: str, mode: Mode) -> float:
    if mode == "exact" or not found or not truth:
        return float(found == truth)
    a, b = (found.split(), truth.split()) if mode == "wer" else (found, truth)
    length = max(len(a), len(b)) if mode == "anls" else len(b)
    return max(0.0, 1 - edit_distance(a, b) / length)


@reward(
    "ocr",
    needs=("response", "target"),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:1907.00490",
    example={
        "response": "<think>A sign.</think><answer>EXIT 24</answer>",
        "target": ["EXIT 24A", "Exit 24A"],
    },
)
def ocr(
    mode: Mode = "cer",
    casefold: bool = False,
    punctuation: bool = True,
    bare: bool = False,
    reading: Reading = "clear",
) -> Any:
    """Agreement of a transcription with the best of its references, 0 to 1.

    `sample.target` is the text, or a list of texts any of which will do. Compared in Unicode's NFKC form with
    single spaces. An empty answer is worth 0, unless the reference is empty too (where `exp(-WER)`, as used
    elsewhere, pays 0.37); an answer much longer than the reference is worth 0 without being compared.

    Args:
        mode: "cer" is 1 - character error rate, "wer" the same by words, "anls" the normalised similarity
            that is 0 up to a half (published with case ignored: add casefold), "exact" 0 or 1.
        casefold: ignore case.
        punctuation: without, it is dropped from both texts.
        bare: accept an answer without `<answer>` tags.
        reading: "clear" also compares the answer without what may wrap it (quotation marks, bold, a box, "The
            answer is", a full stop), and the nearer one counts; "strict" takes it as it stands.
    """

    async def score(sample: Sample) -> Score:
        references = references_of(sample.target)
        noted("target", "any of {}", references)
        response = sample.response or ""

        def check() -> Verdict:
            answer = segment(response, bare=bare, reading=reading).answer
            verdicts = (
                grade_transcription(text, references, mode=mode, casefold=casefold, punctuation=punctuation)
                for text in transcriptions(answer, reading)
            )
            best = max(verdicts, key=lambda verdict: (verdict.value, verdict.parts["similarity"]))
            noted(
                "best",
                "similarity {} to the nearest reference, worth {}",
                best.parts["similarity"],
                best.value,
            )
            return best

        return verified(check, PARTS)

    return score
