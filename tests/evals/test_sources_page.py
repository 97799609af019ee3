"""The page of metrics by source: every source has its curves, and nothing in a name can break it."""

import pytest
from support.pages import read

from mmreward import Score
from mmreward.evals.report.report import write_report
from mmreward.monitor.by_source import append_metrics, source_metrics
from mmreward.monitor.outcomes import Outcome

ATTACK = '<script>alert("x")</script>'


def step(values):
    return source_metrics(
        [
            Outcome(source=source, total=Score(value), length=10, group="g", scores={"iou": Score(value)})
            for source, given in values.items()
            for value in given
        ]
    )


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "geometry" / "metrics.jsonl"
    for number in range(12):
        values = {"geo": [0.5, 0.5], ATTACK: [0.25, 0.75]}
        if number == 11:
            values = {"geo": [0.95, 0.95]}
        append_metrics(path, number, step(values))
    return path


def test_every_source_has_a_row_and_its_curves(log):
    page = read(write_report(log))
    assert "geometry" in page.words and "all sources" in page.words
    headings = [words for words in ("By source", "geo", ATTACK.replace("/", "_")) if words in page.words]
    assert len(headings) == 3
    labels = [attrs["aria-label"] for attrs in page.having("svg")]
    assert "score, mean total, along step: 0.500 at 0, 0.950 at 11; lowest 0.500, highest 0.950" in labels
    assert len([label for label in labels if label.startswith("component/iou,")]) == 3
    assert not any(label.startswith("paid though wrong") for label in labels)


def test_a_source_that_was_not_drawn_keeps_its_newest_figures_and_has_a_gap(log):
    page = read(write_report(log))
    cells = page.words.split(ATTACK.replace("/", "_"))[1]
    assert cells.startswith("1020.500")  # step 10, n 2, score 0.500
    assert "1 value missing: a gap." in page.words


def test_a_jump_is_told(log):
    page = read(write_report(log))
    assert "sources/geo/score" in page.words and "+22.5 deviations" in page.words
    assert "sources/geo/length/mean" not in page.words


def test_the_page_reaches_for_nothing_and_escapes_names(log):
    target = write_report(log)
    page = read(target)
    assert target == log.with_suffix(".html")
    assert ATTACK not in target.read_text() and "alert" in page.words
    assert not [
        tag
        for tag, attrs in page.tags
        if tag in ("script", "img", "link") and ("src" in attrs or "href" in attrs)
    ]


def test_a_log_takes_no_data_set(log, tmp_path):
    with pytest.raises(ValueError, match="is a log of metrics, which takes no data"):
        write_report(log, data=tmp_path)
