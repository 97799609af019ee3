"""Options of a multiple-choice question, and the ones that an answer names by letter, by words or by number.

The options named are read without looking at the target, and an answer that names two options where one is
asked for names none. So no wording earns more than its writer's best guess.

Letters are hard to read in English prose, where "A" and "I" are words and "B, not C" names two. The order of
attempts is from the surest to the least: the whole answer is a letter or an option's words; a list, where
several are asked for; a letter set as a label at the beginning; a letter that is announced ("the answer is
B"). At the last two, every other option that is mentioned counts as named too, which makes a hedge worth
nothing.

A reason behind an answer ("24 cm (B), since ...") is looked through for what it takes back or leaves open, an
option's letter or words after "or", "maybe", "could be", and may otherwise say what it likes.

The dress of an answer is taken off by `verifiers.reading`, and an option's own words are compared as texts
and as numbers: "12" is the option "12 cm" where no other is 12 of anything.
"""

import re
from collections.abc import Mapping, Set
from functools import lru_cache
from string import ascii_uppercase
from typing import Any

from ...errors import Unscorable
from ...verifiers.numbers import Number, read_number
from ...verifiers.numerals import english
from ...verifiers.reading import plain, without_lead
from ...verifiers.response import Reading
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


# --- reading an answer ----------------------------------------------------------------------------

LETTERS = frozenset(ascii_uppercase)

LEAD = re.compile(
    r"(?:(?:so|thus|hence|therefore|overall)\b,? ?)?"
    r"(?:(?:clearly|obviously|given|considering|after|looking|based|judging|from|in)\b[^,.;:\n]{0,60}, )?"
    r"(?:(?:among|of|out of|from) (?:the|these|all)(?: [a-z]+){0,3}? (?:options|choices|answers)"
    r"(?: (?:given|provided|listed|above))?,? )?"
    r"(?:(?:i|we)(?: am|'m)? (?:think|believe|conclude|confident|sure|certain)(?: that)? )?"
    r"(?:(?:(?:i|we)(?:'d|'ll| would| will| can)? )?(?:choose|pick|select|go with|say) "
    r"|(?:i|we)(?:'m| am|'re| are) (?:going with|choosing|picking|selecting) "
    r"|(?:it|this|that)(?:'s| is| must be| should be| would be| has to be) )?"
    r"(?:(?:the|my) )?(?:(?:final|correct|best|right|selected|chosen|most [a-z]{4,12}) ){0,2}"
    r"(?:(?:answers?|options?|choices?|one|letter|statement|pick)\b(?: here| that fits| that matches)? ?"
    r"(?:is|are|must be|should be|would be|:|=>|=|->|\u2192)? ?)?(?:(?:options?|choices?) )?:? ?",
    re.IGNORECASE,
)
"""Lead-in that may stand before an answer without being part of it."""
LABEL = re.compile(r"[(\[{*]+([A-Za-z])[)\]}*.:]+|([A-Za-z])[)\]]|([A-Z])[.:](?!\w)")
"""A letter set as the label of an option: (B), B), *B*, B. or B: at the beginning."""
SET_OFF = re.compile(
    r"(?<![^\W_])(?:\*+|`|\$|[\"'\u201c\u2018\u300c\u300e\u3010\u300a<])\s?\(?([A-Za-z])[.)]{0,2}\s?"
    r"(?:\*+|`|\$|[\"'\u201d\u2019\u300d\u300f\u3011\u300b>])(?![^\W_])"
)
"""A letter in bold, quotation marks or other brackets than round ones."""
MARK = re.compile(r"[*`$\"'<\[\u201c\u2018\u300c\u300e\u3010\u300a]")
BESIDE_HAN = re.compile(
    r"(?<=[\u3400-\u9fff])(?=[(A-Za-z0-9])|(?<=[)A-Za-z0-9])(?=[\u3400-\u9fff])|\s*[\u3001\uff1b]\s*(?=[A-Z]\b)"
)
"""Where Chinese and Latin writing touch, and the comma of lists."""
ALONE = re.compile(r"\A[(\[]?([A-Za-z])[)\].:]{0,2}\s*\n")
"""A letter alone on the first line."""
CLEAR_LABEL = re.compile(
    r"([A-Z]) ?(?:[-=:\u2013\u2014\u2192]|->|=>) ?(?=\S)|([A-Z]) ?[\u3001\u3002]"
    r"|([A-Z]),? (?=(?:because|since|as|for|given|due|which|where|i\.e|namely)\b)"
    r"|([A-Z]) ?[,;\u3002]? ?(?=\u56e0\u4e3a|\u7531\u4e8e|\u7406\u7531|\u539f\u56e0)"
    r"|([A-Z]) (?:\u9009\u9879|\u9879)"
)
"""A letter as a label where the dress is off: "B - a cat", "B, because ..."."""
WRONG = re.compile(
    r"\s?(?:(?:is|was|are|seems|looks)\b)?\s?(?:\b(?:not|wrong|incorrect|false|unlikely|impossible)\b|n['\u2019]t\b"
    r"|isn['\u2019]t\b|cannot\b|[\u4e0d\u975e\u9519]|\u6709\u8bef|\u662f\u9519)",
    re.IGNORECASE,
)
"""What takes a label back right behind it, "(B) is wrong"; unless these are the option's own words."""
RIGHT = re.compile(
    r"([A-Z])\)? (?:(?:is|seems|looks|would be|should be|must be) (?:the |my )?(?:final |most |best )?"
    r"(?:right|correct|best|true|answer|option|choice|likely)\b"
    r"|(?:best )?(?:matches|fits|corresponds)\b|it is\b"
    r"|(?:\u9009\u9879 ?|\u9879 ?)?\u662f? ?(?:\u6b63\u786e|\u5bf9))"
)
RIGHT_WITHIN = re.compile(r"(?:, |\b(?:believe|think|that|so) )" + RIGHT.pattern)
TAIL = re.compile(
    r"(?:(?i:\b(?:is|be|are|options?|answers?|choices?|choose|pick|select|go(?:ing)? with|it's|so|thus|hence"
    r"|therefore|correct)\b)|[\u662f\u4e3a\u9009]|\u7b54\u6848|\u9009\u9879)"
    r"[:,]? ?[(\[{]?([A-Z])[)\]}]?[.!\u3002]?$"
)
STRICT_RIGHT = re.compile(r"([A-Z]) (?:is|seems|looks) (?:the )?(?:right|correct|best|true|answer)\b")
STRICT_TAIL = re.compile(
    r"\b(?:is|be|are|options?|answers?|choices?|choose|pick|select):? [(\[{]?([A-Z])[)\]}]?[.!]?$"
)
BEHIND = re.compile(
    r"(?:\(|\[|\b(?:option|choice|answer) |[,;:\u2013\u2014\u2192-] ?|=> ?|-> ?)([A-Z])[)\].]{0,2}$",
    re.IGNORECASE,
)
"""A letter behind its option's words: "cat (B)"."""
MARGIN = 24
"""Characters at the end in which that letter stands."""
REASON = re.compile(
    r"[ ,;:.!*-]{0,6}(?:\n|(?<=[.!] )(?-i:(?=[A-Z]))"
    r"|\b(?:because|since|as (?:it|the|this|shown|seen|we|can)|given that|due to|for the|which)\b"
    r"|\b(?:is|seems|looks|would be|should be|must be) (?:the |my )?(?:final |most |best )?"
    r"(?:right|correct|best|true|answer|option|choice|plausible|likely|appropriate|suitable)\b"
    r"|\b(?:best |most closely )?(?:matches|fits|describes|represents|corresponds|answers)\b"
    r"|\((?:confidence|probability|certainty|\d{1,3} ?%? (?:sure|confident|certain))\b"
    r"|[\u2600-\u27bf\U0001f300-\U0001faff]|(?:i )?hope (?:this|that|it) helps)",
    re.IGNORECASE,
)
"""The beginning of what a sentence says about its answer, behind it."""
OPEN = re.compile(
    r"\b(?:or|either|neither|nor|maybe|perhaps|possibly|probably|could|might|may|unsure|unless"
    r"|alternatively|instead|also|both|wrong|incorrect|false)\b|(?:n['\u2019]t|\bnot) (?:sure|certain)\b",
    re.IGNORECASE,
)
"""Words behind an answer that leave it open or take it back."""
OTHERS = re.compile(
    r"\b(?:others?|rest|remaining)(?: (?:options|choices|answers|ones))? (?:are|is|do|does|seem)"
    r"(?: not|n['\u2019]t)? [a-z]{2,12}\b",
    re.IGNORECASE,
)
"""Words about the other options as one, which name none."""
HEDGING = (
    r"\b(?:or|either|maybe|perhaps|possibly|probably|also|alternatively|(?:could|might|may)(?: also)? be)\b"
    r"[\s,:('\"]{0,4}(?:(?:even|the|an?) ){0,2}"
)
"""Words right before another option's, which leave that one open."""
MAX_HEAD = 200
MAX_REASONS = 8
PIECE = re.compile(r"[\n.!?;]")
MAX_PIECES = 32
ENDS = " \t\r\n.,:;!?'\"`*"
PAIRED = re.compile(
    r"[(\[]?([A-Za-z])(?:[)\].:,]{1,2} ?| ?[-\u2013\u2014|\u3001] ?| (?=[(\[]))[(\[]?(.+?)[)\]]?"
    r"|(.+?)[,.]? ?(?:[(\[](?:(?:option|choice|answer) )?|(?:which|this) is (?:option|choice|answer) [(\[]?)"
    r"([A-Za-z])[)\]]?"
)
"""A letter with its option's words, in either order: "B (24 cm)", "24 cm (B)"."""
LAST_LINE = re.compile(r"[(\[]?([A-Z])[)\].:\u3002]{0,2}")
"""A letter alone on the last line."""
MENTION = re.compile(r"(?<![^\W_])(?<!['\u2019])[A-Z](?![^\W_]|['\u2019-]\w)")
MARKED = re.compile(r"[(\[{]([a-z])[)\]}]")
NAMED = re.compile(r"\b(?:options?|choices?|answers?|letters?) [(\[]?([A-Z])(?![^\W_])", re.IGNORECASE)
"""A letter that is called an option, so that no `A` in it is an article."""
ARTICLE = re.compile(
    r"(?<![(\[{])\b(?:A|I) (?=[a-z])"
    r"(?!(?:or|and|nor|but|is|are|as|because|since|seems?|looks?|not|if|though|while|vs|over|to)\b)"
)
"""`A` and `I` where they are words of English."""
REFUSED = re.compile(
    r"\b(?:not|no|neither|nor|none|never|cannot|wrong|incorrect|false|except|or|either|maybe|perhaps|possibly"
    r"|unsure|unless)\b|n['\u2019]t\b|/|[\u4e0d\u975e\u6216\u9664\u9519\u522b\u52ff]|\u53ef\u80fd|\u4e5f\u8bb8|\u8fd8\u662f|\u6ca1\u6709|\u5927\u6982",
    re.IGNORECASE,
)
"""Words that take an answer back, or leave it open."""
SEPARATORS = re.compile(r"[,;|&+\n\u3001]|\band\b|[\u548c\u4e0e\u53ca]", re.IGNORECASE)
RUN = re.compile(r"[A-Z]{2,26}")


def letters_named(
    answer: str, options: Options | None, *, several: bool = False, reading: Reading = "clear"
) -> Set[str]:
    """Read the letters of the options that a short answer names; more than one, where `several` is off, is a
    hedge.

    Read are: the letter alone or marked ("B", "(b)", "B.", "**B**"), with words after it ("B. a cat", but
    not another option's), announced ("the answer is B", "option B is right"), and an option's own words or
    its number. Letters beyond the last option mean nothing. Without known options any capital may be one, and
    words mean nothing.

    Args:
        answer: one statement of a response, in NFKC.
        options: of the question, None where they are not known.
        several: the answer may be a list.
        reading: "strict" takes the text as it stands, and an option's words exactly.

    Raises:
        Unscorable: "unparsable" when no option is named, or when the wording takes it back ("not B").
    """
    clear = reading == "clear"
    if clear:
        answer = _apart(_marked(without_lead(_marked(answer))))
        answer = plain(answer)
        answer = _apart(answer) if several else ALONE.sub(r"(\1) ", answer, count=1)
    head, line, last = answer.strip().rpartition("\n")
    alone = LAST_LINE.fullmatch(last.strip()) if clear and line and not several else None
    if alone and _within({alone[1]}, options):  # the answer after reasoning, which may name no other option
        head = " ".join(head.split())
        return {alone[1]} | _within(_mentions(head), options) | _by_words(head, options, clear)
    text = " ".join(answer.split())
    bare = text.strip(EDGES)
    rest = text[LEAD.match(text).end() :]  # type: ignore[union-attr]  # it matches the empty string
    found: set[str] = set()
    # With and without the lead-in: an option's own words may begin like one ("the best of both").
    for words in {bare, rest.strip(EDGES)}:
        if len(words) == 1:
            found |= _within({words.upper()}, options)
        found |= _by_words(words, options, clear)
    if found:
        return found
    if several and (found := _listed(answer, options, clear)):
        return found
    if clear and not several and (found := _with_reason(answer, options)):
        return found
    if several and REFUSED.search(rest):  # "A or B" and "A, not C" name no set of options
        raise Unscorable(f"options are left open or taken back in {answer[:80]!r}", "unparsable")
    return _in_prose(text, rest, options, clear)


def _marked(text: str) -> str:
    """Text with letters that are set off in round brackets."""
    return SET_OFF.sub(r"(\1)", text) if MARK.search(text) else text


def _apart(text: str) -> str:
    """Text with a space between Chinese and Latin writing."""
    return text if text.isascii() else BESIDE_HAN.sub(" ", text)


def _with_reason(answer: str, options: Options | None) -> set[str]:
    """Read an answer that a reason follows: "24 cm (B) since ...", "b is correct.", and the letters that the
    reason mentions; none where the words leave it open."""
    rest = answer[LEAD.match(answer).end() :].lstrip()  # type: ignore[union-attr]  # it matches the empty string
    begins = [reason.start() for reason in REASON.finditer(rest[:MAX_HEAD], 1)]
    begins = [len(rest), *reversed(begins)]
    for end in begins[: MAX_REASONS + 1]:
        head, tail = rest[:end], rest[end:]
        if len(head) > MAX_HEAD or OPEN.search(OTHERS.sub(" ", tail)):
            continue
        if tail[:1] not in "\n, " and len(head.strip(EDGES)) == 1:
            continue  # "B. A cat" is a letter with words, which may be another option's
        if named := _headed(" ".join(head.split()).strip(ENDS), options):
            said = (_by_words(piece, options, True) for piece in PIECE.split(tail, MAX_PIECES))
            return named.union(_within(_mentions(tail), options), *said)
    return set()


def _headed(head: str, options: Options | None) -> set[str]:
    """Read a letter, an option's own words, or the two together in either order, and nothing else."""
    bare = head.strip(EDGES)
    if len(bare) == 1:
        return _within({bare.upper()}, options)
    pair = PAIRED.fullmatch(head)
    if pair is None:
        return _by_words(bare, options, True)
    letter, words = (pair[1], pair[2]) if pair[1] else (pair[4], pair[3])
    own = _by_words(words, options, True, article=True)
    return own if own == {letter.upper()} else set()


def _in_prose(text: str, rest: str, options: Options | None, clear: bool) -> set[str]:
    """Read the letter that a sentence announces, and every other one that it mentions."""
    mentioned = _within(_mentions(text), options)
    label, words = _labelled(rest, options, clear)
    if label:
        # "B. a cat" where B is "a cat": the words are the option's own, so an "a" in them is no second
        # letter.
        described = _by_words(words, options, clear, article=True)
        if described == {label}:
            return described
        return {label} | described | mentioned | (_left_open(words, label, options) if clear else set())
    end = rest[-MARGIN:]
    if clear and options and (behind := BEHIND.search(end)):
        letter = behind[1].upper()
        name = normalise_name(
            rest[: len(rest) - len(end) + behind.start()].rstrip(" ,;:=>\u2013\u2014\u2192-")
        )
        if _by_words(name, options, clear, article=True) == {letter}:
            return {letter}
        if letter in options and name.endswith(f" {options[letter]}") and not REFUSED.search(text):
            return mentioned | {letter}
    if clear:
        announced = RIGHT.match(rest) or TAIL.search(text) or RIGHT_WITHIN.search(rest)
    else:
        announced = STRICT_RIGHT.match(rest) or STRICT_TAIL.search(text)
    # What follows "B is right" may speak of what is not so; an option in it is a mention.
    judged = text[: len(text) - len(rest) + announced.end()] if clear and announced else text
    if announced is not None and not REFUSED.search(judged):
        mentioned |= _within(set(filter(None, announced.groups())), options)
    elif len(mentioned) < 2:  # one letter that nothing announces is no answer; two are a hedge, which is 0
        mentioned.clear()
    if not mentioned:
        raise Unscorable(f"no option is named in {text[:80]!r}", "unparsable")
    return mentioned


def _left_open(words: str, label: str, options: Options | None) -> set[str]:
    """Read the other options that the words behind a label leave open by name: "B, or maybe a cow".

    Raises:
        Unscorable: "unparsable" when the words take the label's own option back: "B. a cat is wrong".
    """
    name = normalise_name(words)
    if not options or not OPEN.search(name):
        return set()
    own = options[label]
    if own and name.startswith(own) and WRONG.match(name[len(own) :]):
        raise Unscorable(f"the option named is taken back in {words[:80]!r}", "unparsable")
    return {
        letter
        for letter, text in options.items()
        if letter != label and text and re.search(HEDGING + re.escape(text) + r"(?![^\W_])", name)
    }


def _within(letters: Set[str], options: Options | None) -> set[str]:
    """Letters that are options; all of A to Z where the options are not known."""
    return {letter for letter in letters if letter in (LETTERS if options is None else options)}


def _by_words(words: str, options: Options | None, clear: bool, *, article: bool = False) -> set[str]:
    """Letters of the options whose own words these are; in the clear reading also those whose number it is,
    where it is one option's alone.

    Args:
        words: of the answer.
        options: of the question.
        clear: the reading.
        article: "a" before the words is no letter, as one stands before them.
    """
    name = normalise_name(words)
    if not name or not options:
        return set()
    exact = {letter for letter, text in options.items() if text == name}
    if exact or not clear:
        return exact
    key = _spelling(name, article)
    if same := {letter for letter, text in options.items() if key and _spelling(text, article) == key}:
        return same
    number = _number(name)
    if number is None:
        return set()
    equal = {letter for letter, text in options.items() if _equal(number, _number(text))}
    return equal if len(equal) == 1 else set()


@lru_cache(4096)
def _spelling(name: str, article: bool) -> str:
    """Key under which two spellings of an option's words are the same: without type, article and hyphens."""
    text = plain(name.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac"))
    text = " ".join(text.replace("-", " ").split()).strip(EDGES)
    return re.sub(r"^(?:the|an|a) " if article else r"^(?:the|an) ", "", text)


@lru_cache(4096)
def _number(name: str) -> Number | None:
    """Number that is all of these words, None where they are no number."""
    words = list(english(name))
    if len(words) == 1 and name[: words[0].start] == name[words[0].end :] == "":
        return read_number(words[0].value)
    # `normalise_name` takes the last brace of a fraction for punctuation.
    return read_number(plain(name) + "}" * max(0, name.count("{") - name.count("}")), letters=True)


def _equal(a: Number, b: Number | None) -> bool:
    """True for one value in units that do not differ; one that is left out is the other's."""
    if b is None or a.percent != b.percent:
        return False
    if a.unit is None or b.unit is None:
        return a.value == b.value
    return a.unit.kind == b.unit.kind and a.value * a.unit.size == b.value * b.unit.size


def _mentions(text: str) -> set[str]:
    """Capitals that stand alone, but for articles and pronouns, and small letters in brackets."""
    without_words = ARTICLE.sub(" ", text)
    named = {letter for letter in NAMED.findall(text) if letter.isupper()}
    return set(MENTION.findall(without_words)) | {letter.upper() for letter in MARKED.findall(text)} | named


def _labelled(rest: str, options: Options | None, clear: bool) -> tuple[str, str]:
    """Letter with which the answer begins, and the words after it; two empty texts where it begins with none.

    The letter is set as a label, or followed by nothing but its option's own words.
    """
    match = LABEL.match(rest) or (CLEAR_LABEL.match(rest) if clear else None)
    letter = next(filter(None, match.groups())).upper() if match else rest[:1].upper()
    words = rest[match.end() if match else 1 :]
    own = letter in _by_words(words, options, clear, article=True) if match is None else True
    unmarked = match is None and (words[:1].isalnum() or not own)
    taken_back = WRONG.match(words) and letter not in _by_words(words, options, clear, article=True)
    return ("", "") if unmarked or taken_back or not _within({letter}, options) else (letter, words)


def _listed(answer: str, options: Options | None, clear: bool) -> set[str]:
    """Read a list of options: "A, C", "AC", "A and C", or their words one by one, and nothing else beside
    them."""
    lead = LEAD.match(answer)
    rest = answer[lead.end() if lead else 0 :]
    compact = rest.strip(EDGES)
    if RUN.fullmatch(compact) and not set(compact) - _within(set(compact), options):
        return set(compact)
    named = [_item(piece.strip(), options, clear) for piece in SEPARATORS.split(rest) if piece.strip(EDGES)]
    return set().union(*named) if all(named) else set()


def _item(piece: str, options: Options | None, clear: bool) -> set[str]:
    bare = piece.strip(EDGES)
    if len(bare) == 1:
        return _within({bare.upper()}, options)
    label, words = _labelled(piece, options, clear)
    if label and _by_words(words, options, clear, article=True) == {label}:
        return {label}
    return _by_words(bare, options, clear)
