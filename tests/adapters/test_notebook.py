"""`mmreward.score`: samples and rewards in every form, its table, its rows, and a running event loop."""

import asyncio
import json
import subprocess
import sys

import numpy as np
import pandas
import pytest
from PIL import Image

import mmreward
from mmreward import Engine, Media, Sample, Score, Unscorable
from mmreward.adapters.notebook import engine_of, rows_of


def length(sample):
    return len(sample.response or "")


def width(sample):
    return sample.shown.size[1]


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (30, 20), "red").save(path)
    return path


def test_samples_may_be_given_in_many_forms(picture):
    pil, array = Image.open(picture), np.zeros((20, 30, 3), np.uint8)
    for given in (
        Sample(image=picture),
        {"image": str(picture)},
        str(picture),
        picture,
        pil,
        Media(pil),
        array,
        picture.read_bytes(),
    ):
        assert mmreward.score([given], width)["width"][0].value == 30
        assert mmreward.score(given, width)["width"][0].value == 30, "one alone needs no list"


def test_a_path_is_named_by_itself_and_brings_its_caption(picture):
    picture.with_suffix(".txt").write_text("a red square")
    (row,) = mmreward.score([picture], width)
    assert row.id == str(picture) and row.sample.prompt == "a red square"


def test_a_tensor_is_a_picture():
    torch = pytest.importorskip("torch")
    assert mmreward.score([torch.zeros(3, 20, 30)], width)["width"][0].value == 30
    batch = mmreward.score(torch.zeros(5, 3, 20, 30), width)
    assert len(batch) == 5 and batch["width"][4].value == 30


def test_a_clip_is_a_video(picture, tmp_path):
    clip = Media([np.zeros((20, 30, 3), np.uint8)] * 3, "video")
    (tmp_path / "clip.gif").write_bytes(picture.read_bytes())
    scored = mmreward.score([clip], lambda sample: sample.video.frames)
    assert scored["lambda"][0].value == 3


def test_a_data_set_is_its_rows(tmp_path, picture):
    rows = [{"id": "x", "response": "four"}, {"id": "y", "response": 5}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scored = mmreward.score(tmp_path / "rows.jsonl", length)
    assert list(scored.ids) == ["x", "y"] and scored["length"][0].value == 4
    assert scored["length"][1].status == "error" and "response is int" in scored["length"][1].note
    assert scored.samples[1] is None and "1 error" in str(scored)
    assert len(mmreward.score(str(tmp_path), width)) == 1, "a folder of pictures"


def test_tables_are_their_rows():
    frame = pandas.DataFrame({"id": ["x", "y"], "response": ["four", None], "size": [1.0, float("nan")]})
    scored = mmreward.score(frame, length)
    assert [row.scores["length"].value for row in scored] == [4, 0]
    assert scored.samples[0].meta["size"] == 1.0 and "size" not in scored.samples[1].meta
    datasets = pytest.importorskip("datasets")
    assert (
        len(mmreward.score(datasets.Dataset.from_list([{"response": "a"}, {"response": "b"}]), length)) == 2
    )
    polars = pytest.importorskip("polars")
    assert len(mmreward.score(polars.DataFrame({"response": ["a", "b"]}), length)) == 2


def test_what_is_no_sample_is_one_line_with_its_place_and_key(tmp_path):
    good = {"response": "x"}
    for bad, said in (
        ({"image": 5}, "samples[1]: image is 5, not a path"),
        ({"prompt": 5}, "samples[1]: prompt is int, not text"),
        ({"inputs": "a.png"}, "samples[1]: inputs is str, not a list"),
        ({"meta": 3}, "samples[1]: meta is int, not an object"),
        ({"image": "http://x/a.png"}, "samples[1]: image is at 'http://x/a.png': nothing is fetched"),
        (tmp_path / "gone.png", "samples[1]: no file at"),
        ("a cat", "samples[1]: 'a cat' is no picture or clip"),
        (5, "samples[1]: image is 5"),
        (None, "samples[1]: image is None"),
    ):
        with pytest.raises(ValueError) as caught:
            mmreward.score([good, bad], length)
        assert str(caught.value).startswith(said) and "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"no data at nowhere\.jsonl"):
        mmreward.score("nowhere.jsonl", length)


def test_a_file_that_is_gone_costs_its_own_row_in_a_mapping(tmp_path):
    scored = mmreward.score(
        [{"image": str(tmp_path / "gone.png")}, {"image": np.zeros((2, 3, 3), np.uint8)}], width
    )
    assert [score.status for score in scored["width"]] == ["missing", "ok"]


def test_the_result_is_rows_columns_means_and_failures():
    def picky(sample):
        if not sample.response:
            raise Unscorable("empty", "unparsable")
        return Score(len(sample.response), {"half": len(sample.response) / 2})

    rows = [
        Sample(id="one", prompt="p", response="ab"),
        {"prompt": "q", "response": ""},
        Sample(prompt="r", response="abcd"),
    ]
    scored = mmreward.score(rows, [picky, length])
    assert len(scored) == 3 and scored.ids == ["one", "000001", "000002"]
    assert scored[0].id == "one" and scored[0].sample is rows[0] and scored[-1].scores["length"].value == 4
    assert scored.means["picky"].mean == 3 and scored.means["picky"].n == 2
    (group,) = scored.failures
    assert (group.reward, group.status, group.example) == ("picky", "unparsable", "000001")
    with pytest.raises(KeyError, match="did you mean 'length'"):
        scored["lenght"]
    text = str(scored)
    assert "picky" in text and "1 unparsable" in text and "empty (such as 000001)" in text
    html = scored._repr_html_()
    assert html.startswith("<table") and "1 unparsable" in html and "95 % interval" in html
    frame = scored.to_frame(parts=True)
    assert list(frame["length"]) == [2, 0, 4] and list(frame["picky.status"]) == ["ok", "unparsable", "ok"]
    assert frame["picky"].isna().sum() == 1 and frame["picky.half"][0] == 1.0
    assert "picky.half" not in scored.to_frame()


def test_a_table_without_pandas_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        mmreward.score({"response": "x"}, length).to_frame()


def test_it_works_inside_a_running_event_loop():
    async def cell():
        return mmreward.score([{"response": "abc"}], ["math", length])

    assert asyncio.run(cell())["length"][0].value == 3


def test_engines_stay_and_one_of_your_own_is_used():
    assert engine_of("cpu") is engine_of("cpu")
    with Engine("cpu") as engine:
        assert mmreward.score([{"response": "abc"}], length, engine=engine)["length"][0].value == 3
    with pytest.raises(RuntimeError, match="closed"):
        mmreward.score([{"response": "abc"}], length, engine=engine)


def test_a_learned_reward_by_its_spec(picture):
    scored = mmreward.score(
        {"prompt": "a red square", "image": picture}, "fast=clipscore:weights=mini-clip", device="cpu"
    )
    assert scored["fast"][0].ok and scored.rewards["fast"].info.name == "clipscore"


def test_none_at_all():
    assert len(mmreward.score([], length)) == 0 and list(rows_of([])) == []


def test_a_script_ends_by_itself_and_imports_no_torch():
    code = (
        "import sys, mmreward; s = mmreward.score({'response': 'x', 'target': 'x'}, ['label', lambda s: 1]); "
        "print('torch' in sys.modules, s['lambda'][0].value)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == ["False", "1.0"] and done.returncode == 0, done.stderr


def test_the_door_is_light():
    code = (
        "import sys, mmreward; print('mmreward.adapters.notebook' in sys.modules, 'score' in dir(mmreward))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


# --- as a notebook shows them ---------------------------------------------------------------------

ATTACK = "<script>alert(1)</script>"


def test_samples_media_and_scores_show_themselves(picture):
    assert Media(picture)._repr_png_().startswith(b"\x89PNG")
    html = Sample(prompt=ATTACK, image=picture, meta={"x": ATTACK})._repr_html_()
    assert "data:image/png;base64," in html and "<script" not in html and "&lt;script" in html
    shown = Score(0.5, {ATTACK: 1.0}, note=ATTACK)._repr_html_()
    assert "0.5" in shown and "<script" not in shown
    assert "unparsable" in Score.failed("unparsable", "no number")._repr_html_()
    clip = Media([np.zeros((20, 30, 3), np.uint8)] * 3, "video")
    assert "clip of 3 frames" in Sample(video=clip)._repr_html_()


def test_a_picture_that_cannot_be_read_shows_its_reason(tmp_path):
    gone = Media(tmp_path / "gone.png")
    assert gone._repr_png_() is None
    assert "no picture" in Sample(image=gone)._repr_html_()


def test_a_large_picture_is_shown_small():
    large = Media(np.random.default_rng(0).integers(0, 255, (2000, 3000, 3), dtype=np.uint8))
    assert max(Media(large._repr_png_()).size) == 384


def test_a_table_escapes_what_is_in_it():
    html = mmreward.score([Sample(id=ATTACK, response="x")], {ATTACK: lambda sample: None})._repr_html_()
    assert "<script" not in html and "&lt;script" in html
