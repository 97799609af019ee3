"""Answers in whatever dress a model writes them: one reader for every reward that reads a short answer.

Dress is what changes no meaning: tags (see `response.segment`), `\\boxed{}` and GLM's box marks, LaTeX's type
commands, bold and other marks of Markdown, quotation marks, headings, emoji, full-width and invisible
characters, a lead-in ("The correct answer is", "\u6545\u9009"), and reasoning before an announced answer.

A hedge is never read. Two announced or boxed answers must agree; what stands beside them is read too, and an
answer found there must agree as well (`agreed`); a box after "or" or "not" is none. The target is not looked
at, so no wording is paid under two of them. `reading="strict"` takes the declared form alone
(`response.short_answer`).

Everything is linear in the text: expressions are anchored or bounded, and boxes are at most `MAX_BOXES`.
"""

import re
import unicodedata
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from ..errors import Unscorable
from ..tracing import noted
from .response import Reading, closing_brace, normalise_answer, segment, short_answer
from .text import nfkc

T = TypeVar("T")
MAX_BOXES = 64
MAX_KEYED = 400
MAX_LAYERS = 12
"""Layers of dress that are taken off an answer; a policy that wraps it deeper is not read."""

# --- dress ----------------------------------------------------------------------------------------

INVISIBLE = dict.fromkeys(
    (
        *(0x00AD, 0x200B, 0x200C, 0x200D, 0x200E, 0x200F, 0x2060, 0xFE0E, 0xFE0F, 0xFEFF),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
    )
)
TYPE = (
    r"\\(?:text(?:bf|it|rm|sf|sl|tt|sc|normal|up|md)?|math(?:rm|bf|sf|it|cal|tt|bb|frak|scr|normal)|mbox|hbox"
    r"|operatorname|boxed|fbox|emph|underline|bm|boldsymbol|pmb)\*?"
)
"""Commands of LaTeX that set their argument in a type or a frame."""
TYPESET = re.compile(TYPE + r"[ ]?\{([^{}]*)\}")
TYPESET_OPENS = re.compile(TYPE + r"[ ]?(?=\{)")
SWITCH = re.compile(
    r"\\(?:bf|it|rm|sf|tt|em|bfseries|itshape|tiny|small|normalsize|large|Large|LARGE|huge|Huge|displaystyle"
    r"|textstyle|left|right|big|Big|bigg|Bigg|quad|qquad|centering)(?![A-Za-z])|\\[ ,;:!]"
    r"|(?<=[})A-Za-z.])~"
)
"""Commands that change the type or the space of what follows."""
DEGREES = re.compile(r"\s?(?:\^ ?\{? ?\\circ ?\}?|\\degree|\\textdegree)")
SHORT_BOX = re.compile(r"\\(?:boxed|fbox)[ ]{1,4}([A-Za-z0-9]+)(?![^\W_])")
WRAPS = (
    *(("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("```", "```"), ("`", "`")),
    *(("***", "***"), ("**", "**"), ("__", "__"), ("*", "*"), ('"', '"'), ("'", "'")),
    *(("\u201c", "\u201d"), ("\u2018", "\u2019"), ("\u00ab", "\u00bb"), ("\u300c", "\u300d")),
    *(("\u300e", "\u300f"), ("\u3010", "\u3011"), ("\u300a", "\u300b"), ("<b>", "</b>")),
    *(("<strong>", "</strong>"), ("<i>", "</i>"), ("<em>", "</em>"), ("<code>", "</code>")),
    *(("<p>", "</p>"), ("<|begin_of_box|>", "<|end_of_box|>")),
)
FENCE = re.compile(r"```[A-Za-z]{0,12}\n(.*)\n```", re.DOTALL)
HEADING = re.compile(r"(?:#{1,6}|>|[-*\u2022\u2192]|[-=]>) +")
MARKUP = re.compile(r"</?(?:b|i|u|em|strong|code|span|p)>", re.IGNORECASE)
KEYED = re.compile(
    r"\{\s*[\"']?(?:final[_ ]?)?(?:answer|option|choice|label|class|count|prediction)[\"']?\s*:([^{}:]*)\}",
    re.IGNORECASE,
)
"""An object of JSON with the answer alone."""


KEYED_LAST = re.compile(rf"(?:\A|(?<=\s))(?:```(?:json)?\s*)?{KEYED.pattern}\s*(?:```)?\s*\Z", re.IGNORECASE)
"""Such an object as the last words of a text."""


def visible(text: str) -> str:
    """Text without the characters that nobody sees: zero width, soft hyphens, marks of direction."""
    return text if text.isascii() else text.translate(INVISIBLE)


def plain(text: str) -> str:
    """Text without type: LaTeX's commands for type and space, dollar signs in pairs, degrees as a sign, bold
    marks."""
    if "\\" in text or "~" in text:
        text = DEGREES.sub("\u00b0", SHORT_BOX.sub(r"\1", text))
        for _ in range(MAX_LAYERS):
            flat = TYPESET.sub(r"\1", text)
            if flat == text:
                break
            text = flat
        text = SWITCH.sub(" ", text).replace("\\%", "%").replace("\\(", "").replace("\\)", "")
    if text.count("$") % 2 == 0:
        text = text.replace("$", "")
    if "<" in text:
        text = MARKUP.sub("", text)
    return text.replace("**", "").replace("__", "").replace("`", "")


def undressed(text: str) -> str:
    """Text without the layers that wrap all of it: quotation marks, bold, code, mathematics, a type command,
    a box, a heading's mark, leading emoji."""
    for _ in range(MAX_LAYERS):
        bare = _one_layer_off(text.strip())
        if bare == text:
            break
        text = bare
    return text


def _one_layer_off(text: str) -> str:
    first = text[:1]
    if first.isascii() and first.isalnum():  # no layer begins with one
        return text
    if fenced := FENCE.fullmatch(text):
        return fenced[1]
    if keyed := KEYED.fullmatch(text):
        return keyed[1]
    for opening, closing in WRAPS:
        inside = text[len(opening) : -len(closing)]
        # Not two wrapped words, as in '"a" or "b"'.
        if inside and text.startswith(opening) and text.endswith(closing) and closing not in inside:
            return inside
    command = TYPESET_OPENS.match(text)
    opens = command.end() if command else 0
    if text[opens : opens + 1] == "{" and closing_brace(text, opens) == len(text) - 1:
        return text[opens + 1 : -1]
    if heading := HEADING.match(text):
        return text[heading.end() :]
    if text[:1] and unicodedata.category(text[0]) in ("So", "Sk"):
        return text[1:]
    return text


# --- lead-ins -------------------------------------------------------------------------------------

_OPENER = (
    r"(?:so|thus|hence|therefore|overall|finally|ok|okay|well|sure|in (?:conclusion|summary|short)"
    r"|(?:based on|according to|looking at|from|in) (?:the|this) [\w ]{1,30})\b[,:]? ?"
)
_KIND = r"(?:final|correct|right|best|true|most likely|selected|chosen|my|the|your|overall)[ ]"
_NOUN = r"(?:answers?|ans\.?|options?|choices?|solution|conclusion|response|result)"
_IS = r"(?:is|are|was|be|would be|should be|must be|will be|has to be|seems to be)"
_MARKS = r"[*_ ]{0,4}"
_NAMES = (
    rf"(?:{_KIND}){{0,3}}{_MARKS}{_NOUN}(?: (?:to|for|of) (?:the|this) [\w ]{{1,20}}?)?{_MARKS}"
    rf"(?:(?:[:=]|(?<= )[-\u2013\u2014](?= )|\b{_IS}\b){_MARKS}[:=]?{_MARKS})"
)
_CHINESE = (
    r"(?:(?:\u6545|\u56e0\u6b64|\u6240\u4ee5|\u7efc\u4e0a(?:\u6240\u8ff0)?|\u672c\u9898|\u5219)[,:]? ?)?"
    r"(?:(?:\u6211\u7684|\u6b63\u786e|\u6700\u7ec8|\u6700\u540e)(?:\u7684)?){0,2}"
    r"(?:\u7b54\u6848|\u9009\u9879|\u7ed3\u679c|\u7b54(?=:))"
    r"(?:\u5e94\u8be5|\u5e94\u5f53|\u5e94)?(?:\u662f|\u4e3a|\u9009\u62e9?)?\s?:?\s?"
)
"""So the answer is, in Chinese: gu / yinci / suoyi ... zhengque daan ... shi / wei / xuan."""
_CHOOSING = (
    r"(?:\u6545|\u5e94\u8be5?|\u56e0\u6b64|\u6240\u4ee5|\u7efc\u4e0a(?:\u6240\u8ff0)?[,:]?|\u672c\u9898|\u6211|\u5219)"
    r"{0,3}\s?\u9009(?:\u62e9)?(?:\u9879)?\s?:?\s?(?=[(\u3010\u300c*]{0,2}[A-Za-z])"
)
"""Hence choose (xuan), before a letter."""
LEAD = re.compile(
    rf"(?:{_OPENER}){{0,2}}(?:"
    rf"{_NAMES}|{_CHINESE}|{_CHOOSING}"
    r"|(?:i(?:'d|'ll| would| will)? (?:choose|pick|select|go with|say)|going with)\b:? ?"
    r"|(?:it(?:'s| is)|(?:this|that) is)\b:? ?|correct: ?|ans\. "
    r"|[\u3010\[]\u7b54\u6848[\u3011\]]:?\s?"
    r")?",
    re.IGNORECASE,
)
TITLE = re.compile(rf"[#*_>\s]{{0,8}}(?:{_KIND}){{0,3}}{_NOUN}[*_ ]{{0,4}}:?[*_ ]{{0,4}}\n+", re.IGNORECASE)
"""A heading over an answer that stands on the next line."""
_ABROAD_NAMES = (
    r"(?:la |a )?(?:respuesta|risposta|resposta|r\u00e9ponse)"
    r"(?: (?:correcta|correta|corretta|correcte|finale?))?",
    *(r"(?:die )?(?:richtige )?antwort", "antwoord", "odpowied\u017a", "odpov\u011b\u010f"),
    *("cevap", "jawaban", "jibu", "\u0111\u00e1p \u00e1n", "\u043e\u0442\u0432\u0435\u0442"),
    "\u0432\u0456\u0434\u043f\u043e\u0432\u0456\u0434\u044c",
    *("\u7b54\u3048", "\u56de\u7b54", "\u89e3\u7b54", "\u6b63\u89e3"),
    *("\uc815\ub2f5", "\ub2f5\ubcc0", "\ub2f5"),
    "(?:\u0627\u0644)?(?:\u0625\u062c\u0627\u0628\u0629|\u062c\u0648\u0627\u0628)",
    *("\u0909\u0924\u094d\u0924\u0930", "\u0989\u09a4\u09cd\u09a4\u09b0"),
)
_ABROAD = rf"(?:{'|'.join(_ABROAD_NAMES)})[*_ ]{{0,4}}:[*_ ]{{0,4}}"
"""The answer's name and a colon in 19 other languages: Respuesta:, Antwort:, Otvet:, Kotae:, ..."""
_ANSWER = (
    rf"(?:(?:{_KIND}){{0,3}}{_MARKS}(?:answers?|ans\.?)"
    rf"|(?:(?:final|correct|right|best|most likely|selected|chosen)[ ]|\bmy[ ]){_MARKS}(?:options?|choices?))"
)
ANNOUNCED = re.compile(
    rf"(?<![^\W_]){_ANSWER}(?: (?:to|for|of) (?:the|this) [\w ]{{1,20}}?)?{_MARKS}"
    rf"(?:(?:[:=]|\b{_IS}\b){_MARKS}[:=]?{_MARKS})"
    r"|(?:\u6b63\u786e(?:\u7684)?\u9009\u9879|\u7b54\u6848)(?:\u5e94\u8be5|\u5e94\u5f53|\u5e94)?"
    r"(?:(?:\u662f|\u4e3a|\u9009\u62e9?)\s?:?|:)\s?|\u7b54:\s?"
    r"|[\u3010\[]\u7b54\u6848[\u3011\]]:?\s?"
    rf"|{_CHOOSING}|(?:^|(?<=\n))[#*_> ]{{0,8}}{_ANSWER}[*_ ]{{0,4}}\n+",
    re.IGNORECASE,
)
"""Words after which an answer is due, anywhere in a text."""
ANNOUNCING = ("ans", "option", "choice", "\u7b54", "\u9009")
"""Pieces of which every announcement has one, as finding them is quicker than trying all of them."""
ABROAD = re.compile(rf"(?<![^\W_]){_ABROAD}", re.IGNORECASE)
UNSAID = re.compile(
    r"(?:\b(?:if|whether|not|isn't|is not|no|possible|could|might|may|any|another|other|each|either|wrong"
    r"|incorrect)\b(?: the| an?)?[\s*_]{0,3}"
    r"|[\u4e0d\u522b\u975e\u52ff\u6ca1\u82e5][\u662f\u5e94\u8be5\u80fd]{0,2}"
    r"|\u53ef\u80fd|\u4e5f\u8bb8|\u5982\u679c|\u9519\u8bef)$",
    re.IGNORECASE,
)
"""Words before an announcement that make it none."""
SLANTED = re.compile(r"(\(?[A-Za-z]\)?[.)]?)([*_])(?![*\w])")
"""A letter whose mark of emphasis was opened before what was taken off: "Answer: *B*"."""
SENTENCE = re.compile(r"\n|(?<=[.!?\u3002])\s|\u3002")


def without_lead(text: str) -> str:
    """Text without what introduces an answer at its beginning, and without the dress beneath."""
    given, text = text, undressed(text)
    for _ in range(4):
        if title := TITLE.match(text):
            text = undressed(text[title.end() :])
            continue
        found = LEAD.match(text)
        rest = text[found.end() :].lstrip("*_ ") if found else text
        if not rest or rest == text:
            break
        text = undressed(_paired(rest))
    if text != given:
        noted("unwrapped", "{} to {}", given, text)
    return text


def _paired(rest: str) -> str:
    """Text after a lead-in, without a bold mark that was opened there: "**Answer: B**"."""
    before, mark, behind = rest.partition("**")
    rest = before + behind if mark and rest.count("**") % 2 else rest
    slanted = SLANTED.match(rest)
    return slanted[1] + rest[slanted.end() :] if slanted and rest.count(slanted[2]) % 2 else rest


# --- the answer of a response ---------------------------------------------------------------------


class Answers(NamedTuple):
    """Statements of a response's answer, which must all say the same.

    Args:
        stated: the texts that are announced, boxed, or all there is; at least one, in NFKC.
        beside: the text around them, of which nothing else may be an answer.
    """

    stated: tuple[str, ...]
    beside: str = ""


def read_answer(
    response: str, *, bare: bool = False, boxed: bool = False, reading: Reading = "clear"
) -> Answers:
    """Read what a response states as its answer.

    Args:
        response: the whole text.
        bare: take what follows the reasoning where there are no answer tags.
        boxed: the answer is the content of `\\boxed{...}`; of several, all must agree.
        reading: "strict" takes the whole answer, or with `boxed` the only box, as it stands.

    Raises:
        Unscorable: "unparsable" when there is no answer, a box that is asked for is missing or open, or the
            answer is longer than `response.MAX_ANSWER`.
    """
    if reading == "strict":
        return Answers((short_answer(response, bare=bare, boxed=boxed),))
    return stated_in(segment(response, bare=bare).answer, boxed=boxed)


def stated_in(answer: str, *, boxed: bool = False) -> Answers:
    """Read what an answer without its tags states: its boxes, else what it announces, else all of it.

    Raises:
        Unscorable: "unparsable", as `read_answer`.
    """
    text = visible(answer)
    boxes, beside = boxes_of(text)
    if boxes:
        if not boxed and _left_open(text, boxes):
            raise Unscorable("a box is one of several answers, or taken back", "unparsable")
        contents = dict.fromkeys(normalise_answer(box.content) for box in boxes)
        noted("box", "{} in {} box(es)", [*contents], len(boxes))
        # A declared box is the answer whatever stands beside it.
        return Answers(tuple(contents), "" if boxed else nfkc(beside).strip())
    if boxed:
        raise Unscorable("one \\boxed{...} is expected, and there is none", "unparsable")
    return _announced(nfkc(text).strip())


class BoxedText(NamedTuple):
    """A frame around an answer: its place in the text, and what is inside."""

    start: int
    end: int
    content: str


BOX = re.compile(r"\\(?:boxed|fbox)[ ]{0,4}(?:\{|([A-Za-z0-9])(?![^\W_]))|<\|begin_of_box\|>")
END_OF_BOX = "<|end_of_box|>"


def boxes_of(text: str) -> tuple[list[BoxedText], str]:
    """All `\\boxed{...}` and GLM boxes of a text, and the text without them.

    Raises:
        Unscorable: "unparsable" when there are more than `MAX_BOXES`.
    """
    boxes: list[BoxedText] = []
    at, tried = 0, 0
    while found := BOX.search(text, at):
        tried += 1
        if tried > MAX_BOXES:
            raise Unscorable(f"more than {MAX_BOXES} boxes where one answer is expected", "unparsable")
        at = found.end()
        if found[0].startswith("<"):
            closing = text.find(END_OF_BOX, at)
            inside = text[at:] if closing < 0 else text[at:closing]
            at = len(text) if closing < 0 else closing + len(END_OF_BOX)
        elif found[1]:
            inside = found[1]
        else:
            brace = closing_brace(text, at - 1)
            if brace is None:
                continue
            inside, at = text[at:brace], brace + 1
        boxes.append(BoxedText(found.start(), at, inside.strip()))
    pieces, last = [], 0
    for box in boxes:
        pieces.append(text[last : box.start])
        last = box.end
    return boxes, " ".join([*pieces, text[last:]])


OPEN_BEFORE = re.compile(
    r"(?:\b(?:not|or|nor|neither|either|maybe|perhaps|possibly|except|vs|versus|cannot be)\b|n't\b|/"
    r"|[\u4e0d\u975e\u6216])[\s$*(:]{0,6}(?:(?:the )?(?:option|answer|choice) )?[\s$*(]{0,4}$",
    re.IGNORECASE,
)
OPEN_BEHIND = re.compile(r"[\s$*).,]{0,6}(?:\b(?:or|nor|perhaps|maybe)\b|/|\u6216)", re.IGNORECASE)
MARGIN = 48


def _left_open(text: str, boxes: list[BoxedText]) -> bool:
    """True where the words beside a box make it one of several, or take it back."""
    return any(
        OPEN_BEFORE.search(text[max(0, box.start - MARGIN) : box.start])
        or OPEN_BEHIND.match(text[box.end : box.end + MARGIN])
        for box in boxes
    )


def _announced(text: str) -> Answers:
    """Statements after each "the answer is", the last one with all that follows; else the whole text."""
    folded = text.casefold()
    found = _after(ANNOUNCED, text) if any(piece in folded for piece in ANNOUNCING) else []
    if not found and ":" in text:
        found = _after(ABROAD, text)
    keyed = KEYED_LAST.search(text[-MAX_KEYED:]) if not found and text.endswith(("}", "```")) else None
    if keyed and len(KEYED.findall(text)) == 1:
        noted("stated", "{} in the object of JSON at the end", keyed[1])
        return Answers((normalise_answer(keyed[1].strip()),), text[: -len(keyed[0])].strip())
    if not found or len(found) > MAX_BOXES:
        noted("stated", "nothing is boxed or announced: all of the answer is read")
        return Answers((normalise_answer(text),))
    stated = []
    for this, following in zip(found, [*found[1:], None], strict=True):
        if following is None:
            stated.append(text[this.end() :])
        elif sentence := SENTENCE.split(text[this.end() : following.start()].lstrip(), maxsplit=1)[0]:
            stated.append(sentence)
    beside = text[: found[0].start()].strip("#*_> \n\t")
    noted("stated", "{} after {}", stated, [one[0] for one in found])
    return Answers(tuple(dict.fromkeys(normalise_answer(_paired(one.strip())) for one in stated)), beside)


def _after(names: re.Pattern[str], text: str) -> list[re.Match[str]]:
    """Announcements, those that are denied or doubted left out."""
    return [
        one
        for one in names.finditer(text)
        if one[0] and not UNSAID.search(text[max(0, one.start() - 24) : one.start()])
    ]


def agreed(answers: Answers, read: Callable[[str], T], beside: Callable[[str], T] | None = None) -> T:
    """Answer that all statements give, as `read` reads each.

    Args:
        answers: of one response.
        read: reads one statement; raises Unscorable("...", "unparsable") where it is none.
        beside: reads the text around them; what it finds must agree, and where it raises there is nothing.

    Raises:
        Unscorable: "unparsable" when two disagree, or `read` raises it.
    """
    values = []
    for text in answers.stated:
        values.append(read(text))
        noted("read", "{} as {}", text, values[-1])
    if beside is not None and answers.beside:
        try:
            values.append(beside(answers.beside))
            noted("beside", "{} is read as {}, which must agree", answers.beside, values[-1])
        except Unscorable as nothing:
            if nothing.status != "unparsable":
                raise
            noted("beside", "{} is no answer and is passed over", answers.beside)
    if any(value != values[0] for value in values):
        raise Unscorable(f"{len(values)} answers that disagree where one is expected", "unparsable")
    return values[0]
