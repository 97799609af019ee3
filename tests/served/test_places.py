"""Pictures within the text of a question, and clips on a served judge: as frames by rule, or as a file."""

import base64
import io

import numpy as np
import pytest
from support.chatserver import Reply, completion
from support.emulated import EmulatedVLLM

from mmreward import Media, models
from mmreward.engine.clips import spread
from mmreward.errors import Unscorable
from mmreward.mini.world import render, sample_scene
from mmreward.models.vlms.answers import Turn, asked, messages
from mmreward.models.weights import locate

TEXT = "First: \nSecond: \nWhich one fits a red circle better? Answer 1 or 2."
PLACES = (7, 16)


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(9)
    return [Media(render(sample_scene(rng), 64)) for _ in range(2)]


@pytest.fixture(scope="module")
def emulated():
    return EmulatedVLLM(locate("mini-vlm"))


def parts(places, text=TEXT, number=2):
    ask = asked([Media(np.zeros((8, 8, 3), np.uint8))] * number, text, places=places)
    return messages(ask, [[{"type": "image", "n": n}] for n in range(number)])[-1]["content"]


def test_pictures_stand_where_the_places_say():
    said = [part.get("text", part.get("n")) for part in parts(PLACES)]
    assert said == ["First: ", 0, "\nSecond: ", 1, TEXT[16:]]
    assert [part["type"] for part in parts((0, len(TEXT)))] == ["image", "text", "image"]
    assert (
        [part["type"] for part in parts((0, 0))]
        == ["image", "image", "text"]
        == [p["type"] for p in parts(())]
    )


@pytest.mark.parametrize("places", [(1,), (5, 2), (-1, 3), (0, len(TEXT) + 1)])
def test_places_that_are_none_are_refused(places):
    with pytest.raises(ValueError, match="rising places of 2 pictures"):
        parts(places)


def test_a_picture_in_another_place_is_another_question(pictures):
    first, second = asked(pictures, TEXT), asked(pictures, TEXT, places=PLACES)
    assert first.key != second.key and first.share != second.share


def test_a_later_question_shows_what_its_turn_brought(pictures, serve, gather, emulated):
    turns = [Turn("Look.", "Closer.", tuple(pictures[1:]), 6)]
    ask = asked(pictures[:1], TEXT, "", turns)
    first, _, last = messages(ask, [[{"type": "image", "n": 0}], [{"type": "image", "n": 1}]])
    assert [part.get("n", part.get("text")) for part in first["content"]] == [0, "Look."]
    assert [part.get("n", part.get("text")) for part in last["content"]] == ["First:", 1, TEXT[6:]]
    at_once = asked(pictures, TEXT, "", [Turn("Look.", "Closer.")])
    assert at_once.media == ask.media and at_once.key != ask.key
    with pytest.raises(ValueError, match="after 99 characters of a question of"):
        asked(pictures[:1], TEXT, "", [turns[0]._replace(at=99)])
    _, there = serve(emulated)
    here = models.vlm("mini-vlm")
    calls = [vlm.write(pictures[:1], TEXT, max_tokens=12, history=turns) for vlm in (here, there)]
    mine, theirs = gather(*calls)
    assert mine == theirs


def test_interleaved_answers_are_equal_here_and_there(serve, gather, emulated, pictures):
    _, there = serve(emulated)
    here = models.vlm("mini-vlm")
    for vlm in (here, there):
        vlm.calls = [
            vlm.write(pictures, TEXT, max_tokens=12, places=PLACES),
            vlm.write(pictures, TEXT, max_tokens=12),
            vlm.read(pictures, TEXT, ("1", "2"), places=PLACES),
            vlm.logprob(pictures, TEXT, "2", places=PLACES),
        ]
    mine, theirs = gather(*here.calls), gather(*there.calls)
    assert mine[0] == theirs[0] and mine[1] == theirs[1]
    assert mine[2].probs == pytest.approx(theirs[2].probs, abs=1e-4)
    assert mine[3].total == pytest.approx(theirs[3].total, abs=1e-3)
    apart = gather(here.read(pictures, TEXT, ("1", "2")))[0]
    assert apart.probs != pytest.approx(mine[2].probs, abs=1e-6), "the place is seen"


# --- clips ------------------------------------------------------------------------------------------------


def clip():
    frames = np.zeros((9, 32, 32, 3), np.uint8)
    frames[..., 0] = np.arange(9)[:, None, None] * 20
    return Media(frames, "video", fps=4.0)


def seen(server):
    return server.asked("/v1/chat/completions")[-1].body["messages"][-1]["content"]


def test_a_clip_goes_as_so_many_frames(serve, gather):
    server, vlm = serve(lambda request: Reply(completion("yes")), "?clips=3")
    assert gather(vlm.write(clip(), "What moves?"))[0].text == "yes"
    from PIL import Image

    urls = [part["image_url"]["url"] for part in seen(server)[:-1]]
    reds = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))[0, 0, 0] for url in urls
    ]
    assert reds == [0, 80, 160]


def test_frames_of_a_clip_score_as_they_do_in_this_process(serve, gather, emulated):
    _, there = serve(emulated, "?clips=2")
    here = models.vlm("mini-vlm")
    shown = clip()
    (mine,) = gather(here.write(spread(shown, 2), "Is it red?", max_tokens=8))
    (theirs,) = gather(there.write(shown, "Is it red?", max_tokens=8))
    assert mine == theirs


def test_a_clip_goes_as_its_file(serve, gather, tmp_path):
    server, vlm = serve(lambda request: Reply(completion("yes")), "?clips=video")
    data = b"\x00\x00\x00\x18ftypmp42" + b"\x00" * 40
    (tmp_path / "clip.mp4").write_bytes(data)
    assert gather(vlm.write(Media(tmp_path / "clip.mp4", "video"), "What moves?"))[0].text == "yes"
    url = seen(server)[0]["video_url"]["url"]
    assert url.startswith("data:video/mp4;base64,") and base64.b64decode(url.partition(",")[2]) == data
    (failed,) = gather(vlm.write(clip(), "What moves?"))
    assert isinstance(failed, Unscorable) and "clips=8" in str(failed)


def test_without_a_word_about_clips_they_are_refused_with_the_fix(serve, gather):
    _, vlm = serve(lambda request: Reply(completion("yes")))
    (failed,) = gather(vlm.write(clip(), "What moves?"))
    assert "?clips=8" in str(failed) and "?clips=video" in str(failed)


@pytest.mark.parametrize("word", ["some", "0", "1.5", ""])
def test_a_wrong_word_about_clips_is_one_line(word):
    with pytest.raises(ValueError, match="clips"):
        models.vlm(f"judge@http://localhost:1/v1?clips={word}")


def test_how_clips_are_sent_is_in_the_fingerprint():
    one, two = (models.vlm(f"judge@http://localhost:1/v1{query}") for query in ("", "?clips=8"))
    assert one.fingerprint != two.fingerprint
