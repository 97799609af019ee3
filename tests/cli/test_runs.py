"""Runs of `mmreward score` that meet other data, other writers, signals and full disks: real processes."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support import forked
from support.pace import allowed
from support.processes import heeding_interrupts

from mmreward import Score
from mmreward.cli import exits
from mmreward.data.pair_folder import ending_of, read_pairs
from mmreward.data.pairs import pair_file
from mmreward.data.results import Result, read, write
from mmreward.evals.report.report import write_report

RIGHT = "<think>It has whiskers.</think><answer>cat</answer>"
LABEL = ("--reward", "label", "--max-failures", "1")


def mmreward(*arguments, **options):
    if not options:
        return forked.python("-m", "mmreward.cli", *arguments)
    command = [sys.executable, "-m", "mmreward.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def one_line(done, code):
    lines = done.stderr.strip().splitlines()
    assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
    return lines[-1]


def rows_file(path, ids, target="cat", **columns):
    rows = [{"id": name, "prompt": "What?", "response": RIGHT, "target": target, **columns} for name in ids]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(params=["parquet", "jsonl"])
def out(request, tmp_path):
    return tmp_path / f"scores.{request.param}"


# --- other data, changed data -------------------------------------------------------------------------------


def test_other_data_is_added_to_the_file(tmp_path, out):
    """Also where it has the same ids; the same rows in another list are no other data."""
    first, second = rows_file(tmp_path / "a.jsonl", "pq"), rows_file(tmp_path / "b.jsonl", "qr", "dog")
    mmreward("score", first, *LABEL, "--out", out)
    done = mmreward("score", second, *LABEL, "--out", out)
    assert "2 rows, 2 new scores, 2 other scores stay" in done.stdout
    stored = [(row.id, row.data, row.value) for row in read(out)]
    assert sorted(stored) == [
        ("p", "a.jsonl", 1.0),
        ("q", "a.jsonl", 1.0),
        ("q", "b.jsonl", 0.0),
        ("r", "b.jsonl", 0.0),
    ]
    assert "0 new scores, 2 other scores stay" in mmreward("score", first, *LABEL, "--out", out).stdout
    assert sorted((row.id, row.data, row.value) for row in read(out)) == sorted(stored)
    longer = tmp_path / "longer.jsonl"
    longer.write_text(first.read_text() + second.read_text().replace('"q"', '"s"'))
    done = mmreward("score", longer, *LABEL, "--out", out)
    assert "2 new scores" not in done.stdout and len(read(out)) == 5


def test_rows_that_have_left_the_data_keep_their_scores(tmp_path, out):
    data = rows_file(tmp_path / "a.jsonl", "pqr")
    mmreward("score", data, *LABEL, "--out", out)
    rows_file(data, "s")
    assert "1 new scores, 3 other scores stay" in mmreward("score", data, *LABEL, "--out", out).stdout
    assert [row.id for row in read(out)] == ["s", "p", "q", "r"]


@pytest.fixture
def drawn(tmp_path):
    """A folder of pictures with prompts, and the scores of two rewards for them: the redder the better."""
    folder = tmp_path / "drawn"
    folder.mkdir()
    for index, red in enumerate((250, 0, 120, 60)):
        Image.new("RGB", (8, 8), (red, 0, 0)).save(folder / f"{index}.bmp")  # all of one size
        (folder / f"{index}.txt").write_text("a red square")
    return folder


def scored(folder, out):
    done = mmreward("score", folder, "--reward", "saturation", "--out", out, "--max-failures", "1")
    assert done.returncode == 0, done.stderr
    rows = [Result.of(r.id, "red", r.score, "f", r.input, r.content) for r in read(out)]
    for index, value in enumerate((1.0, 0.0, 0.5, 0.25)):
        rows[index] = Result.of(
            rows[index].id, "red", Score(value), "f", rows[index].input, rows[index].content
        )
    other = out.with_name("red.parquet")
    write(other, rows, {"data": folder.name, "rewards": {"red": {"range": [0, 1]}}})
    return other


def swap(one, two):
    aside = one.with_suffix(".aside")
    one.rename(aside)
    two.rename(one)
    aside.rename(two)


def test_pictures_that_were_swapped_are_no_pair_of_their_old_scores(drawn, tmp_path):
    """Size and time of the files do not tell: they were drawn in the same moment, and moved."""
    results = scored(drawn, tmp_path / "scores.parquet")
    for file in drawn.glob("*.bmp"):
        os.utime(file, ns=(10**18, 10**18))
    swap(drawn / "0.bmp", drawn / "1.bmp")
    summary = pair_file(drawn, [results], tmp_path / "pairs", reward="red")
    (pair,) = read_pairs(tmp_path / "pairs")
    assert summary.changed == 2 and "changed since they were scored 2" in str(summary)
    assert (pair.facts["chosen_id"], pair.facts["rejected_id"]) == ("2.bmp", "3.bmp")
    page = write_report(results).read_text()
    assert "changed since" in page and "0.bmp" not in page and "2.bmp" in page
    again = mmreward("score", drawn, "--reward", "saturation", "--out", tmp_path / "scores.parquet")
    assert "4 rows, 2 new scores" in again.stdout


def test_when_all_have_changed_it_is_said(drawn, tmp_path):
    results = scored(drawn, tmp_path / "scores.parquet")
    for file in drawn.glob("*.bmp"):
        Image.new("RGB", (8, 8), (1, 2, int(file.stem))).save(file)
    message = "have changed since"
    assert message in one_line(mmreward("pairs", drawn, results, "--out", tmp_path / "pairs"), 2)
    assert message in one_line(mmreward("report", results), 2)


def test_a_copy_of_the_data_is_the_same_data(drawn, tmp_path):
    """Whatever the times of its files."""
    results = scored(drawn, tmp_path / "scores.parquet")
    for file in drawn.iterdir():
        os.utime(file, ns=(10**18, 10**18))
    assert pair_file(drawn, [results], tmp_path / "pairs", reward="red").changed == 0
    again = mmreward("score", drawn, "--reward", "saturation", "--out", tmp_path / "scores.parquet")
    assert "4 rows, 0 new scores" in again.stdout


def test_a_picture_is_never_paired_with_a_clip_and_files_have_their_true_ending(drawn, tmp_path):
    frames = [Image.new("RGB", (8, 8), (0, 0, 60 * n)) for n in range(3)]
    frames[0].save(tmp_path / "clip.gif", save_all=True, append_images=frames[1:], duration=100)
    Image.new("RGB", (8, 8), "blue").save(tmp_path / "misnamed.png", "JPEG")
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.avif")
    rows = [
        {"id": "clip", "prompt": "x", "video": "clip.gif"},
        {"id": "jpeg", "prompt": "x", "image": "misnamed.png"},
        {"id": "avif", "prompt": "x", "image": "a.avif"},
    ]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = [
        Result.of(name, "r", Score(value), "f", "")
        for name, value in (("clip", 1), ("jpeg", 0.5), ("avif", 0))
    ]
    write(tmp_path / "s.parquet", made, {})
    pair_file(tmp_path / "data.jsonl", [tmp_path / "s.parquet"], tmp_path / "pairs")
    (pair,) = read_pairs(tmp_path / "pairs")
    assert (pair.facts["chosen_id"], pair.facts["rejected_id"]) == ("jpeg", "avif")
    assert (pair.chosen.source.suffix, pair.rejected.source.suffix) == (".jpg", ".avif")
    assert (
        ending_of(b"\x00\x00\x00\x18ftypmp42", "video") == ".mp4" and ending_of(b"\x00" * 64, "video") == ""
    )


def test_two_results_have_two_pages(tmp_path):
    data = rows_file(tmp_path / "data.jsonl", "ab")
    for name in ("A.parquet", "B.parquet", "A.jsonl", "scores.parquet"):
        mmreward("score", data, *LABEL, "--out", tmp_path / "runs" / name)
    pages = [write_report(tmp_path / "runs" / name).name for name in ("A.parquet", "B.parquet", "A.jsonl")]
    assert pages == ["A.parquet.html", "B.html", "A.jsonl.html"]
    assert (
        write_report(tmp_path / "runs").name
        == write_report(tmp_path / "runs/scores.parquet").name
        == "report.html"
    )


def test_a_page_shows_all_data_sets_or_the_one_that_is_asked_for(tmp_path, out):
    mmreward("score", rows_file(tmp_path / "a.jsonl", "pq"), *LABEL, "--out", out)
    mmreward("score", rows_file(tmp_path / "b.jsonl", "qr", "dog"), *LABEL, "--out", out)
    page = write_report(out).read_text()
    assert all(name in page for name in ("q (a.jsonl)", "q (b.jsonl)"))
    page = write_report(out, data=tmp_path / "a.jsonl").read_text()
    assert "q (" not in page and "<bdi>r</bdi>" not in page and "of other data" in page


# --- what fails once, and what is grouped -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--reward", "label", "--device", "cudda"), "no device named 'cudda': did you mean 'cuda'?"),
        (("--reward", "label", "--device", "cuda:99"), "cuda:99"),
        (("--reward", "clipscore:weights=nobody/nothing-at-all"), "nobody/nothing-at-all cannot be loaded"),
        (("--reward", "clipscore:weights=./nowhere"), "no weights at ./nowhere"),
        (
            ("--reward", "listener:listener=m@http://127.0.0.1:9/v1"),
            "no server at 127.0.0.1:9 (Connection refused)",
        ),
        (("--reward", "label", "--reward", "label:field=x"), "label is given twice"),
        (
            ("--reward", "a=label", "--reward", "a=label"),
            "--reward a2=label (name=reward:ARGUMENT=VALUE,...)",
        ),
        (("--reward", "=label"), "expected NAME:ARGUMENT=VALUE"),
    ],
)
def test_what_can_work_for_no_row_fails_once_and_stores_nothing(drawn, tmp_path, arguments, message):
    began = time.monotonic()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = mmreward("score", drawn, *arguments, "--out", tmp_path / "s.jsonl", env=environment)
    assert message in one_line(done, 2), done.stderr
    assert not (tmp_path / "s.jsonl").exists() and not (tmp_path / "s.jsonl.parts").exists()
    assert time.monotonic() - began < allowed(60, time.monotonic)


def test_the_end_of_a_process_is_spared_a_search_unless_nanobind_looks_for_leaks(monkeypatch):
    """nanobind lists on stderr what a process leaves behind, dozens of lines after the one that counts."""
    frozen = []
    monkeypatch.setattr(exits.gc, "freeze", lambda: frozen.append(True))
    there = any(kind.__module__ == "nanobind" for kind in type.__subclasses__(type))  # triton's, in new ones
    exits._spare()
    assert frozen == ([] if there else [True])
    kind = type("nb_meta", (type,), {"__module__": "nanobind"})
    frozen.clear()
    exits._spare()
    assert kind.__module__ == "nanobind" and not frozen


def test_two_rewards_of_one_kind_have_names_of_their_own(tmp_path, out):
    data = rows_file(tmp_path / "a.jsonl", "p")
    done = mmreward("score", data, "--reward", "one=label", "--reward", "two=label", "--out", out)
    assert done.returncode == 0 and Counter(row.reward for row in read(out)) == {"one": 1, "two": 1}


def test_the_summary_groups_failures_by_reason(tmp_path, out):
    rows = [{"id": f"r{i}", "prompt": "x", "image": f"gone-{i}.png"} for i in range(5)]
    rows += [{"id": "blank", "prompt": "", "image": "gone.png"}]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = mmreward("score", tmp_path / "d.jsonl", "--reward", "saturation", "--out", out)
    assert done.returncode == 3
    assert "x saturation: missing, no file at" in done.stderr and "(such as r0)" in done.stderr
    assert "--retry-failed" in done.stderr and done.stderr.count("no file at") == 1


FLAKY = """
import sys
from pathlib import Path
from mmreward import Engine, Score, load, reward
from mmreward.data.run import score_file

@reward("flaky", needs=(), range=(0, 1))
def flaky():
    "A toy."
    async def score(sample):
        if sample.id in sys.argv[3]:
            raise ConnectionResetError("the server went away")
        return Score(1.0)
    return score

with Engine("cpu") as engine:
    summary = score_file(Path(sys.argv[1]), {"flaky": load("flaky")}, Path(sys.argv[2]), engine)
print(summary.fresh, summary.failed, *summary.failures)
"""


def test_a_failure_that_is_no_rows_fault_is_tried_again_by_itself(tmp_path, out):
    data = rows_file(tmp_path / "a.jsonl", "pqr")

    def run(failing):
        command = [sys.executable, "-c", FLAKY, str(data), str(out), failing]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert run("q").stdout.startswith("3 1 1 x flaky: error, unavailable here: ConnectionResetError")
    assert run("").stdout == "1 0\n"
    out.unlink()
    done = run("pqr")
    assert "flaky can be computed for no row" in done.stderr and not out.exists()


# --- one bad thing ------------------------------------------------------------------------------------------


def test_one_string_that_is_no_text_costs_its_row(tmp_path, out):
    raw = pa.array([b"a cat", b"\xff\xfe", b"a dog"]).buffers()
    prompts = pa.Array.from_buffers(pa.string(), 3, raw)
    texts = {"response": [RIGHT] * 3, "target": ["cat"] * 3}
    table = pa.table({"id": ["a", "b", "c"], "prompt": prompts, **texts})
    pq.write_table(table, tmp_path / "d.parquet")
    done = mmreward("score", tmp_path / "d.parquet", *LABEL, "--out", out)
    assert done.returncode == 0, done.stderr
    stored = {row.id: row for row in read(out)}
    assert stored["a"].value == stored["c"].value == 1.0
    assert "column 'prompt' is not UTF-8" in stored["000001"].note


def test_damaged_files_are_one_line_with_their_name(tmp_path):
    data = rows_file(tmp_path / "a.jsonl", "p")
    torn = tmp_path / "torn.parquet"
    pq.write_table(pa.table({"id": ["a"] * 1000}), torn)
    torn.write_bytes(torn.read_bytes()[:-30])
    assert "torn.parquet" in one_line(mmreward("score", torn, *LABEL, "--out", tmp_path / "s.parquet"), 4)
    assert "torn.parquet" in one_line(mmreward("score", data, *LABEL, "--out", torn), 4)
    assert "torn.parquet" in one_line(mmreward("report", torn), 2)
    assert "torn.parquet" in one_line(mmreward("pairs", data, torn, "--out", tmp_path / "pairs"), 4)
    lines = tmp_path / "s.jsonl"
    lines.write_text('{"id": "a"\n')
    assert "s.jsonl, line 1: not JSON" in one_line(mmreward("score", data, *LABEL, "--out", lines), 2)


def small_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path, out):
    data = rows_file(tmp_path / "a.jsonl", "p")
    mmreward("score", data, *LABEL, "--out", out)
    before = out.read_bytes()
    rows_file(data, [f"row {i}" for i in range(2000)])
    done = mmreward("score", data, *LABEL, "--out", out, preexec_fn=small_files)
    assert out.name in one_line(done, 4) and "File too large" in done.stderr
    assert out.read_bytes() == before and not list(tmp_path.glob(".*"))
    assert mmreward("score", data, *LABEL, "--out", out).returncode == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    data = rows_file(tmp_path / "a.jsonl", "p")
    (tmp_path / "closed").mkdir(mode=0o500)
    assert "closed" in one_line(mmreward("score", data, *LABEL, "--out", tmp_path / "closed/s.jsonl"), 4)


def test_an_out_beneath_a_file_is_one_line(tmp_path):
    data = rows_file(tmp_path / "a.jsonl", "p")
    assert "a.jsonl" in one_line(mmreward("score", data, *LABEL, "--out", data / "s.jsonl"), 4)


# --- signals and two writers --------------------------------------------------------------------------------

SLOW = Path(__file__).with_name("score_stopped.py")


@pytest.fixture
def slow(tmp_path, out):
    """A run of 400 rows of 5 ms, whose shards would be written after 5 s only."""
    data = rows_file(tmp_path / "slow.jsonl", [str(i) for i in range(400)])
    log = tmp_path / "log"

    def start():
        command = [sys.executable, str(SLOW), "score", str(data), "--reward", "slow", "--out", str(out)]
        environment = {**os.environ, "SLOW_LOG": str(log)}
        with heeding_interrupts():
            return subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
            )

    started = []

    def begun():
        process = start()
        started.append(process)
        seen = log.stat().st_size if log.exists() else 0
        deadline = time.monotonic() + 60
        while (not log.exists() or log.stat().st_size < seen + 120) and time.monotonic() < deadline:
            time.sleep(0.01)
        return process

    yield begun, log, out
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_keeps_what_was_scored(slow, number, code):
    begun, log, out = slow
    process = begun()
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code and "Traceback" not in errors, errors
    scored = set(log.read_text().split())
    shards = out.with_name(out.name + ".parts").glob("[0-9]*")
    kept = {row.id for shard in shards for row in read(shard)}
    assert len(kept) > 20 and len(scored - kept) <= 4, "at most what was under way is lost"
    assert not list(out.parent.glob(".*")), "the lock has gone"
    again = begun()
    output, _ = again.communicate(timeout=60)
    assert again.returncode == 0 and f"400 rows, {400 - len(kept)} new scores" in output


def test_a_second_run_into_the_same_file_is_refused_and_harms_nothing(slow):
    begun, _, out = slow
    first = begun()
    second = mmreward("score", out.parent / "slow.jsonl", *LABEL, "--out", out)
    assert f"is being written by process {first.pid} on" in one_line(second, 2)
    _, errors = first.communicate(timeout=60)
    assert first.returncode == 0, errors
    assert len(read(out)) == 400


def test_a_killed_run_leaves_no_lock_that_holds(slow):
    begun, _, out = slow
    first = begun()
    first.kill()
    first.communicate()
    assert begun().wait(60) == 0 and len(read(out)) == 400
