"""How other projects judge short answers, reproduced with their defects, for comparison only.

Each function gives the number that its project gives for a whole response, in linear time. None of them is a
reward here: `choice`, `yes_no`, `label` and `ocr` are what to train with.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

from ...failures import Unscorable
from ..edits import edit_distance

CHOICE = re.compile(r"(?<![A-Z])([A-Z])(?=[.,?!:;]|$)")
CUES = (
    *(
        "\u7b54\u6848",
        "\u9009\u62e9",
        "\u6b63\u786e",
        "\u662f",
        "\u5bf9",
        "\u8ba4\u4e3a",
        "\u5e94\u8be5",
        "\u89c9\u5f97",
    ),
    *("ANSWER", "CORRECT", "CHOOSE", "SELECT", "RIGHT", "THINK", "BELIEVE", "SHOULD"),
)
STOPS = "\u3002.!\uff01,\uff0c"


def vlm_r1_choice(response: str, gold: str) -> float:
    """VLM-R1 (90052f4), `mcq`: 1 for the same letter.

    Defects: "(A)", "A)" and "option D is right" hold no letter for it; of several letters it picks one by
    points for its place and the words around it, so "B, not C." is C, and a list of all is the last.
    """
    right = _letter(_answered(gold)) or gold.strip()
    letter = _letter(_answered(response))
    return float(letter is not None and letter == right)


def vlm_r1_yes_no(response: str, gold: str) -> float:
    """VLM-R1 (90052f4), `yes_no`: 1 when both hold the same of "yes" and "no", whichever comes first in each.

    Defects: "know" and "nothing" hold "no", "yesterday" holds "yes", and two texts with neither agree.
    """
    said = [re.search("yes|no", _answered(text.lower())) for text in (response, gold)]
    return float((said[0] and said[0][0]) == (said[1] and said[1][0]))


def vlm_r1_default(response: str, gold: str) -> float:
    """VLM-R1 (90052f4), `default`: equal numbers where the gold text has a digit and both texts are numbers,
    the letter where it names one, else 2 * longest common subsequence / both lengths.

    Defect: what is no plain number is paid for resembling it, so 1,235 for 1,234 earns 0.8. The equality of
    formulas that it tests first is left out.
    """
    right, said = _answered(gold), _answered(response, last=True)
    if any(sign.isdecimal() for sign in right):
        try:
            return float(float(_cleaned(said)) == float(_cleaned(right)))
        except ValueError:
            return _likeness(_cleaned(said), _cleaned(right))
    if letter := _letter(right):
        return float(_letter(said) == letter)
    return _likeness(_cleaned(said), _cleaned(right))


def visual_rft_label(response: str, gold: str) -> float:
    """Visual-RFT (94866331), classification: 1 when either text contains the other; no spaces, "_" or case.

    Defects: an empty answer, a single letter of the label and the list of all labels are right (issues 176,
    70 and 79), and without answer tags so is any text that names the class. The equality of formulas that it
    tests first is left out.
    """
    pair = [_answered(text).replace(" ", "").replace("_", "").lower() for text in (response, gold)]
    return float(pair[0] in pair[1] or pair[1] in pair[0])


def sophia_ocr(response: str, gold: str) -> float:
    """SophiaVL-R1 (a818494), OCR: exp(-word error rate), for a response in form.

    Defect: an empty answer has an error rate of 1 and earns 0.37.

    Raises:
        Unscorable: the gold text is empty, as there is no error rate then (the original raises too).
    """
    answer = _in_form(response)
    words = gold.replace("$", "").split()
    if not words:
        raise Unscorable("no word error rate against an empty text")
    return (
        0.0
        if answer is None
        else math.exp(-edit_distance(answer.replace("$", "").split(), words) / len(words))
    )


def sophia_choice(response: str, gold: str) -> float:
    """SophiaVL-R1 (a818494), multiple choice: 1 when the answer, parted at commas, has as many items as the
    gold text has characters and each is contained in it.

    Defects: "A,B" is wrong where the gold text is "A,B", and "A,A" is right where it is "AB".
    """
    answer = _in_form(response)
    if answer is None:
        return 0.0
    truth = gold.replace("$", "")
    items = [item.strip() for item in answer.replace("$", "").split(",")]
    return float(len(items) == len(truth) and all(item in truth for item in items))


def timemaster(response: str, gold: str, labels: Sequence[str]) -> float:
    """TimeMaster (ctu.py): 0.9 for the right class and 0.1 for any known one.

    Defects: the class is the first one anywhere, the thinking included, and no other section is asked for.
    """
    known = {label.lower() for label in labels}
    for part in response.lower().split("<class>")[1:]:
        inside, closed, _ = part.partition("</class>")
        if closed and inside.strip() in known:
            return 0.9 * (inside.strip() == gold.strip().lower()) + 0.1
    return 0.0


def _answered(text: str, *, last: bool = False) -> str:
    """What the first answer tags hold, or the last, or the whole text."""
    before = text.rpartition("</answer>")[0] if last else text
    start = before.rfind("<answer>") if last else before.find("<answer>")
    inside, closed, _ = text[start + len("<answer>") :].partition("</answer>") if start >= 0 else ("", "", "")
    return (inside if closed else text).strip()


def _cleaned(text: str) -> str:
    return " ".join(text.splitlines()).strip().rstrip(".").lower()


def _likeness(a: str, b: str) -> float:
    """1 - (insertions and deletions that turn one text into the other) / both lengths."""
    a, b = sorted((a, b), key=len)
    places: dict[str, int] = {}
    for position, item in enumerate(a):
        places[item] = places.get(item, 0) | 1 << position
    full = (1 << len(a)) - 1
    open_ = full  # the bits of `a` that no common subsequence so far has taken (Hyyro 2004)
    for item in b:
        taken = open_ & places.get(item, 0)
        open_ = (open_ + taken | open_ - taken) & full
    common = len(a) - open_.bit_count()
    return 2 * common / (len(a) + len(b)) if a or b else 1.0


def _in_form(response: str) -> str | None:
    """The answer of `<think>..</think>..<answer>..</answer>`, from the first character to the last."""
    text = response.strip()
    middle = text.find("</think>", len("<think>"))
    start = text.find("<answer>", middle) if middle >= 0 else -1
    if not text.startswith("<think>") or start < 0 or not text.endswith("</answer>"):
        return None
    return _answered(text[start:])


def _letter(answer: str) -> str | None:
    text = " ".join(re.split(r"\s+", answer.upper()))
    times = Counter(CHOICE.findall(text))
    return max(times, key=lambda letter: times[letter] * _points(letter, text), default=None)


def _points(letter: str, text: str) -> int:
    """By the words around the letter's first occurrence as any part of the text, and by its place."""
    at = text.find(letter)
    around = text[max(0, at - 20) : at + 20]
    late = 2 * (at > len(text) * 0.7)
    return sum(cue in around for cue in CUES) + late + (at < len(text) - 1 and text[at + 1] in STOPS)
