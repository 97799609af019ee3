"""One spelling for what means the same in LaTeX and plain text, without a parser.

Case is kept: \\Delta is not \\delta. Everything is linear in the text, and only short text gets here.
"""

import re

PLAIN = str.maketrans(
    {
        "\u2212": "-",
        "\u2013": "-",
        "\u00d7": "\\times ",
        "\u00b7": "\\cdot ",
        "\u00f7": "/",
        "\u2044": "/",
        "\u00b2": "^2",
        "\u00b3": "^3",
        "\u03c0": "\\pi ",
        "\u221e": "\\infty ",
        "\u2264": "\\le ",
        "\u2265": "\\ge ",
        "\u2260": "\\ne ",
        "\u00b0": "^\\circ ",
        "\u222a": "\\cup ",
        "\u2208": "\\in ",
        "\u00a0": " ",
        "\u202f": " ",
    }
) | {0xFF01 + at: chr(0x21 + at) for at in range(94)}  # full-width forms
DELIMITERS = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"))
TEXTS = r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|operatorname)\s?\{([^{}]*)\}"
WHOLE_TEXT = re.compile(TEXTS)
SPACES = re.compile(r"\\[,;:! ]|~|\\q?quad(?![A-Za-z])")
SIZES = re.compile(r"\\(?:left|right|big|Big|displaystyle)(?![A-Za-z])")
FRACTIONS = re.compile(r"\\[dtc]frac(?![A-Za-z])")
SHORT_FRACTION = re.compile(r"\\frac ?(\d) ?(\d)")
ALIASES = re.compile(r"\\(leq|geq|neq)(?![A-Za-z])")
CONNECTIVES = re.compile(r"(?:\\text\{\s?|\\mathrm\{\s?|\b)(?:or|and)(?:\s?\}|\b)")
LEAD = re.compile(r"\A(?:the )?(?:final )?answer(?: is)? ?:? ", re.IGNORECASE)
AROUND = re.compile(r" ?([^\w\s]) ?")
ENVIRONMENT = re.compile(r"\\(?:begin|end)\{(?:[a-zA-Z]?matrix|array|cases)\}")
AFTER_COMMAND = re.compile(r"(\\[A-Za-z]+) (?![A-Za-z])")
WORD = re.compile(r"[A-Za-z]{3,}")
COMMAND = re.compile(r"\\[A-Za-z]+")
FUNCTIONS = re.compile(
    r"(?:a?sin|a?cos|a?tan|arc(?:sin|cos|tan)|cot|sec|csc|sinh|cosh|tanh|log|ln|exp|sqrt|max|min|gcd|lcm|mod)"
)


def tidy(text: str) -> str:
    """The text without delimiters, sizes, spacing commands, a lead-in and the full stop; single spaces."""
    text = LEAD.sub("", " ".join(text.translate(PLAIN).split()))
    for opening, closing in DELIMITERS:
        inner = text.rstrip(".")
        if inner.startswith(opening) and inner.endswith(closing) and len(inner) >= 2 * len(opening) + 1:
            inside = inner[len(opening) : -len(closing)]
            if opening not in inside:
                text = inside
                break
    text = SIZES.sub("", SPACES.sub(" ", text))
    text = ALIASES.sub(lambda found: f"\\{found[1][:2]}", FRACTIONS.sub(r"\\frac", text))
    text = SHORT_FRACTION.sub(r"\\frac{\1}{\2}", text.replace("\\%", "%").replace("\\$", "$"))
    text = " ".join(text.split())
    return text[:-1].rstrip() if text.endswith(".") and not text.endswith("..") else text


def key(text: str) -> str:
    """What two tidied answers share when they are written alike.

    Spaces around signs do not count, nor does an outer \\text{}, bold type, or, for text of words, case. A
    single letter keeps its case, and may stand in brackets.
    """
    text = text.strip("*` ")
    if whole := WHOLE_TEXT.fullmatch(text):
        text = whole[1].strip()
    if len(text) == 3 and text[0] == "(" and text[2] == ")" and text[1].isalpha():
        text = text[1]
    text = AFTER_COMMAND.sub(r"\1", AROUND.sub(r"\1", " ".join(text.split())))
    return text.casefold() if len(text) > 1 and worded(text) else text


def worded(text: str) -> bool:
    """Whether there are words in it, beyond the names of functions, units' \\text{} and commands."""
    bare = WHOLE_TEXT.sub(lambda found: f" {found[1]} ", ENVIRONMENT.sub(" ", text))
    return any(not FUNCTIONS.fullmatch(word) for word in WORD.findall(COMMAND.sub(" ", bare)))


def listed(text: str) -> str:
    """The text with "or" and "and" between alternatives as commas."""
    return " ".join(CONNECTIVES.sub(" , ", text).split())


def balanced(text: str) -> bool:
    """Whether braces close what they open. Brackets need not: [0, 1) is an interval."""
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
