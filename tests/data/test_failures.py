"""Failures of a run by reason, with the words that say what helps."""

import pytest

from mmreward import Sample, Score
from mmreward.data.failures import grouped, lines
from mmreward.types import lacking


def told(score):
    return " ".join(lines(grouped(["a.png", "b.png"], {"clipscore": [score, score]})))


@pytest.mark.parametrize(
    ("sample", "words"),
    [
        (
            Sample(image="a.png"),
            "--map prompt=COLUMN takes another), a .txt file beside each picture or metadata.jsonl; it is",
        ),
        (Sample(prompt="a cat"), "a row's image comes from a column of this name (--map image=COLUMN takes"),
        (Sample(meta={"imag": 1}, prompt="a cat"), "rename it, or map it"),
    ],
)
def test_a_field_that_rows_lack_is_named_with_where_it_comes_from(sample, words):
    text = told(Score.failed("missing", lacking(sample, ("image", "prompt"))))
    assert text.startswith("  2 x clipscore: missing, ") and words in text and "when it has changed" in text


def test_what_is_tried_again_by_itself_or_by_an_option_is_said():
    assert "--timeout, and --retry-failed" in told(Score.failed("timeout", "no answer within 5 s"))
    assert "when it has changed, or with --retry-failed" in told(Score.failed("error", "a file is torn"))
