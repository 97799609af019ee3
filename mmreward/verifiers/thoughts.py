"""End of a judge's thinking, and what follows it: where a mark or a verdict counts.

A judge tries marks and verdicts while it thinks, and often quotes what it was asked to write. None of that is
its judgement. A text whose thinking was never closed, was opened again, or is marked by a broken tag is
therefore none at all, however well the rest reads. Of a policy's response, `response.segment` decides that.

Pure string work, linear in the text.
"""

import re
from collections.abc import Sequence

from ..errors import Unscorable
from .text import edit_distance

TAG = re.compile(
    r"<[ \t]{0,3}([/\\]?)[ \t]{0,3}think(?:ing)?[ \t]{0,3}(/?)[ \t]{0,3}>|\u25c1(/?)think\u25b7",
    re.IGNORECASE,
)
"""A tag of thinking, in the forms that `response.tidy_tags` knows; a closing one has a group."""
LIKE = re.compile(
    r"<[ \t]{0,3}[/\\]?[ \t]{0,3}([a-z]{4,9})[ \t]{0,3}/?[ \t]{0,3}>"
    r"|[<\u25c1][/\\]?([a-z]{4,9})\b|\b([a-z]{4,9})/?[>\u25b7]",
    re.IGNORECASE,
)
"""A word between the brackets of a tag, or beside one of them."""
NAMES = ("think", "thinking")


def reply_start(text: str) -> int:
    """Position behind the last closing tag of thinking; 0 where a judge did not think in tags.

    Raises:
        Unscorable: "unparsable" where the last thinking was never closed, or where what follows it (or the
            whole text, without a closing tag) has a tag of thinking with a bracket missing or a letter wrong.
    """
    start, opened = 0, False
    for tag in TAG.finditer(text):
        opened = not any(tag.groups())
        if not opened:
            start = tag.end()
    if opened:
        raise Unscorable("the reasoning was never closed: the judgement is cut off", "unparsable")
    if (name := broken_tag(text[start:], NAMES)) is not None:
        raise Unscorable(f"a tag of the reasoning is broken, near {name!r}", "unparsable")
    return start


def after_thinking(text: str) -> str:
    """What follows the thinking.

    Raises:
        Unscorable: see `reply_start`.
    """
    return text[reply_start(text) :]


def unthought(text: str, reply: str) -> str:
    """What a judge wrote outside of its thinking: what stands before the first opening tag, and the reply.

    Where there are more closing tags than opening ones, the template opened the thinking in the prompt, and
    nothing stands before it.
    """
    tags = list(TAG.finditer(text, 0, len(text) - len(reply)))
    opening = [tag.start() for tag in tags if not any(tag.groups())]
    return text[: opening[0]] + reply if opening and len(tags) <= 2 * len(opening) else reply


def broken_tag(text: str, names: Sequence[str]) -> str | None:
    """Word at a bracket that is one of the names but for one letter, too many, too few or wrong, or for two
    the other way round; None where there is none."""
    for found in LIKE.finditer(text):
        word = found[found.lastindex or 0].lower()
        if any(sorted(word) == sorted(name) or edit_distance(word, name) <= 1 for name in names):
            return word
    return None
