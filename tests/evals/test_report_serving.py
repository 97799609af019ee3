"""A page that follows a run: what it shows of one that goes on, when it changes, and whom it answers."""

import threading
from http.client import HTTPConnection
from pathlib import Path

import pytest
from support.scored_runs import make_run, oks

from mmreward.data.results import Result, Results
from mmreward.evals.report.report import made
from mmreward.evals.report.serving import Live, server_of
from mmreward.types import Score


@pytest.fixture
def asked():
    """Serves a page; answers (status, text) of a path, asked under a host's name."""
    servers = []

    def serve(live):
        server = server_of(live, 0)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

        def ask(path, host="127.0.0.1"):
            connection = HTTPConnection("127.0.0.1", server.server_port)
            connection.request("GET", path, headers={"Host": host})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

        return ask

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def live(run):
    return Live(run, lambda: made(run, so_far=True)[1])


def test_it_shows_what_is_on_disk_and_changes_with_it(tmp_path: Path, asked) -> None:
    """Before the first score, after some, and at the end, without the run's help."""
    (tmp_path / "samples.jsonl").write_text('{"id": "a", "prompt": "one"}\n{"id": "b", "prompt": "two"}\n')
    out = tmp_path / "scores.parquet"
    ask = asked(live(out))
    status, words = ask("/")
    assert status == 200 and "Nothing to show yet" in words and "no results at" in words
    before = ask("/version")[1]
    results = Results(out, {"data": "samples.jsonl", "title": "night run"})
    results.add(Result.of("a", "quality", Score(0.25), "f", ""))
    results.flush()
    assert ask("/version")[1] != before and not out.exists()
    words = ask("/")[1]
    assert "night run" in words and "1 of 1" in words and f'"{ask("/version")[1]}"' in words
    results.add(Result.of("b", "quality", Score(0.75), "f", ""))
    results.finish([("a", "quality"), ("b", "quality")])
    words = ask("/")[1]
    assert "2 of 2" in words and "connect-src 'self'" in words and words.count("</body>") == 1


def test_the_page_is_made_once_for_one_state_of_the_run(tmp_path: Path, asked) -> None:
    run, made_times = make_run(tmp_path, {"quality": oks(0.1, 0.9)}), []
    ask = asked(Live(run, lambda: made_times.append(1) or made(run)[1]))
    assert ask("/")[1] == ask("/")[1] and len(made_times) == 1


def test_it_answers_this_machine_alone_and_nothing_else(tmp_path: Path, asked) -> None:
    ask = asked(live(make_run(tmp_path, {"quality": oks(0.1, 0.9)})))
    assert ask("/", host="localhost:8193")[0] == 200
    assert ask("/", host="evil.example")[0] == 403
    assert ask("/../samples.jsonl")[0] == 404
