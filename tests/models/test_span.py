"""Which tokens are a continuation's, also where one reaches across its beginning."""

import pytest

from mmreward import Unscorable
from mmreward.models.vlms.answers import continuation_span


def test_a_continuation_begins_after_what_was_there():
    assert continuation_span([1, 2], [1, 2], [1, 2, 3], "x") == 1
    assert continuation_span([1], [1, 2, 3], [1, 2, 3, 4, 5], "x") == 2


def test_a_token_across_the_beginning_is_the_continuations():
    assert continuation_span([1], [1, 2, 3], [1, 2, 9, 4], "x") == 2
    assert continuation_span([1], [1, 2, 3], [1, 2, 9], "x") == 1


@pytest.mark.parametrize(
    ("prompt", "before", "whole"),
    [
        ([1, 2], [1, 2], [1, 2]),
        ([1, 2], [1, 2], [1, 9]),
        ([1, 2], [1, 2, 3], [1, 9, 3, 4]),
        ([1, 2], [1, 7], [1, 7, 4]),
    ],
)
def test_an_empty_one_and_one_that_reaches_into_the_prompt_are_refused(prompt, before, whole):
    with pytest.raises(Unscorable, match="token of its own"):
        continuation_span(prompt, before, whole, "x")
