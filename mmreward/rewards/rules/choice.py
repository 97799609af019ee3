"""Multiple choice: the options that an answer names by letter or by words, and the reward `choice`.

The options named are read without looking at the target, and an answer that names two options where one is
asked for names none. So no wording earns more than its writer's best guess.

Letters are hard to read in English prose, where "A" and "I" are words and "B, not C" names two. The order of
attempts is from the surest to the least: the whole answer is a letter or an option's words; a list, where
several are asked for; a letter set as a label at the beginning; a letter that is announced ("the answer is
B"). At the last two, every other option that is mentioned counts as named too, which makes a hedge worth
nothing.
"""

import re
from collections.abc import Mapping, Set
from dataclasses import replace
from math import comb
from string import ascii_uppercase
from typing import Any, Literal

from ...errors import Unscorable
from ...registry import reward
from ...types import Sample, Score
from ...verifiers.response import Verdict, short_answer, verified
from ...verifiers.text import EDGES, normalise_name

# --- options --------------------------------------------------------------------------------------

Options = Mapping[str, str]
"""Capital letter -> the option's words as `normalise_name` gives them."""
PREFIXED = re.compile(r"\s*\(?([A-Za-z])[).:]\s*(\S.*)", re.DOTALL)


def options_of(given: Any) -> Options | None:
    """Read the options of a sample, None where there are none: texts in order (the first is A), or letter ->
    text.

    "A. cat" in a list loses its letter where all have theirs. A letter without text (null, as Arrow fills
    in) is no option.

    Raises:
        Unscorable: neither of these, or fewer than two options, or more than 26.
    """
    if given is None:
        return None
    if isinstance(given, Mapping):
        letters = [str(key).strip(" ().").upper() for key, text in given.items() if text is not None]
        strange = [key for key in letters if len(key) != 1 or key not in ascii_uppercase]
        if strange or len(set(letters)) < len(letters):
            raise Unscorable(f"options are named by the letters A to Z, each once, not {strange or letters}")
        found = dict(zip(letters, (text for text in given.values() if text is not None), strict=True))
    elif isinstance(given, list | tuple):
        found = dict(zip(ascii_uppercase, _unprefixed([str(text) for text in given]), strict=False))
    else:
        raise Unscorable(f"options are a list of texts or letter -> text, not {type(given).__name__}")
    if len(found) < 2 or len(given) > len(ascii_uppercase):
        raise Unscorable(f"a question has 2 to {len(ascii_uppercase)} options: {str(given)[:200]}")
    return {letter: normalise_name(str(text)) for letter, text in found.items()}


def _unprefixed(texts: list[str]) -> list[str]:
    """Options without their letters, where all have theirs, in order."""
    matches = [PREFIXED.fullmatch(text) for text in texts]
    letters = [match[1].upper() if match else "" for match in matches]
    if letters != list(ascii_uppercase[: len(texts)]):
        return texts
    return [match[2] for match in matches if match]


def chance(options: int, right: int, select: str) -> float:
    """Mean score of a blind guess: a letter for "one", else a set drawn from all that are not empty; 0 when
    the number of options is not known (0).

    The set of all options earns nothing under "jaccard" unless all are right, as in `grade_choice`.
    """
    if not options:
        return 0.0
    if select == "one":
        return 1 / options
    sets: int = 2**options - 1
    if select == "all":
        return 1 / sets
    wrong = options - right
    worth: float = sum(
        comb(right, hits) * comb(wrong, misses) * hits / (right + misses)
        for hits in range(right + 1)
        for misses in range(wrong + 1)
        if hits + misses
    )
    return (worth - (right / options if wrong else 0.0)) / sets


# --- reading an answer ----------------------------------------------------------------------------

Select = Literal["one", "all", "jaccard"]
PARTS = ("correct", "named")
LETTERS = frozenset(ascii_uppercase)

LEAD = re.compile(
    r"(?:(?:so|thus|hence|therefore|overall)\b,? ?)?(?:i (?:would |will )?(?:choose|pick|select) )?"
    r"(?:(?:the|my) )?(?:(?:final|correct|best|right) )?"
    r"(?:(?:answers?|options?|choices?)\b ?(?:is|are|:|=)? ?)?(?:options? )?:? ?",
    re.IGNORECASE,
)
"""Lead-in that may stand before an answer without being part of it."""
LABEL = re.compile(r"[(\[{*]+([A-Za-z])[)\]}*.:]+|([A-Za-z])[)\]]|([A-Z])[.:](?!\w)")
"""A letter set as the label of an option: (B), B), *B*, B. or B: at the beginning."""
RIGHT = re.compile(r"([A-Z]) (?:is|seems|looks) (?:the )?(?:right|correct|best|true|answer)\b")
TAIL = re.compile(
    r"\b(?:is|be|are|options?|answers?|choices?|choose|pick|select):? [(\[{]?([A-Z])[)\]}]?[.!]?$"
)
MENTION = re.compile(r"(?<![^\W_])(?<!['\u2019])[A-Z](?![^\W_]|['\u2019-]\w)")
MARKED = re.compile(r"[(\[{]([a-z])[)\]}]")
ARTICLE = re.compile(
    r"(?<![(\[{])\b(?:A|I) (?=[a-z])"
    r"(?!(?:or|and|nor|but|is|are|as|because|since|seems?|looks?|not|if|though|while|vs|over|to)\b)"
)
"""`A` and `I` where they are words of English."""
REFUSED = re.compile(
    r"\b(?:not|no|neither|nor|none|never|cannot|wrong|incorrect|false|except|or|either|maybe|perhaps|possibly"
    r"|unsure|unless)\b|n['\u2019]t\b|/",
    re.IGNORECASE,
)
"""Words that take an answer back, or leave it open."""
SEPARATORS = re.compile(r"[,;|&+\n]|\band\b", re.IGNORECASE)
RUN = re.compile(r"[A-Z]{2,26}")


def letters_named(answer: str, options: Options | None, *, several: bool = False) -> Set[str]:
    """Read the letters of the options that a short answer names; more than one, where `several` is off, is a
    hedge.

    Read are: the letter alone or marked ("B", "(b)", "B.", "**B**"), with words after it ("B. a cat", but
    not another option's), announced ("the answer is B", "option B is right"), and an option's own words,
    exactly. Letters beyond the last option mean nothing. Without known options any capital may be one, and
    words mean nothing.

    Raises:
        Unscorable: "unparsable" when no option is named, or when the wording takes it back ("not B").
    """
    text = " ".join(answer.split())
    bare = text.strip(EDGES)
    rest = text[LEAD.match(text).end() :]  # type: ignore[union-attr]  # it matches the empty string
    found: set[str] = set()
    # With and without the lead-in: an option's own words may begin like one ("the best of both").
    for words in {bare, rest.strip(EDGES)}:
        if len(words) == 1:
            found |= _within({words.upper()}, options)
        found |= _by_words(words, options)
    if found:
        return found
    if several and (found := _listed(answer, options)):
        return found
    if several and REFUSED.search(rest):  # "A or B" and "A, not C" name no set of options
        raise Unscorable(f"options are left open or taken back in {answer[:80]!r}", "unparsable")
    return _in_prose(text, rest, options)


def _in_prose(text: str, rest: str, options: Options | None) -> set[str]:
    """Read the letter that a sentence announces, and every other one that it mentions."""
    mentioned = _within(_mentions(text), options)
    label, words = _labelled(rest, options)
    if label:
        # "B. a cat" where B is "a cat": the words are the option's own, so an "a" in them is no second
        # letter.
        described = _by_words(words, options)
        return described if described == {label} else {label} | described | mentioned
    announced = RIGHT.match(rest) or TAIL.search(text)
    if announced is not None and not REFUSED.search(text):
        mentioned |= _within({announced[1]}, options)
    elif len(mentioned) < 2:  # one letter that nothing announces is no answer; two are a hedge, which is 0
        mentioned.clear()
    if not mentioned:
        raise Unscorable(f"no option is named in {text[:80]!r}", "unparsable")
    return mentioned


def _within(letters: Set[str], options: Options | None) -> set[str]:
    """Letters that are options; all of A to Z where the options are not known."""
    return {letter for letter in letters if letter in (LETTERS if options is None else options)}


def _by_words(words: str, options: Options | None) -> set[str]:
    """Letters of the options whose own words these are, exactly."""
    name = normalise_name(words)
    return {letter for letter, text in (options or {}).items() if name and text == name}


def _mentions(text: str) -> set[str]:
    """Capitals that stand alone, but for articles and pronouns, and small letters in brackets."""
    without_words = ARTICLE.sub(" ", text)
    return set(MENTION.findall(without_words)) | {letter.upper() for letter in MARKED.findall(text)}


def _labelled(rest: str, options: Options | None) -> tuple[str, str]:
    """Letter with which the answer begins, and the words after it; two empty texts where it begins with none.

    The letter is set as a label, or followed by nothing but its option's own words.
    """
    match = LABEL.match(rest)
    letter = next(filter(None, match.groups())).upper() if match else rest[:1].upper()
    words = rest[match.end() if match else 1 :]
    unmarked = match is None and (words[:1].isalnum() or letter not in _by_words(words, options))
    return ("", "") if unmarked or not _within({letter}, options) else (letter, words)


def _listed(answer: str, options: Options | None) -> set[str]:
    """Read a list of options: "A, C", "AC", "A and C", or their words one by one, and nothing else beside
    them."""
    lead = LEAD.match(answer)
    rest = answer[lead.end() if lead else 0 :]
    compact = rest.strip(EDGES)
    if RUN.fullmatch(compact) and not set(compact) - _within(set(compact), options):
        return set(compact)
    named = [_item(piece.strip(), options) for piece in SEPARATORS.split(rest) if piece.strip(EDGES)]
    return set().union(*named) if all(named) else set()


def _item(piece: str, options: Options | None) -> set[str]:
    bare = piece.strip(EDGES)
    if len(bare) == 1:
        return _within({bare.upper()}, options)
    label, words = _labelled(piece, options)
    return {label} if label and _by_words(words, options) == {label} else _by_words(bare, options)


def right_letters(target: Any, options: Options | None, select: Select = "one") -> Set[str]:
    """Read the letters of a target: "B", "(B)", an option's words, or several ("A, C" or a list of such).

    Raises:
        Unscorable: it names no option, or several where one is asked for; "missing" for "jaccard" without
            known options, as nobody could tell that an answer lists them all.
    """
    if select == "jaccard" and options is None:
        raise Unscorable('select="jaccard" needs the options, in meta["options"]', "missing")
    given = list(target) if isinstance(target, list | tuple | set | frozenset) else [target]
    right: set[str] = set()
    for item in given:
        try:
            right |= letters_named(item if isinstance(item, str) else "", options, several=select != "one")
        except Unscorable as failure:
            raise Unscorable(f"the target {target!r} names no option of the question") from failure
    if not right:
        raise Unscorable("the target names no option")
    if select == "one" and len(right) > 1:
        raise Unscorable(f"the target {target!r} names {len(right)} options; give select='all' or 'jaccard'")
    return right


def grade_choice(answer: str, right: Set[str], options: Options | None, select: Select = "one") -> Verdict:
    """Grade an answer: 1 for the right options and no others.

    With "jaccard" a set earns |named and right| / |named or right|, but naming every option earns nothing
    unless all are right. `parts["named"]` is the number of options named; order and repetition do not
    matter.

    Raises:
        Unscorable: "unparsable", as `letters_named`.
    """
    named = letters_named(answer, options, several=select != "one")
    correct = float(named == right)
    parts = {"correct": correct, "named": float(len(named))}
    if select == "one" and len(named) > 1:
        return Verdict(0.0, parts, f"names {len(named)} options where one is asked for")
    everything = options is not None and len(named) == len(options)
    if select != "jaccard" or everything:
        return Verdict(correct, parts)
    return Verdict(len(named & right) / len(named | right), parts)


@reward(
    "choice",
    needs=("response", "target"),
    range=(0.0, 1.0),
    uses_prompt=False,
    paper="arXiv:2504.07615",
    example={
        "response": "<think>It has whiskers.</think><answer>(B) cat</answer>",
        "target": "B",
        "meta": {"options": ["dog", "cat", "horse", "cow"]},
    },
)
def choice(select: Select = "one", bare: bool = False, boxed: bool = False) -> Any:
    """The right option of a multiple-choice question, 0 or 1 (or in between for sets).

    `sample.meta["options"]` holds the options: texts in order, or letter -> text. Without it, only letters
    count. `sample.target` is a letter, an option's words, or several of them. An answer names an option by
    its letter ("B", "(b)", "B. cat", "the answer is B") or by exactly its words; one that names two where one
    is asked for ("A or B", "B, not C") is worth 0. `parts["chance"]` is the mean score of a blind guess, 0
    where the options are not known; `parts["named"]` the number of options the answer names.

    Args:
        select: "one" option; "all" right ones and no others, in any order; or the overlap of the two sets,
            "jaccard", by which naming every option earns nothing (the options must be known).
        bare: accept an answer without `<answer>` tags.
        boxed: the answer is inside a single `\\boxed{...}`.
    """

    async def score(sample: Sample) -> Score:
        options = options_of(sample.meta.get("options"))
        right = right_letters(sample.target, options, select)
        response = sample.response or ""
        judged = verified(
            lambda: grade_choice(short_answer(response, bare=bare, boxed=boxed), right, options, select),
            PARTS,
        )
        guess = chance(len(options or ()), len(right), select)
        return replace(judged, parts={**judged.parts, "chance": guess})

    return score
