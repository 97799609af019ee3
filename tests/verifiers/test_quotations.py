"""Quoted strings are found in every usual kind of marks, and apostrophes are none."""

import pytest

from mmreward.verifiers.quotations import quoted

CASES = {
    'a sign that says "EXIT 24A"': ["EXIT 24A"],
    'the words "one" and "two"': ["one", "two"],
    "a \u201cHello\u201d and \u201cWorld\u201d": ["Hello", "World"],
    "\u201eGuten Tag\u201c": ["Guten Tag"],
    "\u00ab Bonjour \u00bb": ["Bonjour"],
    "\u5199\u7740\u201c\u4f60\u597d\u201d\u7684\u724c\u5b50": ["\u4f60\u597d"],
    '\u5199\u7740"\u4f60\u597d"': ["\u4f60\u597d"],
    "\u5199\u7740\u300c\u55b6\u696d\u4e2d\u300d": ["\u55b6\u696d\u4e2d"],
    "a shirt with 'Don't stop' on it": ["Don't stop"],
    "a \u2018big\u2019 one, it\u2019s": ["big"],
    'a 24" monitor that says "HI"': ["HI"],
    "the cat's bowl says \"Cat's\"": ["Cat's"],
    "\"It's 'fine'\"": ["It's 'fine'"],
    'He said \\"Yes\\" loudly': ["Yes"],
    "the dog's bowl and the cats' toys": [],
    "rock 'n' roll": [],
    'unclosed "abc': [],
    'empty "" and "  "': [],
    "": [],
}


@pytest.mark.parametrize(("text", "found"), CASES.items())
def test_quoted_strings(text, found):
    assert quoted(text) == found


def test_marks_without_partners_take_linear_time():
    """60,000 opening marks: once a search for each partner, a minute and more; a pass over the text now."""
    for mark in ("\u201c", " \u2018a", " '", "\u00ab"):
        assert quoted(mark * 60_000) == []
