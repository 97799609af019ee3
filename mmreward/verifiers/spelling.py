"""Spellings of one short answer: articles, dashes, ratios, formulas, lists, numbers with a scale or a noun.

Two texts are the same where one of their spellings is (`spellings`). A number may have a scale ("3.2
million", "5k") or the thing that is counted behind it ("10 people"), which `numbers.read_number` takes for no
number.
"""

import re

from .numbers import Number, read_number
from .reading import plain, undressed, without_lead
from .text import normalise

# --- words ----------------------------------------------------------------------------------------

DASHES = dict.fromkeys((0x2010, 0x2011, 0x2012, 0x2013, 0x2014, 0x2015, 0x2212), "-") | {
    0x2018: "'",
    0x2019: "'",
    0x201C: '"',
    0x201D: '"',
    0x3001: ",",
    0x2192: "->",
}
ARTICLE = re.compile(r"(?:the|an|a) (?=\S)")
AROUND = re.compile(r"(?<=[\w%]) ?(-|:|/) ?(?=\w)")
"""Spaces around a dash, a colon or a slash, where words stand on both sides."""
RATIO = re.compile(r"(?<![\w.])(\d[\d.,]*) to (\d[\d.,]*)(?!\w)")
AND = re.compile(r",? (?:and|&) |, ?(?:and )?")
INDEX = re.compile(r"(?<=[a-z)])_(?:\{(\d{1,3})\}|(\d{1,3}))")
"""An index of a chemical formula, H_2O."""


def spellings(text: str) -> frozenset[str]:
    """Keys of a text; two texts are the same answer where they share one.

    Without dress, lead-in, case, article and closing full stop; "and" in a list is a comma, dashes are one
    sign, and "3 to 1" is both 3:1 and 3-1.
    """
    words = normalise(plain(without_lead(text)).translate(DASHES))
    words = undressed(words)
    if len(words) > 1 and words.endswith((".", "\u3002")) and (words[-2].isalnum() or words[-2] in ")%"):
        words = words[:-1]
    words = ARTICLE.sub("", undressed(words), count=1) if ARTICLE.match(words) else undressed(words)
    words = INDEX.sub(lambda index: index[1] or index[2], words)
    words = AND.sub(", ", AROUND.sub(r"\1", words)).strip()
    if not words:
        return frozenset()
    if not RATIO.search(words):
        return frozenset({words})
    return frozenset({words, RATIO.sub(r"\1:\2", words), RATIO.sub(r"\1-\2", words)})


BULLET = re.compile(r"\s*(?:[-*\u2022]|\(?\d{1,3}[.)]|\(?[a-z][.)])\s+(?=\S)")
LAST_AND = re.compile(r"^(?:and|&) ")
CONJUNCTION = re.compile(r" (?:and|&) ")


def items_of(text: str, wanted: int) -> list[str] | None:
    """Items of a list in a wording that separators alone do not split: a line each, bullets, "and" before the
    last, or single letters written together; None for any other wording.

    Args:
        text: the answer, without its dress.
        wanted: the number of items looked for, which single letters need to be told from a word.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and not any(separator in text for separator in (",", ";", "->")):
        return [BULLET.sub("", line, count=1).strip().rstrip(",;") for line in lines]
    text = " ".join(text.translate(DASHES).split())
    for separator in (",", ";", "->", ">"):
        if separator in text:
            items = [LAST_AND.sub("", item.strip()) for item in text.strip("[](){}").split(separator)]
            if len(items) < wanted and CONJUNCTION.search(items[-1]):
                items[-1:] = CONJUNCTION.split(items[-1], maxsplit=1)
            return [item.strip("\"'") for item in items]
    if CONJUNCTION.search(text):
        return CONJUNCTION.split(text)
    if len(text) == wanted and text.isalpha() and text.isascii() and text.isupper():
        return list(text)
    return None


# --- numbers --------------------------------------------------------------------------------------

SCALES = {
    "hundred": 10**2,
    "thousand": 10**3,
    "k": 10**3,
    "million": 10**6,
    "mn": 10**6,
    "mio": 10**6,
    "billion": 10**9,
    "bn": 10**9,
    "trillion": 10**12,
    "tn": 10**12,
    "\u5343": 10**3,
    "\u4e07": 10**4,
    "\u767e\u4e07": 10**6,
    "\u5343\u4e07": 10**7,
    "\u4ebf": 10**8,
}
LETTERS = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
SCALED = re.compile(
    r"(?P<number>[-+]?[$\u20ac\u00a3\u00a5]?\s?[-+]?(?:\d[\d,]*(?:\.\d+)?|\.\d+))\s?"
    r"(?P<scale>[A-Za-z]+|[\u5343\u767e\u4e07\u4ebf]{1,2})(?P<rest>(?:\s.*|[\u3400-\u9fff].*)?)",
    re.DOTALL,
)
CELSIUS = re.compile(
    r"(?<=\d)\s?(?:(?:degrees?|deg\.?)\s?|\u00b0\s?|\^\{?\\circ\}?\s?)(celsius|fahrenheit|c|f)\b\.?", re.I
)
BARE_CELSIUS = re.compile(r"(?<=\d)\s?([CF])")
COUNTED = re.compile(r"([-+]?(?:\d[\d,]*(?:\.\d+)?))\s?([^\W\d_][^\d,;:/?!~%]{0,40})")
LOOSE = re.compile(
    r"\b(?:or|and|to|not|about|ish|plus|maybe|perhaps|approximately|roughly|percent|per|less|more|fewer|times"
    r"|hundred|thousand|million|billion|trillion|point|over|under|minus|squared|cubed|dozen)\b"
    r"|[\u6216\u4e0d\u7ea6]|\u5de6\u53f3",
    re.IGNORECASE,
)


def quantity(text: str, truth: Number | None = None) -> Number | None:
    """Read a number with its scale, its temperature's degrees, or the thing that it counts.

    Args:
        text: an answer or a target.
        truth: the number that it is compared with: a bare C is Celsius beside one in Celsius, and a noun is
            no unit, so it is only read where the truth has none.
    """
    if len(text) > 128:
        return None
    if (number := read_number(text)) is not None:  # first, as the sign of "- 3" is no bullet
        return number
    text = plain(without_lead(text)).strip()
    if (number := read_number(text)) is not None:
        return number
    kind = truth.unit.kind if truth and truth.unit else ""
    degrees = CELSIUS.sub(lambda found: f"^\\circ{found[1][0].upper()}", text)
    if kind in ("celsius", "fahrenheit"):
        degrees = BARE_CELSIUS.sub(r"^\\circ\1", degrees) if degrees == text else degrees
    if degrees != text:
        return read_number(degrees)
    if found := SCALED.fullmatch(text):
        size = _size(found["scale"])
        number = read_number(found["number"])
        if size and number is not None:
            value = number.value * size
            number = number._replace(value=value, whole=value.denominator == 1)
            return _with_noun(number, found["rest"].strip(), truth)
    if counted := COUNTED.fullmatch(text):
        number = read_number(counted[1])
        return None if number is None else _with_noun(number, counted[2], truth)
    return None


def scaled(text: str) -> Number | None:
    """Number with a scale and nothing behind it ("2.5M", "$3.2 billion"); None for any other text."""
    found = SCALED.fullmatch(plain(undressed(text)).strip()) if len(text) <= 128 else None
    return quantity(text) if found and _size(found["scale"]) and not found["rest"].strip() else None


def _size(scale: str) -> int | None:
    return SCALES.get(scale.lower()) or LETTERS.get(scale)


def _with_noun(number: Number, rest: str, truth: Number | None) -> Number | None:
    """Number before what it counts: a unit, which it gets, or up to three words beside a truth without a
    unit."""
    if not rest:
        return number
    united = read_number(f"1 {rest.strip('. ')}", letters=False)
    if united is not None and united.unit is not None:
        return number._replace(unit=united.unit)
    one_letter = len(rest.strip(". ")) == 1 and rest.isascii()  # which may be a unit that is not known
    if (
        one_letter
        or len(rest.split()) > 3
        or LOOSE.search(rest)
        or (truth is not None and truth.unit is not None)
    ):
        return None
    return number
