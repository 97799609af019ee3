"""What all pages share: contents, what matters first, filter, paging, print, and access without eyes."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import browser
from support.pages import read
from support.scored_runs import make_run, oks, picture

from mmreward import Score
from mmreward.evals.report import page as page_of_scores
from mmreward.evals.report.report import write_report

needs_chromium = pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Sixteen samples in three kinds of trouble, with two rewards that disagree about the last."""
    rows = [
        {"image": picture(tmp_path), "prompt": f"prompt {i} of a {'red' if i % 2 else 'blue'} thing"}
        for i in range(16)
    ]
    rows[3]["prompt"] = "long words " * 200
    quality = oks(*(i / 16 for i in range(13)))
    quality.append(Score.failed("timeout", "no score within 3 s"))
    quality += [Score.failed("error", f"cannot read '{name}.png'") for name in "ab"]
    other = oks(*(i / 16 for i in range(12)), 0.0, 0.5, 0.5, 0.5)
    return make_run(tmp_path, {"quality": quality, "oracle": other}, rows)


def test_what_matters_stands_first(run: Path) -> None:
    """Best, worst, failures by reason and the sample that rewards disagree about, before every table."""
    html = write_report(run).read_text(encoding="utf-8")
    glance = html[html.index('class="glance"') : html.index('id="summary"')]
    words = re.sub("<[^>]*>", " ", glance)
    for told in ("s11", "s0", "2 x quality: cannot read", "quality likes it, oracle does not", "s12"):
        assert told in words, told


def test_of_one_reward_the_best_and_the_worst_have_their_values(tmp_path: Path) -> None:
    rows = [{"image": picture(tmp_path), "prompt": f"prompt {i}"} for i in range(4)]
    html = write_report(make_run(tmp_path, {"quality": oks(0.5, 0.875, 0.25, 0.5)}, rows)).read_text()
    glance = html[html.index('class="glance"') : html.index('id="summary"')]
    assert "0.875 quality" in glance and "0.250 quality" in glance and "by rank" not in html
    assert "By the only reward." in html and "values become ranks" not in html


def test_failures_are_grouped_by_reason_with_their_remedy(run: Path) -> None:
    html = write_report(run).read_text(encoding="utf-8")
    section = html[html.index('id="failures-by-reason"') :]
    rows = re.findall(r'<tr role="row"><th.*?</tr>', section[: section.index("</section>")])
    told = [" ".join(re.sub("<[^>]*>", " ", row).split()) for row in rows]
    assert told[-2].startswith("cannot read &#x27;a.png&#x27; quality error 2 s14")
    assert "no score within 3 s quality timeout 1 s13" in told[-1] and "--timeout" in told[-1]


def test_contents_link_to_every_section(run: Path) -> None:
    page = read(write_report(run))
    links = {attrs["href"].removeprefix("#") for attrs in page.having("a")}
    ids = [attrs["id"] for attrs in page.having("h2") if "id" in attrs]
    assert set(ids) <= links and len(ids) >= 4


def test_a_heavy_page_has_smaller_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")
    run = make_run(tmp_path, {"quality": oks(0.1, 0.9, 0.5)}, [{"image": "large.png"}] * 3)
    monkeypatch.setattr(page_of_scores, "WEIGHT", 60_000)
    html = write_report(run).read_text(encoding="utf-8")
    cards = html[html.index('id="cards"') :]
    assert len(cards) < 75_000 and 'width="384"' not in cards
    monkeypatch.setattr(page_of_scores, "WEIGHT", 10)
    assert "give a smaller --limit" in write_report(run).read_text(encoding="utf-8")


def test_gains_and_revisions_of_a_refinement(tmp_path: Path) -> None:
    """The chosen picture against the first, and each round with what the critics missed."""
    names = [f"{prompt:06d}-{i:03d}" for prompt in range(3) for i in range(2)]
    rows = [{"id": name, "prompt": f"prompt {name[:6]}", "image": picture(tmp_path)} for name in names]
    run = make_run(tmp_path, {"quality": oks(0.1, 0.5, 0.2, 0.7, 0.3, 0.8)}, rows)
    stored = Path(run).with_name("samples.jsonl")
    assert stored.exists()
    history = []
    for prompt in range(3):
        attempt = {"seed": 1, "scores": {"quality": 0.1}}
        complaint = {"dimension": "colours", "value": 0.2, "wish": "a red circle"}
        first = {"round": 0, "prompt": "p", "total": 0.1, "critique": {"complaints": [complaint]}}
        second = {"round": 1, "prompt": "p, a red circle", "total": 0.6, "critique": {"complaints": []}}
        history.append(
            {
                "id": f"{prompt:06d}",
                "prompt": "p",
                "forwards": 16,
                "best": f"{prompt:06d}-001",
                "stopped": "nothing to complain about",
                "attempts": [{**attempt, **first}, {**attempt, **second}],
            }
        )
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in history))
    html = write_report(run).read_text(encoding="utf-8")
    gains = html[html.index('id="gains"') : html.index('id="revisions"')]
    assert '<b class="better">+0.467</b>' in gains and "optimised" in gains and "16 passes" in gains
    chains = html[html.index('id="revisions"') : html.index('id="summary"')]
    assert chains.count("colours (0.2): a red circle") == 3 and chains.count("p, a red circle") == 3
    assert chains.count('class="kept"') == 3 and "ended: nothing to complain about" in chains
    (tmp_path / "history.jsonl").write_text("not JSON")
    assert 'id="gains"' not in write_report(run).read_text(encoding="utf-8")


@needs_chromium
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_lost_on_those_who_see_little(run: Path, tmp_path: Path, dark: bool) -> None:
    """Names, headings, links and contrast, with all that can be opened open."""
    act = 'document.querySelectorAll("details").forEach(function (one) { one.open = true; });'
    assert browser.audited(write_report(run), tmp_path, dark=dark, act=act) == []


@needs_chromium
def test_the_audit_finds_what_is_wrong(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        "<html><body style='background: #fff'><h1>a</h1><h3>b</h3><p style='color: #bbb'>pale</p>"
        "<a href='#gone'>link</a><button></button><table><tr><th></th></tr></table></body></html>"
    )
    found = browser.audited(page, tmp_path)
    assert [one.split(":")[0] for one in found] == [
        "a link to nowhere",
        "a heading of level 3 after 1",
        "without a name",
        "without a name",
        "contrast 1.92",
    ]


@needs_chromium
def test_it_fits_and_prints_and_filters(run: Path, tmp_path: Path) -> None:
    """Nothing sticks out at 390 px, where cards come by the dozen; words filter; paper is short."""
    out = write_report(run)
    narrow, wide = browser.laid_out(out, tmp_path, (390, 1280))
    assert not narrow["over"] and not wide["over"] and narrow["wide"] <= narrow["seen"]
    assert (narrow["cards"], wide["cards"]) == (12, 16)
    more = 'document.getElementById("more").click();'
    assert browser.laid_out(out, tmp_path, (390,), more)[0]["cards"] == 16
    typed = 'words.value = "RED thing"; words.dispatchEvent(new Event("input", { bubbles: true }));'
    typed = 'var words = document.getElementById("words");' + typed
    assert browser.laid_out(out, tmp_path, (1280,), typed)[0]["cards"] == 7
    assert browser.sheets(out, tmp_path) <= 5
