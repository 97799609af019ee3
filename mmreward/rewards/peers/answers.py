"""How other projects judge short answers, reproduced with their defects, for comparison only.

Each function gives the number that its project gives for a whole response, in linear time. None of them is a
reward here: `choice`, `yes_no`, `label` and `ocr` are what to train with.
"""

# FOLDED mmreward/verifiers/peers/br_rm.py: BR-RM's reward (arXiv:2510.23596), for comparison.
# FOLDED mmreward/verifiers/peers/judges.py: How other projects read what a judge wrote, reproduced with their defects, for comparison only.
#
# `grade.parse_grade` and the probabilities of the reward `consistency` are what to use.
#
# FOLDED mmreward/verifiers/peers/shaping.py: VLM-R1's rewards of length and repetition, reproduced with their defects, for comparison only.
#
# `mmreward.shaping`, `length` and `repetition` are what to train with.
#

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...errors import Unscorable
from ...verifiers.lists import parse_list
from ...verifiers.text import edit_distance
from ..rules.form import ngrams

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


def br_rm(right: bool, well_formed: bool) -> float:
    """0 for the right verdict, -1 for the wrong one, -100 for a turn without its form.

    Normalised within a group, one malformed response among eight makes all well-formed ones, right or wrong,
    nearly equal: the format is learned first, and nothing else meanwhile.
    """
    if not well_formed:
        return -100.0
    return 0.0 if right else -1.0


BOXED = re.compile(r"\\box(?:es)?\{([01](?:\.\d)?)\}")
TAGGED = re.compile(r"<answer>\s*([01](?:\.\d)?)\s*</answer>")
FIRST = re.compile(r"\b([01](?:\.\d)?)\b")
AFTER_THINKING = (
    re.compile(r"</think>\s*<answer>\s*([\d.]+)\s*</answer>"),
    re.compile(r"</think>\s*([\d.]+)"),
)
COUNTED = (re.compile(r"Total Wrong Steps\*\*:\s*(\d+)"), re.compile(r"\*\*(\d+)\s+wrong steps\*\*"))


def sophia_grade(text: str) -> float:
    """SophiaVL-R1 (a818494), the thinking reward model's grade: 0 to 1.

    Defects: one decimal is read at most, so 0.85 and .7 are 0 and so is whatever cannot be read; any 0 or 1
    of the text comes before the number after the thinking; and three wrong steps are a grade of 1.
    """
    first = next(_numbers(text), "0")
    try:
        return min(float(first), 1.0)
    except ValueError:  # such as 1.2.3, where theirs fails ten times and gives 0
        return 0.0


def _numbers(text: str) -> Iterator[str]:
    """What each of their expressions finds, in their order."""
    for expression in (BOXED, TAGGED, FIRST, *AFTER_THINKING, *COUNTED):
        if match := expression.search(text):
            yield match[1]


def r1_reward_referee(text: str) -> float:
    """R1-Reward (3693413), whether the referee finds reasoning and answer consistent: 1, -1, or 0 if unread.

    Defect: a 0 anywhere comes first, so that "1.0" and "10 of 10" are a no.
    """
    if "0" in text:
        return -1.0
    return float("1" in text)


COSINE_LIMIT = 1024


def vlm_r1_cosine(accuracy: float, tokens: int) -> float:
    """VLM-R1 (90052f4), `length`: 0.5 to 1, the shorter the more.

    Defects: the accuracy is overwritten by 1, so a wrong answer is paid as a right one, and the wave goes on
    beyond its limit, so that 2048 tokens earn as much as none.
    """
    del accuracy  # as the original does
    return 1.0 - 0.5 * (1 - math.cos(tokens * math.pi / COSINE_LIMIT)) / 2


def vlm_r1_repetition(text: str) -> float:
    """VLM-R1 (90052f4), `repetition`: minus the share of repeated boxes, or of 6-grams of words; -1 to 0.

    The original looks for boxes with an expression that takes 108 s for 7.2 KB; here they are read in linear
    time. Defects kept: once there is a list of boxes, the words around it may repeat for free, and under
    six words everything may.
    """
    boxes = _boxes(text)
    items, size = (tuple(boxes), 1) if boxes is not None else (tuple(text.lower().split()), 6)
    total, unique = ngrams(items, size)
    return unique / total - 1 if total else 0.0


def _boxes(text: str) -> list[str] | None:
    """Coordinates and label of each object of a list of boxes; None where there is no such list."""
    try:
        items = parse_list(text).items if "[" in text else []
    except Unscorable:
        return None
    boxes = [item for item in items if isinstance(item, Mapping)]
    keys = [_key(box) for box in boxes if "bbox_2d" in box and "label" in box]
    return keys if keys or (boxes and "```" in text) else None


def _key(box: Mapping[str, Any]) -> str:
    return f"{box['bbox_2d']}_{box['label']}"
