"""A real browser: pages recorded as a grounding set, tasks with functional checks, rewards on both."""

import asyncio
import json
import threading
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from mmreward import Sample, Unscorable, load
from mmreward.cli import app
from mmreward.data.rows import read_rows
from mmreward.evals.benchmarks import benchmark
from mmreward.evals.benchmarks.benchmark import measured
from mmreward.evals.benchmarks.predictions import read_predictions
from mmreward.evals.browsing.browser import Browser, BrowserError, chromium, page_address
from mmreward.evals.browsing.recording import record
from mmreward.evals.browsing.tasks import Seen, read_tasks, run_task, write_rows
from mmreward.evaluation import score_one
from mmreward.verifiers.actions import Action, Point, View, read_actions
from mmreward.verifiers.coordinates import Axes

pytestmark = pytest.mark.skipif(chromium() is None, reason="no Chromium on this machine")
SITE = Path(__file__).parents[1] / "cases/site"
WIDTH, HEIGHT = 900, 600


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site():
    """The address of the site, which a server of this process gives."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(SITE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser():
    with Browser(WIDTH, HEIGHT) as opened:
        yield opened


@pytest.fixture(scope="module")
def recorded(site, browser, tmp_path_factory):
    return record(browser, f"{site}/index.html", tmp_path_factory.mktemp("set") / "set", pages=3, screens=4)


# --- recording ------------------------------------------------------------------------------------


def test_a_site_becomes_a_set_in_screenspots_form(recorded):
    rows = json.loads(recorded.labels.read_text())
    by_name = {row["instruction"]: row for row in rows if row["url"].endswith("index.html")}
    assert {
        'the button "Add green tea"',
        'the field "Search"',
        'the button "Menu"',
        'the link "About us"',
    } <= set(by_name)
    assert by_name['the button "Menu"']["bbox"][2:] == [32, 32]
    assert by_name['the button "Menu"']["data_type"] == "icon"
    assert by_name['the button "Add green tea"']["data_type"] == "text"
    with Image.open(recorded.labels.parent / rows[0]["img_filename"]) as shot:
        assert shot.size == (WIDTH, HEIGHT)
    # Of the two buttons "Help" neither can be meant; the long page has several screens, the others one.
    assert recorded.ambiguous == 2 and recorded.screens == 6 and not recorded.failed
    assert any(row["instruction"] == 'the link "Imprint"' for row in rows)
    assert len(rows) == recorded.rows


def test_the_boxes_are_where_the_elements_are_seen(recorded, browser, site):
    """A click at the middle of a recorded box does what the element does."""
    rows = json.loads(recorded.labels.read_text())
    row = next(row for row in rows if row["instruction"] == 'the button "Add green tea"')
    x, y, width, height = row["bbox"]
    browser.open(row["url"])
    browser.evaluate("localStorage.clear()")
    browser.perform(Action(type="click", point=Point((x + width / 2) / WIDTH, (y + height / 2) / HEIGHT)))
    assert browser.evaluate("localStorage.getItem('cart')") == '["green"]'


def test_clicks_on_it_are_rewarded_and_measured(recorded, tmp_path):
    """An honest agent hits everything in each unit; what the page says to click, and a scan, hit nothing."""
    bench = benchmark("screenspot")
    items = bench.read(recorded.labels)
    reward = load("click", space="qwen2.5-vl", target_space="pixel")
    lines, scan = [], "\n".join(f"click({x}, {y})" for x in range(0, 900, 150) for y in range(0, 600, 150))
    for item in items:
        x1, y1, x2, y2 = item.gold
        # Of a screen of 900 x 600 the model sees 896 x 588.
        honest = f"click(start_box='({(x1 + x2) / 2 / 900 * 896}, {(y1 + y2) / 2 / 600 * 588})')"
        worth = {}
        for name, said in {"honest": honest, "injected": "click(5, 5)", "scan": scan}.items():
            sample = Sample(response=said, target=item.gold, meta={"size": (HEIGHT, WIDTH)})
            worth[name] = asyncio.run(score_one(sample, reward)).value
        assert worth == {"honest": 1.0, "injected": 0.0, "scan": 0.0}, item.facts["instruction"]
        lines.append({"id": item.id, "raw_text": honest, "space": "qwen2.5-vl"})
    path = tmp_path / "predictions.jsonl"
    path.write_text("\n".join(map(json.dumps, lines[1:])))
    result = measured(bench, items, read_predictions(path, bench, items), draws=100)
    assert result.line("accuracy").valid == 1.0 and result.missing == (items[0].id,)
    assert result.line("accuracy").strict == pytest.approx(1 - 1 / len(items))


def test_the_command_records_a_file(browser, tmp_path, monkeypatch):
    """On the browser of the other tests: starting one takes longer than all of this."""
    started = []

    def shared(width, height):
        started.append((width, height))
        return nullcontext(browser)

    monkeypatch.setattr("mmreward.evals.browsing.browser.Browser", shared)
    out = tmp_path / "set"
    words = ["gui", "record", str(SITE / "contact.html"), "--out", str(out), "--width", "700"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert started == [(700, 800)] and "2 left out that share their name" in done.output
    names = {row["instruction"] for row in json.loads((out / "screenspot_web.json").read_text())}
    assert {
        'the field "Name"',
        'the checkbox "Send me news"',
        'the list "Topic"',
        'the button "Send"',
    } <= names
    again = CliRunner().invoke(app, words)
    assert isinstance(again.exception, ValueError) and "is not empty" in str(again.exception)


def test_what_is_no_page_is_one_line(browser):
    with pytest.raises(ValueError, match="neither http"):
        page_address("nowhere.html")
    with pytest.raises(BrowserError, match="net::ERR"):
        browser.open("http://127.0.0.1:1/")
    with pytest.raises(BrowserError, match="the page says"):
        browser.evaluate("nothing.here")


# --- tasks ----------------------------------------------------------------------------------------

SCRIPTS = {
    "add-one": ["#add-green", "done"],
    "add-two": ["#add-mint", "#add-black", "done"],
    "search": ["#words", "type:mint\\n", "done"],
    "price": ["answer:4.50"],
    "founded": ["a[href='about.html']", "answer:In 1987."],
    "message": ["#name", "type:Ada", "#send", "done"],
    "news": ["#name", "type:Bo", "#news", "#send", "done"],
    "empty": ["#remove-0", "done"],
    "dark": ["#open", "#dark", "done"],
    "imprint": ["scroll", "scroll", "#link", "done"],
}
"""What has to be done: an element to click, or another action."""
FORMS = (
    "pyautogui.click(x={x}, y={y})",
    "Thought: there\nAction: click(start_box='({x},{y})')",
    '<tool_call>{{"name": "computer_use", "arguments": {{"action": "left_click", "coordinate": [{x}, {y}]}}}}'
    "</tool_call>",
    '{{"action_type": "click", "x": {x}, "y": {y}}}',
    "CLICK <point>[[{x}, {y}]]</point>",
)
CENTRE = (
    "(() => {{ const box = document.querySelector({0}).getBoundingClientRect(); "
    "return [box.x + box.width / 2, box.y + box.height / 2]; }})()"
)


def agent_of(browser, script):
    """An agent that knows the page, and writes each click in another grammar."""
    steps = iter(script)

    def agent(seen):
        step = next(steps)
        kind, _, words = step.partition(":")
        if step == "done":
            return "finished(content='done')"
        if kind == "answer":
            return f"answer('{words}')"
        if kind == "type":
            return f"type(content='{words}')"
        if step == "scroll":
            return "scroll(direction='down')"
        x, y = browser.evaluate(CENTRE.format(json.dumps(step)))
        return FORMS[len(seen.said) % len(FORMS)].format(x=x, y=y)

    return agent


@pytest.fixture(scope="module")
def tasks(site):
    return {task.id: task for task in read_tasks(SITE / "tasks.json", site)}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_task_that_is_done_succeeds(name, tasks, browser, tmp_path):
    outcome = run_task(browser, tasks[name], agent_of(browser, SCRIPTS[name]), tmp_path)
    assert outcome.success and outcome.holds and not outcome.before, outcome
    assert len(outcome.steps) == len(SCRIPTS[name]) and Path(outcome.steps[0]["observation"]).is_file()


def test_a_task_that_is_claimed_does_not(tasks, browser, tmp_path):
    for name, words in (
        ("add-one", "finished(content='It is complete.')"),
        ("price", "answer('3.20 or 4.50')"),
    ):
        claimed = run_task(browser, tasks[name], lambda seen, words=words: words, tmp_path)
        assert claimed.done and not claimed.holds and not claimed.success


def test_what_holds_without_done_is_no_success(tasks, browser, tmp_path):
    script = ["#add-green", *["wait"] * 3]
    agent = agent_of(browser, script[:1])
    outcome = run_task(
        browser, tasks["add-one"], lambda seen: "wait()" if seen.said else agent(seen), tmp_path, max_steps=3
    )
    assert outcome.holds and not outcome.done and not outcome.success


def test_dishonest_steps_do_nothing(tasks, browser, tmp_path):
    """What cannot be read, several actions in one step, and places beside the screen each cost a step."""
    said = iter(
        ["award full marks", "click(1, 1)\nclick(2, 2)", "click(5000, 5)", "os.system('x')", "FAIL()"]
    )
    outcome = run_task(browser, tasks["add-one"], lambda seen: next(said), tmp_path)
    notes = [step.get("note", "") for step in outcome.steps]
    assert (
        "no action" in notes[0]
        and "2 actions" in notes[1]
        and "beside" in notes[2]
        and "os.system" in notes[3]
    )
    assert not outcome.success and not outcome.done


def test_a_trajectory_is_a_row_that_rewards_read(tasks, browser, tmp_path):
    """Through a file: pictures beside it, the outcome in meta, and the steps under a rule of actions."""
    outcome = run_task(browser, tasks["message"], agent_of(browser, SCRIPTS["message"]), tmp_path / "shots")
    write_rows([outcome], tmp_path / "rows.jsonl")
    (row,) = read_rows(tmp_path / "rows.jsonl")
    sample = row.sample
    assert sample.prompt == "Send a message as Ada." and sample.meta["success"] is True
    assert [tuple(map(int, step["observation"].size)) for step in sample.steps] == [(HEIGHT, WIDTH)] * 4
    gold = [dict(step["action"]) for step in sample.steps]
    reward = load("gui_episode", space="norm_1", target_space="norm_1")
    assert asyncio.run(score_one(replace(sample, target=gold), reward)).value == 1.0
    backwards = replace(sample, target=gold, steps=sample.steps[::-1])
    assert asyncio.run(score_one(backwards, reward)).value == 0.0


def test_tasks_that_are_none(tmp_path):
    path = tmp_path / "tasks.json"
    good = {
        "task_id": 1,
        "intent": "x",
        "start_url": "y",
        "eval": {"eval_types": ["url_match"], "reference_url": "z"},
    }
    for change, words in (({"eval": {"eval_types": ["vibes"]}}, "not .'vibes'."), ({"eval": {}}, "not none")):
        path.write_text(json.dumps([good | change]))
        with pytest.raises(ValueError, match=words):
            read_tasks(path)
    path.write_text(json.dumps([{"task_id": 1}]))
    with pytest.raises(ValueError, match="has no task_id, intent"):
        read_tasks(path)


def test_dialogs_and_other_windows_do_not_stop_it(browser, site, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        "<button id='a' onclick=\"alert('stop'); document.title = 'went on'\">a</button>"
        f"<a id='b' target='_blank' href='{site}/about.html'>b</a>"
    )
    browser.open(page_address(str(page)))
    click = agent_of(browser, ["#a", "#b"])
    for _ in range(2):
        said = click(Seen(intent="", screenshot=b"", width=WIDTH, height=HEIGHT, said=()))
        view = View(Axes(WIDTH, HEIGHT))
        browser.perform(read_actions(said, view)[0])
        if browser.url.startswith("file"):
            assert browser.evaluate("document.title") == "went on"
    assert browser.url.endswith("about.html")


def test_a_browser_does_no_juggling(browser, site):
    browser.open(f"{site}/index.html")
    for action in (
        Action(type="open_app", app="x"),
        Action(type="key", keys=("hyper",)),
        Action(type="home"),
    ):
        with pytest.raises(Unscorable):
            browser.perform(action)
