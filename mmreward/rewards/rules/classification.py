"""Classification: the answer is the name of a class, yes or no, or the class of a time series in TimeMaster's
sections.

`label` takes the class's name, or one of its other names, and nothing else. Never containment: under it an
empty answer, a single letter and the list of all classes are all right (Visual-RFT issues 70, 79 and 176).

`time_series` (TimeMaster, arXiv:2506.13705) reads `<think>`, `<class>` and `<extension>`. Whether the
extension (advice that follows from the class) is good is for a judge to say; here it must be there, once, in
its place and of some length.

`yes_no`: the first word decides, in English or Chinese, and an answer that says both says neither.
"""

import re
from collections.abc import Iterable, Mapping, Set
from dataclasses import replace
from typing import Any

from ...errors import Unscorable
from ...registry import reward
from ...tracing import noted
from ...types import Sample, Score
from ...verifiers.reading import (
    Answers,
    agreed,
    plain,
    read_answer,
    stated_in,
    undressed,
    visible,
    without_lead,
)
from ...verifiers.response import Reading, Verdict, normalise_answer, tidy_tags, verified, without_leftovers
from ...verifiers.text import EDGES, normalise_name

# --- the name of a class --------------------------------------------------------------------------

LABEL_PARTS = ("correct", "known")


def label_names(target: Any) -> Set[str]:
    """Read all names of the true class: a text, a list of them, or {"label": ..., "aliases": [...]}.

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
    names = [normalise_name(name) if isinstance(name, str) else "" for name in given]
    if not names or not all(names):
        raise Unscorable(f"the target {target!r} has no name, or an empty one")
    return frozenset(names)


def known_labels(given: Any, names: Set[str]) -> Set[str]:
    """Read the names of all classes, where a sample lists them; the true one must be among them.

    Raises:
        Unscorable: it is not, or these are no texts.
    """
    if given is None:
        return frozenset()
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise Unscorable(f"labels are a list of texts, not {given!r}")
    labels = frozenset(normalise_name(str(label)) for label in given)
    if not names & labels:
        raise Unscorable(f"the target {sorted(names)[0]!r} is none of the labels {', '.join(sorted(labels))}")
    return labels


LABEL_LEAD = re.compile(
    r"(?:(?:class|label|category|name|type|\u7c7b\u522b|\u6807\u7b7e)\s?(?:is|\u662f|\u4e3a)?\s?[:=]"
    r"|the (?:class|label|category) is)\s*",
    re.IGNORECASE,
)


def label_in(answer: str, reading: Reading = "clear") -> str:
    """Name that an answer states, normalised; without its dress and "Class:" in the clear reading.

    Raises:
        Unscorable: "unparsable" when it is empty.
    """
    if reading == "clear":
        answer = undressed(plain(without_lead(answer)))
        lead = LABEL_LEAD.match(answer)
        answer = undressed(answer[lead.end() if lead else 0 :])
    name = normalise_name(answer)
    if not name:
        raise Unscorable("the answer is empty", "unparsable")
    return name


def grade_label(
    answer: str | Answers,
    names: Set[str],
    labels: Set[str] = frozenset(),
    reading: Reading = "clear",
) -> Verdict:
    """Grade an answer: 1 when it is one of the names, both normalised by `normalise_name`.

    `parts["known"]` is 1 for the name of any class, which tells a confusion from a made-up label. In the
    clear reading a hyphen is a space, unless that makes two labels one.

    Raises:
        Unscorable: "unparsable" when it is empty, or names two classes.
    """
    answers = Answers((answer,)) if isinstance(answer, str) else answer

    def beside(text: str) -> str:
        name = label_in(text, reading)
        known = name in names or name in labels
        if not known and (labels or len(name.split()) > 2):  # reasoning before the answer is announced
            raise Unscorable("no class is named", "unparsable")
        return name

    name = agreed(answers, lambda text: label_in(text, reading), beside)
    correct, known = name in names, name in names or name in labels
    if not known and reading == "clear":
        spaced = name.replace("-", " ")
        same = {label for label in (*names, *labels) if label.replace("-", " ") == spaced}
        correct, known = bool(same) and same <= set(names), bool(same)
    noted("compared", "{} with {}: " + ("one of them" if correct else "none of them"), name, names)
    return Verdict(float(correct), {"correct": float(correct), "known": float(known)})


@reward(
    "label",
    needs=("response", "target"),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2503.16188",
    example={
        "response": "<think>Orange, with stripes.</think><answer>Tiger cat</answer>",
        "target": ["tiger_cat", "tiger-striped cat"],
        "meta": {"labels": ["tabby", "tiger cat", "lynx"]},
    },
)
def label(thinking: bool = True, bare: bool = False, reading: Reading = "clear") -> Any:
    """The name of the class, exactly: 0 or 1.

    `sample.target` is the label, a list of its names, or {"label": ..., "aliases": [...]}. Case, spacing,
    underscores and surrounding punctuation do not matter; everything else does, so a list of several labels
    is worth 0. `sample.meta["labels"]`, where given, lists all classes: `parts["known"]` is then 1 where the
    answer names any of them, and `parts["chance"]` the mean score of a blind guess (else 0).

    Args:
        thinking: the label is the content of the `<answer>` tags after the reasoning. Without (CLS-RL's
            No-Thinking-RL), the whole response is the label, and tags make it wrong.
        bare: with thinking, accept an answer without `<answer>` tags.
        reading: "clear" takes off the dress of an answer (LaTeX, bold, "The answer is", "Class:"), and reads
            hyphens as spaces; "strict" takes it as it stands.
    """

    async def score(sample: Sample) -> Score:
        names = label_names(sample.target)
        labels = known_labels(sample.meta.get("labels"), names)
        noted("target", "the names {}; known labels: {}", names, labels or None)
        response = sample.response or ""

        def answer() -> Answers:
            if thinking:
                return read_answer(response, bare=bare, reading=reading)
            text = response if reading == "strict" else visible(without_leftovers(response))
            return Answers((normalise_answer(text),))

        judged = verified(lambda: grade_label(answer(), names, labels, reading), LABEL_PARTS)
        guess = 1 / len(labels) if labels else 0.0
        return replace(judged, parts={**judged.parts, "chance": guess})

    return score


# --- the class of a time series -------------------------------------------------------------------

TIME_SERIES_PARTS = ("correct", "known", "form")

FORM_WEIGHT = 0.1
"""Weight of the form beside the class, as in TimeMaster."""


def sections(text: str, names: tuple[str, ...]) -> dict[str, str] | None:
    """Contents of the sections; None unless all are there, each once, in this order, and nothing else.

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


CLASS_TAG = re.compile(r"<[ \t]{0,3}([/\\]?)[ \t]{0,3}class[ \t]{0,3}(/?)[ \t]{0,3}>", re.IGNORECASE)


def grade_time_series(
    text: str,
    names: Set[str],
    labels: Set[str],
    *,
    extension: bool,
    min_chars: int,
    reading: Reading = "clear",
) -> Verdict:
    """Grade a response: 0.9 for the right class plus 0.1 for the form.

    The class is the content of the only `<class>` after the thinking, compared as labels are. The form counts
    when all sections are there in order, the thinking (and the extension) has `min_chars` characters other
    than spaces, and the class, where the classes are known, is one of them.

    Raises:
        Unscorable: "unparsable" when there is no `<class>` after the thinking, or more than one, or an empty
            one.
    """
    clear = reading == "clear"
    body = (tidy_tags(text) if clear else text).rpartition("</think>")[2]
    if clear:
        body = CLASS_TAG.sub(lambda tag: "</class>" if tag[1] or tag[2] else "<class>", body)
    if body.count("<class>") != 1 or "</class>" not in body:
        raise Unscorable("one <class>...</class> is expected after the thinking", "unparsable")
    if "<think>" in body:
        raise Unscorable("the reasoning was never closed: the response is cut off", "unparsable")
    inside = body.partition("<class>")[2].partition("</class>")[0]
    stated = stated_in(inside) if clear else Answers((normalise_answer(inside),))
    verdict = grade_label(stated, names, labels, reading)
    parts = ("think", "class", "extension") if extension else ("think", "class")
    found = sections(text, parts)
    full = found is not None and all(
        len("".join(words.split())) >= min_chars for name, words in found.items() if name != "class"
    )
    form = float(full and (not labels or verdict.parts["known"] == 1))
    value = (1 - FORM_WEIGHT) * verdict.value + FORM_WEIGHT * form
    return Verdict(value, {**verdict.parts, "form": form})


@reward(
    "time_series",
    needs=("response", "target"),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2506.13705",
    example={
        "response": "<think>The motor units fire late, with long polyphasic waves.</think>\n"
        "<class>Neuropathy</class>",
        "target": "neuropathy",
        "meta": {"labels": ["healthy", "myopathy", "neuropathy"]},
    },
)
def time_series(extension: bool = False, min_chars: int = 32, reading: Reading = "clear") -> Any:
    """0.9 for the class of a time series and 0.1 for TimeMaster's sections around it.

    The response is `<think>` ... `</think>` `<class>` ... `</class>`, and `<extension>` ... `</extension>`
    where asked for. `sample.target` is a label or its names, `sample.meta["labels"]` the classes there are,
    as for the reward `label`. The class is read after the thinking only, where TimeMaster takes the first one
    anywhere. TimeMaster also pays up to 0.5 for an extension that a judge likes: use `critique` for that.

    Args:
        extension: the form asks for the third section.
        min_chars: characters, spaces not counted, of the thinking (and the extension) for the form to count.
        reading: of the class, as in the reward `label`; the form is read as it stands.
    """
    if min_chars < 1:
        raise ValueError(f"min_chars is {min_chars}: an empty section must not count, so it is at least 1")

    async def score(sample: Sample) -> Score:
        names = label_names(sample.target)
        labels = known_labels(sample.meta.get("labels"), names)
        noted("target", "the names {}; known labels: {}", names, labels or None)
        response = sample.response or ""
        return verified(
            lambda: grade_time_series(
                response, names, labels, extension=extension, min_chars=min_chars, reading=reading
            ),
            TIME_SERIES_PARTS,
        )

    return score


# --- yes or no ------------------------------------------------------------------------------------

YES_NO_PARTS = ("correct", "said_yes")

LEAD = re.compile(
    r"(?:(?:so|thus|hence|therefore)\b,? ?)?(?:(?:the|my) )?(?:(?:final|correct) )?(?:answer ?(?:is|:) ?)?"
)
VERDICTS = re.compile(r"\b(?:yes|no(?! [^\W\d_]))\b|\bno (?=yes\b)")
"""Every `yes`, and every `no` that is not the determiner of a noun, as in "no cat"."""


WORDS = {"yes": True, "true": True, "no": False, "false": False}
WHOLE = WORDS | dict.fromkeys(("y", "correct", "yeah", "yep"), True) | {"n": False, "incorrect": False}
"""English answers that say yes or no when nothing follows but a clause; "n" alone, as it may be a name."""
SAID = re.compile(
    r"(?<!not )\b(yes|true|false)\b(?! [^\W\d_])|\bnot (true|false)\b|\b(yes)\b|\b(no)(?! [^\W\d_])\b"
    r"|\b(no) (?=yes\b)"
)
"""Every verdict in a text: `no` and `true` where they are no attribute, as in "no cat" and "true colour"."""
HAN_YES = re.compile(
    r"[\u662f\u5bf9\u6709]\u7684?|\u6b63\u786e|\u6ca1\u9519|\u5b58\u5728|\u771f|\u53ef\u4ee5|[\u80fd\u4f1a]"
)
HAN_NO = re.compile(
    r"\u4e0d(?:\u662f\u7684?|\u5bf9|\u6b63\u786e|\u5b58\u5728|\u53ef\u4ee5|[\u80fd\u4f1a])?|\u5e76\u975e|\u9519[\u8bef\u7684]?|\u6ca1\u6709?"
    r"|[\u65e0\u5426\u975e\u5047]"
)
HAN_CLAUSE = re.compile(r"[,.;:!?\u3002\u3001\s/|()]+|\u6216\u8005?|\u8fd8\u662f|\u548c")
"""Where one Chinese clause ends and the next one begins."""


def says_yes(answer: str, reading: Reading = "clear") -> bool:
    """Read a short answer: True for yes. "Yes, there is no cat" is yes; "yes and no" says nothing.

    The answer's first word, or the first after "the answer is", must be one of the two: words like "know" or
    "yesterday" are neither, and "not yes" is not read. The clear reading takes off the answer's dress, and
    reads true and false, correct and incorrect, and Chinese (shi, fou, dui, cuo, ...) as well.

    Raises:
        Unscorable: "unparsable" when the first word is neither, or when the other one follows.
    """
    text = without_lead(answer) if reading == "clear" else answer
    text = " ".join((plain(text) if reading == "clear" else text).casefold().split()).strip(EDGES)
    rest = text[LEAD.match(text).end() :].lstrip(EDGES)  # type: ignore[union-attr]  # it may match nothing
    if reading == "clear" and not rest.isascii() and (said := _said_in_chinese(rest)) is not None:
        return said
    word = re.match(r"(?:yes|no)\b", rest)
    if word is None and reading == "clear":
        word = re.match(r"(?:true|false|correct|incorrect|yeah|yep|[yn](?=[.,!]?$))(?=[^\w\s-]|\s?$)", rest)
    if word is None:
        raise Unscorable(f"neither yes nor no in {answer[:80]!r}", "unparsable")
    first = WHOLE[word[0]]
    if reading == "clear":
        later = {
            WORDS[found[0] or found[2] or found[3] or found[4]] if not found[1] else not WORDS[found[1]]
            for found in SAID.findall(rest, word.end())
        }
    else:
        later = {found.strip() == "yes" for found in VERDICTS.findall(rest, word.end())}
    if later - {first}:
        raise Unscorable(f"both yes and no in {answer[:80]!r}", "unparsable")
    return first


def _said_in_chinese(text: str) -> bool | None:
    """Verdict of the first clause, which it must be all of; None where it is none.

    Raises:
        Unscorable: "unparsable" when another clause is the other verdict.
    """
    clauses = [clause for clause in HAN_CLAUSE.split(text) if clause]
    said = [_verdict_of(clause.lstrip("\u4e5f\u90fd\u4f46\u53c8\u5374")) for clause in clauses]
    if not said or said[0] is None:
        return None
    if (not said[0]) in said:
        raise Unscorable(f"both yes and no in {text[:80]!r}", "unparsable")
    return said[0]


def _verdict_of(clause: str) -> bool | None:
    if HAN_YES.fullmatch(clause) or HAN_NO.fullmatch(clause):
        return bool(HAN_YES.fullmatch(clause))
    return WORDS.get(clause)


def yes_no_target(target: Any) -> bool:
    """Read a target: true or false, 1 or 0, or a text that says yes or no.

    Raises:
        Unscorable: it is none of these.
    """
    if isinstance(target, bool) or (isinstance(target, int | float) and target in (0, 1)):
        return bool(target)
    try:
        return says_yes(target if isinstance(target, str) else "")
    except Unscorable as failure:
        raise Unscorable(f"the target {target!r} is neither yes nor no") from failure


def grade_yes_no(answer: str | Answers, truth: bool, reading: Reading = "clear") -> Verdict:
    """Grade an answer: 1 when it says what is true."""
    answers = Answers((answer,)) if isinstance(answer, str) else answer
    yes = agreed(answers, lambda text: says_yes(text, reading), says_yes)
    noted("compared", "says {}, true is {}", *("yes" if one else "no" for one in (yes, truth)))
    return Verdict(float(yes == truth), {"correct": float(yes == truth), "said_yes": float(yes)})


@reward(
    "yes_no",
    needs=("response", "target"),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2504.07615",
    example={"response": "<think>I see it.</think><answer>Yes, on the left.</answer>", "target": "yes"},
)
def yes_no(bare: bool = False, boxed: bool = False, reading: Reading = "clear") -> Any:
    """The right answer to a yes-or-no question, 0 or 1.

    `sample.target` is "yes" or "no", or true or false. The first word of the answer decides (yes, true,
    correct, or their opposites, in English or Chinese); the other word after it makes the answer worth 0.
    `parts["said_yes"]` shows a policy that always says the same. A blind guess earns 0.5.

    Args:
        bare: accept an answer without `<answer>` tags.
        boxed: the answer is inside `\\boxed{...}`.
        reading: "clear" takes off the dress of an answer (LaTeX, bold, "It is", headings) and reads other
            words than yes and no; "strict" takes it as it stands, and only those two.
    """

    async def score(sample: Sample) -> Score:
        truth = yes_no_target(sample.target)
        noted("target", "{} means {}", sample.target, "yes" if truth else "no")
        response = sample.response or ""
        return verified(
            lambda: grade_yes_no(
                read_answer(response, bare=bare, boxed=boxed, reading=reading), truth, reading
            ),
            YES_NO_PARTS,
        )

    return score
