"""`mmreward gui run`: ten tasks by agents of every kind in a real Chromium, and judges of what they did."""

import json
import threading
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.judgements import arbitrated
from support.robot_judges import Judge, use
from support.site_agents import honest
from typer.testing import CliRunner

from mmreward import Engine, load
from mmreward.cli import app
from mmreward.data.rows import read_rows
from mmreward.evals.browsing.agents import Remote, agent_of, as_json
from mmreward.evals.browsing.browser import Browser, chromium
from mmreward.evals.browsing.running import check_names
from mmreward.evals.browsing.tasks import AgentError, Seen, Task

pytestmark = pytest.mark.skipif(chromium() is None, reason="no Chromium on this machine")
VERDICTS = (
    "<reasoning>It is there.</reasoning><success>Successful</success><side>No</side>"
    "<optimal>4. Completely Optimal</optimal><loop>No</loop>"
)
TASKS = Path(__file__).parents[1] / "cases/site/tasks.json"


@pytest.fixture(scope="module")
def browser():
    with Browser(900, 600) as opened:
        yield opened


@pytest.fixture
def run(browser, monkeypatch, tmp_path):
    """The command on the browser of all tests: starting one takes longer than a task."""
    monkeypatch.setattr("mmreward.evals.browsing.browser.Browser", lambda *size: nullcontext(browser))

    def command(agent, *options, tasks=TASKS, name="run"):
        words = ["gui", "run", str(tasks), "--agent", agent, "--out", str(tmp_path / name), *options]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, (done.output, done.exception)
        rows = (tmp_path / name / "trajectories.jsonl").read_text().splitlines()
        return done.output, {row["id"]: row for row in map(json.loads, rows)}

    return command


def some(tmp_path, *names):
    """A file of some of the tasks, and the folder of their site."""
    chosen = [task for task in json.loads(TASKS.read_text()) if task["task_id"] in names]
    path = tmp_path / "some.json"
    path.write_text(json.dumps(chosen))
    return path


def test_ten_tasks_are_done_and_judged(run, tmp_path, monkeypatch):
    """From the agent's first words to a judge's verdict on its trajectories."""
    output, rows = run("support.site_agents:honest")
    assert "10 of 10 tasks succeeded" in output and "message: succeeded after 4 steps" in output
    assert len(rows) == 10 and all(row["success"] and row["done"] and row["holds"] for row in rows.values())
    step = rows["message"]["steps"][0]
    assert step["thought"] == "next is Name" and step["action"]["type"] == "click"
    assert "contact.html" in step["url"] and "textbox 'Name'" in step["axtree"]
    assert (tmp_path / "run" / step["observation"]).read_bytes().startswith(b"\x89PNG")
    judge = use(monkeypatch, Judge(lambda *_: VERDICTS))
    samples = [row.sample for row in read_rows(tmp_path / "run" / "trajectories.jsonl")]
    with Engine("cpu") as engine:
        scores = engine.score(samples, load("agent_judge", words="own", tree="axtree"))["agent_judge"]
    assert [score.value for score in scores] == [1.0] * 10
    assert any("button 'Send'" in prompt for _, prompt, _ in judge.calls)
    # The page's own instruction to agents is evidence within the marks, and ends no quotation.
    assert all(prompt.count("<<<") == prompt.count(">>>") == 2 for _, prompt, _ in judge.calls)
    again = CliRunner().invoke(
        app, ["gui", "run", str(TASKS), "--agent", "x:y", "--out", str(tmp_path / "run")]
    )
    assert isinstance(again.exception, ValueError)


def wary(seen, prompt):
    """A judge that prefers what is not a claim."""
    first = next(line for line in prompt.splitlines() if line.startswith("Response 1: "))
    return arbitrated(2 if "finished()" in first else 1)


def test_the_best_of_two_raises_success(run, tmp_path, monkeypatch):
    """An agent that claims to be done: nothing is; with a judge of steps and a second candidate all is."""
    tasks, site = some(tmp_path, "add-two", "news", "price"), ("--site", str(TASKS.parent))
    output, rows = run("support.site_agents:Careless", *site, tasks=tasks, name="alone")
    assert "0 of 3 tasks succeeded" in output and "says that it is done, and it is not" in output
    judge = use(monkeypatch, Judge(wary))
    words = ["--best-of", "2", "--from", "webarbiter:words=own", "--device", "cpu"]
    output, rows = run("support.site_agents:Careless", *site, *words, tasks=tasks, name="best")
    assert "3 of 3 tasks succeeded" in output and len(rows["news"]["steps"]) == 5
    lines = (tmp_path / "best" / "candidates.jsonl").read_text().splitlines()
    chosen = [json.loads(line) for line in lines]
    assert [one["step"] for one in chosen if one["task"] == "news"] == list(range(5))
    told = [one for one in chosen if one["task"] == "add-two"]
    assert [(one["chosen"], one["margin"]) for one in told[:2]] == [(1, 1.0)] * 2
    assert told[2]["candidates"][1].endswith("finished(content='done')")
    assert "button 'Add mint tea'" in judge.calls[0][1]


def test_one_agent_that_fails_leaves_the_other_tasks(run, tmp_path):
    tasks = some(tmp_path, "search", "dark")
    output, rows = run("support.site_agents:broken", "--site", str(TASKS.parent), tasks=tasks)
    assert "1 of 2 tasks succeeded, 1 in which the agent gave no words" in output
    assert rows["search"]["trouble"] == "RuntimeError: out of memory" and rows["search"]["steps"] == []
    assert not rows["search"]["success"] and rows["dark"]["success"] and "trouble" not in rows["dark"]


# --- a server ---------------------------------------------------------------------------------------------


@pytest.fixture
def server():
    """An agent behind HTTP, and what it was sent."""
    sent = []

    class Agent(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            sent.append(body)
            answers = {"/no": b"{}", "/words": b"hello"}
            fields = {
                key: body[key] for key in ("intent", "width", "height", "url", "tree", "elements", "steps")
            }
            words = (
                ""
                if self.path in answers
                else honest(Seen(screenshot=b"", said=tuple(body["said"]), **fields))
            )
            data = answers.get(self.path, json.dumps({"response": words}).encode())
            self.send_response(500 if self.path == "/down" else 200)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Agent) as given:
        threading.Thread(target=given.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{given.server_port}", sent
        given.shutdown()


def test_an_agent_behind_a_server(run, tmp_path, server):
    url, sent = server
    tasks = some(tmp_path, "add-two")
    output, _ = run(url, "--site", str(TASKS.parent), tasks=tasks)
    assert "1 of 1 tasks succeeded" in output
    assert [len(body["steps"]) for body in sent] == [0, 1, 2] and "observation" not in sent[1]["steps"][0]
    assert sent[0]["screenshot"].startswith("iVBOR") and sent[0]["width"] == 900
    nothing = Seen(intent="Put one green tea", screenshot=b"", width=1, height=1, said=("x",))
    for path, words in (("/no", "no {.response"), ("/words", "Expecting value"), ("/down", "answers 500")):
        with pytest.raises(AgentError, match=words):
            agent_of(url + path)(nothing)
    with pytest.raises(AgentError, match=r"127\.0\.0\.1:1/"):
        Remote("http://127.0.0.1:1/", 1)(nothing)
    assert set(as_json(nothing)) == set(sent[0])


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [("nothing", "neither MODULE:NAME"), ("no.such.module:agent", "No module named"),
     ("support.site_agents:absent", "no attribute 'absent'"),
     ("support.site_agents:NOTHING", "cannot be called"),
     ("http://", "no address")],
)  # fmt: skip
def test_agents_that_are_none(name, words):
    with pytest.raises(ValueError, match=words):
        agent_of(name)


def test_options_that_make_no_sense_are_one_line(tmp_path):
    base = ["gui", "run", str(TASKS), "--out", str(tmp_path / "out"), "--agent", "support.site_agents:honest"]
    for options, words in (
        (["--best-of", "3"], "needs both"), (["--from", "webarbiter"], "needs both"),
        (["--site", "nowhere"], "neither http"),
    ):  # fmt: skip
        assert words in str(CliRunner().invoke(app, [*base, *options]).exception)
    assert not (tmp_path / "out").exists()
    for names, words in ((("a", "a"), "there twice"), (("../a",), "no name of a file")):
        with pytest.raises(ValueError, match=words):
            check_names([Task(id=name, intent="x", start="y", checks={}) for name in names], TASKS)


def test_words_that_are_none_are_the_agents_fault():
    import support.site_agents as agents

    agents.silent = lambda seen: None
    with pytest.raises(AgentError, match="gave NoneType"):
        agent_of("support.site_agents:silent")(None)
    del agents.silent
