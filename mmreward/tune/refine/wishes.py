"""What a checklist question asked a picture to show, in words that may stand in a prompt. Rules, no model."""

import re

from ...failures import Unscorable
from ...rewards.checklist import checks_of
from ...types import Sample

NUMBERS = ("", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COUNTED = re.compile(r"how many (?P<what>.+?) (?:are|is) (?:there|visible|shown)\b", re.IGNORECASE)
PRESENT = re.compile(r"(?:is|are) there (?P<what>.+?)\?", re.IGNORECASE)
STATED = re.compile(r"(?:is|are) (?P<what>the .+?)\?", re.IGNORECASE)
PLACE = re.compile(r"\s+(?:in|on) (?:the|this) (?:picture|image|photo|clip|video)$", re.IGNORECASE)
ARTICLE = re.compile(r"\bthe\s+", re.IGNORECASE)


def wish_of(question: str, answer: str) -> str:
    """ "Is there a red circle?" with "yes" is "a red circle"; empty where no rule applies.

    Nothing is made of questions whose right answer is "no" or 0: naming what must not be there puts it into
    the picture.
    """
    if answer.isdigit() and 0 < int(answer) < len(NUMBERS) and (found := COUNTED.match(question)):
        what = found["what"].removesuffix("s") if answer == "1" else found["what"]
        return f"{NUMBERS[int(answer)]} {what}"
    if answer == "yes" and (found := PRESENT.match(question) or STATED.match(question)):
        article = "a " if question.lower().startswith("is") else ""
        return ARTICLE.sub(article, PLACE.sub("", found["what"]))
    return ""


def wishes_of(sample: Sample) -> dict[str, str]:
    """Wish of each entry of the sample's own checklist, by the entry's name; empty when it has none."""
    if "checklist" not in sample.meta:
        return {}
    try:
        checks = checks_of(sample, {})
    except Unscorable:  # the critic fails on it, and its score says why
        return {}
    return {name: wish_of(check.question, check.answer) for name, check in checks.items()}
