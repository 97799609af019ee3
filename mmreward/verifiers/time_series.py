"""Classification of a plotted time series in TimeMaster's sections: <think>, <class>, and <extension>.

Whether the extension (advice that follows from the class) is good is a judge's to say, not read here; that
it is there, once, in its place and of some length is.
"""

from collections.abc import Set

from ..failures import Unscorable
from .label import judge as judge_label
from .short import bounded
from .verdict import Verdict

PARTS = ("correct", "known", "form")

FORM_WEIGHT = 0.1
"""Of the form beside the class, as in TimeMaster."""


def sections(text: str, names: tuple[str, ...]) -> dict[str, str] | None:
    """What each section holds; None unless all are there, each once, in this order, and nothing else.

    Linear: every tag is counted and found once.
    """
    found, rest = {}, text.strip()
    for name in names:
        opening, closing = f"<{name}>", f"</{name}>"
        if text.count(opening) != 1 or text.count(closing) != 1 or not rest.startswith(opening):
            return None
        inside, closed, rest = rest.removeprefix(opening).partition(closing)
        if not closed:
            return None
        found[name], rest = inside.strip(), rest.lstrip()
    return None if rest else found


def judge(text: str, names: Set[str], labels: Set[str], *, extension: bool, min_chars: int) -> Verdict:
    """0.9 for the right class plus 0.1 for the form.

    The class is what the only `<class>` after the thinking holds, compared as labels are. The form counts
    when all sections are there in order, the thinking (and the extension) has `min_chars` characters other
    than spaces, and the class, where the classes are known, is one of them.

    Raises:
        Unscorable: "unparsable" when there is no `<class>` after the thinking, or more than one, or an empty
            one.
    """
    body = text.rpartition("</think>")[2]
    if body.count("<class>") != 1 or "</class>" not in body:
        raise Unscorable("one <class>...</class> is expected after the thinking", "unparsable")
    if "<think>" in body:
        raise Unscorable("the reasoning was never closed: the response is cut off", "unparsable")
    inside = body.partition("<class>")[2].partition("</class>")[0]
    verdict = judge_label(bounded(inside), names, labels)
    parts = ("think", "class", "extension") if extension else ("think", "class")
    found = sections(text, parts)
    full = found is not None and all(
        len("".join(words.split())) >= min_chars for name, words in found.items() if name != "class"
    )
    form = float(full and (not labels or verdict.parts["known"] == 1))
    value = (1 - FORM_WEIGHT) * verdict.value + FORM_WEIGHT * form
    return Verdict(value, {**verdict.parts, "form": form})
