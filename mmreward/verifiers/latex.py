"""One spelling for what LaTeX, plain text, Markdown and Unicode write differently.

`tidy` brings an answer into LaTeX without dress: delimiters, boxes, bold type, sizes and spacing commands go,
signs of Unicode (roots, superscripts, Greek letters, degrees) become commands. `comparison_key` makes two
tidied answers equal when they are written alike, keeping case where it means something: \\Delta is not
\\delta. Nothing is parsed or evaluated, and all is linear in the text, which callers bound.
"""

import re
import unicodedata

_SIGNS: dict[str, str | None] = {
    "\u2212": "-",
    "\u2013": "-",
    "\u2010": "-",
    "\u2011": "-",
    "\u00d7": "\\times ",
    "\u00b7": "\\cdot ",
    "\u22c5": "\\cdot ",
    "\u00f7": "/",
    "\u2044": "/",
    "\u2215": "/",
    "\u2236": ":",
    "\u03c0": "\\pi ",
    "\u221e": "\\infty ",
    "\u2264": "\\le ",
    "\u2265": "\\ge ",
    "\u2a7d": "\\le ",
    "\u2a7e": "\\ge ",
    "\u2260": "\\ne ",
    "\u2248": "\\approx ",
    "\u2243": "\\approx ",
    "\u00b1": "\\pm ",
    "\u2213": "\\mp ",
    "\u00b0": "^\\circ ",
    "\u00ba": "^\\circ ",
    "\u02da": "^\\circ ",
    "\u2103": "^\\circ C",
    "\u222a": "\\cup ",
    "\u2229": "\\cap ",
    "\u2208": "\\in ",
    "\u2205": "\\emptyset ",
    "\u2216": "\\setminus ",
    "\u211d": "\\mathbb{R}",
    "\u2220": "\\angle ",
    "\u25b3": "\\triangle ",
    "\u2234": " ",
    "\u2026": "\\ldots ",
    "\u22ef": "\\ldots ",
    "\u27e8": "\\langle ",
    "\u27e9": "\\rangle ",
    "\u00a0": " ",
    "\u202f": " ",
    "\u2009": " ",
    "\u3000": " ",
    "\u3001": ",",
    "\u3002": ".",
    "\u2032": "'",
    "\u2019": "'",
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff"),
}
PLAIN = str.maketrans(_SIGNS) | {0xFF01 + at: chr(0x21 + at) for at in range(94)}  # full-width forms
_SMALL = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho - sigma tau"
    " upsilon phi chi psi omega"
)
_CAPITAL = "- - Gamma Delta - - - Theta - - Lambda - - Xi - Pi - - Sigma - Upsilon Phi - Psi Omega"
GREEK_LETTERS = {
    chr(first + at): f"\\{name} "
    for first, names in ((0x3B1, _SMALL), (0x391, _CAPITAL))
    for at, name in enumerate(names.split())
    if name != "-"
} | {"\u2126": "\\Omega ", "\u00b5": "\\mu "}
PLAIN |= {ord(sign): name for sign, name in GREEK_LETTERS.items()}
RAISED = str.maketrans(
    dict(zip("\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079", "0123456789", strict=True))
)
RAISED |= str.maketrans({"\u207b": "-", "\u207a": "+", "\u207f": "n", "\u02e3": "x"})
LOWERED = str.maketrans({chr(0x2080 + digit): str(digit) for digit in range(10)} | {"\u2099": "n"})
SUPERSCRIPT = re.compile(r"[\u2070\u00b9\u00b2\u00b3\u2074-\u2079\u207b\u207a\u207f\u02e3]+")
SUBSCRIPT = re.compile(r"[\u2080-\u2089\u2099]+")
VULGAR = re.compile(r"[\u00bc-\u00be\u2150-\u215e]")
ROOT = re.compile(r"(?:\u221a|(?<![A-Za-z\\])sqrt)\s?(\{|\(|\d+(?:\.\d+)?|[A-Za-z])")
CUBE_ROOT = re.compile("\u221b\\s?(\\d+(?:\\.\\d+)?|\\{[^{}]*\\})")

DELIMITERS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**"), ("`", "`"))
_FONTS = "text|textbf|textit|textrm|textnormal|mathrm|mathbf|mathit|mathsf|mbox|operatorname|rm|bf"
TEXTS = rf"\\(?:{_FONTS})\s?\{{([^{{}}]*)\}}"
WHOLE_TEXT = re.compile(TEXTS)
WRAPPER = re.compile(rf"\\(?:{_FONTS}|boxed|fbox|framebox|bm|boldsymbol|ensuremath)\s?(?=\{{)")
INLINE = re.compile(r"(?<!\\)\$(\s?[A-Za-z]\s?|[^$]*[\d\\^=][^$]*?)(?<!\\)\$")
SPACES = re.compile(r"(\\\\)|\\[,;: ]|~|\\q?quad(?![A-Za-z])")
NO_SPACE = re.compile(r"(\\\\)|\\! ?|\{(,)\}")
DOUBLED = re.compile(r"\\\\(?=[A-Za-z{}])")
"""A backslash that was escaped twice on its way into a file; outside of rows it means nothing."""
SIZES = re.compile(r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits)(?![A-Za-z])")
FRACTIONS = re.compile(r"\\[dtc]frac(?![A-Za-z])")
SHORT_FRACTIONS = (
    (re.compile(r"\\frac ?(\d) ?(\d)"), r"\\frac{\1}{\2}"),
    (re.compile(r"\\frac ?(\{[^{}]*\}) ?(\d)"), r"\\frac\1{\2}"),
    (re.compile(r"\\frac ?(\d) ?\{"), r"\\frac{\1}{"),
    (re.compile(r"\\sqrt ?(\d)(?!\d)"), r"\\sqrt{\1}"),
)
ALIASES = {
    "leq": "\\le",
    "leqslant": "\\le",
    "geq": "\\ge",
    "geqslant": "\\ge",
    "neq": "\\ne",
    "lt": "<",
    "gt": ">",
    "lbrace": "\\{",
    "rbrace": "\\}",
    "lbrack": "[",
    "rbrack": "]",
    "colon": ":",
    "dots": "\\ldots",
    "cdots": "\\ldots",
    "dotsc": "\\ldots",
    "varnothing": "\\emptyset",
    "degree": "^\\circ",
    "simeq": "\\approx",
    "thickapprox": "\\approx",
    "R": "\\mathbb{R}",
    "therefore": "",
    "exp": "exp",
}
ALIAS = re.compile(rf"\\({'|'.join(ALIASES)})(?![A-Za-z])")
PLAIN_SIGNS = (("<=", "\\le "), (">=", "\\ge "), ("!=", "\\ne "))
REPLACED = (
    ("^", re.compile(r"\^\s?\{\s?\\circ\s?\}|\^\s?\{?\s?o\s?\}?(?![A-Za-z0-9])"), r"^\\circ"),
    ("\\", re.compile(r"\\\{ ?\\\}"), r"\\emptyset"),
    ("%", re.compile(r"\\(?:text|mathrm)\s?\{\s?\\?%\s?\}"), "%"),
    ("", re.compile(r"\b(?:per cent|percentage|pct\b\.?)(?: points?)?", re.IGNORECASE), "percent"),
    ("\\", re.compile(r"\\(?:text|mathrm|operatorname)\s?\{\s?(e|i)\s?\}"), r"\1"),
    ("\\", re.compile(r"\{\s?\\(?:rm|bf|it)\s([^{}]*)\}"), r"\\text{\1}"),
    ("", re.compile(r"(?<![A-Za-z\\])(?:pi|PI|Pi)(?![A-Za-z])"), r"\\pi "),
    ("", re.compile(r"(?<![A-Za-z\\])(?:infinity|inf|oo)(?![A-Za-z])"), r"\\infty "),
)
CONNECTIVES = re.compile(r"(?:\\text\{\s?|\\mathrm\{\s?|\b)(?:or|and)(?:\s?\}|\b)|[\u6216\u548c\u4e0e]")
LEAD = re.compile(
    r"\A(?:(?:so|thus|hence|therefore),? )?(?:the )?(?:final |correct )?answer(?: is)? ?:? "
    r"|\A(?:\u6700\u7ec8)?\u7b54\u6848?\s?[\u662f\u4e3a]?\s?:?\s?|\A= ?",
    re.IGNORECASE,
)
THOUSANDS = re.compile(r"[0-9],[0-9]{3}(?![0-9])")
COMMA_OF_LIST = re.compile(r"(?<=\d) ?, (?=\d)")
AROUND = re.compile(r" (?=[^\w\s])|(?<=[^\w\s]) ")
ENVIRONMENT = re.compile(r"\\(?:begin|end)\{(?:[a-zA-Z]?matrix|array|cases)\}")
AFTER_COMMAND = re.compile(r"(\\[A-Za-z]+) (?![A-Za-z])")
ORDINAL = re.compile(r"(?<=\d)(?:st|nd|rd|th)\b")
WORD = re.compile(r"[A-Za-z]{3,}|[\u4e00-\u9fff]")
COMMAND = re.compile(r"\\[A-Za-z]+")
FUNCTIONS = re.compile(
    r"(?:a?sin|a?cos|a?tan|arc(?:sin|cos|tan)|cot|sec|csc|sinh|cosh|tanh|log|ln|exp|sqrt|max|min|gcd|lcm|mod)"
)
SIMPLE = re.compile(r"-?[0-9]+(?:\.[0-9]+)?|[A-Za-hj-np-z]", re.ASCII)
"""Text that is tidy already, as most numbers are."""
MAX_WRAPPERS = 8


def tidy(text: str) -> str:
    """Text without delimiters, boxes, bold type, sizes, spacing commands, a lead-in ("the answer is") and the
    full stop, in LaTeX's names for the signs of Unicode."""
    if SIMPLE.fullmatch(text):
        return text
    text = " ".join(_plain(text).split())
    for _ in range(MAX_WRAPPERS):
        bare = LEAD.sub("", _unwrapped(text))
        if bare == text:
            break
        text = bare
    # Most texts hold few signs, and a look for a sign is quicker than a search that cannot succeed.
    if "\\" in text and "\\begin" not in text:
        text = DOUBLED.sub(r"\\", text)
    if "$" in text:
        text = INLINE.sub(r" \1 ", text)
    if "\\" in text or "~" in text or "{,}" in text:
        text = NO_SPACE.sub(lambda found: found[1] or found[2] or "", text)
        text = SIZES.sub("", SPACES.sub(lambda found: found[1] or " ", text))
    if "\\" in text:
        text = FRACTIONS.sub(r"\\frac", text)
        for pattern, name in SHORT_FRACTIONS:
            text = pattern.sub(name, text)
        text = ALIAS.sub(lambda found: f"{ALIASES[found[1]]} ", text)
    for sign, name in PLAIN_SIGNS:
        text = text.replace(sign, name)
    for needed, pattern, name in REPLACED:
        if needed in text:
            text = pattern.sub(name, text)
    text = _powers(text).replace("\\%", "%").replace("\\$", "$")
    text = " ".join(text.split())
    return text[:-1].rstrip() if text.endswith(".") and not text.endswith("..") else text


def _plain(text: str) -> str:
    """Text with commands for Unicode's signs."""
    if not text.isascii():
        text = VULGAR.sub(_vulgar, text)
        text = SUPERSCRIPT.sub(lambda found: _raised("^", found[0].translate(RAISED)), text)
        text = SUBSCRIPT.sub(lambda found: _raised("_", found[0].translate(LOWERED)), text)
        text = CUBE_ROOT.sub(lambda found: f"\\sqrt[3]{{{found[1].strip('{}')}}}", text)
    if "\u221a" in text or "sqrt" in text:
        text = ROOT.sub(_rooted, text)
    return text.translate(PLAIN)


def _raised(sign: str, inside: str) -> str:
    return sign + (inside if len(inside) == 1 else f"{{{inside}}}")


def _vulgar(found: re.Match[str]) -> str:
    above, below = unicodedata.normalize("NFKC", found[0]).split("\u2044")
    return f"\\frac{{{above}}}{{{below}}}"


def _rooted(found: re.Match[str]) -> str:
    inside = found[1]
    if inside == "(":
        closing = found.string.find(")", found.end())
        # Braces around the bracket keep it whole where it nests: \sqrt(a(b)) is left to the algebra.
        simple = closing > 0 and "(" not in found.string[found.end() : closing]
        return "\\sqrt{" if simple else "\\sqrt("
    return "\\sqrt{" if inside == "{" else f"\\sqrt{{{inside}}}"


def _powers(text: str) -> str:
    """Text with the operators of program code, ** and *, as LaTeX has them, and brackets of roots closed."""
    if "*" not in text and "\\sqrt" not in text:
        return text
    text = text.replace("**", "^")
    text = re.sub(r"\s?(?<![\\A-Za-z]{2})\*\s?", r" \\cdot ", text)
    return re.sub(r"\\sqrt\{([^{}()]*)\)", r"\\sqrt{\1}", text)


def group_end(text: str, opening: int) -> int:
    """Position of the brace that closes the one at `opening`; -1 where none does. A backslash takes the next
    character out of the count."""
    depth, at = 0, opening
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] in "{}":
            depth += 1 if text[at] == "{" else -1
            if not depth:
                return at
        at += 1
    return -1


def _unwrapped(text: str) -> str:
    """Text without one layer of what stands around the whole of it."""
    text = text.strip()
    inner = text[:-1].rstrip() if text.endswith(".") and not text.endswith("..") else text
    for opening, closing in DELIMITERS:
        if inner.startswith(opening) and inner.endswith(closing) and len(inner) > 2 * len(opening):
            inside = inner[len(opening) : -len(closing)]
            if opening not in inside.replace("\\$", "") and not inside.endswith("\\"):
                return inside.strip()
    if found := WRAPPER.match(inner):
        if group_end(inner, found.end()) == len(inner) - 1:
            return inner[found.end() + 1 : -1].strip()
    elif inner.startswith("{") and group_end(inner, 0) == len(inner) - 1:
        return inner[1:-1].strip()
    return text


def comparison_key(text: str) -> str:
    """Key under which two tidied answers are equal when they are written alike.

    Spaces around signs do not count, but for one after a comma between digits, as "1, 200" is not 1,200; nor
    do an outer \\text{}, bold type, or, for text of words, case and the endings of ordinals. A single letter
    keeps its case, and may stand in brackets.
    """
    text = text.strip("*` ")
    if whole := WHOLE_TEXT.fullmatch(text):
        text = whole[1].strip()
    if len(text) == 3 and text[0] == "(" and text[2] == ")" and text[1].isalpha():
        text = text[1]
    words = len(text) > 1 and has_words(text)
    text = ORDINAL.sub("", text) if words else text
    text = " ".join(text.split())
    if " " in text:
        text = AFTER_COMMAND.sub(r"\1", AROUND.sub("", COMMA_OF_LIST.sub(";\0", text)))
    return text.casefold() if words else text


def has_words(text: str) -> bool:
    """True for a text with words in it, beyond the names of functions, units' \\text{} and commands."""
    if "\\" in text:
        text = WHOLE_TEXT.sub(lambda found: f" {found[1]} ", ENVIRONMENT.sub(" ", text))
        text = COMMAND.sub(" ", text)
    return any(not FUNCTIONS.fullmatch(word) for word in WORD.findall(text))


def alternatives_as_list(text: str) -> str:
    """Text with "or" and "and" between alternatives turned into commas."""
    return re.sub(r",(?: ?,)+", ",", " ".join(CONNECTIVES.sub(" , ", text).split()))


def braces_match(text: str) -> bool:
    """True where braces close what they open. Brackets need not: [0, 1) is an interval."""
    depth = at = 0
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] in "{}":
            depth += 1 if text[at] == "{" else -1
            if depth < 0:
                return False
        at += 1
    return depth == 0


def split_outside(text: str, separators: str) -> list[str]:
    """Pieces between separators (single characters) that stand in no bracket; the comma of a number of
    thousands separates nothing where other commas are followed by a space."""
    spaced = ", " in text
    pieces, depth, begun, at = [], 0, 0, 0
    while at < len(text):
        char = text[at]
        if char == "\\":
            depth += {"{": 1, "}": -1}.get(text[at + 1 : at + 2], 0)
            at += 1
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif depth <= 0 and char in separators and not (spaced and THOUSANDS.match(text, max(at - 1, 0))):
            pieces.append(text[begun:at].strip())
            begun = at + 1
        at += 1
    return [*pieces, text[begun:].strip()]
