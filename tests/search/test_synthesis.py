"""`mmreward synthesize`: a scripted painter, judges, tools and raters; and a taxonomy's contrasts."""

import asyncio
import json
import math

import pytest
from support.painter import Painter
from support.toys import toy

from mmreward import Engine, Sample, Score, Unscorable, load, models
from mmreward.config import config_at, load_config, load_yaml, recipes
from mmreward.data.pair_folder import read_pairs
from mmreward.loading import resolve
from mmreward.models.vlms.answers import Written
from mmreward.models.wants import collecting
from mmreward.search.config import SynthesisConfig, construct, split
from mmreward.search.contrasts import contrasts_of, read_contrast, read_taxonomy, written_contrasts
from mmreward.search.synthesis import KNOWLEDGE, METHODS, Anyprefer, Instruct, Work
from mmreward.search.synthesize import synthesize_file
from mmreward.search.writers import Critic


class Small(Painter):
    """Its seeds are those of a run, brought to what a pixel can hold."""

    def noise(self, seeds, steps=None):
        return super().noise([seed % 97 for seed in seeds], steps)


def channel(sample, place):
    return int(sample.image.array()[0, 0, place])


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


@pytest.fixture
def rewards():
    """Red is ten for each mark in the prompt that was drawn from, green the seed (see `Painter`)."""
    heard = []

    async def greener(first, second):
        heard.append(first.meta[KNOWLEDGE])
        gap = channel(first, 1) - channel(second, 1)
        return Score(0.5 + 0.5 * (gap > 0) - 0.5 * (gap < 0), {"uncertainty": 0.0, "confidence": 0.9})

    async def seen(sample):
        return Score(0.0, note=f"sees red {channel(sample, 0)}")

    async def blind(sample):
        raise Unscorable("no eyes", "error")

    async def wanted(sample):
        """From three marks on the green counts, below it nothing does."""
        return Score(
            channel(sample, 1) / 1000 if channel(sample, 0) >= 20 else 0.0, {"red": channel(sample, 0) / 255}
        )

    async def own(sample):
        return Score(float(channel(sample, 0) == 10 * sample.prompt.count("!")))

    toy(greener, "greener", arity="pair", needs=("prompt", "image"))
    for name, made in {"seen": seen, "blind": blind, "wanted": wanted, "own": own}.items():
        toy(made, name)
    return heard


def work(engine, judge="greener", tools=(), rater=("wanted",)):
    return Work(
        generator=Small(), engine=engine, judge=resolve([judge]), tools={t: load(t) for t in tools},
        rater={name: Critic(load(name)) for name in rater}, seed=0, steps=2, guidance=1.0, batch=64,
    )  # fmt: skip


async def louder(request):
    return request.current + "!"


def prompts(*texts):
    return [Sample(id=f"p{row}", prompt=text, group=f"p{row}") for row, text in enumerate(texts)]


def test_anyprefer_draws_again_until_the_rater_finds_the_pair_good(rewards, engine):
    found = Anyprefer(n=3, rounds=4).run(
        work(engine, tools=["seen", "blind"]), prompts("a cat", "a dog!!"), louder
    )
    ends = [record["end"] for record in found.records]
    assert ends == ["pairs", "pairs"] and [len(record["rounds"]) for record in found.records] == [3, 1]
    cat, dog = found.pairs
    assert (cat.prompt, cat.facts["drawn_from"], cat.facts["round"]) == ("a cat", "a cat!!", 2)
    assert dog.facts["round"] == 0 and dog.facts["rating"] > 0 and dog.facts["group"] == "p1"
    assert cat.facts["margin"] == 1.0 and cat.facts["reward"] == "greener"
    assert channel(Sample(image=cat.chosen), 1) > channel(Sample(image=cat.rejected), 1)
    assert any("rated poorly by wanted" in words for words in rewards)
    assert all("seen: sees red" in words and "blind: no answer" in words for words in rewards)


def test_a_pair_that_stays_poor_is_none_and_a_writer_that_fails_costs_its_revision(rewards, engine):
    async def silent(request):
        raise Unscorable("no words", "unparsable")

    found = Anyprefer(n=2, rounds=2).run(work(engine), prompts("a cat"), silent)
    assert not found.pairs and found.records[0]["end"] == "no good pair"
    first, second = found.records[0]["rounds"]
    assert first["revision"] == "no words" and first["drawn_from"] == second["drawn_from"] == "a cat"
    assert first["pair"] != second["pair"] and "-> 0 pairs" in str(found)


@pytest.mark.parametrize("options", [{"n": 1}, {"rounds": 0}, {"confidence": 2.0}])
def test_options_outside_their_range_are_refused(options):
    with pytest.raises(ValueError, match=str(next(iter(options.values())))):
        Anyprefer(**options)


def test_instruct_keeps_what_is_told_apart_both_ways(rewards, engine):
    rows = [
        Sample(id="a", prompt="a cat", meta={"contrast": "a cat!", "axis": "aesthetics"}),
        Sample(id="b", prompt="a dog", meta={"contrast": "a wolf"}),  # drawn alike: nothing to tell apart
    ]
    found = Instruct().run(work(engine, judge="own", rater=()), rows, None)
    assert [record["end"] for record in found.records] == ["pairs", "not told apart"]
    first, second = found.pairs
    assert (first.prompt, second.prompt) == ("a cat", "a cat!") and first.facts["axis"] == "aesthetics"
    assert first.chosen.key == second.rejected.key and first.rejected.key == second.chosen.key
    crossed = Instruct().run(work(engine, judge="wanted", rater=()), [
        Sample(id="a", prompt="a cat!!", meta={"contrast": "a cat!!!"})], None)  # fmt: skip
    assert crossed.records[0]["end"] == "not told apart" and not crossed.pairs


def test_a_judge_that_prefers_one_picture_whatever_was_asked_for_is_crossed(rewards, engine):
    async def red(sample):
        return Score(channel(sample, 0) / 255)

    toy(red, "red")
    rows = [Sample(id="a", prompt="a cat", meta={"contrast": "a cat!"})]
    found = Instruct().run(work(engine, judge="red", rater=()), rows, None)
    assert found.records[0]["end"] == "crossed" and not found.pairs


# --- contrasts --------------------------------------------------------------------------------------------


def test_contrasts_of_rows_and_of_shapes_world():
    (given,) = contrasts_of([Sample(id="a", prompt="x", meta={"contrast": "y", "axis": "content"})], 0)
    assert given == ("a", ("x", "y"), "content", "")
    (shape,) = contrasts_of([Sample(id="b", prompt="a red circle")], 0)
    assert shape.prompts[1] != "a red circle" and contrasts_of(
        [Sample(id="b", prompt="a red circle")], 0
    ) == [shape]
    with pytest.raises(ValueError, match=r"no meta\.contrast"):
        contrasts_of([Sample(id="c", prompt="a cat on a mat")], 0)
    with pytest.raises(ValueError, match="not another prompt"):
        contrasts_of([Sample(id="c", prompt="x", meta={"contrast": "x"})], 0)


@pytest.mark.parametrize("text", [
    "Prompt 1: a cat\nPrompt 2: two cats",
    "<think>Prompt 1: no</think>\n**Prompt 1:** \"a cat\"\n- prompt 2: two cats",
])  # fmt: skip
def test_two_prompts_are_read(text):
    assert read_contrast(text) == ("a cat", "two cats")


@pytest.mark.parametrize(
    ("text", "status"),
    [("Prompt 1: a cat", "missing"), ("a cat, two cats", "missing"),
     ("Prompt 1: a cat\nPrompt 2: A cat", "unparsable"),
     ("Prompt 1: a\nPrompt 1: b\nPrompt 2: c", "unparsable"),
     (f"Prompt 1: {'a' * 700}\nPrompt 2: b", "unparsable"), ("Prompt 1:\nPrompt 2: b", "missing")],
)  # fmt: skip
def test_what_is_no_contrast_is_a_failure(text, status):
    with pytest.raises(Unscorable) as raised:
        read_contrast(text)
    assert raised.value.status == status


def test_a_taxonomy_is_written_by_axis_and_failures_are_recorded(tmp_path, monkeypatch):
    (tmp_path / "t.yaml").write_text("Animals: [a cat, a herd]\nInteriors: [a kitchen]\n")
    topics = read_taxonomy(tmp_path / "t.yaml")
    assert [topic.subject for topic in topics] == ["a cat", "a herd", "a kitchen"]

    class Model:
        async def write(self, media, text, **options):
            assert media is None
            if "a herd" in text:
                return Written("I cannot.", True, 3)
            return Written(f"Prompt 1: {'light' if 'light' in text else 'cat'}\nPrompt 2: other", True, 9)

    monkeypatch.setattr(models, "vlm", lambda name: Model())
    found, failed = asyncio.run(written_contrasts("m", topics, ("content", "aesthetics"), 0, 99))
    assert [(one.prompts[0], one.axis, one.theme) for one in found] == [
        ("cat", "content", "Animals"), ("light", "aesthetics", "Animals"),
        ("cat", "content", "Interiors"), ("light", "aesthetics", "Interiors")]  # fmt: skip
    assert [record["end"] for record in failed] == ["not written"] * 2
    with pytest.raises(ValueError, match="axes has 'mood'"):
        asyncio.run(written_contrasts("m", topics, ("mood",), 0, 99))
    for wrong in ("[a]", "Animals: a cat", "x: ["):
        (tmp_path / "t.yaml").write_text(wrong)
        with pytest.raises(ValueError, match="taxonomy"):
            read_taxonomy(tmp_path / "t.yaml")


# --- the command ------------------------------------------------------------------------------------------

FILE = """
generator: painter
prompts: [a cat, a dog]
judge: {greener: {}}
tools: {seen: {}}
rater: {wanted: {}}
method: {name: anyprefer, n: 2, rounds: 3}
writer: none
out: OUT
"""


def typed(tmp_path, **changes):
    text = FILE.replace("OUT", str(tmp_path / "pairs"))
    for key, value in changes.items():
        lines = [line for line in text.splitlines() if not line.startswith(f"{key}:")]
        text = "\n".join([*lines, *([f"{key}: {value}"] if value else [])])
    (tmp_path / "s.yaml").write_text(text)
    return synthesize_file(tmp_path / "s.yaml", lambda name, **options: Small())


def test_a_file_becomes_a_folder_of_pairs(rewards, tmp_path):
    said = typed(tmp_path, prompts="['a cat!!', 'a dog']")
    assert "2 prompts -> 1 pairs" in said and "no good pair 1" in said
    (pair,) = read_pairs(tmp_path / "pairs")
    assert pair.prompt == "a cat!!" and math.isfinite(pair.facts["rating"])
    records = [json.loads(line) for line in (tmp_path / "pairs" / "history.jsonl").read_text().splitlines()]
    assert [record["end"] for record in records] == ["pairs", "no good pair"]
    with pytest.raises(ValueError, match="is not empty"):
        typed(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rater": ""}, "rater: anyprefer"),
        ({"method": "{name: instruct}"}, "rater: the method instruct"),
        ({"method": "{name: anypref}"}, "no method named 'anypref'"),
        ({"method": "{name: anyprefer, m: 2}"}, "m"),
        ({"tools": "{greener: {}}"}, "tools: greener compares"),
        ({"judge": "{own: {}, wanted: {}}"}, "one judge chooses"),
        ({"prompts": ""}, "prompts: name them"),
        ({"method": "{name: instruct, model: x}", "rater": ""}, "taxonomy needs the model"),
    ],
)
def test_a_mistake_in_the_file_is_named_before_anything_is_drawn(rewards, tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        typed(tmp_path, **changes)
    assert not (tmp_path / "pairs").exists()


@pytest.mark.parametrize("name", [name for name in recipes() if name.startswith("synthesize/")])
def test_a_recipe_is_what_the_command_reads(name):
    config = load_yaml(recipes()[name], SynthesisConfig)
    method, options = split(config.method)
    construct(METHODS[method], options, "method").check(config.rater)
    with collecting():
        resolve({**config.judge, **config.rater} if config.rater else config.judge)


def test_talking_critics_axes_are_aspects_of_their_own():
    with collecting():
        (critic,) = resolve(load_config(config_at("score/talking-critic")).rewards).values()
    assert list(critic.args["aspects"]) == ["Motion", "Lip sync", "Visual quality"]
    assert critic.args["mode"] == "each" and critic.args["votes"] == 4
