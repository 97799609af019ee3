"""What all published judges share: words, votes, both orders, and equal scores wherever they run."""

import hashlib
import sys
from dataclasses import replace

import numpy as np
import pytest
from support.chatserver import ChatServer, Reply, completion
from support.emulated import EmulatedVLLM
from support.judgements import ScriptedJudge, rational, rational_pair, ur_think

from mmreward import Engine, Media, Sample, load, models
from mmreward.mini.world import describe, render, sample_scene
from mmreward.models.pinned import Pin, literals
from mmreward.models.wants import collecting
from mmreward.models.weights import locate
from mmreward.rewards.published import rationalrewards as rr
from mmreward.rewards.published.declaring import frames
from mmreward.rewards.published.wording import Prompt, Wording, worded

COMPARE = (
    "Two pictures were made for the request: {prompt}\n"
    "Which one fits it better? Think first, then answer 1 or 2."
)
"""Words that the miniature was trained on, and answers in the grammar of Think."""


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


@pytest.fixture(scope="module")
def scripted():
    return ScriptedJudge().name


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(5)
    scenes = [sample_scene(rng) for _ in range(4)]
    return [
        Sample(id=str(row), prompt=str(describe(scenes[row - row % 2])), image=Media(render(scene, 64)),
               group=str(row // 2), inputs=(Media(render(scenes[row - row % 2], 64)),))
        for row, scene in enumerate(scenes)
    ]  # fmt: skip


# --- words ------------------------------------------------------------------------------------------------

SOURCE = """RULES = "Be fair."

def ask(prompt, n):
    return f"Judge [{prompt}] with {n + 1} words:\\n" + "{x}"
"""


def pin(text, symbol="ask", path="judge.py"):
    return Pin("someone/judges", "0" * 40, path, symbol, hashlib.sha256(text.encode()).hexdigest())


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "mmreward" / "published" / "someone" / "judges" / ("0" * 40)


def test_a_literal_is_found_by_its_hash_and_never_run(cache):
    published = pin("Judge [{}] with {} words:\n{x}")
    cache.mkdir(parents=True)
    (cache / "judge.py").write_text(SOURCE + "raise SystemExit('it was run')\n")
    assert published.text() == "Judge [{prompt}] with {n + 1} words:\n{x}"
    assert pin("Be fair.").text() == "Be fair."
    with pytest.raises(ValueError, match="has no text with the SHA-256"):
        pin("Be unfair.").text()
    (cache / "list.txt").write_text("Is there a dog?\n")
    assert pin("Is there a dog?\n", "", "list.txt").text() == "Is there a dog?\n"


def test_a_text_that_is_not_here_says_how_to_get_it(cache):
    with pytest.raises(ValueError) as raised:
        pin("x").text()
    assert "raw.githubusercontent.com/someone/judges/000" in str(raised.value) and str(cache) in str(
        raised.value
    )


@pytest.mark.parametrize("source", ["def (", "x = '" + "(" * 9000, "\0"])
def test_a_file_that_is_no_python_is_one_line(source):
    with pytest.raises(ValueError, match="no Python"):
        list(literals(source))


def test_fetch_is_told_of_the_text_and_of_the_weights(cache):
    with collecting() as wants:
        load("rationalrewards", judge="someone/weights")
    kinds = [(want.kind, want.use) for want in wants]
    assert kinds.count(("url", "published")) == 1 and kinds.count(("hub", "vlm")) == 1
    assert wants[0].name.startswith("https://raw.githubusercontent.com/X-GenGroup/Flow-Factory/")
    assert all(want.to.startswith(str(cache.parents[2])) for want in wants if want.kind == "url")


def test_published_words_are_asked_for_when_the_reward_is_loaded(cache):
    with pytest.raises(ValueError, match="curl -fL"):
        load("rationalrewards", judge="mini-vlm")
    with pytest.raises(ValueError, match="neither published, own nor a file"):
        load("rationalrewards", judge="mini-vlm", words="publshed")


def test_published_words_are_those_of_the_file(cache, monkeypatch, engine, scripted, samples):
    """A stand-in of our own words, at the place and in the form of the publisher's."""
    monkeypatch.setitem(rr.PAIR, "t2i", Prompt(pins=(pin("Compare two pictures made for the request "
        "{request}: <image>, then <image>."),), fields=rr.REQUEST, own="{prompt}"))  # fmt: skip
    cache.mkdir(parents=True)
    text = "Compare two pictures made for the request {request}: <image>, then <image>."
    (cache / "judge.py").write_text(f"ask = {text!r}\n")
    loaded = load("rationalrewards_pair", judge=scripted)
    assert all(score.ok for score in engine.score(samples, loaded)["rationalrewards_pair"])
    copy = cache / "copy.py"
    copy.write_text(f"if True:\n    x = [{text!r}]\n")
    assert load("rationalrewards_pair", judge=scripted, words=str(copy)).networks[0].fingerprint == (
        loaded.networks[0].fingerprint
    )


def test_words_of_a_file_are_in_the_fingerprint(tmp_path):
    file = tmp_path / "words.txt"
    prints = set()
    for text in ("Judge {prompt}.", "Judge it: {prompt}."):
        file.write_text(text)
        prints.add(load("rationalrewards", judge="mini-vlm", words=str(file)).fingerprint)
    prints.add(load("rationalrewards", judge="mini-vlm", words="own").fingerprint)
    assert len(prints) == 3
    file.write_text("Judge it.")
    with pytest.raises(ValueError, match=r"has no \{prompt\}"):
        load("rationalrewards", judge="mini-vlm", words=str(file))
    folder = tmp_path / "all"
    folder.mkdir()
    for name in ("axes_image", "axes_video"):
        (folder / f"{name}.txt").write_text(f"{name}: {{prompt}}")
    assert load("unifiedreward", judge="mini-vlm", words=str(folder)).args["words"] == str(folder)


def test_a_request_is_no_template():
    wording = Wording(
        "A {prompt} <image> B <image> {response}",
        "",
        (("{prompt}", "prompt"), ("{response}", "response")),
        "",
    )
    text, places = wording.filled({"prompt": "{response} <image>", "response": "{prompt}"})
    assert text == "A {response} <image>  B  {prompt}" and [text[at:] for at in places] == [
        " B  {prompt}",
        " {prompt}",
    ]


def test_words_that_were_never_published_say_so():
    with pytest.raises(ValueError, match="never published"):
        worded("published", Prompt(own="{prompt}"))


# --- votes and orders -------------------------------------------------------------------------------------


class Votes:
    """An app that answers with one text after the other, by the seed it is asked with."""

    def __init__(self, *texts):
        self.texts = texts

    def __call__(self, request):
        if request.path != "/v1/chat/completions":
            return Reply({"data": []})
        return Reply(completion(self.texts[request.body["seed"] % len(self.texts)]))


def voted(engine, samples, texts, name="rationalrewards", **args):
    with ChatServer(Votes(*texts)) as server:
        judge = load(name, judge=f"judge@{server.url}", words="own", **args)
        scores = engine.score(samples, judge)[name]
    return scores, server


def test_votes_are_averaged_and_their_spread_is_the_uncertainty(engine, samples):
    texts = [rational(4, 4, "N/A"), rational(1, 1, "N/A"), rational(2.5, 2.5, "N/A")]
    (score,), server = voted(engine, samples[:1], texts, votes=3, temperature=0.7)
    assert score.value == pytest.approx(0.5) and score.parts["text_faithfulness"] == 2.5
    assert score.parts["votes"] == 3 and score.parts["uncertainty"] == pytest.approx(np.std([0, 0.5, 1]))
    bodies = [request.body for request in server.asked("/v1/chat/completions")]
    assert sorted(body["seed"] for body in bodies) == [0, 1, 2] and {
        body["temperature"] for body in bodies
    } == {0.7}


def test_a_minority_of_votes_may_fail_and_a_half_may_not(engine, samples):
    good, bad = rational(4, 4, "N/A"), "Ich kann das nicht beurteilen."
    (score,), _ = voted(engine, samples[:1], [good, good, bad], votes=3, temperature=1.0)
    assert score.ok and score.value == 1.0 and score.parts["votes"] == 2
    (score,), _ = voted(engine, samples[:1], [good, bad], votes=2, temperature=1.0)
    assert score.status == "missing" and score.note.startswith(
        "1 of 2 votes failed, the first so: no judgement"
    )


def test_votes_without_temperature_are_refused():
    with pytest.raises(ValueError, match=r"temperature=0\.7"):
        load("rationalrewards", judge="mini-vlm", words="own", votes=3)
    with pytest.raises(ValueError, match="at least once"):
        load("rationalrewards", judge="mini-vlm", words="own", votes=0)


def test_a_judge_that_goes_by_the_place_is_a_tie_with_full_uncertainty(engine, samples):
    first = ur_think((9, 8), (7, 8), "Image 1 is better")
    scores, _ = voted(engine, samples[:2], [first], "unifiedreward_pair")
    for score in scores:
        assert score.value == 0.5 and score.parts == {"judged": 1.0, "swing": 1.0, "uncertainty": 0.5}


@pytest.mark.parametrize("text", [
    ur_think((9, 8), (7, 8), "Image 2 is better"),
    rational_pair((4, 1), (3, 1), ("N/A", "N/A"), winners=("Image B", "Image B", "N/A")),
])  # fmt: skip
def test_a_contradiction_fails_or_is_kept_and_said(engine, samples, text):
    name = "unifiedreward_pair" if "<think>" in text else "rationalrewards_pair"
    scores, _ = voted(engine, samples[:2], [text], name)
    assert {score.status for score in scores} == {"unparsable"}
    assert all("contradicts itself" in score.note for score in scores)
    scores, _ = voted(engine, samples[:2], [text], name, contradictions="keep")
    assert all(score.ok and score.parts["contradiction"] == 1.0 for score in scores)


def test_an_answer_that_is_cut_off_costs_its_row(engine, samples):
    cut = completion(rational(4, 4, "N/A"), "length")
    with ChatServer(lambda request: Reply(cut)) as server:
        judge = load("rationalrewards", judge=f"judge@{server.url}", words="own")
        (score,) = engine.score(samples[:1], judge)["rationalrewards"]
    assert score.status == "unparsable" and score.note.startswith("cut off")


# --- forms ------------------------------------------------------------------------------------------------

POINTS = [("rationalrewards", {"task": "edit"}), ("rationalrewards", {}), *(
    ("unifiedreward", {"form": form}) for form in ("final", "axes", "edit", "quality"))]  # fmt: skip
FORMS = ("rank", "shares", "think", "flex", "edit", "edit_marks")
PAIRS = [("rationalrewards_pair", {"task": "edit"}), ("rationalrewards_pair", {}), *(
    ("unifiedreward_pair", {"form": form}) for form in FORMS)]  # fmt: skip


@pytest.mark.parametrize(("name", "args"), [*POINTS, *PAIRS])
def test_every_form_scores_by_what_its_judge_writes(engine, samples, scripted, name, args):
    scores = engine.score(samples, load(name, judge=scripted, words="own", **args))[name]
    assert all(score.ok for score in scores), scores
    if (name, args) in PAIRS:
        assert all(
            a.value + b.value == pytest.approx(1) for a, b in zip(scores[::2], scores[1::2], strict=True)
        )
        assert all(score.parts["swing"] < 1e-3 for score in scores)


def test_an_edit_without_its_source_is_missing(engine, samples, scripted):
    bare = [replace(sample, inputs=()) for sample in samples[:2]]
    for name, args in (POINTS[0], PAIRS[0]):
        scores = engine.score(bare, load(name, judge=scripted, words="own", **args))[name]
        assert {score.status for score in scores} == {"missing"}
    other = [samples[0], replace(samples[1], inputs=samples[2].inputs)]
    scores = engine.score(other, load("rationalrewards_pair", judge=scripted, words="own", task="edit"))
    assert all("different sources" in score.note for score in scores["rationalrewards_pair"])


@pytest.mark.parametrize("total", [1, 2, 5, 8, 9, 30])
def test_frames_are_those_that_the_publishers_take(total):
    """Second writings of their two rules."""
    clip = Sample(video=Media(np.zeros((total, 8, 8, 3), np.uint8), "video", fps=2.0))
    floor, ends = (frames(8, rule)([clip]) for rule in ("floor", "ends"))
    assert [shot.number for shot in floor] == [int(i * total / 8) for i in range(8)]
    assert [shot.number for shot in ends] == np.linspace(0, total - 1, 8).astype(int).tolist()


# --- equal wherever they run ------------------------------------------------------------------------------


@pytest.fixture
def words(tmp_path):
    """Words in our own places, one with its pictures inside the text."""
    (tmp_path / "think_image.txt").write_text(COMPARE)
    (tmp_path / "think_video.txt").write_text(COMPARE.replace("pictures", "clips"))
    return str(tmp_path)


def equal(mine, theirs):
    for one, other in zip(mine, theirs, strict=True):
        assert (one.status, one.note, dict(one.parts)) == (other.status, other.note, dict(other.parts))
        assert one.value == pytest.approx(other.value, abs=1e-4, nan_ok=True)


def test_scores_are_equal_here_there_and_in_a_child(engine, samples, words):
    asked = [("unifiedreward_pair", {"words": words, "max_tokens": 300}),
             ("rationalrewards_pair", {"words": "own", "max_tokens": 64})]  # fmt: skip
    emulated = EmulatedVLLM(locate("mini-vlm"))
    for name, args in asked:
        here = engine.score(samples, load(name, judge="mini-vlm", **args))[name]
        child = load(name, judge="mini-vlm", python=sys.executable, **args)
        equal(engine.score(samples, child)[name], here)
        child.close()
        with ChatServer(emulated) as server:
            equal(engine.score(samples, load(name, judge=f"judge@{server.url}", **args))[name], here)
        assert any(score.ok for score in here) == (name == "unifiedreward_pair"), here


def test_votes_share_their_prompt(engine, samples):
    """Four votes read picture and prompt once, as one does; upstream's passes read them four times."""
    language = models.vlm("mini-vlm").network.module.model.language_model
    reads: list[int] = []

    def count(module, args, kwargs):
        reads.append(kwargs["inputs_embeds"].shape[:2].numel())

    for votes, temperature in ((1, 0.0), (4, 1.0)):
        judge = load(
            "rationalrewards",
            judge="mini-vlm",
            words="own",
            max_tokens=4,
            votes=votes,
            temperature=temperature,
        )
        engine.cache.clear()
        reads.append(-1)
        hook = language.register_forward_pre_hook(count, with_kwargs=True)
        engine.score(samples[:1], judge)
        hook.remove()
    one, four = reads[1 : reads.index(-1, 1)], reads[reads.index(-1, 1) + 1 :]
    assert one[0] == four[0] > 50, "the prompt"
    assert sum(four) <= 1.3 * one[0] + 4 * sum(one[1:]), "and what is written"
