"""All published judges of the registry, against the bars that every one of them has to meet.

A table has a row for each form of each family: what its judge writes, what that is worth, and the same with a
hedge where the mark or the verdict belongs. A family that is registered without rows fails.
"""

import inspect
import random
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from support import by_heart
from support.chatserver import ChatServer
from support.emulated import EmulatedVLLM
from support.judgements import (
    brrm,
    brrm_ranking,
    rational,
    rational_pair,
    ur_axes,
    ur_clip,
    ur_final,
    ur_flex,
    ur_shares,
    ur_think,
    video2,
    vie,
)
from support.mutations import mutated

from mmreward import Engine, Media, Sample, Unscorable, load, models
from mmreward.errors import STATUSES
from mmreward.models.vlms.answers import Written
from mmreward.registry import find, list_rewards
from mmreward.rewards.published.reagent_critic import DIMENSIONS
from mmreward.verifiers.thoughts import TAG

ROOM = "mmreward.rewards.published."
READ = {"rewarddance", "rewarddance_group"}
"""Families whose judge writes nothing: probabilities are read, and there is no text to mutate."""
FORMS = ("form", "task", "think", "top")
"""Arguments that decide what a judge writes."""
MUTATED = 10_000
AXES = ("Alignment", "Physics", "Style")


@dataclass(frozen=True)
class Row:
    """One form of a family.

    Args:
        args: of the reward.
        texts: what the judge writes, turn by turn.
        value: of that.
        hedged: the last turn again, with `hedge` in the place of a mark or a verdict.
        of: "image", "video" or "text".
    """

    name: str
    texts: tuple[str, ...]
    value: float
    hedged: str
    hedge: str
    args: dict = field(default_factory=dict)
    of: str = "image"

    def __str__(self) -> str:
        named = "-".join(str(value) for value in self.args.values())
        return "-".join(filter(None, (self.name, named, self.of)))


def armed(said):
    return f"<think>Answer 2 is shorter.</think>\n<answer>Overall Judgment: {said}</answer>"


def chosen(said):
    return f"<think>The first says where, the second is 1 word.</think><answer>{said}</answer>"


def boxed(said):
    return f"<think>One says \\boxed{{2}}.</think> So \\boxed{{{said}}}."


def five(*marks):
    """ReAgent-V's critic."""
    named = zip(DIMENSIONS, marks, strict=True)
    scores = ", ".join(f'"{name}": {{"value": {mark}, "reason": "a dog"}}' for name, mark in named)
    return f'{{"scores": {{{scores}}}\n}}'


EITHER = "1 or 2"
IMAGES = "Image 1 or Image 2"
THINK = ((9, 8), (7, 8))
ROWS = [
    Row("rationalrewards", (rational(4, 2.5, "N/A"),), 0.75, rational("3 or 4", 2.5, "N/A"), "3 or 4"),
    Row("rationalrewards", (rational(4, 4, 2.5, "N/A", task="edit"),), 5 / 6,
        rational("3-4", 4, 2.5, "N/A", task="edit"), "3-4", {"task": "edit"}),
    Row("rationalrewards_pair", (rational_pair((4, 1), (3, 2), ("N/A", "N/A")),), 1.0,
        rational_pair(("2 or 4", "2 or 4"), (3, 2), ("N/A", "N/A")), "2 or 4"),
    Row("rationalrewards_pair", (rational_pair((1, 4), (3, 3), (2, 2), ("N/A", "N/A"), task="edit"),), 0.0,
        rational_pair(("2 or 4", "2 or 4"), (3, 3), (2, 2), ("N/A", "N/A"), task="edit"), "2 or 4",
        {"task": "edit"}),
    Row("unifiedreward", (ur_final(3.0),), 0.5, ur_final("3 or 4"), "3 or 4", {"form": "final"}),
    Row("unifiedreward", (ur_axes(2, 3, 4),), 0.5, ur_axes(2, 3, "3-4"), "3-4"),
    Row("unifiedreward", (vie(20, 15),), 0.6, vie(20, "15 or 20"), "15 or 20", {"form": "edit"}),
    Row("unifiedreward", (vie(5, 15),), 0.2, vie("5-10", 15), "5-10", {"form": "quality"}),
    Row("unifiedreward", (ur_clip(10, 4, 4, 3, 1, 2),), 1.0, ur_clip("9 or 10", 4, 4, 3, 1, 2), "9 or 10",
        {"form": "final"}, "video"),
    Row("unifiedreward", (ur_axes(1, 3, 5, names=AXES),), 0.5, ur_axes(1, 3, "4-5", names=AXES), "4-5",
        {"form": "axes"}, "video"),
    Row("unifiedreward_pair", ("Two dogs.\nImage 2 is better.",), 0.0,
        "Image 1 or Image 2 is better.", IMAGES, {"form": "rank"}),
    Row("unifiedreward_pair", (ur_shares((0.7, 0.3), (0.5, 0.5), (0.6, 0.4)),), 0.6,
        ur_shares(("0.7 or 0.3", 0.3), (0.5, 0.5), (0.6, 0.4)), "0.7 or 0.3", {"form": "shares"}),
    Row("unifiedreward_pair", (ur_think(*THINK, "Image 1 is better"),), 1.0,
        ur_think(*THINK, "Image 1 or Image 2 is better"), IMAGES),
    Row("unifiedreward_pair", (ur_flex([(8, 2)]),), 1.0, ur_flex([(8, 2)], winner=IMAGES), IMAGES,
        {"form": "flex"}),
    Row("unifiedreward_pair", ("Image 1 is better.",), 1.0, "Image 1 or Image 2 is better.", IMAGES,
        {"form": "edit"}),
    Row("unifiedreward_pair", ("Image 1: 0.4\nImage 2: 1.5",), 0.0, "Image 1: 0.4 or 2\nImage 2: 1.5",
        "0.4 or 2", {"form": "edit_marks"}),
    Row("unifiedreward_pair", (ur_think(*THINK, "Video 1 is better", noun="Video"),), 1.0,
        ur_think(*THINK, "Video 1 or Video 2 is better", noun="Video"), "Video 1 or Video 2",
        {"form": "think"}, "video"),
    Row("unifiedreward_answer", ("It is right.\nFinal Score: 85",), 0.85,
        "It is right.\nFinal Score: 80-90", "80-90", of="text"),
    Row("unifiedreward_answers", ("Answer 1 is better.",), 1.0, "Answer 1 or Answer 2 is better.",
        "Answer 1 or Answer 2", {"form": "rank"}, "text"),
    Row("unifiedreward_answers", (ur_think((7, 8), (9, 8), "Answer 2 is better", noun="Answer"),), 0.0,
        ur_think((7, 8), (9, 8), "Answer 1 or Answer 2 is better", noun="Answer"), "Answer 1 or Answer 2",
        of="text"),
    Row("editscore", (vie(25, 16), vie(20, 4)), 10 * (16 / 25 * 4 / 25) ** 0.5, vie("4 or 20", 4), "4 or 20"),
    Row("editscore", (vie(10, 4), vie(9, 10)), 6.0, vie("9-10", 9), "9-10", {"top": 10}),
    Row("videoscore2", (video2(3, 4, 5),), 4.0, video2("3 or 4", 4, 5), "3 or 4", of="video"),
    Row("r1_reward", (chosen(1),), 1.0, chosen(EITHER), EITHER, of="text"),
    Row("br_rm", (brrm(), brrm_ranking(2)), 0.0, brrm_ranking(EITHER), EITHER, of="text"),
    Row("llava_critic", (boxed(1),), 1.0, boxed(EITHER), EITHER, of="text"),
    Row("llava_critic", ("It has the dog.\nOverall Judgment: Answer 2 is better.",), 0.0,
        "Overall Judgment: Answer 1 or Answer 2 is better.", "Answer 1 or Answer 2", {"think": False},
        "text"),
    Row("reagent_critic", (five(4, 3, 5, 4, 4),), 0.8, five(4, 3, 5, 4, "3 or 4"), "3 or 4", of="text"),
    Row("arm_thinker", (armed("True"),), 1.0, armed("True or False"), "True or False", of="text"),
    Row("arm_thinker_pair", (armed("Answer 2 is better"),), 0.0, armed("Answer 1 or 2 is better"), EITHER,
        of="text"),
]  # fmt: skip


def published():
    """Name and factory of every registered reward of the room."""
    factories = {info.name: find(info.name).factory for info in list_rewards()}
    return {name: made for name, made in factories.items() if made.__module__.startswith(ROOM)}


class Writes:
    """A judge in one process that writes its texts in turn, again and again."""

    name = fingerprint = "writes"

    def __init__(self):
        self.texts, self.turn = (), 0

    def says(self, *texts):
        self.texts, self.turn = texts, 0

    async def write(self, media, prompt, **options):
        self.turn += 1
        return Written(self.texts[(self.turn - 1) % len(self.texts)], True, 5)


@pytest.fixture(scope="module")
def engine():
    with Engine("cpu") as engine:
        yield engine


def samples_of(row, number):
    """A sample, or two of one request."""
    rng = np.random.default_rng(4)
    source = Media(rng.integers(0, 256, (16, 16, 3), np.uint8))
    made = []
    for text in ("A red circle on the left.", "A circle.")[:number]:
        pixels = rng.integers(0, 256, (4, 16, 16, 3), np.uint8) // (1 + 7 * len(made))  # the second is dark
        shown = {
            "image": {"image": Media(pixels[0]), "inputs": (source,)},
            "video": {"video": Media(pixels, "video", fps=2.0)},
            "text": {"image": source, "response": text},
        }[row.of]
        made.append(Sample(id=text, prompt="a red circle", group="g", **shown))
    return made


def judge_of(monkeypatch, row):
    """The row's reward with a judge that writes what it is told, and its samples."""
    writes = Writes()
    monkeypatch.setattr(models, "vlm", lambda *args, **options: writes)
    loaded = load(row.name, judge="mini-vlm", words="own", **row.args)
    return writes, loaded, samples_of(row, 2 if loaded.info.arity == "pair" else 1)


async def scored(loaded, samples):
    """Status and value; only typed failures are none."""
    try:
        score = await loaded(*samples)
    except Unscorable as failure:
        assert failure.status in STATUSES and str(failure)
        return failure.status, None
    return score.status, score.value if score.ok else None


def test_every_published_family_has_its_rows():
    rows = {row.name for row in ROWS}
    assert rows.isdisjoint(READ) and rows | READ == set(published())
    for name, factory in published().items():
        hints = get_type_hints(factory)
        for argument, given in inspect.signature(factory).parameters.items():
            if argument not in FORMS or name in READ:
                continue
            hint = hints[argument]
            forms = {True, False} if hint is bool else set(get_args(hint))
            assert hint is bool or get_origin(hint) is Literal, (name, argument)
            shown = {row.args.get(argument, given.default) for row in ROWS if row.name == name}
            assert shown == forms, f"{name} has no row for {argument} of {forms - shown}"


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_golden_judgement_is_worth_what_it_says_and_a_hedge_nothing(engine, monkeypatch, row):
    writes, loaded, samples = judge_of(monkeypatch, row)
    writes.says(*row.texts)
    status, value = engine.run(scored(loaded, samples))
    assert (status, value) == ("ok", pytest.approx(row.value))
    assert row.hedge in row.hedged
    writes.says(*row.texts[:-1], row.hedged)
    assert engine.run(scored(loaded, samples)) in (("unparsable", None), ("missing", None))


FAMILIES = sorted({made.__module__.removeprefix(ROOM) for made in published().values()} - {"rewarddance"})
HELD = "\ue000"
"""Stands for a hedge while the text round it is mutated, so that it stays whole or goes."""


@pytest.mark.parametrize("family", FAMILIES)
def test_mutated_judgements_never_raise_and_never_pay_a_hedge(engine, monkeypatch, family):
    """10,000 of each family, through the whole reward; all turns but one are as they should be."""
    names = {name for name, made in published().items() if made.__module__ == ROOM + family}
    rows = [row for row in ROWS if row.name in names and (row.of != "video" or family == "videoscore2")]
    rng = random.Random(family)

    async def attack(row, count):
        writes, loaded, samples = judge_of(monkeypatch, row)
        low, high = loaded.info.range
        paid = 0
        for number in range(count):
            texts, hedged = list(row.texts), number % 4 == 0
            place = len(texts) - 1 if hedged else rng.randrange(len(texts))
            told = row.hedged.replace(row.hedge, HELD) if hedged else texts[place]
            told = mutated(told, rng)
            texts[place] = told.replace(HELD, row.hedge)
            writes.says(*texts)
            status, value = await scored(loaded, samples)
            if value is None:
                continue
            assert low <= value <= high, texts[place]
            assert HELD not in told, (status, value, texts[place])
            paid += 1
        return paid

    for row in rows:
        assert engine.run(attack(row, MUTATED // len(rows))) > 0, "nothing was read: the attack shows nothing"


THOUGHT = "<think>", "</think>"
READERS_OF_TEXT = [row for row in ROWS if row.of != "video" or row.name == "videoscore2"]


def broken(tag):
    """A tag that is none any more: a character short, misspelt, open, or gone."""
    short = [tag[:at] + tag[at + 1 :] for at in range(len(tag))]
    return [*short, tag.replace("n", "m"), tag.replace("in", "ni"), tag.replace("think", "thinks"), ""]


def rethought(text, draft):
    """The turn of a judge that tries a judgement first, within its thinking."""
    reply = text.rpartition(THOUGHT[1])[2]
    return f"{THOUGHT[0]}\n{draft.rpartition(THOUGHT[1])[2]}\n{THOUGHT[1]}\n{reply}"


@pytest.mark.parametrize("row", READERS_OF_TEXT, ids=str)
def test_a_judgement_that_was_only_tried_is_not_paid_for_a_hedge(engine, monkeypatch, row):
    """Its thinking has a whole judgement, and what follows it a hedge: with any two things broken at once
    (a tag, the other tag, the place of the hedge) the judgement within the thinking is not read."""
    writes, loaded, samples = judge_of(monkeypatch, row)
    whole = rethought(row.hedged, row.texts[-1])
    opening, closing = THOUGHT
    place = whole.rindex(row.hedge)
    bad = [
        whole.replace(opening, one, 1).replace(closing, other, 1)
        for one in broken(opening)
        for other in broken(closing)
    ]
    for number in (1, 4, 12):  # of the characters before the hedge are gone
        lost = whole[: max(place - number, whole.index(closing) + len(closing))] + whole[place:]
        bad += [lost.replace(tag, one, 1) for tag in THOUGHT for one in broken(tag)]
        bad += [
            lost.replace(closing, more, 1) for more in (closing * 2, opening + closing, closing + opening)
        ]

    async def paid():
        found = []
        for text in bad:
            writes.says(*row.texts[:-1], text)
            if (await scored(loaded, samples))[1] is not None:
                found.append(text)
        return found

    assert engine.run(paid()) == []


@pytest.mark.parametrize("row", READERS_OF_TEXT, ids=str)
def test_a_hedge_in_the_reply_is_not_paid_for_what_stands_beside_it(engine, monkeypatch, row):
    """Judgement in the thinking, hedge in the reply, and one to four edits of the whole: lines change places,
    too. A hedge that stays in the thinking is only a thought."""
    writes, loaded, samples = judge_of(monkeypatch, row)
    whole = rethought(row.hedged.replace(row.hedge, HELD), row.texts[-1])
    rng = random.Random(str(row))

    async def paid():
        found = []
        for _ in range(150):
            told = mutated(whole, rng)
            writes.says(*row.texts[:-1], told.replace(HELD, row.hedge))
            if (await scored(loaded, samples))[1] is not None:
                closed = [tag.end() for tag in TAG.finditer(told) if any(tag.groups())]
                found += [told] if HELD in told[closed[-1] if closed else 0 :] else []
        return found

    assert engine.run(paid()) == []


PLACES = [
    *{row.name: row for row in reversed(ROWS) if row.of != "video"}.values(),
    *(row for row in ROWS if row.of == "video" or row.args.get("task", row.args.get("form")) == "edit"),
    *(Row(name, ("yes", "no"), 0.0, "", "") for name in sorted(READ)),
]
"""A form of every family, those that are shown clips or sources, and those that are read."""
QWEN2_5 = {"editscore", "videoscore2", "r1_reward", "llava_critic", "reagent_critic", "arm_thinker",
           "arm_thinker_pair", "unifiedreward_answer", "unifiedreward_answers"}  # fmt: skip
"""Families whose published weights are Qwen2.5-VL's; those of the others are Qwen3-VL's."""
OTHER = str.maketrans("123478", "214387")
CLIPS = {"videoscore2-video", "unifiedreward-final-video"}
"""Those whose model takes a clip's frames itself: what a server is sent of one is `tests/served`'s."""


def cue_of(row):
    """Words of the question that name the row; EditScore's second question is without the request."""
    return "two numbers from 0 to" if row.name == "editscore" else f"(case {PLACES.index(row):02d})"


def learned(engine, row):
    """What a judge knows of a row: the judgement, and one with another digit that is worth something else, if
    there is one; turn by turn."""
    if row.name in READ:
        return row.texts, ()
    *first, last = dict.fromkeys(row.texts)
    known = [last]
    with pytest.MonkeyPatch.context() as patched:
        writes, loaded, samples = judge_of(patched, row)
        for at in reversed([at for at, letter in enumerate(last) if letter in "123478"]):
            other = last[:at] + last[at].translate(OTHER) + last[at + 1 :]
            writes.says(*row.texts[:-1], other)
            value = engine.run(scored(loaded, samples))[1]
            if value is not None and value != pytest.approx(row.value):
                known.append(other)
                break
    return (first, known) if row.name == "br_rm" else ((*first, *known), ())


@pytest.fixture(scope="module")
def judges(engine, tmp_path_factory):
    """Row -> a checkpoint of its family's architecture, which knows what to answer."""
    found = {}
    for architecture in by_heart.ARCHITECTURES:
        rows = [row for row in PLACES if (row.name in QWEN2_5) == (architecture == "qwen2_5_vl")]
        folder = str(tmp_path_factory.mktemp(architecture))
        by_heart.save(folder, architecture, {cue_of(row): learned(engine, row) for row in rows})
        found |= dict.fromkeys(map(str, rows), folder)
    return found


def test_every_family_scores_alike_in_this_process_in_a_child_and_behind_a_server(engine, judges):
    """Of the same checkpoint, in both orders, and at least one of its judgements can be read."""
    told = {}
    with ExitStack() as stack:
        served = {
            one: f"judge@{stack.enter_context(ChatServer(EmulatedVLLM(one))).url}"
            for one in set(judges.values())
        }
        child = load("saturation", python=sys.executable)  # keeps the child between two rewards
        stack.callback(child.close)
        for row in PLACES:
            folder = judges[str(row)]
            samples = [replace(one, prompt=f"a red circle {cue_of(row)}") for one in samples_of(row, 2)]
            where = {"here": {"judge": folder}, "child": {"judge": folder, "python": sys.executable}}
            if str(row) not in CLIPS:
                where["served"] = {"judge": served[folder]}
            for place, args in where.items():
                reward = load(row.name, words="own", **args, **row.args)
                told[str(row), place] = engine.score(samples, reward)[row.name]
                if place == "child":
                    reward.close()
    for (row, place), scores in told.items():
        assert any(one.ok for one in scores), (row, place, scores)
        for one, other in zip(scores, told[row, "here"], strict=True):
            assert (one.status, one.note) == (other.status, other.note), (row, place)
            assert one.value == pytest.approx(other.value, abs=1e-4, nan_ok=True), (row, place)
            assert dict(one.parts) == pytest.approx(dict(other.parts), abs=1e-4), (row, place)
    assert len({one.value for scores in told.values() for one in scores if one.ok}) > 8
