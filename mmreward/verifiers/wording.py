"""Words around coordinates: the name before a box, "A or B", "not A", and "there are no objects"."""

import html
import re

PLAIN = {
    **{code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},  # full-width ASCII
    **dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad")),
    **dict(
        zip(
            map(ord, "\u3010\u3011\u3014\u3015\u300a\u300b\u3001\u2212\u201c\u201d\u3000\u00a0"),
            '[][]<>,-""  ',
            strict=True,
        )
    ),
}
"""Letters of one text and the same text in plain ASCII; zero-width characters go."""
OR = re.compile(r"\b(?:or|either|alternatively)\b|\u6216|\u8fd8\u662f", re.IGNORECASE)
NOT = re.compile(r"(?:\bnot|n't|\u4e0d\u662f)\W*(?:(?:at|in|the|box|point)\W+)*$", re.IGNORECASE)
LINE = re.compile(r"^(?:[\s*#>-]|\(?\d{1,3}[.):\u3001])*")
LEADING = """
a an the it is are was at in on of for and here there this that with as i found find see box boxes bbox bboxes
bbox_2d bounding region object objects detected detection detections located location position coordinates
coordinate coord coords answer final result results output target follows its my json label x y be can by from
to has have shown below above picture image two one name point points ref
\u5750\u6807 \u4e3a \u662f \u4f4d\u4e8e \u4f4d\u7f6e \u8fb9\u754c\u6846
"""
STOP = frozenset(LEADING.split())
"""Words that lead to a box and name nothing."""
TAG = re.compile(r"</?\|?[a-zA-Z_]{1,20}\|?>")
MARKS = " \t*#`\"'()[]{}<>|,.;:=-\u2013\u2192"
MAX_LABEL = 120
WORD = r"(?!(?:but|except|only|other|others|more|longer)\b)[a-z-]+"
NOTHING = re.compile(
    r"(?:none|null|empty|n/?a)(?: (?:found|detected|present|visible|here))?"
    r"|(?:there (?:is|are|was|were) |i (?:can )?(?:see|find|found|detect(?:ed)?) )?(?:no|not any|zero|0) "
    r"(?:[a-z-]+ ){0,3}?(?:objects?|box(?:es)?|targets?|instances?|detections?|points?|match(?:es)?|results?"
    r"|regions?|events?|segments?|spans?)(?: (?:is|are|was|were|be|can|found|detected|present|visible|exists?"
    r"|in|of|the|this|that|image|picture|photo|scene|video|clip|here|it|matching|described)){0,10}"
    rf"|no {WORD}(?: {WORD}){{0,5}} (?:is|are|was|were|can be) (?:visible|present|found|detected|shown|seen)"
    r"(?: in (?:the|this) [a-z]+)?"
    rf"|there (?:is|are|was|were) no {WORD}(?: {WORD}){{0,7}}"
    r"|(?:\u56fe\u4e2d|\u56fe\u7247\u4e2d|\u56fe\u50cf\u4e2d|\u753b\u9762\u4e2d|\u89c6\u9891\u4e2d)?"
    r"(?:\u65e0|\u6ca1\u6709|\u672a\u53d1\u73b0|\u672a\u68c0\u6d4b\u5230|\u672a\u627e\u5230|\u4e0d\u5b58\u5728)"
    r"(?:\u4efb\u4f55|\u76f8\u5173|\u7b26\u5408|\u8be5|\u8fd9\u6837|\u6761\u4ef6|\u7684|\u76ee\u6807|\u7269\u4f53"
    r"|\u5bf9\u8c61|\u7269\u54c1|\u5b9e\u4f8b|\u8fb9\u754c|\u6846|\u70b9|\u7ed3\u679c|\u4e8b\u4ef6|\u7247\u6bb5){0,8}"
)
"""An answer that says in words that there is nothing."""
MAX_NOTHING = 160
DRESS = ("<|begin_of_box|>", "<|end_of_box|>", "```json", "```", "\\boxed", "\\text")


def plain(text: str) -> str:
    """Text whose full-width letters, brackets and digits are ASCII, without HTML's escapes, zero-width
    characters and Markdown's backslashes before underscores."""
    if "&" in text and ("&quot;" in text or "&#" in text or "&lt;" in text or "&apos;" in text):
        text = html.unescape(text)
    if not text.isascii():
        text = text.translate(PLAIN)
    return text.replace("\\_", "_")


def says_nothing(text: str) -> bool:
    """True for "None", "no objects", "There are no boxes in the image." and the like, and nothing else."""
    if len(text) > MAX_NOTHING:
        return False
    for mark in DRESS:
        text = text.replace(mark, " ")
    words = " ".join(text.casefold().split()).strip(" .!'\"`*(){}\u3002")
    return NOTHING.fullmatch(words) is not None


def label_in(text: str) -> str:
    """Name in the words before a box: its line without numbering and the words that only lead to it."""
    text = TAG.sub(" ", text[-2 * MAX_LABEL :])
    lines = [line for line in text.splitlines() if line.strip(" `*\t") not in ("", "json")]
    for line in reversed(lines[-2:]):  # "label: cat" may stand on the line before "bbox:"
        words = [word.strip(MARKS) for word in LINE.sub("", line).replace("|", " ").split()]
        words = [word for word in words if word]
        while words and words[-1].casefold() in STOP:
            words.pop()
        while words and words[0].casefold() in STOP:
            words.pop(0)
        if words:
            return " ".join(words)[:MAX_LABEL]
    return ""
