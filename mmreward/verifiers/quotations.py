"""Quoted strings of a prompt, such as the text that a picture is asked to show.

Quotation marks that are read: "straight" and 'single', curly, low-high (German), guillemets, corner brackets
and full-width ones. In a text that has any other kind, single quotes are taken as apostrophes. A mark that is
part of a word (don't, 24" wide) opens nothing, and one without its partner is no quotation.
"""

import re

PAIRS = {
    '"': '"',
    "\uff02": "\uff02",
    "\u201c": "\u201d",
    "\u201e": "\u201c\u201d",
    "\u201f": "\u201d",
    "\u00ab": "\u00bb",
    "\u2039": "\u203a",
    "\u300c": "\u300d",
    "\u300e": "\u300f",
    "\u301d": "\u301e\u301f",
}
"""Opening mark -> the marks that may close it."""
SINGLE = {"'": "'", "\u2018": "\u2019", "\u201a": "\u2018\u2019"}
"""Marks that are also apostrophes."""
BRACKETS = "\u300c\u300e\u301d"
"""Marks that may follow a character at once: languages that use them write without spaces."""
SHORT = re.compile(r"(?i)n|em|til|cause|tis|twas|\d0s")
"""What stands between apostrophes without being quoted: rock 'n' roll."""


def quoted(text: str) -> list[str]:
    """The quoted strings of a text in their order, without their marks and outer spaces; empty ones are left
    out.

    What stands inside a quotation belongs to it, other kinds of marks too. A backslash before a mark, as
    escaped text has it, is dropped.
    """
    plain = re.sub(r"\\([\"'])", r"\1", text)
    found = _between(plain, PAIRS)
    if not found:
        found = [one for one in _between(plain, SINGLE) if not SHORT.fullmatch(one)]
    return found


def _between(text: str, pairs: dict[str, str]) -> list[str]:
    found, at = [], 0
    unclosed: set[str] = set()  # a mark without a partner has none further on either: linear in the text
    while at < len(text):
        ends = pairs.get(text[at])
        if ends is None or text[at] in unclosed or not _opens(text, at):
            at += 1
            continue
        end = next((place for place in range(at + 1, len(text)) if _closes(text, place, ends)), None)
        if end is None:
            unclosed.add(text[at])
            at += 1
            continue
        if inner := text[at + 1 : end].strip():
            found.append(inner)
        at = end + 1
    return found


def _opens(text: str, at: int) -> bool:
    if text[at] in BRACKETS:
        return True
    before = text[at - 1] if at else " "
    # Between Chinese or Japanese characters, which are letters too, there are no spaces.
    return not before.isalnum() or not before.isascii()


def _closes(text: str, at: int, ends: str) -> bool:
    if text[at] not in ends:
        return False
    if text[at] not in "'\u2018\u2019":
        return True
    after = text[at + 1] if at + 1 < len(text) else " "
    return not after.isalnum() and not text[at - 1].isspace()
