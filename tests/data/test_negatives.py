"""Negatives of successful clips: rules of commands, a verifier that says no, cuts, and runs that go on."""

import json

import av
import numpy as np
import pytest
from support.chatserver import ChatServer, Reply, completion, shown
from typer.testing import CliRunner

from mmreward import Media, Unscorable
from mmreward.cli import app
from mmreward.data.cuts import cut, looks
from mmreward.data.negatives import Making
from mmreward.data.relabel import Command, checked_plan, rule_broken
from mmreward.data.relabel import Plan as Scene
from mmreward.data.rows import read_rows

SCENE = Scene(objects=["red cup", "blue plate", "spoon"], main="red cup", happened="The cup was moved.")
TASK = "Put the red cup on the blue plate."
COMMANDS = {
    1: ("Pick up the spoon.", "spoon"),
    2: ("Carry the red cup around the table.", "red cup"),
    3: ("Put the red cup under the blue plate.", "red cup"),
    4: ("Put the red cup upside down on the blue plate.", "red cup"),
}


def film(path, frames=9, size=(16, 32), rate=2):
    with av.open(str(path), mode="w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        for number in range(frames):
            picture = np.full((*size, 3), 25 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    film(folder / "a.mp4")
    film(folder / "b.mp4", frames=6)
    rows = [
        {"id": "a", "prompt": TASK, "video": "a.mp4", "score": "5", "source": "kitchen"},
        {"id": "b", "prompt": TASK, "video": "b.mp4", "score": 2},
        {"id": "c", "prompt": TASK, "video": "gone.mp4", "score": 5},
    ]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "rows.jsonl"


class Models:
    """A server that is writer and verifier; `refuse(question)` says what the verifier does not confirm."""

    def __init__(self, refuse=lambda question: False, replies=COMMANDS):
        self.refuse, self.replies = refuse, replies
        self.asked = []

    def __call__(self, request):
        if request.path != "/v1/chat/completions":
            return Reply(b"", 404)
        parts = request.body["messages"][-1]["content"]
        text = parts if isinstance(parts, str) else " ".join(one.get("text", "") for one in parts)
        self.asked.append((text, 0 if isinstance(parts, str) else sum("text" not in one for one in parts)))
        if "Say as JSON alone what can be seen" in text:
            return Reply(completion(SCENE.model_dump_json()))
        if "Write other commands" in text:
            found = [{"label": k, "command": c, "object": o} for k, (c, o) in self.replies.items()]
            return Reply(completion(json.dumps({"commands": found})))
        yes = "fulfilled already" not in text and not self.refuse(text)
        words = ("yes", "no") if yes else ("no", "yes")
        return Reply(shown((words[0], -0.05), (words[1], -3.0), *((f"w{i}", -17.0 - i) for i in range(18))))


def run(clips, out, server, *more):
    words = ["negatives", clips, "--out", out, "--verifier", f"any@{server.url}", "--device", "cpu", *more]
    result = CliRunner().invoke(app, list(map(str, words)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_success_becomes_eight_negatives_with_where_they_come_from(clips, tmp_path):
    out = tmp_path / "negatives"
    models = Models()
    with ChatServer(models) as server:
        result = run(clips, out, server, "--label", "score", "--max-failures", "60%")
        first = len(models.asked)
        again = run(clips, out, server, "--label", "score", "--max-failures", "60%")
        assert len(models.asked) == first, "what is in the journal is not asked again"
    assert result.exit_code == 0 and "3 clips, 1 of them no success" in result.output
    assert "8 of 16 wanted" in result.output and "3 were done before" in again.output
    rows = {row.id: row.sample for row in read_rows(out / "negatives.jsonl")}
    assert list(rows) == [f"a#{kind}-{label}" for kind in ("counterfactual", "clip") for label in range(1, 5)]
    for label, (command, _) in COMMANDS.items():
        sample = rows[f"a#counterfactual-{label}"]
        assert (sample.prompt, sample.target, sample.source) == (command, label, "kitchen")
        assert sample.video.digest == Media(clips.parent / "a.mp4", "video").digest, "the same bytes"
        came = sample.meta["negative"]
        assert came["parent"] == "a" and came["parent_prompt"] == TASK and came["attempt"] == 1
        assert came["plan"] == SCENE.model_dump() and came["deserved"] > 0.9 > 0.1 > came["fulfilled_before"]
        early = rows[f"a#clip-{label}"]
        last = early.meta["negative"]["last"]
        assert early.prompt == TASK and early.video.frames == last + 1 < 9
        assert early.video.source.name.endswith(f"_attempt_1_score_{label}.mp4")
        assert "writer" not in early.meta["negative"] and "verifier" in early.meta["negative"]
    assert len({row.meta["cluster"] for row in rows.values()}) == 1, "rows of one clip are one unit"
    assert [rows[f"a#clip-{k}"].meta["negative"]["last"] for k in range(1, 5)] == sorted(
        rows[f"a#clip-{k}"].meta["negative"]["last"] for k in range(1, 5)
    )
    seen = [number for text, number in models.asked if "Say as JSON" in text]
    assert seen == [5], "one picture a second of four seconds, the first and the last among them"


def test_steps_that_cameras_see_become_clips(tmp_path):
    from PIL import Image

    steps = []
    for number in range(6):
        for view in ("top", "hand"):
            shade = 30 * number + (5 if view == "hand" else 0)
            Image.new("RGB", (32, 16), (shade,) * 3).save(tmp_path / f"{view}{number}.png")
        seen = {view: f"{view}{number}.png" for view in ("top", "hand")}
        steps.append({"observation": seen, "time": number / 2})
    row = {"id": "e", "prompt": TASK, "steps": steps, "score": 5}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    data, out = tmp_path / "rows.jsonl", tmp_path / "n"
    with ChatServer(Models()) as server:
        lost = run(data, tmp_path / "lost", server, "--label", "score")
        assert lost.exit_code == 3 and "name one view" in lost.output
        run(data, out, server, "--label", "score", "--view", "top", "--labels", "1,4")
    rows = {found.id: found.sample for found in read_rows(out / "negatives.jsonl")}
    assert list(rows) == [f"e#{kind}-{label}" for kind in ("counterfactual", "clip") for label in (1, 4)]
    whole, early = rows["e#counterfactual-1"].video, rows["e#clip-1"].video
    assert whole.frames == 6 and whole.times == pytest.approx([n / 2 for n in range(6)], abs=1e-3)
    assert early.frames < 6 and np.abs(whole.array()[:, 0, 0, 0].astype(int) - 30 * np.arange(6)).max() < 4


def test_what_the_verifier_refuses_goes_back_and_is_given_up(clips, tmp_path):
    models = Models(refuse=lambda text: "upside down" in text or "Is it true that nearly" in text)
    with ChatServer(models) as server:
        result = run(clips, tmp_path / "n", server, "--label", "score", "--tries", "2")
    assert result.exit_code == 3 and "6 of 16 wanted" in result.output
    labels = [row.sample.target for row in read_rows(tmp_path / "n" / "negatives.jsonl")]
    assert labels == [1, 2, 3, 1, 2, 3]
    told = [text for text, _ in models.asked if "These were tried" in text]
    assert len(told) == 1 and "does not deserve label 4" in told[0] and "- label 1" not in told[0]
    journal = [json.loads(line) for line in (tmp_path / "n" / "journal.jsonl").read_text().splitlines()]
    reasons = next(one["reasons"] for one in journal if one["id"] == "a")
    assert reasons[0].startswith("counterfactual 4: the clip does not deserve label 4")
    assert reasons[1] == "clip 4: no end was confirmed in 2 tries"


def test_a_command_that_the_first_picture_fulfils_is_refused(clips, tmp_path):
    class Early(Models):
        def __call__(self, request):
            reply = super().__call__(request)
            text = self.asked[-1][0] if self.asked else ""
            if "fulfilled already" in text and "spoon" in text:
                return Reply(shown(("yes", -0.05), ("no", -3.0), *((f"w{i}", -17.0) for i in range(18))))
            return reply

    with ChatServer(Early()) as server:
        run(clips, tmp_path / "n", server, "--label", "score", "--kind", "counterfactual", "--tries", "1")
    rows = [row.sample.target for row in read_rows(tmp_path / "n" / "negatives.jsonl")]
    assert rows == [2, 3, 4]


def test_without_labels_the_verifier_says_what_is_a_success(clips, tmp_path):
    models = Models(refuse=lambda text: "every requirement is met" in text)
    with ChatServer(models) as server:
        result = run(clips, tmp_path / "n", server)
    assert "2 of them no success" in result.output and "0 of 8 wanted" in result.output
    assert (tmp_path / "n" / "negatives.jsonl").read_text() == ""


def test_a_journal_that_was_cut_off_goes_on_and_other_settings_start_anew(clips, tmp_path):
    out, models = tmp_path / "n", Models()
    with ChatServer(models) as server:
        run(clips, out, server, "--label", "score", "--kind", "counterfactual")
        journal = out / "journal.jsonl"
        lines = journal.read_text().splitlines(keepends=True)
        journal.write_text(lines[0][:40])
        number = len(models.asked)
        said = run(clips, out, server, "--label", "score", "--kind", "counterfactual").output
        assert "0 were done before" in said and len(models.asked) == 2 * number
        more = run(clips, out, server, "--label", "score", "--kind", "counterfactual", "--seed", "1").output
        assert "0 were done before" in more
        assert len(list(read_rows(out / "negatives.jsonl"))) == 4


@pytest.mark.parametrize(
    ("label", "text", "object_", "words"),
    [
        (1, "Pick up the red cup.", "red cup", "another thing"),
        (3, "Put the spoon away.", "spoon", "not about 'red cup'"),
        (4, TASK.upper(), "red cup", "already"),
        (2, "Fahre zur T\u00fcr.", "spoon", "ASCII"),
        (2, "move " * 24 + "spoon", "spoon", "25 words"),
        (2, "Open the door.", "door", "cannot be seen"),
        (2, "Go on.", "spoon", "does not name"),
        (2, "", "spoon", "no sentence"),
        (2, "Wave.", "", "cannot be seen"),
        (1, "Pick up the spoon.", "spoon", ""),
        (4, "Turn the red cup.", "Red Cup", ""),
    ],
)
def test_rules_that_need_no_model(label, text, object_, words):
    reason = rule_broken(Command(label=label, command=text, object=object_), label, TASK, SCENE)
    assert (words in reason) if words else not reason
    assert "no command for label 2" in rule_broken(None, 2, TASK, SCENE)


def test_a_plan_needs_two_things_and_a_main_one():
    with pytest.raises(Unscorable, match="none of those"):
        checked_plan(SCENE.model_copy(update={"main": "lamp"}))
    with pytest.raises(Unscorable, match="one object alone") as caught:
        checked_plan(SCENE.model_copy(update={"objects": ["red cup", "Red cup"]}))
    assert caught.value.status == "na"


@pytest.mark.parametrize("size", [(16, 32), (15, 33)])
def test_a_cut_has_the_frames_and_times_of_the_source(tmp_path, size):
    pictures = np.random.default_rng(0).integers(0, 255, (6, 1, 1, 3)).repeat(size[0], 1).repeat(size[1], 2)
    clip = Media(pictures.astype(np.uint8), "video", fps=4)
    cut(clip, 3, tmp_path / "early.mp4")
    early = Media(tmp_path / "early.mp4", "video")
    assert early.frames == 4 and early.size == size
    assert early.times == pytest.approx((0, 0.25, 0.5, 0.75), abs=1e-3)
    assert np.abs(early.array().astype(int) - pictures[:4]).mean() < 6
    for last in (0, 6):
        with pytest.raises(Unscorable, match="no end"):
            cut(clip, last, tmp_path / "none.mp4")


def test_looks_are_one_a_second_and_the_last(tmp_path):
    clip = Media(film(tmp_path / "x.mp4", frames=8, rate=3), "video")
    assert looks(clip, 1.0, 16) == [0, 3, 6, 7] and looks(clip, 1.0, 3) == [0, 4, 7]
    assert looks(Media(np.zeros((1, 8, 8, 3), np.uint8), "video", fps=5), 1.0, 16) == [0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kinds": ("swap",)}, "counterfactual, clip"),
        ({"labels": (5,)}, "1 to 4"),
        ({"labels": ()}, "1 to 4"),
        ({"tries": 0}, "tries is 1"),
        ({"fps": 0}, "fps above 0"),
        ({"threshold": 0}, "threshold is 0"),
    ],
)
def test_arguments_that_make_no_sense(change, words):
    with pytest.raises(ValueError, match=words):
        Making(**change)
