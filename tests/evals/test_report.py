"""The report page: what it says, what it must not say, and that nothing in the data can break it."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import spearmanr
from support.pages import Page, read
from support.scored_runs import make_run, oks, picture

from mmreward.data import results
from mmreward.evals.report.html import number
from mmreward.evals.report.report import write_report
from mmreward.evals.report.scored import load_run, with_data
from mmreward.evals.report.stats import totals, unit_ranks
from mmreward.monitor.intervals import agreement, mean_of
from mmreward.types import Score

ATTACK = '<script>alert("x")</script><img src=http://evil.example/x onerror=alert(1)>'
PICTURE = [[255, 0, 0], [0, 255, 0]]


def test_page_holds_prompts_pictures_and_figures(tmp_path: Path) -> None:
    """Balanced HTML in which every prompt, both figures and every picture is found."""
    rows = [{"image": picture(tmp_path)}, {"image": picture(tmp_path, (800, 400))}, {}]
    run = make_run(tmp_path, {"quality": oks(0.2, 0.4, 0.9)}, rows)
    out = write_report(tmp_path)
    page = read(out)
    assert out == tmp_path / "report.html" == write_report(run)
    assert all(f"prompt {i}" in page.words for i in range(3))
    assert "0.500" in page.words and "0.400" in page.words and "3 of 3" in page.words
    images = page.having("img")
    assert [image["src"][:15] for image in images if int(image["width"]) == 64] == ["data:image/png;"] * 3
    assert {(int(i["width"]), int(i["height"])) for i in images if "jpeg" in i["src"]} == {(384, 192)}


def test_nothing_is_fetched(tmp_path: Path) -> None:
    """No attribute and no style names another place."""
    run = make_run(tmp_path, {"quality": oks(0.1, 0.9)}, [{"image": picture(tmp_path)}, {}])
    out = write_report(run)
    for _, attrs in read(out).tags:
        assert attrs.get("src", "data:").startswith("data:") and attrs.get("href", "#").startswith("#")
    assert not re.search(r"https?://|@import|url\(", out.read_text(encoding="utf-8"))


@pytest.mark.parametrize("place", ["prompt", "id", "note", "response", "label", "title", "part", "reward"])
def test_markup_in_the_data_stays_text(tmp_path: Path, place: str) -> None:
    """A script anywhere in the data adds no element and is shown as it was written."""
    note = ATTACK if place == "note" else ""
    score = Score(0.5, {ATTACK if place == "part" else "part": 0.5}, note=note)
    box = {"bbox_2d": [0, 0, 500, 500], "label": ATTACK if place == "label" else "a"}
    row = {"id": "s0", "prompt": "p", "image": picture(tmp_path), "response": json.dumps([box])}
    if place in ("id", "prompt", "response"):
        row[place] = ATTACK
    name = ATTACK if place == "reward" else "quality"
    failed = Score.failed("error", note) if note else score
    run = make_run(
        tmp_path, {name: [score, failed]}, [row, {}], title=ATTACK if place == "title" else "A run"
    )
    page = read(write_report(run))
    assert len(page.having("script")) == 1
    assert not any("onerror" in attrs for _, attrs in page.tags)
    assert not any("evil" in attrs.get("src", "") for _, attrs in page.tags)
    assert "<script>alert" in page.words


def test_failed_scores_are_chips_with_reasons_and_in_no_mean(tmp_path: Path) -> None:
    """The mean is over the values alone; the failures are counted by status and shown with their reason."""
    failed = [
        Score.failed("unparsable", "no number in 'hm'"),
        Score.failed("timeout", "no score within 3 s"),
        Score.failed("na", "not for clips"),
    ]
    run = make_run(tmp_path, {"quality": [*oks(0.25, 0.75, 0.5), *failed], "free": oks(1, 2, 3, 4, 5, 6)})
    html = write_report(run).read_text(encoding="utf-8")
    page = Page(html)
    assert "3 of 6" in page.words and "1 unparsable, 1 timeout, 1 does not apply" in page.words
    assert "<b>0.500</b>" in html
    assert all(
        reason in page.words for reason in ("no number in 'hm'", "no score within 3 s", "not for clips")
    )
    assert len(page.having("span", "failed")) >= 3
    flags = [card["data-failed"] for card in page.having("article", "card") if "data-keys" in card]
    assert flags == ["0", "0", "0", "1", "1", "0"]
    facts = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", html)
    assert ("failed", '<span class="bad">2</span> <small>of 12</small>') in facts


def test_a_reward_without_any_value(tmp_path: Path) -> None:
    """No figure is made up where every score failed."""
    run = make_run(tmp_path, {"quality": [Score.failed("error", "broken")] * 2, "oracle": oks(0.1, 0.2)})
    html = write_report(run).read_text(encoding="utf-8")
    assert "0 of 2" in html and "n = 0: none" in html and "undefined" in Page(html).words
    assert "nan" not in Page(html).words.lower()


def test_missing_rows_are_counted(tmp_path: Path) -> None:
    """A reward that was not run on every sample is reported over all of them."""
    run = make_run(tmp_path, {"quality": oks(0.1, 0.2, 0.3), "oracle": oks(0.5)})
    words = read(write_report(run)).words
    assert "1 of 3" in words and "2 not scored" in words


def test_mean_interval_is_reproducible_and_covers() -> None:
    """Same values, same interval; nothing below two values; about the textbook width."""
    values = np.random.default_rng(1).normal(5, 2, 400)
    found = mean_of(values).interval
    assert found is not None and found == mean_of(values.copy()).interval
    half = 1.96 * values.std() / math.sqrt(400)
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)
    assert mean_of(np.array([1.0])).interval is None


SHARED = {
    "one prompt each": ([{} for _ in range(8)], "over 8 samples", 8),
    "by group": ([{"group": f"g{i // 2}"} for i in range(8)], "over 4 prompts", 4),
    "by prompt": ([{"prompt": f"p{i % 4}"} for i in range(8)], "over 4 prompts", 4),
    "one question of eight pictures": (
        [{"prompt": "How many?", "response": "3", "image": f"{i}.png"} for i in range(8)],
        "over 8 samples",
        8,
    ),
    "two answers to four pictures": (
        [{"prompt": "How many?", "response": str(i), "image": f"{i % 4}.png"} for i in range(8)],
        "over 4 prompts",
        4,
    ),
}


@pytest.mark.parametrize("case", SHARED)
def test_intervals_are_over_prompts(tmp_path: Path, case: str) -> None:
    """Two draws of a prompt count once, and eight pictures asked the same question count eight times."""
    rows, said, units = SHARED[case]
    run = make_run(tmp_path, {"quality": oks(0.1, 0.2, 0.6, 0.9, 0.15, 0.25, 0.55, 0.85)}, rows)
    assert said in read(write_report(run)).words
    found = with_data(load_run(run), None, set())
    assert mean_of(found.columns[0].values, found.prompts).units == units


def test_one_prompt_has_no_interval(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"quality": oks(0.1, 0.2, 0.6)}, [{"prompt": "p"}] * 3)
    assert "n = 1 prompt: none" in read(write_report(run)).words


def test_agreement_equals_scipy_and_skips_failures() -> None:
    """Spearman with ties, over the rows where both are values."""
    x = np.array([1, 2, 2, 3, math.nan, 5, 4, 0.5])
    y = np.array([2, 1, 3, 3, 9, math.nan, 8, 0.1])
    both = np.isfinite(x) & np.isfinite(y)
    found = agreement(x, y)
    assert found.n == 6 and found.rho == pytest.approx(spearmanr(x[both], y[both]).statistic)
    assert found.interval is not None and found.interval.low <= found.rho <= found.interval.high
    assert found == agreement(x, y)


@pytest.mark.parametrize("x", [[0.5, 0.5, 0.5, 0.5], [1, math.nan, math.nan, 2], []])
def test_agreement_is_undefined_rather_than_zero(x: list[float]) -> None:
    """Constant, or too few common samples."""
    found = agreement(np.array(x, dtype=float), np.arange(len(x), dtype=float))
    assert found.rho is None and found.interval is None


def test_constant_column_on_the_page(tmp_path: Path) -> None:
    """The word undefined, and no correlation of 0."""
    run = make_run(tmp_path, {"quality": oks(0.3, 0.3, 0.3, 0.3), "oracle": oks(0.1, 0.2, 0.3, 0.4)})
    html = write_report(run).read_text(encoding="utf-8")
    section = html.partition('id="agreement"')[2].partition("</section>")[0]
    assert "<div>undefined</div>" in section and "0.000" not in section


def test_reference_can_be_named(tmp_path: Path) -> None:
    """The oracle by default, another on request, and an unknown name is an error with a hint."""
    run = make_run(tmp_path, {"quality": oks(0.1, 0.2, 0.3), "free": oks(3, 2, 1)})
    assert "Agreement" not in read(write_report(run)).words
    words = read(write_report(run, reference="quality")).words
    assert "Agreement with quality" in words and "-1.000" in words
    with pytest.raises(ValueError, match=r"qualty.*did you mean 'quality'"):
        write_report(run, reference="qualty")


def test_totals_are_mean_ranks() -> None:
    """By hand: ties share, lower can be better, a failure is left out, too few values are not ranked."""
    up = unit_ranks(np.array([10.0, 30.0, 30.0, math.nan]), True)
    down = unit_ranks(np.array([1.0, 2.0, 3.0, math.nan]), False)
    lone = unit_ranks(np.array([math.nan, math.nan, 7.0, 8.0]), True)
    np.testing.assert_allclose(up, [0, 0.75, 0.75, math.nan])
    np.testing.assert_allclose(down, [1, 0.5, 0, math.nan])
    np.testing.assert_allclose(
        totals(np.stack([up, down, lone], axis=1)), [0.5, 0.625, 0.25, math.nan], equal_nan=True
    )


def test_best_and_worst(tmp_path: Path) -> None:
    """Four of each where there are enough, never the same sample in both."""
    run = load_run(make_run(tmp_path, {"quality": oks(*(i / 10 for i in range(10)))}))
    assert run.extremes(4) == (["s9", "s8", "s7", "s6"], ["s0", "s1", "s2", "s3"])
    few = load_run(make_run(tmp_path, {"quality": oks(0.1, 0.2, 0.3)}))
    assert few.extremes(4) == (["s2"], ["s0"])


def test_a_stored_total_is_not_counted_twice(tmp_path: Path) -> None:
    """A combined score beside its rewards is shown, and left out of the mean rank."""
    run = make_run(tmp_path, {"quality": oks(0.1, 0.9), "total": oks(0.9, 0.1)}, rewards={"quality": {}})
    assert load_run(run).extremes(1) == (["s1"], ["s0"])
    assert "combined" in read(write_report(run)).words


def test_without_the_data_set(tmp_path: Path) -> None:
    """The scores are shown, the page says what is missing; a data set that was asked for must be there."""
    run = make_run(tmp_path, {"quality": oks(0.1, 0.2)}, [{"image": picture(tmp_path)}, {}])
    (tmp_path / "samples.jsonl").unlink()
    page = read(write_report(run))
    assert not page.having("img") and "Without pictures and prompts: no data at" in page.words
    assert "0.150" in page.words and "s0" in page.words
    with pytest.raises(ValueError, match="no data at"):
        write_report(run, data=tmp_path / "samples.jsonl")


def test_data_set_elsewhere(tmp_path: Path) -> None:
    """The argument overrides what the results say."""
    run = make_run(tmp_path, {"quality": oks(0.1, 0.2)}, data="gone.jsonl")
    assert "prompt 1" in read(write_report(run, data=tmp_path / "samples.jsonl")).words


def test_json_lines(tmp_path: Path) -> None:
    """The other format has no facts beside it: bars span the run's values, and the page still works."""
    run = make_run(tmp_path, {"quality": oks(2.0, 4.0)}, suffix=".jsonl")
    out = write_report(run, tmp_path / "pages" / "page.html", tmp_path / "samples.jsonl")
    page = read(out)
    assert "prompt 0" in page.words and "3.000" in page.words
    assert [bar["style"] for bar in page.having("i", "fill")][-2:] == [
        "left:0.0%;width:0.0%",
        "left:0.0%;width:100.0%",
    ]


def test_limit(tmp_path: Path) -> None:
    """So many cards, the rest counted; the figures are over all of them."""
    run = make_run(tmp_path, {"quality": oks(*(i / 10 for i in range(10)))})
    page = read(write_report(run, limit=3))
    cards = [a for a in page.having("article", "card") if "data-keys" in a]
    assert len(cards) == 3 and "7 further samples not shown" in page.words and "10 of 10" in page.words
    assert not [a for a in read(write_report(run, limit=0)).having("article") if "data-keys" in a]
    with pytest.raises(ValueError, match="-1 is negative"):
        write_report(run, limit=-1)


def test_boxes_are_drawn_over_the_picture(tmp_path: Path) -> None:
    """Found and true boxes at their place; an unreadable box is counted, an unreadable response said."""
    image = picture(tmp_path)
    true = [{"bbox_2d": [0, 0, 500, 500], "label": "red circle"}]
    found = [{"bbox_2d": [500, 500, 1000, 1000], "label": "red circle"}, {"bbox_2d": [1, 2, "x", 4]}]
    rows = [
        {"image": image, "response": f"<answer>{json.dumps(found)}</answer>", "target": true},
        {"image": image, "response": "I see nothing", "target": true},
        {"image": image, "response": "<answer>yes</answer>", "target": "yes"},
    ]
    page = read(write_report(make_run(tmp_path, {"quality": oks(0.1, 0.2, 0.3)}, rows)))
    places = [
        [float(box[side]) for side in ("x", "y", "width", "height")] for box in page.having("rect", "found")
    ]
    assert places == [[160.0, 160.0, 160.0, 160.0]] and len(page.having("rect", "true")) == 2
    assert "1 not drawn" in page.words and page.words.count("boxes of the response not drawn") == 1
    assert "red circle" in page.words


def test_checklist_and_critique_show_their_parts(tmp_path: Path) -> None:
    """Ticks and crosses for questions, aspects on the judge's scale, the critique folded away."""
    checks = Score(0.5, {"q1: red?": 0.9, "q2: blue?": 0.1})
    words = Score(1 / 3, {"Text faithfulness": 2.0}, note="## Text faithfulness\nScore: 2")
    html = write_report(make_run(tmp_path, {"checklist": [checks] * 2, "critique": [words] * 2})).read_text()
    page = Page(html)
    assert len(page.having("li", "right")) == len(page.having("li", "wrong")) == 2
    assert "2 of 4" in page.words and "left:0.0%;width:33.3%" in html
    assert "<summary>critique</summary>" in html and "Score: 2" in page.words


def test_clips_and_inputs(tmp_path: Path) -> None:
    """A clip's first frame with a tag; condition pictures small beside the main one."""
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "clip.gif", save_all=True, append_images=frames[1:])
    rows = [{"video": "clip.gif"}, {"image": picture(tmp_path), "inputs": [picture(tmp_path, (300, 200))]}]
    page = read(write_report(make_run(tmp_path, {"quality": oks(0.1, 0.2)}, rows)))
    assert "video, first frame" in page.words
    assert any(image["width"] == "96" for image in page.having("img"))


def test_hostile_text_and_numbers(tmp_path: Path) -> None:
    """A megabyte is shortened, control characters and overrides are replaced, a broken picture is said."""
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    rows = [
        {"prompt": "a\x00b\u202ec\x1b[31m \u05e9\u05dc\u05d5\u05dd", "image": "broken.png"},
        {"prompt": "x" * 60_000, "image": "nowhere.png", "meta": {"size": "wrong"}},
        {"id": "i" * 500, "target": [1, 2, 3], "response": "[" * 50},
    ]
    scores = [Score(1e300, {"p": 1e308}, note="n" * 1_000_000), Score(-1e300, note="\ud800"), Score(0.0)]
    out = write_report(make_run(tmp_path, {"free": scores, "iou": oks(0, 1, 0.5)}, rows))
    html = out.read_text(encoding="utf-8")
    page = Page(html)
    assert len(html) < 200_000 and "shortened from 1,000,000 characters" in page.words
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", html) and "\u05e9\u05dc\u05d5\u05dd" in html
    assert "no picture" in page.words and "no file at" in page.words
    for tag, attrs in page.tags:
        drawn = " ".join(attrs.get(name, "") for name in ("style", "x", "y", "width", "height", "d", "cx"))
        assert not re.search("nan|inf", drawn), (tag, drawn)


def test_a_row_that_is_no_sample(tmp_path: Path) -> None:
    """A bad row costs its own card, which says why."""
    rows = [{"prompt": 3}, {"prompt": "fine"}]
    run = make_run(
        tmp_path, {"quality": [Score.failed("error", "prompt is int, not text"), Score(0.5)]}, rows
    )
    words = read(write_report(run)).words
    assert "the row cannot be read: prompt is int, not text" in words and "fine" in words


def test_mixed_fingerprints_are_pointed_out(tmp_path: Path) -> None:
    """Scores of two versions of a reward in one file are no secret."""
    run = make_run(tmp_path, {"quality": oks(0.1, 0.2)})
    rows = results.read(run)
    changed = [results.Result.of("s9", "quality", Score(0.3), "other-print", ""), *rows]
    results.write(run, changed, results.about(run))
    assert "2 versions mixed in one file" in read(write_report(run)).words


def test_footer_names_the_arguments(tmp_path: Path) -> None:
    """What each reward was run with, its fingerprint, and the command when it was stored."""
    rewards = {"quality": {"reward": "clipscore", "args": {"weights": "mini-clip"}, "range": [-1, 1]}}
    run = make_run(tmp_path, {"quality": oks(0.1, 0.2)}, rewards=rewards, command=["mmreward", "score"])
    words = read(write_report(run)).words
    assert "weights=mini-clip" in words and "print-quality" in words and "Command: mmreward score" in words


def test_errors_name_the_value_and_the_fix(tmp_path: Path) -> None:
    """No results, an unfinished run, an empty folder, a foreign file, no scores, a page that is no page."""
    with pytest.raises(ValueError, match=r"holds no scores\.parquet"):
        write_report(tmp_path)
    with pytest.raises(ValueError, match="mmreward score"):
        write_report(tmp_path / "scores.parquet")
    (tmp_path / "scores.parquet.parts").mkdir()
    with pytest.raises(ValueError, match="start it again"):
        write_report(tmp_path / "scores.parquet")
    (tmp_path / "scores.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="cannot be read as results"):
        write_report(tmp_path)
    (tmp_path / "scores.jsonl").write_text("")
    with pytest.raises(ValueError, match="no scores in it"):
        write_report(tmp_path / "scores.jsonl")
    run = make_run(tmp_path, {"quality": oks(0.1)})
    with pytest.raises(ValueError, match=r"\.html file, not 'scores\.parquet'"):
        write_report(run, run)
    assert len(results.read(run)) == 1


def test_one_sample(tmp_path: Path) -> None:
    """No interval, no extremes, no sorting; still a page."""
    html = write_report(make_run(tmp_path, {"quality": oks(0.1)})).read_text(encoding="utf-8")
    assert (
        "n = 1: none" in html
        and 'id="extremes"' not in html
        and 'id="controls"' not in html.split("<script>")[0]
    )


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.12345, "0.123"), (0, "0.000"), (-25.06, "-25.1"), (1e-5, "1e-05"), (math.nan, "\u2013")],
)
def test_numbers(value: float, told: str) -> None:
    """Short, and never nan."""
    assert number(value) == told
