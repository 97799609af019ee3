"""Reading text in a picture: how far the answer agrees with the transcription."""

from typing import Any

from ..registry import reward
from ..types import Sample, Score
from ..verifiers.answer import segment
from ..verifiers.ocr import PARTS, Mode, judge, references_of
from ..verifiers.verdict import Verdict, verified


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
def ocr(mode: Mode = "cer", casefold: bool = False, punctuation: bool = True, bare: bool = False) -> Any:
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
    """

    async def score(sample: Sample) -> Score:
        references = references_of(sample.target)
        response = sample.response or ""

        def check() -> Verdict:
            answer = segment(response, bare=bare).answer
            return judge(answer, references, mode=mode, casefold=casefold, punctuation=punctuation)

        return verified(check, PARTS)

    return score
