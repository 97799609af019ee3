"""Text rendering, read for real: text drawn in several sizes, wrong, absent and sprayed; and the formulas."""

import socket
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from mmreward import Engine, Media, Sample, load, models
from mmreward.models import sharing
from mmreward.models.texts import Line, TextReader
from mmreward.rewards.pictures.ocr_image import flow_grpo, rendering
from mmreward.verifiers.text import edit_distance

TEXTS = ("EXIT 24A", "Hello, World", "Open daily", "mmreward", "7:45 pm", "No entry")
SIZES = (12, 16, 24, 40, 64)


def drawn(lines, size=40, width=512, height=512):
    """Black on white with Pillow's own font, each line at (x, y, text) or below the last."""
    picture = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size)
    for number, line in enumerate(lines):
        x, y, text = (20, 20 + int(1.5 * size) * number, line) if isinstance(line, str) else line
        draw.text((x, y), text, fill="black", font=font)
    return Media(np.asarray(picture))


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("the reader asked for a network")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def scores_of(engine, samples, **args):
    return engine.score(samples, load("ocr_image", **args))["ocr_image"]


def test_text_of_several_sizes_is_read(engine):
    """Accuracy by characters at each size, printed; 12 pixels are the smallest that are asked of it."""
    samples = [Sample(target=text, image=drawn([text], size)) for size in SIZES for text in TEXTS]
    found = scores_of(engine, samples, casefold=False)
    for at, size in enumerate(SIZES):
        row = found[at * len(TEXTS) : (at + 1) * len(TEXTS)]
        mean, exact = (
            sum(values) / len(row) for values in zip(*((s.value, s.parts["exact"]) for s in row), strict=True)
        )
        print(f"{size:3d} px: agreement {mean:.3f}, exact {exact:.2f}")
        assert mean >= 0.95
    assert np.mean([score.value for score in found]) >= 0.98


def test_wrong_absent_and_sprayed_text_earn_what_they_should(engine):
    prompt = 'a sign that says "EXIT"'
    spray = [(x, y, "EXIT") for y in range(20, 500, 100) for x in (20, 270)]
    pictures = {
        "right": drawn(["EXIT"]),
        "wrong": drawn(["TAXI"]),
        "empty": drawn([]),
        "sprayed": drawn(spray),
        "in a word": drawn(["EXITING"]),
        "lower": drawn(["exit"]),
    }
    samples = [Sample(id=name, prompt=prompt, image=picture) for name, picture in pictures.items()]
    fair = dict(zip(pictures, scores_of(engine, samples), strict=True))
    assert {name: round(score.value, 3) for name, score in fair.items()} == {
        "right": 1.0,
        "wrong": round(1 - edit_distance("TAXI", "EXIT") / 4, 3),
        "empty": 0.0,
        "sprayed": 0.1,
        "in a word": round(4 / 7, 3),
        "lower": 1.0,
    }
    assert fair["empty"].note == "no text was read" and fair["right"].note == "read: EXIT"
    published = dict(zip(pictures, scores_of(engine, samples, preset="flow_grpo"), strict=True))
    assert [published[name].value for name in ("right", "sprayed", "in a word", "lower")] == [1.0] * 4
    assert published["empty"].value == 0.0
    assert published["sprayed"].parts["symmetric"] == pytest.approx(0.1)
    assert published["in a word"].parts["symmetric"] == pytest.approx(4 / 7)
    strict = dict(zip(pictures, scores_of(engine, samples, casefold=False), strict=True))
    assert strict["right"].value == 1.0 and strict["lower"].value <= 0.25


def test_several_texts_come_in_any_order_or_in_theirs(engine):
    picture = drawn(["Sale", "Friday"], 60)
    samples = [
        Sample(prompt='"Sale" and "Friday"', image=picture),
        Sample(prompt='"Friday" and "Sale"', image=picture),
        Sample(target=["Sale", "Friday", "Only"], image=picture),
    ]
    free, ordered = scores_of(engine, samples), scores_of(engine, samples, order=True)
    assert [score.value for score in free] == pytest.approx([1.0, 1.0, 10 / 14])
    assert ordered[0].value == 1.0 and ordered[1].value < 0.5
    assert free[2].parts["contained"] == pytest.approx(2 / 3)


def test_alone_and_in_a_batch_in_any_order(engine):
    samples = [Sample(target=text, image=drawn([text], size)) for size in (14, 33) for text in TEXTS[:3]]
    engine.cache.clear()
    whole = scores_of(engine, samples)
    engine.cache.clear()
    assert scores_of(engine, samples[::-1])[::-1] == whole
    for sample, score in zip(samples, whole, strict=True):
        engine.cache.clear()
        assert scores_of(engine, [sample]) == [score]


def test_a_picture_is_read_once_for_all_rewards(engine, monkeypatch):
    engine.cache.clear()
    looked = []
    look = TextReader.look

    def counted(self, session, pixels):
        looked.append(pixels.shape)
        return look(self, session, pixels)

    monkeypatch.setattr(TextReader, "look", counted)
    picture = drawn(["EXIT"])
    samples = [Sample(id=str(n), target=text, image=picture) for n, text in enumerate(("EXIT", "ENTRY"))]
    rewards = {
        "fair": {"reward": "ocr_image"},
        "published": {"reward": "ocr_image", "preset": "flow_grpo"},
        "sure": {"reward": "ocr_image", "min_confidence": 0.9},
    }
    found = engine.score(samples, rewards)
    assert len(looked) == 1 and all(score.ok for scores in found.values() for score in scores)


@pytest.mark.parametrize(
    ("sample", "status", "words"),
    [
        ({"prompt": "a street"}, "na", "quotes no text"),
        ({"prompt": 'an empty "" sign'}, "na", "quotes no text"),
        ({"target": ""}, "missing", "is empty"),
        ({"target": ["EXIT", " "]}, "missing", "is empty"),
        ({"target": []}, "missing", "is empty"),
        ({"target": 24}, "error", "no text"),
        ({"target": ["a"] * 17}, "error", "the limit is 16"),
        ({"target": "a" * 1001}, "error", "the limit is 1000"),
        ({"target": "a", "image": Media(np.zeros((2, 500, 3), np.uint8))}, "error", "too thin"),
    ],
)
def test_rows_that_have_no_score_say_why(engine, sample, status, words):
    (score,) = scores_of(engine, [Sample(**{"image": drawn([]), **sample})])
    assert score.status == status and words in score.note


@pytest.mark.parametrize(
    ("sample", "status"),
    [
        ({"prompt": "no quotes: IndexError where it was published"}, "na"),
        ({"prompt": 'empty "" quotes: ZeroDivisionError'}, "missing"),
        ({"prompt": "\u201ccurly\u201d"}, "na"),
        ({"target": ["one", "two"]}, "error"),
    ],
)
def test_where_the_published_formula_has_no_value_the_row_fails(engine, sample, status):
    (score,) = scores_of(engine, [Sample(image=drawn([]), **sample)], preset="flow_grpo")
    assert score.status == status


@pytest.mark.parametrize(
    ("wanted", "read", "value"),
    [
        ("Hello World", "HELO WORLD", 0.9),
        ("Hello", "xx hello yy garbage", 1.0),
        ("Hello", "", 0.0),
        ("cat", "concatenate", 1.0),
        ("cat", "dogs and birds", 0.0),
    ],
)
def test_the_published_formula_by_its_numbers(wanted, read, value):
    assert flow_grpo(read, wanted) == pytest.approx(value)


@pytest.mark.parametrize(
    ("lines", "wanted", "order", "value"),
    [
        (["\u4f60\u597d\u4e16\u754c"], ["\u4f60\u597d\u4e16\u754c"], False, 1.0),
        (["\u4f60\u597d", "\u4e16\u754c"], ["\u4e16\u754c", "\u4f60\u597d"], False, 1.0),
        (["\u4f60\u597d\u4e16"], ["\u4f60\u597d\u4e16\u754c"], False, 0.75),
        (["AB CD"], ["CD", "AB"], False, 1.0),
        (["AB CD"], ["CD", "AB"], True, 0.0),
        (["left top", "right top", "left end"], ["left top left end", "right top"], False, 1.0),
        (["a", "b", "c", "d", "e"], ["e", "d", "c", "b", "a"], False, 1.0),
        ([], ["a"], False, 0.0),
    ],
)
def test_agreement_by_hand(lines, wanted, order, value):
    found, contained = rendering(lines, wanted, order=order)
    assert found == pytest.approx(value) and 0 <= contained <= 1


def test_width_case_and_punctuation_are_those_of_the_options(engine, monkeypatch):
    async def lines(self, media):
        return (Line("\uff25\uff38\uff29\uff34!", 0.9), Line("smudge", 0.3))

    monkeypatch.setattr(TextReader, "lines", lines)
    sample = Sample(target="exit", image=drawn([]))

    def value(**args):
        return scores_of(engine, [sample], **args)[0].value

    assert value() == pytest.approx(0.8)  # full-width letters are plain ones; the mark is one too many
    assert value(punctuation=False) == 1.0
    assert value(punctuation=False, casefold=False) == 0.0
    assert value(punctuation=False, min_confidence=0.0) == pytest.approx(0.4)
    (nothing,) = scores_of(engine, [Sample(target="?!", image=drawn([]))], punctuation=False)
    assert "nothing is left" in nothing.note


def test_a_missing_package_is_one_line_before_the_first_row(monkeypatch):
    monkeypatch.setattr(sharing, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'needs rapidocr: pip install "mmreward\[ocr\]"'):
        models.text_reader.__wrapped__()


@pytest.mark.parametrize("args", [{"order": True}, {"casefold": False}, {"min_confidence": 0.9}])
def test_the_preset_fixes_its_options(args):
    with pytest.raises(ValueError, match="flow_grpo fixes"):
        load("ocr_image", preset="flow_grpo", **args)


def test_loading_imports_no_reader():
    """Listing and loading are quick: rapidocr comes with the first picture."""
    import subprocess

    code = "import sys, mmreward; mmreward.load('ocr_image'); print('rapidocr' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
