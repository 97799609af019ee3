"""The page of `mmreward compare -o`: figures, sources, what moved most side by side, weight and layout."""

import json
import math
import re

import numpy as np
import pytest
from PIL import Image
from support import browser
from support.pages import read
from typer.testing import CliRunner

from mmreward.cli import app
from mmreward.data.results import Result, write
from mmreward.evals.report import comparison
from mmreward.evals.report.comparison import called, write_comparison
from mmreward.types import Score

ATTACK = '<script>alert("x")</script><img src=http://evil.example/x onerror=alert(1)>'


def make_run(folder, values, rows=None, noisy=(), **columns):
    """A run in a folder of its own: a picture for every value, unless its row says otherwise."""
    folder.mkdir(exist_ok=True)
    data = []
    for i, value in enumerate(values):
        row = {
            "id": f"s{i}",
            "prompt": f"prompt {i}",
            "source": ("cats", "dogs")[i % 2],
            **(rows or {}).get(i, {}),
        }
        if "response" not in row and "image" not in row:
            shade = np.full((320, 200, 3), int(50 + 150 * (value if math.isfinite(value) else 0)), np.uint8)
            if i in noisy:
                shade = np.random.default_rng(i).integers(0, 255, (600, 600, 3), dtype=np.uint8)
            Image.fromarray(shade).save(folder / f"{i}.png")
            row["image"] = f"{i}.png"
        data.append(row)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data))
    stored = [
        Result.of(
            row["id"],
            name,
            Score(value) if math.isfinite(value) else Score.failed("timeout", "too late"),
            "f",
            "",
            "",
        )
        for name, column in {"taste": values, **columns}.items()
        for row, value in zip(data, column, strict=True)
    ]
    facts = {"reward": "taste", "range": [0, 1]}
    rewards = {name: {**facts, "higher_is_better": name != "harm"} for name in ("taste", *columns)}
    write(folder / "scores.parquet", stored, {"data": "rows.jsonl", "rewards": rewards})
    return folder


def page_of(runs, out, **options):
    found = write_comparison(runs, out, **options)
    return found, read(out)


@pytest.fixture
def two(tmp_path):
    before = [0.1, 0.5, 0.3, 0.2, 0.6, 0.4, math.nan, 0.5]
    after = [0.9, 0.1, 0.4, 0.3, 0.7, 0.5, 0.5, 0.5]
    texts = {2: {"response": "the old answer"}}
    one = make_run(tmp_path / "old", before, texts, harm=[0.5] * 8)
    texts = {2: {"response": "the new answer"}, 7: {"image": "../old/7.png"}}
    return one, make_run(tmp_path / "new", after, texts, harm=[0.5, 0.4, 0.3, 0.4, 0.3, 0.4, 0.3, 0.4])


def test_figures_wins_and_sources_stand_on_the_page(two, tmp_path):
    (taste, harm), page = page_of(two, tmp_path / "out.html")
    assert "new against old" in page.words and "better" in page.words
    assert f"{100 * taste.win_rate:.1f} %" in page.words and f"+{taste.change:.3f}" in page.words
    assert harm.direction == "better" and harm.change < 0, "lower is better there"
    assert taste.direction == "unknown" and "may be chance" in page.words
    assert "By source" in page.words and "cats" in page.words and "dogs" in page.words
    assert "no score to compare in both runs: 1 samples" in page.words
    low, high = taste.win_interval
    assert low < taste.win_rate < high and f"{100 * low:.0f} to {100 * high:.0f}" in page.words


def test_what_gained_and_lost_most_and_what_is_left_out_stand_first(two, tmp_path):
    write_comparison(two, tmp_path / "out.html")
    html = (tmp_path / "out.html").read_text(encoding="utf-8")
    glance = html[html.index('class="glance"') : html.index('class="verdict')]
    words = " ".join(re.sub("<[^>]*>", " ", glance).split())
    assert "gained most +0.800 taste prompt 0" in words and "lost most -0.400 taste prompt 1" in words
    assert "left out 1 sample" in words and glance.count("<img") == 2


def test_what_moved_most_stands_side_by_side(two, tmp_path):
    _, page = page_of(two, tmp_path / "out.html", only=["taste"], limit=2)
    cards = page.having("article", "card")
    keys = [json.loads(card["data-keys"]) for card in cards]
    # Only one sample lost; ties and failures are no moves.
    assert keys == [[pytest.approx(0.8)], [pytest.approx(-0.4)], [pytest.approx(0.1)]]
    assert len([image for image in page.having("img") if image["src"].startswith("data:")]) >= 4
    assert "prompt 0" in page.words and "prompt 7" not in page.words


def test_answers_are_shown_where_there_is_no_picture_and_one_picture_only_once(two, tmp_path):
    _, page = page_of(two, tmp_path / "out.html", limit=8)
    assert "the old answer" in page.words and "the new answer" in page.words
    assert page.words.count("the same sample in both runs") == 1
    alts = [image["alt"] for image in page.having("img")]
    # The one that gained most stands at the top as well.
    assert alts.count("picture of sample s7") == 1 and alts.count("picture of sample s0") == 3


def test_of_a_clip_the_first_frame_is_shown(tmp_path):
    for name, shade in (("a", 10), ("b", 200)):
        (tmp_path / name).mkdir()
        first, *rest = (Image.new("RGB", (40, 30), (shade + i, 0, 0)) for i in range(4))
        first.save(tmp_path / name / "clip.gif", save_all=True, append_images=rest, duration=100)
    rows = {0: {"image": None, "video": "clip.gif"}}
    runs = [make_run(tmp_path / name, [by], rows) for name, by in (("a", 0.1), ("b", 0.7))]
    _, page = page_of(runs, tmp_path / "out.html")
    assert page.words.count("video, first frame") == 3 and len(page.having("img")) == 3  # one at the top


def test_the_whole_prompt_can_be_read(tmp_path):
    long = "a fox " * 1000 + "at the end"
    rows = {0: {"prompt": long}}
    runs = [make_run(tmp_path / name, [by, by], rows) for name, by in (("a", 0.1), ("b", 0.7))]
    _, page = page_of(runs, tmp_path / "out.html")
    assert "full prompt" in page.words and "at the end" in page.words


def test_several_runs_stand_against_the_first(two, tmp_path):
    third = make_run(tmp_path / "third", [0.0] * 8, {2: {"response": "x"}}, harm=[0.9] * 8)
    found, page = page_of([*two, third], tmp_path / "out.html")
    assert [one.run for one in found] == [str(two[1])] * 2 + [str(third)] * 2
    assert "new and third against old" in page.words
    assert {card["data-run"] for card in page.having("article", "card")} == {"B", "C"}
    assert {"run", "by"} <= {one.get("id") for one in page.having("select")}


def test_pictures_of_a_heavy_page_are_drawn_smaller_and_then_left_out(tmp_path, monkeypatch):
    noisy = range(8)  # nothing weighs more
    runs = [make_run(tmp_path / name, [by] * 8, noisy=noisy) for name, by in (("a", 0.1), ("b", 0.7))]
    Image.new("RGB", (600, 600), "red").save(tmp_path / "b" / "0.png")  # else both have the same noise
    out = tmp_path / "out.html"
    sizes = []
    for weight in (8_000_000, 300_000, 100_000, 5_000):
        monkeypatch.setattr(comparison, "WEIGHT", weight)
        _, page = page_of(runs, out)
        widths = {int(image["width"]) for image in page.having("img")}
        sizes.append(max(widths))
        assert sum(len(image["src"]) for image in page.having("img")) <= weight
    assert sizes[0] == 384 and sizes == sorted(sizes, reverse=True) and sizes[-1] < sizes[0]
    assert "the page would be too heavy" in page.words


def test_markup_in_the_data_stays_text(tmp_path):
    rows = {0: {"prompt": ATTACK, "source": ATTACK}, 1: {"response": ATTACK}}
    scores = {"a": [0.0] * 3, "b": [1.0] * 3}
    runs = [make_run(tmp_path / name, by, rows, **{ATTACK: by}) for name, by in scores.items()]
    _, page = page_of(runs, tmp_path / "out.html")
    assert len(page.having("script")) == 1 and not any("onerror" in attrs for _, attrs in page.tags)
    assert page.words.count("<script>alert") >= 4
    assert all(
        attrs.get("src", "data:").startswith("data:") and attrs.get("href", "#").startswith("#")
        for _, attrs in page.tags
    )


def test_runs_without_their_data_are_compared_without_pictures(two, tmp_path):
    for run in two:
        (run / "rows.jsonl").unlink()
    _, page = page_of(two, tmp_path / "out.html")
    assert (
        "old is without pictures and prompts" in page.words and "this row is not there to show" in page.words
    )
    assert "prompts are not known" in page.words and not page.having("img")


def test_runs_of_equal_scores_say_that_nothing_moved(tmp_path):
    runs = [make_run(tmp_path / name, [0.5, 0.6]) for name in "ab"]
    _, page = page_of(runs, tmp_path / "out.html")
    assert "No sample moved" in page.words and "no difference beyond chance" in page.words
    assert "nan" not in page.words.lower().replace("nanny", "")


def test_names_of_runs_are_short_where_that_tells_them_apart(tmp_path):
    files = [tmp_path / name for name in ("x.parquet", "y.parquet")]
    for file in files:
        file.touch()
    (tmp_path / "z").mkdir()
    assert called([*files, tmp_path / "z"]) == ["x", "y", "z"]
    assert called([tmp_path / "z", tmp_path / "z"]) == [str(tmp_path / "z")] * 2


def test_the_command_writes_it_beside_the_table(two, tmp_path):
    out = tmp_path / "pages" / "compare.html"
    done = CliRunner().invoke(app, ["compare", *map(str, two), "-o", str(out), "--limit", "1"])
    assert done.exit_code == 0 and out.is_file() and "taste" in done.stdout
    assert done.stdout.strip().endswith("compare.html")
    done = CliRunner().invoke(app, ["compare", *map(str, two), "--out", str(out), "--json"])
    assert len(json.loads(done.stdout)) == 2, "the path of the page is no JSON"
    for arguments, words in ((["-o", "x.pdf"], "'x.pdf'"), (["-o", "x.html", "--limit", "-1"], "limit -1")):
        done = CliRunner().invoke(app, ["compare", *map(str, two), *arguments])
        assert isinstance(done.exception, ValueError) and words in str(done.exception)


@pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium on this machine")
def test_it_fits_a_phone_and_a_desk_in_a_real_browser(two, tmp_path):
    third = make_run(tmp_path / "third", [0.0] * 8, {2: {"response": "word" * 400}}, harm=[0.9] * 8)
    out = tmp_path / "out.html"
    write_comparison([*two, third], out)
    seen = browser.laid_out(out, tmp_path, (390, 1280))
    assert [one["asked"] for one in seen] == [390, 1280]
    for one in seen:
        assert one["wide"] <= one["seen"] and not one["over"], one
        assert one["script"] and one["cards"] > 4, one
    chosen = """["run", "C"].reduce(function (id, value) {
      document.getElementById(id).value = value;
      document.getElementById(id).dispatchEvent(new Event("change", { bubbles: true }));
    });"""
    (filtered,) = browser.laid_out(out, tmp_path, (1280,), chosen)
    of_third = [card for card in read(out).having("article", "card") if card["data-run"] == "C"]
    assert filtered["cards"] == len(of_third) < seen[1]["cards"], "the cards of one run alone"
