"""Which of two a judge prefers, read from its final answer. Pure string work."""

import re

from ..failures import Unscorable

TIE = ""
FIRST, SECOND = ("1", "one", "first", "a"), ("2", "two", "second", "b")
NOUNS = "image|picture|video|clip|answer|response|candidate|option"
PLACES = "|".join((*FIRST, *SECOND))
NAMED = re.compile(
    rf"(?:overall judge?ment ?:? )?(?:the )?(?:(?:{NOUNS}) )?({PLACES})(?: (?:{NOUNS}|one))?"
    r"(?: (?:is|fits|wins)(?: it)?(?: the)?(?: better| best)?(?: one)?)?"
)
TIED = re.compile(rf"tie|equal|a=b|both (?:{NOUNS})s are equally good|(?:they|both|the two) are equally good")


def preferred(answer: str) -> str:
    """ "1" or "2", or TIE where the answer says that neither is better.

    It must say so and nothing else: "2", "B", "the second image", "Image 2 is better" (UnifiedReward),
    "Overall Judgment: Answer 2 is better" (ARM-Thinker), "Both images are equally good". Upper and lower
    case, markdown and a final stop make no difference.

    Raises:
        Unscorable: "unparsable" for anything else, such as both, a hedge or a negation.
    """
    bare = " ".join(answer[:200].replace("*", " ").replace("`", " ").lower().split()).strip(" .!:\"'()")
    if len(answer) <= 200:
        if found := NAMED.fullmatch(bare):
            return "1" if found[1] in FIRST else "2"
        if TIED.fullmatch(bare):
            return TIE
    raise Unscorable(f"the answer {bare[:60]!r} does not name one of the two", "unparsable")
