"""Classification: the answer is the name of the class, or one of its other names, and nothing else.

Never containment: under it an empty answer, a single letter and the list of all classes are all right
(Visual-RFT issues 70, 79 and 176).
"""

from collections.abc import Iterable, Mapping, Set
from typing import Any

from ..failures import Unscorable
from .plain import name_of
from .verdict import Verdict

PARTS = ("correct", "known")


def names_of(target: Any) -> Set[str]:
    """All names of the true class: a text, a list of them, or {"label": ..., "aliases": [...]}.

    Raises:
        Unscorable: there is none, or one that is empty.
    """
    given = target
    if isinstance(target, Mapping):
        given = [target.get("label"), *(target.get("aliases") or ())]
    elif isinstance(target, str):
        given = [target]
    if not isinstance(given, list | tuple):
        raise Unscorable(f"the target {target!r} is no label: give a text, or a list of a class's names")
    names = [name_of(name) if isinstance(name, str) else "" for name in given]
    if not names or not all(names):
        raise Unscorable(f"the target {target!r} has no name, or an empty one")
    return frozenset(names)


def known_labels(given: Any, names: Set[str]) -> Set[str]:
    """The names of all classes, where a sample lists them; the true one must be among them.

    Raises:
        Unscorable: it is not, or these are no texts.
    """
    if given is None:
        return frozenset()
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise Unscorable(f"labels are a list of texts, not {given!r}")
    labels = frozenset(name_of(str(label)) for label in given)
    if not names & labels:
        raise Unscorable(f"the target {sorted(names)[0]!r} is none of the labels {', '.join(sorted(labels))}")
    return labels


def judge(answer: str, names: Set[str], labels: Set[str] = frozenset()) -> Verdict:
    """1 when the answer, normalised by `name_of`, is one of the names.

    `parts["known"]` is whether it is the name of any class, which tells a confusion from a made-up label.

    Raises:
        Unscorable: "unparsable" when it is empty.
    """
    name = name_of(answer)
    if not name:
        raise Unscorable("the answer is empty", "unparsable")
    correct = name in names
    return Verdict(float(correct), {"correct": float(correct), "known": float(correct or name in labels)})
